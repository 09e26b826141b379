// Torc tests: a worker under more load than it can do, in virtual time.
//
// What    one worker (tests/rig.h) whose turns take as long as a table says that their packets take
//         (`kinds`), and many sessions that send without waiting for answers, at a rate that is a
//         multiple of what the worker can do. Everything follows from the seed, so latencies are
//         exact and may be asserted.
// Oracle  each packet is known by its session and number: when it came, whether it was answered,
//         refused, or lost at the receive ring, and when. Answers leave at the end of their turn.
// Figures TORC_TEST_FIGURES=1 prints what each run measured.
#include "dataplane/worker_state.h"
#include "tests/rig.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define KEYS           UINT64_C(100000)
#define VALUE_BYTES    32u
#define LARGE_BYTES    20000u
#define LARGE_KEY      (KEYS - 1)
#define FRAGMENT_BYTES 1024u
#define RANGE_KEYS     40u
#define REPLY_BYTES    1400u
#define MS_NS          UINT64_C(1000000)
#define SETTLE_NS      (30 * MS_NS)
#define STAND_MAX_NS   (10 * MS_NS) // a queue stands by then
#define MEASURE_NS     (30 * MS_NS)
#define TARGET_NS      UINT64_C(100000)
// 99 of 100 refused packets are told of in that time, all of them in the other: opened ones in
// their own turn, unread ones with the next answer to their session or two turns later.
#define REFUSED_NS     (5 * TARGET_NS / 2)
#define REFUSED_MAX_NS (7 * TARGET_NS / 2)
#define SERVED_PPM     950000u         // of the time goes into what is served
#define SERVED_NS      (2 * TARGET_NS) // 99 of 100 accepted take at most that long
#define RANGES_NS      (4 * TARGET_NS) // and of packets of rows, which are made last
#define RX_RING        1024u           // descriptors of the receive queue
#define SESSIONS_MAX   400u
#define SENT_MAX       32768u // packets of one session that are remembered
#define SAMPLES_MAX    (1u << 19)
#define IDLE_NS        500u // a turn that finds nothing
// What every packet costs that is taken in, and every frame that goes out.
#define OPEN_NS  60u
#define FRAME_NS 40u
#define CHUNK_NS 1500u // a packet of rows
#define DROP_NS  20u   // a packet that is not opened, less than OPEN_NS
#define ROWS_MAX 1024u
#define OPS_MAX  262144u // of one session that are remembered

enum kind {
    GET,
    GETS,
    PUT,
    PUT_LARGE,
    PULL,
    RANGE,
    KINDS
};

// What the operations of a packet cost, over OPEN_NS and FRAME_NS.
static const uint64_t kind_ns[KINDS] = {
    [GET] = 400, [GETS] = 1900, [PUT] = 900, [PUT_LARGE] = 1500, [PULL] = 1500, [RANGE] = 600};

struct mix {
    uint32_t parts[KINDS]; // of each kind, relative
};

static const struct mix gets_only = {{[GET] = 1}};
static const struct mix many_gets = {{[GETS] = 1}};
static const struct mix everything = {
    {[GET] = 50, [GETS] = 15, [PUT] = 20, [PUT_LARGE] = 5, [PULL] = 5, [RANGE] = 5}};

struct sent {
    uint64_t seq;
    uint64_t at_ns;
    uint32_t budget_us;
    enum kind kind;
    bool refused;
    bool answered;
    bool dropped;
    bool told; // that it was
    bool late; // DEADLINE
};

struct session {
    struct torc_rig_client client;
    uint32_t weight; // its part of the load
    uint64_t offered;
    uint64_t served;
    uint64_t refused;
    struct sent sent[SENT_MAX];
    uint32_t packets[OPS_MAX]; // of operations, by their ids: the packet's number
};

struct samples {
    uint32_t count;
    uint64_t *ns;
};

