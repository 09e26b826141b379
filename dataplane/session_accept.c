// Torc dataplane: how a session begins: an INIT whose cookie a worker found good, and its answer.
// See sessions.h; docs/PROTOCOL.md, section 2.
//
// The order is what protects it: an INIT that was answered before gets the same bytes again; then
// the suite; then payload 1 under the principal's key (7 us; a dummy's for a principal that is not
// there, so that it takes as long); then a slot; only then Diffie-Hellman (85 us).
#include "dataplane/session_thread.h"
#include "wire/op.h"
#include "wire/session.h"

#include <sodium.h>

#include <string.h>

#define REFUSE_MS 1000u // of FULL: a session may have idled out by then
// In an index, from 1 on; and how far lives are apart: by the golden ratio, far from the next ones.
#define GENERATIONS     0xfffu
#define GENERATION_STEP 2531u
#define EVICT_EVERY_NS  UINT64_C(10000000) // between two looks through the table for one's own
// Of the table, kept for nodes: a crowd of clients must not keep the peers out.
#define NODE_SHARE 4u

_Static_assert(sizeof(((struct torc_session_note *)0)->bytes) >= TORC_INIT_BYTES, "an INIT fits");

// An INIT being answered.
struct accept_try {
    const struct torc_session_note *note;
    const unsigned char *random; // TORC_SESSIONS_RANDOM_EACH, fresh
    struct torc_session_note *answer;
    struct torc_init init;
    struct torc_principal_found found; // rights NULL in CLEAR mode
    uint8_t psk[TORC_CHAN_PSK_BYTES];  // of a node
    uint32_t use;                      // of the slots
    uint8_t suite;                     // that both ends have
    // Sealed sessions.
    struct torc_noise noise;
    struct torc_noise_ephemeral ephemeral;
    struct torc_session_keys keys;
};

static void accept_drop(struct torc_session_note *answer, enum torc_drop reason)
{
    answer->byte_count = 0;
    answer->drop = (uint32_t)reason;
}

static void accept_refuse(const struct torc_session_thread *thread, struct accept_try *try,
                          enum torc_refuse_code code)
{
    struct torc_refuse refuse = {.core = (uint8_t)try->answer->index,
                                 .versions = TORC_WIRE_VERSIONS,
                                 .code = (uint16_t)code,
                                 .node = thread->table->identity.node,
                                 .retry_ms = code == TORC_REFUSE_FULL ? REFUSE_MS : 0};

    memcpy(refuse.random, try->init.random, sizeof(refuse.random));
    torc_refuse_encode(try->answer->bytes, &refuse);
    try->answer->byte_count = TORC_REFUSE_BYTES;
}

static uint64_t accept_random(const unsigned char *random)
{
    uint64_t number;

    memcpy(&number, random, sizeof(number));
    return number;
}

// Place of the queue whose INIT had this random and these bytes, or TORC_SESSION_HALF_MAX.
static uint32_t half_find(const struct torc_session_thread *thread,
                          const struct torc_session_note *note, const struct torc_init *init)
{
    uint64_t random = accept_random(init->random);

    for (uint32_t i = 0; i < thread->half_count; i++) {
        uint32_t at = (thread->half_first + i) % TORC_SESSION_HALF_MAX;

        if (thread->half_random[at] == random &&
            memcmp(thread->halves[at].init, note->bytes, TORC_INIT_BYTES) == 0 &&
            memcmp(thread->halves[at].ip, note->path.ip, sizeof(note->path.ip)) == 0) {
            return at;
        }
    }
    return TORC_SESSION_HALF_MAX;
}

// Which suite it will be. False: refused.
static bool accept_suite(const struct torc_session_thread *thread, struct accept_try *try)
{
    bool clear = thread->table->identity.security == TORC_SECURITY_CLEAR;
    uint8_t offered = try->init.suites;
    enum torc_refuse_code code;

    try->suite =
        clear ? TORC_SUITE_CLEAR : torc_aead_best_suite(offered & thread->table->aead->suites);
    if (offered == TORC_SUITE_CLEAR && !clear) {
        code = TORC_REFUSE_CLEAR_OFF;
    } else if (clear ? offered != TORC_SUITE_CLEAR
                     : try->suite == 0 || (offered & TORC_SUITE_CLEAR) != 0) {
        code = TORC_REFUSE_SUITE;
    } else if (!clear && try->init.principal == 0) {
        code = TORC_REFUSE_KEY_REQUIRED;
    } else {
        return true;
    }
    accept_refuse(thread, try, code);
    return false;
}

