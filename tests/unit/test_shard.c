// Torc tests: the shard engine's answers one by one. (Its model is model_shard.c; what replay
// takes, test_replay.c.)
#include "tests/unit/shard_bench.h"

static void test_refusals(void)
{
    struct torc_shard_write write;

    bench_pool(100, CHUNKS);
    bench_open();
    put(5, "five");
    write = write_of(5, "six");
    write.epoch = 2;
    check_answer(write, TORC_ERR_WRONG_SHARD);
    write.epoch = 3;
    write.stamp = torc_hlc_from_us(WALL_US - 61000000);
    check_answer(write, TORC_ERR_EXPIRED);
    write.stamp = torc_hlc_from_us(WALL_US + 2100000);
    check_answer(write, TORC_ERR_CLOCK_AHEAD);
    CU_ASSERT_EQUAL(bench.outcome.info, torc_hlc_from_us(WALL_US));
    write.stamp = rig.pool.hlc;
    write.log_err = TORC_ERR_NO_SPACE;
    write.log_info = 1;
    check_answer(write, TORC_ERR_NO_SPACE);
    CU_ASSERT_EQUAL(bench.outcome.info, 1);
    write.seq = 5000;
    write.low = 904;
    check_answer(write, TORC_ERR_LIMIT);
    write.log_err = TORC_ERR_OK;
    write.low = 905;
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_APPEND); // none of the refusals was kept
    check_answer(write, TORC_ERR_PENDING);
    CU_ASSERT_EQUAL(bench_commit(), 1);
    check_answer(write, TORC_ERR_OK);
    write.seq = 904;
    write.low = 1;
    check_answer(write, TORC_ERR_SEQ_OLD);
    CU_ASSERT_EQUAL(
        torc_shard_hear(&rig.pool, torc_hlc_from_us(WALL_US + 2000001), TORC_SHARD_MAX_AHEAD_US),
        TORC_ERR_CLOCK_AHEAD);
    CU_ASSERT_EQUAL(
        torc_shard_hear(&rig.pool, torc_hlc_from_us(WALL_US + 1000000), TORC_SHARD_MAX_AHEAD_US),
        TORC_ERR_OK);
    CU_ASSERT_EQUAL(torc_shard_hear(&rig.pool, rig.pool.hlc, TORC_SHARD_MAX_AHEAD_US), TORC_ERR_OK);
    CU_ASSERT_TRUE(torc_hlc_us(rig.pool.hlc) == WALL_US + 1000000);
    torc_shard_drop(&bench.shard);
}

static void test_conditions(void)
{
    struct torc_shard_write write;
    uint64_t version;

    bench_pool(100, CHUNKS);
    bench_open();
    put(5, "five");
    version = bench.outcomes[0].info;
    write = write_of(5, "x");
    write.condition = TORC_SHARD_IF_ABSENT;
    write.want_current = true;
    check_answer(write, TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(bench.outcome.info, version);
    CU_ASSERT_TRUE(bench.outcome.has_value);
    CU_ASSERT_EQUAL(bench.outcome.value_bytes, 4);
    CU_ASSERT_EQUAL(memcmp(bench.outcome.value, "five", 4), 0);
    write = write_of(6, "x");
    write.condition = TORC_SHARD_IF_PRESENT;
    check_answer(write, TORC_ERR_CONDITION_FAILED);
    CU_ASSERT_EQUAL(bench.outcome.info, 0);
    write.condition = TORC_SHARD_ANY; // the same seq: the same answer, whatever its body
    check_answer(write, TORC_ERR_CONDITION_FAILED);
    write = write_of(6, "");
    write.remove = true;
    check_answer(write, TORC_ERR_NOT_FOUND);
    put(6, "now it is there");
    check_answer(write, TORC_ERR_NOT_FOUND); // remembered (E5)
    write = write_of(5, "swapped");
    write.condition = TORC_SHARD_IF_VERSION;
    write.if_version = version + 1;
    check_answer(write, TORC_ERR_CONDITION_FAILED);
    write = write_of(5, "swapped");
    write.condition = TORC_SHARD_IF_VERSION;
    write.if_version = version;
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_APPEND);
    torc_shard_drop(&bench.shard); // pending: dropped without an answer
    CU_ASSERT_EQUAL(rig.pool.completions.result_used, 0);
}

