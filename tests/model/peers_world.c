// Torc tests: nodes that call each other in one process; see peers_world.h.
#include "tests/model/peers_world.h"

#include "kit/fail.h"
#include "wire/aead_os.h"
#include "wire/handshake.h"

#include <sodium.h>

#include <stdlib.h>
#include <string.h>

#define CLUSTER   UINT64_C(0xc1c2c3c4c5c6c7c8)
#define BASE_PORT 28700u
#define WALL_S    UINT64_C(1790000000)

static void wrong(struct world *world, const char *why)
{
    world->wrong++;
    world->why = why;
}

static void node_ip(uint32_t node, uint8_t ip[16])
{
    memset(ip, 0, 16);
    ip[10] = ip[11] = 0xff;
    ip[12] = 10;
    ip[15] = (uint8_t)(node + 1);
}

static uint64_t wall_s(const struct world *world)
{
    return WALL_S + world->now_ns / 1000000000u;
}

// -- The network ---------------------------------------------------------------------------------

static void net_put(struct world *world, const struct world_packet *packet)
{
    for (uint32_t i = 0; i < WORLD_PACKETS; i++) {
        if (!world->packets[i].used) {
            world->packets[i] = *packet;
            world->packets[i].used = true;
            world->packets[i].at_ns = world->now_ns + 20000 + torc_rng_below(&world->rng, 200000);
            return;
        }
    }
}

static void net_send(struct world *world, struct world_packet *packet)
{
    if (packet->bytes > world->faults.carries || torc_rng_chance(&world->rng, world->faults.lost)) {
        return;
    }
    if (torc_rng_chance(&world->rng, world->faults.twice)) {
        net_put(world, packet);
    }
    if (torc_rng_chance(&world->rng, world->faults.spoiled)) {
        packet->payload[torc_rng_below(&world->rng, packet->bytes)] ^=
            (unsigned char)(1u << torc_rng_below(&world->rng, 8));
    }
    net_put(world, packet);
}

static void answer(struct world *world, const struct world_packet *to, const void *bytes,
                   uint32_t byte_count)
{
    struct world_packet packet = {.from = to->to,
                                  .from_core = to->to_core,
                                  .to = to->from,
                                  .to_core = to->from_core,
                                  .bytes = byte_count};

    memcpy(packet.payload, bytes, byte_count);
    net_send(world, &packet);
}

// -- The responder -------------------------------------------------------------------------------

static struct torc_cookie_bearer bearer_of(const struct world_packet *packet, uint32_t principal)
{
    struct torc_cookie_bearer bearer = {.port = (uint16_t)(BASE_PORT + packet->from_core),
                                        .principal = principal};

    node_ip(packet->from, bearer.ip);
    return bearer;
}

static void init_retry(struct world *world, const struct world_packet *packet,
                       const struct torc_init *init)
{
    struct world_node *node = &world->nodes[packet->to];
    struct torc_cookie_bearer bearer = bearer_of(packet, 0);
    struct torc_cookie_keys keys;
    struct torc_retry retry = {.suites = world->config.clear ? TORC_SUITE_CLEAR
                                                             : torc_aead_code_best()->suites,
                               .versions = TORC_WIRE_VERSIONS,
                               .node = packet->to,
                               .cluster = CLUSTER};
    unsigned char bytes[TORC_RETRY_BYTES];

    torc_cookie_keys_init(&keys, node->cookie_secret, wall_s(world));
    torc_cookie_make(&keys, TORC_COOKIE_ADDRESS, &bearer, wall_s(world), retry.cookie);
    memcpy(retry.random, init->random, sizeof(retry.random));
    torc_retry_encode(bytes, &retry);
    answer(world, packet, bytes, sizeof(bytes));
}

static struct world_session *session_of(struct world_node *node, uint32_t index)
{
    for (uint32_t i = 0; i < WORLD_SESSIONS; i++) {
        if (node->sessions[i].used && node->sessions[i].index == index) {
            return &node->sessions[i];
        }
    }
    return NULL;
}

// Room for all lanes of a session; the oldest of the caller's go first.
static struct world_session *session_place(struct world_node *node, uint32_t caller)
{
    struct world_session *oldest = NULL;

    for (uint32_t i = 0; i < WORLD_SESSIONS; i++) {
        struct world_session *session = &node->sessions[i];

        if (!session->used) {
            return session;
        }
        if (session->node == caller && (oldest == NULL || session->index < oldest->index)) {
            oldest = session;
        }
    }
    return oldest;
}

