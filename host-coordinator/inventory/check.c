/* Checks an inventory beyond its form: names, addresses and devices that are used twice, unknown or
 * impossible. SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "check.h"

/* Where something stands in the file: keys and numbers from the outside in, such as
 * "sites/0/hosts/1/hcas/0/mac". */
typedef char place[160];

/* Paths in the file are short: a longer one than fits names the thing around it. */
static void __attribute__((format(printf, 2, 3))) place_set(char *where, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(where, sizeof(place), format, args);
    va_end(args);
}

struct check {
    const char *path;
    yaml_document_t document;
    char *error;
    /* What was claimed so far, to find what is claimed twice. */
    struct claim {
        char kind[16], value[200], by[80];
        int line;
    } * claims;
    unsigned claim_count;
};

/* The line of 'where', or of the innermost thing around it that there is. */
static int check_line(struct check *check, const char *where)
{
    yaml_node_t *node = yaml_document_get_root_node(&check->document);
    int line = 1;
    char part[64];

    while (node && sscanf(where, "%63[^/]", part) == 1) {
        yaml_node_t *next = NULL;

        if (node->type == YAML_SEQUENCE_NODE && isdigit((unsigned char)part[0])) {
            yaml_node_item_t *item = node->data.sequence.items.start + atoi(part);

            if (item < node->data.sequence.items.top)
                next = yaml_document_get_node(&check->document, *item);
        } else if (node->type == YAML_MAPPING_NODE) {
            for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
                 pair < node->data.mapping.pairs.top; pair++) {
                yaml_node_t *key = yaml_document_get_node(&check->document, pair->key);

                if (key && key->type == YAML_SCALAR_NODE &&
                    !strcmp((char *)key->data.scalar.value, part))
                    next = yaml_document_get_node(&check->document, pair->value);
            }
        }
        if (next)
            line = (int)next->start_mark.line + 1;
        node = next;
        where += strlen(part);
        where += *where == '/';
    }
    return line;
}

/* Says what is wrong at 'where'. Returns -EINVAL. */
static int __attribute__((format(printf, 3, 4)))
check_fail(struct check *check, const char *where, const char *format, ...)
{
    char what[250];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    sentence_set(check->error, "%s:%d: %s", check->path, check_line(check, where), what);
    return -EINVAL;
}

/* 'value' of this kind may be claimed by one 'by' only. */
static int check_claim(struct check *check, const char *kind, const char *value, const char *by,
                       const char *where)
{
    struct claim *claim;

    for (unsigned i = 0; i < check->claim_count; i++) {
        claim = &check->claims[i];
        if (!strcmp(claim->kind, kind) && !strcasecmp(claim->value, value))
            return check_fail(check, where, "%s %s of %s is already claimed by %s in line %d", kind,
                              value, by, claim->by, claim->line);
    }
    claim = reallocarray(check->claims, check->claim_count + 1, sizeof(*claim));
    if (!claim)
        return check_fail(check, where, "out of memory");
    check->claims = claim;
    claim += check->claim_count++;
    snprintf(claim->kind, sizeof(claim->kind), "%s", kind);
    snprintf(claim->value, sizeof(claim->value), "%s", value);
    snprintf(claim->by, sizeof(claim->by), "%s", by);
    claim->line = check_line(check, where);
    return 0;
}

/* Names become parts of paths, log lines and libvirt's names. */
static int check_name(struct check *check, const char *kind, const char *name, const char *around)
{
    place where;

    place_set(where, "%s/name", around);
    if (name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] ||
        !isalnum((unsigned char)name[0]) || strlen(name) > 31)
        return check_fail(check, where,
                          "'%s' is no name for a %s: up to 31 letters, digits and ._- are allowed",
                          name, kind);
    return 0;
}

/* A text of hexadecimal digits 'x' and literal characters. */
static int matches(const char *text, const char *pattern)
{
    for (; *pattern; pattern++, text++)
        if (*pattern == 'x' ? !isxdigit((unsigned char)*text) : *text != *pattern)
            return 0;
    return !*text;
}

