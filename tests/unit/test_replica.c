// Torc tests: the replica's machine: what it waits for it looks at again when nothing happens; what
// it owes to whom it has proposed.
#include "dataplane/replica_impl.h"
#include "tests/torc_test.h"

#include <string.h>

#define MS    UINT64_C(1000000)
#define OWN   1u
#define OTHER 2u
#define THIRD 3u

#define STREAM (UINT64_C(1) << 32 | 1u << 24 | 1) // of epoch 1, for the learner's boot 1

static struct torc_replica replica;
static struct torc_replica_actions actions;
static uint64_t now_ns;

static void step(const struct torc_replica_event *event)
{
    actions.count = 0;
    torc_replica_step(&replica, now_ns, event, &actions);
}

// The record is asked for again until there is an answer.
static void answer_read(void)
{
    struct torc_replica_record record = {.asked_epoch = replica.epoch,
                                         .configuration = replica.configuration};
    struct torc_replica_event event = {.kind = TORC_REPLICA_RECORD, .record = &record};

    if (replica.read_at_ns != 0) {
        step(&event);
    }
}

static bool asked_for(enum torc_replica_action_kind kind)
{
    for (uint32_t i = 0; i < actions.count; i++) {
        if (actions.items[i].kind == kind) {
            return true;
        }
    }
    return false;
}

static void heard(enum torc_replica_event_kind kind, uint64_t lsn)
{
    struct torc_replica_event event = {.kind = kind, .lsn = lsn};

    step(&event);
}

static void logged(uint64_t lsn)
{
    struct torc_replica_event event = {.kind = TORC_REPLICA_DURABLE,
                                       .durable = {.epoch = replica.epoch, .lsn = lsn}};

    step(&event);
}

// The first of up to three members, all of which are to be in sync, makes an epoch its own.
// So long it is bound to its predecessor.
static void take_over_at(uint64_t begin_ns, uint32_t members, uint64_t promise_ns)
{
    struct torc_replica_start start = {.timing = {.promise_ns = 20 * MS,
                                                  .stagger_ns = 10 * MS,
                                                  .lonely_ns = 200 * MS,
                                                  .grace_ns = 5000 * MS,
                                                  .lag_ns = 200 * MS,
                                                  .resend_ns = 5 * MS,
                                                  .retry_ns = 30 * MS,
                                                  .join_records = 64},
                                       .durability = TORC_DURABILITY_DURABLE,
                                       .shard = 1,
                                       .node = OWN,
                                       .boot = 1,
                                       .copy = 1,
                                       .min_in_sync = members,
                                       .has_base = true};
    struct torc_replica_result result = {
        .record = {.configuration = {.epoch = 1,
                                     .primary_node = OWN,
                                     .member_count = members,
                                     .members = {{.node = OWN, .copy = 1},
                                                 {.node = OTHER, .copy = 2},
                                                 {.node = THIRD, .copy = 3}}}}};
    struct torc_replica_event event = {.kind = TORC_REPLICA_RECORD, .record = &result.record};

    now_ns = begin_ns;
    torc_replica_init(&replica, now_ns, &start);
    step(&event);
    for (uint32_t i = 0; i < 100 && !replica.proposal.open; i++) {
        now_ns = torc_replica_deadline_ns(&replica);
        step(NULL);
    }
    CU_ASSERT_TRUE_FATAL(replica.proposal.open);
    result.nonce = replica.proposal.proposal.configuration.nonce;
    result.record.asked_epoch = replica.proposal.proposal.expected_epoch;
    result.record.configuration = replica.proposal.proposal.configuration;
    event = (struct torc_replica_event){.kind = TORC_REPLICA_RESULT, .result = &result};
    step(&event);
    event = (struct torc_replica_event){
        .kind = TORC_REPLICA_ADOPTED,
        .adopted = {.epoch = replica.epoch, .promise_until_ns = now_ns + promise_ns}};
    step(&event);
    logged(replica.last_lsn);
}

static void take_over(uint32_t members, uint64_t promise_ns)
{
    take_over_at(1000 * MS, members, promise_ns);
}

// It serves, in the first epoch that it made its own.
static void lead_alone(void)
{
    take_over(1, 0);
    heard(TORC_REPLICA_APPLIED, replica.last_lsn);
    CU_ASSERT_EQUAL_FATAL(replica.role, TORC_REPLICA_ACTIVE);
}

// All members have the tail. Where it is applied, reads of a bounded age show it; but the last
// primary, which may not have committed it, still answers linearizable ones.
static void a_candidate_commits_nothing_while_its_predecessor_may_read(void)
{
    uint64_t until_ns;

    take_over(1, 100 * MS);
    until_ns = now_ns + 100 * MS;
    CU_ASSERT_EQUAL(replica.role, TORC_REPLICA_CANDIDATE);
    CU_ASSERT_EQUAL(replica.durable_lsn, replica.epoch_lsn);
    while (torc_replica_deadline_ns(&replica) < until_ns) {
        now_ns = torc_replica_deadline_ns(&replica);
        step(NULL);
        CU_ASSERT_FALSE(asked_for(TORC_REPLICA_APPLY));
        CU_ASSERT_TRUE(replica.commit_lsn < replica.epoch_lsn);
    }
    now_ns = until_ns;
    CU_ASSERT_TRUE(torc_replica_deadline_ns(&replica) <= now_ns); // nothing else will wake it
    step(NULL);
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_APPLY));
    heard(TORC_REPLICA_APPLIED, replica.last_lsn);
    CU_ASSERT_EQUAL(replica.role, TORC_REPLICA_ACTIVE);
}

static void other_is_wanted_and_has_all(void)
{
    struct torc_replica_want want = {.primary_node = OWN, .node_count = 2, .nodes = {OWN, OTHER}};
    struct torc_replica_event event = {.kind = TORC_REPLICA_WANT, .want = &want};
    struct torc_peer_message message = {.kind = TORC_PEER_ACK, .shard = 1};

    step(&event);
    event =
        (struct torc_replica_event){.kind = TORC_REPLICA_PEER, .peer = {.node = OTHER, .boot = 1}};
    step(&event);
    message.ack = (struct torc_peer_ack){.epoch = replica.epoch,
                                         .copy = 2,
                                         .received_lsn = replica.last_lsn,
                                         .durable_lsn = replica.last_lsn,
                                         .usable = true};
    event = (struct torc_replica_event){
        .kind = TORC_REPLICA_MESSAGE, .node = OTHER, .boot = 1, .message = &message};
    step(&event);
    CU_ASSERT_FALSE(asked_for(TORC_REPLICA_PROPOSE)); // J3: it has promised nothing yet
    answer_read();
}

