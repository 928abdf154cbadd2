/* The inventory: sites, hosts, fabrics, HCAs, clusters and their VMs, read from a YAML file.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef INVENTORY_H
#define INVENTORY_H

#include "log.h"

/* An interconnect. */
struct inventory_fabric {
    char *name;
    char *uuid; /* world-wide name */
};

/* A virtual function of an SR-IOV HCA. */
struct inventory_vf {
    char *pf; /* PCI address of the physical function */
    unsigned number;
};

/* A device of a host that a VM can be given. Exactly one of pci, vf, device_xml is set. */
struct inventory_hca {
    char *name;
    char *fabric;
    char *pci;               /* PCI address for passthrough, 0000:3b:00.0 */
    struct inventory_vf *vf; /* virtual function for passthrough */
    char *device_xml;        /* file with libvirt's device XML */
    char *mac;               /* of the network device that comes with it, if any */
    struct inventory_host *host;
    struct inventory_fabric *of_fabric;
};

struct inventory_host {
    char *name;
    char *uri;           /* of libvirt, from the coordinator */
    char *migration_uri; /* of libvirt, from another host */
    char *address;       /* of the underlay */
    char *image_dir;     /* a libvirt storage pool's directory, where disks live */
    struct inventory_hca *hcas;
    unsigned hcas_count;
    struct inventory_site *site;
    unsigned number; /* counts all hosts, from 0 */
};

struct inventory_site {
    char *name;
    char *overlay; /* driver of its overlay: "gre" (default) or "none" */
    struct inventory_host *hosts;
    unsigned hosts_count;
};

struct inventory_vm {
    char *name;
    char *mac;     /* of its interface in the overlay */
    char *address; /* in the overlay */
    char *hca_alias;
    char *base_image; /* path at every host */
    struct inventory_cluster *cluster;
    unsigned number; /* counts all VMs, from 0 */
};

struct inventory_cluster {
    char *name;
    struct inventory_vm *vms;
    unsigned vms_count;
};

struct inventory {
    struct inventory_fabric *fabrics;
    unsigned fabrics_count;
    struct inventory_site *sites;
    unsigned sites_count;
    struct inventory_cluster *clusters;
    unsigned clusters_count;
    unsigned hosts_count, all_vms_count; /* over all sites and clusters */
};

/* Reads and checks 'path'. On failure returns -EINVAL (or another errno) and puts
 * "FILE:LINE: what is wrong" into 'error' (SENTENCE_MAX bytes). */
int inventory_load(const char *path, struct inventory **inventory, char *error);

void inventory_destroy(struct inventory *inventory);

/* Each returns NULL if there is none of that name. Names are unique, also across kinds that can
 * stand in the same place of a command: clusters and VMs; sites and hosts. */
struct inventory_site *inventory_site(const struct inventory *inventory, const char *name);
struct inventory_host *inventory_host(const struct inventory *inventory, const char *name);
struct inventory_host *inventory_host_at(const struct inventory *inventory, unsigned number);
struct inventory_cluster *inventory_cluster(const struct inventory *inventory, const char *name);
struct inventory_vm *inventory_vm(const struct inventory *inventory, const char *name);
struct inventory_vm *inventory_vm_at(const struct inventory *inventory, unsigned number);
struct inventory_fabric *inventory_fabric(const struct inventory *inventory, const char *name);
struct inventory_hca *inventory_hca(const struct inventory_host *host, const char *name);

/* The HCA of 'host' that has the MAC or PCI address 'key', or NULL. */
struct inventory_hca *inventory_hca_by_key(const struct inventory_host *host, const char *key);

/* What tells the HCA apart in a VM's definition: its MAC or, passed through, its PCI address. NULL
 * for a virtual function without a MAC (its PCI address is the host's choice). */
const char *inventory_hca_key(const struct inventory_hca *hca);

#endif
