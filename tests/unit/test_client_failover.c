// Torc tests: the client's engine when a shard's primary falls silent or is no primary any more.
//
// Three nodes of a script, that have one shard among them: each has an entry of the map that it
// believes in, and a role. They answer as workers do (dataplane/worker_map.c, worker_replica.c),
// one step after a packet came. Time is the test's.
#include "client/engine_state.h"
#include "tests/torc_test.h"

#include <stdlib.h>

#define NODES       3u
#define KEYS        UINT64_C(1000)
#define STEP_NS     UINT64_C(50000)
#define MS_NS       UINT64_C(1000000)
#define PAUSE_NS    (20 * MS_NS)           // REPLICATION.md, section 13: the client's part
#define ASK_MOST_NS (64 * MS_NS * 11 / 10) // PROTOCOL.md, section 8: between two questions
#define BASE_PORT   7000u
#define PACKETS     512u
#define PACKET_MAX  1472u
#define OPS_MAX     256u
#define WRITES_MAX  4096u
#define CLUSTER     UINT64_C(77)
#define MAP_VERSION UINT64_C(9)
#define TEXT_BYTES  3000u // of a status, and of a piece of it
#define PIECE_BYTES 1000u

enum role {
    SILENT,
    FOLLOWS,
    TAKES_OVER,
    SERVES
};

struct fake {
    enum role role;
    uint32_t epoch; // of the entry that it believes in
    uint32_t primary;
    uint64_t wall_us; // beyond the world's
    uint64_t hlc;
};

// The last put in pieces that a node was sent.
struct pieces {
    uint32_t node;
    uint32_t op_id;
    uint32_t count;
    uint64_t come; // bit i: piece i
    uint64_t wseq;
    uint8_t attempt;
};

struct letter {
    uint32_t bytes;
    uint8_t payload[PACKET_MAX];
};

struct world {
    struct torc_engine *engine;
    uint64_t now_ns;
    struct fake nodes[NODES + 1]; // from 1
    struct pieces pieces;
    struct letter letters[PACKETS];
    uint32_t letter_count;
    uint64_t seq;   // of answers
    uint64_t sends; // operations on keys that nodes saw, or would have seen
    uint64_t questions;
    uint32_t executed[WRITES_MAX]; // by wseq
    uint32_t done;
    uint32_t statuses[256];
    bool split;               // node 1 has the lower half of the keys, node 2 the others
    uint64_t told_hlc;        // a write of node 2 must come with at least this
    uint8_t text[TEXT_BYTES]; // of each node's status
    uint32_t texts;           // that came, as they are
    uint16_t packets_max;     // what nodes allow in flight; 0: 64
};

static struct world *world;
static uint64_t opened_ns = UINT64_C(1000000000); // when worlds begin
static uint32_t opened_ops = OPS_MAX;             // and their operations

// ---- Nodes

static void answer_shard(uint8_t *ops, uint32_t *at, uint32_t op_id, const struct fake *fake,
                         uint64_t lo, uint64_t hi)
{
    struct torc_map_entry entry = {.lo = lo,
                                   .hi = hi,
                                   .version = MAP_VERSION,
                                   .shard = lo == 0 ? 5 : 6,
                                   .epoch = fake->epoch,
                                   .member_count = NODES,
                                   .primary = lo == 0 ? (uint8_t)(fake->primary - 1) : 1};
    uint8_t body[TORC_MAP_ENTRY_BYTES_MAX];
    struct torc_reply reply = {
        .opcode = TORC_OPCODE_MAP_ENTRY, .op_id = op_id, .info = MAP_VERSION, .body = body};

    for (uint32_t i = 0; i < NODES; i++) {
        entry.members[i] = (struct torc_map_member){.node = i + 1, .state = TORC_MAP_IN_SYNC};
    }
    reply.body_bytes = torc_map_entry_body(body, &entry);
    *at += torc_reply_encode(ops + *at, &reply);
}

static void answer_entry(uint8_t *ops, uint32_t *at, uint32_t op_id, const struct fake *fake)
{
    answer_shard(ops, at, op_id, fake, 0, world->split ? KEYS / 2 : KEYS);
    if (world->split) {
        answer_shard(ops, at, op_id, fake, KEYS / 2, KEYS);
    }
}

static void answer_nodes(uint8_t *ops, uint32_t *at, uint32_t op_id)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        uint8_t address[16] = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = (uint8_t)i};
        struct torc_node_entry node = {.node = i,
                                       .base_port = (uint16_t)(BASE_PORT + i),
                                       .cores = 1,
                                       .address_count = 1,
                                       .addresses = address};
        uint8_t body[64];
        struct torc_reply reply = {.opcode = TORC_OPCODE_NODE_ENTRY,
                                   .op_id = op_id,
                                   .info = MAP_VERSION,
                                   .body = body,
                                   .body_bytes = torc_node_entry_body(body, &node)};

        *at += torc_reply_encode(ops + *at, &reply);
    }
}

