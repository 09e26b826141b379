// Torc storage: what the files of completion share among themselves. Nobody else includes it.
// Comments leave out TORC_COMPLETION_.
#ifndef TORC_STORAGE_COMPLETION_IMPL_H
#define TORC_STORAGE_COMPLETION_IMPL_H

#include "storage/completion.h"

#define TORC_COMPLETION_PPM 1000000u

// torc_completion_done.entry
#define TORC_COMPLETION_CLIENT_BITS 29u
#define TORC_COMPLETION_CLIENT_MASK ((1u << TORC_COMPLETION_CLIENT_BITS) - 1u)
#define TORC_COMPLETION_KIND_MASK   3u
#define TORC_COMPLETION_DONE_OWN    (1u << 31)
// torc_completion_entry.account
#define TORC_COMPLETION_ENTRY_OWN    0x8000u
#define TORC_COMPLETION_ACCOUNT_MASK 0x7fffu

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

enum torc_completion_kind {
    TORC_COMPLETION_KIND_LOGGED,
    TORC_COMPLETION_KIND_CONDITION_FAILED,
    TORC_COMPLETION_KIND_NOT_FOUND,
};

struct torc_completion_done {
    uint64_t seq;
    uint64_t info;
    uint32_t entry;     // with enum torc_completion_kind above CLIENT_BITS, and DONE_OWN
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

// Whose room it is to be.
enum torc_completion_from {
    TORC_COMPLETION_FROM_ANY,   // all that there is
    TORC_COMPLETION_FROM_SHARE, // the principal's share of the own part, and not the last of it
};

// What is to be counted for a principal.
struct torc_completion_want {
    uint32_t principal;
    uint32_t known; // one of its entries, which names its account; NONE: it is looked for
    bool entry;
    bool result;
    bool own; // counted as a client's of this core
    enum torc_completion_from from;
};

// A result that is to be remembered.
struct torc_completion_what {
    uint64_t seq;
    uint64_t info;
    enum torc_completion_kind kind;
    bool own;
};

// A hash by the pool's seed, for accounts, clients and results alike.
static inline uint64_t torc_completion_mix(const struct torc_completion_pool *pool, uint64_t a,
                                           uint64_t b)
{
    uint64_t mixed = (a ^ pool->seed) * 0x9e3779b97f4a7c15u;

    mixed = (mixed ^ (mixed >> 29) ^ b) * 0xbf58476d1ce4e5b9u;
    return (mixed ^ (mixed >> 32)) * 0x94d049bb133111ebu >> 20;
}

static inline struct torc_completion_account *torc_completion_account_of(
    const struct torc_completion_pool *pool, uint32_t entry)
{
    return &pool->accounts[pool->entries[entry].account & TORC_COMPLETION_ACCOUNT_MASK];
}

static inline enum torc_completion_kind torc_completion_done_kind(
    const struct torc_completion_done *done)
{
    return (enum torc_completion_kind)(done->entry >> TORC_COMPLETION_CLIENT_BITS &
                                       TORC_COMPLETION_KIND_MASK);
}

// -- Shares: completion_account.c ---------------------------------------------------------------

// Counts what is wanted, for the account whose index is written. False: it may not have it, or all
// accounts are taken by others.
bool torc_must_use torc_completion_account_take(struct torc_completion_pool *pool,
                                                const struct torc_completion_want *want,
                                                uint16_t *index);
void torc_completion_account_give_entry(struct torc_completion_pool *pool, uint32_t index,
                                        bool own);
void torc_completion_account_give_result(struct torc_completion_pool *pool, uint32_t index,
                                         bool own);

// What of the account was counted as own no longer is, or the other way round.
void torc_completion_account_own(struct torc_completion_pool *pool, uint32_t index,
                                 uint32_t entries, uint32_t results, bool own);

// -- Clients and results: completion_table.c ------------------------------------------------------

// NONE: unknown.
uint32_t torc_completion_entry_find(const struct torc_completion_table *table,
                                    struct torc_completion_client who);

// Used now: it is the last to leave. (Failures are stamped by the clock, records when they were
// logged, so two neighbours may stand the wrong way round for as long as a commit takes.)
void torc_completion_entry_touch(struct torc_completion_table *table, uint32_t index, uint64_t hlc);

// A new client, whose room is counted for already, as own or not.
uint32_t torc_completion_entry_add(struct torc_completion_table *table,
                                   struct torc_completion_client who, uint16_t account, bool own);

// Raises the client's low, logged or only seen, and drops the results that it passes.
void torc_completion_entry_raise(struct torc_completion_table *table, uint32_t entry_index,
                                 uint64_t low, bool logged);

// Counts the client and its results as the table owns; how many results were looked at.
uint32_t torc_completion_entry_own(struct torc_completion_table *table, uint32_t index);

// With its results; gives back what was counted for them.
void torc_completion_entry_remove(struct torc_completion_table *table, uint32_t index);

// NONE: not there.
uint32_t torc_completion_done_find(const struct torc_completion_pool *pool, uint32_t entry,
                                   uint64_t seq);

// A new result, whose room is counted for already, as own or not.
void torc_completion_done_add(struct torc_completion_table *table, uint32_t entry_index,
                              const struct torc_completion_what *what);
void torc_completion_done_remove(struct torc_completion_table *table, uint32_t index);

#endif
