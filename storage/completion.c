// Torc storage: what is remembered of writes. See storage/completion.h.
#include "kit/hlc.h"
#include "storage/completion_impl.h"

#include <string.h>

#define NONE         TORC_COMPLETION_NONE
#define RESULTS_EACH 2u  // per client, on the average: half of the memory each
#define TABLES_BYTES 24u // hash tables, per client and its results: at most twice 4 B + 2 × 4 B
#define ALIGN_BYTES  64u
#define KEEP_STEP    torc_hlc_from_us(1000000) // less than any time to live

// -- The pool -----------------------------------------------------------------------------------

static uint32_t pool_entries(uint64_t bytes)
{
    uint64_t each = sizeof(struct torc_completion_entry) +
                    RESULTS_EACH * sizeof(struct torc_completion_done) + TABLES_BYTES;

    return (uint32_t)torc_min_u64(bytes / each, TORC_COMPLETION_CLIENT_MASK / RESULTS_EACH);
}

static uint32_t pool_table(uint32_t count)
{
    uint32_t size = 64;

    while (size < count) {
        size *= 2;
    }
    return size;
}

uint64_t torc_completion_pool_bytes(uint64_t bytes)
{
    uint32_t entries = pool_entries(bytes);
    uint32_t results = entries * RESULTS_EACH;
    uint64_t total = (uint64_t)entries * sizeof(struct torc_completion_entry) +
                     (uint64_t)results * sizeof(struct torc_completion_done) +
                     (uint64_t)(pool_table(entries) + pool_table(results)) * sizeof(uint32_t) +
                     TORC_COMPLETION_PRINCIPALS_MAX * sizeof(struct torc_completion_account);

    torc_assert(bytes >= TORC_COMPLETION_POOL_BYTES_MIN);
    return (total + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

void torc_completion_pool_init(struct torc_completion_pool *pool, void *memory, uint64_t bytes,
                               uint32_t principal_ppm, uint64_t seed)
{
    uint32_t entries = pool_entries(bytes);
    uint32_t results = entries * RESULTS_EACH;
    uint32_t entry_places = pool_table(entries);
    uint32_t result_places = pool_table(results);
    unsigned char *at = memory;

    torc_assert((uintptr_t)memory % ALIGN_BYTES == 0);
    torc_assert(principal_ppm <= TORC_COMPLETION_PPM);
    *pool = (struct torc_completion_pool){.seed = seed,
                                          .entry_mask = entry_places - 1,
                                          .result_mask = result_places - 1,
                                          .entry_max = entries,
                                          .result_max = results,
                                          .entry_free = NONE,
                                          .result_free = NONE,
                                          .principal_ppm = principal_ppm};
    pool->entries = (struct torc_completion_entry *)(void *)at;
    at += (uint64_t)entries * sizeof(*pool->entries);
    pool->results = (struct torc_completion_done *)(void *)at;
    at += (uint64_t)results * sizeof(*pool->results);
    pool->entry_table = (uint32_t *)(void *)at;
    at += (uint64_t)entry_places * sizeof(uint32_t);
    pool->result_table = (uint32_t *)(void *)at;
    at += (uint64_t)result_places * sizeof(uint32_t);
    pool->accounts = (struct torc_completion_account *)(void *)at;
    memset(pool->entry_table, 0xff, (uint64_t)entry_places * sizeof(uint32_t));
    memset(pool->result_table, 0xff, (uint64_t)result_places * sizeof(uint32_t));
    memset(pool->accounts, 0, TORC_COMPLETION_PRINCIPALS_MAX * sizeof(*pool->accounts));
}

void torc_completion_keep(struct torc_completion_pool *pool)
{
    pool->keeps = true;
}

void torc_completion_init(struct torc_completion_table *table, struct torc_completion_pool *pool,
                          uint32_t shard, bool owns)
{
    torc_assert(shard != NONE);
    *table = (struct torc_completion_table){
        .pool = pool, .shard = shard, .oldest = NONE, .newest = NONE, .owns = owns, .own_at = NONE};
}

// -- Whose it is --------------------------------------------------------------------------------

void torc_completion_own(struct torc_completion_table *table, bool owns)
{
    if (table->owns != owns) {
        table->owns = owns;
        table->own_at = 0;
    }
}

// By place, for the order of age changes as they are used.
bool torc_completion_own_more(struct torc_completion_table *table, uint32_t walk_max)
{
    const struct torc_completion_pool *pool = table->pool;

    if (table->own_at == NONE) {
        return false;
    }
    for (uint32_t i = 0; i < walk_max && table->own_at < pool->entry_fresh; i++) {
        if (pool->entries[table->own_at].shard == table->shard) {
            i += torc_completion_entry_own(table, table->own_at);
        }
        table->own_at++;
    }
    table->own_at = table->own_at < pool->entry_fresh ? table->own_at : NONE;
    return table->own_at != NONE;
}

void torc_completion_own_promise(struct torc_completion_table *table,
                                 struct torc_completion_promise *promise)
{
    if (promise->account != 0 && promise->own != table->owns) {
        promise->own = table->owns;
        torc_completion_account_own(table->pool, promise->account - 1u, promise->entry ? 1 : 0, 1,
                                    promise->own);
    }
}

// -- Asking and remembering ---------------------------------------------------------------------

enum torc_completion_answer torc_completion_find(const struct torc_completion_table *table,
                                                 struct torc_completion_client who, uint64_t seq,
                                                 struct torc_completion_result *result)
{
    const struct torc_completion_pool *pool = table->pool;
    uint32_t entry = torc_completion_entry_find(table, who);
    uint32_t index;

    if (entry == NONE) {
        return TORC_COMPLETION_UNKNOWN;
    }
    index = torc_completion_done_find(pool, entry, seq);
    if (index == NONE) {
        return seq < pool->entries[entry].seen_low ? TORC_COMPLETION_OLD : TORC_COMPLETION_UNKNOWN;
    }
    *result = (struct torc_completion_result){.seq = seq, .info = pool->results[index].info};
    switch (torc_completion_done_kind(&pool->results[index])) {
    case TORC_COMPLETION_KIND_LOGGED: result->err = TORC_ERR_OK; break;
    case TORC_COMPLETION_KIND_CONDITION_FAILED: result->err = TORC_ERR_CONDITION_FAILED; break;
    case TORC_COMPLETION_KIND_NOT_FOUND: result->err = TORC_ERR_NOT_FOUND; break;
    }
    return TORC_COMPLETION_DONE;
}

// X3: it does not leave by what is committed before a write of that HLC. Seldom more than a look:
// its place among the others need not be better than KEEP_STEP.
static void entry_keep(struct torc_completion_table *table, uint32_t index, uint64_t hlc)
{
    uint64_t used_hlc = table->pool->entries[index].used_hlc;

    if (hlc > used_hlc && hlc - used_hlc > KEEP_STEP) {
        torc_completion_entry_touch(table, index, hlc);
    }
}

static bool completion_promise(struct torc_completion_table *table,
                               struct torc_completion_want *want, uint64_t hlc,
                               struct torc_completion_promise *promise)
{
    uint16_t account;

    if (!torc_completion_account_take(table->pool, want, &account)) {
        return false;
    }
    if (want->known != NONE) {
        entry_keep(table, want->known, hlc);
    }
    *promise = (struct torc_completion_promise){
        .account = (uint16_t)(account + 1), .entry = want->entry, .own = want->own};
    return true;
}

bool torc_completion_reserve(struct torc_completion_table *table, struct torc_completion_client who,
                             bool oldest, uint64_t hlc, struct torc_completion_promise *promise)
{
    uint32_t entry = torc_completion_entry_find(table, who);
    struct torc_completion_want want = {
        .principal = who.principal,
        .known = entry,
        .entry = entry == NONE,
        .result = true,
        .own = table->owns,
        .from = entry == NONE || !oldest ? TORC_COMPLETION_FROM_SHARE : TORC_COMPLETION_FROM_ANY};

    return completion_promise(table, &want, hlc, promise);
}

bool torc_completion_reserve_logged(struct torc_completion_table *table,
                                    struct torc_completion_client who, uint64_t hlc,
                                    struct torc_completion_promise *promise)
{
    uint32_t entry = torc_completion_entry_find(table, who);
    struct torc_completion_want want = {.principal = who.principal,
                                        .known = entry,
                                        .entry = entry == NONE,
                                        .result = true,
                                        .own = table->owns};

    return completion_promise(table, &want, hlc, promise);
}

void torc_completion_keep_client(struct torc_completion_table *table,
                                 struct torc_completion_client who, uint64_t hlc)
{
    uint32_t entry = torc_completion_entry_find(table, who);

    if (entry != NONE) {
        entry_keep(table, entry, hlc);
    }
}

bool torc_completion_is_promised(const struct torc_completion_table *table,
                                 struct torc_completion_client who,
                                 const struct torc_completion_promise *promise)
{
    return promise->account != 0 &&
           (promise->entry || torc_completion_entry_find(table, who) != NONE);
}

void torc_completion_cancel(struct torc_completion_table *table,
                            struct torc_completion_promise *promise)
{
    if (promise->account != 0) {
        torc_completion_account_give_result(table->pool, promise->account - 1u, promise->own);
    }
    if (promise->entry) {
        torc_completion_account_give_entry(table->pool, promise->account - 1u, promise->own);
    }
    *promise = (struct torc_completion_promise){0};
}

void torc_completion_seen(struct torc_completion_table *table, struct torc_completion_client who,
                          uint64_t low)
{
    uint32_t entry = torc_completion_entry_find(table, who);

    if (entry != NONE) {
        torc_completion_entry_raise(table, entry, low, false);
    }
}

bool torc_completion_fail(struct torc_completion_table *table, struct torc_completion_client who,
                          uint64_t low, const struct torc_completion_result *result, uint64_t hlc)
{
    uint32_t entry = torc_completion_entry_find(table, who);
    struct torc_completion_want want = {.principal = who.principal,
                                        .known = entry,
                                        .entry = entry == NONE,
                                        .result = true,
                                        .own = table->owns,
                                        .from = entry == NONE || result->seq != low
                                                    ? TORC_COMPLETION_FROM_SHARE
                                                    : TORC_COMPLETION_FROM_ANY};
    uint16_t account;

    torc_assert(result->err == TORC_ERR_CONDITION_FAILED || result->err == TORC_ERR_NOT_FOUND);
    if (!torc_completion_account_take(table->pool, &want, &account)) {
        return false;
    }
    if (entry == NONE) {
        entry = torc_completion_entry_add(table, who, account, want.own);
    }
    torc_completion_entry_touch(table, entry, hlc);
    torc_completion_entry_raise(table, entry, low, false);
    torc_completion_done_add(
        table, entry,
        &(struct torc_completion_what){.seq = result->seq,
                                       .info = result->info,
                                       .kind = result->err == TORC_ERR_NOT_FOUND
                                                   ? TORC_COMPLETION_KIND_NOT_FOUND
                                                   : TORC_COMPLETION_KIND_CONDITION_FAILED,
                                       .own = want.own});
    return true;
}

// The client, made if need be out of the promise, or out of what is free.
static uint32_t entry_need(struct torc_completion_table *table, struct torc_completion_client who,
                           struct torc_completion_promise *promise)
{
    uint32_t entry = torc_completion_entry_find(table, who);
    struct torc_completion_want want = {
        .principal = who.principal, .known = NONE, .entry = true, .own = table->owns};
    uint16_t account;

    if (entry != NONE) {
        return entry;
    }
    if (promise->entry) {
        promise->entry = false;
        return torc_completion_entry_add(table, who, (uint16_t)(promise->account - 1),
                                         promise->own);
    }
    // Replay, or a checkpoint's: nothing was promised.
    if (!torc_completion_account_take(table->pool, &want, &account)) {
        return NONE;
    }
    return torc_completion_entry_add(table, who, account, table->owns);
}

bool torc_completion_load(struct torc_completion_table *table,
                          const struct torc_completion_head *head)
{
    struct torc_completion_promise none = {0};
    uint32_t index = entry_need(table, head->who, &none);

    if (index == NONE) {
        return false;
    }
    table->pool->entries[index].last_hlc =
        torc_max_u64(table->pool->entries[index].last_hlc, head->last_hlc);
    torc_completion_entry_touch(table, index, head->last_hlc);
    torc_completion_entry_raise(table, index, head->low, true);
    return true;
}

bool torc_completion_apply(struct torc_completion_table *table,
                           const struct torc_completion_head *head, uint64_t seq,
                           struct torc_completion_promise *promise)
{
    struct torc_completion_pool *pool = table->pool;
    uint32_t index = entry_need(table, head->who, promise);
    struct torc_completion_want want = {
        .principal = head->who.principal, .known = index, .result = true, .own = table->owns};
    uint32_t done;
    uint16_t account;
    bool own;

    if (index == NONE) {
        return false;
    }
    pool->entries[index].last_hlc = torc_max_u64(pool->entries[index].last_hlc, head->last_hlc);
    torc_completion_entry_touch(table, index, head->last_hlc);
    torc_completion_entry_raise(table, index, head->low, true);
    done = torc_completion_done_find(pool, index, seq);
    if (done != NONE) {
        // Replay over a checkpoint that has it already.
        torc_assert(torc_completion_done_kind(&pool->results[done]) == TORC_COMPLETION_KIND_LOGGED);
        pool->results[done].info = head->last_hlc;
    } else if (seq >= pool->entries[index].low) {
        if (promise->account == 0 && !torc_completion_account_take(pool, &want, &account)) {
            return false;
        }
        own = promise->account == 0 ? want.own : promise->own;
        if (promise->entry) {
            torc_completion_account_give_entry(pool, promise->account - 1u, promise->own);
        }
        torc_completion_done_add(table, index,
                                 &(struct torc_completion_what){.seq = seq,
                                                                .info = head->last_hlc,
                                                                .kind = TORC_COMPLETION_KIND_LOGGED,
                                                                .own = own});
        *promise = (struct torc_completion_promise){0};
    }
    torc_completion_cancel(table, promise);
    return true;
}

// Merges two lists, linked by `newer`, by age.
static uint32_t age_merge(struct torc_completion_pool *pool, uint32_t a, uint32_t b)
{
    uint32_t head = NONE;
    uint32_t *link = &head;

    while (a != NONE && b != NONE) {
        uint32_t *next = pool->entries[b].used_hlc < pool->entries[a].used_hlc ? &b : &a;

        *link = *next;
        link = &pool->entries[*next].newer;
        *next = *link;
    }
    *link = a == NONE ? b : a;
    return head;
}

void torc_completion_sort(struct torc_completion_table *table)
{
    struct torc_completion_pool *pool = table->pool;
    uint32_t lists[32]; // lists[i] has 2^i clients, or none
    uint32_t all = NONE;
    uint32_t next;

    pool->sort_count++;
    memset(lists, 0xff, sizeof(lists));
    for (uint32_t at = table->oldest; at != NONE; at = next) {
        uint32_t list = at;
        uint32_t i = 0;

        next = pool->entries[at].newer;
        pool->entries[at].newer = NONE;
        for (; lists[i] != NONE; i++) {
            list = age_merge(pool, lists[i], list);
            lists[i] = NONE;
        }
        lists[i] = list;
    }
    for (uint32_t i = 0; i < TORC_COUNT_OF(lists); i++) {
        all = age_merge(pool, lists[i], all);
    }
    table->oldest = all;
    table->newest = NONE;
    for (uint32_t at = all; at != NONE; at = pool->entries[at].newer) {
        pool->entries[at].older = table->newest;
        table->newest = at;
    }
}

bool torc_completion_expire(struct torc_completion_table *table, uint64_t hlc, uint32_t count_max)
{
    const struct torc_completion_pool *pool = table->pool;

    for (uint32_t i = 0; i < count_max; i++) {
        if (table->oldest == NONE || pool->entries[table->oldest].used_hlc >= hlc) {
            return false;
        }
        torc_completion_entry_remove(table, table->oldest);
    }
    return table->oldest != NONE && pool->entries[table->oldest].used_hlc < hlc;
}

uint64_t torc_completion_oldest_hlc(const struct torc_completion_table *table)
{
    return table->oldest == NONE ? UINT64_MAX : table->pool->entries[table->oldest].used_hlc;
}

// A client as its logged records left it: without any it is the oldest.
static void entry_forget_failures(struct torc_completion_table *table, uint32_t entry_index)
{
    struct torc_completion_pool *pool = table->pool;
    struct torc_completion_entry *entry = &pool->entries[entry_index];

    for (uint32_t index = entry->first; index != NONE;) {
        uint32_t next = pool->results[index].next;

        if (torc_completion_done_kind(&pool->results[index]) != TORC_COMPLETION_KIND_LOGGED) {
            torc_completion_done_remove(table, index);
        }
        index = next;
    }
    entry->seen_low = entry->low;
    entry->used_hlc = entry->last_hlc;
}

void torc_completion_forget_failures(struct torc_completion_table *table)
{
    for (uint32_t index = table->oldest; index != NONE; index = table->pool->entries[index].newer) {
        entry_forget_failures(table, index);
        (void)torc_completion_entry_own(table, index);
    }
    table->own_at = NONE;
    torc_completion_sort(table);
}

void torc_completion_drop(struct torc_completion_table *table)
{
    while (table->oldest != NONE) {
        torc_completion_entry_remove(table, table->oldest);
    }
    torc_assert(table->client_count == 0);
    torc_assert(table->result_count == 0);
}
