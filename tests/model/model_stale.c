// Torc tests: the client's engine and reads of a bounded age, in a world that knows how old what
// was read is.
//
// What    three nodes of a script have one shard. Its one value is a number that grows; each copy
//         has what was committed up to some moment, later or earlier, and answers by the rules of
//         docs/PROTOCOL.md (STALE). Answers are delayed and lost, copies fall behind, are cut off
//         from the client, lose their place, and primaries change.
// Oracle  a get or scan never shows less than what was committed when it was called, less the age
//         that its caller gave, to the microsecond; without an age, nothing less than all.
//         Calls end; once nobody hinders them, well.
// Seed    TORC_SEED.
#include "client/engine_state.h"
#include "tests/torc_test.h"

#include <stdlib.h>

#define NODES       3u
#define KEYS        UINT64_C(8)
#define STEP_NS     UINT64_C(50000)
#define MS_NS       UINT64_C(1000000)
#define US_NS       UINT64_C(1000)
#define BASE_PORT   7000u
#define LETTERS     4096u
#define PACKET_MAX  1472u
#define OPS_MAX     64u
#define HISTORY     (1u << 20)
#define CLUSTER     UINT64_C(77)
#define MAP_VERSION UINT64_C(9)
#define LOSS_PPM    20000u
#define DELAY_STEPS 20u
#define ROUNDS      40u
#define ROUND_MS    25u

struct copy {
    uint64_t known_ns; // all that was committed up to then is here
    bool follows;      // else it falls behind
    bool heard;        // by the client
    bool member;
};

struct letter {
    uint64_t due_ns;
    uint32_t bytes;
    uint8_t payload[PACKET_MAX];
};

struct call {
    uint64_t begun_ns;
    uint64_t age_us;
    bool is_count; // of which only the end is known
    bool open;
};

struct world {
    struct torc_engine *engine;
    struct torc_rng rng;
    uint64_t now_ns;
    struct copy copies[NODES + 1]; // from 1
    uint32_t primary;
    uint32_t epoch;
    uint64_t commits[HISTORY]; // when each number from 1 on was committed
    uint32_t committed;
    struct letter letters[LETTERS];
    uint32_t letter_count;
    uint64_t seq;
    struct call calls[OPS_MAX];
    uint32_t statuses[256];
    uint32_t ended;
    uint32_t oldest_us; // seen
};

static struct world *world;

// The number that was there at that time.
static uint32_t number_at(uint64_t at_ns)
{
    uint32_t lo = 0;
    uint32_t hi = world->committed;

    while (lo < hi) {
        uint32_t middle = (lo + hi + 1) / 2;

        if (world->commits[middle] <= at_ns) {
            lo = middle;
        } else {
            hi = middle - 1;
        }
    }
    return lo;
}

// ---- Nodes

static void answer_map(uint8_t *ops, uint32_t *at, uint32_t op_id)
{
    struct torc_map_entry entry = {.hi = KEYS,
                                   .version = MAP_VERSION + world->epoch,
                                   .shard = 5,
                                   .epoch = world->epoch,
                                   .member_count = NODES,
                                   .primary = (uint8_t)(world->primary - 1)};
    uint8_t body[TORC_MAP_ENTRY_BYTES_MAX];
    struct torc_reply reply = {
        .opcode = TORC_OPCODE_MAP_ENTRY, .op_id = op_id, .info = entry.version, .body = body};

    for (uint32_t i = 0; i < NODES; i++) {
        entry.members[i] = (struct torc_map_member){
            .node = i + 1,
            .state = world->copies[i + 1].member ? TORC_MAP_IN_SYNC : TORC_MAP_LEARNER};
    }
    reply.body_bytes = torc_map_entry_body(body, &entry);
    *at += torc_reply_encode(ops + *at, &reply);
    for (uint32_t i = 1; i <= NODES; i++) {
        uint8_t address[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = (uint8_t)i};
        struct torc_node_entry node = {.node = i,
                                       .base_port = (uint16_t)(BASE_PORT + i),
                                       .cores = 1,
                                       .address_count = 1,
                                       .addresses = address};

        reply = (struct torc_reply){.opcode = TORC_OPCODE_NODE_ENTRY,
                                    .op_id = op_id,
                                    .info = entry.version,
                                    .body = body,
                                    .body_bytes = torc_node_entry_body(body, &node)};
        *at += torc_reply_encode(ops + *at, &reply);
    }
}

