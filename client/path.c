// Torc client: packets in flight, round-trip times, windows and the retry budget; see engine.h.
//
// Sources docs/PROTOCOL.md, section 9; RFC 6298 for the estimators; Swift for the window's shape.
#include "client/engine_state.h"

#define RTO_FIRST_NS     UINT64_C(10000000) // before the first sample
#define RTO_WRITE_MIN_NS UINT64_C(5000000)
#define RTO_MAX_NS       UINT64_C(1000000000)
#define DURABILITY_NONE  2u // a write is answered from memory, as a read is
#define WINDOW_ONE       (1u << TORC_WINDOW_SHIFT)
#define PACE_MAX_NS      RTO_MAX_NS
#define TARGET_MARGIN_NS UINT64_C(25000)
#define NAP_MARGIN_NS    UINT64_C(200000)  // an edge that naps looks that late
#define SLOW_MARGIN_NS   UINT64_C(2000000) // kernel sockets: a wake-up takes what it takes
#define SLOW_WRITE_NS    UINT64_C(20000000)
#define WINDOW_DELAY_MIN (8u << TORC_WINDOW_SHIFT) // delay alone shrinks it no further
#define BASE_PERIOD_NS   UINT64_C(10000000000)
#define BUDGET_PER_SEND  100u            // thousandths of a resend: 10 %
#define BUDGET_PER_S     UINT64_C(10000) // 10 a second
#define BUDGET_MAX       UINT64_C(32000) // what a quiet time saves up
#define BUDGET_PROVED    3000u           // it was worth it: that many more, see below
#define CALM_NS          UINT64_C(100000000)
#define ROUND_SAMPLES    8u
// Of a packet: what the window gains by an answer, and loses by a refusal.
#define GROW_REFUSED 32u
#define CUT_REFUSED  2u
#define OVERTAKEN    3u
#define PROBE_RTTS   3u
// A value of many pieces takes three round trips or more, and what is refused waits for ten or so.
// A fifth of its time at most is kept for them.
#define LATE_RTTS 32u
#define LATE_PART 4u

struct torc_client_path *torc_op_path(struct torc_engine *engine, const struct torc_op *op)
{
    torc_assert(op->node < engine->node_count);
    return &engine->nodes[op->node].paths[op->core];
}

uint64_t torc_engine_jitter(struct torc_engine *engine, uint64_t value)
{
    uint64_t tenth = value / 10;

    return value - tenth + torc_rng_below(&engine->rng, 2 * tenth + 1);
}

bool torc_node_may_probe(const struct torc_engine *engine, const struct torc_client_node *node)
{
    return engine->free_packets.count > 0 && node->in_flight < TORC_WINDOW_PACKETS;
}

bool torc_node_may_send(const struct torc_engine *engine, const struct torc_client_node *node)
{
    if (engine->now_ns < node->pace_until_ns) {
        return false;
    }
    if (engine->inbound >= TORC_INBOUND_BYTES && node->in_flight > 0) {
        return false;
    }
    return torc_node_may_probe(engine, node) &&
           ((node->in_flight - node->probes) << TORC_WINDOW_SHIFT) < node->window;
}

static void estimate(uint64_t *srtt_ns, uint64_t *var_ns, uint64_t sample_ns)
{
    uint64_t away;

    if (*srtt_ns == 0) {
        *srtt_ns = sample_ns;
        *var_ns = sample_ns / 2;
        return;
    }
    away = sample_ns > *srtt_ns ? sample_ns - *srtt_ns : *srtt_ns - sample_ns;
    *var_ns += (away >> 2);
    *var_ns -= torc_min_u64(*var_ns, (*var_ns - (away >> 2)) >> 2);
    *srtt_ns = *srtt_ns - (*srtt_ns >> 3) + (sample_ns >> 3);
}

// An edge that polls measures the network; one that sleeps measures the scheduler with it.
static bool edge_polls(const struct torc_engine *engine)
{
    return engine->config.read_rto_us < 1000;
}

