// Torc dataplane: life, the board, lanes, and what comes back from peers; see peers.h.
#include "dataplane/peers_impl.h"

#include <sodium.h>

#include <string.h>

#define CLOSE_LATE_NS UINT64_C(100000000) // what is under way on the old lane arrives before
#define CONFIRMS      4u // packets a second apart that confirm a new lane, in case some are lost
#define LINK_KNOWN    (UINT64_C(1) << 63)
#define PARTS_ALIGN   64u

// -- Memory --------------------------------------------------------------------------------------

uint64_t torc_peers_board_bytes(uint32_t core_count)
{
    return sizeof(struct torc_peers_board) + core_count * sizeof(struct peers_marks);
}

struct torc_peers_board *torc_peers_board_init(void *memory, uint32_t core_count)
{
    struct torc_peers_board *board = memory;

    torc_assert((uintptr_t)memory % TORC_FALSE_SHARING_BYTES == 0);
    torc_assert(core_count >= 1 && core_count <= TORC_LANE_CORES_MAX);
    board->core_count = core_count;
    return board;
}

static uint64_t peers_align(uint64_t bytes)
{
    return (bytes + PARTS_ALIGN - 1) & ~(uint64_t)(PARTS_ALIGN - 1);
}

static uint32_t peers_stride(const struct torc_peers_config *config)
{
    return (uint32_t)peers_align(config->payload_max);
}

uint64_t torc_peers_bytes(const struct torc_peers_config *config)
{
    uint64_t bytes = peers_align(sizeof(struct torc_peers));

    bytes += peers_align(TORC_PEERS_MAX * sizeof(struct peers_peer));
    bytes += config->core == 0 ? peers_align(TORC_PEERS_MAX * sizeof(struct peers_call)) : 0;
    bytes += (uint64_t)TORC_PEERS_PACKETS * peers_stride(config);
    bytes +=
        (uint64_t)TORC_PEERS_PARTS * (peers_align(config->cargo_bytes_max) +
                                      peers_align(PEERS_BITMAP_BYTES(config->cargo_bytes_max)));
    return bytes;
}

static void *peers_carve(unsigned char **at, uint64_t bytes)
{
    void *here = *at;

    *at += peers_align(bytes);
    return here;
}

struct torc_peers *torc_peers_init(void *memory, const struct torc_peers_config *config)
{
    unsigned char *at = memory;
    struct torc_peers *peers = peers_carve(&at, sizeof(*peers));

    torc_assert((uintptr_t)memory % 64 == 0);
    torc_assert(config->core < config->core_count);
    torc_assert(config->core_count == config->board->core_count);
    torc_assert(config->payload_max >= TORC_PAYLOAD_MIN);
    torc_assert(config->cargo_bytes_max <= TORC_PEER_CARGO_MAX);
    peers->config = *config;
    peers->board = config->board;
    peers->rng = (struct torc_rng){config->seed};
    peers->peers = peers_carve(&at, TORC_PEERS_MAX * sizeof(struct peers_peer));
    peers->calls =
        config->core == 0 ? peers_carve(&at, TORC_PEERS_MAX * sizeof(struct peers_call)) : NULL;
    peers->stride = peers_stride(config);
    peers->packet_bytes = peers_carve(&at, (uint64_t)TORC_PEERS_PACKETS * peers->stride);
    for (uint32_t i = 0; i < TORC_PEERS_PARTS; i++) {
        peers->parts[i].bytes = peers_carve(&at, config->cargo_bytes_max);
        peers->parts[i].bitmap = peers_carve(&at, PEERS_BITMAP_BYTES(config->cargo_bytes_max));
    }
    for (uint32_t i = 0; i < TORC_PEERS_PACKETS; i++) {
        peers->packets[i].next = i + 1 < TORC_PEERS_PACKETS ? i + 1 : PEERS_NONE;
    }
    peers->free_count = TORC_PEERS_PACKETS;
    peers->queue_head = PEERS_NONE;
    peers->queue_tail = PEERS_NONE;
    for (uint32_t i = 0; i < TORC_PEERS_MAX; i++) {
        peers->nodes[i] = TORC_NODE_UNKNOWN;
        memset(peers->peers[i].open, 0xff, sizeof(peers->peers[i].open));
    }
    return peers;
}

void torc_peers_close(struct torc_peers *peers)
{
    for (uint32_t i = 0; i < TORC_PEERS_MAX; i++) {
        torc_lane_wipe(&peers->peers[i].lane);
        peers->peers[i].up = false;
        if (peers->calls != NULL) {
            torc_handshake_wipe(&peers->calls[i].shake);
            sodium_memzero(&peers->board->seats[i].session, sizeof(struct peers_session));
        }
    }
    sodium_memzero(&peers->identity, sizeof(peers->identity));
    sodium_memzero(&peers->entropy, sizeof(peers->entropy));
    peers->configured = false;
    peers->entropy_ready = false;
}

