// Torc client: how large packets to a node, and its answers, may be: the path MTU, by probes.
//
// What    a probe is a PING alone in a packet of the size in question, answered by one of the same
//         size: its answer proves the size in both directions, and only an answer does. Packets and
//         the answers that they allow are never larger than what was proved (node->payload).
//         climb   the next larger size is probed, from TORC_PAYLOAD_MIN on, until one is lost or
//                 the largest that both ends take is reached; then again, later and later, but
//                 only with a node that is in use.
//         check   a loss while packets may be large asks whether the present size still passes. If
//                 not: back to TORC_PAYLOAD_MIN at once, and a climb.
// Loss    a size is too large when PROBE_TRIES probes of it were lost, and a small one that left
//         behind the last of them came through; silence says nothing about sizes.
// Bounds  one probe in flight a node, one check in CHECK_EVERY_NS, climbs CLIMB_FIRST_NS to
//         CLIMB_LAST_NS apart. A probe's loss says nothing about congestion: the window stands.
// Sources WIRE.md, section 4, "Size"; RFC 8899, sections 3, 4 and 5 (no ICMP is asked);
//         docs/decisions/0019-path-mtu.md.
#include "client/engine_state.h"

#define PROBE_TRIES    2u
#define PROBE_TIME_NS  UINT64_C(2000000000) // then the question is put off
#define CHECK_EVERY_NS UINT64_C(100000000)
#define CLIMB_FIRST_NS UINT64_C(2000000000)
#define CLIMB_LAST_NS  UINT64_C(64000000000)

// UDP payloads worth trying, in multiples of 8: MTUs of 1400 (many tunnels), 1450 (VXLAN), 1500
// (under IPv6 and IPv4), 4080, and of 8896 to 9000 in the same ways.
static const uint32_t sizes[] = {1368, 1416, 1448, 1472, 4048, 8864, 8928, 8952};

static uint32_t mtu_largest(const struct torc_engine *engine, const struct torc_client_node *node)
{
    return (uint32_t)torc_min_u64(engine->config.payload_bytes, node->limits.payload_max) & ~7u;
}

// The next size above the present one; 0: it is the largest.
static uint32_t mtu_next(const struct torc_engine *engine, const struct torc_client_node *node)
{
    uint32_t largest = mtu_largest(engine, node);
    uint32_t next = largest;

    for (uint32_t i = TORC_COUNT_OF(sizes); i > 0 && sizes[i - 1] > node->payload; i--) {
        next = (uint32_t)torc_min_u64(sizes[i - 1], largest);
    }
    return next > node->payload ? next : 0;
}

bool torc_node_ping(struct torc_engine *engine, const struct torc_client_node *node, uint32_t bytes,
                    uint32_t *index)
{
    struct torc_op *op;

    *index = torc_op_take_own(engine, TORC_OPS_KEPT_MAP);
    if (*index == TORC_OP_NONE) {
        return false;
    }
    op = &engine->ops[*index];
    op->kind = TORC_OP_PROBE;
    op->bytes = bytes;
    op->node = node->index;
    op->fixed_node = true;
    op->deadline_ns = engine->now_ns + PROBE_TIME_NS;
    torc_op_route(engine, *index);
    return true;
}

static void mtu_probe(struct torc_engine *engine, struct torc_client_node *node, uint32_t bytes)
{
    struct torc_client_mtu *mtu = &node->mtu;

    torc_assert(mtu->op == TORC_OP_NONE);
    torc_assert(bytes >= node->payload && bytes <= mtu_largest(engine, node));
    mtu->control = TORC_OP_NONE;
    mtu->alive = false;
    if (!torc_node_ping(engine, node, bytes, &mtu->op)) {
        mtu->climb_ns = engine->now_ns + CLIMB_FIRST_NS; // all slots are taken
    }
}

static void mtu_climb(struct torc_engine *engine, struct torc_client_node *node)
{
    uint32_t next = mtu_next(engine, node);

    node->mtu.climb_ns = UINT64_MAX;
    if (next != 0) {
        mtu_probe(engine, node, next);
    }
}

void torc_mtu_init(struct torc_client_node *node)
{
    node->payload = TORC_PAYLOAD_MIN;
    node->mtu = (struct torc_client_mtu){.op = TORC_OP_NONE,
                                         .control = TORC_OP_NONE,
                                         .climb_ns = UINT64_MAX,
                                         .pause_ns = CLIMB_FIRST_NS};
}

void torc_mtu_session(struct torc_engine *engine, struct torc_client_node *node)
{
    uint32_t largest = mtu_largest(engine, node);

    torc_assert(largest >= TORC_PAYLOAD_MIN);
    node->payload = (uint32_t)torc_min_u64(node->payload, largest); // it may be another life of it
    if (node->mtu.op != TORC_OP_NONE) {
        return;
    }
    node->mtu.pause_ns = CLIMB_FIRST_NS;
    if (node->payload == TORC_PAYLOAD_MIN && largest > TORC_PAYLOAD_MIN) {
        node->mtu.leap = true;
        mtu_probe(engine, node, largest);
    } else {
        mtu_climb(engine, node);
    }
}

void torc_mtu_heard(struct torc_engine *engine, struct torc_client_node *node)
{
    if (engine->now_ns >= node->mtu.climb_ns && node->mtu.op == TORC_OP_NONE && !engine->closing) {
        mtu_climb(engine, node);
    }
}

