// Torc client: operations: their slots, lists and ends; see engine_state.h.
#include "client/engine_state.h"

// ---- Lists

void torc_list_init(struct torc_list *list)
{
    *list = (struct torc_list){.head = TORC_OP_NONE, .tail = TORC_OP_NONE};
}

void torc_ops_split(struct torc_engine *engine, struct torc_list *list, uint32_t count,
                    struct torc_list *front)
{
    uint32_t next = list->head;
    uint32_t last = TORC_OP_NONE;

    torc_assert(count <= list->count);
    for (uint32_t i = 0; i < count; i++) {
        last = next;
        next = engine->ops[next].next;
    }
    *front = (struct torc_list){
        .head = count > 0 ? list->head : TORC_OP_NONE, .tail = last, .count = count};
    list->count -= count;
    list->head = next;
    if (next == TORC_OP_NONE) {
        list->tail = TORC_OP_NONE;
    } else {
        engine->ops[next].previous = TORC_OP_NONE;
    }
    if (count > 0) {
        engine->ops[last].next = TORC_OP_NONE;
    }
}

// ---- Slots

uint32_t torc_op_take(struct torc_engine *engine, bool own)
{
    struct torc_list *list = own ? &engine->free_own : &engine->free_caller;
    uint32_t index = list->head;
    struct torc_op *op;
    uint32_t generation;

    if (index == TORC_OP_NONE) {
        return TORC_OP_NONE;
    }
    torc_ops_remove(engine, list, index);
    op = &engine->ops[index];
    generation = op->generation + 1;
    *op = (struct torc_op){.generation = generation,
                           .begun_ns = engine->now_ns,
                           .hlc = own ? 0 : engine->hlc,
                           .packet = TORC_OP_NONE,
                           .parent = TORC_OP_NONE,
                           .next = TORC_OP_NONE,
                           .previous = TORC_OP_NONE,
                           .state = TORC_OP_HELD};
    torc_op_text(engine, index)[0] = '\0';
    if (!own) {
        engine->pending++;
    }
    return index;
}

uint32_t torc_op_take_own(struct torc_engine *engine, uint32_t kept)
{
    return engine->free_own.count > kept ? torc_op_take(engine, true) : TORC_OP_NONE;
}

static void op_value_free(struct torc_engine *engine, struct torc_op *op)
{
    if (op->owns_block) {
        torc_pool_give(&engine->pool, op->data);
        engine->feed_due = true;
    }
    if (op->big_room != NULL) {
        torc_pool_give(&engine->pool, op->big_room);
        op->big_room = NULL;
    }
    op->data = NULL;
    op->owns_block = false;
}

void torc_op_free(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    torc_assert(op->state != TORC_OP_FREE);
    torc_op_unlink(engine, index);
    torc_wheel_stop(&engine->wheel, index);
    torc_big_free(engine, index);
    torc_page_free_state(engine, op);
    op_value_free(engine, op);
    op->state = TORC_OP_FREE;
    engine->feed_due = true;
    // The one freed last is taken first: its lines are in the cache.
    torc_ops_push_front(
        engine, index >= engine->config.operations ? &engine->free_own : &engine->free_caller,
        index);
}

bool torc_op_reserve(struct torc_engine *engine, uint32_t index, uint64_t bytes)
{
    struct torc_op *op = &engine->ops[index];

    op_value_free(engine, op);
    if (bytes <= TORC_OP_INLINE_BYTES) {
        op->data = engine->inlines + (uint64_t)index * TORC_OP_INLINE_BYTES;
        return true;
    }
    op->data = torc_pool_take(&engine->pool, bytes);
    op->owns_block = op->data != NULL;
    return op->owns_block;
}

char *torc_op_text(const struct torc_engine *engine, uint32_t index)
{
    return engine->texts + (uint64_t)index * TORC_OP_TEXT_BYTES;
}

uint32_t torc_op_id(const struct torc_engine *engine, uint32_t index)
{
    return index | engine->ops[index].generation << TORC_OP_SLOT_BITS;
}

uint32_t torc_op_find(const struct torc_engine *engine, uint32_t id)
{
    uint32_t index = id & ((1u << TORC_OP_SLOT_BITS) - 1);

    if (index >= engine->op_count || torc_op_id(engine, index) != id) {
        return TORC_OP_NONE;
    }
    switch ((enum torc_op_state)engine->ops[index].state) {
    case TORC_OP_QUEUED:
    case TORC_OP_SENT:
    case TORC_OP_STREAMING:
    case TORC_OP_WAITING:
    case TORC_OP_PARKED: return index;
    case TORC_OP_FREE:
    case TORC_OP_HELD:
    case TORC_OP_DONE:
    case TORC_OP_RETURNED: return TORC_OP_NONE;
    }
    torc_unreachable("an operation has one of these states");
}

