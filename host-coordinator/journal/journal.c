/* The journal in SQLite. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "journal.h"
#include "log.h"

struct journal {
    sqlite3 *db;
};

static const char schema[] =
    "PRAGMA locking_mode = EXCLUSIVE;"
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA foreign_keys = ON;"
    "CREATE TABLE IF NOT EXISTS plan (id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL,"
    " destination TEXT NOT NULL, parallel INTEGER NOT NULL, created REAL NOT NULL);"
    "CREATE TABLE IF NOT EXISTS move (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " plan INTEGER NOT NULL REFERENCES plan, vm TEXT NOT NULL, state TEXT NOT NULL,"
    " ended INTEGER NOT NULL DEFAULT 0, record TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS transition (move INTEGER NOT NULL REFERENCES move, at REAL NOT "
    "NULL,"
    " state TEXT NOT NULL, why TEXT NOT NULL);"
    "CREATE INDEX IF NOT EXISTS transition_move ON transition (move);"
    "CREATE TABLE IF NOT EXISTS epoch (vm TEXT NOT NULL, fabric TEXT NOT NULL, epoch INTEGER NOT "
    "NULL,"
    " PRIMARY KEY (vm, fabric));"
    "PRAGMA user_version = 1;";

static int journal_fail(struct journal *journal, const char *what)
{
    log_line("journal: %s: %s", what, sqlite3_errmsg(journal->db));
    return -EIO;
}

int journal_open(struct journal **journal, const char *path)
{
    struct journal *made = calloc(1, sizeof(*made));
    int rc = 0;

    if (!made)
        return -ENOMEM;
    if (sqlite3_open(path, &made->db) != SQLITE_OK)
        rc = journal_fail(made, path);
    if (!rc) {
        sqlite3_busy_timeout(made->db, 2000);
        if (sqlite3_exec(made->db, schema, NULL, NULL, NULL) != SQLITE_OK) {
            rc = sqlite3_errcode(made->db) == SQLITE_BUSY ? -EBUSY : -EIO;
            journal_fail(made, path);
        }
    }
    if (rc) {
        journal_close(made);
        return rc;
    }
    *journal = made;
    return 0;
}

void journal_close(struct journal *journal)
{
    if (!journal)
        return;
    sqlite3_close(journal->db);
    free(journal);
}

/* A prepared statement with its parameters bound by 'types': t text, i 64-bit integer, d double, j
 * JSON object. */
static sqlite3_stmt *journal_prepare(struct journal *journal, const char *sql, const char *types,
                                     ...)
{
    sqlite3_stmt *statement;
    va_list args;
    char *text;

    if (sqlite3_prepare_v2(journal->db, sql, -1, &statement, NULL) != SQLITE_OK) {
        journal_fail(journal, sql);
        return NULL;
    }
    va_start(args, types);
    for (int i = 1; *types; types++, i++) {
        switch (*types) {
        case 't':
            sqlite3_bind_text(statement, i, va_arg(args, const char *), -1, SQLITE_TRANSIENT);
            break;
        case 'i':
            sqlite3_bind_int64(statement, i, va_arg(args, int64_t));
            break;
        case 'd':
            sqlite3_bind_double(statement, i, va_arg(args, double));
            break;
        case 'j':
            text = json_dumps(va_arg(args, json_t *), JSON_COMPACT);
            sqlite3_bind_text(statement, i, text ? text : "{}", -1, SQLITE_TRANSIENT);
            free(text);
            break;
        }
    }
    va_end(args);
    return statement;
}

/* Runs 'statement', which it frees, to its end. */
static int journal_run(struct journal *journal, sqlite3_stmt *statement)
{
    int rc;

    if (!statement)
        return -EIO;
    rc = sqlite3_step(statement) == SQLITE_DONE ? 0 : journal_fail(journal, sqlite3_sql(statement));
    sqlite3_finalize(statement);
    return rc;
}

int64_t journal_plan_add(struct journal *journal, const char *what, const char *destination,
                         unsigned parallel, double at)
{
    int rc =
        journal_run(journal, journal_prepare(journal,
                                             "INSERT INTO plan (what, destination, parallel, "
                                             "created) VALUES (?, ?, ?, ?)",
                                             "ttid", what, destination, (int64_t)parallel, at));

    return rc ? rc : sqlite3_last_insert_rowid(journal->db);
}

json_t *journal_plan(struct journal *journal, int64_t plan)
{
    sqlite3_stmt *statement = journal_prepare(
        journal, "SELECT id, what, destination, parallel, created FROM plan WHERE id = ?", "i",
        plan);
    json_t *object = NULL;

    if (statement && sqlite3_step(statement) == SQLITE_ROW)
        object = json_pack(
            "{s:I, s:s, s:s, s:i, s:f}", "id", (json_int_t)sqlite3_column_int64(statement, 0),
            "what", (const char *)sqlite3_column_text(statement, 1), "to",
            (const char *)sqlite3_column_text(statement, 2), "parallel",
            sqlite3_column_int(statement, 3), "created", sqlite3_column_double(statement, 4));
    sqlite3_finalize(statement);
    return object;
}

