// Torc tests: one tree and what it stands on, for tests of a part of the tree.
//
// Owner   the test's thread: it opens the mapping and the heap, which outlive each fixture.
// Memory  the caller's struct; `chunks` of the mapping.
#ifndef TORC_TESTS_TREE_FIXTURE_H
#define TORC_TESTS_TREE_FIXTURE_H

#include "kit/rng.h"
#include "storage/cpu_os.h"
#include "storage/memory_os.h"
#include "storage/tree.h"
#include "tests/torc_test.h"

#include <string.h>

struct fixture {
    struct torc_rng rng;
    struct torc_chunk_pool pool;
    struct torc_tree tree;
    struct torc_fail why;
    uint32_t chunks;
};

static inline void fixture_open(struct fixture *fixture, const struct torc_mapping *mapping,
                                struct torc_heap *heap, uint32_t chunks)
{
    memset(fixture, 0, sizeof(*fixture));
    fixture->rng.state = torc_test_seed();
    fixture->chunks = chunks;
    torc_chunk_pool_init(&fixture->pool, mapping->base, 0, chunks);
    TORC_TEST_OK(
        torc_tree_init(&fixture->tree, torc_tree_code_best(), &fixture->pool, heap, &fixture->why),
        &fixture->why);
}

// The tree is whole, and gives back all that it took.
static inline void fixture_close(struct fixture *fixture)
{
    TORC_TEST_OK(torc_tree_check(&fixture->tree, &fixture->why), &fixture->why);
    torc_tree_drop(&fixture->tree);
    CU_ASSERT_EQUAL(torc_chunk_pool_free(&fixture->pool), fixture->chunks);
}

#endif
