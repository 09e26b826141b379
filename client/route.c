// Torc client: which node has a key: the shard map as known here; see engine_state.h.
//
// What    the whole map is asked for with the first session, and again when a key's entry is
//         missing or proved wrong; WRONG_SHARD brings the one entry that matters along.
#include "client/engine_state.h"

#define ASK_EVERY_NS UINT64_C(50000000)
#define ASK_TIME_NS  UINT64_C(5000000000)

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
    op->to_first_node = true;
    engine->map_op = index;
    engine->map_again_ns = engine->now_ns + ASK_EVERY_NS;
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
        route_question(engine, next);
        return;
    }
    engine->map_fresh = true;
    engine->map_again_ns = engine->now_ns + ASK_EVERY_NS;
    torc_engine_unpark(engine);
}
