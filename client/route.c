// Torc client: which node has a key: the shard map as known here; see engine_state.h.
//
// What    the whole map is asked for with the first session, and again when a key's entry is
//         missing or proved wrong; WRONG_SHARD brings the one entry that matters along. When a node
//         does not answer, another one is asked, and so on round all that are known (K3).
#include "client/engine_state.h"

#define ASK_EVERY_NS UINT64_C(10000000)
#define ASK_TIME_NS  UINT64_C(5000000000)
// Between two questions for the map because a node is silent (REPLICATION.md, K3: client_probe).
#define SILENT_EVERY_NS UINT64_C(8000000)

const struct torc_map_entry *torc_route_find(const struct torc_engine *engine, uint64_t key)
{
    return torc_map_find(&engine->map, key);
}

static void route_question(struct torc_engine *engine, uint64_t lo)
{
    uint32_t index = torc_op_take(engine, true);
    struct torc_op *op;

    if (index == TORC_OP_NONE) {
        return; // whoever needs the map is parked, and asks again
    }
    op = &engine->ops[index];
    op->kind = TORC_OP_MAP;
    op->key = lo;
    op->hi = engine->keys;
    op->deadline_ns = engine->now_ns + ASK_TIME_NS;
    op->to_first_node = true; // but see torc_route_teller
    engine->map_op = index;
    if (lo == 0 && engine->now_ns < engine->map_again_ns) {
        torc_op_wait(engine, index, engine->map_again_ns);
        return;
    }
    torc_op_route(engine, index);
}

void torc_route_ask(struct torc_engine *engine)
{
    if (engine->map_op != TORC_OP_NONE || engine->keys == 0) {
        return;
    }
    engine->map_fresh = false;
    route_question(engine, 0);
}

void torc_route_silent(struct torc_engine *engine)
{
    if (engine->now_ns >= engine->silent_again_ns) {
        engine->silent_again_ns = engine->now_ns + SILENT_EVERY_NS;
        torc_route_ask(engine);
    }
}

void torc_route_entry(struct torc_engine *engine, const struct torc_reply *reply)
{
    const struct torc_map_entry *old;
    struct torc_map_entry entry;
    struct torc_node_entry node;
    bool rises;

    if (reply->opcode == TORC_OPCODE_NODE_ENTRY) {
        if (torc_node_entry_decode(&node, reply, NULL) == TORC_ERR_OK &&
            node.node != TORC_NODE_UNKNOWN &&
            (!engine->config.one_node || torc_node_of_id(engine, node.node) != NULL)) {
            torc_node_learn(engine, &node);
        }
        return;
    }
    if (torc_map_entry_decode(&entry, reply, NULL) != TORC_ERR_OK) {
        engine->counters.packets_ignored++;
        return;
    }
    old = torc_map_find(&engine->map, entry.lo);
    rises = old != NULL && old->shard == entry.shard && entry.epoch > old->epoch;
    // LIMIT, a map of more shards than there is room for: what is not kept is asked for when
    // needed.
    if (torc_map_put(&engine->map, &entry) != TORC_ERR_OK) {
        engine->counters.packets_ignored++;
        return;
    }
    engine->redirect_due |= rises;
}

void torc_route_answer(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply)
{
    struct torc_le64 field = {{0}};
    uint64_t next = engine->keys;

    if (reply->body_bytes >= sizeof(field)) {
        memcpy(&field, reply->body, sizeof(field));
        next = torc_get_le64(field);
    }
    if (next <= engine->ops[index].key) {
        next = engine->keys; // no progress: do not go round in circles
    }
    torc_op_end(engine, index, TORC_ERR_OK, NULL);
    if (next < engine->keys) {
        route_question(engine, next);
        return;
    }
    engine->map_fresh = true;
    engine->redirect_due = true;
    engine->map_again_ns = engine->now_ns + ASK_EVERY_NS; // of those that lack something still
    torc_engine_unpark(engine);
    engine->map_again_ns = 0;
}

uint32_t torc_route_beyond(const struct torc_engine *engine, const struct torc_op *op)
{
    const struct torc_map_entry *shard = torc_route_find(engine, op->key);
    uint32_t id;

    if (!engine->config.one_node || op->fixed_node || shard == NULL ||
        shard->primary >= shard->member_count) {
        return 0;
    }
    id = shard->members[shard->primary].node;
    return torc_node_is_known(engine, id) ? 0 : id;
}

uint16_t torc_route_teller(const struct torc_engine *engine, const struct torc_op *op)
{
    const struct torc_client_node *best = NULL;

    if (op->kind != TORC_OP_MAP) {
        return (uint16_t)engine->first_node;
    }
    // The one heard of last is likely to be there; whoever has just not answered is not.
    for (uint32_t i = 0; i < engine->node_count; i++) {
        const struct torc_client_node *node = &engine->nodes[i];

        if (node->state == TORC_NODE_UP && (op->backoff == 0 || op->node != i) &&
            (best == NULL || node->heard_ns > best->heard_ns)) {
            best = node;
        }
    }
    return best != NULL ? best->index : (uint16_t)engine->first_node;
}

// ---- Another primary

// Waiting for the node of before, in one way or another.
static bool redirect_concerns(const struct torc_engine *engine, const struct torc_op *op)
{
    const struct torc_map_entry *shard;
    const struct torc_map_member *primary;

    if ((op->kind != TORC_OP_GET && op->kind != TORC_OP_WRITE && op->kind != TORC_OP_SCAN) ||
        (op->state != TORC_OP_QUEUED && op->state != TORC_OP_SENT &&
         op->state != TORC_OP_STREAMING && op->state != TORC_OP_WAITING &&
         op->state != TORC_OP_PARKED) ||
        op->fixed_node) {
        return false;
    }
    shard = torc_route_find(engine, op->key);
    if (shard == NULL || shard->primary >= shard->member_count) {
        return false;
    }
    primary = &shard->members[shard->primary];
    if (op->state == TORC_OP_SENT && op->at_copy) {
        return false; // another copy than the primary was chosen for it
    }
    if (op->state == TORC_OP_SENT || op->state == TORC_OP_STREAMING) {
        // A read that flies is served by the same primary under its new epoch, too.
        return engine->nodes[op->node].id != primary->node ||
               (op->kind == TORC_OP_WRITE && shard->epoch > op->epoch);
    }
    return shard->epoch > op->epoch;
}

// Its answers of before, if any come, still count (K2, K4).
static void redirect(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    op->owes = false; // another node, which refused nothing: this is no more of the same
    op->backoff = 0;
    op->refusals = 0;
    engine->counters.resends_overtaken += op->state == TORC_OP_SENT ? 1 : 0;
    if (op->kind == TORC_OP_SCAN && torc_scan_late(engine, index)) {
        return; // what has come stands; the rest is asked for at the same moment
    }
    torc_op_unlink(engine, index);
    if (op->kind == TORC_OP_WRITE && op->big != NULL) {
        torc_big_free(engine, index); // its pieces are at the other node
        op->generation++;
    }
    torc_op_route(engine, index);
}

void torc_route_redirect(struct torc_engine *engine)
{
    engine->redirect_due = false;
    for (uint32_t index = 0; index < engine->op_count; index++) {
        if (redirect_concerns(engine, &engine->ops[index])) {
            redirect(engine, index);
        }
    }
}
