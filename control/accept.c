// Torc control: accepting a loss. See control/accept.h.
#include "control/accept.h"

#include "control/give.h"
#include "kit/bugs.h"

void torc_accept_begin(struct torc_acceptance *accept, uint64_t now_ns,
                       const struct torc_accept_order *order, uint32_t ticket)
{
    uint32_t serial = accept->serial + 1;

    torc_assert(order->shard > 0);
    torc_assert(order->off_count <= TORC_RECORD_MEMBERS_MAX);
    *accept = (struct torc_acceptance){.order = *order,
                                       .open = true,
                                       .at = UINT32_MAX,
                                       .serial = serial,
                                       .ticket = (uint64_t)serial << 32 | ticket,
                                       .until_ns = now_ns + TORC_ACCEPT_WAIT_NS};
}

static void accept_end(struct torc_acceptance *accept)
{
    accept->open = false;
}

bool torc_accept_next(struct torc_acceptance *accept, uint64_t now_ns,
                      struct torc_meta_request *request)
{
    if (accept->open && now_ns >= accept->until_ns) {
        (void)torc_fail(&accept->why, accept->swapping ? TORC_ERR_IN_DOUBT : TORC_ERR_UNAVAILABLE,
                        "the metastore did not answer in time%s",
                        accept->swapping ? ": look again whether it has happened" : "");
        accept_end(accept);
    }
    if (!accept->open || accept->asked) {
        return false;
    }
    if (accept->swapping) {
        return torc_swap_next(&accept->swap, now_ns, request);
    }
    torc_record_name(accept->name, accept->at == UINT32_MAX ? "shard" : "node",
                     accept->at == UINT32_MAX ? accept->order.shard
                                              : accept->fields.insync.at[accept->at].node);
    accept->asked = true;
    *request = (struct torc_meta_request){
        .verb = TORC_META_GET, .ticket = accept->ticket, .key = accept->name};
    return true;
}

// -- Judging --------------------------------------------------------------------------------------

static bool accept_has(const struct torc_record_members *members, uint32_t node, uint64_t copy)
{
    for (uint64_t i = 0; i < members->count; i++) {
        if (members->at[i].node == node && members->at[i].copy == copy) {
            return true;
        }
    }
    return false;
}

static bool accept_is_named(const struct torc_acceptance *accept, uint64_t node)
{
    for (uint32_t i = 0; i < accept->order.off_count; i++) {
        if (accept->order.off[i] == node) {
            return true;
        }
    }
    return false;
}

// Removed when the set fell below what writes need: nothing was acknowledged since (C2). A copy
// that has nothing may have been emptied for a base that never came.
static bool accept_is_complete(const struct torc_acceptance *accept)
{
    return accept->fields.insync.count < accept->order.min_in_sync &&
           accept->order.said.last_lsn > 0 &&
           accept_has(&accept->fields.previous, accept->order.node, accept->order.copy);
}

// A1, of this node's replica.
static enum torc_err accept_judge_own(struct torc_acceptance *accept)
{
    const struct torc_accept_order *order = &accept->order;
    const struct torc_evt_role *said = &order->said;

    if (accept_has(&accept->fields.insync, order->node, order->copy)) {
        return torc_fail(&accept->why, TORC_ERR_UNAVAILABLE,
                         "the copy of node %" PRIu32 " is in sync: nothing is lost, it takes over "
                         "by itself",
                         order->node);
    }
    if (said->epoch != accept->fields.epoch || said->role != TORC_CHAN_LEARNER) {
        return torc_fail(&accept->why, TORC_ERR_UNAVAILABLE,
                         "the replica here has not seen epoch %" PRIu64 " of the shard yet: try "
                         "again",
                         accept->fields.epoch);
    }
    if (said->whole == 0 && !TORC_BUG(ACCEPT_HALF)) {
        return torc_fail(&accept->why, TORC_ERR_UNAVAILABLE,
                         "the copy of node %" PRIu32 " is not whole: it was being filled; ask "
                         "another node",
                         order->node);
    }
    return TORC_ERR_OK;
}

// A1, of the members.
static enum torc_err accept_judge_members(struct torc_acceptance *accept)
{
    for (uint64_t i = 0; i < accept->fields.insync.count; i++) {
        uint64_t node = accept->fields.insync.at[i].node;

        if (accept->members[i] == TORC_ACCEPT_HEARD && !TORC_BUG(ACCEPT_HEARD)) {
            return torc_fail(&accept->why, TORC_ERR_UNAVAILABLE,
                             "node %" PRIu64 " is heard, and its copy is in sync: nothing is lost "
                             "yet; stop it first if it cannot go on",
                             node);
        }
    }
    return TORC_ERR_OK;
}

