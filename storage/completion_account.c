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

// Whether a principal that has `has` of the own part may have one more of the `left` ones.
static bool share_allows(const struct torc_completion_pool *pool, uint32_t principal, uint32_t has,
                         uint32_t left)
{
    return left > 0 &&
           (principal == 0 || (has + UINT64_C(1)) * (TORC_COMPLETION_PPM - pool->principal_ppm) <=
                                  (left - UINT64_C(1)) * pool->principal_ppm);
}

static uint32_t own_part(const struct torc_completion_pool *pool, uint32_t max)
{
    return pool->keeps ? max / COPIES : max;
}

// What is left of an own part, and there: others may have more than the rest, and own may too.
static uint32_t own_left(uint32_t part, uint32_t own, uint32_t there)
{
    uint32_t left = own < part ? part - own : 0;

    return left < there ? left : there;
}

static bool account_allows(const struct torc_completion_pool *pool,
                           const struct torc_completion_account *account,
                           const struct torc_completion_want *want)
{
    uint32_t entries = want->entry ? 1 : 0;
    uint32_t results = want->result ? 1 : 0;
    uint32_t result_part = own_part(pool, pool->result_max);
    uint32_t result_left;

    if (pool->entry_used + entries > pool->entry_max ||
        pool->result_used + results > pool->result_max) {
        return false;
    }
    if (want->from == TORC_COMPLETION_FROM_ANY) {
        return true;
    }
    result_left = own_left(result_part, pool->result_own, pool->result_max - pool->result_used);
    return result_left >= results + result_part / KEPT_PART &&
           (!want->result ||
            share_allows(pool, want->principal, account->result_own, result_left)) &&
           (!want->entry || share_allows(pool, want->principal, account->entry_own,
                                         own_left(own_part(pool, pool->entry_max), pool->entry_own,
                                                  pool->entry_max - pool->entry_used)));
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

void torc_completion_account_own(struct torc_completion_pool *pool, uint32_t index,
                                 uint32_t entries, uint32_t results, bool own)
{
    struct torc_completion_account *account = &pool->accounts[index];

    // Unsigned: what is no longer own is added as its complement.
    entries = own ? entries : 0u - entries;
    results = own ? results : 0u - results;
    account->entry_own += entries;
    account->result_own += results;
    pool->entry_own += entries;
    pool->result_own += results;
    torc_assert(account->entry_own <= account->entry_used);
    torc_assert(account->result_own <= account->result_used);
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
