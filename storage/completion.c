// Torc storage: what is remembered of writes. See storage/completion.h.
#include "storage/completion.h"

#include "kit/bugs.h"
#include "kit/hlc.h"

#include <string.h>

#define KEPT_PART    64u // of the own results are kept for writes that let others go
#define COPIES       3u  // that a core is thought to have of what all cores' own clients have
#define NONE         TORC_COMPLETION_NONE
#define CLIENT_BITS  29u
#define CLIENT_MASK  ((1u << CLIENT_BITS) - 1u)
#define KIND_MASK    3u
#define DONE_OWN     (1u << 31)
#define ENTRY_OWN    0x8000u
#define ACCOUNT_MASK 0x7fffu
#define PPM          1000000u
#define RESULTS_EACH 2u  // per client, on the average: half of the memory each
#define TABLES_BYTES 24u // hash tables, per client and its results: at most twice 4 B + 2 × 4 B
#define ALIGN_BYTES  64u
#define KEEP_STEP    torc_hlc_from_us(1000000) // less than any time to live

struct torc_completion_entry {
    uint64_t client;
    uint64_t low;       // logged
    uint64_t seen_low;  // >= low
    uint64_t last_hlc;  // of its last logged record; 0: none
    uint64_t used_hlc;  // of that or its last failure
    uint32_t shard;     // NONE: free
    uint32_t hash_next; // or of the free list
    uint32_t older;
    uint32_t newer;
    uint32_t first; // of its results
    uint16_t count;
    uint16_t account; // with ENTRY_OWN
};

_Static_assert(sizeof(struct torc_completion_entry) == 64, "a cache line");

enum done_kind {
    DONE_LOGGED,
    DONE_CONDITION_FAILED,
    DONE_NOT_FOUND,
};

struct torc_completion_done {
    uint64_t seq;
    uint64_t info;
    uint32_t entry;     // with enum done_kind above CLIENT_BITS, and DONE_OWN
    uint32_t hash_next; // or of the free list
    uint32_t next;
    uint32_t prev; // NONE: the first
};

_Static_assert(sizeof(struct torc_completion_done) == 32, "half a cache line");

struct torc_completion_account {
    uint32_t principal;
    uint32_t entry_used; // promised ones included; 0 both: free
    uint32_t result_used;
    uint32_t entry_own; // of them, by clients of this core
    uint32_t result_own;
};

// -- The pool -----------------------------------------------------------------------------------

static uint32_t pool_entries(uint64_t bytes)
{
    uint64_t each = sizeof(struct torc_completion_entry) +
                    RESULTS_EACH * sizeof(struct torc_completion_done) + TABLES_BYTES;

    return (uint32_t)torc_min_u64(bytes / each, CLIENT_MASK / RESULTS_EACH);
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
    torc_assert(principal_ppm <= PPM);
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
                          uint32_t shard)
{
    torc_assert(shard != NONE);
    *table = (struct torc_completion_table){
        .pool = pool, .shard = shard, .oldest = NONE, .newest = NONE};
}

static uint64_t pool_mix(const struct torc_completion_pool *pool, uint64_t a, uint64_t b)
{
    uint64_t mixed = (a ^ pool->seed) * 0x9e3779b97f4a7c15u;

    mixed = (mixed ^ (mixed >> 29) ^ b) * 0xbf58476d1ce4e5b9u;
    return (mixed ^ (mixed >> 32)) * 0x94d049bb133111ebu >> 20;
}

// -- Accounts -----------------------------------------------------------------------------------

static bool account_is_free(const struct torc_completion_account *account)
{
    return account->entry_used == 0 && account->result_used == 0;
}

// The principal's account, or a free one for it; NULL: all are taken by others.
static struct torc_completion_account *account_find(const struct torc_completion_pool *pool,
                                                    uint32_t principal)
{
    uint32_t start = (uint32_t)pool_mix(pool, principal, 0) % TORC_COMPLETION_PRINCIPALS_MAX;
    struct torc_completion_account *found = NULL;

    for (uint32_t i = 0; i < TORC_COMPLETION_PRINCIPALS_MAX; i++) {
        struct torc_completion_account *account =
            &pool->accounts[(start + i) % TORC_COMPLETION_PRINCIPALS_MAX];

        if (account_is_free(account)) {
            found = found == NULL ? account : found;
        } else if (account->principal == principal) {
            return account;
        }
    }
    return found;
}

