// Torc client: handshakes: what is offered, when it is sent again, what its failure is called; see
// engine_state.h.
//
// Secrets Ephemeral keys follow from config.secret by a ratchet: each is derived, and then the
//         secret moves on by a one-way step, so that who reads our memory later finds none of them.
//         A handshake's own secrets are wiped when it is over.
// Rules   RETRY and REFUSE are not authenticated: they change what is tried next and what the error
//         says, and never more. A client with a key never offers CLEAR (wire/handshake.h, H3).
// Sources WIRE.md, section 1.
#include "client/engine_state.h"

#include <sodium.h>

#define SHAKE_FIRST_NS UINT64_C(20000000)
#define SHAKE_LAST_NS  UINT64_C(1000000000)
#define SHAKE_GIVE_UP  UINT64_C(5000000000)
#define TRIES_A_PLACE  2u // in a row to one address: 60 ms, which is longer than most paths take
#define RATCHET        "torc-eph" // context of both derivations, exactly 8 bytes
#define RATCHET_NEXT   0u
#define RATCHET_SECRET 1u

_Static_assert(sizeof(RATCHET) - 1 == crypto_kdf_CONTEXTBYTES, "key derivation");
_Static_assert(sizeof(((struct torc_engine_config *)0)->secret) == crypto_kdf_KEYBYTES,
               "key derivation");

static bool has_key(const struct torc_engine *engine)
{
    return engine->config.key.principal != 0;
}

static uint64_t shake_pause_ns(struct torc_engine *engine, uint32_t tries)
{
    uint64_t pause_ns = torc_min_u64(SHAKE_FIRST_NS << torc_min_u64(tries, 8), SHAKE_LAST_NS);

    return pause_ns - pause_ns / 4 + torc_rng_below(&engine->rng, pause_ns / 2 + 1);
}

// ---- Random bytes

// For the next INIT: made once, used once.
static const struct torc_handshake_entropy *shake_entropy(struct torc_engine *engine)
{
    uint64_t words[2];
    uint8_t next[crypto_kdf_KEYBYTES];

    if (engine->entropy_ready) {
        return &engine->entropy;
    }
    words[0] = torc_rng_next(&engine->rng);
    words[1] = torc_rng_next(&engine->rng);
    memcpy(engine->entropy.random, words, TORC_RANDOM_BYTES);
    if (has_key(engine)) {
        (void)crypto_kdf_derive_from_key(engine->entropy.secret, sizeof(engine->entropy.secret),
                                         RATCHET_SECRET, RATCHET, engine->config.secret);
        (void)crypto_kdf_derive_from_key(next, sizeof(next), RATCHET_NEXT, RATCHET,
                                         engine->config.secret);
        memcpy(engine->config.secret, next, sizeof(next));
        sodium_memzero(next, sizeof(next));
    }
    engine->entropy_ready = true;
    return &engine->entropy;
}

static void shake_entropy_used(struct torc_engine *engine)
{
    sodium_memzero(&engine->entropy, sizeof(engine->entropy));
    engine->entropy_ready = false;
}

// ---- Words

// What came back last, with the next step where there is one.
static void shake_words(const struct torc_engine *engine, const struct torc_handshake *shake,
                        struct torc_fail *text)
{
    const struct torc_client_key *key = &engine->config.key;
    bool wants_key = shake->refuse_code == TORC_REFUSE_KEY_REQUIRED ||
                     (shake->suites_seen != 0 && (shake->suites_seen & TORC_SUITE_CLEAR) == 0);

    if (!has_key(engine) && wants_key) {
        (void)torc_fail(text, TORC_ERR_NOT_CONNECTED,
                        "node %" PRIu32 " wants a key: name its file (--key-file, TORC_KEY_FILE)",
                        shake->node_seen);
    } else if (has_key(engine) && shake->refuse_code == TORC_REFUSE_AUTH) {
        (void)torc_fail(text, TORC_ERR_NOT_CONNECTED,
                        "node %" PRIu32 " refuses principal %" PRIu32
                        ", key %u of %.60s: revoked, or of another cluster",
                        shake->node_seen, key->principal, key->psk.id,
                        engine->config.key_text[0] != '\0' ? engine->config.key_text : key->name);
    } else if (has_key(engine) && shake->suites_seen == TORC_SUITE_CLEAR) {
        (void)torc_fail(text, TORC_ERR_NOT_CONNECTED,
                        "node %" PRIu32
                        " has security = clear; a client with a key does not talk to "
                        "it: --key-file none",
                        shake->node_seen);
    } else if (shake->why.err != TORC_ERR_OK) {
        *text = shake->why;
    } else {
        (void)torc_fail(text, TORC_ERR_NOT_CONNECTED, "no answer for 5 s; is a node there?");
    }
}

static void shake_trouble(struct torc_engine *engine, const struct torc_client_node *node,
                          const char *text)
{
    char name[TORC_NODE_NAME_BYTES];

    torc_node_name(node, name);
    (void)torc_fail(&engine->trouble, TORC_ERR_NOT_CONNECTED, "%s: %.130s", name, text);
}

// ---- Life

// A key that is bound to one node is of no use at another.
static uint32_t shake_wanted(const struct torc_engine *engine, const struct torc_client_node *node)
{
    const struct torc_psk *psk = &engine->config.key.psk;

    return has_key(engine) && psk->bound ? psk->node : node->id;
}

static void shake_offer(const struct torc_engine *engine, const struct torc_client_node *node,
                        struct torc_handshake_offer *offer)
{
    const struct torc_client_key *key = &engine->config.key;