// Nobody writes, so nothing else will ever happen in this shard.
static void a_learner_whose_promise_comes_last_joins_a_shard_that_nobody_uses(void)
{
    uint64_t promised_ns;
    uint64_t end_ns;

    lead_alone();
    other_is_wanted_and_has_all();
    promised_ns = now_ns + 100 * MS; // long after its last word
    end_ns = now_ns + 1000 * MS;
    while (!asked_for(TORC_REPLICA_PROPOSE) && torc_replica_deadline_ns(&replica) < end_ns) {
        now_ns = torc_replica_deadline_ns(&replica);
        if (now_ns >= promised_ns) {
            torc_replica_lease(&replica, OTHER,
                               (struct torc_watch_lease){.until_ns = now_ns + 20 * MS});
        }
        step(NULL);
    }
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_PROPOSE));
    CU_ASSERT_EQUAL(replica.proposal.proposal.configuration.member_count, 2);
}

static void peer_says(uint32_t node, uint64_t boot, struct torc_peer_ack ack)
{
    struct torc_peer_message message = {.kind = TORC_PEER_ACK, .shard = 1, .ack = ack};
    struct torc_replica_event event = {.kind = TORC_REPLICA_PEER,
                                       .peer = {.node = node, .boot = boot}};

    step(&event);
    event = (struct torc_replica_event){
        .kind = TORC_REPLICA_MESSAGE, .node = node, .boot = boot, .message = &message};
    step(&event);
}

static void other_says(uint64_t boot, struct torc_peer_ack ack)
{
    peer_says(OTHER, boot, ack);
}

// The next moment at which the machine proposes to go on alone, or the last that was looked at.
static uint64_t alone_ns(uint64_t until_ns)
{
    while (!asked_for(TORC_REPLICA_PROPOSE) && torc_replica_deadline_ns(&replica) < until_ns) {
        now_ns = torc_replica_deadline_ns(&replica);
        step(NULL);
    }
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_PROPOSE));
    CU_ASSERT_EQUAL(replica.proposal.proposal.configuration.member_count, 1);
    return now_ns;
}

// At a cold start one that is silent may still come, with all that it had.
static void a_candidate_waits_for_who_may_come_back(void)
{
    uint64_t start_ns;

    take_over(2, 0);
    start_ns = replica.started_ns;
    CU_ASSERT_TRUE(alone_ns(start_ns + 10000 * MS) >= start_ns + 5000 * MS);
}

// One that has begun with an empty disk has nothing that it could come with.
static void a_candidate_waits_for_no_copy_that_is_gone(void)
{
    uint64_t start_ns;

    take_over(2, 0);
    start_ns = replica.started_ns;
    other_says(2, (struct torc_peer_ack){.epoch = replica.epoch, .copy = 3});
    CU_ASSERT_TRUE(alone_ns(start_ns + 10000 * MS) < start_ns + 1000 * MS);
}

static void other_is_proposed(void)
{
    lead_alone();
    other_is_wanted_and_has_all();
    for (uint32_t i = 0; i < 100 && !replica.proposal.open; i++) {
        torc_replica_lease(&replica, OTHER,
                           (struct torc_watch_lease){.until_ns = now_ns + 20 * MS});
        now_ns = torc_replica_deadline_ns(&replica);
        step(NULL);
    }
    CU_ASSERT_TRUE_FATAL(replica.proposal.open);
}

static struct torc_peer_ack lacking(void)
{
    return (struct torc_peer_ack){.epoch = replica.epoch, .copy = 2, .needs_base = true};
}

// A base makes it forget what it acknowledged, and the proposal may have been won by that.
static void who_is_proposed_is_sent_no_base(void)
{
    struct torc_replica_want want = {.primary_node = OWN, .node_count = 2, .nodes = {OWN, OTHER}};
    struct torc_replica_event event = {.kind = TORC_REPLICA_WANT, .want = &want};

    lead_alone();
    step(&event);
    other_says(1, lacking());
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_STREAM)); // who is not proposed is
    other_is_proposed();
    other_says(2, lacking()); // it started anew, and its log is too short
    CU_ASSERT_FALSE(asked_for(TORC_REPLICA_STREAM));
    for (uint32_t i = 0; i < 20 && replica.proposal.open; i++) {
        now_ns = torc_replica_deadline_ns(&replica);
        step(NULL);
        CU_ASSERT_FALSE(asked_for(TORC_REPLICA_STREAM));
    }
}

// It may be a member by now, and then is fed by the log.
static void what_the_proposed_lacks_is_kept(void)
{
    struct torc_replica_event event = {.kind = TORC_REPLICA_PEER,
                                       .peer = {.node = OTHER, .boot = 2}};

    other_is_proposed();
    CU_ASSERT_EQUAL(torc_replica_keep_lsn(&replica), replica.last_lsn);
    step(&event); // another life of it, which has said nothing yet
    CU_ASSERT_EQUAL(torc_replica_keep_lsn(&replica), 0);
    other_says(2, lacking());
    CU_ASSERT_EQUAL(torc_replica_keep_lsn(&replica), replica.commit_lsn); // no log will help it
}

// The base that OTHER asks for is being made.
static void other_is_given_a_base(void)
{
    struct torc_replica_want want = {.primary_node = OWN, .node_count = 2, .nodes = {OWN, OTHER}};
    struct torc_replica_event event = {.kind = TORC_REPLICA_WANT, .want = &want};
    struct torc_replica_base_event ready = {.kind = TORC_REPLICA_BASE_READY, .node = OTHER};

    lead_alone();
    step(&event);
    other_says(1, lacking());
    CU_ASSERT_TRUE_FATAL(asked_for(TORC_REPLICA_STREAM));
    ready.base_lsn = replica.commit_lsn;
    event = (struct torc_replica_event){.kind = TORC_REPLICA_BASE, .base = &ready};
    step(&event);
}

// It found the records elsewhere, and joins at once. A worker has room for few bases.
static void the_base_of_who_joined_without_it_is_given_up(void)
{
    struct torc_peer_ack all = {.copy = 2, .usable = true};
    struct torc_replica_result result = {0};
    struct torc_replica_event event = {.kind = TORC_REPLICA_RESULT, .result = &result};
    bool settled;

    other_is_given_a_base();
    torc_replica_lease(&replica, OTHER, (struct torc_watch_lease){.until_ns = now_ns + 1000 * MS});
    all.epoch = replica.epoch;
    all.received_lsn = all.durable_lsn = replica.last_lsn;
    other_says(1, all);
    CU_ASSERT_TRUE_FATAL(asked_for(TORC_REPLICA_PROPOSE));
    settled = asked_for(TORC_REPLICA_SETTLE);
    result.nonce = replica.proposal.proposal.configuration.nonce;
    result.record.asked_epoch = replica.proposal.proposal.expected_epoch;
    result.record.configuration = replica.proposal.proposal.configuration;
    step(&event);
    CU_ASSERT_EQUAL(replica.configuration.member_count, 2);
    for (uint32_t i = 0; i < 10 && !settled; i++) {
        settled = asked_for(TORC_REPLICA_SETTLE);
        now_ns += MS;
        step(NULL);
    }
    CU_ASSERT_TRUE(settled);
}

