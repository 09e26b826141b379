// Torc dataplane: the watch's life, beats and silence. What it does and why: dataplane/watch.h.
#include "dataplane/watch_impl.h"
#include "kit/wall.h"

#include <string.h>

_Static_assert((TORC_WATCH_BEATS_KEPT & (TORC_WATCH_BEATS_KEPT - 1)) == 0, "used as a mask");

// Sums of a clock and a stretched duration below these bounds cannot overflow.
#define WATCH_NOW_NS_MAX      (UINT64_MAX / 2)
#define WATCH_DURATION_NS_MAX (UINT64_C(3600) * 1000 * 1000 * 1000)
#define WATCH_DRIFT_PPM_MAX   10000u
// One peer's share of a step on time: its state, its claims, a beat.
#define WATCH_ACTIONS_PER_PEER 3u
#define WATCH_ALARM_CALMS      60u // after a false suspicion k stays so many times calm_ns
#define WATCH_SECOND_NS        UINT64_C(1000000000)
#define WATCH_WALL_NS          UINT64_C(10000000000) // an opinion of the time of day counts as long
#define WATCH_MET_NS           UINT64_C(2000000000)  // so long a peer's first one is waited for

static struct torc_watch_action *watch_emit(struct torc_watch_actions *actions,
                                            enum torc_watch_action_kind kind, uint32_t node)
{
    struct torc_watch_action *action;

    torc_assert(actions->count < TORC_WATCH_ACTIONS_MAX); // W3
    action = &actions->items[actions->count++];
    memset(action, 0, sizeof(*action));
    action->kind = kind;
    action->node = node;
    return action;
}

// When silence is suspicious. Beats come as often as their sender's k says; that this node hears
// them late is forgiven step by step (S1).
static uint64_t watch_silent_ns(const struct torc_watch *watch, const struct torc_watch_peer *peer)
{
    return peer->heard_ns + watch->timing.suspect_ns * peer->stretch;
}

// The same of answers, which come no oftener than our own beats: as often as our k said at the last
// one, where it has fallen since.
static uint64_t watch_mute_ns(const struct torc_watch *watch, const struct torc_watch_peer *peer)
{
    uint64_t stretch = torc_max_u64(watch->stretch, peer->answered_stretch);

    return peer->answered_ns + watch->timing.suspect_ns * torc_max_u64(stretch, peer->stretch);
}

struct torc_watch_peer *torc_watch_find(const struct torc_watch *watch, uint32_t node)
{
    for (uint32_t i = 0; i < watch->peer_count; i++) {
        if (watch->peers[i].state.node == node) {
            return &watch->peers[i];
        }
    }
    return NULL;
}

// -- Life ---------------------------------------------------------------------------------------

static uint64_t watch_peers_bytes(const struct torc_watch_config *config)
{
    return (config->peers_max * sizeof(struct torc_watch_peer) + 63) / 64 * 64;
}

uint64_t torc_watch_bytes(const struct torc_watch_config *config)
{
    torc_assert(config->peers_max <= TORC_WATCH_PEERS_MAX);
    return watch_peers_bytes(config) + config->shards_max * sizeof(struct torc_watch_shard);
}

static enum torc_err watch_check_timing(const struct torc_watch_timing *timing,
                                        struct torc_fail *why)
{
    uint64_t lost_ns = timing->promise_ns / 1000000 * 2 * timing->drift_ppm + timing->margin_ns;

