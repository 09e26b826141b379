// Torc control: the leader of placement: who may say where shards should lie, and saying it.
//
// What    every node's control has one of these machines; one of them leads. It reads the nodes'
//         records, gives new nodes their place on the ring, plans (control/placement.h) and writes
//         what changed as `want` records, some at a time.
// Leading whoever put its name into the record `placement` by compare-and-swap. A leader puts a new
//         `beat` into it now and then; the others read it, and take over when it has stood still
//         for `lease_ns` by their own clocks. Every transaction of a leader begins with a swap of
//         this record, so that it happens only while it leads; a plain beat is one without wishes.
//         Nobody's safety depends on any of it (M4): shards move by swaps of their own.
// Asks    torc_leader_next says what to submit to the metastore, torc_leader_take takes the answer;
//         one request is under way at a time. It is called again when an answer has come, at
//         torc_leader_deadline_ns, and after torc_leader_wake.
// Owner   control's one thread. Pure.
// Memory  struct torc_leader (0.3 MB) and what it is given at init: a placement (4.7 MB) and 66 B a
//         shard.
// Nodes   count as in service, or as `state` of their record says. One that is down (`down` is its
//         boot, or it has never started) keeps what it has and gets nothing; after `gone_ns` of
//         that it is drained, as long as more than half of all nodes are up. A node whose record is
//         deleted is gone at once.
// Silent  nobody writes the `down` of a machine that died: only its own control knows of it. But
//         primaries take it out of their shards. Who is wished and in sync nowhere (`seats`) for
//         `gone_ns` counts as down, until it is in sync somewhere, starts again or shows itself.
// Shows   who has no shard and is wished none writes its record anew now and then, with nothing but
//         the nonce changed (control/placer.h). Who has a place on the ring and nothing else gets
//         nothing before this leader has seen that, a start or a shard of it: else each new leader
//         would wish the share of a dead machine again. Who is given up again without having been
//         in sync meanwhile (the metastore hears it, and other nodes do not) has to wait for
//         twice, four and at most eight times `gone_ns`.
// Invariants
//   D1  only records of the families placement, want and node are written, and of a node only zone
//       and slot.
//   D2  a term has one leader.
//   D3  a leader plans from what is wished: a new one goes on where the one before it stopped.
//   D4  what it cannot read it does not guess: a record that makes no sense stops the planning, and
//       `why` says so; beats go on.
// Sources REPLICATION.md M2, M4, M5; docs/decisions, number 22.
#ifndef TORC_CONTROL_LEADER_H
#define TORC_CONTROL_LEADER_H

#include "control/placement.h"
#include "control/records.h"
#include "control/survey.h"
#include "control/swap.h"

#define TORC_LEADER_WANTS_MAX  64u // of a transaction (M5)
#define TORC_LEADER_SLOTS_MAX  16u // nodes that get their place in one
#define TORC_LEADER_TEXT_BYTES 40960u

// What is wished of a shard, as it is written. 0 nodes: nothing.
struct torc_leader_want {
    uint16_t nodes[TORC_PLACEMENT_REPLICAS_MAX];
    uint16_t primary;
    uint8_t count;
};

struct torc_leader_config {
    uint64_t ticket; // of its requests
    uint64_t nonce;  // random: where its nonces begin
    uint64_t boot;
    uint32_t node;
    uint32_t replicas;
    uint64_t lease_ns;  // a change's deadline is a quarter of it at most, a list's a half
    uint64_t beat_ns;   // below a third of lease_ns
    uint64_t pace_ns;   // between two transactions with wishes
    uint64_t gone_ns;   // down for so long, a node is drained
    uint64_t rescan_ns; // new shards are looked for so often
    struct torc_placement *placement;
    struct torc_placement_shard *shards; // shard_max of each
    struct torc_placement_shard *spare;
    struct torc_leader_want *written;
    uint32_t shard_max;
};

enum torc_leader_state {
    TORC_LEADER_FOLLOWS,
    TORC_LEADER_CLAIMS, // is about to take over
    TORC_LEADER_LEADS,
    TORC_LEADER_STOPPED, // the metastore went back (M3): an operator's business
};

enum torc_leader_stage { // of who leads
    TORC_LEADER_SHARDS,  // are to be listed
    TORC_LEADER_WANTS,
    TORC_LEADER_NODES,
    TORC_LEADER_WRITES, // what is planned and not yet written
    TORC_LEADER_RESTS,
};

enum torc_leader_batch { // what a swap is for
    TORC_LEADER_CLAIM,
    TORC_LEADER_BEAT,
    TORC_LEADER_WISH,
    TORC_LEADER_PLACE, // slots
    TORC_LEADER_TIDY,  // wishes of shards that are no more
};

