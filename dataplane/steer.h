// Torc dataplane: what to ask of a network device: queues, steering, offloads, descriptors.
//
// What    a device says what it can do; the plan says what we use of it. The device layer
//         (port_dpdk.c) asks, carries out and reports; which features are worth having, and what to
//         do without them, is decided here.
//           queues    one pair a worker, as far as the device goes; worker w polls queue w. A
//           worker
//                     without a queue gets its packets by hand-over and sends through worker
//                     w mod queues.
//           steering  FLOW: a rule `UDP destination port -> queue` a worker and IP version, so that
//                     a packet arrives at the core its port names. If the device refuses one rule,
//                     none is kept, and RSS over addresses and ports spreads the clients: a client
//                     draws source ports until its packets arrive right (WIRE.md, section 5). RSS
//                     stays on beside the rules, for what they do not match. OTHER: the device
//                     spreads by rules of its own.
//           offloads  receive checksums only where hardware looks at them; nothing is needed.
// Owner   none: pure functions of their arguments.
// Sources DESIGN.md section 9; WIRE.md section 5.
#ifndef TORC_DATAPLANE_STEER_H
#define TORC_DATAPLANE_STEER_H

#include "kit/fail.h"

#define TORC_STEER_MTU_LEAST            1280 // what IPv6 asks of every link
#define TORC_STEER_FRAME_OVERHEAD_BYTES 18   // Ethernet header and one 802.1Q tag

// X(NAME, text): what a device may be able to do, as bits of `features`.
#define TORC_STEER_FEATURE_TABLE(X)                                     \
    X(RX_IP_CHECKSUM, "rx-ip-checksum")                                 \
    X(RX_UDP_CHECKSUM, "rx-udp-checksum")                               \
    X(RX_SCATTER, "rx-scatter") /* a frame over several buffers */      \
    X(TX_IP_CHECKSUM, "tx-ip-checksum")                                 \
    X(TX_UDP_CHECKSUM, "tx-udp-checksum")                               \
    X(TX_FAST_FREE, "tx-fast-free") /* buffers of one pool, one user */ \
    X(RSS_IP4, "rss-ip4")                                               \
    X(RSS_UDP4, "rss-udp4")                                             \
    X(RSS_IP6, "rss-ip6")                                               \
    X(RSS_UDP6, "rss-udp6")                                             \
    X(FLOW, "flow")             /* has rules; which, only a try says */ \
    X(OWN_SPREAD, "own-spread") /* software that spreads by itself */   \
    X(HARDWARE, "hardware")

enum torc_steer_bit {
#define X(name, text) TORC_STEER_BIT_##name,
    TORC_STEER_FEATURE_TABLE(X)
#undef X
    TORC_STEER_BIT_COUNT
};

enum torc_steer_feature {
#define X(name, text) TORC_STEER_##name = 1u << TORC_STEER_BIT_##name,
    TORC_STEER_FEATURE_TABLE(X)
#undef X
};

struct torc_steer_ring {
    uint16_t least;
    uint16_t greatest;
    uint16_t multiple;  // 0 and 1: any
    uint16_t preferred; // 0: the driver does not say
};

struct torc_steer_device {
    uint32_t features; // enum torc_steer_feature
    uint32_t frame_bytes_max;
    uint32_t rx_buffer_bytes_min;
    uint16_t rx_queues_max;
    uint16_t tx_queues_max;
    uint16_t mtu_max; // 0: not said
    uint16_t reta_entries;
    struct torc_steer_ring rx_ring;
    struct torc_steer_ring tx_ring;
};

struct torc_steer_want {
    uint32_t worker_count;
    uint16_t base_port;
    uint16_t mtu;
    uint16_t ring_entries; // descriptors a queue, if the device allows
};

enum torc_steer_method {
    TORC_STEER_BY_NOTHING, // one queue
    TORC_STEER_BY_FLOW,    // to be tried; torc_steer_refused when the device refuses a rule
    TORC_STEER_BY_RSS,
    TORC_STEER_BY_OTHER
};

struct torc_steer_plan {
    uint32_t features; // to be switched on
    enum torc_steer_method method;
    uint32_t worker_count;
    uint32_t buffer_bytes; // for a frame in one piece, headroom not counted
    uint16_t base_port;
    uint16_t queue_count; // both directions
    uint16_t rx_entries;
    uint16_t tx_entries;
    uint16_t mtu;
};

struct torc_steer_rule {
    uint16_t udp_port; // destination
    uint16_t queue;
    uint8_t ip_version;
};

// INVALID_ARGUMENT when the device cannot carry what is wanted at all, and the text says what.
enum torc_err torc_must_use torc_steer_choose(struct torc_steer_plan *plan,
                                              const struct torc_steer_device *device,
                                              const struct torc_steer_want *want,
                                              struct torc_fail *why);

// The device refused a rule: what remains. One queue when it cannot spread either.
void torc_steer_refused(struct torc_steer_plan *plan);

// The rules of a BY_FLOW plan; index < torc_steer_rule_count().
uint32_t torc_steer_rule_count(const struct torc_steer_plan *plan);
struct torc_steer_rule torc_steer_rule(const struct torc_steer_plan *plan, uint32_t index);

const char *torc_steer_method_name(enum torc_steer_method method);

// The features by name, comma between, for the log. Returns the bytes without the end.
uint32_t torc_steer_features_text(uint32_t features, char *text, uint32_t text_bytes);

#endif
