// Torc dataplane: passing a frame on to the worker that owns it.
//
// What    one ring (kit/spsc.h) for each ordered pair of workers, of slots that hold a whole frame,
//         in the process's own memory. On ports that cannot steer by UDP port this is the normal
//         way of a packet (DESIGN.md, section 3). And what each worker's log was last stamped by,
//         for the others (kit/wall.h).
// Owner   ring (from, to): worker `from` produces, worker `to` consumes.
// Memory  torc_handover_bytes() of the caller's; a full ring drops the frame, counted.
#ifndef TORC_DATAPLANE_HANDOVER_H
#define TORC_DATAPLANE_HANDOVER_H

#include "kit/spsc.h"

#define TORC_HANDOVER_SLOTS 128u

#define TORC_HANDOVER_WORKERS_MAX 256u

struct torc_handover {
    // Microseconds; written by the worker when it has recovered, 0 before.
    _Atomic uint64_t stamped_us[TORC_HANDOVER_WORKERS_MAX];
    uint32_t worker_count;
    uint32_t slot_bytes;
    uint64_t ring_bytes;   // from one ring to the next
    uint64_t rings_offset; // of ring (0, 0)
};

// What a slot begins with; the frame follows.
struct torc_handover_frame {
    uint32_t byte_count;
    uint8_t port;
    uint8_t flags;
    uint16_t zero;
    uint64_t arrived_ns;
    unsigned char bytes[];
};

// frame_bytes_max: the largest port's mtu + 18.
uint64_t torc_handover_bytes(uint32_t worker_count, uint32_t frame_bytes_max);

// Formats all rings in memory aligned to 4096, before any worker starts.
enum torc_err torc_must_use torc_handover_init(struct torc_handover **handover, void *memory,
                                               uint64_t memory_bytes, uint32_t worker_count,
                                               uint32_t frame_bytes_max, struct torc_fail *why);

// Opens one end of the ring from worker `from` to worker `to`.
enum torc_err torc_must_use torc_handover_attach(struct torc_handover *handover,
                                                 struct torc_spsc_port *port,
                                                 enum torc_spsc_end end, uint32_t from, uint32_t to,
                                                 struct torc_fail *why);

#endif
