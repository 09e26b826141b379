// Torc tests: a worker's answers to good requests, through a whole node in one process
// (worker_rig.h).
#include "dataplane/worker_state.h"
#include "tests/unit/worker_rig.h"
#include "wire/map.h"
#include "wire/rows.h"

#include <string.h>

// -- Puts and gets --------------------------------------------------------------------------------

static void a_put_is_read_back(void)
{
    struct torc_request request;

    open_plain();
    torc_rig_check_none(rig, client, 7);
    (void)put_text(7, "seven");
    check_value(7, "seven");
    (void)put_text(KEYS - 1, "");
    check_value(KEYS - 1, "");
    (void)put_text(7, "eight");
    check_value(7, "eight");
    request = torc_rig_delete(rig, client, 7);
    (void)expect(&request, TORC_ERR_OK);
    torc_rig_check_none(rig, client, 7);
    request = torc_rig_delete(rig, client, 7);
    (void)expect(&request, TORC_ERR_NOT_FOUND);
    close_rig();
}

static void many_operations_of_one_packet_are_all_answered(void)
{
    struct torc_reply reply;
    uint32_t found = 0;

    open_plain();
    for (uint32_t i = 0; i < 16; i++) {
        (void)put_text((uint64_t)i * 60000, "value");
    }
    for (uint32_t i = 0; i < 32; i++) {
        struct torc_request request = torc_rig_get((uint64_t)i * 30000);

        (void)torc_rig_add(client, &request);
    }
    (void)torc_rig_flush(rig, client, 0);
    for (uint32_t i = 0; i < 32; i++) {
        CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
        CU_ASSERT_EQUAL(reply.op_id, client->next_op - 32 + i); // in their order
        found += reply.status == TORC_ERR_OK ? 1 : 0;
    }
    CU_ASSERT_EQUAL(found, 16);
    CU_ASSERT_EQUAL(torc_stats_get(&torc_rig_stats(rig, 0)->counters[TORC_COUNTER_TX_PACKETS]) > 0,
                    true);
    close_rig();
}

// One reply packet for reads and writes together: all wait for the disk and come in one.
static void a_mixed_packet_with_one_reply_is_answered_in_one(void)
{
    struct torc_request request;
    struct torc_reply reply;
    uint32_t seen = 0;

    open_plain();
    (void)put_text(1, "one");
    client->reply_packets = 1;
    rig->controls[0].disk_stuck = true;
    request = torc_rig_get(1);
    (void)torc_rig_add(client, &request);
    request = torc_rig_put(rig, client, 2, "two", 3);
    (void)torc_rig_add(client, &request);
    request = (struct torc_request){.opcode = TORC_OPCODE_PING};
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FALSE(torc_rig_await(rig, client, &reply, 50));
    rig->controls[0].disk_stuck = false;
    while (torc_rig_await(rig, client, &reply, 50)) {
        CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
        seen++;
    }
    CU_ASSERT_EQUAL(seen, 3);
    CU_ASSERT_EQUAL(client->lane.windows[0].high, 2); // the first put's reply, and this one
    client->reply_packets = 16;
    check_value(2, "two");
    close_rig();
}

// With two reply packets the reads do not wait.
static void reads_do_not_wait_for_the_writes_beside_them(void)
{
    struct torc_request request;
    struct torc_reply reply;

    open_plain();
    rig->controls[0].disk_stuck = true;
    client->reply_packets = 2;
    request = torc_rig_put(rig, client, 2, "two", 3);
    (void)torc_rig_add(client, &request);
    request = torc_rig_get(2);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, 50));
    CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_GET | TORC_REPLY_BIT);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_NOT_FOUND); // only committed data is seen
    CU_ASSERT_FALSE(torc_rig_await(rig, client, &reply, 50));
    rig->controls[0].disk_stuck = false;
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, 50));
    CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_PUT | TORC_REPLY_BIT);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    close_rig();
}