static void the_base_of_who_is_wished_no_more_is_given_up(void)
{
    struct torc_replica_want alone = {.primary_node = OWN, .node_count = 1, .nodes = {OWN}};
    struct torc_replica_event event = {.kind = TORC_REPLICA_WANT, .want = &alone};

    other_is_given_a_base();
    step(&event);
    for (uint32_t i = 0; i < replica.peer_count; i++) {
        CU_ASSERT_EQUAL(replica.peers[i].stream, TORC_REPLICA_STREAM_NONE);
    }
}

// It took a base and a record behind it, gave this base up, and begins the next, which ends below
// that record: it has it no more.
static void who_begins_another_base_is_sent_again_what_it_had_with_the_last(void)
{
    struct torc_peer_ack loading = {.copy = 2};
    uint64_t next_lsn;

    other_is_given_a_base();
    loading.epoch = replica.epoch;
    loading.stream = 1;
    loading.received_lsn = replica.last_lsn;
    other_says(1, loading);
    loading.stream = 2;
    loading.received_lsn = replica.last_lsn - 1;
    other_says(1, loading);
    for (uint32_t i = 0; i < replica.peer_count; i++) {
        next_lsn = replica.peers[i].received_lsn + 1;
        CU_ASSERT_EQUAL(next_lsn, replica.last_lsn);
    }
    CU_ASSERT(replica.peer_count == 1);
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_SHIP));
}

// What a learner, or a member, has of the log, and what the primary of the next epoch says of its
// own.
struct meeting {
    struct torc_epoch_table own;
    uint64_t commit_lsn;
    uint64_t last_lsn;
    struct torc_peer_epoch theirs; // without its members
    bool member;
};

static void meet(const struct meeting *meeting)
{
    struct torc_replica_start start = {.timing = {.promise_ns = 20 * MS,
                                                  .lonely_ns = 200 * MS,
                                                  .grace_ns = 5000 * MS,
                                                  .resend_ns = 5 * MS},
                                       .durability = TORC_DURABILITY_DURABLE,
                                       .shard = 1,
                                       .node = OWN,
                                       .boot = 1,
                                       .copy = 1,
                                       .min_in_sync = 1,
                                       .commit_lsn = meeting->commit_lsn,
                                       .last_lsn = meeting->last_lsn,
                                       .table = meeting->own,
                                       .has_base = true};
    struct torc_peer_message message = {
        .kind = TORC_PEER_EPOCH, .shard = 1, .epoch = meeting->theirs};
    struct torc_replica_record record = {0};
    struct torc_replica_event event = {.kind = TORC_REPLICA_RECORD, .record = &record};

    message.epoch.configuration.primary_node = OTHER;
    message.epoch.configuration.primary_boot = 1;
    message.epoch.configuration.member_count = meeting->member ? 2 : 1;
    message.epoch.configuration.members[0] = (struct torc_member){.node = OTHER, .copy = 2};
    message.epoch.configuration.members[1] = (struct torc_member){.node = OWN, .copy = 1};
    message.epoch.active = true;
    record.configuration = message.epoch.configuration;
    now_ns = 1000 * MS;
    torc_replica_init(&replica, now_ns, &start);
    step(&event);
    event = (struct torc_replica_event){
        .kind = TORC_REPLICA_MESSAGE, .node = OTHER, .boot = 1, .message = &message};
    step(&event);
    CU_ASSERT_EQUAL(replica.epoch, meeting->theirs.configuration.epoch);
    CU_ASSERT_EQUAL(replica.role, meeting->member ? TORC_REPLICA_BACKUP : TORC_REPLICA_LEARNER);
}

// It has records up to 11, so many of them committed, the first five of epoch 1 and the others of
// epoch 2. Then a primary of epoch 4 says that it has the first five, and its own up to `last_lsn`.
static void learn_after_a_loss(uint64_t commit_lsn, uint64_t last_lsn)
{
    struct meeting meeting = {
        .own = {.count = 2, .entries = {{.epoch = 1, .first_lsn = 1}, {2, 6}}},
        .commit_lsn = commit_lsn,
        .last_lsn = 11,
        .theirs = {.configuration = {.epoch = 4},
                   .table = {.count = 2, .entries = {{.epoch = 1, .first_lsn = 1}, {4, 6}}},
                   .last_lsn = last_lsn}};

    meet(&meeting);
}

// An operator accepted that they are lost. What the tree has cannot be cut, and must not stay.
static void who_committed_what_was_given_up_needs_a_base(void)
{
    for (uint64_t last_lsn = 6; last_lsn <= 20; last_lsn++) {
        learn_after_a_loss(11, last_lsn);
        CU_ASSERT_FALSE(replica.synced);
        CU_ASSERT_FALSE(asked_for(TORC_REPLICA_CUT));
    }
}

static void who_did_not_commit_it_cuts_it(void)
{
    for (uint64_t last_lsn = 6; last_lsn <= 20; last_lsn++) {
        learn_after_a_loss(5, last_lsn);
        CU_ASSERT_TRUE(replica.synced);
        CU_ASSERT_TRUE(asked_for(TORC_REPLICA_CUT));
        CU_ASSERT_EQUAL(replica.last_lsn, 5);
    }
}

// A log with ten records of each epoch up to EPOCHS_ALIKE, and of `more` others, of which every
// second is the other log's; the table has the last ones.
#define EPOCHS_ALIKE 30u
#define LSN_ALIKE    (UINT64_C(10) * EPOCHS_ALIKE)

static struct torc_epoch_table table_of(uint32_t more, uint32_t first)
{
    struct torc_epoch_table table = {0};

    for (uint32_t i = 0; i < EPOCHS_ALIKE + more; i++) {
        uint32_t epoch = i < EPOCHS_ALIKE ? i + 1 : EPOCHS_ALIKE + first + 2 * (i - EPOCHS_ALIKE);

        torc_replica_table_add(&table, epoch, 10 * (uint64_t)i + 1);
    }
    return table;
}

// So many epochs of its own each of them has.
static void meet_with_tables(uint32_t own, uint32_t theirs, uint64_t commit_lsn, bool member)
{
    struct meeting meeting = {.own = table_of(own, 1),
                              .commit_lsn = commit_lsn,
                              .last_lsn = LSN_ALIKE + UINT64_C(10) * own,
                              .theirs = {.configuration = {.epoch = 100},
                                         .table = table_of(theirs, 2),
                                         .last_lsn = LSN_ALIKE + UINT64_C(10) * theirs},
                              .member = member};
    bool known = own < TORC_EPOCHS_MAX && theirs < TORC_EPOCHS_MAX;

    // Of all records that are not committed both tables know the epoch, and none is alike.
    known = known || (member && commit_lsn == LSN_ALIKE && own <= TORC_EPOCHS_MAX &&
                      theirs <= TORC_EPOCHS_MAX);
    meet(&meeting);
    if (known || (!member && commit_lsn == 0)) {
        CU_ASSERT_TRUE(replica.synced);
        CU_ASSERT_TRUE(asked_for(TORC_REPLICA_CUT));
        CU_ASSERT_EQUAL(replica.last_lsn, known ? LSN_ALIKE : commit_lsn);
    } else {
        CU_ASSERT_FALSE(replica.synced);
        CU_ASSERT_FALSE(asked_for(TORC_REPLICA_CUT));
        CU_ASSERT_EQUAL(replica.last_lsn, meeting.last_lsn);
    }
}

