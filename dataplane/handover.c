// Torc dataplane: passing a frame on to the worker that owns it; see handover.h.
#include "dataplane/handover.h"

#include <string.h>

#define HANDOVER_ALIGN 4096u

_Static_assert(sizeof(struct torc_handover) <= HANDOVER_ALIGN, "the rings begin behind it");

static uint32_t handover_slot_bytes(uint32_t frame_bytes_max)
{
    uint32_t bytes = (uint32_t)sizeof(struct torc_handover_frame) + frame_bytes_max;

    return (bytes + 63u) & ~63u;
}

static uint64_t handover_ring_bytes(uint32_t frame_bytes_max)
{
    uint64_t bytes = torc_spsc_bytes(handover_slot_bytes(frame_bytes_max), TORC_HANDOVER_SLOTS);

    return (bytes + HANDOVER_ALIGN - 1) & ~(uint64_t)(HANDOVER_ALIGN - 1);
}

uint64_t torc_handover_bytes(uint32_t worker_count, uint32_t frame_bytes_max)
{
    return HANDOVER_ALIGN +
           (uint64_t)worker_count * worker_count * handover_ring_bytes(frame_bytes_max);
}

static void *handover_ring(struct torc_handover *handover, uint32_t from, uint32_t to)
{
    uint64_t ring = (uint64_t)from * handover->worker_count + to;

    torc_assert(from < handover->worker_count);
    torc_assert(to < handover->worker_count);
    return (unsigned char *)handover + handover->rings_offset + ring * handover->ring_bytes;
}

enum torc_err torc_handover_init(struct torc_handover **handover, void *memory,
                                 uint64_t memory_bytes, uint32_t worker_count,
                                 uint32_t frame_bytes_max, struct torc_fail *why)
{
    struct torc_handover *made = memory;
    uint64_t need_bytes = torc_handover_bytes(worker_count, frame_bytes_max);

    torc_assert((uintptr_t)memory % HANDOVER_ALIGN == 0);
    torc_assert(worker_count <= TORC_HANDOVER_WORKERS_MAX);
    if (memory_bytes < need_bytes) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "hand-over rings of %" PRIu32 " workers need %" PRIu64
                         " bytes, the memory has %" PRIu64,
                         worker_count, need_bytes, memory_bytes);
    }
    *made = (struct torc_handover){.worker_count = worker_count,
                                   .slot_bytes = handover_slot_bytes(frame_bytes_max),
                                   .ring_bytes = handover_ring_bytes(frame_bytes_max),
                                   .rings_offset = HANDOVER_ALIGN};
    for (uint32_t from = 0; from < worker_count; from++) {
        for (uint32_t to = 0; to < worker_count; to++) {
            enum torc_err err =
                from == to ? TORC_ERR_OK
                           : torc_spsc_format(handover_ring(made, from, to), made->ring_bytes,
                                              made->slot_bytes, TORC_HANDOVER_SLOTS, why);

            if (err != TORC_ERR_OK) {
                return err;
            }
        }
    }
    *handover = made;
    return TORC_ERR_OK;
}

enum torc_err torc_handover_attach(struct torc_handover *handover, struct torc_spsc_port *port,
                                   enum torc_spsc_end end, uint32_t from, uint32_t to,
                                   struct torc_fail *why)
{
    torc_assert(from != to);
    return torc_spsc_attach(port, end, handover_ring(handover, from, to), handover->ring_bytes,
                            why);
}
