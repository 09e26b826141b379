// Torc tests: the list of sessions, as control reads it from the channel.
#include "dataplane/session_thread.h"
#include "kit/chan.h"
#include "tests/unit/worker_rig.h"

#include <string.h>

static struct torc_chan_sessions *page(void)
{
    return torc_chan_sessions(rig->chan);
}

// One question, as control asks it.
static void ask(uint32_t from)
{
    uint64_t asked = atomic_load_explicit(&page()->asked, memory_order_relaxed) + 1;

    atomic_store_explicit(&page()->from, from, memory_order_relaxed);
    atomic_store_explicit(&page()->asked, asked, memory_order_release);
    for (uint32_t i = 0;
         i < STEPS && atomic_load_explicit(&page()->answered, memory_order_acquire) != asked; i++) {
        torc_rig_step(rig, 10000);
    }
    CU_ASSERT_EQUAL_FATAL(atomic_load_explicit(&page()->answered, memory_order_acquire), asked);
    CU_ASSERT_FATAL(page()->count <= TORC_CHAN_SESSIONS_PAGE);
}

static const struct torc_chan_session *row_of(const struct torc_rig_client *of)
{
    for (uint32_t i = 0; i < page()->count; i++) {
        if (page()->rows[i].index == of->lane.session_index) {
            return &page()->rows[i];
        }
    }
    return NULL;
}

static void get_some(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        torc_rig_check_none(rig, client, i * UINT64_C(200000) % KEYS);
    }
}

static void a_session_is_listed_with_what_it_did(void)
{
    struct torc_rig_config config = {.workers = 2, .steered = true, .sealed = true};
    const struct torc_chan_session *row;
    uint64_t packets;

    open_rig(&config);
    get_some(1);
    ask(0);
    CU_ASSERT_EQUAL_FATAL(page()->count, 1);
    CU_ASSERT_EQUAL(page()->next, UINT32_MAX);
    row = row_of(client);
    torc_assert(row != NULL);
    CU_ASSERT_EQUAL(row->principal, TORC_RIG_PRINCIPAL);
    CU_ASSERT_EQUAL(row->port, 5000);
    CU_ASSERT_EQUAL(memcmp(row->ip, client->ip, 16), 0);
    CU_ASSERT_NOT_EQUAL(row->suite, TORC_SUITE_CLEAR);
    CU_ASSERT_EQUAL(row->state, TORC_CHAN_SESSION_OPEN);
    CU_ASSERT_EQUAL(row->in_flight, 0);
    CU_ASSERT_EQUAL(row->seen_s, rig->now_ns / 1000000000u);
    CU_ASSERT_TRUE(row->made_ns > 0 && row->made_ns <= rig->now_ns);
    packets = row->packets_in;
    get_some(20); // on both cores
    ask(0);
    row = row_of(client);
    torc_assert(row != NULL);
    CU_ASSERT_EQUAL(row->packets_in, packets + 20);
    CU_ASSERT_EQUAL(row->packets_out, row->packets_in);
    close_rig();
}

static void a_clear_session_is_marked_and_its_agent_told(void)
{
    const struct torc_chan_session *row;

    open_plain();
    ask(0);
    row = row_of(client);
    torc_assert(row != NULL);
    CU_ASSERT_EQUAL(row->suite, TORC_SUITE_CLEAR);
    CU_ASSERT_EQUAL(row->principal, 0);
    CU_ASSERT_EQUAL(row->state, TORC_CHAN_SESSION_HALF); // nothing was sent in it
    CU_ASSERT_TRUE(row->agent[0] != '\0');
    get_some(1);
    ask(0);
    row = row_of(client);
    torc_assert(row != NULL);
    CU_ASSERT_EQUAL(row->state, TORC_CHAN_SESSION_OPEN);
    close_rig();
}

