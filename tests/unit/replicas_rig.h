// Torc tests: three nodes in one process (tests/cluster_rig.h) with three shards of three copies,
// for tests of replicas in workers.
//
// Owner   the test's one thread; one cluster at a time.  Memory  until torc_cluster_close.
#ifndef TORC_TESTS_UNIT_REPLICAS_RIG_H
#define TORC_TESTS_UNIT_REPLICAS_RIG_H

#include "tests/cluster_rig.h"
#include "tests/torc_test.h"

#include <stdio.h>

#define KEYS UINT64_C(1000000)

static struct torc_cluster cluster;

static inline struct torc_cluster_config replicas_config(uint8_t durability)
{
    return (struct torc_cluster_config){.nodes = 3,
                                        .replicas = 3,
                                        .shards = 3,
                                        .workers = 1,
                                        .min_in_sync = 2,
                                        .durability = durability,
                                        .key_count = KEYS,
                                        .seed = torc_test_seed()};
}

static inline void replicas_come_up_as(const struct torc_cluster_config *config)
{
    torc_cluster_open(&cluster, config);
    for (uint32_t shard = 1; shard <= 3; shard++) {
        CU_ASSERT_TRUE_FATAL(torc_cluster_settle(&cluster, shard, shard, 3, 100000));
    }
}

static inline void replicas_come_up(uint8_t durability)
{
    struct torc_cluster_config config = replicas_config(durability);

    replicas_come_up_as(&config);
}

// A put at whoever serves the shard, until it is answered with OK.
static inline uint64_t replicas_put(uint64_t key, const char *text, uint64_t wseq)
{
    uint64_t version = 0;

    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t server = torc_cluster_server(&cluster, 1);

        if (server != 0 &&
            torc_cluster_put(&cluster, server, key, text, wseq, &version) == TORC_ERR_OK) {
            return version;
        }
        torc_cluster_run(&cluster, 100);
    }
    CU_FAIL_FATAL("no replica took the put");
    return 0;
}

// Puts of "value NUMBER" at key NUMBER modulo 100; and whether a node has them.
static inline void replicas_put_many(uint64_t first_wseq, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        char text[32];

        (void)snprintf(text, sizeof(text), "value %" PRIu64, first_wseq + i);
        (void)replicas_put((first_wseq + i) % 100, text, first_wseq + i);
    }
}

static inline void replicas_check_many(uint32_t node, uint64_t first_wseq, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        char text[32];

        (void)snprintf(text, sizeof(text), "value %" PRIu64, first_wseq + i);
        CU_ASSERT_TRUE(torc_cluster_has(&cluster, node, (first_wseq + i) % 100, text));
    }
}

#endif
