// Torc tests: how patient a watch is, and how its k rises and falls. Its safety is model_watch's.
#include "dataplane/watch_impl.h"
#include "kit/wall.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)

static const struct torc_watch_config config = {
    .timing = {.beat_ns = 5 * MS,
               .promise_ns = 20 * MS,
               .suspect_ns = 25 * MS,
               .margin_ns = MS / 2,
               .calm_ns = 1000 * MS,
               .drift_ppm = 1000},
    .boot = 1,
    .node = 1,
    .peers_max = 4,
    .shards_max = 4,
};

struct rig {
    uint64_t told_ns; // the last beat
    uint32_t told_k;  // what it said; 0: there was none
    struct torc_watch watch;
    struct torc_watch_actions actions;
    uint64_t now_ns;
    void *memory;
};

static void rig_step(struct rig *rig, const struct torc_watch_event *event)
{
    rig->actions.count = 0;
    torc_watch_step(&rig->watch, rig->now_ns, event, &rig->actions);
}

static void rig_open(struct rig *rig)
{
    struct torc_watch_self self = {.open_hlc = UINT64_MAX, .turning = true};
    struct torc_watch_event event = {.kind = TORC_WATCH_SELF, .self = &self};
    uint64_t bytes = (torc_watch_bytes(&config) + 63) / 64 * 64;

    memset(rig, 0, sizeof(*rig));
    rig->now_ns = 5000 * MS;
    rig->memory = aligned_alloc(64, bytes);
    torc_assert(rig->memory != NULL);
    memset(rig->memory, 0, bytes);
    CU_ASSERT_EQUAL_FATAL(torc_watch_init(&rig->watch, rig->memory, rig->now_ns, &config, NULL),
                          TORC_ERR_OK);
    CU_ASSERT_EQUAL_FATAL(torc_watch_meet(&rig->watch, 2, NULL), TORC_ERR_OK);
    rig_step(rig, &event);
}

static void rig_close(struct rig *rig)
{
    free(rig->memory);
}

static void rig_beat(struct rig *rig, uint8_t stretch)
{
    struct torc_beat beat = {
        .sent_ns = rig->now_ns, .open_hlc = UINT64_MAX, .stretch = stretch, .health = 0};
    struct torc_watch_event event = {.kind = TORC_WATCH_BEAT, .node = 2, .boot = 7, .beat = &beat};

    rig_step(rig, &event);
}

// A beat that was sent so long ago.
static void rig_late_beat(struct rig *rig, uint64_t late_ns, uint64_t boot, uint8_t health)
{
    struct torc_beat beat = {
        .sent_ns = rig->now_ns - late_ns, .open_hlc = UINT64_MAX, .stretch = 1, .health = health};
    struct torc_watch_event event = {
        .kind = TORC_WATCH_BEAT, .node = 2, .boot = boot, .beat = &beat};

    rig_step(rig, &event);
}

// Steps as a core does that is never late; the peer beats as its k says.
static void rig_live(struct rig *rig, uint64_t for_ns, uint8_t stretch)
{
    uint64_t end_ns = rig->now_ns + for_ns;
    uint64_t beat_ns = rig->now_ns;

    while (rig->now_ns < end_ns) {
        uint64_t at_ns = torc_min_u64(torc_watch_deadline_ns(&rig->watch), end_ns);

        if (beat_ns <= at_ns) {
            rig->now_ns = torc_max_u64(rig->now_ns, beat_ns);
            rig_beat(rig, stretch);
            beat_ns += 5 * MS * stretch;
        } else {
            rig->now_ns = torc_max_u64(rig->now_ns, at_ns);
            rig_step(rig, NULL);
        }
    }
}

// The core is away so long behind its next round of beats.
static void rig_stall(struct rig *rig, uint64_t late_ns)
{
    rig->now_ns = rig->watch.next_beat_ns + late_ns;
    rig_step(rig, NULL);
}

static bool rig_is_silent(const struct rig *rig)
{
    return torc_watch_peer_state(&rig->watch, 2).silent;
}

static void rig_stretch(struct rig *rig, uint32_t stretch)
{
    while (rig->watch.stretch < stretch) {
        rig_stall(rig, 11 * MS * rig->watch.stretch);
    }
    CU_ASSERT_EQUAL(rig->watch.stretch, stretch);
}

