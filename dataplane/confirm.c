// Torc dataplane: the queue of packets that wait to be confirmed; see confirm.h.
#include "dataplane/confirm.h"

#include "kit/bugs.h"

static uint64_t confirm_entries_bytes(uint32_t slots)
{
    return (slots * sizeof(struct torc_confirm_entry) + 63) / 64 * 64;
}

uint64_t torc_confirm_bytes(uint32_t slots)
{
    return confirm_entries_bytes(slots) + slots * sizeof(uint32_t);
}

void torc_confirm_init(struct torc_confirm *confirm, void *memory,
                       const struct torc_confirm_config *config)
{
    torc_assert(config->slots > 0);
    *confirm = (struct torc_confirm){
        .config = *config,
        .entries = memory,
        .free = (void *)((char *)memory + confirm_entries_bytes(config->slots)),
        .question = 1};
    for (uint32_t i = 0; i < config->slots; i++) {
        confirm->free[i] = i;
    }
    confirm->free_count = config->slots;
}

uint32_t torc_confirm_keep(struct torc_confirm *confirm, uint64_t now_ns, uint64_t shards)
{
    struct torc_confirm_entry *entry;

    torc_assert(shards != 0);
    if (confirm->free_count == 0) {
        return TORC_CONFIRM_NONE;
    }
    entry = &confirm->entries[confirm->count++];
    *entry = (struct torc_confirm_entry){.shards = shards,
                                         .bound_ns = TORC_CONFIRM_NEVER,
                                         .until_ns = now_ns + confirm->config.wait_ns,
                                         .question = confirm->question,
                                         .slot = confirm->free[--confirm->free_count]};
    if (TORC_BUG(CONFIRM_NOT_ASKED)) {
        entry->bound_ns = 0;
    }
    return entry->slot;
}

// Entries of the question at hand are the last ones.
static bool confirm_is_wanted(const struct torc_confirm *confirm)
{
    return confirm->entries[confirm->count - 1].question == confirm->question;
}

bool torc_confirm_asks(const struct torc_confirm *confirm, uint64_t now_ns)
{
    return confirm->count > 0 &&
           (confirm->asking ? now_ns >= confirm->asked_ns + confirm->config.again_ns
                            : confirm_is_wanted(confirm));
}

uint32_t torc_confirm_ask(struct torc_confirm *confirm, uint64_t now_ns)
{
    // Again, and with a new number: whoever came meanwhile is served by the later answer too.
    if (confirm->asking) {
        for (uint32_t i = confirm->count; i > 0; i--) {
            struct torc_confirm_entry *entry = &confirm->entries[i - 1];

            if (entry->question + 1 < confirm->question) {
                break;
            }
            entry->question = confirm->question;
        }
    }
    confirm->asking = true;
    confirm->asked_ns = now_ns;
    return confirm->question++;
}

void torc_confirm_told(struct torc_confirm *confirm, uint32_t question, uint64_t bound_ns)
{
    if (!confirm->asking || question + 1 != confirm->question) {
        return; // it was asked again meanwhile
    }
    confirm->asking = false;
    for (uint32_t i = confirm->count; i > 0; i--) {
        struct torc_confirm_entry *entry = &confirm->entries[i - 1];

        if (entry->question < question) {
            break;
        }
        if (entry->question == question && entry->bound_ns == TORC_CONFIRM_NEVER) {
            entry->bound_ns = bound_ns;
        }
    }
}

// Bits of the shards that have not confirmed a beat of bound_ns or later.
static uint64_t confirm_missing(const struct torc_confirm_view *view, uint64_t bound_ns)
{
    uint64_t missing = bound_ns == TORC_CONFIRM_NEVER ? UINT64_MAX : 0;

    for (uint32_t i = 0; i < view->count; i++) {
        missing |= view->led[i].confirmed_ns < bound_ns ? view->led[i].shards : 0;
    }
    return missing;
}

bool torc_confirm_take(struct torc_confirm *confirm, uint64_t now_ns,
                       const struct torc_confirm_view *view, uint32_t max,
                       struct torc_confirm_batch *batch)
{
    uint64_t missing = 0;
    uint32_t left = 0;

    torc_assert(max <= TORC_CONFIRM_BATCH);
    batch->count = 0;
    for (uint32_t i = 0; i < confirm->count; i++) {
        const struct torc_confirm_entry *entry = &confirm->entries[i];

        if (i == 0 || (batch->count == 0 && entry->bound_ns != batch->bound_ns)) {
            batch->bound_ns = entry->bound_ns;
            missing = confirm_missing(view, entry->bound_ns);
        }
        if (batch->count < max && entry->bound_ns == batch->bound_ns &&
            ((entry->shards & missing) == 0 || now_ns >= entry->until_ns)) {
            batch->slots[batch->count++] = entry->slot;
        } else {
            confirm->entries[left++] = *entry;
        }
    }
    confirm->count = left;
    return batch->count > 0;
}

void torc_confirm_free(struct torc_confirm *confirm, uint32_t slot)
{
    torc_assert(confirm->free_count < confirm->config.slots);
    confirm->free[confirm->free_count++] = slot;
}

uint64_t torc_confirm_deadline_ns(const struct torc_confirm *confirm)
{
    uint64_t deadline_ns = UINT64_MAX;

    if (confirm->count > 0) {
        deadline_ns = confirm->entries[0].until_ns; // the oldest is first
    }
    if (confirm->count > 0 && confirm->asking) {
        deadline_ns = torc_min_u64(deadline_ns, confirm->asked_ns + confirm->config.again_ns);
    }
    return deadline_ns;
}