// A piece or a question; false: of a put that this node was not sent.
static bool answer_piece(uint32_t self, const struct torc_request *request,
                         struct torc_reply *reply, uint8_t *body)
{
    struct pieces *pieces = &world->pieces;
    struct torc_frag_state state = {0};

    if (request->opcode == TORC_OPCODE_PUT) {
        *pieces = (struct pieces){.node = self,
                                  .op_id = request->op_id,
                                  .count = (request->total_bytes - 1) / request->fragment_bytes + 1,
                                  .wseq = request->wseq,
                                  .attempt = request->attempt};
    } else if (pieces->node != self || pieces->op_id != request->op_id) {
        return false;
    }
    if (request->opcode != TORC_OPCODE_FRAG_QUERY) {
        pieces->come |= UINT64_C(1) << (request->opcode == TORC_OPCODE_PUT ? 0 : request->fragment);
    }
    if (pieces->come == (UINT64_C(1) << pieces->count) - 1) {
        world->executed[pieces->wseq] = 1;
        reply->opcode = TORC_OPCODE_PUT | TORC_REPLY_BIT;
        reply->info = 1;
        body[0] = pieces->attempt;
        return true;
    }
    reply->opcode = TORC_OPCODE_FRAG_QUERY | TORC_REPLY_BIT;
    state.first_missing = (uint32_t)__builtin_ctzll(~pieces->come);
    state.send_limit = pieces->count;
    state.bitmap[0] = (uint8_t)(pieces->come >> state.first_missing);
    torc_frag_state_body(body, &state);
    reply->body_bytes = TORC_FRAG_STATE_BYTES;
    return true;
}

static void answer_text(const struct torc_request *request, struct torc_reply *reply)
{
    uint32_t at = (uint32_t)torc_min_u64(request->offset, TEXT_BYTES);

    reply->info = TEXT_BYTES;
    reply->body = world->text + at;
    reply->body_bytes = (uint32_t)torc_min_u64(TEXT_BYTES - at, PIECE_BYTES);
    reply->status = at + reply->body_bytes < TEXT_BYTES ? TORC_ERR_PARTIAL : TORC_ERR_OK;
}

static uint64_t node_wall_us(const struct fake *fake)
{
    return world->now_ns / 1000 + fake->wall_us;
}

// As storage/shard.h has it. False: CLOCK_AHEAD.
static bool node_hears(struct fake *fake, uint64_t hlc)
{
    if (hlc > fake->hlc && torc_hlc_us(hlc) > node_wall_us(fake) + TORC_DATA_AHEAD_US) {
        return false;
    }
    fake->hlc = torc_max_u64(fake->hlc, hlc);
    return true;
}

// A write's stamp is from the future, or the packet's clock was.
static bool node_is_behind(const struct fake *fake, const struct torc_request *request, bool heard)
{
    uint64_t now_hlc = torc_max_u64(fake->hlc, torc_hlc_from_us(node_wall_us(fake)));

    return !heard || (request->opcode == TORC_OPCODE_PUT &&
                      torc_hlc_us(request->stamp) > torc_hlc_us(now_hlc) + TORC_DATA_AHEAD_US);
}

static void answer(const struct fake *fake, uint32_t self, const struct torc_request *request,
                   bool heard, uint8_t *ops, uint32_t *at)
{
    uint32_t primary = world->split && request->key >= KEYS / 2 ? 2 : fake->primary;
    uint8_t body[TORC_FRAG_STATE_BYTES] = {request->attempt};
    struct torc_reply reply = {.opcode = request->opcode | TORC_REPLY_BIT,
                               .op_id = request->op_id,
                               .body = body,
                               .body_bytes = 8};
    bool is_write = request->opcode == TORC_OPCODE_PUT;
    bool is_piece =
        request->opcode == TORC_OPCODE_FRAG || request->opcode == TORC_OPCODE_FRAG_QUERY;

    if (node_is_behind(fake, request, heard)) {
        reply.status = TORC_ERR_CLOCK_AHEAD;
        reply.info = torc_hlc_from_us(node_wall_us(fake));
    } else if (request->opcode == TORC_OPCODE_MAP) {
        struct torc_le64 next = torc_le64(request->hi);

        answer_nodes(ops, at, request->op_id);
        answer_entry(ops, at, request->op_id, fake);
        memcpy(body, &next, sizeof(next));
        reply.info = MAP_VERSION;
    } else if (request->opcode == TORC_OPCODE_STATUS) {
        answer_text(request, &reply);
    } else if (is_piece && !answer_piece(self, request, &reply, body)) {
        reply.status = TORC_ERR_NO_MESSAGE;
    } else if (is_piece) {
        // told
    } else if (fake->role == TAKES_OVER) {
        reply.status = TORC_ERR_TAKING_OVER;
        reply.info = 2000;
    } else if (fake->role != SERVES || primary != self ||
               (is_write && request->epoch != fake->epoch) || request->epoch > fake->epoch) {
        reply.status = TORC_ERR_WRONG_SHARD;
        reply.info = MAP_VERSION;
    } else if (is_write && (request->flags & TORC_WRITE_FRAGMENTED) != 0) {
        (void)answer_piece(self, request, &reply, body);
    } else if (is_write) {
        CU_ASSERT(self != 2 || fake->hlc >= world->told_hlc);
        torc_assert(request->wseq < WRITES_MAX);
        world->executed[request->wseq] = 1; // replicated: the same number again changes nothing
        reply.info = 1;
    } else {
        reply.status = TORC_ERR_NOT_FOUND;
    }
    *at += torc_reply_encode(ops + *at, &reply);
    if (reply.status == TORC_ERR_WRONG_SHARD) {
        answer_entry(ops, at, request->op_id, fake);
    }
}

