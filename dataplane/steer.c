// Torc dataplane: what to ask of a network device. See dataplane/steer.h.
#include "dataplane/steer.h"

#define STEER_BUFFER_BYTES_LEAST 2048 // what most devices' receive units count in
#define STEER_BUFFER_UNIT_BYTES  1024

#define STEER_RSS \
    (TORC_STEER_RSS_IP4 | TORC_STEER_RSS_UDP4 | TORC_STEER_RSS_IP6 | TORC_STEER_RSS_UDP6)

static uint16_t steer_entries(const struct torc_steer_ring *ring, uint16_t wanted)
{
    uint32_t multiple = ring->multiple > 1 ? ring->multiple : 1;
    uint32_t greatest = ring->greatest > 0 ? ring->greatest : wanted;
    uint32_t entries = (wanted + multiple - 1) / multiple * multiple;

    if (entries > greatest) {
        entries = greatest / multiple * multiple;
    }
    if (entries < ring->least) {
        entries = ring->least;
    }
    return (uint16_t)torc_min_u64(entries, UINT16_MAX);
}

static uint16_t steer_mtu(const struct torc_steer_device *device, uint16_t wanted)
{
    uint64_t mtu = wanted;

    if (device->mtu_max > 0) {
        mtu = torc_min_u64(mtu, device->mtu_max);
    }
    if (device->frame_bytes_max > TORC_STEER_FRAME_OVERHEAD_BYTES) {
        mtu = torc_min_u64(mtu, device->frame_bytes_max - TORC_STEER_FRAME_OVERHEAD_BYTES);
    }
    return (uint16_t)mtu;
}

// Fast freeing takes every buffer of a send queue to be of one pool. A worker that sends through
// another's queue breaks that.
static void steer_keep_promise(struct torc_steer_plan *plan)
{
    if (plan->queue_count < plan->worker_count) {
        plan->features &= ~(uint32_t)TORC_STEER_TX_FAST_FREE;
    }
}

static bool steer_spreads(uint32_t features)
{
    return (features & (TORC_STEER_RSS_UDP4 | TORC_STEER_RSS_IP4 | TORC_STEER_OWN_SPREAD)) != 0;
}

static enum torc_steer_method steer_spread_method(uint32_t features)
{
    return (features & TORC_STEER_OWN_SPREAD) != 0 ? TORC_STEER_BY_OTHER : TORC_STEER_BY_RSS;
}

static void steer_choose_queues(struct torc_steer_plan *plan,
                                const struct torc_steer_device *device)
{
    uint64_t queues = torc_min_u64(device->rx_queues_max, device->tx_queues_max);
    bool rules = (device->features & TORC_STEER_FLOW) != 0;

    queues = torc_min_u64(queues, plan->worker_count);
    plan->features |= device->features & (STEER_RSS | TORC_STEER_OWN_SPREAD);
    if (queues > 1 && rules) {
        plan->method = TORC_STEER_BY_FLOW;
        plan->features |= TORC_STEER_FLOW;
    } else if (queues > 1 && steer_spreads(device->features)) {
        plan->method = steer_spread_method(device->features);
    } else {
        queues = 1;
    }
    plan->queue_count = (uint16_t)queues;
    if (queues == 1) {
        plan->method = TORC_STEER_BY_NOTHING;
        plan->features &= ~(uint32_t)STEER_RSS;
    }
}

static void steer_choose_offloads(struct torc_steer_plan *plan,
                                  const struct torc_steer_device *device)
{
    uint32_t useful = TORC_STEER_TX_FAST_FREE;

    // A software device would look at each packet to fill these in; tag and CRC32C are stronger.
    if ((device->features & TORC_STEER_HARDWARE) != 0) {
        useful |= TORC_STEER_RX_IP_CHECKSUM | TORC_STEER_RX_UDP_CHECKSUM |
                  TORC_STEER_TX_IP_CHECKSUM | TORC_STEER_TX_UDP_CHECKSUM;
    }
    plan->features |= device->features & useful;
    // One buffer holds a frame; where a device insists on smaller units, it scatters.
    if (device->rx_buffer_bytes_min > plan->buffer_bytes) {
        plan->buffer_bytes = device->rx_buffer_bytes_min;
    }
}

