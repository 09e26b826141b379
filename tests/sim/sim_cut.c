// Torc simulator: the oracle of ranges: one moment, and all of it.
//
// What    a snapshot range names its moment, a timestamp. Versions are timestamps too. So each row
//         must be the last write of its key at or below the moment, and each key without a row must
//         have none, or a delete there; a count is the number of keys that then had a value.
//         Rows come sorted, without a double, inside what was asked, at most as many as the limit.
//         Two looks at one moment agree, whichever way and however long apart.
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

// The version that somebody saw of a value; 0: nobody.
static uint64_t cut_seen(uint64_t number)
{
    for (uint32_t i = 0; i < sim->op_count; i++) {
        const struct sim_op *op = &sim->ops[i];

        if (op->kind == SIM_OP_GET && op->number == number && op->status == TORC_ERR_OK) {
            return op->version;
        }
        for (uint32_t row = 0; op->kind == SIM_OP_RANGE && row < op->row_count; row++) {
            if (sim->rows[op->row_first + row].number == number) {
                return sim->rows[op->row_first + row].version;
            }
        }
    }
    return 0;
}

static void cut_gather(struct cut_key *keys)
{
    for (uint32_t i = 0; i < sim->op_count; i++) {
        const struct sim_op *op = &sim->ops[i];
        struct cut_key *key = &keys[op->key];
        uint64_t version = op->version;
        bool doubt = op->return_ns == 0 || torc_err_maybe_applied((enum torc_err)op->status);

        if ((op->kind != SIM_OP_PUT && op->kind != SIM_OP_DELETE) ||
            (!doubt && op->status != TORC_ERR_OK)) {
            continue;
        }
        if (doubt) {
            version = op->kind == SIM_OP_PUT ? cut_seen(op->number) : 0;
            key->unsure = key->unsure || version == 0;
        }
        if (version == 0) {
            continue;
        }
        if (key->count % 64 == 0) {
            key->writes = realloc(key->writes, (key->count + 64) * sizeof(*key->writes));
            torc_assert(key->writes != NULL);
        }
        key->writes[key->count++] = (struct cut_write){
            .version = version, .number = op->kind == SIM_OP_PUT ? op->number : 0};
    }
    for (uint32_t i = 0; i < sim->config.keys; i++) {
        if (keys[i].count > 0) {
            qsort(keys[i].writes, keys[i].count, sizeof(*keys[i].writes), write_by_version);
        }
    }
}

// The key's last write at or below the moment; NULL: none.
static const struct cut_write *cut_at(const struct cut_key *key, uint64_t ts)
{
    const struct cut_write *found = NULL;

    for (uint32_t i = 0; i < key->count && key->writes[i].version <= ts; i++) {
        found = &key->writes[i];
    }
    return found;
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

static void cut_check(const struct sim_op *op, uint32_t index, const struct cut_key *keys)
{
    bool reverse = (op->flags & TORC_REVERSE) != 0;
    uint64_t lo = op->more && reverse ? op->next_hi : op->lo;
    uint64_t hi = op->more && !reverse ? op->next_lo : op->hi;
    uint64_t count = 0;
    bool unsure = false;

    for (uint32_t i = 0; i < sim->config.keys; i++) {
        const struct cut_write *then = cut_at(&keys[i], op->version);

        if (sim->keys[i] < lo || sim->keys[i] >= hi) {
            continue;
        }
        unsure = unsure || keys[i].unsure;
        count += then != NULL && then->number != 0 ? 1 : 0;
        if (op->kind == SIM_OP_RANGE) {
            cut_key_check(op, index, &keys[i], sim->keys[i]);
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
    static struct cut_key keys[SIM_KEYS_MAX];

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
            cut_check(op, i, keys);
        }
    }
    for (uint32_t i = 0; i < sim->config.keys; i++) {
        free(keys[i].writes);
    }
}
