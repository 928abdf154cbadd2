/* The inventory's checks: what is wrong is said with its line. SPDX-License-Identifier:
 * BSD-3-Clause */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "inventory.h"

/* Lines are counted by the tests below. */
static const char good[] =
    "fabrics:\n"                                                                        /* 1 */
    "  - name: ib0\n"                                                                   /* 2 */
    "    uuid: 6e696e6a-6100-4000-8000-000000000001\n"                                  /* 3 */
    "sites:\n"                                                                          /* 4 */
    "  - name: home\n"                                                                  /* 5 */
    "    hosts:\n"                                                                      /* 6 */
    "      - name: home-a\n"                                                            /* 7 */
    "        uri: qemu+ssh://home-a/system\n"                                           /* 8 */
    "        migration_uri: qemu+tls://home-a/system\n"                                 /* 9 */
    "        image_dir: /var/lib/libvirt/images\n"                                      /* 10 */
    "        hcas:\n"                                                                   /* 11 */
    "          - {name: hca0, fabric: ib0, pci: '0000:3b:00.0'}\n"                      /* 12 */
    "          - {name: hca1, fabric: ib0, vf: {pf: '0000:5e:00.0', number: 2}}\n"      /* 13 */
    "          - {name: hca2, fabric: ib0, device_xml: /x, mac: '52:54:00:ca:00:01'}\n" /* 14 */
    "  - name: cloud\n"                                                                 /* 15 */
    "    overlay: gre\n"                                                                /* 16 */
    "    hosts:\n"                                                                      /* 17 */
    "      - name: cloud-a\n"                                                           /* 18 */
    "        uri: qemu+ssh://cloud-a/system\n"                                          /* 19 */
    "        migration_uri: qemu+tls://cloud-a/system\n"                                /* 20 */
    "        image_dir: /var/lib/libvirt/images\n"                                      /* 21 */
    "clusters:\n"                                                                       /* 22 */
    "  - name: c1\n"                                                                    /* 23 */
    "    vms:\n"                                                                        /* 24 */
    "      - name: vm1\n"                                                               /* 25 */
    "        mac: 52:54:00:88:00:01\n"                                                  /* 26 */
    "        hca_alias: ua-hca0\n"                                                      /* 27 */
    "        base_image: /b\n"                                                          /* 28 */
    "      - name: vm2\n"                                                               /* 29 */
    "        mac: 52:54:00:88:00:02\n"                                                  /* 30 */
    "        hca_alias: ua-hca0\n"                                                      /* 31 */
    "        base_image: /b\n";                                                         /* 32 */

/* Loads 'good' with its first 'old' replaced by 'new'. */
static int load_changed(const char *old, const char *new, struct inventory **inventory, char *error)
{
    char path[] = "/tmp/inventory-XXXXXX";
    int fd = mkstemp(path), rc;
    const char *at = strstr(good, old);

    assert_true(fd >= 0);
    assert_non_null(at);
    assert_true(dprintf(fd, "%.*s%s%s", (int)(at - good), good, new, at + strlen(old)) > 0);
    close(fd);
    rc = inventory_load(path, inventory, error);
    unlink(path);
    return rc;
}

static void test_good(void **state)
{
    struct inventory *inventory;
    char error[SENTENCE_MAX] = "";

    assert_int_equal(load_changed("home-a", "home-a", &inventory, error), 0);
    assert_int_equal(inventory->hosts_count, 2);
    assert_int_equal(inventory->all_vms_count, 2);
    assert_string_equal(inventory_host_at(inventory, 1)->name, "cloud-a");
    assert_string_equal(inventory_host(inventory, "cloud-a")->site->name, "cloud");
    assert_string_equal(inventory_vm_at(inventory, 1)->name, "vm2");
    assert_null(inventory_vm(inventory, "vm3"));
    assert_null(inventory_site(inventory, "cloud-a"));
    assert_string_equal(
        inventory_hca_by_key(inventory_host_at(inventory, 0), "52:54:00:CA:00:01")->name, "hca2");
    assert_string_equal(inventory_hca_by_key(inventory_host_at(inventory, 0), "0000:3b:00.0")->name,
                        "hca0");
    assert_null(inventory_hca_key(inventory_hca(inventory_host_at(inventory, 0), "hca1")));
    inventory_destroy(inventory);
}

static void test_bad(void **state)
{
    static const struct {
        const char *old, *new;
        int line;
        const char *says;
    } cases[] = {
        {"    mac: 52:54:00:88:00:02", "    mac: 52:54:00:88:00:01", 30,
         "already claimed by vm1 in line 26"},
        {"    mac: 52:54:00:88:00:01", "    mac: 52:54:00:CA:00:01", 26,
         "already claimed by hca2 of home-a in line 14"},
        {"    mac: 52:54:00:88:00:01", "    mac: 52:54:00:88:00", 26, "no MAC address"},
        {"device_xml: /x, mac: '52:54:00:ca:00:01'", "pci: '0000:3b:00.0'", 14,
         "already claimed by hca0 of home-a in line 12"},
        {"fabric: ib0, pci", "fabric: ib9, pci", 12, "not in 'fabrics'"},
        {"pci: '0000:3b:00.0'", "pci: '3b:00.0'", 12, "no PCI address"},
        {"fabric: ib0, pci: '0000:3b:00.0'", "fabric: ib0", 12, "exactly one of"},
        {", mac: '52:54:00:ca:00:01'}", "}", 14, "needs its 'mac'"},
        {"name: hca1", "name: hca0", 13, "two HCAs named hca0"},
        {"- name: cloud-a", "- name: home-a", 18, "already claimed"},
        {"- name: cloud\n", "- name: home\n", 15, "already claimed"},
        {"- name: vm2", "- name: vm1", 29, "already claimed"},
        {"- name: vm2", "- name: ../vm2", 29, "no name for a VM"},
        {"qemu+ssh://cloud-a/system", "qemu+ssh://home-a/system", 19,
         "already claimed by home-a in line 8"},
        {"overlay: gre", "overlay: vxlan", 16, "not known"},
        {"000000000001", "1", 3, "no UUID"},
        {"hca_alias: ua-hca0", "hca_alias: hca0", 27, "must begin with 'ua-'"},
        {"image_dir:", "images:", 10, "images"},
        {"        uri: qemu+ssh://cloud-a/system\n", "", 20, "uri"},
        {"number: 2", "number: two", 13, ""},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct inventory *inventory = NULL;
        char error[SENTENCE_MAX] = "", line[16];
        int rc = load_changed(cases[i].old, cases[i].new, &inventory, error);
        int line_ok;

        snprintf(line, sizeof(line), ":%d: ", cases[i].line);
        line_ok = strstr(error, line) != NULL;
        if (rc == 0 || !line_ok || !strstr(error, cases[i].says))
            fail_msg("'%s': returned %d, said '%s', should say '%s' in line %d", cases[i].new, rc,
                     error, cases[i].says, cases[i].line);
        assert_null(strchr(error, '\n'));
    }
}

static void test_no_file(void **state)
{
    struct inventory *inventory;
    char error[SENTENCE_MAX];

    assert_true(inventory_load("/nonexistent/inventory.yaml", &inventory, error) < 0);
    assert_non_null(strstr(error, "cannot be read"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_bad),
                                       cmocka_unit_test(test_no_file)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
