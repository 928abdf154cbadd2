/* Reads the inventory file and finds things in it.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "check.h"
#include "inventory.h"

#define TEXT(key, type, member)                                                                    \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER, struct type, member, 1, 4096)
#define OPTIONAL(key, type, member)                                                                \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct type, member, 1,  \
                           4096)

static const cyaml_schema_field_t fabric_fields[] = {
    TEXT("name", inventory_fabric, name), TEXT("uuid", inventory_fabric, uuid), CYAML_FIELD_END};
static const cyaml_schema_value_t fabric_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct inventory_fabric, fabric_fields)};

static const cyaml_schema_field_t vf_fields[] = {
    TEXT("pf", inventory_vf, pf),
    CYAML_FIELD_UINT("number", CYAML_FLAG_DEFAULT, struct inventory_vf, number), CYAML_FIELD_END};

static const cyaml_schema_field_t hca_fields[] = {
    TEXT("name", inventory_hca, name),
    TEXT("fabric", inventory_hca, fabric),
    OPTIONAL("pci", inventory_hca, pci),
    CYAML_FIELD_MAPPING_PTR("vf", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct inventory_hca,
                            vf, vf_fields),
    OPTIONAL("device_xml", inventory_hca, device_xml),
    OPTIONAL("mac", inventory_hca, mac),
    CYAML_FIELD_END};
static const cyaml_schema_value_t hca_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct inventory_hca, hca_fields)};

static const cyaml_schema_field_t host_fields[] = {
    TEXT("name", inventory_host, name),
    TEXT("uri", inventory_host, uri),
    TEXT("migration_uri", inventory_host, migration_uri),
    OPTIONAL("address", inventory_host, address),
    TEXT("image_dir", inventory_host, image_dir),
    CYAML_FIELD_SEQUENCE("hcas", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct inventory_host,
                         hcas, &hca_schema, 0, CYAML_UNLIMITED),
    CYAML_FIELD_END};
static const cyaml_schema_value_t host_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct inventory_host, host_fields)};

static const cyaml_schema_field_t site_fields[] = {
    TEXT("name", inventory_site, name), OPTIONAL("overlay", inventory_site, overlay),
    CYAML_FIELD_SEQUENCE("hosts", CYAML_FLAG_POINTER, struct inventory_site, hosts, &host_schema, 1,
                         CYAML_UNLIMITED),
    CYAML_FIELD_END};
static const cyaml_schema_value_t site_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct inventory_site, site_fields)};

static const cyaml_schema_field_t vm_fields[] = {TEXT("name", inventory_vm, name),
                                                 OPTIONAL("mac", inventory_vm, mac),
                                                 OPTIONAL("address", inventory_vm, address),
                                                 TEXT("hca_alias", inventory_vm, hca_alias),
                                                 TEXT("base_image", inventory_vm, base_image),
                                                 CYAML_FIELD_END};
static const cyaml_schema_value_t vm_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct inventory_vm, vm_fields)};

static const cyaml_schema_field_t cluster_fields[] = {
    TEXT("name", inventory_cluster, name),
    CYAML_FIELD_SEQUENCE("vms", CYAML_FLAG_POINTER, struct inventory_cluster, vms, &vm_schema, 1,
                         CYAML_UNLIMITED),
    CYAML_FIELD_END};
static const cyaml_schema_value_t cluster_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct inventory_cluster, cluster_fields)};

static const cyaml_schema_field_t inventory_fields[] = {
    CYAML_FIELD_SEQUENCE("fabrics", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct inventory,
                         fabrics, &fabric_schema, 0, CYAML_UNLIMITED),
    CYAML_FIELD_SEQUENCE("sites", CYAML_FLAG_POINTER, struct inventory, sites, &site_schema, 1,
                         CYAML_UNLIMITED),
    CYAML_FIELD_SEQUENCE("clusters", CYAML_FLAG_POINTER, struct inventory, clusters,
                         &cluster_schema, 1, CYAML_UNLIMITED),
    CYAML_FIELD_END};
static const cyaml_schema_value_t inventory_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct inventory, inventory_fields)};

/* libcyaml tells what is wrong first and then, from inside out, where. */
struct load_complaint {
    char what[200];
    char where[80]; /* the innermost field */
    int line;
};

static void load_on_log(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
    struct load_complaint *complaint = ctx;
    char text[300];
    const char *line;

    if (level < CYAML_LOG_ERROR)
        return;
    vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\n")] = '\0';
    line = strstr(text, "line: ");
    if (line && !complaint->line) {
        const char *quote = strchr(text, '\'');

        complaint->line = atoi(line + 6);
        if (quote && quote < line)
            snprintf(complaint->where, sizeof(complaint->where), "%.*s",
                     (int)strcspn(quote + 1, "'"), quote + 1);
    }
    /* The field before is named for one that is missing: that would mislead. */
    if (!strncmp(complaint->what, "Missing", 7))
        complaint->where[0] = '\0';
    if (!complaint->what[0] && strncmp(text, "Load: Backtrace", 15))
        snprintf(complaint->what, sizeof(complaint->what), "%.190s",
                 strncmp(text, "Load: ", 6) ? text : text + 6);
}

/* libcyaml places a key that it does not know at the one before: finds the line of the key itself. */
static void complaint_place(struct load_complaint *complaint, const char *path)
{
    static const char unexpected[] = "Unexpected key: ";
    const char *key = complaint->what + sizeof(unexpected) - 1, *at;
    FILE *file = strncmp(complaint->what, unexpected, sizeof(unexpected) - 1) ? NULL : fopen(path, "r");
    char text[1024];

    for (int line = 1; file && fgets(text, sizeof(text), file); line++) {
        at = line < complaint->line ? NULL : strstr(text, key);
        if (at && at[strlen(key)] == ':') {
            complaint->line = line;
            complaint->where[0] = '\0';
            break;
        }
    }
    if (file)
        fclose(file);
}

