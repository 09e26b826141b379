// Torc tests: a metastore in memory; see fake_meta.h.
#include "tests/fake_meta.h"

#include <string.h>

void torc_fake_meta_init(struct torc_fake_meta *meta, uint32_t shard_count, uint32_t replica_count,
                         uint32_t min_in_sync)
{
    torc_assert(shard_count < TORC_FAKE_RECORDS);
    torc_assert(replica_count < TORC_FAKE_NODES_MAX);
    memset(meta, 0, sizeof(*meta));
    meta->shard_count = shard_count;
    meta->min_in_sync = min_in_sync;
    for (uint32_t node = 1; node < TORC_FAKE_NODES_MAX; node++) {
        meta->node_copy[node] = ++meta->copy_count;
    }
    for (uint32_t shard = 1; shard <= shard_count; shard++) {
        struct torc_chan_record *record = &meta->records[shard];
        struct torc_cmd_want *want = &meta->wants[shard];

        record->epoch = 1;
        record->member_count = replica_count;
        want->shard = shard;
        want->node_count = replica_count;
        for (uint32_t i = 0; i < replica_count; i++) {
            uint32_t node = (shard - 1 + i) % replica_count + 1;

            record->members[i].node = node;
            record->members[i].copy = meta->node_copy[node];
            want->nodes[i] = node;
        }
        record->primary_node = record->members[0].node;
    }
}

static void meta_node_changed(struct torc_fake_meta *meta, uint32_t node)
{
    for (uint32_t shard = 1; shard <= meta->shard_count; shard++) {
        meta->changed[shard] += meta->records[shard].primary_node == node ? 1 : 0;
    }
}

uint64_t torc_fake_meta_start(struct torc_fake_meta *meta, uint32_t node, bool keeps)
{
    torc_assert(node < TORC_FAKE_NODES_MAX);
    meta->node_boot[node]++;
    if (!keeps) {
        meta->node_copy[node] = ++meta->copy_count;
        for (uint32_t shard = 1; shard <= meta->shard_count; shard++) {
            meta->copies[shard][node] = 0;
        }
    }
    meta_node_changed(meta, node);
    return meta->node_boot[node];
}

void torc_fake_meta_down(struct torc_fake_meta *meta, uint32_t node)
{
    meta->node_down[node] = meta->node_boot[node];
    meta_node_changed(meta, node);
}

void torc_fake_meta_want(struct torc_fake_meta *meta, uint32_t shard,
                         const struct torc_cmd_want *want)
{
    meta->wants[shard] = *want;
    meta->wants[shard].shard = shard;
    meta->want_changed[shard]++;
}

static void meta_answer(const struct torc_fake_meta *meta, uint32_t shard, uint32_t asked_epoch,
                        struct torc_cmd *answer)
{
    const struct torc_chan_record *record = &meta->records[shard];

    answer->record =
        (struct torc_cmd_record){.shard = shard,
                                 .asked_epoch = asked_epoch,
                                 .primary_down_boot = meta->node_down[record->primary_node],
                                 .primary_node_boot = meta->node_boot[record->primary_node],
                                 .record = *record};
}

bool torc_fake_meta_read(struct torc_fake_meta *meta, const struct torc_evt_read *read,
                         struct torc_cmd *answer)
{
    if (meta->away) {
        return false;
    }
    torc_assert(read->shard >= 1 && read->shard <= meta->shard_count);
    *answer = (struct torc_cmd){.kind = TORC_CMD_RECORD};
    meta_answer(meta, read->shard, read->epoch, answer);
    return true;
}

bool torc_fake_meta_propose(struct torc_fake_meta *meta, const struct torc_evt_propose *propose,
                            struct torc_cmd *answer)
{
    struct torc_chan_record *record = &meta->records[propose->shard];
    bool unknown = meta->unknowns > 0;
    bool lost_on_the_way = unknown && meta->unknowns % 2 == 0;

    if (meta->away) {
        return false;
    }
    torc_assert(propose->record.epoch == propose->expected_epoch + 1);
    meta->unknowns -= unknown ? 1 : 0;
    if (record->epoch == propose->expected_epoch && !lost_on_the_way) {
        *record = propose->record;
        meta->changed[propose->shard]++;
        meta->wins++;
    }
    *answer = (struct torc_cmd){.kind = TORC_CMD_RESULT};
    meta_answer(meta, propose->shard, propose->expected_epoch, answer);
    answer->record.nonce = propose->record.nonce;
    answer->record.outcome = unknown                                  ? TORC_CHAN_UNKNOWN
                             : record->nonce == propose->record.nonce ? TORC_CHAN_WON
                                                                      : TORC_CHAN_LOST;
    return true;
}

uint64_t torc_fake_meta_copy(const struct torc_fake_meta *meta, uint32_t shard, uint32_t node)
{
    return meta->copies[shard][node] != 0 ? meta->copies[shard][node] : meta->node_copy[node];
}

uint64_t torc_fake_meta_renew(struct torc_fake_meta *meta, uint32_t shard, uint32_t node)
{
    meta->copies[shard][node] = ++meta->copy_count;
    return meta->copies[shard][node];
}

bool torc_fake_meta_concerns(const struct torc_fake_meta *meta, uint32_t shard, uint32_t node)
{
    const struct torc_chan_record *record = &meta->records[shard];
    const struct torc_cmd_want *want = &meta->wants[shard];
    bool concerns = false;

    for (uint32_t i = 0; i < record->member_count; i++) {
        concerns = concerns || record->members[i].node == node;
    }
    for (uint32_t i = 0; i < want->node_count; i++) {
        concerns = concerns || want->nodes[i] == node;
    }
    return concerns;
}

bool torc_fake_meta_is_member(const struct torc_fake_meta *meta, uint32_t shard, uint32_t node)
{
    const struct torc_chan_record *record = &meta->records[shard];

    for (uint32_t i = 0; i < record->member_count; i++) {
        if (record->members[i].node == node) {
            return record->members[i].copy == torc_fake_meta_copy(meta, shard, node);
        }
    }
    return false;
}
