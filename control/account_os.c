// Torc control: the account of memory. See control/account_os.h.
#include "control/account_os.h"

#include "kit/resident_os.h"

#include <string.h>

// A dataplane that died between its two stores leaves an odd sequence behind.
#define READ_TRIES 1000u

// The dataplane's part, all of one moment; false when there is none.
static bool account_copy(struct torc_account *account, const struct torc_chan_memory *memory)
{
    for (uint32_t i = 0; i < READ_TRIES; i++) {
        // Acquire: pairs with the dataplane's last store, release.
        uint64_t sequence = atomic_load_explicit(&memory->sequence, memory_order_acquire);

        if (sequence == 0) {
            return false;
        }
        if (sequence % 2 != 0) {
            continue;
        }
        account->measured_ns = torc_stats_get(&memory->measured_ns);
        account->resident_bytes = torc_stats_get(&memory->resident_bytes);
        account->hugetlb_bytes = torc_stats_get(&memory->hugetlb_bytes);
        for (uint32_t row = 0; row < TORC_MEMORY_COUNT; row++) {
            account->rows[row] = torc_stats_get(&memory->rows[row]);
        }
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&memory->sequence, memory_order_relaxed) == sequence) {
            return true;
        }
    }
    return false;
}

static void account_own(struct torc_account *account, const struct torc_chan *chan)
{
    struct torc_resident resident;
    struct torc_mapped mapped;

    if (torc_resident_open(&resident, NULL) != TORC_ERR_OK) {
        return;
    }
    while (torc_resident_next(&resident, &mapped)) {
        enum torc_memory row = mapped.kind == TORC_MAPPED_STACK  ? TORC_MEMORY_CONTROL_STACKS
                               : mapped.kind == TORC_MAPPED_FILE ? TORC_MEMORY_CONTROL_TEXT
                                                                 : TORC_MEMORY_CONTROL_HEAP;

        if (chan != NULL && mapped.start <= (uintptr_t)chan && mapped.end > (uintptr_t)chan) {
            row = TORC_MEMORY_CHANNEL;
        }
        account->rows[row] += mapped.bytes + mapped.hugetlb_bytes;
        account->resident_bytes += mapped.bytes;
        account->hugetlb_bytes += mapped.hugetlb_bytes;
    }
    torc_resident_close(&resident);
}

void torc_account_read(struct torc_account *account, const struct torc_chan *chan)
{
    *account = (struct torc_account){0};
    if (chan != NULL && !account_copy(account, &chan->memory)) {
        *account = (struct torc_account){0};
    }
    account_own(account, chan);
    for (uint32_t row = 0; row < TORC_MEMORY_COUNT; row++) {
        account->sum_bytes += account->rows[row];
    }
}

int64_t torc_account_off(const struct torc_account *account)
{
    uint64_t whole = account->resident_bytes + account->hugetlb_bytes;
    int64_t off = (int64_t)account->sum_bytes - (int64_t)whole;

    return whole == 0 ? 0 : off * 1000 / (int64_t)whole;
}
