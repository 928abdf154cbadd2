/* Fuzz target: both roles of the session against a peer that says anything, with right checksums or
 * none. SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include "fuzz-input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct side {
    struct symvirt_session *session;
    int64_t now_ms;
};

static void on_message(void *ctx, enum symvirt_message_type type, json_t *message)
{
    struct side *side = ctx;

    /* Answers as an agent would. */
    symvirt_session_send(side->session,
                         symvirt_message_result(symvirt_message_op(message), 0, NULL, NULL),
                         side->now_ms);
}

static json_t *describe(void *ctx)
{
    return json_pack("{s:s}", "phase", "idle");
}

static void run(enum symvirt_session_role role, const uint8_t *data, size_t left)
{
    static const struct symvirt_session_callbacks callbacks = {.message = on_message,
                                                               .describe = describe};
    static const uint64_t epochs[4] = {100, 0, 101, UINT64_MAX};
    struct side side = {.now_ms = 0};
    struct fuzz_record record;
    const void *output;

    if (symvirt_session_create(&side.session, role, &callbacks, &side))
        abort();
    symvirt_session_open(side.session, 100, 0);
    while (fuzz_next_record(&data, &left, &record)) {
        size_t size;
        uint8_t *frame;

        side.now_ms += record.kind;
        if (record.kind % 8 == 7)
            symvirt_session_open(side.session, 100 + record.choice, side.now_ms);
        if (record.kind % 8 == 6)
            symvirt_session_close(side.session);
        if (record.kind % 8 == 5)
            symvirt_session_send(side.session, symvirt_message_request(SYMVIRT_PING, record.choice),
                                 side.now_ms);
        if (record.kind & 1) {
            frame = fuzz_make_frame(&record, record.choice >> 2, epochs[record.choice & 3], &size);
            symvirt_session_input(side.session, frame, size, side.now_ms);
            free(frame);
        } else {
            symvirt_session_input(side.session, record.data, record.size, side.now_ms);
        }
        symvirt_session_tick(side.session, side.now_ms);
        size = symvirt_session_output(side.session, &output);
        if (size > 256 * 1024)
            abort();
        symvirt_session_written(side.session, size < 900 ? size : 900);
    }
    symvirt_session_destroy(side.session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    run(SYMVIRT_SESSION_HOST, data, size);
    run(SYMVIRT_SESSION_GUEST, data, size);
    return 0;
}