// -- Asking --------------------------------------------------------------------------------------

uint32_t torc_peers_find(const struct torc_peers *peers, uint32_t node)
{
    for (uint32_t seat = 0; seat < peers->seat_end; seat++) {
        if (peers->nodes[seat] == node) {
            return seat;
        }
    }
    return PEERS_NONE;
}

uint64_t torc_peers_boot(const struct torc_peers *peers, uint32_t node)
{
    uint32_t seat = torc_peers_find(peers, node);

    return seat != PEERS_NONE && peers->peers[seat].up ? peers->peers[seat].boot : 0;
}

uint32_t torc_peers_cores(const struct torc_peers *peers, uint32_t node)
{
    uint32_t seat = torc_peers_find(peers, node);

    return seat == PEERS_NONE ? 0 : peers->peers[seat].cores;
}

const struct torc_peers_counters *torc_peers_counters(const struct torc_peers *peers)
{
    return &peers->counters;
}

// -- The board -----------------------------------------------------------------------------------

void torc_peers_publish(struct torc_peers *peers, uint32_t seat,
                        const struct peers_session *session)
{
    struct peers_seat *to = &peers->board->seats[seat];
    uint64_t version = atomic_load_explicit(&to->version, memory_order_relaxed);
    uint64_t changes = atomic_load_explicit(&peers->board->changes, memory_order_relaxed);

    torc_assert(peers->calls != NULL);
    torc_assert(version % 2 == 0);
    atomic_store_explicit(&to->version, version + 1, memory_order_relaxed);
    // Release: whoever sees one of the changes below sees the odd version too.
    atomic_thread_fence(memory_order_release);
    to->session = *session;
    // Pairs with the acquire of board_take: the session is there.
    atomic_store_explicit(&to->version, version + 2, memory_order_release);
    // Pairs with the acquire of board_look.
    atomic_store_explicit(&peers->board->changes, changes + 1, memory_order_release);
}

// The packet that ends the old lane, made while its keys are still there.
static void lane_retire(struct torc_peers *peers, struct peers_peer *peer)
{
    unsigned char *op = peer->close_packet + TORC_DATA_HEAD_BYTES;
    struct torc_request request = {.opcode = TORC_OPCODE_CLOSE};

    if (peer->up) {
        (void)torc_request_encode(op, &request);
        (void)torc_peers_seal(peers, peer, 0, peer->close_packet, TORC_REQUEST_HEAD_BYTES);
        peer->close_ns = peers->now_ns + CLOSE_LATE_NS;
    }
    torc_lane_wipe(&peer->lane);
    peer->up = false;
}

static void lane_take(struct torc_peers *peers, uint32_t seat, const struct peers_session *session)
{
    struct peers_peer *peer = &peers->peers[seat];
    const struct torc_accept *accept = &session->accept;
    bool clear = accept->suite == TORC_SUITE_CLEAR;

    torc_assert(peers->config.core < accept->lanes); // E1
    torc_lane_init(&peer->lane, accept, session->client_index, peers->config.core,
                   clear ? NULL : &session->keys, clear ? NULL : peers->config.aead);
    peer->up = true;
    peer->boot = session->boot;
    peer->cores = accept->cores;
    peer->base_port = accept->base_port;
    peer->idle_ns = accept->idle_s * PEERS_SECOND;
    peer->keep_ns = peers->now_ns;
    peer->confirms = CONFIRMS;
}

// Whether packets that were begun for what the seat was may leave on the session: E2, and cores
// that another life of the node has not.
static bool board_goes_on(const struct torc_peers *peers, uint32_t seat, uint32_t node,
                          const struct peers_session *session)
{
    const struct peers_peer *peer = &peers->peers[seat];

    return peers->nodes[seat] == node && session->boot != 0 && peer->boot == session->boot &&
           peer->cores == session->accept.cores;
}

