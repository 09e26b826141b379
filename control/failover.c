// Torc control: executes what replicas decide. See control/failover.h.
#include "control/failover.h"

#include "kit/bugs.h"

#include <string.h>

void torc_failover_init(struct torc_failover *failover)
{
    memset(failover, 0, sizeof(*failover));
}

// -- Questions ------------------------------------------------------------------------------------

static struct torc_failover_ask *failover_find(struct torc_failover *failover, uint32_t shard,
                                               bool is_proposal)
{
    for (uint32_t i = 0; i < failover->ask_count; i++) {
        struct torc_failover_ask *ask = failover->asks + i;

        if (ask->stage != TORC_FAILOVER_FREE && ask->shard == shard &&
            ask->is_proposal == is_proposal) {
            return ask;
        }
    }
    return NULL;
}

static struct torc_failover_ask *failover_room(struct torc_failover *failover)
{
    for (uint32_t i = 0; i < failover->ask_count; i++) {
        if (failover->asks[i].stage == TORC_FAILOVER_FREE) {
            return failover->asks + i;
        }
    }
    return failover->ask_count < TORC_FAILOVER_ASKS ? failover->asks + failover->ask_count++ : NULL;
}

static void failover_end_request(struct torc_failover *failover, struct torc_failover_ask *ask)
{
    torc_assert(ask->asked);
    torc_assert(failover->inflight > 0);
    ask->asked = false;
    failover->inflight--;
}

// From the beginning; an answer to what was asked before finds a serial that is not its own.
static void failover_begin(struct torc_failover *failover, struct torc_failover_ask *ask,
                           uint64_t now_ns)
{
    if (ask->asked) {
        failover_end_request(failover, ask);
    }
    ask->stage = TORC_FAILOVER_SHARD;
    ask->again = false;
    ask->serial = ++failover->serial;
    ask->until_ns = now_ns + TORC_FAILOVER_WAIT_NS;
}

void torc_failover_read(struct torc_failover *failover, uint64_t now_ns, uint32_t worker,
                        const struct torc_evt_read *read)
{
    struct torc_failover_ask *ask = failover_find(failover, read->shard, false);

    if (ask != NULL) {
        ask->worker = worker; // another one, where the shard was let go of and given again
        ask->again = true;
        ask->again_epoch = read->epoch;
        return;
    }
    ask = failover_room(failover);
    if (ask == NULL || read->shard == 0) {
        failover->counters.refused++;
        return;
    }
    ask->is_proposal = false;
    ask->asked = false;
    ask->worker = worker;
    ask->shard = read->shard;
    ask->epoch = read->epoch;
    failover_begin(failover, ask, now_ns);
}

static bool failover_makes_sense(const struct torc_evt_propose *propose)
{
    const struct torc_chan_record *record = &propose->record;
    bool is_member = false;

    if (propose->shard == 0 || record->nonce == 0 || propose->expected_epoch == UINT32_MAX ||
        record->epoch != propose->expected_epoch + 1 || record->member_count == 0 ||
        record->member_count > TORC_CHAN_MEMBERS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < record->member_count; i++) {
        uint32_t node = record->members[i].node;

        if (node == 0 || node > TORC_RECORD_NODE_MAX) {
            return false;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (record->members[j].node == node) {
                return false;
            }
        }
        is_member = is_member || node == record->primary_node;
    }
    return is_member;
}

void torc_failover_propose(struct torc_failover *failover, uint64_t now_ns, uint32_t worker,
                           const struct torc_evt_propose *propose)
{
    struct torc_failover_ask *ask = failover_find(failover, propose->shard, true);

    if (!failover_makes_sense(propose)) {
        failover->counters.refused++;
        return;
    }
    if (ask != NULL && ask->proposal.nonce == propose->record.nonce) {
        return; // it is being executed
    }
    if (ask == NULL) {
        ask = failover_room(failover);
        if (ask == NULL) {
            failover->counters.refused++;
            return;
        }
        ask->asked = false;
    }
    ask->is_proposal = true;
    ask->worker = worker;
    ask->shard = propose->shard;
    ask->epoch = propose->expected_epoch;
    ask->proposal = propose->record;
    failover_begin(failover, ask, now_ns);
}

void torc_failover_forget(struct torc_failover *failover)
{
    for (uint32_t i = 0; i < failover->ask_count; i++) {
        failover->asks[i].stage = TORC_FAILOVER_FREE;
        failover->asks[i].asked = false;
    }
    failover->ask_count = 0;
    failover->inflight = 0;
}

// -- Requests -------------------------------------------------------------------------------------

static uint64_t failover_ticket(const struct torc_failover *failover,
                                const struct torc_failover_ask *ask)
{
    return (uint64_t)ask->serial << 32 | (TORC_FAILOVER_TICKET + (uint64_t)(ask - failover->asks));
}

