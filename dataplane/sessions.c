// Torc dataplane: lives and ends of sessions; see sessions.h. How one begins: session_accept.c.
#include "dataplane/session_thread.h"

#include <sodium.h>

#include <string.h>

#define TABLE_ALIGN  4096u
#define SWEEP_NS     UINT64_C(1000000000)
#define SWEEP_PARTS  8u // of the table, a sweep each: 8 s from one look at a slot to the next
#define END_STEP_MAX 256u
// A client starts a new session at 80 % of the age; the table gives it room to finish.

static uint64_t sessions_round(uint64_t bytes)
{
    return (bytes + TABLE_ALIGN - 1) & ~(uint64_t)(TABLE_ALIGN - 1);
}

static uint64_t sessions_ring_bytes(void)
{
    return sessions_round(
        torc_spsc_bytes(sizeof(struct torc_session_note), TORC_SESSION_RING_SLOTS));
}

struct sessions_layout {
    uint64_t lines;
    uint64_t rings;
    uint64_t slots;
    uint64_t thread;
    uint64_t rest;
    uint64_t own;
    uint64_t principals;
    uint64_t incoming;
    uint64_t bytes;
};

static struct sessions_layout sessions_lay_out(uint32_t slot_count, uint32_t worker_count)
{
    struct sessions_layout at = {.lines = sessions_round(sizeof(struct torc_sessions))};

    at.rings = at.lines + sessions_round((uint64_t)worker_count * slot_count *
                                         sizeof(struct torc_session_line));
    at.slots = at.rings + (uint64_t)worker_count * TORC_SESSION_RING_COUNT * sessions_ring_bytes();
    at.thread = at.slots + sessions_round((uint64_t)slot_count * sizeof(struct torc_session));
    at.rest = at.thread + sessions_round(sizeof(struct torc_session_thread));
    at.own = at.rest + sessions_round((uint64_t)slot_count * sizeof(uint32_t));
    at.principals = at.own + sessions_round((uint64_t)slot_count * sizeof(struct torc_slot));
    at.incoming = at.principals + sessions_round(torc_principals_bytes());
    at.bytes =
        at.incoming + sessions_round(TORC_CHAN_PRINCIPALS_MAX * sizeof(struct torc_chan_principal));
    return at;
}

uint64_t torc_sessions_bytes(uint32_t slot_count, uint32_t worker_count)
{
    return sessions_lay_out(slot_count, worker_count).bytes;
}

static struct torc_session_thread *sessions_thread(struct torc_sessions *sessions)
{
    return (struct torc_session_thread *)(void *)(torc_sessions_base(sessions) +
                                                  sessions->thread_offset);
}

static enum torc_err sessions_rings_init(struct torc_sessions *sessions, struct torc_fail *why)
{
    struct torc_session_thread *thread = sessions_thread(sessions);
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < sessions->worker_count * TORC_SESSION_RING_COUNT; i++) {
        uint32_t worker = i / TORC_SESSION_RING_COUNT;
        enum torc_session_ring ring = (enum torc_session_ring)(i % TORC_SESSION_RING_COUNT);
        void *memory = torc_session_ring_at(sessions, worker, ring);
        bool out = ring == TORC_SESSION_RING_OUT;

        err = torc_spsc_format(memory, sessions->ring_bytes, sizeof(struct torc_session_note),
                               TORC_SESSION_RING_SLOTS, why);
        if (err == TORC_ERR_OK) {
            err = torc_spsc_attach(out ? &thread->out[worker] : &thread->in[worker][ring],
                                   out ? TORC_SPSC_PRODUCER : TORC_SPSC_CONSUMER, memory,
                                   sessions->ring_bytes, why);
        }
        if (err != TORC_ERR_OK) {
            return err;
        }
    }
    return err;
}

enum torc_err torc_sessions_init(struct torc_sessions **sessions, void *memory,
                                 uint64_t memory_bytes, const struct torc_sessions_config *config,
                                 struct torc_fail *why)
{
    struct torc_sessions *made = memory;
    uint32_t slot_count = config->slot_count;
    uint32_t worker_count = config->worker_count;
    struct sessions_layout at;
    struct torc_session_thread *thread;

