// Torc dataplane: how a session begins: an INIT whose cookie a worker found good, and its answer.
// See sessions.h; CLEAR mode of WIRE.md, section 1.
#include "dataplane/session_thread.h"
#include "wire/op.h"

#include <string.h>

#define CORE_OPS_MAX  256u // in flight for one lane and core
#define PACKETS_MAX   64u
#define CURSORS_MAX   16u
#define FRAGMENTS_MAX 16u
#define WRITE_WINDOW  4096u
#define REFUSE_MS     1000u // of FULL: a session may have idled out by then
// Of the table, kept for nodes: a crowd of clients must not keep the peers out.
#define NODE_SHARE 4u

_Static_assert(sizeof(((struct torc_session_note *)0)->bytes) >= TORC_INIT_BYTES, "an INIT fits");

static void accept_drop(struct torc_session_note *answer, enum torc_drop reason)
{
    answer->byte_count = 0;
    answer->drop = (uint32_t)reason;
}

static void accept_refuse(const struct torc_session_thread *thread, const struct torc_init *init,
                          struct torc_session_note *answer, enum torc_refuse_code code)
{
    struct torc_refuse refuse = {.core = (uint8_t)answer->index,
                                 .versions = TORC_WIRE_VERSIONS,
                                 .code = (uint16_t)code,
                                 .node = thread->table->identity.node,
                                 .retry_ms = code == TORC_REFUSE_FULL ? REFUSE_MS : 0};

    memcpy(refuse.random, init->random, sizeof(refuse.random));
    torc_refuse_encode(answer->bytes, &refuse);
    answer->byte_count = TORC_REFUSE_BYTES;
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

static bool suite_is_clear(const struct torc_session_thread *thread, const struct torc_init *init,
                           struct torc_session_note *answer)
{
    bool clear = thread->table->identity.security == TORC_SECURITY_CLEAR;