static cyaml_config_t load_config(struct load_complaint *complaint)
{
    return (cyaml_config_t){.log_fn = load_on_log,
                            .log_ctx = complaint,
                            .mem_fn = cyaml_mem,
                            .log_level = CYAML_LOG_ERROR};
}

static void inventory_link(struct inventory *inventory)
{
    for (unsigned s = 0; s < inventory->sites_count; s++) {
        struct inventory_site *site = &inventory->sites[s];

        for (unsigned h = 0; h < site->hosts_count; h++) {
            struct inventory_host *host = &site->hosts[h];

            host->site = site;
            host->number = inventory->hosts_count++;
            for (unsigned i = 0; i < host->hcas_count; i++) {
                host->hcas[i].host = host;
                host->hcas[i].of_fabric = inventory_fabric(inventory, host->hcas[i].fabric);
            }
        }
    }
    for (unsigned c = 0; c < inventory->clusters_count; c++)
        for (unsigned v = 0; v < inventory->clusters[c].vms_count; v++) {
            inventory->clusters[c].vms[v].cluster = &inventory->clusters[c];
            inventory->clusters[c].vms[v].number = inventory->all_vms_count++;
        }
}

int inventory_load(const char *path, struct inventory **inventory, char *error)
{
    struct load_complaint complaint = {.line = 0};
    cyaml_config_t config = load_config(&complaint);
    cyaml_data_t *data = NULL;
    cyaml_err_t rc = cyaml_load_file(path, &config, &inventory_schema, &data, NULL);

    if (rc == CYAML_ERR_FILE_OPEN) {
        sentence_set(error, "%s: cannot be read", path);
        return -ENOENT;
    }
    if (rc != CYAML_OK || !data) {
        const char *what = complaint.what[0] ? complaint.what : cyaml_strerror(rc);

        complaint_place(&complaint, path);
        if (complaint.where[0])
            sentence_set(error, "%s:%d: %s (in '%s')", path, complaint.line, what, complaint.where);
        else
            sentence_set(error, "%s:%d: %s", path, complaint.line, what);
        return -EINVAL;
    }
    inventory_link(data);
    if (inventory_check(path, data, error)) {
        inventory_destroy(data);
        return -EINVAL;
    }
    *inventory = data;
    return 0;
}

void inventory_destroy(struct inventory *inventory)
{
    struct load_complaint complaint = {.line = 0};
    cyaml_config_t config = load_config(&complaint);

    if (inventory)
        cyaml_free(&config, &inventory_schema, inventory, 0);
}

struct inventory_site *inventory_site(const struct inventory *inventory, const char *name)
{
    for (unsigned i = 0; i < inventory->sites_count; i++)
        if (!strcmp(inventory->sites[i].name, name))
            return &inventory->sites[i];
    return NULL;
}

struct inventory_host *inventory_host(const struct inventory *inventory, const char *name)
{
    for (unsigned s = 0; s < inventory->sites_count; s++)
        for (unsigned h = 0; h < inventory->sites[s].hosts_count; h++)
            if (!strcmp(inventory->sites[s].hosts[h].name, name))
                return &inventory->sites[s].hosts[h];
    return NULL;
}

struct inventory_host *inventory_host_at(const struct inventory *inventory, unsigned number)
{
    for (unsigned s = 0; s < inventory->sites_count; s++) {
        if (number < inventory->sites[s].hosts_count)
            return &inventory->sites[s].hosts[number];
        number -= inventory->sites[s].hosts_count;
    }
    return NULL;
}

struct inventory_cluster *inventory_cluster(const struct inventory *inventory, const char *name)
{
    for (unsigned i = 0; i < inventory->clusters_count; i++)
        if (!strcmp(inventory->clusters[i].name, name))
            return &inventory->clusters[i];
    return NULL;
}

struct inventory_vm *inventory_vm(const struct inventory *inventory, const char *name)
{
    for (unsigned c = 0; c < inventory->clusters_count; c++)
        for (unsigned v = 0; v < inventory->clusters[c].vms_count; v++)
            if (!strcmp(inventory->clusters[c].vms[v].name, name))
                return &inventory->clusters[c].vms[v];
    return NULL;
}

struct inventory_vm *inventory_vm_at(const struct inventory *inventory, unsigned number)
{
    for (unsigned c = 0; c < inventory->clusters_count; c++) {
        if (number < inventory->clusters[c].vms_count)
            return &inventory->clusters[c].vms[number];
        number -= inventory->clusters[c].vms_count;
    }
    return NULL;
}

struct inventory_fabric *inventory_fabric(const struct inventory *inventory, const char *name)
{
    for (unsigned i = 0; i < inventory->fabrics_count; i++)
        if (!strcmp(inventory->fabrics[i].name, name))
            return &inventory->fabrics[i];
    return NULL;
}

struct inventory_hca *inventory_hca(const struct inventory_host *host, const char *name)
{
    for (unsigned i = 0; i < host->hcas_count; i++)
        if (!strcmp(host->hcas[i].name, name))
            return &host->hcas[i];
    return NULL;
}

struct inventory_hca *inventory_hca_by_key(const struct inventory_host *host, const char *key)
{
    for (unsigned i = 0; i < host->hcas_count; i++) {
        const char *mine = inventory_hca_key(&host->hcas[i]);

        if (mine && !strcasecmp(mine, key))
            return &host->hcas[i];
    }
    return NULL;
}

const char *inventory_hca_key(const struct inventory_hca *hca)
{
    return hca->mac ? hca->mac : hca->pci;
}