static struct torc_rig *rig;
static struct session *sessions;
static uint32_t session_count;
static uint64_t weight_ends[SESSIONS_MAX]; // sums of the weights
static struct torc_rng rng;
static uint64_t next_ns;   // when the next packet comes
static uint64_t every_ps;  // on average
static uint64_t rest_ps;   // of the last gap, below a nanosecond
static uint64_t turn_ns;   // what the last turn took
static uint32_t budget_us; // of requests; 0: none
static uint64_t version;   // of the large value
static bool measuring;

// What was measured.
static struct samples served;
static struct samples refused;
static struct samples ranges; // to each packet of rows
static uint64_t spent_ns;     // in turns that did something
static uint64_t spent_refusing_ns;
static uint64_t offered_count;
static uint64_t ring_lost;
static uint64_t dropped_count;
static uint64_t told_count;
static uint64_t deadlines;
static uint64_t overdue; // served though it had waited longer than its budget

// When the ranges were sent whose rows came in this turn.
static uint64_t rows_at_ns[ROWS_MAX];
static uint32_t rows_count;

// And the packets that were dropped unread and told of in this turn.
static uint64_t told_at_ns[ROWS_MAX];
static uint32_t told_now;

// The packets of this turn, in the order in which they came.
static struct sent *queued[RX_RING + 1];
static struct session *queued_of[RX_RING + 1];
static uint32_t queued_first;
static uint32_t queued_count;

// ---- The node and its sessions

static void open_node(uint32_t count, uint64_t seed)
{
    struct torc_rig_config config = {.workers = 1,
                                     .shards = 4,
                                     .key_count = KEYS,
                                     .seed = seed,
                                     .durability = TORC_DURABILITY_NONE};

    rig = calloc(1, sizeof(*rig));
    sessions = calloc(count, sizeof(*sessions));
    CU_ASSERT_FATAL(rig != NULL && sessions != NULL && count <= SESSIONS_MAX);
    torc_rig_open(rig, &config);
    session_count = count;
    rng.state = seed;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t address[4] = {10, 79, (uint8_t)(1 + i / 250), (uint8_t)(1 + i % 250)};
        uint8_t ip[16];

        torc_ip_map(ip, address);
        torc_rig_connect_from(rig, &sessions[i].client, ip, (uint16_t)(5000 + i));
        sessions[i].weight = 1;
    }
    next_ns = 0;
    rest_ps = 0;
    turn_ns = 0;
    budget_us = 0;
    queued_first = 0;
    queued_count = 0;
}

// The large value that is pulled, in pieces that come one by one.
static void put_large(void)
{
    struct torc_rig_client *client = &sessions[0].client;
    uint8_t bytes[FRAGMENT_BYTES] = {7};
    struct torc_request put = torc_rig_put(rig, client, LARGE_KEY, bytes, FRAGMENT_BYTES);
    struct torc_reply reply;

    put.flags = TORC_WRITE_FRAGMENTED;
    put.total_bytes = LARGE_BYTES;
    put.fragment_bytes = FRAGMENT_BYTES;
    put.op_id = client->next_op++;
    (void)torc_rig_add(client, &put);
    (void)torc_rig_flush(rig, client, 0);
    torc_rig_step(rig, 1000);
    for (uint32_t at = 1; at * FRAGMENT_BYTES < LARGE_BYTES; at++) {
        struct torc_request piece = {.opcode = TORC_OPCODE_FRAG,
                                     .op_id = put.op_id,
                                     .key = LARGE_KEY,
                                     .fragment = at,
                                     .data = bytes};

        piece.data_bytes =
            (uint32_t)torc_min_u64(FRAGMENT_BYTES, LARGE_BYTES - at * FRAGMENT_BYTES);
        (void)torc_rig_add(client, &piece);
        (void)torc_rig_flush(rig, client, 0);
        torc_rig_step(rig, 1000);
    }
    version = 0;
    while (torc_rig_await(rig, client, &reply, 100)) {
        if (reply.opcode == (TORC_OPCODE_PUT | TORC_REPLY_BIT) && reply.status == TORC_ERR_OK) {
            version = reply.info;
        }
    }
    CU_ASSERT_NOT_EQUAL_FATAL(version, 0);
}