enum torc_leader_flight {
    TORC_LEADER_NOTHING,
    TORC_LEADER_GET,
    TORC_LEADER_LIST,
    TORC_LEADER_SWAP,
};

struct torc_leader_node {
    uint64_t boot;
    uint64_t domain; // its text's hash; 0: it has none
    uint32_t capacity;
    uint16_t node;
    uint16_t zone;
    uint16_t slot; // as in the record: 0 is none
    uint8_t state;
    bool down;
};

// What a leader knows of a node's boot: since when it has been down, or in no shard that it should
// be in, and whether it has shown itself.
struct torc_leader_down {
    uint64_t boot;
    uint64_t since_ns; // 0: it is not
    bool listed;       // in the list that is being read
    bool given_up;     // after `gone_ns` of it
    bool there;        // it has shown itself since this leader began, or gave it up
    uint8_t times;     // that it was given up since it was in sync anywhere
    uint64_t again_ns; // what it says before that does not end its being given up
    uint64_t nonce;    // of its record, as last read
    uint64_t rest;     // hash of the record without it; 0: not read yet
};

// X(name, help)
#define TORC_LEADER_COUNTER_TABLE(X)                      \
    X(terms, "times this node became placement's leader") \
    X(lost, "times another node took the lead from it")   \
    X(beats, "transactions that it won as the leader")    \
    X(plans, "placements computed")                       \
    X(moves, "replicas that plans put on another node")   \
    X(wants, "wishes written")                            \
    X(refused, "wishes that the metastore did not take")  \
    X(slots, "nodes that were given their place on the ring")

struct torc_leader_counters {
#define X(name, help) uint64_t name;
    TORC_LEADER_COUNTER_TABLE(X)
#undef X
};

struct torc_leader {
    struct torc_leader_config config;
    struct torc_leader_counters counters;
    enum torc_leader_state state;
    enum torc_leader_stage stage;
    enum torc_leader_flight flight;
    struct torc_fail why; // it does not plan, or does not lead; err OK: nothing is wrong
    // The record `placement`
    struct torc_placement_fields record;
    uint64_t version; // as last read or written
    uint64_t seen_ns; // since when it has not changed, as far as is known
    uint64_t asked_ns;
    uint64_t nonce_count;
    // Times
    uint64_t poll_at_ns;
    uint64_t beat_at_ns;
    uint64_t pace_at_ns;
    uint64_t retry_at_ns; // of lists
    uint64_t rescan_at_ns;
    uint64_t gone_at_ns;
    bool woken;
    bool planned; // by this leader, with all shards that there are
    // What there is
    uint32_t shard_count;
    uint32_t node_count;
    uint32_t table_count;
    uint32_t cursor; // shards before it are written
    uint32_t batch_max;
    struct torc_leader_down down[TORC_PLACEMENT_IDS];
    uint8_t seats[TORC_PLACEMENT_IDS]; // enum torc_survey_seat, by node
    struct torc_leader_node nodes[TORC_PLACEMENT_IDS];
    struct torc_placement_node table[TORC_PLACEMENT_IDS];
    // The transaction under way
    struct torc_swap swap;
    enum torc_leader_batch batch;
    uint32_t batch_count;
    uint32_t op_count;
    uint32_t text_bytes;
    uint32_t places[TORC_LEADER_WANTS_MAX]; // of the shards in it
    struct torc_meta_op ops[TORC_LEADER_WANTS_MAX + 1];
    char names[TORC_LEADER_WANTS_MAX + 1][TORC_RECORD_NAME_BYTES];
    char text[TORC_LEADER_TEXT_BYTES];
};

void torc_leader_init(struct torc_leader *leader, const struct torc_leader_config *config,
                      uint64_t now_ns);

// Records of nodes have changed (a watch).
void torc_leader_wake(struct torc_leader *leader);

// Where nodes are members (torc_survey_seats), whenever that may have changed.
void torc_leader_seat(struct torc_leader *leader, const uint8_t seats[TORC_PLACEMENT_IDS]);

// True: submit `request` (its deadline is the caller's to set); it counts as submitted then.
bool torc_must_use torc_leader_next(struct torc_leader *leader, uint64_t now_ns,
                                    struct torc_meta_request *request);

void torc_leader_take(struct torc_leader *leader, uint64_t now_ns,
                      const struct torc_meta_answer *answer);

// When torc_leader_next may have something to say again; UINT64_MAX: when an answer has come.
uint64_t torc_leader_deadline_ns(const struct torc_leader *leader);

// It leads, and all that it wishes is written.
bool torc_leader_is_settled(const struct torc_leader *leader);

#endif
