// Torc tests: a worker under more load than it can do; see overload_world.h.
#include "tests/overload_world.h"

#include "dataplane/worker_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE_BYTES    20000u
#define LARGE_KEY      (overload.config.keys - 1)
#define FRAGMENT_BYTES 1024u
#define LARGE_RECORDS  4096u // that become large, where there are records over all keys
#define REPLY_BYTES    1400u
#define SETTLE_NS      (30 * OVERLOAD_MS_NS)
#define STAND_MAX_NS   (10 * OVERLOAD_MS_NS) // a queue stands by then
// So much load, so long, and nothing is refused any more.
#define CALM_NS       (3 * TORC_ADMIT_STANDING_NS)
#define FULL_TRIES    10u
#define CALM_EVERY_PS UINT64_C(100000000)
#define IDLE_NS       500u // a turn that finds nothing
// What every packet costs that is taken in, and every frame that goes out.
#define OPEN_NS  60u
#define FRAME_NS 40u
#define CHUNK_NS 1500u // a packet of rows
#define DROP_NS  20u   // a packet that is not opened, less than OPEN_NS

// What the operations of a packet cost, over OPEN_NS and FRAME_NS.
static const uint64_t kind_ns[KINDS] = {
    [GET] = 400, [GETS] = 1900, [PUT] = 900, [PUT_LARGE] = 1500, [PULL] = 1500, [RANGE] = 600};

const struct overload_mix overload_gets = {{[GET] = 1}};
const struct overload_mix overload_many_gets = {{[GETS] = 1}};
const struct overload_mix overload_everything = {
    {[GET] = 50, [GETS] = 15, [PUT] = 20, [PUT_LARGE] = 5, [PULL] = 5, [RANGE] = 5}};

struct overload_world overload;

// ---- The node and its sessions

void overload_samples_open(struct overload_samples *samples)
{
    samples->count = 0;
    samples->ns =
        samples->ns != NULL ? samples->ns : malloc(OVERLOAD_SAMPLES_MAX * sizeof(uint64_t));
    torc_assert(samples->ns != NULL);
}

static void open_node(uint32_t count, uint64_t seed)
{
    struct torc_rig_config config = {.workers = 1,
                                     .shards = 4,
                                     .key_count = overload.config.keys,
                                     .seed = seed,
                                     .durability = TORC_DURABILITY_NONE,
                                     .chunks = overload.config.records == 0 ? 0 : 768,
                                     .sealed = overload.config.sealed,
                                     .turn_clock = overload.config.turn_clock};

    overload.rig = calloc(1, sizeof(*overload.rig));
    overload.sessions = calloc(count, sizeof(*overload.sessions));
    torc_assert(overload.rig != NULL && overload.sessions != NULL &&
                count <= OVERLOAD_SESSIONS_MAX);
    torc_rig_open(overload.rig, &config);
    overload.session_count = count;
    overload.rng.state = seed;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t address[4] = {10, 79, (uint8_t)(1 + i / 250), (uint8_t)(1 + i % 250)};
        uint8_t ip[16];

        torc_ip_map(ip, address);
        torc_rig_connect_from(overload.rig, &overload.sessions[i].client, ip, (uint16_t)(5000 + i));
        overload.sessions[i].weight = 1;
    }
    overload.next_ns = 0;
    overload.rest_ps = 0;
    overload.turn_ns = 0;
    overload.budget_us = 0;
    overload.queued_first = 0;
    overload.queued_count = 0;
    overload_samples_open(&overload.served);
    overload_samples_open(&overload.refused);
    overload_samples_open(&overload.ranges);
}

