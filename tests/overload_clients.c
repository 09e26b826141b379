// Torc tests: a worker under more load than it can do, from clients as they are; see
// overload_clients.h.
#include "tests/overload_clients.h"

#include "dataplane/admit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIRE_NS     5000u // each way
#define STEP_NS     5000u // clients have a turn so often, while the worker has its own
#define IDLE_NS     2000u // and so often the worker, when nothing comes
#define POOL_BYTES  (UINT64_C(32) << 20)
#define READY_STEPS 100000u
#define SETTLE_NS   (20 * OVERLOAD_MS_NS)
#define DRAIN_NS    (1000 * OVERLOAD_MS_NS)
#define LONG_US     UINT64_C(20000000) // of calls that shall not meet it
#define KIND_BITS   3u                 // of a call's number
#define GETS_CALLS  16u
// Calls that end in their engine, unsent, behind those that are always outstanding; their number
// has this in the place of a kind.
#define VAIN    KINDS
#define VAIN_US 2000u

struct overload_clients overload_clients;

static uint64_t now_ns(void)
{
    return overload.rig->now_ns + overload_clients.net.ahead_ns;
}

// ---- Calls

static enum torc_err begin(struct torc_engine *engine, enum overload_kind kind, uint64_t timeout_us)
{
    static const uint8_t value[OVERLOAD_PUT_LARGE] = {3};
    uint64_t user_data = now_ns() << KIND_BITS | (timeout_us == VAIN_US ? VAIN : kind);
    uint64_t key = overload_draw_key(kind);
    struct torc_read_options read = {.timeout_us = timeout_us};
    struct torc_engine_write write = {.key = key,
                                      .data = value,
                                      .bytes =
                                          kind == PUT ? OVERLOAD_VALUE_BYTES : OVERLOAD_PUT_LARGE,
                                      .timeout_us = timeout_us,
                                      .user_data = user_data};
    struct torc_engine_range range = {
        .lo = key,
        .hi = OVERLOAD_RANGE_END,
        .user_data = user_data,
        .options = {.limit = OVERLOAD_RANGE_KEYS, .timeout_us = timeout_us}};

    switch (kind) {
    case GET:
    case GETS:
    case PULL: return torc_engine_get(engine, key, &read, user_data, NULL);
    case PUT:
    case PUT_LARGE: return torc_engine_write(engine, &write, NULL);
    case RANGE: return torc_engine_range(engine, &range, NULL);
    case KINDS: break;
    }
    torc_unreachable("not a kind");
}

// Under twice the load clients have twice the work, and here it lies in the worker's caches: so
// they have it also when it is measured what the worker can do.
static void begin_in_vain(uint32_t client)
{
    struct torc_engine *engine = overload_clients.net.clients[client];

    if (overload_clients.outstanding >= OVERLOAD_CLIENTS_DEEP &&
        begin(engine, GET, VAIN_US) == TORC_ERR_OK) {
        overload_clients.vain[client]++;
    }
}

// What comes at once; returns how many calls. Less than all of them had room: false in *taken.
static uint32_t come(const struct overload_mix *mix, struct torc_engine *engine, bool *taken)
{
    enum overload_kind kind = overload_draw_kind(mix);
    uint32_t count = kind == GETS ? GETS_CALLS : 1;
    uint64_t timeout_us =
        overload_clients.outstanding > 0 ? LONG_US : overload_clients.config.timeout_us;

    for (uint32_t i = 0; i < count; i++) {
        enum torc_err err = begin(engine, kind, timeout_us);

        torc_assert(err == TORC_ERR_OK || err == TORC_ERR_LIMIT);
        overload_clients.counts.calls[kind]++;
        overload_clients.counts.no_room += err != TORC_ERR_OK ? 1 : 0;
        *taken = err == TORC_ERR_OK;
    }
    return count;
}

