// Torc storage: shares of what is remembered of writes, counted by principal. See
// storage/completion.h.
#include "storage/completion_impl.h"

#define NONE      TORC_COMPLETION_NONE
#define KEPT_PART 64u // of the own results are kept for writes that let others go
#define COPIES    3u  // that a core is thought to have of what all cores' own clients have

static bool account_is_free(const struct torc_completion_account *account)
{
    return account->entry_used == 0 && account->result_used == 0;
}

// The principal's account, or a free one for it; NULL: all are taken by others.
static struct torc_completion_account *account_find(const struct torc_completion_pool *pool,
                                                    uint32_t principal)
{
    uint32_t start =
        (uint32_t)torc_completion_mix(pool, principal, 0) % TORC_COMPLETION_PRINCIPALS_MAX;
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

// Whether a principal that has `has` of the own part, `used` of which is taken, may have one more.
static bool share_allows(const struct torc_completion_pool *pool, uint32_t principal, uint32_t has,
                         uint32_t used, uint32_t max)
{
    uint64_t left = used < max ? max - used - 1 : 0;

    return principal == 0 || (has + UINT64_C(1)) * (TORC_COMPLETION_PPM - pool->principal_ppm) <=
                                 left * pool->principal_ppm;
}

static bool account_allows(const struct torc_completion_pool *pool,
                           const struct torc_completion_account *account,
                           const struct torc_completion_want *want)
{
    uint32_t entry_max = pool->keeps ? pool->entry_max / COPIES : pool->entry_max;
    uint32_t result_max = pool->keeps ? pool->result_max / COPIES : pool->result_max;
    uint32_t entries = want->entry ? 1 : 0;
    uint32_t results = want->result ? 1 : 0;

    if (pool->entry_used + entries > pool->entry_max ||
        pool->result_used + results > pool->result_max) {
        return false;
    }
    if (want->from == TORC_COMPLETION_FROM_ANY) {
        return true;
    }
    if ((want->entry && pool->entry_own >= entry_max) ||
        (want->result && pool->result_own >= result_max)) {
        return false;
    }
    if (want->from == TORC_COMPLETION_FROM_OWN) {
        return true;
    }
    return pool->result_own + results <= result_max - result_max / KEPT_PART &&
           (!want->entry ||
            share_allows(pool, want->principal, account->entry_own, pool->entry_own, entry_max)) &&
           (!want->result ||
            share_allows(pool, want->principal, account->result_own, pool->result_own, result_max));
}

bool torc_completion_account_take(struct torc_completion_pool *pool,
                                  const struct torc_completion_want *want, uint16_t *index)
{
    struct torc_completion_account *account = want->known == NONE
                                                  ? account_find(pool, want->principal)
                                                  : torc_completion_account_of(pool, want->known);
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

void torc_completion_account_give_entry(struct torc_completion_pool *pool, uint32_t index, bool own)
{
    struct torc_completion_account *account = &pool->accounts[index];
    uint32_t owns = own ? 1 : 0;

    torc_assert(account->entry_used > 0 && account->entry_own >= owns);
    account->entry_used--;
    account->entry_own -= owns;
    pool->entry_used--;
    pool->entry_own -= owns;
}

void torc_completion_account_give_result(struct torc_completion_pool *pool, uint32_t index,
                                         bool own)
{
    struct torc_completion_account *account = &pool->accounts[index];
    uint32_t owns = own ? 1 : 0;

    torc_assert(account->result_used > 0 && account->result_own >= owns);
    account->result_used--;
    account->result_own -= owns;
    pool->result_used--;
    pool->result_own -= owns;
}
