// Torc tests: frames of UDP, ARP, neighbour discovery and echo; each drop by its reason.
#include "tests/torc_test.h"
#include "wire/frame.h"

#include <string.h>

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t their_mac[6] = {2, 0, 0, 0, 0, 2};

static struct torc_frame_local our_port(uint16_t vlan)
{
    struct torc_frame_local local = {
        .has_ipv4 = 1,
        .has_ipv6 = 1,
        .ipv4 = {10, 79, 0, 11},
        .ipv6 = {0xfd, 0x79, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11},
        .vlan = vlan,
        .port_first = 28700,
        .port_count = 2};

    memcpy(local.mac, our_mac, 6);
    return local;
}

// A frame from a client to us; its bytes.
static uint32_t client_frame(unsigned char *frame, bool is_ipv6, uint16_t vlan)
{
    struct torc_frame_local local = our_port(vlan);
    static const uint8_t their_ipv4[4] = {10, 79, 0, 2};
    struct torc_frame_udp udp = {.source_port = 40000, .destination_port = 28701, .vlan = vlan};

    memcpy(udp.source_mac, their_mac, 6);
    memcpy(udp.destination_mac, our_mac, 6);
    if (is_ipv6) {
        memcpy(udp.source_ip, local.ipv6, 16);
        udp.source_ip[15] = 2;
        memcpy(udp.destination_ip, local.ipv6, 16);
    } else {
        torc_ip_map(udp.source_ip, their_ipv4);
        torc_ip_map(udp.destination_ip, local.ipv4);
    }
    torc_test_fill(frame + torc_frame_udp_head_bytes(&udp), 33, 1);
    return torc_frame_udp_write(frame, &udp, 33);
}

static enum torc_drop parse(const unsigned char *frame, uint32_t byte_count)
{
    struct torc_frame_local local = our_port(0);
    struct torc_frame parsed;

    return torc_frame_parse(&parsed, &local, frame, byte_count, 0);
}

// Fixes the IPv4 header's checksum after an edit.
static void resum(unsigned char *frame)
{
    uint16_t sum;

    memset(frame + 24, 0, 2);
    sum = torc_ip_sum_end(torc_ip_sum(0, frame + 14, (frame[14] & 0x0fu) * 4u));
    memcpy(frame + 24, &sum, 2);
}

static void check_frame_back(bool is_ipv6, uint16_t vlan)
{
    unsigned char frame[256];
    unsigned char answer[256];
    struct torc_frame_local local = our_port(vlan);
    struct torc_frame parsed;
    struct torc_frame_udp udp;
    uint32_t bytes = client_frame(frame, is_ipv6, vlan);
    uint32_t head_bytes = bytes - 33;

    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(parsed.kind, TORC_FRAME_UDP);
    CU_ASSERT_EQUAL(parsed.payload_bytes, 33);
    CU_ASSERT_EQUAL(parsed.payload[32], 33);
    CU_ASSERT_EQUAL(parsed.source_port, 40000);
    CU_ASSERT_EQUAL(parsed.is_ipv6, is_ipv6);
    // Padding behind the packet is no part of it.
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes + 10, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(parsed.payload_bytes, 33);
    torc_frame_udp_reply(&udp, &parsed, our_mac, vlan);
    CU_ASSERT_EQUAL(torc_frame_udp_head_bytes(&udp), head_bytes);
    CU_ASSERT_EQUAL(torc_frame_udp_write(answer, &udp, 0), head_bytes);
    CU_ASSERT_EQUAL(memcmp(answer, their_mac, 6), 0);
    CU_ASSERT_EQUAL(memcmp(answer + 6, our_mac, 6), 0);
}

static void test_frames(void)
{
    check_frame_back(false, 0);
    check_frame_back(true, 0);
    check_frame_back(false, 7);
    check_frame_back(true, 7);
}

