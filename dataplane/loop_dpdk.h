// Torc dataplane: the loop of one worker core: bursts in, torc_worker_turn, bursts out, sleep.
//
// What    the shell that dataplane/worker.h describes. It moves buffers and reads clocks; what a
//         packet means is the worker's business.
// Owner   the worker's thread, from torc_loop_open to torc_loop_close.
// Memory  struct torc_loop (about 30 KiB) and a scratch area for frames that came in several
//         buffers; a stock of TORC_TURN_TX_MAX empty buffers, refilled as they are used.
// Idle    for 50 us it offers the processor to others in each empty turn; then, or where others
//         take what is offered for long, it blocks on its queues and its doorbell until the
//         worker's deadline. Two kinds of port have no descriptor to block on:
//           memif  while a peer is there: after 1 ms naps of a sixteenth of the silence so far,
//                  between 100 us and 5 ms, so that a client that paused waits at most that part
//                  longer for its next answer; without a peer: a look every 50 ms.
//           nic    never sleeps.
//         With poll=busy nothing sleeps.
// memif   A client that goes away unmaps what the driver may be reading (FIELDNOTES.md, section 4).
//         dataplane/grace_os.h makes the unmapping wait for the turn's end. Its CLOSE says nothing
//         about that: a client ends the session before the live one too.
#ifndef TORC_DATAPLANE_LOOP_DPDK_H
#define TORC_DATAPLANE_LOOP_DPDK_H

#include "dataplane/port_dpdk.h"
#include "dataplane/relay_dpdk.h"
#include "dataplane/wait_os.h"
#include "dataplane/worker.h"
#include "kit/chan.h"
#include "kit/offer.h"

struct rte_mbuf;

struct torc_loop_want {
    uint32_t index; // of the worker
    uint32_t worker_count;
    const struct torc_ports *ports;
    const struct torc_relays *relays;
    void *chan;           // for `sleeping` and the page of statistics
    const int *doorbells; // of all workers
    int control_doorbell;
    int sessions_doorbell;
    bool busy; // never sleep
    const _Atomic bool *stop;
};

// A queue that this worker receives from.
struct torc_loop_queue {
    uint16_t device;
    uint16_t queue;
    uint8_t port; // index into ports
    bool naps;    // no descriptor, but a link that says whether there is anybody
};

// The clocks, told from the cycle counter between two readings: a reading costs some 50 ns in a
// virtual machine, as much as the rest of an empty turn.
struct torc_loop_clock {
    uint64_t cycles; // when the clocks were read
    uint64_t now_ns; // and what they said
    uint64_t wall_us;
    uint64_t stale_cycles; // after so many they are read again
    uint64_t ns_per_cycle; // 32 bits behind the point
};

struct torc_loop {
    struct torc_loop_want want;
    struct torc_chan_worker *page;
    struct rte_mempool *pool;
    struct torc_wait wait;
    struct torc_relay_ends relays;
    uint64_t relayed_to[4]; // bit w: something was handed to worker w in this turn
    _Atomic uint64_t phase; // odd within a turn (dataplane/grace_os.h)
    struct torc_loop_clock clock;
    uint64_t turned_ns;  // when the last turn was
    uint64_t active_ns;  // when something was last done
    uint64_t offered_ns; // when the processor was last offered to others
    struct torc_offer offer;
    bool sleepless; // a queue cannot be waited for at all
    uint32_t queue_count;
    struct torc_loop_queue queues[TORC_PORTS_MAX];
    unsigned char *scratch;
    uint32_t rx_count;
    uint32_t rx_waiting;
    uint32_t burst; // frames of a queue that a turn takes
    uint64_t rx_bytes;
    uint64_t tx_bytes; // of the last turn
    bool rows;         // most of them were rows, or other long answers
    uint32_t tx_ready;
    struct torc_frame_rx rx[TORC_TURN_RX_MAX];
    struct rte_mbuf *rx_buffers[TORC_TURN_RX_MAX];
    struct torc_frame_tx tx[TORC_TURN_TX_MAX];
    struct rte_mbuf *tx_buffers[TORC_TURN_TX_MAX];
};

enum torc_err torc_must_use torc_loop_open(struct torc_loop *loop,
                                           const struct torc_loop_want *want,
                                           struct torc_fail *why);

// Turns until *want.stop.
void torc_loop_run(struct torc_loop *loop, struct torc_worker *worker);

// CLOCK_BOOTTIME by a loop's clock, on its thread: the worker's trace_clock.
uint64_t torc_loop_clock_ns(void *loop_clock);

void torc_loop_close(struct torc_loop *loop);

#endif
