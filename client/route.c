// Torc client: which node has a key: the shard map as known here; see engine_state.h.
//
// What    the whole map is asked for with the first session, and again when a key's entry is
//         missing or proved wrong; WRONG_SHARD brings the one entry that matters along. When a node
//         does not answer, another one is asked, and so on round all that are known (K3).
#include "client/engine_state.h"

#define ASK_EVERY_NS UINT64_C(50000000)
#define ASK_TIME_NS  UINT64_C(5000000000)
// Between two questions for the map because a node is silent (REPLICATION.md, K3: client_probe).
#define SILENT_EVERY_NS UINT64_C(8000000)
#define ROUTE_ANY       UINT16_MAX

const struct torc_map_entry *torc_route_find(const struct torc_engine *engine, uint64_t key)
{
    return torc_map_find(&engine->map, key);
}

uint16_t torc_route_other(const struct torc_engine *engine, uint16_t node)
{
    for (uint32_t i = 1; i < engine->node_count; i++) {
        uint16_t other = (uint16_t)((node + i) % engine->node_count);

        if (engine->nodes[other].address_count > 0) {
            return other;
        }
    }
    return node;
}

// `silent`: not this node, the next one; ROUTE_ANY: the first.
static void route_question(struct torc_engine *engine, uint64_t lo, uint16_t silent)
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
    op->to_first_node = silent == ROUTE_ANY;
    if (silent != ROUTE_ANY) {
        op->fixed_node = true;
        op->node = torc_route_other(engine, silent);
    }
    engine->map_op = index;
    engine->map_again_ns = engine->now_ns + ASK_EVERY_NS;
    torc_op_route(engine, index);
}

void torc_route_elsewhere(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    op->to_first_node = false;
    op->fixed_node = true;
    op->elsewhere = true; // when it has left its packet, which is of the node before
}

void torc_route_silent(struct torc_engine *engine, uint16_t node)
{
    if (engine->now_ns < engine->silent_again_ns || engine->keys == 0 ||
        torc_route_other(engine, node) == node) {
        return;
    }
    engine->silent_again_ns = engine->now_ns + SILENT_EVERY_NS;
    if (engine->map_op == TORC_OP_NONE) {
        route_question(engine, 0, node);
    } else if (engine->ops[engine->map_op].node == node &&
               engine->ops[engine->map_op].state == TORC_OP_PARKED) {
        torc_route_elsewhere(engine, engine->map_op);
        torc_op_route(engine, engine->map_op);
    }
}

// What is under way to a silent node that is not its shard's primary any more goes to the one that
// is; its packet is lost, else the node's window would wait for it for ever.
static void route_redirect(struct torc_engine *engine)
{
    for (uint32_t index = 0; index < engine->op_count; index++) {
        struct torc_op *op = &engine->ops[index];
        const struct torc_client_node *node = &engine->nodes[op->node];
        bool stuck = op->state == TORC_OP_SENT && !op->fixed_node &&
                     engine->now_ns - node->heard_ns > TORC_CLIENT_PROBE_NS;
        const struct torc_map_entry *shard = stuck ? torc_route_find(engine, op->key) : NULL;

        if (shard != NULL && shard->primary < shard->member_count &&
            shard->members[shard->primary].node != node->id) {
            torc_packet_lost(engine, op->packet);
            op->backoff = 0;
            torc_op_route(engine, index);
        }
    }
}

void torc_route_ask(struct torc_engine *engine)
{
    if (engine->map_op != TORC_OP_NONE || engine->keys == 0) {
        return;
    }
    engine->map_fresh = false;
    route_question(engine, 0, ROUTE_ANY);
}

void torc_route_entry(struct torc_engine *engine, const struct torc_reply *reply)
{
    struct torc_map_entry entry;
    struct torc_node_entry node;

    if (reply->opcode == TORC_OPCODE_NODE_ENTRY) {
        if (torc_node_entry_decode(&node, reply, NULL) == TORC_ERR_OK) {
            torc_node_learn(engine, &node);
        }
        return;
    }
    // LIMIT, a map of more shards than there is room for: what is not kept is asked for when
    // needed.
    if (torc_map_entry_decode(&entry, reply, NULL) != TORC_ERR_OK ||
        torc_map_put(&engine->map, &entry) != TORC_ERR_OK) {
        engine->counters.packets_ignored++;
    }
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
        route_question(engine, next, ROUTE_ANY);
        return;
    }
    engine->map_fresh = true;
    engine->map_again_ns = engine->now_ns + ASK_EVERY_NS;
    route_redirect(engine);
    torc_engine_unpark(engine);
}
