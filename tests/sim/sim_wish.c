// Torc simulator: what placement wishes, and which copies of data are what. See sim.h.
//
// What    records `want`, which this file writes in place of placement's leader, at random, where
//         the seed has no such leader (class PLACE): who shall have a shard, who shall lead it;
//         nodes are given it and let go of it while they run. And the ghost of `copy`: a disk that
//         was lost is empty and has no copy, until its control draws the next number.
#include "control/records.h"
#include "tests/sim/sim_machine.h"
#include "tests/sim/sim_records.h"

#include <string.h>

static void want_write(uint32_t shard)
{
    const struct sim_want *want = &sim->wants[shard - 1];
    struct torc_want_fields fields = {.primary = want->primary};
    char name[TORC_RECORD_NAME_BYTES];
    char text[TORC_RECORD_BYTES_MAX];

    fields.nodes.count = want->count;
    for (uint32_t i = 0; i < want->count; i++) {
        fields.nodes.at[i] = want->nodes[i];
    }
    text[torc_record_encode(TORC_RECORD_WANT, &fields, text)] = '\0';
    torc_record_name(name, "want", shard);
    sim_records_put(name, text);
}

uint32_t sim_min_in_sync(void)
{
    return sim->config.replicas / 2 + (sim->config.replicas > 2 ? 1 : 0);
}

void sim_wish_init(void)
{
    for (uint32_t shard = 1; shard <= sim->config.shards; shard++) {
        sim->wants[shard - 1].count = sim->config.replicas;
        for (uint32_t i = 0; i < sim->config.replicas; i++) {
            sim->wants[shard - 1].nodes[i] =
                (sim->shard_node[shard - 1] + i) % sim->config.founders + 1;
        }
        if (sim_has(SIM_CLASS_PLACE)) {
            sim->wants[shard - 1].primary = sim->wants[shard - 1].nodes[0];
        }
        if (sim->config.replicas > 1) {
            want_write(shard);
        }
    }
    for (uint32_t i = 0; i < sim->config.nodes; i++) {
        sim->nodes[i].copy = ++sim->copies;
    }
}

// -- Changes --------------------------------------------------------------------------------------

static bool want_has(const struct sim_want *want, uint32_t node)
{
    for (uint32_t i = 0; i < want->count; i++) {
        if (want->nodes[i] == node) {
            return true;
        }
    }
    return false;
}

uint32_t sim_wish_lead(uint32_t shard, uint32_t place)
{
    struct sim_want *want = &sim->wants[shard - 1];

    if (!sim_has(SIM_CLASS_PLACE)) {
        want->primary = want->nodes[place % want->count];
        want_write(shard);
    }
    return want->primary;
}

void sim_wish_none(uint32_t shard)
{
    if (!sim_has(SIM_CLASS_PLACE)) {
        sim->wants[shard - 1].primary = 0;
        want_write(shard);
    }
}

uint32_t sim_wish_more(uint32_t shard, uint32_t from_node)
{
    struct sim_want *want = &sim->wants[shard - 1];

    for (uint32_t i = 0; i < sim->config.nodes && !sim_has(SIM_CLASS_PLACE); i++) {
        uint32_t node = (from_node + i) % sim->config.nodes + 1;

        if (!want_has(want, node)) {
            want->nodes[want->count++] = node;
            want_write(shard);
            return node;
        }
    }
    return 0;
}

uint32_t sim_wish_fewer(uint32_t shard, uint32_t place)
{
    struct sim_want *want = &sim->wants[shard - 1];
    uint32_t node;

    if (want->count <= sim->config.replicas || sim_has(SIM_CLASS_PLACE)) {
        return 0;
    }
    place %= want->count;
    node = want->nodes[place];
    want->nodes[place] = want->nodes[--want->count];
    want->primary = want->primary == node ? 0 : want->primary;
    want_write(shard);
    return node;
}

// -- Copies ---------------------------------------------------------------------------------------

void sim_wish_record(uint32_t shard, struct torc_shard_fields *fields)
{
    char name[TORC_RECORD_NAME_BYTES];
    const char *text;
    struct torc_fail why;

    torc_record_name(name, "shard", shard);
    text = sim_records_get(name);
    torc_assert(text != NULL);
    torc_assert(torc_record_decode(TORC_RECORD_SHARD, fields, text, strlen(text), &why) ==
                TORC_ERR_OK);
}

// Members in sync that remember, but for one node.
static uint32_t copies_but(uint32_t shard, uint32_t node)
{
    struct torc_shard_fields fields;
    uint32_t count = 0;

    sim_wish_record(shard, &fields);
    for (uint32_t i = 0; i < fields.insync.count; i++) {
        const struct torc_record_member *member = &fields.insync.at[i];

        count += member->node != node &&
                 sim_ghost_remembers(shard, (uint32_t)member->node, member->copy);
    }
    return count;
}

bool sim_wish_may_lose(uint32_t node)
{
    for (uint32_t shard = 1; shard <= sim->config.shards; shard++) {
        if (copies_but(shard, node) == 0) {
            return false;
        }
    }
    return true;
}

bool sim_wish_is_closed(uint32_t shard)
{
    return copies_but(shard, 0) == 0;
}

// -- At the end -----------------------------------------------------------------------------------

static bool copies_list(const struct torc_shard_fields *fields, uint32_t node)
{
    for (uint32_t i = 0; i < fields->insync.count; i++) {
        if (fields->insync.at[i].node == node) {
            return true;
        }
    }
    return false;
}

bool sim_wish_is_done(void)
{
    for (uint32_t shard = 1; sim->config.replicas > 1 && shard <= sim->config.shards; shard++) {
        struct torc_shard_fields fields;

        sim_wish_record(shard, &fields);
        for (uint32_t node = 1; node <= sim->config.nodes && !sim_wish_is_closed(shard); node++) {
            bool wanted = want_has(&sim->wants[shard - 1], node);
            bool has = sim_ghost_replica(&sim->nodes[node - 1], shard) != NULL;

            if (wanted != has || wanted != copies_list(&fields, node)) {
                return false;
            }
        }
    }
    return true;
}

// Who is in sync by the record, and who of them the run knows to remember.
void sim_wish_tell(void)
{
    for (uint32_t shard = 1; sim->config.replicas > 1 && shard <= sim->config.shards; shard++) {
        const struct sim_want *want = &sim->wants[shard - 1];
        struct torc_shard_fields fields;

        sim_wish_record(shard, &fields);
        sim_story("record  shard %u: epoch %u, primary %u, wished %u, %s", (unsigned)shard,
                  (unsigned)fields.epoch, (unsigned)fields.primary_node, (unsigned)want->primary,
                  sim_wish_is_closed(shard) ? "closed" : "open");
        for (uint32_t i = 0; i < fields.insync.count; i++) {
            const struct torc_record_member *member = &fields.insync.at[i];

            sim_story("record  shard %u: in sync node %u as copy %" PRIx64 ": %s", (unsigned)shard,
                      (unsigned)member->node, member->copy,
                      sim_ghost_remembers(shard, (uint32_t)member->node, member->copy) ? "there"
                                                                                       : "gone");
        }
        for (uint32_t i = 0; i < want->count; i++) {
            sim_story("record  shard %u: wished on node %u", (unsigned)shard,
                      (unsigned)want->nodes[i]);
        }
    }
}