static void fill_node(void)
{
    uint8_t value[VALUE_BYTES] = {1};

    for (uint64_t key = 0; key < UINT64_C(8) * RANGE_KEYS; key++) {
        struct torc_request put = torc_rig_put(
            rig, &sessions[0].client, key * ((uint64_t)KEYS / 8 / RANGE_KEYS), value, VALUE_BYTES);
        struct torc_reply reply;

        torc_rig_expect(rig, &sessions[0].client, &put, TORC_ERR_OK, &reply);
    }
    put_large();
    torc_rig_settle(rig, 1000);
    rig->out_count = 0;
}

static void close_node(void)
{
    torc_rig_close(rig);
    free(rig);
    free(sessions);
}

// ---- Load

static enum kind draw_kind(const struct mix *mix)
{
    uint32_t total = 0;
    uint64_t at;
    uint32_t kind = 0;

    for (uint32_t i = 0; i < KINDS; i++) {
        total += mix->parts[i];
    }
    at = torc_rng_below(&rng, total);
    while (at >= mix->parts[kind]) {
        at -= mix->parts[kind];
        kind++;
    }
    return (enum kind)kind;
}

static void sum_weights(void)
{
    uint64_t total = 0;

    for (uint32_t i = 0; i < session_count; i++) {
        total += sessions[i].weight;
        weight_ends[i] = total;
    }
}

