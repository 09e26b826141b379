// Torc tests: sessions when the table of keys changes: who keeps one, who loses it at once, who has
// a minute; tables that make no sense or are just being written; what control is told.
#include "dataplane/session_thread.h"
#include "tests/rig.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

#define KEYS      UINT64_C(1000)
#define SECOND_NS UINT64_C(1000000000)
#define PORT      5000u

enum {
    OTHER = TORC_RIG_PRINCIPAL + 1, // a second principal, with a key of its own
    NEW_KEY = TORC_RIG_KEY_ID + 1   // a second key, of the first one
};

static struct torc_rig *rig;
static struct torc_chan_principal list[2];
static uint8_t lanes; // that clients ask for
static const uint8_t other_psk[TORC_NOISE_KEY_BYTES] = {7, 7, 7};
static const uint8_t new_psk[TORC_NOISE_KEY_BYTES] = {8, 8, 8};

static void load(uint32_t count)
{
    torc_rig_keys(rig, list, count);
    torc_rig_settle(rig, 50);
}

static void bind(uint8_t bound[TORC_CHAN_PSK_BYTES], const uint8_t psk[TORC_NOISE_KEY_BYTES])
{
    torc_noise_bind(bound, psk, rig->controls[0].cluster, rig->controls[0].node);
}

// A node that knows both principals, the first by two keys.
static void open_rig(void)
{
    struct torc_rig_config config = {
        .workers = 1, .shards = 1, .key_count = KEYS, .seed = torc_test_seed(), .sealed = true};

    lanes = 1;
    rig = calloc(1, sizeof(*rig));
    torc_assert(rig != NULL);
    torc_rig_open(rig, &config);
    list[0] = torc_rig_principal(rig);
    list[0].key_count = 2;
    list[0].key_ids[1] = NEW_KEY;
    bind(list[0].psks[1], new_psk);
    list[1] = torc_rig_principal(rig);
    list[1].number = OTHER;
    bind(list[1].psks[0], other_psk);
    load(2);
}

static void close_rig(void)
{
    torc_rig_close(rig);
    free(rig);
}

// -- A handshake, by hand -------------------------------------------------------------------------

static uint32_t ask(const void *bytes, unsigned char *reply, uint32_t room)
{
    struct torc_rig_udp udp = {.client_port = PORT,
                               .node_port = TORC_RIG_BASE_PORT,
                               .payload = bytes,
                               .payload_bytes = TORC_INIT_BYTES};
    uint8_t address[4] = {10, 79, 0, 1};

    torc_ip_map(udp.client_ip, address);
    CU_ASSERT_FATAL(torc_rig_send_udp(rig, &udp));
    for (uint32_t step = 0; step < 20; step++) {
        torc_rig_step(rig, 10000);
        if (torc_rig_receive_udp(rig, &udp) && udp.payload_bytes <= room) {
            memcpy(reply, udp.payload, udp.payload_bytes);
            return udp.payload_bytes;
        }
    }
    return 0;
}

static struct torc_handshake_entropy entropy(void)
{
    static uint8_t last;

    last++;
    return (struct torc_handshake_entropy){.random = {last, 9}, .secret = {last, 8}};
}

// The index of a new session; 0: it was refused.
static uint32_t connect_as(uint32_t principal, uint8_t key, const uint8_t *psk)
{
    struct torc_handshake_offer offer = {.client_id = 0x1100,
                                         .client_index = 42,
                                         .node = TORC_NODE_UNKNOWN,
                                         .payload_max = 1452,
                                         .lanes = lanes,
                                         .agent = "test",
                                         .psk = psk,
                                         .principal = principal,
                                         .key_id = key,
                                         .suites = TORC_SUITES_SEALED};
    struct torc_handshake_entropy first = entropy();
    struct torc_handshake_entropy second = entropy();
    struct torc_handshake_entropy third = entropy();
    struct torc_handshake handshake;
    struct torc_accept accept = {0};
    unsigned char reply[2048];
    uint32_t bytes;

    torc_handshake_init(&handshake, &offer, &first);
    bytes = ask(handshake.packet, reply, sizeof(reply));
    CU_ASSERT_EQUAL_FATAL(torc_handshake_receive(&handshake, reply, bytes, &second, &accept),
                          TORC_HANDSHAKE_RESEND);
    bytes = ask(handshake.packet, reply, sizeof(reply));
    return torc_handshake_receive(&handshake, reply, bytes, &third, &accept) ==
                   TORC_HANDSHAKE_ACCEPTED
               ? accept.session_index
               : 0;
}

