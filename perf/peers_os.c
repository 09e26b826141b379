// Torc perf: the maps of C. See perf/peers.h.
//
// LMDB lies in a file of /dev/shm, without locks and syncs, integer keys, written through the
// mapping, one transaction for all reads: its best case. JudyL holds word to word, so the values
// lie in an array of their own.
#include "perf/peers.h"

#include <Judy.h>
#include <ftw.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// -- LMDB ----------------------------------------------------------------------------------------

struct lmdb {
    MDB_env *env;
    MDB_txn *reader; // NULL while written
    MDB_dbi database;
    char folder[40];
};

static void lmdb_remove(const char *folder)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "%s/data.mdb", folder);
    (void)unlink(path);
    (void)rmdir(folder);
}

static void *lmdb_open(uint64_t key_count)
{
    struct lmdb *self = calloc(1, sizeof(*self));
    unsigned flags = MDB_NOSYNC | MDB_NOMETASYNC | MDB_WRITEMAP | MDB_NOLOCK | MDB_NORDAHEAD;
    MDB_txn *txn = NULL;

    if (self == NULL) {
        return NULL;
    }
    *self = (struct lmdb){.folder = "/dev/shm/torc-bench-XXXXXX"};
    if (mkdtemp(self->folder) == NULL) {
        free(self);
        return NULL;
    }
    if (mdb_env_create(&self->env) != 0 ||
        mdb_env_set_mapsize(self->env, key_count * 160 + (UINT64_C(64) << 20)) != 0 ||
        mdb_env_open(self->env, self->folder, flags, 0600) != 0 ||
        mdb_txn_begin(self->env, NULL, 0, &txn) != 0 ||
        mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &self->database) != 0 || mdb_txn_commit(txn) != 0) {
        lmdb_remove(self->folder);
        free(self);
        return NULL;
    }
    return self;
}

static void lmdb_insert(void *lmdb, const uint64_t *keys, uint64_t count)
{
    struct lmdb *self = lmdb;
    MDB_txn *txn = NULL;

    if (self->reader != NULL) {
        mdb_txn_abort(self->reader);
        self->reader = NULL;
    }
    if (mdb_txn_begin(self->env, NULL, 0, &txn) != 0) {
        abort();
    }
    for (uint64_t i = 0; i < count; i++) {
        struct peer_value value = peer_value_of(keys[i]);
        uint64_t key = keys[i];
        MDB_val name = {sizeof(key), &key};
        MDB_val bytes = {sizeof(value), &value};

        if (mdb_put(txn, self->database, &name, &bytes, 0) != 0) {
            abort();
        }
    }
    if (mdb_txn_commit(txn) != 0) {
        abort();
    }
}

static MDB_cursor *lmdb_cursor(struct lmdb *self)
{
    MDB_cursor *cursor = NULL;

    if ((self->reader == NULL && mdb_txn_begin(self->env, NULL, MDB_RDONLY, &self->reader) != 0) ||
        mdb_cursor_open(self->reader, self->database, &cursor) != 0) {
        abort();
    }
    return cursor;
}

static uint64_t lmdb_first_word(const MDB_val *bytes)
{
    struct peer_value value;

    memcpy(&value, bytes->mv_data, sizeof(value));
    return value.words[0];
}

static uint64_t lmdb_chase(void *lmdb, const uint64_t *keys, uint64_t count, uint64_t zero)
{
    MDB_cursor *cursor = lmdb_cursor(lmdb);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t key = keys[i] + (sum & zero);
        MDB_val name = {sizeof(key), &key};
        MDB_val bytes;

        sum += mdb_cursor_get(cursor, &name, &bytes, MDB_SET) == 0 ? lmdb_first_word(&bytes) : 0;
    }
    mdb_cursor_close(cursor);
    return sum;
}

static uint64_t lmdb_lookup(void *lmdb, const uint64_t *keys, uint64_t count)
{
    return lmdb_chase(lmdb, keys, count, 0);
}

static uint64_t lmdb_scan(void *lmdb, const uint64_t *keys, uint64_t count, uint64_t length)
{
    MDB_cursor *cursor = lmdb_cursor(lmdb);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t key = keys[i];
        MDB_val name = {sizeof(key), &key};
        MDB_val bytes;
        int err = mdb_cursor_get(cursor, &name, &bytes, MDB_SET_RANGE);

        for (uint64_t left = length; err == 0 && left > 0; left--) {
            memcpy(&key, name.mv_data, sizeof(key));
            sum += key + lmdb_first_word(&bytes);
            err = left > 1 ? mdb_cursor_get(cursor, &name, &bytes, MDB_NEXT) : 0;
        }
    }
    mdb_cursor_close(cursor);
    return sum;
}