// ---- States

static struct torc_list *op_queue(struct torc_engine *engine, const struct torc_op *op)
{
    return &torc_op_path(engine, op)->queues[op->kind == TORC_OP_WRITE ? 1 : 0];
}

// Whether the operation's core has anything to be sent.
static void path_queue_changed(struct torc_engine *engine, const struct torc_op *op)
{
    const struct torc_client_path *path = torc_op_path(engine, op);
    uint64_t bit = UINT64_C(1) << (op->core % 64);

    if (path->queues[0].count + path->queues[1].count > 0) {
        engine->nodes[op->node].waiting[op->core / 64] |= bit;
        torc_node_stir(engine, &engine->nodes[op->node]);
    } else {
        engine->nodes[op->node].waiting[op->core / 64] &= ~bit;
    }
}

static void op_unhold(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    switch ((enum torc_op_hold)op->hold) {
    case TORC_HOLD_NONE: break;
    case TORC_HOLD_STARVED: torc_ops_remove(engine, &engine->starved, index); break;
    case TORC_HOLD_UNNUMBERED: torc_ops_remove(engine, &engine->unnumbered, index); break;
    case TORC_HOLD_OWING: torc_ops_remove(engine, &engine->owing, index); break;
    }
    op->hold = TORC_HOLD_NONE;
}

// Off its list; pieces of a large put stay in flight.
static void op_detach(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    switch ((enum torc_op_state)op->state) {
    case TORC_OP_QUEUED:
        torc_ops_remove(engine, op_queue(engine, op), index);
        path_queue_changed(engine, op);
        break;
    case TORC_OP_SENT: torc_packet_leave(engine, index); break;
    case TORC_OP_PARKED: torc_ops_remove(engine, &engine->parked, index); break;
    case TORC_OP_DONE: torc_ops_remove(engine, &engine->done, index); break;
    case TORC_OP_RETURNED: torc_ops_remove(engine, &engine->returned, index); break;
    case TORC_OP_HELD:
    case TORC_OP_STREAMING:
    case TORC_OP_WAITING: op_unhold(engine, index); break;
    case TORC_OP_FREE: break;
    }
    op->state = TORC_OP_HELD;
}

void torc_op_unlink(struct torc_engine *engine, uint32_t index)
{
    op_detach(engine, index);
    if (engine->ops[index].big != NULL) {
        torc_big_stop(engine, index);
    }
}

void torc_op_hold(struct torc_engine *engine, uint32_t index, enum torc_op_hold hold)
{
    struct torc_op *op = &engine->ops[index];

    torc_op_unlink(engine, index);
    op->hold = (uint8_t)hold;
    torc_ops_push(engine, hold == TORC_HOLD_STARVED ? &engine->starved : &engine->unnumbered,
                  index);
    torc_wheel_set(&engine->wheel, index, op->deadline_ns);
}

static void op_park(struct torc_engine *engine, uint32_t index)
{
    engine->ops[index].state = TORC_OP_PARKED;
    torc_ops_push(engine, &engine->parked, index);
}

// Its node cannot be reached from here, also by the map that was asked for on its behalf.
static bool op_is_beyond(const struct torc_engine *engine, const struct torc_op *op)
{
    return op->asked && engine->map_fresh && torc_route_beyond(engine, op) != 0;
}

// Where the operation goes: a node that was chosen before, or the primary of its key.
static struct torc_client_node *op_place(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    const struct torc_map_entry *shard;
    const struct torc_map_member *member;
    struct torc_client_node *node;

    if (op->to_first_node) {
        op->fixed_node = true;
        op->node = torc_route_teller(engine, op);
    }
    if (op->fixed_node) {
        return &engine->nodes[op->node];
    }
    shard = torc_route_find(engine, op->key);
    member = shard == NULL ? NULL : torc_stale_member(engine, op, shard);
    if (member == NULL && shard != NULL && shard->primary < shard->member_count) {
        member = &shard->members[shard->primary];
    }
    node = member == NULL ? NULL : torc_node_of_id(engine, member->node);
    if (node == NULL) {
        if (!op_is_beyond(engine, op)) {
            torc_route_ask(engine);
        }
        return NULL;
    }
    op->epoch = shard->epoch;
    op->shard = (uint8_t)(shard->shard % 64);
    op->node = node->index;
    op->core = member->core >= torc_max_u64(node->cores, 1) ? 0 : member->core;
    if (op->kind == TORC_OP_SCAN) {
        torc_scan_clip(engine, index, shard->hi);
    }
    return node;
}

