// Torc tests: packets that prove nothing, one by one and many, through a node in one process
// (tests/rig.h): who of those that ask is answered, and that nothing of them stays.
#include "dataplane/worker_state.h"
#include "tests/unit/worker_rig.h"

#include <string.h>

enum {
    STRANGER_PORT = 6000,
    SLOTS = 64,
    BURST = 200, // packets between two turns: fewer than one takes
    BIG = 1400,
    ANSWERS = 20000, // a second
};

static bool sealed; // of the runs' two modes

static void open_node(void)
{
    struct torc_rig_config config = {
        .session_slots = SLOTS, .sealed = sealed, .unproved_answers_max = ANSWERS};

    open_rig(&config);
}

static void send_from(uint16_t port, const void *bytes, uint32_t byte_count)
{
    struct torc_rig_udp udp = {.client_port = port,
                               .node_port = TORC_RIG_BASE_PORT,
                               .payload = bytes,
                               .payload_bytes = byte_count};

    memcpy(udp.client_ip, client->ip, sizeof(udp.client_ip));
    CU_ASSERT_FATAL(torc_rig_send_udp(rig, &udp));
}

// What came back to that port: datagrams, and their bytes.
static uint32_t receive_at(uint16_t port, uint32_t *bytes)
{
    struct torc_rig_udp udp;
    uint32_t count = 0;

    while (torc_rig_receive_udp(rig, &udp)) {
        if (udp.client_port == port) {
            count++;
            *bytes += udp.payload_bytes;
        }
    }
    return count;
}

// -- Who is answered ------------------------------------------------------------------------------

// A question of each kind, with a number that makes it another one.
static uint32_t hello_make(unsigned char *packet, uint64_t number)
{
    struct torc_init init = {.versions = TORC_WIRE_VERSIONS,
                             .node = TORC_NODE_UNKNOWN,
                             .suites = TORC_SUITES_SEALED,
                             .lanes = 1,
                             .payload_max = TORC_PAYLOAD_MIN};

    memcpy(init.random, &number, sizeof(number));
    torc_init_encode(packet, &init);
    return TORC_INIT_BYTES;
}

static uint32_t newer_make(unsigned char *packet, uint64_t number)
{
    memset(packet, 0, TORC_INIT_BYTES);
    packet[0] = TORC_WIRE_MAGIC;
    packet[1] = 0x20;
    memcpy(packet + 8, &number, sizeof(number));
    return TORC_INIT_BYTES;
}

static uint32_t stale_make(unsigned char *packet, uint64_t number)
{
    struct torc_data data = {.type = TORC_TYPE_DATA,
                             .index = 0x7ff00000u + (uint32_t)number,
                             .seq = 1 + (number >> 32),
                             .reply_bytes = TORC_PAYLOAD_MIN,
                             .reply_packets = 1};

    memset(packet, 0, TORC_DATA_BYTES_MIN);
    torc_data_encode(packet, &data);
    return TORC_DATA_BYTES_MIN;
}

struct question {
    const char *name;
    uint32_t (*make)(unsigned char *packet, uint64_t number);
    uint32_t answer_bytes;
};

static const struct question questions[] = {
    {"hello", hello_make, TORC_RETRY_BYTES},
    {"hello of a newer version", newer_make, TORC_VERSION_BYTES},
    {"no session", stale_make, TORC_NOSESSION_BYTES},
};

// A burst of questions, each asked once, from ports of their own.
static void flood(const struct question *question, uint64_t *number)
{
    unsigned char packet[TORC_INIT_BYTES];
    uint32_t bytes = 0;

    for (uint32_t i = 0; i < BURST; i++) {
        uint32_t byte_count = question->make(packet, 1 + (++*number & 0xfffff));

        send_from((uint16_t)(10000 + *number % 50000), packet, byte_count);
    }
    torc_rig_step(rig, 1000000);
    (void)receive_at(0, &bytes);
}