static void conditions_hold_and_say_what_they_met(void)
{
    struct torc_request request;
    struct torc_reply reply;
    const unsigned char *value;
    uint32_t value_bytes;
    uint64_t version;
    uint8_t attempt;

    open_plain();
    version = put_text(5, "five");
    request = torc_rig_put(rig, client, 5, "new", 3);
    request.flags = TORC_WRITE_IF_ABSENT | TORC_WRITE_RETURN_CURRENT;
    request.attempt = 9;
    reply = expect(&request, TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(reply.info, version);
    CU_ASSERT_FATAL(torc_write_reply_decode(&reply, &attempt, &value, &value_bytes));
    CU_ASSERT_EQUAL(attempt, 9);
    CU_ASSERT_EQUAL_FATAL(value_bytes, 4);
    CU_ASSERT_EQUAL(memcmp(value, "five", 4), 0);
    request = torc_rig_put(rig, client, 6, "six", 3);
    request.flags = TORC_WRITE_IF_PRESENT;
    CU_ASSERT_EQUAL(expect(&request, TORC_ERR_CONDITION_FAILED).info, 0);
    request = torc_rig_put(rig, client, 5, "new", 3);
    request.flags = TORC_WRITE_IF_VERSION;
    request.version = version;
    CU_ASSERT(expect(&request, TORC_ERR_OK).info > version);
    request = torc_rig_delete(rig, client, 5);
    request.flags = TORC_WRITE_IF_VERSION;
    request.version = version;
    (void)expect(&request, TORC_ERR_CONDITION_FAILED);
    check_value(5, "new");
    close_rig();
}

static void a_repeated_write_gets_its_first_answer(void)
{
    struct torc_request first;
    struct torc_request second;
    uint64_t version;

    open_plain();
    first = torc_rig_put(rig, client, 5, "first", 5);
    version = expect(&first, TORC_ERR_OK).info;
    second = torc_rig_put(rig, client, 5, "second", 6);
    second.lowest = first.wseq; // the first one's answer may not have come
    (void)expect(&second, TORC_ERR_OK);
    first.data = (const unsigned char *)"other";
    CU_ASSERT_EQUAL(expect(&first, TORC_ERR_OK).info, version);
    check_value(5, "second");
    // A later write says that all before it are finished: they are forgotten.
    (void)put_text(5, "third");
    (void)expect(&first, TORC_ERR_SEQ_OLD);
    check_value(5, "third");
    close_rig();
}

// Two conditional writes of one key in one packet: the second waits for the first.
static void a_conditional_write_waits_for_the_one_before_it(void)
{
    struct torc_request request;
    struct torc_reply reply;

    open_plain();
    request = torc_rig_put(rig, client, 5, "first", 5);
    request.flags = TORC_WRITE_IF_ABSENT;
    (void)torc_rig_add(client, &request);
    request = torc_rig_put(rig, client, 5, "second", 6);
    request.flags = TORC_WRITE_IF_ABSENT | TORC_WRITE_RETURN_CURRENT;
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(reply.body_bytes, 8 + 5);
    check_value(5, "first");
    close_rig();
}

// -- Other operations -----------------------------------------------------------------------------

static void small_operations_answer(void)
{
    struct torc_request request = {
        .opcode = TORC_OPCODE_PING, .data = (const unsigned char *)"payload", .data_bytes = 7};
    struct torc_reply reply;

    open_plain();
    reply = expect(&request, TORC_ERR_OK);
    CU_ASSERT_EQUAL(reply.body_bytes, 7);
    CU_ASSERT_EQUAL(memcmp(reply.body, "payload", 7), 0);
    request = (struct torc_request){.opcode = TORC_OPCODE_COOKIE};
    CU_ASSERT_EQUAL(expect(&request, TORC_ERR_OK).body_bytes, TORC_COOKIE_BYTES);
    (void)put_text(3, "three");
    request = (struct torc_request){.opcode = TORC_OPCODE_CLOCK, .lo = 0, .hi = KEYS};
    reply = expect(&request, TORC_ERR_OK);
    CU_ASSERT_EQUAL(reply.body_bytes, 4 * 16);
    request = torc_rig_get(3);
    CU_ASSERT_EQUAL(reply.info, expect(&request, TORC_ERR_OK).info);
    request = (struct torc_request){.opcode = TORC_OPCODE_CANCEL, .target = 77};
    (void)expect(&request, TORC_ERR_NOT_FOUND);
    close_rig();
}

// One packet does not hold it, or hardly: the rest is asked for.
static void the_status_is_told_in_pieces(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_STATUS};
    struct torc_reply reply;

    open_plain();
    do {
        torc_rig_call(rig, client, &request, &reply);
        CU_ASSERT_FATAL(reply.body_bytes > 0 && request.offset + reply.body_bytes <= reply.info);
        CU_ASSERT(request.offset > 0 || memcmp(reply.body, "node 1\n", 7) == 0);
        request.offset += reply.body_bytes;
    } while (reply.status == TORC_ERR_PARTIAL);
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_OK);
    CU_ASSERT_EQUAL(request.offset, reply.info);
    CU_ASSERT_EQUAL(reply.body[reply.body_bytes - 1], '\n');
    request.offset = 100000;
    CU_ASSERT_EQUAL(expect(&request, TORC_ERR_OK).body_bytes, 0);
    close_rig();
}

