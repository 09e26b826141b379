// Torc dataplane: handshakes with peers, renewals, and how much a path carries; see peers.h. All of
// it is worker 0's.
//
// Secrets as a client's (client/shake.c): ephemeral keys follow from the identity's entropy by a
//         ratchet, which moves on by a one-way step each time.
// Path    a session begins with packets that every path carries. A PING of the largest size that
//         both ends take goes out; when it comes back, packets may be as large. One a second says
//         whether that still holds; after three that do not come back the next smaller size is
//         tried, packets are small until one returns, and a new session is made beside the old.
#include "dataplane/peers_impl.h"

#include <sodium.h>

#include <string.h>

#define SHAKE_FIRST_NS UINT64_C(20000000)
#define SHAKE_LAST_NS  UINT64_C(1000000000)
#define SHAKE_GIVE_UP  (5 * PEERS_SECOND)
#define RATCHET        "torc-eph" // context of both derivations, exactly 8 bytes
#define RATCHET_NEXT   0u
#define RATCHET_SECRET 1u
#define RENEW_PPM      800000u // of a session's age
#define PING_SOON_NS   UINT64_C(100000000)
#define PING_LOST_MAX  3u
#define PING_REST      30u   // seconds until large packets are tried again
#define PING_CLIMB     300u  // and until the largest is, when a smaller one works
#define PING_USUAL     1472u // Ethernet's 1500 less IPv4 and UDP headers

_Static_assert(sizeof(RATCHET) - 1 == crypto_kdf_CONTEXTBYTES, "key derivation");
_Static_assert(TORC_NOISE_KEY_BYTES == crypto_kdf_KEYBYTES, "key derivation");

static uint64_t shake_pause_ns(struct torc_peers *peers, uint32_t tries)
{
    uint64_t pause_ns = torc_min_u64(SHAKE_FIRST_NS << torc_min_u64(tries, 8), SHAKE_LAST_NS);

    return pause_ns - pause_ns / 4 + torc_rng_below(&peers->rng, pause_ns / 2 + 1);
}

// -- Random bytes --------------------------------------------------------------------------------

// For the next INIT: made once, used once.
static const struct torc_handshake_entropy *shake_entropy(struct torc_peers *peers)
{
    uint64_t words[2];
    uint8_t next[crypto_kdf_KEYBYTES];

    if (peers->entropy_ready) {
        return &peers->entropy;
    }
    words[0] = torc_rng_next(&peers->rng);
    words[1] = torc_rng_next(&peers->rng);
    memcpy(peers->entropy.random, words, TORC_RANDOM_BYTES);
    (void)crypto_kdf_derive_from_key(peers->entropy.secret, sizeof(peers->entropy.secret),
                                     RATCHET_SECRET, RATCHET, peers->identity.entropy);
    (void)crypto_kdf_derive_from_key(next, sizeof(next), RATCHET_NEXT, RATCHET,
                                     peers->identity.entropy);
    memcpy(peers->identity.entropy, next, sizeof(next));
    sodium_memzero(next, sizeof(next));
    peers->entropy_ready = true;
    return &peers->entropy;
}

static void shake_entropy_used(struct torc_peers *peers)
{
    sodium_memzero(&peers->entropy, sizeof(peers->entropy));
    peers->entropy_ready = false;
}

// -- Whom to call --------------------------------------------------------------------------------

void torc_peers_configure(struct torc_peers *peers, uint64_t now_ns,
                          const struct torc_peers_identity *identity)
{
    torc_assert(peers->calls != NULL);
    torc_assert_implies(!identity->clear, identity->suites != 0 && peers->config.aead != NULL);
    peers->now_ns = torc_max_u64(peers->now_ns, now_ns);
    peers->identity = *identity;
    peers->configured = true;
    shake_entropy_used(peers);
    for (uint32_t seat = 0; seat < peers->call_end; seat++) {
        struct peers_call *call = &peers->calls[seat];

        // A handshake under the old key is given up; a session goes on until the next is made.
        if (call->shaking) {
            torc_handshake_wipe(&call->shake);
            call->shaking = false;
        }
        call->shake_ns = now_ns;
        call->renew_ns = call->renew_ns == 0 ? 0 : now_ns;
    }
}

static bool place_same(const struct torc_peer_place *a, const struct torc_peer_place *b)
{
    return a->base_port == b->base_port && memcmp(a->ip, b->ip, sizeof(a->ip)) == 0;
}

