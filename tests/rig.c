// Torc tests: a whole node in one process; see rig.h.
#include "tests/rig.h"

#include "dataplane/council.h"
#include "dataplane/worker_state.h"
#include "storage/cpu_os.h"
#include "wire/aead_os.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define STEP_NS        10000u
#define RECOVER_STEPS  20000u
#define SESSION_SLOTS  1024u
#define PAGE_BYTES     4096u
#define HUGE_BYTES     (2u << 20)
#define CLIENT_STEPS   200u
#define CHUNKS_DEFAULT 64u

static const uint8_t rig_node_mac[6] = {0x02, 0, 0, 0, 0, 0x01};
static const uint8_t rig_client_mac[6] = {0x02, 0, 0, 0, 0, 0x02};

const uint8_t torc_rig_psk[TORC_NOISE_KEY_BYTES] = {0x70, 0x73, 0x6b};

// Ends the program: the rig is used by fuzz targets too, which have no test to end.
static void rig_ok(enum torc_err err, const struct torc_fail *why)
{
    if (err != TORC_ERR_OK) {
        (void)fprintf(stderr, "%s: %s\n", torc_err_name(err), why->text);
    }
    torc_assert(err == TORC_ERR_OK);
}

// -- Memory ---------------------------------------------------------------------------------------

static void *rig_memory(uint64_t bytes)
{
    bool large = bytes >= HUGE_BYTES;
    uint64_t unit = large ? HUGE_BYTES : PAGE_BYTES;
    uint64_t rounded = (bytes + unit - 1) / unit * unit;
    void *memory = aligned_alloc(unit, rounded);

    torc_assert(memory != NULL);
    if (large) {
        (void)madvise(memory, rounded,
                      MADV_HUGEPAGE); // as the program's memory; without it, slower
    }
    memset(memory, 0, rounded);
    return memory;
}

static void rig_pipe_init(struct torc_rig_frame *frames)
{
    for (uint32_t i = 0; i < TORC_RIG_FRAMES; i++) {
        frames[i].bytes = malloc(TORC_RIG_FRAME_BYTES);
        torc_assert(frames[i].bytes != NULL);
    }
}

static void rig_pipe_free(struct torc_rig_frame *frames)
{
    for (uint32_t i = 0; i < TORC_RIG_FRAMES; i++) {
        free(frames[i].bytes);
    }
}

// -- Life of the dataplane ------------------------------------------------------------------------

static void rig_worker_start(struct torc_rig *rig, uint32_t index)
{
    struct torc_worker_config config = {
        .index = index,
        .count = rig->config.workers,
        .chan = rig->chan,
        .chan_bytes = rig->chan_bytes,
        .sessions = rig->sessions,
        .handover = rig->handover,
        .replicas = rig->council != NULL,
        .shipped_bytes = 256u << 10, // so that some are let go of
        .council = rig->council,
        .confirm_reads = rig->config.confirm,
        .post = rig->config.post,
        .ipv4_prefix = 24,
        .ipv6_prefix = 64,
        .base_port = TORC_RIG_BASE_PORT,
        .port_count = 1,
        .ports = &rig->port,
        .chunk_base = rig->mapping.base,
        .chunk_first = index * rig->config.chunks,
        .chunk_count = rig->config.chunks,
        .heap = &rig->heaps[index],
        .code = torc_tree_code_best(),
        .shards_max = TORC_FAKE_SHARDS_MAX,
        .gathers_max = rig->config.gathers == 0 ? 512 : rig->config.gathers,
        .jobs_max = 64,
        .fragment_pool_bytes = 8u << 20,
        .session_message_bytes = 4u << 20,
        .completion_bytes =
            rig->config.completion_bytes == 0 ? 1u << 20 : rig->config.completion_bytes,
        .unproved_answers_max =
            rig->config.unproved_answers_max == 0 ? 10000000 : rig->config.unproved_answers_max,
        .undo = {.bytes = rig->config.undo_bytes == 0 ? UINT64_C(4) << 20 : rig->config.undo_bytes,
                 .age_us = 1000000,
                 .pin_us = 60000000},
        .seed = torc_rng_next(&rig->rng),
        .trace_clock = rig->config.trace_clock,
        .trace_context = rig,
    };
    uint64_t bytes;
    struct torc_fail why;

    memcpy(config.ipv4, rig->ipv4, sizeof(config.ipv4));
    memcpy(config.ipv6, rig->ipv6, sizeof(config.ipv6));
    bytes = torc_worker_bytes(&config);
    rig_ok(torc_worker_init(&rig->workers[index], rig_memory(bytes), bytes, &config, &why), &why);
    rig_ok(torc_fake_control_attach(&rig->controls[index], rig->chan, rig->chan_bytes, index, &why),
           &why);
}