static void accept_find(const struct torc_session_thread *thread, struct accept_try *try)
{
    const struct torc_sessions_identity *identity = &thread->table->identity;
    struct torc_principal_caller caller = {.cluster = identity->cluster,
                                           .number = try->init.principal,
                                           .node = identity->node,
                                           .key = try->init.key};

    if (caller.number >= TORC_PRINCIPAL_NODE) {
        torc_principals_find_node(thread->principals, &caller, try->psk, &try->found);
    } else {
        torc_principals_find(thread->principals, caller.number, caller.key, &try->found);
    }
}

// Opens payload 1, in CLEAR mode or under the principal's key. False: answered or dropped.
static bool accept_open(const struct torc_session_thread *thread, struct accept_try *try)
{
    struct torc_init *init = &try->init;
    bool clear = try->suite == TORC_SUITE_CLEAR;
    enum torc_drop drop;

    try->found = (struct torc_principal_found){.place = TORC_PRINCIPAL_NOBODY};
    if (clear) {
        drop = torc_init_open_clear(init, try->note->bytes);
    } else {
        accept_find(thread, try);
        drop = torc_init_open(init, try->note->bytes, try->found.psk, &try->noise);
    }
    if (clear ? drop == TORC_DROP_NONE && init->principal != 0 &&
                    init->principal < TORC_PRINCIPAL_NODE
              : drop == TORC_DROP_INIT_CHECK || try->found.rights == NULL) {
        // An unknown principal and a wrong key are one answer; in CLEAR mode there are none.
        accept_refuse(thread, try, TORC_REFUSE_AUTH);
        return false;
    }
    if (drop == TORC_DROP_NONE && init->node != thread->table->identity.node) {
        drop = TORC_DROP_INIT_FIELD;
    }
    if (drop != TORC_DROP_NONE) {
        accept_drop(try->answer, drop);
        return false;
    }
    return true;
}

static uint32_t accept_room(const struct torc_session_thread *thread, const struct accept_try *try)
{
    return try->found.place == TORC_PRINCIPAL_NOBODY
               ? UINT32_MAX
               : torc_principals_room(thread->principals, try->found.place);
}

// Slots for the lanes wanted, or for as many as there are and the principal may have; *lanes says
// how many. UINT32_MAX: none.
static uint32_t accept_slots(struct torc_session_thread *thread, const struct accept_try *try,
                             uint32_t *lanes)
{
    uint32_t room = accept_room(thread, try);
    uint32_t slot_count = thread->table->slot_count;
    uint32_t for_nodes = slot_count / NODE_SHARE;
    bool node = try->init.principal >= TORC_PRINCIPAL_NODE;
    uint32_t slot;

    for (uint32_t wanted = try->init.lanes; wanted > 0; wanted /= 2) {
        if (wanted > room) {
            continue;
        }
        slot = torc_session_slots_find(thread, 0, slot_count - for_nodes, wanted);
        if (slot == UINT32_MAX && node) {
            slot = torc_session_slots_find(thread, slot_count - for_nodes, slot_count, wanted);
        }
        if (slot != UINT32_MAX) {
            *lanes = wanted;
            return slot;
        }
    }
    return UINT32_MAX;
}

static uint32_t accept_roles(const struct accept_try *try)
{
    if (try->found.rights != NULL) {
        return try->found.rights->roles;
    }
    return try->init.principal >= TORC_PRINCIPAL_NODE
               ? TORC_ROLE_NODE
               : TORC_ROLE_READ | TORC_ROLE_WRITE | TORC_ROLE_ADMIN;
}

// The number of the session that gets these slots: above those of all sessions that they had, for
// its lanes have indices in a row. Numbers come round; none is that of a slot's last session.
static uint32_t accept_use(const struct torc_session_thread *thread, uint32_t slot, uint32_t lanes)
{
    uint32_t use = 0;
    bool taken = true;

    for (uint32_t lane = 0; lane < lanes; lane++) {
        use = (uint32_t)torc_max_u64(use, thread->slots[slot + lane].use);
    }
    while (taken) {
        use = use % GENERATIONS + 1;
        taken = false;
        for (uint32_t lane = 0; lane < lanes; lane++) {
            taken = taken || thread->slots[slot + lane].use == use;
        }
    }
    return use;
}

// Generations begin elsewhere in each life of the node: an index of the life before is nobody's, or
// its client would be taken for another, and get no answer.
static uint32_t accept_index(const struct torc_session_thread *thread, uint32_t slot, uint32_t use)
{
    uint64_t first = thread->table->identity.boot % GENERATIONS * GENERATION_STEP;

    return (uint32_t)(1 + (first + use) % GENERATIONS) << TORC_SESSION_SLOT_BITS | slot;
}

static void accept_secrets(const struct torc_session_thread *thread, const struct accept_try *try,
                           struct torc_session *session, uint32_t lane)
{
    const struct torc_aead_code *code = thread->table->aead;