static void sessions_make(struct world *world, const struct torc_init *init,
                          const struct torc_accept *accept, const struct torc_session_keys *keys,
                          uint32_t to)
{
    struct world_node *node = &world->nodes[to];
    uint32_t caller = init->principal - TORC_PRINCIPAL_NODE;

    for (uint32_t lane = 0; lane < accept->lanes; lane++) {
        struct world_session *session = session_place(node, caller);

        *session =
            (struct world_session){.used = true,
                                   .index = accept->session_index + lane,
                                   .client_index = init->client_index + lane,
                                   .node = caller,
                                   .core = lane,
                                   .boot = init->boot,
                                   .suite = accept->suite,
                                   .tokens = {accept->token_to_server, accept->token_to_client}};
        if (!world->config.clear) {
            torc_lane_key(&session->keys[0], torc_aead_code_best(), accept->suite, keys->to_server,
                          lane);
            torc_lane_key(&session->keys[1], torc_aead_code_best(), accept->suite, keys->to_client,
                          lane);
        }
    }
}

static void random_bytes(struct world *world, uint8_t *bytes, uint32_t byte_count)
{
    for (uint32_t i = 0; i < byte_count; i++) {
        bytes[i] = (uint8_t)torc_rng_next(&world->rng);
    }
}

static void init_accept(struct world *world, const struct world_packet *packet,
                        const struct torc_init *init, struct torc_noise *noise)
{
    struct world_node *node = &world->nodes[packet->to];
    struct torc_cookie_bearer bearer = bearer_of(packet, init->principal);
    struct torc_cookie_keys cookie_keys;
    struct torc_session_keys keys;
    struct torc_noise_ephemeral ephemeral;
    unsigned char bytes[TORC_ACCEPT_BYTES];
    struct torc_accept accept = {.lanes = init->lanes,
                                 .suite = TORC_SUITE_CLEAR,
                                 .suites = TORC_SUITE_CLEAR,
                                 .roles = TORC_ROLE_NODE,
                                 .cores = (uint16_t)node->cores,
                                 .base_port = BASE_PORT,
                                 .payload_max = WORLD_PAYLOAD,
                                 .versions = TORC_WIRE_VERSIONS,
                                 .cluster = CLUSTER,
                                 .key_count = 1000,
                                 .boot = node->boot,
                                 .node = packet->to,
                                 .value_bytes_max = 1 << 20,
                                 .packet_ops_max = 64,
                                 .core_ops_max = 256,
                                 .packets_max = 64,
                                 .cursors_max = 16,
                                 .fragments_max = 16,
                                 .idle_s = 20,
                                 .age_s = 60,
                                 .deadline_ms_max = 10000,
                                 .write_window = 4096};

    memcpy(accept.random, init->random, sizeof(accept.random));
    accept.token_to_server = torc_rng_next(&world->rng);
    accept.token_to_client = torc_rng_next(&world->rng);
    accept.session_index = node->last_index;
    node->last_index += init->lanes;
    torc_cookie_keys_init(&cookie_keys, node->cookie_secret, wall_s(world));
    torc_cookie_make(&cookie_keys, TORC_COOKIE_TICKET, &bearer, wall_s(world), accept.ticket);
    if (world->config.clear) {
        torc_accept_encode(bytes, &accept);
    } else {
        accept.suites = torc_aead_code_best()->suites;
        accept.suite = torc_aead_best_suite(accept.suites & init->suites);
        random_bytes(world, ephemeral.secret, sizeof(ephemeral.secret));
        torc_noise_ephemeral_make(&ephemeral);
        if (!torc_noise_reply(noise, ephemeral.secret, init->ephemeral, ephemeral.public)) {
            return;
        }
        torc_accept_seal(bytes, &accept, ephemeral.public, noise);
        torc_noise_split(noise, keys.to_server, keys.to_client);
    }
    sessions_make(world, init, &accept, &keys, packet->to);
    answer(world, packet, bytes, sizeof(bytes));
}

