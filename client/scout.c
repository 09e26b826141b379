// Torc client: what becomes of a shard whose primary does not answer, or says that it cannot serve:
// other members are asked about it; see engine_state.h.
//
// What    a question for the map's entry of one key, to each in-sync member in turn, for as long as
//         operations of that shard are in need. An answer with a higher epoch redirects all of them
//         (route.c). The operations themselves never go to a member that the map does not call
//         primary, so that there is one copy of each on the way, however many are asked.
//         A candidate's TAKING_OVER holds operations back: one of a shard asks again.
// Memory  a line for each shard, by its number modulo TORC_SCOUTS. A shard whose line another has
//         is asked about when that one is done.
// Sources REPLICATION.md, section 12 (K3) and 13.
#include "client/engine_state.h"

// A question finds a new primary that began since the one before: so whoever waited for long may
// wait a little longer.
#define PACE_PART      8u                // of the time since the first doubt
#define PACE_LEAST_NS  UINT64_C(4000000) // two members are asked in turn
#define PACE_MOST_NS   UINT64_C(64000000)
#define WANTED_FOR_NS  UINT64_C(2000000000) // longer than any time-out
#define REFUSED_FOR_NS UINT64_C(250000000)  // longer than any pause of ELSEWHERE_LAST_NS
#define DOUBT_EVERY_NS UINT64_C(64000000)
#define HOLD_LEAST_NS  UINT64_C(1000000)
#define HOLD_MOST_NS   UINT64_C(8000000)  // of the one that asks
#define HOLD_LATE_NS   UINT64_C(64000000) // the same after HOLD_TRIES, and of the others
#define HOLD_TRIES     100u
#define HOLD_ANSWER_NS UINT64_C(4000000) // its answer is awaited for so long

static const struct torc_map_entry *scout_entry(const struct torc_engine *engine,
                                                const struct torc_op *op)
{
    return (op->kind == TORC_OP_GET || op->kind == TORC_OP_WRITE || op->kind == TORC_OP_SCAN) &&
                   !op->fixed_node
               ? torc_route_find(engine, op->key)
               : NULL;
}

bool torc_scout_applies(const struct torc_engine *engine, const struct torc_op *op)
{
    const struct torc_map_entry *entry = scout_entry(engine, op);

    return entry != NULL && entry->member_count > 1;
}

void torc_scout_call(struct torc_engine *engine, uint32_t index, uint64_t at_ns, bool refused)
{
    const struct torc_map_entry *entry = scout_entry(engine, &engine->ops[index]);
    struct torc_scout *scout;
    uint32_t own;
    struct torc_op *op;

    if (entry == NULL || entry->member_count < 2) {
        return;
    }
    scout = &engine->scouts[entry->shard % TORC_SCOUTS];
    if (scout->active && scout->shard == entry->shard) {
        scout->wanted_ns = engine->now_ns;
        scout->refused_ns = refused ? engine->now_ns : scout->refused_ns;
        return;
    }
    own = scout->active ? TORC_OP_NONE : torc_op_take_own(engine, TORC_OPS_KEPT_MAP);
    if (own == TORC_OP_NONE) {
        return; // whoever called calls again
    }
    scout->active = true;
    scout->shard = entry->shard;
    scout->epoch = entry->epoch;
    scout->wanted_ns = engine->now_ns;
    scout->refused_ns = refused ? engine->now_ns : 0;
    scout->again_ns = at_ns;
    scout->began_ns = engine->now_ns;
    scout->turn = entry->primary;
    op = &engine->ops[own];
    op->kind = TORC_OP_SCOUT;
    op->key = engine->ops[index].key;
    op->part = entry->shard;
    op->fixed_node = true;
    op->deadline_ns = at_ns;
    torc_op_wait(engine, own, at_ns);
}

void torc_scout_doubt(struct torc_engine *engine, struct torc_client_node *node)
{
    if (engine->now_ns - node->heard_ns < TORC_SCOUT_FIRST_NS || engine->now_ns < node->doubt_ns) {
        return;
    }
    node->doubt_ns = engine->now_ns + DOUBT_EVERY_NS;
    for (uint32_t slot = 0; slot < 2u * node->cores; slot++) {
        uint32_t at = node->paths[slot / 2].queues[slot % 2].head;

        while (at != TORC_OP_NONE) {
            uint32_t next = engine->ops[at].next;

            torc_scout_call(engine, at, engine->now_ns, false);
            at = next;
        }
    }
}

void torc_scout_end(struct torc_engine *engine, uint32_t index)
{
    engine->scouts[engine->ops[index].part % TORC_SCOUTS].active = false;
}

// ---- Asking

// Whether anybody may still wait for the primary that was doubted.
static bool scout_is_needed(struct torc_engine *engine, const struct torc_scout *scout,
                            const struct torc_map_entry *entry)
{
    const struct torc_map_member *primary;
    const struct torc_client_node *node;
    bool wanted = engine->now_ns - scout->wanted_ns < WANTED_FOR_NS;

    if (engine->closing || entry == NULL || entry->shard != scout->shard ||
        entry->epoch != scout->epoch) {
        return false;
    }
    primary = entry->primary < entry->member_count ? &entry->members[entry->primary] : NULL;
    node = primary == NULL ? NULL : torc_node_of_id(engine, primary->node);
    if (node == NULL || node->state != TORC_NODE_UP) {
        return wanted || engine->parked.count > 0;
    }
    if (scout->refused_ns != 0 && engine->now_ns - scout->refused_ns < REFUSED_FOR_NS) {
        return true;
    }
    return wanted &&
           (primary->core >= node->cores || node->paths[primary->core].heard_ns < scout->wanted_ns);
}