// Whose room it is to be.
enum account_from {
    ACCOUNT_ANY,   // what others logged, or must not fail: all that there is
    ACCOUNT_OWN,   // a client's of this core: the own part
    ACCOUNT_SHARE, // and of that its principal's share, and not the last of it
};

// What is to be counted for a principal.
struct account_want {
    uint32_t principal;
    uint32_t known; // one of its entries, which names its account; NONE: it is looked for
    bool entry;
    bool result;
    bool own; // counted as a client's of this core
    enum account_from from;
};

static struct torc_completion_account *account_of(const struct torc_completion_pool *pool,
                                                  uint32_t entry)
{
    return &pool->accounts[pool->entries[entry].account & ACCOUNT_MASK];
}

// Whether a principal that has `has` of the own part, `used` of which is taken, may have one more.
static bool share_allows(const struct torc_completion_pool *pool, uint32_t principal, uint32_t has,
                         uint32_t used, uint32_t max)
{
    uint64_t left = used < max ? max - used - 1 : 0;

    return principal == 0 ||
           (has + UINT64_C(1)) * (PPM - pool->principal_ppm) <= left * pool->principal_ppm;
}

static bool account_allows(const struct torc_completion_pool *pool,
                           const struct torc_completion_account *account,
                           const struct account_want *want)
{
    uint32_t entry_max = pool->keeps ? pool->entry_max / COPIES : pool->entry_max;
    uint32_t result_max = pool->keeps ? pool->result_max / COPIES : pool->result_max;
    uint32_t entries = want->entry ? 1 : 0;
    uint32_t results = want->result ? 1 : 0;

    if (pool->entry_used + entries > pool->entry_max ||
        pool->result_used + results > pool->result_max) {
        return false;
    }
    if (want->from == ACCOUNT_ANY) {
        return true;
    }
    if ((want->entry && pool->entry_own >= entry_max) ||
        (want->result && pool->result_own >= result_max)) {
        return false;
    }
    if (want->from == ACCOUNT_OWN) {
        return true;
    }
    return pool->result_own + results <= result_max - result_max / KEPT_PART &&
           (!want->entry ||
            share_allows(pool, want->principal, account->entry_own, pool->entry_own, entry_max)) &&
           (!want->result ||
            share_allows(pool, want->principal, account->result_own, pool->result_own, result_max));
}

static bool account_take(struct torc_completion_pool *pool, const struct account_want *want,
                         uint16_t *index)
{
    struct torc_completion_account *account =
        want->known == NONE ? account_find(pool, want->principal) : account_of(pool, want->known);
    uint32_t entries = want->entry ? 1 : 0;
    uint32_t results = want->result ? 1 : 0;

    if (account == NULL || !account_allows(pool, account, want)) {
        return false;
    }
    torc_assert_implies(want->known != NONE, account->principal == want->principal);
    account->principal = want->principal;
    account->entry_used += entries;
    account->result_used += results;
    pool->entry_used += entries;
    pool->result_used += results;
    if (want->own) {
        account->entry_own += entries;
        account->result_own += results;
        pool->entry_own += entries;
        pool->result_own += results;
    }
    *index = (uint16_t)(account - pool->accounts);
    return true;
}

static void account_give_entry(struct torc_completion_pool *pool, uint32_t index, bool own)
{
    struct torc_completion_account *account = &pool->accounts[index];
    uint32_t owns = own ? 1 : 0;

    torc_assert(account->entry_used > 0 && account->entry_own >= owns);
    account->entry_used--;
    account->entry_own -= owns;
    pool->entry_used--;
    pool->entry_own -= owns;
}

static void account_give_result(struct torc_completion_pool *pool, uint32_t index, bool own)
{
    struct torc_completion_account *account = &pool->accounts[index];
    uint32_t owns = own ? 1 : 0;

    torc_assert(account->result_used > 0 && account->result_own >= owns);
    account->result_used--;
    account->result_own -= owns;
    pool->result_used--;
    pool->result_own -= owns;
}

// -- Entries ------------------------------------------------------------------------------------