static uint32_t connect_first(void)
{
    return connect_as(TORC_RIG_PRINCIPAL, TORC_RIG_KEY_ID, torc_rig_psk);
}

static struct torc_session *session_of(uint32_t index)
{
    struct torc_session *session = torc_session_find(rig->sessions, index);

    torc_assert(session != NULL);
    return session;
}

// As if its client had sent something: half-open ones end by themselves.
static uint32_t confirmed(uint32_t index)
{
    atomic_store(&session_of(index)->confirmed, 1);
    return index;
}

static bool stands(uint32_t index)
{
    return torc_session_find(rig->sessions, index) != NULL;
}

static void wait_ns(uint64_t ns)
{
    for (uint64_t waited = 0; waited < ns; waited += SECOND_NS / 10) {
        torc_rig_step(rig, SECOND_NS / 10);
    }
    torc_rig_settle(rig, 20);
}

static const struct torc_chan_keys_state *state(void)
{
    return &((const struct torc_chan *)rig->chan)->keys;
}

// -- Who keeps a session --------------------------------------------------------------------------

static void a_removed_key_has_a_minute_and_no_new_sessions(void)
{
    uint32_t old;
    uint32_t fresh;
    uint32_t other;

    open_rig();
    old = confirmed(connect_first());
    fresh = confirmed(connect_as(TORC_RIG_PRINCIPAL, NEW_KEY, new_psk));
    other = confirmed(connect_as(OTHER, TORC_RIG_KEY_ID, other_psk));
    list[0].key_count = 1;
    list[0].key_ids[0] = NEW_KEY;
    memcpy(list[0].psks[0], list[0].psks[1], sizeof(list[0].psks[0]));
    load(2);
    CU_ASSERT_EQUAL(connect_first(), 0); // refused from now on
    CU_ASSERT_TRUE(stands(old));
    wait_ns(TORC_SESSION_LEAVE_NS - 2 * SECOND_NS);
    CU_ASSERT_TRUE(stands(old));
    wait_ns(3 * SECOND_NS);
    CU_ASSERT_FALSE(stands(old));
    CU_ASSERT_TRUE(stands(fresh));
    CU_ASSERT_TRUE(stands(other));
    close_rig();
}

// The same number and id with another secret: sessions of the old one get their minute, no more.
static void a_key_replaced_under_its_id_is_another_key(void)
{
    uint32_t old;
    uint32_t fresh;

    open_rig();
    old = confirmed(connect_first());
    list[0].key_count = 1;
    bind(list[0].psks[0], new_psk);
    load(2);
    CU_ASSERT_EQUAL(connect_first(), 0);
    fresh = confirmed(connect_as(TORC_RIG_PRINCIPAL, TORC_RIG_KEY_ID, new_psk));
    bind(list[0].psks[0], torc_rig_psk); // and back again: still not the key of before
    load(2);
    wait_ns(TORC_SESSION_LEAVE_NS + SECOND_NS);
    CU_ASSERT_FALSE(stands(old));
    CU_ASSERT_FALSE(stands(fresh));
    CU_ASSERT_NOT_EQUAL(connect_first(), 0);
    close_rig();
}

