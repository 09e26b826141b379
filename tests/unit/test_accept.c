// Torc tests: an operator accepts a loss, over a metastore that loses answers and is away, while
// others write the same record: only when nobody who may remember is heard, only what was named,
// and against the very record that was looked at.
#include "control/accept.h"
#include "control/give.h"
#include "tests/fake_store.h"
#include "tests/torc_test.h"

#include <stdlib.h>
#include <string.h>

enum {
    ROUNDS = 200,
    STEPS = 8000,
    SHARD = 3,
    SELF = 3
};

#define STEP_NS  UINT64_C(1000000)
#define OWN_COPY UINT64_C(33)

struct world {
    struct torc_rng rng;
    struct torc_fake_store meta;
    struct torc_acceptance accept;
    struct torc_accept_order order;
    uint64_t now_ns;
    uint64_t nonce;
};

static struct torc_shard_fields world_read(const struct world *world)
{
    struct torc_shard_fields fields = {0};

    torc_fake_store_read(&world->meta, "shard/3", TORC_RECORD_SHARD, &fields);
    return fields;
}

static void world_write(struct world *world, struct torc_shard_fields *fields)
{
    fields->nonce = ++world->nonce;
    torc_fake_store_write(&world->meta, "shard/3", TORC_RECORD_SHARD, fields);
}

static void world_node(struct world *world, uint64_t node, uint64_t copy)
{
    struct torc_node_fields fields = {.boot = 4, .copy = copy, .nonce = ++world->nonce};
    char name[TORC_RECORD_NAME_BYTES];

    torc_record_name(name, "node", node);
    torc_fake_store_write(&world->meta, name, TORC_RECORD_NODE, &fields);
}

// Nodes 1 and 2 are in sync with copies 11 and 22, node 3 was removed in epoch 6.
static struct world *world_open(void)
{
    struct world *world = calloc(1, sizeof(*world));
    struct torc_shard_fields fields = {
        .lo = 10,
        .hi = 20,
        .epoch = 7,
        .primary_node = 1,
        .primary_boot = 4,
        .insync = {.count = 2, .at = {{1, 11}, {2, 22}}},
        .previous = {.count = 3, .at = {{1, 11}, {2, 22}, {3, OWN_COPY}}}};

    torc_assert(world != NULL);
    world->rng = (struct torc_rng){torc_test_seed()};
    torc_fake_store_init(&world->meta, &world->rng);
    world->meta.calm = true;
    world_write(world, &fields);
    world_node(world, 1, 11);
    world_node(world, 2, 22);
    world->order = (struct torc_accept_order){
        .verb = TORC_ACCEPT_ACCEPT,
        .shard = SHARD,
        .node = SELF,
        .copy = OWN_COPY,
        .min_in_sync = 2,
        .at_s = 1000,
        .epoch = 7,
        .off_count = 2,
        .off = {1, 2},
        .said = {
            .shard = SHARD, .epoch = 7, .role = TORC_CHAN_LEARNER, .last_lsn = 500, .whole = 1}};
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
        CU_ASSERT_TRUE(torc_accept_is_mine(&world->accept, answer.ticket));
        torc_accept_take(&world->accept, world->now_ns, &answer, ++world->nonce);
    }
    while (torc_accept_next(&world->accept, world->now_ns, &request)) {
        request.deadline_ns = world->now_ns + 100 * STEP_NS;
        TORC_TEST_OK(torc_metastore_submit(store, &request, world->now_ns, &why), &why);
    }
}

static enum torc_err world_run(struct world *world)
{
    torc_accept_begin(&world->accept, world->now_ns, &world->order, 900);
    for (uint32_t i = 0; i < STEPS && world->accept.open; i++) {
        CU_ASSERT_TRUE(torc_accept_deadline_ns(&world->accept) <= world->accept.until_ns);
        world_step(world);
    }
    CU_ASSERT_FALSE(world->accept.open);
    CU_ASSERT_EQUAL(torc_accept_deadline_ns(&world->accept), UINT64_MAX);
    return world->accept.why.err;
}