// The next one whose turn it is must be this one.
static struct torc_shard_write *woken_is(uint64_t tag)
{
    struct torc_shard *shard = NULL;
    struct torc_shard_write *woken = torc_shard_woken(&rig.pool, &shard);

    torc_assert(woken != NULL);
    CU_ASSERT_PTR_EQUAL(shard, &bench.shard);
    CU_ASSERT_EQUAL(woken->tag, tag);
    return woken;
}

static void test_waiting_for_the_one_before(void)
{
    struct torc_shard_write first;
    struct torc_shard_write second;
    struct torc_shard_write *woken;
    struct torc_shard *shard;

    bench_pool(100, CHUNKS);
    bench_open();
    CU_ASSERT_EQUAL(send(write_of(5, "five")), TORC_SHARD_APPEND);
    first = write_of(5, "");
    first.remove = true;
    CU_ASSERT_EQUAL(send(first), TORC_SHARD_WAIT);
    check_answer(first, TORC_ERR_PENDING);
    second = write_of(5, "again");
    second.condition = TORC_SHARD_IF_ABSENT;
    CU_ASSERT_EQUAL(send(second), TORC_SHARD_WAIT);
    CU_ASSERT_PTR_NULL(torc_shard_woken(&rig.pool, &shard));
    CU_ASSERT_EQUAL(bench_commit(), 1);
    woken = woken_is(first.tag);
    CU_ASSERT_EQUAL(torc_shard_write(&bench.shard, woken, &bench.record, &bench.outcome),
                    TORC_SHARD_APPEND);
    bench_append();
    CU_ASSERT_PTR_NULL(torc_shard_woken(&rig.pool, &shard)); // the second waits for the first
    CU_ASSERT_EQUAL(bench_commit(), 1);
    woken = woken_is(second.tag);
    CU_ASSERT_EQUAL(memcmp(woken->value, "again", 5), 0);
    CU_ASSERT_PTR_NULL(torc_shard_woken(&rig.pool, &shard)); // not passed on: refused
    CU_ASSERT_TRUE(torc_shard_is_settled(&rig.pool));
    CU_ASSERT_EQUAL(bench.shard.tree.record_count, 0);
    torc_shard_drop(&bench.shard);
}

static void test_full_memory(void)
{
    static char large[100000];
    struct torc_shard_write write;
    uint32_t appended = 0;

    bench_pool(8, CHUNKS);
    bench_open();
    while (send(write_of(appended, "small")) == TORC_SHARD_APPEND) {
        appended++;
    }
    CU_ASSERT_EQUAL(bench.outcome.err, TORC_ERR_BUSY);
    CU_ASSERT_EQUAL(appended, 8);
    CU_ASSERT_EQUAL(bench_commit(), 8);
    memset(large, 'x', sizeof(large) - 1);
    do {
        write = write_of(++appended, large);
        if (send(write) != TORC_SHARD_APPEND) {
            break;
        }
        CU_ASSERT_EQUAL(bench_commit(), 1);
    } while (appended < 1000);
    CU_ASSERT_EQUAL(bench.outcome.err, TORC_ERR_NO_SPACE);
    CU_ASSERT_EQUAL(bench.outcome.info & 0xff, TORC_SHARD_REASON_MEMORY);
    put(3, "small ones go on, reads and deletes too");
    write = write_of(appended - 1, "");
    write.remove = true;
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_APPEND);
    CU_ASSERT_EQUAL(bench_commit(), 1);
    CU_ASSERT_EQUAL(send(write_of(appended, large)), TORC_SHARD_APPEND); // there is room again
    torc_shard_drop(&bench.shard);
    CU_ASSERT_EQUAL(rig.heap.block_count, 0);
}

