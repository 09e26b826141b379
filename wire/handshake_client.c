// Torc wire: the client's side of the handshake; see handshake.h.
#include "wire/handshake.h"

#include <sodium.h>

// Writes the INIT anew, with fresh random bytes (H2). `cluster`: of the node that it is for.
static void handshake_write(struct torc_handshake *handshake, uint64_t cluster,
                            const struct torc_handshake_entropy *entropy)
{
    struct torc_init *init = &handshake->init;
    struct torc_noise_ephemeral ephemeral;
    uint8_t bound[TORC_NOISE_KEY_BYTES];

    memcpy(init->random, entropy->random, sizeof(init->random));
    if (!handshake->has_psk || !init->has_cookie) {
        torc_init_encode(handshake->packet, init);
        return;
    }
    memcpy(handshake->secret, entropy->secret, sizeof(handshake->secret));
    memcpy(ephemeral.secret, entropy->secret, sizeof(ephemeral.secret));
    torc_noise_ephemeral_make(&ephemeral);
    memcpy(init->ephemeral, ephemeral.public, sizeof(init->ephemeral));
    memcpy(bound, handshake->psk, sizeof(bound));
    if (!handshake->psk_bound) {
        torc_noise_bind(bound, handshake->psk, cluster, init->node);
    }
    torc_init_seal(handshake->packet, init, bound, &handshake->noise);
    sodium_memzero(&ephemeral, sizeof(ephemeral));
    sodium_memzero(bound, sizeof(bound));
}

void torc_handshake_init(struct torc_handshake *handshake, const struct torc_handshake_offer *offer,
                         const struct torc_handshake_entropy *entropy)
{
    struct torc_init *init = &handshake->init;
    bool has_psk = offer->psk != NULL;
    bool bindable = !has_psk || offer->psk_bound || offer->cluster != 0;

    torc_assert_implies(has_psk, offer->suites != 0 && offer->principal != 0);
    memset(handshake, 0, sizeof(*handshake));
    handshake->node_expected = offer->node;
    handshake->cluster_expected = offer->cluster;
    handshake->has_psk = has_psk;
    handshake->psk_bound = offer->psk_bound;
    *init = (struct torc_init){
        .core = offer->core,
        .has_cookie = offer->cookie != NULL && offer->node != TORC_NODE_UNKNOWN && bindable,
        .versions = TORC_WIRE_VERSIONS,
        .node = offer->node,
        .suites = has_psk ? offer->suites & TORC_SUITES_SEALED : TORC_SUITE_CLEAR,
        .lanes = offer->lanes,
        .client_id = offer->client_id,
        .client_index = offer->client_index,
        .payload_max = offer->payload_max,
        .features = offer->features,
        .boot = offer->boot};
    if (has_psk || offer->principal >= TORC_PRINCIPAL_NODE) {
        init->principal = offer->principal;
    }
    if (has_psk) {
        init->key = offer->key_id;
        memcpy(handshake->psk, offer->psk, sizeof(handshake->psk));
    }
    if (init->has_cookie) {
        memcpy(init->cookie, offer->cookie, sizeof(init->cookie));
    }
    if (offer->agent != NULL) {
        memcpy(init->agent, offer->agent, strnlen(offer->agent, TORC_AGENT_BYTES));
    }
    handshake_write(handshake, offer->cluster, entropy);
}

void torc_handshake_wipe(struct torc_handshake *handshake)
{
    sodium_memzero(handshake->psk, sizeof(handshake->psk));
    sodium_memzero(handshake->secret, sizeof(handshake->secret));
    sodium_memzero(&handshake->keys, sizeof(handshake->keys));
    torc_noise_wipe(&handshake->noise);
}

// Only what answers the INIT in flight counts.
static bool handshake_is_ours(const struct torc_handshake *handshake,
                              const uint8_t random[TORC_RANDOM_BYTES])
{
    return memcmp(handshake->init.random, random, TORC_RANDOM_BYTES) == 0;
}