static void other_rights_end_sessions_at_once(void)
{
    uint32_t index;

    open_rig();
    index = confirmed(connect_first());
    list[0].roles = TORC_ROLE_READ;
    load(2);
    CU_ASSERT_FALSE(stands(index));
    index = confirmed(connect_first());
    CU_ASSERT_EQUAL(session_of(index)->roles, TORC_ROLE_READ);
    list[0].range_count = 1;
    list[0].ranges[0] = (struct torc_chan_range){10, 20};
    load(2);
    CU_ASSERT_FALSE(stands(index));
    index = confirmed(connect_first());
    CU_ASSERT_TRUE(torc_rights_cover(session_of(index)->rights, 10, 20));
    CU_ASSERT_FALSE(torc_rights_cover(session_of(index)->rights, 10, 21));
    list[0].sessions_max = 1; // a bound is no right: what there is stays
    load(2);
    CU_ASSERT_TRUE(stands(index));
    close_rig();
}

static void a_principal_that_is_gone_loses_all_half_open_ones_too(void)
{
    uint32_t half;
    uint32_t whole;
    uint32_t other;

    open_rig();
    whole = confirmed(connect_first());
    half = connect_first();
    other = confirmed(connect_as(OTHER, TORC_RIG_KEY_ID, other_psk));
    CU_ASSERT_NOT_EQUAL(half, 0);
    list[0] = list[1];
    load(1);
    CU_ASSERT_FALSE(stands(whole));
    CU_ASSERT_FALSE(stands(half));
    CU_ASSERT_TRUE(stands(other));
    wait_ns(10 * SECOND_NS); // their slots have rested, and the half-open one's time is over
    CU_ASSERT_TRUE(stands(other));
    CU_ASSERT_NOT_EQUAL(connect_as(OTHER, TORC_RIG_KEY_ID, other_psk), 0);
    close_rig();
}

// A client that ended its session before it was confirmed: the time-out of the old one must not
// meet the next session of the slot.
static void a_half_open_sessions_time_out_is_its_own(void)
{
    const uint32_t slot_mask = (1u << TORC_SESSION_SLOT_BITS) - 1;
    uint32_t first;
    uint32_t next = 0;
    uint64_t made_ns;

    open_rig();
    lanes = TORC_LANES_MAX; // so that the search for slots comes round soon
    first = connect_first();
    made_ns = rig->now_ns;
    list[0].roles = TORC_ROLE_READ; // ends it
    load(2);
    CU_ASSERT_FALSE(stands(first));
    wait_ns(2 * SECOND_NS + SECOND_NS / 5);
    for (uint32_t i = 0; i < 20 && (i == 0 || (next & slot_mask) != (first & slot_mask)); i++) {
        next = connect_first();
    }
    CU_ASSERT_EQUAL_FATAL(next & slot_mask, first & slot_mask);
    CU_ASSERT_FATAL(rig->now_ns < made_ns + TORC_SESSION_HALF_NS);
    wait_ns(made_ns + TORC_SESSION_HALF_NS + SECOND_NS / 5 - rig->now_ns);
    CU_ASSERT_TRUE(stands(next));
    close_rig();
}

// -- Tables ---------------------------------------------------------------------------------------

static void a_table_that_makes_no_sense_changes_nothing(void)
{
    uint64_t taken;
    uint32_t index;

    open_rig();
    index = confirmed(connect_first());
    taken = atomic_load(&state()->taken);
    CU_ASSERT_NOT_EQUAL(taken, 0);
    list[0].roles = 0;
    load(2);
    CU_ASSERT_EQUAL(atomic_load(&state()->taken), taken);
    CU_ASSERT_EQUAL(atomic_load(&state()->refused), taken + 2);
    CU_ASSERT_TRUE(stands(index));
    CU_ASSERT_NOT_EQUAL(connect_first(), 0);
    list[0].roles = TORC_ROLE_READ;
    load(2);
    CU_ASSERT_EQUAL(atomic_load(&state()->taken), taken + 4);
    close_rig();
}

