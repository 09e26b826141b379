// Torc tests: random operations between nodes; see peer_ops.h.
#include "tests/peer_ops.h"

#include <string.h>

static uint64_t any(struct torc_rng *rng)
{
    return torc_rng_chance(rng, 100000) ? UINT64_MAX
                                        : torc_rng_next(rng) >> torc_rng_below(rng, 64);
}

static uint64_t any_lsn(struct torc_rng *rng)
{
    return torc_rng_chance(rng, 100000) ? TORC_PEER_LSN_MAX
                                        : torc_rng_next(rng) >> (2 + torc_rng_below(rng, 62));
}

static uint32_t any32(struct torc_rng *rng)
{
    return (uint32_t)any(rng);
}

static uint32_t up_to(struct torc_rng *rng, uint32_t most)
{
    return (uint32_t)torc_rng_below(rng, most + 1ull);
}

static bool coin(struct torc_rng *rng)
{
    return torc_rng_chance(rng, 500000);
}

static void random_epoch(struct torc_rng *rng, struct torc_peer_epoch *epoch)
{
    struct torc_configuration *configuration = &epoch->configuration;
    uint64_t lsn = 0;
    uint32_t number = 0;

    configuration->epoch = 1 + up_to(rng, 1000);
    configuration->primary_boot = any(rng);
    configuration->nonce = any(rng);
    configuration->member_count = 1 + up_to(rng, TORC_MEMBERS_MAX - 1);
    for (uint32_t i = 0; i < configuration->member_count; i++) {
        configuration->members[i] = (struct torc_member){10 * i + up_to(rng, 9), any(rng)};
    }
    configuration->primary_node =
        configuration->members[up_to(rng, configuration->member_count - 1)].node;
    epoch->table.count = up_to(rng, TORC_EPOCHS_MAX);
    for (uint32_t i = 0; i < epoch->table.count; i++) {
        lsn += 1 + up_to(rng, 1000);
        number += 1 + up_to(rng, 9);
        epoch->table.entries[i] = (struct torc_epoch_entry){number, lsn};
    }
    epoch->last_lsn = any_lsn(rng);
    epoch->floor_lsn = any_lsn(rng);
    epoch->active = coin(rng);
}

static void random_snap(struct torc_rng *rng, struct torc_peer_op *op,
                        struct torc_peer_scratch *scratch)
{
    struct torc_peer_snap *snap = &op->message.snap;
    struct torc_peer_cargo *cargo = &op->cargo;

    *snap = (struct torc_peer_snap){.kind = (enum torc_snap_kind)up_to(rng, TORC_SNAP_ACK),
                                    .epoch = any32(rng),
                                    .base_epoch = any32(rng),
                                    .piece = any32(rng),
                                    .stream = any(rng),
                                    .base_lsn = any_lsn(rng),
                                    .end_lsn = any_lsn(rng),
                                    .end_hlc = any(rng)};
    if (snap->kind != TORC_SNAP_PIECE) {
        return;
    }
    cargo->bytes = scratch->bytes;
    cargo->total_bytes = 1 + up_to(rng, 4000);
    cargo->part_bytes = cargo->total_bytes;
    if (cargo->total_bytes > TORC_PEER_PART_MIN && coin(rng)) {
        cargo->part_bytes = TORC_PEER_PART_MIN + 8 * up_to(rng, 60);
        cargo->part = up_to(rng, torc_peer_parts(cargo->total_bytes, cargo->part_bytes) - 1);
    }
    if (cargo->part_bytes >= cargo->total_bytes) {
        cargo->part_bytes = cargo->total_bytes;
    }
    cargo->byte_count = torc_peer_part_bytes(cargo->total_bytes, cargo->part_bytes, cargo->part);
}

static void random_message(struct torc_rng *rng, struct torc_peer_op *op,
                           struct torc_peer_scratch *scratch)
{
    struct torc_peer_message *message = &op->message;