static void check_accepted(const struct world *world, uint64_t epoch)
{
    struct torc_shard_fields fields = world_read(world);
    const struct torc_record_loss *loss = &fields.losses.at[fields.losses.count - 1];

    CU_ASSERT_EQUAL(fields.epoch, epoch + 1);
    CU_ASSERT_EQUAL(fields.primary_node, SELF);
    CU_ASSERT_EQUAL(fields.primary_boot, 0);
    CU_ASSERT_EQUAL(fields.insync.count, 1);
    CU_ASSERT_EQUAL(fields.insync.at[0].node, SELF);
    CU_ASSERT_EQUAL(fields.insync.at[0].copy, OWN_COPY);
    CU_ASSERT_EQUAL(fields.previous.count, 2);
    CU_ASSERT_EQUAL(fields.lo, 10);
    CU_ASSERT_EQUAL(fields.losses.count, 1);
    CU_ASSERT_EQUAL(loss->epoch, epoch);
    CU_ASSERT_EQUAL(loss->node, SELF);
    CU_ASSERT_EQUAL(loss->copy, OWN_COPY);
    CU_ASSERT_EQUAL(loss->lsn, 500);
    CU_ASSERT_EQUAL(loss->at_s, 1000);
}

static void what_was_named_is_accepted(void)
{
    struct world *world = world_open();

    CU_ASSERT_EQUAL(world_run(world), TORC_ERR_OK);
    CU_ASSERT_FALSE(world->accept.complete); // two could commit without this copy
    check_accepted(world, 7);
    CU_ASSERT_EQUAL(world_run(world), TORC_ERR_UNAVAILABLE); // once: this copy is in sync now
    CU_ASSERT_PTR_NOT_NULL(strstr(world->accept.why.text, "is in sync"));
    world->order.verb = TORC_ACCEPT_ACKNOWLEDGE;
    CU_ASSERT_EQUAL(world_run(world), TORC_ERR_OK);
    CU_ASSERT_EQUAL(world_read(world).losses.count, 0);
    CU_ASSERT_EQUAL(world_read(world).epoch, 8);
    CU_ASSERT_EQUAL(world_run(world), TORC_ERR_NOT_FOUND);
    world_close(world);
}

// Each of these alone is enough; and nothing is written.
static void refused(struct world *world, enum torc_err err, const char *text)
{
    uint64_t changes = world->meta.changes;

    CU_ASSERT_EQUAL(world_run(world), err);
    CU_ASSERT_PTR_NOT_NULL(strstr(world->accept.why.text, text));
    CU_ASSERT_EQUAL(world->meta.changes, changes);
    world_close(world);
}

static void nothing_happens_while_it_need_not(void)
{
    struct world *world = world_open();
    struct torc_shard_fields fields = world_read(world);

    world->order.said.heard = 2;
    refused(world, TORC_ERR_UNAVAILABLE, "node 2 is heard");
    world = world_open();
    world->order.said.whole = 0;
    refused(world, TORC_ERR_UNAVAILABLE, "not whole");
    world = world_open();
    world->order.said.epoch = 6;
    refused(world, TORC_ERR_UNAVAILABLE, "has not seen epoch 7");
    world = world_open();
    world->order.said.role = TORC_CHAN_BACKUP;
    refused(world, TORC_ERR_UNAVAILABLE, "has not seen");
    world = world_open();
    fields.insync.at[1] = (struct torc_record_member){SELF, OWN_COPY};
    world_write(world, &fields);
    refused(world, TORC_ERR_UNAVAILABLE, "takes over by itself");
    world = world_open();
    world->order.shard = 4;
    refused(world, TORC_ERR_NOT_FOUND, "no shard 4");
}

static void only_what_was_looked_at_and_named(void)
{
    struct world *world = world_open();

    world->order.epoch = 6;
    refused(world, TORC_ERR_INVALID_ARGUMENT, "epoch 7 now, not 6");
    world = world_open();
    world->order.off_count = 1;
    refused(world, TORC_ERR_INVALID_ARGUMENT, "node 2 may have its copy");
    world = world_open();
    world->order.off[world->order.off_count++] = 9;
    refused(world, TORC_ERR_INVALID_ARGUMENT, "--off 9");
    world = world_open();
    world->order.verb = TORC_ACCEPT_LOOK;
    refused(world, TORC_ERR_OK, "");
}

// Who has another memory now needs no naming, and may be heard.
static void who_forgot_is_not_at_stake(void)
{
    struct world *world = world_open();

    world_node(world, 1, 12);
    world->order.said.heard = 1;
    world->order.off_count = 1;
    world->order.off[0] = 2;
    CU_ASSERT_EQUAL(world_run(world), TORC_ERR_OK);
    CU_ASSERT_EQUAL(world->accept.members[0], TORC_ACCEPT_FORGOT);
    CU_ASSERT_EQUAL(world->accept.members[1], TORC_ACCEPT_SILENT);
    check_accepted(world, 7);
    world_close(world);
}