static void the_map_is_told_whole(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_MAP, .lo = 0, .hi = KEYS};
    struct torc_map_entry entry;
    struct torc_node_entry node;
    struct torc_reply reply;
    struct torc_fail why;
    uint64_t next = 0;

    open_plain();
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    TORC_TEST_OK(torc_node_entry_decode(&node, &reply, &why), &why);
    CU_ASSERT_EQUAL(node.address_count, 2);
    CU_ASSERT_EQUAL(node.base_port, TORC_RIG_BASE_PORT);
    for (uint32_t i = 0; i < 4; i++) {
        CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
        TORC_TEST_OK(torc_map_entry_decode(&entry, &reply, &why), &why);
        CU_ASSERT_EQUAL(entry.lo, next);
        next = entry.hi;
    }
    CU_ASSERT_EQUAL(next, KEYS);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    CU_ASSERT_EQUAL(reply.opcode, TORC_OPCODE_MAP | TORC_REPLY_BIT);
    memcpy(&next, reply.body, sizeof(next));
    CU_ASSERT_EQUAL(next, KEYS);
    close_rig();
}

static void a_closed_session_is_gone(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_CLOSE};
    struct torc_reply reply;

    open_plain();
    (void)expect(&request, TORC_ERR_OK);
    torc_rig_settle(rig, 20);
    request = torc_rig_get(1);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FALSE(torc_rig_await(rig, client, &reply, 20));
    CU_ASSERT_EQUAL(torc_stats_get(&torc_rig_stats(rig, 0)->counters[TORC_COUNTER_NOSESSIONS]), 1);
    close_rig();
}

// -- Several workers ------------------------------------------------------------------------------

static void a_packet_on_the_wrong_queue_reaches_its_core(void)
{
    struct torc_rig_config config = {.workers = 3, .shards = 6};
    struct torc_request request;

    open_rig(&config);
    for (uint32_t i = 0; i < 6; i++) {
        (void)put_text(i * KEYS / 6 + 1, "here");
    }
    for (uint32_t i = 0; i < 6; i++) {
        check_value(i * KEYS / 6 + 1, "here");
    }
    CU_ASSERT(torc_stats_get(&torc_rig_stats(rig, 0)->counters[TORC_COUNTER_HANDOFF]) >= 8);
    request = torc_rig_get(KEYS / 6 + 1);
    (void)expect(&request, TORC_ERR_OK);
    CU_ASSERT_EQUAL(client->reply_data.flags & TORC_DATA_HANDOFF, TORC_DATA_HANDOFF);
    CU_ASSERT_EQUAL(client->reply_data.core, 1);
    close_rig();
}

static void a_key_of_another_core_is_answered_with_its_entry(void)
{
    struct torc_rig_config config = {.workers = 2, .shards = 4, .steered = true};
    struct torc_request request = torc_rig_get(KEYS / 4 + 1); // shard 1, core 1
    struct torc_map_entry entry;
    struct torc_node_entry node;
    struct torc_reply reply;
    struct torc_fail why;

    open_rig(&config);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_WRONG_SHARD);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    TORC_TEST_OK(torc_map_entry_decode(&entry, &reply, &why), &why);
    CU_ASSERT_EQUAL(entry.lo, KEYS / 4);
    CU_ASSERT_EQUAL(entry.members[0].core, 1);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    TORC_TEST_OK(torc_node_entry_decode(&node, &reply, &why), &why);
    CU_ASSERT_EQUAL(node.cores, 2);
    // A write in an old epoch is refused the same way.
    request = torc_rig_put(rig, client, 3, "old", 3);
    request.epoch--;
    (void)expect(&request, TORC_ERR_WRONG_SHARD);
    close_rig();
}

// The second of four shards is another node's, as control tells it.
static void give_shard_away(uint32_t cores)
{
    struct torc_chan_map *map = torc_chan_map(rig->chan);

    atomic_fetch_add(&map->sequence, 1);
    map->entries[1].version = 77;
    map->entries[1].epoch = 9;
    map->entries[1].members[0] =
        (struct torc_chan_member){.copy = 5, .node = 7, .core = TORC_MAP_CORE_UNKNOWN, .state = 1};
    map->node_count = 2;
    map->nodes[0] = (struct torc_chan_node){.node = 3}; // has never run
    map->nodes[1] = (struct torc_chan_node){
        .node = 7, .base_port = 28700, .cores = (uint8_t)cores, .address_count = 1};
    map->nodes[1].addresses[0][15] = 42;
    atomic_fetch_add(&map->sequence, 1);
    torc_fake_control_order(&rig->controls[0], TORC_CMD_MAP_CHANGED);
    torc_rig_settle(rig, 20);
}