// The large value that is pulled, in pieces that come one by one.
static void put_large(void)
{
    struct torc_rig_client *client = &overload.sessions[0].client;
    uint8_t bytes[FRAGMENT_BYTES] = {7};
    struct torc_request put = torc_rig_put(overload.rig, client, LARGE_KEY, bytes, FRAGMENT_BYTES);
    struct torc_reply reply;

    put.flags = TORC_WRITE_FRAGMENTED;
    put.total_bytes = LARGE_BYTES;
    put.fragment_bytes = FRAGMENT_BYTES;
    put.op_id = client->next_op++;
    (void)torc_rig_add(client, &put);
    (void)torc_rig_flush(overload.rig, client, 0);
    torc_rig_step(overload.rig, 1000);
    for (uint32_t at = 1; at * FRAGMENT_BYTES < LARGE_BYTES; at++) {
        struct torc_request piece = {.opcode = TORC_OPCODE_FRAG,
                                     .op_id = put.op_id,
                                     .key = LARGE_KEY,
                                     .fragment = at,
                                     .data = bytes};

        piece.data_bytes =
            (uint32_t)torc_min_u64(FRAGMENT_BYTES, LARGE_BYTES - at * FRAGMENT_BYTES);
        (void)torc_rig_add(client, &piece);
        (void)torc_rig_flush(overload.rig, client, 0);
        torc_rig_step(overload.rig, 1000);
    }
    overload.version = 0;
    while (torc_rig_await(overload.rig, client, &reply, 100)) {
        if (reply.opcode == (TORC_OPCODE_PUT | TORC_REPLY_BIT) && reply.status == TORC_ERR_OK) {
            overload.version = reply.info;
        }
    }
    torc_assert(overload.version != 0);
}

static uint64_t records_apart(void)
{
    return overload.config.keys / overload.config.records;
}

// Records over all keys, 16 to a packet.
static void put_records(void)
{
    struct torc_rig_client *client = &overload.sessions[0].client;
    uint8_t value[OVERLOAD_VALUE_BYTES] = {1};

    for (uint64_t record = overload.config.records / 8; record < overload.config.records;
         record++) {
        struct torc_request put = torc_rig_put(overload.rig, client, record * records_apart(),
                                               value, OVERLOAD_VALUE_BYTES);

        (void)torc_rig_add(client, &put);
        if (record % 16 == 15) {
            (void)torc_rig_flush(overload.rig, client, 0);
            torc_rig_step(overload.rig, 10000);
            overload.rig->out_count = 0;
        }
    }
}

static void fill_node(void)
{
    uint8_t value[OVERLOAD_VALUE_BYTES] = {1};

    for (uint64_t key = 0; key < UINT64_C(8) * OVERLOAD_RANGE_KEYS; key++) {
        struct torc_request put =
            torc_rig_put(overload.rig, &overload.sessions[0].client,
                         key * ((uint64_t)overload.config.keys / 8 / OVERLOAD_RANGE_KEYS), value,
                         OVERLOAD_VALUE_BYTES);
        struct torc_reply reply;

        torc_rig_expect(overload.rig, &overload.sessions[0].client, &put, TORC_ERR_OK, &reply);
    }
    put_records();
    put_large();
    torc_rig_settle(overload.rig, 1000);
    overload.rig->out_count = 0;
}

void overload_close(void)
{
    torc_rig_close(overload.rig);
    free(overload.rig);
    free(overload.sessions);
}

// ---- Load

enum overload_kind overload_draw_kind(const struct overload_mix *mix)
{
    uint32_t total = 0;
    uint64_t at;
    uint32_t kind = 0;

    for (uint32_t i = 0; i < KINDS; i++) {
        total += mix->parts[i];
    }
    at = torc_rng_below(&overload.rng, total);
    while (at >= mix->parts[kind]) {
        at -= mix->parts[kind];
        kind++;
    }
    return (enum overload_kind)kind;
}

static void sum_weights(void)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < overload.session_count; i++) {
        total += overload.sessions[i].weight;
        overload.weight_ends[i] = total;
    }
}

