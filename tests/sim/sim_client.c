// Torc simulator: clients: real engines, the workload, and the history of what they saw. See sim.h.
#include "client/engine.h"
#include "tests/sim/sim.h"
#include "wire/aead_os.h"
#include "wire/frame.h"

#include <stdlib.h>
#include <string.h>

#define POOL_BYTES (UINT64_C(4) << 20)
#define OPERATIONS 64u
#define POLL_MAX   32u
#define WAKE_NS    UINT64_C(2000)
#define IDLE_NS    (20 * SIM_MS)

void sim_client_init(uint32_t index)
{
    struct sim_client *client = &sim->clients[index];
    struct torc_engine_config config = {.client_id = torc_rng_next(&sim->rng) & ~UINT64_C(0xff),
                                        .seed = torc_rng_next(&sim->rng),
                                        .pool_bytes = POOL_BYTES,
                                        .operations = OPERATIONS,
                                        .nodes = 64,
                                        .payload_bytes = sim->config.mtu - 28u,
                                        .read_rto_us = 1000,
                                        .aead = torc_aead_code_best()};
    struct torc_fail why;

    if (sim->config.sealed) {
        config.key = (struct torc_client_key){
            .cluster = SIM_CLUSTER, .principal = 7, .name = "sim", .psk = {.id = 1}};
        memcpy(config.key.psk.bytes, sim_psk, sizeof(config.key.psk.bytes));
    }
    for (uint32_t i = 0; i < sizeof(config.secret); i++) {
        config.secret[i] = (uint8_t)torc_rng_next(&sim->rng);
    }
    if (client->life == 0) {
        client->actor.at_ns = UINT64_MAX;
        client->clock =
            (struct sim_clock){.base_ns = SIM_S + torc_rng_below(&sim->rng, 100 * SIM_S),
                               .rate_ppm = (int64_t)torc_rng_below(&sim->rng, 401) - 200};
        client->clock.wall_us = SIM_WALL_ZERO_US - (int64_t)(client->clock.base_ns / 1000) +
                                (int64_t)torc_rng_below(&sim->rng, 2000000) - 1000000;
    }
    client->life++;
    client->memory_bytes = (torc_engine_bytes(&config) + 4095) & ~UINT64_C(4095);
    client->memory = sim_memory(client->memory_bytes);
    client->engine = torc_engine_init(client->memory, &config, sim_local_ns(&client->clock),
                                      sim_wall_us(&client->clock));
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        struct torc_endpoint place = {.port = SIM_BASE_PORT};

        torc_ip_map(place.address, sim_node_ipv4(i));
        torc_assert(torc_engine_seed(client->engine, &place, &why) == TORC_ERR_OK);
    }
    memset(client->counted, 0, sizeof(client->counted));
    client->pending = 0;
    client->next_op_ns = sim->now_ns;
    sim_wake(&client->actor, sim->now_ns + WAKE_NS, SIM_EVENT_CLIENT, index, 0);
}

static void client_count(struct sim_client *client)
{
    struct torc_counters counters;
    uint64_t now[4];

    torc_engine_counters(client->engine, &counters);
    now[0] = counters.handshakes;
    now[1] = counters.resends_timer + counters.resends_overtaken + counters.resends_refused;
    now[2] = counters.resends_refused;
    now[3] = counters.stale_reads;
    sim_cover_add(SIM_COVER_CLIENT_SESSIONS, now[0] - client->counted[0]);
    sim_cover_add(SIM_COVER_CLIENT_RESENT, now[1] - client->counted[1]);
    sim_cover_add(SIM_COVER_CLIENT_WRONG_SHARD, now[2] - client->counted[2]);
    sim_cover_add(SIM_COVER_END_STALE, now[3] - client->counted[3]);
    memcpy(client->counted, now, sizeof(now));
}

// The process ends, what it had in flight has no answer, and another one takes its place.
void sim_client_restart(uint32_t index)
{
    struct sim_client *client = &sim->clients[index];

    client_count(client);
    sim_stop(&client->actor);
    sim_memory_free(client->memory, client->memory_bytes);
    for (uint32_t i = 0; i < sim->op_count; i++) {
        if (sim->ops[i].client == index && sim->ops[i].return_ns == 0 &&
            sim->ops[i].status != TORC_ERR_CLOSED) {
            sim->ops[i].status = TORC_ERR_CLOSED; // nobody knows
        }
    }
    sim_client_init(index);
}