// What the operator named is what is at stake, no less and nothing else.
static enum torc_err accept_judge_order(struct torc_acceptance *accept)
{
    const struct torc_accept_order *order = &accept->order;

    if (order->epoch != accept->fields.epoch) {
        return torc_fail(&accept->why, TORC_ERR_INVALID_ARGUMENT,
                         "the shard is in epoch %" PRIu64 " now, not %" PRIu32 ": look again, "
                         "without --epoch",
                         accept->fields.epoch, order->epoch);
    }
    for (uint64_t i = 0; i < accept->fields.insync.count; i++) {
        uint64_t node = accept->fields.insync.at[i].node;

        if (accept->members[i] == TORC_ACCEPT_SILENT && !accept_is_named(accept, node)) {
            return torc_fail(&accept->why, TORC_ERR_INVALID_ARGUMENT,
                             "node %" PRIu64 " may have its copy: say that it is off, and stays "
                             "so, with --off",
                             node);
        }
    }
    for (uint32_t i = 0; i < order->off_count; i++) {
        bool member = false;

        for (uint64_t k = 0; k < accept->fields.insync.count; k++) {
            member = member || accept->fields.insync.at[k].node == order->off[i];
        }
        if (!member) {
            return torc_fail(&accept->why, TORC_ERR_INVALID_ARGUMENT,
                             "--off %" PRIu32 ": no copy in sync is at that node", order->off[i]);
        }
    }
    return TORC_ERR_OK;
}

// -- Swapping -------------------------------------------------------------------------------------

// A3. The replica of this node finds itself the only member, and the primary of a boot that is
// over: it takes over from itself.
static void accept_lose(struct torc_acceptance *accept, struct torc_shard_fields *fields)
{
    struct torc_record_losses *losses = &fields->losses;

    if (losses->count == TORC_RECORD_LOSSES_MAX) { // the oldest goes: the newest must be seen
        for (uint64_t i = 1; i < losses->count; i++) {
            losses->at[i - 1] = losses->at[i];
        }
        losses->count--;
    }
    losses->at[losses->count++] = (struct torc_record_loss){.epoch = fields->epoch,
                                                            .node = accept->order.node,
                                                            .copy = accept->order.copy,
                                                            .lsn = accept->order.said.last_lsn,
                                                            .at_s = accept->order.at_s};
    fields->previous = fields->insync;
    fields->epoch++;
    fields->primary_node = accept->order.node;
    fields->primary_boot = 0;
    fields->insync.count = 1;
    fields->insync.at[0] =
        (struct torc_record_member){.node = accept->order.node, .copy = accept->order.copy};
}

static void accept_swap(struct torc_acceptance *accept, uint64_t nonce)
{
    struct torc_shard_fields fields = accept->fields;

    if (accept->order.verb == TORC_ACCEPT_ACCEPT) {
        accept_lose(accept, &fields);
    } else {
        fields.losses.count = 0;
    }
    fields.nonce = nonce;
    torc_record_name(accept->name, "shard", accept->order.shard);
    accept->op = (struct torc_meta_op){
        .kind = TORC_META_PUT,
        .key = accept->name,
        .value = accept->text,
        .value_bytes = torc_record_encode(TORC_RECORD_SHARD, &fields, accept->text),
        .expected = accept->version}; // A2
    torc_swap_begin(&accept->swap, &accept->op, 1, accept->ticket);
    accept->swapping = true;
}

static void accept_swapped(struct torc_acceptance *accept)
{
    accept->swapping = false;
    accept->lost = accept->swap.state != TORC_SWAP_WON;
    accept->at = UINT32_MAX;
    if (!accept->lost) {
        accept_end(accept);
    }
}

// The replica may have taken over before the answer came: the loss stays in the record (F3).
static bool accept_happened(const struct torc_acceptance *accept,
                            const struct torc_shard_fields *now)
{
    for (uint64_t i = 0; i < now->losses.count; i++) {
        const struct torc_record_loss *loss = &now->losses.at[i];

        if (loss->epoch == accept->fields.epoch && loss->node == accept->order.node &&
            loss->copy == accept->order.copy) {
            return accept->order.verb == TORC_ACCEPT_ACCEPT;
        }
    }
    return false;
}

