// Torc dataplane: the list of sessions, a page at a time, when control asks; see session_thread.h,
// kit/chan.h.
//
// What    rows of the slots from where control says, as many as a page holds or a look lasts.
//         Workers take no part: what they count lies in their lines, and is read as it is.
#include "dataplane/session_thread.h"

#include <string.h>

// A step's worth: the sweep's part of the largest table, 2 ms of reading at most.
#define LOOK_SLOTS UINT32_C(131072)
// Control asks for the next page within a millisecond; nobody rings for that.
#define AGAIN_NS UINT64_C(500000)
#define STAY_NS  UINT64_C(50000000)

_Static_assert(TORC_CHAN_AGENT_BYTES == TORC_AGENT_BYTES, "whole");

static struct torc_chan_sessions *list_page(const struct torc_session_thread *thread)
{
    return torc_chan_sessions(thread->table->chan);
}

static void list_row(const struct torc_session_thread *thread, uint32_t slot,
                     struct torc_chan_session *row)
{
    const struct torc_slot *own = &thread->slots[slot];
    const struct torc_session *session = torc_session_at(thread->table, slot);
    bool confirmed = atomic_load_explicit(&session->confirmed, memory_order_relaxed) != 0;

    *row = (struct torc_chan_session){
        .made_ns = own->made_ns,
        .index = atomic_load_explicit(&session->index, memory_order_relaxed),
        .principal = session->principal,
        .seen_s = torc_session_last_seen_s(thread, slot),
        .port = own->port,
        .lane = session->lane,
        .suite = session->suite,
        .state = own->state == TORC_SLOT_OPEN || confirmed ? TORC_CHAN_SESSION_OPEN
                                                           : TORC_CHAN_SESSION_HALF};
    memcpy(row->ip, session->ip, sizeof(row->ip));
    memcpy(row->agent, own->agent, sizeof(row->agent));
    for (uint32_t worker = 0; worker < thread->table->worker_count; worker++) {
        const struct torc_session_line *line = torc_session_line_at(thread->table, worker, slot);

        if (torc_session_line_serial(line) == session->serial) {
            row->packets_in += atomic_load_explicit(&line->rx_high, memory_order_relaxed);
            row->packets_out += atomic_load_explicit(&line->tx_seq, memory_order_relaxed);
            row->in_flight += torc_session_line_in_flight(line);
        }
    }
}

void torc_session_list_step(struct torc_session_thread *thread)
{
    struct torc_chan_sessions *page = list_page(thread);
    // Acquire: pairs with control's release, which gives the page to us.
    uint64_t asked = atomic_load_explicit(&page->asked, memory_order_acquire);
    uint32_t slot = atomic_load_explicit(&page->from, memory_order_relaxed);
    uint32_t slot_count = thread->table->slot_count;
    uint32_t last = slot_count - torc_narrow_u32(torc_min_u64(slot, slot_count)) > LOOK_SLOTS
                        ? slot + LOOK_SLOTS
                        : slot_count;
    uint32_t count = 0;

    if (asked == thread->list_answered) {
        return;
    }
    for (; slot < last && count < TORC_CHAN_SESSIONS_PAGE; slot++) {
        if (thread->slots[slot].state == TORC_SLOT_HALF ||
            thread->slots[slot].state == TORC_SLOT_OPEN) {
            list_row(thread, slot, &page->rows[count++]);
        }
    }
    page->count = count;
    page->next = slot < slot_count ? slot : UINT32_MAX;
    thread->list_answered = asked;
    thread->list_until_ns = slot < slot_count ? thread->now_ns + STAY_NS : 0;
    // Release: pairs with control's acquire, which then reads the page.
    atomic_store_explicit(&page->answered, asked, memory_order_release);
}

bool torc_session_list_pending(const struct torc_session_thread *thread)
{
    return atomic_load_explicit(&list_page(thread)->asked, memory_order_relaxed) !=
           thread->list_answered;
}

uint64_t torc_session_list_deadline_ns(const struct torc_session_thread *thread)
{
    return thread->now_ns < thread->list_until_ns ? thread->now_ns + AGAIN_NS : UINT64_MAX;
}
