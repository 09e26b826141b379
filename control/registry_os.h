// Torc control: the cluster as the metastore has it: making it, reading it, starting in it.
//
// What    the records of REPLICATION.md, section 3: `meta`, `node/<id>`, `shard/<id>`,
//         `counter/*`; all of it read at a start, before anything is served.
// Owner   control's one thread. It waits for the metastore here: for what happens while a
//         dataplane serves there is control/follow.h.
// Memory  the metastore, the survey and the table of shards, until torc_registry_close.
// Birth   a cluster begins with nodes 1 to `nodes`; its shards lie on them as the ring has it. One
//         node makes it, all others join: those of the birth and later ones, which have no shard
//         until placement gives them one. A node that comes back without its data is another copy.
// Starts  every start of the dataplane raises the node's boot and start count by compare-and-swap;
//         and with replicas = 1 each shard's epoch, 64 records a transaction (M5), before anything
//         is served (T9). A crash in between leaves some epochs raised and others not: the next
//         start raises all again. Its steps and what they protect: control/starts.h.
// Copies  with `replicated` a dataplane that served and ended without a clean stop has forgotten
//         what it had acknowledged and not written: its node is another copy (REPLICATION.md,
//         section 2).
#ifndef TORC_CONTROL_REGISTRY_OS_H
#define TORC_CONTROL_REGISTRY_OS_H

#include "control/cluster.h"
#include "control/data_dir_os.h"
#include "control/metastore_open_os.h"
#include "control/records.h"
#include "control/survey.h"
#include "kit/network_os.h"
#include "kit/settings.h"

struct torc_registry {
    struct torc_metastore *store;
    struct torc_meta_fields meta;
    struct torc_node_fields node;
    uint64_t node_version;
    struct torc_start_fields start; // control/starts.h
    uint64_t start_version;
    uint64_t disk_copy; // whose records lie on the disk: the node's copy, or one before it
    uint64_t capacity;  // MiB
    uint32_t left_out;  // shards that it is wished for and has no room for, at the last look
    char domain[TORC_RECORD_TEXT_BYTES];
    struct torc_survey *survey; // of all nodes
    struct torc_cluster cluster;
};

// Where the metastore is: the setting, or meta/ in the data directory.
enum torc_err torc_must_use torc_registry_address(const struct torc_settings *settings,
                                                  char *address, uint32_t address_bytes,
                                                  struct torc_fail *why);

// Makes cluster or joins it, then the node and its data directory; the directory last, so that an
// init that was cut short can be run again. INVALID_ARGUMENT: there is a node already, or something
// else; IN_USE: the node is known and had shards that nobody else has; UNAVAILABLE: another node is
// at making the cluster.
enum torc_err torc_must_use torc_registry_make(const struct torc_settings *settings,
                                               struct torc_meta_fields *meta,
                                               struct torc_fail *why);

// Opens the metastore and reads everything; checks it against the settings that were given.
enum torc_err torc_must_use torc_registry_open(struct torc_registry *registry,
                                               const struct torc_settings *settings,
                                               struct torc_data_dir *dir, struct torc_fail *why);
void torc_registry_close(struct torc_registry *registry);

// Before a start: reads everything anew, and finds which shards it is to have: all that this node
// is a member of or has data of, and of those that it is wished for what there is room for beside
// them. Changes nothing. INVALID_ARGUMENT: too few workers; CORRUPT: N1 of control/starts.h.
enum torc_err torc_must_use torc_registry_look(struct torc_registry *registry,
                                               const struct torc_data_dir *dir,
                                               uint32_t worker_count, struct torc_fail *why);

// A start of the dataplane (T9), and torc.node: steps 1 to 3 of control/starts.h. registry->cluster
// has the new boot and epochs, and its shards are found as above.
enum torc_err torc_must_use torc_registry_start(struct torc_registry *registry,
                                                struct torc_data_dir *dir, uint32_t worker_count,
                                                const struct torc_network *network,
                                                struct torc_fail *why);

// Steps 5 and 6: before the first order to a worker, for from here on the life may acknowledge.
// IN_USE: the node was started elsewhere since.
enum torc_err torc_must_use torc_registry_serves(struct torc_registry *registry,
                                                 struct torc_data_dir *dir, struct torc_fail *why);

// After a clean stop: the node's `down` becomes its boot.
enum torc_err torc_must_use torc_registry_down(struct torc_registry *registry,
                                               struct torc_fail *why);

// Worker cores that `workers = auto` means here.
uint32_t torc_registry_workers(const struct torc_settings *settings);

#endif