static void who_asks_again_is_answered(void)
{
    for (uint32_t kind = 0; kind < TORC_COUNT_OF(questions); kind++) {
        const struct question *question = &questions[kind];
        unsigned char packet[TORC_INIT_BYTES];
        uint64_t number = 0;
        uint64_t drops;
        uint32_t bytes = 0;
        uint32_t byte_count;

        open_node();
        for (uint32_t i = 0; i < 10; i++) {
            flood(question, &number);
        }
        drops = torc_rig_drops(rig, TORC_DROP_BUDGET);
        CU_ASSERT(drops > BURST); // what was saved is used up
        byte_count = question->make(packet, 0xffffff);
        for (uint32_t i = 0; i < BURST; i++) { // in the same turn, before it or after
            send_from(i == BURST / 2 ? STRANGER_PORT : (uint16_t)(10000 + i), packet, byte_count);
        }
        torc_rig_step(rig, 0);
        CU_ASSERT_EQUAL(receive_at(STRANGER_PORT, &bytes), 0);
        for (uint32_t i = 0; i < 15; i++) { // the least time-out
            flood(question, &number);
        }
        send_from(STRANGER_PORT, packet, byte_count);
        torc_rig_step(rig, 0);
        CU_ASSERT_EQUAL(receive_at(STRANGER_PORT, &bytes), 1);
        CU_ASSERT_EQUAL(bytes, question->answer_bytes);
        CU_ASSERT(torc_rig_drops(rig, TORC_DROP_BUDGET) - drops > UINT64_C(10) * BURST);
        close_rig();
    }
}

// All packets of a session that is gone are one question, whatever their numbers.
static void one_question_takes_little_of_the_budget(void)
{
    unsigned char packet[TORC_INIT_BYTES];
    uint64_t number = 0;
    uint32_t bytes = 0;
    uint32_t answered = 0;

    open_node();
    for (uint32_t i = 0; i < 10; i++) {
        flood(&questions[2], &number);
    }
    rig->workers[0]->strangers.first.full_ns = UINT64_MAX / 2; // nothing is left of it
    for (uint32_t i = 0; i < 100; i++) {
        for (uint64_t seq = 0; seq < BURST; seq++) {
            uint32_t byte_count = stale_make(packet, 0x77777 + (seq << 32));

            send_from(STRANGER_PORT, packet, byte_count);
        }
        torc_rig_step(rig, 1000000);
        answered += receive_at(STRANGER_PORT, &bytes);
    }
    CU_ASSERT(answered >= 5);
    CU_ASSERT(answered <= 100 / (TORC_STRANGERS_SOON_NS / 1000000));
    close_rig();
}

// A client that has a ticket is no stranger.
static void a_ticket_passes_in_a_flood(void)
{
    struct torc_handshake handshake;
    struct torc_handshake_entropy entropy = {.random = {1}, .secret = {1}};
    struct torc_handshake_offer offer = {
        .client_id = 0x1100, .client_index = 1, .payload_max = 1452, .lanes = 1};
    uint64_t number = 0;
    uint32_t bytes = 0;

    open_node();
    offer.node = client->accept.node;
    offer.cluster = client->accept.cluster;
    offer.cookie = client->accept.ticket;
    if (sealed) {
        offer.psk = torc_rig_psk;
        offer.principal = TORC_RIG_PRINCIPAL;
        offer.key_id = TORC_RIG_KEY_ID;
        offer.suites = TORC_SUITES_SEALED;
    }
    torc_handshake_init(&handshake, &offer, &entropy);
    for (uint32_t i = 0; i < 10; i++) {
        flood(&questions[0], &number);
    }
    send_from(STRANGER_PORT, handshake.packet, TORC_INIT_BYTES);
    torc_rig_settle(rig, 20);
    CU_ASSERT_EQUAL(receive_at(STRANGER_PORT, &bytes), 1);
    CU_ASSERT_EQUAL(bytes, TORC_ACCEPT_BYTES);
    close_rig();
}

// -- What stays -----------------------------------------------------------------------------------

enum {
    RECORD_BYTES = SLOTS * sizeof(struct torc_session),
    LINE_BYTES = SLOTS * sizeof(struct torc_session_line),
    COUNTS = 7,
};

// All that packets could change: sessions, windows, what is at work, memory, the log.
struct state {
    unsigned char bytes[RECORD_BYTES + LINE_BYTES + COUNTS * sizeof(uint64_t)];
};