    if (timing->drift_ppm > WATCH_DRIFT_PPM_MAX || timing->promise_ns > WATCH_DURATION_NS_MAX ||
        timing->suspect_ns > WATCH_DURATION_NS_MAX) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "drift %" PRIu32 " ppm: at most %u; promise %" PRIu64
                         " ns, suspect %" PRIu64 " ns: at most an hour",
                         timing->drift_ppm, WATCH_DRIFT_PPM_MAX, timing->promise_ns,
                         timing->suspect_ns);
    }
    if (timing->beat_ns == 0 || timing->promise_ns <= lost_ns + timing->beat_ns) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "promise of %" PRIu64
                         " ns: leaves no lease after drift and margin (%" PRIu64
                         " ns) and a beat (%" PRIu64 " ns)",
                         timing->promise_ns, lost_ns, timing->beat_ns);
    }
    if (timing->suspect_ns < 4 * timing->beat_ns) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "suspicion after %" PRIu64 " ns: at least four beats of %" PRIu64 " ns",
                         timing->suspect_ns, timing->beat_ns);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_watch_init(struct torc_watch *watch, void *memory, uint64_t now_ns,
                              const struct torc_watch_config *config, struct torc_fail *why)
{
    enum torc_err err = watch_check_timing(&config->timing, why);

    torc_assert(now_ns <= WATCH_NOW_NS_MAX);
    if (err != TORC_ERR_OK) {
        return err;
    }
    *watch = (struct torc_watch){
        .timing = config->timing,
        .node = config->node,
        .boot = config->boot,
        .now_ns = now_ns,
        .started_ns = now_ns,
        .next_beat_ns = now_ns,
        .stretch = 1,
        .peers_max = config->peers_max,
        .shards_max = config->shards_max,
        .peers = memory,
        .shards = (void *)((char *)memory + watch_peers_bytes(config)),
    };
    watch->self.open_hlc = UINT64_MAX;
    return TORC_ERR_OK;
}

enum torc_err torc_watch_meet(struct torc_watch *watch, uint32_t node, struct torc_fail *why)
{
    struct torc_watch_peer *peer;

    torc_assert(node != watch->node);
    if (torc_watch_find(watch, node) != NULL) {
        return TORC_ERR_OK;
    }
    if (watch->peer_count == watch->peers_max) {
        return torc_fail(why, TORC_ERR_LIMIT,
                         "node %" PRIu32 " would be peer %" PRIu32 ": at most %" PRIu32, node,
                         watch->peer_count + 1, watch->peers_max);
    }
    peer = &watch->peers[watch->peer_count++];
    memset(peer, 0, sizeof(*peer));
    peer->state.node = node;
    peer->met_ns = watch->now_ns;
    peer->heard_ns = watch->now_ns;
    peer->answered_ns = watch->now_ns;
    peer->stretch = 1;
    peer->open_hlc = UINT64_MAX;
    peer->beat_due = true;
    peer->told = true;
    return TORC_ERR_OK;
}

// -- Messages -----------------------------------------------------------------------------------

static void watch_meet_boot(struct torc_watch_peer *peer, uint64_t boot)
{
    torc_assert(boot > peer->state.boot);
    peer->promise_until_other_ns =
        torc_max_u64(peer->promise_until_other_ns, peer->promise_until_ns);
    peer->promise_until_ns = 0;
    peer->ceiling_asked = 0;
    peer->held_version = 0;
    peer->beat_ns = 0;
    peer->state.boot = boot;
    peer->told = false;
    torc_watch_forget_claims(peer);
}

// The peer that an event is of, in its present boot; NULL: nobody that counts.
static struct torc_watch_peer *watch_sender(struct torc_watch *watch,
                                            const struct torc_watch_event *event)
{
    struct torc_watch_peer *peer = torc_watch_find(watch, event->node);

    if (peer == NULL) {
        watch->counters.stranger++;
        return NULL;
    }
    if (event->boot < peer->state.boot) {
        watch->counters.old_boot++;
        return NULL;
    }
    if (event->boot > peer->state.boot) {
        watch_meet_boot(peer, event->boot); // W4
    }
    return peer;
}

static void watch_hint(const struct torc_watch *watch, const struct torc_watch_peer *peer,
                       struct torc_beat_ack *ack)
{
    for (uint32_t i = 0; i < watch->shard_count && ack->hint_epoch == 0; i++) {
        const struct torc_watch_shard *shard = &watch->shards[i];

        for (uint32_t slot = 0; slot < peer->claimed_end; slot++) {
            if (peer->claimed[slot].epoch != 0 && peer->claimed[slot].shard == shard->shard &&
                peer->claimed[slot].epoch < shard->epoch) {
                ack->hint_shard = shard->shard;
                ack->hint_epoch = shard->epoch;
            }
        }
    }
}

