// Torc tests: a worker under more load than it can do, and what each of its clients saw.
//
// What    one worker (tests/rig.h) and many sessions that send without waiting for answers, at a
//         rate that is a multiple of what the worker can do. Time goes on by what turns take: by a
//         table of what each kind of packet costs (model/model_overload.c, exact and repeatable),
//         or by a clock, which is read around each turn (overload_bench_os.c, what this machine
//         needs; sealing and opening on the clients' side takes no time then).
// Oracle  each packet is known by its session and number: when it came, whether it was answered,
//         refused, dropped unread and told of, or lost at the receive ring, and when. Answers leave
//         at the end of their turn. What contradicts itself ends the program.
// Owner   one thread; one world at a time, `overload`.
// Memory  malloc, from overload_open to overload_close; samples for the program's life.
// Figures TORC_TEST_FIGURES=1 prints what each run measured.
#ifndef TORC_TESTS_OVERLOAD_WORLD_H
#define TORC_TESTS_OVERLOAD_WORLD_H

#include "tests/rig.h"

#define OVERLOAD_SESSIONS_MAX 400u
#define OVERLOAD_RX_RING      1024u  // descriptors of the receive queue
#define OVERLOAD_SENT_MAX     32768u // packets of one session that are remembered
#define OVERLOAD_OPS_MAX      262144u
#define OVERLOAD_ROWS_MAX     1024u
#define OVERLOAD_MS_NS        UINT64_C(1000000)
#define OVERLOAD_VALUE_BYTES  32u
#define OVERLOAD_PUT_LARGE    1100u
#define OVERLOAD_RANGE_KEYS   40u
#define OVERLOAD_RANGE_END    (overload.config.keys / 8)

enum overload_kind {
    GET,
    GETS, // 16 of them
    PUT,
    PUT_LARGE,
    PULL,
    RANGE,
    KINDS
};

struct overload_mix {
    uint32_t parts[KINDS]; // of each kind, relative
};

extern const struct overload_mix overload_gets;
extern const struct overload_mix overload_many_gets;
extern const struct overload_mix overload_everything;

struct overload_sent {
    uint64_t seq;
    uint64_t at_ns;
    uint32_t budget_us;
    enum overload_kind kind;
    bool refused;
    bool answered;
    bool dropped;
    bool told; // that it was
    bool late; // DEADLINE
};

struct overload_session {
    struct torc_rig_client client;
    uint32_t weight; // its part of the load
    uint64_t offered;
    uint64_t served;
    uint64_t refused;
    struct overload_sent sent[OVERLOAD_SENT_MAX];
    uint32_t packets[OVERLOAD_OPS_MAX]; // of operations, by their ids: the packet's number
};

#define OVERLOAD_SAMPLES_MAX (1u << 19)

struct overload_samples {
    uint32_t count;
    uint64_t *ns; // room for OVERLOAD_SAMPLES_MAX; NULL before overload_samples_open
};

struct overload_config {
    uint32_t sessions; // 1 .. OVERLOAD_SESSIONS_MAX
    uint64_t seed;
    uint64_t keys;    // of the node
    uint64_t records; // of 32 B, over all keys but the ranges' eighth; 0: only what ranges read
    bool sealed;
    uint64_t (*turn_clock)(void); // NULL: by the table
    uint64_t measure_ns;
};

struct overload_world {
    struct overload_config config;
    struct torc_rig *rig;
    struct overload_session *sessions;
    uint32_t session_count;
    uint64_t weight_ends[OVERLOAD_SESSIONS_MAX]; // sums of the weights
    struct torc_rng rng;
    uint64_t next_ns;   // when the next packet comes
    uint64_t every_ps;  // on average
    uint64_t rest_ps;   // of the last gap, below a nanosecond
    uint64_t turn_ns;   // what the last turn took
    uint32_t budget_us; // of requests; 0: none
    uint64_t version;   // of the large value
    bool measuring;
    // What was measured.
    struct overload_samples served;
    struct overload_samples refused;
    struct overload_samples ranges; // to each packet of rows
    uint64_t spent_ns;              // in turns that did something
    uint64_t spent_refusing_ns;     // of it, by the table
    uint64_t offered_count;
    uint64_t served_count;
    uint64_t ring_lost;
    uint64_t dropped_count;
    uint64_t told_count;
    uint64_t deadlines;
    uint64_t overdue; // served though it had waited longer than its budget
    // When the ranges were sent whose rows came in this turn, and the packets that were dropped
    // unread and told of in this turn.
    uint64_t rows_at_ns[OVERLOAD_ROWS_MAX];
    uint32_t rows_count;
    uint64_t told_at_ns[OVERLOAD_ROWS_MAX];
    uint32_t told_now;
    // The packets of this turn, in the order in which they came.
    struct overload_sent *queued[OVERLOAD_RX_RING + 1];
    struct overload_session *queued_of[OVERLOAD_RX_RING + 1];
    uint32_t queued_first;
    uint32_t queued_count;
};

extern struct overload_world overload;

struct overload_figures {
    uint64_t served_ppm;   // of the time, spent on what was served (by the table)
    uint64_t busy_ppm;     // and on refusals
    uint64_t accepted_ppm; // packets served, of those that a packet's cost allows
    uint64_t median_ns;
    uint64_t p99_ns;
    uint64_t refused_p99_ns;
    uint64_t refused_max_ns;
};

// A node with its records, and its sessions.
void overload_open(const struct overload_config *config);
void overload_close(void);

// What a packet of the mix takes, in picoseconds, when there is little to do.
uint64_t overload_cost(const struct overload_mix *mix);
// The same when each turn finds so many packets and nothing waits behind them. As many are made
// and lost on their way: with twice the load clients make twice as many, and here their work lies
// in the worker's own caches.
uint64_t overload_cost_full(const struct overload_mix *mix, uint32_t packets, uint32_t turns);

// A load of so many per cent of what packets of that cost allow; measured after it has stood for
// `settle_ns`.
struct overload_figures overload_after(const struct overload_mix *mix, uint64_t cost_ps,
                                       uint32_t percent, uint64_t settle_ns);
// The same, from where a queue stood for so long that packets are refused.
struct overload_figures overload_load(const struct overload_mix *mix, uint64_t cost_ps,
                                      uint32_t percent);

// What one asks for: a kind of the mix, and its key. Writes do not change what ranges read; gets of
// one go where small values are.
enum overload_kind overload_draw_kind(const struct overload_mix *mix);
uint64_t overload_draw_key(enum overload_kind kind);

void overload_samples_open(struct overload_samples *samples);
// Kept while it is measured and there is room.
void overload_sample(struct overload_samples *samples, uint64_t ns);
// Of what was measured; 0 of nothing.
uint64_t overload_quantile(struct overload_samples *samples, uint32_t ppm);

#endif
