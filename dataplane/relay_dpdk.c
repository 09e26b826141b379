// Torc dataplane: sending through a queue that another worker owns. See dataplane/relay_dpdk.h.
#include "dataplane/relay_dpdk.h"

#include <rte_mbuf.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// Whether worker `from` has no queue on some port and sends through worker `to`'s.
static bool relay_needed(const struct torc_ports *ports, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < ports->count; i++) {
        const struct torc_port *port = &ports->ports[i];

        if (from != to && torc_port_worker(port, torc_port_queue_of(port, from)) == to) {
            return true;
        }
    }
    return false;
}

static void *relay_ring(const struct torc_relays *relays, uint32_t from, uint32_t to)
{
    return relays->memory + ((uint64_t)from * relays->worker_count + to) * relays->ring_bytes;
}

static enum torc_err relay_format(const struct torc_relays *relays, const struct torc_ports *ports,
                                  struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t from = 0; from < relays->worker_count; from++) {
        for (uint32_t to = 0; to < relays->worker_count && err == TORC_ERR_OK; to++) {
            if (relay_needed(ports, from, to)) {
                err = torc_spsc_format(relay_ring(relays, from, to), relays->ring_bytes,
                                       sizeof(struct torc_relay_item), TORC_RELAY_SLOTS, why);
            }
        }
    }
    return err;
}

enum torc_err torc_relays_open(struct torc_relays *relays, const struct torc_ports *ports,
                               uint32_t worker_count, struct torc_fail *why)
{
    uint64_t ring_bytes = torc_spsc_bytes(sizeof(struct torc_relay_item), TORC_RELAY_SLOTS);
    uint32_t needed = 0;
    void *memory;
    enum torc_err err;

    *relays = (struct torc_relays){.worker_count = worker_count};
    for (uint32_t pair = 0; pair < worker_count * worker_count; pair++) {
        needed += relay_needed(ports, pair / worker_count, pair % worker_count) ? 1 : 0;
    }
    if (needed == 0) {
        return TORC_ERR_OK;
    }
    relays->ring_bytes =
        (ring_bytes + TORC_SPSC_ALIGN_BYTES - 1) / TORC_SPSC_ALIGN_BYTES * TORC_SPSC_ALIGN_BYTES;
    relays->memory_bytes = relays->ring_bytes * worker_count * worker_count;
    memory = mmap(NULL, relays->memory_bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "map %" PRIu64 " bytes of relays: %s",
                         relays->memory_bytes, strerrordesc_np(errno));
    }
    relays->memory = memory;
    err = relay_format(relays, ports, why);
    if (err != TORC_ERR_OK) {
        torc_relays_close(relays);
    }
    return err;
}

void torc_relays_close(struct torc_relays *relays)
{
    if (relays->memory != NULL) {
        (void)munmap(relays->memory, relays->memory_bytes);
        relays->memory = NULL;
    }
}

// A ring that was formatted; zeros are one that nobody needs.
static bool relay_is_there(const void *ring)
{
    return ((const struct torc_spsc *)ring)->magic == TORC_SPSC_MAGIC;
}

enum torc_err torc_relay_attach(struct torc_relay_ends *ends, const struct torc_relays *relays,
                                uint32_t worker, struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    *ends = (struct torc_relay_ends){0};
    if (relays->memory == NULL) {
        return TORC_ERR_OK;
    }
    ends->in = calloc(2 * (size_t)relays->worker_count, sizeof(ends->in[0]));
    if (ends->in == NULL) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "relays of worker %" PRIu32, worker);
    }
    ends->out = ends->in + relays->worker_count;
    ends->worker_count = relays->worker_count;
    for (uint32_t other = 0; other < relays->worker_count && err == TORC_ERR_OK; other++) {
        void *to_us = relay_ring(relays, other, worker);
        void *from_us = relay_ring(relays, worker, other);

        if (relay_is_there(to_us)) {
            err = torc_spsc_attach(&ends->in[other], TORC_SPSC_CONSUMER, to_us, relays->ring_bytes,
                                   why);
        }
        if (err == TORC_ERR_OK && relay_is_there(from_us)) {
            err = torc_spsc_attach(&ends->out[other], TORC_SPSC_PRODUCER, from_us,
                                   relays->ring_bytes, why);
        }
    }
    if (err != TORC_ERR_OK) {
        torc_relay_detach(ends);
    }
    return err;
}

static void relay_drop(struct torc_spsc_port *ring)
{
    uint32_t count = torc_spsc_readable(ring, 1);

    for (uint32_t i = 0; i < count; i++) {
        struct torc_relay_item item;

        memcpy(&item, torc_spsc_read_at(ring, i), sizeof(item));
        rte_pktmbuf_free(item.buffer);
    }
    torc_spsc_release(ring, count);
}

void torc_relay_detach(struct torc_relay_ends *ends)
{
    for (uint32_t other = 0; other < ends->worker_count; other++) {
        if (ends->in[other].ring != NULL) {
            relay_drop(&ends->in[other]);
        }
    }
    free(ends->in);
    *ends = (struct torc_relay_ends){0};
}