// The rows or the count of a scan, all with what the copy has.
static uint32_t answer_rows(const struct torc_request *request, uint64_t number, uint8_t *body)
{
    static struct torc_rows_builder builder;
    struct torc_rows_place place = {
        .cover_lo = request->lo, .cover_hi = request->hi, .flags = TORC_ROWS_LAST};
    struct torc_le64 value = torc_le64(number);

    if ((request->flags & TORC_RANGE_COUNT) != 0) {
        torc_rows_write_count(&place, request->hi - request->lo, body);
        return TORC_ROWS_COUNT_BYTES;
    }
    torc_rows_begin(&builder, PACKET_MAX / 2, request->flags);
    for (uint64_t i = 0; i < request->hi - request->lo; i++) {
        bool reverse = (request->flags & TORC_RANGE_REVERSE) != 0;
        struct torc_rows_item item = {.key = reverse ? request->hi - 1 - i : request->lo + i,
                                      .value = (const unsigned char *)&value,
                                      .value_bytes = sizeof(value)};

        CU_ASSERT_FATAL(torc_rows_add(&builder, &item));
    }
    return torc_rows_write(&builder, &place, body);
}

// OK: the copy may answer, and *number is what it has.
static enum torc_err copy_reads(uint32_t self, const struct torc_request *request, uint64_t *number)
{
    bool is_get = request->opcode == TORC_OPCODE_GET;
    bool stale = (request->flags & (is_get ? TORC_GET_STALE : TORC_RANGE_STALE)) != 0;
    uint64_t known_ns = self == world->primary ? world->now_ns : world->copies[self].known_ns;

    if (!stale && self != world->primary) {
        return TORC_ERR_WRONG_SHARD;
    }
    if (stale && self != world->primary && !world->copies[self].member) {
        return TORC_ERR_WRONG_SHARD; // it left the node
    }
    if (stale && world->now_ns - known_ns > request->max_age_ms * MS_NS) {
        return TORC_ERR_TOO_STALE;
    }
    *number = number_at(known_ns);
    return TORC_ERR_OK;
}

static void answer(uint32_t self, const struct torc_request *request, uint8_t *ops, uint32_t *at)
{
    uint8_t body[PACKET_MAX];
    struct torc_le64 field = torc_le64(request->hi);
    uint64_t number = 0;
    struct torc_reply reply = {
        .opcode = request->opcode | TORC_REPLY_BIT, .op_id = request->op_id, .body = body};

    if (request->opcode == TORC_OPCODE_MAP) {
        answer_map(ops, at, request->op_id);
        memcpy(body, &field, sizeof(field));
        reply.body_bytes = sizeof(field);
        reply.info = MAP_VERSION;
    } else {
        enum torc_err err = copy_reads(self, request, &number);

        reply.status = (uint8_t)err;
        reply.info = err == TORC_ERR_OK ? number : UINT64_MAX;
        field = torc_le64(number);
        if (err == TORC_ERR_OK && request->opcode == TORC_OPCODE_GET) {
            memcpy(body, &field, sizeof(field));
            reply.body_bytes = sizeof(field);
        } else if (err == TORC_ERR_OK) {
            reply.body_bytes = answer_rows(request, number, body);
        }
    }
    *at += torc_reply_encode(ops + *at, &reply);
    if (reply.status == TORC_ERR_WRONG_SHARD) {
        answer_map(ops, at, request->op_id);
    }
}

static void letter_send(struct torc_client_node *node, const struct torc_data *to,
                        const uint8_t *ops, uint32_t bytes)
{
    struct letter *letter = &world->letters[world->letter_count];
    struct torc_data data = {.type = TORC_TYPE_CLEAR,
                             .core = to->core,
                             .flags = TORC_DATA_FROM_RESPONDER,
                             .index = node->lane.client_index,
                             .clock_us = to->clock_us,
                             .seq = ++world->seq,
                             .hlc = 6};
    struct torc_seal seal = torc_lane_direction(&node->lane, TORC_TO_CLIENT);

    if (torc_rng_chance(&world->rng, LOSS_PPM)) {
        return;
    }
    world->letter_count++;
    torc_assert(world->letter_count < LETTERS);
    torc_assert(bytes <= PACKET_MAX - TORC_DATA_OVERHEAD);
    torc_data_encode(letter->payload, &data);
    memcpy(letter->payload + TORC_DATA_HEAD_BYTES, ops, bytes);
    letter->bytes = torc_data_seal(&seal, letter->payload, TORC_DATA_HEAD_BYTES + bytes);
    letter->due_ns = world->now_ns + (1 + torc_rng_below(&world->rng, DELAY_STEPS)) * STEP_NS;
}