static int check_pattern(struct check *check, const char *what, const char *text,
                         const char *pattern, const char *around, const char *key)
{
    place where;

    place_set(where, "%s/%s", around, key);
    return matches(text, pattern) ? 0 : check_fail(check, where, "'%s' is no %s", text, what);
}

static int check_hca(struct check *check, const struct inventory_hca *hca, const char *around)
{
    place where;
    char by[80], vf[96];
    int ways = !!hca->pci + !!hca->vf + !!hca->device_xml;

    snprintf(by, sizeof(by), "%s of %s", hca->name, hca->host->name);
    if (check_name(check, "HCA", hca->name, around))
        return -EINVAL;
    place_set(where, "%s/fabric", around);
    if (!hca->of_fabric)
        return check_fail(check, where, "HCA %s is on fabric '%s', which is not in 'fabrics'", by,
                          hca->fabric);
    if (ways != 1)
        return check_fail(check, around, "HCA %s needs exactly one of 'pci', 'vf' and 'device_xml'",
                          by);
    place_set(where, "%s/mac", around);
    if (hca->mac &&
        (check_pattern(check, "MAC address", hca->mac, "xx:xx:xx:xx:xx:xx", around, "mac") ||
         check_claim(check, "MAC", hca->mac, by, where)))
        return -EINVAL;
    if (hca->device_xml && !hca->mac)
        return check_fail(check, around, "HCA %s with 'device_xml' needs its 'mac'", by);
    /* Two hosts may well have a device at the same PCI address; one host has not. */
    if (hca->pci) {
        place_set(where, "%s/pci", around);
        snprintf(vf, sizeof(vf), "%.40s at %.20s", hca->pci, hca->host->name);
        if (check_pattern(check, "PCI address such as 0000:3b:00.0", hca->pci, "xxxx:xx:xx.x",
                          around, "pci") ||
            check_claim(check, "device", vf, by, where))
            return -EINVAL;
    }
    if (hca->vf) {
        place_set(where, "%s/vf/pf", around);
        snprintf(vf, sizeof(vf), "%.20s VF %u at %.20s", hca->vf->pf, hca->vf->number,
                 hca->host->name);
        if (check_pattern(check, "PCI address such as 0000:3b:00.0", hca->vf->pf, "xxxx:xx:xx.x",
                          around, "vf/pf") ||
            check_claim(check, "device", vf, by, where))
            return -EINVAL;
    }
    if (hca->device_xml) {
        place_set(where, "%s/device_xml", around);
        return check_claim(check, "device file", hca->device_xml, by, where);
    }
    return 0;
}

static int check_host(struct check *check, const struct inventory_host *host, const char *around)
{
    place where;

    place_set(where, "%s/name", around);
    if (check_name(check, "host", host->name, around) ||
        check_claim(check, "site or host", host->name, "host", where))
        return -EINVAL;
    place_set(where, "%s/uri", around);
    if (check_claim(check, "uri", host->uri, host->name, where))
        return -EINVAL;
    place_set(where, "%s/migration_uri", around);
    if (check_claim(check, "migration_uri", host->migration_uri, host->name, where))
        return -EINVAL;
    for (unsigned i = 0; i < host->hcas_count; i++) {
        for (unsigned j = 0; j < i; j++)
            if (!strcmp(host->hcas[i].name, host->hcas[j].name)) {
                place_set(where, "%s/hcas/%u/name", around, i);
                return check_fail(check, where, "host %s has two HCAs named %s", host->name,
                                  host->hcas[i].name);
            }
        place_set(where, "%s/hcas/%u", around, i);
        if (check_hca(check, &host->hcas[i], where))
            return -EINVAL;
    }
    return 0;
}