static void rig_start(struct torc_rig *rig)
{
    uint32_t workers = rig->config.workers;
    uint32_t slots = rig->config.session_slots;
    uint64_t sessions_bytes = torc_sessions_bytes(slots, workers);
    uint64_t handover_bytes = torc_handover_bytes(workers, TORC_RIG_FRAME_BYTES);
    struct torc_sessions_config sessions = {
        .slot_count = slots, .worker_count = workers, .aead = rig->config.aead, .dummy = {9}};
    struct torc_fail why;

    rig->chan_bytes = torc_chan_bytes(workers);
    rig->chan = rig_memory(rig->chan_bytes);
    rig_ok(torc_chan_format(rig->chan, rig->chan_bytes, workers, &why), &why);
    sessions.chan = rig->chan;
    sessions.chan_bytes = rig->chan_bytes;
    rig_ok(torc_sessions_init(&rig->sessions, rig_memory(sessions_bytes), sessions_bytes, &sessions,
                              &why),
           &why);
    rig_ok(torc_handover_init(&rig->handover, rig_memory(handover_bytes), handover_bytes, workers,
                              TORC_RIG_FRAME_BYTES, &why),
           &why);
    if (rig->config.meta != NULL) {
        uint64_t council_bytes = torc_council_bytes(workers, TORC_FAKE_SHARDS_MAX);

        rig_ok(torc_council_init(&rig->council, rig_memory(council_bytes), council_bytes, workers,
                                 TORC_FAKE_SHARDS_MAX, &why),
               &why);
    }
    for (uint32_t i = 0; i < workers; i++) {
        rig_worker_start(rig, i);
    }
    rig->up = true;
}

void torc_rig_crash(struct torc_rig *rig)
{
    torc_assert(rig->up);
    for (uint32_t i = 0; i < rig->config.workers; i++) {
        torc_worker_close(rig->workers[i]);
        free(rig->workers[i]);
    }
    free(rig->chan);
    free(rig->sessions);
    free(rig->handover);
    free(rig->council);
    rig->council = NULL;
    rig->in_count = 0;
    rig->out_count = 0;
    rig->up = false;
}

// Time passes, for all nodes there are.
static void rig_pass(struct torc_rig *rig)
{
    if (rig->config.step != NULL) {
        rig->config.step(rig->config.step_context);
    } else {
        torc_rig_step(rig, STEP_NS);
    }
}

// Feeds recovery until every worker is ready, then says SERVE.
static bool rig_serve(struct torc_rig *rig)
{
    bool started[TORC_RIG_WORKERS_MAX] = {false};
    bool ready = false;

    for (uint32_t step = 0; step < RECOVER_STEPS && !ready; step++) {
        ready = true;
        for (uint32_t i = 0; i < rig->config.workers; i++) {
            started[i] = started[i] || torc_fake_control_start(&rig->controls[i]);
            ready = ready && started[i] && torc_fake_control_ready(&rig->controls[i]);
        }
        rig_pass(rig);
    }
    for (uint32_t i = 0; ready && i < rig->config.workers; i++) {
        torc_fake_control_serve(&rig->controls[i]);
    }
    for (uint32_t step = 0; rig->config.step != NULL && step < 3; step++) {
        rig_pass(rig);
    }
    if (rig->config.step == NULL) {
        torc_rig_settle(rig, 100);
    }
    return ready;
}

