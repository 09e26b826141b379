// Torc client: the engine's life: memory, clock, packets, new operations, completions; see
// engine.h.
#include "client/engine_state.h"

#define TIMEOUT_DEFAULT_US UINT64_C(10000000)
#define TIMEOUT_MAX_US     UINT64_C(3600000000)
#define DEADLINE_FIRST_NS  UINT64_C(60000000000) // before a server has published its own
#define BUDGET_FIRST       32000u                // a burst of 32 resends at the start
#define WRITE_WINDOW_FIRST 256u                  // before a server has published its own
#define VALUE_MEAN_FIRST   64u
#define PAGE_BYTES_DEFAULT (UINT64_C(1) << 20)
#define PACKETS_SPARE      4096u // pieces of large values: 64 whole windows

// ---- Memory

static uint64_t op_slots(const struct torc_engine_config *config)
{
    return (uint64_t)config->operations + TORC_OPS_OWN;
}

struct layout {
    uint64_t nodes;
    uint64_t ops;
    uint64_t links;
    uint64_t packets;
    uint64_t shards;
    uint64_t scouts;
    uint64_t paths;
    uint64_t wseqs;
    uint64_t wseq_ops;
    uint64_t texts;
    uint64_t inlines;
    uint64_t pool;
    uint64_t end;
};

static uint64_t lay(uint64_t *at, uint64_t bytes)
{
    uint64_t start = *at;

    *at = (start + bytes + 4095) & ~UINT64_C(4095);
    return start;
}

static struct layout layout_of(const struct torc_engine_config *config)
{
    uint64_t slots = op_slots(config);
    uint64_t at = 0;
    struct layout layout;

    (void)lay(&at, sizeof(struct torc_engine));
    layout.nodes = lay(&at, (uint64_t)config->nodes * sizeof(struct torc_client_node));
    layout.ops = lay(&at, slots * sizeof(struct torc_op));
    layout.links = lay(&at, (slots + config->nodes) * sizeof(struct torc_wheel_link));
    layout.packets = lay(&at, (slots + (uint64_t)PACKETS_SPARE) * sizeof(struct torc_packet));
    layout.shards = lay(&at, (uint64_t)TORC_ENGINE_SHARDS_MAX * sizeof(struct torc_map_entry));
    layout.scouts = lay(&at, (uint64_t)TORC_SCOUTS * sizeof(struct torc_scout));
    layout.paths = lay(&at, 256ull * config->nodes * sizeof(struct torc_client_path));
    layout.wseqs = lay(&at, TORC_WSEQ_SPAN / 8);
    layout.wseq_ops = lay(&at, TORC_WSEQ_SPAN * sizeof(uint32_t));
    layout.texts = lay(&at, slots * TORC_OP_TEXT_BYTES);
    layout.inlines = lay(&at, slots * TORC_OP_INLINE_BYTES);
    layout.pool = lay(&at, config->pool_bytes);
    layout.end = at;
    return layout;
}

uint64_t torc_engine_bytes(const struct torc_engine_config *config)
{
    return layout_of(config).end;
}

uint64_t torc_engine_secret_bytes(const struct torc_engine_config *config)
{
    return layout_of(config).ops;
}

static void engine_lists(struct torc_engine *engine)
{
    torc_list_init(&engine->free_own);
    torc_list_init(&engine->free_caller);
    torc_list_init(&engine->parked);
    torc_list_init(&engine->starved);
    torc_list_init(&engine->unnumbered);
    torc_list_init(&engine->owing);
    torc_list_init(&engine->done);
    torc_list_init(&engine->returned);
    for (uint32_t index = 0; index < engine->op_count; index++) {
        bool own = index >= engine->config.operations;

        torc_ops_push(engine, own ? &engine->free_own : &engine->free_caller, index);
        engine->ops[index].packet = TORC_OP_NONE;
    }
    for (uint32_t index = 0; index < engine->packet_count; index++) {
        engine->packets[index].next = index + 1 < engine->packet_count ? index + 1 : TORC_OP_NONE;
        engine->packets[index].previous = index > 0 ? index - 1 : TORC_OP_NONE;
    }
    engine->free_packets = (struct torc_list){
        .head = 0, .tail = engine->packet_count - 1, .count = engine->packet_count};
}