static void letter_send(struct torc_client_node *node, const struct torc_data *to,
                        const uint8_t *ops, uint32_t bytes)
{
    struct letter *letter = &world->letters[world->letter_count++];
    struct torc_data data = {.type = TORC_TYPE_CLEAR,
                             .core = to->core,
                             .flags = TORC_DATA_FROM_RESPONDER,
                             .index = node->lane.client_index,
                             .clock_us = to->clock_us,
                             .seq = ++world->seq,
                             .hlc = world->nodes[node->id].hlc};
    struct torc_seal seal = torc_lane_direction(&node->lane, TORC_TO_CLIENT);

    torc_assert(world->letter_count <= PACKETS);
    torc_assert(bytes <= PACKET_MAX - TORC_DATA_OVERHEAD);
    torc_data_encode(letter->payload, &data);
    memcpy(letter->payload + TORC_DATA_HEAD_BYTES, ops, bytes);
    letter->bytes = torc_data_seal(&seal, letter->payload, TORC_DATA_HEAD_BYTES + bytes);
}

static void node_take(uint32_t self, struct torc_client_node *node, struct torc_datagram *datagram)
{
    struct fake *fake = &world->nodes[self];
    struct torc_framing framing;
    const unsigned char *op;
    uint8_t ops[8 * PACKET_MAX];
    uint32_t length;
    uint32_t at = 0;
    struct torc_data data;
    bool heard;

    torc_assert(torc_data_decode(&data, datagram->payload, datagram->bytes) == TORC_DROP_NONE);
    heard = node_hears(fake, torc_data_hlc(datagram->payload));
    framing = (struct torc_framing){.bytes = datagram->payload + TORC_DATA_HEAD_BYTES,
                                    .byte_count = datagram->bytes - TORC_DATA_OVERHEAD};
    while (torc_framing_next(&framing, &op, &length)) {
        struct torc_request request;

        if (torc_request_decode(&request, op, length, NULL) != TORC_ERR_OK) {
            continue;
        }
        world->sends += request.opcode == TORC_OPCODE_PUT || request.opcode == TORC_OPCODE_GET;
        world->questions += request.opcode == TORC_OPCODE_MAP ? 1 : 0;
        if (fake->role != SILENT && request.opcode != TORC_OPCODE_PING) {
            answer(fake, self, &request, heard, ops, &at);
        }
        if (at > PACKET_MAX / 2) {
            letter_send(node, &data, ops, at);
            at = 0;
        }
    }
    if (at > 0) {
        letter_send(node, &data, ops, at);
    }
}

// What a handshake with it ends with.
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
                                 .packet_ops_max = 16,
                                 .core_ops_max = 256,
                                 .packets_max = world->packets_max == 0 ? 64 : world->packets_max,
                                 .fragments_max = 16,
                                 .age_s = 3600,
                                 .deadline_ms_max = 10000,
                                 .write_window = 1024};

    if (world->nodes[self].role != SILENT) {
        torc_node_accepted(world->engine, node, &accept);
    }
}

static struct torc_client_node *node_at(uint32_t self)
{
    struct torc_client_node *node = torc_node_of_id(world->engine, self);

    return node != NULL ? node : &world->engine->nodes[0]; // the seed
}

// ---- The world