static bool failover_next_of(struct torc_failover *failover, struct torc_failover_ask *ask,
                             uint64_t now_ns, struct torc_meta_request *request)
{
    switch (ask->stage) {
    case TORC_FAILOVER_FREE:
    case TORC_FAILOVER_DONE: return false;
    case TORC_FAILOVER_SHARD:
    case TORC_FAILOVER_NODE:
        torc_record_name(ask->name, ask->stage == TORC_FAILOVER_SHARD ? "shard" : "node",
                         ask->stage == TORC_FAILOVER_SHARD ? ask->shard
                                                           : ask->answer.record.primary_node);
        *request = (struct torc_meta_request){.verb = TORC_META_GET, .key = ask->name};
        break;
    case TORC_FAILOVER_SWAP:
        if (!torc_swap_next(&ask->swap, now_ns, request)) {
            return false;
        }
        break;
    }
    request->ticket = failover_ticket(failover, ask);
    request->deadline_ns = now_ns + TORC_FAILOVER_WAIT_NS;
    ask->asked = true;
    failover->inflight++;
    return true;
}

bool torc_failover_next(struct torc_failover *failover, uint64_t now_ns,
                        struct torc_meta_request *request)
{
    for (uint32_t i = 0; i < failover->ask_count; i++) {
        struct torc_failover_ask *ask = failover->asks + i;

        if (failover->inflight == TORC_FAILOVER_INFLIGHT) {
            return false;
        }
        if (!ask->asked && failover_next_of(failover, ask, now_ns, request)) {
            return true;
        }
    }
    return false;
}

uint64_t torc_failover_deadline_ns(const struct torc_failover *failover)
{
    uint64_t deadline_ns = UINT64_MAX;

    for (uint32_t i = 0; i < failover->ask_count && failover->inflight < TORC_FAILOVER_INFLIGHT;
         i++) {
        const struct torc_failover_ask *ask = failover->asks + i;

        if (ask->stage == TORC_FAILOVER_SWAP && !ask->asked) {
            deadline_ns = torc_min_u64(deadline_ns, torc_swap_deadline_ns(&ask->swap));
        } else if ((ask->stage == TORC_FAILOVER_SHARD || ask->stage == TORC_FAILOVER_NODE) &&
                   !ask->asked) {
            return 0;
        }
    }
    return deadline_ns;
}

// -- Answers of the metastore ---------------------------------------------------------------------

static void failover_end(struct torc_failover *failover, struct torc_failover_ask *ask,
                         enum torc_chan_outcome outcome)
{
    ask->answer.outcome = ask->is_proposal ? (uint32_t)outcome : 0;
    ask->answer.shard = ask->shard;
    ask->answer.asked_epoch = ask->epoch;
    ask->answer.nonce = ask->is_proposal ? ask->proposal.nonce : 0;
    ask->stage = TORC_FAILOVER_DONE;
    if (!ask->is_proposal) {
        failover->counters.reads++;
    } else if (outcome == TORC_CHAN_WON) {
        failover->counters.won++;
    } else if (outcome == TORC_CHAN_LOST) {
        failover->counters.lost++;
    } else {
        failover->counters.unknown++;
    }
}

// The metastore is away, or says what cannot be: the worker will ask again.
static void failover_give_up(struct torc_failover *failover, struct torc_failover_ask *ask)
{
    if (ask->is_proposal) {
        ask->answer = (struct torc_cmd_record){0};
        failover_end(failover, ask, TORC_CHAN_UNKNOWN);
    } else {
        ask->stage = TORC_FAILOVER_FREE;
    }
}

static void failover_record_of(const struct torc_shard_fields *fields,
                               struct torc_chan_record *record)
{
    *record = (struct torc_chan_record){.epoch = (uint32_t)fields->epoch,
                                        .primary_node = (uint32_t)fields->primary_node,
                                        .primary_boot = fields->primary_boot,
                                        .nonce = fields->nonce,
                                        .member_count = (uint32_t)fields->insync.count};
    for (uint32_t i = 0; i < fields->insync.count; i++) {
        record->members[i] = (struct torc_chan_record_member){
            .copy = fields->insync.at[i].copy, .node = (uint32_t)fields->insync.at[i].node};
    }
}

// F3.
static void failover_begin_swap(struct torc_failover *failover, struct torc_failover_ask *ask,
                                struct torc_shard_fields *fields, uint64_t version)
{
    const struct torc_chan_record *proposal = &ask->proposal;

    fields->losses.count = TORC_BUG(LOSS_UNSEEN) ? 0 : fields->losses.count;
    fields->previous = fields->insync;
    fields->epoch = proposal->epoch;
    fields->primary_node = proposal->primary_node;
    fields->primary_boot = proposal->primary_boot;
    fields->nonce = proposal->nonce;
    fields->insync.count = proposal->member_count;
    for (uint32_t i = 0; i < proposal->member_count; i++) {
        fields->insync.at[i] = (struct torc_record_member){.node = proposal->members[i].node,
                                                           .copy = proposal->members[i].copy};
    }
    torc_record_name(ask->name, "shard", ask->shard);
    ask->op = (struct torc_meta_op){.kind = TORC_META_PUT,
                                    .key = ask->name,
                                    .value = ask->text,
                                    .value_bytes =
                                        torc_record_encode(TORC_RECORD_SHARD, fields, ask->text),
                                    .expected = version};
    torc_swap_begin(&ask->swap, &ask->op, 1, failover_ticket(failover, ask));
    ask->stage = TORC_FAILOVER_SWAP;
}

