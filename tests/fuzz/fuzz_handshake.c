// Torc tests: any bytes as a handshake packet, at the server and at the client: decoded or refused,
// and nothing damaged is taken for whole. Rows 5 to 9, 14 to 18 and 21 of WIRE.md, section 8.
//   With keys: a client and a server in turn, and somebody between them who edits, repeats and
// holds back packets of this handshake and of the one before. Whatever he does, both end with the
// same keys or without any. Row 22, and the attackers of section 7 that sit on the path.
#include "tests/fuzz/mutate.h"
#include "wire/handshake.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WALL_S UINT64_C(1790000000)

static const struct torc_handshake_entropy first = {.random = {1, 2, 3}, .secret = {7}};
static const struct torc_handshake_entropy next = {.random = {4, 5, 6}, .secret = {8}};

static void make_cookie(uint8_t cookie[TORC_COOKIE_BYTES], struct torc_cookie_keys *keys)
{
    static const uint8_t secret[32] = {9};
    struct torc_cookie_bearer bearer = {.ip = {1}, .port = 2};

    torc_cookie_keys_init(keys, secret, WALL_S);
    torc_cookie_make(keys, TORC_COOKIE_ADDRESS, &bearer, WALL_S, cookie);
}

static void server_takes(const uint8_t *packet, uint32_t byte_count, struct torc_cookie_keys *keys,
                         const uint8_t *whole)
{
    struct torc_cookie_bearer bearer = {.ip = {1}, .port = 2};
    enum torc_payload_kind payload_kind;
    enum torc_cookie_kind cookie_kind;
    struct torc_init init;
    uint8_t type;

    if (torc_payload_classify(packet, byte_count, &payload_kind, &type) != TORC_DROP_NONE ||
        payload_kind != TORC_PAYLOAD_PACKET || type != TORC_TYPE_INIT ||
        torc_init_decode(&init, packet, byte_count) != TORC_DROP_NONE || !init.has_cookie ||
        !torc_cookie_check(keys, &bearer, WALL_S, init.cookie, &cookie_kind) ||
        torc_init_open_clear(&init, packet) != TORC_DROP_NONE) {
        return;
    }
    torc_assert(memcmp(packet, whole, TORC_INIT_BYTES) == 0);
}

static uint32_t make_answer(struct torc_rng *rng, uint8_t *packet)
{
    struct torc_retry retry = {
        .suites = TORC_SUITE_CLEAR, .versions = TORC_WIRE_VERSIONS, .node = 1};
    struct torc_refuse refuse = {.code = TORC_REFUSE_FULL, .node = 1};
    struct torc_version version = {.versions = 4, .node = 1};
    struct torc_nosession nosession = {.index = 4, .seq = 5, .node = 1};
    struct torc_accept accept = {.lanes = 1,
                                 .suite = TORC_SUITE_CLEAR,
                                 .session_index = 0x100000,
                                 .cores = 1,
                                 .base_port = 28700,
                                 .payload_max = 1472,
                                 .key_count = 1,
                                 .node = 1,
                                 .packet_ops_max = 64,
                                 .core_ops_max = 256,
                                 .packets_max = 64,
                                 .fragments_max = 16,
                                 .write_window = 4096};

    memcpy(retry.random, first.random, TORC_RANDOM_BYTES);
    memcpy(refuse.random, first.random, TORC_RANDOM_BYTES);
    memcpy(version.random, first.random, TORC_RANDOM_BYTES);
    memcpy(accept.random, first.random, TORC_RANDOM_BYTES);
    switch (torc_rng_below(rng, 5)) {
    case 0: torc_retry_encode(packet, &retry); return TORC_RETRY_BYTES;
    case 1: torc_refuse_encode(packet, &refuse); return TORC_REFUSE_BYTES;
    case 2: torc_version_encode(packet, &version); return TORC_VERSION_BYTES;
    case 3: torc_nosession_encode(packet, &nosession); return TORC_NOSESSION_BYTES;
    default: torc_accept_encode(packet, &accept); return TORC_ACCEPT_BYTES;
    }
}

static void client_takes(const struct torc_handshake_offer *offer, const uint8_t *packet,
                         uint32_t byte_count)
{
    struct torc_handshake handshake;
    struct torc_nosession nosession;
    struct torc_accept accept;

    torc_handshake_init(&handshake, offer, &first);
    switch (torc_handshake_receive(&handshake, packet, byte_count, &next, &accept)) {
    case TORC_HANDSHAKE_RESEND:
        torc_assert(memcmp(handshake.init.random, next.random, TORC_RANDOM_BYTES) == 0);
        break;
    case TORC_HANDSHAKE_ACCEPTED:
        torc_assert(accept.cores >= 1 && accept.cores <= 255);
        torc_assert(accept.key_count >= 1);
        torc_assert(accept.lanes <= offer->lanes);
        break;
    case TORC_HANDSHAKE_HINT: torc_assert(handshake.why.err != TORC_ERR_OK); break;
    case TORC_HANDSHAKE_IGNORED: break;
    }
    (void)!torc_nosession_decode(&nosession, packet, byte_count, NULL);
}