static void test_k_falls_at_once(void)
{
    struct rig rig;

    rig_open(&rig);
    rig_live(&rig, 100 * MS, 1);
    rig_stretch(&rig, 8);
    rig_live(&rig, 900 * MS, 1);
    CU_ASSERT_EQUAL(rig.watch.stretch, 8);
    rig_live(&rig, 200 * MS, 1);
    CU_ASSERT_EQUAL(rig.watch.stretch, 1); // not by way of 4 and 2, a calm time each
    rig_close(&rig);
}

// A step at the deadline, or for `event`; a beat that goes out is answered at once. No gap between
// beats is longer than the k that the last one told allows.
static void rig_answered_step(struct rig *rig, const struct torc_watch_event *event)
{
    struct torc_beat_ack ack = {.claim_version = 0, .stretch = 1};
    struct torc_watch_event answer = {
        .kind = TORC_WATCH_BEAT_ACK, .node = 2, .boot = 7, .beat_ack = &ack};

    rig_step(rig, event);
    CU_ASSERT(rig->told_k == 0 || !torc_watch_peer_state(&rig->watch, 2).mute);
    for (uint32_t i = 0; i < rig->actions.count; i++) {
        const struct torc_watch_action *action = &rig->actions.items[i];

        if (action->kind == TORC_WATCH_SEND_BEAT) {
            ack.echo_ns = action->beat.sent_ns;
            CU_ASSERT(rig->told_k == 0 || rig->now_ns - rig->told_ns <= 5 * MS * rig->told_k);
            rig->told_k = action->beat.stretch;
            rig->told_ns = rig->now_ns;
        }
    }
    if (ack.echo_ns != 0) {
        rig_step(rig, &answer);
    }
}

static void test_k_falls_without_a_gap(void)
{
    struct rig rig;
    uint64_t end_ns;

    rig_open(&rig);
    rig_live(&rig, 100 * MS, 1);
    rig_stretch(&rig, 8);
    end_ns = rig.now_ns + 1500 * MS;
    while (rig.now_ns < end_ns) {
        struct torc_beat beat = {
            .sent_ns = rig.now_ns, .open_hlc = UINT64_MAX, .stretch = 1, .health = 0};
        struct torc_watch_event event = {
            .kind = TORC_WATCH_BEAT, .node = 2, .boot = 7, .beat = &beat};

        rig_answered_step(&rig, &event);
        rig_answered_step(&rig, NULL);
        rig.now_ns = torc_min_u64(torc_watch_deadline_ns(&rig.watch), rig.now_ns + 5 * MS);
    }
    CU_ASSERT_EQUAL(rig.watch.stretch, 1);
    rig_close(&rig);
}

static void test_k_falls_no_further_than_its_beats_allow(void)
{
    struct rig rig;

    rig_open(&rig);
    rig_live(&rig, 100 * MS, 1);
    rig_stretch(&rig, 8);
    for (uint32_t i = 0; i < 40; i++) { // 7 ms late: more than 2.5 times 2, less than that of 4
        rig_live(&rig, 100 * MS, 1);
        rig_stall(&rig, 7 * MS);
    }
    CU_ASSERT_EQUAL(rig.watch.stretch, 2);
    rig_close(&rig);
}

static void test_k_stays_after_a_false_suspicion(void)
{
    struct torc_watch_event alarm = {.kind = TORC_WATCH_FALSE_ALARM};
    struct rig rig;

    rig_open(&rig);
    rig_live(&rig, 100 * MS, 1);
    rig_step(&rig, &alarm);
    CU_ASSERT_EQUAL(rig.watch.stretch, 2);
    rig_live(&rig, 59000 * MS, 1);
    CU_ASSERT_EQUAL(rig.watch.stretch, 2);
    rig_live(&rig, 2000 * MS, 1);
    CU_ASSERT_EQUAL(rig.watch.stretch, 1);
    rig_close(&rig);
}