static struct overload_session *draw_session(void)
{
    uint64_t at = torc_rng_below(&overload.rng, overload.weight_ends[overload.session_count - 1]);
    uint32_t low = 0;
    uint32_t high = overload.session_count - 1;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (overload.weight_ends[middle] <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return &overload.sessions[low];
}

static void add(struct overload_session *session, const struct torc_request *request)
{
    struct torc_request with_budget = *request;

    with_budget.budget_us = overload.budget_us;
    session->packets[torc_rig_add(&session->client, &with_budget) % OVERLOAD_OPS_MAX] =
        (uint32_t)session->client.lane.seq[0] + 1;
}

// One of `count` from `first` on; where there are records over all keys, the record's below it.
static uint64_t some_key(uint64_t first, uint64_t count)
{
    uint64_t key = first + torc_rng_below(&overload.rng, count);

    return overload.config.records == 0 ? key : key - key % records_apart();
}

uint64_t overload_draw_key(enum overload_kind kind)
{
    uint64_t half = overload.config.keys / 2;

    switch (kind) {
    case GET:
    case PUT: return some_key(half, half - 1);
    case GETS: return some_key(0, overload.config.keys - 1);
    case PUT_LARGE:
        return overload.config.records == 0 ? some_key(half, half - 1)
                                            : some_key(half, LARGE_RECORDS * records_apart());
    case PULL: return LARGE_KEY;
    case RANGE: return 0; // up to OVERLOAD_RANGE_END
    case KINDS: break;
    }
    torc_unreachable("not a kind");
}

static void add_kind(struct overload_session *session, enum overload_kind kind)
{
    static const uint8_t value[OVERLOAD_PUT_LARGE] = {3};
    uint64_t key = overload_draw_key(kind);
    struct torc_request request = torc_rig_get(key);

    switch (kind) {
    case GET: break;
    case GETS:
        for (uint32_t i = 0; i < 15; i++) {
            add(session, &request);
            request.key = overload_draw_key(kind);
        }
        break;
    case PUT:
    case PUT_LARGE:
        request = torc_rig_put(overload.rig, &session->client, key, value,
                               kind == PUT ? OVERLOAD_VALUE_BYTES : OVERLOAD_PUT_LARGE);
        break;
    case PULL:
        request = (struct torc_request){.opcode = TORC_OPCODE_PULL,
                                        .key = key,
                                        .version = overload.version,
                                        .fragment_bytes = FRAGMENT_BYTES,
                                        .bitmap = 0xff};
        break;
    case RANGE:
        request = (struct torc_request){.opcode = TORC_OPCODE_RANGE_READ,
                                        .key = key,
                                        .hi = OVERLOAD_RANGE_END,
                                        .limit = OVERLOAD_RANGE_KEYS,
                                        .epoch = torc_rig_epoch(overload.rig, 0)};
        break;
    case KINDS: torc_unreachable("not a kind");
    }
    add(session, &request);
}

static void arrive(const struct overload_mix *mix)
{
    struct overload_session *session = draw_session();
    enum overload_kind kind = overload_draw_kind(mix);
    struct overload_sent *sent;

    session->offered += overload.measuring ? 1 : 0;
    overload.offered_count += overload.measuring ? 1 : 0;
    if (overload.rig->in_count == OVERLOAD_RX_RING) {
        overload.ring_lost += overload.measuring ? 1 : 0;
        return;
    }
    add_kind(session, kind);
    session->client.reply_bytes =
        (uint16_t)(REPLY_BYTES | (kind == PUT || kind == PUT_LARGE ? 0 : TORC_REPLY_BYTES_DROP));
    sent = &session->sent[(session->client.lane.seq[0] + 1) % OVERLOAD_SENT_MAX];
    *sent = (struct overload_sent){
        .at_ns = overload.next_ns, .budget_us = overload.budget_us, .kind = kind};
    (void)torc_rig_flush(overload.rig, &session->client, 0);
    sent->seq = session->client.lane.seq[0];
    overload.queued[(overload.queued_first + overload.queued_count) % (OVERLOAD_RX_RING + 1)] =
        sent;
    overload.queued_of[(overload.queued_first + overload.queued_count) % (OVERLOAD_RX_RING + 1)] =
        session;
    overload.queued_count++;
    torc_assert(overload.queued_count == overload.rig->in_count);
}

// All that comes up to `until_ns`, with gaps of twice the average at most.
static void arrivals(const struct overload_mix *mix, uint64_t until_ns)
{
    overload.next_ns = overload.next_ns == 0 ? until_ns : overload.next_ns;
    while (overload.next_ns <= until_ns) {
        arrive(mix);
        overload.rest_ps += torc_rng_below(&overload.rng, 2 * overload.every_ps + 1);
        overload.next_ns += overload.rest_ps / 1000;
        overload.rest_ps %= 1000;
    }
}

// ---- Answers

void overload_sample(struct overload_samples *samples, uint64_t ns)
{
    if (overload.measuring && samples->count < OVERLOAD_SAMPLES_MAX) {
        samples->ns[samples->count++] = ns;
    }
}

// Packets that nobody opened.
static void answer_unread(struct overload_session *session, const struct torc_reply *reply)
{
    struct torc_unread unread;

    torc_assert(torc_unread_decode(reply, &unread));
    torc_assert(unread.retry_us > 0);
    for (uint32_t i = 0; i < 64; i++) {
        struct overload_sent *sent = &session->sent[(reply->info + i) % OVERLOAD_SENT_MAX];

        if ((unread.bitmap >> i & 1) == 0) {
            continue;
        }
        torc_assert(sent->seq == reply->info + i);
        torc_assert(sent->kind != PUT && sent->kind != PUT_LARGE);
        torc_assert(!(sent->answered || sent->refused || sent->told));
        sent->dropped = true;
        sent->told = true;
        overload.told_count += overload.measuring ? 1 : 0;
        if (overload.told_now < OVERLOAD_ROWS_MAX) {
            overload.told_at_ns[overload.told_now++] = sent->at_ns;
        }
    }
}

static void answer(struct overload_session *session, const struct torc_reply *reply,
                   uint64_t *chunks)
{
    *chunks += reply->opcode == (TORC_OPCODE_RANGE_READ | TORC_REPLY_BIT) ? 1 : 0;
    overload.deadlines += overload.measuring && reply->status == TORC_ERR_DEADLINE ? 1 : 0;
    if (reply->opcode == TORC_OPCODE_SHED) {
        struct overload_sent *sent = &session->sent[reply->info % OVERLOAD_SENT_MAX];

        torc_assert(sent->seq == reply->info);
        torc_assert(reply->status == TORC_ERR_BUSY);
        sent->refused = true;
    } else if (reply->opcode == TORC_OPCODE_UNREAD) {
        answer_unread(session, reply);
    } else {
        uint32_t seq = session->packets[reply->op_id % OVERLOAD_OPS_MAX];
        struct overload_sent *sent = &session->sent[seq % OVERLOAD_SENT_MAX];

        torc_assert((uint32_t)sent->seq == seq);
        sent->answered = true;
        sent->late |= reply->status == TORC_ERR_DEADLINE;
        if (sent->kind == RANGE && !sent->late && overload.rows_count < OVERLOAD_ROWS_MAX) {
            overload.rows_at_ns[overload.rows_count++] = sent->at_ns;
        }
    }
}

static struct overload_session *session_of(const struct torc_rig_udp *udp)
{
    uint32_t index = udp->client_port - 5000u;