static void engine_tables(struct torc_engine *engine, const struct layout *layout)
{
    uint8_t *base = (uint8_t *)engine;

    engine->ops = (struct torc_op *)(void *)(base + layout->ops);
    engine->packets = (struct torc_packet *)(void *)(base + layout->packets);
    engine->wseq_open = (uint64_t *)(void *)(base + layout->wseqs);
    engine->wseq_ops = (uint32_t *)(void *)(base + layout->wseq_ops);
    engine->texts = (char *)(base + layout->texts);
    engine->inlines = base + layout->inlines;
    engine->scouts = (struct torc_scout *)(void *)(base + layout->scouts);
    engine->nodes = (struct torc_client_node *)(void *)(base + layout->nodes);
    engine->paths = (struct torc_client_path *)(void *)(base + layout->paths);
    torc_map_init(&engine->map, (struct torc_map_entry *)(void *)(base + layout->shards),
                  TORC_ENGINE_SHARDS_MAX);
    torc_pool_init(&engine->pool, base + layout->pool, engine->config.pool_bytes);
    torc_wheel_init(&engine->wheel, (struct torc_wheel_link *)(void *)(base + layout->links),
                    engine->op_count + engine->config.nodes, engine->now_ns);
    engine_lists(engine);
}

static void config_check(const struct torc_engine_config *config)
{
    torc_assert(config->operations >= 1);
    torc_assert(config->operations <= TORC_ENGINE_OPERATIONS_MAX);
    torc_assert(config->nodes >= TORC_ENGINE_SEEDS_MAX);
    torc_assert(config->nodes <= TORC_ENGINE_NODES_MAX);
    torc_assert(config->payload_bytes >= TORC_PAYLOAD_MIN);
    torc_assert(config->payload_bytes <= TORC_ENGINE_PAYLOAD_MAX);
    torc_assert((config->client_id & 0xff) == 0);
    torc_assert_implies(config->key.principal != 0, config->aead != NULL);
}

struct torc_engine *torc_engine_init(void *memory, const struct torc_engine_config *config,
                                     uint64_t now_ns, uint64_t wall_us)
{
    struct layout layout = layout_of(config);
    struct torc_engine *engine = memory;

    config_check(config);
    engine->config = *config;
    if (engine->config.timeout_us == 0) {
        engine->config.timeout_us = TIMEOUT_DEFAULT_US;
    }
    engine->op_count = (uint32_t)op_slots(config);
    engine->packet_count = engine->op_count + PACKETS_SPARE;
    engine->wseq_next = engine->wseq_low = 1;
    engine->write_window = WRITE_WINDOW_FIRST;
    engine->deadline_ns_max = DEADLINE_FIRST_NS;
    engine->first_node = UINT32_MAX;
    engine->marked = TORC_OP_NONE;
    engine->map_op = TORC_OP_NONE;
    engine->now_ns = now_ns;
    engine->wall_us = wall_us;
    engine->budget_at_ns = now_ns;
    engine->budget = BUDGET_FIRST;
    engine->value_mean = engine->row_mean = VALUE_MEAN_FIRST;
    engine->rng.state = config->seed;
    engine_tables(engine, &layout);
    return engine;
}

enum torc_err torc_engine_seed(struct torc_engine *engine, const struct torc_endpoint *seed,
                               struct torc_fail *why)
{
    struct torc_client_node *node;

    if (engine->node_count == TORC_ENGINE_SEEDS_MAX) {
        return torc_fail(why, TORC_ERR_LIMIT, "at most %u seed addresses", TORC_ENGINE_SEEDS_MAX);
    }
    node = torc_node_add(engine, TORC_NODE_UNKNOWN);
    torc_assert(node != NULL);
    node->place = (struct torc_client_place){.count = 1, .base_port = seed->port};
    memcpy(node->place.addresses[0], seed->address, sizeof(seed->address));
    torc_node_shake(engine, node, NULL);
    return TORC_ERR_OK;
}

// ---- Time