uint64_t torc_path_rto_ns(struct torc_engine *engine, const struct torc_op *op)
{
    const struct torc_client_path *path = torc_op_path(engine, op);
    bool is_write = op->kind == TORC_OP_WRITE;
    bool awaits_disk = is_write && engine->nodes[op->node].limits.durability != DURABILITY_NONE;
    uint64_t srtt_ns = is_write ? path->write_srtt_ns : path->read_srtt_ns;
    uint64_t var_ns = is_write ? path->write_var_ns : path->read_var_ns;
    uint64_t least_ns = !awaits_disk         ? (uint64_t)engine->config.read_rto_us * 1000
                        : edge_polls(engine) ? RTO_WRITE_MIN_NS
                                             : SLOW_WRITE_NS;
    uint64_t rto_ns = srtt_ns == 0 ? RTO_FIRST_NS : srtt_ns + 4 * var_ns;

    if (op->kind == TORC_OP_PROBE) { // on a core that may never have been asked before
        least_ns = torc_max_u64(least_ns, PROBE_RTTS * engine->nodes[op->node].base_rtt_ns);
    }
    rto_ns = torc_max_u64(rto_ns, least_ns) << torc_min_u64(op->backoff, 10);
    return torc_engine_jitter(engine, torc_min_u64(rto_ns, RTO_MAX_NS));
}

bool torc_path_is_late(const struct torc_engine *engine, const struct torc_client_path *path,
                       const struct torc_op *op)
{
    uint64_t srtt_ns = op->kind == TORC_OP_WRITE ? path->write_srtt_ns : path->read_srtt_ns;
    uint64_t waited_ns = engine->now_ns - op->begun_ns;
    uint64_t needed_ns = torc_min_u64(LATE_RTTS * srtt_ns, waited_ns / LATE_PART);

    return op->deadline_ns < engine->now_ns + needed_ns;
}

// ---- The window

static uint64_t target_ns(const struct torc_engine *engine, const struct torc_client_node *node)
{
    uint64_t margin_ns = !edge_polls(engine)      ? SLOW_MARGIN_NS
                         : engine->config.may_nap ? NAP_MARGIN_NS
                                                  : TARGET_MARGIN_NS;

    return node->base_rtt_ns + torc_max_u64(margin_ns, node->base_rtt_ns / 2);
}

static void window_cut(struct torc_engine *engine, struct torc_client_node *node, uint32_t window)
{
    node->window = (uint32_t)torc_max_u64(torc_min_u64(WINDOW_ONE, node->window), window);
    node->cut_until_ns = engine->now_ns + torc_max_u64(node->base_rtt_ns, node->last_rtt_ns);
    torc_assert(node->window <= node->window_max);
}

// Of a window, or a packet of it where it is larger.
static uint32_t window_part(const struct torc_client_node *node, uint32_t part)
{
    return (uint32_t)torc_max_u64(torc_min_u64(node->window, WINDOW_ONE) / part, 1);
}

// A packet a round trip; less while the node refuses some, so that it refuses few of many: what it
// refuses of those sent is then GROW_REFUSED / CUT_REFUSED parts, whatever it can do.
static void window_grow(const struct torc_engine *engine, struct torc_client_node *node)
{
    uint64_t step =
        engine->now_ns - node->refused_ns < CALM_NS
            ? window_part(node, GROW_REFUSED)
            : torc_min_u64((WINDOW_ONE << TORC_WINDOW_SHIFT) / node->window, WINDOW_ONE);

    node->window = (uint32_t)torc_min_u64(node->window_max, node->window + step);
}