// L1: now is later than the beat's arrival, so the promise outlasts what its sender may count.
static void watch_answer(struct torc_watch *watch, struct torc_watch_peer *peer,
                         const struct torc_beat *beat, struct torc_watch_actions *actions)
{
    struct torc_beat_ack *ack =
        &watch_emit(actions, TORC_WATCH_SEND_ACK, peer->state.node)->beat_ack;
    bool any = false;
    bool all = true;

    ack->echo_ns = beat->sent_ns;
    ack->claim_version = peer->held_version;
    ack->ceiling = watch->ceiling_kept;
    ack->stretch = (uint8_t)torc_max_u64(watch->stretch, beat->stretch);
    for (uint32_t i = 0; i < TORC_COUNT_OF(ack->promised); i++) {
        ack->promised[i] = TORC_BUG(PROMISE_WITHOUT_EXCEPTIONS) ? UINT64_MAX : peer->promisable[i];
        any = any || ack->promised[i] != 0;
    }
    for (uint32_t slot = 0; slot < peer->claimed_end; slot++) {
        all = all && (peer->claimed[slot].epoch == 0 ||
                      (peer->promisable[slot / 64] >> slot % 64 & 1) != 0);
    }
    if (!all) {
        watch_hint(watch, peer, ack);
    }
    if (any) {
        peer->promise_until_ns =
            torc_max_u64(peer->promise_until_ns,
                         watch->now_ns + watch->timing.promise_ns * ack->stretch); // W2
    }
}

static void watch_on_beat(struct torc_watch *watch, struct torc_watch_peer *peer,
                          const struct torc_beat *beat, struct torc_watch_actions *actions)
{
    torc_assert(beat->stretch >= 1);
    torc_assert(beat->stretch <= TORC_WATCH_STRETCH_MAX);
    if (beat->sent_ns < peer->beat_ns) {
        watch->counters.old_beat++; // the network kept it: what it says is over
        return;
    }
    peer->beat_ns = beat->sent_ns;
    peer->heard_ns = watch->now_ns;
    peer->stretch = beat->stretch;
    peer->open_hlc = beat->open_hlc;
    torc_watch_wall(watch, watch->now_ns, peer->state.node, peer->state.boot, beat->wall_us);
    peer->told = peer->told && !peer->state.silent && peer->state.health == beat->health;
    peer->state.silent = false;
    peer->state.health = beat->health;
    if (beat->ceiling > torc_max_u64(watch->ceiling_kept, peer->ceiling_asked)) {
        peer->ceiling_asked = beat->ceiling;
        watch_emit(actions, TORC_WATCH_KEEP, peer->state.node)->ceiling = beat->ceiling;
    }
    watch_answer(watch, peer, beat, actions);
}

static bool watch_was_sent(const struct torc_watch_peer *peer, uint64_t sent_ns)
{
    uint64_t kept = torc_min_u64(peer->sent_count, TORC_WATCH_BEATS_KEPT);

    for (uint64_t i = 0; i < kept; i++) {
        if (peer->sent_ns[i] == sent_ns) {
            return true;
        }
    }
    return false;
}

static void watch_on_ack(struct torc_watch *watch, struct torc_watch_peer *peer,
                         const struct torc_beat_ack *ack, struct torc_watch_actions *actions)
{
    if (!watch_was_sent(peer, ack->echo_ns)) {
        watch->counters.unknown_beat++; // L2
        return;
    }
    if (ack->echo_ns <= peer->counted_ns) {
        watch->counters.old_answer++; // L0
        return;
    }
    peer->counted_ns = ack->echo_ns;
    peer->unanswered = 0;
    peer->answered_ns = watch->now_ns;
    peer->answered_stretch = watch->stretch;
    peer->told = peer->told && !peer->state.mute;
    peer->state.mute = false;
    torc_watch_count_leases(watch, peer, ack);
    peer->claim_acked =
        torc_max_u64(peer->claim_acked, torc_min_u64(ack->claim_version, peer->claim_version));
    if (peer->claim_acked < peer->claim_version) {
        peer->claim_due = true;
    }
    for (uint32_t i = 0; i < watch->shard_count && ack->hint_epoch != 0; i++) {
        if (watch->shards[i].shard == ack->hint_shard && watch->shards[i].epoch < ack->hint_epoch) {
            watch_emit(actions, TORC_WATCH_READ, peer->state.node)->shard = ack->hint_shard;
        }
    }
}

