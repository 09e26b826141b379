// Torc simulator: the oracle of ranges: one moment, and all of it.
//
// What    a snapshot range names its moment, a timestamp. Versions are timestamps too. So each row
//         must be the last write of its key at or below the moment, and each key without a row must
//         have none, or a delete there; a count is the number of keys that then had a value.
//         Rows come sorted, without a double, inside what was asked, at most as many as the limit.
//         Two looks at one moment agree, whichever way and however long apart.
//         A range holds all that was answered before it began: its moment is not below those
//         versions. And what a client writes is above all that it has seen by then, so that whoever
//         sees the second of two writes sees the first.
// Eras     what was answered before a loss was accepted says nothing of what was afterwards, and is
//          looked at alone (sim_loss.c).
// Excused  a key on which some write is in doubt that nobody saw: its version is not known.
#include "tests/sim/sim.h"
#include "torc/torc.h"

#include <stdlib.h>
#include <string.h>

struct cut_write {
    uint64_t version;
    uint64_t number; // 0: a delete
};

struct cut_key {
    struct cut_write *writes; // by rising version
    uint32_t count;
    bool unsure;
};

static int write_by_version(const void *a, const void *b)
{
    const struct cut_write *one = a;
    const struct cut_write *two = b;

    return one->version < two->version ? -1 : one->version > two->version;
}

// The only era of the shard that this read says something of, or UINT32_MAX.
static uint32_t cut_era(const struct sim_op *op, uint32_t shard)
{
    struct sim_eras eras = sim_loss_eras(op, shard, op->call_ns);

    return eras.first == eras.last ? eras.first : UINT32_MAX;
}

// Who saw a value, and with which version.
struct cut_sight {
    uint64_t version;
    uint32_t op;
    uint32_t next; // of the same value, later; 0: none
};

struct cut_sights {
    struct cut_sight *all; // from 1 on
    uint32_t *first;       // by number of the value
    uint32_t count;
};

static void sights_add(struct cut_sights *sights, uint64_t number, uint64_t version, uint32_t op)
{
    torc_assert(number <= sim->next_value);
    sights->all[++sights->count] =
        (struct cut_sight){.version = version, .op = op, .next = sights->first[number]};
    sights->first[number] = sights->count;
}

// From the last to the first, so that the first one found is the earliest.
static void sights_make(struct cut_sights *sights)
{
    uint64_t most = UINT64_C(1) + sim->op_count + sim->row_count;

    sights->all = calloc(most, sizeof(*sights->all));
    sights->first = calloc(sim->next_value + 1, sizeof(*sights->first));
    torc_assert(sights->all != NULL && sights->first != NULL);
    for (uint32_t i = sim->op_count; i-- > 0;) {
        const struct sim_op *op = &sim->ops[i];

        if (op->kind == SIM_OP_GET && op->status == TORC_ERR_OK) {
            sights_add(sights, op->number, op->version, i);
        }
        for (uint32_t row = op->kind == SIM_OP_RANGE ? op->row_count : 0; row-- > 0;) {
            const struct sim_row *seen = &sim->rows[op->row_first + row];

            sights_add(sights, seen->number, seen->version, i);
        }
    }
}

// The version that somebody saw of a value; 0: nobody.
static uint64_t cut_seen(const struct cut_sights *sights, uint64_t number, uint32_t shard,
                         uint32_t era)
{
    for (uint32_t at = sights->first[number]; at != 0; at = sights->all[at].next) {
        if (cut_era(&sim->ops[sights->all[at].op], shard) == era) {
            return sights->all[at].version;
        }
    }
    return 0;
}

static void cut_add(struct cut_key *key, uint64_t version, uint64_t number)
{
    if (key->count % 64 == 0) {
        key->writes = realloc(key->writes, (key->count + 64) * sizeof(*key->writes));
        torc_assert(key->writes != NULL);
    }
    key->writes[key->count++] = (struct cut_write){.version = version, .number = number};
}