    torc_assert((uintptr_t)memory % TABLE_ALIGN == 0);
    if (!torc_is_power_of_two(slot_count) || slot_count < 64 ||
        slot_count > 1u << TORC_SESSION_SLOT_BITS || worker_count == 0 || worker_count > 255) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "sessions: %" PRIu32 " slots for %" PRIu32
                         " workers; slots are a power of two from 64 to 2^20, workers 1 to 255",
                         slot_count, worker_count);
    }
    at = sessions_lay_out(slot_count, worker_count);
    if (memory_bytes < at.bytes) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "sessions need %" PRIu64 " bytes, the memory has %" PRIu64, at.bytes,
                         memory_bytes);
    }
    made->slot_count = slot_count;
    made->worker_count = worker_count;
    made->lines_offset = at.lines;
    made->rings_offset = at.rings;
    made->ring_bytes = sessions_ring_bytes();
    made->slots_offset = at.slots;
    made->thread_offset = at.thread;
    made->chan = config->chan;
    made->chan_bytes = config->chan_bytes;
    made->aead = config->aead;
    thread = sessions_thread(made);
    thread->table = made;
    thread->rest = (uint32_t *)(void *)(torc_sessions_base(made) + at.rest);
    thread->slots = (struct torc_slot *)(void *)(torc_sessions_base(made) + at.own);
    thread->incoming =
        (struct torc_chan_principal *)(void *)(torc_sessions_base(made) + at.incoming);
    torc_principals_init(&thread->principals, torc_sessions_base(made) + at.principals,
                         config->dummy);
    *sessions = made;
    return sessions_rings_init(made, why);
}

_Atomic uint32_t *torc_sessions_sleeping(struct torc_sessions *sessions)
{
    return &sessions->sleeping;
}

// -- Slots ---------------------------------------------------------------------------------------

static bool slots_are_free(const struct torc_session_thread *thread, uint32_t first, uint32_t count)
{
    for (uint32_t slot = first; slot < first + count; slot++) {
        if (thread->slots[slot].state != TORC_SLOT_FREE) {
            return false;
        }
    }
    return true;
}

uint32_t torc_session_slots_find(struct torc_session_thread *thread, uint32_t first, uint32_t last,
                                 uint32_t lanes)
{
    uint32_t count = (last - first) / lanes;
    uint32_t start;

    torc_assert(torc_is_power_of_two(lanes) && first % lanes == 0);
    if (count == 0) {
        return UINT32_MAX;
    }
    start = thread->search_at > first && thread->search_at < last
                ? (thread->search_at - first) / lanes
                : 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = first + (start + i) % count * lanes;

        if (slots_are_free(thread, slot, lanes)) {
            thread->search_at = slot + lanes;
            return slot;
        }
    }
    return UINT32_MAX;
}

void torc_session_slot_end(struct torc_session_thread *thread, uint32_t slot)
{
    struct torc_sessions *table = thread->table;
    struct torc_slot *own = &thread->slots[slot];

    torc_assert(own->state == TORC_SLOT_HALF || own->state == TORC_SLOT_OPEN);
    torc_assert(thread->rest_count < table->slot_count);
    // Workers that loaded it before finish their turn with it; the record stays as it is until
    // then.
    atomic_store_explicit(&torc_session_at(table, slot)->index, 0, memory_order_release);
    own->state = TORC_SLOT_RESTING;
    own->leave_ns = 0;
    if (own->place != TORC_PRINCIPAL_NOBODY) {
        torc_principals_close(thread->principals, own->place);
        thread->counts_changed = true;
    }
    thread->rest[(thread->rest_first + thread->rest_count) & (table->slot_count - 1)] = slot;
    thread->rest_count++;
    thread->open_count--;
    atomic_store_explicit(&table->open_count, thread->open_count, memory_order_relaxed);
}

uint32_t torc_session_last_seen_s(const struct torc_session_thread *thread, uint32_t slot)
{
    uint32_t seen_s = (uint32_t)(thread->slots[slot].made_ns / 1000000000u);

    for (uint32_t worker = 0; worker < thread->table->worker_count; worker++) {
        // Of an earlier session in this slot at worst, and then older than made_ns.
        uint32_t at_s = atomic_load_explicit(
            &torc_session_line_at(thread->table, worker, slot)->last_seen_s, memory_order_relaxed);

        seen_s = at_s > seen_s ? at_s : seen_s;
    }
    return seen_s;
}

