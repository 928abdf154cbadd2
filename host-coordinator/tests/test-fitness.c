/* What is refused before a move, against libvirt's test driver: no VM is started.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "domain.h"

static char directory[] = "/tmp/test-fitness-XXXXXX";

/* A host of the test driver: a file that says what runs there. */
struct host {
    char path[64], uri[96];
};
static struct host here, there;
static const char *memory; /* of the VM, in KiB */

static void host_write(struct host *host, const char *name, const char *domain)
{
    FILE *file;

    snprintf(host->path, sizeof(host->path), "%s/%s.xml", directory, name);
    snprintf(host->uri, sizeof(host->uri), "test://%s", host->path);
    file = fopen(host->path, "w");
    assert_non_null(file);
    fprintf(file, "<node>%s</node>\n", domain);
    assert_int_equal(fclose(file), 0);
}

/* Asks about VM vm1 with 'extra' in its definition and 'devices' among its devices. */
static int ask(const char *extra, const char *devices, struct domain_fitness *fitness, char *error)
{
    char domain[2048];

    snprintf(domain, sizeof(domain),
             "<domain type='test'><name>vm1</name><memory>%s</memory><vcpu>1</vcpu>"
             "<os><type arch='i686'>hvm</type></os>%s<devices>%s</devices></domain>",
             memory, extra, devices);
    host_write(&here, "here", domain);
    error[0] = '\0';
    return domain_check(here.uri, there.uri, "vm1", "ua-hca0", "/images/base.qcow2", fitness,
                        error);
}

/* It is refused with -EINVAL and a sentence that has 'text'. */
static void refused(const char *extra, const char *devices, const char *text)
{
    struct domain_fitness fitness;
    char error[SENTENCE_MAX];
    int rc = ask(extra, devices, &fitness, error);

    print_message("%s\n", error);
    assert_int_equal(rc, -EINVAL);
    assert_non_null(strstr(error, text));
}

static int setup(void **state)
{
    (void)state;
    memory = "1024";
    /* Its hosts have little memory; those of which a file tells have none. */
    snprintf(there.uri, sizeof(there.uri), "test:///default");
    return 0;
}

#define PCI_DEVICE(slot, alias)                                                                    \
    "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='0x3b' "   \
    "slot='" slot "' function='0'/></source>" alias "</hostdev>"

static void test_plain_vm_may_move(void **state)
{
    struct domain_fitness fitness;
    char error[SENTENCE_MAX];

    (void)state;
    if (ask("", "", &fitness, error))
        fail_msg("%s", error);
    assert_int_equal(fitness.memory_kib, 1024);
    assert_string_equal(fitness.disks, "");
}

static void test_hca_may_be_passed_through(void **state)
{
    struct domain_fitness fitness;
    char error[SENTENCE_MAX];

    (void)state;
    if (ask("", PCI_DEVICE("1", "<alias name='ua-hca0'/>"), &fitness, error))
        fail_msg("%s", error);
}

static void test_gpu_cannot_move(void **state)
{
    (void)state;
    refused("", PCI_DEVICE("0", ""), "0000:3b:00.0 that is not its HCA (a GPU, for example)");
    refused("", PCI_DEVICE("1", "<alias name='ua-hca0'/>") PCI_DEVICE("2", ""), "0000:3b:02.0");
}

static void test_other_virtual_function_cannot_move(void **state)
{
    (void)state;
    refused("",
            "<interface type='hostdev'><mac address='52:54:00:00:00:07'/><source><address "
            "type='pci' domain='0' bus='1' slot='0' function='0'/></source></interface>",
            "52:54:00:00:00:07 that is not its HCA");
}

static void test_pinned_memory_cannot_move(void **state)
{
    (void)state;
    refused("<numatune><memory mode='strict' nodeset='0'/></numatune>", "", "pinned to NUMA nodes");
}

static void test_unknown_processor_cannot_move(void **state)
{
    (void)state;
    /* The test driver's hosts do not name their processor's model. */
    refused("<cpu mode='host-passthrough'/>", "", "another one (unknown, unknown)");
}

static void test_memory_must_be_free(void **state)
{
    (void)state;
    memory = "1073741824";
    refused("", "", "of memory free, it needs 1048576 MiB");
}

static void test_base_image_must_be_there(void **state)
{
    (void)state;
    refused("",
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source "
            "file='/images/vm1.qcow2'/><target dev='vda' bus='virtio'/></disk>",
            "lacks the base image /images/base.qcow2");
}

static void test_name_must_be_free(void **state)
{
    (void)state;
    host_write(&there, "there",
               "<domain type='test'><name>vm1</name><memory>65536</memory>"
               "<os><type>hvm</type></os></domain>");
    refused("", "", "a VM named vm1 runs at the destination already");
}

static void test_destination_must_answer(void **state)
{
    struct domain_fitness fitness;
    char error[SENTENCE_MAX];

    (void)state;
    snprintf(there.uri, sizeof(there.uri), "test://%s/nowhere.xml", directory);
    assert_int_equal(ask("", "", &fitness, error), -EHOSTUNREACH);
    assert_non_null(strstr(error, "the destination does not answer"));
}

static void quiet(void *ctx, virErrorPtr error)
{
    (void)ctx;
    (void)error;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_plain_vm_may_move, setup),
        cmocka_unit_test_setup(test_hca_may_be_passed_through, setup),
        cmocka_unit_test_setup(test_gpu_cannot_move, setup),
        cmocka_unit_test_setup(test_other_virtual_function_cannot_move, setup),
        cmocka_unit_test_setup(test_pinned_memory_cannot_move, setup),
        cmocka_unit_test_setup(test_unknown_processor_cannot_move, setup),
        cmocka_unit_test_setup(test_memory_must_be_free, setup),
        cmocka_unit_test_setup(test_base_image_must_be_there, setup),
        cmocka_unit_test_setup(test_name_must_be_free, setup),
        cmocka_unit_test_setup(test_destination_must_answer, setup),
    };
    int rc;

    if (!mkdtemp(directory) || virInitialize() || virEventRegisterDefaultImpl())
        return 99;
    virSetErrorFunc(NULL, quiet);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(here.path);
    unlink(there.path);
    rmdir(directory);
    return rc;
}
