// Torc tests: what a packet costs the worker that gets it, by kind, without a network.
//
// What    a whole node in one process (tests/rig.h) gets bursts of 32 frames; the time of each
//         torc_worker_turn is taken, and its median is divided by the packets: of good requests, in
//         CLEAR mode and by cipher, and of each family of packets that are refused.
//           torc-worker-bench [--json] [--best]
//         A line a row: what it is, nanoseconds a packet, nanoseconds an operation. --best: only
//         CLEAR mode and the best cipher of this machine.
// Owner   one thread.
// Limits  the frames lie in the cache when their turn comes, as a receive queue's do where the
//         device writes into it; what drivers and kernels take is not in it. The store holds
//         RECORDS keys, so lookups miss the cache.
#include "dataplane/worker_state.h"
#include "kit/clock_os.h"
#include "tests/rig.h"
#include "wire/aead_os.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BURST = 32,
    ROUNDS = 1500,
    RECORDS = 1 << 21,
    SESSIONS = 10000,
    VALUE_BYTES = 32,
    OPS_MANY = 16,
    WAIT_NS = 5000000, // between bursts: answers to strangers have a budget by time
    JUMBO_PAYLOAD = 1400,
};

struct bench {
    struct torc_rig rig;
    struct torc_rig_client *clients; // SESSIONS
    uint32_t crowd;                  // so many of them take turns
    struct torc_rng rng;
    bool json;
    bool refused; // the rows are of packets that are no good
    bool best;    // of the ciphers, only the first that is there
    const char *mode;
};

struct bench_row {
    const char *name;
    uint32_t ops; // in a packet
    void (*send)(struct bench *bench);
};

static struct bench bench;

// -- One burst ------------------------------------------------------------------------------------

static int compare(const void *a, const void *b)
{
    uint64_t left;
    uint64_t right;

    memcpy(&left, a, sizeof(left));
    memcpy(&right, b, sizeof(right));
    return left < right ? -1 : left > right;
}

static void drain(struct torc_rig *rig)
{
    while (torc_rig_receive(rig, rig->tx_memory, TORC_RIG_FRAME_BYTES) > 0) {
    }
}

// Takes the frames out of the pipe, as the rig's own turn does, with a watch in the hand.
static uint64_t timed_turn(struct torc_rig *rig)
{
    struct torc_turn turn = {.now_ns = rig->now_ns,
                             .wall_us = rig->wall_us,
                             .rx = rig->rx,
                             .tx = rig->tx,
                             .tx_room = TORC_TURN_TX_MAX};
    uint64_t begun_ns;

    for (uint32_t i = 0; i < TORC_TURN_TX_MAX; i++) {
        rig->tx[i] =
            (struct torc_frame_tx){.bytes = rig->tx_memory + (uint64_t)i * TORC_RIG_FRAME_BYTES,
                                   .room = rig->config.mtu + 18u};
    }
    torc_assert(rig->in_count == BURST);
    for (uint32_t i = 0; i < BURST; i++) {
        struct torc_rig_frame *frame = &rig->in[(rig->in_first + i) % TORC_RIG_FRAMES];

        rig->rx[i] = (struct torc_frame_rx){.bytes = frame->bytes, .byte_count = frame->byte_count};
    }
    rig->in_first = (rig->in_first + BURST) % TORC_RIG_FRAMES;
    rig->in_count = 0;
    turn.rx_count = BURST;
    begun_ns = torc_clock_now_ns();
    torc_worker_turn(rig->workers[0], &turn);
    return torc_clock_now_ns() - begun_ns;
}

static void measure_row(const struct bench_row *row)
{
    static uint64_t times[ROUNDS];
    uint64_t median_ns;
    double ns;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < BURST; i++) {
            row->send(&bench);
        }
        times[round] = timed_turn(&bench.rig);
        torc_rig_step(&bench.rig, WAIT_NS);
        drain(&bench.rig);
    }
    qsort(times, ROUNDS, sizeof(times[0]), compare);
    median_ns = times[ROUNDS / 2];
    ns = (double)median_ns / BURST;
    if (bench.json) {
        (void)printf("{\"mode\":\"%s\",\"packet\":\"%s\",\"ns\":%.1f,\"ops\":%u,\"refused\":%s}\n",
                     bench.mode, row->name, ns, row->ops, bench.refused ? "true" : "false");
    } else {
        (void)printf("%-11s %-28s %8.0f ns", bench.mode, row->name, ns);
        (void)(row->ops > 1 ? printf(" %8.1f ns an operation\n", ns / row->ops) : printf("\n"));
    }
    (void)fflush(stdout);
}

static void measure(const struct bench_row *rows, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        measure_row(&rows[i]);
    }
}

// -- Good requests --------------------------------------------------------------------------------