void torc_engine_time(struct torc_engine *engine, uint64_t now_ns, uint64_t wall_us)
{
    torc_assert(now_ns >= engine->now_ns);
    engine->now_ns = now_ns;
    engine->wall_us = wall_us;
}

void torc_engine_clock(struct torc_engine *engine, uint64_t now_ns, uint64_t wall_us)
{
    uint32_t index;

    torc_engine_time(engine, now_ns, wall_us);
    while ((index = torc_wheel_expire(&engine->wheel, now_ns)) != TORC_WHEEL_NONE) {
        if (index >= engine->op_count) {
            torc_node_timer(engine, &engine->nodes[index - engine->op_count]);
        } else {
            torc_call_timer(engine, index);
        }
    }
    torc_budget_serve(engine);
}

uint64_t torc_engine_deadline_ns(const struct torc_engine *engine)
{
    uint64_t deadline_ns =
        torc_min_u64(torc_wheel_deadline_ns(&engine->wheel), torc_budget_deadline_ns(engine));

    if (engine->feed_due && engine->starved.count > 0) {
        return engine->now_ns; // the next torc_engine_transmit lets them go on
    }
    for (uint32_t i = torc_node_busy_from(engine, 0); i < engine->node_count;
         i = torc_node_busy_from(engine, i + 1)) {
        const struct torc_client_node *node = &engine->nodes[i];

        if (node->pace_until_ns > engine->now_ns && torc_node_has_work(node)) {
            deadline_ns = torc_min_u64(deadline_ns, node->pace_until_ns);
        }
    }
    return deadline_ns;
}

// ---- Packets

// Of the nodes [first, end).
static bool transmit_from(struct torc_engine *engine, uint32_t first, uint32_t end,
                          struct torc_datagram *datagram)
{
    for (uint32_t at = torc_node_busy_from(engine, first); at < end;
         at = torc_node_busy_from(engine, at + 1)) {
        if (torc_node_transmit(engine, &engine->nodes[at], datagram)) {
            torc_assert(datagram->bytes <= engine->config.payload_bytes);
            engine->node_turn = at + 1;
            engine->counters.packets_sent++;
            return true;
        }
        torc_node_rest(engine, &engine->nodes[at]);
    }
    return false;
}

bool torc_engine_transmit(struct torc_engine *engine, struct torc_datagram *datagram)
{
    uint32_t turn = engine->node_turn;

    if (engine->feed_due && engine->starved.count > 0) {
        torc_engine_feed(engine);
    }
    if (engine->owing.count > 0) {
        torc_budget_serve(engine);
    }
    return transmit_from(engine, turn, engine->node_count, datagram) ||
           transmit_from(engine, 0, turn, datagram);
}

void torc_engine_receive(struct torc_engine *engine, const struct torc_endpoint *from,
                         uint8_t *payload, uint32_t bytes)
{
    engine->counters.packets_received++;
    torc_node_receive(engine, from, payload, bytes);
}

// ---- New operations

static enum torc_err key_check(const struct torc_engine *engine, uint64_t key,
                               struct torc_fail *why)
{
    if (engine->closing) {
        return torc_fail(why, TORC_ERR_CLOSED, "the queue is closing");
    }
    if (engine->keys != 0 && key >= engine->keys) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "key %" PRIu64 " is outside [0, %" PRIu64 ")", key, engine->keys);
    }
    return TORC_ERR_OK;
}

static uint64_t deadline_of(const struct torc_engine *engine, uint64_t timeout_us)
{
    uint64_t left_us = timeout_us != 0 ? timeout_us : engine->config.timeout_us;

    left_us = torc_min_u64(left_us, TIMEOUT_MAX_US);
    return engine->now_ns + torc_min_u64(left_us * 1000, engine->deadline_ns_max);
}

static enum torc_err op_new(struct torc_engine *engine, uint32_t *index, struct torc_fail *why)
{
    *index = torc_op_take(engine, false);
    if (*index == TORC_OP_NONE) {
        return torc_fail(why, TORC_ERR_LIMIT, "%u operations are in flight: poll first",
                         engine->config.operations);
    }
    return TORC_ERR_OK;
}

