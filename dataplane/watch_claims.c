// Torc dataplane: who claims which shard of whom, and what was promised for it. See watch.h.
#include "dataplane/watch_impl.h"

#include <string.h>

// -- Replicas of this node ----------------------------------------------------------------------

static uint32_t claims_place(const struct torc_watch *watch, uint32_t shard)
{
    uint32_t first = 0;
    uint32_t end = watch->shard_count;

    while (first < end) {
        uint32_t middle = first + (end - first) / 2;

        if (watch->shards[middle].shard < shard) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first;
}

static struct torc_watch_shard *claims_shard(const struct torc_watch *watch, uint32_t shard)
{
    uint32_t place = claims_place(watch, shard);

    return place < watch->shard_count && watch->shards[place].shard == shard ? &watch->shards[place]
                                                                             : NULL;
}

static struct torc_watch_shard *claims_add_shard(struct torc_watch *watch, uint32_t shard)
{
    uint32_t place = claims_place(watch, shard);

    torc_assert(watch->shard_count < watch->shards_max);
    memmove(&watch->shards[place + 1], &watch->shards[place],
            (watch->shard_count - place) * sizeof(watch->shards[0]));
    watch->shard_count++;
    watch->shards[place] = (struct torc_watch_shard){.shard = shard};
    return &watch->shards[place];
}

// L1: whether this node may promise what is claimed in the slot.
static void claims_judge(const struct torc_watch *watch, struct torc_watch_peer *peer,
                         uint32_t slot)
{
    const struct torc_watch_claimed *claimed = &peer->claimed[slot];
    const struct torc_watch_shard *shard =
        claimed->epoch == 0 ? NULL : claims_shard(watch, claimed->shard);
    bool may = shard != NULL && shard->epoch == claimed->epoch && shard->synced &&
               shard->primary_node == peer->state.node;

    peer->promisable[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    peer->promisable[slot / 64] |= (uint64_t)may << slot % 64;
}

// -- Claims on a peer -----------------------------------------------------------------------------

static struct torc_watch_claim *claims_find(struct torc_watch_peer *peer, uint32_t shard)
{
    for (uint32_t slot = 0; slot < peer->claim_end; slot++) {
        if (peer->claims[slot].epoch != 0 && peer->claims[slot].shard == shard) {
            return &peer->claims[slot];
        }
    }
    return NULL;
}

static struct torc_watch_claim *claims_free_slot(struct torc_watch_peer *peer)
{
    for (uint32_t slot = 0; slot < TORC_CLAIMS_MAX; slot++) {
        if (peer->claims[slot].epoch == 0) {
            return &peer->claims[slot];
        }
    }
    return NULL;
}

static void claims_changed(struct torc_watch_peer *peer, struct torc_watch_claim *claim)
{
    peer->claim_end = (uint32_t)torc_max_u64(peer->claim_end, (uint64_t)(claim - peer->claims) + 1);
    claim->changed = ++peer->claim_version;
    peer->claim_due = true;
}

static void claims_withdraw(struct torc_watch_peer *peer, uint32_t shard)
{
    struct torc_watch_claim *claim = claims_find(peer, shard);

    if (claim != NULL) {
        claim->epoch = 0;
        claim->lease = (struct torc_watch_lease){0};
        claims_changed(peer, claim);
    }
}

// L6: a lease of an earlier epoch goes on if this node was its primary all the time.
static enum torc_err claims_make(struct torc_watch_peer *peer, uint32_t shard, uint32_t epoch,
                                 bool keeps, struct torc_fail *why)
{
    struct torc_watch_claim *claim = claims_find(peer, shard);

    if (claim != NULL && claim->epoch == epoch) {
        return TORC_ERR_OK;
    }
    if (claim == NULL) {
        claim = claims_free_slot(peer);
        keeps = false;
    }
    if (claim == NULL) {
        return torc_fail(why, TORC_ERR_LIMIT,
                         "shard %" PRIu32 ": node %" PRIu32 " holds %u claims of ours already",
                         shard, peer->state.node, TORC_CLAIMS_MAX);
    }
    claim->shard = shard;
    claim->epoch = epoch;
    if (!keeps) {
        claim->lease = (struct torc_watch_lease){0};
    }
    claims_changed(peer, claim);
    return TORC_ERR_OK;
}

enum torc_err torc_watch_claim(struct torc_watch *watch, uint32_t shard, uint32_t epoch,
                               uint32_t node, struct torc_fail *why)
{
    const struct torc_watch_shard *own = claims_shard(watch, shard);
    enum torc_err err = torc_watch_meet(watch, node, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (own == NULL || own->epoch != epoch || own->primary_node != watch->node) {
        return TORC_ERR_OK; // of an epoch that is over by now
    }
    return claims_make(torc_watch_find(watch, node), shard, epoch, true, why);
}

static bool claims_has(const struct torc_watch_adoption *adoption, uint32_t node)
{
    for (uint32_t i = 0; i < adoption->claim_count; i++) {
        if (adoption->claim_nodes[i] == node) {
            return true;
        }
    }
    return false;
}

// What finds no place is not made: the shell asks again (torc_watch_claim).
static void claims_adopt(struct torc_watch *watch, const struct torc_watch_adoption *adoption)
{
    bool primary = adoption->primary_node == watch->node;

    for (uint32_t i = 0; i < watch->peer_count; i++) {
        if (!primary || !claims_has(adoption, watch->peers[i].state.node)) {
            claims_withdraw(&watch->peers[i], adoption->shard);
        }
    }
    for (uint32_t i = 0; i < adoption->claim_count && primary; i++) {
        uint32_t node = adoption->claim_nodes[i];
        struct torc_fail why;

        if (torc_watch_meet(watch, node, &why) == TORC_ERR_OK) {
            (void)claims_make(torc_watch_find(watch, node), adoption->shard, adoption->epoch,
                              adoption->keeps, &why);
        }
    }
}

// L4: how long what was promised to `node` binds, but for what was promised to its dead boot. The
// core may have adopted epochs that were not said here: it may mean another node by the last one.
static uint64_t claims_promised(const struct torc_watch *watch, uint32_t node,
                                const struct torc_watch_life *down)
{
    const struct torc_watch_peer *peer = torc_watch_find(watch, node);
    bool dead;

    if (peer == NULL) {
        return 0;
    }
    dead = down->node == node && down->boot != 0 && peer->state.boot == down->boot;
    return torc_max_u64(peer->promise_until_other_ns, dead ? 0 : peer->promise_until_ns);
}

// And over all its epochs: an answer may be lost, and the next one then says what it said.
static void claims_bind(const struct torc_watch *watch, struct torc_watch_shard *shard,
                        const struct torc_watch_adoption *adoption)
{
    bool moves = shard->epoch < adoption->epoch && shard->primary_node != watch->node;
    uint64_t until_ns = moves ? claims_promised(watch, shard->primary_node, &adoption->down) : 0;
    bool forgets = until_ns < shard->promise_until_ns && watch->now_ns < shard->promise_until_ns &&
                   (TORC_BUG(PROMISE_WITHOUT_MAXIMUM) ||
                    (adoption->down.boot != 0 && TORC_BUG(DOWN_VOIDS_ALL)));

    shard->promise_until_ns = forgets ? until_ns : torc_max_u64(shard->promise_until_ns, until_ns);
}

enum torc_err torc_watch_adopt(struct torc_watch *watch, const struct torc_watch_adoption *adoption,
                               uint64_t *promise_until_ns, struct torc_fail *why)
{
    struct torc_watch_shard *shard = claims_shard(watch, adoption->shard);
    uint64_t forgotten_ns = watch->started_ns + TORC_WATCH_STRETCH_MAX * watch->timing.promise_ns;

    torc_assert(adoption->epoch > 0);
    if (shard == NULL && watch->shard_count == watch->shards_max) {
        return torc_fail(why, TORC_ERR_LIMIT,
                         "shard %" PRIu32 ": this node has %" PRIu32 " already", adoption->shard,
                         watch->shards_max);
    }
    shard = shard == NULL ? claims_add_shard(watch, adoption->shard) : shard;
    torc_assert(adoption->epoch >= shard->epoch);
    claims_bind(watch, shard, adoption);
    *promise_until_ns =
        watch->now_ns < forgotten_ns && TORC_BUG(RESTART_FORGETS_PROMISE) ? 0 : forgotten_ns; // L5
    *promise_until_ns = torc_max_u64(*promise_until_ns, shard->promise_until_ns);
    shard->epoch = adoption->epoch;
    shard->primary_node = adoption->primary_node;
    shard->synced = adoption->synced;
    for (uint32_t i = 0; i < watch->peer_count; i++) {
        for (uint32_t slot = 0; slot < watch->peers[i].claimed_end; slot++) {
            if (watch->peers[i].claimed[slot].shard == adoption->shard) {
                claims_judge(watch, &watch->peers[i], slot);
            }
        }
    }
    claims_adopt(watch, adoption);
    return TORC_ERR_OK;
}

void torc_watch_drop(struct torc_watch *watch, uint32_t shard)
{
    uint32_t place = claims_place(watch, shard);

    if (place == watch->shard_count || watch->shards[place].shard != shard) {
        return;
    }
    watch->shard_count--;
    memmove(&watch->shards[place], &watch->shards[place + 1],
            (watch->shard_count - place) * sizeof(watch->shards[0]));
    for (uint32_t i = 0; i < watch->peer_count; i++) {
        claims_withdraw(&watch->peers[i], shard);
        for (uint32_t slot = 0; slot < watch->peers[i].claimed_end; slot++) {
            if (watch->peers[i].claimed[slot].shard == shard) {
                claims_judge(watch, &watch->peers[i], slot);
            }
        }
    }
}

// -- Messages -----------------------------------------------------------------------------------

void torc_watch_forget_claims(struct torc_watch_peer *peer)
{
    memset(peer->claimed, 0, sizeof(peer->claimed));
    memset(peer->promisable, 0, sizeof(peer->promisable));
    peer->claimed_end = 0;
    for (uint32_t slot = 0; slot < peer->claim_end; slot++) {
        peer->claims[slot].lease = (struct torc_watch_lease){0};
    }
    peer->claim_acked = 0;
    peer->claim_due = peer->claim_version > 0;
}

void torc_watch_claim_message(const struct torc_watch *watch, uint32_t node,
                              struct torc_peer_claim *message)
{
    const struct torc_watch_peer *peer = torc_watch_find(watch, node);

    torc_assert(peer != NULL);
    message->from_version = peer->claim_acked;
    message->version = peer->claim_acked;
    message->count = 0;
    while (message->version < peer->claim_version && message->count < TORC_CLAIM_ITEMS_MAX) {
        const struct torc_watch_claim *next = NULL;

        for (uint32_t slot = 0; slot < peer->claim_end; slot++) {
            const struct torc_watch_claim *claim = &peer->claims[slot];

            if (claim->changed > message->version &&
                (next == NULL || claim->changed < next->changed)) {
                next = claim;
            }
        }
        torc_assert(next != NULL); // the slot of claim_version itself
        message->items[message->count++] = (struct torc_claim_item){
            .slot = (uint16_t)(next - peer->claims), .shard = next->shard, .epoch = next->epoch};
        message->version = next->changed;
    }
}

bool torc_watch_take_claims(struct torc_watch *watch, struct torc_watch_peer *peer,
                            const struct torc_peer_claim *message)
{
    if (message->version <= peer->held_version) {
        return true; // again
    }
    if (message->from_version > peer->held_version) {
        return false;
    }
    if (message->from_version == 0) {
        memset(peer->claimed, 0, sizeof(peer->claimed));
        memset(peer->promisable, 0, sizeof(peer->promisable));
        peer->claimed_end = 0;
    }
    for (uint32_t i = 0; i < message->count; i++) {
        const struct torc_claim_item *item = &message->items[i];

        torc_assert(item->slot < TORC_CLAIMS_MAX);
        peer->claimed[item->slot] =
            (struct torc_watch_claimed){.shard = item->shard, .epoch = item->epoch};
        peer->claimed_end = (uint32_t)torc_max_u64(peer->claimed_end, item->slot + 1u);
        claims_judge(watch, peer, item->slot);
    }
    peer->held_version = message->version;
    return true;
}

// -- Leases -------------------------------------------------------------------------------------

// What may be counted of a promise, in the counter's own nanoseconds, from when it SENT the beat.
// The promise began later. With both rates within 1 +- d of the truth
//     lease / (1 - d)  <=  promise / (1 + d)    holds for    lease = promise * (1 - 2d),
// since (1 - 2d)(1 + d) <= 1 - d. What is taken off is rounded up, and the margin with it.
static uint64_t claims_lease_ns(const struct torc_watch_timing *timing, uint32_t stretch)
{
    uint64_t promise_ns = timing->promise_ns * stretch;
    uint64_t off_ns = promise_ns / 1000000 * 2 * timing->drift_ppm +
                      promise_ns % 1000000 * 2 * timing->drift_ppm / 1000000 + 1 +
                      timing->margin_ns;

    return off_ns < promise_ns ? promise_ns - off_ns : 0;
}

void torc_watch_count_leases(struct torc_watch *watch, struct torc_watch_peer *peer,
                             const struct torc_beat_ack *ack)
{
    bool own_k = ack->stretch < watch->stretch && TORC_BUG(LEASE_OWN_K);
    uint32_t stretch = own_k ? watch->stretch : ack->stretch;
    uint64_t from_ns = TORC_BUG(LEASE_FROM_ARRIVAL) ? watch->now_ns : ack->echo_ns; // L2
    uint64_t until_ns = from_ns + claims_lease_ns(&watch->timing, stretch);

    torc_assert(ack->echo_ns <= watch->now_ns);
    for (uint32_t slot = 0; slot < peer->claim_end; slot++) {
        struct torc_watch_claim *claim = &peer->claims[slot];
        bool promised = (ack->promised[slot / 64] >> slot % 64 & 1) != 0;
        bool known = claim->changed <= ack->claim_version; // L0

        if (claim->epoch != 0 && (promised || TORC_BUG(EXCEPTIONS_UNPUBLISHED)) &&
            (known || TORC_BUG(LEASE_UNDER_OLD_CLAIM))) {
            claim->lease.until_ns = torc_max_u64(claim->lease.until_ns, until_ns);
            claim->lease.confirmed_ns = ack->echo_ns;
            // H5. What who has moved on keeps by now binds no successor that is at work already.
            claim->lease.ceiling = torc_max_u64(claim->lease.ceiling, ack->ceiling);
        }
    }
}

struct torc_watch_lease torc_watch_lease(const struct torc_watch *watch, uint32_t shard,
                                         uint32_t epoch, uint32_t node)
{
    struct torc_watch_peer *peer = torc_watch_find(watch, node);
    const struct torc_watch_claim *claim = peer == NULL ? NULL : claims_find(peer, shard);

    return claim != NULL && claim->epoch == epoch ? claim->lease : (struct torc_watch_lease){0};
}