// Tables keep the last epochs only. Where they have none in common any more, a learner with
// anything committed takes a base. A member may have acknowledged more than it knows to be
// committed, and cuts nothing (T5).
static void tables_that_were_cut_short_say_no_more_than_they_know(void)
{
    static const uint64_t commits[] = {0, LSN_ALIKE - 5, LSN_ALIKE};

    for (uint32_t own = 1; own <= 22; own++) {
        for (uint32_t theirs = 1; theirs <= 22; theirs++) {
            for (uint32_t i = 0; i < TORC_COUNT_OF(commits); i++) {
                meet_with_tables(own, theirs, commits[i], false);
                meet_with_tables(own, theirs, commits[i], true);
            }
        }
    }
}

// The primary of epoch 1 and this member have records up to 11 on disk, acknowledged; the mark that
// reached this one is 5. The primary was started so often, alone, since. Then it ends for good.
static void meet_after_starts(uint32_t starts, uint64_t commit_lsn)
{
    struct meeting meeting = {.own = {.count = 1, .entries = {{.epoch = 1, .first_lsn = 1}}},
                              .commit_lsn = commit_lsn,
                              .last_lsn = 11,
                              .theirs = {.configuration = {.epoch = 1 + starts},
                                         .table = {.count = 1, .entries = {{1, 1}}},
                                         .last_lsn = 11 + starts},
                              .member = true};

    for (uint32_t i = 0; i < starts; i++) {
        torc_replica_table_add(&meeting.theirs.table, 2 + i, 12 + i);
    }
    meet(&meeting);
}

static void a_member_keeps_what_it_acknowledged_however_many_epochs_went_by(void)
{
    for (uint32_t starts = 1; starts <= 40; starts++) {
        struct torc_replica_event dead = {.kind = TORC_REPLICA_PEER,
                                          .peer = {.node = OTHER, .boot = 2, .silent = true}};

        meet_after_starts(starts, 11); // all is committed: what is committed, both have
        CU_ASSERT_TRUE(replica.synced);
        CU_ASSERT_EQUAL(replica.last_lsn, 11);
        meet_after_starts(starts, 5);
        CU_ASSERT_EQUAL(replica.synced, starts < TORC_EPOCHS_MAX);
        CU_ASSERT_EQUAL(replica.last_lsn, 11);
        step(&dead);
        for (uint32_t i = 0; i < 20 && !replica.proposal.open; i++) {
            now_ns = torc_replica_deadline_ns(&replica);
            step(NULL);
        }
        CU_ASSERT_TRUE(replica.proposal.open); // nobody else has more
    }
}

// It needs a base, which the primary of epoch 1 has begun to send.
static void load_from_other(void)
{
    struct meeting meeting = {.theirs = {.configuration = {.epoch = 1}, .floor_lsn = 100}};
    struct torc_peer_message message = {.kind = TORC_PEER_SNAP,
                                        .shard = 1,
                                        .snap = {.kind = TORC_SNAP_PIECE,
                                                 .epoch = 1,
                                                 .stream = STREAM,
                                                 .base_lsn = 100,
                                                 .base_epoch = 1}};
    struct torc_replica_event event = {
        .kind = TORC_REPLICA_MESSAGE, .node = OTHER, .boot = 1, .message = &message};
    struct torc_replica_event adopted = {.kind = TORC_REPLICA_ADOPTED, .adopted = {.epoch = 1}};

    meet(&meeting);
    CU_ASSERT_FALSE_FATAL(replica.synced);
    step(&adopted);
    step(&event);
    CU_ASSERT_TRUE_FATAL(replica.base_loading);
    CU_ASSERT_TRUE_FATAL(asked_for(TORC_REPLICA_STORE));
    CU_ASSERT_FALSE(torc_replica_base_given_up(&replica));
}

static void primary_is(uint32_t node, uint64_t boot)
{
    struct torc_replica_record record = {.asked_epoch = replica.epoch,
                                         .configuration = replica.configuration};
    struct torc_replica_event event = {.kind = TORC_REPLICA_RECORD, .record = &record};

    record.configuration.epoch++;
    record.configuration.primary_node = node;
    record.configuration.primary_boot = boot;
    step(&event);
}

// Its place is another shard's at once: the next primary may begin with that one, and has as few.
static void a_base_is_given_up_when_its_primary_is_another(void)
{
    load_from_other();
    primary_is(OTHER, 1); // its stream goes on in the next epoch
    CU_ASSERT_FALSE(torc_replica_base_given_up(&replica));
    primary_is(THIRD, 1);
    CU_ASSERT_TRUE(torc_replica_base_given_up(&replica));
    CU_ASSERT_FALSE(replica.synced);
    load_from_other();
    primary_is(OTHER, 2); // it was started anew
    CU_ASSERT_TRUE(torc_replica_base_given_up(&replica));
}

static bool said_that_it_needs_a_base(void)
{
    bool told = false;

    for (uint32_t i = 0; i < actions.count; i++) {
        const struct torc_replica_action *action = &actions.items[i];

        told =
            told || (action->kind == TORC_REPLICA_SEND && action->message.kind == TORC_PEER_ACK &&
                     action->message.ack.needs_base && action->message.ack.stream == STREAM);
    }
    return told;
}

// Its memory is full: the next shard may need the place, and the primary is to hear. If an older
// word of it comes later than this one, the primary sends it records, and hears it again.
static void a_base_that_finds_no_memory_is_given_up_at_once(void)
{
    struct torc_peer_message append = {
        .kind = TORC_PEER_APPEND, .shard = 1, .append = {.epoch = 1, .first_lsn = 101}};
    struct torc_replica_event fed = {
        .kind = TORC_REPLICA_MESSAGE, .node = OTHER, .boot = 1, .message = &append};
    struct torc_replica_base_event broken = {.kind = TORC_REPLICA_BASE_BROKEN, .node = OWN};
    struct torc_replica_event event = {.kind = TORC_REPLICA_BASE, .base = &broken};
    struct torc_replica_event adopted = {.kind = TORC_REPLICA_ADOPTED, .adopted = {.epoch = 1}};

    load_from_other();
    step(&adopted);
    step(&event);
    CU_ASSERT_TRUE(torc_replica_base_given_up(&replica));
    CU_ASSERT_TRUE(said_that_it_needs_a_base());
    step(NULL);
    CU_ASSERT_FALSE(said_that_it_needs_a_base());
    step(&fed);
    CU_ASSERT_TRUE(said_that_it_needs_a_base());
}

