// Torc dataplane: who may have a session: control's table of keys, and the sessions that lose their
// right with a new one. See session_thread.h, principals.h.
#include "dataplane/session_thread.h"

#include <sodium.h>

#include <string.h>

// Control writes for some microseconds, sessions rest for a second: bets on when to look again.
#define AGAIN_NS UINT64_C(10000000)
#define BUSY_NS  UINT64_C(100000000)

static const struct torc_chan_keys *keys_table(const struct torc_session_thread *thread)
{
    return torc_chan_keys(thread->table->chan);
}

static struct torc_chan_keys_state *keys_state(const struct torc_session_thread *thread)
{
    return &((struct torc_chan *)thread->table->chan)->keys;
}

// Copies the table out of control's reach. False: control is just writing it.
static bool keys_copy(struct torc_session_thread *thread, uint64_t sequence, uint32_t *count)
{
    const struct torc_chan_keys *from = keys_table(thread);

    *count = from->count;
    memcpy(thread->incoming, from->principals,
           torc_min_u64(*count, TORC_CHAN_PRINCIPALS_MAX) * sizeof(thread->incoming[0]));
    // Pairs with the release fence of control's writing (kit/chan.h, the map's seqlock).
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&from->sequence, memory_order_relaxed) == sequence;
}

// Ends the session in a slot if it must end now; notes when it will.
static void keys_judge(struct torc_session_thread *thread, uint32_t slot)
{
    struct torc_slot *own = &thread->slots[slot];
    enum torc_principal_fate fate;

    if ((own->state != TORC_SLOT_HALF && own->state != TORC_SLOT_OPEN) ||
        own->place == TORC_PRINCIPAL_NOBODY) {
        return;
    }
    fate = torc_principals_fate(thread->principals, own->place, own->key_serial);
    if (fate == TORC_FATE_KEY_REMOVED && own->leave_ns == 0) {
        own->leave_ns = thread->now_ns + TORC_SESSION_LEAVE_NS;
    }
    if (fate == TORC_FATE_GONE || (own->leave_ns != 0 && own->leave_ns <= thread->now_ns)) {
        torc_session_slot_end(thread, slot);
    } else if (own->leave_ns != 0 && (thread->leave_ns == 0 || own->leave_ns < thread->leave_ns)) {
        thread->leave_ns = own->leave_ns;
    }
}

static void keys_judge_all(struct torc_session_thread *thread)
{
    thread->leave_ns = 0;
    for (uint32_t slot = 0; slot < thread->table->slot_count && thread->open_count > 0; slot++) {
        keys_judge(thread, slot);
    }
}

static void keys_take(struct torc_session_thread *thread, uint64_t sequence)
{
    uint32_t count = 0;
    enum torc_err err;

    thread->keys_retry_ns = 0;
    if (!keys_copy(thread, sequence, &count)) {
        thread->keys_retry_ns = thread->now_ns + AGAIN_NS;
        return;
    }
    err = torc_principals_load(thread->principals, thread->incoming, count, NULL);
    sodium_memzero(thread->incoming,
                   torc_min_u64(count, TORC_CHAN_PRINCIPALS_MAX) * sizeof(thread->incoming[0]));
    if (err == TORC_ERR_BUSY) {
        thread->keys_retry_ns = thread->now_ns + BUSY_NS;
        return;
    }
    thread->keys_sequence = sequence;
    if (err != TORC_ERR_OK) {
        atomic_store_explicit(&keys_state(thread)->refused, sequence, memory_order_release);
        return;
    }
    keys_judge_all(thread);
    thread->counts_changed = true;
    torc_session_keys_tell(thread);
    // Release: pairs with control's acquire, which then finds the counts of this table.
    atomic_store_explicit(&keys_state(thread)->taken, sequence, memory_order_release);
}

void torc_session_keys_step(struct torc_session_thread *thread)
{
    // Acquire: pairs with control's release when it has written the table.
    uint64_t sequence = atomic_load_explicit(&keys_table(thread)->sequence, memory_order_acquire);

    if (sequence != thread->keys_sequence && thread->now_ns >= thread->keys_retry_ns) {
        if (sequence % 2 != 0) {
            thread->keys_retry_ns = thread->now_ns + AGAIN_NS;
        } else {
            keys_take(thread, sequence);
        }
    }
    if (thread->leave_ns != 0 && thread->leave_ns <= thread->now_ns) {
        keys_judge_all(thread);
    }
}

void torc_session_keys_tell(struct torc_session_thread *thread)
{
    if (thread->counts_changed) {
        thread->counts_changed = false;
        torc_principals_tell(thread->principals, keys_state(thread)->sessions);
    }
}

bool torc_session_keys_pending(const struct torc_session_thread *thread, uint64_t now_ns)
{
    return atomic_load_explicit(&keys_table(thread)->sequence, memory_order_relaxed) !=
               thread->keys_sequence &&
           now_ns >= thread->keys_retry_ns;
}

uint64_t torc_session_keys_deadline_ns(const struct torc_session_thread *thread)
{
    uint64_t deadline_ns = thread->leave_ns != 0 ? thread->leave_ns : UINT64_MAX;

    return thread->keys_retry_ns != 0 ? torc_min_u64(deadline_ns, thread->keys_retry_ns)
                                      : deadline_ns;
}