enum torc_err torc_steer_choose(struct torc_steer_plan *plan,
                                const struct torc_steer_device *device,
                                const struct torc_steer_want *want, struct torc_fail *why)
{
    uint16_t mtu = steer_mtu(device, want->mtu);
    uint32_t frame_bytes = (uint32_t)mtu + TORC_STEER_FRAME_OVERHEAD_BYTES;

    torc_assert(want->worker_count > 0);
    torc_assert(want->worker_count <= UINT8_MAX);
    if (device->rx_queues_max == 0 || device->tx_queues_max == 0) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "the device has %u receive, %u send queues", device->rx_queues_max,
                         device->tx_queues_max);
    }
    if (mtu < TORC_STEER_MTU_LEAST) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "the device carries packets of %u bytes, %d are needed", mtu,
                         TORC_STEER_MTU_LEAST);
    }
    *plan = (struct torc_steer_plan){
        .worker_count = want->worker_count, .base_port = want->base_port, .mtu = mtu};
    plan->buffer_bytes = (frame_bytes + STEER_BUFFER_UNIT_BYTES - 1) / STEER_BUFFER_UNIT_BYTES *
                         STEER_BUFFER_UNIT_BYTES;
    if (plan->buffer_bytes < STEER_BUFFER_BYTES_LEAST) {
        plan->buffer_bytes = STEER_BUFFER_BYTES_LEAST;
    }
    plan->rx_entries = steer_entries(&device->rx_ring, want->ring_entries);
    plan->tx_entries = steer_entries(&device->tx_ring, want->ring_entries);
    steer_choose_queues(plan, device);
    steer_choose_offloads(plan, device);
    steer_keep_promise(plan);
    torc_assert(plan->queue_count >= 1);
    return TORC_ERR_OK;
}

void torc_steer_refused(struct torc_steer_plan *plan)
{
    torc_assert(plan->method == TORC_STEER_BY_FLOW);
    plan->features &= ~(uint32_t)TORC_STEER_FLOW;
    if (steer_spreads(plan->features)) {
        plan->method = steer_spread_method(plan->features);
        return;
    }
    plan->queue_count = 1;
    plan->method = TORC_STEER_BY_NOTHING;
    plan->features &= ~(uint32_t)STEER_RSS;
    steer_keep_promise(plan);
}

uint32_t torc_steer_rule_count(const struct torc_steer_plan *plan)
{
    return plan->method == TORC_STEER_BY_FLOW ? 2 * plan->worker_count : 0;
}

struct torc_steer_rule torc_steer_rule(const struct torc_steer_plan *plan, uint32_t index)
{
    uint32_t worker = index / 2;

    torc_assert(index < torc_steer_rule_count(plan));
    torc_assert(plan->base_port + worker <= UINT16_MAX);
    return (struct torc_steer_rule){.udp_port = (uint16_t)(plan->base_port + worker),
                                    .queue = (uint16_t)(worker % plan->queue_count),
                                    .ip_version = index % 2 == 0 ? 4 : 6};
}

const char *torc_steer_method_name(enum torc_steer_method method)
{
    switch (method) {
    case TORC_STEER_BY_NOTHING: return "none";
    case TORC_STEER_BY_FLOW: return "flow";
    case TORC_STEER_BY_RSS: return "rss";
    case TORC_STEER_BY_OTHER: return "other";
    }
    torc_unreachable("all methods are named");
}

uint32_t torc_steer_features_text(uint32_t features, char *text, uint32_t text_bytes)
{
    static const char *const names[] = {
#define X(name, text) [TORC_STEER_BIT_##name] = (text),
        TORC_STEER_FEATURE_TABLE(X)
#undef X
    };
    uint32_t filled = 0;

    torc_assert(text_bytes > 0);
    text[0] = '\0';
    for (uint32_t bit = 0; bit < TORC_STEER_BIT_COUNT; bit++) {
        int length;

        if ((features & (1u << bit)) == 0) {
            continue;
        }
        length =
            snprintf(text + filled, text_bytes - filled, "%s%s", filled > 0 ? "," : "", names[bit]);
        filled =
            (uint32_t)torc_min_u64(filled + (uint64_t)(length < 0 ? 0 : length), text_bytes - 1);
    }
    return filled;
}