static struct session *draw_session(void)
{
    uint64_t at = torc_rng_below(&rng, weight_ends[session_count - 1]);
    uint32_t low = 0;
    uint32_t high = session_count - 1;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (weight_ends[middle] <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return &sessions[low];
}

static void add(struct session *session, const struct torc_request *request)
{
    struct torc_request with_budget = *request;

    with_budget.budget_us = budget_us;
    session->packets[torc_rig_add(&session->client, &with_budget) % OPS_MAX] =
        (uint32_t)session->client.lane.seq[0] + 1;
}

static void add_kind(struct session *session, enum kind kind)
{
    static const uint8_t value[1100] = {3};
    // Writes do not change what ranges read.
    uint64_t key = KEYS / 2 + torc_rng_below(&rng, KEYS / 2 - 1);
    struct torc_request request = torc_rig_get(key);

    switch (kind) {
    case GET: break;
    case GETS:
        for (uint32_t i = 0; i < 15; i++) {
            add(session, &request);
            request.key = torc_rng_below(&rng, KEYS - 1);
        }
        break;
    case PUT: request = torc_rig_put(rig, &session->client, key, value, VALUE_BYTES); break;
    case PUT_LARGE: request = torc_rig_put(rig, &session->client, key, value, 1100); break;
    case PULL:
        request = (struct torc_request){.opcode = TORC_OPCODE_PULL,
                                        .key = LARGE_KEY,
                                        .version = version,
                                        .fragment_bytes = FRAGMENT_BYTES,
                                        .bitmap = 0xff};
        break;
    case RANGE:
        request = (struct torc_request){.opcode = TORC_OPCODE_RANGE_READ,
                                        .key = 0,
                                        .hi = KEYS / 8,
                                        .limit = RANGE_KEYS,
                                        .epoch = torc_rig_epoch(rig, 0)};
        break;
    case KINDS: torc_unreachable("not a kind");
    }
    add(session, &request);
}

static void arrive(const struct mix *mix)
{
    struct session *session = draw_session();
    enum kind kind = draw_kind(mix);
    struct sent *sent;

    session->offered += measuring ? 1 : 0;
    offered_count += measuring ? 1 : 0;
    if (rig->in_count == RX_RING) {
        ring_lost += measuring ? 1 : 0;
        return;
    }
    add_kind(session, kind);
    session->client.reply_bytes =
        (uint16_t)(REPLY_BYTES | (kind == PUT || kind == PUT_LARGE ? 0 : TORC_REPLY_BYTES_DROP));
    sent = &session->sent[(session->client.lane.seq[0] + 1) % SENT_MAX];
    *sent = (struct sent){.at_ns = next_ns, .budget_us = budget_us, .kind = kind};
    (void)torc_rig_flush(rig, &session->client, 0);
    sent->seq = session->client.lane.seq[0];
    queued[(queued_first + queued_count) % (RX_RING + 1)] = sent;
    queued_of[(queued_first + queued_count) % (RX_RING + 1)] = session;
    queued_count++;
    torc_assert(queued_count == rig->in_count);
}

// All that comes up to `until_ns`, with gaps of twice the average at most.
static void arrivals(const struct mix *mix, uint64_t until_ns)
{
    next_ns = next_ns == 0 ? until_ns : next_ns;
    while (next_ns <= until_ns) {
        arrive(mix);
        rest_ps += torc_rng_below(&rng, 2 * every_ps + 1);
        next_ns += rest_ps / 1000;
        rest_ps %= 1000;
    }
}

// ---- Answers

static void sample(struct samples *samples, uint64_t ns)
{
    if (measuring && samples->count < SAMPLES_MAX) {
        samples->ns[samples->count++] = ns;
    }
}

// Packets that nobody opened.
static void answer_unread(struct session *session, const struct torc_reply *reply)
{
    struct torc_unread unread;

    CU_ASSERT_FATAL(torc_unread_decode(reply, &unread));
    CU_ASSERT(unread.retry_us > 0);
    for (uint32_t i = 0; i < 64; i++) {
        struct sent *sent = &session->sent[(reply->info + i) % SENT_MAX];

        if ((unread.bitmap >> i & 1) == 0) {
            continue;
        }
        CU_ASSERT_EQUAL_FATAL(sent->seq, reply->info + i);
        CU_ASSERT(sent->kind != PUT && sent->kind != PUT_LARGE);
        CU_ASSERT_FALSE(sent->answered || sent->refused || sent->told);
        sent->dropped = true;
        sent->told = true;
        told_count += measuring ? 1 : 0;
        if (told_now < ROWS_MAX) {
            told_at_ns[told_now++] = sent->at_ns;
        }
    }
}

static void answer(struct session *session, const struct torc_reply *reply, uint64_t *chunks)
{
    *chunks += reply->opcode == (TORC_OPCODE_RANGE_READ | TORC_REPLY_BIT) ? 1 : 0;
    deadlines += measuring && reply->status == TORC_ERR_DEADLINE ? 1 : 0;
    if (reply->opcode == TORC_OPCODE_SHED) {
        struct sent *sent = &session->sent[reply->info % SENT_MAX];

        CU_ASSERT_EQUAL_FATAL(sent->seq, reply->info);
        CU_ASSERT_EQUAL(reply->status, TORC_ERR_BUSY);
        sent->refused = true;
    } else if (reply->opcode == TORC_OPCODE_UNREAD) {
        answer_unread(session, reply);
    } else {
        uint32_t seq = session->packets[reply->op_id % OPS_MAX];
        struct sent *sent = &session->sent[seq % SENT_MAX];

        CU_ASSERT_EQUAL_FATAL((uint32_t)sent->seq, seq);
        sent->answered = true;
        sent->late |= reply->status == TORC_ERR_DEADLINE;
        if (sent->kind == RANGE && !sent->late && rows_count < ROWS_MAX) {
            rows_at_ns[rows_count++] = sent->at_ns;
        }
    }
}

static struct session *session_of(const struct torc_rig_udp *udp)
{
    uint32_t index = udp->client_port - 5000u;