// Gives a slot back that got no operation after all.
static void op_undo(struct torc_engine *engine, uint32_t index)
{
    torc_op_free(engine, index);
    engine->pending--;
}

// What the wire carries of it, never more. None at all is a linearizable read.
static uint32_t age_ms(uint64_t age_us)
{
    return (uint32_t)torc_min_u64(age_us / 1000, UINT32_MAX);
}

enum torc_err torc_engine_get(struct torc_engine *engine, uint64_t key,
                              const struct torc_read_options *options, uint64_t user_data,
                              struct torc_fail *why)
{
    static const struct torc_read_options defaults;
    enum torc_err err = key_check(engine, key, why);
    uint32_t index = TORC_OP_NONE;
    struct torc_op *op;

    options = options == NULL ? &defaults : options;
    if (err == TORC_ERR_OK && ((options->flags & ~(TORC_VERSION_ONLY | TORC_TRACED)) != 0 ||
                               options->reserved32 != 0 || options->reserved[0] != 0)) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "read options: flags 0x%x, and `reserved` must be zero", options->flags);
    }
    if (err == TORC_ERR_OK) {
        err = op_new(engine, &index, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    op = &engine->ops[index];
    op->kind = TORC_OP_GET;
    op->key = key;
    op->flags = (uint8_t)options->flags;
    op->age_ms = age_ms(options->max_age_us);
    op->user_data = user_data;
    op->deadline_ns = deadline_of(engine, options->timeout_us);
    if ((options->flags & TORC_TRACED) != 0) {
        torc_trace_begin(engine, index);
    }
    torc_op_route(engine, index);
    op->awaited = true;
    return TORC_ERR_OK;
}

static enum torc_err write_check(const struct torc_engine *engine,
                                 const struct torc_engine_write *write, struct torc_fail *why)
{
    enum torc_err err = key_check(engine, write->key, why);
    uint64_t most = engine->keys != 0 ? engine->value_bytes_max : engine->config.pool_bytes / 4;

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (write->condition > TORC_IF_VERSION || write->condition == 3 ||
        (write->is_delete && write->condition == TORC_IF_ABSENT)) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "condition %u is none that a %s takes",
                         write->condition, write->is_delete ? "delete" : "put");
    }
    if (write->bytes > most) {
        return torc_fail(why, TORC_ERR_TOO_LARGE, "a value of %" PRIu64 " bytes: at most %" PRIu64,
                         write->bytes, most);
    }
    if (write->bytes > 0 && write->data == NULL) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "a value of %" PRIu64 " bytes at NULL",
                         write->bytes);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_engine_write(struct torc_engine *engine, const struct torc_engine_write *write,
                                struct torc_fail *why)
{
    enum torc_err err = write_check(engine, write, why);
    uint32_t index = TORC_OP_NONE;
    struct torc_op *op;