static void test_frame_checksums(void)
{
    unsigned char frame[256];
    unsigned char pseudo[12] = {10, 79, 0, 2, 10, 79, 0, 11, 0, 17, 0, 41};
    uint32_t bytes = client_frame(frame, false, 0);

    // The sum over everything, checksums included, is zero (RFC 1071).
    CU_ASSERT_EQUAL(torc_ip_sum_end(torc_ip_sum(0, frame + 14, 20)), 0);
    CU_ASSERT_EQUAL(torc_ip_sum_end(torc_ip_sum(torc_ip_sum(0, pseudo, 12), frame + 34, 41)), 0);
    CU_ASSERT_EQUAL(bytes, 75);
}

static void test_frame_drops(void)
{
    unsigned char frame[256];
    uint32_t bytes = client_frame(frame, false, 0);
    struct torc_frame_local local = our_port(0);
    struct torc_frame parsed;

    CU_ASSERT_EQUAL(parse(frame, 13), TORC_DROP_L2_SHORT);
    CU_ASSERT_EQUAL(parse(frame, 30), TORC_DROP_L3_HEADER);
    CU_ASSERT_EQUAL(parse(frame, bytes - 1), TORC_DROP_L3_HEADER);
    frame[24] ^= 1; // row 11
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_CHECKSUM);
    frame[24] ^= 1;
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, TORC_FRAME_MARK_IP_BAD),
                    TORC_DROP_L3_CHECKSUM);
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, TORC_FRAME_MARK_L4_BAD),
                    TORC_DROP_L4_CHECKSUM);
    frame[0] ^= 4;
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L2_ADDRESS);
    frame[0] ^= 4;
    frame[13] = 1;
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L2_TYPE);
    frame[13] = 0;
    frame[20] |= 0x20; // more fragments, row 12
    resum(frame);
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_FRAGMENT);
    frame[20] = 0x40;
    frame[14] = 0x46; // options
    resum(frame);
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_OPTIONS);
    frame[14] = 0x45;
    frame[23] = 6; // TCP
    resum(frame);
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_PROTOCOL);
    frame[23] = 17;
    frame[33]++; // another destination
    resum(frame);
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_DESTINATION);
    frame[33]--;
    resum(frame);
    frame[39]++; // row 10: UDP's length
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L4_LENGTH);
    frame[39]--;
    frame[37] = 0x1e; // port 28702
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L4_PORT);
    frame[37] = 0x1d;
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_NONE);
}

static void test_frame_sources(void)
{
    static const uint8_t wrong[][4] = {
        {0, 0, 0, 0}, {127, 0, 0, 1}, {224, 0, 0, 1}, {255, 255, 255, 255}, {10, 79, 0, 11}};
    unsigned char frame[256];
    uint32_t bytes = client_frame(frame, false, 0);

    for (uint32_t i = 0; i < TORC_COUNT_OF(wrong); i++) { // row 13
        memcpy(frame + 26, wrong[i], 4);
        resum(frame);
        CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_SOURCE);
    }
    bytes = client_frame(frame, true, 0);
    memcpy(frame + 22, frame + 38, 16); // our own
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_SOURCE);
    torc_ip_map(frame + 22, wrong[4]); // IPv4 in disguise
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_SOURCE);
    bytes = client_frame(frame, true, 0);
    frame[20] = 44; // fragment header
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_FRAGMENT);
    frame[20] = 60;
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L3_OPTIONS);
    frame[20] = 17;
    memset(frame + 60, 0, 2); // UDP checksum 0
    CU_ASSERT_EQUAL(parse(frame, bytes), TORC_DROP_L4_CHECKSUM);
}