// -- Values: each is written once, and says which it is -------------------------------------------

static uint32_t value_bytes(uint64_t number)
{
    struct torc_rng rng = {.state = number * UINT64_C(0x9e3779b97f4a7c15)};

    if (torc_rng_chance(&rng, sim->config.big_ppm)) {
        return 1500 + (uint32_t)torc_rng_below(&rng, 30000);
    }
    return 8 + (uint32_t)torc_rng_below(&rng, sim->config.value_max);
}

static void value_make(uint64_t number)
{
    uint32_t bytes = value_bytes(number);

    memcpy(sim->value, &number, sizeof(number));
    for (uint32_t i = sizeof(number); i < bytes; i++) {
        sim->value[i] = (uint8_t)(number * 31 + (uint64_t)i * 7);
    }
}

uint64_t sim_value_read(uint64_t key, const void *data, uint64_t bytes)
{
    uint64_t number = 0;
    const uint8_t *at = data;
    uint8_t damage = 0;

    if (bytes >= sizeof(number)) {
        memcpy(&number, data, sizeof(number));
    }
    if (number == 0 || number > sim->next_value || bytes != value_bytes(number)) {
        sim_fail("key %" PRIu64 ": %" PRIu64 " bytes that nobody wrote", key, bytes);
        return 0;
    }
    for (uint64_t i = sizeof(number); i < bytes; i++) { // many bytes at once, so not yet where
        damage |= at[i] ^ (uint8_t)(number * 31 + i * 7);
    }
    for (uint64_t i = sizeof(number); damage != 0 && i < bytes; i++) {
        if (at[i] != (uint8_t)(number * 31 + (uint64_t)i * 7)) {
            sim_fail("key %" PRIu64 ": value %" PRIu64 " is damaged at byte %" PRIu64, key, number,
                     i);
            return 0;
        }
    }
    return number;
}

uint32_t sim_key_place(uint64_t key)
{
    uint32_t lo = 0;
    uint32_t hi = sim->config.keys;

    while (lo < hi) {
        uint32_t middle = (lo + hi) / 2;

        if (sim->keys[middle] < key) {
            lo = middle + 1;
        } else {
            hi = middle;
        }
    }
    return lo < sim->config.keys && sim->keys[lo] == key ? lo : UINT32_MAX;
}

// Any of the hot keys, or of the client's own corner: who keeps to one hears of the rest late.
static uint32_t client_key(uint32_t index)
{
    uint32_t corner = index > 0 ? sim->config.corner : 0;

    if (corner == 0) {
        return (uint32_t)torc_rng_below(&sim->load, sim->config.keys);
    }
    return (index * (sim->config.keys / SIM_CLIENTS_MAX) +
            (uint32_t)torc_rng_below(&sim->load, corner)) %
           sim->config.keys;
}

uint32_t sim_shard_of(uint64_t key)
{
    uint32_t shard = 1;

    while (sim->shard_lo[shard] <= key) {
        shard++;
    }
    return shard;
}

// -- Beginning operations -------------------------------------------------------------------------

static const char *const op_words[] = {"?", "get", "put", "delete", "range", "count"};

// In a quarter of the seeds a fifth of the reads may be answered by any copy. Not drawn from the
// load, so that all other seeds are what they were.
static uint32_t client_age_us(void)
{
    static const uint32_t ages_us[] = {1000, 5500, 20000};
    struct torc_rng of_seed = {.state = sim->wish.seed};
    struct torc_rng of_op = {.state = sim->wish.seed * 2 + UINT64_C(1000003) * sim->op_count};
    uint64_t dice = torc_rng_next(&of_op) >> 8;

    if (sim->config.replicas < 2 || (torc_rng_next(&of_seed) >> 8) % 4 != 0 || dice % 5 != 0) {
        return 0;
    }
    sim_cover(SIM_COVER_OP_STALE);
    return ages_us[dice / 5 % TORC_COUNT_OF(ages_us)];
}