// -- With keys ------------------------------------------------------------------------------------

#define CLUSTER     UINT64_C(5)
#define NODE        1u
#define EVENTS_MAX  12u
#define SEALED_OF   16u // one input in so many: X25519 takes a thousand times what a decoder does
#define ACCEPTS_MAX 4u

// What the server said to one INIT.
struct said {
    unsigned char accept[TORC_ACCEPT_BYTES];
    struct torc_session_keys keys;
    uint8_t random[TORC_RANDOM_BYTES];
};

struct between {
    struct torc_handshake client;
    struct torc_rng rng;
    struct said said[ACCEPTS_MAX];
    uint32_t said_count;
    uint8_t counter; // of random bytes
};

static const uint8_t psk[TORC_NOISE_KEY_BYTES] = {1, 2, 3};

static struct torc_handshake_entropy fresh(struct between *self)
{
    struct torc_handshake_entropy entropy = {.random = {++self->counter, 9},
                                             .secret = {8, self->counter}}; // byte 0 is clamped

    return entropy;
}

static struct torc_accept sealed_accept(const struct torc_init *init, uint8_t suite)
{
    struct torc_accept accept = {.lanes = init->lanes,
                                 .suite = suite,
                                 .session_index = 0x100000,
                                 .cores = 1,
                                 .base_port = 28700,
                                 .payload_max = 1472,
                                 .versions = TORC_WIRE_VERSIONS,
                                 .suites = TORC_SUITES_SEALED,
                                 .cluster = CLUSTER,
                                 .key_count = 1,
                                 .node = NODE,
                                 .packet_ops_max = 64,
                                 .core_ops_max = 256,
                                 .packets_max = 64,
                                 .fragments_max = 16,
                                 .write_window = 4096};

    memcpy(accept.random, init->random, sizeof(accept.random));
    return accept;
}

// The server gets an INIT, perhaps an edited one. Only the client's own is taken, in all its bytes.
static void between_serve(struct between *self, const unsigned char *packet)
{
    struct said *said = &self->said[self->said_count % ACCEPTS_MAX];
    struct torc_noise_ephemeral ephemeral = {.secret = {77, self->counter}};
    struct torc_accept accept;
    struct torc_init init;
    struct torc_noise noise;
    uint8_t bound[TORC_NOISE_KEY_BYTES];

    torc_noise_bind(bound, psk, CLUSTER, NODE);
    if (torc_init_decode(&init, packet, TORC_INIT_BYTES) != TORC_DROP_NONE || !init.has_cookie ||
        torc_init_open(&init, packet, bound, &noise) != TORC_DROP_NONE) {
        return;
    }
    torc_assert(memcmp(packet, self->client.packet, TORC_INIT_BYTES) == 0);
    torc_noise_ephemeral_make(&ephemeral);
    if (!torc_noise_reply(&noise, ephemeral.secret, init.ephemeral, ephemeral.public)) {
        torc_assert(false); // an honest client's public key is one
        return;
    }
    accept = sealed_accept(&init, torc_aead_best_suite(init.suites));
    torc_accept_seal(said->accept, &accept, ephemeral.public, &noise);
    torc_noise_split(&noise, said->keys.to_server, said->keys.to_client);
    memcpy(said->random, init.random, sizeof(said->random));
    self->said_count++;
}

// The client gets any packet. H2 and H3 hold after it, and its keys are the server's.
static bool between_receive(struct between *self, const unsigned char *packet, uint32_t bytes)
{
    struct torc_handshake before = self->client;
    struct torc_handshake_entropy entropy = fresh(self);
    struct torc_accept accept;
    bool found = false;

    switch (torc_handshake_receive(&self->client, packet, bytes, &entropy, &accept)) {
    case TORC_HANDSHAKE_ACCEPTED:
        for (uint32_t i = 0; i < ACCEPTS_MAX && i < self->said_count; i++) {
            found =
                found ||
                (memcmp(self->said[i].random, self->client.init.random, TORC_RANDOM_BYTES) == 0 &&
                 memcmp(&self->said[i].keys, &self->client.keys, sizeof(before.keys)) == 0);
        }
        torc_assert(found);
        torc_assert(accept.suite == TORC_SUITE_AES_256_GCM);
        return true;
    case TORC_HANDSHAKE_RESEND:
        torc_assert(memcmp(self->client.init.random, before.init.random, TORC_RANDOM_BYTES) != 0);
        torc_assert(memcmp(self->client.init.ephemeral, before.init.ephemeral,
                           sizeof(before.init.ephemeral)) != 0);
        break;
    case TORC_HANDSHAKE_HINT: torc_assert(self->client.why.err != TORC_ERR_OK); break;
    case TORC_HANDSHAKE_IGNORED: break;
    }
    torc_assert(self->client.init.suites == before.init.suites);
    torc_assert(memcmp(&self->client.keys, &before.keys, sizeof(before.keys)) == 0);
    return false;
}

