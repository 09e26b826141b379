// Torc control: the metastore's records in memory. See control/meta_table_os.h.
#include "control/meta_table_os.h"

#include <stdlib.h>
#include <string.h>

// Where `key` is, or belongs.
static uint32_t table_find(const struct torc_meta_table *table, const char *key, uint32_t key_bytes,
                           bool *there)
{
    uint32_t low = 0;
    uint32_t high = table->held_count;

    *there = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const char *other = table->held[middle].key;
        int order = strncmp(other, key, key_bytes);

        if (order == 0 && other[key_bytes] != '\0') {
            order = 1;
        }
        if (order == 0) {
            *there = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void table_drop(struct torc_meta_table *table, uint32_t at)
{
    torc_assert(at < table->held_count);
    table->live_bytes -= strlen(table->held[at].key) + table->held[at].value_bytes;
    // NOLINTBEGIN(clang-analyzer-unix.Malloc): each entry owns its own two
    free(table->held[at].key);
    free(table->held[at].value);
    // NOLINTEND(clang-analyzer-unix.Malloc)
    table->held_count--;
    memmove(table->held + at, table->held + at + 1,
            (table->held_count - at) * sizeof(*table->held));
}

void torc_meta_table_forget(struct torc_meta_table *table)
{
    while (table->held_count > 0) {
        table_drop(table, table->held_count - 1);
    }
    table->gone_count = 0;
    table->gap_revision = 0;
}

static char *table_copy(const void *bytes, uint32_t byte_count)
{
    char *copy = malloc((size_t)byte_count + 1);

    torc_assert(copy != NULL); // a few hundred bytes: without them nothing can go on
    if (byte_count > 0) {
        memcpy(copy, bytes, byte_count);
    }
    copy[byte_count] = '\0';
    return copy;
}

static void table_note_gone(struct torc_meta_table *table, const struct torc_journal_op *op)
{
    struct torc_meta_gone *gone = table->gone + table->gone_count % TORC_META_TABLE_GONE;

    if (table->gone_count >= TORC_META_TABLE_GONE) {
        table->gap_revision = gone->version;
    }
    memcpy(gone->key, op->key, op->key_bytes);
    gone->key[op->key_bytes] = '\0';
    gone->version = op->version;
    table->gone_count++;
}

void torc_meta_table_apply(struct torc_meta_table *table, const struct torc_journal_op *op)
{
    bool there;
    uint32_t at = table_find(table, op->key, op->key_bytes, &there);

    if (there) {
        table_drop(table, at);
    }
    if (op->kind == TORC_JOURNAL_DELETE) {
        if (there) {
            table_note_gone(table, op);
        }
        return;
    }
    if (table->held_count == table->held_room) {
        table->held_room = table->held_room == 0 ? 64 : table->held_room * 2;
        table->held = realloc(table->held, table->held_room * sizeof(*table->held));
        torc_assert(table->held != NULL);
    }
    memmove(table->held + at + 1, table->held + at,
            (table->held_count - at) * sizeof(*table->held));
    table->held[at] = (struct torc_meta_held){.key = table_copy(op->key, op->key_bytes),
                                              .value = table_copy(op->value, op->value_bytes),
                                              .value_bytes = op->value_bytes,
                                              .version = op->version};
    table->held_count++;
    table->live_bytes += op->key_bytes + op->value_bytes;
}

void torc_meta_table_free(struct torc_meta_table *table)
{
    torc_meta_table_forget(table);
    free(table->held);
    table->held = NULL;
    table->held_room = 0;
}

static struct torc_meta_record table_record(const struct torc_meta_held *held)
{
    return (struct torc_meta_record){.key = held->key,
                                     .value = held->value,
                                     .value_bytes = held->value_bytes,
                                     .version = held->version};
}

bool torc_meta_table_get(const struct torc_meta_table *table, const char *key,
                         struct torc_meta_record *record)
{
    bool there;
    uint32_t at = table_find(table, key, (uint32_t)strlen(key), &there);

    if (there) {
        *record = table_record(table->held + at);
    }
    return there;
}

bool torc_meta_table_list(const struct torc_meta_table *table, const char *prefix,
                          struct torc_meta_record *records, uint32_t record_max,
                          uint32_t *record_count)
{
    uint64_t prefix_bytes = strlen(prefix);
    uint32_t count = 0;
    bool there;

    for (uint32_t at = table_find(table, prefix, (uint32_t)prefix_bytes, &there);
         at < table->held_count && strncmp(table->held[at].key, prefix, prefix_bytes) == 0; at++) {
        if (count == record_max) {
            return false;
        }
        records[count++] = table_record(table->held + at);
    }
    *record_count = count;
    return true;
}

bool torc_meta_table_changes(const struct torc_meta_table *table, const char *prefix, uint64_t from,
                             struct torc_meta_record *records, uint32_t record_max,
                             uint32_t *record_count)
{
    uint64_t prefix_bytes = strlen(prefix);
    uint64_t gone_from =
        table->gone_count > TORC_META_TABLE_GONE ? table->gone_count - TORC_META_TABLE_GONE : 0;
    uint32_t count = 0;
    bool there;

    for (uint32_t at = table_find(table, prefix, (uint32_t)prefix_bytes, &there);
         at < table->held_count && strncmp(table->held[at].key, prefix, prefix_bytes) == 0; at++) {
        if (table->held[at].version >= from && count++ < record_max) {
            records[count - 1] = (struct torc_meta_record){.key = table->held[at].key,
                                                           .version = table->held[at].version};
        }
    }
    for (uint64_t i = gone_from; i < table->gone_count; i++) {
        const struct torc_meta_gone *gone = table->gone + i % TORC_META_TABLE_GONE;

        if (gone->version >= from && strncmp(gone->key, prefix, prefix_bytes) == 0 &&
            count++ < record_max) {
            records[count - 1] =
                (struct torc_meta_record){.key = gone->key, .version = gone->version};
        }
    }
    *record_count = (uint32_t)torc_min_u64(count, record_max);
    return count <= record_max && table->gap_revision < from;
}

uint32_t torc_meta_table_puts(const struct torc_meta_table *table, uint32_t at,
                              struct torc_journal_op *ops)
{
    uint32_t count = 0;

    for (; count < TORC_JOURNAL_OPS_MAX && at < table->held_count; count++, at++) {
        const struct torc_meta_held *held = table->held + at;

        ops[count] = (struct torc_journal_op){.kind = TORC_JOURNAL_PUT,
                                              .key = held->key,
                                              .key_bytes = (uint32_t)strlen(held->key),
                                              .value = held->value,
                                              .value_bytes = held->value_bytes,
                                              .version = held->version};
    }
    return count;
}