static uint32_t *entry_bucket(const struct torc_completion_table *table,
                              struct torc_completion_client who)
{
    const struct torc_completion_pool *pool = table->pool;
    uint64_t mixed = pool_mix(pool, who.client, ((uint64_t)table->shard << 32) | who.principal);

    return &pool->entry_table[mixed & pool->entry_mask];
}

static bool entry_is(const struct torc_completion_table *table, uint32_t index,
                     struct torc_completion_client who)
{
    const struct torc_completion_entry *entry = &table->pool->entries[index];

    return entry->client == who.client && entry->shard == table->shard &&
           account_of(table->pool, index)->principal == who.principal;
}

// The newest is tried first: a client's writes come in packets of many.
static uint32_t entry_find(const struct torc_completion_table *table,
                           struct torc_completion_client who)
{
    uint32_t index = table->newest;

    if (index != NONE && entry_is(table, index, who)) {
        return index;
    }
    index = *entry_bucket(table, who);
    while (index != NONE && !entry_is(table, index, who)) {
        index = table->pool->entries[index].hash_next;
    }
    return index;
}

static void entry_unlink_age(struct torc_completion_table *table, uint32_t index)
{
    struct torc_completion_pool *pool = table->pool;
    struct torc_completion_entry *entry = &pool->entries[index];

    if (entry->older == NONE) {
        table->oldest = entry->newer;
    } else {
        pool->entries[entry->older].newer = entry->newer;
    }
    if (entry->newer == NONE) {
        table->newest = entry->older;
    } else {
        pool->entries[entry->newer].older = entry->older;
    }
}

static void entry_link_newest(struct torc_completion_table *table, uint32_t index)
{
    struct torc_completion_pool *pool = table->pool;
    struct torc_completion_entry *entry = &pool->entries[index];

    entry->older = table->newest;
    entry->newer = NONE;
    if (table->newest == NONE) {
        table->oldest = index;
    } else {
        pool->entries[table->newest].newer = index;
    }
    table->newest = index;
}

// Used now: it is the last to leave. (Failures are stamped by the clock, records when they were
// logged, so two neighbours may stand the wrong way round for as long as a commit takes.)
static void entry_touch(struct torc_completion_table *table, uint32_t index, uint64_t hlc)
{
    struct torc_completion_entry *entry = &table->pool->entries[index];

    entry->used_hlc = torc_max_u64(entry->used_hlc, hlc);
    if (table->newest != index) {
        entry_unlink_age(table, index);
        entry_link_newest(table, index);
    }
}

// A new client, whose room is counted for already, as own or not.
static uint32_t entry_add(struct torc_completion_table *table, struct torc_completion_client who,
                          uint16_t account, bool own)
{
    struct torc_completion_pool *pool = table->pool;
    uint32_t *bucket = entry_bucket(table, who);
    uint32_t index = pool->entry_free;

    if (index == NONE) {
        torc_assert(pool->entry_fresh < pool->entry_max);
        index = pool->entry_fresh++;
    } else {
        pool->entry_free = pool->entries[index].hash_next;
    }
    pool->entries[index] =
        (struct torc_completion_entry){.client = who.client,
                                       .shard = table->shard,
                                       .hash_next = *bucket,
                                       .first = NONE,
                                       .account = (uint16_t)(account | (own ? ENTRY_OWN : 0))};
    *bucket = index;
    entry_link_newest(table, index);
    table->client_count++;
    return index;
}

// -- Results ------------------------------------------------------------------------------------

struct done_what {
    uint64_t seq;
    uint64_t info;
    enum done_kind kind;
    bool own;
};

// A client's results lie side by side, where its next one will be looked for; who shares a place
// with whom depends on the seed.
static uint32_t *done_bucket(const struct torc_completion_pool *pool, uint32_t entry, uint64_t seq)
{
    return &pool->result_table[(pool_mix(pool, entry, 0) + seq) & pool->result_mask];
}

static uint32_t done_find(const struct torc_completion_pool *pool, uint32_t entry, uint64_t seq)
{
    uint32_t index = *done_bucket(pool, entry, seq);

    while (index != NONE) {
        const struct torc_completion_done *done = &pool->results[index];

        if (done->seq == seq && (done->entry & CLIENT_MASK) == entry) {
            break;
        }
        index = done->hash_next;
    }
    return index;
}