// All that comes up to now, with gaps of twice the average at most; or what is always outstanding.
static void arrivals(const struct overload_mix *mix)
{
    struct torc_net *net = &overload_clients.net;
    bool taken = true;

    for (uint32_t i = 0; i < net->client_count && overload_clients.outstanding > 0; i++) {
        taken = true;
        while (taken && torc_engine_pending(net->clients[i]) <
                            overload_clients.outstanding + overload_clients.vain[i]) {
            uint32_t count = come(mix, net->clients[i], &taken);

            for (uint32_t j = 0; j < count; j++) {
                begin_in_vain(i);
            }
        }
    }
    while (overload_clients.every_ps > 0 && overload_clients.next_ns <= now_ns()) {
        uint32_t client = (uint32_t)torc_rng_below(&overload.rng, net->client_count);
        uint64_t gap_ps = come(mix, net->clients[client], &taken) * overload_clients.every_ps;

        overload_clients.rest_ps += torc_rng_below(&overload.rng, 2 * gap_ps + 1);
        overload_clients.next_ns += overload_clients.rest_ps / 1000;
        overload_clients.rest_ps %= 1000;
    }
}

static void ended(uint32_t client, const struct torc_completion *completion)
{
    struct overload_clients_counts *counts = &overload_clients.counts;
    uint64_t took_ns = now_ns() - (completion->user_data >> KIND_BITS);
    uint64_t kind = completion->user_data & ((1u << KIND_BITS) - 1);

    if (kind == VAIN) {
        torc_assert(overload_clients.vain[client] > 0);
        overload_clients.vain[client]--;
        return;
    }
    torc_assert(kind < KINDS);
    if (completion->status == TORC_ERR_OK || completion->status == TORC_ERR_NOT_FOUND) {
        counts->done[kind]++;
        if (counts->done[kind] % 8 == 0) {
            overload_sample(&overload_clients.called, took_ns);
        }
    } else if (completion->status == TORC_ERR_DEADLINE || completion->status == TORC_ERR_BUSY ||
               completion->status == TORC_ERR_IN_DOUBT) {
        counts->ended[completion->status == TORC_ERR_DEADLINE ? 0 : 1]++;
    } else {
        counts->failed++;
    }
}

static void poll_calls(void)
{
    struct torc_completion list[64];

    for (uint32_t i = 0; i < overload_clients.net.client_count; i++) {
        uint32_t count;

        while ((count = torc_engine_poll(overload_clients.net.clients[i], list, 64)) > 0) {
            for (uint32_t at = 0; at < count; at++) {
                ended(i, &list[at]);
            }
        }
    }
}

// ---- Packets

static bool is_data(const uint8_t *payload, uint32_t bytes)
{
    return bytes >= TORC_DATA_BYTES_MIN && payload[0] == TORC_WIRE_MAGIC &&
           (payload[1] == torc_wire_type_byte(TORC_TYPE_DATA) ||
            payload[1] == torc_wire_type_byte(TORC_TYPE_CLEAR));
}

// NOLINTNEXTLINE(readability-non-const-parameter): the network's hook may change them
static bool note_sent(struct torc_net *net, struct torc_net_packet *packet, uint8_t *bytes)
{
    struct torc_le64 seq;

    (void)net;
    if (packet->to_node && is_data(bytes, packet->byte_count)) {
        uint64_t number;

        memcpy(&seq, bytes + offsetof(struct torc_data_wire, seq), sizeof(seq));
        number = torc_get_le64(seq);
        overload_clients.sent[packet->client][number % OVERLOAD_CLIENTS_SENT] =
            (struct overload_clients_sent){.seq = number, .at_ns = now_ns()};
    }
    return true;
}

static void refused(uint32_t client, uint64_t seq)
{
    const struct overload_clients_sent *sent =
        &overload_clients.sent[client][seq % OVERLOAD_CLIENTS_SENT];

    overload_clients.counts.refused++;
    if (sent->seq == seq) {
        overload_sample(&overload_clients.refused, now_ns() - sent->at_ns);
    }
}