// A window below one packet is a pause between packets.
static void window_pace(struct torc_engine *engine, struct torc_client_node *node)
{
    if (node->window < WINDOW_ONE) {
        uint64_t pause_ns = node->last_rtt_ns * (WINDOW_ONE - node->window) / node->window;

        pause_ns = torc_engine_jitter(engine, torc_min_u64(pause_ns, PACE_MAX_NS));
        node->pace_until_ns = torc_max_u64(node->pace_until_ns, engine->now_ns + pause_ns);
    }
}

void torc_path_refused(struct torc_engine *engine, struct torc_client_node *node)
{
    node->window -= (uint32_t)torc_min_u64(window_part(node, CUT_REFUSED), node->window - 1);
    window_pace(engine, node);
}

// Swift's shape, on the least round trip of a round of samples: a queue delays all of them, a
// processor that was elsewhere only some.
static void window_delay(struct torc_engine *engine, struct torc_client_node *node, uint64_t rtt_ns)
{
    uint64_t target = target_ns(engine, node);
    uint64_t least_ns;
    uint64_t cut;

    if (rtt_ns <= target) {
        window_grow(engine, node);
    }
    node->round_rtt_ns = node->round_count == 0 ? rtt_ns : torc_min_u64(node->round_rtt_ns, rtt_ns);
    if (++node->round_count < ROUND_SAMPLES || engine->now_ns < node->cut_until_ns) {
        return;
    }
    least_ns = node->round_rtt_ns;
    node->round_count = 0;
    if (least_ns <= target) {
        return;
    }
    if (node->window <= WINDOW_ONE) {
        // A node that was elsewhere for seconds delays a whole round: no measure of a pause.
        node->pace_until_ns = engine->now_ns + torc_min_u64(least_ns * 2, PACE_MAX_NS);
        node->cut_until_ns = engine->now_ns + least_ns;
        return;
    }
    // max(0.5, 1 - 0.4 (d - target) / d), in thousandths
    cut = torc_min_u64(500, 400 * (least_ns - target) / least_ns);
    if (node->window > WINDOW_DELAY_MIN) {
        window_cut(engine, node, (uint32_t)(node->window * (1000 - cut) / 1000));
    }
}

void torc_path_ce(struct torc_engine *engine, struct torc_client_node *node)
{
    if (engine->now_ns >= node->cut_until_ns) {
        window_cut(engine, node, node->window / 5 * 4);
    }
}

void torc_path_sample(struct torc_engine *engine, struct torc_client_node *node, uint8_t core,
                      uint64_t rtt_ns, uint64_t hold_ns, bool has_write)
{
    struct torc_client_path *path = &node->paths[core];

    if (core >= node->path_count) {
        return; // the node has no such core
    }
    rtt_ns = torc_max_u64(rtt_ns, 1);
    path->heard_ns = engine->now_ns;
    if (node->base_rtt_ns == 0 || engine->now_ns >= node->base_until_ns) {
        node->base_rtt_ns = node->base_next_ns == 0 ? rtt_ns : node->base_next_ns;
        node->base_next_ns = rtt_ns;
        node->base_until_ns = engine->now_ns + BASE_PERIOD_NS;
    }
    node->base_rtt_ns = torc_min_u64(node->base_rtt_ns, rtt_ns);
    node->base_next_ns = torc_min_u64(node->base_next_ns, rtt_ns);
    if (has_write) {
        estimate(&path->write_srtt_ns, &path->write_var_ns, rtt_ns + hold_ns);
    } else {
        estimate(&path->read_srtt_ns, &path->read_var_ns, rtt_ns);
    }
    node->time_outs = 0;
    node->last_rtt_ns = rtt_ns;
    window_delay(engine, node, rtt_ns);
    window_pace(engine, node);
}

// ---- The retry budget

static void budget_fill(struct torc_engine *engine)
{
    uint64_t gone_ns = engine->now_ns - engine->budget_at_ns;

    if (gone_ns >= 1000000) {
        engine->budget += gone_ns / 1000000 * BUDGET_PER_S / 1000;
        engine->budget_at_ns += gone_ns / 1000000 * 1000000;
    }
    engine->budget = torc_min_u64(engine->budget, BUDGET_MAX);
}