// All that a principal may have remembered is of writes above one that was not done yet.
static void test_full_table_takes_the_oldest(void)
{
    struct torc_shard_write write;
    struct torc_shard_write oldest;
    uint32_t done = 0;

    bench_pool(8, CHUNKS);
    bench_open();
    oldest = write_of(1, "oldest");
    while (send(write_of(2, "later")) == TORC_SHARD_APPEND) {
        CU_ASSERT_EQUAL(bench_commit(), 1);
        done++;
    }
    CU_ASSERT_EQUAL(bench.outcome.err, TORC_ERR_BUSY);
    CU_ASSERT(done > 100);
    write = oldest;
    write.seq = bench.seq + 1;
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_ANSWER); // one more of them
    CU_ASSERT_EQUAL(bench.outcome.err, TORC_ERR_BUSY);
    CU_ASSERT_EQUAL(send(oldest), TORC_SHARD_APPEND);
    CU_ASSERT_EQUAL(bench_commit(), 1);
    write = write_of(3, "the first with nothing before it");
    write.low = write.seq;
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_APPEND); // and the others are forgotten
    CU_ASSERT_EQUAL(bench_commit(), 1);
    for (uint32_t i = 2; i < done; i++) {
        CU_ASSERT_EQUAL_FATAL(send(write_of(2, "later")), TORC_SHARD_APPEND);
        CU_ASSERT_EQUAL(bench_commit(), 1);
    }
    torc_shard_drop(&bench.shard);
}

static bool take_result(uint32_t principal, uint64_t client, uint64_t seq)
{
    struct torc_completion_client who = {.client = client, .principal = principal};
    struct torc_completion_result result = {.seq = seq, .err = TORC_ERR_NOT_FOUND};

    return torc_completion_fail(&bench.shard.completions, who, 1, &result, rig.pool.hlc);
}

// As many as it gets, of so many clients with a window of results each.
static uint32_t take_results(uint32_t principal, uint32_t clients, uint32_t window)
{
    uint32_t taken = 0;

    for (uint32_t i = 0; i < clients; i++) {
        for (uint32_t seq = 1; seq <= window; seq++) {
            taken += take_result(principal, 1000 * principal + i, seq) ? 1 : 0;
        }
    }
    return taken;
}

static void check_completions(void)
{
    struct torc_fail why;

    TORC_TEST_OK(torc_completion_check(&bench.shard.completions, &why), &why);
}

// n greedy principals have 1 / (n + 1) each, and so much is free: of results, of clients.
static void test_shares_of_principals(void)
{
    const struct torc_completion_pool *pool = &rig.pool.completions;
    uint32_t window[] = {100, 1};

    for (uint32_t kind = 0; kind < 2; kind++) {
        uint32_t max;

        bench_pool(8, CHUNKS);
        bench_open();
        max = kind == 0 ? pool->result_max : pool->entry_max;
        CU_ASSERT_EQUAL(take_results(1, 1000 / window[kind], window[kind]), max / 2);
        CU_ASSERT_EQUAL(take_results(2, 1000 / window[kind], window[kind]), (max - max / 2) / 2);
        for (uint32_t principal = 3; principal < 8; principal++) {
            CU_ASSERT(take_results(principal, 10, 1) > 0);
        }
        CU_ASSERT(!take_result(1, 4711, 1));
        CU_ASSERT(kind == 1 || take_results(0, 1000, 1) > max / 10); // everybody's has no share
        check_completions();
        torc_shard_drop(&bench.shard);
        CU_ASSERT_EQUAL(pool->result_used + pool->entry_used, 0);
        CU_ASSERT_EQUAL(pool->result_own + pool->entry_own, 0);
    }
}

// Whatever clients take, two thirds are there for what other replicas log.
static void test_room_for_other_replicas(void)
{
    static struct torc_completion_promise promises[2000];
    struct torc_completion_pool *pool = &rig.pool.completions;
    struct torc_completion_table other;
    struct torc_completion_client who = {.principal = 1};
    uint32_t taken = 0;

    bench_pool(8, CHUNKS);
    bench_open();
    torc_completion_init(&other, pool, 2, false);
    torc_completion_keep(pool);
    for (uint32_t principal = 0; principal < 20; principal++) {
        taken +=
            take_results(principal, principal % 2 == 0 ? 20 : 900, principal % 2 == 0 ? 40 : 1);
    }
    CU_ASSERT(taken > pool->result_max / 4 && taken <= pool->result_max / 3);
    taken = 0;
    for (uint32_t i = 0; i < pool->result_max / 3 * 2; i++) {
        who.client = i / 2;
        taken += torc_completion_reserve_logged(&other, who, 5, &promises[i]) ? 1 : 0;
        if (promises[i].entry) { // known from its first record on
            struct torc_completion_head head = {.who = who, .low = 1, .last_hlc = 5};

            CU_ASSERT_TRUE(torc_completion_apply(&other, &head, 1, &promises[i]));
        }
    }
    CU_ASSERT_EQUAL(taken, pool->result_max / 3 * 2);
    check_completions();
    for (uint32_t i = 0; i < taken; i++) {
        torc_completion_cancel(&other, &promises[i]);
    }
    torc_completion_drop(&other);
    torc_shard_drop(&bench.shard);
    CU_ASSERT_EQUAL(pool->result_used + pool->entry_used, 0);
    CU_ASSERT_EQUAL(pool->result_own + pool->entry_own, 0);
}