bool torc_rig_try_recover(struct torc_rig *rig)
{
    torc_assert(!rig->up);
    rig_start(rig);
    return rig_serve(rig);
}

void torc_rig_recover(struct torc_rig *rig)
{
    bool served = torc_rig_try_recover(rig);

    torc_assert(served);
}

static void rig_defaults(struct torc_rig_config *config)
{
    config->node = config->node == 0 ? 1 : config->node;
    config->mtu = config->mtu == 0 ? 1500 : config->mtu;
    config->chunks = config->chunks == 0 ? CHUNKS_DEFAULT : config->chunks;
    config->heap_bytes = config->heap_bytes == 0 ? 64u << 20 : config->heap_bytes;
    config->value_bytes_max = config->value_bytes_max == 0 ? 1u << 20 : config->value_bytes_max;
    config->session_slots = config->session_slots == 0 ? SESSION_SLOTS : config->session_slots;
    config->aead = config->aead == NULL ? torc_aead_code_best() : config->aead;
}

struct torc_chan_principal torc_rig_principal(const struct torc_rig *rig)
{
    struct torc_chan_principal principal = {.number = TORC_RIG_PRINCIPAL,
                                            .roles =
                                                TORC_ROLE_READ | TORC_ROLE_WRITE | TORC_ROLE_ADMIN,
                                            .sessions_max = rig->config.session_slots,
                                            .key_count = 1,
                                            .key_ids = {TORC_RIG_KEY_ID}};

    torc_noise_bind(principal.psks[0], torc_rig_psk, rig->controls[0].cluster,
                    rig->controls[0].node);
    return principal;
}

void torc_rig_keys(struct torc_rig *rig, const struct torc_chan_principal *list, uint32_t count)
{
    torc_fake_control_keys(&rig->controls[0], list, count);
}

void torc_rig_open(struct torc_rig *rig, const struct torc_rig_config *config)
{
    struct torc_fail why;

    memset(rig, 0, sizeof(*rig));
    rig->config = *config;
    rig_defaults(&rig->config);
    rig->rng.state = config->seed;
    rig->now_ns = config->now_ns == 0 ? UINT64_C(5000000000) : config->now_ns;
    rig->wall_us = config->wall_us == 0 ? UINT64_C(1700000000000000) : config->wall_us;
    rig->port.mtu = rig->config.mtu;
    memcpy(rig->port.mac, rig_node_mac, sizeof(rig->port.mac));
    rig->ipv4[0] = 10;
    rig->ipv4[1] = 79;
    rig->ipv4[3] = (uint8_t)(10 + rig->config.node);
    rig->ipv6[0] = 0xfd;
    rig->ipv6[1] = 0x79;
    rig->ipv6[15] = (uint8_t)(10 + rig->config.node);
    rig_ok(torc_mapping_open(
               &rig->mapping,
               (uint64_t)rig->config.chunks * rig->config.workers * TORC_RIG_CHUNK_BYTES, &why),
           &why);
    rig_pipe_init(rig->in);
    rig_pipe_init(rig->out);
    rig->tx_memory = malloc((size_t)TORC_TURN_TX_MAX * TORC_RIG_FRAME_BYTES);
    torc_assert(rig->tx_memory != NULL);
    for (uint32_t i = 0; i < rig->config.workers; i++) {
        struct torc_fake_control *control = &rig->controls[i];

        // For all lives of the node: what a heap takes from the system is not given back.
        rig_ok(torc_heap_open(&rig->heaps[i], rig->config.heap_bytes, &why), &why);
        torc_fake_control_init(control, config->key_count, config->shards);
        control->durability = config->durability;
        control->meta = config->meta;
        control->node = rig->config.node;
        control->value_bytes_max = rig->config.value_bytes_max;
        control->sessions_max = rig->config.session_slots;
        control->security = config->sealed ? TORC_SECURITY_KEYS : TORC_SECURITY_CLEAR;
        for (uint32_t s = 0; s < config->shards; s++) {
            control->shards[s].core = (uint8_t)(s % config->workers);
            control->shards[s].node = rig->config.node;
        }
    }
    if (config->sealed) {
        struct torc_chan_principal principal = torc_rig_principal(rig);

        torc_rig_keys(rig, &principal, 1);
    }
    torc_rig_recover(rig);
}