static void a_write_that_waits_for_the_disk_is_in_flight(void)
{
    struct torc_request request;
    const struct torc_chan_session *row;

    open_plain();
    request = torc_rig_put(rig, client, 7, "seven", 5);
    (void)torc_rig_add(client, &request);
    rig->controls[0].disk_stuck = true;
    (void)torc_rig_flush(rig, client, 0);
    torc_rig_settle(rig, 20);
    ask(0);
    row = row_of(client);
    torc_assert(row != NULL);
    CU_ASSERT_EQUAL(row->in_flight, 1);
    rig->controls[0].disk_stuck = false;
    torc_rig_settle(rig, 200);
    ask(0);
    row = row_of(client);
    torc_assert(row != NULL);
    CU_ASSERT_EQUAL(row->in_flight, 0);
    close_rig();
}

static void a_closed_session_is_gone(void)
{
    struct torc_rig_client second = {0};
    struct torc_request request = {.opcode = TORC_OPCODE_CLOSE};

    open_plain();
    torc_rig_connect(rig, &second, 5001);
    ask(0);
    CU_ASSERT_EQUAL(page()->count, 2);
    (void)expect(&request, TORC_ERR_OK);
    torc_rig_settle(rig, 200);
    ask(0);
    CU_ASSERT_EQUAL(page()->count, 1);
    CU_ASSERT_PTR_NULL(row_of(client));
    CU_ASSERT_PTR_NOT_NULL(row_of(&second));
    close_rig();
}

// Each once, whatever their number.
static void many_sessions_come_in_pages(void)
{
    static struct torc_rig_client many[700];
    static uint8_t seen[1024];
    struct torc_rig_config config = {.workers = 1, .steered = true, .session_slots = 1024};
    uint32_t from = 0;
    uint32_t pages = 0;
    uint32_t total = 0;

    memset(seen, 0, sizeof(seen));
    open_rig(&config);
    for (uint32_t i = 0; i < TORC_COUNT_OF(many); i++) {
        const uint8_t address[4] = {10, 79, (uint8_t)(1 + i / 200), (uint8_t)(1 + i % 200)};
        uint8_t ip[16];

        torc_ip_map(ip, address);
        torc_rig_connect_from(rig, &many[i], ip, 5000);
    }
    while (from != UINT32_MAX) {
        ask(from);
        pages++;
        total += page()->count;
        CU_ASSERT_TRUE_FATAL(page()->next > from);
        for (uint32_t i = 0; i < page()->count; i++) {
            seen[page()->rows[i].index & 1023]++;
        }
        from = page()->next;
    }
    CU_ASSERT_EQUAL(pages, 2);
    CU_ASSERT_EQUAL(total, TORC_COUNT_OF(many) + 1);
    for (uint32_t i = 0; i < TORC_COUNT_OF(many); i++) {
        CU_ASSERT_EQUAL(seen[many[i].lane.session_index & 1023], 1);
    }
    close_rig();
}

static void a_page_from_beyond_the_end_is_empty(void)
{
    static const uint32_t froms[] = {1024, 1025, UINT32_MAX - 1, UINT32_MAX};

    open_plain();
    for (uint32_t i = 0; i < TORC_COUNT_OF(froms); i++) {
        ask(froms[i]);
        CU_ASSERT_EQUAL(page()->count, 0);
        CU_ASSERT_EQUAL(page()->next, UINT32_MAX);
    }
    ask(0);
    CU_ASSERT_EQUAL(page()->count, 1);
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a session is listed with what it did", a_session_is_listed_with_what_it_did},
        {"a clear session is marked and its agent told",
         a_clear_session_is_marked_and_its_agent_told},
        {"a write that waits for the disk is in flight",
         a_write_that_waits_for_the_disk_is_in_flight},
        {"a closed session is gone", a_closed_session_is_gone},
        {"many sessions come in pages", many_sessions_come_in_pages},
        {"a page from beyond the end is empty", a_page_from_beyond_the_end_is_empty},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("list of sessions", tests);
}
