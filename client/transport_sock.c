// Torc client: packets through a UDP socket of the kernel.
//
// What    one non-blocking socket for all nodes: IPv4 when every seed has such an address, else
//         IPv6 with IPv4 mapped into it. Packets carry "do not fragment", and the kernel's own
//         opinion of the path is not asked: the engine probes it (WIRE.md, section 4).
// Memory  bursts of TORC_TRANSPORT_BURST receive buffers, mapped at open.
#include "client/address.h"
#include "client/transport.h"
#include "kit/clock_os.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_BUFFER_BYTES (4 << 20) // a window of jumbo packets from several nodes at once
#define PAYLOAD_LEAST       1200u
#define HEADERS_IPV4        28u // IP and UDP
#define HEADERS_IPV6        48u
#define READ_RTO_US         5000u // a sleeper is woken late where processors are scarce

// The kernel's socket address of either family; no cast between pointers is needed.
union sock_name {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

struct sock {
    int fd;
    bool is_ipv6;
    uint32_t room; // of a receive buffer
    uint8_t *buffers;
    union sock_name names[TORC_TRANSPORT_BURST];
    struct iovec pieces[TORC_TRANSPORT_BURST];
    struct mmsghdr messages[TORC_TRANSPORT_BURST];
};

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool endpoint_is_ipv4(const struct torc_endpoint *endpoint)
{
    return memcmp(endpoint->address, mapped, sizeof(mapped)) == 0;
}

// What a socket of IPv4 cannot reach keeps its own name: the kernel refuses it.
static socklen_t name_from(const struct torc_endpoint *from, bool is_ipv6, union sock_name *name)
{
    if (is_ipv6 || !endpoint_is_ipv4(from)) {
        name->in6 =
            (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htobe16(from->port)};
        memcpy(&name->in6.sin6_addr, from->address, 16);
        return sizeof(name->in6);
    }
    name->in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htobe16(from->port)};
    memcpy(&name->in.sin_addr, from->address + 12, 4);
    return sizeof(name->in);
}

static bool name_to(const union sock_name *name, struct torc_endpoint *to)
{
    if (name->any.sa_family == AF_INET) {
        memcpy(to->address, mapped, sizeof(mapped));
        memcpy(to->address + 12, &name->in.sin_addr, 4);
        to->port = be16toh(name->in.sin_port);
        return true;
    }
    if (name->any.sa_family == AF_INET6) {
        memcpy(to->address, &name->in6.sin6_addr, 16);
        to->port = be16toh(name->in6.sin6_port);
        return true;
    }
    return false;
}

// ---- Opening

// All addresses of a host, as seeds.
static enum torc_err sock_resolve(const struct torc_address *address,
                                  struct torc_transport_facts *facts, struct torc_fail *why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(address->host, NULL, &hints, &found);

    if (error != 0) {
        hints.ai_flags = AI_NUMERICHOST; // AI_ADDRCONFIG hides ::1 where only loopback has IPv6
        if (getaddrinfo(address->host, NULL, &hints, &found) != 0) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "host '%.80s': %s", address->host,
                             gai_strerror(error));
        }
    }
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        struct torc_endpoint *seed = &facts->seeds[facts->seed_count];
        union sock_name name;

        if (facts->seed_count < TORC_ENGINE_SEEDS_MAX && at->ai_addrlen <= sizeof(name)) {
            memcpy(&name, at->ai_addr, at->ai_addrlen);
            facts->seed_count += name_to(&name, seed) ? 1 : 0;
            seed->port = address->base_port;
        }
    }
    freeaddrinfo(found);
    return TORC_ERR_OK;
}

static enum torc_err sock_seeds(const char *text, struct torc_transport_facts *facts,
                                struct torc_fail *why)
{
    enum torc_err err = TORC_ERR_OK;

    do {
        struct torc_address address;

        err = torc_address_next(&text, &address, why);
        if (err == TORC_ERR_OK) {
            err = sock_resolve(&address, facts, why);
        }
    } while (err == TORC_ERR_OK && *text != '\0');
    if (err == TORC_ERR_OK && facts->seed_count == 0) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "address '%.80s': no IP address", text);
    }
    return err;
}