bool torc_session_evict(struct torc_session_thread *thread, uint32_t place)
{
    uint32_t now_s = torc_session_now_s(thread);
    uint32_t oldest = UINT32_MAX;
    uint32_t oldest_s = UINT32_MAX;

    for (uint32_t slot = 0; slot < thread->table->slot_count; slot++) {
        const struct torc_slot *own = &thread->slots[slot];
        bool fits =
            own->state == TORC_SLOT_OPEN && (place == TORC_PRINCIPAL_NOBODY || own->place == place);
        uint32_t seen_s = fits ? torc_session_last_seen_s(thread, slot) : now_s;

        if (seen_s + TORC_SESSION_EVICT_S < now_s && seen_s < oldest_s) {
            oldest = slot;
            oldest_s = seen_s;
        }
    }
    if (oldest == UINT32_MAX) {
        return false;
    }
    torc_session_slot_end(thread, oldest);
    return true;
}

// -- Resting -------------------------------------------------------------------------------------

static bool rest_all_turned(const struct torc_session_thread *thread)
{
    for (uint32_t worker = 0; worker < thread->table->worker_count; worker++) {
        const struct torc_chan_worker *chan = torc_chan_worker_page(thread->table->chan, worker);

        // A worker that sleeps is between two turns. Acquire: pairs with the release of its turn.
        if (atomic_load_explicit(&thread->table->turns[worker], memory_order_acquire) ==
                thread->rest_turns[worker] &&
            atomic_load_explicit(&chan->sleeping, memory_order_acquire) == 0) {
            return false;
        }
    }
    return true;
}

static void slot_free(struct torc_session_thread *thread, uint32_t slot)
{
    struct torc_slot *own = &thread->slots[slot];

    torc_assert(own->state == TORC_SLOT_RESTING);
    own->state = TORC_SLOT_FREE;
    if (torc_session_at(thread->table, slot)->suite != TORC_SUITE_CLEAR) {
        sodium_memzero(torc_session_at(thread->table, slot)->keys,
                       sizeof(torc_session_at(thread->table, slot)->keys));
    }
    if (own->place != TORC_PRINCIPAL_NOBODY) {
        torc_principals_release(thread->principals, own->place);
    }
}

// Frees slots in rounds: all that rest when a round begins are free when it ends.
static void rest_step(struct torc_session_thread *thread)
{
    uint32_t mask = thread->table->slot_count - 1;

    if (thread->rest_waiting > 0 && thread->now_ns >= thread->rest_ns && rest_all_turned(thread)) {
        for (uint32_t i = 0; i < thread->rest_waiting; i++) {
            slot_free(thread, thread->rest[(thread->rest_first + i) & mask]);
        }
        thread->rest_first = (thread->rest_first + thread->rest_waiting) & mask;
        thread->rest_count -= thread->rest_waiting;
        thread->rest_waiting = 0;
    }
    if (thread->rest_waiting == 0 && thread->rest_count > 0) {
        thread->rest_waiting = thread->rest_count;
        thread->rest_ns = thread->now_ns + TORC_SESSION_REST_NS;
        for (uint32_t worker = 0; worker < thread->table->worker_count; worker++) {
            thread->rest_turns[worker] =
                atomic_load_explicit(&thread->table->turns[worker], memory_order_acquire);
        }
    }
}

// -- Time ----------------------------------------------------------------------------------------

// Whether this lane's session is still half-open. It may have ended early, and another one may have
// its slot.
static bool half_is_waiting(const struct torc_session_thread *thread, const struct torc_half *half,
                            uint32_t lane)
{
    uint32_t slot = half->slot + lane;

    return thread->slots[slot].state == TORC_SLOT_HALF &&
           torc_session_at(thread->table, slot)->serial == half->serial + lane;
}

// Its client has sent in one of its lanes, or it ended.
static bool half_is_settled(const struct torc_session_thread *thread, const struct torc_half *half)
{
    for (uint32_t lane = 0; lane < half->lanes; lane++) {
        if (!half_is_waiting(thread, half, lane) ||
            atomic_load_explicit(&torc_session_at(thread->table, half->slot + lane)->confirmed,
                                 memory_order_relaxed) != 0) {
            return true;
        }
    }
    return false;
}