static void init_receive(struct world *world, const struct world_packet *packet)
{
    struct world_node *node = &world->nodes[packet->to];
    enum torc_cookie_kind kind = TORC_COOKIE_ADDRESS;
    struct torc_cookie_keys keys;
    struct torc_cookie_bearer bearer;
    struct torc_noise noise = {0};
    struct torc_init init;
    uint8_t psk[32];

    if (torc_init_decode(&init, packet->payload, packet->bytes) != TORC_DROP_NONE) {
        return;
    }
    torc_cookie_keys_init(&keys, node->cookie_secret, wall_s(world));
    bearer = bearer_of(packet, init.principal);
    if (!init.has_cookie || !torc_cookie_check(&keys, &bearer, wall_s(world), init.cookie, &kind)) {
        init_retry(world, packet, &init);
        return;
    }
    torc_noise_caller(psk, world->secret, init.principal - TORC_PRINCIPAL_NODE);
    torc_noise_bind(psk, psk, CLUSTER, packet->to);
    if (world->config.clear) {
        if (torc_init_open_clear(&init, packet->payload) != TORC_DROP_NONE) {
            return;
        }
    } else if (torc_init_open(&init, packet->payload, psk, &noise) != TORC_DROP_NONE) {
        return; // REFUSE would be a hint, and no more
    }
    if (init.principal < TORC_PRINCIPAL_NODE || init.boot == 0) {
        wrong(world, "an INIT without node or boot");
    }
    init_accept(world, packet, &init, &noise);
}

static struct torc_seal session_seal(const struct world_session *session,
                                     enum torc_direction direction)
{
    return (struct torc_seal){.code = torc_aead_code_best(),
                              .key = &session->keys[direction],
                              .token = session->tokens[direction],
                              .suite = session->suite,
                              .direction = (uint8_t)direction};
}

static void pong(struct world *world, const struct world_packet *packet,
                 struct world_session *session, const struct torc_request *ping,
                 const struct torc_data *asked)
{
    struct torc_reply reply = {.opcode = TORC_OPCODE_PING | TORC_REPLY_BIT,
                               .op_id = ping->op_id,
                               .body = ping->data,
                               .body_bytes = ping->data_bytes};
    struct torc_data data = {.type = torc_data_type(session->suite),
                             .core = (uint8_t)packet->to_core,
                             .flags = TORC_DATA_FROM_RESPONDER,
                             .index = session->client_index,
                             .clock_us = asked->clock_us,
                             .seq = ++session->sent[packet->to_core]};
    struct torc_seal seal = session_seal(session, TORC_TO_CLIENT);
    unsigned char bytes[WORLD_PAYLOAD];
    uint32_t ops = torc_reply_encode(bytes + TORC_DATA_HEAD_BYTES, &reply);

    torc_data_encode(bytes, &data);
    answer(world, packet, bytes, torc_data_seal(&seal, bytes, TORC_DATA_HEAD_BYTES + ops));
}

static void operation(struct world *world, const struct world_packet *packet,
                      struct world_session *session, const unsigned char *op, uint32_t length,
                      const struct torc_data *data)
{
    struct torc_peers *peers = world->nodes[packet->to].peers[packet->to_core];
    struct world_delivery delivery = {.node = packet->to,
                                      .core = packet->to_core,
                                      .from = {.node = session->node,
                                               .core = world->config.first_core ? 0 : session->core,
                                               .boot = session->boot}};
    struct torc_request request;
    struct torc_peer_op message;

    if (!torc_opcode_is_peer(op[0])) {
        if (torc_request_decode(&request, op, length, NULL) != TORC_ERR_OK) {
            wrong(world, "a request does not decode");
        } else if (request.opcode == TORC_OPCODE_PING) {
            pong(world, packet, session, &request, data);
        } else if (request.opcode == TORC_OPCODE_CLOSE) {
            session->used = false;
        }
        return;
    }
    if (torc_peer_op_decode(&message, op, length, NULL) != TORC_ERR_OK) {
        wrong(world, "a message does not decode");
        return;
    }
    torc_peers_heard(peers, &delivery.from);
    if (torc_peers_take(peers, &delivery.from, &message)) {
        delivery.op = &message;
        world->deliver(world->context, &delivery);
    }
}

static void nosession(struct world *world, const struct world_packet *packet,
                      const struct torc_data *data)
{
    struct torc_cookie_bearer bearer = bearer_of(packet, 0);
    struct torc_cookie_keys keys;
    struct torc_nosession no = {.core = (uint8_t)packet->to_core,
                                .index = data->index,
                                .seq = data->seq,
                                .node = packet->to};
    unsigned char bytes[TORC_NOSESSION_BYTES];

    torc_cookie_keys_init(&keys, world->nodes[packet->to].cookie_secret, wall_s(world));
    torc_cookie_make(&keys, TORC_COOKIE_ADDRESS, &bearer, wall_s(world), no.cookie);
    torc_nosession_encode(bytes, &no);
    answer(world, packet, bytes, sizeof(bytes));
}