static void test_arp(void)
{
    unsigned char frame[TORC_ARP_FRAME_BYTES];
    struct torc_frame_local local = our_port(0);
    struct torc_frame parsed;
    struct torc_arp arp = {
        .operation = TORC_ARP_REQUEST, .sender_ip = {10, 79, 0, 2}, .target_ip = {10, 79, 0, 11}};
    struct torc_arp got;
    uint32_t bytes;

    memcpy(arp.sender_mac, their_mac, 6);
    bytes = torc_arp_write(frame, &arp, 0);
    CU_ASSERT_EQUAL(bytes, 42);
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(parsed.kind, TORC_FRAME_ARP);
    CU_ASSERT_EQUAL(torc_arp_decode(&got, &parsed), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(got.operation, TORC_ARP_REQUEST);
    CU_ASSERT_EQUAL(memcmp(got.target_ip, local.ipv4, 4), 0);
    frame[21] = 3; // operation
    CU_ASSERT_EQUAL(torc_arp_decode(&got, &parsed), TORC_DROP_NEIGHBOUR);
    frame[21] = 1;
    parsed.payload_bytes = 27;
    CU_ASSERT_EQUAL(torc_arp_decode(&got, &parsed), TORC_DROP_NEIGHBOUR);
}

static void test_nd(void)
{
    unsigned char frame[TORC_ND_FRAME_BYTES];
    struct torc_frame_local local = our_port(0);
    struct torc_frame parsed;
    struct torc_nd nd = {.kind = TORC_ND_SOLICIT, .has_mac = true};
    struct torc_nd got;
    struct torc_nd_way way = {.vlan = 0};
    uint32_t bytes;

    memcpy(nd.mac, their_mac, 6);
    memcpy(nd.target, local.ipv6, 16);
    memcpy(way.source_mac, their_mac, 6);
    memcpy(way.source_ip, local.ipv6, 16);
    way.source_ip[15] = 2;
    torc_nd_group(local.ipv6, way.destination_ip, way.destination_mac);
    bytes = torc_nd_write(frame, &nd, &way);
    CU_ASSERT_EQUAL(bytes, 86);
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(parsed.kind, TORC_FRAME_ND);
    CU_ASSERT_EQUAL(torc_nd_decode(&got, &parsed), TORC_DROP_NONE);
    CU_ASSERT_TRUE(got.has_mac);
    CU_ASSERT_EQUAL(memcmp(got.mac, their_mac, 6), 0);
    CU_ASSERT_EQUAL(memcmp(got.target, local.ipv6, 16), 0);
    parsed.hop_limit = 254;
    CU_ASSERT_EQUAL(torc_nd_decode(&got, &parsed), TORC_DROP_NEIGHBOUR);
    parsed.hop_limit = 255;
    frame[70] ^= 1;
    CU_ASSERT_EQUAL(torc_nd_decode(&got, &parsed), TORC_DROP_L4_CHECKSUM);
}

static void test_echo(void)
{
    unsigned char frame[256];
    unsigned char answer[256];
    struct torc_frame_local local = our_port(0);
    struct torc_frame parsed;
    uint32_t bytes = client_frame(frame, false, 0);
    uint16_t sum;

    frame[23] = 1; // ICMP instead of UDP, over the same bytes
    resum(frame);
    frame[34] = 8;
    frame[35] = 0;
    memset(frame + 36, 0, 2);
    sum = torc_ip_sum_end(torc_ip_sum(0, frame + 34, bytes - 34));
    memcpy(frame + 36, &sum, 2);
    CU_ASSERT_EQUAL(torc_frame_parse(&parsed, &local, frame, bytes, 0), TORC_DROP_NONE);
    CU_ASSERT_EQUAL(parsed.kind, TORC_FRAME_ECHO);
    CU_ASSERT_EQUAL(torc_echo_write(answer, sizeof(answer), &parsed, our_mac, 0), bytes);
    CU_ASSERT_EQUAL(answer[34], 0);
    CU_ASSERT_EQUAL(memcmp(answer + 38, frame + 38, bytes - 38), 0);
    CU_ASSERT_EQUAL(torc_ip_sum_end(torc_ip_sum(0, answer + 34, bytes - 34)), 0);
    CU_ASSERT_EQUAL(torc_echo_write(answer, bytes - 1, &parsed, our_mac, 0), 0);
    frame[50] ^= 1;
    CU_ASSERT_EQUAL(torc_echo_write(answer, sizeof(answer), &parsed, our_mac, 0), 0);
}

int main(void)
{
    CU_TestInfo tests[] = {{"frames of both families are parsed and answered", test_frames},
                           {"checksums are right", test_frame_checksums},
                           {"bad frames are dropped by their reason", test_frame_drops},
                           {"wrong sources are dropped", test_frame_sources},
                           {"ARP comes back as it was", test_arp},
                           {"neighbour discovery comes back as it was", test_nd},
                           {"an echo is answered with its bytes", test_echo},
                           CU_TEST_INFO_NULL};

    return torc_test_run("frame", tests);
}