void torc_rig_close(struct torc_rig *rig)
{
    if (rig->up) {
        torc_rig_crash(rig);
    }
    for (uint32_t i = 0; i < rig->config.workers; i++) {
        torc_fake_control_free(&rig->controls[i]);
        torc_heap_close(&rig->heaps[i]);
    }
    torc_mapping_close(&rig->mapping);
    rig_pipe_free(rig->in);
    rig_pipe_free(rig->out);
    free(rig->tx_memory);
}

// -- Steps ----------------------------------------------------------------------------------------

static void rig_put_out(struct torc_rig *rig, const struct torc_frame_tx *tx, uint32_t worker)
{
    struct torc_rig_frame *frame;

    if (rig->out_count == TORC_RIG_FRAMES) {
        rig->out_lost++;
        return;
    }
    frame = &rig->out[(rig->out_first + rig->out_count) % TORC_RIG_FRAMES];
    rig->out_count++;
    torc_assert(tx->byte_count <= TORC_RIG_FRAME_BYTES);
    memcpy(frame->bytes, tx->bytes, tx->byte_count);
    frame->byte_count = tx->byte_count;
    frame->worker = worker;
}

// Frames at the head of the pipe that are for this worker; others wait for theirs.
static uint32_t rig_take_in(struct torc_rig *rig, uint32_t worker)
{
    uint32_t count = 0;

    while (rig->in_count > 0 && count < TORC_TURN_RX_MAX) {
        struct torc_rig_frame *frame = &rig->in[rig->in_first];

        if (frame->worker != worker) {
            break;
        }
        rig->rx[count++] =
            (struct torc_frame_rx){.bytes = frame->bytes, .byte_count = frame->byte_count};
        rig->in_first = (rig->in_first + 1) % TORC_RIG_FRAMES;
        rig->in_count--;
    }
    return count;
}

static void rig_turn(struct torc_rig *rig, uint32_t worker)
{
    struct torc_turn turn = {.now_ns = rig->now_ns,
                             .wall_us = rig->wall_us,
                             .rx = rig->rx,
                             .tx = rig->tx,
                             .tx_room = TORC_TURN_TX_MAX};
    uint64_t begun_ns;

    for (uint32_t i = 0; i < TORC_TURN_TX_MAX; i++) {
        rig->tx[i] =
            (struct torc_frame_tx){.bytes = rig->tx_memory + (uint64_t)i * TORC_RIG_FRAME_BYTES,
                                   .room = rig->config.mtu + 18u};
    }
    turn.rx_count = rig_take_in(rig, worker);
    turn.rx_waiting = rig->config.workers == 1 ? rig->in_count : 0; // else they may be another's
    begun_ns = rig->config.turn_clock != NULL ? rig->config.turn_clock() : 0;
    torc_worker_turn(rig->workers[worker], &turn);
    rig->spent_ns += rig->config.turn_clock != NULL ? rig->config.turn_clock() - begun_ns : 0;
    for (uint32_t i = 0; i < turn.tx_count; i++) {
        rig_put_out(rig, &rig->tx[i], worker);
    }
    rig->futile[worker] = turn.futile;
    rig->more = rig->more || turn.more || turn.rx_count > 0 || turn.tx_count > 0;
}

void torc_rig_step(struct torc_rig *rig, uint64_t advance_ns)
{
    struct torc_sessions_step step = {.now_ns = rig->now_ns + advance_ns,
                                      .wall_us = rig->wall_us + advance_ns / 1000};

    rig->now_ns = step.now_ns;
    rig->wall_us = step.wall_us;
    rig->more = false;
    for (uint32_t i = 0; i < sizeof(step.random); i += 8) {
        uint64_t word = torc_rng_next(&rig->rng);

        memcpy(step.random + i, &word, sizeof(word));
    }
    for (uint32_t i = 0; i < rig->config.workers; i++) {
        torc_fake_control_step(&rig->controls[i], rig->now_ns);
    }
    torc_sessions_step(rig->sessions, &step);
    for (uint32_t i = 0; i < rig->config.workers; i++) {
        if (rig->held[i]) {
            continue;
        }
        rig_turn(rig, i);
        rig->more = rig->more || !torc_worker_idle(rig->workers[i]);
    }
    rig->more = rig->more || rig->in_count > 0 || torc_sessions_pending(rig->sessions, rig->now_ns);
}