static bool client_get(struct sim_client *client, struct sim_op *op)
{
    struct torc_read_options options = {.timeout_us = op->deadline_ns};

    op->key = client_key(op->client);
    op->age_us = client_age_us();
    options.max_age_us = op->age_us;
    sim_cover(SIM_COVER_OP_GET);
    return torc_engine_get(client->engine, sim->keys[op->key], &options, sim->op_count, NULL) ==
           TORC_ERR_OK;
}

// A put or delete of the key, under the condition.
static bool client_ask_write(struct sim_client *client, struct sim_op *op)
{
    struct torc_engine_write write = {.timeout_us = op->deadline_ns,
                                      .user_data = sim->op_count,
                                      .key = sim->keys[op->key],
                                      .condition = op->condition,
                                      .version = op->if_version,
                                      .is_delete = op->kind == SIM_OP_DELETE};

    if (op->kind == SIM_OP_PUT) {
        op->number = ++sim->next_value;
        value_make(op->number);
        write.data = sim->value;
        write.bytes = value_bytes(op->number);
        sim_cover_add(SIM_COVER_OP_BIG, write.bytes > 1400 ? 1 : 0);
        sim_cover(op->condition == TORC_ALWAYS ? SIM_COVER_OP_PUT : SIM_COVER_OP_PUT_IF);
    } else {
        sim_cover(op->condition == TORC_ALWAYS ? SIM_COVER_OP_DELETE : SIM_COVER_OP_DELETE_IF);
    }
    return torc_engine_write(client->engine, &write, NULL) == TORC_ERR_OK;
}

static bool client_write(struct sim_client *client, struct sim_op *op)
{
    uint64_t dice = torc_rng_below(&sim->load, 100);

    op->key = client_key(op->client);
    op->condition = dice < 55   ? TORC_ALWAYS
                    : dice < 67 ? TORC_IF_ABSENT
                    : dice < 80 ? TORC_IF_PRESENT
                                : TORC_IF_VERSION;
    if (op->kind == SIM_OP_DELETE && op->condition == TORC_IF_ABSENT) {
        op->condition = TORC_ALWAYS;
    }
    if (op->condition == TORC_IF_VERSION) {
        op->if_version = sim->seen_version[op->key];
        op->condition = op->if_version == 0 ? TORC_ALWAYS : op->condition;
    }
    return client_ask_write(client, op);
}

static bool client_ask_range(struct sim_client *client, const struct sim_op *op, uint64_t user_data)
{
    struct torc_engine_range range = {
        .lo = op->lo, .hi = op->hi, .user_data = user_data, .count_only = op->kind == SIM_OP_COUNT};

    range.options.timeout_us = op->deadline_ns;
    range.options.limit = op->limit;
    range.options.flags = op->flags;
    range.options.consistency = op->consistency;
    range.options.timestamp = op->asked_ts;
    range.options.max_age_us = op->age_us;
    return torc_engine_range(client->engine, &range, NULL) == TORC_ERR_OK;
}

static bool client_range(struct sim_client *client, struct sim_op *op)
{
    bool corner = op->client > 0 && sim->config.corner > 0;
    uint64_t a = corner ? sim->keys[client_key(op->client)]
                        : torc_rng_below(&sim->load, sim->config.key_count);
    uint64_t b = corner ? sim->keys[client_key(op->client)]
                        : torc_rng_below(&sim->load, sim->config.key_count);

    op->lo = torc_min_u64(a, b);
    op->hi = torc_max_u64(a, b) + 1;
    op->consistency = torc_rng_chance(&sim->load, 700000) ? TORC_SNAPSHOT : TORC_SHARD;
    if (op->consistency == TORC_SNAPSHOT && torc_rng_chance(&sim->load, 150000)) {
        op->asked_ts = sim->last_ts; // another client told it; 0: nobody did yet
        op->past = op->asked_ts != 0;
    }
    if (op->consistency == TORC_SHARD) {
        op->age_us = client_age_us();
        op->consistency = op->age_us > 0 ? TORC_STALE : TORC_SHARD;
    }
    if (op->kind == SIM_OP_RANGE) {
        op->flags = TORC_WITH_VERSIONS | (uint32_t)torc_rng_below(&sim->load, 2) * TORC_REVERSE |
                    (torc_rng_chance(&sim->load, 200000) ? TORC_KEYS_ONLY : 0);
        op->limit = torc_rng_chance(&sim->load, 300000)
                        ? 1 + torc_rng_below(&sim->load, sim->config.keys)
                        : 0;
    }
    sim_cover(op->kind == SIM_OP_RANGE ? SIM_COVER_OP_RANGE : SIM_COVER_OP_COUNT);
    return client_ask_range(client, op, sim->op_count);
}