static uint32_t call_find(const struct torc_peers *peers, uint32_t node)
{
    for (uint32_t seat = 0; seat < peers->call_end; seat++) {
        if (peers->calls[seat].wanted && peers->calls[seat].place.node == node) {
            return seat;
        }
    }
    return PEERS_NONE;
}

enum torc_err torc_peers_meet(struct torc_peers *peers, uint64_t now_ns,
                              const struct torc_peer_place *place, struct torc_fail *why)
{
    uint32_t seat = call_find(peers, place->node);
    struct peers_session session = {.place = *place};
    struct peers_call *call;

    torc_assert(place->base_port != 0);
    if (seat != PEERS_NONE && place_same(&peers->calls[seat].place, place)) {
        return TORC_ERR_OK;
    }
    for (uint32_t i = 0; i < TORC_PEERS_MAX && seat == PEERS_NONE; i++) {
        seat = peers->calls[i].wanted ? PEERS_NONE : i;
    }
    if (seat == PEERS_NONE) {
        return torc_fail(why, TORC_ERR_LIMIT, "more than %u peers", TORC_PEERS_MAX);
    }
    peers->call_end = seat < peers->call_end ? peers->call_end : seat + 1;
    call = &peers->calls[seat];
    torc_handshake_wipe(&call->shake);
    *call = (struct peers_call){.wanted = true, .place = *place, .shake_ns = now_ns};
    atomic_store_explicit(&peers->board->seats[seat].link, 0, memory_order_relaxed);
    atomic_store_explicit(&peers->board->seats[seat].payload, TORC_PAYLOAD_MIN,
                          memory_order_relaxed);
    torc_peers_publish(peers, seat, &session);
    return TORC_ERR_OK;
}

uint32_t torc_peers_met(const struct torc_peers *peers, uint32_t nodes[TORC_PEERS_MAX])
{
    uint32_t count = 0;

    for (uint32_t seat = 0; seat < peers->call_end; seat++) {
        if (peers->calls[seat].wanted) {
            nodes[count++] = peers->calls[seat].place.node;
        }
    }
    return count;
}

void torc_peers_forget(struct torc_peers *peers, uint32_t node)
{
    static const struct peers_session nobody;
    uint32_t seat = call_find(peers, node);

    if (seat != PEERS_NONE) {
        torc_handshake_wipe(&peers->calls[seat].shake);
        peers->calls[seat] = (struct peers_call){0};
        torc_peers_publish(peers, seat, &nobody);
    }
}

// -- A handshake ---------------------------------------------------------------------------------

static uint8_t shake_lanes(const struct torc_peers *peers)
{
    uint32_t lanes = 1;

    while (lanes < peers->config.core_count) {
        lanes *= 2;
    }
    return (uint8_t)(lanes < TORC_LANES_MAX ? lanes : TORC_LANES_MAX);
}

static void shake_begin(struct torc_peers *peers, uint32_t seat)
{
    struct peers_call *call = &peers->calls[seat];
    const struct torc_peers_identity *identity = &peers->identity;
    struct torc_handshake_offer offer = {
        .client_id = torc_rng_next(&peers->rng) & ~UINT64_C(0xff),
        // Names the seat in what comes back, and the lane; the rest keeps old packets out.
        .client_index = (uint32_t)(torc_rng_next(&peers->rng) & 0x7fff) << 16 | seat << 8,
        .node = call->place.node,
        .payload_max = (uint16_t)peers->config.payload_max,
        .lanes = shake_lanes(peers),
        .agent = "torc node",
        .boot = identity->boot,
        .principal = TORC_PRINCIPAL_NODE + identity->node,
        .key_id = identity->key_id,
        .cookie = call->has_cookie   ? call->cookie
                  : call->has_ticket ? call->ticket
                                     : NULL};

    if (!identity->clear) {
        offer.psk = identity->psk;
        offer.cluster = identity->cluster;
        offer.suites = identity->suites;
    }
    torc_handshake_init(&call->shake, &offer, shake_entropy(peers));
    shake_entropy_used(peers);
    call->has_cookie = false;
    call->shaking = true;
    call->init_due = true;
    call->tries = 0;
    call->since_ns = peers->now_ns;
    call->again_ns = peers->now_ns + PEERS_SECOND;
    call->shake_ns = peers->now_ns + shake_pause_ns(peers, 0);
    peers->counters.shakes++;
}