static void cut_gather_op(struct cut_key (*keys)[SIM_KEYS_MAX], const struct cut_sights *sights,
                          const struct sim_op *op)
{
    uint32_t shard = sim_shard_of(sim->keys[op->key]);
    struct sim_eras eras = sim_loss_eras(op, shard, op->call_ns);
    uint64_t number = op->kind == SIM_OP_PUT ? op->number : 0;
    bool doubt = op->return_ns == 0 || torc_err_maybe_applied((enum torc_err)op->status);

    if (!doubt && op->status != TORC_ERR_OK) {
        return;
    }
    for (uint32_t era = eras.first; era <= eras.last; era++) {
        const struct sim_row *row = era > 0 ? sim_loss_row(shard, era, op->key) : NULL;
        struct cut_key *key = &keys[era][op->key];
        uint64_t version = op->version;

        if (doubt || eras.first != eras.last) {
            if (row != NULL && number != 0 && row->number == number) {
                continue; // the era began with it
            }
            version = number != 0 ? cut_seen(sights, number, shard, era) : 0;
            key->unsure = key->unsure || version == 0;
        }
        if (version != 0) {
            cut_add(key, version, number);
        }
    }
}

static void cut_gather(struct cut_key (*keys)[SIM_KEYS_MAX])
{
    struct cut_sights sights = {0};

    sights_make(&sights);
    for (uint32_t i = 0; i < sim->op_count; i++) {
        const struct sim_op *op = &sim->ops[i];

        if (op->kind == SIM_OP_PUT || op->kind == SIM_OP_DELETE) {
            cut_gather_op(keys, &sights, op);
        }
    }
    free(sights.all);
    free(sights.first);
    for (uint32_t i = 0; i < sim->config.keys; i++) {
        uint32_t shard = sim_shard_of(sim->keys[i]);

        for (uint32_t era = 0; era < sim_loss_era_count(shard); era++) {
            const struct sim_row *row = era > 0 ? sim_loss_row(shard, era, i) : NULL;
            struct cut_key *key = &keys[era][i];

            key->unsure = key->unsure || (era > 0 && row == NULL);
            if (row != NULL && row->version != 0) {
                cut_add(key, row->version, row->number);
            }
            if (key->count > 0) {
                qsort(key->writes, key->count, sizeof(*key->writes), write_by_version);
            }
        }
    }
}

// The key's last write at or below the moment; NULL: none.
static const struct cut_write *cut_at(const struct cut_key *key, uint64_t ts)
{
    uint32_t lo = 0;
    uint32_t hi = key->count;

    while (lo < hi) { // writes before `lo` are at or below it, those from `hi` on above
        uint32_t middle = lo + (hi - lo) / 2;

        if (key->writes[middle].version <= ts) {
            lo = middle + 1;
        } else {
            hi = middle;
        }
    }
    return lo > 0 ? &key->writes[lo - 1] : NULL;
}

static const struct sim_row *cut_row(const struct sim_op *op, uint64_t key)
{
    for (uint32_t i = 0; i < op->row_count; i++) {
        if (sim->rows[op->row_first + i].key == key) {
            return &sim->rows[op->row_first + i];
        }
    }
    return NULL;
}

static void cut_key_check(const struct sim_op *op, uint32_t index, const struct cut_key *key,
                          uint64_t name)
{
    const struct cut_write *then = cut_at(key, op->version);
    const struct sim_row *row = cut_row(op, name);
    bool present = then != NULL && then->number != 0;

    if (key->unsure) {
        return;
    }
    if (present != (row != NULL) || (row != NULL && row->version != then->version)) {
        sim_fail("range #%u as of %" PRIx64 ": key %" PRIu64 " %s version %" PRIx64
                 ", but then it was %s version %" PRIx64,
                 (unsigned)index, op->version, name, row != NULL ? "has" : "is absent,",
                 row != NULL ? row->version : 0, present ? "there," : "absent,",
                 then != NULL ? then->version : 0);
    }
}

