// Torc storage: walks over what is remembered of writes, for checkpoints and for tests. See
// storage/completion.h.
#include "storage/completion_impl.h"

#define NONE TORC_COMPLETION_NONE

static void entry_head(const struct torc_completion_pool *pool,
                       const struct torc_completion_entry *entry, struct torc_completion_head *head)
{
    *head = (struct torc_completion_head){
        .who = {.client = entry->client,
                .principal =
                    pool->accounts[entry->account & TORC_COMPLETION_ACCOUNT_MASK].principal},
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
    if (index != NONE &&
        (pool->results[index].entry & TORC_COMPLETION_CLIENT_MASK) != client_at - 1) {
        index = entry->first;
    }
    while (index != NONE &&
           torc_completion_done_kind(&pool->results[index]) != TORC_COMPLETION_KIND_LOGGED) {
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
    bool owned = ((entry->account & TORC_COMPLETION_ENTRY_OWN) != 0) == table->owns;

    for (uint32_t done = entry->first; done != NONE; done = pool->results[done].next) {
        if (pool->results[done].seq < entry->low) {
            return torc_fail(why, TORC_ERR_CORRUPT,
                             "X2: client %" PRIx64 " has seq %" PRIu64 " below its low %" PRIu64,
                             entry->client, pool->results[done].seq, entry->low);
        }
        if (torc_completion_done_find(pool, index, pool->results[done].seq) != done) {
            return torc_fail(why, TORC_ERR_CORRUPT, "client %" PRIx64 ": seq %" PRIu64 " twice",
                             entry->client, pool->results[done].seq);
        }
        owned =
            owned && ((pool->results[done].entry & TORC_COMPLETION_DONE_OWN) != 0) == table->owns;
        count++;
    }
    *results += count;
    if (!owned && index < table->own_at) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "X4: client %" PRIx64 " is not counted as the shard is", entry->client);
    }
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