// This copy was removed when the set fell below what writes need.
static void what_is_complete_is_known(void)
{
    struct world *world = world_open();
    struct torc_shard_fields fields = world_read(world);

    fields.insync.count = 1;
    world_write(world, &fields);
    world->order.verb = TORC_ACCEPT_LOOK;
    CU_ASSERT_EQUAL(world_run(world), TORC_ERR_OK);
    CU_ASSERT_TRUE(world->accept.complete);
    world->order.said.last_lsn = 0; // it was emptied for a base since, and died
    CU_ASSERT_EQUAL(world_run(world), TORC_ERR_OK);
    CU_ASSERT_FALSE(world->accept.complete);
    world->order.said.last_lsn = 500;
    world->order.copy++; // it was another memory
    CU_ASSERT_EQUAL(world_run(world), TORC_ERR_OK);
    CU_ASSERT_FALSE(world->accept.complete);
    world_close(world);
}

static void the_newest_losses_are_kept(void)
{
    struct world *world = world_open();
    struct torc_shard_fields fields = world_read(world);

    fields.losses.count = TORC_RECORD_LOSSES_MAX;
    for (uint64_t i = 0; i < TORC_RECORD_LOSSES_MAX; i++) {
        fields.losses.at[i] = (struct torc_record_loss){i + 1, 5, 55, 1, 2};
    }
    world_write(world, &fields);
    CU_ASSERT_EQUAL(world_run(world), TORC_ERR_OK);
    fields = world_read(world);
    CU_ASSERT_EQUAL(fields.losses.count, TORC_RECORD_LOSSES_MAX);
    CU_ASSERT_EQUAL(fields.losses.at[0].epoch, 2);
    CU_ASSERT_EQUAL(fields.losses.at[TORC_RECORD_LOSSES_MAX - 1].epoch, 7);
    world_close(world);
}

// The replica takes over, and writes the record again, before the answer comes.
static void overtake(struct world *world)
{
    struct torc_shard_fields fields = world_read(world);

    check_accepted(world, 7);
    fields.previous = fields.insync;
    fields.epoch++;
    fields.primary_boot = 6;
    world_write(world, &fields);
}

// A member that comes back takes over between the look and the swap, at any moment: then its record
// stays as it wrote it. Whatever the answer says is what happened.
static void a_member_that_comes_back_wins(void)
{
    uint32_t accepted = 0;

    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct world *world = world_open();
        struct torc_shard_fields fields = world_read(world);
        uint64_t back;
        enum torc_err err;

        world->rng.state += i; // torc_test_seed is one number
        back = torc_rng_below(&world->rng, 40);
        world->meta.calm = false;
        torc_accept_begin(&world->accept, world->now_ns, &world->order, 900);
        for (uint32_t k = 0; k < STEPS && world->accept.open; k++) {
            if (world_read(world).losses.count == 1 && world_read(world).epoch == 8 && i % 2 == 0) {
                overtake(world);
            }
            if (k == back && world_read(world).epoch == 7) {
                fields.epoch = 8;
                fields.primary_boot = 5;
                world_write(world, &fields);
            }
            world->meta.away = k > 10 && k < 60 && i % 3 == 0;
            world_step(world);
        }
        err = world->accept.why.err;
        CU_ASSERT_FALSE(world->accept.open);
        fields = world_read(world);
        if (fields.losses.count == 1) {
            CU_ASSERT_EQUAL(fields.losses.at[0].lsn, 500);
            CU_ASSERT_TRUE(err == TORC_ERR_OK || err == TORC_ERR_IN_DOUBT);
            accepted++;
        } else {
            CU_ASSERT_TRUE(err != TORC_ERR_OK);
        }
        world_close(world);
    }
    CU_ASSERT_TRUE(accepted > 0);
    CU_ASSERT_TRUE(accepted < ROUNDS);
}

static void a_metastore_that_is_away_ends_it(void)
{
    struct world *world = world_open();

    world->meta.away = true;
    CU_ASSERT_NOT_EQUAL(world_run(world), TORC_ERR_OK);
    CU_ASSERT_EQUAL(world_read(world).losses.count, 0);
    world_close(world);
}

int main(void)
{
    CU_TestInfo tests[] = {{"what was named is accepted, once", what_was_named_is_accepted},
                           {"nothing happens while it need not", nothing_happens_while_it_need_not},
                           {"only what was looked at and named", only_what_was_looked_at_and_named},
                           {"who forgot is not at stake", who_forgot_is_not_at_stake},
                           {"what is complete is known", what_is_complete_is_known},
                           {"the newest losses are kept", the_newest_losses_are_kept},
                           {"a member that comes back wins", a_member_that_comes_back_wins},
                           {"a metastore that is away ends it", a_metastore_that_is_away_ends_it},
                           CU_TEST_INFO_NULL};

    return torc_test_run("test-accept", tests);
}
