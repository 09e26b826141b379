// Torc tests: any bytes as an Ethernet frame: parsed or dropped for a reason, and what is inside
// lies inside the frame. Rows 10 to 13 of WIRE.md, section 8, are one edit away from the frames
// made here.
#include "tests/fuzz/mutate.h"
#include "wire/frame.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    FRAME_BYTES = 256
};

static const struct torc_frame_local local = {
    .mac = {2, 0, 0, 0, 0, 1},
    .has_ipv4 = 1,
    .has_ipv6 = 1,
    .ipv4 = {10, 79, 0, 11},
    .ipv6 = {0xfd, 0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11},
    .port_first = 28700,
    .port_count = 2,
};

// Whether the copy that must not be read beyond its end holds what the frame points to.
static void check_inside(const struct torc_frame *frame, const uint8_t *bytes, uint32_t byte_count)
{
    torc_assert(frame->payload >= bytes);
    torc_assert(frame->payload_bytes <= byte_count);
    torc_assert(frame->payload + frame->payload_bytes <= bytes + byte_count);
}

static void answer(const struct torc_frame *frame)
{
    uint8_t out[TORC_FRAME_HEAD_MAX + FRAME_BYTES];
    struct torc_frame_udp udp;
    struct torc_arp arp;
    struct torc_nd nd;
    uint32_t bytes;

    switch (frame->kind) {
    case TORC_FRAME_UDP:
        torc_frame_udp_reply(&udp, frame, local.mac, 0);
        bytes = torc_frame_udp_write(out, &udp, 0);
        torc_assert(bytes == torc_frame_udp_head_bytes(&udp));
        break;
    case TORC_FRAME_ARP:
        if (torc_arp_decode(&arp, frame) == TORC_DROP_NONE) {
            torc_assert(arp.operation == TORC_ARP_REQUEST || arp.operation == TORC_ARP_REPLY);
        }
        break;
    case TORC_FRAME_ND:
        if (torc_nd_decode(&nd, frame) == TORC_DROP_NONE) {
            torc_assert(nd.target[0] != 0xff);
        }
        break;
    case TORC_FRAME_ECHO:
        bytes = torc_echo_write(out, sizeof(out), frame, local.mac, 0);
        torc_assert(bytes <= TORC_FRAME_HEAD_MAX + frame->payload_bytes);
        break;
    }
}

static uint32_t make_udp(uint8_t *frame, bool is_ipv6)
{
    static const uint8_t client_ipv4[4] = {10, 79, 0, 2};
    struct torc_frame_udp udp = {
        .source_mac = {2, 0, 0, 0, 0, 2}, .source_port = 40000, .destination_port = 28701};

    memcpy(udp.destination_mac, local.mac, 6);
    torc_ip_map(udp.source_ip, client_ipv4);
    torc_ip_map(udp.destination_ip, local.ipv4);
    if (is_ipv6) {
        memcpy(udp.source_ip, local.ipv6, 16);
        udp.source_ip[15] = 2;
        memcpy(udp.destination_ip, local.ipv6, 16);
    }
    memset(frame, 0x54, FRAME_BYTES);
    return torc_frame_udp_write(frame, &udp, 32);
}

static uint32_t make_arp(uint8_t *frame)
{
    struct torc_arp arp = {.operation = TORC_ARP_REQUEST,
                           .sender_mac = {2, 0, 0, 0, 0, 2},
                           .sender_ip = {10, 79, 0, 2},
                           .target_ip = {10, 79, 0, 11}};

    return torc_arp_write(frame, &arp, 0);
}

static uint32_t make_nd(uint8_t *frame)
{
    struct torc_nd nd = {.kind = TORC_ND_SOLICIT, .has_mac = true, .mac = {2, 0, 0, 0, 0, 2}};
    struct torc_nd_way way = {.source_mac = {2, 0, 0, 0, 0, 2}};

    memcpy(nd.target, local.ipv6, 16);
    memcpy(way.source_ip, local.ipv6, 16);
    way.source_ip[15] = 2;
    torc_nd_group(local.ipv6, way.destination_ip, way.destination_mac);
    return torc_nd_write(frame, &nd, &way);
}

// An echo request: ICMP where UDP was, with a right checksum.
static uint32_t make_echo(uint8_t *frame)
{
    uint32_t bytes = make_udp(frame, false);
    uint16_t sum;

    frame[23] = 1;
    frame[34] = 8;
    frame[35] = 0;
    memset(frame + 36, 0, 2);
    sum = torc_ip_sum_end(torc_ip_sum(0, frame + 34, bytes - 34));
    memcpy(frame + 36, &sum, 2);
    return bytes;
}

static uint32_t make_frame(struct torc_rng *rng, uint8_t *frame)
{
    switch (torc_rng_below(rng, 5)) {
    case 0: return make_udp(frame, false);
    case 1: return make_udp(frame, true);
    case 2: return make_arp(frame);
    case 3: return make_nd(frame);
    default: return make_echo(frame);
    }
}

// Half of the edited frames get their header checksum again: else edits stop there.
static void mend(struct torc_rng *rng, uint8_t *frame)
{
    uint16_t sum;

    if (frame[12] == 8 && frame[13] == 0 && torc_rng_chance(rng, 500000)) {
        memset(frame + 24, 0, 2);
        sum = torc_ip_sum_end(torc_ip_sum(0, frame + 14, (frame[14] & 0x0fu) * 4u));
        memcpy(frame + 24, &sum, 2);
    }
}

static void take(const uint8_t *bytes, uint32_t byte_count)
{
    struct torc_frame frame;

    if (torc_frame_parse(&frame, &local, bytes, byte_count, 0) == TORC_DROP_NONE) {
        check_inside(&frame, bytes, byte_count);
        answer(&frame);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct torc_rng rng = torc_fuzz_rng(data, size);
    uint8_t frame[FRAME_BYTES];
    uint32_t bytes = make_frame(&rng, frame);

    if (size <= FRAME_BYTES) {
        take(data, (uint32_t)size);
    }
    torc_fuzz_edit(&rng, frame, bytes);
    mend(&rng, frame);
    take(frame, torc_fuzz_cut(&rng, bytes));
    return 0;
}