// Again in a second: the peer is away, or has no room.
static void shake_end(struct torc_peers *peers, struct peers_call *call, bool good)
{
    torc_handshake_wipe(&call->shake);
    call->shaking = false;
    call->init_due = false;
    call->has_ticket = good && call->has_ticket; // else it was perhaps what nobody liked
    call->shake_ns = good ? UINT64_MAX : peers->now_ns + shake_pause_ns(peers, 8);
}

// What both ends take.
static uint32_t path_largest(const struct torc_peers *peers, uint32_t seat)
{
    uint16_t theirs = peers->board->seats[seat].session.accept.payload_max;

    return (uint32_t)torc_min_u64(peers->config.payload_max, theirs) & ~7u;
}

static void shake_accepted(struct torc_peers *peers, uint32_t seat,
                           const struct torc_accept *accept)
{
    struct peers_call *call = &peers->calls[seat];
    struct peers_session session = {.place = call->place,
                                    .boot = accept->boot,
                                    .accept = *accept,
                                    .keys = call->shake.keys,
                                    .client_index = call->shake.init.client_index};
    uint64_t age_ns = accept->age_s * PEERS_SECOND / 1000000 * RENEW_PPM;

    if (accept->lanes < peers->config.core_count || accept->boot == 0) {
        peers->counters.refusals++;
        shake_end(peers, call, false); // half open, it ends by itself
        sodium_memzero(&session, sizeof(session));
        return;
    }
    memcpy(call->ticket, accept->ticket, sizeof(call->ticket));
    call->has_ticket = true;
    shake_end(peers, call, true);
    call->renew_ns =
        peers->now_ns + age_ns - age_ns / 8 + torc_rng_below(&peers->rng, age_ns / 4 + 1);
    call->ping_ns = peers->now_ns;
    call->climb_ns = peers->now_ns + PING_CLIMB * PEERS_SECOND;
    call->ping_lost = 0;
    peers->counters.sessions++;
    torc_peers_publish(peers, seat, &session);
    call->ping_size = path_largest(peers, seat);
    sodium_memzero(&session, sizeof(session));
}

static void shake_event(struct torc_peers *peers, uint32_t seat, enum torc_handshake_event event,
                        const struct torc_accept *accept)
{
    struct peers_call *call = &peers->calls[seat];

    switch (event) {
    case TORC_HANDSHAKE_RESEND:
        shake_entropy_used(peers);
        call->init_due = true;
        call->shake_ns = peers->now_ns + shake_pause_ns(peers, call->tries);
        return;
    case TORC_HANDSHAKE_ACCEPTED: shake_accepted(peers, seat, accept); return;
    case TORC_HANDSHAKE_HINT: peers->counters.refusals++; return;
    case TORC_HANDSHAKE_IGNORED: return;
    }
}

bool torc_peers_shake_receive(struct torc_peers *peers, const unsigned char *payload,
                              uint32_t byte_count)
{
    for (uint32_t seat = 0; seat < peers->call_end; seat++) {
        struct peers_call *call = &peers->calls[seat];
        enum torc_handshake_event event;
        struct torc_accept accept;

        if (!call->shaking) {
            continue;
        }
        event = torc_handshake_receive(&call->shake, payload, byte_count, shake_entropy(peers),
                                       &accept);
        if (event != TORC_HANDSHAKE_IGNORED) {
            shake_event(peers, seat, event, &accept);
            return true;
        }
    }
    return false;
}

void torc_peers_shake_cookie(struct torc_peers *peers, uint32_t seat,
                             const uint8_t cookie[TORC_COOKIE_BYTES])
{
    memcpy(peers->calls[seat].cookie, cookie, TORC_COOKIE_BYTES);
    peers->calls[seat].has_cookie = true;
}

// -- The path ------------------------------------------------------------------------------------

void torc_peers_shake_pong(struct torc_peers *peers, uint32_t seat, uint32_t ping_id)
{
    struct peers_call *call = &peers->calls[seat];

    if (call->ping_id != ping_id || call->ping_ns == 0) {
        return;
    }
    call->ping_lost = 0;
    atomic_store_explicit(&peers->board->seats[seat].payload, call->ping_size,
                          memory_order_relaxed);
    call->ping_ns = peers->now_ns + PEERS_SECOND;
    if (peers->now_ns >= call->climb_ns) {
        call->ping_size = path_largest(peers, seat);
        call->climb_ns = peers->now_ns + PING_CLIMB * PEERS_SECOND;
    }
}