// A seat that changed: its old lane is closed, the new one taken. False: worker 0 is just writing.
static bool board_take(struct torc_peers *peers, uint32_t seat)
{
    struct peers_seat *from = &peers->board->seats[seat];
    struct peers_peer *peer = &peers->peers[seat];
    uint64_t version = atomic_load_explicit(&from->version, memory_order_acquire);
    struct peers_session session;
    uint32_t node;

    if (version == peer->version) {
        return true;
    }
    session = from->session;
    // Pairs with the release fence of torc_peers_publish.
    atomic_thread_fence(memory_order_acquire);
    if (version % 2 != 0 || atomic_load_explicit(&from->version, memory_order_relaxed) != version) {
        return false;
    }
    node = session.place.base_port == 0 ? TORC_NODE_UNKNOWN : session.place.node;
    lane_retire(peers, peer);
    if (!board_goes_on(peers, seat, node, &session)) {
        torc_peers_drop_packets(peers, seat);
    }
    peer->version = version;
    peers->nodes[seat] = node;
    peer->base_port = session.place.base_port;
    peer->cores = session.place.cores;
    memcpy(peer->ip, session.place.ip, sizeof(peer->ip));
    if (session.boot != 0) {
        lane_take(peers, seat, &session);
    }
    sodium_memzero(&session, sizeof(session));
    return true;
}

static void board_look(struct torc_peers *peers)
{
    uint64_t changes = atomic_load_explicit(&peers->board->changes, memory_order_acquire);
    uint32_t end = 0;
    bool all = true;

    if (changes == peers->board_changes) {
        return;
    }
    for (uint32_t seat = 0; seat < TORC_PEERS_MAX; seat++) {
        all = board_take(peers, seat) && all;
        end = peers->nodes[seat] != TORC_NODE_UNKNOWN || peers->peers[seat].close_ns != 0 ? seat + 1
                                                                                          : end;
    }
    peers->seat_end = end;
    peers->board_changes = all ? changes : peers->board_changes;
}

// -- Marks for worker 0 --------------------------------------------------------------------------

static void mark_done(struct torc_peers *peers)
{
    struct peers_marks *marks = &peers->board->marks[peers->config.core];

    // Pairs with the acquire of worker 0's look at it.
    atomic_store_explicit(&marks->changes, ++peers->own_changes, memory_order_release);
}

void torc_peers_mark_over(struct torc_peers *peers, uint32_t seat, uint64_t *counter)
{
    struct peers_marks *marks = &peers->board->marks[peers->config.core];
    uint64_t version = peers->peers[seat].version;

    if (atomic_load_explicit(&marks->over[seat], memory_order_relaxed) != version) {
        ++*counter;
        atomic_store_explicit(&marks->over[seat], version, memory_order_relaxed);
        mark_done(peers);
    }
}

void torc_peers_heard(struct torc_peers *peers, const struct torc_peer_from *from)
{
    struct peers_marks *marks = &peers->board->marks[peers->config.core];
    uint32_t seat = torc_peers_find(peers, from->node);

    if (seat == PEERS_NONE || (peers->peers[seat].up && peers->peers[seat].boot == from->boot)) {
        return;
    }
    if (atomic_load_explicit(&marks->heard[seat], memory_order_relaxed) != from->boot) {
        atomic_store_explicit(&marks->heard[seat], from->boot, memory_order_relaxed);
        mark_done(peers);
    }
}

// -- Time ----------------------------------------------------------------------------------------

void torc_peers_step(struct torc_peers *peers, uint64_t now_ns, uint64_t hlc)
{
    torc_assert(now_ns >= peers->now_ns);
    peers->now_ns = now_ns;
    peers->hlc = torc_max_u64(peers->hlc, hlc);
    peers->control_at = 0;
    if (peers->calls != NULL && peers->configured) {
        torc_peers_shake_step(peers);
    }
    board_look(peers);
}

uint64_t torc_peers_deadline_ns(const struct torc_peers *peers)
{
    uint64_t deadline_ns = UINT64_MAX;

    for (uint32_t seat = 0; seat < peers->seat_end; seat++) {
        if (peers->peers[seat].up) {
            deadline_ns = torc_min_u64(deadline_ns, peers->peers[seat].keep_ns);
        }
        if (peers->peers[seat].close_ns != 0) {
            deadline_ns = torc_min_u64(deadline_ns, peers->peers[seat].close_ns);
        }
    }
    if (peers->calls != NULL && peers->configured) {
        deadline_ns = torc_min_u64(deadline_ns, torc_peers_shake_deadline_ns(peers));
    }
    return deadline_ns;
}

// -- Receiving -----------------------------------------------------------------------------------