bool torc_budget_take(struct torc_engine *engine)
{
    budget_fill(engine);
    if (engine->budget < 1000) {
        return false;
    }
    engine->budget -= 1000;
    return true;
}

// A node that has refused nothing for a while, and did what it had refused or not answered before,
// has room: those that wait go out as fast as they prove it, three for one, which also outruns a
// network that loses half of everything.
void torc_budget_proved(struct torc_engine *engine, const struct torc_client_node *node)
{
    if (engine->now_ns - node->refused_ns >= CALM_NS) {
        engine->budget = torc_min_u64(BUDGET_MAX, engine->budget + BUDGET_PROVED);
    }
}

// The oldest write goes first: servers remember all later ones until it is done.
static uint32_t budget_next(const struct torc_engine *engine)
{
    uint32_t oldest = engine->wseq_ops[engine->wseq_low % TORC_WSEQ_SPAN];

    return engine->wseq_low < engine->wseq_next && engine->ops[oldest].hold == TORC_HOLD_OWING
               ? oldest
               : engine->owing.head;
}

void torc_budget_serve(struct torc_engine *engine)
{
    while (engine->owing.count > 0) {
        uint32_t index = budget_next(engine);
        struct torc_op *op = &engine->ops[index];

        if (torc_call_gives_up(engine, op)) {
            torc_op_wait(engine, index, UINT64_MAX);
            continue;
        }
        if (!torc_budget_take(engine)) {
            return;
        }
        op->owes = false;
        op->lent = true;
        if (op->state == TORC_OP_STREAMING) {
            torc_big_grant(engine, index);
        } else {
            torc_op_route(engine, index);
        }
    }
}

uint64_t torc_budget_deadline_ns(const struct torc_engine *engine)
{
    uint64_t lack = engine->budget >= 1000 ? 0 : 1000 - engine->budget;

    if (engine->owing.count == 0) {
        return UINT64_MAX;
    }
    return engine->budget_at_ns + (lack * 1000 + BUDGET_PER_S - 1) / BUDGET_PER_S * 1000000;
}

// ---- Packets in flight

static void path_link(struct torc_engine *engine, struct torc_list *list, uint32_t index)
{
    struct torc_packet *packet = &engine->packets[index];

    packet->next = TORC_OP_NONE;
    packet->previous = list->tail;
    if (list->tail != TORC_OP_NONE) {
        engine->packets[list->tail].next = index;
    } else {
        list->head = index;
    }
    list->tail = index;
    list->count++;
}

static void path_unlink(struct torc_engine *engine, struct torc_list *list, uint32_t index)
{
    struct torc_packet *packet = &engine->packets[index];

    if (packet->previous != TORC_OP_NONE) {
        engine->packets[packet->previous].next = packet->next;
    } else {
        list->head = packet->next;
    }
    if (packet->next != TORC_OP_NONE) {
        engine->packets[packet->next].previous = packet->previous;
    } else {
        list->tail = packet->previous;
    }
    list->count--;
}

static struct torc_list *packet_list(struct torc_engine *engine, const struct torc_packet *packet)
{
    return &engine->nodes[packet->node].paths[packet->core].packets[packet->is_write ? 1 : 0];
}

uint32_t torc_packet_open(struct torc_engine *engine, struct torc_client_node *node, uint8_t core,
                          bool is_write)
{
    uint32_t index = engine->free_packets.head;
    struct torc_packet *packet;

    torc_assert(index != TORC_OP_NONE);
    path_unlink(engine, &engine->free_packets, index);
    packet = &engine->packets[index];
    *packet = (struct torc_packet){.sent_ns = engine->now_ns,
                                   .stream = TORC_OP_NONE,
                                   .turn = engine->packet_turn++,
                                   .node = node->index,
                                   .core = core,
                                   .session = node->session,
                                   .is_write = is_write,
                                   .used = true,
                                   .open = true};
    torc_list_init(&packet->ops);
    path_link(engine, packet_list(engine, packet), index);
    node->in_flight++;
    torc_assert(node->in_flight <= TORC_WINDOW_PACKETS);
    return index;
}