static void the_map_says_where_other_nodes_are(void)
{
    struct torc_request request = {.opcode = TORC_OPCODE_MAP, .lo = 0, .hi = KEYS};
    struct torc_map_entry entry;
    struct torc_node_entry node = {0};
    struct torc_reply reply;
    struct torc_fail why;
    uint32_t nodes[2] = {0};
    uint32_t node_count = 0;
    uint32_t entry_count = 0;

    open_plain();
    give_shard_away(3);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    do {
        CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
        if (reply.opcode == TORC_OPCODE_NODE_ENTRY) {
            CU_ASSERT_FATAL(node_count < 2); // each once, and node 3 not at all
            TORC_TEST_OK(torc_node_entry_decode(&node, &reply, &why), &why);
            nodes[node_count++] = node.node;
        } else if (reply.opcode == TORC_OPCODE_MAP_ENTRY) {
            TORC_TEST_OK(torc_map_entry_decode(&entry, &reply, &why), &why);
            entry_count++;
            CU_ASSERT_EQUAL(entry.version == 77, entry_count == 2);
            CU_ASSERT_EQUAL(entry.members[0].node, entry_count == 2 ? 7 : 1);
            CU_ASSERT_EQUAL(node_count, entry_count >= 2 ? 2 : 1); // before the entry that needs it
        }
    } while (reply.opcode != (TORC_OPCODE_MAP | TORC_REPLY_BIT));
    CU_ASSERT_EQUAL(entry_count, 4);
    CU_ASSERT_EQUAL(nodes[0], 1);
    CU_ASSERT_EQUAL(nodes[1], 7);
    CU_ASSERT_EQUAL(node.cores, 3);
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): four entries came, as asserted
    CU_ASSERT_EQUAL(node.addresses[15], 42);
    close_rig();
}

static void a_key_of_another_node_is_answered_with_it(void)
{
    struct torc_rig_config config = {.workers = 2, .shards = 4, .steered = true};
    struct torc_request request = torc_rig_get(KEYS / 4 + 1); // shard 1: it was core 1's
    struct torc_map_entry entry;
    struct torc_node_entry node;
    struct torc_reply reply;
    struct torc_fail why;

    open_rig(&config);
    give_shard_away(1);
    (void)torc_rig_add(client, &request);
    (void)torc_rig_flush(rig, client, 0);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    CU_ASSERT_EQUAL(reply.status, TORC_ERR_WRONG_SHARD);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    TORC_TEST_OK(torc_map_entry_decode(&entry, &reply, &why), &why);
    CU_ASSERT_EQUAL(entry.epoch, 9);
    CU_ASSERT_FATAL(torc_rig_await(rig, client, &reply, STEPS));
    TORC_TEST_OK(torc_node_entry_decode(&node, &reply, &why), &why);
    CU_ASSERT_EQUAL(node.node, 7);
    close_rig();
}

static uint32_t alarms(void)
{
    const struct torc_fake_control *control = &rig->controls[0];
    uint32_t count = 0;

    for (uint32_t i = 0; i < control->event_count; i++) {
        count += control->events[i].kind == TORC_EVT_ALARM ? 1 : 0;
    }
    return count;
}

// Control lost its processor amid a change: that is no alarm, and needs no further order.
static void a_map_that_is_being_written_is_read_when_it_is_whole(void)
{
    struct torc_chan_map *map;

    open_plain();
    map = torc_chan_map(rig->chan);
    atomic_fetch_add(&map->sequence, 1);
    map->entries[0].epoch += 100;
    torc_fake_control_order(&rig->controls[0], TORC_CMD_MAP_CHANGED);
    torc_rig_settle(rig, 20);
    CU_ASSERT_EQUAL(alarms(), 0);
    CU_ASSERT_NOT_EQUAL(rig->workers[0]->map.entries[0].epoch, map->entries[0].epoch);
    atomic_fetch_add(&map->sequence, 1);
    torc_rig_settle(rig, 20);
    CU_ASSERT_EQUAL(alarms(), 0);
    CU_ASSERT_EQUAL(rig->workers[0]->map.entries[0].epoch, map->entries[0].epoch);
    close_rig();
}