static void accept_look_back(struct torc_acceptance *accept, const struct torc_meta_answer *answer)
{
    struct torc_shard_fields now;

    if (answer->err != TORC_ERR_OK) {
        (void)torc_fail(&accept->why, TORC_ERR_IN_DOUBT,
                        "the metastore does not say whether it has happened: look again");
    } else if (torc_record_decode(TORC_RECORD_SHARD, &now, answer->records->value,
                                  answer->records->value_bytes, &accept->why) == TORC_ERR_OK &&
               !accept_happened(accept, &now)) {
        (void)torc_fail(&accept->why, TORC_ERR_UNAVAILABLE,
                        "the shard's record has changed meanwhile: look again");
    }
    accept_end(accept);
}

// -- Answers --------------------------------------------------------------------------------------

static void accept_judge(struct torc_acceptance *accept, uint64_t nonce)
{
    bool acknowledges = accept->order.verb == TORC_ACCEPT_ACKNOWLEDGE;
    enum torc_err err = TORC_ERR_OK;

    accept->judged = true;
    accept->complete = accept_is_complete(accept);
    if (!acknowledges) {
        err = accept_judge_own(accept);
        err = err == TORC_ERR_OK ? accept_judge_members(accept) : err;
    } else if (accept->fields.losses.count == 0) {
        err = torc_fail(&accept->why, TORC_ERR_NOT_FOUND, "no loss of shard %" PRIu32 " is noted",
                        accept->order.shard);
    }
    if (err == TORC_ERR_OK && accept->order.verb == TORC_ACCEPT_ACCEPT) {
        err = accept_judge_order(accept);
    }
    if (err != TORC_ERR_OK || accept->order.verb == TORC_ACCEPT_LOOK) {
        accept_end(accept);
    } else {
        accept_swap(accept, nonce);
    }
}

static enum torc_err accept_take_shard(struct torc_acceptance *accept,
                                       const struct torc_meta_answer *answer)
{
    if (answer->err == TORC_ERR_NOT_FOUND) {
        return torc_fail(&accept->why, TORC_ERR_NOT_FOUND, "there is no shard %" PRIu32,
                         accept->order.shard);
    }
    if (answer->err != TORC_ERR_OK) {
        return torc_fail(&accept->why, answer->err, "the metastore: %.100s", answer->why.text);
    }
    accept->version = answer->records->version;
    accept->at = 0;
    return torc_record_decode(TORC_RECORD_SHARD, &accept->fields, answer->records->value,
                              answer->records->value_bytes, &accept->why);
}

static enum torc_err accept_take_node(struct torc_acceptance *accept,
                                      const struct torc_meta_answer *answer)
{
    struct torc_node_fields node;
    uint32_t at = accept->at++;
    bool heard = (accept->order.said.heard >> at & 1) != 0;
    enum torc_err err;

    if (answer->err == TORC_ERR_NOT_FOUND) { // removed: what it had is no part of the cluster
        accept->members[at] = TORC_ACCEPT_FORGOT;
        return TORC_ERR_OK;
    }
    if (answer->err != TORC_ERR_OK) {
        return torc_fail(&accept->why, answer->err, "the metastore: %.100s", answer->why.text);
    }
    err = torc_record_decode(TORC_RECORD_NODE, &node, answer->records->value,
                             answer->records->value_bytes, &accept->why);
    accept->members[at] =
        err == TORC_ERR_OK && !torc_give_remembers(node.copy, accept->fields.insync.at[at].copy)
            ? TORC_ACCEPT_FORGOT
        : heard ? TORC_ACCEPT_HEARD
                : TORC_ACCEPT_SILENT;
    return err;
}

void torc_accept_take(struct torc_acceptance *accept, uint64_t now_ns,
                      const struct torc_meta_answer *answer, uint64_t nonce)
{
    enum torc_err err;

    if (!accept->open || answer->ticket != accept->ticket) {
        return; // of an order before this one, or too late
    }
    if (accept->swapping) {
        torc_swap_take(&accept->swap, now_ns, answer);
        if (torc_swap_is_over(&accept->swap)) {
            accept_swapped(accept);
        }
        return;
    }
    torc_assert(accept->asked);
    accept->asked = false;
    if (accept->lost) {
        accept_look_back(accept, answer);
        return;
    }
    err = accept->at == UINT32_MAX ? accept_take_shard(accept, answer)
                                   : accept_take_node(accept, answer);
    if (err != TORC_ERR_OK) {
        accept_end(accept);
    } else if (accept->at == accept->fields.insync.count) {
        accept_judge(accept, nonce);
    }
}

uint64_t torc_accept_deadline_ns(const struct torc_acceptance *accept)
{
    if (!accept->open) {
        return UINT64_MAX;
    }
    if (accept->swapping) {
        return torc_min_u64(accept->until_ns, torc_swap_deadline_ns(&accept->swap));
    }
    return accept->asked ? accept->until_ns : 0;
}
