// Torc kit: every key of the configuration, in one table.
//
// What    names, kinds, defaults, ranges and help of all settings; parsing of values; the nearest
//         name for an unknown key; the commented INI file and the table of docs/OPERATIONS.md,
//         both made from the table. Reading files and command lines: kit/settings_os.h.
// Owner   whoever holds the struct: pure functions.
// Memory  inside struct torc_settings; texts are cut nowhere, too long is an error.
// Who reads  torc-control, torc-dataplane and `torc serve` (and `torc init`, which is
//            torc-control's).
// Kinds   what a value looks like, and what the field holds:
//           NUMBER   decimal or 0x…                              uint64_t
//           BYTES    a number with K, M, G or T (powers of 1024)  uint64_t
//           MS       a number with ms, s, m or h; bare: ms        uint64_t, milliseconds
//           S        a number with s, m or h; bare: s             uint64_t, seconds
//           CHOICE   one of `words`                               uint64_t, index into them
//           TEXT     anything on one line                         char[TORC_SETTINGS_TEXT_BYTES]
//         A number whose default is `auto` holds 0 for it: the program decides at start, and says
//         so.
// Invariants
//   K1  Whatever torc_settings_set accepted lies in its range; what depends on two keys is looked
//       at after all were set: by torc_settings_check_given, and by torc_settings_check once the
//       cluster is known.
//   K2  torc_settings_ini's text, read back, gives the settings it was made from.
#ifndef TORC_KIT_SETTINGS_H
#define TORC_KIT_SETTINGS_H

#include "kit/fail.h"
#include "kit/memif.h"

#define TORC_SETTINGS_TEXT_BYTES 256
#define TORC_SETTINGS_INI_BYTES  (32u << 10) // room for torc_settings_ini, shown by a test

// A thread of DPDK's (RTE_MAX_LCORE, 128 as Debian builds it) is the dataplane's main thread.
#define TORC_SETTINGS_WORKERS_MAX 127