static void step(void)
{
    struct torc_engine *engine = world->engine;
    uint8_t payload[TORC_ENGINE_PAYLOAD_MAX];
    struct torc_datagram datagram = {.payload = payload};
    uint32_t count = world->letter_count;
    struct torc_completion done[16];
    uint32_t got;

    world->now_ns += STEP_NS;
    torc_engine_time(engine, world->now_ns, world->now_ns / 1000);
    for (uint32_t i = 0; i < count; i++) {
        struct torc_endpoint from = {.port = 0};

        torc_engine_receive(engine, &from, world->letters[i].payload, world->letters[i].bytes);
    }
    world->letter_count = 0;
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
            world->statuses[done[i].status & 0xff]++;
            world->texts +=
                done[i].bytes == TEXT_BYTES && memcmp(done[i].data, world->text, TEXT_BYTES) == 0
                    ? 1
                    : 0;
            world->done++;
        }
    }
}

static void run_ms(uint64_t ms)
{
    for (uint64_t end_ns = world->now_ns + ms * MS_NS; world->now_ns < end_ns;) {
        step();
    }
}

// Steps until so many operations have ended; how long that took.
static uint64_t await_done(uint32_t count, uint64_t ms_max)
{
    uint64_t began_ns = world->now_ns;

    while (world->done < count && world->now_ns < began_ns + ms_max * MS_NS) {
        step();
    }
    CU_ASSERT_EQUAL(world->done, count);
    return world->now_ns - began_ns;
}

// All believe that node 1 is primary under epoch 1; the client knows of node `seed` alone.
static void open_world(uint32_t seed)
{
    struct torc_engine_config config = {.client_id = 0x1234567800,
                                        .seed = torc_test_seed(),
                                        .pool_bytes = 4 << 20,
                                        .operations = opened_ops,
                                        .nodes = 64,
                                        .payload_bytes = PACKET_MAX,
                                        .read_rto_us = 1000};
    struct torc_endpoint place = {.address = {[10] = 0xff, [11] = 0xff, [12] = 10},
                                  .port = (uint16_t)(BASE_PORT + seed)};
    uint64_t bytes = (torc_engine_bytes(&config) + 4095) & ~UINT64_C(4095);
    void *memory = aligned_alloc(4096, bytes);

    world = calloc(1, sizeof(*world));
    torc_assert(memory != NULL && world != NULL);
    memset(memory, 0, bytes);
    world->now_ns = opened_ns;
    for (uint32_t i = 0; i < TEXT_BYTES; i++) {
        world->text[i] = (uint8_t)('a' + (i + i / 26) % 26);
    }
    for (uint32_t i = 1; i <= NODES; i++) {
        world->nodes[i] =
            (struct fake){.role = i == 1 ? SERVES : FOLLOWS, .epoch = 1, .primary = 1, .hlc = 6};
    }
    world->engine = torc_engine_init(memory, &config, world->now_ns, world->now_ns / 1000);
    place.address[15] = (uint8_t)seed;
    CU_ASSERT_EQUAL_FATAL(torc_engine_seed(world->engine, &place, NULL), TORC_ERR_OK);
}

static void close_world(void)
{
    free(world->engine);
    free(world);
}

// Half of them writes. Microseconds of patience: 0 is the default.
static void begin(uint32_t count, uint64_t timeout_us)
{
    struct torc_read_options options = {.timeout_us = timeout_us};

    for (uint32_t i = 0; i < count; i++) {
        struct torc_engine_write write = {
            .key = i % KEYS, .data = "value", .bytes = 5, .timeout_us = timeout_us};
        enum torc_err err = i % 2 == 0
                                ? torc_engine_write(world->engine, &write, NULL)
                                : torc_engine_get(world->engine, i % KEYS, &options, i, NULL);

        CU_ASSERT_EQUAL_FATAL(err, TORC_ERR_OK);
    }
}

static void believe(uint32_t node, enum role role, uint32_t epoch, uint32_t primary)
{
    world->nodes[node].role = role;
    world->nodes[node].epoch = epoch;
    world->nodes[node].primary = primary;
}

// As many as that were done, and each write is executed.
static void check_all_done(uint32_t count)
{
    uint32_t executed = 0;

    for (uint32_t i = 0; i <= OPS_MAX; i++) {
        executed += world->executed[i];
    }
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_OK] + world->statuses[TORC_ERR_NOT_FOUND],
                    world->done);
    CU_ASSERT_EQUAL(executed, count / 2);
}

// ---- What is asked

// Deadlines are far: nothing is an error, and the pause ends with the new primary's beginning.
static void test_silent(void)
{
    for (uint64_t after_ms = 1; after_ms <= 90; after_ms += 7) {
        open_world(3);
        run_ms(50);
        begin(2, 0);
        (void)await_done(2, 50);
        believe(1, SILENT, 1, 1);
        world->sends = world->questions = 0;
        begin(16, 0);
        run_ms(after_ms);
        CU_ASSERT_EQUAL(world->done, 2);
        believe(2, SERVES, 2, 2);
        believe(3, FOLLOWS, 2, 2);
        CU_ASSERT(await_done(18, 1000) <= PAUSE_NS);
        check_all_done(18);
        CU_ASSERT(world->sends <= UINT64_C(192));
        CU_ASSERT(world->questions <= 16);
        close_world();
    }
}