static void a_node_that_makes_no_sense_spoils_the_map(void)
{
    struct torc_chan_map *map;

    open_plain();
    map = torc_chan_map(rig->chan);
    map->nodes[0].node = 7;
    map->nodes[0].cores = 1;
    map->nodes[0].address_count = 3; // two have room
    map->nodes[0].base_port = 28700;
    map->node_count = 1;
    torc_fake_control_order(&rig->controls[0], TORC_CMD_MAP_CHANGED);
    torc_rig_settle(rig, 20);
    CU_ASSERT_EQUAL(alarms(), 1);
    map->node_count = TORC_CHAN_NODES_MAX + 1;
    torc_fake_control_order(&rig->controls[0], TORC_CMD_MAP_CHANGED);
    torc_rig_settle(rig, 20);
    CU_ASSERT_EQUAL(alarms(), 2);
    close_rig();
}

// -- Paths ---------------------------------------------------------------------------------------

static void clients_come_by_ipv6_and_by_jumbo_frames(void)
{
    struct torc_rig_config config = {.workers = 1, .mtu = 9000, .steered = true};
    struct torc_request request;
    struct torc_reply reply;
    unsigned char value[8000];
    uint8_t ip[16];

    open_rig(&config);
    memcpy(ip, rig->ipv6, sizeof(ip));
    ip[15] = 1;
    torc_rig_connect_from(rig, client, ip, 6000);
    CU_ASSERT_EQUAL(client->accept.payload_max, 8952);
    for (uint32_t i = 0; i < sizeof(value); i++) {
        value[i] = (unsigned char)(i * 11);
    }
    client->reply_bytes = 8952;
    request = torc_rig_put(rig, client, 3, value, sizeof(value));
    (void)expect(&request, TORC_ERR_OK);
    request = torc_rig_get(3);
    reply = expect(&request, TORC_ERR_OK);
    CU_ASSERT_EQUAL_FATAL(reply.body_bytes, sizeof(value));
    CU_ASSERT_EQUAL(memcmp(reply.body, value, sizeof(value)), 0);
    close_rig();
}

// -- Clocks ---------------------------------------------------------------------------------------

// The clock is set back by a quarter of an hour while the node is down. Only one of its workers has
// stamped anything since it was ahead; a client that hears that one is ahead of the other.
static void all_workers_of_a_node_stamp_by_one_clock(void)
{
    static const uint64_t away_us = UINT64_C(900000000);
    struct torc_rig_config config = {.workers = 2, .shards = 1, .steered = true};
    uint64_t low_us;
    uint64_t high_us;

    open_rig(&config);
    torc_rig_crash(rig);
    rig->wall_us += away_us;
    torc_rig_recover(rig);
    torc_rig_connect(rig, client, 5001);
    (void)put_text(7, "seven");
    torc_rig_crash(rig);
    rig->wall_us -= away_us;
    torc_rig_recover(rig);
    torc_rig_settle(rig, STEPS);
    low_us = torc_min_u64(rig->workers[0]->wall_us, rig->workers[1]->wall_us);
    high_us = torc_max_u64(rig->workers[0]->wall_us, rig->workers[1]->wall_us);
    CU_ASSERT(high_us > rig->wall_us + away_us / 2);
    CU_ASSERT(high_us - low_us < 1000000);
    close_rig();
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"a put is read back", a_put_is_read_back},
        {"many operations of one packet are all answered",
         many_operations_of_one_packet_are_all_answered},
        {"a mixed packet with one reply is answered in one",
         a_mixed_packet_with_one_reply_is_answered_in_one},
        {"reads do not wait for the writes beside them",
         reads_do_not_wait_for_the_writes_beside_them},
        {"conditions hold and say what they met", conditions_hold_and_say_what_they_met},
        {"a repeated write gets its first answer", a_repeated_write_gets_its_first_answer},
        {"a conditional write waits for the one before it",
         a_conditional_write_waits_for_the_one_before_it},
        {"small operations answer", small_operations_answer},
        {"the status is told in pieces", the_status_is_told_in_pieces},
        {"the map is told whole", the_map_is_told_whole},
        {"the map says where other nodes are", the_map_says_where_other_nodes_are},
        {"a key of another node is answered with it", a_key_of_another_node_is_answered_with_it},
        {"a map that is being written is read when it is whole",
         a_map_that_is_being_written_is_read_when_it_is_whole},
        {"a node that makes no sense spoils the map", a_node_that_makes_no_sense_spoils_the_map},
        {"a closed session is gone", a_closed_session_is_gone},
        {"a packet on the wrong queue reaches its core",
         a_packet_on_the_wrong_queue_reaches_its_core},
        {"clients come by IPv6 and by jumbo frames", clients_come_by_ipv6_and_by_jumbo_frames},
        {"a key of another core is answered with its entry",
         a_key_of_another_core_is_answered_with_its_entry},
        {"all workers of a node stamp by one clock", all_workers_of_a_node_stamp_by_one_clock},
        CU_TEST_INFO_NULL,
    };

    return torc_test_run("worker", tests);
}