// Why a RETRY is not followed, in `why`. It is a hint: only what we try next depends on it.
static bool retry_is_ours(struct torc_handshake *handshake, const struct torc_retry *retry)
{
    struct torc_fail *why = &handshake->why;
    uint8_t suites = handshake->init.suites;

    if (handshake->node_expected != TORC_NODE_UNKNOWN && retry->node != handshake->node_expected) {
        (void)torc_fail(why, TORC_ERR_NOT_CONNECTED,
                        "the address answers as node %" PRIu32 ", expected is node %" PRIu32,
                        retry->node, handshake->node_expected);
    } else if (handshake->cluster_expected != 0 && retry->cluster != handshake->cluster_expected) {
        (void)torc_fail(why, TORC_ERR_NOT_CONNECTED,
                        "node %" PRIu32 " is of cluster %016" PRIx64
                        ", the key is for cluster %016" PRIx64,
                        retry->node, retry->cluster, handshake->cluster_expected);
    } else if ((retry->suites & suites) == 0 && suites == TORC_SUITE_CLEAR) {
        (void)torc_fail(why, TORC_ERR_NOT_CONNECTED,
                        "node %" PRIu32 " wants a key; this client has none", retry->node);
    } else if ((retry->suites & suites) == 0) {
        (void)torc_fail(why, TORC_ERR_NOT_CONNECTED, "node %" PRIu32 " %s; this client has a key",
                        retry->node,
                        retry->suites == TORC_SUITE_CLEAR
                            ? "takes only sessions without encryption (security = clear)"
                            : "has no cipher suite of ours");
    } else if ((retry->versions & TORC_WIRE_VERSIONS) == 0) {
        (void)torc_fail(why, TORC_ERR_UNSUPPORTED_VERSION,
                        "node %" PRIu32 " does not speak version %u", retry->node,
                        TORC_WIRE_VERSION);
    } else {
        return true;
    }
    return false;
}

static enum torc_handshake_event handshake_retry(struct torc_handshake *handshake,
                                                 const struct torc_retry *retry,
                                                 const struct torc_handshake_entropy *entropy)
{
    struct torc_init *init = &handshake->init;

    if (!handshake_is_ours(handshake, retry->random)) {
        return TORC_HANDSHAKE_IGNORED;
    }
    handshake->suites_seen = retry->suites;
    handshake->node_seen = retry->node;
    if (!retry_is_ours(handshake, retry)) {
        return TORC_HANDSHAKE_HINT;
    }
    init->has_cookie = true;
    init->node = retry->node;
    init->versions_seen = retry->versions;
    memcpy(init->cookie, retry->cookie, sizeof(init->cookie));
    handshake_write(handshake, retry->cluster, entropy);
    return TORC_HANDSHAKE_RESEND;
}

static const char *refuse_text(uint16_t code)
{
    switch (code) {
    case TORC_REFUSE_AUTH: return "unknown principal or wrong key";
    case TORC_REFUSE_SUITE: return "no common cipher suite";
    case TORC_REFUSE_FULL: return "its session table is full";
    case TORC_REFUSE_KEY_REQUIRED: return "it wants a key";
    case TORC_REFUSE_CLEAR_OFF: return "it takes no sessions without encryption";
    default: return "for a reason that this version does not know";
    }
}

static enum torc_handshake_event handshake_refuse(struct torc_handshake *handshake,
                                                  const struct torc_refuse *refuse)
{
    if (!handshake_is_ours(handshake, refuse->random)) {
        return TORC_HANDSHAKE_IGNORED;
    }
    handshake->refuse_code = refuse->code;
    handshake->node_seen = refuse->node;
    handshake->refuse_retry_ms = refuse->retry_ms;
    (void)torc_fail(&handshake->why, TORC_ERR_NOT_CONNECTED, "node %" PRIu32 " refuses: %s",
                    refuse->node, refuse_text(refuse->code));
    return TORC_HANDSHAKE_HINT;
}