    if (err == TORC_ERR_OK) {
        err = op_new(engine, &index, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    op = &engine->ops[index];
    op->kind = TORC_OP_WRITE;
    op->bytes = (uint32_t)write->bytes;
    op->condition = (uint8_t)write->condition;
    if (!torc_op_reserve(engine, index, torc_max_u64(write->bytes, 1)) ||
        (op->owns_block && !torc_big_reserve(engine, index))) { // else it fits into a packet
        op_undo(engine, index);
        return torc_fail(why, TORC_ERR_LIMIT,
                         "no memory in the queue for a value of %" PRIu64 " bytes: poll first",
                         write->bytes);
    }
    if (write->bytes > 0) {
        memcpy(op->data, write->data, write->bytes);
    }
    op->key = write->key;
    op->is_delete = write->is_delete;
    op->asked_version = write->condition == TORC_IF_VERSION ? write->version : 0;
    op->user_data = write->user_data;
    op->deadline_ns = deadline_of(engine, write->timeout_us);
    if (write->traced) {
        torc_trace_begin(engine, index);
    }
    torc_op_route(engine, index);
    op->awaited = true;
    return TORC_ERR_OK;
}

static enum torc_err range_check(const struct torc_engine *engine,
                                 const struct torc_engine_range *range, struct torc_fail *why)
{
    const struct torc_range_options *options = &range->options;

    if (engine->closing) {
        return torc_fail(why, TORC_ERR_CLOSED, "the queue is closing");
    }
    if (range->lo > range->hi) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "range [%" PRIu64 ", %" PRIu64 "): the start is above the end", range->lo,
                         range->hi);
    }
    if (engine->keys != 0 && range->hi > engine->keys) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "range [%" PRIu64 ", %" PRIu64 "): keys are below %" PRIu64, range->lo,
                         range->hi, engine->keys);
    }
    if ((options->flags & ~(TORC_REVERSE | TORC_KEYS_ONLY | TORC_WITH_VERSIONS)) != 0 ||
        options->consistency > TORC_STALE || options->reserved[0] != 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "range options: flags 0x%x, consistency %u, and `reserved` must be zero",
                         options->flags, options->consistency);
    }
    if (options->max_age_us != 0 && options->consistency != TORC_STALE) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "range options: max_age_us (%" PRIu64 ") is for TORC_STALE",
                         options->max_age_us);
    }
    if (options->timestamp != 0 && options->consistency != TORC_SNAPSHOT) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "range options: a timestamp (%" PRIu64 ") is for TORC_SNAPSHOT",
                         options->timestamp);
    }
    return TORC_ERR_OK;
}

static uint8_t range_wire_flags(const struct torc_engine_range *range)
{
    uint32_t flags = range->options.flags;

    return (uint8_t)(((flags & TORC_REVERSE) != 0 ? TORC_RANGE_REVERSE : 0u) |
                     ((flags & TORC_KEYS_ONLY) != 0 ? TORC_RANGE_KEYS_ONLY : 0u) |
                     ((flags & TORC_WITH_VERSIONS) != 0 ? TORC_RANGE_WITH_VERSIONS : 0u) |
                     (range->count_only ? TORC_RANGE_COUNT : 0u) |
                     (age_ms(range->options.max_age_us) != 0 ? TORC_RANGE_STALE : 0u));
}

// The most that one page holds: it must fit into the queue's memory with others.
static uint64_t page_bytes_max(const struct torc_engine *engine)
{
    return torc_min_u64(engine->config.pool_bytes / 8, UINT64_C(16) << 20);
}

static void page_fill_state(const struct torc_engine *engine, struct torc_page_state *page,
                            const struct torc_engine_range *range)
{
    const struct torc_range_options *options = &range->options;
    uint64_t bytes = options->bytes != 0 ? options->bytes : PAGE_BYTES_DEFAULT;

    *page = (struct torc_page_state){.lo = range->lo,
                                     .hi = range->hi,
                                     .limit = TORC_PAGE_ROWS_MAX,
                                     .bytes_max = torc_min_u64(bytes, page_bytes_max(engine)),
                                     .age_ms = age_ms(options->max_age_us),
                                     .wire_flags = range_wire_flags(range),
                                     .is_count = range->count_only,
                                     .snapshot = options->consistency == TORC_SNAPSHOT,
                                     .ts = options->timestamp,
                                     .ts_given = options->timestamp != 0,
                                     .reverse = (options->flags & TORC_REVERSE) != 0,
                                     .scans_max = range->count_only ? TORC_PAGE_SCANS_MAX : 1};
    if (options->limit != 0 && options->limit <= TORC_PAGE_ROWS_MAX) {
        page->limit = options->limit;
        page->limit_given = true;
    }
    page->front = page->reverse ? page->hi : page->lo;
    for (uint32_t i = 0; i < TORC_PAGE_SCANS_MAX; i++) {
        page->scans[i].op = TORC_OP_NONE;
    }
}

enum torc_err torc_engine_range(struct torc_engine *engine, const struct torc_engine_range *range,
                                struct torc_fail *why)
{
    enum torc_err err = range_check(engine, range, why);
    uint32_t index = TORC_OP_NONE;
    struct torc_op *op;

