// Torc dataplane: a worker and the other nodes of its cluster: whom to call, what they say, frames
// to them, their link addresses. The sessions are peers.h's.
#include "dataplane/worker_state.h"

#include <sodium.h>

#include <string.h>

#define ASK_NS   UINT64_C(100000000) // between two questions for link addresses
#define TX_SPARE 64u                 // buffers of a turn that are left for answers to clients

uint64_t torc_worker_peers_bytes(const struct torc_worker_config *config)
{
    // The ports are not known yet: no packet is larger than this.
    struct torc_peers_config peers = {.core = config->index,
                                      .core_count = config->count,
                                      .payload_max = TORC_PAYLOAD_MAX,
                                      .cargo_bytes_max = TORC_WORKER_CARGO};

    return config->replicas && config->post == NULL ? torc_peers_bytes(&peers) : 0;
}

void torc_worker_peers_init(struct torc_worker *worker, void *memory)
{
    struct torc_peers_config config = {.board = worker->config.board,
                                       .aead = worker->sessions->aead,
                                       .core = worker->index,
                                       .core_count = worker->count,
                                       .payload_max = worker->payload_max,
                                       .cargo_bytes_max = TORC_WORKER_CARGO,
                                       .seed = worker->config.seed};

    worker->peers = config.board == NULL ? NULL : torc_peers_init(memory, &config);
}

// -- Whom to call --------------------------------------------------------------------------------

// The newest secret of the cluster in the table of keys. False: control is just writing, or there
// is none.
static bool peers_secret(struct torc_worker *worker, uint64_t sequence,
                         struct torc_peers_identity *identity)
{
    const struct torc_chan_keys *table = torc_chan_keys(worker->chan);
    uint32_t count = (uint32_t)torc_min_u64(table->count, TORC_CHAN_PRINCIPALS_MAX);
    bool there = false;

    for (uint32_t i = 0; i < count && !there; i++) {
        const struct torc_chan_principal *principal = &table->principals[i];
        uint32_t newest = principal->key_count == 2 ? 1 : 0;

        if (principal->roles == TORC_ROLE_NODE) {
            memcpy(identity->psk, principal->psks[newest], sizeof(identity->psk));
            identity->key_id = principal->key_ids[newest];
            there = true;
        }
    }
    // Pairs with the release fence of control's writing.
    atomic_thread_fence(memory_order_acquire);
    return sequence % 2 == 0 && there &&
           atomic_load_explicit(&table->sequence, memory_order_relaxed) == sequence;
}

// Takes on what this node is, once CONFIGURE came, and whenever the secret may have changed.
static void peers_identify(struct torc_worker *worker)
{
    const struct torc_cmd_configure *cluster = &worker->cluster;
    // Acquire: pairs with control's release when it has written the table.
    uint64_t sequence =
        atomic_load_explicit(&torc_chan_keys(worker->chan)->sequence, memory_order_acquire);
    struct torc_peers_identity identity = {.cluster = cluster->cluster,
                                           .boot = cluster->boot,
                                           .node = cluster->node,
                                           .clear = cluster->security == TORC_SECURITY_CLEAR};

    if (!worker->configured || worker->keys_sequence == sequence + 1) {
        return;
    }
    if (!identity.clear) {
        if (!peers_secret(worker, sequence, &identity)) {
            return;
        }
        torc_noise_caller(identity.psk, identity.psk, cluster->node);
        identity.suites = worker->sessions->aead->suites;
    }
    worker->keys_sequence = sequence + 1;
    memcpy(identity.entropy, worker->config.entropy, sizeof(identity.entropy));
    // The next identity of this life has another one.
    (void)crypto_generichash_blake2b(worker->config.entropy, sizeof(worker->config.entropy),
                                     identity.entropy, sizeof(identity.entropy), NULL, 0);
    torc_peers_configure(worker->peers, worker->now_ns, &identity);
    sodium_memzero(&identity, sizeof(identity));
}

// Whether the map has the node; then where it is.
static const struct torc_chan_node *peers_in_map(const struct torc_worker *worker, uint32_t node)
{
    for (uint32_t i = 0; i < worker->node_count; i++) {
        if (worker->nodes[i].node == node && worker->nodes[i].address_count > 0) {
            return &worker->nodes[i];
        }
    }
    return NULL;
}

// Whether the node has to do with a shard of ours.
static bool peers_is_partner(const struct torc_worker *worker, uint32_t node)
{
    const struct torc_worker_watch *watch = worker->replicas.watch;

    for (uint32_t i = 0; watch != NULL && i < watch->node_count; i++) {
        if (watch->nodes[i] == node) {
            return true;
        }
    }
    return false;
}