static void cut_shape(const struct sim_op *op, uint32_t index)
{
    bool reverse = (op->flags & TORC_REVERSE) != 0;

    if (op->limit > 0 && op->row_count > op->limit) {
        sim_fail("range #%u has %u rows, limit %" PRIu64, (unsigned)index, (unsigned)op->row_count,
                 op->limit);
    }
    if (op->asked_ts != 0 && op->version != op->asked_ts) {
        sim_fail("range #%u is as of %" PRIx64 ", asked for was %" PRIx64, (unsigned)index,
                 op->version, op->asked_ts);
    }
    for (uint32_t i = 0; i < op->row_count; i++) {
        const struct sim_row *row = &sim->rows[op->row_first + i];
        bool sorted = i == 0 || (reverse ? row->key < row[-1].key : row->key > row[-1].key);

        if (!sorted || row->key < op->lo || row->key >= op->hi) {
            sim_fail("range #%u [%" PRIu64 ", %" PRIu64 "): key %" PRIu64 " is out of its place",
                     (unsigned)index, op->lo, op->hi, row->key);
        }
    }
}

// What is known of the key in the era that the range was in; NULL: that is two eras, or its moment
// is in the one before.
static const struct cut_key *cut_key_of(const struct sim_op *op,
                                        const struct cut_key (*keys)[SIM_KEYS_MAX], uint32_t place)
{
    uint32_t shard = sim_shard_of(sim->keys[place]);
    uint32_t era = cut_era(op, shard);

    return era == UINT32_MAX || (era > 0 && op->version < sim_loss_hlc(shard, era))
               ? NULL
               : &keys[era][place];
}

static void cut_check(const struct sim_op *op, uint32_t index,
                      const struct cut_key (*keys)[SIM_KEYS_MAX])
{
    bool reverse = (op->flags & TORC_REVERSE) != 0;
    uint64_t lo = op->more && reverse ? op->next_hi : op->lo;
    uint64_t hi = op->more && !reverse ? op->next_lo : op->hi;
    uint64_t count = 0;
    bool unsure = false;

    for (uint32_t i = 0; i < sim->config.keys; i++) {
        const struct cut_key *key;
        const struct cut_write *then;

        if (sim->keys[i] < lo || sim->keys[i] >= hi) {
            continue;
        }
        key = cut_key_of(op, keys, i);
        unsure = unsure || key == NULL || key->unsure;
        then = key != NULL ? cut_at(key, op->version) : NULL;
        count += then != NULL && then->number != 0 ? 1 : 0;
        if (op->kind == SIM_OP_RANGE && key != NULL) {
            cut_key_check(op, index, key, sim->keys[i]);
        }
    }
    sim_cover(SIM_COVER_CHECK_CUT);
    if (op->kind == SIM_OP_COUNT && !unsure && !op->more && op->number != count) {
        sim_fail("count #%u as of %" PRIx64 " says %" PRIu64 ", it was %" PRIu64, (unsigned)index,
                 op->version, op->number, count);
    }
}

void sim_check_cuts(void)
{
    static struct cut_key keys[SIM_ERAS_MAX][SIM_KEYS_MAX];

    memset(keys, 0, sizeof(keys));
    cut_gather(keys);
    for (uint32_t i = 0; i < sim->op_count && sim->result.failed == 0; i++) {
        const struct sim_op *op = &sim->ops[i];

        if (op->kind < SIM_OP_RANGE || op->status != TORC_ERR_OK || op->return_ns == 0) {
            continue;
        }
        if (op->kind == SIM_OP_RANGE) {
            cut_shape(op, i);
        }
        if (op->consistency == TORC_SNAPSHOT) {
            cut_check(op, i, (const struct cut_key(*)[SIM_KEYS_MAX])keys);
        }
    }
    for (uint32_t i = 0; i < SIM_ERAS_MAX * SIM_KEYS_MAX; i++) {
        free(keys[i / SIM_KEYS_MAX][i % SIM_KEYS_MAX].writes);
    }
}

// -- Order ----------------------------------------------------------------------------------------

struct cut_seen {
    uint64_t return_ns;
    uint64_t version;
};

static bool cut_is_write(const struct sim_op *op)
{
    return (op->kind == SIM_OP_PUT || op->kind == SIM_OP_DELETE) && op->status == TORC_ERR_OK &&
           op->return_ns != 0;
}

// A write of an era before the range's: nobody may remember it.
static bool cut_is_lost(const struct sim_op *op, const struct sim_op *range)
{
    uint32_t shard = sim_shard_of(sim->keys[op->key]);

    return sim_loss_eras(op, shard, op->call_ns).first <
           sim_loss_eras(range, shard, range->call_ns).last;
}

