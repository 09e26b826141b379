// Torc tests: a field of a node's record comes to say what it has to, over a metastore that loses
// answers and is away, while others write the same record.
#include "control/note.h"
#include "tests/fake_store.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    ROUNDS = 60,
    STEPS = 20000
};

#define STEP_NS UINT64_C(1000000)

struct world {
    struct torc_rng rng;
    struct torc_fake_store meta;
    struct torc_note note;
    uint64_t now_ns;
    uint64_t nonce;
};

static struct torc_node_fields world_read(const struct world *world)
{
    struct torc_node_fields fields = {0};

    torc_fake_store_read(&world->meta, "node/4", TORC_RECORD_NODE, &fields);
    return fields;
}

static void world_write(struct world *world, struct torc_node_fields *fields)
{
    fields->nonce = ++world->nonce;
    torc_fake_store_write(&world->meta, "node/4", TORC_RECORD_NODE, fields);
}

static struct world *world_open(void)
{
    struct world *world = calloc(1, sizeof(*world));
    struct torc_node_fields fields = {.boot = 7, .down = 6, .capacity = 1, .slot = 5};

    torc_assert(world != NULL);
    world->rng = (struct torc_rng){torc_test_seed()};
    torc_fake_store_init(&world->meta, &world->rng);
    world_write(world, &fields);
    return world;
}

static void world_close(struct world *world)
{
    torc_fake_store_close(&world->meta);
    free(world);
}

static void world_step(struct world *world)
{
    struct torc_metastore *store = &world->meta.handles[0].store;
    struct torc_meta_request request;
    struct torc_meta_answer answer;
    struct torc_fail why;

    world->now_ns += STEP_NS;
    torc_metastore_step(store, world->now_ns);
    while (torc_metastore_take(store, &answer)) {
        CU_ASSERT_TRUE(torc_note_is_mine(&world->note, answer.ticket));
        torc_note_take(&world->note, world->now_ns, &answer, ++world->nonce);
    }
    while (torc_note_next(&world->note, world->now_ns, &request)) {
        request.deadline_ns = world->now_ns + 100 * STEP_NS;
        TORC_TEST_OK(torc_metastore_submit(store, &request, world->now_ns, &why), &why);
    }
}

// Runs until it is said; another writer counts `capacity` up meanwhile. Returns its count.
static uint64_t world_say(struct world *world, enum torc_note_kind kind, uint64_t value)
{
    struct torc_node_fields fields = world_read(world);
    uint64_t wrote = fields.capacity;

    torc_note_begin(&world->note, kind, 4, value, 900);
    for (uint32_t i = 0; i < STEPS && world->note.open; i++) {
        world->meta.away = i < STEPS / 2 && i / 100 % 4 == 3;
        if (i < STEPS / 2 && torc_rng_chance(&world->rng, 5000)) {
            fields = world_read(world);
            fields.capacity = ++wrote;
            world_write(world, &fields);
        }
        world_step(world);
    }
    CU_ASSERT_FALSE(world->note.open);
    CU_ASSERT_EQUAL(torc_note_deadline_ns(&world->note), UINT64_MAX);
    return wrote;
}

static void it_comes_to_be_said(void)
{
    struct world *world = world_open();

    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint64_t state = i % 2 == 0 ? (uint64_t)TORC_RECORD_NODE_YIELDS : TORC_RECORD_NODE_SERVES;
        uint64_t wrote = world_say(world, TORC_NOTE_STATE, state);

        CU_ASSERT_EQUAL(world->note.err, TORC_ERR_OK);
        CU_ASSERT_EQUAL(world_read(world).state, state);
        CU_ASSERT_EQUAL(world_read(world).capacity, wrote); // nothing of others is lost
        CU_ASSERT_EQUAL(world_read(world).slot, 5);
        (void)world_say(world, TORC_NOTE_LEAVING, i % 3 == 0 ? 0 : 7);
        CU_ASSERT_EQUAL(world_read(world).leaving, i % 3 == 0 ? 0 : 7);
    }
    (void)world_say(world, TORC_NOTE_DOWN, 7);
    CU_ASSERT_EQUAL(world_read(world).down, 7);
    world_close(world);
}