void torc_rig_settle(struct torc_rig *rig, uint32_t steps_max)
{
    uint32_t quiet = 0;

    // Three quiet steps: a packet passes from worker to control and back in two.
    for (uint32_t step = 0; step < steps_max && quiet < 3; step++) {
        torc_rig_step(rig, STEP_NS);
        quiet = rig->more ? 0 : quiet + 1;
    }
}

struct torc_stats *torc_rig_stats(struct torc_rig *rig, uint32_t worker)
{
    return &rig->controls[worker].ports.worker->stats;
}

struct torc_admit *torc_rig_admit(struct torc_rig *rig, uint32_t worker)
{
    return rig->workers[worker]->admit;
}

uint64_t torc_rig_drops(struct torc_rig *rig, enum torc_drop reason)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < rig->config.workers; i++) {
        count += torc_stats_get(&torc_rig_stats(rig, i)->drops[reason]);
    }
    return count;
}

// -- Frames ---------------------------------------------------------------------------------------

bool torc_rig_send(struct torc_rig *rig, uint32_t worker, const void *bytes, uint32_t byte_count)
{
    struct torc_rig_frame *frame;

    torc_assert(worker < rig->config.workers && byte_count <= TORC_RIG_FRAME_BYTES);
    if (rig->in_count == TORC_RIG_FRAMES) {
        return false;
    }
    frame = &rig->in[(rig->in_first + rig->in_count) % TORC_RIG_FRAMES];
    rig->in_count++;
    memcpy(frame->bytes, bytes, byte_count);
    frame->byte_count = byte_count;
    frame->worker = worker;
    return true;
}

uint32_t torc_rig_receive(struct torc_rig *rig, void *bytes, uint32_t room)
{
    struct torc_rig_frame *frame = &rig->out[rig->out_first];
    uint32_t byte_count;

    if (rig->out_count == 0) {
        return 0;
    }
    rig->out_first = (rig->out_first + 1) % TORC_RIG_FRAMES;
    rig->out_count--;
    byte_count = frame->byte_count < room ? frame->byte_count : room;
    memcpy(bytes, frame->bytes, byte_count);
    return byte_count;
}

bool torc_rig_send_udp(struct torc_rig *rig, const struct torc_rig_udp *udp)
{
    unsigned char frame[TORC_RIG_FRAME_BYTES];
    struct torc_frame_udp head = {.source_port = udp->client_port,
                                  .destination_port = udp->node_port};
    uint32_t worker = rig->config.steered ? (udp->node_port - TORC_RIG_BASE_PORT) : 0;
    uint32_t at;

    memcpy(head.source_mac, rig_client_mac, sizeof(head.source_mac));
    memcpy(head.destination_mac, rig_node_mac, sizeof(head.destination_mac));
    memcpy(head.source_ip, udp->client_ip, sizeof(head.source_ip));
    if (torc_ip_is_mapped(udp->client_ip)) {
        torc_ip_map(head.destination_ip, rig->ipv4);
    } else {
        memcpy(head.destination_ip, rig->ipv6, sizeof(head.destination_ip));
    }
    at = torc_frame_udp_head_bytes(&head);
    memcpy(frame + at, udp->payload, udp->payload_bytes);
    return torc_rig_send(rig, worker % rig->config.workers, frame,
                         torc_frame_udp_write(frame, &head, udp->payload_bytes));
}

