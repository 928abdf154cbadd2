/* Turns an HCA of the inventory into libvirt's device XML. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domxml.h"
#include "hca.h"
#include "host.h"

static int read_file(const char *path, char **text, char *error)
{
    FILE *file = fopen(path, "r");
    char *data = calloc(1, 65536);
    size_t size = file && data ? fread(data, 1, 65535, file) : 0;
    int rc = 0;

    if (!size) {
        sentence_set(error, "%s: %s", path, file ? "is empty" : strerror(errno));
        free(data);
        rc = -ENOENT;
    } else {
        *text = data;
    }
    if (file)
        fclose(file);
    return rc;
}

/* The PCI address of virtual function 'number' of the physical function 'pf', as its host knows it.
 */
static int find_vf(const char *uri, const struct inventory_vf *vf, char *address, char *error)
{
    char name[64], path[160], *xml = NULL, *parts[4] = {NULL};
    static const char *const fields[] = {"domain", "bus", "slot", "function"};
    virConnectPtr connection = host_connect(uri, error);
    virNodeDevicePtr device;
    int rc = -ENOENT;

    if (!connection)
        return -EHOSTUNREACH;
    snprintf(name, sizeof(name), "pci_%.4s_%.2s_%.2s_%.1s", vf->pf, vf->pf + 5, vf->pf + 8,
             vf->pf + 11);
    device = virNodeDeviceLookupByName(connection, name);
    xml = device ? virNodeDeviceGetXMLDesc(device, 0) : NULL;
    for (int i = 0; xml && i < 4; i++) {
        snprintf(path, sizeof(path), "//capability[@type='virt_functions']/address[%u]/@%s",
                 vf->number + 1, fields[i]);
        parts[i] = domxml_text(xml, path);
    }
    if (xml && parts[0] && parts[0][0] && parts[1] && parts[2] && parts[3]) {
        snprintf(address, 16, "%04lx:%02lx:%02lx.%lx", strtoul(parts[0], NULL, 0) & 0xffff,
                 strtoul(parts[1], NULL, 0) & 0xff, strtoul(parts[2], NULL, 0) & 0xff,
                 strtoul(parts[3], NULL, 0) & 0xf);
        rc = 0;
    } else {
        sentence_set(error, "its host knows no virtual function %u of %s", vf->number, vf->pf);
    }
    for (int i = 0; i < 4; i++)
        free(parts[i]);
    free(xml);
    if (device)
        virNodeDeviceFree(device);
    virConnectClose(connection);
    return rc;
}

int hca_device_xml(const struct inventory_hca *hca, const char *alias, char **xml, char *error)
{
    char pci[16], mac[64] = "";
    const char *kind = hca->mac ? "interface" : "hostdev";
    int rc = 0;

    if (hca->device_xml)
        return read_file(hca->device_xml, xml, error);
    if (hca->vf)
        rc = find_vf(hca->host->uri, hca->vf, pci, error);
    else
        snprintf(pci, sizeof(pci), "%s", hca->pci);
    if (rc)
        return rc;
    /* An Ethernet virtual function gets its MAC from libvirt; InfiniBand devices have none. */
    if (hca->mac)
        snprintf(mac, sizeof(mac), "<mac address='%s'/>", hca->mac);
    if (asprintf(xml,
                 "<%s %s managed='yes'>%s<source><address type='pci' domain='0x%.4s' bus='0x%.2s' "
                 "slot='0x%.2s' function='0x%.1s'/></source><alias name='%s'/></%s>",
                 kind, hca->mac ? "type='hostdev'" : "mode='subsystem' type='pci'", mac, pci,
                 pci + 5, pci + 8, pci + 11, alias, kind) < 0) {
        sentence_set(error, "out of memory");
        return -ENOMEM;
    }
    return 0;
}