static uint64_t random_key(void)
{
    return torc_rng_below(&bench.rng, RECORDS) * 2;
}

static struct torc_rig_client *some_client(void)
{
    return &bench.clients[bench.crowd == 1 ? 0 : torc_rng_below(&bench.rng, bench.crowd)];
}

static void add_gets(uint32_t count)
{
    struct torc_rig_client *client = some_client();

    for (uint32_t i = 0; i < count; i++) {
        struct torc_request get = torc_rig_get(random_key());

        (void)torc_rig_add(client, &get);
    }
    (void)torc_rig_flush(&bench.rig, client, 0);
}

static void add_puts(uint32_t count)
{
    unsigned char value[VALUE_BYTES] = {0};

    for (uint32_t i = 0; i < count; i++) {
        struct torc_request put =
            torc_rig_put(&bench.rig, &bench.clients[0], random_key(), value, VALUE_BYTES);

        (void)torc_rig_add(&bench.clients[0], &put);
    }
    (void)torc_rig_flush(&bench.rig, &bench.clients[0], 0);
}

static void send_get(struct bench *self)
{
    (void)self;
    add_gets(1);
}

static void send_gets(struct bench *self)
{
    (void)self;
    add_gets(OPS_MANY);
}

static void send_put(struct bench *self)
{
    (void)self;
    add_puts(1);
}

static void send_puts(struct bench *self)
{
    (void)self;
    add_puts(OPS_MANY);
}

// The worker is told that it is behind, and that a packet takes so long that a turn does 4: the
// other 28 of a burst are refused.
static void overload(void)
{
    struct torc_admit *admit = bench.rig.workers[0]->admit;

    admit->shedding = true;
    admit->window_ns = bench.rig.now_ns;
    admit->cost_ns = admit->target_ns;
}

static void send_get_shed(struct bench *self)
{
    (void)self;
    overload();
    add_gets(1);
}

static void send_gets_shed(struct bench *self)
{
    (void)self;
    overload();
    add_gets(OPS_MANY);
}

// The same, of a client that lets its packets be dropped unread.
static void send_gets_unread(uint32_t count)
{
    struct torc_rig_client *client = &bench.clients[0];

    overload();
    client->reply_bytes |= TORC_REPLY_BYTES_DROP;
    add_gets(count);
    client->reply_bytes &= (uint16_t)~TORC_REPLY_BYTES_DROP;
}

// The session's account is full from the beginning of the turn: a look from outside is enough.
static void send_get_passed(struct bench *self)
{
    uint32_t session = self->clients[0].lane.session_index;
    struct torc_admit *admit = self->rig.workers[0]->admit;
    struct torc_admit_slot *slot = &admit->slots[session % TORC_ADMIT_SLOTS];

    slot->session = session;
    slot->first = self->clients[0].lane.seq[0] + 1;
    slot->noted = admit->turn;
    slot->heard = session;
    slot->opened = admit->turn;
    slot->notices = 4;
    slot->level = UINT32_MAX / 2;
    admit->untold -= slot->bitmap != 0 ? 1 : 0;
    slot->bitmap = 0;
    send_gets_unread(1);
}

static void send_get_unread(struct bench *self)
{
    (void)self;
    send_gets_unread(1);
}

static void send_many_unread(struct bench *self)
{
    (void)self;
    send_gets_unread(OPS_MANY);
}

// -- Bad packets ----------------------------------------------------------------------------------

static void send_payload(const unsigned char *payload, uint32_t byte_count, uint8_t last_of_ip)
{
    struct torc_rig_udp udp = {.client_port = bench.clients[0].port,
                               .node_port = TORC_RIG_BASE_PORT,
                               .payload = payload,
                               .payload_bytes = byte_count};

    memcpy(udp.client_ip, bench.clients[0].ip, sizeof(udp.client_ip));
    udp.client_ip[15] = last_of_ip == 0 ? udp.client_ip[15] : last_of_ip;
    torc_assert(torc_rig_send_udp(&bench.rig, &udp));
}

// What a forger writes in front of the client's session; the number is one that it has not used.
static struct torc_data forged_head(uint32_t session)
{
    return (struct torc_data){
        .type = bench.clients[0].lane.suite == TORC_SUITE_CLEAR ? TORC_TYPE_CLEAR : TORC_TYPE_DATA,
        .index = session,
        .seq = (UINT64_C(1) << 29) + torc_rng_below(&bench.rng, 1u << 20),
        .reply_bytes = TORC_PAYLOAD_MIN,
        .reply_packets = 1};
}