static void half_drop_first(struct torc_session_thread *thread)
{
    const struct torc_half *half = &thread->halves[thread->half_first];
    bool confirmed = half_is_settled(thread, half);

    for (uint32_t lane = 0; lane < half->lanes; lane++) {
        if (half_is_waiting(thread, half, lane) && confirmed) {
            thread->slots[half->slot + lane].state = TORC_SLOT_OPEN;
        } else if (half_is_waiting(thread, half, lane)) {
            torc_session_slot_end(thread, half->slot + lane);
        }
    }
    thread->half_random[thread->half_first] = 0;
    thread->half_first = (thread->half_first + 1) % TORC_SESSION_HALF_MAX;
    thread->half_count--;
}

// Full: whoever has sent needs no second copy of its ACCEPT, so only those that have not keep their
// place. A crowd that comes back at once is let in as fast as it answers.
static void half_press(struct torc_session_thread *thread)
{
    uint32_t count = thread->half_count;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t from = thread->half_first;
        uint32_t to = (from + thread->half_count) % TORC_SESSION_HALF_MAX;
        struct torc_half kept = thread->halves[from];
        uint64_t random = thread->half_random[from];

        if (half_is_settled(thread, &kept)) {
            half_drop_first(thread);
            continue;
        }
        // To the end of the queue, and so round to where it was among the others.
        thread->half_random[from] = 0;
        thread->half_first = (from + 1) % TORC_SESSION_HALF_MAX;
        thread->halves[to] = kept;
        thread->half_random[to] = random;
    }
}

static void half_step(struct torc_session_thread *thread)
{
    uint32_t half_max = thread->table->identity.limits.half_open;

    while (thread->half_count > 0 &&
           thread->now_ns - thread->halves[thread->half_first].made_ns >= TORC_SESSION_HALF_NS) {
        half_drop_first(thread);
    }
    if (thread->half_count == 0) {
        return;
    }
    if (thread->half_count >= half_max && thread->now_ns >= thread->half_press_ns) {
        half_press(thread);
        thread->half_press_ns = thread->now_ns + TORC_SESSION_LOOK_NS;
    }
    // Still full: those that have waited a second go before their time.
    if (thread->half_count >= half_max &&
        thread->now_ns - thread->halves[thread->half_first].made_ns >= TORC_SESSION_PRESS_NS) {
        half_drop_first(thread);
    }
}

static void sweep_slot(struct torc_session_thread *thread, uint32_t slot)
{
    const struct torc_session_limits *limits = &thread->table->identity.limits;
    uint32_t now_s = torc_session_now_s(thread);
    uint32_t end_s = limits->age_s + limits->age_s / 4;

    if (thread->slots[slot].state != TORC_SLOT_OPEN) {
        return;
    }
    if (torc_session_last_seen_s(thread, slot) + limits->idle_s < now_s ||
        thread->slots[slot].made_ns / 1000000000u + end_s < now_s) {
        torc_session_slot_end(thread, slot);
    }
}

static void sweep_step(struct torc_session_thread *thread)
{
    uint32_t part = thread->table->slot_count / SWEEP_PARTS;

    if (thread->now_ns < thread->sweep_ns) {
        return;
    }
    for (uint32_t i = 0; i < part && thread->open_count > 0; i++) {
        sweep_slot(thread, thread->sweep_at + i);
    }
    thread->sweep_at = (thread->sweep_at + part) & (thread->table->slot_count - 1);
    thread->sweep_ns = thread->now_ns + SWEEP_NS;
}

static uint64_t sessions_deadline_ns(const struct torc_session_thread *thread)
{
    uint64_t deadline_ns = thread->open_count > 0 ? thread->sweep_ns : UINT64_MAX;

    if (thread->half_count > 0) {
        deadline_ns = torc_min_u64(deadline_ns, thread->halves[thread->half_first].made_ns +
                                                    TORC_SESSION_HALF_NS);
    }
    if (thread->rest_waiting > 0) {
        // A worker that turns without end is asked again a little later.
        deadline_ns = torc_min_u64(deadline_ns,
                                   torc_max_u64(thread->rest_ns, thread->now_ns + SWEEP_NS / 100));
    }
    deadline_ns = torc_min_u64(deadline_ns, torc_session_list_deadline_ns(thread));
    return torc_min_u64(deadline_ns, torc_session_keys_deadline_ns(thread));
}

// -- Rings ---------------------------------------------------------------------------------------