static void watch_on_self(struct torc_watch *watch, const struct torc_watch_self *self,
                          struct torc_watch_actions *actions)
{
    watch->self = *self;
    if (self->ceiling_wanted > watch->ceiling) {
        watch->ceiling = self->ceiling_wanted;
        watch_emit(actions, TORC_WATCH_KEEP, watch->node)->ceiling = watch->ceiling; // H6
        for (uint32_t i = 0; i < watch->peer_count; i++) {
            watch->peers[i].beat_due = true;
        }
    }
}

static void watch_stretch(struct torc_watch *watch)
{
    watch->stretch = watch->stretch < TORC_WATCH_STRETCH_MAX ? watch->stretch * 2 : watch->stretch;
}

static void watch_on_event(struct torc_watch *watch, const struct torc_watch_event *event,
                           struct torc_watch_actions *actions)
{
    struct torc_watch_peer *peer = NULL;

    switch (event->kind) {
    case TORC_WATCH_BEAT:
    case TORC_WATCH_BEAT_ACK:
    case TORC_WATCH_CLAIM: peer = watch_sender(watch, event); break;
    case TORC_WATCH_SELF: watch_on_self(watch, event->self, actions); return;
    case TORC_WATCH_CEILING:
        watch->ceiling_kept = torc_max_u64(watch->ceiling_kept, event->ceiling);
        return;
    case TORC_WATCH_FALSE_ALARM:
        // One suspicion is told by each shard that this node led.
        if (watch->alarmed_ns == 0 || watch->now_ns - watch->alarmed_ns > WATCH_SECOND_NS) {
            watch->alarmed_ns = watch->now_ns;
            watch_stretch(watch);
        }
        watch->alarm_ns = watch->now_ns + WATCH_ALARM_CALMS * watch->timing.calm_ns;
        return;
    }
    if (peer == NULL) {
        return;
    }
    if (event->kind == TORC_WATCH_BEAT) {
        watch_on_beat(watch, peer, event->beat, actions);
    } else if (event->kind == TORC_WATCH_BEAT_ACK) {
        watch_on_ack(watch, peer, event->beat_ack, actions);
    } else if (!torc_watch_take_claims(watch, peer, event->claim)) {
        watch->counters.claim_gap++;
    }
    if (!peer->told) {
        peer->told = true;
        watch_emit(actions, TORC_WATCH_TELL_PEER, peer->state.node)->peer = peer->state;
    }
}

// -- Time ---------------------------------------------------------------------------------------

// So late a round of beats asks for a k of 2^level: three tenths of the patience, less the beat.
static uint64_t watch_asks_ns(const struct torc_watch *watch, uint32_t level)
{
    return (watch->timing.suspect_ns * 3 / 10 - watch->timing.beat_ns) << level;
}

