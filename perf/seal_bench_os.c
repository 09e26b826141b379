// Torc perf: what sealing and opening a packet costs, and what a handshake.
//
//     torc-seal-bench [--json]
//
// A line a row: the code (libipsec-mb, libsodium, chacha; clear), what is done, the payload's
// bytes, nanoseconds. One thread, one key, all in the cache: the least that a packet can cost.
// Whole packets with cold keys are tests/worker_bench_os.c's. The median of PIECES pieces each.
#include "kit/clock_os.h"
#include "wire/aead_os.h"
#include "wire/handshake.h"
#include "wire/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIECES = 31,
    PACKETS = 2000,  // a piece
    HANDSHAKES = 50, // a piece
};

static const uint32_t payload_sizes[] = {72, 104, 304, 432, 1448, 8952};
static const char *const code_names[] = {"libipsec-mb", "libsodium", "chacha"};
static bool json;

_Noreturn void torc_assert_fail(const char *expression, const char *function, const char *file,
                                int line)
{
    (void)fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, expression);
    abort();
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

static void row(const char *code, const char *what, uint32_t bytes, double *pieces)
{
    qsort(pieces, PIECES, sizeof(pieces[0]), compare);
    (void)printf(json ? "{\"code\":\"%s\",\"what\":\"%s\",\"bytes\":%" PRIu32 ",\"ns\":%.1f}\n"
                      : "%-12s %-22s %5" PRIu32 " B %10.1f ns\n",
                 code, what, bytes, pieces[PIECES / 2]);
    (void)fflush(stdout);
}

// -- Packets --------------------------------------------------------------------------------------

struct packets {
    struct torc_seal seal;
    struct torc_aead_key key;
    unsigned char sealed[9216];
    unsigned char packet[9216];
};

static void packet_head(struct packets *self, uint64_t seq)
{
    struct torc_data data = {.type = torc_data_type(self->seal.suite),
                             .index = 1u << 20,
                             .seq = seq,
                             .reply_bytes = TORC_PAYLOAD_MIN,
                             .reply_packets = 1};

    torc_data_encode(self->packet, &data);
}

static double seal_piece(struct packets *self, uint32_t bytes)
{
    uint64_t begun_ns = torc_clock_now_ns();

    for (uint32_t i = 0; i < PACKETS; i++) {
        packet_head(self, i + 1);
        (void)torc_data_seal(&self->seal, self->packet, bytes - TORC_DATA_TAG_BYTES);
    }
    return (double)(torc_clock_now_ns() - begun_ns) / PACKETS;
}

// `forged`: a bit of the tag is another.
static double open_piece(struct packets *self, uint32_t bytes, bool forged)
{
    uint64_t begun_ns;
    uint32_t opened = 0;

    packet_head(self, 1);
    (void)torc_data_seal(&self->seal, self->packet, bytes - TORC_DATA_TAG_BYTES);
    self->packet[bytes - 1] = (unsigned char)(self->packet[bytes - 1] ^ (forged ? 1 : 0));
    memcpy(self->sealed, self->packet, bytes);
    begun_ns = torc_clock_now_ns();
    for (uint32_t i = 0; i < PACKETS; i++) {
        memcpy(self->packet, self->sealed, bytes);
        opened += torc_data_open(&self->seal, self->packet, bytes) ? 1 : 0;
    }
    begun_ns = torc_clock_now_ns() - begun_ns;
    torc_assert(opened == (forged ? 0 : PACKETS));
    return (double)begun_ns / PACKETS;
}

static double copy_piece(struct packets *self, uint32_t bytes)
{
    uint64_t begun_ns = torc_clock_now_ns();

    for (uint32_t i = 0; i < PACKETS; i++) {
        memcpy(self->packet, self->sealed, bytes);
        __asm__("" : : "r"(self->packet) : "memory"); // the copy is wanted
    }
    return (double)(torc_clock_now_ns() - begun_ns) / PACKETS;
}

// Opening less the copy that its measuring needs.
static void packets_of(struct packets *self, const char *name, uint32_t bytes)
{
    double seal[PIECES];
    double open[PIECES];
    double forged[PIECES];

    for (uint32_t i = 0; i < PIECES; i++) {
        double copy = copy_piece(self, bytes);

        seal[i] = seal_piece(self, bytes);
        open[i] = open_piece(self, bytes, false) - copy;
        forged[i] = open_piece(self, bytes, true) - copy;
    }
    row(name, "seal", bytes, seal);
    row(name, "open", bytes, open);
    row(name, "forged", bytes, forged);
}

static void packets_all(const char *name, const struct torc_aead_code *code, uint8_t suite)
{
    static struct packets self;
    uint8_t secret[TORC_AEAD_SECRET_BYTES] = {1};

    self.seal = (struct torc_seal){.code = code, .key = &self.key, .suite = suite};
    if (code != NULL) {
        torc_aead_expand(code, suite, &self.key, secret);
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(payload_sizes); i++) {
        packets_of(&self, name, payload_sizes[i]);
    }
}

// -- Handshakes -----------------------------------------------------------------------------------

struct shake {
    struct torc_handshake client;
    struct torc_init init;
    struct torc_accept accept;
    uint8_t psk[TORC_NOISE_KEY_BYTES];
    unsigned char answer[TORC_ACCEPT_BYTES];
    struct torc_aead_key key;
};

