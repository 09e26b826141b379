// Torc tests: any bytes as a handshake packet, at the server and at the client: decoded or refused,
// and nothing damaged is taken for whole. Rows 5 to 9, 14 to 18 and 21 of WIRE.md, section 8.
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
    return 0;
}
