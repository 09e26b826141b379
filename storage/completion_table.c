// Torc storage: clients of whom something is remembered, and their results, in hash tables. See
// storage/completion.h.
#include "kit/bugs.h"
#include "storage/completion_impl.h"

#define NONE TORC_COMPLETION_NONE

// -- Entries ------------------------------------------------------------------------------------

static uint32_t *entry_bucket(const struct torc_completion_table *table,
                              struct torc_completion_client who)
{
    const struct torc_completion_pool *pool = table->pool;
    uint64_t mixed =
        torc_completion_mix(pool, who.client, ((uint64_t)table->shard << 32) | who.principal);

    return &pool->entry_table[mixed & pool->entry_mask];
}

static bool entry_is(const struct torc_completion_table *table, uint32_t index,
                     struct torc_completion_client who)
{
    const struct torc_completion_entry *entry = &table->pool->entries[index];

    return entry->client == who.client && entry->shard == table->shard &&
           torc_completion_account_of(table->pool, index)->principal == who.principal;
}

// The newest is tried first: a client's writes come in packets of many.
uint32_t torc_completion_entry_find(const struct torc_completion_table *table,
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

void torc_completion_entry_touch(struct torc_completion_table *table, uint32_t index, uint64_t hlc)
{
    struct torc_completion_entry *entry = &table->pool->entries[index];

    entry->used_hlc = torc_max_u64(entry->used_hlc, hlc);
    if (table->newest != index) {
        entry_unlink_age(table, index);
        entry_link_newest(table, index);
    }
}

uint32_t torc_completion_entry_add(struct torc_completion_table *table,
                                   struct torc_completion_client who, uint16_t account, bool own)
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
    pool->entries[index] = (struct torc_completion_entry){
        .client = who.client,
        .shard = table->shard,
        .hash_next = *bucket,
        .first = NONE,
        .account = (uint16_t)(account | (own ? TORC_COMPLETION_ENTRY_OWN : 0))};
    *bucket = index;
    entry_link_newest(table, index);
    table->client_count++;
    return index;
}

// -- Results ------------------------------------------------------------------------------------

// A client's results lie side by side, where its next one will be looked for; who shares a place
// with whom depends on the seed.
static uint32_t *done_bucket(const struct torc_completion_pool *pool, uint32_t entry, uint64_t seq)
{
    return &pool->result_table[(torc_completion_mix(pool, entry, 0) + seq) & pool->result_mask];
}

uint32_t torc_completion_done_find(const struct torc_completion_pool *pool, uint32_t entry,
                                   uint64_t seq)
{
    uint32_t index = *done_bucket(pool, entry, seq);

    while (index != NONE) {
        const struct torc_completion_done *done = &pool->results[index];

        if (done->seq == seq && (done->entry & TORC_COMPLETION_CLIENT_MASK) == entry) {
            break;
        }
        index = done->hash_next;
    }
    return index;
}

void torc_completion_done_add(struct torc_completion_table *table, uint32_t entry_index,
                              const struct torc_completion_what *what)
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
        .entry = entry_index | (uint32_t)what->kind << TORC_COMPLETION_CLIENT_BITS |
                 (what->own ? TORC_COMPLETION_DONE_OWN : 0),
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

void torc_completion_done_remove(struct torc_completion_table *table, uint32_t index)
{
    struct torc_completion_pool *pool = table->pool;
    struct torc_completion_done *done = &pool->results[index];
    uint32_t entry_index = done->entry & TORC_COMPLETION_CLIENT_MASK;
    struct torc_completion_entry *entry = &pool->entries[entry_index];
    bool own = (done->entry & TORC_COMPLETION_DONE_OWN) != 0;
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
    torc_completion_account_give_result(pool, entry->account & TORC_COMPLETION_ACCOUNT_MASK, own);
}

// Whether a client's lows have passed this result.
static bool done_is_past(const struct torc_completion_entry *entry,
                         const struct torc_completion_done *done)
{
    bool logged = torc_completion_done_kind(done) == TORC_COMPLETION_KIND_LOGGED &&
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
            uint32_t index = torc_completion_done_find(pool, entry_index, seq);

            if (index != NONE && done_is_past(entry, &pool->results[index])) {
                torc_completion_done_remove(table, index);
            }
        }
        return;
    }
    for (uint32_t index = entry->first; index != NONE;) {
        uint32_t next = pool->results[index].next;

        if (done_is_past(entry, &pool->results[index])) {
            torc_completion_done_remove(table, index);
        }
        index = next;
    }
}

void torc_completion_entry_raise(struct torc_completion_table *table, uint32_t entry_index,
                                 uint64_t low, bool logged)
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

uint32_t torc_completion_entry_own(struct torc_completion_table *table, uint32_t index)
{
    struct torc_completion_pool *pool = table->pool;
    struct torc_completion_entry *entry = &pool->entries[index];
    uint32_t account = entry->account & TORC_COMPLETION_ACCOUNT_MASK;
    uint32_t results = 0;
    bool changes = ((entry->account & TORC_COMPLETION_ENTRY_OWN) != 0) != table->owns;

    for (uint32_t at = entry->first; at != NONE; at = pool->results[at].next) {
        struct torc_completion_done *done = &pool->results[at];

        if (((done->entry & TORC_COMPLETION_DONE_OWN) != 0) != table->owns) {
            done->entry ^= TORC_COMPLETION_DONE_OWN;
            results++;
        }
    }
    entry->account ^= changes ? TORC_COMPLETION_ENTRY_OWN : 0;
    torc_completion_account_own(pool, account, changes ? 1 : 0, results, table->owns);
    return entry->count;
}

void torc_completion_entry_remove(struct torc_completion_table *table, uint32_t index)
{
    struct torc_completion_pool *pool = table->pool;
    struct torc_completion_entry *entry = &pool->entries[index];
    struct torc_completion_client who = {
        .client = entry->client, .principal = torc_completion_account_of(pool, index)->principal};
    uint32_t *link = entry_bucket(table, who);

    while (entry->first != NONE) {
        torc_completion_done_remove(table, entry->first);
    }
    while (*link != index) {
        torc_assert(*link != NONE);
        link = &pool->entries[*link].hash_next;
    }
    *link = entry->hash_next;
    entry_unlink_age(table, index);
    torc_completion_account_give_entry(pool, entry->account & TORC_COMPLETION_ACCOUNT_MASK,
                                       (entry->account & TORC_COMPLETION_ENTRY_OWN) != 0);
    entry->shard = NONE;
    entry->hash_next = pool->entry_free;
    pool->entry_free = index;
    table->client_count--;
}