bool torc_rig_receive_udp(struct torc_rig *rig, struct torc_rig_udp *udp)
{
    while (rig->out_count > 0) {
        struct torc_rig_frame *frame = &rig->out[rig->out_first];
        struct torc_frame parsed;
        struct torc_frame_local local = {.has_ipv4 = 1, .has_ipv6 = 1, .port_count = UINT16_MAX};

        // We take the client's side, whoever it is: its address is what the frame says.
        rig->out_first = (rig->out_first + 1) % TORC_RIG_FRAMES;
        rig->out_count--;
        memcpy(local.mac, frame->bytes, sizeof(local.mac));
        memcpy(local.ipv4, frame->bytes + 30, sizeof(local.ipv4));
        memcpy(local.ipv6, frame->bytes + 38, sizeof(local.ipv6));
        if (torc_frame_parse(&parsed, &local, frame->bytes, frame->byte_count, 0) !=
                TORC_DROP_NONE ||
            parsed.kind != TORC_FRAME_UDP) {
            continue;
        }
        memcpy(udp->client_ip, parsed.destination_ip, sizeof(udp->client_ip));
        udp->client_port = parsed.destination_port;
        udp->node_port = parsed.source_port;
        udp->payload = parsed.payload;
        udp->payload_bytes = parsed.payload_bytes;
        return true;
    }
    return false;
}

// -- A client -------------------------------------------------------------------------------------

static void rig_client_send(struct torc_rig *rig, const struct torc_rig_client *client,
                            uint32_t core, const unsigned char *payload, uint32_t payload_bytes)
{
    struct torc_rig_udp udp = {.client_port = client->port,
                               .node_port = (uint16_t)(TORC_RIG_BASE_PORT + core),
                               .payload = payload,
                               .payload_bytes = payload_bytes};

    memcpy(udp.client_ip, client->ip, sizeof(udp.client_ip));
    torc_assert(torc_rig_send_udp(rig, &udp));
}

static bool rig_client_receive(struct torc_rig *rig, const struct torc_rig_client *client,
                               struct torc_rig_udp *udp)
{
    while (torc_rig_receive_udp(rig, udp)) {
        if (udp->client_port == client->port &&
            memcmp(udp->client_ip, client->ip, sizeof(client->ip)) == 0) {
            return true;
        }
    }
    return false;
}

void torc_rig_connect(struct torc_rig *rig, struct torc_rig_client *client, uint16_t port)
{
    static const uint8_t address[4] = {10, 79, 0, 1};
    uint8_t ip[16];

    torc_ip_map(ip, address);
    torc_rig_connect_from(rig, client, ip, port);
}

void torc_rig_connect_from(struct torc_rig *rig, struct torc_rig_client *client,
                           const uint8_t ip[16], uint16_t port)
{
    struct torc_handshake handshake;
    struct torc_handshake_entropy entropy = {.secret = {1}};
    struct torc_handshake_offer offer = {
        .node = TORC_NODE_UNKNOWN, .payload_max = TORC_PAYLOAD_MAX, .lanes = 1, .agent = "rig"};
    enum torc_handshake_event event = TORC_HANDSHAKE_RESEND;

    memset(client, 0, sizeof(*client));
    memcpy(client->ip, ip, sizeof(client->ip));
    client->port = port;
    client->reply_bytes = 1400;
    client->reply_packets = 16;
    client->client_id = torc_rng_next(&rig->rng) & ~UINT64_C(0xff);
    client->client_id = rig->config.client_id != 0 ? rig->config.client_id : client->client_id;
    client->next_op = 1;
    client->next_wseq = 1;
    offer.client_id = client->client_id;
    offer.client_index = 7000u + port;
    if (rig->config.sealed) {
        offer.psk = torc_rig_psk;
        offer.principal = rig->config.principal == 0 ? TORC_RIG_PRINCIPAL : rig->config.principal;
        offer.key_id = TORC_RIG_KEY_ID;
        offer.suites = rig->config.aead->suites;
    }
    for (uint32_t i = 0; i < TORC_RANDOM_BYTES; i++) {
        entropy.random[i] = (uint8_t)torc_rng_next(&rig->rng);
        entropy.secret[i] = (uint8_t)torc_rng_next(&rig->rng);
    }
    torc_handshake_init(&handshake, &offer, &entropy);
    for (uint32_t step = 0; step < CLIENT_STEPS && event != TORC_HANDSHAKE_ACCEPTED; step++) {
        struct torc_rig_udp udp;

        if (event == TORC_HANDSHAKE_RESEND) {
            rig_client_send(rig, client, 0, handshake.packet, TORC_INIT_BYTES);
        }
        rig_pass(rig);
        entropy.random[0]++;
        entropy.secret[0]++;
        event = rig_client_receive(rig, client, &udp)
                    ? torc_handshake_receive(&handshake, udp.payload, udp.payload_bytes, &entropy,
                                             &client->accept)
                    : TORC_HANDSHAKE_IGNORED;
    }
    torc_assert(event == TORC_HANDSHAKE_ACCEPTED);
    torc_lane_init(&client->lane, &client->accept, offer.client_index, 0,
                   rig->config.sealed ? &handshake.keys : NULL, rig->config.aead);
}