static void state_take(struct state *state)
{
    const struct torc_worker *worker = rig->workers[0];
    uint64_t counts[COUNTS] = {
        rig->heaps[0].used_bytes,
        worker->log.next_sequence,
        worker->gathers_used,
        worker->fragments.units_used,
        worker->jobs.used,
        worker->chunks.free_count,
        atomic_load_explicit(&rig->sessions->open_count, memory_order_relaxed),
    };

    memcpy(state->bytes, torc_session_at(rig->sessions, 0), RECORD_BYTES);
    memcpy(state->bytes + RECORD_BYTES, torc_session_line_at(rig->sessions, 0, 0), LINE_BYTES);
    memcpy(state->bytes + RECORD_BYTES + LINE_BYTES, counts, sizeof(counts));
}

static uint64_t drops_all(void)
{
    uint64_t sum = 0;

    for (enum torc_drop drop = TORC_DROP_NONE; drop < TORC_DROP_COUNT; drop++) {
        sum += torc_rig_drops(rig, drop);
    }
    return sum;
}

// A packet that is no good: it is counted once or answered by no more bytes, and nothing changes.
static void check_bad(uint16_t port, const unsigned char *packet, uint32_t byte_count)
{
    static struct state before;
    static struct state after;
    uint64_t drops = drops_all();
    uint32_t bytes = 0;
    uint32_t answers;

    state_take(&before);
    send_from(port, packet, byte_count);
    torc_rig_step(rig, 100000);
    answers = receive_at(port, &bytes);
    state_take(&after);
    CU_ASSERT_EQUAL(memcmp(before.bytes, after.bytes, sizeof(before.bytes)), 0);
    CU_ASSERT_EQUAL(drops_all() - drops + answers, 1);
    CU_ASSERT(bytes <= byte_count);
    CU_ASSERT_TRUE(rig->futile[0]);
}

// Captures the client's next packet instead of sending it, or the node's answer to one.
static uint32_t capture(unsigned char *packet)
{
    struct torc_request request = torc_rig_get(1);
    uint32_t bytes;

    (void)torc_rig_add(client, &request);
    bytes = torc_rig_flush(rig, client, 0);
    rig->in_count--; // it never left
    memcpy(packet, client->packet, bytes);
    return bytes;
}

static uint32_t capture_reply(unsigned char *packet)
{
    struct torc_request request = torc_rig_get(1);
    struct torc_rig_udp udp;

    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    torc_rig_settle(rig, 20);
    CU_ASSERT_FATAL(torc_rig_receive_udp(rig, &udp));
    memcpy(packet, udp.payload, udp.payload_bytes);
    return udp.payload_bytes;
}

// A value is there, and nothing is at work; the log has its closing block.
static void settle(void)
{
    uint32_t bytes = 0;

    (void)put_text(1, "stays");
    for (uint32_t i = 0; i < 10; i++) {
        torc_rig_step(rig, 100000000);
    }
    (void)receive_at(0, &bytes);
}

static void damaged_packets_change_nothing(void)
{
    unsigned char packet[2048];
    unsigned char damaged[2048];
    uint32_t bytes;

    open_node();
    settle();
    bytes = capture(packet);
    for (uint32_t cut = 0; cut < bytes; cut++) {
        check_bad(client->port, packet, cut);
    }
    for (uint32_t bit = 0; bit < bytes * 8; bit++) {
        memcpy(damaged, packet, bytes);
        damaged[bit / 8] = (unsigned char)(damaged[bit / 8] ^ 1u << (bit % 8));
        check_bad(client->port, damaged, bytes);
    }
    memcpy(damaged, packet, bytes);
    memset(damaged + bytes, 0, sizeof(damaged) - bytes);
    for (uint32_t longer = 1; longer < BIG; longer = 2 * longer + 1) {
        check_bad(client->port, damaged, bytes + longer);
    }
    check_value(1, "stays");
    close_rig();
}