static bool log_client(struct torc_completion_table *table, uint32_t principal, uint64_t client)
{
    struct torc_completion_promise promise = {0};
    struct torc_completion_head head = {.who = {.client = client, .principal = principal},
                                        .low = 1,
                                        .last_hlc = torc_hlc_from_us(rig.pool.wall_us)};

    return torc_completion_reserve(table, head.who, false, head.last_hlc, &promise) &&
           torc_completion_apply(table, &head, 1, &promise);
}

// As many new clients as it gets.
static uint32_t log_clients(struct torc_completion_table *table, uint32_t principal)
{
    uint32_t count = 0;

    while (log_client(table, principal, 1000 * principal + count)) {
        count++;
    }
    return count;
}

// What another replica, or the log, knows of so many clients.
static void load_clients(uint32_t principal, uint32_t count)
{
    struct torc_completion_head head = {
        .who = {.principal = principal}, .low = 1, .last_hlc = torc_hlc_from_us(rig.pool.wall_us)};

    for (uint32_t i = 0; i < count; i++) {
        head.who.client = 500000 + i;
        CU_ASSERT_TRUE_FATAL(torc_completion_load(&bench.shard.completions, &head));
    }
}

static void open_replica(void)
{
    struct torc_shard_config config = bench_config(1, 0);
    struct torc_fail why;

    memset(&bench, 0, sizeof(bench));
    config.follows = true;
    TORC_TEST_OK(torc_shard_init(&bench.shard, &rig.pool, &config, &why), &why);
    torc_shard_follow(&bench.shard, 3);
}

static void lead_replica(uint32_t epoch)
{
    torc_shard_lead(&bench.shard, epoch, 0, &bench.record);
    bench_append();
    (void)torc_shard_commit_to(&bench.shard, bench.shard.next_lsn - 1, bench.outcomes, 8);
    torc_shard_serve(&bench.shard);
    check_completions();
}

// What a core led is no longer its own where another leads now: its shares are for what it leads.
static void test_own_leaves_with_the_lead(void)
{
    struct torc_completion_pool *pool = &rig.pool.completions;
    struct torc_completion_table other;

    bench_pool(100, CHUNKS);
    bench_open();
    torc_completion_init(&other, pool, 2, true); // which it goes on to lead
    CU_ASSERT_EQUAL(log_clients(&bench.shard.completions, 1), pool->entry_max / 2);
    CU_ASSERT_EQUAL(send(write_of(1, "pending")), TORC_SHARD_APPEND);
    CU_ASSERT_FALSE(log_client(&other, 1, 1));
    torc_shard_follow(&bench.shard, 4);
    check_completions();
    CU_ASSERT_EQUAL(pool->entry_own + pool->result_own, 0);
    CU_ASSERT_EQUAL(log_clients(&other, 1), pool->entry_max / 3 / 2);
    torc_completion_drop(&other);
    torc_shard_drop(&bench.shard);
    CU_ASSERT_EQUAL(pool->result_used + pool->entry_used, 0);
    CU_ASSERT_EQUAL(pool->result_own + pool->entry_own, 0);
}