// Of a suspected node that led several shards each is told by its own replica, some ms apart.
static void test_one_false_suspicion_doubles_k_once(void)
{
    struct torc_watch_event alarm = {.kind = TORC_WATCH_FALSE_ALARM};
    struct rig rig;

    rig_open(&rig);
    rig_live(&rig, 100 * MS, 1);
    for (uint32_t shard = 0; shard < 5; shard++) {
        rig_step(&rig, &alarm);
        rig_live(&rig, 150 * MS, 1);
    }
    CU_ASSERT_EQUAL(rig.watch.stretch, 2);
    rig_live(&rig, 300 * MS, 1);
    rig_step(&rig, &alarm); // the next one, in the second after
    CU_ASSERT_EQUAL(rig.watch.stretch, 4);
    rig_step(&rig, &alarm);
    CU_ASSERT_EQUAL(rig.watch.stretch, 4);
    rig_live(&rig, 59000 * MS, 1); // a minute from the last one told
    CU_ASSERT_EQUAL(rig.watch.stretch, 4);
    rig_close(&rig);
}

// Its own k says how late this node's beats are, not those of the peer.
static void test_silence_is_judged_by_the_k_of_who_is_silent(void)
{
    struct rig rig;
    uint64_t heard_ns;

    rig_open(&rig);
    rig_live(&rig, 100 * MS, 1);
    rig_stretch(&rig, 4);
    rig_live(&rig, 200 * MS, 1);
    heard_ns = rig.now_ns;
    rig_beat(&rig, 1);
    while (!rig_is_silent(&rig) && rig.now_ns < heard_ns + 1000 * MS) {
        rig.now_ns = torc_watch_deadline_ns(&rig.watch);
        rig_step(&rig, NULL);
    }
    CU_ASSERT_EQUAL(rig.now_ns - heard_ns, 25 * MS);
    CU_ASSERT_FALSE(torc_watch_peer_state(&rig.watch, 2).mute && rig.now_ns < heard_ns + 25 * MS);

    rig_beat(&rig, 8);
    heard_ns = rig.now_ns;
    CU_ASSERT_FALSE(rig_is_silent(&rig));
    while (!rig_is_silent(&rig) && rig.now_ns < heard_ns + 1000 * MS) {
        rig.now_ns = torc_max_u64(torc_watch_deadline_ns(&rig.watch), rig.now_ns);
        rig_step(&rig, NULL);
    }
    CU_ASSERT_EQUAL(rig.now_ns - heard_ns, 200 * MS);
    rig_close(&rig);
}

// The observer was away: what it did not hear meanwhile is forgiven (S1).
static void test_an_observer_that_was_away_suspects_nobody(void)
{
    struct rig rig;

    rig_open(&rig);
    rig_live(&rig, 100 * MS, 1);
    rig_stall(&rig, 300 * MS);
    CU_ASSERT_FALSE(rig_is_silent(&rig));
    rig_close(&rig);
}

// Two of five clocks are wrong, and a node that starts hears these two first. Neither their time of
// day nor what they hold becomes its own.
static void test_the_first_to_be_heard_are_not_most(void)
{
    static const int64_t offsets_us[] = {0, 0, 1725000000, 2614000000, 100, -100};
    uint64_t zero_us = UINT64_C(1700000000000000);
    struct rig rig;

    rig_open(&rig);
    for (uint32_t node = 3; node <= 5; node++) {
        CU_ASSERT_EQUAL_FATAL(torc_watch_meet(&rig.watch, node, NULL), TORC_ERR_OK);
    }
    for (uint32_t node = 2; node <= 5; node++) {
        uint64_t wall_us = zero_us + (uint64_t)offsets_us[node] + rig.now_ns / 1000;

        torc_watch_wall(&rig.watch, rig.now_ns, node, 1, wall_us);
        torc_watch_held(&rig.watch, rig.now_ns, node, wall_us);
        CU_ASSERT_EQUAL(torc_watch_median_us(&rig.watch, (int64_t)zero_us),
                        node < 5 ? TORC_WALL_UNKNOWN : (int64_t)zero_us + 100);
        CU_ASSERT_EQUAL(torc_watch_held_us(&rig.watch, zero_us + rig.now_ns / 1000),
                        node < 5 ? TORC_WALL_UNKNOWN : (int64_t)zero_us + 100);
    }
    rig_close(&rig);
}