static void of_a_boot_that_is_over_nothing_is_said(void)
{
    struct world *world = world_open();

    (void)world_say(world, TORC_NOTE_DOWN, 5);
    CU_ASSERT_EQUAL(world->note.err, TORC_ERR_OK);
    CU_ASSERT_EQUAL(world_read(world).down, 6);
    (void)world_say(world, TORC_NOTE_DOWN, 0); // a dataplane that died before it had a boot
    CU_ASSERT_EQUAL(world_read(world).down, 6);
    (void)world_say(world, TORC_NOTE_LEAVING, 8);
    CU_ASSERT_EQUAL(world_read(world).leaving, 0);
    world_close(world);
}

// The record is another one, and says the same.
static void that_it_is_there_is_said_by_writing(void)
{
    struct world *world = world_open();

    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct torc_node_fields was = world_read(world);
        uint64_t wrote = world_say(world, TORC_NOTE_ALIVE, 7);
        struct torc_node_fields is = world_read(world);

        CU_ASSERT_EQUAL(world->note.err, TORC_ERR_OK);
        CU_ASSERT_NOT_EQUAL(is.nonce, was.nonce);
        CU_ASSERT_EQUAL(is.capacity, wrote);
        is.nonce = was.nonce;
        is.capacity = was.capacity;
        CU_ASSERT_EQUAL(memcmp(&is, &was, sizeof(is)), 0);
    }
    world_close(world);
}

// And once: nothing is asked or written after that, nor in another boot.
static void that_it_is_there_is_said_once(void)
{
    struct world *world = world_open();
    struct torc_node_fields fields;
    uint64_t nonce;

    world->meta.calm = true;
    (void)world_say(world, TORC_NOTE_ALIVE, 7);
    nonce = world_read(world).nonce;
    for (uint32_t i = 0; i < 1000; i++) {
        world_step(world);
    }
    CU_ASSERT_EQUAL(world_read(world).nonce, nonce);
    fields = world_read(world);
    fields.boot = 8;
    world_write(world, &fields);
    nonce = world_read(world).nonce;
    torc_note_begin(&world->note, TORC_NOTE_ALIVE, 4, 7, 900);
    for (uint32_t i = 0; i < 1000; i++) {
        world_step(world);
    }
    CU_ASSERT_FALSE(world->note.open);
    CU_ASSERT_EQUAL(world->note.err, TORC_ERR_OK);
    CU_ASSERT_EQUAL(world_read(world).nonce, nonce);
    world_close(world);
}

static void what_cannot_be_said_ends(void)
{
    struct world *world = world_open();

    world->meta.calm = true;
    torc_note_begin(&world->note, TORC_NOTE_STATE, 9, TORC_RECORD_NODE_YIELDS, 900);
    for (uint32_t i = 0; i < 100; i++) {
        world_step(world);
    }
    CU_ASSERT_FALSE(world->note.open);
    CU_ASSERT_EQUAL(world->note.err, TORC_ERR_NOT_FOUND);
    torc_fake_store_put(&world->meta, "node/4", "format=3\n", 9);
    torc_note_begin(&world->note, TORC_NOTE_STATE, 4, TORC_RECORD_NODE_YIELDS, 900);
    for (uint32_t i = 0; i < 100; i++) {
        world_step(world);
    }
    CU_ASSERT_FALSE(world->note.open);
    CU_ASSERT_EQUAL(world->note.err, TORC_ERR_CORRUPT);
    world_close(world);
}

// An answer that comes after another note was begun is not taken for one to that.
static void late_answers_are_known(void)
{
    struct world *world = world_open();

    for (uint32_t i = 0; i < 500; i++) {
        torc_note_begin(&world->note, TORC_NOTE_STATE, 4, i % 3, 900);
        for (uint64_t k = torc_rng_below(&world->rng, 6); k > 0; k--) {
            world_step(world);
        }
    }
    (void)world_say(world, TORC_NOTE_STATE, TORC_RECORD_NODE_YIELDS);
    CU_ASSERT_EQUAL(world_read(world).state, TORC_RECORD_NODE_YIELDS);
    world_close(world);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"it comes to be said, and what others write stays", it_comes_to_be_said},
        {"of a boot that is over nothing is said", of_a_boot_that_is_over_nothing_is_said},
        {"that it is there is said by writing", that_it_is_there_is_said_by_writing},
        {"that it is there is said once", that_it_is_there_is_said_once},
        {"what cannot be said ends", what_cannot_be_said_ends},
        {"late answers are known", late_answers_are_known},
        CU_TEST_INFO_NULL};

    return torc_test_run("test-note", tests);
}