// Of an operation that is on no list.
static void op_enqueue(struct torc_engine *engine, uint32_t index, bool front)
{
    struct torc_op *op = &engine->ops[index];

    op->state = TORC_OP_QUEUED;
    if (front) {
        torc_ops_push_front(engine, op_queue(engine, op), index);
    } else {
        torc_ops_push(engine, op_queue(engine, op), index);
    }
    path_queue_changed(engine, op);
}

void torc_op_queue(struct torc_engine *engine, uint32_t index, bool front)
{
    op_detach(engine, index);
    op_enqueue(engine, index, front);
}

// Those that were sent together are given up together.
static uint64_t sent_rto_ns(struct torc_engine *engine, const struct torc_op *op,
                            struct torc_packet *packet)
{
    if (op->backoff > 0) {
        return torc_path_rto_ns(engine, op);
    }
    if (packet->rto_ns == 0) {
        packet->rto_ns = torc_path_rto_ns(engine, op);
    }
    return packet->rto_ns;
}

void torc_op_sent(struct torc_engine *engine, uint32_t index, uint32_t packet)
{
    struct torc_op *op = &engine->ops[index];
    uint64_t rto_ns = sent_rto_ns(engine, op, &engine->packets[packet]);

    op_detach(engine, index);
    op->state = TORC_OP_SENT;
    torc_packet_enter(engine, packet, index);
    torc_wheel_set(&engine->wheel, index, torc_min_u64(engine->now_ns + rto_ns, op->deadline_ns));
}

void torc_op_stream(struct torc_engine *engine, uint32_t index)
{
    op_detach(engine, index);
    engine->ops[index].state = TORC_OP_STREAMING;
}

// A part of its answer has come: what needs several round trips waits once behind the others, not
// once for each.
static bool op_is_begun(const struct torc_engine *engine, const struct torc_op *op)
{
    if (op->parent != TORC_OP_NONE) {
        return op->kind == TORC_OP_GET || engine->ops[op->parent].page->first != NULL;
    }
    return op->kind == TORC_OP_GET && op->big != NULL;
}

void torc_op_route(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_client_node *node;

    torc_op_unlink(engine, index);
    if (op->kind == TORC_OP_WRITE && op->wseq == 0 && !torc_call_number(engine, op)) {
        torc_op_hold(engine, index, TORC_HOLD_UNNUMBERED);
        return;
    }
    torc_wheel_set(&engine->wheel, index, op->deadline_ns);
    if (op->attempts >= TORC_TRIES_MAX) {
        op->state = TORC_OP_WAITING; // for an answer to one of them, or the deadline
        return;
    }
    if (engine->first_node == UINT32_MAX) {
        op_park(engine, index);
        return;
    }
    node = op_place(engine, index);
    if (node != NULL && op->big != NULL && !torc_big_fits(engine, op)) {
        // The path became narrower: from the start, in smaller pieces, and under another id, so
        // that late pieces of the size before are nobody's, here and there.
        torc_big_free(engine, index);
        op->generation++;
    }
    if (node == NULL || node->state != TORC_NODE_UP) {
        if (node != NULL) {
            torc_node_shake(engine, node, NULL);
        }
        op_park(engine, index);
        if (node == NULL && op_is_beyond(engine, op)) {
            // It ends with the next clock. Not here: others walk over lists.
            op->deadline_ns = torc_min_u64(op->deadline_ns, engine->now_ns);
            torc_wheel_set(&engine->wheel, index, op->deadline_ns);
        }
        op->asked = node == NULL;
        torc_scout_call(engine, index, engine->now_ns + TORC_SCOUT_FIRST_NS, false);
        return;
    }
    // A write sent before holds `low` back; a probe, the size of all that follows.
    op_enqueue(engine, index,
               op->attempts > 0 || op->kind == TORC_OP_PROBE || op_is_begun(engine, op));
}

void torc_op_wait(struct torc_engine *engine, uint32_t index, uint64_t at_ns)
{
    torc_op_unlink(engine, index);
    engine->ops[index].state = TORC_OP_WAITING;
    torc_wheel_set(&engine->wheel, index, torc_min_u64(at_ns, engine->ops[index].deadline_ns));
}

