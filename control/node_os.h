// Torc control: the life of one node: waiting for a dataplane, rebuilding it, serving, stopping.
//
// What    the loop of torc-control and the states of the node:
//
//           WAITING ──► SCANNING ──► FEEDING ──► REPLAYING ──► SERVING ──► STOPPING ──► ENDED
//              ▲  └────────(a dataplane that runs already: RESUMING)────────►┘ │
//              └──────────────── DRAINING (the dataplane died) ◄───────────────┘
//
// Owner   control's one thread; everything of control hangs off one struct torc_node.
// Memory  the struct and what its parts hold; freed by torc_node_close.
// Idling  the loop turns while something moves and, unless the disk is busy, TORC_NODE_SPIN_NS
//         longer, each turn offering the processor to others; then it blocks on the ring of the
//         disk, which also ends a wait for the workers' doorbell and for an epoll set (channel's
//         socket, admin, HTTP, signals).
// Sources DESIGN.md sections 1, 5, 12; REPLICATION.md T9, section 10; FIELDNOTES.md section 6.
#ifndef TORC_CONTROL_NODE_OS_H
#define TORC_CONTROL_NODE_OS_H

#include "control/admin_http.h"
#include "control/admin_os.h"
#include "control/based_os.h"
#include "control/checkpoint_uring.h"
#include "control/give.h"
#include "control/keys_os.h"
#include "control/metrics.h"
#include "control/recover_uring.h"
#include "control/registry_os.h"
#include "control/rounds.h"

// A bet: as long as a client that waits for a batch of writes takes to send the next one, so that
// its block is not behind a wake-up (40 us where a processor was halted); short enough that a busy
// machine loses little and an idle one nothing. See docs/decisions/0006-group-commit.md.
#define TORC_NODE_SPIN_NS UINT64_C(100000)

// X(NAME, text)
#define TORC_NODE_STATE_TABLE(X) \
    X(WAITING, "waiting")        \
    X(SCANNING, "scanning")      \
    X(FEEDING, "recovering")     \
    X(REPLAYING, "replaying")    \
    X(RESUMING, "resuming")      \
    X(SERVING, "serving")        \
    X(CHECKPOINTING, "stopping") \
    X(YIELDING, "handing over")  \
    X(QUIESCING, "quiescing")    \
    X(DRAINING, "draining")      \
    X(ENDED, "ended")

enum torc_node_state {
#define X(name, text) TORC_NODE_##name,
    TORC_NODE_STATE_TABLE(X)
#undef X
};

// What a worker was told and has said, in this life.
struct torc_node_worker {
    uint32_t shard_at; // next shard to be opened
    bool configured;
    bool recovered;
    bool ordered; // the one order of the present state (HELLO, SERVE, QUIESCE) is out
    bool quiesced;
    uint32_t base_shard; // whose base was in no checkpoint then; 0: none
    bool seen;
    struct torc_evt_control_seen said;
};

struct torc_node {
    const struct torc_settings *settings;
    struct torc_network network;
    struct torc_data_dir dir;
    struct torc_registry registry;
    struct torc_node_meta *meta;     // control/node_meta_os.c
    struct torc_node_yield *yield;   // control/node_yield_os.c
    struct torc_based *based;        // DATA/replicas
    struct torc_give *give;          // control/node_give_os.c
    struct torc_node_accept *accept; // control/node_accept_os.c
    struct torc_node_place *place;   // control/node_place_os.c; NULL: not yet, or never
    uint64_t given_news;             // of the survey, as last looked at
    struct torc_disk *disk;
    struct torc_log_store *store;
    struct torc_admin *admin;
    struct torc_http *http; // NULL: off
    int epoll_fd;
    int signal_fd;
    enum torc_node_state state;
    uint64_t now_ns;
    uint64_t started_ns;
    uint64_t state_ns; // when the state began
    uint64_t slow_ns;  // when admin, signals and the channel's end were looked at
    uint64_t next_look_ns;
    uint64_t notify_ns;
    struct torc_rounds rounds;                   // of checkpoints
    uint64_t space_ns;                           // when the disk's room was looked at
    uint64_t space_log_bytes;                    // of the log, at that moment
    uint64_t free_bytes;                         // what it was
    uint64_t found_ns;                           // when the present dataplane was found
    struct torc_checkpoints_numbers made_before; // in earlier lives of the dataplane
    uint64_t recovered_records;                  // of the last recovery
    uint64_t replayed_records;
    uint64_t numbers[TORC_CONTROL_NUMBER_COUNT];
    bool attached;
    struct torc_attach attach;
    struct torc_node_worker workers[TORC_CHAN_WORKERS_MAX];
    struct torc_recover *recover;
    struct torc_recover_shard *recover_shards;
    struct torc_checkpoints *checkpoints;
    uint32_t asked[TORC_ADMIN_CLIENTS_MAX]; // `checkpoint` requests that wait for the round
    uint32_t asked_count;
    uint64_t asked_kept;                      // checkpoints kept when the first of them came
    struct torc_keys keys;                    // security = keys
    uint64_t keys_sequence;                   // of the table as last written; 0: none in this life
    uint64_t keys_ns;                         // when that was
    bool keys_told;                           // the session thread is rung, or does not sleep
    uint32_t reloads[TORC_ADMIN_CLIENTS_MAX]; // `keys-reload` requests that wait for it
    uint32_t reload_count;
    struct torc_node_sessions *sessions; // a list of sessions is being made, or NULL
    uint32_t stops;                      // how often a stop was asked for
    bool leave;                          // go without stopping the dataplane
    char last_status[96];
    struct torc_fail failure; // why it ended, when it did not end well
};

