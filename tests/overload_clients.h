// Torc tests: a worker under more load than it can do, from clients as they are.
//
// What    the node of tests/overload_world.h and client engines (client/engine.h, all of libtorc
//         but its sockets) before it, joined by tests/client_net.h with a delay each way. The
//         worker's turns take what they take by the world's clock. Meanwhile calls come, packets
//         leave and answers arrive; what the engines take themselves is not counted, for each
//         would have a processor of its own. What an engine may not send waits in it until its
//         deadline; a call that it has no room for is told so at once, and gone.
// Capacity  what the same engines get done when each always has so many calls outstanding and the
//         worker is kept from refusing any: its turns are full then, and so are all packets.
// Owner   one thread; one world at a time, `overload_clients`.
// Memory  malloc, from overload_clients_open to overload_clients_close.
// Figures TORC_TEST_FIGURES=1 prints what each run measured.
#ifndef TORC_TESTS_OVERLOAD_CLIENTS_H
#define TORC_TESTS_OVERLOAD_CLIENTS_H

#include "tests/client_net.h"
#include "tests/overload_world.h"

#define OVERLOAD_CLIENTS_SENT 4096u // packets of one client whose times are known
// So many calls outstanding wait longer than 2 ms: as many others that end before that take as much
// of the caches as calls that end unsent under twice the load.
#define OVERLOAD_CLIENTS_DEEP 8192u

struct overload_clients_config {
    uint32_t clients;
    uint32_t operations; // of each, at most
    uint64_t timeout_us; // of calls
    uint64_t measure_ns;
};

// Counted while it is measured.
struct overload_clients_counts {
    uint64_t calls[KINDS]; // a GETS is 16 GETs
    uint64_t done[KINDS];  // in time
    uint64_t no_room;      // calls that an engine did not take
    uint64_t ended[2];     // at their deadline: without a refusal, and after one
    uint64_t failed;       // otherwise
    uint64_t packets;      // answers with something done
    uint64_t refused;      // packets: SHED, or UNREAD
    uint64_t turns;
    uint64_t idle_ns; // of turns that found nothing
};

struct overload_clients_sent {
    uint64_t seq;
    uint64_t at_ns;
};

struct overload_clients {
    struct overload_clients_config config;
    struct torc_net net;
    struct overload_clients_sent (*sent)[OVERLOAD_CLIENTS_SENT]; // of each client, by seq
    uint64_t next_ns;                                            // when the next call comes
    uint64_t every_ps;                                           // 0: none comes
    uint64_t rest_ps;
    uint32_t outstanding;                // of each client: kept so, when none comes
    uint32_t vain[TORC_NET_CLIENTS_MAX]; // calls of each that end unsent
    double cost_ns[KINDS];               // overload_clients_costs
    bool admits_all;                     // the worker is kept from refusing
    uint64_t turn_ns;                    // what the last turn took
    struct overload_clients_counts counts;
    struct overload_samples served;  // from a packet's sending to an answer
    struct overload_samples called;  // from a call to its end
    struct overload_samples refused; // from a packet's sending until its client was told
};

extern struct overload_clients overload_clients;

struct overload_clients_figures {
    double calls_per_s;
    double done_per_s;
    double work;     // the same by what calls cost, over the time
    double least;    // of all kinds: the part that is done of what came, over that of all
    double sendings; // of operations, to each call
    double idle;     // of the time
    uint64_t served_p99_ns;
    uint64_t called_p99_ns;
    uint64_t refused_p99_ns;
    double lost;    // packets, of those that were sent
    double refused; // packets, of those that were answered
    double packed;  // operations in a packet that was answered
};

// overload_open comes before, and overload_close behind.
void overload_clients_open(const struct overload_clients_config *config);
void overload_clients_close(void);

// What a call of each kind of the mix costs, when there are only such. Without it work is 0.
void overload_clients_costs(const struct overload_mix *mix, uint32_t outstanding);
// What of the mix the engines get done with so many calls outstanding each; calls a second.
struct overload_clients_figures overload_clients_capacity(const struct overload_mix *mix,
                                                          uint32_t outstanding);
// So many calls a second come, and have come until waiting ones met their deadlines.
struct overload_clients_figures overload_clients_load(const struct overload_mix *mix,
                                                      double calls_per_s);

#endif