void torc_op_owe(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];

    torc_assert(op->state == TORC_OP_WAITING || op->state == TORC_OP_STREAMING);
    torc_assert(op->hold == TORC_HOLD_NONE);
    op->hold = TORC_HOLD_OWING;
    torc_ops_push(engine, &engine->owing, index);
    torc_wheel_set(&engine->wheel, index, op->deadline_ns);
}

static bool op_is_done(enum torc_err status)
{
    return status == TORC_ERR_OK || status == TORC_ERR_NOT_FOUND ||
           status == TORC_ERR_CONDITION_FAILED;
}

void torc_op_end(struct torc_engine *engine, uint32_t index, enum torc_err status,
                 const char *format, ...)
{
    struct torc_op *op = &engine->ops[index];
    bool releases = op->last_refusal == TORC_ERR_TAKING_OVER && op_is_done(status);
    uint64_t key = op->key;

    torc_assert(op->state != TORC_OP_FREE);
    torc_assert(op->state != TORC_OP_DONE);
    if (op->lent && op_is_done(status)) {
        torc_budget_proved(engine, &engine->nodes[op->node]);
    }
    torc_op_unlink(engine, index);
    torc_wheel_stop(&engine->wheel, index);
    if (format != NULL) {
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(torc_op_text(engine, index), TORC_OP_TEXT_BYTES, format, arguments);
        va_end(arguments);
    }
    op->status = (uint8_t)status;
    if (op->traced) {
        torc_trace_end(engine, index);
    }
    if (op->kind == TORC_OP_MAP) {
        engine->map_op = TORC_OP_NONE;
    }
    if (op->kind == TORC_OP_PROBE) {
        torc_mtu_end(engine, index);
    }
    if (op->kind == TORC_OP_SCOUT) {
        torc_scout_end(engine, index);
    }
    torc_big_free(engine, index);
    if (op->kind == TORC_OP_PAGE) {
        torc_page_abandon(engine, index);
    }
    if (op->kind == TORC_OP_WRITE) {
        op_value_free(engine, op);
        op->bytes = 0;
    }
    if (op->parent != TORC_OP_NONE) {
        torc_page_child_end(engine, index, status);
    } else if (index >= engine->config.operations) {
        torc_op_free(engine, index); // a question of ours
    } else {
        op->state = TORC_OP_DONE;
        torc_ops_push(engine, &engine->done, index);
        engine->counters.ops_completed++;
    }
    if (op->kind == TORC_OP_WRITE) {
        torc_call_outcome_known(engine, op); // last: it may set others going
    }
    if (releases) {
        torc_scout_release(engine, key);
    }
}

// Prepared before the first session, when nobody could say how many keys there are.
static bool op_is_outside(const struct torc_engine *engine, const struct torc_op *op)
{
    switch ((enum torc_op_kind)op->kind) {
    case TORC_OP_GET:
    case TORC_OP_WRITE: return op->key >= engine->keys;
    case TORC_OP_PAGE: return op->page->hi > engine->keys;
    case TORC_OP_STATUS:
    case TORC_OP_SCAN:
    case TORC_OP_MAP:
    case TORC_OP_PROBE:
    case TORC_OP_SCOUT: break;
    }
    return false;
}

void torc_engine_unpark(struct torc_engine *engine)
{
    // They go back to the list's end when they still have no way, so a count ends the walk.
    for (uint32_t left = engine->parked.count; left > 0 && engine->parked.count > 0; left--) {
        uint32_t index = engine->parked.head;

        if (engine->keys != 0 && op_is_outside(engine, &engine->ops[index])) {
            torc_op_end(engine, index, TORC_ERR_INVALID_ARGUMENT,
                        "outside of the store: its keys are [0, %" PRIu64 ")", engine->keys);
        } else if (engine->ops[index].kind == TORC_OP_PAGE) {
            torc_page_begin(engine, index);
        } else {
            torc_op_route(engine, index);
        }
    }
}

void torc_engine_feed(struct torc_engine *engine)
{
    engine->feed_due = false;
    for (uint32_t left = engine->starved.count; left > 0 && engine->starved.count > 0; left--) {
        uint32_t index = engine->starved.head;

        torc_op_unlink(engine, index);
        if (engine->ops[index].kind == TORC_OP_PAGE) {
            torc_page_pump(engine, index);
        } else {
            torc_op_route(engine, index);
        }
    }
}