// Takes the data directory, opens everything but the channel. Makes a node where there is none.
enum torc_err torc_must_use torc_node_open(struct torc_node *node,
                                           const struct torc_settings *settings,
                                           struct torc_fail *why);

// Runs until it is stopped. OK: a clean end.
enum torc_err torc_must_use torc_node_run(struct torc_node *node, struct torc_fail *why);

void torc_node_close(struct torc_node *node);

const char *torc_node_state_name(enum torc_node_state state);

// -- What it says (control/answers_os.c) ---------------------------------------------------------

// Numbers of the parts into node->numbers.
void torc_node_count(struct torc_node *node);

// -- Of the cluster (control/answers_cluster_os.c)

void torc_node_count_cluster(struct torc_node *node);
json_t *torc_node_answer_nodes(struct torc_node *node);
json_t *torc_node_answer_placement(struct torc_node *node);
// Answers `placement`: the same, and each node's share.
json_t *torc_node_answer_places(struct torc_node *node);
// The epoch that the shard is in, as far as is known here: not the one that it was opened in.
uint32_t torc_node_answer_epoch(struct torc_node *node, const struct torc_cluster_shard *shard);
void torc_node_answer_members(struct torc_node *node, uint32_t shard, json_t *line);
// Answers `node`, when it has happened (control/node_yield_os.c).
json_t *torc_node_answer_drain(struct torc_node *node, uint32_t asked, const json_t *request);
// Answers `shard`, when it is known (control/node_accept_os.c).
json_t *torc_node_answer_shard(struct torc_node *node, uint32_t asked, const json_t *request);
void torc_node_advise_cluster(struct torc_node *node, json_t *advice);
void torc_node_advise_meta(struct torc_node *node, json_t *advice); // control/node_meta_os.c

// `context`: the node.
json_t *torc_node_answer(void *context, uint32_t asked, const json_t *request);
void torc_node_page(void *context, const char *path, struct torc_http_page *page);

// Checkpoints of all shards, from now on.
void torc_node_begin_round(struct torc_node *node);

// -- Keys (control/node_keys_os.c) ---------------------------------------------------------------

// Writes the table into the channel of a dataplane just found.
void torc_node_hand_keys(struct torc_node *node);

// Rings until the dataplane has taken it; ends the requests that wait for that.
void torc_node_keys_step(struct torc_node *node);

// Answers `keys` and `keys-reload`.
json_t *torc_node_answer_keys(const struct torc_node *node);
json_t *torc_node_answer_reload(struct torc_node *node, uint32_t asked);

// -- Sessions (control/node_sessions_os.c) -------------------------------------------------------

// Answers `sessions`, when the session thread has filled all pages.
json_t *torc_node_answer_sessions(struct torc_node *node, uint32_t asked, const json_t *request);

// Takes a page that has come and asks for the next.
void torc_node_sessions_step(struct torc_node *node);

// Ends the `checkpoint` requests that wait.
void torc_node_answer_checkpoints(struct torc_node *node);

#endif
