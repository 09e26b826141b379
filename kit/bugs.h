// Torc kit: bugs on purpose. Each is a rule of the protocol that is left out where TORC_BUG stands.
//
// What    the simulator (tests/sim) proves by them that it would have found such a mistake:
//         `scripts/sim --bug NAME` switches one on, and a seed must fail. In every other build
//         TORC_BUG is the constant false and leaves no code behind.
// Owner   the simulator writes torc_bug_on before a run; everybody reads.
// Place   last in its condition where it can be: how often it was met is then how often leaving the
//         rule out would have changed something.
// Adding  one line here, one `if (TORC_BUG(NAME))` at the rule, and a seed that finds it.
#ifndef TORC_KIT_BUGS_H
#define TORC_KIT_BUGS_H

#include "kit/base.h"

// X(NAME, what is left out). The first 54 are, in order, the seeded bugs of the replication
// protocol; the rest are of what one node does.
#define TORC_BUG_TABLE(X)                                                                   \
    X(T7_NO_PROMISE_WAIT, "a takeover does not wait for its own promise")                   \
    X(T7_NO_MEMBER_ACKS, "a takeover does not wait for the members' acks")                  \
    X(TAKEOVER_NOT_IN_SYNC, "a replica that is not in sync takes over")                     \
    X(COPY_IGNORED, "the number of a copy is not compared")                                 \
    X(COMMIT_BY_MAJORITY, "a majority of members commits")                                  \
    X(COMMIT_WITHOUT_PROPOSED, "commits do without a member whose join is undecided")       \
    X(CUT_TO_COMMIT_MARK, "a new primary's members cut to their commit mark")               \
    X(ACK_OLD_EPOCH_APPEND, "an append of an older epoch is acknowledged")                  \
    X(RESTART_FORGETS_PROMISE, "a restarted node forgets what it promised")                 \
    X(LEASE_WITHOUT_PROPOSED, "leases do without a member whose join is undecided")         \
    X(TAIL_NOT_APPLIED, "a new primary does not apply its tail")                            \
    X(REMOVAL_FROM_REQUEST, "a removal counts before its outcome is known")                 \
    X(LEASE_OF_ANY, "one member's lease is enough")                                         \
    X(RESTART_SAME_EPOCH, "a restarted primary goes on in its epoch")                       \
    X(ACK_BEFORE_READ, "a restarted member acknowledges what it has not read yet")          \
    X(NO_CUT, "members of a new epoch do not cut")                                          \
    X(ACK_OF_LAST_EPOCH, "acks of the epoch before count")                                  \
    X(LEASE_FROM_ARRIVAL, "a lease counts from the arrival of its ack")                     \
    X(NOW_BEFORE_POLL, "the time is taken before the poll that brought the read")           \
    X(PROMISE_WITHOUT_EXCEPTIONS, "a promise is for a pair of nodes, without exceptions")   \
    X(PROMISE_WITHOUT_MAXIMUM, "a promise forgets those of earlier epochs")                 \
    X(CLOCK_WITHOUT_LEASE, "clocks and failed conditions are answered without a lease")     \
    X(CEILING_NOT_KEPT, "a successor does not keep the ceiling")                            \
    X(READ_KEEPS_HLC, "reading as of a timestamp does not raise the clock")                 \
    X(READ_SKIPS_PENDING, "reading as of a timestamp does not wait for pending records")    \
    X(CLIENT_WITHOUT_HLC, "clients do not carry the clock")                                 \
    X(FAILED_NOT_REMEMBERED, "failed conditions are not remembered")                        \
    X(COMPLETIONS_LOST, "the memory of finished writes is dropped by an unlogged low")      \
    X(MIN_IN_SYNC_STOPS_TAIL, "too few members also stop the tail of a takeover")           \
    X(DEFINITE_AFTER_UNANSWERED, "a client reports a refusal beside an unanswered attempt") \
    X(JOIN_BASE_IN_MEMORY, "a member joins before its base is durable")                     \
    X(EPOCH_KEEPS_TAIL, "replay does not drop the tail that a later epoch cut")             \
    X(DEMOTED_ANSWERS, "a demoted primary answers its pending writes")                      \
    X(SPLIT_LETS_WRITE_IN, "a split lets a write in before its transaction")                \
    X(PROBE_SKIPPED, "suspicion does without a probe")                                      \
    X(JOIN_BELOW_COMMIT, "a member joins whose ack is below the commit mark")               \
    X(EXCEPTIONS_UNPUBLISHED, "a promise's exceptions do not reach all cores")              \
    X(LARGEST_CEILING, "the largest ceiling counts, not the least")                         \
    X(DOWN_VOIDS_ALL, "one death voids the promises to all")                                \
    X(LEASE_OWN_K, "a lease counts with the primary's own k")                               \
    X(TURN_IGNORED, "replay takes streams in any order of their turns")                     \
    X(LATE_EPOCH_CUTS, "a late EPOCH cuts records of its own epoch")                        \
    X(RELEASE_OUTLIVES, "the release of a transfer outlives the next epoch")                \
    X(LEASE_UNDER_OLD_CLAIM, "a lease counts under an older claim")                         \
    X(K4_OFF, "a client takes a refusal of an attempt that a later one overtook")           \
    X(DELETE_NOT_REMEMBERED, "NOT_FOUND of a delete is not remembered")                     \
    X(WAITING_NOT_CHECKED, "what waits is kept over a demotion and not checked again")      \
    X(CANDIDATE_KEEPS, "a candidate refuses a request and keeps it")                        \
    X(TTL_BY_WALL, "the age of a write is told by the wall clock")                          \
    X(STAMP_UNCHECKED, "a write's stamp is not checked")                                    \
    X(OWN_CEILING_NOT_KEPT, "a reader does not keep its own ceiling")                       \
    X(JOIN_WITHOUT_CEILING, "a member joins without the ceiling")                           \
    X(CEILING_IN_MEMORY, "the ceiling is only in a process's memory")                       \
    X(WALL_FOLLOWS_STEPS, "the clock follows steps of the wall clock")                      \
    X(ACK_BEFORE_DURABLE, "a write is answered when its block is sealed")                   \
    X(MARK_WHEN_TAKEN, "control calls a block durable when it takes it")                    \
    X(FAILED_LOG_GOES_ON, "a block whose write failed counts as written")                   \
    X(CHECKPOINT_NAMED_EARLY, "a checkpoint gets its name before the log reaches its end")  \
    X(TRIM_TOO_MUCH, "the log is trimmed to what is durable")                               \
    X(CUT_NOT_WRITTEN, "the first segment of a life does not say where the life begins")    \
    X(NAMES_NOT_KEPT, "recovery goes by names of checkpoints that need not last")           \
    X(DUPLICATE_RUNS, "a copy of a finished write is executed again")                       \
    X(UNDO_IGNORED, "reading the past takes a leaf as it is now")                           \
    X(RECORD_OF_LAST_COPY, "a record counts that was read for a copy that is gone")         \
    X(ACK_OF_LAST_COPY, "acks of a copy that is gone count for the next one")               \
    X(CONFIRM_NOT_ASKED, "reads that are to be confirmed do not wait for a beat")           \
    X(STOP_KEEPS_PRIMARIES, "a node stops before others lead its shards")                   \
    X(ACCEPT_HEARD, "a loss is accepted though a member is heard")                          \
    X(ACCEPT_HALF, "a loss is accepted for a copy that is half of one")                     \
    X(LOSS_IGNORED, "a learner keeps what was committed before an accepted loss")           \
    X(LOSS_UNSEEN, "an accepted loss goes from the record before anybody saw it")           \
    X(LEADER_GOES_ON, "placement's leader goes on when another one leads")                  \
    X(LEADER_OLD_WISHES, "a new leader of placement goes on from what it once read")        \
    X(ALIVE_NOT_SAID, "a node without shards does not show that it is there")               \
    X(PLACE_IS_THERE, "a new leader takes any node with a place for one that is there")     \
    X(MOVE_REMOVES_FIRST, "a replica goes before the one that is to come is a member")      \
    X(LINES_KEPT, "what others have by now is not let go of at a start")                    \
    X(RUNG_TOO_EARLY, "control rings for orders before it gives the last ones")             \
    X(CANDIDATE_COMMITS, "a candidate commits before promises to its predecessor have ended")

enum torc_bug {
#define X(name, text) TORC_BUG_##name,
    TORC_BUG_TABLE(X)
#undef X
    TORC_BUG_COUNT
};

#ifdef TORC_SIM
extern bool torc_bug_on[TORC_BUG_COUNT];      // kit/bugs.c, and models
extern uint64_t torc_bug_met[TORC_BUG_COUNT]; // how often its place was met

static inline bool torc_bug(enum torc_bug bug)
{
    torc_bug_met[bug]++;
    return torc_bug_on[bug];
}

#define TORC_BUG(name) (torc_bug(TORC_BUG_##name))
#else
#define TORC_BUG(name) false
#endif

#endif