static void note_opened(struct torc_net *net, const struct torc_net_packet *packet)
{
    struct torc_data data;
    struct torc_reply reply;
    uint32_t at = 0;
    bool done = false;

    (void)net;
    if (packet->to_node || !is_data(packet->bytes, packet->byte_count) ||
        torc_data_decode(&data, packet->bytes, packet->byte_count) != TORC_DROP_NONE) {
        return;
    }
    while (torc_reply_next(packet->bytes + TORC_DATA_HEAD_BYTES,
                           packet->byte_count - TORC_DATA_OVERHEAD, &at, &reply)) {
        if (reply.opcode == TORC_OPCODE_SHED) {
            refused(packet->client, reply.info);
        } else if (reply.opcode == TORC_OPCODE_UNREAD) {
            struct torc_unread unread;

            torc_assert(torc_unread_decode(&reply, &unread));
            for (; unread.bitmap != 0; unread.bitmap &= unread.bitmap - 1) {
                refused(packet->client, reply.info + (uint32_t)__builtin_ctzll(unread.bitmap));
            }
        } else {
            done = done || (reply.opcode & TORC_REPLY_BIT) != 0;
        }
    }
    if (done) {
        overload_clients.counts.packets++;
        overload_sample(&overload_clients.served,
                        (uint64_t)((uint32_t)(now_ns() / 1000) - data.clock_us) * 1000);
    }
}

// ---- Time

static void keep_admitting(void)
{
    struct torc_admit *admit = torc_rig_admit(overload.rig, 0);

    admit->standing_ns = 0;
    admit->shedding = false;
}

// What the worker's last turn took goes by for the clients, and then it has its next one.
static void turn(const struct overload_mix *mix)
{
    struct torc_net *net = &overload_clients.net;
    uint64_t took_ns = overload_clients.turn_ns;
    uint64_t spent_ns = overload.rig->spent_ns;
    uint32_t found;

    if (overload_clients.admits_all) {
        keep_admitting();
    }
    for (net->ahead_ns = 0; net->ahead_ns < took_ns;) {
        net->ahead_ns = torc_min_u64(net->ahead_ns + STEP_NS, took_ns);
        arrivals(mix);
        torc_net_clients_turn(net);
        poll_calls();
    }
    net->ahead_ns = 0;
    found = overload.rig->in_count;
    torc_rig_step(overload.rig, took_ns);
    spent_ns = overload.rig->spent_ns - spent_ns;
    overload_clients.turn_ns = torc_max_u64(spent_ns, found == 0 ? IDLE_NS : 1);
    net->ahead_ns = spent_ns;
    torc_net_node_sends(net);
    net->ahead_ns = 0;
    overload_clients.counts.turns++;
    overload_clients.counts.idle_ns +=
        found == 0 && spent_ns < IDLE_NS ? overload_clients.turn_ns : 0;
}

static uint64_t run(const struct overload_mix *mix, uint64_t duration_ns)
{
    uint64_t began_ns = overload.rig->now_ns;

    overload_clients.next_ns = began_ns;
    while (overload.rig->now_ns - began_ns < duration_ns) {
        turn(mix);
    }
    return overload.rig->now_ns - began_ns;
}

static uint64_t sendings(void)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < overload_clients.net.client_count; i++) {
        struct torc_counters counters;

        torc_engine_counters(overload_clients.net.clients[i], &counters);
        sum += counters.ops_sent;
    }
    return sum;
}

static uint32_t pending(void)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < overload_clients.net.client_count; i++) {
        sum += torc_engine_pending(overload_clients.net.clients[i]);
    }
    return sum;
}