    torc_assert(index < overload.session_count);
    return &overload.sessions[index];
}

// What went out, opened; returns what it cost.
static uint64_t answers(void)
{
    struct torc_rig_udp udp;
    uint64_t chunks = 0;
    uint64_t frames = 0;

    while (torc_rig_receive_udp(overload.rig, &udp)) {
        struct overload_session *session = session_of(&udp);
        struct torc_rig_client *client = &session->client;
        struct torc_reply reply;
        uint32_t at = 0;

        frames++;
        memcpy(client->reply, udp.payload, udp.payload_bytes);
        torc_assert(torc_lane_open(&client->lane, client->reply, udp.payload_bytes,
                                   &client->reply_data) == TORC_DROP_NONE);
        while (torc_reply_next(client->reply + TORC_DATA_HEAD_BYTES,
                               udp.payload_bytes - TORC_DATA_OVERHEAD, &at, &reply)) {
            answer(session, &reply, &chunks);
        }
    }
    return frames * FRAME_NS + chunks * CHUNK_NS;
}

// Whether it is noted as dropped and was not told of yet.
static bool is_noted(const struct overload_session *session, const struct overload_sent *sent)
{
    uint32_t index = session->client.lane.session_index;
    const struct torc_admit *admit = overload.rig->workers[0]->admit;
    const struct torc_admit_slot *slot = &admit->slots[index % TORC_ADMIT_SLOTS];

    return slot->session == index && sent->seq >= slot->first && sent->seq - slot->first < 64 &&
           (slot->bitmap >> (sent->seq - slot->first) & 1) == 1;
}

// Which packets of the turn were dropped: those that are noted; and of what is then left those
// without an answer, but ranges are answered later.
static void mark_dropped(uint32_t count, uint64_t drops)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (overload.queued_first + i) % (OVERLOAD_RX_RING + 1);

