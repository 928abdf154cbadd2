/* Overlays through libvirt's storage pools, which works on remote hosts too.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "domxml.h"
#include "host.h"
#include "volume.h"

static int volume_fail(char *error, const char *what)
{
    sentence_set(error, "%s: %s", what, virGetLastErrorMessage());
    return -EIO;
}

/* The active pool whose directory holds 'path'. */
static virStoragePoolPtr pool_of(virConnectPtr connection, const char *path)
{
    virStoragePoolPtr *pools = NULL, found = NULL;
    int count =
        virConnectListAllStoragePools(connection, &pools, VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE);

    for (int i = 0; i < count; i++) {
        char *xml = virStoragePoolGetXMLDesc(pools[i], 0);
        char *directory = xml ? domxml_text(xml, "/pool/target/path") : NULL;
        size_t length = directory ? strlen(directory) : 0;

        if (!found && length && !strncmp(path, directory, length) && path[length] == '/' &&
            !strchr(path + length + 1, '/'))
            found = pools[i];
        else
            virStoragePoolFree(pools[i]);
        free(directory);
        free(xml);
    }
    free(pools);
    return found;
}

static unsigned long long capacity_of(const char *uri, const char *path, char *error)
{
    virConnectPtr connection = host_connect(uri, error);
    virStoragePoolPtr pool = connection ? pool_of(connection, path) : NULL;
    virStorageVolPtr volume;
    virStorageVolInfo info = {0};

    if (pool) {
        virStoragePoolRefresh(pool, 0);
        volume = virStorageVolLookupByPath(connection, path);
        if (!volume || virStorageVolGetInfo(volume, &info) < 0)
            volume_fail(error, "size of the disk");
        if (volume)
            virStorageVolFree(volume);
        virStoragePoolFree(pool);
    } else if (connection) {
        sentence_set(error, "no storage pool of its host holds %s", path);
    }
    if (connection)
        virConnectClose(connection);
    return info.capacity;
}

static int remove_at(virConnectPtr connection, virStoragePoolPtr pool, const char *path,
                     char *error)
{
    virStorageVolPtr volume;
    int rc = 0;

    virStoragePoolRefresh(pool, 0);
    volume = virStorageVolLookupByPath(connection, path);
    if (!volume)
        return 0;
    if (virStorageVolDelete(volume, 0) < 0)
        rc = volume_fail(error, "remove the disk");
    virStorageVolFree(volume);
    return rc;
}

int volume_create(const char *uri, const char *from_uri, const char *path, const char *base_image,
                  char *error)
{
    unsigned long long capacity = capacity_of(from_uri, path, error);
    virConnectPtr connection;
    virStoragePoolPtr pool;
    virStorageVolPtr volume = NULL;
    char xml[2048];
    int rc;

    if (!capacity)
        return -EIO;
    connection = host_connect(uri, error);
    if (!connection)
        return -EHOSTUNREACH;
    pool = pool_of(connection, path);
    if (!pool) {
        sentence_set(error, "no storage pool of the destination has the directory of %s", path);
        virConnectClose(connection);
        return -ENOENT;
    }
    rc = remove_at(connection, pool, path, error);
    if (!rc) {
        /* Paths come from the inventory and from libvirt, checked to be free of markup by volume
         * names. */
        snprintf(xml, sizeof(xml),
                 "<volume><name>%s</name><capacity>%llu</capacity>"
                 "<target><format type='qcow2'/><compat>1.1</compat></target>"
                 "<backingStore><path>%s</path><format type='qcow2'/></backingStore></volume>",
                 strrchr(path, '/') + 1, capacity, base_image);
        volume = virStorageVolCreateXML(pool, xml, 0);
        if (!volume)
            rc = volume_fail(error, "make the disk's overlay");
        else
            virStorageVolFree(volume);
    }
    virStoragePoolFree(pool);
    virConnectClose(connection);
    return rc;
}

int volume_delete(const char *uri, const char *path, char *error)
{
    virConnectPtr connection = host_connect(uri, error);
    virStoragePoolPtr pool;
    int rc = 0;

    if (!connection)
        return -EHOSTUNREACH;
    pool = pool_of(connection, path);
    if (pool) {
        rc = remove_at(connection, pool, path, error);
        virStoragePoolFree(pool);
    }
    virConnectClose(connection);
    return rc;
}