// A PING is due; the one before came back, unless ping_lost says otherwise.
static void path_step(struct torc_peers *peers, uint32_t seat)
{
    struct peers_call *call = &peers->calls[seat];

    if (call->ping_lost >= PING_LOST_MAX) {
        atomic_store_explicit(&peers->board->seats[seat].payload, TORC_PAYLOAD_MIN,
                              memory_order_relaxed);
        call->ping_lost = 0;
        // Or the peer has the session no more, and nobody said so: its index is another's now.
        call->shake_ns = torc_min_u64(call->shake_ns, torc_max_u64(call->again_ns, peers->now_ns));
        if (call->ping_size <= PING_USUAL) {
            call->ping_size = path_largest(peers, seat);
            call->ping_ns = peers->now_ns + PING_REST * PEERS_SECOND;
            return;
        }
        call->ping_size = PING_USUAL;
    }
    call->ping_lost++; // until it comes back
    call->ping_id++;
    call->ping_due = true;
    call->ping_ns = peers->now_ns + PING_SOON_NS;
}

// -- Time ----------------------------------------------------------------------------------------

// What the workers say of their lanes, and whom they heard.
static void marks_look(struct torc_peers *peers, uint32_t core)
{
    const struct peers_marks *marks = &peers->board->marks[core];

    for (uint32_t seat = 0; seat < peers->call_end; seat++) {
        struct peers_call *call = &peers->calls[seat];
        const struct peers_seat *at = &peers->board->seats[seat];
        uint64_t heard = atomic_load_explicit(&marks->heard[seat], memory_order_relaxed);
        uint64_t version = atomic_load_explicit(&at->version, memory_order_relaxed);

        if (!call->wanted) {
            continue;
        }
        if (atomic_load_explicit(&marks->over[seat], memory_order_relaxed) == version &&
            version != 0 && at->session.boot != 0 && !call->shaking) {
            call->shake_ns = torc_min_u64(call->shake_ns, call->again_ns);
        }
        if (heard != 0 && heard != call->heard_boot && heard > at->session.boot) {
            call->heard_boot = heard; // it lives: no pause
            call->tries = 0;
            call->shake_ns = peers->now_ns;
        }
    }
}

static void call_step(struct torc_peers *peers, uint32_t seat)
{
    struct peers_call *call = &peers->calls[seat];

    if (call->renew_ns != 0 && peers->now_ns >= call->renew_ns && !call->shaking) {
        call->renew_ns = peers->now_ns + PEERS_SECOND;
        call->shake_ns = peers->now_ns;
    }
    if (call->shaking && peers->now_ns - call->since_ns >= SHAKE_GIVE_UP) {
        shake_end(peers, call, false);
    }
    if (peers->now_ns >= call->shake_ns) {
        if (call->shaking) {
            call->init_due = true;
            call->shake_ns = peers->now_ns + shake_pause_ns(peers, ++call->tries);
        } else {
            shake_begin(peers, seat);
        }
    }
    if (call->ping_ns != 0 && peers->now_ns >= call->ping_ns) {
        path_step(peers, seat);
    }
}

void torc_peers_shake_step(struct torc_peers *peers)
{
    for (uint32_t core = 0; core < peers->config.core_count; core++) {
        uint64_t changes =
            atomic_load_explicit(&peers->board->marks[core].changes, memory_order_acquire);

        if (changes != peers->marks_seen[core]) {
            peers->marks_seen[core] = changes;
            marks_look(peers, core);
        }
    }
    for (uint32_t seat = 0; seat < peers->call_end; seat++) {
        if (peers->calls[seat].wanted) {
            call_step(peers, seat);
        }
    }
}

uint64_t torc_peers_shake_deadline_ns(const struct torc_peers *peers)
{
    uint64_t deadline_ns = UINT64_MAX;

    for (uint32_t seat = 0; seat < peers->call_end; seat++) {
        const struct peers_call *call = &peers->calls[seat];

        if (!call->wanted) {
            continue;
        }
        deadline_ns = torc_min_u64(deadline_ns, call->shake_ns);
        if (call->renew_ns != 0 && !call->shaking) {
            deadline_ns = torc_min_u64(deadline_ns, call->renew_ns);
        }
        if (call->ping_ns != 0) {
            deadline_ns = torc_min_u64(deadline_ns, call->ping_ns);
        }
    }
    return deadline_ns;
}