// The last key that is not above `key`.
static int lmdb_seek_back(MDB_cursor *cursor, uint64_t key, MDB_val *name, MDB_val *bytes)
{
    uint64_t found;
    int err;

    *name = (MDB_val){sizeof(key), &key};
    err = mdb_cursor_get(cursor, name, bytes, MDB_SET_RANGE);
    if (err != 0) {
        return mdb_cursor_get(cursor, name, bytes, MDB_LAST);
    }
    memcpy(&found, name->mv_data, sizeof(found));
    return found == key ? 0 : mdb_cursor_get(cursor, name, bytes, MDB_PREV);
}

static uint64_t lmdb_scan_back(void *lmdb, const uint64_t *keys, uint64_t count, uint64_t length)
{
    MDB_cursor *cursor = lmdb_cursor(lmdb);
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        MDB_val name;
        MDB_val bytes;
        int err = lmdb_seek_back(cursor, keys[i], &name, &bytes);

        for (uint64_t left = length; err == 0 && left > 0; left--) {
            uint64_t key;

            memcpy(&key, name.mv_data, sizeof(key));
            sum += key + lmdb_first_word(&bytes);
            err = left > 1 ? mdb_cursor_get(cursor, &name, &bytes, MDB_PREV) : 0;
        }
    }
    mdb_cursor_close(cursor);
    return sum;
}

static void lmdb_close(void *lmdb)
{
    struct lmdb *self = lmdb;

    if (self->reader != NULL) {
        mdb_txn_abort(self->reader);
    }
    mdb_env_close(self->env);
    lmdb_remove(self->folder);
    free(self);
}

const struct peer peer_lmdb = {"LMDB",     lmdb_open, lmdb_insert,    lmdb_lookup,
                               lmdb_chase, lmdb_scan, lmdb_scan_back, lmdb_close};

// -- JudyL ---------------------------------------------------------------------------------------

struct judy {
    Pvoid_t array;
    struct peer_value *values;
    uint64_t count;
    uint64_t capacity;
};

static void *judy_open(uint64_t key_count)
{
    struct judy *self = calloc(1, sizeof(*self));

    if (self != NULL) {
        self->values = malloc(key_count * sizeof(self->values[0]));
        self->capacity = key_count;
    }
    return self;
}

static void judy_insert(void *judy, const uint64_t *keys, uint64_t count)
{
    struct judy *self = judy;

    for (uint64_t i = 0; i < count; i++) {
        Word_t *place = (Word_t *)JudyLIns(&self->array, keys[i], PJE0);

        if (place == NULL || (*place == 0 && self->count == self->capacity)) {
            abort();
        }
        if (*place == 0) {
            *place = ++self->count;
        }
        self->values[*place - 1] = peer_value_of(keys[i]);
    }
}

static uint64_t judy_chase(void *judy, const uint64_t *keys, uint64_t count, uint64_t zero)
{
    const struct judy *self = judy;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        const Word_t *place = (const Word_t *)JudyLGet(self->array, keys[i] + (sum & zero), PJE0);

        sum += place == NULL ? 0 : self->values[*place - 1].words[0];
    }
    return sum;
}

static uint64_t judy_lookup(void *judy, const uint64_t *keys, uint64_t count)
{
    return judy_chase(judy, keys, count, 0);
}

static uint64_t judy_scan(void *judy, const uint64_t *keys, uint64_t count, uint64_t length)
{
    const struct judy *self = judy;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        Word_t key = keys[i];
        const Word_t *place = (const Word_t *)JudyLFirst(self->array, &key, PJE0);

        for (uint64_t left = length; place != NULL && left > 0; left--) {
            sum += key + self->values[*place - 1].words[0];
            place = left > 1 ? (const Word_t *)JudyLNext(self->array, &key, PJE0) : place;
        }
    }
    return sum;
}

static uint64_t judy_scan_back(void *judy, const uint64_t *keys, uint64_t count, uint64_t length)
{
    const struct judy *self = judy;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        Word_t key = keys[i];
        const Word_t *place = (const Word_t *)JudyLLast(self->array, &key, PJE0);

        for (uint64_t left = length; place != NULL && left > 0; left--) {
            sum += key + self->values[*place - 1].words[0];
            place = left > 1 ? (const Word_t *)JudyLPrev(self->array, &key, PJE0) : place;
        }
    }
    return sum;
}

static void judy_close(void *judy)
{
    struct judy *self = judy;

    (void)JudyLFreeArray(&self->array, PJE0);
    free(self->values);
    free(self);
}

const struct peer peer_judy = {"JudyL",    judy_open, judy_insert,    judy_lookup,
                               judy_chase, judy_scan, judy_scan_back, judy_close};