// What a shard that it followed remembers is its own once it leads: then there may be more than its
// part, no new client gets in, and those that are known go on, one write at a time.
static void test_own_comes_with_the_lead(void)
{
    struct torc_completion_pool *pool = &rig.pool.completions;
    struct torc_completion_client known = {.client = 500000, .principal = 1};
    struct torc_completion_promise promise = {0};
    uint32_t calls = 0;

    bench_pool(100, CHUNKS);
    open_replica();
    load_clients(1, pool->entry_max / 2);
    CU_ASSERT_EQUAL(pool->entry_own, 0);
    lead_replica(4);
    while (torc_shard_tidy(&bench.shard)) {
        check_completions();
        CU_ASSERT_FATAL(++calls < 20);
    }
    check_completions();
    CU_ASSERT_EQUAL(pool->entry_own, pool->entry_max / 2);
    CU_ASSERT_FALSE(log_client(&bench.shard.completions, 1, 1));
    CU_ASSERT_FALSE(log_client(&bench.shard.completions, 2, 1));
    CU_ASSERT_TRUE(torc_completion_reserve(&bench.shard.completions, known, true, 5, &promise));
    torc_completion_cancel(&bench.shard.completions, &promise);
    torc_shard_follow(&bench.shard, 5);
    check_completions();
    CU_ASSERT_EQUAL(pool->entry_own + pool->result_own, 0);
    torc_shard_drop(&bench.shard);
    CU_ASSERT_EQUAL(pool->result_used + pool->entry_used, 0);
}

// A core that leads first, and follows later, has no more than its part before either.
static void test_a_leader_keeps_room_from_the_start(void)
{
    struct torc_completion_pool *pool = &rig.pool.completions;
    struct torc_completion_client known = {.client = 1000, .principal = 1};
    struct torc_completion_promise promise = {0};
    uint32_t taken = 0;

    bench_pool(100, CHUNKS);
    open_replica();
    lead_replica(4);
    for (uint32_t principal = 0; principal < 9; principal++) {
        taken += log_clients(&bench.shard.completions, (principal + 1) % 9); // 0: all that is left
    }
    CU_ASSERT_EQUAL(taken, pool->entry_max / 3);
    CU_ASSERT_TRUE(torc_completion_reserve(&bench.shard.completions, known, true, 5, &promise));
    torc_completion_cancel(&bench.shard.completions, &promise);
    torc_shard_drop(&bench.shard);
}

// What replay finds has the share that it had.
static void test_shares_outlive_a_restart(void)
{
    struct torc_completion_pool *pool = &rig.pool.completions;

    bench_pool(100, CHUNKS);
    bench_open();
    load_clients(1, pool->entry_max / 2);
    CU_ASSERT_FALSE(log_client(&bench.shard.completions, 1, 1));
    CU_ASSERT_EQUAL(log_clients(&bench.shard.completions, 2),
                    (pool->entry_max - pool->entry_max / 2) / 2);
    check_completions();
    torc_shard_drop(&bench.shard);
    CU_ASSERT_EQUAL(pool->result_own + pool->entry_own, 0);
}

static void test_old_clients_leave(void)
{
    bench_pool(100, CHUNKS);
    bench_open();
    put(1, "one");
    CU_ASSERT_EQUAL(bench.shard.completions.client_count, 1);
    rig.pool.wall_us += 119000000;
    CU_ASSERT_FALSE(torc_shard_idle(&bench.shard, &bench.record));
    rig.pool.wall_us += 2000000;
    // E4: an idle shard says so itself
    CU_ASSERT_TRUE(torc_shard_idle(&bench.shard, &bench.record));
    CU_ASSERT_EQUAL(bench.record.kind, TORC_LOG_EMPTY);
    bench_append();
    CU_ASSERT_EQUAL(bench_commit(), 0);
    CU_ASSERT_EQUAL(bench.shard.completions.client_count, 0);
    CU_ASSERT_FALSE(torc_shard_idle(&bench.shard, &bench.record));
    torc_shard_drop(&bench.shard);
}

// All the room for clients that is left is others'.
static void fill_with_clients(void)
{
    struct torc_completion_head head = {.who = {.client = 1000, .principal = 5},
                                        .low = 1,
                                        .last_hlc = torc_hlc_from_us(rig.pool.wall_us)};

    while (torc_completion_load(&bench.shard.completions, &head)) {
        head.who.client++;
    }
    CU_ASSERT(head.who.client > 1100);
}

static void check_shard(void)
{
    struct torc_fail why;

    TORC_TEST_OK(torc_shard_check(&bench.shard, &why), &why);
}