    if (try->suite == TORC_SUITE_CLEAR) {
        session->tokens[TORC_TO_SERVER] = accept_random(try->random);
        session->tokens[TORC_TO_CLIENT] = accept_random(try->random + 8);
        return;
    }
    torc_lane_key(&session->keys[TORC_TO_SERVER], code, try->suite, try->keys.to_server, lane);
    torc_lane_key(&session->keys[TORC_TO_CLIENT], code, try->suite, try->keys.to_client, lane);
}

static void accept_publish(struct torc_session_thread *thread, const struct accept_try *try,
                           const struct torc_half *half)
{
    for (uint32_t lane = 0; lane < half->lanes; lane++) {
        uint32_t slot = half->slot + lane;
        uint32_t index = accept_index(thread, slot, try->use);
        struct torc_slot *own = &thread->slots[slot];
        struct torc_session *session = torc_session_at(thread->table, slot);

        own->use = (uint16_t)try->use;
        own->state = TORC_SLOT_HALF;
        own->made_ns = thread->now_ns;
        own->leave_ns = 0;
        own->place = try->found.place;
        own->key_serial = try->found.key_serial;
        own->port = try->note->path.udp_port;
        memcpy(own->agent, try->init.agent, sizeof(own->agent));
        atomic_store_explicit(&session->confirmed, 0, memory_order_relaxed);
        session->serial = ++thread->last_serial;
        session->client_id = try->init.client_id;
        session->boot = try->init.boot;
        memcpy(session->ip, try->note->path.ip, sizeof(session->ip));
        session->client_index = try->init.client_index + lane;
        session->principal = try->init.principal;
        session->rights = try->found.rights;
        session->roles = accept_roles(try);
        session->payload_max = try->init.payload_max;
        session->lane = (uint8_t)lane;
        session->suite = try->suite;
        accept_secrets(thread, try, session, lane);
        // Pairs with the acquire in torc_session_find: who sees the index sees the record.
        atomic_store_explicit(&session->index, index, memory_order_release);
    }
    if (try->found.place != TORC_PRINCIPAL_NOBODY) {
        torc_principals_open(thread->principals, try->found.place, half->lanes);
        thread->counts_changed = true;
    }
    thread->open_count += half->lanes;
    atomic_store_explicit(&thread->table->open_count, thread->open_count, memory_order_relaxed);
}

static void accept_ticket(struct torc_session_thread *thread, const struct torc_init *init,
                          const struct torc_session_note *note, uint8_t ticket[TORC_COOKIE_BYTES])
{
    struct torc_cookie_bearer bearer = {.principal = init->principal};

    if (!thread->has_keys) {
        torc_cookie_keys_init(&thread->keys, thread->table->identity.secret,
                              thread->wall_us / 1000000u);
        thread->has_keys = true;
    }
    memcpy(bearer.ip, note->path.ip, sizeof(bearer.ip));
    torc_cookie_make(&thread->keys, TORC_COOKIE_TICKET, &bearer, thread->wall_us / 1000000u,
                     ticket);
}

// Writes ACCEPT; after it a sealed session has its keys.
static void accept_encode(struct torc_session_thread *thread, struct accept_try *try,
                          struct torc_half *half)
{
    const struct torc_sessions_identity *identity = &thread->table->identity;
    const struct torc_session_limits *limits = &identity->limits;
    bool clear = try->suite == TORC_SUITE_CLEAR;
    struct torc_accept accept = {
        .core = (uint8_t)try->note->index,
        .lanes = (uint8_t)half->lanes,
        .suite = try->suite,
        .durability = identity->durability,
        .token_to_server = accept_random(try->random),
        .token_to_client = accept_random(try->random + 8),
        .session_index = accept_index(thread, half->slot, try->use),
        .roles = accept_roles(try),
        .cores = (uint16_t)thread->table->worker_count,
        .base_port = identity->base_port,
        .payload_max = identity->payload_max,
        .versions = TORC_WIRE_VERSIONS,
        .suites = clear ? TORC_SUITE_CLEAR : thread->table->aead->suites,
        .cluster = identity->cluster,
        .key_count = identity->key_count,
        .boot = identity->boot,
        .map_version = atomic_load_explicit(&thread->table->map_version, memory_order_relaxed),
        .hlc = atomic_load_explicit(&thread->table->hlc, memory_order_relaxed),
        .node = identity->node,
        .value_bytes_max = identity->value_bytes_max,
        .packet_ops_max = (uint16_t)limits->packet_ops,
        .core_ops_max = (uint16_t)limits->core_ops,
        .packets_max = (uint16_t)limits->packets,
        .cursors_max = (uint16_t)limits->cursors,
        .fragments_max = (uint16_t)limits->fragments,
        .idle_s = (uint16_t)limits->idle_s,
        .age_s = (uint16_t)limits->age_s,
        .deadline_ms_max = limits->deadline_ms_max,
        .message_bytes_max = identity->message_bytes_max,
        .write_window = limits->write_window,
    };

