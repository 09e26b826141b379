// Torc tests: as many frames a second as one core sends, each a little different from the last.
//
// What    sends frames out of a link for a while, from templates on standard input:
//           torc-flood LINK MILLISECONDS
//         One template a line: the frame in hexadecimal, then pairs OFFSET BYTES that name what is
//         random in each copy. Templates take turns. The IPv4 header's checksum is made anew.
//         Prints how many frames the kernel took, as one JSON object: then, or at SIGTERM.
// Owner   one thread. tests/e2e/flood_test.py starts it, inside its own network alone.
// Memory  TEMPLATES_MAX templates, BURST frames.
#include "kit/clock_os.h"
#include "kit/rng.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_QDISC_BYPASS
#define PACKET_QDISC_BYPASS 20
#endif

enum {
    TEMPLATES_MAX = 64,
    VARIED_MAX = 8,
    FRAME_BYTES = 2048,
    BURST = 64,
    LINE_BYTES = 8192,
    IP_CHECKSUM_AT = ETH_HLEN + 10,
    IP_HEAD_BYTES = 20,
};

struct flood_template {
    uint32_t byte_count;
    uint32_t varied_count;
    uint32_t varied_at[VARIED_MAX];
    uint32_t varied_bytes[VARIED_MAX];
    uint8_t bytes[FRAME_BYTES];
};

static struct flood_template templates[TEMPLATES_MAX];
static uint32_t template_count;
static struct torc_rng rng;
static atomic_bool told_to_stop;

_Noreturn void torc_assert_fail(const char *expression, const char *function, const char *file,
                                int line)
{
    (void)fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, expression);
    abort();
}

_Noreturn static void fail(const char *what)
{
    (void)fprintf(stderr, "torc-flood: %s: %s\n", what, strerrordesc_np(errno));
    exit(1); // NOLINT(concurrency-mt-unsafe): one thread
}

// -- Templates ------------------------------------------------------------------------------------

static bool template_read(struct flood_template *to, char *line)
{
    char *rest = NULL;
    char *word = strtok_r(line, " \n", &rest);
    uint32_t digits = word == NULL ? 0 : (uint32_t)strlen(word);

    if (digits < 2 * (ETH_HLEN + IP_HEAD_BYTES) || digits > 2 * FRAME_BYTES) {
        return false;
    }
    *to = (struct flood_template){.byte_count = digits / 2};
    for (uint32_t i = 0; i < to->byte_count; i++) {
        char pair[3] = {word[2 * (uint64_t)i], word[2 * (uint64_t)i + 1], '\0'};

        to->bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    while ((word = strtok_r(NULL, " \n", &rest)) != NULL && to->varied_count < VARIED_MAX) {
        char *bytes = strtok_r(NULL, " \n", &rest);
        uint32_t at = (uint32_t)strtoul(word, NULL, 10);

        if (bytes == NULL || at + strtoul(bytes, NULL, 10) > to->byte_count) {
            return false;
        }
        to->varied_at[to->varied_count] = at;
        to->varied_bytes[to->varied_count++] = (uint32_t)strtoul(bytes, NULL, 10);
    }
    return true;
}

static void templates_read(void)
{
    static char line[LINE_BYTES];

    while (template_count < TEMPLATES_MAX && fgets(line, sizeof(line), stdin) != NULL) {
        if (!template_read(&templates[template_count], line)) {
            (void)fprintf(stderr, "torc-flood: template %u is none\n", template_count);
            exit(2); // NOLINT(concurrency-mt-unsafe): one thread
        }
        template_count++;
    }
}

static void ip_checksum(uint8_t *frame)
{
    uint32_t sum = 0;

    frame[IP_CHECKSUM_AT] = 0;
    frame[IP_CHECKSUM_AT + 1] = 0;
    for (uint32_t i = 0; i < IP_HEAD_BYTES; i += 2) {
        sum += (uint32_t)frame[ETH_HLEN + i] << 8 | frame[ETH_HLEN + i + 1];
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~(sum + (sum >> 16));
    frame[IP_CHECKSUM_AT] = (uint8_t)(sum >> 8);
    frame[IP_CHECKSUM_AT + 1] = (uint8_t)sum;
}

static uint32_t template_copy(const struct flood_template *from, uint8_t *frame)
{
    memcpy(frame, from->bytes, from->byte_count);
    for (uint32_t i = 0; i < from->varied_count; i++) {
        for (uint32_t at = 0; at < from->varied_bytes[i]; at += sizeof(uint64_t)) {
            uint64_t number = torc_rng_next(&rng);
            uint64_t bytes = torc_min_u64(sizeof(number), from->varied_bytes[i] - at);

            memcpy(frame + from->varied_at[i] + at, &number, bytes);
        }
    }
    if (frame[12] == 0x08 && frame[13] == 0x00) {
        ip_checksum(frame);
    }
    return from->byte_count;
}

// -- Sending --------------------------------------------------------------------------------------

static int link_open(const char *name)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = 0, // it receives nothing
                                  .sll_ifindex = (int)if_nametoindex(name)};
    int link = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    int yes = 1;

    if (address.sll_ifindex == 0 || link < 0 ||
        bind(link, (struct sockaddr *)&address, sizeof(address)) != 0) {
        fail(name);
    }
    (void)setsockopt(link, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof(yes));
    return link;
}

static void stop_on_signal(int number)
{
    (void)number;
    atomic_store_explicit(&told_to_stop, true, memory_order_relaxed);
}

static uint64_t flood(int link, uint64_t end_ns)
{
    static uint8_t frames[BURST][FRAME_BYTES];
    struct mmsghdr heads[BURST] = {0};
    struct iovec places[BURST];
    uint64_t sent = 0;
    uint32_t next = 0;

    while (torc_clock_now_ns() < end_ns &&
           !atomic_load_explicit(&told_to_stop, memory_order_relaxed)) {
        int took;

        for (uint32_t i = 0; i < BURST; i++) {
            uint32_t bytes = template_copy(&templates[next++ % template_count], frames[i]);

            places[i] = (struct iovec){.iov_base = frames[i], .iov_len = bytes};
            heads[i].msg_hdr = (struct msghdr){.msg_iov = &places[i], .msg_iovlen = 1};
        }
        took = sendmmsg(link, heads, BURST, 0);
        if (took < 0 && errno != ENOBUFS && errno != EINTR) {
            fail("sendmmsg");
        }
        sent += took > 0 ? (uint64_t)took : 0;
    }
    return sent;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = stop_on_signal};
    uint64_t sent;
    int link;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: torc-flood LINK MILLISECONDS <TEMPLATES\n");
        return 2;
    }
    templates_read();
    if (template_count == 0) {
        (void)fprintf(stderr, "torc-flood: no template\n");
        return 2;
    }
    (void)sigaction(SIGTERM, &action, NULL); // cannot fail for this one
    rng.state = torc_clock_now_ns();
    link = link_open(argv[1]);
    sent = flood(link, torc_clock_now_ns() + strtoull(argv[2], NULL, 10) * TORC_NS_PER_MS);
    (void)close(link);
    (void)printf("{\"sent\":%llu}\n", (unsigned long long)sent);
    return 0;
}