// Forgets who is not in the map, and so many others that every partner has a seat.
static void peers_make_room(struct torc_worker *worker)
{
    uint32_t nodes[TORC_PEERS_MAX];
    uint32_t count = torc_peers_met(worker->peers, nodes);
    uint32_t partners = 0;
    uint32_t others = 0;

    for (uint32_t i = 0; i < worker->node_count; i++) {
        partners +=
            worker->nodes[i].address_count > 0 && peers_is_partner(worker, worker->nodes[i].node);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (peers_in_map(worker, nodes[i]) == NULL) {
            torc_peers_forget(worker->peers, nodes[i]);
        } else if (!peers_is_partner(worker, nodes[i]) && partners + ++others > TORC_PEERS_MAX) {
            torc_peers_forget(worker->peers, nodes[i]);
        }
    }
}

// Sessions with the partners of the map, or with the others as far as there are seats.
static void peers_meet(struct torc_worker *worker, bool partners)
{
    for (uint32_t i = 0; i < worker->node_count; i++) {
        const struct torc_chan_node *node = &worker->nodes[i];
        struct torc_peer_place place = {
            .node = node->node, .base_port = node->base_port, .cores = node->cores};

        if (node->address_count == 0 || peers_is_partner(worker, node->node) != partners) {
            continue;
        }
        memcpy(place.ip, node->addresses[0], sizeof(place.ip));
        if (torc_peers_meet(worker->peers, worker->now_ns, &place, NULL) != TORC_ERR_OK) {
            return; // no seat: for a partner there is one
        }
    }
}

void torc_worker_peers_map(struct torc_worker *worker)
{
    _Static_assert(TORC_PEERS_MAX >= TORC_WATCH_PEERS_MAX, "a seat for each partner");

    if (worker->peers != NULL && worker->index == 0) {
        peers_make_room(worker);
        peers_meet(worker, true);
        peers_meet(worker, false);
    }
}

// -- What they say -------------------------------------------------------------------------------

static struct torc_peer_from peers_from(const struct torc_session *session)
{
    return (struct torc_peer_from){.node = session->principal - TORC_PRINCIPAL_NODE,
                                   .core = session->lane,
                                   .boot = session->boot};
}

void torc_worker_peers_heard(struct torc_worker *worker, const struct torc_packet *packet)
{
    struct torc_peer_from from = peers_from(packet->session);
    uint32_t seat;

    if (worker->peers == NULL) {
        return;
    }
    torc_peers_heard(worker->peers, &from);
    seat = torc_peers_seat_of_ip(worker->peers, packet->to.path.ip);
    if (seat != TORC_PEERS_MAX) { // proved, unlike what ARP says
        torc_peers_learn(worker->peers, seat, packet->to.path.mac, packet->to.path.port);
    }
}

bool torc_worker_peers_op(struct torc_worker *worker, const struct torc_packet *packet,
                          const unsigned char *op, uint32_t length)
{
    const struct torc_session *session = packet->session;
    struct torc_peer_from from = peers_from(session);
    struct torc_peer_op message;

    if (worker->peers == NULL || (session->roles & TORC_ROLE_NODE) == 0) {
        return false;
    }
    torc_stats_add(&worker->stats->ops[op[0]], 1);
    if (torc_peer_op_decode(&message, op, length, NULL) != TORC_ERR_OK) {
        torc_worker_drop(worker, TORC_DROP_PEER);
        return true;
    }
    if (torc_worker_peer_heard(worker, &from, &message,
                               torc_data_hlc(packet->ops - TORC_DATA_HEAD_BYTES),
                               packet->clock_ahead) &&
        torc_peers_take(worker->peers, &from, &message)) {
        torc_worker_peer_op(worker, &from, &message);
    }
    return true;
}

// -- Link addresses ------------------------------------------------------------------------------

static bool learn_from(struct torc_worker *worker, const uint8_t ip[16], const uint8_t mac[6],
                       uint8_t port)
{
    uint32_t seat = torc_peers_seat_of_ip(worker->peers, ip);

    if (seat == TORC_PEERS_MAX) {
        return false;
    }
    torc_peers_learn(worker->peers, seat, mac, port);
    return true;
}

bool torc_worker_peers_learn(struct torc_worker *worker, const struct torc_frame *frame,
                             uint8_t port)
{
    struct torc_arp arp;
    struct torc_nd nd;
    uint8_t ip[16];

    if (frame->kind == TORC_FRAME_ARP && torc_arp_decode(&arp, frame) == TORC_DROP_NONE) {
        torc_ip_map(ip, arp.sender_ip);
        return learn_from(worker, ip, arp.sender_mac, port) && arp.operation == TORC_ARP_REPLY;
    }
    if (frame->kind == TORC_FRAME_ND && torc_nd_decode(&nd, frame) == TORC_DROP_NONE &&
        nd.kind == TORC_ND_ADVERTISE && nd.has_mac) {
        return learn_from(worker, nd.target, nd.mac, port);
    }
    return false;
}