static void hear_epoch(uint32_t epoch, uint32_t node, uint64_t floor_lsn)
{
    struct torc_peer_message message = {
        .kind = TORC_PEER_EPOCH,
        .shard = 1,
        .epoch = {.configuration = replica.configuration,
                  .table = {.count = 1, .entries = {{.epoch = 1, .first_lsn = 1}}},
                  .last_lsn = 300,
                  .floor_lsn = floor_lsn,
                  .active = true}};
    struct torc_replica_event event = {
        .kind = TORC_REPLICA_MESSAGE, .node = node, .boot = 1, .message = &message};

    message.epoch.configuration.epoch = epoch;
    message.epoch.configuration.primary_node = node;
    message.epoch.configuration.members[0].node = node;
    step(&event);
}

// It falls behind what its primary can send before its base is on its disk; the next primary has
// all records still. Its log goes on, behind a base that a restart would not find.
static void a_base_in_memory_is_no_durable_one_under_the_next_primary(void)
{
    struct torc_replica_base_event taken = {.kind = TORC_REPLICA_BASE_TAKEN, .node = OWN};
    struct torc_replica_event stored = {.kind = TORC_REPLICA_BASE, .base = &taken};
    struct torc_replica_event adopted = {.kind = TORC_REPLICA_ADOPTED, .adopted = {.epoch = 1}};
    struct torc_peer_message end = {.kind = TORC_PEER_SNAP,
                                    .shard = 1,
                                    .snap = {.kind = TORC_SNAP_END,
                                             .epoch = 1,
                                             .stream = STREAM,
                                             .piece = 1,
                                             .base_lsn = 100,
                                             .end_lsn = 100}};
    struct torc_replica_event ended = {
        .kind = TORC_REPLICA_MESSAGE, .node = OTHER, .boot = 1, .message = &end};

    load_from_other();
    step(&adopted);
    step(&stored);
    step(&ended);
    CU_ASSERT_TRUE_FATAL(torc_replica_has_prefix(&replica));
    hear_epoch(1, OTHER, 200);
    CU_ASSERT_FALSE_FATAL(replica.has_base);
    hear_epoch(2, THIRD, 0);
    CU_ASSERT_TRUE(replica.synced);
    CU_ASSERT_TRUE(replica.has_base);
    CU_ASSERT_EQUAL(replica.last_lsn, 100);
    CU_ASSERT_FALSE(replica.base_durable);
    taken.kind = TORC_REPLICA_BASE_DURABLE;
    taken.base_lsn = 100;
    step(&stored);
    CU_ASSERT_TRUE(replica.base_durable);
}

// The other node begins each base, and gives it up. How many there are until then.
static uint32_t bases_lost(uint64_t boot, uint64_t until_ns)
{
    struct torc_replica_base_event ready = {.kind = TORC_REPLICA_BASE_READY, .node = OTHER};
    struct torc_replica_event event = {.kind = TORC_REPLICA_BASE, .base = &ready};
    struct torc_peer_ack lost = lacking();
    uint32_t count = 0;

    while (now_ns < until_ns) {
        const struct torc_replica_peer *peer = torc_replica_find(&replica, OTHER);

        if (peer->stream == TORC_REPLICA_STREAM_ASKED) {
            ready.base_lsn = replica.commit_lsn;
            step(&event);
        }
        if (peer->stream == TORC_REPLICA_STREAM_OPEN) {
            count++;
            lost.stream = peer->stream_number;
            other_says(boot, lost);
            CU_ASSERT_TRUE(asked_for(TORC_REPLICA_SETTLE));
        }
        now_ns += 50 * MS;
        step(NULL);
    }
    return count;
}

// Each is a turn in its log, and the bytes of a shard.
static void bases_that_are_lost_one_after_another_wait_ever_longer(void)
{
    uint32_t first;

    other_is_given_a_base();
    first = bases_lost(1, now_ns + 10000 * MS);
    CU_ASSERT_TRUE(first > 3 && first < 10);
    CU_ASSERT_TRUE(bases_lost(1, now_ns + UINT64_C(6) * 3600 * 1000 * MS) < 90);
    CU_ASSERT_TRUE(bases_lost(1, now_ns + UINT64_C(600) * 1000 * MS) >
                   0);        // it may have memory by now
    other_says(2, lacking()); // it was started anew, with more maybe
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_STREAM));
}

// Its place went to another's base while the learner was thought gone. The learner, which is back,
// waits for pieces of it, and says that it needs none.
static void a_base_that_gave_way_begins_anew(void)
{
    struct torc_replica_base_event lost = {.kind = TORC_REPLICA_BASE_LOST, .node = OTHER};
    struct torc_replica_event event = {.kind = TORC_REPLICA_BASE, .base = &lost};
    struct torc_peer_ack loading = {.copy = 2};
    uint64_t first;

    other_is_given_a_base();
    first = torc_replica_find(&replica, OTHER)->stream_number;
    loading.epoch = replica.epoch;
    loading.stream = first;
    other_says(1, loading);
    step(&event);
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_STREAM));
    CU_ASSERT_TRUE(torc_replica_find(&replica, OTHER)->stream_number > first);
    other_says(1, loading);
    CU_ASSERT_FALSE(asked_for(TORC_REPLICA_STREAM)); // once

    other_is_given_a_base();
    loading.stream = torc_replica_find(&replica, OTHER)->stream_number;
    loading.usable = true; // it was whole when the place went
    other_says(1, loading);
    step(&event);
    CU_ASSERT_FALSE(asked_for(TORC_REPLICA_STREAM));
}

// A node that is about to stop is not wished for a while. It waits for pieces of the base that it
// had begun with, and says that it needs none.
static void the_base_of_who_is_wished_again_begins_anew(void)
{
    struct torc_replica_want want = {.primary_node = OWN, .node_count = 1, .nodes = {OWN}};
    struct torc_replica_event event = {.kind = TORC_REPLICA_WANT, .want = &want};
    struct torc_peer_ack loading = {.copy = 2};

    other_is_given_a_base();
    loading.epoch = replica.epoch;
    loading.stream = torc_replica_find(&replica, OTHER)->stream_number;
    other_says(1, loading);
    step(&event);
    want = (struct torc_replica_want){.primary_node = OWN, .node_count = 2, .nodes = {OWN, OTHER}};
    step(&event);
    other_says(1, loading);
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_STREAM));
    CU_ASSERT_TRUE(torc_replica_find(&replica, OTHER)->stream_number > loading.stream);
}

static struct torc_watch_life adopted_down(void)
{
    for (uint32_t i = 0; i < actions.count; i++) {
        if (actions.items[i].kind == TORC_REPLICA_ADOPT) {
            return actions.items[i].adoption.down;
        }
    }
    CU_FAIL("nothing was adopted");
    return (struct torc_watch_life){0};
}