static void data_receive(struct world *world, struct world_packet *packet)
{
    struct torc_data data;
    struct torc_framing framing;
    struct torc_seal seal;
    struct world_session *session;
    struct torc_window *window;
    const unsigned char *op;
    uint32_t length;
    uint32_t count;
    uint32_t offset;

    if (torc_data_decode(&data, packet->payload, packet->bytes) != TORC_DROP_NONE ||
        data.flags != 0 || data.core != packet->to_core) {
        return;
    }
    session = session_of(&world->nodes[packet->to], data.index);
    if (session == NULL) {
        nosession(world, packet, &data);
        return;
    }
    if (session->node != packet->from) {
        return; // another address than its session's
    }
    window = &session->windows[data.core];
    seal = session_seal(session, TORC_TO_SERVER);
    if ((torc_window_check(window->high, window->bits, data.seq) != TORC_DROP_NONE &&
         !world->config.no_window) ||
        !torc_data_open(&seal, packet->payload, packet->bytes)) {
        return;
    }
    if (!world->config.no_window) {
        torc_window_set(&window->high, window->bits, data.seq);
    }
    if (!torc_data_credit_ok(&data, packet->bytes) ||
        torc_framing_check(packet->payload + TORC_DATA_HEAD_BYTES,
                           packet->bytes - TORC_DATA_OVERHEAD, &count, &offset) != TORC_ERR_OK) {
        wrong(world, "a packet that is not framed well");
        return;
    }
    framing = (struct torc_framing){.bytes = packet->payload + TORC_DATA_HEAD_BYTES,
                                    .byte_count = packet->bytes - TORC_DATA_OVERHEAD};
    while (session->used && torc_framing_next(&framing, &op, &length)) {
        operation(world, packet, session, op, length, &data);
    }
}

static void receive(struct world *world, struct world_packet *packet)
{
    struct world_node *node = &world->nodes[packet->to];
    enum torc_payload_kind kind = TORC_PAYLOAD_NEWER;
    uint8_t type = 0;

    if (node->down || packet->to_core >= node->cores) {
        return;
    }
    if (torc_payload_classify(packet->payload, packet->bytes, &kind, &type) == TORC_DROP_NONE &&
        kind == TORC_PAYLOAD_PACKET && type == TORC_TYPE_INIT) {
        init_receive(world, packet);
    } else if ((type == TORC_TYPE_DATA || type == TORC_TYPE_CLEAR) &&
               (packet->payload[3] & TORC_DATA_FROM_RESPONDER) == 0) {
        data_receive(world, packet);
    } else {
        (void)torc_peers_receive(node->peers[packet->to_core], world->now_ns, packet->payload,
                                 packet->bytes);
    }
}

// -- Nodes ---------------------------------------------------------------------------------------

static void node_configure(struct world *world, uint32_t at)
{
    struct torc_peers_identity identity = {
        .cluster = CLUSTER,
        .boot = world->nodes[at].boot,
        .node = at,
        .clear = world->config.clear,
        .key_id = 1,
        .suites = world->config.clear ? 0 : torc_aead_code_best()->suites};

    torc_noise_caller(identity.psk, world->secret, at);
    random_bytes(world, identity.entropy, sizeof(identity.entropy));
    torc_peers_configure(world->nodes[at].peers[0], world->now_ns, &identity);
}

static void *memory_of(uint64_t bytes)
{
    void *memory = aligned_alloc(128, (bytes + 127) & ~UINT64_C(127));

    torc_assert(memory != NULL);
    memset(memory, 0, bytes);
    return memory;
}

void world_start(struct world *world, uint32_t at)
{
    struct world_node *node = &world->nodes[at];
    struct torc_fail why;

    node->down = false;
    node->boot++;
    node->last_index = (world->config.same_index ? 0 : (uint32_t)node->boot << 20) + 1;
    memset(node->sessions, 0, sizeof(node->sessions));
    memset(world->sealed[at], 0, sizeof(world->sealed[at]));
    node->board =
        torc_peers_board_init(memory_of(torc_peers_board_bytes(node->cores)), node->cores);
    for (uint32_t core = 0; core < node->cores; core++) {
        struct torc_peers_config config = {.board = node->board,
                                           .aead = torc_aead_code_best(),
                                           .core = core,
                                           .core_count = node->cores,
                                           .payload_max = WORLD_PAYLOAD,
                                           .cargo_bytes_max = WORLD_CARGO,
                                           .seed = torc_rng_next(&world->rng)};

        node->peers[core] = torc_peers_init(memory_of(torc_peers_bytes(&config)), &config);
    }
    node_configure(world, at);
    for (uint32_t other = 0; other < world->config.nodes; other++) {
        struct torc_peer_place place = {.node = other, .base_port = BASE_PORT, .cores = 1};

        node_ip(other, place.ip);
        if (other != at) {
            torc_assert(torc_peers_meet(node->peers[0], world->now_ns, &place, &why) ==
                        TORC_ERR_OK);
        }
    }
}