static void repeated_and_reflected_packets_change_nothing(void)
{
    unsigned char packet[2048];
    unsigned char reply[2048];
    uint32_t bytes = 0;
    uint32_t reply_bytes;

    open_node();
    bytes = capture(packet);
    send_from(client->port, packet, bytes);
    torc_rig_settle(rig, 20);
    reply_bytes = capture_reply(reply);
    settle();
    for (uint32_t i = 0; i < 100; i++) {
        check_bad(client->port, packet, bytes);       // once more
        check_bad(client->port, reply, reply_bytes);  // the node's own
        check_bad(STRANGER_PORT, reply, reply_bytes); // and from elsewhere
    }
    for (uint32_t i = 0; i < 300; i++) { // until it is out of the window
        (void)put_text(1, "stays");
    }
    settle();
    check_bad(client->port, packet, bytes);
    CU_ASSERT(torc_rig_drops(rig, TORC_DROP_REPLAY_OLD) > 0);
    CU_ASSERT(torc_rig_drops(rig, TORC_DROP_FLAGS) >= 200);
    check_value(1, "stays");
    close_rig();
}

static void random_make(unsigned char *packet, uint32_t byte_count, struct torc_rng *rng)
{
    for (uint32_t i = 0; i < byte_count; i++) {
        packet[i] = (unsigned char)torc_rng_next(rng);
    }
}

// In the session's name, with all numbers that its client might use next, and without a name.
static void invented_packets_change_nothing(void)
{
    struct torc_rng rng = {torc_test_seed()};
    unsigned char packet[2048];

    open_node();
    settle();
    for (uint32_t i = 0; i < 2000; i++) {
        struct torc_data data = {.type = (uint8_t)(8 + torc_rng_below(&rng, 2)),
                                 .index = client->accept.session_index,
                                 .seq = torc_rng_below(&rng, 300),
                                 .reply_bytes = TORC_PAYLOAD_MIN,
                                 .reply_packets = 1};
        uint32_t byte_count = TORC_DATA_BYTES_MIN + (uint32_t)torc_rng_below(&rng, BIG);

        random_make(packet, byte_count, &rng);
        if (i % 4 != 0) {
            torc_data_encode(packet, &data);
        } else if (i % 8 != 0) {
            packet[0] = TORC_WIRE_MAGIC;
        }
        check_bad(i % 2 == 0 ? client->port : STRANGER_PORT, packet, byte_count);
    }
    check_value(1, "stays");
    close_rig();
}

// -- Whose turn it is -----------------------------------------------------------------------------

// What the loop offers its processor by: nobody is served, though there is no end of packets.
static void a_turn_is_futile_when_nothing_in_it_was_of_a_session(void)
{
    struct torc_rig_config config = {.workers = 2, .sealed = sealed};
    struct torc_request request = torc_rig_get(1);
    unsigned char packet[2048] = {0};

    open_rig(&config);
    torc_rig_settle(rig, 50);
    torc_rig_step(rig, 1000);
    CU_ASSERT_FALSE(rig->futile[0]);
    send_from(STRANGER_PORT, packet, 100);
    torc_rig_step(rig, 1000);
    CU_ASSERT_TRUE(rig->futile[0]);
    CU_ASSERT_FALSE(rig->futile[1]);
    (void)hello_make(packet, 1);
    send_from(STRANGER_PORT, packet, TORC_INIT_BYTES);
    torc_rig_step(rig, 1000);
    CU_ASSERT_TRUE(rig->futile[0]);
    // With one good packet it is not; what is another core's may be good.
    for (uint32_t core = 0; core < 2; core++) {
        send_from(STRANGER_PORT, packet, TORC_INIT_BYTES);
        (void)torc_rig_add(client, &request);
        (void)torc_rig_flush(rig, client, core);
        torc_rig_step(rig, 1000);
        CU_ASSERT_FALSE(rig->futile[0]);
    }
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"in a flood who asks again is answered", who_asks_again_is_answered},
        {"one question takes little of the budget", one_question_takes_little_of_the_budget},
        {"a ticket passes in a flood", a_ticket_passes_in_a_flood},
        {"damaged packets change nothing", damaged_packets_change_nothing},
        {"repeated and reflected packets change nothing",
         repeated_and_reflected_packets_change_nothing},
        {"invented packets change nothing", invented_packets_change_nothing},
        {"a turn is futile when nothing in it was of a session",
         a_turn_is_futile_when_nothing_in_it_was_of_a_session},
        CU_TEST_INFO_NULL,
    };
    int failed = torc_test_run("floods, clear", tests);

    sealed = true;
    return torc_test_run("floods, sealed", tests) | failed;
}