    message->shard = any32(rng);
    switch (message->kind) {
    case TORC_PEER_EPOCH: random_epoch(rng, &message->epoch); break;
    case TORC_PEER_APPEND:
        message->append = (struct torc_peer_append){
            .epoch = any32(rng), .first_lsn = any_lsn(rng) / 2, .commit_lsn = any_lsn(rng)};
        break;
    case TORC_PEER_ACK:
        message->ack = (struct torc_peer_ack){.epoch = any32(rng),
                                              .copy = any(rng),
                                              .received_lsn = any_lsn(rng),
                                              .durable_lsn = any_lsn(rng),
                                              .stream = any(rng),
                                              .needs_base = coin(rng),
                                              .usable = coin(rng)};
        break;
    case TORC_PEER_REFUSE:
        message->refuse = (struct torc_peer_refuse){any32(rng), any32(rng)};
        break;
    case TORC_PEER_PROBE: message->probe = (struct torc_peer_probe){any32(rng), any32(rng)}; break;
    case TORC_PEER_PROBE_ACK:
        message->probe_ack = (struct torc_peer_probe_ack){.epoch = any32(rng),
                                                          .suspect_node = any32(rng),
                                                          .copy = any(rng),
                                                          .received_lsn = any_lsn(rng),
                                                          .commit_lsn = any_lsn(rng),
                                                          .hears = coin(rng),
                                                          .serving = coin(rng)};
        break;
    case TORC_PEER_TRANSFER:
        message->transfer = (struct torc_peer_transfer){
            .epoch = any32(rng), .last_lsn = any_lsn(rng), .ceiling = any(rng)};
        break;
    case TORC_PEER_SNAP: random_snap(rng, op, scratch); break;
    }
}

static void random_claim(struct torc_rng *rng, struct torc_peer_claim *claim)
{
    claim->from_version = any(rng);
    claim->version = claim->from_version + torc_rng_below(rng, 3);
    if (claim->version < claim->from_version) {
        claim->version = claim->from_version;
    }
    claim->count = up_to(rng, TORC_CLAIM_ITEMS_MAX);
    for (uint32_t i = 0; i < claim->count; i++) {
        claim->items[i] =
            (struct torc_claim_item){.slot = (uint16_t)up_to(rng, TORC_CLAIMS_MAX - 1),
                                     .shard = any32(rng),
                                     .epoch = any32(rng)};
    }
}

void torc_peer_op_random(struct torc_rng *rng, struct torc_peer_op *op,
                         struct torc_peer_scratch *scratch)
{
    uint32_t which = up_to(rng, 11);

    memset(op, 0, sizeof(*op));
    memset(scratch->bytes, (int)up_to(rng, 255), sizeof(scratch->bytes));
    if (which == 8) {
        op->opcode = TORC_PEER_OP_BEAT;
        op->beat = (struct torc_beat){.sent_ns = any(rng),
                                      .wall_us = any(rng),
                                      .claim_version = any(rng),
                                      .ceiling = any(rng),
                                      .open_hlc = any(rng),
                                      .stretch = (uint8_t)(1u << up_to(rng, 3)),
                                      .health = (uint8_t)up_to(rng, 255)};
    } else if (which == 11) {
        op->opcode = TORC_PEER_OP_MARK;
        op->mark = (struct torc_peer_mark){.shard = any32(rng),
                                           .asks = up_to(rng, 1) == 1,
                                           .commit_lsn = any_lsn(rng),
                                           .asked_ns = any(rng)};
    } else if (which == 9) {
        op->opcode = TORC_PEER_OP_BEAT_ACK;
        op->beat_ack = (struct torc_beat_ack){.echo_ns = any(rng),
                                              .claim_version = any(rng),
                                              .ceiling = any(rng),
                                              .stretch = (uint8_t)(1u << up_to(rng, 3)),
                                              .hint_shard = any32(rng),
                                              .hint_epoch = any32(rng)};
        for (uint32_t i = 0; i < TORC_COUNT_OF(op->beat_ack.promised); i++) {
            op->beat_ack.promised[i] = any(rng);
        }
    } else if (which == 10) {
        op->opcode = TORC_PEER_OP_CLAIM;
        random_claim(rng, &op->claim);
    } else {
        op->message.kind = (enum torc_peer_kind)which;
        op->opcode = torc_peer_opcode_of(op->message.kind);
        random_message(rng, op, scratch);
    }
}

void torc_peer_append_random(struct torc_rng *rng, struct torc_peer_message *message,
                             struct torc_peer_scratch *scratch)
{
    uint64_t lsn = 1 + any_lsn(rng) / 2;
    uint64_t hlc = any(rng) / 2;
    uint32_t epoch = 1 + up_to(rng, 1000);
    uint32_t used = 0;