// Nothing comes any more, and all that was begun ends.
static void drain(const struct overload_mix *mix)
{
    uint64_t until_ns = overload.rig->now_ns + DRAIN_NS;

    overload_clients.outstanding = 0;
    overload_clients.every_ps = 0;
    overload_clients.admits_all = true;
    while (pending() > 0) {
        torc_assert(overload.rig->now_ns < until_ns);
        turn(mix);
    }
    (void)run(mix, OVERLOAD_MS_NS);
}

// ---- Figures

static double part(uint64_t of, uint64_t all)
{
    return all == 0 ? 0 : (double)of / (double)all;
}

static double least_of_kinds(uint64_t all, uint64_t done)
{
    const struct overload_clients_counts *counts = &overload_clients.counts;
    double least = 1;

    for (uint32_t kind = 0; kind < KINDS; kind++) {
        double served = part(counts->done[kind], counts->calls[kind]) / part(done, all);

        least = counts->calls[kind] > 0 && served < least ? served : least;
    }
    return least;
}

// By what a call of each kind costs.
static double work(void)
{
    double sum = 0;

    for (uint32_t kind = 0; kind < KINDS; kind++) {
        sum += (double)overload_clients.counts.done[kind] * overload_clients.cost_ns[kind];
    }
    return sum;
}

// What a measurement saw.
struct overload_span {
    uint64_t gone_ns;
    uint64_t calls;
    uint64_t done;
    uint64_t sendings;
    uint64_t sent; // packets
    uint64_t lost;
};

static struct overload_span span_of(const struct overload_mix *mix)
{
    const struct overload_clients_counts *counts = &overload_clients.counts;
    struct overload_span span = {.sendings = sendings(),
                                 .sent = overload_clients.net.sent,
                                 .lost = overload_clients.net.lost};

    memset(&overload_clients.counts, 0, sizeof(overload_clients.counts));
    overload_clients.served.count = 0;
    overload_clients.called.count = 0;
    overload_clients.refused.count = 0;
    overload.measuring = true;
    span.gone_ns = run(mix, overload_clients.config.measure_ns);
    overload.measuring = false;
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        span.calls += counts->calls[kind];
        span.done += counts->done[kind];
    }
    span.sendings = sendings() - span.sendings;
    span.sent = overload_clients.net.sent - span.sent;
    span.lost = overload_clients.net.lost - span.lost;
    return span;
}

static void figures_print(const struct overload_clients_figures *figures,
                          const struct overload_span *span)
{
    const struct overload_clients_counts *counts = &overload_clients.counts;

    (void)printf("  %8.0f calls/s, %8.0f done (work %.3f, least kind %.2f); no room %.3f, at the "
                 "deadline %.3f and %.3f, failed %" PRIu64
                 "; packets: %.1f calls, %.3f refused, %.4f lost; 99 %%: from sending %5" PRIu64
                 " us, from the call %6" PRIu64 " us, told %5" PRIu64
                 " us; %.3f sent a call, %.3f each done; turns of %.1f us, idle %.3f\n",
                 figures->calls_per_s, figures->done_per_s, figures->work, figures->least,
                 part(counts->no_room, span->calls), part(counts->ended[0], span->calls),
                 part(counts->ended[1], span->calls), counts->failed, figures->packed,
                 figures->refused, figures->lost, figures->served_p99_ns / 1000,
                 figures->called_p99_ns / 1000, figures->refused_p99_ns / 1000, figures->sendings,
                 part(span->sendings, span->done), part(span->gone_ns, counts->turns) / 1e3,
                 figures->idle);
}