// The candidate is asked by one of them, the others wait until that one is served.
static void test_taking_over(void)
{
    open_world(1);
    run_ms(50);
    begin(2, 0);
    (void)await_done(2, 50);
    believe(1, SILENT, 1, 1);
    begin(64, 0);
    run_ms(25);
    believe(2, TAKES_OVER, 2, 2);
    believe(3, FOLLOWS, 2, 2);
    run_ms(20);
    world->sends = 0;
    run_ms(40);
    CU_ASSERT(world->sends <= 64 + 40); // none is asked for twice but by the one
    CU_ASSERT_EQUAL(world->done, 2);
    believe(2, SERVES, 2, 2);
    CU_ASSERT(await_done(66, 1000) <= PAUSE_NS);
    check_all_done(66);
    close_world();
}

// Everybody sends the client to somebody who is none: it goes round slowly, and comes out.
//
// By the third question at the latest. Members are asked in turn, but for whom the map calls
// primary. The first may pass over node 3, when the map still has its word of before, and a read
// that goes to node 3 then is served and says nothing of an epoch. What is asked in its place makes
// the map call another, nobody says node 3 of epoch 1 any more, and only one of the other two can
// come before it.
static void test_circle(void)
{
    open_world(1);
    run_ms(50);
    believe(1, FOLLOWS, 1, 2);
    believe(2, FOLLOWS, 1, 1);
    believe(3, FOLLOWS, 1, 3);
    world->sends = world->questions = 0;
    begin(8, 0);
    run_ms(1000);
    CU_ASSERT_EQUAL(world->done, 0);
    CU_ASSERT(world->sends <= UINT64_C(320));
    CU_ASSERT(world->questions <= 200);
    believe(3, SERVES, 2, 3);
    // The entry comes a step after the question, the answers of who serves one later.
    CU_ASSERT(await_done(8, 1000) <= 3 * ASK_MOST_NS + 2 * STEP_NS);
    check_all_done(8);
    close_world();
}

// While it goes to the second primary there is a third; what the first says later is not believed.
static void test_epochs_rise(void)
{
    open_world(1);
    run_ms(50);
    begin(2, 0);
    (void)await_done(2, 50);
    believe(1, SILENT, 1, 1);
    begin(16, 0);
    run_ms(20);
    believe(2, TAKES_OVER, 2, 2);
    run_ms(10);
    believe(2, SILENT, 2, 2);
    run_ms(30);
    believe(3, SERVES, 3, 3);
    CU_ASSERT(await_done(18, 1000) <= PAUSE_NS);
    check_all_done(18);
    believe(1, SERVES, 1, 1); // it sleeps no more, and has not heard
    torc_engine_map_refresh(world->engine);
    run_ms(100);
    CU_ASSERT_EQUAL(torc_route_find(world->engine, 0)->epoch, 3);
    begin(4, 0);
    CU_ASSERT(await_done(22, 1000) <= PAUSE_NS);
    close_world();
}

// It never had a session with the primary.
static void test_no_session(void)
{
    open_world(3);
    believe(1, SILENT, 1, 1);
    begin(16, 0);
    run_ms(60);
    believe(2, SERVES, 2, 2);
    believe(3, FOLLOWS, 2, 2);
    CU_ASSERT(await_done(16, 1000) <= PAUSE_NS);
    check_all_done(16);
    close_world();
}

// One value of several packets, and nothing else of that shard: nobody but its put can ask.
static void test_pieces(void)
{
    static uint8_t value[3 * PACKET_MAX];
    struct torc_engine_write write = {.key = 7, .data = value, .bytes = sizeof(value)};

    for (uint64_t after_ms = 0; after_ms <= 90; after_ms += 6) {
        open_world(3);
        run_ms(50);
        CU_ASSERT_EQUAL_FATAL(torc_engine_write(world->engine, &write, NULL), TORC_ERR_OK);
        (void)await_done(1, 50);
        CU_ASSERT_EQUAL(world->executed[1], 1);
        CU_ASSERT_EQUAL_FATAL(torc_engine_write(world->engine, &write, NULL), TORC_ERR_OK);
        if (after_ms % 4 == 0) { // some of it arrives before
            step();
        }
        believe(1, SILENT, 1, 1);
        run_ms(after_ms);
        believe(2, SERVES, 2, 2);
        believe(3, FOLLOWS, 2, 2);
        CU_ASSERT(await_done(2, 1000) <= 2 * PAUSE_NS);
        CU_ASSERT_EQUAL(world->executed[2], 1);
        close_world();
    }
}

