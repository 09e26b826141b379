// Torc tests: a node in one process (tests/rig.h) and one client, for tests of a worker's answers.
//
// Owner   the test's one thread; one node at a time.  Memory  from open_rig to close_rig.
#ifndef TORC_TESTS_UNIT_WORKER_RIG_H
#define TORC_TESTS_UNIT_WORKER_RIG_H

#include "tests/rig.h"
#include "tests/torc_test.h"

#include <stdlib.h>

#define KEYS  UINT64_C(1000000)
#define STEPS 400u

static struct torc_rig *rig;
static struct torc_rig_client *client;

static inline void open_rig(const struct torc_rig_config *config)
{
    struct torc_rig_config filled = *config;

    rig = calloc(1, sizeof(*rig));
    client = calloc(1, sizeof(*client));
    CU_ASSERT_FATAL(rig != NULL && client != NULL);
    filled.workers = filled.workers == 0 ? 1 : filled.workers;
    filled.shards = filled.shards == 0 ? 4 : filled.shards;
    filled.key_count = filled.key_count == 0 ? KEYS : filled.key_count;
    filled.seed = torc_test_seed();
    torc_rig_open(rig, &filled);
    torc_rig_connect(rig, client, 5000);
}

static inline void open_plain(void)
{
    struct torc_rig_config config = {.workers = 1, .steered = true};

    open_rig(&config);
}

static inline void close_rig(void)
{
    torc_rig_close(rig);
    free(rig);
    free(client);
}

static inline uint64_t put_text(uint64_t key, const char *text)
{
    return torc_rig_put_text(rig, client, key, text);
}

static inline void check_value(uint64_t key, const char *text)
{
    torc_rig_check_text(rig, client, key, text);
}

static inline struct torc_reply expect(const struct torc_request *request, enum torc_err status)
{
    struct torc_reply reply;

    torc_rig_expect(rig, client, request, status, &reply);
    return reply;
}

#endif