static void packet_close(struct torc_engine *engine, uint32_t index)
{
    struct torc_packet *packet = &engine->packets[index];
    struct torc_client_node *node = &engine->nodes[packet->node];

    torc_assert(packet->open);
    packet->open = false;
    path_unlink(engine, packet_list(engine, packet), index);
    torc_assert(node->in_flight > 0);
    node->in_flight--;
    node->probes -= packet->is_probe ? 1 : 0;
    torc_assert(engine->inbound >= packet->inbound);
    engine->inbound -= packet->inbound;
    packet->inbound = 0;
}

static void packet_free(struct torc_engine *engine, uint32_t index)
{
    struct torc_packet *packet = &engine->packets[index];
    struct torc_list *list = &engine->free_packets;

    torc_assert(packet->ops.count == 0);
    if (packet->open) {
        packet_close(engine, index);
    }
    packet->used = false;
    // The one freed last is taken first: its line is in the cache.
    packet->previous = TORC_OP_NONE;
    packet->next = list->head;
    if (list->head != TORC_OP_NONE) {
        engine->packets[list->head].previous = index;
    } else {
        list->tail = index;
    }
    list->head = index;
    list->count++;
}

void torc_packet_leave(struct torc_engine *engine, uint32_t op_index)
{
    struct torc_op *op = &engine->ops[op_index];
    uint32_t index = op->packet;

    torc_assert(index != TORC_OP_NONE);
    op->packet = TORC_OP_NONE;
    torc_ops_remove(engine, &engine->packets[index].ops, op_index);
    engine->nodes[op->node].paths[op->core].ops_in_flight--;
    if (engine->packets[index].ops.count == 0) {
        packet_free(engine, index);
    }
}

void torc_packet_enter(struct torc_engine *engine, uint32_t index, uint32_t op_index)
{
    struct torc_op *op = &engine->ops[op_index];

    op->packet = index;
    engine->packets[index].shards |= UINT64_C(1) << op->shard;
    torc_ops_push(engine, &engine->packets[index].ops, op_index);
    engine->nodes[op->node].paths[op->core].ops_in_flight++;
}

static void packet_lost(struct torc_engine *engine, uint32_t index, bool proved)
{
    struct torc_packet *packet = &engine->packets[index];
    struct torc_client_node *node = &engine->nodes[packet->node];
    bool heard = node->heard_ns > packet->sent_ns;

    if (!packet->open) {
        return;
    }
    packet_close(engine, index);
    torc_mtu_suspect(engine, node);
    if (!proved && packet->is_write && packet->stream == TORC_OP_NONE && heard) {
        return; // the disk is slow, as far as anybody knows
    }
    if (engine->now_ns >= node->cut_until_ns) {
        bool again = ++node->time_outs >= 2 && !heard;

        node->window_before = (uint32_t)torc_max_u64(node->window_before, node->window);
        window_cut(engine, node, again ? WINDOW_ONE : node->window / 2);
    }
}

void torc_packet_lost(struct torc_engine *engine, uint32_t index)
{
    packet_lost(engine, index, false);
}

// Its operations go again at once, outside the budget: the loss is proved.
static void packet_overtaken(struct torc_engine *engine, uint32_t index)
{
    struct torc_packet *packet = &engine->packets[index];
    uint32_t stream = packet->stream;
    uint32_t piece = packet->piece;

    packet_lost(engine, index, true);
    if (stream != TORC_OP_NONE) {
        torc_packet_end(engine, index);
        torc_big_lost(engine, stream, piece);
        engine->counters.resends_overtaken++;
        return;
    }
    for (uint32_t left = packet->ops.count; left > 0; left--) {
        engine->counters.resends_overtaken++;
        torc_op_route(engine, packet->ops.head); // the last one frees the packet
    }
}

