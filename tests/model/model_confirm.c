// Torc tests: reads that wait to be confirmed, against what truly happened.
//
// What    a queue (dataplane/confirm.h) between packets that arrive, a worker 0 that answers
//         questions late or never and sends beats, and members that answer in any order or not.
// Oracle  true order: each arrival and beat has a number of its own. A packet is given only when
//         every shard that it needs was confirmed by a beat with a higher number than its arrival,
//         or when it has waited for its time; nobody is given twice or forgotten, slots are enough
//         for all that wait, and of one bound the order is that of arrival.
#include "dataplane/confirm.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS     24u
#define SHARDS    5u
#define WAIT_NS   UINT64_C(20000)
#define AGAIN_NS  UINT64_C(1000)
#define QUESTIONS 8u
#define LIVES     300u
#define STEPS     2000u

// What waits in a slot.
struct packet {
    bool waits;
    uint64_t shards;
    uint64_t order; // of its arrival
    uint64_t arrived_ns;
};

// A question on its way to worker 0.
struct question {
    bool asked;
    uint32_t number;
};

static struct {
    struct torc_rng rng;
    struct torc_confirm confirm;
    _Alignas(64) unsigned char memory[2048];
    struct packet packets[SLOTS];
    struct question questions[QUESTIONS];
    struct torc_confirm_view view;
    uint64_t order_of[SHARDS]; // of the beat that the shard's members have answered last
    uint64_t now_ns;
    uint64_t order;
    uint64_t sent_ns;    // of the last beat
    uint64_t sent_order; // and its number
    uint64_t asked_ns;   // a beat that is owed: sent then or later
    uint32_t waiting;
    uint32_t given;
    uint32_t expired;
    uint32_t refused;
    uint32_t lies; // given before they were confirmed
    bool calm;     // all goes well from now on
    bool early;    // planted: worker 0 tells of the beat that it sent last
} m;

static uint64_t some(uint64_t bound)
{
    return torc_rng_below(&m.rng, bound);
}

static void arrive(void)
{
    uint64_t shards = 1 + some((1u << SHARDS) - 1);
    uint32_t slot = torc_confirm_keep(&m.confirm, m.now_ns, shards);

    if (slot == TORC_CONFIRM_NONE) {
        torc_assert(m.waiting == SLOTS);
        m.refused++;
        return;
    }
    torc_assert(slot < SLOTS && !m.packets[slot].waits);
    m.packets[slot] = (struct packet){true, shards, ++m.order, m.now_ns};
    m.waiting++;
}

static void ask(void)
{
    struct question *to = &m.questions[some(QUESTIONS)];
    uint32_t number;

    if (!torc_confirm_asks(&m.confirm, m.now_ns)) {
        return;
    }
    number = torc_confirm_ask(&m.confirm, m.now_ns);
    if (m.calm || some(8) > 0) { // else it is lost
        *to = (struct question){true, number};
    }
}

// Worker 0 takes a question. By its clock beats of one moment are one.
static void tell_of(uint64_t place)
{
    struct question *from = &m.questions[place];

    if (!from->asked) {
        return;
    }
    from->asked = false;
    m.asked_ns = m.sent_ns + 1;
    torc_confirm_told(&m.confirm, from->number, m.early ? m.sent_ns : m.asked_ns);
}

static void beat(void)
{
    if (m.now_ns > m.sent_ns) {
        m.sent_ns = m.now_ns;
        m.sent_order = ++m.order;
    }
}

// A shard's members have answered the last beat.
static void answer_of(uint64_t shard)
{
    m.view.led[shard].confirmed_ns = m.sent_ns;
    m.order_of[shard] = m.sent_order;
}

static void judge(uint32_t slot, uint64_t bound_ns)
{
    struct packet *packet = &m.packets[slot];
    bool over = m.now_ns >= packet->arrived_ns + WAIT_NS;

    torc_assert(packet->waits);
    for (uint32_t i = 0; i < SHARDS; i++) {
        bool needed = (packet->shards & torc_confirm_bit(i)) != 0;
        bool may = m.view.led[i].confirmed_ns >= bound_ns && bound_ns != TORC_CONFIRM_NEVER;

        torc_assert(!needed || may || over);
        m.lies += needed && may && m.order_of[i] < packet->order ? 1 : 0;
    }
    m.expired += over ? 1 : 0;
    m.given++;
    m.waiting--;
    packet->waits = false;
    torc_confirm_free(&m.confirm, slot);
}