static void send_head(const struct torc_data *data, uint32_t byte_count, uint8_t last_of_ip)
{
    unsigned char packet[TORC_PAYLOAD_MAX] = {0};

    torc_data_encode(packet, data);
    for (uint32_t at = TORC_DATA_HEAD_BYTES; at < byte_count; at += sizeof(uint64_t)) {
        uint64_t word = torc_rng_next(&bench.rng);

        memcpy(packet + at, &word, sizeof(word));
    }
    send_payload(packet, byte_count, last_of_ip);
}

// A packet of the session whose tag is wrong.
static void send_forged_of(uint32_t byte_count, uint8_t last_of_ip, uint32_t session)
{
    struct torc_data data = forged_head(session);

    send_head(&data, byte_count, last_of_ip);
}

static void send_forged(struct bench *self)
{
    send_forged_of(TORC_DATA_BYTES_MIN, 0, self->clients[0].lane.session_index);
}

static void send_forged_long(struct bench *self)
{
    send_forged_of(JUMBO_PAYLOAD, 0, self->clients[0].lane.session_index);
}

static void send_foreign(struct bench *self)
{
    send_forged_of(TORC_DATA_BYTES_MIN, 99, self->clients[0].lane.session_index);
}

static void send_unknown(struct bench *self)
{
    send_forged_of(TORC_DATA_BYTES_MIN, 0, self->clients[0].lane.session_index ^ 0x7ff00000u);
}

static void send_replayed(struct bench *self)
{
    struct torc_data data = forged_head(self->clients[0].lane.session_index);

    data.seq = 1;
    send_head(&data, TORC_DATA_BYTES_MIN, 0);
}

static void send_reflected(struct bench *self)
{
    struct torc_data data = forged_head(self->clients[0].lane.client_index);

    data.flags = TORC_DATA_FROM_RESPONDER;
    send_head(&data, TORC_DATA_BYTES_MIN, 0);
}

static void send_empty(struct bench *self)
{
    (void)self;
    send_payload(NULL, 0, 0);
}

static void send_type(struct bench *self)
{
    unsigned char packet[TORC_DATA_BYTES_MIN] = {TORC_WIRE_MAGIC, 0x1f};

    (void)self;
    send_payload(packet, sizeof(packet), 0);
}

static void send_newer(struct bench *self)
{
    unsigned char packet[TORC_INIT_BYTES] = {TORC_WIRE_MAGIC, 0x20};

    (void)self;
    send_payload(packet, sizeof(packet), 0);
}

// The frame that was sent last, in the pipe.
static unsigned char *last_frame(void)
{
    return bench.rig.in[(bench.rig.in_first + bench.rig.in_count - 1) % TORC_RIG_FRAMES].bytes;
}

static void send_checksum(struct bench *self)
{
    send_forged(self);
    last_frame()[TORC_ETHER_BYTES + 10] ^= 1;
}

static void send_port(struct bench *self)
{
    send_forged(self);
    last_frame()[TORC_ETHER_BYTES + 20 + 2] ^= 1; // the high byte of the UDP port
}

static void send_magic(struct bench *self)
{
    unsigned char packet[TORC_DATA_BYTES_MIN] = {0x55};

    (void)self;
    send_payload(packet, sizeof(packet), 0);
}

static void hello_of(bool has_cookie)
{
    struct torc_init init = {.versions = TORC_WIRE_VERSIONS,
                             .has_cookie = has_cookie,
                             .node = has_cookie ? 1 : TORC_NODE_UNKNOWN,
                             .suites = TORC_SUITE_CLEAR,
                             .lanes = 1,
                             .payload_max = TORC_PAYLOAD_MIN};
    unsigned char packet[TORC_INIT_BYTES];
    uint64_t word = torc_rng_next(&bench.rng);

    memcpy(init.random, &word, sizeof(word));
    memcpy(init.cookie, &word, has_cookie ? sizeof(word) : 0);
    torc_init_encode(packet, &init);
    send_payload(packet, sizeof(packet), 0);
}

static void send_hello(struct bench *self)
{
    (void)self;
    hello_of(false);
}

static void send_false_cookie(struct bench *self)
{
    (void)self;
    hello_of(true);
}

// When nothing is left of the budget for strangers.
static void send_hello_over(struct bench *self)
{
    self->rig.workers[0]->strangers.first.full_ns = UINT64_MAX / 2;
    hello_of(false);
}

// -- All of it ------------------------------------------------------------------------------------

static const struct bench_row good_rows[] = {
    {"get", 1, send_get},
    {"16 gets", OPS_MANY, send_gets},
    {"put", 1, send_put},
    {"16 puts", OPS_MANY, send_puts},
};

static const struct bench_row shed_rows[] = {
    {"get, 28 of 32 refused", 1, send_get_shed},  {"16 gets, 28 of 32 refused", 1, send_gets_shed},
    {"get, 28 of 32 unread", 1, send_get_unread}, {"16 gets, 28 of 32 unread", 1, send_many_unread},
    {"get, passed over", 1, send_get_passed},
};