// Whether an answer to `packet`, which was sent later, says anything about `passed`: reads are
//         answered
// in order, and so are the pieces of one value, all else is not.
static bool order_says_much(const struct torc_packet *packet, const struct torc_packet *passed)
{
    if (passed->is_write) {
        return passed->stream == packet->stream && passed->piece != TORC_OP_NONE;
    }
    return !passed->is_long;
}

void torc_packet_answered(struct torc_engine *engine, uint32_t index)
{
    struct torc_packet *packet = &engine->packets[index];
    uint32_t older = packet->previous;
    bool judges = !packet->is_write || packet->stream != TORC_OP_NONE;

    torc_assert(packet->used);
    if (!packet->open) {
        return;
    }
    packet_close(engine, index);
    while (judges && older != TORC_OP_NONE) {
        struct torc_packet *passed = &engine->packets[older];
        uint32_t next = passed->previous;

        if (order_says_much(packet, passed) && ++passed->passed >= OVERTAKEN) {
            packet_overtaken(engine, older);
        }
        older = next;
    }
}

// Writes of one shard are done in the order in which the shard got them, those of several are not.
// So three packets sent later, each with a write of a shard that was done, prove that one with a
// write of the same shard got lost, or its answer did. Packets that lost nothing are answered in
// order, and the walk ends where it begins.
void torc_packet_written(struct torc_engine *engine, uint32_t op_index)
{
    const struct torc_op *op = &engine->ops[op_index];
    struct torc_packet *packet = &engine->packets[op->packet];
    uint32_t older = torc_op_path(engine, op)->packets[1].head;
    uint64_t shard = UINT64_C(1) << op->shard;
    uint64_t before = packet->done;

    torc_assert(packet->is_write && packet->stream == TORC_OP_NONE);
    packet->done |= shard;
    if ((before & shard) != 0) {
        return;
    }
    while (older != TORC_OP_NONE && (int32_t)(engine->packets[older].turn - packet->turn) < 0) {
        struct torc_packet *passed = &engine->packets[older];
        uint32_t next = passed->next;

        if ((passed->shards & shard) != 0 && (passed->shards & before) == 0 &&
            ++passed->passed >= OVERTAKEN) {
            packet_overtaken(engine, older);
        }
        older = next;
    }
}

void torc_path_not_lost(struct torc_client_node *node)
{
    node->window =
        (uint32_t)torc_min_u64(torc_max_u64(node->window, node->window_before), node->window_max);
    node->window_before = 0;
}

void torc_packet_drop(struct torc_engine *engine, uint32_t index)
{
    if (engine->packets[index].open) {
        packet_close(engine, index);
    }
}

void torc_packet_end(struct torc_engine *engine, uint32_t index)
{
    packet_free(engine, index);
}

uint32_t torc_packet_find(const struct torc_engine *engine, const struct torc_client_node *node,
                          const struct torc_packet_name *name)
{
    const struct torc_client_path *path = &node->paths[name->core];

    if (name->core >= node->path_count) {
        return TORC_OP_NONE; // nothing was ever sent there
    }
    for (uint32_t list = 0; list < TORC_COUNT_OF(path->packets); list++) {
        uint32_t index = path->packets[list].head;

        while (index != TORC_OP_NONE && (engine->packets[index].seq != name->seq ||
                                         engine->packets[index].session != name->session)) {
            index = engine->packets[index].next;
        }
        if (index != TORC_OP_NONE) {
            return index;
        }
    }
    return TORC_OP_NONE;
}

void torc_budget_sent(struct torc_engine *engine, uint32_t ops)
{
    engine->budget = torc_min_u64(BUDGET_MAX, engine->budget + (uint64_t)ops * BUDGET_PER_SEND);
}