        overload.queued[at]->dropped |= is_noted(overload.queued_of[at], overload.queued[at]);
        torc_assert(!overload.queued[at]->dropped || drops > 0);
        drops -= overload.queued[at]->dropped ? 1 : 0;
    }
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count && drops > 0; i++) {
            struct overload_sent *sent =
                overload.queued[(overload.queued_first + i) % (OVERLOAD_RX_RING + 1)];

            if (!sent->answered && !sent->refused && !sent->dropped &&
                (pass == 1 || sent->kind != RANGE)) {
                sent->dropped = true;
                drops--;
            }
        }
    }
    torc_assert(drops == 0);
}

// What the packets cost that the turn took.
static uint64_t taken(uint32_t count)
{
    uint64_t cost_ns = 0;

    for (uint32_t i = 0; i < count; i++) {
        const struct overload_sent *sent =
            overload.queued[(overload.queued_first + i) % (OVERLOAD_RX_RING + 1)];

        cost_ns += sent->dropped                 ? DROP_NS
                   : sent->refused || sent->late ? OPEN_NS
                                                 : OPEN_NS + kind_ns[sent->kind];
    }
    return cost_ns;
}

static void settle_taken(uint32_t count, uint64_t end_ns)
{
    for (uint32_t i = 0; i < count; i++) {
        struct overload_sent *sent = overload.queued[overload.queued_first];
        struct overload_session *session = overload.queued_of[overload.queued_first];

        bool was_served = !sent->refused && !sent->dropped && !sent->late;

        if (sent->refused || (was_served && sent->kind != RANGE)) {
            overload_sample(sent->refused ? &overload.refused : &overload.served,
                            end_ns - sent->at_ns);
        }
        session->served += overload.measuring && was_served ? 1 : 0;
        overload.served_count += overload.measuring && was_served ? 1 : 0;
        session->refused += overload.measuring && !was_served ? 1 : 0;
        overload.dropped_count += overload.measuring && sent->dropped ? 1 : 0;
        overload.spent_refusing_ns += !overload.measuring || was_served ? 0
                                      : sent->dropped                   ? DROP_NS
                                                                        : OPEN_NS + FRAME_NS;
        overload.overdue +=
            overload.measuring && was_served && sent->budget_us != 0 &&
                    overload.rig->now_ns - sent->at_ns > (uint64_t)sent->budget_us * 1000
                ? 1
                : 0;
        overload.queued_first = (overload.queued_first + 1) % (OVERLOAD_RX_RING + 1);
        overload.queued_count--;
    }
}