static enum done_kind done_kind(const struct torc_completion_done *done)
{
    return (enum done_kind)(done->entry >> CLIENT_BITS & KIND_MASK);
}

// A new result, whose room is counted for already, as own or not.
static void done_add(struct torc_completion_table *table, uint32_t entry_index,
                     const struct done_what *what)
{
    uint64_t seq = what->seq;
    struct torc_completion_pool *pool = table->pool;
    struct torc_completion_entry *entry = &pool->entries[entry_index];
    uint32_t *bucket = done_bucket(pool, entry_index, seq);
    uint32_t index = pool->result_free;

    if (index == NONE) {
        torc_assert(pool->result_fresh < pool->result_max);
        index = pool->result_fresh++;
    } else {
        pool->result_free = pool->results[index].hash_next;
    }
    torc_assert(entry->count < UINT16_MAX);
    pool->results[index] = (struct torc_completion_done){
        .seq = seq,
        .info = what->info,
        .entry = entry_index | (uint32_t)what->kind << CLIENT_BITS | (what->own ? DONE_OWN : 0),
        .hash_next = *bucket,
        .next = entry->first,
        .prev = NONE};
    if (entry->first != NONE) {
        pool->results[entry->first].prev = index;
    }
    *bucket = index;
    entry->first = index;
    entry->count++;
    table->result_count++;
}

static void done_remove(struct torc_completion_table *table, uint32_t index)
{
    struct torc_completion_pool *pool = table->pool;
    struct torc_completion_done *done = &pool->results[index];
    uint32_t entry_index = done->entry & CLIENT_MASK;
    struct torc_completion_entry *entry = &pool->entries[entry_index];
    bool own = (done->entry & DONE_OWN) != 0;
    uint32_t *link = done_bucket(pool, entry_index, done->seq);

    while (*link != index) {
        torc_assert(*link != NONE);
        link = &pool->results[*link].hash_next;
    }
    *link = done->hash_next;
    if (done->prev == NONE) {
        entry->first = done->next;
    } else {
        pool->results[done->prev].next = done->next;
    }
    if (done->next != NONE) {
        pool->results[done->next].prev = done->prev;
    }
    done->hash_next = pool->result_free;
    done->entry = NONE;
    pool->result_free = index;
    entry->count--;
    table->result_count--;
    account_give_result(pool, entry->account & ACCOUNT_MASK, own);
}

// Whether a client's lows have passed this result.
static bool done_is_past(const struct torc_completion_entry *entry,
                         const struct torc_completion_done *done)
{
    bool logged = done_kind(done) == DONE_LOGGED &&
                  !(done->seq < entry->seen_low && TORC_BUG(COMPLETIONS_LOST));

    return done->seq < (logged ? entry->low : entry->seen_low);
}

// Drops what lies below the lows, which were at least `from` before: by number where that is
// shorter than the list, so that all the steps of a low cost no more than one each.
static void entry_sweep(struct torc_completion_table *table, uint32_t entry_index, uint64_t from)
{
    struct torc_completion_pool *pool = table->pool;
    struct torc_completion_entry *entry = &pool->entries[entry_index];

    if (entry->seen_low - from < entry->count) {
        for (uint64_t seq = from; seq < entry->seen_low; seq++) {
            uint32_t index = done_find(pool, entry_index, seq);

            if (index != NONE && done_is_past(entry, &pool->results[index])) {
                done_remove(table, index);
            }
        }
        return;
    }
    for (uint32_t index = entry->first; index != NONE;) {
        uint32_t next = pool->results[index].next;

        if (done_is_past(entry, &pool->results[index])) {
            done_remove(table, index);
        }
        index = next;
    }
}

static void entry_raise(struct torc_completion_table *table, uint32_t entry_index, uint64_t low,
                        bool logged)
{
    struct torc_completion_entry *entry = &table->pool->entries[entry_index];
    uint64_t from = logged ? entry->low : entry->seen_low;

    if (low <= from) {
        return;
    }
    if (logged) {
        entry->low = low;
    }
    entry->seen_low = torc_max_u64(entry->seen_low, low);
    if (entry->count > 0) {
        entry_sweep(table, entry_index, from);
    }
}

