// Torc tests: a switch that is as bad as it is told to be.
//
// What    passes frames between two links, both ways, and loses, repeats, delays, reorders, damages
//         and cuts UDP packets on the way; all else (ARP, neighbour discovery) passes unharmed.
//           torc-switch LINK LINK SEED
//         Standard input: one line at a time, `NAME NUMBER…` (struct switch_faults has the names);
//         each is answered by `ok` once it holds. At its end, or at SIGTERM, one line of JSON says
//         what was done to how many frames.
// Owner   one thread. tests/e2e/lossy_network_test.py starts it, in a network namespace of its own.
// Memory  FRAMES_MAX buffers; a frame that finds none is lost, and counted as `overflow`.
// Damage  flips one bit of the UDP payload and removes the UDP checksum (IPv4: zero), so that the
//         receiver's kernel does not find it first: what Torc's own check is for.
#include "kit/clock_os.h"
#include "kit/rng.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum {
    FRAMES_MAX = 16384,
    FRAME_BYTES = 9018,
    BURST = 64,
    SOCKET_BYTES = 8 << 20, // of each socket's queues: the switch itself should lose nothing
    LINE_BYTES = 256,
};

// X(NAME, what it is). Chances are in parts per million of UDP packets, each way.
#define SWITCH_FAULTS(X)                                                       \
    X(loss, "lost")                                                            \
    X(duplicate, "sent twice")                                                 \
    X(reorder, "held back for `hold` microseconds, so that later ones pass")   \
    X(hold, "microseconds")                                                    \
    X(corrupt, "one bit flipped")                                              \
    X(delay, "microseconds, for every packet")                                 \
    X(jitter, "microseconds at most, added to the delay: packets pass others") \
    X(mtu, "larger IP packets are lost; 0: none")                              \
    X(blackout, "1: nothing passes at all")

#define SWITCH_COUNTS(X) \
    X(passed) X(lost) X(duplicated) X(reordered) X(corrupted) X(delayed) X(cut) X(dark) X(overflow)

struct switch_faults {
#define X(name, help) uint64_t name;
    SWITCH_FAULTS(X)
#undef X
};

struct switch_counts {
#define X(name) uint64_t name;
    SWITCH_COUNTS(X)
#undef X
};

struct switch_frame {
    uint64_t due_ns;
    uint64_t order; // among those due at the same time
    uint32_t byte_count;
    uint32_t out; // index of the link that it leaves by
    uint8_t bytes[FRAME_BYTES];
};

struct lossy_switch {
    int links[2];
    struct switch_faults faults;
    struct switch_counts counts;
    struct torc_rng rng;
    uint64_t order;
    struct switch_frame *frames;
    uint32_t free[FRAMES_MAX];
    uint32_t free_count;
    uint32_t heap[FRAMES_MAX]; // waiting frames, the earliest first
    uint32_t heap_count;
};

static struct lossy_switch self;
static _Atomic bool told_to_end; // by a signal

_Noreturn void torc_assert_fail(const char *expression, const char *function, const char *file,
                                int line)
{
    (void)fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, expression);
    abort();
}

static void on_signal(int number)
{
    (void)number;
    told_to_end = true;
}

// -- Links ----------------------------------------------------------------------------------------