void torc_mtu_suspect(struct torc_engine *engine, struct torc_client_node *node)
{
    struct torc_client_mtu *mtu = &node->mtu;

    if (node->payload <= TORC_PAYLOAD_MIN || node->state != TORC_NODE_UP || engine->closing) {
        return;
    }
    if (engine->now_ns < mtu->check_ns) {
        // Later, also while a check is on its way: what it proves may be older than this loss. The
        // next time-out can be a second away.
        mtu->check_due = true;
        torc_node_arm(engine, node);
        return;
    }
    mtu->check_due = false;
    if (mtu->op != TORC_OP_NONE && engine->ops[mtu->op].bytes == node->payload) {
        return;
    }
    mtu->check_ns = engine->now_ns + CHECK_EVERY_NS;
    if (mtu->op != TORC_OP_NONE) { // a larger size can wait
        torc_op_end(engine, mtu->op, TORC_ERR_CANCELLED, NULL);
    }
    mtu_probe(engine, node, node->payload);
}

void torc_mtu_timer(struct torc_engine *engine, struct torc_client_node *node)
{
    if (node->mtu.check_due && engine->now_ns >= node->mtu.check_ns) {
        node->mtu.check_due = false;
        torc_mtu_suspect(engine, node);
    }
}

// The next climb, when the node is heard of then.
static void mtu_put_off(struct torc_engine *engine, struct torc_client_mtu *mtu)
{
    mtu->climb_ns = engine->now_ns + torc_engine_jitter(engine, mtu->pause_ns);
    mtu->pause_ns = torc_min_u64(2 * mtu->pause_ns, CLIMB_LAST_NS);
}

static void mtu_too_large(struct torc_engine *engine, struct torc_client_node *node, uint32_t bytes)
{
    struct torc_client_mtu *mtu = &node->mtu;
    bool leapt = mtu->leap;

    mtu->leap = false;
    if (bytes <= node->payload) {
        node->payload = TORC_PAYLOAD_MIN;
        mtu->pause_ns = CLIMB_FIRST_NS;
        mtu_climb(engine, node);
    } else if (leapt && node->payload == TORC_PAYLOAD_MIN) {
        mtu_climb(engine, node);
    } else {
        mtu_put_off(engine, mtu);
    }
}

void torc_mtu_end(struct torc_engine *engine, uint32_t index)
{
    struct torc_client_mtu *mtu = &engine->nodes[engine->ops[index].node].mtu;

    if (mtu->control == index) {
        mtu->control = TORC_OP_NONE;
    }
    if (mtu->op == index) {
        mtu->op = TORC_OP_NONE;
        // Refused, perhaps. Who knows better says so next.
        mtu->climb_ns = torc_min_u64(mtu->climb_ns, engine->now_ns + CLIMB_FIRST_NS);
    }
}

void torc_mtu_answer(struct torc_engine *engine, uint32_t index, const struct torc_reply *reply)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_client_node *node = &engine->nodes[op->node];
    struct torc_client_mtu *mtu = &node->mtu;
    uint32_t bytes = op->bytes;
    bool is_probe = index == mtu->op;
    uint64_t climb_ns = mtu->climb_ns;
    // An answer cut short proves nothing about the way back.
    bool is_whole = reply->status == TORC_ERR_OK &&
                    reply->body_bytes + TORC_REPLY_HEAD_BYTES + TORC_DATA_OVERHEAD == bytes;

    mtu->alive = mtu->alive || index == mtu->control;
    torc_op_end(engine, index, TORC_ERR_OK, NULL);
    if (!is_probe) {
        return;
    }
    mtu->leap = false;
    if (!is_whole) {
        mtu_put_off(engine, mtu);
    } else if (bytes > node->payload) {
        node->payload = (uint32_t)torc_min_u64(bytes, mtu_largest(engine, node));
        mtu->pause_ns = CLIMB_FIRST_NS;
        mtu_climb(engine, node);
    } else {
        mtu->climb_ns = climb_ns; // a check: all is as it was
    }
}

void torc_mtu_overdue(struct torc_engine *engine, uint32_t index)
{
    struct torc_op *op = &engine->ops[index];
    struct torc_client_node *node = &engine->nodes[op->node];
    struct torc_client_mtu *mtu = &node->mtu;
    bool is_probe = index == mtu->op;
    uint32_t bytes = op->bytes;

    torc_packet_drop(engine, op->packet);
    op->backoff++;
    if (op->backoff < PROBE_TRIES || (is_probe && !mtu->alive)) {
        if (is_probe && mtu->control == TORC_OP_NONE) { // it leaves behind the probe
            (void)torc_node_ping(engine, node, TORC_PAYLOAD_MIN, &mtu->control);
        }
        torc_op_route(engine, index);
        return;
    }
    torc_op_end(engine, index, TORC_ERR_DEADLINE, NULL);
    if (is_probe) {
        mtu_too_large(engine, node, bytes);
    }
}

void torc_mtu_deadline(struct torc_engine *engine, uint32_t index)
{
    struct torc_client_node *node = &engine->nodes[engine->ops[index].node];
    bool is_probe = index == node->mtu.op;

    torc_op_end(engine, index, TORC_ERR_DEADLINE, NULL);
    if (is_probe) {
        node->mtu.leap = false;
        node->mtu.climb_ns = engine->now_ns; // the node's next sign of life goes on with it
    }
}