void world_stop(struct world *world, uint32_t at)
{
    struct world_node *node = &world->nodes[at];

    node->down = true;
    for (uint32_t core = 0; core < node->cores; core++) {
        torc_peers_close(node->peers[core]);
        free(node->peers[core]);
    }
    free(node->board);
    node->cores = 1 + (uint32_t)torc_rng_below(&world->rng, WORLD_CORES);
}

void world_open(struct world *world, const struct world_config *config)
{
    memset(world, 0, sizeof(*world));
    world->config = *config;
    world->rng = (struct torc_rng){config->seed};
    world->faults.carries = WORLD_PAYLOAD;
    world->now_ns = 1000000000;
    world->step_ns = WORLD_STEP_NS;
    random_bytes(world, world->secret, sizeof(world->secret));
    for (uint32_t at = 0; at < config->nodes; at++) {
        random_bytes(world, world->nodes[at].cookie_secret, 32);
        world->nodes[at].cores = 1 + (uint32_t)torc_rng_below(&world->rng, WORLD_CORES);
        world_start(world, at);
    }
}

void world_close(struct world *world)
{
    for (uint32_t at = 0; at < world->config.nodes; at++) {
        if (!world->nodes[at].down) {
            world_stop(world, at);
        }
    }
}

void world_change_secret(struct world *world)
{
    random_bytes(world, world->secret, sizeof(world->secret));
    for (uint32_t at = 0; at < world->config.nodes; at++) {
        if (!world->nodes[at].down) {
            node_configure(world, at);
        }
    }
}

bool world_is_joined(const struct world *world)
{
    for (uint32_t at = 0; at < world->config.nodes; at++) {
        for (uint32_t core = 0; core < world->nodes[at].cores && !world->nodes[at].down; core++) {
            for (uint32_t other = 0; other < world->config.nodes; other++) {
                if (other != at && !world->nodes[other].down &&
                    torc_peers_boot(world->nodes[at].peers[core], other) !=
                        world->nodes[other].boot) {
                    return false;
                }
            }
        }
    }
    return true;
}

// -- Time ----------------------------------------------------------------------------------------

// E1: one worker seals with an index's keys.
static void check_sealed(struct world *world, const struct world_packet *packet)
{
    uint32_t index = torc_data_peek_index(packet->payload);
    uint64_t *owner = &world->sealed[packet->to][index % TORC_COUNT_OF(world->sealed[packet->to])];
    uint64_t self = ((uint64_t)index << 16) | (packet->from << 8) | (packet->from_core + 1);

    if (*owner >> 16 == index && *owner != self) {
        wrong(world, "two workers use one lane");
    }
    *owner = self;
}

static void pull(struct world *world, uint32_t at, uint32_t core)
{
    struct torc_peers *peers = world->nodes[at].peers[core];
    struct world_packet packet = {.from = at, .from_core = core};
    struct torc_peers_way way;

    torc_peers_step(peers, world->now_ns, 1);
    for (;;) {
        packet.bytes = torc_peers_pull(peers, packet.payload, sizeof(packet.payload), &way);
        if (packet.bytes == 0) {
            return;
        }
        packet.to = way.ip[15] - 1u;
        packet.to_core = way.udp_port - BASE_PORT;
        if (packet.payload[1] != 0x10 && !world->config.same_index) {
            check_sealed(world, &packet);
        }
        net_send(world, &packet);
    }
}

void world_run(struct world *world, uint64_t ns)
{
    uint64_t end_ns = world->now_ns + ns;

    while (world->now_ns < end_ns) {
        world->now_ns += world->step_ns;
        for (uint32_t i = 0; i < WORLD_PACKETS; i++) {
            struct world_packet *packet = &world->packets[i];

            if (packet->used && packet->at_ns <= world->now_ns) {
                packet->used = false;
                receive(world, packet);
            }
        }
        for (uint32_t at = 0; at < world->config.nodes; at++) {
            for (uint32_t core = 0; core < world->nodes[at].cores && !world->nodes[at].down;
                 core++) {
                pull(world, at, core);
            }
        }
    }
}
