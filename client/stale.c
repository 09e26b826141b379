// Torc client: reads that may be a little old: which copy of the shard is asked; see
// engine_state.h.
//
// What    a get or scan with an age goes to any copy that the map calls in sync: to the one with
//         the fewest operations on their way, the primary as good as any; by lot among equals. The
//         server checks the age (docs/PROTOCOL.md, STALE). After a refusal or a silence it goes to
//         the primary, and after one of those to another copy again: so it is answered while any
//         copy is young enough, whoever else is gone.
//         A copy that was too old or silent is asked last for a while, and none before a session
//         with it stands.
// Rules   the age only shrinks on its way: the engine cuts it to whole milliseconds, downwards; 0
//         is a linearizable read and never comes here.
// Sources docs/decisions/0037-stale-reads-by-clients.md; REPLICATION.md, J1.
#include "client/engine_state.h"

#define PAUSE_FIRST_NS UINT64_C(1000000) // after a refusal of a copy, doubling: a bet
#define PAUSE_DOUBLES  6u                // to 64 ms: while readers come, a copy asks for its age
#define AT_ONCE        2u // refusals after which the next copy is asked without a pause

static uint32_t stale_load(const struct torc_client_node *node,
                           const struct torc_map_member *member)
{
    const struct torc_client_path *path =
        &node->paths[member->core >= torc_max_u64(node->cores, 1) ? 0 : member->core];

    return path->ops_in_flight + path->queues[0].count;
}

// It answered something of this operation: a value's pieces are where the value was.
static bool stale_stays(const struct torc_op *op, const struct torc_client_node *node)
{
    return op->big != NULL && op->at_copy && !op->to_primary && op->node == node->index;
}

// Which copies may be asked.
enum stale_pass {
    STALE_FRESH,  // none that failed lately
    STALE_OTHERS, // those, too, but for the one that just did
    STALE_ANY
};

static bool stale_just_failed(const struct torc_op *op, const struct torc_client_node *node)
{
    return op->refusals + op->backoff > 0 && op->node == node->index;
}

static bool stale_passes(const struct torc_engine *engine, const struct torc_op *op,
                         const struct torc_client_node *node, enum stale_pass pass)
{
    switch (pass) {
    case STALE_FRESH: return engine->now_ns >= node->stale_ns && !stale_just_failed(op, node);
    case STALE_OTHERS: return !stale_just_failed(op, node);
    case STALE_ANY: return true;
    }
    torc_unreachable("a pass of the enum");
}

// The least busy of them that has a session; sessions with others are begun.
static const struct torc_map_member *stale_pick(struct torc_engine *engine,
                                                const struct torc_op *op,
                                                const struct torc_map_entry *shard,
                                                enum stale_pass pass)
{
    const struct torc_map_member *best = NULL;
    uint32_t least = UINT32_MAX;
    uint32_t equals = 0;

    for (uint32_t i = 0; i < shard->member_count; i++) {
        const struct torc_map_member *member = &shard->members[i];
        struct torc_client_node *node = torc_node_of_id(engine, member->node);
        uint32_t load;

        if (member->state != TORC_MAP_IN_SYNC || node == NULL) {
            continue;
        }
        if (node->state != TORC_NODE_UP) {
            torc_node_shake(engine, node, NULL);
            continue;
        }
        if (stale_stays(op, node)) {
            return member;
        }
        load = stale_load(node, member);
        if (!stale_passes(engine, op, node, pass) || load > least) {
            continue;
        }
        equals = load < least ? 1 : equals + 1;
        least = load;
        best = torc_rng_below(&engine->rng, equals) == 0 ? member : best;
    }
    return best;
}

static const struct torc_map_member *stale_member(struct torc_engine *engine,
                                                  const struct torc_op *op,
                                                  const struct torc_map_entry *shard)
{
    const struct torc_client_node *primary =
        torc_node_of_id(engine, shard->members[shard->primary].node);
    const struct torc_map_member *member = NULL;
    bool up = primary != NULL && primary->state == TORC_NODE_UP;

    if (!up || !op->to_primary) {
        member = stale_pick(engine, op, shard, STALE_FRESH);
    }
    if (member == NULL && up && !stale_just_failed(op, primary)) {
        return NULL;
    }
    if (member == NULL) {
        member = stale_pick(engine, op, shard, STALE_OTHERS);
    }
    return member != NULL || up ? member : stale_pick(engine, op, shard, STALE_ANY);
}

const struct torc_map_member *torc_stale_member(struct torc_engine *engine, struct torc_op *op,
                                                const struct torc_map_entry *shard)
{
    const struct torc_map_member *member = NULL;

    if (op->age_ms != 0 && shard->primary < shard->member_count) {
        member = stale_member(engine, op, shard);
    }
    op->at_copy = member != NULL && member != &shard->members[shard->primary];
    return member;
}

// Others are asked first for a while; the failures of one pause are one.
static void stale_failed(struct torc_engine *engine, struct torc_client_node *node)
{
    if (engine->now_ns >= node->stale_ns) {
        node->stale_ns = engine->now_ns + (PAUSE_FIRST_NS << node->stale_fails);
        node->stale_fails = (uint32_t)torc_min_u64(node->stale_fails + 1u, PAUSE_DOUBLES);
    }
}

static bool refusal_is_of_copies(enum torc_err status)
{
    return status == TORC_ERR_TOO_STALE || status == TORC_ERR_WRONG_SHARD ||
           status == TORC_ERR_UNAVAILABLE || status == TORC_ERR_TAKING_OVER;
}

bool torc_stale_refused(struct torc_engine *engine, uint32_t index, enum torc_err status,
                        uint64_t info)
{
    struct torc_op *op = &engine->ops[index];

    if (op->age_ms == 0 || !refusal_is_of_copies(status)) {
        return false;
    }
    engine->counters.stale_refused += status == TORC_ERR_TOO_STALE ? 1 : 0;
    if (!op->at_copy && (status == TORC_ERR_WRONG_SHARD || !torc_scout_applies(engine, op))) {
        return false; // the entry that came with it says where to go, or nobody else has it
    }
    if (op->at_copy) {
        stale_failed(engine, &engine->nodes[op->node]);
    } else {
        torc_scout_call(engine, index, engine->now_ns,
                        true); // it cannot serve: perhaps another can
    }
    if (status == TORC_ERR_WRONG_SHARD) {
        torc_route_ask(engine); // no member any more
    }
    op->to_primary = op->at_copy;
    if (op->refusals <= AT_ONCE) {
        torc_op_route(engine, index);
    } else {
        torc_op_wait(engine, index, engine->now_ns + torc_call_pause_ns(engine, op, status, info));
    }
    return true;
}

void torc_stale_silent(struct torc_engine *engine, uint32_t index)
{
    struct torc_client_node *node = &engine->nodes[engine->ops[index].node];
    struct torc_list *queue = &node->paths[engine->ops[index].core].queues[0];
    uint32_t at = queue->head;

    stale_failed(engine, node);
    for (uint32_t left = queue->count; left > 0 && at != TORC_OP_NONE; left--) {
        uint32_t next = engine->ops[at].next;

        if (engine->ops[at].at_copy) {
            engine->ops[at].to_primary = true;
            torc_op_route(engine, at);
        }
        at = next;
    }
}

void torc_stale_answered(struct torc_engine *engine, const struct torc_op *op)
{
    if (op->age_ms != 0 && op->at_copy && op->chunks == 0) {
        engine->nodes[op->node].stale_fails = 0;
        engine->counters.stale_reads++;
    }
}