static void client_began(struct sim_client *client, const struct sim_op *op)
{
    client->pending++;
    if (op->kind >= SIM_OP_RANGE) {
        sim_story("client %u %s #%u [%" PRIu64 ", %" PRIu64 ")%s%s", (unsigned)op->client,
                  op_words[op->kind], (unsigned)sim->op_count, op->lo, op->hi,
                  (op->flags & TORC_REVERSE) != 0 ? " reverse" : "",
                  op->consistency == TORC_SNAPSHOT ? " snapshot" : "");
    } else {
        sim_story("client %u %s #%u key %" PRIu64 " value %" PRIu64 " condition %u version %" PRIx64
                  " age %u us",
                  (unsigned)op->client, op_words[op->kind], (unsigned)sim->op_count,
                  sim->keys[op->key], op->number, (unsigned)op->condition, op->if_version,
                  (unsigned)op->age_us);
    }
    sim->op_count++;
}

static void client_begin(uint32_t index)
{
    struct sim_client *client = &sim->clients[index];
    struct sim_op *op = &sim->ops[sim->op_count];
    uint64_t dice = torc_rng_below(&sim->load, 100);
    bool begun;

    *op = (struct sim_op){.call_ns = sim->now_ns, .client = (uint8_t)index, .life = client->life};
    // Microseconds, until it has begun.
    op->deadline_ns = 1000 * (1 + torc_rng_below(&sim->load, sim->config.timeout_ms));
    op->kind = dice < 40   ? SIM_OP_GET
               : dice < 78 ? SIM_OP_PUT
               : dice < 90 ? SIM_OP_DELETE
               : dice < 98 ? SIM_OP_RANGE
                           : SIM_OP_COUNT;
    begun = op->kind == SIM_OP_GET    ? client_get(client, op)
            : op->kind < SIM_OP_RANGE ? client_write(client, op)
                                      : client_range(client, op);
    if (begun) {
        client_began(client, op);
    }
}

// The rest of a page's range, at the same moment.
static void client_next_page(uint32_t index, const struct sim_op *before)
{
    struct sim_client *client = &sim->clients[index];
    struct sim_op *op = &sim->ops[sim->op_count];

    *op = *before;
    op->lo = before->next_lo;
    op->hi = before->next_hi;
    op->asked_ts = before->version;
    op->return_ns = 0;
    op->deadline_ns = UINT64_C(1000) * sim->config.timeout_ms;
    op->row_count = 0;
    op->more = false;
    op->status = 0;
    if (client_ask_range(client, op, sim->op_count)) {
        sim_cover(SIM_COVER_OP_RANGE_PAGE);
        client_began(client, op);
    }
}

static bool client_look(uint32_t index)
{
    struct sim_client *client = &sim->clients[index];
    struct sim_op *op = &sim->ops[sim->op_count];
    struct torc_read_options options = {.timeout_us = SIM_LOOK_MS * UINT64_C(1000)};

    if (sim_is_closed(sim->keys[sim->last_at])) { // nobody would answer
        sim->last_at++;
        return true;
    }
    *op = (struct sim_op){
        .call_ns = sim->now_ns, .client = (uint8_t)index, .kind = SIM_OP_GET, .last = true};
    op->key = sim->last_at;
    if (torc_engine_get(client->engine, sim->keys[op->key], &options, sim->op_count, NULL) !=
        TORC_ERR_OK) {
        return false;
    }
    client_began(client, op);
    sim->last_at++;
    return true;
}

// -- Ends -----------------------------------------------------------------------------------------