// k follows the gaps between this node's own rounds of beats: peers see no less of them. It falls
// at once to what the rounds of the last calm_ns ask for.
static void watch_pace(struct torc_watch *watch)
{
    uint64_t gap_ns = watch->now_ns - watch->beaten_ns;
    uint64_t late_ns = gap_ns - torc_min_u64(gap_ns, watch->timing.beat_ns * watch->stretch);

    if (watch->beaten_ns == 0) {
        return;
    }
    for (uint32_t level = 1; level < TORC_WATCH_LEVELS; level++) {
        if (late_ns > watch_asks_ns(watch, level)) {
            watch->asked_ns[level] = watch->now_ns;
        }
    }
    if (gap_ns > watch->timing.suspect_ns * watch->stretch / 10 * 6) {
        if (watch->gap_ns != 0 && watch->now_ns - watch->gap_ns <= WATCH_SECOND_NS) {
            watch_stretch(watch);
            watch->gap_ns = 0;
        } else {
            watch->gap_ns = watch->now_ns;
        }
    }
    for (uint32_t level = TORC_WATCH_LEVELS - 1; level > 0; level--) {
        if (watch->stretch == 1u << level && watch->now_ns >= watch->alarm_ns &&
            watch->now_ns >= watch->asked_ns[level] + watch->timing.calm_ns) {
            watch->stretch /= 2;
        }
    }
}

// A beat was asked for, and its answer would be known for one.
static bool watch_is_asked(const struct torc_watch_peer *peer)
{
    return peer->ask_due && peer->unanswered < TORC_WATCH_ASKED_MAX;
}

static bool watch_is_due(const struct torc_watch *watch, const struct torc_watch_peer *peer)
{
    return watch->self.turning && (peer->beat_due || peer->claim_due ||
                                   (watch_is_asked(peer) && watch->now_ns >= watch->wanted_ns));
}

static void watch_beat(struct torc_watch *watch, struct torc_watch_peer *peer,
                       struct torc_watch_actions *actions)
{
    struct torc_beat *beat;

    if (peer->claim_due) {
        peer->claim_due = false;
        watch_emit(actions, TORC_WATCH_SEND_CLAIM, peer->state.node);
    }
    peer->beat_due = false;
    peer->ask_due = peer->ask_due && watch->now_ns < watch->wanted_ns;
    peer->unanswered++;
    watch->sent_ns = watch->now_ns;
    peer->sent_ns[peer->sent_count++ % TORC_WATCH_BEATS_KEPT] = watch->now_ns;
    beat = &watch_emit(actions, TORC_WATCH_SEND_BEAT, peer->state.node)->beat;
    beat->sent_ns = watch->now_ns;
    beat->wall_us = watch->self.wall_us;
    beat->claim_version = peer->claim_version;
    beat->ceiling = watch->ceiling;
    beat->open_hlc = watch->self.open_hlc;
    beat->stretch = (uint8_t)watch->stretch;
    beat->health = watch->self.health;
}

static void watch_on_silence(const struct torc_watch *watch, struct torc_watch_peer *peer,
                             struct torc_watch_actions *actions)
{
    bool silent = watch->now_ns >= watch_silent_ns(watch, peer);
    bool mute = watch->now_ns >= watch_mute_ns(watch, peer);

    if ((silent && !peer->state.silent) || (mute && !peer->state.mute)) {
        peer->state.silent = peer->state.silent || silent;
        peer->state.mute = peer->state.mute || mute;
        watch_emit(actions, TORC_WATCH_TELL_PEER, peer->state.node)->peer = peer->state;
    }
}

static void watch_on_time(struct torc_watch *watch, struct torc_watch_actions *actions)
{
    if (watch->now_ns >= watch->next_beat_ns) {
        for (uint32_t i = 0; i < watch->peer_count && watch->self.turning; i++) { // S2
            watch->peers[i].beat_due = true;
        }
        if (watch->self.turning) {
            watch_pace(watch);
            watch->beaten_ns = watch->now_ns;
        }
        // By the k that this beat tells.
        watch->next_beat_ns = watch->now_ns + watch->timing.beat_ns * watch->stretch;
    }
    for (uint32_t i = 0; i < watch->peer_count; i++) {
        struct torc_watch_peer *peer = &watch->peers[(watch->peer_next + i) % watch->peer_count];

        if (actions->count + WATCH_ACTIONS_PER_PEER > TORC_WATCH_ACTIONS_MAX) {
            watch->peer_next = (watch->peer_next + i) % watch->peer_count; // W3
            return;
        }
        watch_on_silence(watch, peer, actions);
        if (watch_is_due(watch, peer)) {
            watch_beat(watch, peer, actions);
        }
    }
}