uint32_t torc_rig_add(struct torc_rig_client *client, const struct torc_request *request)
{
    struct torc_request numbered = *request;

    numbered.op_id = numbered.op_id == 0 ? client->next_op++ : numbered.op_id;
    client->used_bytes +=
        torc_request_encode(client->packet + TORC_DATA_HEAD_BYTES + client->used_bytes, &numbered);
    return numbered.op_id;
}

uint32_t torc_rig_flush(struct torc_rig *rig, struct torc_rig_client *client, uint32_t core)
{
    struct torc_data data = {.core = (uint8_t)core,
                             .clock_us = (uint32_t)rig->wall_us,
                             .hlc = client->hlc,
                             .reply_bytes = client->reply_bytes,
                             .reply_packets = client->reply_packets};
    uint32_t bytes = torc_lane_seal(&client->lane, client->packet, client->used_bytes, &data);

    client->used_bytes = 0;
    rig_client_send(rig, client, core, client->packet, bytes);
    return bytes;
}

bool torc_rig_next(struct torc_rig *rig, struct torc_rig_client *client, struct torc_reply *reply)
{
    struct torc_rig_udp udp;

    while (!torc_reply_next(client->reply + TORC_DATA_HEAD_BYTES, client->reply_bytes_used,
                            &client->reply_at, reply)) {
        if (!rig_client_receive(rig, client, &udp)) {
            client->reply_bytes_used = 0;
            return false;
        }
        memcpy(client->reply, udp.payload, udp.payload_bytes);
        if (torc_lane_open(&client->lane, client->reply, udp.payload_bytes, &client->reply_data) !=
            TORC_DROP_NONE) {
            client->reply_bytes_used = 0;
            continue;
        }
        client->reply_bytes_used = udp.payload_bytes - TORC_DATA_OVERHEAD;
        client->reply_at = 0;
        client->hlc = client->hlc > client->reply_data.hlc ? client->hlc : client->reply_data.hlc;
    }
    return true;
}

bool torc_rig_await(struct torc_rig *rig, struct torc_rig_client *client, struct torc_reply *reply,
                    uint32_t steps_max)
{
    for (uint32_t step = 0; step < steps_max; step++) {
        if (torc_rig_next(rig, client, reply)) {
            return true;
        }
        rig_pass(rig);
    }
    return torc_rig_next(rig, client, reply);
}

void torc_rig_call(struct torc_rig *rig, struct torc_rig_client *client,
                   const struct torc_request *request, struct torc_reply *reply)
{
    uint32_t op_id = torc_rig_add(client, request);
    bool found = false;

    (void)torc_rig_flush(
        rig, client, request->key < rig->config.key_count ? torc_rig_core(rig, request->key) : 0);
    while (!found && torc_rig_await(rig, client, reply, CLIENT_STEPS)) {
        found = reply->op_id == op_id;
    }
    torc_assert(found);
}