static void a_table_being_written_is_waited_for(void)
{
    struct torc_chan_keys *table;
    uint64_t sequence;
    uint32_t index;

    open_rig();
    index = confirmed(connect_first());
    table = torc_chan_keys(rig->chan);
    sequence = atomic_load(&table->sequence);
    atomic_store(&table->sequence, sequence + 1);
    table->count = 0;
    wait_ns(SECOND_NS);
    CU_ASSERT_EQUAL(atomic_load(&state()->taken), sequence);
    CU_ASSERT_TRUE(stands(index));
    atomic_store(&table->sequence, sequence + 2);
    wait_ns(SECOND_NS);
    CU_ASSERT_EQUAL(atomic_load(&state()->taken), sequence + 2);
    CU_ASSERT_FALSE(stands(index));
    close_rig();
}

static void control_is_told_how_many_sessions_there_are(void)
{
    uint32_t index;

    open_rig();
    (void)confirmed(connect_first());
    (void)confirmed(connect_first());
    index = confirmed(connect_as(OTHER, TORC_RIG_KEY_ID, other_psk));
    torc_rig_settle(rig, 20);
    CU_ASSERT_EQUAL(atomic_load(&state()->sessions[0]), 2);
    CU_ASSERT_EQUAL(atomic_load(&state()->sessions[1]), 1);
    list[0] = list[1]; // then it is the first
    load(1);
    CU_ASSERT_EQUAL(atomic_load(&state()->sessions[0]), 1);
    CU_ASSERT_TRUE(stands(index));
    close_rig();
}

// A process that was killed leaves sessions behind: its principal, at its bound, has them replaced
// one by one, the silent ones only, and nobody else's.
static void a_principal_at_its_bound_loses_its_own_dead_ones(void)
{
    uint32_t other;
    uint32_t dead;
    uint32_t live;

    open_rig();
    list[0].sessions_max = 2;
    load(2);
    other = confirmed(connect_as(OTHER, TORC_RIG_KEY_ID, other_psk));
    wait_ns(2 * SECOND_NS);
    dead = confirmed(connect_first());
    wait_ns(30 * SECOND_NS);
    live = confirmed(connect_first());
    CU_ASSERT_EQUAL(connect_first(), 0);
    CU_ASSERT_TRUE(stands(dead)); // not silent for long enough
    wait_ns(40 * SECOND_NS);
    CU_ASSERT_EQUAL(connect_first(), 0); // refused once more: its client asks again
    CU_ASSERT_FALSE(stands(dead));
    CU_ASSERT_TRUE(stands(live));
    CU_ASSERT_TRUE(stands(other)); // silent for longest, and another's
    CU_ASSERT_NOT_EQUAL(confirmed(connect_first()), 0);
    CU_ASSERT_EQUAL(connect_first(), 0);
    CU_ASSERT_TRUE(stands(live));
    CU_ASSERT_TRUE(stands(other));
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a removed key has a minute and no new sessions",
         a_removed_key_has_a_minute_and_no_new_sessions},
        {"a key replaced under its id is another key", a_key_replaced_under_its_id_is_another_key},
        {"other rights end sessions at once", other_rights_end_sessions_at_once},
        {"a principal that is gone loses all, half-open ones too",
         a_principal_that_is_gone_loses_all_half_open_ones_too},
        {"a half-open session's time-out is its own", a_half_open_sessions_time_out_is_its_own},
        {"a table that makes no sense changes nothing",
         a_table_that_makes_no_sense_changes_nothing},
        {"a table being written is waited for", a_table_being_written_is_waited_for},
        {"control is told how many sessions there are",
         control_is_told_how_many_sessions_there_are},
        {"a principal at its bound loses its own dead ones",
         a_principal_at_its_bound_loses_its_own_dead_ones},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("sessions and keys", tests);
}
