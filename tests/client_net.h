// Torc tests: client engines joined to a node (tests/rig.h) by a network that misbehaves as told.
//
// What    each datagram may be lost, doubled, damaged in one bit, and is delivered after a random
//         delay, so that later ones overtake it. Somebody in the middle may read and change each
//         (`tamper`), and put in others. One clock for all: the rig's.
// Owner   the test's thread.
// Memory  malloc, freed by torc_net_close.
// Life    torc_net_open · torc_net_step as often as wanted · torc_net_close.
#ifndef TORC_TESTS_CLIENT_NET_H
#define TORC_TESTS_CLIENT_NET_H

#include "client/engine.h"
#include "tests/rig.h"

#define TORC_NET_CLIENTS_MAX 400u
#define TORC_NET_FLIGHT_MAX  32768u

struct torc_net_faults {
    uint32_t loss_ppm;
    uint32_t double_ppm;
    uint32_t damage_ppm;
    uint32_t delay_max_ns; // each packet: a random part of it
    uint32_t late_ppm;     // of packets that come late_ns later
    uint32_t late_ns;
    // The node is not scheduled: every so long (0: never) up to this long, at random.
    uint64_t sleep_every_ns;
    uint64_t sleep_max_ns;
};

struct torc_net_packet {
    uint64_t at_ns;
    bool to_node;
    uint32_t client;
    uint16_t node_port;
    uint8_t node_ip[16]; // to the node: where the client sends it; it arrives all the same
    uint32_t byte_count;
    uint8_t *bytes;
};

struct torc_net_config {
    uint32_t clients; // 1 .. TORC_NET_CLIENTS_MAX
    uint64_t seed;
    uint32_t operations; // of each engine
    uint32_t nodes;      // that each engine can know; 0: 64
    bool one_node;       // that is reached, no other
    uint64_t pool_bytes; // of each engine; 0: what tests need
    uint32_t rx_ring;    // frames that wait for the node, at most; 0: as many as the rig takes
};

struct torc_net {
    struct torc_rig *rig;
    struct torc_net_config config;
    // Sees each packet, before faults do; false: it is taken away. `bytes` may be changed.
    bool (*tamper)(struct torc_net *net, struct torc_net_packet *packet, uint8_t *bytes);
    // Sees each packet that a client has taken: opened, if it was a good one.
    void (*opened)(struct torc_net *net, const struct torc_net_packet *packet);
    struct torc_rng rng;
    struct torc_net_faults faults;
    uint32_t client_count;
    struct torc_engine *clients[TORC_NET_CLIENTS_MAX];
    struct torc_net_packet *flight; // unordered
    uint32_t flight_count;
    uint64_t sent;
    uint64_t sent_large; // to the node, over 1000 bytes: pieces of values
    uint64_t lost;
    uint64_t sleeps_until_ns; // the node
    uint64_t wakes_until_ns;
    bool cut; // nothing arrives anywhere
    // The clients' time and the wire's, over the node's, which stands while it has its turn.
    uint64_t ahead_ns;
};

// Client i is 10.79.(i / 48).1:(5000 + i). They have the key that a sealed rig takes
// (torc_net_key), and none for another; their interfaces carry what the rig's do.
void torc_net_open_config(struct torc_net *net, struct torc_rig *rig,
                          const struct torc_net_config *config);

// The same, by what is most often asked for.
void torc_net_open(struct torc_net *net, struct torc_rig *rig, uint32_t client_count, uint64_t seed,
                   uint32_t operations);

// The same with one client, that has this key (principal 0: none) whatever the rig is.
void torc_net_open_with(struct torc_net *net, struct torc_rig *rig, uint64_t seed,
                        const struct torc_client_key *key);

struct torc_client_key torc_net_key(const struct torc_rig *rig);

// Puts a packet of the somebody's own on the wire.
void torc_net_inject(struct torc_net *net, const struct torc_net_packet *packet,
                     const uint8_t *bytes);

// What has arrived is delivered, everybody has a turn, then time passes.
void torc_net_step(struct torc_net *net, uint64_t advance_ns);

// The halves of a step, for worlds in which a turn takes time. What has arrived by now (the node's
// time and ahead_ns) is delivered, and each client has a turn. What came out of the node goes on
// the wire, now.
void torc_net_clients_turn(struct torc_net *net);
void torc_net_node_sends(struct torc_net *net);

// Steps until the first client has a session.
void torc_net_await(struct torc_net *net);

// Steps until nothing is in flight and no engine has anything pending.
void torc_net_drain(struct torc_net *net);

void torc_net_close(struct torc_net *net);

#endif