    torc_assert(index < session_count);
    return &sessions[index];
}

// What went out, opened; returns what it cost.
static uint64_t answers(void)
{
    struct torc_rig_udp udp;
    uint64_t chunks = 0;
    uint64_t frames = 0;

    while (torc_rig_receive_udp(rig, &udp)) {
        struct session *session = session_of(&udp);
        struct torc_rig_client *client = &session->client;
        struct torc_reply reply;
        uint32_t at = 0;

        frames++;
        memcpy(client->reply, udp.payload, udp.payload_bytes);
        CU_ASSERT_EQUAL_FATAL(
            torc_lane_open(&client->lane, client->reply, udp.payload_bytes, &client->reply_data),
            TORC_DROP_NONE);
        while (torc_reply_next(client->reply + TORC_DATA_HEAD_BYTES,
                               udp.payload_bytes - TORC_DATA_OVERHEAD, &at, &reply)) {
            answer(session, &reply, &chunks);
        }
    }
    return frames * FRAME_NS + chunks * CHUNK_NS;
}

// Whether it is noted as dropped and was not told of yet.
static bool is_noted(const struct session *session, const struct sent *sent)
{
    uint32_t index = session->client.lane.session_index;
    const struct torc_admit *admit = rig->workers[0]->admit;
    const struct torc_admit_slot *slot = &admit->slots[index % TORC_ADMIT_SLOTS];

    return slot->session == index && sent->seq >= slot->first && sent->seq - slot->first < 64 &&
           (slot->bitmap >> (sent->seq - slot->first) & 1) == 1;
}

// Which packets of the turn were dropped: those that are noted; and of what is then left those
// without an answer, but ranges are answered later.
static void mark_dropped(uint32_t count, uint64_t drops)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (queued_first + i) % (RX_RING + 1);

        queued[at]->dropped |= is_noted(queued_of[at], queued[at]);
        CU_ASSERT_FATAL(!queued[at]->dropped || drops > 0);
        drops -= queued[at]->dropped ? 1 : 0;
    }
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < count && drops > 0; i++) {
            struct sent *sent = queued[(queued_first + i) % (RX_RING + 1)];

            if (!sent->answered && !sent->refused && !sent->dropped &&
                (pass == 1 || sent->kind != RANGE)) {
                sent->dropped = true;
                drops--;
            }
        }
    }
    CU_ASSERT_EQUAL_FATAL(drops, 0);
}

// What the packets cost that the turn took.
static uint64_t taken(uint32_t count)
{
    uint64_t cost_ns = 0;

    for (uint32_t i = 0; i < count; i++) {
        const struct sent *sent = queued[(queued_first + i) % (RX_RING + 1)];

        cost_ns += sent->dropped                 ? DROP_NS
                   : sent->refused || sent->late ? OPEN_NS
                                                 : OPEN_NS + kind_ns[sent->kind];
    }
    return cost_ns;
}

static void settle_taken(uint32_t count, uint64_t end_ns)
{
    for (uint32_t i = 0; i < count; i++) {
        struct sent *sent = queued[queued_first];
        struct session *session = queued_of[queued_first];

        bool was_served = !sent->refused && !sent->dropped && !sent->late;

        if (sent->refused || (was_served && sent->kind != RANGE)) {
            sample(sent->refused ? &refused : &served, end_ns - sent->at_ns);
        }
        session->served += measuring && was_served ? 1 : 0;
        session->refused += measuring && !was_served ? 1 : 0;
        dropped_count += measuring && sent->dropped ? 1 : 0;
        spent_refusing_ns += !measuring || was_served ? 0
                             : sent->dropped          ? DROP_NS
                                                      : OPEN_NS + FRAME_NS;
        overdue += measuring && was_served && sent->budget_us != 0 &&
                           rig->now_ns - sent->at_ns > (uint64_t)sent->budget_us * 1000
                       ? 1
                       : 0;
        queued_first = (queued_first + 1) % (RX_RING + 1);
        queued_count--;
    }
}

static void turn(const struct mix *mix)
{
    uint32_t before;
    uint32_t count;
    uint64_t drops;
    uint64_t cost_ns;

    if (turn_ns == 0) {
        turn_ns = rig->more || next_ns <= rig->now_ns ? IDLE_NS : next_ns - rig->now_ns;
    }
    arrivals(mix, rig->now_ns + turn_ns);
    before = rig->in_count;
    drops = torc_rig_drops(rig, TORC_DROP_OVERLOAD);
    torc_rig_step(rig, turn_ns);
    count = before - rig->in_count;
    cost_ns = answers();
    mark_dropped(count, torc_rig_drops(rig, TORC_DROP_OVERLOAD) - drops);
    cost_ns += taken(count);
    settle_taken(count, rig->now_ns + cost_ns);
    for (uint32_t i = 0; i < rows_count; i++) {
        sample(&ranges, rig->now_ns + cost_ns - rows_at_ns[i]);
    }
    for (uint32_t i = 0; i < told_now; i++) {
        sample(&refused, rig->now_ns + cost_ns - told_at_ns[i]);
    }
    rows_count = 0;
    told_now = 0;
    spent_ns += measuring ? cost_ns : 0;
    turn_ns = cost_ns;
}