static void serve_ends(struct torc_session_thread *thread, uint32_t worker)
{
    struct torc_spsc_port *port = &thread->in[worker][TORC_SESSION_RING_END];
    uint32_t count = (uint32_t)torc_min_u64(torc_spsc_readable(port, END_STEP_MAX), END_STEP_MAX);

    for (uint32_t i = 0; i < count; i++) {
        const struct torc_session_note *note = torc_spsc_read_at(port, i);
        uint32_t slot = note->index & ((1u << TORC_SESSION_SLOT_BITS) - 1);

        // It may have ended by itself meanwhile.
        if (torc_session_find(thread->table, note->index) != NULL) {
            torc_session_slot_end(thread, slot);
        }
    }
    torc_spsc_release(port, count);
}

// Answers INITs of one ring while random bytes and room for answers last. True: some are left.
static bool serve_inits(struct torc_session_thread *thread, uint32_t worker,
                        enum torc_session_ring ring, struct torc_sessions_step *step)
{
    struct torc_spsc_port *port = &thread->in[worker][ring];
    struct torc_spsc_port *out = &thread->out[worker];

    while (torc_spsc_readable(port, 1) > 0) {
        struct torc_session_note *answer;

        if (thread->random_used + TORC_SESSIONS_RANDOM_EACH > TORC_SESSIONS_RANDOM_BYTES ||
            torc_spsc_writable(out, 1) == 0) {
            return true;
        }
        answer = torc_spsc_write_at(out, 0);
        half_step(thread);
        torc_session_accept(thread, torc_spsc_read_at(port, 0), step->random + thread->random_used,
                            answer);
        thread->random_used += TORC_SESSIONS_RANDOM_EACH;
        torc_spsc_release(port, 1);
        torc_spsc_publish(out, 1);
        step->ring_workers[worker / 64] |= UINT64_C(1) << (worker % 64);
    }
    return false;
}

// Keeps the bits of those that sleep: the others look by themselves.
static void ring_sleepers(const struct torc_session_thread *thread, struct torc_sessions_step *step)
{
    // Pairs with the fence of a worker about to sleep (kit/chan.h).
    atomic_thread_fence(memory_order_seq_cst);
    for (uint32_t worker = 0; worker < thread->table->worker_count; worker++) {
        uint64_t bit = UINT64_C(1) << worker % 64;

        if ((step->ring_workers[worker / 64] & bit) != 0 &&
            !torc_chan_wants_bell(torc_chan_worker_page(thread->table->chan, worker))) {
            step->ring_workers[worker / 64] &= ~bit;
        }
    }
}

bool torc_sessions_pending(struct torc_sessions *sessions, uint64_t now_ns)
{
    struct torc_session_thread *thread = sessions_thread(sessions);

    for (uint32_t worker = 0; worker < sessions->worker_count; worker++) {
        for (uint32_t ring = 0; ring < TORC_SESSION_RING_OUT; ring++) {
            if (torc_spsc_readable(&thread->in[worker][ring], 1) > 0) {
                return true;
            }
        }
    }
    return torc_session_keys_pending(thread, now_ns) || torc_session_list_pending(thread) ||
           sessions_deadline_ns(thread) <= now_ns;
}

void torc_sessions_step(struct torc_sessions *sessions, struct torc_sessions_step *step)
{
    struct torc_session_thread *thread = sessions_thread(sessions);

    torc_assert(step->now_ns >= thread->now_ns);
    thread->now_ns = step->now_ns;
    thread->wall_us = step->wall_us;
    thread->random_used = 0;
    step->more = false;
    memset(step->ring_workers, 0, sizeof(step->ring_workers));
    rest_step(thread);
    torc_session_keys_step(thread);
    half_step(thread);
    sweep_step(thread);
    for (uint32_t i = 0; i < sessions->worker_count; i++) {
        serve_ends(thread, i);
    }
    torc_assert(sessions->worker_count > 0);
    // Tickets of all workers before cookies of any; a step begins where the last one stopped.
    for (uint32_t i = 0; i < 2 * sessions->worker_count; i++) {
        uint32_t worker = (thread->worker_first + i) % sessions->worker_count;
        enum torc_session_ring ring =
            i < sessions->worker_count ? TORC_SESSION_RING_TICKET : TORC_SESSION_RING_COOKIE;

        step->more = serve_inits(thread, worker, ring, step) || step->more;
    }
    thread->worker_first = (thread->worker_first + 1) % sessions->worker_count;
    sodium_memzero(step->random, sizeof(step->random));
    torc_session_keys_tell(thread);
    torc_session_list_step(thread);
    ring_sleepers(thread, step);
    step->deadline_ns = sessions_deadline_ns(thread);
}