static int check_site(struct check *check, const struct inventory_site *site, const char *around)
{
    place where;

    place_set(where, "%s/name", around);
    if (check_name(check, "site", site->name, around) ||
        check_claim(check, "site or host", site->name, "site", where))
        return -EINVAL;
    place_set(where, "%s/overlay", around);
    if (site->overlay && strcmp(site->overlay, "gre") && strcmp(site->overlay, "none"))
        return check_fail(check, where,
                          "overlay '%s' of site %s is not known: 'gre' and 'none' are",
                          site->overlay, site->name);
    for (unsigned h = 0; h < site->hosts_count; h++) {
        place_set(where, "%s/hosts/%u", around, h);
        if (check_host(check, &site->hosts[h], where))
            return -EINVAL;
    }
    return 0;
}

static int check_vm(struct check *check, const struct inventory_vm *vm, const char *around)
{
    place where;

    place_set(where, "%s/name", around);
    if (check_name(check, "VM", vm->name, around) ||
        check_claim(check, "cluster or VM", vm->name, "VM", where))
        return -EINVAL;
    place_set(where, "%s/mac", around);
    if (vm->mac &&
        (check_pattern(check, "MAC address", vm->mac, "xx:xx:xx:xx:xx:xx", around, "mac") ||
         check_claim(check, "MAC", vm->mac, vm->name, where)))
        return -EINVAL;
    place_set(where, "%s/address", around);
    if (vm->address && check_claim(check, "address", vm->address, vm->name, where))
        return -EINVAL;
    place_set(where, "%s/hca_alias", around);
    if (strncmp(vm->hca_alias, "ua-", 3))
        return check_fail(check, where,
                          "hca_alias '%s' of %s must begin with 'ua-' (libvirt's rule)",
                          vm->hca_alias, vm->name);
    return 0;
}

static int check_all(struct check *check, const struct inventory *inventory)
{
    place where, name;

    for (unsigned i = 0; i < inventory->fabrics_count; i++) {
        const struct inventory_fabric *fabric = &inventory->fabrics[i];

        place_set(where, "fabrics/%u", i);
        place_set(name, "%s/uuid", where);
        if (check_name(check, "fabric", fabric->name, where) ||
            check_pattern(check, "UUID", fabric->uuid, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
                          where, "uuid") ||
            check_claim(check, "fabric", fabric->name, "fabric", where) ||
            check_claim(check, "uuid", fabric->uuid, fabric->name, name))
            return -EINVAL;
    }
    for (unsigned s = 0; s < inventory->sites_count; s++) {
        place_set(where, "sites/%u", s);
        if (check_site(check, &inventory->sites[s], where))
            return -EINVAL;
    }
    for (unsigned c = 0; c < inventory->clusters_count; c++) {
        const struct inventory_cluster *cluster = &inventory->clusters[c];

        place_set(where, "clusters/%u", c);
        place_set(name, "%s/name", where);
        if (check_name(check, "cluster", cluster->name, where) ||
            check_claim(check, "cluster or VM", cluster->name, "cluster", name))
            return -EINVAL;
        for (unsigned v = 0; v < cluster->vms_count; v++) {
            place_set(where, "clusters/%u/vms/%u", c, v);
            if (check_vm(check, &cluster->vms[v], where))
                return -EINVAL;
        }
    }
    return 0;
}

int inventory_check(const char *path, const struct inventory *inventory, char *error)
{
    struct check check = {.path = path, .error = error};
    yaml_parser_t parser;
    FILE *file = fopen(path, "r");
    int rc;

    if (!file || !yaml_parser_initialize(&parser)) {
        sentence_set(error, "%s: cannot be read again", path);
        if (file)
            fclose(file);
        return -EINVAL;
    }
    yaml_parser_set_input_file(&parser, file);
    rc = yaml_parser_load(&parser, &check.document) ? 0 : -EINVAL;
    if (!rc) {
        rc = check_all(&check, inventory);
        yaml_document_delete(&check.document);
    } else {
        sentence_set(error, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                     parser.problem ? parser.problem : "no YAML");
    }
    yaml_parser_delete(&parser);
    fclose(file);
    free(check.claims);
    return rc;
}