static void forget(void)
{
    served.count = 0;
    refused.count = 0;
    ranges.count = 0;
    spent_ns = 0;
    spent_refusing_ns = 0;
    offered_count = 0;
    ring_lost = 0;
    dropped_count = 0;
    told_count = 0;
    deadlines = 0;
    overdue = 0;
    for (uint32_t i = 0; i < session_count; i++) {
        sessions[i].offered = 0;
        sessions[i].served = 0;
        sessions[i].refused = 0;
    }
}

static uint64_t run_for(const struct mix *mix, uint64_t duration_ns)
{
    uint64_t began_ns = rig->now_ns;

    sum_weights();
    while (rig->now_ns - began_ns < duration_ns) {
        turn(mix);
    }
    return rig->now_ns - began_ns;
}

// What a packet of the mix takes, when there is little to do.
static uint64_t cost_of(const struct mix *mix)
{
    every_ps = 8 * MS_NS;
    measuring = true;
    forget();
    (void)run_for(mix, 100 * MS_NS);
    return spent_ns * 1000 / offered_count;
}

// ---- What comes of it

struct figures {
    uint64_t served_ppm; // of the time, spent on what was served
    uint64_t busy_ppm;   // and on refusals
    uint64_t median_ns;
    uint64_t p99_ns;
    uint64_t refused_p99_ns;
    uint64_t refused_max_ns;
};

static int compare(const void *a, const void *b)
{
    uint64_t left;
    uint64_t right;

    memcpy(&left, a, sizeof(left));
    memcpy(&right, b, sizeof(right));
    return left < right ? -1 : left > right;
}

static uint64_t quantile(struct samples *samples, uint32_t ppm)
{
    if (samples->count == 0) {
        return 0;
    }
    qsort(samples->ns, samples->count, sizeof(samples->ns[0]), compare);
    return samples->ns[(uint64_t)(samples->count - 1) * ppm / 1000000];
}

static struct figures load_after(const struct mix *mix, uint64_t cost_ps, uint32_t percent,
                                 uint64_t settle_ns)
{
    struct figures figures = {0};
    uint64_t gone_ns;

    every_ps = cost_ps * 100 / percent;
    measuring = false;
    (void)run_for(mix, settle_ns);
    forget();
    measuring = true;
    gone_ns = run_for(mix, MEASURE_NS);
    figures.served_ppm = (spent_ns - spent_refusing_ns) * 1000000 / gone_ns;
    figures.busy_ppm = spent_ns * 1000000 / gone_ns;
    figures.median_ns = quantile(&served, 500000);
    figures.p99_ns = quantile(&served, 990000);
    figures.refused_p99_ns = quantile(&refused, 990000);
    figures.refused_max_ns = quantile(&refused, 1000000);
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    if (getenv("TORC_TEST_FIGURES") != NULL) {
        (void)printf("  %3u %% of %5" PRIu64 " ps, %u sessions: served %5.1f %%, busy %5.1f %%; "
                     "%7u served, p50 %4" PRIu64 " p99 %4" PRIu64 " us; %7u refused, p99 %4" PRIu64
                     " max %4" PRIu64 " us; rows p99 %" PRIu64 "; dropped %" PRIu64
                     ", told %" PRIu64 ", by the ring %" PRIu64 "\n",
                     percent, cost_ps, session_count, (double)figures.served_ppm / 1e4,
                     (double)figures.busy_ppm / 1e4, served.count, figures.median_ns / 1000,
                     figures.p99_ns / 1000, refused.count, figures.refused_p99_ns / 1000,
                     figures.refused_max_ns / 1000, quantile(&ranges, 990000) / 1000, dropped_count,
                     told_count, ring_lost);
    }
    return figures;
}

