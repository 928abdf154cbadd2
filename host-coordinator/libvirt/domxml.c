/* Reads libvirt's domain XML with XPath. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>

#include "domxml.h"

/* A document and what an XPath expression found in it. */
struct query {
    xmlDocPtr document;
    xmlXPathContextPtr context;
    xmlXPathObjectPtr found;
};

static void query_close(struct query *query)
{
    xmlXPathFreeObject(query->found);
    xmlXPathFreeContext(query->context);
    xmlFreeDoc(query->document);
}

/* Opens 'xml'; a failure shows as a NULL context. */
static struct query query_open(const char *xml)
{
    struct query query = {0};

    query.document = xmlReadMemory(xml, (int)strlen(xml), "domain.xml", NULL,
                                   XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (query.document)
        query.context = xmlXPathNewContext(query.document);
    return query;
}

/* The nodes at 'xpath', below 'node' if that is given; valid until the next call. */
static xmlNodeSetPtr query_nodes(struct query *query, xmlNodePtr node, const char *xpath)
{
    static xmlNodeSet none;

    if (!query->context)
        return &none;
    xmlXPathFreeObject(query->found);
    query->context->node = node ? node : xmlDocGetRootElement(query->document);
    query->found = xmlXPathEvalExpression((const xmlChar *)xpath, query->context);
    return query->found && query->found->nodesetval ? query->found->nodesetval : &none;
}

/* The text of an attribute 'name' of 'node' in 'text'; "" if there is none. */
static void attribute(xmlNodePtr node, const char *name, char *text, size_t size)
{
    xmlChar *value = xmlGetProp(node, (const xmlChar *)name);

    snprintf(text, size, "%s", value ? (char *)value : "");
    xmlFree(value);
}

static xmlNodePtr child(xmlNodePtr node, const char *name)
{
    for (xmlNodePtr at = node ? node->children : NULL; at; at = at->next)
        if (at->type == XML_ELEMENT_NODE && !strcmp((const char *)at->name, name))
            return at;
    return NULL;
}

char *domxml_text(const char *xml, const char *xpath)
{
    struct query query = query_open(xml);
    xmlNodeSetPtr nodes = query_nodes(&query, NULL, xpath);
    xmlChar *content = nodes->nodeNr ? xmlNodeGetContent(nodes->nodeTab[0]) : NULL;
    char *text = query.context ? strdup(content ? (char *)content : "") : NULL;

    xmlFree(content);
    query_close(&query);
    return text;
}

/* MAC or PCI address of a device element. */
static void device_key(xmlNodePtr device, char *key, size_t size)
{
    xmlNodePtr mac = child(device, "mac"), address = child(child(device, "source"), "address");
    char domain[16], bus[16], slot[16], function[16];

    key[0] = '\0';
    if (mac) {
        attribute(mac, "address", key, size);
    } else if (address) {
        attribute(address, "domain", domain, sizeof(domain));
        attribute(address, "bus", bus, sizeof(bus));
        attribute(address, "slot", slot, sizeof(slot));
        attribute(address, "function", function, sizeof(function));
        snprintf(key, size, "%04lx:%02lx:%02lx.%lx", strtoul(domain, NULL, 0),
                 strtoul(bus, NULL, 0), strtoul(slot, NULL, 0), strtoul(function, NULL, 0));
    }
}

static int has_alias(xmlNodePtr device, const char *alias)
{
    xmlNodePtr node = child(device, "alias");
    char name[128];

    if (!node)
        return 0;
    attribute(node, "name", name, sizeof(name));
    return !strcmp(name, alias);
}

int domxml_device(const char *xml, const char *alias, char *key, size_t size)
{
    struct query query = query_open(xml);
    xmlNodeSetPtr nodes = query_nodes(&query, NULL, "/domain/devices/*");
    int found = 0;

    for (int i = 0; i < nodes->nodeNr && !found; i++)
        if (has_alias(nodes->nodeTab[i], alias)) {
            device_key(nodes->nodeTab[i], key, size);
            found = 1;
        }
    query_close(&query);
    return found;
}

void domxml_keys(const char *xml, void (*each)(void *ctx, const char *key), void *ctx)
{
    struct query query = query_open(xml);
    xmlNodeSetPtr nodes =
        query_nodes(&query, NULL, "/domain/devices/interface|/domain/devices/hostdev");
    char key[64];

    for (int i = 0; i < nodes->nodeNr; i++) {
        device_key(nodes->nodeTab[i], key, sizeof(key));
        if (key[0])
            each(ctx, key);
    }
    query_close(&query);
}

int domxml_disks(const char *xml, char *targets, size_t targets_size, char *path, size_t path_size,
                 char *error)
{
    struct query query = query_open(xml);
    xmlNodeSetPtr nodes = query_nodes(&query, NULL,
                                      "/domain/devices/disk[not(@device) or @device='disk']"
                                      "[not(readonly)][not(shareable)]");
    int rc = 0;

    targets[0] = path[0] = '\0';
    for (int i = 0; i < nodes->nodeNr && !rc; i++) {
        xmlNodePtr disk = nodes->nodeTab[i];
        char type[16], format[16] = "", target[16] = "";

        attribute(disk, "type", type, sizeof(type));
        if (child(disk, "target"))
            attribute(child(disk, "target"), "dev", target, sizeof(target));
        if (child(disk, "driver"))
            attribute(child(disk, "driver"), "type", format, sizeof(format));
        if (strcmp(type, "file") || strcmp(format, "qcow2")) {
            sentence_set(error, "its disk %s is no qcow2 file and cannot be copied incrementally",
                         target);
            rc = -EINVAL;
        } else if (i > 0) {
            sentence_set(error, "it has more than one disk; moving several is not supported yet");
            rc = -EINVAL;
        } else {
            snprintf(targets, targets_size, "%s", target);
            attribute(child(disk, "source"), "file", path, path_size);
        }
    }
    query_close(&query);
    return rc;
}

int domxml_immovable(const char *xml, const char *alias, char *error)
{
    struct query query = query_open(xml);
    xmlNodeSetPtr nodes =
        query_nodes(&query, NULL,
                    "/domain/devices/hostdev|/domain/devices/interface[@type='hostdev']"
                    "|/domain/devices/redirdev");
    char key[64], type[16];
    int rc = 0;

    for (int i = 0; i < nodes->nodeNr && !rc; i++) {
        xmlNodePtr device = nodes->nodeTab[i];

        if (has_alias(device, alias))
            continue;
        attribute(device, "type", type, sizeof(type));
        device_key(device, key, sizeof(key));
        sentence_set(
            error,
            "it has a passed-through device %s%s%s that is not its HCA (a GPU, for example), "
            "which cannot move",
            type, key[0] ? " " : "", key);
        rc = -EINVAL;
    }
    if (!rc &&
        query_nodes(&query, NULL, "/domain/numatune/memory[@mode='strict'][@nodeset]")->nodeNr) {
        sentence_set(error, "its memory is pinned to NUMA nodes of its host (numatune strict)");
        rc = -EINVAL;
    }
    query_close(&query);
    return rc;
}

char *domxml_cpu(const char *xml)
{
    struct query query = query_open(xml);
    xmlNodeSetPtr nodes = query_nodes(&query, NULL, "/domain/cpu");
    xmlBufferPtr buffer = nodes->nodeNr ? xmlBufferCreate() : NULL;
    char *text = NULL;

    if (buffer && xmlNodeDump(buffer, query.document, nodes->nodeTab[0], 0, 0) > 0)
        text = strdup((const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    query_close(&query);
    return text;
}
