// Torc dataplane: the loop of one worker core. See dataplane/loop_dpdk.h.
#include "dataplane/loop_dpdk.h"

#include "dataplane/channel_os.h"
#include "dataplane/grace_os.h"
#include "kit/clock_os.h"

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

// Silence before sleeping: as long as a wake-up costs (FIELDNOTES.md, section 3). Shorter wins
// nothing when idle; longer takes the core from others. Where a sleep is a nap that nobody can end,
// it is worth more.
#define LOOP_SPIN_NS       (50 * TORC_NS_PER_US)
#define LOOP_SPIN_MEMIF_NS TORC_NS_PER_MS
#define LOOP_CLOCK_READS   20000u // a second: every 50 us, in which the counter errs by nanoseconds
#define LOOP_BURST         64u    // a queue's part of a turn, at most
#define LOOP_BURST_LEAST   4u
// Answers leave at the end of a turn. One that takes long for the sake of rows keeps its clients
// waiting while they could work, and then waits for them: it takes fewer frames (decision 21 has
// figures). Points are not worth it: their batches would get smaller.
#define LOOP_LONG_NS       (12 * TORC_NS_PER_US)
#define LOOP_ROWS_PART     8u // of the questions' bytes: longer answers are rows
#define LOOP_NAP_LEAST_NS  (100 * TORC_NS_PER_US)
#define LOOP_NAP_MOST_NS   (5 * TORC_NS_PER_MS)
#define LOOP_NAP_PART      16u
#define LOOP_LOOK_NS       (50 * TORC_NS_PER_MS) // for the peer of an empty memif slot
#define LOOP_OFFER_NS      (10 * TORC_NS_PER_US) // an offer that nobody takes costs some 0.3 us
#define LOOP_SCRATCH_BYTES (TORC_TURN_RX_MAX * (uint64_t)TORC_FRAME_BYTES_MAX)

static void loop_count(struct torc_loop *loop, enum torc_counter counter, uint64_t amount)
{
    torc_stats_add(&loop->page->stats.counters[counter], amount);
}

// -- Time ----------------------------------------------------------------------------------------

static void loop_clock_read(struct torc_loop_clock *clock)
{
    clock->cycles = rte_rdtsc();
    clock->now_ns = torc_clock_now_ns();
    clock->wall_us = torc_clock_wall_ns() / TORC_NS_PER_US;
}

static void loop_clock_open(struct torc_loop_clock *clock)
{
    uint64_t hz = torc_max_u64(rte_get_tsc_hz(), 1000000);

    clock->ns_per_cycle = (TORC_NS_PER_S << 32) / hz;
    clock->stale_cycles = hz / LOOP_CLOCK_READS;
    loop_clock_read(clock);
}

// Nanoseconds since the clocks were read. A counter that jumped (another processor, a paused
// machine) makes them be read again.
static uint64_t loop_clock_since_ns(struct torc_loop_clock *clock)
{
    uint64_t cycles = rte_rdtsc() - clock->cycles;

    if (cycles > clock->stale_cycles) {
        loop_clock_read(clock);
        cycles = 0;
    }
    return cycles * clock->ns_per_cycle >> 32;
}

uint64_t torc_loop_clock_ns(void *loop_clock)
{
    struct torc_loop_clock *clock = loop_clock;
    uint64_t since_ns = loop_clock_since_ns(clock); // may read the clocks anew

    return clock->now_ns + since_ns;
}

// -- Opening -------------------------------------------------------------------------------------

static enum torc_err loop_open_queues(struct torc_loop *loop, struct torc_fail *why)
{
    const struct torc_ports *ports = loop->want.ports;
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < ports->count && err == TORC_ERR_OK; i++) {
        const struct torc_port *port = &ports->ports[i];
        const struct torc_port_queue *queue;

        if (torc_port_worker(port, torc_port_queue_of(port, loop->want.index)) !=
            loop->want.index) {
            continue; // another worker's; what is for us comes by hand-over
        }
        queue = &port->queues[torc_port_queue_of(port, loop->want.index)];
        loop->queues[loop->queue_count++] = (struct torc_loop_queue){
            .device = queue->device,
            .queue = queue->queue,
            .port = (uint8_t)i,
            .naps = port->driver == TORC_PORT_MEMIF,
        };
        if (queue->fd >= 0) {
            err = torc_wait_add(&loop->wait, queue->fd, why);
        } else if (port->driver != TORC_PORT_MEMIF) {
            loop->sleepless = true;
        }
    }
    return err;
}