// What is due by time. Not what a reader asks for: it may come at any moment, and says nothing of
// how late this node is.
static uint64_t watch_time_ns(const struct torc_watch *watch)
{
    uint64_t deadline_ns = watch->next_beat_ns;

    for (uint32_t i = 0; i < watch->peer_count; i++) {
        const struct torc_watch_peer *peer = &watch->peers[i];

        if ((peer->beat_due || peer->claim_due) && watch->self.turning) {
            return watch->now_ns;
        }
        if (!peer->state.silent) {
            deadline_ns = torc_min_u64(deadline_ns, watch_silent_ns(watch, peer));
        }
        if (!peer->state.mute) {
            deadline_ns = torc_min_u64(deadline_ns, watch_mute_ns(watch, peer));
        }
    }
    return torc_max_u64(deadline_ns, watch->now_ns);
}

void torc_watch_step(struct torc_watch *watch, uint64_t now_ns,
                     const struct torc_watch_event *event, struct torc_watch_actions *actions)
{
    uint64_t deadline_ns = watch_time_ns(watch);
    uint64_t late_ns = now_ns > deadline_ns ? now_ns - deadline_ns : 0;

    torc_assert(actions->count == 0);
    torc_assert(now_ns >= watch->now_ns);
    torc_assert(now_ns <= WATCH_NOW_NS_MAX);
    watch->now_ns = now_ns;
    watch->counters.stalls += late_ns > watch->timing.beat_ns;
    for (uint32_t i = 0; i < watch->peer_count; i++) { // S1
        struct torc_watch_peer *peer = &watch->peers[i];

        peer->heard_ns = torc_min_u64(peer->heard_ns + late_ns, now_ns);
        peer->answered_ns = torc_min_u64(peer->answered_ns + late_ns, now_ns);
    }
    if (event != NULL) {
        watch_on_event(watch, event, actions);
    } else {
        watch_on_time(watch, actions);
    }
}

uint64_t torc_watch_deadline_ns(const struct torc_watch *watch)
{
    uint64_t deadline_ns = watch_time_ns(watch);

    for (uint32_t i = 0; i < watch->peer_count && watch->self.turning; i++) {
        if (watch_is_asked(&watch->peers[i])) {
            deadline_ns = torc_min_u64(deadline_ns, watch->wanted_ns);
        }
    }
    return torc_max_u64(deadline_ns, watch->now_ns);
}

// -- The time of day ------------------------------------------------------------------------------

void torc_watch_wall(struct torc_watch *watch, uint64_t now_ns, uint32_t node, uint64_t boot,
                     uint64_t wall_us)
{
    struct torc_watch_peer *peer = torc_watch_find(watch, node);
    int64_t offset_us;

    if (peer == NULL || boot < peer->wall_boot || wall_us >= TORC_WALL_US_MAX) {
        return;
    }
    if (boot > peer->wall_boot) {
        peer->wall_boot = boot;
        peer->wall_ns = 0; // a new life reads the system's clock anew, however that was set
    }
    offset_us = torc_wall_offset_us(wall_us, now_ns);
    if (peer->wall_ns != 0 && now_ns < peer->wall_ns + WATCH_WALL_NS) {
        // A beat that was long on its way shows too little, never too much.
        int64_t least_us = peer->wall_off_us - (int64_t)((now_ns - peer->wall_ns) / 1000 / 8);

        offset_us = offset_us < least_us ? least_us : offset_us;
    }
    peer->wall_ns = torc_max_u64(now_ns, 1);
    peer->wall_off_us = offset_us;
}

// A peer of whom nothing was heard yet, though it may be there.
static bool watch_is_awaited(const struct torc_watch *watch, const struct torc_watch_peer *peer,
                             uint64_t heard_ns)
{
    return heard_ns == 0 && watch->now_ns < peer->met_ns + WATCH_MET_NS;
}