static struct torc_accept shake_accept(const struct torc_aead_code *code)
{
    return (struct torc_accept){.lanes = 1,
                                .suite = torc_aead_best_suite(code->suites),
                                .session_index = 1u << 20,
                                .cores = 1,
                                .base_port = TORC_WIRE_BASE_PORT,
                                .payload_max = TORC_PAYLOAD_MIN,
                                .versions = TORC_WIRE_VERSIONS,
                                .suites = code->suites,
                                .cluster = 1,
                                .key_count = 1,
                                .node = 1,
                                .packet_ops_max = 1,
                                .core_ops_max = 1,
                                .packets_max = 1,
                                .fragments_max = 1,
                                .write_window = 1};
}

static void shake_begin(struct shake *self, const struct torc_aead_code *code, uint8_t seed)
{
    struct torc_handshake_entropy entropy = {.random = {seed}, .secret = {seed, 1}};
    uint8_t cookie[TORC_COOKIE_BYTES] = {seed};
    struct torc_handshake_offer offer = {.node = 1,
                                         .payload_max = TORC_PAYLOAD_MIN,
                                         .lanes = 1,
                                         .cookie = cookie,
                                         .psk = self->psk,
                                         .cluster = 1,
                                         .principal = 1,
                                         .suites = code->suites};

    torc_handshake_init(&self->client, &offer, &entropy);
}

// The server's half: the key's check, then the rest. Returns when the first was done.
static uint64_t shake_serve(struct shake *self, const struct torc_aead_code *code)
{
    struct torc_noise_ephemeral ephemeral = {.secret = {77}};
    struct torc_session_keys keys;
    struct torc_noise noise;
    uint8_t bound[TORC_NOISE_KEY_BYTES];
    uint64_t checked_ns;
    enum torc_drop drop;

    torc_noise_bind(bound, self->psk, 1, 1); // a server has it bound; 0.2 us
    drop = torc_init_decode(&self->init, self->client.packet, TORC_INIT_BYTES);
    torc_assert(drop == TORC_DROP_NONE);
    drop = torc_init_open(&self->init, self->client.packet, bound, &noise);
    torc_assert(drop == TORC_DROP_NONE);
    checked_ns = torc_clock_now_ns();
    torc_noise_ephemeral_make(&ephemeral);
    torc_assert(torc_noise_reply(&noise, ephemeral.secret, self->init.ephemeral, ephemeral.public));
    memcpy(self->accept.random, self->init.random, sizeof(self->accept.random));
    torc_accept_seal(self->answer, &self->accept, ephemeral.public, &noise);
    torc_noise_split(&noise, keys.to_server, keys.to_client);
    torc_lane_key(&self->key, code, self->accept.suite, keys.to_server, 0);
    torc_lane_key(&self->key, code, self->accept.suite, keys.to_client, 0);
    return checked_ns;
}

static void handshakes(const struct torc_aead_code *code)
{
    static struct shake self;
    double check[PIECES] = {0};
    double serve[PIECES] = {0};
    double init[PIECES] = {0};
    double finish[PIECES] = {0};

    self.accept = shake_accept(code);
    for (uint32_t i = 0; i < PIECES * HANDSHAKES; i++) {
        struct torc_handshake_entropy entropy = {.random = {0}};
        uint64_t at[5];
        struct torc_accept got;
        enum torc_handshake_event event;

        at[0] = torc_clock_now_ns();
        shake_begin(&self, code, (uint8_t)i);
        at[1] = torc_clock_now_ns();
        at[2] = shake_serve(&self, code);
        at[3] = torc_clock_now_ns();
        event =
            torc_handshake_receive(&self.client, self.answer, TORC_ACCEPT_BYTES, &entropy, &got);
        at[4] = torc_clock_now_ns();
        torc_assert(event == TORC_HANDSHAKE_ACCEPTED);
        init[i / HANDSHAKES] += (double)(at[1] - at[0]) / HANDSHAKES;
        check[i / HANDSHAKES] += (double)(at[2] - at[1]) / HANDSHAKES;
        serve[i / HANDSHAKES] += (double)(at[3] - at[2]) / HANDSHAKES;
        finish[i / HANDSHAKES] += (double)(at[4] - at[3]) / HANDSHAKES;
    }
    row("handshake", "client: INIT", TORC_INIT_BYTES, init);
    row("handshake", "server: key checked", TORC_INIT_BYTES, check);
    row("handshake", "server: the rest", TORC_ACCEPT_BYTES, serve);
    row("handshake", "client: ACCEPT", TORC_ACCEPT_BYTES, finish);
}

int main(int argc, char **argv)
{
    json = argc == 2 && strcmp(argv[1], "--json") == 0;
    if (argc > 2 || (argc == 2 && !json)) {
        (void)fprintf(stderr, "usage: torc-seal-bench [--json]\n");
        return 2;
    }
    packets_all("clear", NULL, TORC_SUITE_CLEAR);
    for (uint32_t i = 0; i < TORC_COUNT_OF(code_names); i++) {
        const struct torc_aead_code *code = torc_aead_code_named(code_names[i]);

        if (code != NULL) {
            packets_all(code_names[i], code, torc_aead_best_suite(code->suites));
        }
    }
    handshakes(torc_aead_code_best());
    return 0;
}
