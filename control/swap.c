// Torc control: one compare-and-swap, until its outcome is known. See control/swap.h.
#include "control/swap.h"

#include <string.h>

void torc_swap_begin(struct torc_swap *swap, const struct torc_meta_op *ops, uint32_t op_count,
                     uint64_t ticket)
{
    torc_assert(op_count > 0);
    torc_assert(ops[0].kind == TORC_META_PUT);
    torc_assert(ops[0].expected != TORC_META_ANY); // else a late copy of it could still happen
    *swap = (struct torc_swap){
        .state = TORC_SWAP_ASK, .ticket = ticket, .ops = ops, .op_count = op_count};
}

bool torc_swap_next(struct torc_swap *swap, uint64_t now_ns, struct torc_meta_request *request)
{
    if ((swap->state != TORC_SWAP_ASK && swap->state != TORC_SWAP_READ) ||
        now_ns < swap->pause_until_ns) {
        return false;
    }
    *request = (struct torc_meta_request){.ticket = swap->ticket};
    if (swap->state == TORC_SWAP_ASK) {
        swap->state = TORC_SWAP_ASKED;
        request->verb = TORC_META_TXN;
        request->ops = swap->ops;
        request->op_count = swap->op_count;
    } else {
        swap->state = TORC_SWAP_READING;
        request->verb = TORC_META_GET;
        request->key = swap->ops[0].key;
    }
    return true;
}

uint64_t torc_swap_deadline_ns(const struct torc_swap *swap)
{
    bool waits = swap->state == TORC_SWAP_ASK || swap->state == TORC_SWAP_READ;

    return waits ? swap->pause_until_ns : UINT64_MAX;
}

bool torc_swap_is_over(const struct torc_swap *swap)
{
    return swap->state == TORC_SWAP_WON || swap->state == TORC_SWAP_LOST ||
           swap->state == TORC_SWAP_FAILED;
}

static const struct torc_meta_record *swap_find(const struct torc_swap *swap,
                                                const struct torc_meta_answer *answer)
{
    for (uint32_t i = 0; i < answer->record_count; i++) {
        if (strcmp(answer->records[i].key, swap->ops[0].key) == 0) {
            return answer->records + i;
        }
    }
    return NULL;
}

static void swap_end(struct torc_swap *swap, enum torc_swap_state state, uint64_t version)
{
    swap->state = state;
    swap->version = version;
    swap->current = true;
}

// By what the first record says now. `refused`: the transaction met a condition that failed.
static void swap_compare(struct torc_swap *swap, const struct torc_meta_record *record,
                         bool refused)
{
    const struct torc_meta_op *op = swap->ops;
    uint64_t version = record != NULL ? record->version : TORC_META_ABSENT;

    if (record != NULL && record->value_bytes == op->value_bytes &&
        memcmp(record->value, op->value, op->value_bytes) == 0) {
        swap_end(swap, TORC_SWAP_WON, version);
    } else if (version != op->expected || refused) {
        // Refused with the first record as expected: another of its conditions failed, and versions
        // never come back, so that no copy of it can happen.
        swap_end(swap, TORC_SWAP_LOST, version);
    } else {
        swap->state = TORC_SWAP_ASK; // it has not happened yet
    }
}

static void swap_pause(struct torc_swap *swap, uint64_t now_ns, enum torc_swap_state next)
{
    swap->state = next;
    swap->pause_until_ns = now_ns + TORC_SWAP_PAUSE_NS;
}

static void swap_take_txn(struct torc_swap *swap, uint64_t now_ns,
                          const struct torc_meta_answer *answer)
{
    bool may_pass = answer->err == TORC_ERR_UNAVAILABLE || answer->err == TORC_ERR_BUSY;

    if (answer->err == TORC_ERR_OK) {
        swap_end(swap, TORC_SWAP_WON, answer->revision);
    } else if (answer->err == TORC_ERR_CONDITION_FAILED) {
        swap_compare(swap, swap_find(swap, answer), true);
    } else if (answer->err == TORC_ERR_IN_DOUBT) {
        swap->doubt = true;
        swap->state = TORC_SWAP_READ;
    } else if (may_pass || swap->doubt) {
        swap_pause(swap, now_ns, swap->doubt ? TORC_SWAP_READ : TORC_SWAP_ASK);
    } else {
        swap->state = TORC_SWAP_FAILED;
        swap->err = answer->err;
    }
}

void torc_swap_take(struct torc_swap *swap, uint64_t now_ns, const struct torc_meta_answer *answer)
{
    torc_assert(answer->ticket == swap->ticket);
    if (swap->state == TORC_SWAP_ASKED) {
        swap_take_txn(swap, now_ns, answer);
        return;
    }
    torc_assert(swap->state == TORC_SWAP_READING);
    if (answer->err == TORC_ERR_OK || answer->err == TORC_ERR_NOT_FOUND) {
        swap_compare(swap, answer->record_count > 0 ? answer->records : NULL, false);
    } else {
        swap_pause(swap, now_ns, TORC_SWAP_READ);
    }
}