static void client_rows(struct sim_op *op, const struct torc_completion *done)
{
    op->row_first = sim->row_count;
    op->row_count = (uint32_t)done->count;
    op->next_lo = done->next_lo;
    op->next_hi = done->next_hi;
    op->more = (done->flags & TORC_MORE) != 0;
    torc_assert(sim->row_count + done->count <= SIM_ROWS_MAX);
    for (uint64_t i = 0; i < done->count; i++) {
        const struct torc_row *from = &done->rows[i];
        struct sim_row *row = &sim->rows[sim->row_count++];

        *row = (struct sim_row){.key = from->key, .version = from->version};
        if (sim_key_place(from->key) == UINT32_MAX) {
            sim_fail("a range has key %" PRIu64 ", which nobody wrote", from->key);
        } else if ((op->flags & TORC_KEYS_ONLY) == 0) {
            row->number = sim_value_read(from->key, from->data, from->bytes);
        }
    }
}

// What of it was looked at: a page may end before its range does.
static void client_looked(const struct sim_op *op)
{
    bool reverse = (op->flags & TORC_REVERSE) != 0;

    sim_ghost_read(op->more && reverse ? op->next_hi : op->lo,
                   op->more && !reverse ? op->next_lo : op->hi, op->version);
    sim->last_ts = torc_max_u64(sim->last_ts, op->version);
}

static void client_cover(const struct torc_completion *done)
{
    enum torc_err status = done->status;

    sim_cover(status == TORC_ERR_OK                 ? SIM_COVER_END_OK
              : status == TORC_ERR_NOT_FOUND        ? SIM_COVER_END_NOT_FOUND
              : status == TORC_ERR_CONDITION_FAILED ? SIM_COVER_END_CONDITION
              : status == TORC_ERR_SNAPSHOT_TOO_OLD ? SIM_COVER_END_TOO_OLD
              : torc_err_maybe_applied(status)      ? SIM_COVER_END_DOUBT
                                                    : SIM_COVER_END_REFUSED);
}

static void client_done(uint32_t index, const struct torc_completion *done)
{
    struct sim_op *op = &sim->ops[done->user_data];

    torc_assert(done->user_data < sim->op_count);
    if (op->return_ns != 0 || op->client != index) {
        sim_fail("operation #%u ended twice", (unsigned)done->user_data);
        return;
    }
    sim->clients[index].pending--;
    op->return_ns = sim->now_ns;
    op->status = (uint8_t)done->status;
    op->version = done->version;
    op->closed = sim->stop_count > 0 && done->status != TORC_ERR_OK && sim_calm_is_closed(op);
    client_cover(done);
    sim_hash(done->version ^ (uint64_t)done->status << 56 ^ done->user_data);
    if (done->status == TORC_ERR_OK && op->kind == SIM_OP_GET) {
        op->number = sim_value_read(sim->keys[op->key], done->data, done->bytes);
    }
    if (done->status == TORC_ERR_OK && op->kind < SIM_OP_RANGE && done->version != 0) {
        sim->seen_version[op->key] = done->version;
    }
    if (done->status == TORC_ERR_OK && op->kind == SIM_OP_COUNT) {
        op->number = done->count;
    }
    if (done->status == TORC_ERR_OK && op->kind == SIM_OP_RANGE) {
        client_rows(op, done);
    }
    if (done->status == TORC_ERR_OK && op->kind >= SIM_OP_RANGE &&
        op->consistency == TORC_SNAPSHOT) {
        client_looked(op);
        if (op->ahead) {
            sim_plan_answered(index);
        }
    }
    sim_story("client %u %s #%u key %" PRIu64 ": %s, value %" PRIu64 " version %" PRIx64
              " rows %u%s%s",
              (unsigned)index, op_words[op->kind], (unsigned)done->user_data,
              op->kind < SIM_OP_RANGE ? sim->keys[op->key] : op->lo, torc_err_name(done->status),
              op->number, op->version, (unsigned)op->row_count,
              done->text != NULL && done->text[0] != '\0' ? "; " : "",
              done->text != NULL ? done->text : "");
    if (done->status == TORC_ERR_OK && !op->last) {
        sim_faults_strike(sim_shard_of(op->kind < SIM_OP_RANGE ? sim->keys[op->key] : op->lo),
                          op->kind < SIM_OP_RANGE ? 1 : 5);
    }
    if (op->more && op->consistency == TORC_SNAPSHOT && !sim->quiet &&
        sim->op_count + 64 < SIM_OPS_MAX && sim->clients[index].pending + 1 < OPERATIONS) {
        client_next_page(index, op);
    }
}

// -- Turns ----------------------------------------------------------------------------------------