static uint32_t ask_write(const struct torc_frame_local *local, const uint8_t ip[16],
                          unsigned char *frame)
{
    struct torc_arp arp = {.operation = TORC_ARP_REQUEST};
    struct torc_nd nd = {.kind = TORC_ND_SOLICIT, .has_mac = true};
    struct torc_nd_way way = {.vlan = local->vlan};

    if (torc_ip_is_mapped(ip) && local->has_ipv4) {
        memcpy(arp.sender_mac, local->mac, sizeof(arp.sender_mac));
        memcpy(arp.sender_ip, local->ipv4, sizeof(arp.sender_ip));
        memcpy(arp.target_ip, ip + 12, sizeof(arp.target_ip));
        return torc_arp_write(frame, &arp, local->vlan);
    }
    if (torc_ip_is_mapped(ip) || !local->has_ipv6) {
        return 0;
    }
    memcpy(nd.mac, local->mac, sizeof(nd.mac));
    memcpy(nd.target, ip, sizeof(nd.target));
    memcpy(way.source_mac, local->mac, sizeof(way.source_mac));
    memcpy(way.source_ip, local->ipv6, sizeof(way.source_ip));
    torc_nd_group(ip, way.destination_ip, way.destination_mac);
    return torc_nd_write(frame, &nd, &way);
}

// Worker 0 asks on every port for the peers whose link address is not known.
static void peers_ask(struct torc_worker *worker)
{
    struct torc_turn *turn = worker->turn;
    uint8_t ip[16];

    if (worker->now_ns - worker->asked_ns < ASK_NS) {
        return;
    }
    for (uint32_t seat = 0; torc_peers_next_unknown(worker->peers, &seat, ip); seat++) {
        for (uint32_t port = 0; port < worker->config.port_count; port++) {
            struct torc_frame_tx *tx = &turn->tx[turn->tx_count];
            uint32_t bytes = turn->tx_count + TX_SPARE < turn->tx_room
                                 ? ask_write(&worker->locals[port], ip, tx->bytes)
                                 : 0;

            if (bytes > 0) {
                torc_worker_send_raw(worker, bytes, (uint8_t)port);
                worker->asked_ns = worker->now_ns;
            }
        }
    }
}

// -- Frames --------------------------------------------------------------------------------------

// One packet out. False: there is none, or no buffer for it.
static bool peers_send_one(struct torc_worker *worker)
{
    struct torc_turn *turn = worker->turn;
    struct torc_frame_tx *tx = &turn->tx[turn->tx_count];
    uint32_t head = TORC_ETHER_BYTES + TORC_UDP_BYTES +
                    (worker->config.ipv4_prefix != 0 ? TORC_IPV4_BYTES : TORC_IPV6_BYTES);
    struct torc_peers_way way;
    struct torc_path path;
    uint32_t bytes;

    if (turn->tx_count + TX_SPARE >= turn->tx_room) {
        return false;
    }
    // Of which family it will be is not known yet: a guess, which is put right if it was wrong.
    bytes = torc_peers_pull(worker->peers, tx->bytes + head, tx->room - head, &way);
    if (bytes == 0) {
        return false;
    }
    path =
        (struct torc_path){.is_ipv6 = torc_ip_is_mapped(way.ip) ? 0 : 1, .udp_port = way.udp_port};
    memcpy(path.ip, way.ip, sizeof(path.ip));
    if (torc_peers_link(worker->peers, way.seat, path.mac, &path.port)) {
        torc_answer_place(worker, &path, tx->bytes + head, bytes);
    } else {
        torc_worker_drop(worker, TORC_DROP_PEER_LINK);
    }
    return true;
}

void torc_worker_peers_turn(struct torc_worker *worker)
{
    if (worker->peers == NULL) {
        return;
    }
    if (worker->index == 0) {
        peers_identify(worker);
    }
    torc_peers_step(worker->peers, worker->now_ns, worker->pool.hlc);
    if (worker->index == 0) {
        peers_ask(worker);
    }
    while (peers_send_one(worker)) {
    }
    worker->turn->more = worker->turn->more || torc_peers_pending(worker->peers);
}

uint64_t torc_worker_peers_deadline_ns(const struct torc_worker *worker)
{
    uint64_t deadline_ns = UINT64_MAX;
    uint32_t seat = 0;
    uint8_t ip[16];

    if (worker->peers != NULL) {
        deadline_ns = torc_peers_deadline_ns(worker->peers);
        if (worker->index == 0 && torc_peers_next_unknown(worker->peers, &seat, ip)) {
            deadline_ns = torc_min_u64(deadline_ns, worker->asked_ns + ASK_NS);
        }
    }
    return deadline_ns;
}