    *message = (struct torc_peer_message){.kind = TORC_PEER_APPEND, .shard = any32(rng)};
    message->append = (struct torc_peer_append){.epoch = any32(rng), .commit_lsn = any_lsn(rng)};
    scratch->record_count = up_to(rng, TORC_PEER_SCRATCH_RECORDS);
    for (uint32_t i = 0; i < sizeof(scratch->bytes); i++) {
        scratch->bytes[i] = (unsigned char)(i * 31 + i / 251);
    }
    for (uint32_t i = 0; i < scratch->record_count; i++) {
        static const enum torc_peer_record_kind kinds[] = {
            TORC_PEER_RECORD_PUT, TORC_PEER_RECORD_PUT, TORC_PEER_RECORD_DELETE,
            TORC_PEER_RECORD_EMPTY, TORC_PEER_RECORD_EPOCH};
        struct torc_peer_record *record = &scratch->records[i];

        hlc += 1 + torc_rng_below(rng, 1000);
        *record = (struct torc_peer_record){.kind = kinds[up_to(rng, 4)],
                                            .with_client = coin(rng),
                                            .shard = message->shard,
                                            .epoch = epoch,
                                            .lsn = lsn + i,
                                            .hlc = hlc};
        if (record->kind <= TORC_PEER_RECORD_DELETE) {
            record->key = any(rng);
        }
        if (record->with_client) {
            record->principal = any32(rng);
            record->client = any(rng);
            record->seq = any(rng);
            record->low = record->seq - torc_rng_below(rng, torc_min_u64(record->seq, 4096) + 1);
        }
        if (record->kind == TORC_PEER_RECORD_PUT) {
            record->value_bytes = up_to(rng, torc_rng_chance(rng, 50000) ? 3000 : 40);
            record->value_bytes =
                (uint32_t)torc_min_u64(record->value_bytes, sizeof(scratch->bytes) - used);
            record->value = record->value_bytes > 0 ? scratch->bytes + used : NULL;
            used += record->value_bytes;
        }
    }
}

// -- Comparing -----------------------------------------------------------------------------------

bool torc_peer_record_same(const struct torc_peer_record *a, const struct torc_peer_record *b)
{
    return a->kind == b->kind && a->with_client == b->with_client && a->shard == b->shard &&
           a->epoch == b->epoch && a->lsn == b->lsn && a->hlc == b->hlc && a->key == b->key &&
           a->principal == b->principal && a->client == b->client && a->seq == b->seq &&
           a->low == b->low && a->value_bytes == b->value_bytes &&
           (a->value_bytes == 0 || memcmp(a->value, b->value, a->value_bytes) == 0);
}

static bool table_same(const struct torc_epoch_table *a, const struct torc_epoch_table *b)
{
    for (uint32_t i = 0; i < a->count && i < b->count; i++) {
        if (a->entries[i].epoch != b->entries[i].epoch ||
            a->entries[i].first_lsn != b->entries[i].first_lsn) {
            return false;
        }
    }
    return a->count == b->count;
}

static bool epoch_same(const struct torc_peer_epoch *a, const struct torc_peer_epoch *b)
{
    const struct torc_configuration *c = &a->configuration;
    const struct torc_configuration *d = &b->configuration;

    for (uint32_t i = 0; i < c->member_count && i < d->member_count; i++) {
        if (c->members[i].node != d->members[i].node || c->members[i].copy != d->members[i].copy) {
            return false;
        }
    }
    return c->epoch == d->epoch && c->primary_node == d->primary_node &&
           c->primary_boot == d->primary_boot && c->nonce == d->nonce &&
           c->member_count == d->member_count && table_same(&a->table, &b->table) &&
           a->last_lsn == b->last_lsn && a->floor_lsn == b->floor_lsn && a->active == b->active;
}

static bool snap_same(const struct torc_peer_op *x, const struct torc_peer_op *y)
{
    const struct torc_peer_snap *a = &x->message.snap;
    const struct torc_peer_snap *b = &y->message.snap;

    return a->kind == b->kind && a->epoch == b->epoch && a->base_epoch == b->base_epoch &&
           a->piece == b->piece && a->stream == b->stream && a->base_lsn == b->base_lsn &&
           a->end_lsn == b->end_lsn && a->end_hlc == b->end_hlc &&
           x->cargo.total_bytes == y->cargo.total_bytes &&
           x->cargo.part_bytes == y->cargo.part_bytes && x->cargo.part == y->cargo.part &&
           x->cargo.byte_count == y->cargo.byte_count &&
           (x->cargo.byte_count == 0 ||
            memcmp(x->cargo.bytes, y->cargo.bytes, x->cargo.byte_count) == 0);
}