// Worker 0 may not have heard of that primary at all: it is told whose life is over (L4).
static void an_adoption_says_whose_life_is_over(void)
{
    struct torc_replica_record record = {.primary_down_boot = 3, .primary_node_boot = 3};
    struct torc_replica_event event = {.kind = TORC_REPLICA_RECORD, .record = &record};

    load_from_other();
    primary_is(THIRD, 3);
    CU_ASSERT_EQUAL(adopted_down().boot, 0);
    record.asked_epoch = replica.epoch;
    record.configuration = replica.configuration;
    step(&event);
    primary_is(OTHER, 1);
    CU_ASSERT_EQUAL(adopted_down().node, THIRD);
    CU_ASSERT_EQUAL(adopted_down().boot, 3);
    primary_is(THIRD, 3);
    CU_ASSERT_EQUAL(adopted_down().boot, 0);
}

static struct torc_peer_ack having(uint64_t lsn)
{
    return (struct torc_peer_ack){
        .epoch = replica.epoch, .copy = 2, .received_lsn = lsn, .durable_lsn = lsn, .usable = true};
}

static void other_acknowledges_all(void)
{
    other_says(1, having(replica.last_lsn));
}

static void win(void)
{
    struct torc_replica_result result = {
        .nonce = replica.proposal.proposal.configuration.nonce,
        .record = {.asked_epoch = replica.proposal.proposal.expected_epoch,
                   .configuration = replica.proposal.proposal.configuration}};
    struct torc_replica_event event = {.kind = TORC_REPLICA_RESULT, .result = &result};

    step(&event);
    event = (struct torc_replica_event){.kind = TORC_REPLICA_ADOPTED,
                                        .adopted = {.epoch = replica.epoch}};
    step(&event);
    logged(replica.last_lsn);
}

static void lead_two(void)
{
    take_over(2, 0);
    other_acknowledges_all();
    heard(TORC_REPLICA_APPLIED, replica.last_lsn);
    CU_ASSERT_EQUAL_FATAL(replica.role, TORC_REPLICA_ACTIVE);
    answer_read();
}

// What the last step ships reaches OTHER, which has the log up to `*has`, but for so many times
// that `lost_lsn` is in it. OTHER answers.
static void ship_to_other(uint64_t *has, uint64_t lost_lsn, uint32_t *losses)
{
    for (uint32_t round = 0; round < 10; round++) {
        uint64_t first = 0;
        uint64_t end = 0;

        for (uint32_t i = 0; i < actions.count; i++) {
            const struct torc_peer_append *append = &actions.items[i].message.append;

            if (actions.items[i].kind == TORC_REPLICA_SHIP && append->count > 0) {
                first = append->first_lsn;
                end = append->first_lsn + append->count;
            }
        }
        if (first == 0) {
            return;
        }
        if (first <= lost_lsn && lost_lsn<end && * losses> 0) {
            (*losses)--;
            return;
        }
        *has = first <= *has + 1 ? torc_max_u64(*has, end - 1) : *has;
        other_says(1, having(*has));
    }
}

// Writes come faster than an answer is missed. A record that is lost again and again is sent again,
// and OTHER, which answers at once, is not taken for one that is behind.
static void lose_under_load(uint32_t losses)
{
    uint64_t has_lsn;
    uint64_t lost_lsn;
    uint64_t longest_ns = 0;
    uint64_t since_ns;

    lead_two();
    has_lsn = replica.last_lsn;
    lost_lsn = replica.last_lsn + 10;
    since_ns = now_ns;
    for (uint32_t i = 0; i < 500; i++) {
        now_ns += MS;
        answer_read();
        heard(TORC_REPLICA_APPENDED, replica.last_lsn + 1);
        ship_to_other(&has_lsn, lost_lsn, &losses);
        CU_ASSERT_FALSE_FATAL(replica.proposal.open);
        since_ns = has_lsn == replica.last_lsn ? now_ns : since_ns;
        longest_ns = torc_max_u64(longest_ns, now_ns - since_ns);
    }
    CU_ASSERT_EQUAL(losses, 0);
    CU_ASSERT_EQUAL(has_lsn, replica.last_lsn);
    CU_ASSERT_TRUE(longest_ns <= 100 * MS);
}

static void what_is_lost_twice_under_load_is_sent_again(void)
{
    for (uint32_t losses = 0; losses <= 5; losses++) {
        lose_under_load(losses);
    }
}

static void other_is_to_lead(void)
{
    struct torc_replica_want want = {.primary_node = OTHER, .node_count = 2, .nodes = {OWN, OTHER}};
    struct torc_replica_event event = {.kind = TORC_REPLICA_WANT, .want = &want};

    step(&event);
}

// A set that is too small commits nothing of its own. Its learners wait until the transfer is over.
static void what_cannot_commit_is_handed_over_when_it_can(void)
{
    lead_two();
    replica.min_in_sync = 3; // as after a removal
    heard(TORC_REPLICA_APPENDED, replica.last_lsn + 1);
    logged(replica.last_lsn);
    other_acknowledges_all();
    CU_ASSERT_TRUE(replica.commit_lsn < replica.last_lsn);
    other_is_to_lead();
    CU_ASSERT_TRUE(torc_replica_serves(&replica));
    replica.min_in_sync = 2; // as after a join
    other_acknowledges_all();
    CU_ASSERT_FALSE(torc_replica_serves(&replica));
    CU_ASSERT_TRUE(replica.transfer_sent);
}

// A stop waits for 5 s.
static void a_transfer_that_nobody_takes_is_tried_again(void)
{
    uint32_t tries = 0;
    uint64_t end_ns;

    lead_two();
    other_is_to_lead();
    end_ns = now_ns + 5000 * MS;
    while (torc_replica_deadline_ns(&replica) < end_ns) {
        bool waits = replica.transfer_sent;

        now_ns = torc_replica_deadline_ns(&replica);
        step(NULL);
        if (replica.proposal.open) { // taken back
            win();
            other_acknowledges_all();
        }
        tries += !waits && replica.transfer_sent ? 1 : 0;
    }
    CU_ASSERT_TRUE(tries >= 4);
    CU_ASSERT_TRUE(tries <= 6);
}

// A transfer is begun and taken back; its compare-and-swap is answered when so many deadlines have
// passed. When the shard serves again.
static uint64_t try_fails(uint32_t deadlines)
{
    uint32_t passed = 0;

    while (passed < deadlines) {
        now_ns = torc_replica_deadline_ns(&replica);
        step(NULL);
        passed += replica.proposal.open ? 1 : 0;
    }
    win();
    other_acknowledges_all();
    heard(TORC_REPLICA_APPLIED, replica.last_lsn);
    CU_ASSERT_EQUAL_FATAL(replica.role, TORC_REPLICA_ACTIVE);
    return now_ns;
}