static struct overload_clients_figures measure(const struct overload_mix *mix)
{
    const struct overload_clients_counts *counts = &overload_clients.counts;
    struct overload_span span = span_of(mix);
    struct overload_clients_figures figures = {
        .calls_per_s = (double)span.calls * 1e9 / (double)span.gone_ns,
        .done_per_s = (double)span.done * 1e9 / (double)span.gone_ns,
        .work = work() / (double)span.gone_ns,
        .least = least_of_kinds(span.calls, span.done),
        .sendings = part(span.sendings, span.calls - counts->no_room),
        .idle = part(counts->idle_ns, span.gone_ns),
        .served_p99_ns = overload_quantile(&overload_clients.served, 990000),
        .called_p99_ns = overload_quantile(&overload_clients.called, 990000),
        .refused_p99_ns = overload_quantile(&overload_clients.refused, 990000),
        .lost = part(span.lost, span.sent),
        .refused = part(counts->refused, counts->refused + counts->packets),
        .packed = part(span.done, counts->packets)};

    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    if (getenv("TORC_TEST_FIGURES") != NULL) {
        figures_print(&figures, &span);
    }
    return figures;
}

struct overload_clients_figures overload_clients_capacity(const struct overload_mix *mix,
                                                          uint32_t outstanding)
{
    struct overload_clients_figures figures;

    drain(mix);
    overload_clients.outstanding = outstanding;
    (void)run(mix, SETTLE_NS);
    figures = measure(mix);
    drain(mix);
    return figures;
}

void overload_clients_costs(const struct overload_mix *mix, uint32_t outstanding)
{
    for (uint32_t kind = 0; kind < KINDS; kind++) {
        struct overload_mix one = {{0}};

        one.parts[kind] = 1;
        overload_clients.cost_ns[kind] =
            mix->parts[kind] == 0 ? 0
                                  : 1e9 / overload_clients_capacity(&one, outstanding).done_per_s;
    }
}

// A queue that stands, and has not yet done so for long enough to be refused, is said to have.
static void stand(const struct overload_mix *mix)
{
    struct torc_admit *admit = torc_rig_admit(overload.rig, 0);

    (void)run(mix, SETTLE_NS);
    if (admit->standing_ns != 0 && !admit->shedding) {
        admit->standing_ns -= TORC_ADMIT_STANDING_NS;
    }
}

struct overload_clients_figures overload_clients_load(const struct overload_mix *mix,
                                                      double calls_per_s)
{
    overload_clients.admits_all = false;
    overload_clients.outstanding = 0;
    overload_clients.every_ps = (uint64_t)(1e12 / calls_per_s);
    stand(mix);
    (void)run(mix, overload_clients.config.timeout_us * 1000 + SETTLE_NS);
    return measure(mix);
}

// ---- Life

static bool all_ready(const struct torc_net *net)
{
    for (uint32_t i = 0; i < net->client_count; i++) {
        if (!torc_engine_ready(net->clients[i])) {
            return false;
        }
    }
    return true;
}

void overload_clients_open(const struct overload_clients_config *config)
{
    struct torc_net_config net = {.clients = config->clients,
                                  .seed = overload.config.seed,
                                  .operations = config->operations,
                                  .pool_bytes = POOL_BYTES,
                                  .rx_ring = OVERLOAD_RX_RING};

    overload_clients.config = *config;
    overload_clients.sent = calloc(config->clients, sizeof(*overload_clients.sent));
    torc_assert(overload_clients.sent != NULL);
    overload_samples_open(&overload_clients.served);
    overload_samples_open(&overload_clients.called);
    overload_samples_open(&overload_clients.refused);
    torc_net_open_config(&overload_clients.net, overload.rig, &net);
    overload_clients.net.tamper = note_sent;
    overload_clients.net.opened = note_opened;
    overload_clients.net.faults.late_ppm = 1000000;
    overload_clients.net.faults.late_ns = WIRE_NS;
    for (uint32_t i = 0; i < READY_STEPS && !all_ready(&overload_clients.net); i++) {
        torc_net_step(&overload_clients.net, STEP_NS);
    }
    torc_assert(all_ready(&overload_clients.net));
    overload_clients.turn_ns = IDLE_NS;
}

void overload_clients_close(void)
{
    torc_net_close(&overload_clients.net);
    free(overload_clients.sent);
}