// Nothing is refused before a queue stood for 100 ms (test_onset); here it stands, and is then said
// to have done so for that long.
static void stand(const struct mix *mix, uint64_t cost_ps, uint32_t percent)
{
    struct torc_admit *admit = torc_rig_admit(rig, 0);
    uint64_t end_ns = rig->now_ns + STAND_MAX_NS;

    every_ps = cost_ps * 100 / percent;
    measuring = false;
    while (admit->standing_ns == 0 && rig->now_ns < end_ns) {
        (void)run_for(mix, 1);
    }
    CU_ASSERT_NOT_EQUAL_FATAL(admit->standing_ns, 0);
    admit->standing_ns -= TORC_ADMIT_STANDING_NS;
}

static struct figures load(const struct mix *mix, uint64_t cost_ps, uint32_t percent)
{
    if (percent > 100) {
        stand(mix, cost_ps, percent);
    }
    return load_after(mix, cost_ps, percent, SETTLE_NS);
}

static void open_load(uint32_t count, uint64_t salt)
{
    open_node(count, torc_test_seed() + salt);
    fill_node();
}

static void check_overload(const struct figures *figures)
{
    CU_ASSERT(figures->busy_ppm >= 990000);
    CU_ASSERT(figures->p99_ns <= SERVED_NS);
    CU_ASSERT(figures->refused_p99_ns <= REFUSED_NS);
    CU_ASSERT(figures->refused_max_ns <= REFUSED_MAX_NS);
    CU_ASSERT(quantile(&ranges, 990000) <= RANGES_NS);
    CU_ASSERT(figures->served_ppm >= SERVED_PPM);
    CU_ASSERT_EQUAL(ring_lost, 0);
    CU_ASSERT(told_count * 100 >= dropped_count * 95);
}

static void check_mix(const struct mix *mix, uint32_t count)
{
    uint64_t cost_ps;
    struct figures figures;

    open_load(count, count);
    cost_ps = cost_of(mix);
    figures = load(mix, cost_ps, 90);
    CU_ASSERT_EQUAL(refused.count, 0);
    CU_ASSERT(figures.p99_ns <= SERVED_NS);
    figures = load(mix, cost_ps, 200);
    check_overload(&figures);
    close_node();
}

static void test_gets(void)
{
    check_mix(&gets_only, 20);
    check_mix(&many_gets, 20);
}

static void test_everything(void)
{
    check_mix(&everything, 20);
}

static void test_many_sessions(void)
{
    check_mix(&everything, SESSIONS_MAX);
}

// The oracle sees a queue that stands: before anything is refused, answers come late. With less
// load than the core can do nothing is refused however long it lasts.
static void test_onset(void)
{
    struct figures figures;

    open_load(20, 1);
    (void)load_after(&everything, cost_of(&everything), 90, 130 * MS_NS);
    CU_ASSERT_EQUAL(refused.count, 0);
    CU_ASSERT_FALSE(torc_rig_admit(rig, 0)->shedding);
    figures = load_after(&many_gets, 2000000, 200, 20 * MS_NS);
    CU_ASSERT_EQUAL(refused.count, 0);
    CU_ASSERT(figures.p99_ns > SERVED_NS);
    CU_ASSERT(ring_lost > 0);
    (void)load_after(&many_gets, 2000000, 200, 60 * MS_NS);
    CU_ASSERT(refused.count > 0);
    CU_ASSERT_EQUAL(ring_lost, 0);
    close_node();
}

// More than can even be refused: it is dropped unopened, and what is done is done in time.
static void test_flood(void)
{
    struct figures figures;

    open_load(20, 2);
    figures = load(&gets_only, 500000, 1000);
    CU_ASSERT(dropped_count > 0);
    CU_ASSERT(figures.busy_ppm >= 990000);
    CU_ASSERT(figures.served_ppm >= 400000);
    CU_ASSERT(figures.p99_ns <= 10 * TARGET_NS);
    close_node();
}