    if (!clear && (init->suites & TORC_SUITE_CLEAR) != 0) {
        accept_refuse(thread, init, answer, TORC_REFUSE_CLEAR_OFF);
        return false;
    }
    if (init->suites != TORC_SUITE_CLEAR) {
        accept_refuse(thread, init, answer, TORC_REFUSE_SUITE);
        return false;
    }
    return true;
}

// Slots for the lanes wanted, or for as many as there are and the principal may have; *lanes says
// how many. UINT32_MAX: none.
static uint32_t accept_slots(struct torc_session_thread *thread, const struct torc_init *init,
                             const struct torc_principal_found *found, uint32_t *lanes)
{
    uint32_t room = found->place == TORC_PRINCIPAL_NOBODY
                        ? UINT32_MAX
                        : torc_principals_room(thread->principals, found->place);
    uint32_t slot_count = thread->table->slot_count;
    uint32_t for_nodes = slot_count / NODE_SHARE;
    bool node = init->principal >= TORC_PRINCIPAL_NODE;
    uint32_t slot;

    for (uint32_t wanted = init->lanes; wanted > 0; wanted /= 2) {
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

static uint32_t accept_roles(const struct torc_init *init, const struct torc_principal_found *found)
{
    if (found->rights != NULL) {
        return found->rights->roles;
    }
    return init->principal >= TORC_PRINCIPAL_NODE
               ? TORC_ROLE_NODE
               : TORC_ROLE_READ | TORC_ROLE_WRITE | TORC_ROLE_ADMIN;
}

static void accept_publish(struct torc_session_thread *thread, const struct torc_init *init,
                           const struct torc_session_note *note,
                           const struct torc_principal_found *found, const struct torc_half *half,
                           const unsigned char *random)
{
    for (uint32_t lane = 0; lane < half->lanes; lane++) {
        uint32_t slot = half->slot + lane;
        struct torc_slot *own = &thread->slots[slot];
        struct torc_session *session = torc_session_at(thread->table, slot);

        own->generation = (uint16_t)(own->generation == 0xfffu ? 1 : own->generation + 1);
        own->state = TORC_SLOT_HALF;
        own->made_ns = thread->now_ns;
        own->leave_ns = 0;
        own->place = found->place;
        own->key_serial = found->key_serial;
        atomic_store_explicit(&session->confirmed, 0, memory_order_relaxed);
        session->serial = ++thread->last_serial;
        session->client_id = init->client_id;
        session->token_to_server = accept_random(random);
        session->token_to_client = accept_random(random + 8);
        memcpy(session->ip, note->path.ip, sizeof(session->ip));
        session->client_index = init->client_index + lane;
        session->principal = init->principal;
        session->rights = found->rights;
        session->roles = accept_roles(init, found);
        session->payload_max = init->payload_max;
        session->lane = (uint8_t)lane;
        // Pairs with the acquire in torc_session_find: who sees the index sees the record.
        atomic_store_explicit(&session->index,
                              (uint32_t)own->generation << TORC_SESSION_SLOT_BITS | slot,
                              memory_order_release);
    }
    if (found->place != TORC_PRINCIPAL_NOBODY) {
        torc_principals_open(thread->principals, found->place, half->lanes);
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

static void accept_encode(struct torc_session_thread *thread, const struct torc_init *init,
                          const struct torc_session_note *note, struct torc_half *half)
{
    const struct torc_sessions_identity *identity = &thread->table->identity;
    const struct torc_session *session = torc_session_at(thread->table, half->slot);
    struct torc_accept accept = {
        .core = (uint8_t)note->index,
        .lanes = (uint8_t)half->lanes,
        .suite = TORC_SUITE_CLEAR,
        .durability = identity->durability,
        .token_to_server = session->token_to_server,
        .token_to_client = session->token_to_client,
        .session_index = atomic_load_explicit(&session->index, memory_order_relaxed),
        .roles = session->roles,
        .cores = (uint16_t)thread->table->worker_count,
        .base_port = identity->base_port,
        .payload_max = identity->payload_max,
        .versions = TORC_WIRE_VERSIONS,
        .suites = TORC_SUITE_CLEAR,
        .cluster = identity->cluster,
        .key_count = identity->key_count,
        .boot = identity->boot,
        .map_version = atomic_load_explicit(&thread->table->map_version, memory_order_relaxed),
        .hlc = atomic_load_explicit(&thread->table->hlc, memory_order_relaxed),
        .node = identity->node,
        .value_bytes_max = identity->value_bytes_max,
        .packet_ops_max = TORC_PACKET_OPS_MAX,
        .core_ops_max = CORE_OPS_MAX,
        .packets_max = PACKETS_MAX,
        .cursors_max = CURSORS_MAX,
        .fragments_max = FRAGMENTS_MAX,
        .idle_s = TORC_SESSION_IDLE_S,
        .age_s = TORC_SESSION_AGE_S,
        .deadline_ms_max = identity->deadline_ms_max,
        .message_bytes_max = identity->message_bytes_max,
        .write_window = WRITE_WINDOW,
    };

    memcpy(accept.random, init->random, sizeof(accept.random));
    accept_ticket(thread, init, note, accept.ticket);
    torc_accept_encode(half->accept, &accept);
}

static void accept_new(struct torc_session_thread *thread, const struct torc_init *init,
                       const struct torc_session_note *note,
                       const struct torc_principal_found *found, const unsigned char *random,
                       struct torc_session_note *answer)
{
    uint32_t at = (thread->half_first + thread->half_count) % TORC_SESSION_HALF_MAX;
    struct torc_half *half = &thread->halves[at];
    uint32_t lanes = 0;
    uint32_t slot = UINT32_MAX;

    if (thread->half_count == TORC_SESSION_HALF_MAX) {
        accept_drop(answer, TORC_DROP_HALF_OPEN_FULL);
        return;
    }
    if (thread->open_count < thread->table->identity.sessions_max) {
        slot = accept_slots(thread, init, found, &lanes);
    }
    if (slot == UINT32_MAX) {
        // What ends now can be used when it has rested: the client asks again after REFUSE_MS.
        (void)torc_session_evict(thread);
        accept_refuse(thread, init, answer, TORC_REFUSE_FULL);
        return;
    }
    half->made_ns = thread->now_ns;
    half->slot = slot;
    half->lanes = lanes;
    half->serial = thread->last_serial + 1;
    memcpy(half->ip, note->path.ip, sizeof(half->ip));
    memcpy(half->init, note->bytes, TORC_INIT_BYTES);
    accept_publish(thread, init, note, found, half, random);
    accept_encode(thread, init, note, half);
    thread->half_random[at] = accept_random(init->random);
    thread->half_count++;
    memcpy(answer->bytes, half->accept, TORC_ACCEPT_BYTES);
    answer->byte_count = TORC_ACCEPT_BYTES;
    answer->serial = thread->last_serial;
}

void torc_session_accept(struct torc_session_thread *thread, const struct torc_session_note *note,
                         const unsigned char random[64], struct torc_session_note *answer)
{
    struct torc_init init;
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
    drop = torc_init_decode(&init, note->bytes, TORC_INIT_BYTES);
    if (drop != TORC_DROP_NONE) {
        accept_drop(answer, drop);
        return;
    }
    half = half_find(thread, note, &init);
    if (half < TORC_SESSION_HALF_MAX) {
        memcpy(answer->bytes, thread->halves[half].accept, TORC_ACCEPT_BYTES);
        answer->byte_count = TORC_ACCEPT_BYTES;
        return;
    }
    if (!suite_is_clear(thread, &init, answer)) {
        return;
    }
    drop = torc_init_open_clear(&init, note->bytes);
    if (drop == TORC_DROP_NONE && init.node != thread->table->identity.node) {
        drop = TORC_DROP_INIT_FIELD;
    }
    if (drop != TORC_DROP_NONE) {
        accept_drop(answer, drop);
    } else if (init.principal != 0 && init.principal < TORC_PRINCIPAL_NODE) {
        // Without keys there are no principals; the code is that of a wrong key.
        accept_refuse(thread, &init, answer, TORC_REFUSE_AUTH);
    } else {
        struct torc_principal_found nobody = {.place = TORC_PRINCIPAL_NOBODY};

        accept_new(thread, &init, note, &nobody, random, answer);
    }
}