// How long the next pause is does not hang on how often the machine looked while a swap was open.
static void a_slow_swap_makes_no_pause_longer(void)
{
    uint64_t again_ns;

    lead_two();
    other_is_to_lead();
    try_fails(200);
    again_ns = try_fails(1) + 2 * replica.timing.lonely_ns;
    while (torc_replica_serves(&replica) && now_ns < again_ns + 10000 * MS) {
        now_ns = torc_replica_deadline_ns(&replica);
        step(NULL);
    }
    CU_ASSERT_TRUE(now_ns <= again_ns);
}

static void a_transfer_does_not_wait_for_who_is_gone(void)
{
    struct torc_replica_event event = {.kind = TORC_REPLICA_PEER,
                                       .peer = {.node = OTHER, .boot = 1, .silent = true}};

    lead_two();
    heard(TORC_REPLICA_APPENDED, replica.last_lsn + 1);
    other_is_to_lead();
    CU_ASSERT_FALSE(torc_replica_serves(&replica));
    step(&event);
    CU_ASSERT_TRUE(torc_replica_serves(&replica));
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_PROPOSE));
    CU_ASSERT_EQUAL(replica.proposal.proposal.configuration.member_count, 1);
}

// `node`, of this copy, has the log up to `lsn` on its disk, and the rest of it in memory.
static void has_on_disk(uint32_t node, uint64_t lsn)
{
    peer_says(node, 1,
              (struct torc_peer_ack){.epoch = replica.epoch,
                                     .copy = node,
                                     .received_lsn = replica.last_lsn,
                                     .durable_lsn = lsn,
                                     .usable = true});
}

static void lead_three(uint32_t min_in_sync)
{
    take_over(3, 0);
    has_on_disk(OTHER, replica.last_lsn);
    has_on_disk(THIRD, replica.last_lsn);
    heard(TORC_REPLICA_APPLIED, replica.last_lsn);
    CU_ASSERT_EQUAL_FATAL(replica.role, TORC_REPLICA_ACTIVE);
    replica.min_in_sync = min_in_sync;
    answer_read();
}

static void write_one(void)
{
    heard(TORC_REPLICA_APPENDED, replica.last_lsn + 1);
    logged(replica.last_lsn);
}

// Until a swap is proposed, or so long. Whether one is.
static bool removes_until(uint64_t until_ns)
{
    while (!replica.proposal.open && torc_replica_deadline_ns(&replica) < until_ns) {
        now_ns = torc_replica_deadline_ns(&replica);
        step(NULL);
    }
    return replica.proposal.open;
}

static bool would_keep(uint32_t node)
{
    return torc_replica_is_member(&replica.proposal.proposal.configuration, node, node);
}

// A sync takes longer than lag_ns. A set without it commits nothing at all; and it would join
// again, and have an EPOCH record more to write each time.
static void who_is_only_slow_stays_where_too_few_would_be_left(void)
{
    lead_two();
    for (uint32_t i = 0; i < 20; i++) {
        write_one();
        has_on_disk(OTHER, replica.last_lsn - 1);
        CU_ASSERT_FALSE_FATAL(removes_until(now_ns + 1000 * MS));
        has_on_disk(OTHER, replica.last_lsn);
        CU_ASSERT_EQUAL(replica.commit_lsn, replica.last_lsn);
    }
    replica.min_in_sync = 1;
    write_one();
    CU_ASSERT_TRUE(removes_until(now_ns + 300 * MS));
}

// One whose disk answers nothing any more, or who lost what is not in the log now.
static void who_does_not_get_on_at_all_goes(void)
{
    struct torc_peer_ack ack;

    lead_two();
    write_one();
    CU_ASSERT_TRUE(removes_until(now_ns + 6000 * MS));
    CU_ASSERT_FALSE(would_keep(OTHER));

    lead_two();
    write_one();
    ack = lacking();
    other_says(1, ack);
    CU_ASSERT_TRUE(removes_until(now_ns + 300 * MS));

    lead_two();
    write_one();
    peer_says(OTHER, 2, (struct torc_peer_ack){.epoch = replica.epoch - 1}); // it started anew
    CU_ASSERT_TRUE(removes_until(now_ns + 300 * MS));
}

// The other one that is left has more of it.
static void the_slowest_goes_where_one_may(void)
{
    lead_three(2);
    write_one();
    write_one();
    has_on_disk(OTHER, replica.last_lsn - 2);
    has_on_disk(THIRD, replica.last_lsn - 1);
    CU_ASSERT_TRUE_FATAL(removes_until(now_ns + 1000 * MS));
    CU_ASSERT_FALSE(would_keep(OTHER));
    CU_ASSERT_TRUE(would_keep(THIRD));
}

static void is_silent(uint32_t node)
{
    struct torc_replica_event event = {.kind = TORC_REPLICA_PEER,
                                       .peer = {.node = node, .boot = 1, .silent = true}};

    step(&event);
}

static void who_is_gone_goes_and_who_is_slow_stays(void)
{
    lead_three(2);
    write_one();
    has_on_disk(OTHER, replica.last_lsn);
    has_on_disk(THIRD, replica.last_lsn - 1);
    CU_ASSERT_TRUE(removes_until(now_ns + 300 * MS)); // three are one more than needed
    lead_three(2);
    write_one();
    now_ns += 190 * MS;
    is_silent(OTHER);
    has_on_disk(THIRD, replica.last_lsn - 1);
    CU_ASSERT_TRUE(removes_until(now_ns + 500 * MS));
    CU_ASSERT_FALSE(would_keep(OTHER));
    CU_ASSERT_TRUE(would_keep(THIRD));
}

// The dead one is wished: until it is back there are too few without the other.
static void who_is_surplus_stays_while_another_goes(void)
{
    struct torc_replica_want want = {.primary_node = OWN, .node_count = 2, .nodes = {OWN, OTHER}};
    struct torc_replica_event event = {.kind = TORC_REPLICA_WANT, .want = &want};

    lead_three(2);
    is_silent(OTHER);
    CU_ASSERT_TRUE_FATAL(replica.proposal.open);
    CU_ASSERT_FALSE(would_keep(OTHER));
    lead_three(2);
    replica.want = want;
    is_silent(OTHER);
    CU_ASSERT_TRUE_FATAL(replica.proposal.open);
    CU_ASSERT_FALSE(would_keep(OTHER));
    CU_ASSERT_TRUE(would_keep(THIRD));
    lead_three(2);
    step(&event);
    CU_ASSERT_TRUE_FATAL(replica.proposal.open);
    CU_ASSERT_TRUE(would_keep(OTHER));
    CU_ASSERT_FALSE(would_keep(THIRD));
}