static void node_take(uint32_t self, struct torc_client_node *node, struct torc_datagram *datagram)
{
    struct torc_framing framing;
    const unsigned char *op;
    uint8_t ops[4 * PACKET_MAX];
    uint32_t length;
    uint32_t at = 0;
    struct torc_data data;

    torc_assert(torc_data_decode(&data, datagram->payload, datagram->bytes) == TORC_DROP_NONE);
    framing = (struct torc_framing){.bytes = datagram->payload + TORC_DATA_HEAD_BYTES,
                                    .byte_count = datagram->bytes - TORC_DATA_OVERHEAD};
    while (world->copies[self].heard && torc_framing_next(&framing, &op, &length)) {
        struct torc_request request;

        if (torc_request_decode(&request, op, length, NULL) != TORC_ERR_OK ||
            request.opcode == TORC_OPCODE_PING) {
            continue;
        }
        answer(self, &request, ops, &at);
        if (at > PACKET_MAX / 4) {
            letter_send(node, &data, ops, at);
            at = 0;
        }
    }
    if (at > 0) {
        letter_send(node, &data, ops, at);
    }
}

static void node_accept(uint32_t self, struct torc_client_node *node)
{
    struct torc_accept accept = {.lanes = 1,
                                 .suite = TORC_SUITE_CLEAR,
                                 .token_to_server = 11,
                                 .token_to_client = 12,
                                 .session_index = 100 + self,
                                 .cores = 1,
                                 .base_port = (uint16_t)(BASE_PORT + self),
                                 .payload_max = PACKET_MAX,
                                 .cluster = CLUSTER,
                                 .key_count = KEYS,
                                 .boot = 1,
                                 .node = self,
                                 .value_bytes_max = 1 << 20,
                                 .packet_ops_max = 8,
                                 .core_ops_max = 16,
                                 .packets_max = 64,
                                 .fragments_max = 16,
                                 .age_s = 3600,
                                 .deadline_ms_max = 10000,
                                 .write_window = 1024};

    if (world->copies[self].heard) {
        torc_node_accepted(world->engine, node, &accept);
    }
}

// ---- Calls

static void call_begin(uint32_t slot)
{
    static const uint64_t ages_us[] = {0, 700, 1500, 2999, 10000, 100000};
    struct call *call = &world->calls[slot];
    uint64_t lo = torc_rng_below(&world->rng, KEYS);
    uint32_t kind = (uint32_t)torc_rng_below(&world->rng, 4);
    enum torc_err err;

    *call = (struct call){.begun_ns = world->now_ns,
                          .age_us = ages_us[torc_rng_below(&world->rng, TORC_COUNT_OF(ages_us))],
                          .is_count = kind == 3,
                          .open = true};
    if (kind < 2) {
        struct torc_read_options options = {.max_age_us = call->age_us};

        err = torc_engine_get(world->engine, lo, &options, slot, NULL);
    } else {
        struct torc_engine_range range = {
            .lo = lo,
            .hi = lo + 1 + torc_rng_below(&world->rng, KEYS - lo),
            .user_data = slot,
            .count_only = call->is_count,
            .options = {.consistency = call->age_us > 0 ? TORC_STALE : TORC_SHARD,
                        .max_age_us = call->age_us,
                        .flags = torc_rng_below(&world->rng, 2) == 0 ? TORC_REVERSE : 0}};

        range.options.flags = call->is_count ? 0 : range.options.flags;
        err = torc_engine_range(world->engine, &range, NULL);
    }
    CU_ASSERT_EQUAL_FATAL(err, TORC_ERR_OK);
}

static void check_number(const struct call *call, const void *data, uint64_t bytes)
{
    uint32_t least = number_at(call->begun_ns - call->age_us * US_NS);
    struct torc_le64 field;
    uint64_t number;

    CU_ASSERT_EQUAL_FATAL(bytes, sizeof(field));
    memcpy(&field, data, sizeof(field));
    number = torc_get_le64(field);
    CU_ASSERT_FATAL(number <= world->committed);
    if (number < least) {
        (void)printf("an age of %" PRIu64 " us: %" PRIu64 " was read, %u was there\n", call->age_us,
                     number, least);
    }
    CU_ASSERT_FATAL(number >= least);
    if (number < world->committed && world->commits[number + 1] < call->begun_ns) {
        world->oldest_us = (uint32_t)torc_max_u64(
            world->oldest_us, (call->begun_ns - world->commits[number + 1]) / US_NS);
    }
}

static void call_end(const struct torc_completion *done)
{
    struct call *call = &world->calls[done->user_data];

    CU_ASSERT_FATAL(call->open);
    call->open = false;
    world->statuses[done->status & 0xff]++;
    world->ended++;
    if (done->status != TORC_ERR_OK || call->is_count) {
        return;
    }
    if (done->rows == NULL) {
        check_number(call, done->data, done->bytes);
    }
    for (uint64_t i = 0; i < done->count; i++) {
        check_number(call, done->rows[i].data, done->rows[i].bytes);
    }
}