    memcpy(accept.random, try->init.random, sizeof(accept.random));
    accept_ticket(thread, &try->init, try->note, accept.ticket);
    if (clear) {
        torc_accept_encode(half->accept, &accept);
        return;
    }
    torc_accept_seal(half->accept, &accept, try->ephemeral.public, &try->noise);
    torc_noise_split(&try->noise, try->keys.to_server, try->keys.to_client);
}

// Diffie-Hellman, for sealed sessions. False: the client's public key is not one.
static bool accept_agree(struct accept_try *try)
{
    if (try->suite == TORC_SUITE_CLEAR) {
        return true;
    }
    memcpy(try->ephemeral.secret, try->random, sizeof(try->ephemeral.secret));
    torc_noise_ephemeral_make(&try->ephemeral);
    return torc_noise_reply(&try->noise, try->ephemeral.secret, try->init.ephemeral,
                            try->ephemeral.public);
}

// What ends now can be used when it has rested: the client asks again after REFUSE_MS. One that is
// at its own limit takes nobody else's, but what a process of its own that was killed left behind.
static void accept_evict(struct torc_session_thread *thread, const struct accept_try *try)
{
    if (accept_room(thread, try) > 0) {
        (void)torc_session_evict(thread, TORC_PRINCIPAL_NOBODY);
    } else if (thread->now_ns >= thread->evict_ns) {
        thread->evict_ns = thread->now_ns + EVICT_EVERY_NS;
        (void)torc_session_evict(thread, try->found.place);
    }
}

static void accept_new(struct torc_session_thread *thread, struct accept_try *try)
{
    uint32_t at = (thread->half_first + thread->half_count) % TORC_SESSION_HALF_MAX;
    struct torc_half *half = &thread->halves[at];
    uint32_t lanes = 0;
    uint32_t slot = UINT32_MAX;

    if (thread->half_count >= thread->table->identity.limits.half_open) {
        accept_drop(try->answer, TORC_DROP_HALF_OPEN_FULL);
        return;
    }
    if (thread->open_count < thread->table->identity.sessions_max) {
        slot = accept_slots(thread, try, &lanes);
    }
    if (slot == UINT32_MAX) {
        accept_evict(thread, try);
        accept_refuse(thread, try, TORC_REFUSE_FULL);
        return;
    }
    if (!accept_agree(try)) {
        accept_drop(try->answer, TORC_DROP_DH);
        return;
    }
    half->made_ns = thread->now_ns;
    half->slot = slot;
    half->lanes = lanes;
    try->use = accept_use(thread, slot, lanes);
    half->serial = thread->last_serial + 1;
    memcpy(half->ip, try->note->path.ip, sizeof(half->ip));
    memcpy(half->init, try->note->bytes, TORC_INIT_BYTES);
    accept_encode(thread, try, half);
    accept_publish(thread, try, half);
    thread->half_random[at] = accept_random(try->init.random);
    thread->half_count++;
    memcpy(try->answer->bytes, half->accept, TORC_ACCEPT_BYTES);
    try->answer->byte_count = TORC_ACCEPT_BYTES;
    try->answer->serial = thread->last_serial;
}

void torc_session_accept(struct torc_session_thread *thread, const struct torc_session_note *note,
                         const unsigned char random[TORC_SESSIONS_RANDOM_EACH],
                         struct torc_session_note *answer)
{
    struct accept_try try = {.note = note, .random = random, .answer = answer};
    enum torc_drop drop;
    uint32_t half;

    answer->kind = TORC_SESSION_NOTE_SEND;
    answer->index = note->index;
    answer->path = note->path;
    answer->serial = 0;
    answer->drop = TORC_DROP_NONE;
    // Acquire: pairs with worker 0's release after it filled `identity`.
    if (atomic_load_explicit(&thread->table->configured, memory_order_acquire) == 0) {
        accept_drop(answer, TORC_DROP_NOT_READY);
        return;
    }
    drop = torc_init_decode(&try.init, note->bytes, TORC_INIT_BYTES);
    if (drop != TORC_DROP_NONE) {
        accept_drop(answer, drop);
        return;
    }
    half = half_find(thread, note, &try.init);
    if (half < TORC_SESSION_HALF_MAX) {
        memcpy(answer->bytes, thread->halves[half].accept, TORC_ACCEPT_BYTES);
        answer->byte_count = TORC_ACCEPT_BYTES;
        return;
    }
    if (thread->table->identity.security != TORC_SECURITY_CLEAR && thread->keys_sequence == 0) {
        accept_drop(answer, TORC_DROP_NOT_READY); // no table of keys came yet
    } else if (accept_suite(thread, &try) && accept_open(thread, &try)) {
        accept_new(thread, &try);
    }
    sodium_memzero(&try, sizeof(try));
}