static int journal_transition_add(struct journal *journal, int64_t move, const char *state,
                                  const char *why, double at)
{
    return journal_run(
        journal, journal_prepare(
                     journal, "INSERT INTO transition (move, at, state, why) VALUES (?, ?, ?, ?)",
                     "idtt", move, at, state, why));
}

int64_t journal_move_add(struct journal *journal, int64_t plan, const char *vm, const char *state,
                         json_t *record, double at)
{
    int64_t move;
    int rc;

    rc = journal_run(journal,
                     journal_prepare(journal,
                                     "INSERT INTO move (plan, vm, state, record) VALUES (?, ?, "
                                     "?, ?)",
                                     "ittj", plan, vm, state, record));
    if (rc)
        return rc;
    move = sqlite3_last_insert_rowid(journal->db);
    rc = journal_transition_add(journal, move, state, "asked for", at);
    return rc ? rc : move;
}

int journal_move_enter(struct journal *journal, int64_t move, const char *state, const char *why,
                       json_t *record, int ended, double at)
{
    int rc = journal_run(journal, journal_prepare(journal, "BEGIN IMMEDIATE", ""));

    if (rc)
        return rc;
    rc = journal_run(journal,
                     journal_prepare(journal,
                                     "UPDATE move SET state = ?, record = ?, ended = ? WHERE id "
                                     "= ?",
                                     "tjii", state, record, (int64_t)ended, move));
    if (!rc)
        rc = journal_transition_add(journal, move, state, why, at);
    if (journal_run(journal, journal_prepare(journal, rc ? "ROLLBACK" : "COMMIT", "")) && !rc)
        rc = -EIO;
    return rc;
}

int journal_move_update(struct journal *journal, int64_t move, json_t *record)
{
    return journal_run(journal, journal_prepare(journal, "UPDATE move SET record = ? WHERE id = ?",
                                                "ji", record, move));
}

static json_t *move_row(sqlite3_stmt *statement)
{
    json_t *record = json_loads((const char *)sqlite3_column_text(statement, 5), 0, NULL);

    return json_pack("{s:I, s:I, s:s, s:s, s:b, s:o}", "id",
                     (json_int_t)sqlite3_column_int64(statement, 0), "plan",
                     (json_int_t)sqlite3_column_int64(statement, 1), "vm",
                     (const char *)sqlite3_column_text(statement, 2), "state",
                     (const char *)sqlite3_column_text(statement, 3), "ended",
                     sqlite3_column_int(statement, 4), "record", record ? record : json_object());
}

#define MOVE_COLUMNS "id, plan, vm, state, ended, record"

json_t *journal_moves(struct journal *journal, int open_only, unsigned limit)
{
    sqlite3_stmt *statement =
        journal_prepare(journal,
                        "SELECT " MOVE_COLUMNS " FROM (SELECT * FROM move WHERE ended = 0 OR ? = 0"
                        " ORDER BY id DESC LIMIT ?) ORDER BY id",
                        "ii", (int64_t)open_only, limit ? (int64_t)limit : (int64_t)-1);
    json_t *moves = json_array();

    while (statement && sqlite3_step(statement) == SQLITE_ROW)
        json_array_append_new(moves, move_row(statement));
    if (!statement) {
        json_decref(moves);
        return NULL;
    }
    sqlite3_finalize(statement);
    return moves;
}

json_t *journal_move(struct journal *journal, int64_t move)
{
    sqlite3_stmt *statement =
        journal_prepare(journal, "SELECT " MOVE_COLUMNS " FROM move WHERE id = ?", "i", move);
    json_t *object = NULL;

    if (statement && sqlite3_step(statement) == SQLITE_ROW)
        object = move_row(statement);
    sqlite3_finalize(statement);
    return object;
}

json_t *journal_transitions(struct journal *journal, int64_t move)
{
    sqlite3_stmt *statement = journal_prepare(
        journal, "SELECT at, state, why FROM transition WHERE move = ? ORDER BY rowid", "i", move);
    json_t *list = json_array();

    while (statement && sqlite3_step(statement) == SQLITE_ROW)
        json_array_append_new(
            list, json_pack("{s:f, s:s, s:s}", "at", sqlite3_column_double(statement, 0), "state",
                            (const char *)sqlite3_column_text(statement, 1), "why",
                            (const char *)sqlite3_column_text(statement, 2)));
    sqlite3_finalize(statement);
    return list;
}

uint64_t journal_epoch(struct journal *journal, const char *vm, const char *fabric, unsigned add)
{
    sqlite3_stmt *statement;
    uint64_t epoch = 0;

    if (journal_run(journal,
                    journal_prepare(journal,
                                    "INSERT INTO epoch VALUES (?, ?, 1) ON CONFLICT DO UPDATE "
                                    "SET epoch = epoch + ?",
                                    "tti", vm, fabric, (int64_t)add)))
        return 0;
    statement = journal_prepare(journal, "SELECT epoch FROM epoch WHERE vm = ? AND fabric = ?",
                                "tt", vm, fabric);
    if (statement && sqlite3_step(statement) == SQLITE_ROW)
        epoch = (uint64_t)sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return epoch;
}