static enum torc_handshake_event handshake_version(struct torc_handshake *handshake,
                                                   const struct torc_version *version)
{
    if (!handshake_is_ours(handshake, version->random)) {
        return TORC_HANDSHAKE_IGNORED;
    }
    handshake->versions_seen = version->versions;
    (void)torc_fail(&handshake->why, TORC_ERR_UNSUPPORTED_VERSION,
                    "node %" PRIu32 " speaks versions %04x, not version %u", version->node,
                    version->versions, TORC_WIRE_VERSION);
    return TORC_HANDSHAKE_HINT;
}

// Opens an ACCEPT under our key. A forged one changes nothing: the state is a copy.
static enum torc_handshake_event handshake_open(struct torc_handshake *handshake,
                                                const unsigned char *packet,
                                                struct torc_accept *accept)
{
    struct torc_noise noise = handshake->noise;
    enum torc_handshake_event event = TORC_HANDSHAKE_ACCEPTED;

    if (torc_accept_open(accept, packet, handshake->secret, &noise, NULL) != TORC_ERR_OK) {
        event = TORC_HANDSHAKE_IGNORED;
    } else if (accept->suite != torc_aead_best_suite(accept->suites & handshake->init.suites)) {
        // H3: the list is sealed, so it is the node's own.
        (void)torc_fail(&handshake->why, TORC_ERR_NOT_CONNECTED,
                        "node %" PRIu32 " chose suite %02x of %02x: a better one is common",
                        accept->node, accept->suite, accept->suites);
        event = TORC_HANDSHAKE_HINT;
    } else {
        torc_noise_split(&noise, handshake->keys.to_server, handshake->keys.to_client);
    }
    torc_noise_wipe(&noise);
    return event;
}

static enum torc_handshake_event handshake_accept(struct torc_handshake *handshake,
                                                  const unsigned char *packet, uint32_t byte_count,
                                                  struct torc_accept *accept)
{
    enum torc_handshake_event event = TORC_HANDSHAKE_ACCEPTED;

    // Before anything expensive: it echoes our random.
    if (!handshake->init.has_cookie || byte_count != TORC_ACCEPT_BYTES ||
        packet[1] != torc_wire_type_byte(TORC_TYPE_ACCEPT) ||
        !handshake_is_ours(handshake, packet + offsetof(struct torc_accept_wire, random))) {
        return TORC_HANDSHAKE_IGNORED;
    }
    if (handshake->has_psk) {
        event = handshake_open(handshake, packet, accept);
    } else if (torc_accept_decode(accept, packet, byte_count, NULL) != TORC_ERR_OK) {
        event = TORC_HANDSHAKE_IGNORED;
    }
    if (event == TORC_HANDSHAKE_ACCEPTED &&
        (accept->node != handshake->init.node || accept->lanes > handshake->init.lanes)) {
        event = TORC_HANDSHAKE_IGNORED;
    }
    return event;
}

enum torc_handshake_event torc_handshake_receive(struct torc_handshake *handshake,
                                                 const unsigned char *packet, uint32_t byte_count,
                                                 const struct torc_handshake_entropy *entropy,
                                                 struct torc_accept *accept)
{
    struct torc_retry retry;
    struct torc_refuse refuse;
    struct torc_version version;

    if (torc_retry_decode(&retry, packet, byte_count, NULL) == TORC_ERR_OK) {
        return handshake_retry(handshake, &retry, entropy);
    }
    if (torc_refuse_decode(&refuse, packet, byte_count, NULL) == TORC_ERR_OK) {
        return handshake_refuse(handshake, &refuse);
    }
    if (torc_version_decode(&version, packet, byte_count, NULL) == TORC_ERR_OK) {
        return handshake_version(handshake, &version);
    }
    return handshake_accept(handshake, packet, byte_count, accept);
}