static void test_deadline(void)
{
    open_world(1);
    run_ms(50);
    for (uint32_t i = 1; i <= NODES; i++) {
        believe(i, SILENT, 1, 1);
    }
    begin(8, 300000);
    (void)await_done(8, 400);
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_IN_DOUBT], 4);
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_DEADLINE], 4);
    close_world();
}

// Each attempt was refused: it is known that none was executed.
static void test_deadline_refused(void)
{
    open_world(1);
    run_ms(50);
    believe(1, TAKES_OVER, 1, 1);
    begin(8, 300000);
    (void)await_done(8, 400);
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_TAKING_OVER], 8);
    CU_ASSERT_EQUAL(world->executed[1], 0);
    close_world();
}

// ---- Answers to others

#define ID_ROUND (1u << (32 - TORC_OP_SLOT_BITS)) // operations of a slot until an id comes again
#define CLOCK_NS (UINT64_C(1000) << 32)           // until the clock of the wire does

static void begin_one(bool is_write, uint64_t timeout_us)
{
    struct torc_engine_write write = {
        .key = 1, .data = "value", .bytes = 5, .timeout_us = timeout_us};
    struct torc_read_options options = {.timeout_us = timeout_us};

    CU_ASSERT_EQUAL_FATAL(is_write ? torc_engine_write(world->engine, &write, NULL)
                                   : torc_engine_get(world->engine, 1, &options, 0, NULL),
                          TORC_ERR_OK);
}

// The caller's one operation.
static uint32_t only_op(void)
{
    for (uint32_t index = 0; index < OPS_MAX; index++) {
        if (world->engine->ops[index].state != TORC_OP_FREE) {
            return index;
        }
    }
    torc_unreachable("one was begun");
}

static void receive(const struct letter *letter)
{
    torc_assert(world->letter_count < PACKETS);
    world->letters[world->letter_count++] = *letter;
    step();
}

// Node 1 answers once, and the answer is held up until its operation has met its deadline and
// another one has the same id. That one is not answered.
static void check_late(bool is_write, enum role role)
{
    struct letter late;
    uint32_t id;

    open_world(1);
    run_ms(50);
    believe(1, role, 1, 1);
    begin_one(is_write, 2000);
    id = torc_op_id(world->engine, only_op());
    world->letter_count = 0;
    step();
    CU_ASSERT_EQUAL_FATAL(world->letter_count, 1);
    late = world->letters[0];
    world->letter_count = 0;
    believe(1, SILENT, 1, 1);
    (void)await_done(1, 4);
    world->engine->ops[id & ((1u << TORC_OP_SLOT_BITS) - 1)].generation += ID_ROUND - 1;
    world->statuses[TORC_ERR_IN_DOUBT] = 0;
    begin_one(is_write, 2000);
    CU_ASSERT_EQUAL_FATAL(torc_op_id(world->engine, only_op()), id);
    step();
    receive(&late);
    CU_ASSERT_EQUAL_FATAL(world->done, 1);
    CU_ASSERT_EQUAL(world->engine->ops[only_op()].last_refusal, 0);
    (void)await_done(2, 4);
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_IN_DOUBT], is_write ? 1 : 0);
    close_world();
}

// Also where the clock comes round in between: after 46 ms to 60 ms, at each of the steps.
static void test_late_answer(void)
{
    for (uint64_t before_us = 0; before_us <= 60000; before_us += before_us == 0 ? 46000 : 950) {
        opened_ns = before_us == 0 ? UINT64_C(1000000000) : CLOCK_NS - before_us * 1000 + 300;
        check_late(false, SERVES);
        check_late(false, TAKES_OVER);
        check_late(true, SERVES);
        check_late(true, TAKES_OVER);
    }
    opened_ns = UINT64_C(1000000000);
}

// What is answered at once is, whatever the clock of the wire says, and in the microsecond that it
// began in.
static void test_clock_round(void)
{
    for (uint64_t at_ns = CLOCK_NS - 52 * MS_NS; at_ns <= CLOCK_NS; at_ns += 2 * STEP_NS + 333) {
        opened_ns = at_ns;
        open_world(1);
        run_ms(50);
        begin(2, 0);
        step();
        step();
        CU_ASSERT_EQUAL(world->done, 2);
        close_world();
    }
    opened_ns = UINT64_C(1000000000);
}

// An operation may last for an hour, and what it is sent then is answered.
static void test_long_operation(void)
{
    open_world(1);
    run_ms(50);
    world->engine->deadline_ns_max = UINT64_C(3600) * 1000 * MS_NS;
    begin_one(false, UINT64_C(3600) * 1000000);
    believe(1, SILENT, 1, 1);
    run_ms(20);
    for (uint32_t minute = 0; minute < 40; minute++) {
        world->now_ns += UINT64_C(60000) * MS_NS;
        step();
    }
    CU_ASSERT_EQUAL(world->done, 0);
    believe(1, SERVES, 1, 1);
    (void)await_done(1, 5000);
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_NOT_FOUND], 1);
    close_world();
}