// The worker takes what has come, after the time that its last turn took.
static void take(void)
{
    uint32_t before = overload.rig->in_count;
    uint64_t drops = torc_rig_drops(overload.rig, TORC_DROP_OVERLOAD);
    uint64_t spent_ns = overload.rig->spent_ns;
    uint32_t count;
    uint64_t cost_ns;

    torc_rig_step(overload.rig, overload.turn_ns);
    count = before - overload.rig->in_count;
    cost_ns = answers();
    mark_dropped(count, torc_rig_drops(overload.rig, TORC_DROP_OVERLOAD) - drops);
    cost_ns += taken(count);
    cost_ns = overload.config.turn_clock == NULL ? cost_ns : overload.rig->spent_ns - spent_ns;
    settle_taken(count, overload.rig->now_ns + cost_ns);
    for (uint32_t i = 0; i < overload.rows_count; i++) {
        overload_sample(&overload.ranges, overload.rig->now_ns + cost_ns - overload.rows_at_ns[i]);
    }
    for (uint32_t i = 0; i < overload.told_now; i++) {
        overload_sample(&overload.refused, overload.rig->now_ns + cost_ns - overload.told_at_ns[i]);
    }
    overload.rows_count = 0;
    overload.told_now = 0;
    overload.spent_ns += overload.measuring ? cost_ns : 0;
    overload.turn_ns = cost_ns;
}

static void turn(const struct overload_mix *mix)
{
    if (overload.turn_ns == 0) {
        overload.turn_ns = overload.rig->more || overload.next_ns <= overload.rig->now_ns
                               ? IDLE_NS
                               : overload.next_ns - overload.rig->now_ns;
    }
    arrivals(mix, overload.rig->now_ns + overload.turn_ns);
    take();
}

static void forget(void)
{
    overload.served.count = 0;
    overload.refused.count = 0;
    overload.ranges.count = 0;
    overload.spent_ns = 0;
    overload.spent_refusing_ns = 0;
    overload.offered_count = 0;
    overload.served_count = 0;
    overload.ring_lost = 0;
    overload.dropped_count = 0;
    overload.told_count = 0;
    overload.deadlines = 0;
    overload.overdue = 0;
    for (uint32_t i = 0; i < overload.session_count; i++) {
        overload.sessions[i].offered = 0;
        overload.sessions[i].served = 0;
        overload.sessions[i].refused = 0;
    }
}

static uint64_t overload_run(const struct overload_mix *mix, uint64_t duration_ns)
{
    uint64_t began_ns = overload.rig->now_ns;

    sum_weights();
    while (overload.rig->now_ns - began_ns < duration_ns) {
        turn(mix);
    }
    return overload.rig->now_ns - began_ns;
}

uint64_t overload_cost(const struct overload_mix *mix)
{
    overload.every_ps = 8 * OVERLOAD_MS_NS;
    overload.measuring = true;
    forget();
    (void)overload_run(mix, 100 * OVERLOAD_MS_NS);
    return overload.spent_ns * 1000 / overload.offered_count;
}

// The packet that came last is lost on its way.
static void lose_last(void)
{
    overload.rig->in_count--;
    overload.queued_count--;
    overload.offered_count--;
}

// False: a turn took so long, by what the machine did beside it, that packets were refused.
static bool full_turns(const struct overload_mix *mix, uint32_t packets, uint32_t turns)
{
    overload.measuring = false;
    overload.every_ps = CALM_EVERY_PS;
    (void)overload_run(mix, CALM_NS);
    overload.measuring = true;
    forget();
    for (uint32_t i = 0; i < turns; i++) {
        overload.next_ns = overload.rig->now_ns;
        for (uint32_t j = 0; j < packets; j++) {
            arrive(mix);
            lose_last();
            arrive(mix);
        }
        take();
    }
    return overload.served_count == (uint64_t)packets * turns;
}

uint64_t overload_cost_full(const struct overload_mix *mix, uint32_t packets, uint32_t turns)
{
    uint32_t tries = 1;

    while (!full_turns(mix, packets, turns)) {
        torc_assert(++tries <= FULL_TRIES);
    }
    return overload.spent_ns * 1000 / overload.served_count;
}