static void take(void)
{
    struct torc_confirm_batch batch;
    uint32_t max = 1 + (uint32_t)some(SLOTS);
    bool any = torc_confirm_take(&m.confirm, m.now_ns, &m.view, max, &batch);

    torc_assert(batch.count <= max && any == (batch.count > 0));
    for (uint32_t i = 1; i < batch.count; i++) {
        torc_assert(m.packets[batch.slots[i]].order > m.packets[batch.slots[i - 1]].order);
    }
    for (uint32_t i = 0; i < batch.count; i++) {
        judge(batch.slots[i], batch.bound_ns);
    }
}

static void step(void)
{
    switch (some(7)) {
    case 0:
    case 1: arrive(); break;
    case 2: ask(); break;
    case 3: tell_of(some(QUESTIONS)); break;
    case 4: beat(); break;
    case 5: answer_of(some(SHARDS)); break;
    default: take();
    }
    if (some(2) == 0) {
        m.now_ns += some(some(50) == 0 ? WAIT_NS : 300);
    }
}

// Everybody answers: nobody waits for longer than two rounds.
static void end_well(void)
{
    uint32_t expired = m.expired;

    m.calm = true;
    m.now_ns += WAIT_NS;
    for (uint32_t i = 0; i < 4 * SLOTS; i++) { // who waited too long goes
        take();
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        arrive();
    }
    torc_assert(m.expired >= expired && m.waiting == SLOTS);
    expired = m.expired;
    for (uint32_t round = 0; round < 2; round++) {
        torc_assert(torc_confirm_deadline_ns(&m.confirm) != UINT64_MAX);
        m.now_ns += AGAIN_NS; // a question may be on its way that nobody answers
        ask();
        for (uint32_t i = 0; i < QUESTIONS; i++) {
            tell_of(i);
        }
        m.now_ns++;
        beat();
        for (uint32_t i = 0; i < SHARDS; i++) {
            answer_of(i);
        }
        for (uint32_t i = 0; i < SLOTS; i++) {
            take();
        }
        if (m.waiting == 0) {
            break;
        }
    }
    torc_assert(m.waiting == 0 && m.expired == expired);
    torc_assert(torc_confirm_deadline_ns(&m.confirm) == UINT64_MAX);
}

static void live(uint64_t seed, bool early)
{
    struct torc_confirm_config config = {.wait_ns = WAIT_NS, .again_ns = AGAIN_NS, .slots = SLOTS};
    uint32_t given = m.given;
    uint32_t expired = m.expired;
    uint32_t refused = m.refused;
    uint32_t lies = m.lies;

    memset(&m, 0, sizeof(m));
    m.given = given;
    m.expired = expired;
    m.refused = refused;
    m.lies = lies;
    m.rng.state = seed;
    m.early = early;
    m.now_ns = 1000;
    torc_assert(torc_confirm_bytes(SLOTS) <= sizeof(m.memory));
    torc_confirm_init(&m.confirm, m.memory, &config);
    m.view.count = SHARDS;
    for (uint32_t i = 0; i < SHARDS; i++) {
        m.view.led[i].shards = torc_confirm_bit(i);
        m.view.led[i].place = i;
    }
    for (uint32_t i = 0; i < STEPS; i++) {
        step();
    }
    end_well();
}

static void nothing_is_given_before_it_was_confirmed(void)
{
    struct torc_rng rng = {.state = torc_test_seed()};

    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < LIVES; i++) {
        live(torc_rng_next(&rng), false);
    }
    CU_ASSERT_EQUAL(m.lies, 0);
    CU_ASSERT_TRUE(m.given > m.expired);
    CU_ASSERT_TRUE(m.expired > 0);
    CU_ASSERT_TRUE(m.refused > 0);
}

static void a_bound_that_is_told_too_early_is_found(void)
{
    struct torc_rng rng = {.state = torc_test_seed()};

    memset(&m, 0, sizeof(m));
    for (uint32_t i = 0; i < LIVES && m.lies == 0; i++) {
        live(torc_rng_next(&rng), true);
    }
    CU_ASSERT_TRUE(m.lies > 0);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"nothing is given before it was confirmed", nothing_is_given_before_it_was_confirmed},
        {"a bound that is told too early is found", a_bound_that_is_told_too_early_is_found},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("confirm", tests);
}