// It shares shards with two of four at first, and one of these is as wrong as itself. The others
// are met when their shards come; if none does, those who are there use what is in their middle.
static void test_three_who_all_differ_wait_for_others(void)
{
    static const uint64_t offsets_us[] = {128000000, 0, 0, 1364000000, 100, 200};
    static const uint64_t zero_us = UINT64_C(1700000000000000);
    int64_t own_us = (int64_t)(zero_us + offsets_us[0]);
    struct rig rig;

    rig_open(&rig);
    CU_ASSERT_EQUAL_FATAL(torc_watch_meet(&rig.watch, 3, NULL), TORC_ERR_OK);
    for (uint32_t node = 2; node <= 4; node++) {
        if (node == 4) {
            CU_ASSERT_EQUAL(torc_watch_median_us(&rig.watch, own_us), TORC_WALL_UNKNOWN);
            CU_ASSERT_EQUAL_FATAL(torc_watch_meet(&rig.watch, 4, NULL), TORC_ERR_OK);
        }
        torc_watch_wall(&rig.watch, rig.now_ns, node, 1,
                        zero_us + offsets_us[node] + rig.now_ns / 1000);
    }
    CU_ASSERT_EQUAL(torc_watch_median_us(&rig.watch, own_us), (int64_t)zero_us + 100);
    rig_close(&rig);
    rig_open(&rig);
    CU_ASSERT_EQUAL_FATAL(torc_watch_meet(&rig.watch, 3, NULL), TORC_ERR_OK);
    rig.now_ns += 2000 * MS;
    rig_step(&rig, NULL);
    for (uint32_t node = 2; node <= 3; node++) {
        torc_watch_wall(&rig.watch, rig.now_ns, node, 1,
                        zero_us + offsets_us[node] + rig.now_ns / 1000);
    }
    CU_ASSERT_EQUAL(torc_watch_median_us(&rig.watch, own_us), own_us);
    rig_close(&rig);
}

// Who is not there is not waited for: three of five that are heard may decide then.
static void test_who_is_not_there_is_not_awaited(void)
{
    static const uint64_t zero_us = UINT64_C(1700000000000000);
    struct rig rig;

    rig_open(&rig);
    for (uint32_t node = 3; node <= 5; node++) {
        CU_ASSERT_EQUAL_FATAL(torc_watch_meet(&rig.watch, node, NULL), TORC_ERR_OK);
    }
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t node = 2; node <= 3; node++) {
            torc_watch_wall(&rig.watch, rig.now_ns, node, 1, zero_us + rig.now_ns / 1000);
        }
        CU_ASSERT_EQUAL(torc_watch_median_us(&rig.watch, (int64_t)zero_us + 3600000000),
                        i == 0 ? TORC_WALL_UNKNOWN : (int64_t)zero_us);
        rig_live(&rig, 2000 * MS, 1);
    }
    rig_close(&rig);
}

// Its clock was set back by minutes while it was down. Within a life it is slewed, and what falls
// fast was only late on its way.
static void test_a_new_life_has_its_own_time_of_day(void)
{
    static const uint64_t zero_us = UINT64_C(1700000000000000);
    static const uint64_t ahead_us = UINT64_C(239000000);
    int64_t near_us;
    struct rig rig;

    rig_open(&rig);
    CU_ASSERT_EQUAL_FATAL(torc_watch_meet(&rig.watch, 3, NULL), TORC_ERR_OK);
    rig.now_ns += 2000 * MS; // all three differ, and nobody else comes
    rig_step(&rig, NULL);
    torc_watch_wall(&rig.watch, rig.now_ns, 2, 4, zero_us + ahead_us + rig.now_ns / 1000);
    torc_watch_wall(&rig.watch, rig.now_ns, 3, 1, zero_us + 1705000000 + rig.now_ns / 1000);
    torc_watch_wall(&rig.watch, rig.now_ns, 2, 4, zero_us + rig.now_ns / 1000);
    near_us = torc_watch_median_us(&rig.watch, (int64_t)zero_us - 1041000000) - (int64_t)zero_us;
    CU_ASSERT_TRUE(near_us > (int64_t)ahead_us - 1000000);
    torc_watch_wall(&rig.watch, rig.now_ns, 2, 5, zero_us + rig.now_ns / 1000);
    torc_watch_wall(&rig.watch, rig.now_ns, 2, 4, zero_us + ahead_us + rig.now_ns / 1000);
    CU_ASSERT_EQUAL(torc_watch_median_us(&rig.watch, (int64_t)zero_us - 1041000000),
                    (int64_t)zero_us);
    rig_close(&rig);
}