// The next in-sync member that can be asked; sessions with those that cannot are begun.
static const struct torc_map_member *scout_next(struct torc_engine *engine,
                                                struct torc_scout *scout,
                                                const struct torc_map_entry *entry)
{
    uint32_t first = scout->turn < entry->member_count ? scout->turn : 0;
    const struct torc_map_member *found = NULL;

    for (uint32_t i = 1; i <= entry->member_count; i++) {
        uint32_t at = (first + i) % entry->member_count;
        const struct torc_map_member *member = &entry->members[at];
        struct torc_client_node *node = torc_node_of_id(engine, member->node);

        if (at == entry->primary || member->state != TORC_MAP_IN_SYNC || node == NULL) {
            continue;
        }
        if (node->state != TORC_NODE_UP) {
            torc_node_shake(engine, node, NULL);
        } else if (found == NULL) {
            found = member;
            scout->turn = (uint8_t)at;
        }
    }
    return found;
}

static void scout_ask(struct torc_engine *engine, uint32_t index, struct torc_scout *scout)
{
    struct torc_op *op = &engine->ops[index];
    const struct torc_map_entry *entry = torc_route_find(engine, op->key);
    const struct torc_map_member *member = scout_next(engine, scout, entry);
    uint64_t pace_ns = (engine->now_ns - scout->began_ns) / PACE_PART;
    const struct torc_client_node *node;

    pace_ns = torc_min_u64(torc_max_u64(pace_ns, PACE_LEAST_NS), PACE_MOST_NS);
    scout->again_ns = engine->now_ns + torc_engine_jitter(engine, pace_ns);
    op->deadline_ns = scout->again_ns;
    torc_op_unlink(engine, index);
    if (member == NULL) {
        torc_op_wait(engine, index, scout->again_ns);
        return;
    }
    node = torc_node_of_id(engine, member->node);
    op->node = node->index;
    op->core = member->core >= torc_max_u64(node->cores, 1) ? 0 : member->core;
    torc_op_queue(engine, index, true);
    torc_wheel_set(&engine->wheel, index, scout->again_ns);
}

void torc_scout_timer(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_scout *scout = &engine->scouts[op->part % TORC_SCOUTS];

    if (op->state == TORC_OP_SENT) {
        torc_packet_lost(engine, op->packet);
    }
    if (!scout_is_needed(engine, scout, torc_route_find(engine, op->key))) {
        torc_op_end(engine, index, TORC_ERR_OK, NULL);
    } else if (engine->now_ns < scout->again_ns) {
        torc_op_wait(engine, index, scout->again_ns);
    } else {
        scout_ask(engine, index, scout);
    }
}

void torc_scout_reply(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_scout *scout = &engine->scouts[op->part % TORC_SCOUTS];

    if (scout_is_needed(engine, scout, torc_route_find(engine, op->key))) {
        torc_op_wait(engine, index, scout->again_ns);
    } else {
        torc_op_end(engine, index, TORC_ERR_OK, NULL);
    }
}

// ---- TAKING_OVER

uint64_t torc_scout_hold_ns(struct torc_engine *engine, uint32_t index, uint64_t told_us)
{
    const struct torc_op *op = &engine->ops[index];
    const struct torc_map_entry *entry = scout_entry(engine, op);
    struct torc_scout *scout;
    uint64_t pause_ns = torc_min_u64(torc_max_u64(told_us * 1000, HOLD_LEAST_NS), HOLD_MOST_NS);

    if (op->refusals > HOLD_TRIES || entry == NULL) {
        pause_ns = HOLD_LATE_NS;
    }
    pause_ns += torc_rng_below(&engine->rng, pause_ns / 2 + 1);
    if (entry == NULL) {
        return pause_ns;
    }
    scout = &engine->scouts[entry->shard % TORC_SCOUTS];
    if (scout->holds && scout->held_shard == entry->shard && engine->now_ns < scout->held_ns &&
        scout->held_by != torc_op_id(engine, index)) {
        return HOLD_LATE_NS + torc_rng_below(&engine->rng, HOLD_LATE_NS / 2 + 1);
    }
    scout->holds = true;
    scout->held_shard = entry->shard;
    scout->held_by = torc_op_id(engine, index);
    scout->held_ns = engine->now_ns + pause_ns + HOLD_ANSWER_NS;
    return pause_ns;
}

void torc_scout_release(struct torc_engine *engine, uint64_t key)
{
    const struct torc_map_entry *entry = torc_route_find(engine, key);
    struct torc_scout *scout = entry == NULL ? NULL : &engine->scouts[entry->shard % TORC_SCOUTS];

    if (scout == NULL || !scout->holds || scout->held_shard != entry->shard) {
        return; // that was done before
    }
    scout->holds = false;
    for (uint32_t index = 0; index < engine->op_count; index++) {
        struct torc_op *op = &engine->ops[index];

        if (op->state == TORC_OP_WAITING && op->hold == TORC_HOLD_NONE &&
            op->last_refusal == TORC_ERR_TAKING_OVER && op->key >= entry->lo &&
            op->key < entry->hi) {
            op->refusals = 0;
            torc_op_route(engine, index);
        }
    }
}