// The first piece of a text is asked for twice, and both answers come.
static void test_text_twice(void)
{
    struct letter first;

    open_world(1);
    run_ms(50);
    CU_ASSERT_EQUAL_FATAL(torc_engine_status(world->engine, 0, 0, 0, NULL), TORC_ERR_OK);
    world->letter_count = 0;
    step();
    CU_ASSERT_EQUAL_FATAL(world->letter_count, 1);
    first = world->letters[0];
    world->letter_count = 0;
    for (uint32_t i = 0; i < 1000 && world->letter_count == 0; i++) {
        step();
    }
    CU_ASSERT_FATAL(world->letter_count > 0); // and a question for the map
    receive(&first);
    (void)await_done(1, 100);
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_OK], 1);
    CU_ASSERT_EQUAL(world->texts, 1);
    close_world();
}

// ---- Clocks

// Somebody pushes node 1's clock as far ahead as it goes, in each step, and node 2's is behind
// node 1's by so much.
static void open_pushed(uint64_t behind_ms)
{
    open_world(1);
    world->split = true;
    believe(2, SERVES, 1, 1);
    world->nodes[1].wall_us = behind_ms * 1000;
}

static void push(void)
{
    struct fake *fake = &world->nodes[1];

    (void)node_hears(fake, torc_hlc_from_us(node_wall_us(fake) + TORC_DATA_AHEAD_US));
    step();
}

static void push_until(uint32_t done, uint64_t ms_max)
{
    for (uint64_t end_ns = world->now_ns + ms_max * MS_NS;
         world->done < done && world->now_ns < end_ns;) {
        push();
    }
    CU_ASSERT_EQUAL_FATAL(world->done, done);
}

static void begin_key(uint64_t key, bool is_write)
{
    struct torc_engine_write write = {.key = key, .data = "value", .bytes = 5};

    CU_ASSERT_EQUAL_FATAL(is_write ? torc_engine_write(world->engine, &write, NULL)
                                   : torc_engine_get(world->engine, key, NULL, 0, NULL),
                          TORC_ERR_OK);
}

// How long ago the operation began that began first of those in flight.
static uint64_t oldest_us(void)
{
    uint64_t begun_ns = world->now_ns;

    for (uint32_t index = 0; index < OPS_MAX; index++) {
        const struct torc_op *op = &world->engine->ops[index];

        if (op->state != TORC_OP_FREE) {
            begun_ns = torc_min_u64(begun_ns, op->begun_ns);
        }
    }
    return (world->now_ns - begun_ns) / 1000;
}

// Who has spoken with node 1 speaks with node 2 all the same: it waits for the difference, and what
// it does there comes behind what it had seen.
static void check_pushed(uint64_t behind_ms)
{
    uint32_t begun = 16;
    uint64_t most_us = 0;

    open_pushed(behind_ms);
    for (uint32_t i = 0; i < 2000; i++) {
        push();
    }
    for (uint32_t turn = 0; turn < 8; turn++) {
        begin_key(1, turn % 2 == 0);
        push_until(2 * turn + 1, 50);
        world->told_hlc = world->engine->hlc;
        begin_key(KEYS - 1, turn % 4 < 2);
        push_until(2 * turn + 2, behind_ms + 50);
    }
    // Many at once, and always new ones, which know of later moments than those that wait.
    world->told_hlc = 0;
    for (uint32_t i = 0; i < 60 * behind_ms && begun < 2000; i++) {
        if (torc_engine_pending(world->engine) < OPS_MAX - 2) {
            begin_key(1, i % 2 == 0);
            begin_key(KEYS - 1, true);
            begun += 2;
        }
        push();
        most_us = torc_max_u64(most_us, oldest_us());
    }
    CU_ASSERT(most_us <= behind_ms * 1000 + 2000);
    push_until(begun, behind_ms + 50);
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_OK] + world->statuses[TORC_ERR_NOT_FOUND], begun);
    close_world();
}

static void test_clock_pushed(void)
{
    check_pushed(0);
    check_pushed(1);
    check_pushed(8);
    check_pushed(30);
    check_pushed(600);
}

// A clock that stays behind: told as it is at the deadline.
static void test_clock_behind(void)
{
    open_pushed(60000);
    for (uint32_t i = 0; i < 2000; i++) {
        push();
    }
    begin_key(1, true);
    push_until(1, 50);
    begin_key(KEYS - 1, true);
    begin_key(KEYS - 1, false);
    push_until(3, 10100);
    CU_ASSERT_EQUAL(world->statuses[TORC_ERR_CLOCK_AHEAD], 2);
    close_world();
}