// Peers have a say as long as this is likely to run; what would overflow an HLC is no time of day.
static void test_peers_have_a_say_for_a_lifetime(void)
{
    static const uint64_t year_2090_us = UINT64_C(3786912000000000);
    struct rig rig;

    rig_open(&rig);
    CU_ASSERT_EQUAL_FATAL(torc_watch_meet(&rig.watch, 3, NULL), TORC_ERR_OK);
    for (uint32_t node = 2; node <= 3; node++) {
        torc_watch_wall(&rig.watch, rig.now_ns, node, 1, year_2090_us + rig.now_ns / 1000);
    }
    CU_ASSERT_EQUAL(torc_watch_median_us(&rig.watch, (int64_t)year_2090_us + 3600000000),
                    (int64_t)year_2090_us);
    torc_watch_wall(&rig.watch, rig.now_ns, 2, 2, UINT64_C(1) << 52);
    torc_watch_wall(&rig.watch, rig.now_ns, 3, 2, UINT64_MAX);
    CU_ASSERT_EQUAL(torc_watch_median_us(&rig.watch, (int64_t)year_2090_us + 3600000000),
                    (int64_t)year_2090_us);
    rig_close(&rig);
}

// HLCs cannot be taken back: where half of the nodes hold them minutes ahead, the others follow.
static void test_of_two_halves_the_one_ahead_is_followed(void)
{
    static const uint64_t zero_us = UINT64_C(1700000000000000);
    static const uint64_t ahead_us[] = {0, 0, 837000000, 0, 837000000};
    struct rig rig;

    rig_open(&rig);
    for (uint32_t node = 3; node <= 4; node++) {
        CU_ASSERT_EQUAL_FATAL(torc_watch_meet(&rig.watch, node, NULL), TORC_ERR_OK);
    }
    for (uint32_t node = 2; node <= 4; node++) {
        torc_watch_held(&rig.watch, rig.now_ns, node, zero_us + ahead_us[node] + rig.now_ns / 1000);
        torc_watch_wall(&rig.watch, rig.now_ns, node, 1,
                        zero_us + ahead_us[node] + rig.now_ns / 1000);
    }
    CU_ASSERT_EQUAL(torc_watch_held_us(&rig.watch, zero_us + rig.now_ns / 1000),
                    (int64_t)(zero_us + 837000000));
    CU_ASSERT_EQUAL(torc_watch_median_us(&rig.watch, (int64_t)zero_us), (int64_t)zero_us);
    rig_close(&rig);
}

// A node that began empty: it has no say in what is held. Once all others had their time to speak
// it goes on from the only one that holds something; not from one of two that differ.
static void test_who_holds_nothing_has_no_say_in_what_is_held(void)
{
    static const uint64_t zero_us = UINT64_C(1700000000000000);
    static const uint64_t ahead_us = 80000000;
    struct rig rig;

    rig_open(&rig);
    for (uint32_t node = 3; node <= 4; node++) {
        CU_ASSERT_EQUAL_FATAL(torc_watch_meet(&rig.watch, node, NULL), TORC_ERR_OK);
    }
    CU_ASSERT_EQUAL(torc_watch_held_us(&rig.watch, 0), TORC_WALL_UNKNOWN);
    torc_watch_held(&rig.watch, rig.now_ns, 2, zero_us + ahead_us + rig.now_ns / 1000);
    CU_ASSERT_EQUAL(torc_watch_held_us(&rig.watch, 0), TORC_WALL_UNKNOWN);
    rig_live(&rig, 2000 * MS, 1);
    CU_ASSERT_EQUAL(torc_watch_held_us(&rig.watch, 0), (int64_t)(zero_us + ahead_us));
    CU_ASSERT_EQUAL(torc_watch_held_us(&rig.watch, zero_us + rig.now_ns / 1000), TORC_WALL_UNKNOWN);
    torc_watch_held(&rig.watch, rig.now_ns, 3, zero_us + rig.now_ns / 1000);
    CU_ASSERT_EQUAL(torc_watch_held_us(&rig.watch, 0), TORC_WALL_UNKNOWN);
    torc_watch_held(&rig.watch, rig.now_ns, 4, zero_us + rig.now_ns / 1000);
    CU_ASSERT_EQUAL(torc_watch_held_us(&rig.watch, 0), (int64_t)zero_us);
    rig_live(&rig, 11000 * MS, 1); // nobody has been heard lately
    CU_ASSERT_EQUAL(torc_watch_held_us(&rig.watch, 0), TORC_WALL_UNKNOWN);
    rig_close(&rig);
}