static const struct bench_row crowd_rows[] = {
    {"get, of 10 000 sessions", 1, send_get},
    {"16 gets, of 10 000 sessions", OPS_MANY, send_gets},
};

static const struct bench_row bad_rows[] = {
    {"bad IP checksum", 1, send_checksum},
    {"another port", 1, send_port},
    {"empty", 1, send_empty},
    {"not Torc's", 1, send_magic},
    {"unknown type", 1, send_type},
    {"another version: VERSION", 1, send_newer},
    {"no session: NOSESSION", 1, send_unknown},
    {"reflected", 1, send_reflected},
    {"another's session", 1, send_foreign},
    {"replayed", 1, send_replayed},
    {"forged, 64 B", 1, send_forged},
    {"forged, 1400 B", 1, send_forged_long},
    {"hello: RETRY", 1, send_hello},
    {"hello, false cookie: RETRY", 1, send_false_cookie},
    {"hello over the budget", 1, send_hello_over}, // the last: nothing is answered after it
};

static const char *const ciphers[] = {"libipsec-mb", "libsodium", "chacha"};

static void fill(void)
{
    unsigned char value[VALUE_BYTES] = {1};

    for (uint32_t record = 0; record < RECORDS;) {
        for (uint32_t i = 0; i < OPS_MANY; i++, record++) {
            struct torc_request put = torc_rig_put(&bench.rig, &bench.clients[0],
                                                   (uint64_t)record * 2, value, VALUE_BYTES);

            (void)torc_rig_add(&bench.clients[0], &put);
        }
        (void)torc_rig_flush(&bench.rig, &bench.clients[0], 0);
        if (bench.rig.in_count == BURST) {
            torc_rig_step(&bench.rig, 10000);
            drain(&bench.rig);
        }
    }
    torc_rig_settle(&bench.rig, 1000);
    drain(&bench.rig);
}

// Each from an address of its own; its first request opens the session for good.
static void connect_one(uint32_t index)
{
    uint8_t address[4] = {10, 79, (uint8_t)(1 + index / 250), (uint8_t)(1 + index % 250)};
    struct torc_request get = torc_rig_get(0);
    struct torc_reply reply;
    uint8_t ip[16];

    torc_ip_map(ip, address);
    torc_rig_connect_from(&bench.rig, &bench.clients[index], ip, 40000);
    torc_rig_call(&bench.rig, &bench.clients[index], &get, &reply);
    drain(&bench.rig);
}

static void bench_mode(const char *mode, const struct torc_rig_config *config)
{
    bench.mode = mode;
    torc_rig_open(&bench.rig, config);
    connect_one(0);
    fill();
    bench.crowd = 1;
    measure(good_rows, TORC_COUNT_OF(good_rows));
    bench.refused = true;
    measure(bad_rows, TORC_COUNT_OF(bad_rows));
    bench.refused = false;
    bench.rig.workers[0]->strangers.first.full_ns = 0;
    measure(shed_rows, TORC_COUNT_OF(shed_rows));
    bench.rig.workers[0]->admit->shedding = false;
    for (uint32_t i = 1; i < SESSIONS; i++) {
        connect_one(i);
    }
    bench.crowd = SESSIONS;
    measure(crowd_rows, TORC_COUNT_OF(crowd_rows));
    torc_rig_close(&bench.rig);
}

int main(int argc, char **argv)
{
    struct torc_rig_config config = {.workers = 1,
                                     .shards = 16,
                                     .key_count = UINT64_C(1) << 32,
                                     .seed = 1,
                                     .durability = TORC_DURABILITY_NONE,
                                     .chunks = 2048,
                                     .session_slots = 16384};

    for (int i = 1; i < argc; i++) {
        bench.json = bench.json || strcmp(argv[i], "--json") == 0;
        bench.best = bench.best || strcmp(argv[i], "--best") == 0;
    }
    if (argc > 1 + (bench.json ? 1 : 0) + (bench.best ? 1 : 0)) {
        (void)fprintf(stderr, "usage: torc-worker-bench [--json] [--best]\n");
        return 2;
    }
    bench.rng.state = 1;
    bench.clients = calloc(SESSIONS, sizeof(*bench.clients));
    if (bench.clients == NULL) {
        (void)fprintf(stderr, "torc-worker-bench: no memory for %u clients\n", SESSIONS);
        return 1;
    }
    bench_mode("clear", &config);
    config.sealed = true;
    for (uint32_t i = 0; i < TORC_COUNT_OF(ciphers); i++) {
        config.aead = torc_aead_code_named(ciphers[i]);
        if (config.aead != NULL) {
            bench_mode(ciphers[i], &config);
            if (bench.best) {
                break;
            }
        }
    }
    free(bench.clients);
    return 0;
}