    *offer = (struct torc_handshake_offer){.client_id = engine->config.client_id,
                                           .node = shake_wanted(engine, node),
                                           .payload_max = (uint16_t)engine->config.payload_bytes,
                                           .lanes = 1,
                                           .agent = "libtorc"};
    if (has_key(engine)) {
        offer->psk = key->psk.bytes;
        offer->psk_bound = key->psk.bound;
        offer->cluster = engine->cluster != 0 ? engine->cluster : key->cluster;
        offer->principal = key->principal;
        offer->key_id = key->psk.id;
        offer->suites = engine->config.aead->suites;
    }
}

static void init_due(struct torc_engine *engine, struct torc_client_node *node)
{
    node->init_due = true;
    torc_node_stir(engine, node);
}

static void shake_begin(struct torc_engine *engine, struct torc_client_node *node,
                        const uint8_t *cookie)
{
    struct torc_handshake_offer offer;

    shake_offer(engine, node, &offer);
    // Names the node in what comes back; the rest keeps old sessions' packets out.
    offer.client_index =
        (uint32_t)torc_rng_next(&engine->rng) << TORC_NODE_INDEX_BITS | node->index;
    offer.cookie = node->id == TORC_NODE_UNKNOWN ? NULL : cookie;
    if (engine->trouble.text[0] == '\0') {
        shake_trouble(engine, node, "no answer yet");
    }
    torc_handshake_init(&node->shake, &offer, shake_entropy(engine));
    shake_entropy_used(engine);
    node->shaking = true;
    init_due(engine, node);
    node->shake_tries = 0;
    node->shake_since_ns = engine->now_ns;
    if (node->state == TORC_NODE_UP) { // the first handshake was caused by no hint
        node->shake_again_ns = engine->now_ns + TORC_SHAKE_EVERY_NS;
    }
    node->shake_at_ns = engine->now_ns + shake_pause_ns(engine, 0);
    if (node->state == TORC_NODE_IDLE) {
        node->state = TORC_NODE_SHAKING;
    }
    torc_node_arm(engine, node);
}

void torc_node_shake(struct torc_engine *engine, struct torc_client_node *node,
                     const uint8_t *cookie)
{
    if (node->shaking || node->state == TORC_NODE_GONE || node->place.count == 0 ||
        engine->closing || engine->now_ns < node->shake_again_ns) {
        return;
    }
    if (node->id != TORC_NODE_UNKNOWN && shake_wanted(engine, node) != node->id) {
        shake_trouble(engine, node, "the key is bound to another node");
        return;
    }
    shake_begin(engine, node, cookie != NULL ? cookie : node->has_ticket ? node->ticket : NULL);
}

static void shake_failed(struct torc_engine *engine, struct torc_client_node *node)
{
    struct torc_fail text;

    shake_words(engine, &node->shake, &text);
    shake_trouble(engine, node, text.text);
    torc_handshake_wipe(&node->shake);
    node->shaking = false;
    node->has_ticket = false; // perhaps that was what nobody liked
    if (node->state == TORC_NODE_SHAKING) {
        node->state = TORC_NODE_IDLE;
    }
    // Again at once while somebody waits: a node may take long to start.
    if (engine->first_node == UINT32_MAX || engine->parked.count > 0 ||
        (node->session_lost && engine->pending > 0)) {
        shake_begin(engine, node, NULL);
    }
}

void torc_node_shake_timer(struct torc_engine *engine, struct torc_client_node *node)
{
    if (engine->now_ns - node->shake_since_ns >= SHAKE_GIVE_UP) {
        shake_failed(engine, node);
        return;
    }
    init_due(engine, node);
    node->shake_at_ns = engine->now_ns + shake_pause_ns(engine, ++node->shake_tries);
    if (node->shake_tries % TRIES_A_PLACE == 0) {
        torc_node_turn(node);
    }
    torc_route_silent(engine);
}

// ---- Answers

static void shake_event(struct torc_engine *engine, struct torc_client_node *node,
                        enum torc_handshake_event event, const struct torc_endpoint *from,
                        const struct torc_accept *accept)
{
    struct torc_fail text;

    switch (event) {
    case TORC_HANDSHAKE_IGNORED: break;
    case TORC_HANDSHAKE_RESEND:
        shake_entropy_used(engine);
        torc_node_answered(node, from); // what it gave us holds there
        init_due(engine, node);
        node->shake_at_ns = engine->now_ns + shake_pause_ns(engine, node->shake_tries);
        torc_node_arm(engine, node);
        return;
    case TORC_HANDSHAKE_ACCEPTED:
        torc_node_answered(node, from);
        torc_node_accepted(engine, node, accept);
        return;
    case TORC_HANDSHAKE_HINT:
        shake_words(engine, &node->shake, &text);
        shake_trouble(engine, node, text.text);
        return;
    }
}

void torc_handshake_packet(struct torc_engine *engine, const struct torc_endpoint *from,
                           const uint8_t *payload, uint32_t bytes)
{
    for (uint32_t i = 0; i < engine->node_count; i++) {
        struct torc_client_node *node = &engine->nodes[i];
        enum torc_handshake_event event;
        struct torc_accept accept;

        if (!node->shaking) {
            continue;
        }
        event =
            torc_handshake_receive(&node->shake, payload, bytes, shake_entropy(engine), &accept);
        if (event != TORC_HANDSHAKE_IGNORED) {
            shake_event(engine, node, event, from, &accept);
            return;
        }
    }
    engine->counters.packets_ignored++;
}

void torc_shakes_forget(struct torc_engine *engine)
{
    for (uint32_t i = 0; i < engine->node_count; i++) {
        engine->nodes[i].init_due = engine->nodes[i].shaking = false;
        torc_handshake_wipe(&engine->nodes[i].shake);
    }
    sodium_memzero(&engine->config.key, sizeof(engine->config.key));
    sodium_memzero(engine->config.secret, sizeof(engine->config.secret));
    shake_entropy_used(engine);
}