// -- What was promised ----------------------------------------------------------------------------

static uint64_t rig_adopt(struct rig *rig, uint32_t epoch, uint32_t primary,
                          struct torc_watch_life down)
{
    struct torc_watch_adoption adoption = {
        .shard = 3, .epoch = epoch, .primary_node = primary, .synced = true, .down = down};
    uint64_t until_ns = 0;

    CU_ASSERT_EQUAL_FATAL(torc_watch_adopt(&rig->watch, &adoption, &until_ns, NULL), TORC_ERR_OK);
    return until_ns;
}

// Node 2, of boot 7, is primary of epoch 5, and has just been promised that nobody here serves. The
// answer is until when.
static uint64_t rig_promise(struct rig *rig)
{
    struct torc_peer_claim claim = {
        .version = 1, .count = 1, .items = {{.slot = 0, .shard = 3, .epoch = 5}}};
    struct torc_watch_event event = {
        .kind = TORC_WATCH_CLAIM, .node = 2, .boot = 7, .claim = &claim};

    rig_open(rig);
    rig_live(rig, 500 * MS, 1); // what the last life promised is over (L5)
    (void)rig_adopt(rig, 5, 2, (struct torc_watch_life){0});
    rig_step(rig, &event);
    rig_beat(rig, 1);
    return rig->now_ns + 20 * MS;
}

// The network kept it: the peer was sick, and has said since that it is well. Nor does it show that
// the peer is there now.
static void test_a_late_beat_tells_nothing(void)
{
    struct rig rig;

    rig_open(&rig);
    rig_live(&rig, 100 * MS, 1);
    rig_late_beat(&rig, 0, 7, TORC_HEALTH_CONTROL_GONE);
    CU_ASSERT_EQUAL(torc_watch_peer_state(&rig.watch, 2).health, TORC_HEALTH_CONTROL_GONE);
    rig_live(&rig, 500 * MS, 1);
    CU_ASSERT_EQUAL(torc_watch_peer_state(&rig.watch, 2).health, 0);
    rig_late_beat(&rig, 500 * MS, 7, TORC_HEALTH_CONTROL_GONE);
    CU_ASSERT_EQUAL(torc_watch_peer_state(&rig.watch, 2).health, 0);
    CU_ASSERT_EQUAL(rig.watch.counters.old_beat, 1);
    while (!rig_is_silent(&rig) && rig.now_ns < 10000 * MS) {
        rig.now_ns = torc_watch_deadline_ns(&rig.watch);
        rig_step(&rig, NULL);
    }
    CU_ASSERT_TRUE(rig_is_silent(&rig));
    rig_late_beat(&rig, 700 * MS, 7, 0);
    CU_ASSERT_TRUE(rig_is_silent(&rig));
    rig_late_beat(&rig, 700 * MS, 8, 0); // of another life: its clock is another one's
    CU_ASSERT_FALSE(rig_is_silent(&rig));
    rig_close(&rig);
}

// Epoch 6, of node 3, was adopted while the ring to this core was full, so the core hears only of
// epoch 7, for which node 3 is dead in a boot that has the number of node 2's.
static void test_a_boot_is_dead_of_its_own_node_alone(void)
{
    struct rig rig;
    uint64_t until_ns = rig_promise(&rig);

    CU_ASSERT_EQUAL(rig_adopt(&rig, 7, 1, (struct torc_watch_life){.node = 3, .boot = 7}),
                    until_ns);
    rig_close(&rig);
}

static void test_a_promise_to_the_dead_binds_nobody(void)
{
    struct rig rig;

    (void)rig_promise(&rig);
    CU_ASSERT_TRUE(rig_adopt(&rig, 6, 1, (struct torc_watch_life){.node = 2, .boot = 7}) <=
                   rig.now_ns);
    rig_close(&rig);
    CU_ASSERT_EQUAL(rig_promise(&rig),
                    rig_adopt(&rig, 6, 1, (struct torc_watch_life){.node = 2, .boot = 6}));
    rig_close(&rig);
}