// ---- What comes of it

static int compare(const void *a, const void *b)
{
    uint64_t left;
    uint64_t right;

    memcpy(&left, a, sizeof(left));
    memcpy(&right, b, sizeof(right));
    return left < right ? -1 : left > right;
}

uint64_t overload_quantile(struct overload_samples *samples, uint32_t ppm)
{
    if (samples->count == 0) {
        return 0;
    }
    qsort(samples->ns, samples->count, sizeof(samples->ns[0]), compare);
    return samples->ns[(uint64_t)(samples->count - 1) * ppm / 1000000];
}

struct overload_figures overload_after(const struct overload_mix *mix, uint64_t cost_ps,
                                       uint32_t percent, uint64_t settle_ns)
{
    struct overload_figures figures = {0};
    uint64_t gone_ns;

    overload.every_ps = cost_ps * 100 / percent;
    overload.measuring = false;
    (void)overload_run(mix, settle_ns);
    forget();
    overload.measuring = true;
    gone_ns = overload_run(mix, overload.config.measure_ns);
    torc_assert(gone_ns > 0);
    figures.served_ppm = (overload.spent_ns - overload.spent_refusing_ns) * 1000000 / gone_ns;
    figures.busy_ppm = overload.spent_ns * 1000000 / gone_ns;
    figures.accepted_ppm = overload.served_count * cost_ps * 1000 / gone_ns;
    figures.median_ns = overload_quantile(&overload.served, 500000);
    figures.p99_ns = overload_quantile(&overload.served, 990000);
    figures.refused_p99_ns = overload_quantile(&overload.refused, 990000);
    figures.refused_max_ns = overload_quantile(&overload.refused, 1000000);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    if (getenv("TORC_TEST_FIGURES") != NULL) {
        (void)printf("  %3u %% of %5" PRIu64 " ps, %u sessions: served %5.1f %%, busy %5.1f %%; "
                     "%7u served, p50 %4" PRIu64 " p99 %4" PRIu64 " us; %7u refused, p99 %4" PRIu64
                     " max %4" PRIu64 " us; rows p99 %" PRIu64 "; dropped %" PRIu64
                     ", told %" PRIu64 ", by the ring %" PRIu64 "\n",
                     percent, cost_ps, overload.session_count, (double)figures.served_ppm / 1e4,
                     (double)figures.busy_ppm / 1e4, overload.served.count,
                     figures.median_ns / 1000, figures.p99_ns / 1000, overload.refused.count,
                     figures.refused_p99_ns / 1000, figures.refused_max_ns / 1000,
                     overload_quantile(&overload.ranges, 990000) / 1000, overload.dropped_count,
                     overload.told_count, overload.ring_lost);
    }
    return figures;
}

// Nothing is refused before a queue stood for 100 ms (test_onset); here it stands, and is then said
// to have done so for that long.
static void stand(const struct overload_mix *mix, uint64_t cost_ps, uint32_t percent)
{
    struct torc_admit *admit = torc_rig_admit(overload.rig, 0);
    uint64_t end_ns = overload.rig->now_ns + STAND_MAX_NS;

    overload.every_ps = cost_ps * 100 / percent;
    overload.measuring = false;
    while (admit->standing_ns == 0 && overload.rig->now_ns < end_ns) {
        (void)overload_run(mix, 1);
    }
    torc_assert(admit->standing_ns != 0);
    admit->standing_ns -= TORC_ADMIT_STANDING_NS;
}

struct overload_figures overload_load(const struct overload_mix *mix, uint64_t cost_ps,
                                      uint32_t percent)
{
    if (percent > 100) {
        stand(mix, cost_ps, percent);
    }
    return overload_after(mix, cost_ps, percent, SETTLE_NS);
}

void overload_open(const struct overload_config *config)
{
    overload.config = *config;
    open_node(config->sessions, config->seed);
    fill_node();
}