// ---- The world

static struct torc_client_node *node_at(uint32_t self)
{
    struct torc_client_node *node = torc_node_of_id(world->engine, self);

    return node != NULL ? node : &world->engine->nodes[0]; // the seed
}

static void step_commits(void)
{
    if (torc_rng_below(&world->rng, 2) == 0 && world->committed + 1 < HISTORY) {
        world->commits[++world->committed] = world->now_ns;
    }
    for (uint32_t i = 1; i <= NODES; i++) {
        uint64_t lag_ns = torc_rng_below(&world->rng, 3 * MS_NS);

        if (i == world->primary) {
            world->copies[i].known_ns = world->now_ns;
        } else if (world->copies[i].follows && torc_rng_below(&world->rng, 8) == 0) {
            world->copies[i].known_ns =
                torc_max_u64(world->copies[i].known_ns, world->now_ns - lag_ns);
        }
    }
}

static void step_letters(void)
{
    for (uint32_t i = 0; i < world->letter_count;) {
        struct letter *letter = &world->letters[i];
        struct torc_endpoint from = {.port = 0};

        if (letter->due_ns > world->now_ns) {
            i++;
            continue;
        }
        torc_engine_receive(world->engine, &from, letter->payload, letter->bytes);
        *letter = world->letters[--world->letter_count];
    }
}

static void step(void)
{
    struct torc_engine *engine = world->engine;
    uint8_t payload[TORC_ENGINE_PAYLOAD_MAX];
    struct torc_datagram datagram = {.payload = payload};
    struct torc_completion done[16];
    uint32_t got;

    world->now_ns += STEP_NS;
    step_commits();
    torc_engine_time(engine, world->now_ns, world->now_ns / 1000);
    step_letters();
    torc_engine_clock(engine, world->now_ns, world->now_ns / 1000);
    while (torc_engine_transmit(engine, &datagram)) {
        uint32_t self = datagram.to.port - BASE_PORT;

        if (datagram.payload[1] == torc_wire_type_byte(TORC_TYPE_INIT)) {
            node_accept(self, node_at(self));
        } else {
            node_take(self, node_at(self), &datagram);
        }
    }
    while ((got = torc_engine_poll(engine, done, TORC_COUNT_OF(done))) > 0) {
        for (uint32_t i = 0; i < got; i++) {
            call_end(&done[i]);
        }
    }
}

// Calls begin as others end, some a step.
static void run(uint64_t ms, bool begins)
{
    for (uint64_t end_ns = world->now_ns + ms * MS_NS; world->now_ns < end_ns;) {
        for (uint32_t i = 0; begins && i < OPS_MAX; i++) {
            if (!world->calls[i].open && torc_rng_below(&world->rng, 20) == 0) {
                call_begin(i);
            }
        }
        step();
    }
}

static uint32_t calls_open(void)
{
    uint32_t open = 0;

    for (uint32_t i = 0; i < OPS_MAX; i++) {
        open += world->calls[i].open ? 1 : 0;
    }
    return open;
}

// What befalls copies for a round. A primary is a copy that knew all.
static void befall(void)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        world->copies[i].follows = torc_rng_below(&world->rng, 3) > 0;
        world->copies[i].heard = torc_rng_below(&world->rng, 4) > 0;
        world->copies[i].member = i == world->primary || torc_rng_below(&world->rng, 6) > 0;
    }
    if (torc_rng_below(&world->rng, 4) == 0) {
        world->primary = 1 + (uint32_t)torc_rng_below(&world->rng, NODES);
        world->copies[world->primary].member = true;
        world->epoch++;
    }
}

static void calm(void)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        world->copies[i].follows = world->copies[i].heard = world->copies[i].member = true;
    }
}

static void open_world(void)
{
    struct torc_engine_config config = {.client_id = 0x1234567800,
                                        .seed = torc_test_seed(),
                                        .pool_bytes = 4 << 20,
                                        .operations = OPS_MAX,
                                        .nodes = 64,
                                        .payload_bytes = PACKET_MAX,
                                        .read_rto_us = 1000};
    struct torc_endpoint place = {.address = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1},
                                  .port = BASE_PORT + 1};
    uint64_t bytes = (torc_engine_bytes(&config) + 4095) & ~UINT64_C(4095);
    void *memory = aligned_alloc(4096, bytes);

    world = calloc(1, sizeof(*world));
    torc_assert(memory != NULL && world != NULL);
    memset(memory, 0, bytes);
    world->rng.state = torc_test_seed();
    world->now_ns = UINT64_C(100000000000); // above any age
    world->primary = world->epoch = 1;
    calm();
    world->engine = torc_engine_init(memory, &config, world->now_ns, world->now_ns / 1000);
    CU_ASSERT_EQUAL_FATAL(torc_engine_seed(world->engine, &place, NULL), TORC_ERR_OK);
    run(20, false);
}

