// Torc tests: a control process in memory, for tests of the dataplane without one.
//
// What    holds control's ends of one worker's rings: prepares segments, takes sealed blocks out of
//         the log ring, checks them, keeps them, and answers with durable marks; keeps checkpoints;
//         recovers a new worker from what it kept. Faults on demand: a disk that is slow, full,
//         failed; control that is away.
// Owner   the test's thread, between two turns of the worker.
// Memory  malloc, freed by torc_fake_control_free; it outlives the channel, like a disk.
// Life    torc_fake_control_init, then for each life of the dataplane torc_fake_control_attach with
//         a channel and torc_fake_control_start (recovery), and torc_fake_control_step as often as
//         wanted.
#ifndef TORC_TESTS_FAKE_CONTROL_H
#define TORC_TESTS_FAKE_CONTROL_H

#include "tests/fake_meta.h"

#define TORC_FAKE_SHARDS_MAX     16u
#define TORC_FAKE_EVENTS_MAX     64u
#define TORC_FAKE_PRINCIPALS_MAX 4u

// What is on the "disk": one sealed block.
struct torc_fake_block {
    unsigned char *bytes;
    uint32_t byte_count;
    uint64_t sequence;
};

struct torc_fake_checkpoint {
    unsigned char *bytes;
    uint64_t byte_count;
    uint64_t number;
    uint64_t start_sequence;
    uint32_t shard;
    bool complete;
};

struct torc_fake_shard {
    uint64_t lo;
    uint64_t hi;
    uint32_t shard;
    uint32_t epoch; // rises at every start
    uint32_t node;  // who has it; 1 and worker 0 unless the test says otherwise
    uint8_t core;
    uint32_t turn;
    bool ready;
    bool absent;                      // replicas: it was taken away
    bool leaving;                     // SHARD_GONE was ordered
    bool based;                       // replicas: what is kept here is a whole prefix of the shard
    uint64_t changed_told;            // replicas: up to here the metastore's changes were told
    uint64_t want_told;               // likewise
    struct torc_fake_checkpoint kept; // the last complete one
    struct torc_fake_checkpoint making; // coming in
    struct torc_evt_checkpoint made;    // what the worker said of it; checkpoint 0: nothing yet
};

struct torc_fake_control {
    struct torc_chan_ports ports;
    void *chan;
    uint64_t chan_bytes;
    uint32_t index; // of the worker
    // What the cluster is.
    uint64_t cluster;
    uint64_t key_count;
    uint64_t boot;
    uint32_t node;
    uint32_t segment_bytes;
    uint32_t value_bytes_max;
    uint8_t durability;
    uint8_t security; // enum torc_security
    uint32_t sessions_max;
    uint32_t shard_count;
    struct torc_fake_meta *meta; // replicas: all shards have other members; NULL: none has
    struct torc_fake_shard shards[TORC_FAKE_SHARDS_MAX];
    // The table of keys, for each life anew.
    struct torc_chan_principal principals[TORC_FAKE_PRINCIPALS_MAX];
    uint32_t principal_count;
    // The disk.
    struct torc_fake_block *blocks;
    uint64_t block_count;
    uint64_t block_room;
    uint64_t durable;         // told
    uint64_t next_checkpoint; // number
    uint32_t segment;         // last prepared
    uint32_t segments_ahead;  // how many to keep prepared
    uint32_t segments_used;   // seen in blocks
    uint32_t written_segment; // of the last block
    uint32_t written_bytes;   // where it ended
    // How far recovery was sent.
    bool feeding;
    uint32_t feed_shard;
    uint64_t feed_block;
    uint64_t feed_offset;
    // Faults.
    bool away;        // does nothing at all
    bool disk_stuck;  // takes blocks, says nothing
    bool disk_full;   // prepares no further segment
    bool disk_failed; // says so once
    bool told_full;
    bool told_failed;
    bool late;            // the next answer to READ waits until it is over
    struct torc_cmd held; // kind 0: none
    // What the worker said.
    uint32_t event_count;
    struct torc_evt events[TORC_FAKE_EVENTS_MAX];
    bool quiesced;
    uint64_t gone; // shards taken away
};

void torc_fake_control_init(struct torc_fake_control *control, uint64_t key_count,
                            uint32_t shard_count);

// A new life of the dataplane, or of control: the ends of the rings.
enum torc_err torc_must_use torc_fake_control_attach(struct torc_fake_control *control, void *chan,
                                                     uint64_t chan_bytes, uint32_t index,
                                                     struct torc_fail *why);

// CONFIGURE, the map, SHARD_OPEN and all that was kept for each shard; RECOVERED. Returns what
// could not be put into rings yet: call again, with turns of the worker between, until it is true.
bool torc_fake_control_start(struct torc_fake_control *control);

// The table of keys (worker 0's control): now if there is a dataplane, and when each life begins.
void torc_fake_control_keys(struct torc_fake_control *control,
                            const struct torc_chan_principal *list, uint32_t count);

// SERVE, once every shard is ready (looked at by the caller).
void torc_fake_control_serve(struct torc_fake_control *control);

// One look at all rings.
void torc_fake_control_step(struct torc_fake_control *control, uint64_t boottime_ns);

// Orders a checkpoint of shard `index` of the table.
void torc_fake_control_checkpoint(struct torc_fake_control *control, uint32_t index);

void torc_fake_control_order(struct torc_fake_control *control, enum torc_cmd_kind kind);

// CONTROL_HELLO of the control that has this number.
void torc_fake_control_hello(struct torc_fake_control *control, uint32_t number);

bool torc_fake_control_ready(const struct torc_fake_control *control);

// Forgets blocks above `sequence`: what a power cut leaves.
void torc_fake_control_cut(struct torc_fake_control *control, uint64_t sequence);

// An empty disk.
void torc_fake_control_wipe(struct torc_fake_control *control);

void torc_fake_control_free(struct torc_fake_control *control);

#endif