// Refusals end with the load.
static void test_after(void)
{
    uint64_t cost_ps;

    open_load(20, 3);
    cost_ps = cost_of(&everything);
    (void)load(&everything, cost_ps, 200);
    CU_ASSERT(refused.count > 0);
    (void)load_after(&everything, cost_ps, 70, 250 * MS_NS);
    CU_ASSERT_EQUAL(refused.count, 0);
    CU_ASSERT_FALSE(rig->workers[0]->admit->shedding);
    close_node();
}

// ---- Fairness

// One session asks for twice what the core can do; the others, together for a tenth of it, are
// served. A packet of theirs may meet a bad turn: of all of them 1 in 200, and of one of them,
// which sends about 50, as many as it may send at once.
static void test_greedy(void)
{
    uint64_t offered = 0;
    uint64_t lost = 0;
    uint64_t cost_ps;

    open_load(50, 4);
    cost_ps = cost_of(&everything);
    sessions[7].weight = 49 * 20;
    (void)load(&everything, cost_ps, 210);
    for (uint32_t i = 0; i < session_count; i++) {
        if (i != 7) {
            offered += sessions[i].offered;
            lost += sessions[i].refused;
            CU_ASSERT(sessions[i].refused <= 4);
        }
    }
    CU_ASSERT(lost * 200 <= offered);
    CU_ASSERT(sessions[7].refused > 0);
    close_node();
}

// Sessions that ask for 1 to 40 parts: nobody gets less than 3/4 of the smaller of what it asks for
// and an even share, and those over it get about the same.
static void check_shares(const struct mix *mix, uint32_t count, uint64_t salt)
{
    uint64_t low = UINT64_MAX;
    uint64_t high = 0;
    uint64_t share;

    open_load(count, salt);
    for (uint32_t i = 0; i < count; i++) {
        sessions[i].weight = i % 4 == 0 ? 40 : i % 4;
    }
    (void)load(mix, cost_of(mix), 250);
    for (uint32_t i = 0; i < count; i += 4) {
        low = torc_min_u64(low, sessions[i].served);
        high = torc_max_u64(high, sessions[i].served);
    }
    share = served.count / count;
    for (uint32_t i = 0; i < count; i++) {
        CU_ASSERT(sessions[i].served * 4 >= 3 * torc_min_u64(sessions[i].offered, share));
    }
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    if (getenv("TORC_TEST_FIGURES") != NULL) {
        (void)printf("  shares of %u: the greedy ones %" PRIu64 " .. %" PRIu64 ", even %" PRIu64
                     ", a quiet one %" PRIu64 " of %" PRIu64 "\n",
                     count, low, high, share, sessions[1].served, sessions[1].offered);
    }
    CU_ASSERT(low * 2 >= high);
    close_node();
}

static void test_shares(void)
{
    check_shares(&gets_only, 8, 5);
    check_shares(&everything, 40, 6);
    check_shares(&everything, 200, 7);
}

// ---- Deadlines

// Of requests whose time is shorter than the queue none is done: they are refused or told so.
static void test_deadlines(void)
{
    open_load(20, 8);
    budget_us = 300;
    (void)load_after(&gets_only, 500000, 200, 20 * MS_NS);
    CU_ASSERT(deadlines > 0);
    CU_ASSERT_EQUAL(overdue, 0);
    CU_ASSERT(served.count > 0);
    close_node();
}

int main(void)
{
    CU_TestInfo tests[] = {{"twice the load: gets", test_gets},
                           {"twice the load: everything", test_everything},
                           {"twice the load, of many sessions", test_many_sessions},
                           {"before it is known that a queue stands", test_onset},
                           {"more than can be refused", test_flood},
                           {"refusals end with the load", test_after},
                           {"quiet sessions beside a greedy one", test_greedy},
                           {"shares are even", test_shares},
                           {"what is too late is not done", test_deadlines},
                           CU_TEST_INFO_NULL};

    served.ns = malloc(SAMPLES_MAX * sizeof(uint64_t));
    refused.ns = malloc(SAMPLES_MAX * sizeof(uint64_t));
    ranges.ns = malloc(SAMPLES_MAX * sizeof(uint64_t));
    torc_assert(served.ns != NULL && refused.ns != NULL && ranges.ns != NULL);
    return torc_test_run("overload", tests);
}
