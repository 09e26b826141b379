// Torc kit: what the network settings come to for one node. See kit/network_os.h.
#include "kit/network_os.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static enum torc_err network_bad_address(const char *key, const char *text, struct torc_fail *why)
{
    return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                     "%s=%.60s: an address with its prefix, as %s, or auto, or off", key, text,
                     strcmp(key, "address6") == 0 ? "fd79::b/64" : "10.79.0.11/24");
}

// Reads address/prefix into `bytes`, of which there are `bits` / 8.
static enum torc_err network_read(const char *key, const char *text, uint8_t *bytes,
                                  uint8_t *prefix, struct torc_fail *why)
{
    int family = strcmp(key, "address6") == 0 ? AF_INET6 : AF_INET;
    unsigned long most = family == AF_INET6 ? 128 : 32;
    const char *slash = strchr(text, '/');
    char copy[INET6_ADDRSTRLEN];
    unsigned long read;
    char *end = NULL;

    if (slash == NULL || slash == text || (size_t)(slash - text) >= sizeof(copy)) {
        return network_bad_address(key, text, why);
    }
    (void)snprintf(copy, sizeof(copy), "%.*s", (int)(slash - text), text);
    errno = 0;
    read = strtoul(slash + 1, &end, 10);
    if (errno != 0 || end == slash + 1 || *end != '\0' || slash[1] == '-' || read == 0 ||
        read > most || inet_pton(family, copy, bytes) != 1) {
        return network_bad_address(key, text, why);
    }
    *prefix = (uint8_t)read;
    return TORC_ERR_OK;
}

static enum torc_err network_address(const char *key, const char *text, const char *made,
                                     uint8_t *bytes, uint8_t *prefix, struct torc_fail *why)
{
    if (strcmp(text, "off") == 0) {
        return TORC_ERR_OK;
    }
    return network_read(key, strcmp(text, "auto") == 0 ? made : text, bytes, prefix, why);
}

static enum torc_err network_addresses(struct torc_network *network,
                                       const struct torc_settings *settings, struct torc_fail *why)
{
    char made[2][40];
    enum torc_err err;

    if (settings->node > TORC_NETWORK_NODE_AUTO_MAX && strcmp(settings->address, "auto") == 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "node=%" PRIu64 ": address=auto has room for %d nodes; give an address",
                         settings->node, TORC_NETWORK_NODE_AUTO_MAX);
    }
    (void)snprintf(made[0], sizeof(made[0]), "10.79.0.%u/24", (unsigned)(10 + settings->node));
    (void)snprintf(made[1], sizeof(made[1]), "fd79::%x/64", (unsigned)(10 + settings->node));
    err = network_address("address", settings->address, made[0], network->ipv4,
                          &network->ipv4_prefix, why);
    if (err == TORC_ERR_OK) {
        err = network_address("address6", settings->address6, made[1], network->ipv6,
                              &network->ipv6_prefix, why);
    }
    if (err == TORC_ERR_OK && network->ipv4_prefix == 0 && network->ipv6_prefix == 0) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "address=off and address6=off: nobody could reach the node");
    }
    return err;
}

static void network_cluster(struct torc_network *network)
{
    char text[INET6_ADDRSTRLEN];

    if (network->ipv4_prefix != 0) {
        (void)inet_ntop(AF_INET, network->ipv4, text, sizeof(text)); // fits
        (void)snprintf(network->cluster, sizeof(network->cluster), "%s:%u", text,
                       network->base_port);
    } else {
        (void)inet_ntop(AF_INET6, network->ipv6, text, sizeof(text));
        (void)snprintf(network->cluster, sizeof(network->cluster), "[%s]:%u", text,
                       network->base_port);
    }
}

enum torc_err torc_network_of(struct torc_network *network, const struct torc_settings *settings,
                              struct torc_fail *why)
{
    enum torc_err err;

    *network = (struct torc_network){.base_port = (uint16_t)settings->base_port};
    err = network_addresses(network, settings, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    network_cluster(network);
    if (strcmp(settings->link, "auto") == 0) {
        (void)snprintf(network->link, sizeof(network->link), "torc%" PRIu64, settings->node);
    } else if (settings->link[0] == '\0' || strlen(settings->link) >= sizeof(network->link) ||
               strpbrk(settings->link, "/, ") != NULL) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "link=%.40s: a name of 1 to %d bytes",
                         settings->link, TORC_NETWORK_LINK_BYTES - 1);
    } else {
        (void)snprintf(network->link, sizeof(network->link), "%.15s", settings->link);
    }
    if (strcmp(settings->memif_socket, "auto") == 0) {
        (void)snprintf(network->memif, sizeof(network->memif), "%s/run/memif", settings->data);
    } else {
        (void)snprintf(network->memif, sizeof(network->memif), "%s", settings->memif_socket);
    }
    return TORC_ERR_OK;
}