void torc_rig_expect(struct torc_rig *rig, struct torc_rig_client *client,
                     const struct torc_request *request, enum torc_err status,
                     struct torc_reply *reply)
{
    torc_rig_call(rig, client, request, reply);
    if (reply->status != status) {
        (void)fprintf(stderr, "%s of %" PRIu64 ": %s %" PRIx64 ", expected %s: %.*s\n",
                      torc_opcode_name(request->opcode), request->key,
                      torc_err_name((enum torc_err)reply->status), reply->info,
                      torc_err_name(status), (int)reply->body_bytes, (const char *)reply->body);
    }
    torc_assert(reply->status == status);
}

uint64_t torc_rig_put_text(struct torc_rig *rig, struct torc_rig_client *client, uint64_t key,
                           const char *text)
{
    struct torc_request request = torc_rig_put(rig, client, key, text, (uint32_t)strlen(text));
    struct torc_reply reply;

    torc_rig_expect(rig, client, &request, TORC_ERR_OK, &reply);
    return reply.info;
}

void torc_rig_check_text(struct torc_rig *rig, struct torc_rig_client *client, uint64_t key,
                         const char *text)
{
    struct torc_request request = torc_rig_get(key);
    struct torc_reply reply;

    torc_rig_expect(rig, client, &request, TORC_ERR_OK, &reply);
    torc_assert(reply.opcode == (TORC_OPCODE_GET | TORC_REPLY_BIT));
    torc_assert(reply.body_bytes == strlen(text));
    torc_assert(memcmp(reply.body, text, strlen(text)) == 0);
}

void torc_rig_check_none(struct torc_rig *rig, struct torc_rig_client *client, uint64_t key)
{
    struct torc_request request = torc_rig_get(key);
    struct torc_reply reply;

    torc_rig_expect(rig, client, &request, TORC_ERR_NOT_FOUND, &reply);
}

// -- Requests -------------------------------------------------------------------------------------

static const struct torc_fake_shard *rig_shard(const struct torc_rig *rig, uint64_t key)
{
    const struct torc_fake_control *control = &rig->controls[0];
    uint32_t at = 0;

    while (at + 1 < control->shard_count && key >= control->shards[at].hi) {
        at++;
    }
    return &control->shards[at];
}

uint32_t torc_rig_core(const struct torc_rig *rig, uint64_t key)
{
    return rig_shard(rig, key)->core;
}

uint32_t torc_rig_epoch(const struct torc_rig *rig, uint64_t key)
{
    return rig_shard(rig, key)->epoch;
}

struct torc_request torc_rig_get(uint64_t key)
{
    return (struct torc_request){.opcode = TORC_OPCODE_GET, .key = key};
}

static struct torc_request rig_write(struct torc_rig *rig, struct torc_rig_client *client,
                                     uint64_t key)
{
    uint64_t wseq = client->next_wseq++;

    return (struct torc_request){.key = key,
                                 .wseq = wseq,
                                 .lowest = wseq,
                                 .stamp = torc_hlc_from_us(rig->wall_us),
                                 .epoch = torc_rig_epoch(rig, key),
                                 .attempt = 1};
}

struct torc_request torc_rig_put(struct torc_rig *rig, struct torc_rig_client *client, uint64_t key,
                                 const void *value, uint32_t value_bytes)
{
    struct torc_request request = rig_write(rig, client, key);

    request.opcode = TORC_OPCODE_PUT;
    request.data = value;
    request.data_bytes = value_bytes;
    return request;
}

struct torc_request torc_rig_delete(struct torc_rig *rig, struct torc_rig_client *client,
                                    uint64_t key)
{
    struct torc_request request = rig_write(rig, client, key);

    request.opcode = TORC_OPCODE_DELETE;
    return request;
}

bool torc_rig_note_unread(struct torc_rig *rig, uint32_t session, uint64_t seq)
{
    struct torc_admit *admit = rig->workers[0]->admit;

    torc_admit_take(admit, session);
    torc_admit_leave(admit, session, 1200);
    return torc_admit_note(admit, session, seq);
}

bool torc_rig_is_untold(const struct torc_rig *rig)
{
    return rig->workers[0]->admit->untold > 0;
}