// A data packet from the responder: only PINGs are answered, so only those are looked for.
static bool receive_data(struct torc_peers *peers, unsigned char *payload, uint32_t byte_count)
{
    uint32_t seat = torc_data_peek_index(payload) >> 8 & 0xff;
    struct peers_peer *peer = seat < peers->seat_end ? &peers->peers[seat] : NULL;
    struct torc_data data;
    struct torc_reply reply;
    uint32_t offset = 0;

    if (peer == NULL || !peer->up || !torc_lane_matches(&peer->lane, payload, byte_count) ||
        torc_lane_open(&peer->lane, payload, byte_count, &data) != TORC_DROP_NONE) {
        return false;
    }
    while (torc_reply_next(payload + TORC_DATA_HEAD_BYTES, byte_count - TORC_DATA_OVERHEAD, &offset,
                           &reply)) {
        if (reply.opcode == (TORC_OPCODE_PING | TORC_REPLY_BIT) && peers->calls != NULL) {
            torc_peers_shake_pong(peers, seat, reply.op_id);
        }
    }
    return true;
}

// The peer does not have the session of a packet that we sent: echoes of ours say so.
static bool receive_nosession(struct torc_peers *peers, const unsigned char *payload,
                              uint32_t byte_count)
{
    struct torc_nosession nosession;

    if (torc_nosession_decode(&nosession, payload, byte_count, NULL) != TORC_ERR_OK) {
        return false;
    }
    for (uint32_t seat = 0; seat < peers->seat_end; seat++) {
        struct peers_peer *peer = &peers->peers[seat];

        if (!peer->up || peer->lane.session_index != nosession.index ||
            peers->nodes[seat] != nosession.node || nosession.core >= peer->lane.cores ||
            nosession.seq == 0 || nosession.seq > peer->lane.seq[nosession.core]) {
            continue;
        }
        if (peers->calls != NULL) {
            torc_peers_shake_cookie(peers, seat, nosession.cookie);
        }
        torc_peers_mark_over(peers, seat, &peers->counters.lost);
        return true;
    }
    return false;
}

bool torc_peers_receive(struct torc_peers *peers, uint64_t now_ns, unsigned char *payload,
                        uint32_t byte_count)
{
    enum torc_payload_kind kind = TORC_PAYLOAD_NEWER;
    uint8_t type = 0;
    bool taken;

    torc_assert(now_ns >= peers->now_ns);
    peers->now_ns = now_ns;
    if (torc_payload_classify(payload, byte_count, &kind, &type) == TORC_DROP_NONE &&
        (type == TORC_TYPE_DATA || type == TORC_TYPE_CLEAR) && byte_count >= TORC_DATA_BYTES_MIN) {
        taken = receive_data(peers, payload, byte_count);
    } else if (type == TORC_TYPE_NOSESSION) {
        taken = receive_nosession(peers, payload, byte_count);
    } else {
        taken = peers->calls != NULL && peers->configured &&
                torc_peers_shake_receive(peers, payload, byte_count);
    }
    peers->counters.ignored += taken ? 0 : 1;
    return taken;
}

// -- Link addresses ------------------------------------------------------------------------------

uint32_t torc_peers_seat_of_ip(const struct torc_peers *peers, const uint8_t ip[16])
{
    for (uint32_t seat = 0; seat < peers->seat_end; seat++) {
        if (peers->nodes[seat] != TORC_NODE_UNKNOWN && memcmp(peers->peers[seat].ip, ip, 16) == 0) {
            return seat;
        }
    }
    return TORC_PEERS_MAX;
}

bool torc_peers_link(const struct torc_peers *peers, uint32_t seat, uint8_t mac[6], uint8_t *port)
{
    uint64_t link = atomic_load_explicit(&peers->board->seats[seat].link, memory_order_relaxed);

    for (uint32_t i = 0; i < 6; i++) {
        mac[i] = (uint8_t)(link >> 8 * i);
    }
    *port = (uint8_t)(link >> 48);
    return (link & LINK_KNOWN) != 0;
}

void torc_peers_learn(struct torc_peers *peers, uint32_t seat, const uint8_t mac[6], uint8_t port)
{
    _Atomic uint64_t *to = &peers->board->seats[seat].link;
    uint64_t link = LINK_KNOWN | (uint64_t)port << 48;

    for (uint32_t i = 0; i < 6; i++) {
        link |= (uint64_t)mac[i] << 8 * i;
    }
    if (atomic_load_explicit(to, memory_order_relaxed) != link) {
        atomic_store_explicit(to, link, memory_order_relaxed);
    }
}

bool torc_peers_next_unknown(const struct torc_peers *peers, uint32_t *seat, uint8_t ip[16])
{
    for (; *seat < peers->seat_end; (*seat)++) {
        uint64_t link =
            atomic_load_explicit(&peers->board->seats[*seat].link, memory_order_relaxed);

        if (peers->nodes[*seat] != TORC_NODE_UNKNOWN && (link & LINK_KNOWN) == 0) {
            memcpy(ip, peers->peers[*seat].ip, 16);
            return true;
        }
    }
    return false;
}