enum torc_err torc_loop_open(struct torc_loop *loop, const struct torc_loop_want *want,
                             struct torc_fail *why)
{
    void *scratch;
    enum torc_err err;

    torc_assert(want->index < want->worker_count);
    torc_assert(want->ports->count <= TORC_WORKER_PORTS_MAX);
    memset(loop, 0, sizeof(*loop));
    loop->want = *want;
    loop->burst = LOOP_BURST;
    loop->page = torc_chan_worker_page(want->chan, want->index);
    loop->pool = want->ports->pools[want->index];
    err = torc_wait_open(&loop->wait, want->doorbells[want->index], why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    scratch =
        mmap(NULL, LOOP_SCRATCH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (scratch == MAP_FAILED) {
        torc_wait_close(&loop->wait);
        return torc_fail(why, TORC_ERR_NO_SPACE, "map %" PRIu64 " bytes: %s", LOOP_SCRATCH_BYTES,
                         strerrordesc_np(errno));
    }
    loop->scratch = scratch;
    err = torc_relay_attach(&loop->relays, want->relays, want->index, why);
    if (err == TORC_ERR_OK) {
        err = loop_open_queues(loop, why);
    }
    if (err != TORC_ERR_OK) {
        torc_loop_close(loop);
    }
    return err;
}

void torc_loop_close(struct torc_loop *loop)
{
    torc_relay_detach(&loop->relays);
    rte_pktmbuf_free_bulk(loop->tx_buffers, loop->tx_ready);
    loop->tx_ready = 0;
    torc_wait_close(&loop->wait);
    if (loop->scratch != NULL) {
        (void)munmap(loop->scratch, LOOP_SCRATCH_BYTES);
        loop->scratch = NULL;
    }
}

// -- Receiving -----------------------------------------------------------------------------------

// A frame in several buffers, copied into one piece; beyond the longest frame there is it is cut,
// and the worker drops it for its length.
static unsigned char *loop_gather(struct torc_loop *loop, const struct rte_mbuf *buffer,
                                  uint32_t index, uint32_t *byte_count)
{
    const void *at;
    unsigned char *room = loop->scratch + (uint64_t)index * TORC_FRAME_BYTES_MAX;

    *byte_count = (uint32_t)torc_min_u64(rte_pktmbuf_pkt_len(buffer), TORC_FRAME_BYTES_MAX);
    loop_count(loop, TORC_COUNTER_RX_COPIED, 1);
    at = rte_pktmbuf_read(buffer, 0, *byte_count, room);
    if (at != room) { // the first buffer alone holds all that is kept
        memcpy(room, at, *byte_count);
    }
    return room;
}

static void loop_take_frame(struct torc_loop *loop, uint32_t index, uint8_t port)
{
    struct rte_mbuf *buffer = loop->rx_buffers[index];
    struct torc_frame_rx *frame = &loop->rx[index];
    uint64_t flags = buffer->ol_flags;

    *frame = (struct torc_frame_rx){
        .bytes = rte_pktmbuf_mtod(buffer, unsigned char *),
        .byte_count = rte_pktmbuf_data_len(buffer),
        .port = port,
        .flags = (uint8_t)(((flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_BAD
                                ? TORC_FRAME_IP_BAD
                                : 0) |
                           ((flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_BAD
                                ? TORC_FRAME_L4_BAD
                                : 0)),
    };
    if (torc_unlikely(buffer->nb_segs > 1)) {
        frame->bytes = loop_gather(loop, buffer, index, &frame->byte_count);
    }
    loop->rx_bytes += frame->byte_count;
    rte_prefetch0(frame->bytes);
}

static void loop_receive_queue(struct torc_loop *loop, const struct torc_loop_queue *queue)
{
    uint32_t room = (uint32_t)torc_min_u64(TORC_TURN_RX_MAX - loop->rx_count, loop->burst);
    uint16_t got = rte_eth_rx_burst(queue->device, queue->queue, loop->rx_buffers + loop->rx_count,
                                    (uint16_t)room);

    for (uint16_t i = 0; i < got; i++) {
        loop_take_frame(loop, loop->rx_count + i, queue->port);
    }
    loop->rx_count += got;
    if (got == room) {
        // What a longer burst would have taken does not stand in the queue. Not every driver can
        // say.
        int waiting = rte_eth_rx_queue_count(queue->device, queue->queue);
        uint32_t spared = LOOP_BURST - room;

        loop->rx_waiting += waiting > (int)spared ? (uint32_t)waiting - spared : 0;
    }
}

static void loop_receive(struct torc_loop *loop)
{
    loop->rx_count = 0;
    loop->rx_bytes = 0;
    loop->rx_waiting = 0;
    for (uint32_t i = 0; i < loop->queue_count; i++) {
        if (loop->rx_count < TORC_TURN_RX_MAX) {
            loop_receive_queue(loop, &loop->queues[i]);
        }
    }
}

// -- Sending -------------------------------------------------------------------------------------

// Takes new buffers for places [first, first + count) of the stock; all or none.
static bool loop_stock(struct torc_loop *loop, uint32_t first, uint32_t count)
{
    if (rte_pktmbuf_alloc_bulk(loop->pool, loop->tx_buffers + first, count) != 0) {
        return false;
    }
    for (uint32_t i = first; i < first + count; i++) {
        struct rte_mbuf *buffer = loop->tx_buffers[i];

        loop->tx[i] = (struct torc_frame_tx){.bytes = rte_pktmbuf_mtod(buffer, unsigned char *),
                                             .room = rte_pktmbuf_tailroom(buffer)};
    }
    return true;
}

// The first `count` of the stock are gone: others take their places, so that a turn touches no more
// of the arrays than it sends.
static void loop_restock(struct torc_loop *loop, uint32_t count)
{
    if (count == 0 || loop_stock(loop, 0, count)) {
        return;
    }
    loop->tx_ready -= count;
    memmove(loop->tx_buffers, loop->tx_buffers + count, loop->tx_ready * sizeof(struct rte_mbuf *));
    memmove(loop->tx, loop->tx + count, loop->tx_ready * sizeof(loop->tx[0]));
}

// Fills the stock after the pool was empty; false when there are too few for a turn.
static bool loop_refill(struct torc_loop *loop)
{
    uint32_t missing = TORC_TURN_TX_MAX - loop->tx_ready;

    if (missing > 0 && loop_stock(loop, loop->tx_ready, missing)) {
        loop->tx_ready = TORC_TURN_TX_MAX;
    }
    return loop->tx_ready >= TORC_TURN_TX_MIN;
}

static void loop_dress(struct rte_mbuf *buffer, const struct torc_frame_tx *frame)
{
    buffer->data_len = (uint16_t)frame->byte_count;
    buffer->pkt_len = frame->byte_count;
    if (frame->flags == 0) {
        return;
    }
    buffer->l2_len = frame->l2_bytes & 0x7fu; // a field of 7 bits
    buffer->l3_len = frame->l3_bytes;
    buffer->ol_flags = frame->l3_bytes == 20 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
    if ((frame->flags & TORC_FRAME_IP_OFFLOAD) != 0) {
        buffer->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
    }
    if ((frame->flags & TORC_FRAME_L4_OFFLOAD) != 0) {
        buffer->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM;
    }
}

static void loop_drop(struct torc_loop *loop, struct rte_mbuf **buffers, uint32_t count)
{
    rte_pktmbuf_free_bulk(buffers, count);
    loop_count(loop, TORC_COUNTER_TX_FULL, count);
}

static void loop_relay(struct torc_loop *loop, uint32_t owner, uint32_t port,
                       struct rte_mbuf **buffers, uint32_t count)
{
    struct torc_spsc_port *ring = &loop->relays.out[owner];
    uint32_t taken = (uint32_t)torc_min_u64(torc_spsc_writable(ring, count), count);

    for (uint32_t i = 0; i < taken; i++) {
        struct torc_relay_item item = {.buffer = buffers[i], .port = port};

        memcpy(torc_spsc_write_at(ring, i), &item, sizeof(item));
    }
    torc_spsc_publish(ring, taken);
    loop->relayed_to[owner / 64] |= UINT64_C(1) << owner % 64;
    loop_count(loop, TORC_COUNTER_RELAYED, taken);
    if (taken < count) {
        loop_drop(loop, buffers + taken, count - taken);
    }
}

// Sends buffers of one port through our queue of it, or hands them to whoever has one.
static void loop_send_run(struct torc_loop *loop, uint32_t index, struct rte_mbuf **buffers,
                          uint32_t count)
{
    const struct torc_port *port = &loop->want.ports->ports[index];
    uint32_t number = torc_port_queue_of(port, loop->want.index);
    const struct torc_port_queue *queue = &port->queues[number];
    uint32_t owner = torc_port_worker(port, number);
    uint16_t sent;

    if (owner != loop->want.index) {
        loop_relay(loop, owner, index, buffers, count);
        return;
    }
    sent = rte_eth_tx_burst(queue->device, queue->queue, buffers, (uint16_t)count);
    if (torc_unlikely(sent < count)) {
        loop_drop(loop, buffers + sent, count - sent);
    }
}

// Sends the first `count` of the stock, run by run of the same port.
static void loop_send(struct torc_loop *loop, uint32_t count)
{
    loop->tx_bytes = 0;
    for (uint32_t start = 0; start < count;) {
        uint8_t port = loop->tx[start].port;
        uint32_t end = start;

        for (; end < count && loop->tx[end].port == port; end++) {
            loop_dress(loop->tx_buffers[end], &loop->tx[end]);
            loop->tx_bytes += loop->tx[end].byte_count;
        }
        loop_send_run(loop, port, loop->tx_buffers + start, end - start);
        start = end;
    }
    loop_restock(loop, count);
}

static bool loop_send_relayed_from(struct torc_loop *loop, struct torc_spsc_port *ring)
{
    uint32_t count = (uint32_t)torc_min_u64(torc_spsc_readable(ring, 1), TORC_RELAY_SLOTS);

    for (uint32_t i = 0; i < count; i++) {
        struct torc_relay_item item;

        memcpy(&item, torc_spsc_read_at(ring, i), sizeof(item));
        loop_send_run(loop, item.port, &item.buffer, 1);
    }
    torc_spsc_release(ring, count);
    return count > 0;
}

// What other workers want sent through our queues.
static bool loop_send_relayed(struct torc_loop *loop)
{
    bool any = false;

    for (uint32_t from = 0; from < loop->relays.worker_count; from++) {
        if (loop->relays.in[from].ring != NULL) {
            any = loop_send_relayed_from(loop, &loop->relays.in[from]) || any;
        }
    }
    return any;
}

// No buffers are free: they wait in send queues. An empty burst makes a driver look for those that
// are done.
static void loop_reap(struct torc_loop *loop)
{
    for (uint32_t i = 0; i < loop->queue_count; i++) {
        struct rte_mbuf *none = NULL;

        (void)rte_eth_tx_burst(loop->queues[i].device, loop->queues[i].queue, &none, 0);
    }
}

// -- Waking others -------------------------------------------------------------------------------

static void loop_ring(struct torc_loop *loop, int doorbell)
{
    torc_channel_ring(doorbell);
    loop_count(loop, TORC_COUNTER_DOORBELLS, 1);
}

// Adds to those that are rung the workers that sleep and have something of ours to send.
static void loop_wake_relays(struct torc_loop *loop, struct torc_turn *turn)
{
    atomic_thread_fence(memory_order_seq_cst); // pairs with the one in loop_sleep
    for (uint32_t worker = 0; worker < loop->want.worker_count; worker++) {
        uint64_t bit = loop->relayed_to[worker / 64] & UINT64_C(1) << worker % 64;

        if (bit != 0 && torc_chan_wants_bell(torc_chan_worker_page(loop->want.chan, worker))) {
            turn->ring_workers[worker / 64] |= bit;
        }
    }
    memset(loop->relayed_to, 0, sizeof(loop->relayed_to));
}

static bool loop_any(const uint64_t words[4])
{
    return (words[0] | words[1] | words[2] | words[3]) != 0;
}

static void loop_wake(struct torc_loop *loop, struct torc_turn *turn)
{
    if (loop_any(loop->relayed_to)) {
        loop_wake_relays(loop, turn);
    }
    if (turn->ring_control) {
        loop_ring(loop, loop->want.control_doorbell);
    }
    if (turn->ring_sessions) {
        loop_ring(loop, loop->want.sessions_doorbell);
    }
    for (uint32_t word = 0; word < 4; word++) {
        for (uint64_t left = turn->ring_workers[word]; left != 0; left &= left - 1) {
            torc_channel_ring_worker(loop->want.doorbells, loop->want.chan,
                                     word * 64 + (uint32_t)__builtin_ctzll(left));
            loop_count(loop, TORC_COUNTER_DOORBELLS, 1);
        }
    }
}

// -- Sleeping ------------------------------------------------------------------------------------

// How long a sleep may last for the sake of queues that have no descriptor; 0: none yet.
static uint64_t loop_nap_ns(const struct torc_loop *loop, uint64_t now_ns)
{
    uint64_t nap_ns = UINT64_MAX;

    for (uint32_t i = 0; i < loop->queue_count; i++) {
        const struct torc_loop_queue *queue = &loop->queues[i];

        if (!queue->naps) {
            continue;
        }
        nap_ns = torc_min_u64(nap_ns, LOOP_LOOK_NS);
        if (torc_port_is_up(&loop->want.ports->ports[queue->port])) {
            uint64_t quiet_ns = now_ns - loop->active_ns;
            uint64_t part_ns = torc_min_u64(quiet_ns / LOOP_NAP_PART, LOOP_NAP_MOST_NS);

            if (quiet_ns < LOOP_SPIN_MEMIF_NS) {
                return 0;
            }
            nap_ns = torc_min_u64(nap_ns, torc_max_u64(part_ns, LOOP_NAP_LEAST_NS));
        }
    }
    return nap_ns;
}

static bool loop_relays_idle(struct torc_loop *loop)
{
    for (uint32_t from = 0; from < loop->relays.worker_count; from++) {
        if (loop->relays.in[from].ring != NULL &&
            torc_spsc_readable(&loop->relays.in[from], 1) > 0) {
            return false;
        }
    }
    return true;
}

// A new turn, or the end of one. Release: what the turn read was read before.
static void loop_phase(struct torc_loop *loop, bool turning)
{
    uint64_t phase = atomic_load_explicit(&loop->phase, memory_order_relaxed);

    atomic_store_explicit(&loop->phase, (phase | 1) + (turning ? 2 : 1), memory_order_release);
}

static void loop_sleep(struct torc_loop *loop, struct torc_worker *worker, uint64_t deadline_ns)
{
    uint64_t now_ns = torc_clock_now_ns();
    uint64_t most_ns = loop_nap_ns(loop, now_ns);

    if (deadline_ns <= now_ns || most_ns == 0) {
        return;
    }
    if (deadline_ns != UINT64_MAX) {
        most_ns = torc_min_u64(most_ns, deadline_ns - now_ns);
    }
    atomic_store_explicit(&loop->page->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); // pairs with whoever published and then reads it
    if (torc_worker_idle(worker) && loop_relays_idle(loop) &&
        !atomic_load_explicit(loop->want.stop, memory_order_relaxed)) {
        loop_count(loop, TORC_COUNTER_SLEEPS, 1);
        loop_phase(loop, false);
        torc_wait_block(&loop->wait, most_ns);
    }
    atomic_store_explicit(&loop->page->sleeping, 0, memory_order_relaxed);
}

// -- Turning -------------------------------------------------------------------------------------

// What the turn before took: it counts as busy, and says how many frames the next may take.
static void loop_pace(struct torc_loop *loop, uint64_t took_ns)
{
    loop_count(loop, TORC_COUNTER_BUSY_NS, took_ns);
    if (loop->rows && took_ns > LOOP_LONG_NS) {
        loop->burst = loop->burst / 2 > LOOP_BURST_LEAST ? loop->burst / 2 : LOOP_BURST_LEAST;
    } else if (took_ns < LOOP_LONG_NS / 3 || !loop->rows) {
        loop->burst = loop->burst * 2 < LOOP_BURST ? loop->burst * 2 : LOOP_BURST;
    }
}

static void loop_turn(struct torc_loop *loop, struct torc_worker *worker, struct torc_turn *turn)
{
    bool relayed = loop_send_relayed(loop);
    uint64_t since_ns;

    loop_receive(loop);
    since_ns = loop_clock_since_ns(&loop->clock);
    *turn =
        (struct torc_turn){.now_ns = torc_max_u64(loop->clock.now_ns + since_ns, loop->turned_ns),
                           .wall_us = loop->clock.wall_us + since_ns / TORC_NS_PER_US,
                           .rx = loop->rx,
                           .tx = loop->tx,
                           .rx_count = loop->rx_count,
                           .tx_room = loop->tx_ready,
                           .rx_waiting = loop->rx_waiting};
    if (loop->active_ns == loop->turned_ns) { // the turn before found work, and nobody slept since
        loop_pace(loop, turn->now_ns - loop->turned_ns);
    }
    torc_worker_turn(worker, turn);
    loop_send(loop, turn->tx_count);
    loop->rows = loop->tx_bytes > LOOP_ROWS_PART * loop->rx_bytes;
    rte_pktmbuf_free_bulk(loop->rx_buffers, loop->rx_count);
    loop_wake(loop, turn);
    loop->turned_ns = turn->now_ns;
    if (relayed || loop->rx_count > 0 || turn->more || turn->busy) {
        loop->active_ns = turn->now_ns;
    }
}

// Nothing to do yet: whoever else wants this processor may be the one that brings it.
static void loop_offer(struct torc_loop *loop)
{
    uint64_t before_ns = torc_loop_clock_ns(&loop->clock);
    uint64_t now_ns;

    (void)sched_yield();
    now_ns = torc_loop_clock_ns(&loop->clock);
    torc_offer_made(&loop->offer, now_ns, now_ns - torc_min_u64(before_ns, now_ns));
}

// Between two turns. Who waits for the disk offers the processor to others: the threads that bring
// the answer may need this very one, and would else get it at the next tick, which is forty syncs.
// Who gets nothing but bad packets would never sleep, and so keep it from those that it serves.
static void loop_rest(struct torc_loop *loop, struct torc_worker *worker,
                      const struct torc_turn *turn)
{
    if (turn->futile && !loop->want.busy && loop->turned_ns - loop->offered_ns >= LOOP_OFFER_NS) {
        loop->offered_ns = loop->turned_ns;
        (void)sched_yield();
    }
    if (loop->active_ns == loop->turned_ns) {
        return;
    }
    if (turn->soon) {
        (void)sched_yield();
    } else if (loop->want.busy || loop->sleepless) {
        return;
    } else if (loop->turned_ns - loop->active_ns >= LOOP_SPIN_NS ||
               !torc_offer_may(&loop->offer, loop->turned_ns)) {
        loop_sleep(loop, worker, turn->deadline_ns);
    } else if (loop_nap_ns(loop, loop->turned_ns) != 0) {
        loop_offer(loop);
    }
}

void torc_loop_run(struct torc_loop *loop, struct torc_worker *worker)
{
    torc_grace_watch(loop->want.index, &loop->phase);
    loop_clock_open(&loop->clock);
    loop->active_ns = loop->clock.now_ns;
    loop->turned_ns = loop->clock.now_ns;
    while (!atomic_load_explicit(loop->want.stop, memory_order_relaxed)) {
        struct torc_turn turn;

        loop_phase(loop, true);
        if (!loop_refill(loop)) {
            loop_reap(loop);
            continue;
        }
        loop_turn(loop, worker, &turn);
        loop_rest(loop, worker, &turn);
    }
    loop_phase(loop, false);
    torc_grace_forget(loop->want.index);
}
