// Torc control: what the metastore says of the whole cluster: its shards and its nodes.
//
// What    the newest record known of every shard and node; which shards this node has a part in;
//         the map table of the channel, which clients get.
// Owner   control's one thread. Pure.
// Memory  the caller's, 1.5 MB, touched as it fills.
// Trust   a survey is as old as the last record put into it. Nothing decides by it what a
//         linearizable read has to (REPLICATION.md M1): it shows the way, and says whom to ask.
// Invariants
//   V1  a record is never replaced by one of a lower version.
//   V2  the map is written only from shards that tile [0, keys): records of a split come one by
//       one, and what a reader has is better than half of it.
// Sources REPLICATION.md, section 3.
#ifndef TORC_CONTROL_SURVEY_H
#define TORC_CONTROL_SURVEY_H

#include "control/cluster.h"
#include "control/metastore.h"
#include "control/records.h"

#define TORC_SURVEY_ADDRESS_BYTES 48u // of IPv6 as text

struct torc_survey_shard {
    uint64_t lo;
    uint64_t hi;
    uint64_t version;
    uint64_t listed; // the last list that showed it
    uint64_t primary_boot;
    uint32_t shard;
    uint32_t epoch;
    uint32_t primary_node;
    uint32_t member_count;
    uint32_t loss_count;          // accepted and not acknowledged
    bool born_empty;              // not of other shards
    struct torc_record_loss loss; // the last of them
    struct torc_record_member members[TORC_CHAN_MEMBERS_MAX];
};

struct torc_survey_node {
    uint64_t version;
    uint64_t listed; // as above
    uint64_t boot;
    uint64_t down;
    uint64_t leaving;
    uint64_t copy;
    uint32_t node;
    uint32_t state; // enum torc_record_node_state
    uint16_t base_port;
    uint8_t cores;
    char address[TORC_SURVEY_ADDRESS_BYTES]; // empty: none
    char address6[TORC_SURVEY_ADDRESS_BYTES];
};

// What placement wishes for a shard.
struct torc_survey_want {
    uint64_t version;
    uint64_t listed; // as above
    uint32_t shard;
    uint32_t primary; // 0: no wish
    uint32_t node_count;
    uint32_t nodes[TORC_CHAN_MEMBERS_MAX];
};

struct torc_survey {
    uint64_t keys;
    uint64_t revision; // highest that is known of
    uint64_t lists;    // taken
    uint64_t changes;  // of all records
    uint32_t shard_count;
    uint32_t node_count;
    uint32_t want_count;
    uint32_t shard_at; // found last: the next search begins there
    uint32_t want_at;
    struct torc_survey_shard shards[TORC_CHAN_MAP_ENTRIES]; // by lo, then by number
    struct torc_survey_node nodes[TORC_CHAN_NODES_MAX];     // by number
    struct torc_survey_want wants[TORC_CHAN_MAP_ENTRIES];   // as they came
};

// Takes a record in, of the families `shard`, `node` and `want`; others are ignored. *changed: it
// is news. CORRUPT, UNSUPPORTED_VERSION, LIMIT; then nothing changed.
enum torc_err torc_must_use torc_survey_put(struct torc_survey *survey,
                                            const struct torc_meta_record *record, bool *changed,
                                            struct torc_fail *why);

// The record is gone. False: it was not here.
bool torc_survey_drop(struct torc_survey *survey, const char *key);

// A list of a family follows, record by record. Then: what it did not show and has no version above
// the list's revision is gone; true: something was.
void torc_survey_list(struct torc_survey *survey);
bool torc_survey_sweep(struct torc_survey *survey, const char *prefix, uint64_t revision);

// CORRUPT when the shards do not tile the key space (V2); the text says where.
enum torc_err torc_must_use torc_survey_check(const struct torc_survey *survey,
                                              struct torc_fail *why);

struct torc_survey_shard *torc_survey_shard(struct torc_survey *survey, uint32_t shard);
struct torc_survey_node *torc_survey_node(struct torc_survey *survey, uint32_t node);
struct torc_survey_want *torc_survey_want(struct torc_survey *survey, uint32_t shard);

// Whether `node` is one of the shard's members.
bool torc_survey_has(const struct torc_survey_shard *shard, uint32_t node);

// Whether it is one of them, or wished to be.
bool torc_survey_concerns(struct torc_survey *survey, const struct torc_survey_shard *shard,
                          uint32_t node);

// What `seats` says of each node, by number.
enum torc_survey_seat {
    TORC_SURVEY_UNWISHED, // in sync nowhere, as is wished
    TORC_SURVEY_MISSED,   // in sync nowhere, but wished somewhere: it learns, or is away
    TORC_SURVEY_SEATED,   // a member of some shard
};

void torc_survey_seats(struct torc_survey *survey, uint8_t seats[TORC_RECORD_NODE_MAX + 1]);

// `node` says that it is primary of an epoch, before the record was read that says so. True: news.
bool torc_survey_lead(struct torc_survey *survey, uint32_t shard, uint32_t epoch, uint32_t node,
                      uint64_t boot);

// Writes the map table. Cores are known of this node's own shards alone, as `cluster` gave them
// out. `nodes`: of the survey's nodes, with their addresses as bytes.
void torc_survey_write_map(const struct torc_survey *survey, const struct torc_cluster *cluster,
                           const struct torc_chan_node *nodes, uint32_t node_count,
                           struct torc_chan_map *map);

#endif