void sim_client_packet(uint32_t index, struct sim_packet *packet)
{
    struct sim_client *client = &sim->clients[index];
    struct torc_endpoint from = {.port = packet->from_port};

    if (client->actor.paused_ns > sim->now_ns) { // it waits in the kernel
        sim_post(client->actor.paused_ns, SIM_EVENT_PACKET, packet->to, 0, packet);
        return;
    }
    torc_ip_map(from.address, sim_node_ipv4(packet->from));
    torc_engine_time(client->engine, sim_local_ns(&client->clock), sim_wall_us(&client->clock));
    torc_engine_receive(client->engine, &from, packet->bytes, packet->byte_count);
    free(packet);
    sim_wake(&client->actor, sim->now_ns + WAKE_NS, SIM_EVENT_CLIENT, index, 0);
}

// What a row of troubles needs (sim_plan.c).
static void client_asked(uint32_t index, const struct sim_ask *ask)
{
    struct sim_client *client = &sim->clients[index];
    struct sim_op *op = &sim->ops[sim->op_count];
    bool ahead = ask->kind == SIM_OP_RANGE;

    *op = (struct sim_op){.call_ns = sim->now_ns,
                          .client = (uint8_t)index,
                          .life = client->life,
                          .kind = ask->kind,
                          .key = ask->key,
                          .condition = ask->condition,
                          .lo = sim->shard_lo[ask->shard - 1],
                          .hi = sim->shard_lo[ask->shard],
                          .asked_ts = ask->ts,
                          .past = ahead, // of another moment than now
                          .ahead = ahead,
                          .consistency = ahead ? TORC_SNAPSHOT : 0,
                          .flags = ahead ? TORC_WITH_VERSIONS : 0,
                          .deadline_ns = UINT64_C(1000) * 200};
    sim_cover_add(SIM_COVER_OP_AHEAD, ahead ? 1 : 0);
    if (ahead ? client_ask_range(client, op, sim->op_count) : client_ask_write(client, op)) {
        client_began(client, op);
    }
}

static void client_load(uint32_t index)
{
    struct sim_client *client = &sim->clients[index];
    struct sim_ask ask;

    if (sim->last_at < UINT32_MAX) {
        while (index == 0 && sim->last_at < sim->config.keys && client->pending < OPERATIONS / 2 &&
               client_look(index)) {
        }
        return;
    }
    if (sim_plan_asks(index, &ask) && client->pending < OPERATIONS &&
        sim->op_count < sim->config.ops) {
        client_asked(index, &ask);
    }
    if (sim->quiet || sim->now_ns < client->next_op_ns) {
        return;
    }
    while (client->pending < sim->config.in_flight && sim->op_count < sim->config.ops) {
        client_begin(index);
        if (torc_rng_chance(&sim->load, 500000)) { // else several at once
            break;
        }
    }
    client->next_op_ns =
        sim->now_ns + torc_rng_below(&sim->load, UINT64_C(2) * sim->config.think_us * SIM_US);
}

void sim_client_turn(uint32_t index)
{
    struct sim_client *client = &sim->clients[index];
    struct torc_completion done[POLL_MAX];
    struct torc_datagram datagram = {.payload = client->payload};
    uint64_t at_ns;
    uint32_t count;

    torc_engine_clock(client->engine, sim_local_ns(&client->clock), sim_wall_us(&client->clock));
    client_load(index);
    while (torc_engine_transmit(client->engine, &datagram)) {
        sim_net_from_client(index, datagram.to.address, datagram.to.port, datagram.payload,
                            datagram.bytes);
    }
    count = torc_engine_poll(client->engine, done, POLL_MAX);
    for (uint32_t i = 0; i < count; i++) {
        client_done(index, &done[i]);
    }
    client_count(client);
    at_ns = count > 0 ? sim->now_ns + WAKE_NS
                      : sim_when(&client->clock, torc_engine_deadline_ns(client->engine));
    if (!sim->quiet && client->next_op_ns > sim->now_ns) {
        at_ns = torc_min_u64(at_ns, client->next_op_ns);
    }
    at_ns = torc_min_u64(torc_max_u64(at_ns, sim->now_ns + 1000), sim->now_ns + IDLE_NS);
    sim_wake(&client->actor, at_ns, SIM_EVENT_CLIENT, index, 0);
}