static bool message_same(const struct torc_peer_op *x, const struct torc_peer_op *y)
{
    const struct torc_peer_message *a = &x->message;
    const struct torc_peer_message *b = &y->message;

    if (a->kind != b->kind || a->shard != b->shard) {
        return false;
    }
    switch (a->kind) {
    case TORC_PEER_EPOCH: return epoch_same(&a->epoch, &b->epoch);
    case TORC_PEER_APPEND:
        return a->append.epoch == b->append.epoch && a->append.first_lsn == b->append.first_lsn &&
               a->append.commit_lsn == b->append.commit_lsn;
    case TORC_PEER_ACK:
        return a->ack.epoch == b->ack.epoch && a->ack.copy == b->ack.copy &&
               a->ack.received_lsn == b->ack.received_lsn &&
               a->ack.durable_lsn == b->ack.durable_lsn && a->ack.stream == b->ack.stream &&
               a->ack.needs_base == b->ack.needs_base && a->ack.usable == b->ack.usable;
    case TORC_PEER_REFUSE:
        return a->refuse.epoch == b->refuse.epoch && a->refuse.my_epoch == b->refuse.my_epoch;
    case TORC_PEER_PROBE:
        return a->probe.epoch == b->probe.epoch && a->probe.suspect_node == b->probe.suspect_node;
    case TORC_PEER_PROBE_ACK:
        return a->probe_ack.epoch == b->probe_ack.epoch &&
               a->probe_ack.suspect_node == b->probe_ack.suspect_node &&
               a->probe_ack.copy == b->probe_ack.copy &&
               a->probe_ack.received_lsn == b->probe_ack.received_lsn &&
               a->probe_ack.commit_lsn == b->probe_ack.commit_lsn &&
               a->probe_ack.hears == b->probe_ack.hears &&
               a->probe_ack.serving == b->probe_ack.serving;
    case TORC_PEER_TRANSFER:
        return a->transfer.epoch == b->transfer.epoch &&
               a->transfer.last_lsn == b->transfer.last_lsn &&
               a->transfer.ceiling == b->transfer.ceiling;
    case TORC_PEER_SNAP: return snap_same(x, y);
    }
    return false;
}

static bool claim_same(const struct torc_peer_claim *a, const struct torc_peer_claim *b)
{
    for (uint32_t i = 0; i < a->count && i < b->count; i++) {
        if (a->items[i].slot != b->items[i].slot || a->items[i].shard != b->items[i].shard ||
            a->items[i].epoch != b->items[i].epoch) {
            return false;
        }
    }
    return a->from_version == b->from_version && a->version == b->version && a->count == b->count;
}

bool torc_peer_op_same(const struct torc_peer_op *a, const struct torc_peer_op *b)
{
    if (a->opcode != b->opcode) {
        return false;
    }
    if (a->opcode == TORC_PEER_OP_BEAT) {
        return a->beat.sent_ns == b->beat.sent_ns && a->beat.wall_us == b->beat.wall_us &&
               a->beat.claim_version == b->beat.claim_version &&
               a->beat.ceiling == b->beat.ceiling && a->beat.open_hlc == b->beat.open_hlc &&
               a->beat.stretch == b->beat.stretch && a->beat.health == b->beat.health;
    }
    if (a->opcode == TORC_PEER_OP_BEAT_ACK) {
        return a->beat_ack.echo_ns == b->beat_ack.echo_ns &&
               a->beat_ack.claim_version == b->beat_ack.claim_version &&
               a->beat_ack.ceiling == b->beat_ack.ceiling &&
               a->beat_ack.stretch == b->beat_ack.stretch &&
               a->beat_ack.hint_shard == b->beat_ack.hint_shard &&
               a->beat_ack.hint_epoch == b->beat_ack.hint_epoch &&
               memcmp(a->beat_ack.promised, b->beat_ack.promised, sizeof(a->beat_ack.promised)) ==
                   0;
    }
    if (a->opcode == TORC_PEER_OP_MARK) {
        return a->mark.shard == b->mark.shard && a->mark.asks == b->mark.asks &&
               a->mark.commit_lsn == b->mark.commit_lsn && a->mark.asked_ns == b->mark.asked_ns;
    }
    if (a->opcode == TORC_PEER_OP_CLAIM) {
        return claim_same(&a->claim, &b->claim);
    }
    return message_same(a, b);
}