static void close_world(void)
{
    free(world->engine);
    free(world);
}

// ---- Cases

static void test_ages(void)
{
    struct torc_counters counters;

    open_world();
    for (uint32_t round = 0; round < ROUNDS; round++) {
        befall();
        run(ROUND_MS, true);
        if (round % 8 == 7) { // nobody hinders: all that is open ends
            calm();
            run(2000, false);
            CU_ASSERT_EQUAL_FATAL(calls_open(), 0);
        }
    }
    torc_engine_counters(world->engine, &counters);
    (void)printf("%u calls, %u well, %u too stale, %" PRIu64 " by other copies, %" PRIu64
                 " refusals of them, %u us the oldest\n",
                 world->ended, world->statuses[TORC_ERR_OK], world->statuses[TORC_ERR_TOO_STALE],
                 counters.stale_reads, counters.stale_refused, world->oldest_us);
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_OK], world->ended);
    CU_ASSERT(counters.stale_reads > 100);
    CU_ASSERT(counters.stale_refused > 10);
    CU_ASSERT(world->oldest_us > 2000);
    close_world();
}

// The primary is gone and nobody takes over: those that a copy may answer end, and no others.
static void test_primary_away(void)
{
    struct torc_read_options old = {.max_age_us = 5000000, .timeout_us = 2000000};
    struct torc_read_options newest = {.timeout_us = 300000};

    open_world();
    run(20, true); // sessions with all of them
    run(100, false);
    CU_ASSERT_EQUAL(calls_open(), 0);
    world->copies[1].heard = false;
    world->copies[2].follows = world->copies[3].follows = false;
    for (uint32_t i = 0; i < 8; i++) {
        world->calls[i] = (struct call){
            .begun_ns = world->now_ns, .age_us = i < 4 ? old.max_age_us : 0, .open = true};
        CU_ASSERT_EQUAL_FATAL(torc_engine_get(world->engine, 0, i < 4 ? &old : &newest, i, NULL),
                              TORC_ERR_OK);
    }
    memset(world->statuses, 0, sizeof(world->statuses));
    run(250, false);
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_OK], 4);
    CU_ASSERT_EQUAL(calls_open(), 4);
    run(300, false);
    CU_ASSERT_EQUAL(calls_open(), 0);
    close_world();
}

// Every copy is too old until the deadline: that is what is said.
static void test_all_too_old(void)
{
    struct torc_read_options options = {.max_age_us = 3000, .timeout_us = 400000};

    open_world();
    run(20, true);
    run(100, false);
    world->copies[1].heard = false;
    world->copies[2].follows = world->copies[3].follows = false;
    run(10, false);
    memset(world->statuses, 0, sizeof(world->statuses));
    for (uint32_t i = 0; i < 8; i++) {
        world->calls[i] =
            (struct call){.begun_ns = world->now_ns, .age_us = options.max_age_us, .open = true};
        CU_ASSERT_EQUAL_FATAL(torc_engine_get(world->engine, 0, &options, i, NULL), TORC_ERR_OK);
    }
    run(450, false);
    CU_ASSERT_EQUAL(calls_open(), 0);
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_TOO_STALE], 8);
    close_world();
}

// An age is for TORC_STALE, and reserved words are zero.
static void test_options(void)
{
    struct torc_engine_range range = {.hi = KEYS, .options = {.max_age_us = 5000}};
    struct torc_read_options options = {.reserved = {1}};
    struct torc_fail why;

    open_world();
    CU_ASSERT_EQUAL(torc_engine_range(world->engine, &range, &why), TORC_ERR_INVALID_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(why.text, "max_age_us (5000)"));
    CU_ASSERT_EQUAL(torc_engine_get(world->engine, 1, &options, 1, &why),
                    TORC_ERR_INVALID_ARGUMENT);
    close_world();
}

int main(void)
{
    CU_TestInfo tests[] = {{"nothing read is older than its caller allows", test_ages},
                           {"without a primary what may be old is read", test_primary_away},
                           {"no copy young enough: TOO_STALE", test_all_too_old},
                           {"options that contradict each other are refused", test_options},
                           CU_TEST_INFO_NULL};

    return torc_test_run("stale", tests);
}