// However many have gone, one record is enough.
static void test_many_old_clients_leave(void)
{
    uint32_t calls = 0;

    bench_pool(100, CHUNKS);
    bench_open();
    put(1, "one");
    fill_with_clients();
    CU_ASSERT_FALSE(torc_shard_tidy(&bench.shard));
    rig.pool.wall_us += 121000000;
    CU_ASSERT_FALSE(torc_shard_tidy(&bench.shard)); // its log does not say so
    CU_ASSERT_TRUE(torc_shard_idle(&bench.shard, &bench.record));
    bench_append();
    CU_ASSERT_EQUAL(bench_commit(), 0);
    CU_ASSERT(bench.shard.completions.client_count > 200);
    do {
        CU_ASSERT_FATAL(++calls < 10);
    } while (torc_shard_tidy(&bench.shard));
    CU_ASSERT_EQUAL(bench.shard.completions.client_count, 0);
    CU_ASSERT_EQUAL(rig.pool.completions.entry_used, 0);
    CU_ASSERT_FALSE(torc_shard_idle(&bench.shard, &bench.record));
    torc_shard_drop(&bench.shard);
}

// X3: an earlier record's commit is later than the client's last use by more than the time to live.
static void test_pending_clients_stay(void)
{
    struct torc_shard_write write;

    bench_pool(100, CHUNKS);
    bench_open();
    put(1, "one");
    rig.pool.wall_us += 121000000;
    write = write_of(2, "another's");
    write.client = 78;
    write.stamp = torc_hlc_from_us(rig.pool.wall_us);
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_APPEND);
    CU_ASSERT_EQUAL(send(write_of(3, "after a pause")), TORC_SHARD_APPEND);
    CU_ASSERT_EQUAL(torc_shard_commit(&rig.pool, bench.sequence - 1, bench.outcomes, 8), 1);
    CU_ASSERT_EQUAL(bench.shard.completions.client_count, 2);
    check_shard();
    fill_with_clients();
    CU_ASSERT_EQUAL(bench_commit(), 1); // promised
    check_shard();
    torc_shard_drop(&bench.shard);
    CU_ASSERT_EQUAL(rig.pool.completions.entry_used, 0);
}

// X3: who has only a failure is forgotten with it when another node leads, but not under its write.
static void test_pending_clients_stay_with_followers(void)
{
    struct torc_shard_write write;

    bench_pool(100, CHUNKS);
    bench_open();
    put(1, "one");
    for (uint64_t client = 78; client < 80; client++) {
        write = write_of(2, "");
        write.client = client;
        write.remove = true;
        check_answer(write, TORC_ERR_NOT_FOUND);
    }
    write = write_of(3, "pending");
    write.client = 79;
    CU_ASSERT_EQUAL(send(write), TORC_SHARD_APPEND);
    torc_shard_follow(&bench.shard, 4);
    check_shard();
    CU_ASSERT_EQUAL(bench.shard.completions.client_count, 2); // 78 is gone
    CU_ASSERT_EQUAL(bench.shard.completions.result_count, 1);
    fill_with_clients();
    CU_ASSERT_EQUAL(torc_shard_commit_to(&bench.shard, bench.shard.next_lsn - 1, bench.outcomes, 8),
                    0);
    check_shard();
    torc_shard_drop(&bench.shard);
    CU_ASSERT_EQUAL(rig.pool.completions.entry_used, 0);
}

int main(void)
{
    CU_TestInfo tests[] = {
        {"refusals leave nothing behind", test_refusals},
        {"conditions, and their failures remembered", test_conditions},
        {"a conditional write waits for the one before", test_waiting_for_the_one_before},
        {"full memory refuses writes only", test_full_memory},
        {"a full table takes the oldest write", test_full_table_takes_the_oldest},
        {"principals share what is remembered", test_shares_of_principals},
        {"clients leave room for other replicas", test_room_for_other_replicas},
        {"what a core led is no longer its own", test_own_leaves_with_the_lead},
        {"what it leads now is", test_own_comes_with_the_lead},
        {"a leader keeps room from the start", test_a_leader_keeps_room_from_the_start},
        {"shares outlive a restart", test_shares_outlive_a_restart},
        {"old clients leave, also an idle shard", test_old_clients_leave},
        {"however many they are", test_many_old_clients_leave},
        {"clients of pending writes stay", test_pending_clients_stay},
        {"and when another node leads", test_pending_clients_stay_with_followers},
        CU_TEST_INFO_NULL};

    return bench_run("shard", tests);
}