static void entry_remove(struct torc_completion_table *table, uint32_t index)
{
    struct torc_completion_pool *pool = table->pool;
    struct torc_completion_entry *entry = &pool->entries[index];
    struct torc_completion_client who = {.client = entry->client,
                                         .principal = account_of(pool, index)->principal};
    uint32_t *link = entry_bucket(table, who);

    while (entry->first != NONE) {
        done_remove(table, entry->first);
    }
    while (*link != index) {
        torc_assert(*link != NONE);
        link = &pool->entries[*link].hash_next;
    }
    *link = entry->hash_next;
    entry_unlink_age(table, index);
    account_give_entry(pool, entry->account & ACCOUNT_MASK, (entry->account & ENTRY_OWN) != 0);
    entry->shard = NONE;
    entry->hash_next = pool->entry_free;
    pool->entry_free = index;
    table->client_count--;
}

// -- Asking and remembering ---------------------------------------------------------------------

enum torc_completion_answer torc_completion_find(const struct torc_completion_table *table,
                                                 struct torc_completion_client who, uint64_t seq,
                                                 struct torc_completion_result *result)
{
    const struct torc_completion_pool *pool = table->pool;
    uint32_t entry = entry_find(table, who);
    uint32_t index;

    if (entry == NONE) {
        return TORC_COMPLETION_UNKNOWN;
    }
    index = done_find(pool, entry, seq);
    if (index == NONE) {
        return seq < pool->entries[entry].seen_low ? TORC_COMPLETION_OLD : TORC_COMPLETION_UNKNOWN;
    }
    *result = (struct torc_completion_result){.seq = seq, .info = pool->results[index].info};
    switch (done_kind(&pool->results[index])) {
    case DONE_LOGGED: result->err = TORC_ERR_OK; break;
    case DONE_CONDITION_FAILED: result->err = TORC_ERR_CONDITION_FAILED; break;
    case DONE_NOT_FOUND: result->err = TORC_ERR_NOT_FOUND; break;
    }
    return TORC_COMPLETION_DONE;
}

// X3: it does not leave by what is committed before a write of that HLC. Seldom more than a look:
// its place among the others need not be better than KEEP_STEP.
static void entry_keep(struct torc_completion_table *table, uint32_t index, uint64_t hlc)
{
    uint64_t used_hlc = table->pool->entries[index].used_hlc;

    if (hlc > used_hlc && hlc - used_hlc > KEEP_STEP) {
        entry_touch(table, index, hlc);
    }
}