static void failover_take_shard(struct torc_failover *failover, struct torc_failover_ask *ask,
                                const struct torc_meta_answer *answer)
{
    struct torc_shard_fields fields;
    struct torc_fail why;

    if (answer->err != TORC_ERR_OK || answer->records == NULL ||
        torc_record_decode(TORC_RECORD_SHARD, &fields, answer->records->value,
                           answer->records->value_bytes, &why) != TORC_ERR_OK ||
        fields.insync.count > TORC_CHAN_MEMBERS_MAX) {
        failover_give_up(failover, ask);
        return;
    }
    ask->answer = (struct torc_cmd_record){0};
    failover_record_of(&fields, &ask->answer.record);
    if (ask->is_proposal && fields.nonce != ask->proposal.nonce && fields.epoch == ask->epoch) {
        failover_begin_swap(failover, ask, &fields, answer->records->version);
        return;
    }
    ask->stage = TORC_FAILOVER_NODE;
}

static void failover_take_node(struct torc_failover *failover, struct torc_failover_ask *ask,
                               const struct torc_meta_answer *answer)
{
    struct torc_node_fields fields;
    struct torc_fail why;
    bool won = ask->is_proposal && ask->answer.record.nonce == ask->proposal.nonce;

    if (answer->err != TORC_ERR_OK || answer->records == NULL ||
        torc_record_decode(TORC_RECORD_NODE, &fields, answer->records->value,
                           answer->records->value_bytes, &why) != TORC_ERR_OK) {
        failover_give_up(failover, ask);
        return;
    }
    ask->answer.primary_down_boot = fields.down;
    ask->answer.primary_node_boot = fields.boot;
    failover_end(failover, ask, won ? TORC_CHAN_WON : TORC_CHAN_LOST);
}

static void failover_swapped(struct torc_failover *failover, struct torc_failover_ask *ask,
                             uint64_t now_ns)
{
    if (ask->swap.state == TORC_SWAP_WON) {
        ask->answer.record = ask->proposal;
        ask->stage = TORC_FAILOVER_NODE;
    } else if (ask->swap.state == TORC_SWAP_LOST) {
        ask->stage = TORC_FAILOVER_SHARD; // what is there now, and whether it was ours
    } else if (ask->swap.state == TORC_SWAP_FAILED || now_ns >= ask->until_ns) {
        failover_give_up(failover, ask);
    }
}

void torc_failover_take(struct torc_failover *failover, uint64_t now_ns,
                        const struct torc_meta_answer *answer)
{
    uint64_t place = (answer->ticket & UINT32_MAX) - TORC_FAILOVER_TICKET;
    struct torc_failover_ask *ask = failover->asks + place;

    torc_assert(torc_failover_is_mine(answer->ticket));
    if (!ask->asked || ask->serial != answer->ticket >> 32) {
        return; // nobody waits for it any more
    }
    failover_end_request(failover, ask);
    switch (ask->stage) {
    case TORC_FAILOVER_SHARD: failover_take_shard(failover, ask, answer); return;
    case TORC_FAILOVER_NODE: failover_take_node(failover, ask, answer); return;
    case TORC_FAILOVER_SWAP:
        torc_swap_take(&ask->swap, now_ns, answer);
        failover_swapped(failover, ask, now_ns);
        return;
    case TORC_FAILOVER_FREE:
    case TORC_FAILOVER_DONE: break;
    }
    torc_unreachable("a request of a stage that has none");
}

void torc_failover_refused(struct torc_failover *failover, uint64_t now_ns,
                           const struct torc_meta_request *request, enum torc_err err)
{
    const struct torc_meta_answer answer = {
        .ticket = request->ticket, .verb = request->verb, .err = err};

    torc_failover_take(failover, now_ns, &answer);
}

// -- Answers to workers ---------------------------------------------------------------------------

bool torc_failover_answer(const struct torc_failover *failover, uint32_t *place, uint32_t *worker,
                          struct torc_cmd *order)
{
    for (uint32_t i = *place; i < failover->ask_count; i++) {
        const struct torc_failover_ask *ask = failover->asks + i;

        if (ask->stage == TORC_FAILOVER_DONE) {
            *place = i;
            *worker = ask->worker;
            *order = (struct torc_cmd){.kind = ask->is_proposal ? TORC_CMD_RESULT : TORC_CMD_RECORD,
                                       .record = ask->answer};
            return true;
        }
    }
    return false;
}

void torc_failover_sent(struct torc_failover *failover, uint64_t now_ns, uint32_t place)
{
    struct torc_failover_ask *ask = failover->asks + place;

    torc_assert(ask->stage == TORC_FAILOVER_DONE);
    if (ask->again) {
        ask->epoch = ask->again_epoch;
        failover_begin(failover, ask, now_ns);
    } else {
        ask->stage = TORC_FAILOVER_FREE;
    }
}