// X(KIND, field, key, section, default, least, greatest, words, help)
#define TORC_SETTINGS_TABLE(X)                                                                     \
    /* -- the node */                                                                              \
    X(TEXT, data, "data", "node", "", 0, 0, "",                                                    \
      "data directory; empty: /var/lib/torc for root, else $XDG_DATA_HOME/torc")                   \
    X(NUMBER, node, "node", "node", "1", 1, 4095, "", "this node's id in its cluster")             \
    X(TEXT, metastore, "metastore", "node", "", 0, 0, "",                                          \
      "file:PATH (one machine), etcd:HOST:PORT,...[/NAME]; empty: meta/ in the data directory")    \
    X(TEXT, metastore_user, "metastore-user", "node", "", 0, 0, "", "name at etcd; empty: none")   \
    X(TEXT, metastore_password_file, "metastore-password-file", "node", "", 0, 0, "",              \
      "file whose first line is the password at etcd")                                             \
    X(TEXT, metastore_ca, "metastore-ca", "node", "", 0, 0, "",                                    \
      "PEM file of who signed etcd's certificate; makes it https")                                 \
    X(TEXT, metastore_cert, "metastore-cert", "node", "", 0, 0, "",                                \
      "PEM file of this node's own certificate for etcd; makes it https")                          \
    X(TEXT, metastore_key, "metastore-key", "node", "", 0, 0, "",                                  \
      "PEM file of that certificate's key")                                                        \
    X(TEXT, domain, "domain", "node", "", 0, 0, "",                                                \
      "what fails together with this node, a rack say; empty: nothing else does")                  \
    X(CHOICE, read_mode, "read-mode", "node", "lease", 0, 1, "lease confirm",                      \
      "lease: reads trust clocks' rates; confirm: each asks all copies in sync, a round trip")     \
    X(TEXT, admin_http, "admin-http", "node", "auto", 0, 0, "",                                    \
      "host:port of /metrics, /health, /ready; auto: 127.0.0.1:(28600 + node); off")               \
    X(TEXT, admin_group, "admin-group", "node", "torc", 0, 0, "",                                  \
      "group that may use run/admin.sock beside root and the server's own user")                   \
    X(CHOICE, log_level, "log-level", "node", "info", 0, 3, "error warn info debug",               \
      "least severity of the event log on stderr")                                                 \
    /* -- the network */                                                                           \
    X(TEXT, port, "port", "network", "auto", 0, 0, "",                                             \
      "auto, af_xdp, af_packet, tap, memif (no other port), or a PCI address (0000:3b:00.0)")      \
    X(TEXT, link, "link", "network", "auto", 0, 0, "",                                             \
      "kernel link to open; auto: torc<node>, made with its peer torc<node>h if missing")          \
    X(TEXT, address, "address", "network", "auto", 0, 0, "",                                       \
      "IPv4 address/prefix the node answers for; auto: 10.79.0.(10 + node)/24 to node 244; off")   \
    X(TEXT, address6, "address6", "network", "auto", 0, 0, "",                                     \
      "IPv6 address/prefix; auto: fd79:: plus (10 + node), /64; off")                              \
    X(NUMBER, base_port, "base-port", "network", "28700", 1024, 65280, "",                         \
      "UDP port of core 0; core n listens on base-port + n")                                       \
    X(NUMBER, mtu, "mtu", "network", "1500", 1280, 9000, "", "largest IP packet on the link")      \
    X(NUMBER, memif_slots, "memif-slots", "network", "0", 0, TORC_MEMIF_SLOTS_MAX, "",             \
      "shared-memory ports for clients of this machine, one client each")                          \
    X(TEXT, memif_socket, "memif-socket", "network", "auto", 0, 0, "",                             \
      "name of their sockets, before -<slot>; auto: run/memif in the data directory")              \
    /* -- processors and memory */                                                                 \
    X(NUMBER, workers, "workers", "machine", "auto", 0, TORC_SETTINGS_WORKERS_MAX, "",             \
      "worker cores; auto: all cores but one, at least 1")                                         \
    X(TEXT, cores, "cores", "machine", "auto", 0, 0, "",                                           \
      "processors of the workers, one each, as in 1-3,5; auto: they float over all")               \
    X(CHOICE, poll, "poll", "machine", "auto", 0, 1, "auto busy",                                  \
      "auto: idle workers block on their port; busy: they never sleep")                            \
    X(CHOICE, huge, "huge", "machine", "auto", 0, 2, "auto yes no",                                \
      "hugepages: auto: where there are free ones; yes: refuse to start without")                  \
    X(BYTES, dpdk_memory, "dpdk-memory", "machine", "auto", 64u << 20, UINT64_C(64) << 30, "",     \
      "bound of the packet buffers' heap; auto: what workers and mtu ask for, 128M at least")      \
    X(BYTES, memory, "memory", "machine", "auto", 0, UINT64_C(1) << 46, "",                        \
      "pool of trees and small values of the whole node, touched as it fills; auto: half the RAM") \
    X(BYTES, touch_ahead, "touch-ahead", "machine", "32M", 0, UINT64_C(1) << 46, "",               \
      "of the pool, each worker: made resident before it is used; 0: when it is used")             \
    X(BYTES, large_memory, "large-memory", "machine", "auto", 0, UINT64_C(1) << 46, "",            \
      "memory of values too large for the pool's leaves; auto: an eighth of the RAM")              \
    /* -- the cluster: fixed when it is made, by init or by the first start */                     \
    X(NUMBER, keys, "keys", "cluster", "1000000000", 1, UINT64_MAX, "",                            \
      "M: keys are integers in [0, M)")                                                            \
    X(NUMBER, shards, "shards", "cluster", "auto", 0, 4096, "",                                    \
      "equal pieces the key space is cut into; auto: 4 per worker core of all nodes it begins "    \
      "with, as its maker counts its own")                                                         \
    X(NUMBER, nodes, "nodes", "cluster", "1", 1, 256, "",                                          \
      "how many nodes it begins with, numbered from 1; more may join later")                       \
    X(NUMBER, replicas, "replicas", "cluster", "1", 1, 7, "", "copies of each shard")              \
    X(CHOICE, durability, "durability", "cluster", "durable", 0, 2, "durable replicated none",     \
      "when a write is acknowledged: on disk, in memory of all replicas, or in memory here")       \
    X(CHOICE, security, "security", "cluster", "keys", 0, 1, "clear keys",                         \
      "keys: clients show one, sessions are encrypted; clear: checksums only, isolated networks")  \
    X(BYTES, value_max, "value-max", "cluster", "1M", 0, 1u << 20, "", "largest value")            \
    X(S, dedup_ttl_s, "dedup-ttl", "cluster", "120s", 10, 86400, "",                               \
      "how long the answer to a write is kept for its repetitions")                                \
    /* -- placement: read by whoever leads it, so the same in all nodes */                         \
    X(S, placement_gone_s, "placement-gone", "placement", "10m", 1, 31536000, "",                  \
      "how long a node is down before its copies are made anew on others")                         \
    X(MS, placement_pace_ms, "placement-pace", "placement", "100ms", 1, 3600000, "",               \
      "pause between two batches of up to 64 shards that are given other nodes")                   \
    X(MS, placement_lease_ms, "placement-lease", "placement", "5s", 4000, 600000, "",              \
      "silence of who leads placement after which another node does; it beats 5 times as often")   \
    /* -- the disk */                                                                              \
    X(BYTES, segment_bytes, "segment-bytes", "disk", "64M", 4u << 20, 1u << 30, "",                \
      "size of a log segment, a multiple of 1 MiB; zero-written ahead and reused")                 \
    X(NUMBER, log_inflight, "log-inflight", "disk", "8", 1, 64, "",                                \
      "log writes in flight at once")                                                              \
    X(BYTES, checkpoint_bytes, "checkpoint-bytes", "disk", "1G", 16u << 20, UINT64_C(1) << 40, "", \
      "log bytes after which a round of checkpoints begins")                                       \
    X(CHOICE, checkpoint_on_stop, "checkpoint-on-stop", "disk", "yes", 0, 1, "no yes",             \
      "write checkpoints at a clean stop, for a faster start")                                     \
    X(MS, checkpoint_wait_ms, "checkpoint-wait", "disk", "60s", 0, 480000, "",                     \
      "longest that a stop waits for its checkpoints; what has none is replayed from the log")     \
    X(MS, control_grace_ms, "control-grace", "disk", "500ms", 50, 600000, "",                      \
      "silence of torc-control after which writes are refused")                                    \
    X(MS, handover_ms, "handover", "disk", "5s", 0, 600000, "",                                    \
      "longest that a stop waits for other nodes to take its shards over; 0: it does not")         \
    X(S, lock_wait_s, "lock-wait", "disk", "10s", 0, 3600, "",                                     \
      "how long a start waits for the data directory's last owner to let go")                      \
    /* -- limits told to clients in the handshake */                                               \
    X(NUMBER, packet_ops_max, "packet-ops-max", "limits", "64", 1, 64, "",                         \
      "operations in one packet")                                                                  \
    X(NUMBER, inflight_ops_max, "inflight-ops-max", "limits", "256", 16, 4096, "",                 \
      "operations in flight per lane and core")                                                    \
    X(NUMBER, inflight_packets_max, "inflight-packets-max", "limits", "64", 4, 64, "",             \
      "packets in flight per lane and core")                                                       \
    X(NUMBER, cursors_max, "cursors-max", "limits", "16", 1, 256, "",                              \
      "open ranges per lane and core")                                                             \
    X(NUMBER, message_window, "message-window", "limits", "16", 1, 64, "",                         \
      "fragments of a large value in flight")                                                      \
    X(BYTES, message_memory, "message-memory", "limits", "4M", 1u << 20, 1u << 30, "",             \
      "memory for unfinished large values, per session")                                           \
    X(BYTES, undo_memory, "undo-memory", "limits", "64M", 0, UINT64_C(16) << 30, "",               \
      "what writes replaced, kept for reads of the past, per core; 0: none can be read")           \
    X(MS, undo_age_ms, "undo-age", "limits", "1s", 1, 3600000, "",                                 \
      "how far back the past can be read, as far as undo-memory goes")                             \
    X(S, undo_pin_s, "undo-pin", "limits", "60s", 1, 3600, "",                                     \
      "how long a range as of one moment may go on reading it")                                    \
    X(NUMBER, write_window, "write-window", "limits", "4096", 64, 4096, "",                        \
      "how far a client's newest write may be ahead of its oldest unfinished one")                 \
    X(NUMBER, sessions_max, "sessions-max", "limits", "16384", 16, 1u << 20, "",                   \
      "sessions of the node, all cores together")                                                  \
    X(NUMBER, half_open_max, "half-open-max", "limits", "1024", 16, 1024, "",                      \
      "sessions whose client has sent nothing yet")                                                \
    X(S, session_idle_s, "session-idle", "limits", "600s", 10, 65535, "",                          \
      "silence after which a session may be dropped")                                              \
    X(S, session_age_s, "session-age", "limits", "3600s", 60, 65535, "",                           \
      "age at which a session must be made anew")                                                  \
    X(MS, deadline_max_ms, "deadline-max", "limits", "10s", 100, 3600000, "",                      \
      "longest of an operation, and meant by 0; at most a quarter of dedup-ttl")                   \
    X(NUMBER, unproved_answers_max, "unproved-answers-max", "limits", "20000", 10, 10000000, "",   \
      "answers a second and core to addresses that have not proved themselves")                    \
    X(NUMBER, handshakes_max, "handshakes-max", "limits", "50", 1, 100000, "",                     \
      "handshakes a second, core and source address")