// An answer may find no room and be asked for again, and epochs may pass meanwhile.
static void test_an_answer_that_is_asked_for_again_says_the_same(void)
{
    static const struct torc_watch_life none = {0};
    struct rig rig;
    uint64_t until_ns = rig_promise(&rig);

    CU_ASSERT_EQUAL(rig_adopt(&rig, 6, 3, none), until_ns);
    CU_ASSERT_EQUAL(rig_adopt(&rig, 6, 3, none), until_ns);
    CU_ASSERT_EQUAL(rig_adopt(&rig, 7, 1, (struct torc_watch_life){.node = 3, .boot = 7}),
                    until_ns);
    CU_ASSERT_EQUAL(rig_adopt(&rig, 7, 1, none), until_ns);
    rig_close(&rig);
}

// Node 2 answers the newest beat of this one, whose claims it knows: what it keeps, and whether it
// promises for the first of them.
static void rig_answer(struct rig *rig, uint64_t ceiling, bool promises)
{
    const struct torc_watch_peer *peer = torc_watch_find(&rig->watch, 2);
    struct torc_beat_ack ack = {.claim_version = peer->claim_version,
                                .ceiling = ceiling,
                                .stretch = 1,
                                .promised = {promises ? 1 : 0}};
    struct torc_watch_event event = {
        .kind = TORC_WATCH_BEAT_ACK, .node = 2, .boot = 7, .beat_ack = &ack};

    rig_live(rig, 20 * MS, 1);
    ack.echo_ns = peer->sent_ns[(peer->sent_count - 1) % TORC_WATCH_BEATS_KEPT];
    rig_step(rig, &event);
}

// What a peer keeps that promises nothing, for it has moved on, may be above what its new primary
// has stamped already (H5).
static void test_a_ceiling_counts_where_it_was_promised(void)
{
    struct torc_watch_adoption adoption = {.shard = 3,
                                           .epoch = 5,
                                           .primary_node = 1,
                                           .synced = true,
                                           .claim_count = 1,
                                           .claim_nodes = {2}};
    uint64_t until_ns;
    struct rig rig;

    rig_open(&rig);
    CU_ASSERT_EQUAL_FATAL(torc_watch_adopt(&rig.watch, &adoption, &until_ns, NULL), TORC_ERR_OK);
    rig_beat(&rig, 1);
    rig_answer(&rig, 1000, true);
    CU_ASSERT_EQUAL(torc_watch_lease(&rig.watch, 3, 5, 2).ceiling, 1000);
    rig_answer(&rig, 2000, false);
    CU_ASSERT_EQUAL(torc_watch_lease(&rig.watch, 3, 5, 2).ceiling, 1000);
    rig_answer(&rig, 2000, true);
    CU_ASSERT_EQUAL(torc_watch_lease(&rig.watch, 3, 5, 2).ceiling, 2000);
    rig_close(&rig);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"k falls to what late beats ask for, at once", test_k_falls_at_once},
        {"k falls without a gap that is over it", test_k_falls_without_a_gap},
        {"k falls no further than late beats allow", test_k_falls_no_further_than_its_beats_allow},
        {"k stays for a minute after a false suspicion", test_k_stays_after_a_false_suspicion},
        {"one false suspicion of several shards doubles k once",
         test_one_false_suspicion_doubles_k_once},
        {"silence is judged by the k of who is silent",
         test_silence_is_judged_by_the_k_of_who_is_silent},
        {"an observer that was away suspects nobody",
         test_an_observer_that_was_away_suspects_nobody},
        {"the first nodes to be heard are not most of them",
         test_the_first_to_be_heard_are_not_most},
        {"three who all differ wait for others", test_three_who_all_differ_wait_for_others},
        {"who is not there is not awaited", test_who_is_not_there_is_not_awaited},
        {"a new life has its own time of day", test_a_new_life_has_its_own_time_of_day},
        {"peers have a say for a lifetime", test_peers_have_a_say_for_a_lifetime},
        {"of two halves the one ahead is followed", test_of_two_halves_the_one_ahead_is_followed},
        {"who holds nothing has no say in what is held",
         test_who_holds_nothing_has_no_say_in_what_is_held},
        {"a late beat tells nothing", test_a_late_beat_tells_nothing},
        {"a boot is dead of its own node alone", test_a_boot_is_dead_of_its_own_node_alone},
        {"a promise to the dead binds nobody", test_a_promise_to_the_dead_binds_nobody},
        {"an answer that is asked for again says the same",
         test_an_answer_that_is_asked_for_again_says_the_same},
        {"a ceiling counts where it was promised", test_a_ceiling_counts_where_it_was_promised},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("watch", tests);
}