static uint32_t between_answer(struct between *self, unsigned char *packet)
{
    struct torc_retry retry = {.suites = TORC_SUITES_SEALED,
                               .versions = TORC_WIRE_VERSIONS,
                               .node = NODE,
                               .cluster = CLUSTER,
                               .cookie = {self->counter}};
    struct torc_refuse refuse = {.code = TORC_REFUSE_AUTH, .node = NODE};

    if (self->said_count > 0 && torc_rng_chance(&self->rng, 600000)) {
        uint64_t last = torc_min_u64(self->said_count, ACCEPTS_MAX);

        memcpy(packet, self->said[torc_rng_below(&self->rng, last)].accept, TORC_ACCEPT_BYTES);
        return TORC_ACCEPT_BYTES;
    }
    memcpy(retry.random, self->client.init.random, TORC_RANDOM_BYTES);
    memcpy(refuse.random, self->client.init.random, TORC_RANDOM_BYTES);
    if (torc_rng_chance(&self->rng, 800000)) {
        torc_retry_encode(packet, &retry);
        return TORC_RETRY_BYTES;
    }
    torc_refuse_encode(packet, &refuse);
    return TORC_REFUSE_BYTES;
}

// One thing that somebody on the path does. True: the client has a session.
static bool between_act(struct between *self, const uint8_t *data, uint32_t size)
{
    unsigned char packet[TORC_INIT_BYTES];
    uint32_t bytes;

    switch (torc_rng_below(&self->rng, 6)) {
    case 0: return between_receive(self, data, size);
    case 1:
        memcpy(packet, self->client.packet, sizeof(packet));
        torc_fuzz_edit(&self->rng, packet, sizeof(packet));
        between_serve(self, packet);
        return false;
    case 2: between_serve(self, self->client.packet); return false;
    case 3:
        bytes = between_answer(self, packet);
        torc_fuzz_edit(&self->rng, packet, bytes);
        return between_receive(self, packet, torc_fuzz_cut(&self->rng, bytes));
    default: bytes = between_answer(self, packet); return between_receive(self, packet, bytes);
    }
}

static void between_begin(struct between *self)
{
    struct torc_handshake_offer offer = {.client_id = 0x100,
                                         .node = NODE,
                                         .payload_max = 1472,
                                         .lanes = 1,
                                         .psk = psk,
                                         .principal = 7,
                                         .key_id = 1,
                                         .suites = TORC_SUITES_SEALED};
    struct torc_handshake_entropy entropy = fresh(self);

    torc_handshake_init(&self->client, &offer, &entropy);
}

// Left alone, in the attempt that follows a time-out, they agree.
static bool between_agree(struct between *self)
{
    unsigned char packet[TORC_RETRY_BYTES];
    struct torc_retry retry = {.suites = TORC_SUITES_SEALED,
                               .versions = TORC_WIRE_VERSIONS,
                               .node = NODE,
                               .cluster = CLUSTER};
    uint32_t said = self->said_count;

    between_begin(self);
    memcpy(retry.random, self->client.init.random, TORC_RANDOM_BYTES);
    torc_retry_encode(packet, &retry);
    (void)between_receive(self, packet, TORC_RETRY_BYTES);
    between_serve(self, self->client.packet);
    torc_assert(self->said_count == said + 1);
    return between_receive(self, self->said[said % ACCEPTS_MAX].accept, TORC_ACCEPT_BYTES);
}

static void between_run(struct torc_rng *rng, const uint8_t *data, uint32_t size)
{
    static struct between self;
    bool accepted = false;

    memset(&self, 0, sizeof(self));
    self.rng = *rng;
    between_begin(&self);
    for (uint32_t i = 0; i < EVENTS_MAX && !accepted; i++) {
        accepted = between_act(&self, data, size);
    }
    accepted = accepted || between_agree(&self);
    torc_assert(accepted);
    torc_handshake_wipe(&self.client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torc_rng rng = torc_fuzz_rng(data, size);
    struct torc_cookie_keys keys;
    uint8_t cookie[TORC_COOKIE_BYTES];
    uint8_t packet[TORC_INIT_BYTES];
    struct torc_handshake_offer offer = {.client_id = 0x100,
                                         .client_index = 1,
                                         .node = 1,
                                         .payload_max = 1472,
                                         .lanes = 1,
                                         .agent = "fuzz",
                                         .cookie = cookie};
    struct torc_handshake handshake;
    uint32_t bytes;

    make_cookie(cookie, &keys);
    torc_handshake_init(&handshake, &offer, &first);
    if (size <= TORC_INIT_BYTES) {
        server_takes(data, (uint32_t)size, &keys, handshake.packet);
        client_takes(&offer, data, (uint32_t)size);
    }
    memcpy(packet, handshake.packet, sizeof(packet));
    torc_fuzz_edit(&rng, packet, sizeof(packet));
    server_takes(packet, torc_fuzz_cut(&rng, sizeof(packet)), &keys, handshake.packet);
    bytes = make_answer(&rng, packet);
    torc_fuzz_edit(&rng, packet, bytes);
    client_takes(&offer, packet, torc_fuzz_cut(&rng, bytes));
    if (torc_rng_below(&rng, SEALED_OF) == 0) {
        between_run(&rng, data, (uint32_t)size);
    }
    return 0;
}