enum torc_setting {
#define X(kind, field, key, section, fallback, least, greatest, words, help) TORC_SETTING_##field,
    TORC_SETTINGS_TABLE(X)
#undef X
    TORC_SETTING_COUNT
};

enum torc_setting_kind {
    TORC_SETTING_NUMBER,
    TORC_SETTING_BYTES,
    TORC_SETTING_MS,
    TORC_SETTING_S,
    TORC_SETTING_CHOICE,
    TORC_SETTING_TEXT,
};

// Where a value comes from; a later source wins over an earlier one.
enum torc_setting_source {
    TORC_SETTING_FROM_DEFAULT,
    TORC_SETTING_FROM_FILE,
    TORC_SETTING_FROM_COMMAND,
};

// The indices of CHOICE words that programs ask for by name (durability, security: kit/chan.h's
// enums).
enum torc_setting_read_mode {
    TORC_READ_LEASE,
    TORC_READ_CONFIRM
};

enum torc_setting_poll {
    TORC_POLL_AUTO,
    TORC_POLL_BUSY
};

enum torc_setting_huge {
    TORC_HUGE_AUTO,
    TORC_HUGE_YES,
    TORC_HUGE_NO
};

enum torc_setting_level {
    TORC_LEVEL_ERROR,
    TORC_LEVEL_WARN,
    TORC_LEVEL_INFO,
    TORC_LEVEL_DEBUG
};