// Its log has records of epoch 7 when it starts. What is on disk cannot be of an epoch that the
// metastore does not know.
static void a_record_below_the_log_at_a_start_went_back(void)
{
    struct torc_replica_start start = {
        .timing = {.lonely_ns = 200 * MS, .retry_ns = 30 * MS},
        .durability = TORC_DURABILITY_DURABLE,
        .shard = 1,
        .node = OWN,
        .boot = 3,
        .copy = 1,
        .min_in_sync = 1,
        .last_lsn = 9,
        .table = {.count = 1, .entries = {{.epoch = 7, .first_lsn = 4}}},
        .log_epoch = 7,
        .has_base = true};
    struct torc_replica_record record = {
        .configuration = {.primary_node = OTHER,
                          .primary_boot = 1,
                          .member_count = 2,
                          .members = {{.node = OWN, .copy = 1}, {.node = OTHER, .copy = 2}}}};
    struct torc_replica_event event = {.kind = TORC_REPLICA_RECORD, .record = &record};
    uint32_t alarms = 0;
    uint32_t reads = 0;

    now_ns = 1000 * MS;
    torc_replica_init(&replica, now_ns, &start);
    step(NULL);
    for (uint32_t i = 0; i < 20; i++) {
        record.configuration.epoch = 1 + i % 6;
        step(&event);
        alarms += asked_for(TORC_REPLICA_ALARM) ? 1 : 0;
        CU_ASSERT_EQUAL(replica.epoch, 0);
        CU_ASSERT_FALSE(asked_for(TORC_REPLICA_ADOPT));
        now_ns = torc_replica_deadline_ns(&replica);
        CU_ASSERT_TRUE_FATAL(now_ns != UINT64_MAX);
        step(NULL);
        reads += asked_for(TORC_REPLICA_READ) ? 1 : 0;
    }
    CU_ASSERT_EQUAL(alarms, 1); // it is said once, and looked at again and again
    CU_ASSERT_EQUAL(reads, 20);
    CU_ASSERT_EQUAL(now_ns, 1000 * MS + 20 * start.timing.lonely_ns);
    record.configuration.epoch = 7; // the right one was put back
    step(&event);
    CU_ASSERT_EQUAL(replica.epoch, 7);
    CU_ASSERT_FALSE(replica.went_back);
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_ADOPT));
}

// A shard that was let go of and given again in one life of the node: a swap of the first time
// whose outcome was not known must not be taken for one of the second.
static void a_nonce_is_minted_once_in_a_boot(void)
{
    uint64_t first;

    take_over(2, 0);
    first = replica.configuration.nonce;
    take_over_at(1001 * MS, 2, 0);
    CU_ASSERT_TRUE(replica.configuration.nonce > first);
}

static void be_deposed(void)
{
    struct torc_replica_record record = {
        .asked_epoch = replica.epoch,
        .configuration = {.epoch = replica.epoch + 1,
                          .primary_node = OTHER,
                          .primary_boot = 1,
                          .member_count = 2,
                          .members = {{.node = OTHER, .copy = 2}, {.node = OWN, .copy = 1}}}};
    struct torc_replica_event event = {.kind = TORC_REPLICA_RECORD, .record = &record};

    step(&event);
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_DEMOTED));
}

// k is for those who were suspected and live; who said that it is sick was rightly relieved.
static void who_was_relieved_by_its_own_word_was_not_suspected(void)
{
    struct torc_replica_event sick = {.kind = TORC_REPLICA_HEALTH, .health = TORC_HEALTH_DISK_FULL};

    lead_alone();
    be_deposed();
    CU_ASSERT_TRUE(asked_for(TORC_REPLICA_ALIVE));
    lead_alone();
    step(&sick);
    be_deposed();
    CU_ASSERT_FALSE(asked_for(TORC_REPLICA_ALIVE));
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a record below the log at a start went back",
         a_record_below_the_log_at_a_start_went_back},
        {"a candidate commits nothing while its predecessor may read",
         a_candidate_commits_nothing_while_its_predecessor_may_read},
        {"a learner whose promise comes last joins a shard that nobody uses",
         a_learner_whose_promise_comes_last_joins_a_shard_that_nobody_uses},
        {"a candidate waits for who may come back", a_candidate_waits_for_who_may_come_back},
        {"a candidate waits for no copy that is gone", a_candidate_waits_for_no_copy_that_is_gone},
        {"who is proposed is sent no base", who_is_proposed_is_sent_no_base},
        {"what the proposed lacks is kept", what_the_proposed_lacks_is_kept},
        {"the base of who joined without it is given up",
         the_base_of_who_joined_without_it_is_given_up},
        {"the base of who is wished no more is given up",
         the_base_of_who_is_wished_no_more_is_given_up},
        {"who begins another base is sent again what it had with the last",
         who_begins_another_base_is_sent_again_what_it_had_with_the_last},
        {"who committed what was given up needs a base",
         who_committed_what_was_given_up_needs_a_base},
        {"who did not commit it cuts it", who_did_not_commit_it_cuts_it},
        {"tables that were cut short say no more than they know",
         tables_that_were_cut_short_say_no_more_than_they_know},
        {"a member keeps what it acknowledged however many epochs went by",
         a_member_keeps_what_it_acknowledged_however_many_epochs_went_by},
        {"what is lost twice under load is sent again",
         what_is_lost_twice_under_load_is_sent_again},
        {"what cannot commit is handed over when it can",
         what_cannot_commit_is_handed_over_when_it_can},
        {"a transfer that nobody takes is tried again",
         a_transfer_that_nobody_takes_is_tried_again},
        {"a slow swap makes no pause longer", a_slow_swap_makes_no_pause_longer},
        {"a base is given up when its primary is another",
         a_base_is_given_up_when_its_primary_is_another},
        {"a base that finds no memory is given up at once",
         a_base_that_finds_no_memory_is_given_up_at_once},
        {"a base in memory is no durable one under the next primary",
         a_base_in_memory_is_no_durable_one_under_the_next_primary},
        {"a base that gave way begins anew", a_base_that_gave_way_begins_anew},
        {"the base of who is wished again begins anew",
         the_base_of_who_is_wished_again_begins_anew},
        {"bases that are lost one after another wait ever longer",
         bases_that_are_lost_one_after_another_wait_ever_longer},
        {"an adoption says whose life is over", an_adoption_says_whose_life_is_over},
        {"who was relieved by its own word was not suspected",
         who_was_relieved_by_its_own_word_was_not_suspected},
        {"a transfer does not wait for who is gone", a_transfer_does_not_wait_for_who_is_gone},
        {"who is only slow stays where too few would be left",
         who_is_only_slow_stays_where_too_few_would_be_left},
        {"who does not get on at all goes", who_does_not_get_on_at_all_goes},
        {"the slowest goes where one may", the_slowest_goes_where_one_may},
        {"who is gone goes and who is slow stays", who_is_gone_goes_and_who_is_slow_stays},
        {"who is surplus stays while another goes", who_is_surplus_stays_while_another_goes},
        {"a nonce is minted once in a boot", a_nonce_is_minted_once_in_a_boot},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("replica", tests);
}