static bool completion_promise(struct torc_completion_table *table, struct account_want *want,
                               uint64_t hlc, struct torc_completion_promise *promise)
{
    uint16_t account;

    if (!account_take(table->pool, want, &account)) {
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
    uint32_t entry = entry_find(table, who);
    struct account_want want = {.principal = who.principal,
                                .known = entry,
                                .entry = entry == NONE,
                                .result = true,
                                .own = true,
                                .from = entry == NONE || !oldest ? ACCOUNT_SHARE : ACCOUNT_OWN};

    return completion_promise(table, &want, hlc, promise);
}

bool torc_completion_reserve_logged(struct torc_completion_table *table,
                                    struct torc_completion_client who, uint64_t hlc,
                                    struct torc_completion_promise *promise)
{
    uint32_t entry = entry_find(table, who);
    struct account_want want = {
        .principal = who.principal, .known = entry, .entry = entry == NONE, .result = true};

    return completion_promise(table, &want, hlc, promise);
}

void torc_completion_keep_client(struct torc_completion_table *table,
                                 struct torc_completion_client who, uint64_t hlc)
{
    uint32_t entry = entry_find(table, who);

    if (entry != NONE) {
        entry_keep(table, entry, hlc);
    }
}

bool torc_completion_is_promised(const struct torc_completion_table *table,
                                 struct torc_completion_client who,
                                 const struct torc_completion_promise *promise)
{
    return promise->account != 0 && (promise->entry || entry_find(table, who) != NONE);
}

void torc_completion_cancel(struct torc_completion_table *table,
                            struct torc_completion_promise *promise)
{
    if (promise->account != 0) {
        account_give_result(table->pool, promise->account - 1u, promise->own);
    }
    if (promise->entry) {
        account_give_entry(table->pool, promise->account - 1u, promise->own);
    }
    *promise = (struct torc_completion_promise){0};
}

void torc_completion_seen(struct torc_completion_table *table, struct torc_completion_client who,
                          uint64_t low)
{
    uint32_t entry = entry_find(table, who);

    if (entry != NONE) {
        entry_raise(table, entry, low, false);
    }
}

bool torc_completion_fail(struct torc_completion_table *table, struct torc_completion_client who,
                          uint64_t low, const struct torc_completion_result *result, uint64_t hlc)
{
    uint32_t entry = entry_find(table, who);
    struct account_want want = {.principal = who.principal,
                                .known = entry,
                                .entry = entry == NONE,
                                .result = true,
                                .own = true,
                                .from = entry == NONE || result->seq != low ? ACCOUNT_SHARE
                                                                            : ACCOUNT_OWN};
    uint16_t account;

    torc_assert(result->err == TORC_ERR_CONDITION_FAILED || result->err == TORC_ERR_NOT_FOUND);
    if (!account_take(table->pool, &want, &account)) {
        return false;
    }
    if (entry == NONE) {
        entry = entry_add(table, who, account, true);
    }
    entry_touch(table, entry, hlc);
    entry_raise(table, entry, low, false);
    done_add(table, entry,
             &(struct done_what){.seq = result->seq,
                                 .info = result->info,
                                 .kind = result->err == TORC_ERR_NOT_FOUND ? DONE_NOT_FOUND
                                                                           : DONE_CONDITION_FAILED,
                                 .own = true});
    return true;
}

// The client, made if need be out of the promise, or out of what is free.
static uint32_t entry_need(struct torc_completion_table *table, struct torc_completion_client who,
                           struct torc_completion_promise *promise)
{
    uint32_t entry = entry_find(table, who);
    struct account_want want = {
        .principal = who.principal, .known = NONE, .entry = true, .own = promise->own};
    uint16_t account;

    if (entry != NONE) {
        return entry;
    }
    if (promise->entry) {
        promise->entry = false;
        return entry_add(table, who, (uint16_t)(promise->account - 1), promise->own);
    }
    // Replay, or a checkpoint's: nothing was promised.
    if (!account_take(table->pool, &want, &account)) {
        return NONE;
    }
    return entry_add(table, who, account, promise->own);
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
    entry_touch(table, index, head->last_hlc);
    entry_raise(table, index, head->low, true);
    return true;
}

bool torc_completion_apply(struct torc_completion_table *table,
                           const struct torc_completion_head *head, uint64_t seq,
                           struct torc_completion_promise *promise)
{
    struct torc_completion_pool *pool = table->pool;
    uint32_t index = entry_need(table, head->who, promise);
    struct account_want want = {.principal = head->who.principal, .known = index, .result = true};
    uint32_t done;
    uint16_t account;

    if (index == NONE) {
        return false;
    }
    pool->entries[index].last_hlc = torc_max_u64(pool->entries[index].last_hlc, head->last_hlc);
    entry_touch(table, index, head->last_hlc);
    entry_raise(table, index, head->low, true);
    done = done_find(pool, index, seq);
    if (done != NONE) {
        // Replay over a checkpoint that has it already.
        torc_assert(done_kind(&pool->results[done]) == DONE_LOGGED);
        pool->results[done].info = head->last_hlc;
    } else if (seq >= pool->entries[index].low) {
        if (promise->account == 0 && !account_take(pool, &want, &account)) {
            return false;
        }
        if (promise->entry) {
            account_give_entry(pool, promise->account - 1u, promise->own);
        }
        done_add(table, index,
                 &(struct done_what){
                     .seq = seq, .info = head->last_hlc, .kind = DONE_LOGGED, .own = promise->own});
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
        entry_remove(table, table->oldest);
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

        if (done_kind(&pool->results[index]) != DONE_LOGGED) {
            done_remove(table, index);
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
    }
    torc_completion_sort(table);
}

void torc_completion_drop(struct torc_completion_table *table)
{
    while (table->oldest != NONE) {
        entry_remove(table, table->oldest);
    }
    torc_assert(table->client_count == 0);
    torc_assert(table->result_count == 0);
}

// -- Walking ------------------------------------------------------------------------------------

static void entry_head(const struct torc_completion_pool *pool,
                       const struct torc_completion_entry *entry, struct torc_completion_head *head)
{
    *head = (struct torc_completion_head){
        .who = {.client = entry->client,
                .principal = pool->accounts[entry->account & ACCOUNT_MASK].principal},
        .low = entry->low,
        .last_hlc = entry->last_hlc};
}

bool torc_completion_next_client(const struct torc_completion_table *table, uint32_t *at,
                                 uint32_t walk_max, struct torc_completion_head *head)
{
    const struct torc_completion_pool *pool = table->pool;
    uint32_t index = *at;

    for (uint32_t i = 0; i < walk_max && index < pool->entry_fresh; i++, index++) {
        const struct torc_completion_entry *entry = &pool->entries[index];

        if (entry->shard == table->shard && entry->last_hlc != 0) {
            entry_head(pool, entry, head);
            *at = index + 1;
            return true;
        }
    }
    *at = index < pool->entry_fresh ? index : NONE;
    return false;
}

bool torc_completion_client_at(const struct torc_completion_table *table, uint32_t client_at,
                               struct torc_completion_head *head)
{
    const struct torc_completion_pool *pool = table->pool;
    const struct torc_completion_entry *entry = &pool->entries[client_at - 1];

    torc_assert(client_at > 0 && client_at <= pool->entry_fresh);
    entry_head(pool, entry, head);
    return entry->shard == table->shard && entry->last_hlc != 0;
}

bool torc_completion_next_result(const struct torc_completion_table *table, uint32_t client_at,
                                 uint32_t *at, struct torc_completion_result *result)
{
    const struct torc_completion_pool *pool = table->pool;
    const struct torc_completion_entry *entry = &pool->entries[client_at - 1];
    uint32_t index = *at == 0 ? entry->first : *at - 1;

    if (*at == NONE) {
        return false;
    }
    // The place where the walk stood may have been given up since: then from the start again.
    if (index != NONE && (pool->results[index].entry & CLIENT_MASK) != client_at - 1) {
        index = entry->first;
    }
    while (index != NONE && done_kind(&pool->results[index]) != DONE_LOGGED) {
        index = pool->results[index].next;
    }
    if (index == NONE) {
        *at = NONE;
        return false;
    }
    *result = (struct torc_completion_result){
        .seq = pool->results[index].seq, .info = pool->results[index].info, .err = TORC_ERR_OK};
    *at = pool->results[index].next == NONE ? NONE : pool->results[index].next + 1;
    return true;
}

static enum torc_err entry_check(const struct torc_completion_table *table, uint32_t index,
                                 uint64_t *results, struct torc_fail *why)
{
    const struct torc_completion_pool *pool = table->pool;
    const struct torc_completion_entry *entry = &pool->entries[index];
    uint32_t count = 0;

    for (uint32_t done = entry->first; done != NONE; done = pool->results[done].next) {
        if (pool->results[done].seq < entry->low) {
            return torc_fail(why, TORC_ERR_CORRUPT,
                             "X2: client %" PRIx64 " has seq %" PRIu64 " below its low %" PRIu64,
                             entry->client, pool->results[done].seq, entry->low);
        }
        if (done_find(pool, index, pool->results[done].seq) != done) {
            return torc_fail(why, TORC_ERR_CORRUPT, "client %" PRIx64 ": seq %" PRIu64 " twice",
                             entry->client, pool->results[done].seq);
        }
        count++;
    }
    *results += count;
    if (count != entry->count || entry->shard != table->shard) {
        return torc_fail(why, TORC_ERR_CORRUPT, "client %" PRIx64 ": %u results counted, has %u",
                         entry->client, entry->count, count);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_completion_check(const struct torc_completion_table *table,
                                    struct torc_fail *why)
{
    const struct torc_completion_pool *pool = table->pool;
    uint64_t results = 0;
    uint32_t clients = 0;

    for (uint32_t index = table->oldest; index != NONE; index = pool->entries[index].newer) {
        enum torc_err err = entry_check(table, index, &results, why);

        if (err != TORC_ERR_OK) {
            return err;
        }
        clients++;
    }
    if (clients != table->client_count || results != table->result_count ||
        clients > pool->entry_used || results > pool->result_used ||
        pool->entry_own > pool->entry_used || pool->result_own > pool->result_used) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "X1: %" PRIu32 " clients and %" PRIu64 " results, counted %" PRIu32
                         " and %" PRIu64,
                         clients, results, table->client_count, table->result_count);
    }
    return TORC_ERR_OK;
}
