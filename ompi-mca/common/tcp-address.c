/*
 * Which of the machine's addresses the lifeline or a tcp fabric uses.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tcp.h"

socklen_t ninja_tcp_address_length(const union ninja_tcp_address *address)
{
    return address->generic.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

/* The raw bytes of an address, and how many. */
static const unsigned char *address_bytes(const struct sockaddr *address, size_t *size)
{
    if (address->sa_family == AF_INET6) {
        *size = 16;
        return ((const struct sockaddr_in6 *)address)->sin6_addr.s6_addr;
    }
    *size = 4;
    return (const unsigned char *)&((const struct sockaddr_in *)address)->sin_addr;
}

/* Reads "ADDRESS" or "ADDRESS/BITS". Returns false if `text` is neither. */
static bool parse_network(const char *text, union ninja_tcp_address *network, unsigned *bits)
{
    char copy[INET6_ADDRSTRLEN + 8];
    char *slash, *rest;

    if (strlen(text) >= sizeof(copy))
        return false;
    strcpy(copy, text);
    memset(network, 0, sizeof(*network));
    slash = strchr(copy, '/');
    if (slash != NULL)
        *slash = '\0';
    if (inet_pton(AF_INET, copy, &network->v4.sin_addr) == 1) {
        network->v4.sin_family = AF_INET;
        *bits = 32;
    } else if (inet_pton(AF_INET6, copy, &network->v6.sin6_addr) == 1) {
        network->v6.sin6_family = AF_INET6;
        *bits = 128;
    } else {
        return false;
    }
    if (slash != NULL) {
        unsigned long value = strtoul(slash + 1, &rest, 10);

        if (slash[1] == '\0' || *rest != '\0' || value > *bits)
            return false;
        *bits = (unsigned)value;
    }
    return true;
}

static bool in_network(const struct sockaddr *address, const union ninja_tcp_address *network,
                       unsigned bits)
{
    size_t size, network_size;
    const unsigned char *a = address_bytes(address, &size);
    const unsigned char *n = address_bytes(&network->generic, &network_size);

    if (address->sa_family != network->generic.sa_family)
        return false;
    for (unsigned i = 0; i < bits; i++)
        if (((a[i / 8] ^ n[i / 8]) >> (7 - i % 8)) & 1)
            return false;
    return true;
}

/* The interface of the IPv4 default route, or "". */
static void default_interface(char name[IF_NAMESIZE])
{
    char line[256], interface[IF_NAMESIZE];
    unsigned long destination, mask;
    FILE *file = fopen("/proc/net/route", "re");

    name[0] = '\0';
    if (file == NULL)
        return;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "%15s %lx %*s %*s %*s %*s %*s %lx", interface, &destination, &mask) == 3 &&
            destination == 0 && mask == 0) {
            snprintf(name, IF_NAMESIZE, "%s", interface);
            break;
        }
    }
    fclose(file);
}

static bool is_link_local(const struct sockaddr *address)
{
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

/* How well `entry` answers an empty `what`: the higher, the better; 0: not at all. */
static int default_score(const struct ifaddrs *entry, const char *route)
{
    int score = 1;

    if (is_link_local(entry->ifa_addr))
        return 0;
    if (!(entry->ifa_flags & IFF_LOOPBACK))
        score += 2;
    if (strcmp(entry->ifa_name, route) == 0)
        score += 8;
    if (entry->ifa_addr->sa_family == AF_INET)
        score += 1;
    return score;
}

int ninja_tcp_choose_address(const char *what, union ninja_tcp_address *address, char *why,
                             size_t why_size)
{
    struct ifaddrs *all, *best = NULL;
    union ninja_tcp_address network;
    char route[IF_NAMESIZE];
    unsigned bits = 0;
    int best_score = 0;
    bool automatic = what == NULL || what[0] == '\0';
    bool by_network = !automatic && parse_network(what, &network, &bits);

    if (getifaddrs(&all) != 0) {
        snprintf(why, why_size, "the network interfaces cannot be listed: %s", strerror(errno));
        return -ENODEV;
    }
    default_interface(route);
    for (struct ifaddrs *entry = all; entry != NULL; entry = entry->ifa_next) {
        int score;

        if (entry->ifa_addr == NULL || !(entry->ifa_flags & IFF_UP) ||
            (entry->ifa_addr->sa_family != AF_INET && entry->ifa_addr->sa_family != AF_INET6))
            continue;
        if (automatic)
            score = default_score(entry, route);
        else if (by_network)
            score = in_network(entry->ifa_addr, &network, bits);
        else
            score = strcmp(entry->ifa_name, what) != 0 || is_link_local(entry->ifa_addr)
                        ? 0
                        : 1 + (entry->ifa_addr->sa_family == AF_INET);
        if (score > best_score) {
            best = entry;
            best_score = score;
        }
    }
    if (best != NULL) {
        memset(address, 0, sizeof(*address));
        memcpy(address, best->ifa_addr,
               best->ifa_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                     : sizeof(struct sockaddr_in));
    } else if (automatic) {
        snprintf(why, why_size, "no network interface with an IP address is up");
    } else {
        snprintf(why, why_size,
                 "no interface that is up matches '%s' (give an interface name, an address or a "
                 "network)",
                 what);
    }
    freeifaddrs(all);
    return best != NULL ? 0 : -ENODEV;
}