struct torc_settings {
#define TORC_SETTING_FIELD_NUMBER(field) uint64_t field;
#define TORC_SETTING_FIELD_BYTES(field)  uint64_t field;
#define TORC_SETTING_FIELD_MS(field)     uint64_t field;
#define TORC_SETTING_FIELD_S(field)      uint64_t field;
#define TORC_SETTING_FIELD_CHOICE(field) uint64_t field;
#define TORC_SETTING_FIELD_TEXT(field)   char field[TORC_SETTINGS_TEXT_BYTES];
#define X(kind, field, key, section, fallback, least, greatest, words, help) \
    TORC_SETTING_FIELD_##kind(field)
    TORC_SETTINGS_TABLE(X)
#undef X
    uint8_t source[TORC_SETTING_COUNT]; // enum torc_setting_source
};

struct torc_setting_info {
    const char *key;
    const char *section;
    const char *fallback;
    const char *words; // CHOICE: parted by blanks
    const char *help;
    uint64_t least;
    uint64_t greatest;
    uint32_t offset; // of the field in struct torc_settings
    enum torc_setting_kind kind;
};

// The table's line `index` < TORC_SETTING_COUNT.
const struct torc_setting_info *torc_setting_info(uint32_t index);

// The line of `key`, or TORC_SETTING_COUNT. `_` counts as `-`.
uint32_t torc_setting_find(const char *key);

// The key most like `key`, or NULL when none is near enough to be meant.
const char *torc_setting_nearest(const char *key);

void torc_settings_default(struct torc_settings *settings);

// One key. INVALID_ARGUMENT names the key, the value and what is allowed; for an unknown key the
// nearest. `section` may be NULL or empty: any.
enum torc_err torc_must_use torc_settings_set(struct torc_settings *settings, const char *section,
                                              const char *key, const char *value,
                                              enum torc_setting_source source,
                                              struct torc_fail *why);

// What no single key can say: combinations that make no sense or are not in this version. All
// values are those in force: given, or the cluster's, or, of one that is to be made, the defaults.
enum torc_err torc_must_use torc_settings_check(const struct torc_settings *settings,
                                                struct torc_fail *why);

// The same before the cluster is known: a pair with a value that is fixed at birth and was not
// given is left to torc_settings_check.
enum torc_err torc_must_use torc_settings_check_given(const struct torc_settings *settings,
                                                      struct torc_fail *why);

// A value as torc_settings_set reads it. Returns its bytes without the end, cut to `text_bytes` -
// 1.
uint32_t torc_setting_show(const struct torc_settings *settings, uint32_t index, char *text,
                           uint32_t text_bytes);

// The whole configuration as a commented INI file: what differs from the default is set, the rest
// is shown behind a '#'. Returns the bytes without the end; at most `text_bytes` - 1 are written.
uint32_t torc_settings_ini(const struct torc_settings *settings, char *text, uint32_t text_bytes);

// The table as Markdown, for docs/OPERATIONS.md.
uint32_t torc_settings_markdown(char *text, uint32_t text_bytes);

#endif