    if (err == TORC_ERR_OK) {
        err = op_new(engine, &index, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    op = &engine->ops[index];
    op->page = torc_pool_take(&engine->pool, sizeof(struct torc_page_state));
    if (op->page == NULL) {
        op_undo(engine, index);
        return torc_fail(why, TORC_ERR_LIMIT, "no memory in the queue for a page: poll first");
    }
    page_fill_state(engine, op->page, range);
    op->kind = TORC_OP_PAGE;
    op->user_data = range->user_data;
    op->deadline_ns = deadline_of(engine, range->options.timeout_us);
    torc_page_begin(engine, index);
    op->awaited = true;
    return TORC_ERR_OK;
}

enum torc_err torc_engine_status(struct torc_engine *engine, uint32_t node, uint64_t timeout_us,
                                 uint64_t user_data, struct torc_fail *why)
{
    const struct torc_client_node *place = node == 0 ? NULL : torc_node_of_id(engine, node);
    enum torc_err err = key_check(engine, 0, why);
    uint32_t index = TORC_OP_NONE;
    struct torc_op *op;

    if (err == TORC_ERR_OK && node != 0 && place == NULL) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "node %u is not known here", node);
    }
    if (err == TORC_ERR_OK) {
        err = op_new(engine, &index, why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    op = &engine->ops[index];
    op->kind = TORC_OP_STATUS;
    op->hlc = 0; // nothing in it has a place in time
    op->user_data = user_data;
    op->deadline_ns = deadline_of(engine, timeout_us);
    op->to_first_node = place == NULL;
    op->fixed_node = place != NULL;
    op->node = place != NULL ? place->index : 0;
    torc_op_route(engine, index);
    op->awaited = true;
    return TORC_ERR_OK;
}

// ---- Completions

static void completion_fill(const struct torc_engine *engine, uint32_t index,
                            struct torc_completion *completion)
{
    const struct torc_op *op = &engine->ops[index];
    bool has_value =
        op->status == TORC_ERR_OK && (op->kind == TORC_OP_GET || op->kind == TORC_OP_STATUS);

    *completion = (struct torc_completion){.user_data = op->user_data,
                                           .status = (enum torc_err)op->status,
                                           .version = op->version,
                                           .count = op->count,
                                           .data = has_value ? op->data : NULL,
                                           .bytes = has_value ? op->bytes : 0,
                                           .text = torc_op_text(engine, index)};
    if (op->kind == TORC_OP_WRITE && torc_err_maybe_applied(completion->status)) {
        completion->flags |= TORC_DOUBT;
    }
    if (op->kind == TORC_OP_PAGE && op->status == TORC_ERR_OK) {
        torc_page_fill(op, completion);
    }
}

void torc_engine_release(struct torc_engine *engine)
{
    uint32_t index = engine->returned.head;

    torc_list_init(&engine->returned);
    while (index != TORC_OP_NONE) {
        uint32_t next = engine->ops[index].next;

        engine->ops[index].state = TORC_OP_HELD; // on no list any more
        torc_op_free(engine, index);
        index = next;
    }
}

uint32_t torc_engine_poll(struct torc_engine *engine, struct torc_completion *completions,
                          uint32_t max)
{
    uint32_t count = 0;

    torc_engine_release(engine);
    for (uint32_t index = engine->done.head; count < max && index != TORC_OP_NONE;
         index = engine->ops[index].next) {
        engine->ops[index].state = TORC_OP_RETURNED;
        engine->ops[index].awaited = false;
        completion_fill(engine, index, &completions[count++]);
    }
    torc_ops_split(engine, &engine->done, count, &engine->returned);
    torc_assert(engine->pending >= count);
    engine->pending -= count;
    return count;
}

bool torc_engine_poll_due(const struct torc_engine *engine)
{
    return engine->done.count > 0 || (engine->returned.count > 0 && engine->starved.count > 0);
}

uint32_t torc_engine_abandon(const struct torc_engine *engine, uint32_t *cursor,
                             struct torc_completion *completions, uint32_t max)
{
    uint32_t count = 0;

    for (; count < max && *cursor < engine->config.operations; (*cursor)++) {
        const struct torc_op *op = &engine->ops[*cursor];

        if (op->awaited) {
            completions[count++] = (struct torc_completion){
                .user_data = op->user_data,
                .status = TORC_ERR_INTERNAL,
                .flags = op->kind == TORC_OP_WRITE && op->attempts > 0 ? TORC_DOUBT : 0};
        }
    }
    return count;
}

uint32_t torc_engine_abandoned(const struct torc_engine *engine, uint32_t cursor)
{
    uint32_t count = 0;

    for (; cursor < engine->config.operations; cursor++) {
        count += engine->ops[cursor].awaited ? 1 : 0;
    }
    return count;
}

uint32_t torc_engine_pending(const struct torc_engine *engine)
{
    return engine->pending;
}

// ---- The cluster

bool torc_engine_ready(const struct torc_engine *engine)
{
    return engine->first_node != UINT32_MAX && engine->keys != 0 &&
           torc_map_hole(&engine->map, 0, engine->keys) == engine->keys;
}

const char *torc_engine_trouble(const struct torc_engine *engine)
{
    if (engine->first_node != UINT32_MAX) {
        return engine->trouble.text[0] != '\0' ? engine->trouble.text
                                               : "the shard map is not known yet";
    }
    return engine->trouble.text[0] != '\0' ? engine->trouble.text : "no seed has answered yet";
}

void torc_engine_map_refresh(struct torc_engine *engine)
{
    engine->map_fresh = false;
    torc_route_ask(engine);
}

bool torc_engine_map_fresh(const struct torc_engine *engine)
{
    return engine->map_fresh;
}

void torc_engine_close(struct torc_engine *engine)
{
    engine->closing = true;
    torc_shakes_forget(engine);
    for (uint32_t i = 0; i < engine->node_count; i++) {
        struct torc_client_node *node = &engine->nodes[i];

        node->close_due = node->state == TORC_NODE_UP;
        node->previous_close_due = node->close_due && node->has_previous;
        torc_node_stir(engine, node);
    }
}

void torc_engine_limits(const struct torc_engine *engine, struct torc_limits *limits)
{
    const struct torc_client_node *node;

    *limits = (struct torc_limits){.keys = engine->keys,
                                   .cluster = engine->cluster,
                                   .map_version = engine->map.version,
                                   .deadline_us_max = engine->deadline_ns_max / 1000,
                                   .value_bytes_max = (uint32_t)engine->value_bytes_max,
                                   .page_rows_max = TORC_PAGE_ROWS_MAX,
                                   .page_bytes_max = (uint32_t)page_bytes_max(engine),
                                   .batch_max = engine->config.operations,
                                   .shards = engine->map.count};
    if (engine->first_node == UINT32_MAX) {
        return;
    }
    node = &engine->nodes[engine->first_node];
    limits->packet_ops_max = node->limits.packet_ops_max;
    limits->packet_bytes = node->payload;
    limits->node = node->id;
    limits->cores = node->cores;
    limits->durability = node->limits.durability;
    limits->encryption = node->lane.suite & TORC_SUITES_SEALED;
}

void torc_engine_counters(const struct torc_engine *engine, struct torc_counters *counters)
{
    const struct torc_client_node *node;

    *counters = engine->counters;
    if (engine->first_node == UINT32_MAX) {
        return;
    }
    node = &engine->nodes[engine->first_node];
    counters->rtt_us = node->paths[0].read_srtt_ns / 1000;
    counters->window_packets = node->window >> TORC_WINDOW_SHIFT;
}

uint32_t torc_engine_shards(const struct torc_engine *engine, struct torc_shard *shards,
                            uint32_t max)
{
    uint32_t count = (uint32_t)torc_min_u64(engine->map.count, max);

    for (uint32_t i = 0; i < count; i++) {
        const struct torc_map_entry *entry = &engine->map.entries[i];
        bool has_primary = entry->primary < entry->member_count;

        shards[i] = (struct torc_shard){
            .lo = entry->lo,
            .hi = entry->hi,
            .shard = entry->shard,
            .epoch = entry->epoch,
            .primary = has_primary ? entry->members[entry->primary].node : 0,
            .primary_core = has_primary ? entry->members[entry->primary].core : 255,
            .replicas = entry->member_count};
    }
    return engine->map.count;
}