// A write that was answered.
struct cut_answer {
    uint64_t return_ns;
    uint64_t key;
    uint64_t version;
    uint32_t op;
};

static uint32_t order_answers(struct cut_answer *answers)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < sim->op_count; i++) {
        const struct sim_op *op = &sim->ops[i];

        if (cut_is_write(op)) {
            answers[count++] = (struct cut_answer){.return_ns = op->return_ns,
                                                   .key = sim->keys[op->key],
                                                   .version = op->version,
                                                   .op = i};
        }
    }
    return count;
}

// All that was answered before it began is in it.
static void order_range(const struct cut_answer *answers, uint32_t count, uint32_t index)
{
    const struct sim_op *range = &sim->ops[index];

    for (uint32_t i = 0; i < count && answers[i].op < index; i++) {
        const struct cut_answer *write = &answers[i];

        if (write->version > range->version && write->return_ns < range->call_ns &&
            write->key >= range->lo && write->key < range->hi &&
            !cut_is_lost(&sim->ops[write->op], range)) {
            sim_fail("range #%u is as of %" PRIx64 ": write #%u of key %" PRIu64
                     " was answered before it, version %" PRIx64,
                     (unsigned)index, range->version, (unsigned)write->op, write->key,
                     write->version);
            return;
        }
    }
}

static int seen_by_return(const void *a, const void *b)
{
    const struct cut_seen *one = a;
    const struct cut_seen *two = b;

    return one->return_ns < two->return_ns ? -1 : one->return_ns > two->return_ns;
}

// What a life of a client had answered, in the order of the answers.
static uint32_t order_gather(struct cut_seen *seen, uint32_t client, uint32_t life)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < sim->op_count; i++) {
        const struct sim_op *op = &sim->ops[i];
        bool counts = op->status == TORC_ERR_OK && op->return_ns != 0 && op->version != 0 &&
                      (op->kind < SIM_OP_RANGE || op->consistency == TORC_SNAPSHOT);

        if (counts && op->client == client && op->life == life) {
            seen[count++] = (struct cut_seen){.return_ns = op->return_ns, .version = op->version};
        }
    }
    if (count > 0) {
        qsort(seen, count, sizeof(*seen), seen_by_return);
    }
    return count;
}

static void order_client(struct cut_seen *seen, uint32_t client, uint32_t life)
{
    uint32_t count = order_gather(seen, client, life);
    uint64_t known = 0;
    uint32_t at = 0;

    for (uint32_t i = 0; i < sim->op_count; i++) {
        const struct sim_op *op = &sim->ops[i];

        if (op->client != client || op->life != life || !cut_is_write(op)) {
            continue;
        }
        while (at < count && seen[at].return_ns < op->call_ns) {
            known = torc_max_u64(known, seen[at++].version);
        }
        if (op->version <= known) {
            sim_fail("client %u: write #%u has version %" PRIx64 ", not above %" PRIx64
                     ", which it had seen",
                     (unsigned)client, (unsigned)i, op->version, known);
        }
    }
}

void sim_check_order(void)
{
    struct cut_seen *seen = malloc((sim->op_count + UINT64_C(1)) * sizeof(*seen));
    struct cut_answer *answers = malloc((sim->op_count + UINT64_C(1)) * sizeof(*answers));
    uint32_t answer_count;

    torc_assert(seen != NULL && answers != NULL);
    answer_count = order_answers(answers);
    for (uint32_t i = 0; i < sim->op_count && sim->result.failed == 0; i++) {
        const struct sim_op *op = &sim->ops[i];

        if (op->kind >= SIM_OP_RANGE && op->status == TORC_ERR_OK && op->return_ns != 0 &&
            op->consistency == TORC_SNAPSHOT && op->asked_ts == 0) {
            order_range(answers, answer_count, i);
        }
    }
    for (uint32_t client = 0; client < sim->config.clients; client++) {
        for (uint32_t life = 1; life <= sim->clients[client].life; life++) {
            order_client(seen, client, life);
        }
    }
    free(answers);
    free(seen);
}