// Whether another of the offsets, which are sorted, agrees with the median of them. Where most are
// right one does.
static bool watch_is_backed(const int64_t *offsets_us, uint32_t count)
{
    uint32_t at = (count - 1) / 2;

    return (at > 0 && offsets_us[at] - offsets_us[at - 1] <= TORC_WALL_APART_US) ||
           (at + 1 < count && offsets_us[at + 1] - offsets_us[at] <= TORC_WALL_APART_US);
}

int64_t torc_watch_median_us(const struct torc_watch *watch, int64_t own_us)
{
    int64_t offsets_us[TORC_WATCH_PEERS_MAX + 1];
    uint32_t count = 0;
    uint32_t missing = 0;
    bool fresh = false; // more peers are likely to be met
    int64_t median_us;

    offsets_us[count++] = own_us;
    for (uint32_t i = 0; i < watch->peer_count; i++) {
        const struct torc_watch_peer *peer = &watch->peers[i];

        if (peer->wall_ns != 0 && watch->now_ns < peer->wall_ns + WATCH_WALL_NS) {
            offsets_us[count++] = peer->wall_off_us;
        }
        missing += watch_is_awaited(watch, peer, peer->wall_ns);
        fresh = fresh || watch->now_ns < peer->met_ns + WATCH_MET_NS;
    }
    median_us = torc_wall_median_us(offsets_us, count, missing);
    return fresh && count > 2 && !watch_is_backed(offsets_us, count) ? TORC_WALL_UNKNOWN
                                                                     : median_us;
}

// -- Asked --------------------------------------------------------------------------------------

void torc_watch_hurry(struct torc_watch *watch, uint32_t node)
{
    struct torc_watch_peer *peer = torc_watch_find(watch, node);

    if (peer != NULL) {
        peer->beat_due = true;
    }
}

uint64_t torc_watch_ask(struct torc_watch *watch)
{
    watch->wanted_ns = watch->sent_ns + 1;
    for (uint32_t i = 0; i < watch->peer_count; i++) {
        struct torc_watch_peer *peer = &watch->peers[i];

        peer->ask_due = peer->claim_end > 0;
    }
    return watch->wanted_ns;
}

struct torc_peer_state torc_watch_peer_state(const struct torc_watch *watch, uint32_t node)
{
    const struct torc_watch_peer *peer = torc_watch_find(watch, node);

    return peer == NULL ? (struct torc_peer_state){0} : peer->state;
}

void torc_watch_held(struct torc_watch *watch, uint64_t now_ns, uint32_t node, uint64_t held_us)
{
    struct torc_watch_peer *peer = torc_watch_find(watch, node);

    if (peer != NULL && held_us < TORC_WALL_US_MAX) {
        peer->held_ns = torc_max_u64(now_ns, 1);
        peer->held_off_us = torc_wall_offset_us(held_us, now_ns);
    }
}

int64_t torc_watch_held_us(const struct torc_watch *watch, uint64_t held_us)
{
    int64_t offsets_us[TORC_WATCH_PEERS_MAX + 1];
    uint32_t count = 0;
    uint32_t missing = 0;
    int64_t median_us = TORC_WALL_UNKNOWN;

    // Below zero: of two halves the one further on decides, for the other can follow, not it.
    if (held_us != 0) {
        offsets_us[count++] = -torc_wall_offset_us(held_us, watch->now_ns);
    }
    for (uint32_t i = 0; i < watch->peer_count; i++) {
        const struct torc_watch_peer *peer = &watch->peers[i];

        if (peer->held_ns != 0 && watch->now_ns < peer->held_ns + WATCH_WALL_NS) {
            offsets_us[count++] = -peer->held_off_us;
        }
        missing += watch_is_awaited(watch, peer, peer->held_ns);
    }
    if (held_us == 0 && count == 1 && missing == 0) {
        median_us = offsets_us[0]; // all that was ever stamped, as far as anybody knows
    } else if (count > 0) {
        median_us = torc_wall_median_us(offsets_us, count, missing);
    }
    return median_us == TORC_WALL_UNKNOWN ? TORC_WALL_UNKNOWN : -median_us;
}