// ---- Slots

static void await_slots(void)
{
    for (uint32_t ms = 0; ms < 5000 && world->engine->free_own.count < TORC_OPS_OWN; ms++) {
        run_ms(1); // until no probe is on its way
    }
    CU_ASSERT_EQUAL(world->engine->free_own.count, TORC_OPS_OWN);
}

static void begin_ranges(uint32_t count)
{
    struct torc_engine_range range = {.lo = 0, .hi = KEYS, .options = {.limit = 10}};

    for (uint32_t i = 0; i < count; i++) {
        CU_ASSERT_EQUAL_FATAL(torc_engine_range(world->engine, &range, NULL), TORC_ERR_OK);
    }
}

// More ranges than slots of ours: scouts and the map's questions find some, and those ranges that
// found none are served when others have ended.
static void test_ranges_take_all(void)
{
    opened_ops = 2048;
    open_world(3);
    opened_ops = OPS_MAX;
    run_ms(50);
    begin(2, 0);
    (void)await_done(2, 50);
    await_slots();
    believe(1, SILENT, 1, 1);
    begin_ranges(1000);
    begin(16, 0);
    run_ms(100);
    CU_ASSERT_EQUAL(world->done, 2);
    CU_ASSERT(world->engine->starved.count >= 1000 - (TORC_OPS_OWN - TORC_OPS_KEPT));
    believe(2, SERVES, 2, 2);
    believe(3, FOLLOWS, 2, 2);
    (void)await_done(1018, 2000);
    CU_ASSERT_EQUAL(world->engine->starved.count, 0);
    close_world();
}

// Who has the last slot of ours is the question for the map, which helps all.
static void test_last_slot(void)
{
    uint32_t scouts = 0;

    open_world(3);
    run_ms(50);
    begin(2, 0);
    (void)await_done(2, 50);
    await_slots();
    believe(1, SILENT, 1, 1);
    believe(2, SERVES, 2, 2);
    believe(3, FOLLOWS, 2, 2);
    while (world->engine->free_own.count > 1) {
        (void)torc_op_take(world->engine, true);
    }
    begin(16, 0);
    for (uint32_t i = 0; i < 20 * MS_NS / STEP_NS; i++) {
        step();
        for (uint32_t at = 0; at < TORC_SCOUTS; at++) {
            scouts += world->engine->scouts[at].active ? 1 : 0;
        }
    }
    CU_ASSERT_EQUAL(scouts, 0);
    (void)await_done(18, 1000);
    close_world();
}

// ---- Windows

// A node that allows fewer packets than when one was thought lost: what is undone stays below it.
static void test_lower_window(void)
{
    struct torc_client_node *node;

    open_world(1);
    run_ms(50);
    node = node_at(1);
    node->window = 40 << TORC_WINDOW_SHIFT;
    node->window_before = 60 << TORC_WINDOW_SHIFT;
    world->packets_max = 8;
    node_accept(1, node);
    CU_ASSERT_EQUAL(node->window, 8 << TORC_WINDOW_SHIFT);
    CU_ASSERT_EQUAL(node->window_before, 0);
    torc_path_not_lost(node);
    CU_ASSERT_EQUAL(node->window, 8 << TORC_WINDOW_SHIFT);
    node->window_before = 60 << TORC_WINDOW_SHIFT;
    torc_path_not_lost(node);
    CU_ASSERT_EQUAL(node->window, node->window_max);
    torc_path_ce(world->engine, node);
    CU_ASSERT(node->window <= node->window_max);
    close_world();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a silent primary: others are asked who it is now", test_silent},
        {"a candidate is asked by one, the others are held back", test_taking_over},
        {"stale maps in a circle", test_circle},
        {"epochs rise on the way", test_epochs_rise},
        {"no session with the primary can be made", test_no_session},
        {"a value in pieces whose primary is silent finds the next one", test_pieces},
        {"nobody answers until the deadline", test_deadline},
        {"everybody refuses until the deadline", test_deadline_refused},
        {"an answer that is late is no other operation's", test_late_answer},
        {"an answer counts whatever the clock says", test_clock_round},
        {"an answer counts after an hour", test_long_operation},
        {"a clock that is pushed ahead keeps nobody from others", test_clock_pushed},
        {"a clock that is far behind", test_clock_behind},
        {"a piece of a status text that comes twice is in it once", test_text_twice},
        {"ranges that take all slots stop no failover", test_ranges_take_all},
        {"the last slot is the map's", test_last_slot},
        {"a window is restored up to what the node allows now", test_lower_window},
        CU_TEST_INFO_NULL};

    return torc_test_run("client_failover", tests);
}