// What the interface towards the first seed carries: the kernel knows once a socket is connected.
static uint32_t sock_payload(const struct torc_endpoint *seed, bool is_ipv6)
{
    union sock_name name;
    socklen_t bytes = name_from(seed, is_ipv6, &name);
    uint32_t headers = is_ipv6 && !endpoint_is_ipv4(seed) ? HEADERS_IPV6 : HEADERS_IPV4;
    int fd = socket(is_ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int mtu = 0;
    socklen_t mtu_bytes = sizeof(mtu);

    if (fd >= 0 && connect(fd, &name.any, bytes) == 0) {
        (void)getsockopt(fd, is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, is_ipv6 ? IPV6_MTU : IP_MTU, &mtu,
                         &mtu_bytes); // else the least that every path carries
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    if (mtu < (int)(PAYLOAD_LEAST + headers)) {
        return PAYLOAD_LEAST;
    }
    return (uint32_t)torc_min_u64((uint64_t)mtu - headers, TORC_ENGINE_PAYLOAD_MAX) & ~7u;
}

static void sock_option(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof(value)); // each is an improvement only
}

static enum torc_err sock_make(struct sock *sock, struct torc_fail *why)
{
    sock->fd =
        socket(sock->is_ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock->fd < 0) {
        return torc_fail(why, TORC_ERR_IO, "socket: %s", strerrordesc_np(errno));
    }
    sock_option(sock->fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES);
    sock_option(sock->fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES);
    sock_option(sock->fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER_BYTES);
    sock_option(sock->fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    if (sock->is_ipv6) {
        sock_option(sock->fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
        sock_option(sock->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    }
    return TORC_ERR_OK;
}

static void sock_close(void *transport, bool forked)
{
    struct sock *sock = transport;

    (void)forked; // the child's descriptor is a copy
    if (sock->fd >= 0) {
        (void)close(sock->fd);
    }
    free(sock->buffers);
    free(sock);
}

static enum torc_err sock_open(void **transport, const char *address,
                               struct torc_transport_facts *facts, struct torc_fail *why)
{
    struct sock *sock = calloc(1, sizeof(*sock));
    enum torc_err err;

    if (sock == NULL) {
        return torc_fail(why, TORC_ERR_NO_SPACE, "no memory for a socket's buffers");
    }
    sock->fd = -1;
    *facts = (struct torc_transport_facts){.read_rto_us = READ_RTO_US};
    err = sock_seeds(address, facts, why);
    if (err != TORC_ERR_OK) {
        goto out;
    }
    for (uint32_t i = 0; i < facts->seed_count; i++) {
        sock->is_ipv6 |= !endpoint_is_ipv4(&facts->seeds[i]);
    }
    facts->payload_bytes = sock_payload(&facts->seeds[0], sock->is_ipv6);
    sock->room = TORC_ENGINE_PAYLOAD_MAX + 4;
    sock->buffers = aligned_alloc(64, ((uint64_t)sock->room * TORC_TRANSPORT_BURST + 63) & ~63u);
    if (sock->buffers == NULL) {
        err = torc_fail(why, TORC_ERR_NO_SPACE, "no memory for a socket's buffers");
        goto out;
    }
    err = sock_make(sock, why);
out:
    if (err != TORC_ERR_OK) {
        sock_close(sock, false);
        return err;
    }
    *transport = sock;
    return TORC_ERR_OK;
}

// ---- Packets

static void sock_send(void *transport, const struct torc_datagram *datagrams, uint32_t count)
{
    struct sock *sock = transport;
    uint32_t sent = 0;

    torc_assert(count <= TORC_TRANSPORT_BURST);
    for (uint32_t i = 0; i < count; i++) {
        socklen_t bytes = name_from(&datagrams[i].to, sock->is_ipv6, &sock->names[i]);

        sock->pieces[i] =
            (struct iovec){.iov_base = datagrams[i].payload, .iov_len = datagrams[i].bytes};
        sock->messages[i].msg_hdr = (struct msghdr){.msg_name = &sock->names[i],
                                                    .msg_namelen = bytes,
                                                    .msg_iov = &sock->pieces[i],
                                                    .msg_iovlen = 1};
    }
    while (sent < count) {
        int done = sendmmsg(sock->fd, sock->messages + sent, count - sent, 0);

        // A packet that the kernel refuses (no room, no route yet, too large) is a lost one.
        sent += done > 0 ? (uint32_t)done : 1;
    }
}

static uint32_t sock_receive(void *transport, struct torc_datagram *datagrams)
{
    struct sock *sock = transport;
    uint32_t kept = 0;
    int count;

    for (uint32_t i = 0; i < TORC_TRANSPORT_BURST; i++) {
        sock->pieces[i] = (struct iovec){.iov_base = sock->buffers + (uint64_t)i * sock->room,
                                         .iov_len = sock->room};
        sock->messages[i].msg_hdr = (struct msghdr){.msg_name = &sock->names[i],
                                                    .msg_namelen = sizeof(sock->names[i]),
                                                    .msg_iov = &sock->pieces[i],
                                                    .msg_iovlen = 1};
    }
    count = recvmmsg(sock->fd, sock->messages, TORC_TRANSPORT_BURST, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) {
        struct torc_datagram *datagram = &datagrams[kept];

        datagram->payload = sock->pieces[i].iov_base;
        datagram->bytes = sock->messages[i].msg_len;
        kept += name_to(&sock->names[i], &datagram->to) ? 1 : 0;
    }
    return kept;
}

static void sock_wait(void *transport, uint64_t until_ns)
{
    struct sock *sock = transport;
    struct pollfd wanted = {.fd = sock->fd, .events = POLLIN};
    uint64_t now_ns = torc_clock_now_ns();
    uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec time = {.tv_sec = (time_t)(left_ns / TORC_NS_PER_S),
                            .tv_nsec = (long)(left_ns % TORC_NS_PER_S)};

    (void)ppoll(&wanted, 1, &time, NULL); // whatever woke us, the caller looks at everything
}

static int sock_descriptor(void *transport)
{
    const struct sock *sock = transport;

    return sock->fd;
}

const struct torc_transport_code torc_transport_sock = {.version = TORC_TRANSPORT_VERSION,
                                                        .open = sock_open,
                                                        .send = sock_send,
                                                        .receive = sock_receive,
                                                        .wait = sock_wait,
                                                        .descriptor = sock_descriptor,
                                                        .close = sock_close};