static int link_open(const char *name)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(ETH_P_ALL),
                                  .sll_ifindex = (int)if_nametoindex(name)};
    int link = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
    int bytes = SOCKET_BYTES;
    int yes = 1;

    if (address.sll_ifindex == 0 || link < 0 ||
        setsockopt(link, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)) != 0 ||
        bind(link, (struct sockaddr *)&address, sizeof(address)) != 0) {
        (void)fprintf(stderr, "torc-switch: %s: %s\n", name, strerrordesc_np(errno));
        exit(1); // NOLINT(concurrency-mt-unsafe): one thread
    }
    (void)setsockopt(link, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    (void)setsockopt(link, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    return link;
}

static void link_send(const struct switch_frame *frame)
{
    ssize_t sent;

    do {
        sent = send(self.links[frame->out], frame->bytes, frame->byte_count, 0);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        self.counts.overflow++;
    } else {
        self.counts.passed++;
    }
}

// -- Frames that wait -----------------------------------------------------------------------------

static bool heap_before(uint32_t a, uint32_t b)
{
    const struct switch_frame *left = &self.frames[self.heap[a]];
    const struct switch_frame *right = &self.frames[self.heap[b]];

    return left->due_ns != right->due_ns ? left->due_ns < right->due_ns
                                         : left->order < right->order;
}

static void heap_swap(uint32_t a, uint32_t b)
{
    uint32_t kept = self.heap[a];

    self.heap[a] = self.heap[b];
    self.heap[b] = kept;
}

static void heap_push(uint32_t frame)
{
    uint32_t at = self.heap_count++;

    self.heap[at] = frame;
    while (at > 0 && heap_before(at, (at - 1) / 2)) {
        heap_swap(at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

static uint32_t heap_pop(void)
{
    uint32_t first = self.heap[0];
    uint32_t at = 0;

    self.heap[0] = self.heap[--self.heap_count];
    for (;;) {
        uint32_t least = at;

        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2; child++) {
            if (child < self.heap_count && heap_before(child, least)) {
                least = child;
            }
        }
        if (least == at) {
            return first;
        }
        heap_swap(at, least);
        at = least;
    }
}

static void send_due(uint64_t now_ns)
{
    while (self.heap_count > 0 && self.frames[self.heap[0]].due_ns <= now_ns) {
        uint32_t frame = heap_pop();

        link_send(&self.frames[frame]);
        self.free[self.free_count++] = frame;
    }
}

// -- What happens to a packet ---------------------------------------------------------------------

// Where its UDP payload begins; 0: it is no UDP packet.
static uint32_t udp_payload(const struct switch_frame *frame)
{
    const uint8_t *ip = frame->bytes + ETH_HLEN;
    uint32_t head;

    if (frame->byte_count < ETH_HLEN + 28) {
        return 0;
    }
    if (frame->bytes[12] == 0x08 && frame->bytes[13] == 0x00 && ip[9] == IPPROTO_UDP) {
        head = (uint32_t)(ip[0] & 0x0f) * 4;
    } else if (frame->bytes[12] == 0x86 && frame->bytes[13] == 0xdd && ip[6] == IPPROTO_UDP) {
        head = 40;
    } else {
        return 0;
    }
    return frame->byte_count > ETH_HLEN + head + 8 ? ETH_HLEN + head + 8 : 0;
}

static void corrupt(struct switch_frame *frame, uint32_t payload)
{
    uint64_t bit = torc_rng_below(&self.rng, (uint64_t)(frame->byte_count - payload) * 8);

    frame->bytes[payload + bit / 8] ^= (uint8_t)(1u << (bit % 8));
    if (frame->bytes[12] == 0x08) {
        frame->bytes[payload - 2] = 0;
        frame->bytes[payload - 1] = 0;
    }
    self.counts.corrupted++;
}

static bool is_lost(const struct switch_frame *frame)
{
    if (self.faults.mtu != 0 && frame->byte_count > self.faults.mtu + ETH_HLEN) {
        self.counts.cut++;
        return true;
    }
    if (torc_rng_chance(&self.rng, self.faults.loss)) {
        self.counts.lost++;
        return true;
    }
    return false;
}

static uint64_t lateness_ns(void)
{
    uint64_t us = self.faults.delay;

    if (self.faults.jitter > 0) {
        us += torc_rng_below(&self.rng, self.faults.jitter + 1);
    }
    self.counts.delayed += us > 0;
    if (torc_rng_chance(&self.rng, self.faults.reorder)) {
        us += self.faults.hold;
        self.counts.reordered++;
    }
    return us * TORC_NS_PER_US;
}

static void enqueue(const struct switch_frame *frame, uint64_t due_ns)
{
    uint32_t at;

    if (self.free_count == 0) {
        self.counts.overflow++;
        return;
    }
    at = self.free[--self.free_count];
    self.frames[at].byte_count = frame->byte_count;
    self.frames[at].out = frame->out;
    memcpy(self.frames[at].bytes, frame->bytes, frame->byte_count);
    self.frames[at].due_ns = due_ns;
    self.frames[at].order = self.order++;
    heap_push(at);
}

static void switch_frame(struct switch_frame *frame, uint64_t now_ns)
{
    uint32_t payload = udp_payload(frame);

    if (self.faults.blackout != 0) {
        self.counts.dark++;
        return;
    }
    if (payload == 0) {
        link_send(frame);
        return;
    }
    if (is_lost(frame)) {
        return;
    }
    if (torc_rng_chance(&self.rng, self.faults.duplicate)) {
        self.counts.duplicated++;
        enqueue(frame, now_ns + lateness_ns());
    }
    if (torc_rng_chance(&self.rng, self.faults.corrupt)) {
        corrupt(frame, payload);
    }
    enqueue(frame, now_ns + lateness_ns());
}

static void receive(uint32_t in)
{
    static struct switch_frame burst[BURST];
    struct mmsghdr heads[BURST] = {0};
    struct iovec places[BURST];
    uint64_t now_ns;
    int count;

    for (uint32_t i = 0; i < BURST; i++) {
        places[i] = (struct iovec){.iov_base = burst[i].bytes, .iov_len = FRAME_BYTES};
        heads[i].msg_hdr.msg_iov = &places[i];
        heads[i].msg_hdr.msg_iovlen = 1;
    }
    count = recvmmsg(self.links[in], heads, BURST, MSG_DONTWAIT, NULL);
    now_ns = torc_clock_now_ns();
    for (int i = 0; i < count; i++) {
        burst[i].byte_count = heads[i].msg_len;
        burst[i].out = 1 - in;
        switch_frame(&burst[i], now_ns);
    }
}

// -- Orders ---------------------------------------------------------------------------------------

static void order(char *line)
{
    char *rest = NULL;
    char *name = strtok_r(line, " \n", &rest);

    while (name != NULL) {
        char *number = strtok_r(NULL, " \n", &rest);
        bool known = false;

#define X(field, help)                                  \
    if (number != NULL && strcmp(name, #field) == 0) {  \
        self.faults.field = strtoull(number, NULL, 10); \
        known = true;                                   \
    }
        SWITCH_FAULTS(X)
#undef X
        if (!known) {
            (void)printf("unknown: %s\n", name);
            (void)fflush(stdout);
            return;
        }
        name = strtok_r(NULL, " \n", &rest);
    }
    (void)printf("ok\n");
    (void)fflush(stdout);
}

// One read is one line: the test waits for each answer. False at the end of the input.
static bool orders(void)
{
    char line[LINE_BYTES];
    ssize_t bytes = read(STDIN_FILENO, line, sizeof(line) - 1);

    if (bytes <= 0) {
        return bytes < 0 && errno == EINTR;
    }
    line[bytes] = '\0';
    order(line);
    return true;
}

static struct timespec until_due(uint64_t now_ns)
{
    uint64_t wait_ns = TORC_NS_PER_S;

    if (self.heap_count > 0) {
        uint64_t due_ns = self.frames[self.heap[0]].due_ns;

        wait_ns = due_ns > now_ns ? torc_min_u64(due_ns - now_ns, wait_ns) : 0;
    }
    return (struct timespec){.tv_sec = (time_t)(wait_ns / TORC_NS_PER_S),
                             .tv_nsec = (long)(wait_ns % TORC_NS_PER_S)};
}

static void run(void)
{
    struct pollfd fds[3] = {{.fd = self.links[0], .events = POLLIN},
                            {.fd = self.links[1], .events = POLLIN},
                            {.fd = STDIN_FILENO, .events = POLLIN}};

    while (!told_to_end) {
        struct timespec wait = until_due(torc_clock_now_ns());

        (void)ppoll(fds, TORC_COUNT_OF(fds), &wait, NULL); // EINTR: looked at above
        for (uint32_t in = 0; in < 2; in++) {
            if ((fds[in].revents & POLLIN) != 0) {
                receive(in);
            }
        }
        send_due(torc_clock_now_ns());
        if (fds[2].revents != 0 && !orders()) {
            return;
        }
    }
}

int main(int argc, char **argv)
{
    const char *comma = "";
    struct sigaction action = {.sa_handler = on_signal};

    if (argc != 4) {
        (void)fprintf(stderr, "usage: torc-switch LINK LINK SEED\n");
        return 2;
    }
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    self.links[0] = link_open(argv[1]);
    self.links[1] = link_open(argv[2]);
    self.rng.state = strtoull(argv[3], NULL, 10);
    self.frames = calloc(FRAMES_MAX, sizeof(*self.frames));
    if (self.frames == NULL) {
        (void)fprintf(stderr, "torc-switch: no memory\n");
        return 1;
    }
    while (self.free_count < FRAMES_MAX) {
        self.free[self.free_count] = self.free_count;
        self.free_count++;
    }
    (void)printf("ready\n");
    (void)fflush(stdout);
    run();
    (void)printf("{");
#define X(name)                                                                        \
    (void)printf("%s\"" #name "\":%llu", comma, (unsigned long long)self.counts.name); \
    comma = ",";
    SWITCH_COUNTS(X)
#undef X
    (void)printf("}\n");
    free(self.frames);
    return 0;
}
