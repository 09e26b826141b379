// Torc control: the metastore in one file. See control/meta_file_os.h and control/journal.h.
#include "control/meta_file_os.h"

#include "control/meta_table_os.h"
#include "kit/clock_os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    META_LOCK_PAUSE_NS = 500000, // a holder keeps it for one sync
    META_COMPACT_BYTES =
        4 << 20,             // an idle journal stays below it; a start of 4096 shards adds 1 MiB
    META_COMPACT_FACTOR = 4, // and at least this many times what is live
    META_PATH_BYTES = 512
};

#define META_LOCK_WAIT_NS TORC_NS_PER_S // REPLICATION.md M6: over a second counts as away

// NOLINTBEGIN(misc-redundant-expression): that is what they say
_Static_assert(TORC_META_KEY_MAX == TORC_JOURNAL_KEY_MAX, "whatever is submitted fits");
_Static_assert(TORC_META_VALUE_MAX == TORC_JOURNAL_VALUE_MAX, "whatever is submitted fits");
_Static_assert(TORC_META_OPS_MAX == TORC_JOURNAL_OPS_MAX, "whatever is submitted fits");
_Static_assert(TORC_META_TXN_BYTES == TORC_JOURNAL_ENTRY_MAX, "whatever is submitted fits");
// NOLINTEND(misc-redundant-expression)

struct torc_meta_file {
    char folder[META_PATH_BYTES];
    uint8_t machine[TORC_JOURNAL_MACHINE_BYTES];
    int folder_fd;
    int lock_fd;
    int journal_fd;
    uint64_t end;      // of the last good entry seen
    uint64_t revision; // of that entry
    uint64_t last_at;  // where it begins; its head, by which it is known again
    struct torc_journal_entry last;
    bool failed;    // M3
    bool look_only; // lock_fd may be -1 then: a copy
    struct torc_meta_table table;
    unsigned char *scratch; // one entry
    atomic_bool stop;       // waits no longer for the lock
};

// -- The lock ------------------------------------------------------------------------------------

static enum torc_err meta_lock(struct torc_meta_file *store, int kind, struct torc_fail *why)
{
    struct timespec pause = {0, META_LOCK_PAUSE_NS};
    uint64_t until_ns = torc_clock_now_ns() + META_LOCK_WAIT_NS;

    if (store->failed) {
        return torc_fail(why, TORC_ERR_IO, "%s/journal: it failed earlier; restart torc-control",
                         store->folder);
    }
    if (store->lock_fd < 0) {
        return TORC_ERR_OK;
    }
    do {
        if (flock(store->lock_fd, kind | LOCK_NB) == 0) {
            return TORC_ERR_OK;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return torc_fail(why, TORC_ERR_IO, "flock %s/lock: %s", store->folder,
                             strerrordesc_np(errno));
        }
        (void)nanosleep(&pause, NULL); // shorter is as good
        // Pairs with the release in torc_meta_file_stop: only the flag itself is looked at.
    } while (torc_clock_now_ns() < until_ns &&
             !atomic_load_explicit(&store->stop, memory_order_acquire));
    return torc_fail(why, TORC_ERR_UNAVAILABLE,
                     "%s/lock: held by another process for over a second", store->folder);
}

static void meta_unlock(struct torc_meta_file *store)
{
    int unlocked = store->lock_fd < 0 ? 0 : flock(store->lock_fd, LOCK_UN);

    torc_assert(unlocked == 0);
}

// -- Reading -------------------------------------------------------------------------------------

static enum torc_err meta_read_all(int fd, uint64_t offset, unsigned char *bytes,
                                   uint64_t byte_count, struct torc_fail *why)
{
    while (byte_count > 0) {
        int64_t got = pread(fd, bytes, byte_count, (off_t)offset);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return torc_fail(why, TORC_ERR_IO, "read journal at %" PRIu64 ": %s", offset,
                             got == 0 ? "shorter than it was" : strerrordesc_np(errno));
        }
        bytes += got;
        offset += (uint64_t)got;
        byte_count -= (uint64_t)got;
    }
    return TORC_ERR_OK;
}

static void meta_took(struct torc_meta_file *store, const unsigned char *entry,
                      uint64_t entry_bytes, uint64_t revision)
{
    memcpy(&store->last, entry, sizeof(store->last));
    store->last_at = store->end;
    store->end += entry_bytes;
    store->revision = revision;
}

// Entries from `at` on, as far as they are good; the store's end and revision follow.
static enum torc_err meta_take(struct torc_meta_file *store, const unsigned char *bytes,
                               uint64_t byte_count, uint32_t snapshot_left, struct torc_fail *why)
{
    uint64_t at = 0;

    for (;;) {
        struct torc_journal_read read = torc_journal_entry_read(bytes + at, byte_count - at);
        bool snapshot = (read.flags & TORC_JOURNAL_SNAPSHOT) != 0;
        struct torc_journal_op op;

        if (read.entry_bytes == 0 || snapshot != (snapshot_left > 0) ||
            (!snapshot && read.revision != store->revision + 1)) {
            break;
        }
        while (torc_journal_op_next(&read, &op)) {
            torc_meta_table_apply(&store->table, &op);
        }
        if (read.op_count > 0) {
            return torc_fail(why, TORC_ERR_CORRUPT, "%s/journal at %" PRIu64 ": unknown operation",
                             store->folder, store->end);
        }
        snapshot_left -= snapshot ? 1 : 0;
        store->table.gap_revision = snapshot ? read.revision : store->table.gap_revision;
        meta_took(store, bytes + at, read.entry_bytes, read.revision);
        at += read.entry_bytes;
    }
    if (snapshot_left > 0 || torc_journal_is_damage(bytes + at, byte_count - at, store->revision)) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "%s/journal: damaged at byte %" PRIu64
                         "; restore it from a backup, or from another node's copy",
                         store->folder, store->end);
    }
    return TORC_ERR_OK; // what follows, if anything, is a torn tail
}

static enum torc_err meta_check_header(struct torc_meta_file *store, const unsigned char *bytes,
                                       uint64_t byte_count, uint32_t *snapshot,
                                       struct torc_fail *why)
{
    struct torc_journal_header header;
    struct torc_fail inner;
    enum torc_err err;

    if (byte_count < sizeof(header)) {
        return torc_fail(why, TORC_ERR_CORRUPT, "%s/journal: only %" PRIu64 " bytes", store->folder,
                         byte_count);
    }
    memcpy(&header, bytes, sizeof(header));
    err = torc_journal_header_check(&header, store->machine, &inner);
    if (err != TORC_ERR_OK) {
        return torc_fail(why, err, "%.70s/journal: %.80s", store->folder, inner.text);
    }
    *snapshot = torc_get_le32(header.snapshot_entries);
    store->end = sizeof(header);
    return TORC_ERR_OK;
}

// Whether the file that is open still has what was read of it: nobody takes away or changes what is
// whole, but a copy may be put over it. The last entry is enough: its checksum is of its revision
// and of what it did, and a copy that has it in that place went the same way up to it.
static enum torc_err meta_check_same(struct torc_meta_file *store, uint64_t byte_count,
                                     struct torc_fail *why)
{
    struct torc_journal_entry now = {0};
    enum torc_err err = TORC_ERR_OK;

    if (byte_count >= store->end && store->last_at > 0) {
        err = meta_read_all(store->journal_fd, store->last_at, (unsigned char *)&now, sizeof(now),
                            why);
    }
    if (err == TORC_ERR_OK &&
        (byte_count < store->end ||
         (store->last_at > 0 && memcmp(&now, &store->last, sizeof(now)) != 0))) {
        store->failed = true;
        err = torc_fail(why, TORC_ERR_CORRUPT, "%s/journal: %s: put back under a node that runs?",
                        store->folder,
                        byte_count < store->end ? "shorter than it was" : "another than it was");
    }
    return err;
}

// Catches up with what others wrote. Under the lock, shared or not.
static enum torc_err meta_refresh(struct torc_meta_file *store, struct torc_fail *why)
{
    struct stat named = {0};
    struct stat open_one = {0};
    uint32_t snapshot = 0;
    uint64_t from = store->end;
    uint64_t left;
    unsigned char *bytes;
    enum torc_err err;

    if (fstatat(store->folder_fd, "journal", &named, 0) != 0) {
        return torc_fail(why, TORC_ERR_IO, "%s/journal: %s", store->folder, strerrordesc_np(errno));
    }
    if (store->journal_fd >= 0 &&
        (fstat(store->journal_fd, &open_one) != 0 || open_one.st_ino != named.st_ino)) {
        (void)close(store->journal_fd); // compacted by another process: nothing of ours is in it
        store->journal_fd = -1;
    }
    if (store->journal_fd < 0) {
        torc_meta_table_forget(&store->table);
        store->end = 0;
        store->last_at = 0;
        store->revision = 0;
        from = 0;
        store->journal_fd =
            openat(store->folder_fd, "journal", O_CLOEXEC | (store->look_only ? O_RDONLY : O_RDWR));
        // Whoever compacted may have died between its rename and the sync of that.
        if (store->journal_fd < 0 || fsync(store->folder_fd) != 0) {
            return torc_fail(why, TORC_ERR_IO, "open %s/journal: %s", store->folder,
                             strerrordesc_np(errno));
        }
    }
    err = meta_check_same(store, (uint64_t)named.st_size, why);
    if (err != TORC_ERR_OK || (uint64_t)named.st_size == from) {
        return err;
    }
    left = (uint64_t)named.st_size - from;
    bytes = malloc(left);
    torc_assert(bytes != NULL);
    err = meta_read_all(store->journal_fd, from, bytes, left, why);
    if (err == TORC_ERR_OK && from == 0) {
        err = meta_check_header(store, bytes, left, &snapshot, why);
    }
    if (err == TORC_ERR_OK) {
        err = meta_take(store, bytes + (store->end - from), left - (store->end - from), snapshot,
                        why);
    }
    free(bytes);
    // Whoever wrote it may have been killed before its sync: nothing is believed that a power cut
    // could take back.
    if (err == TORC_ERR_OK && store->end > from && fdatasync(store->journal_fd) != 0) {
        store->failed = true;
        err = torc_fail(why, TORC_ERR_IO, "sync %s/journal: %s", store->folder,
                        strerrordesc_np(errno));
    }
    if (err != TORC_ERR_OK && from == 0) { // the next call is to judge all of it again
        (void)close(store->journal_fd);    // only read
        store->journal_fd = -1;
        store->end = 0;
    }
    return err;
}

// -- Writing -------------------------------------------------------------------------------------

static enum torc_err meta_write_all(int fd, uint64_t offset, const void *bytes, uint64_t byte_count,
                                    struct torc_fail *why)
{
    const unsigned char *at = bytes;

    while (byte_count > 0) {
        int64_t put = pwrite(fd, at, byte_count, (off_t)offset);

        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return torc_fail(why,
                             errno == ENOSPC || errno == EDQUOT ? TORC_ERR_NO_SPACE : TORC_ERR_IO,
                             "write journal: %s", strerrordesc_np(errno));
        }
        at += put;
        offset += (uint64_t)put;
        byte_count -= (uint64_t)put;
    }
    return TORC_ERR_OK;
}

// Appends one entry that was made in `scratch` and syncs it.
static enum torc_err meta_append(struct torc_meta_file *store, uint64_t entry_bytes,
                                 struct torc_fail *why)
{
    struct torc_fail inner = {0};
    enum torc_err err;

    // A torn tail goes first, or a longer one would show behind a shorter entry.
    if (ftruncate(store->journal_fd, (off_t)store->end) != 0) {
        return torc_fail(why, TORC_ERR_IO, "truncate %s/journal: %s", store->folder,
                         strerrordesc_np(errno));
    }
    err = meta_write_all(store->journal_fd, store->end, store->scratch, entry_bytes, &inner);
    if (err == TORC_ERR_OK && fdatasync(store->journal_fd) != 0) {
        err = torc_fail(&inner, TORC_ERR_IO, "sync: %s", strerrordesc_np(errno));
    }
    if (err == TORC_ERR_NO_SPACE && ftruncate(store->journal_fd, (off_t)store->end) == 0) {
        // As if nothing had been tried.
        return torc_fail(why, err, "%s/journal: %.80s", store->folder, inner.text);
    }
    if (err == TORC_ERR_OK) {
        return TORC_ERR_OK;
    }
    store->failed = true;
    return torc_fail(why, TORC_ERR_IN_DOUBT,
                     "%s/journal: a write failed, and whether it took effect is not known: %.60s",
                     store->folder, inner.text);
}

// Writes everything live into `fd` as snapshot entries. Returns how many, or 0 with `why` set.
static uint32_t meta_write_snapshot(struct torc_meta_file *store, int fd, struct torc_fail *why)
{
    struct torc_journal_op ops[TORC_JOURNAL_OPS_MAX];
    uint64_t offset = sizeof(struct torc_journal_header);
    uint32_t entries = 0;

    for (uint32_t at = 0; at < store->table.held_count; entries++) {
        uint32_t count = torc_meta_table_puts(&store->table, at, ops);
        uint64_t bytes = torc_journal_entry_bytes(ops, count);

        torc_assert(bytes > 0);
        at += count;
        torc_journal_entry_make(store->scratch, ops, count, store->revision, TORC_JOURNAL_SNAPSHOT);
        if (meta_write_all(fd, offset, store->scratch, bytes, why) != TORC_ERR_OK) {
            return 0;
        }
        offset += bytes;
    }
    return entries;
}

// A new journal under a temporary name, then renamed. Under the exclusive lock.
static enum torc_err meta_write_journal(struct torc_meta_file *store, struct torc_fail *why)
{
    int fd = openat(store->folder_fd, "journal.new", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    struct torc_journal_header header;
    enum torc_err err = TORC_ERR_OK;
    uint32_t entries = 0;

    if (fd < 0) {
        return torc_fail(why, TORC_ERR_IO, "create %s/journal.new: %s", store->folder,
                         strerrordesc_np(errno));
    }
    if (store->table.held_count > 0) {
        struct torc_fail inner = {.err = TORC_ERR_IO};

        entries = meta_write_snapshot(store, fd, &inner);
        err = entries > 0 ? TORC_ERR_OK : torc_fail(why, inner.err, "%s", inner.text);
    }
    torc_journal_header_make(&header, store->machine, entries);
    if (err == TORC_ERR_OK) {
        err = meta_write_all(fd, 0, &header, sizeof(header), why);
    }
    if (err == TORC_ERR_OK &&
        (fsync(fd) != 0 ||
         renameat(store->folder_fd, "journal.new", store->folder_fd, "journal") != 0 ||
         fsync(store->folder_fd) != 0)) {
        err = torc_fail(why, TORC_ERR_IO, "%s/journal.new: %s", store->folder,
                        strerrordesc_np(errno));
    }
    (void)close(fd); // synced above, or given up
    if (err != TORC_ERR_OK) {
        (void)unlinkat(store->folder_fd, "journal.new", 0); // its space is wanted; it may be gone
    }
    return err;
}

// Best effort: a journal that stays long is slow to open, not wrong.
static void meta_compact(struct torc_meta_file *store)
{
    if (store->end < META_COMPACT_BYTES ||
        store->end < META_COMPACT_FACTOR *
                         (store->table.live_bytes + UINT64_C(64) * store->table.held_count)) {
        return;
    }
    if (meta_write_journal(store, NULL) == TORC_ERR_OK) {
        (void)close(store->journal_fd);
        store->journal_fd = -1; // read again by the next call
    }
}

// -- Public --------------------------------------------------------------------------------------

void torc_machine_id(uint8_t *machine)
{
    int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
    char text[2 * TORC_JOURNAL_MACHINE_BYTES] = {0};
    bool whole = fd >= 0 && read(fd, text, sizeof(text)) == (ssize_t)sizeof(text);

    memset(machine, 0, TORC_JOURNAL_MACHINE_BYTES);
    for (uint32_t i = 0; whole && i < sizeof(text); i++) {
        uint32_t digit =
            text[i] >= 'a' ? (uint32_t)(text[i] - 'a') + 10 : (uint32_t)(text[i] - '0');

        machine[i / 2] = (uint8_t)((uint32_t)machine[i / 2] << 4 | (digit & 15));
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

// Makes the directories of `path`, parents too.
static int meta_make_folders(const char *path)
{
    char part[META_PATH_BYTES];
    uint64_t bytes = strlen(path);

    torc_assert(bytes < sizeof(part));
    for (uint64_t i = 1; i <= bytes; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0750) != 0 && errno != EEXIST) {
            return -1;
        }
    }
    return 0;
}

static enum torc_err meta_open_files(struct torc_meta_file *store, struct torc_fail *why)
{
    int lock_flags = O_CLOEXEC | (store->look_only ? O_RDONLY : O_RDWR | O_CREAT);
    struct stat there;
    enum torc_err err;

    if (!store->look_only && meta_make_folders(store->folder) != 0) {
        return torc_fail(why, errno == EROFS || errno == EACCES ? TORC_ERR_FORBIDDEN : TORC_ERR_IO,
                         "make %s: %s", store->folder, strerrordesc_np(errno));
    }
    store->folder_fd = open(store->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->folder_fd >= 0) {
        store->lock_fd = openat(store->folder_fd, "lock", lock_flags, 0640);
    }
    if (store->folder_fd < 0 || (store->lock_fd < 0 && !(store->look_only && errno == ENOENT))) {
        return torc_fail(why, TORC_ERR_IO, "open %s%s: %s", store->folder,
                         store->folder_fd < 0 ? "" : "/lock", strerrordesc_np(errno));
    }
    err = meta_lock(store, store->look_only ? LOCK_SH : LOCK_EX, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    if (!store->look_only && fstatat(store->folder_fd, "journal", &there, 0) != 0 &&
        errno == ENOENT) {
        err = meta_write_journal(store, why);
    }
    if (err == TORC_ERR_OK) {
        err = meta_refresh(store, why);
    }
    meta_unlock(store);
    return err;
}

enum torc_err torc_meta_file_open(struct torc_meta_file **out, const char *folder,
                                  const uint8_t *machine, bool look_only, struct torc_fail *why)
{
    struct torc_meta_file *store = calloc(1, sizeof(*store));
    enum torc_err err;

    torc_assert(store != NULL);
    store->scratch = malloc(TORC_JOURNAL_ENTRY_MAX);
    torc_assert(store->scratch != NULL);
    store->folder_fd = store->lock_fd = store->journal_fd = -1;
    memcpy(store->machine, machine, sizeof(store->machine));
    store->look_only = look_only;
    *out = NULL;
    if (folder[0] != '/' || strlen(folder) >= sizeof(store->folder)) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "metastore = file:%.80s: file:/DIRECTORY expected", folder);
    } else {
        memcpy(store->folder, folder, strlen(folder) + 1);
        err = meta_open_files(store, why);
    }
    if (err != TORC_ERR_OK) {
        torc_meta_file_close(store);
        return err;
    }
    *out = store;
    return TORC_ERR_OK;
}

void torc_meta_file_stop(struct torc_meta_file *store)
{
    atomic_store_explicit(&store->stop, true, memory_order_release); // pairs with meta_lock's
}

void torc_meta_file_close(struct torc_meta_file *store)
{
    const int fds[] = {store->journal_fd, store->lock_fd, store->folder_fd};

    torc_meta_table_free(&store->table);
    for (uint32_t i = 0; i < TORC_COUNT_OF(fds); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]); // every txn was synced
        }
    }
    free(store->scratch);
    free(store);
}

uint64_t torc_meta_file_revision(const struct torc_meta_file *store)
{
    return store->revision;
}

static enum torc_err meta_begin_read(struct torc_meta_file *store, struct torc_fail *why)
{
    enum torc_err err = meta_lock(store, LOCK_SH, why);

    if (err == TORC_ERR_OK) {
        err = meta_refresh(store, why);
        meta_unlock(store);
    }
    return err;
}

enum torc_err torc_meta_file_get(struct torc_meta_file *store, const char *key,
                                 struct torc_meta_record *record, struct torc_fail *why)
{
    enum torc_err err = meta_begin_read(store, why);

    if (err == TORC_ERR_OK && !torc_meta_table_get(&store->table, key, record)) {
        return torc_fail(why, TORC_ERR_NOT_FOUND, "the metastore has no %s", key);
    }
    return err;
}

bool torc_meta_file_peek(const struct torc_meta_file *store, const char *key,
                         struct torc_meta_record *record)
{
    return torc_meta_table_get(&store->table, key, record);
}

enum torc_err torc_meta_file_look(struct torc_meta_file *store, struct torc_fail *why)
{
    return meta_begin_read(store, why);
}

bool torc_meta_file_changes(const struct torc_meta_file *store, const char *prefix, uint64_t from,
                            struct torc_meta_record *records, uint32_t record_max,
                            uint32_t *record_count)
{
    return torc_meta_table_changes(&store->table, prefix, from, records, record_max, record_count);
}

enum torc_err torc_meta_file_list(struct torc_meta_file *store, const char *prefix,
                                  struct torc_meta_record *records, uint32_t record_max,
                                  uint32_t *record_count, struct torc_fail *why)
{
    enum torc_err err = meta_begin_read(store, why);

    if (err == TORC_ERR_OK &&
        !torc_meta_table_list(&store->table, prefix, records, record_max, record_count)) {
        return torc_fail(why, TORC_ERR_LIMIT, "over %" PRIu32 " records below %s", record_max,
                         prefix);
    }
    return err;
}

// Is every record as its operation expects?
static enum torc_err meta_check(const struct torc_meta_file *store, const struct torc_meta_op *ops,
                                uint32_t op_count, struct torc_fail *why)
{
    for (uint32_t i = 0; i < op_count; i++) {
        struct torc_meta_record record;
        uint64_t version = torc_meta_table_get(&store->table, ops[i].key, &record)
                               ? record.version
                               : TORC_META_ABSENT;

        if (ops[i].expected != TORC_META_ANY && ops[i].expected != version) {
            return torc_fail(why, TORC_ERR_CONDITION_FAILED,
                             "%s is of revision %" PRIu64 ", %" PRIu64 " was expected", ops[i].key,
                             version, ops[i].expected);
        }
    }
    return TORC_ERR_OK;
}

// What of a change goes into the journal, behind what is there already; 0: nothing, or too much.
static enum torc_err meta_collect(const struct torc_meta_file *store,
                                  const struct torc_meta_change *change,
                                  struct torc_journal_op *kept, uint32_t *count,
                                  struct torc_fail *why)
{
    uint32_t from = *count;

    for (uint32_t i = 0; i < change->op_count; i++) {
        const struct torc_meta_op *op = change->ops + i;

        if (op->kind == TORC_META_CHECK) {
            continue;
        }
        kept[(*count)++] = (struct torc_journal_op){
            .kind = op->kind == TORC_META_PUT ? TORC_JOURNAL_PUT : TORC_JOURNAL_DELETE,
            .key = op->key,
            .key_bytes = (uint32_t)strlen(op->key),
            .value = op->value,
            .value_bytes = op->kind == TORC_META_PUT ? op->value_bytes : 0,
            .version = store->revision + 1};
    }
    if (*count > from && torc_journal_entry_bytes(kept + from, *count - from) == 0) {
        *count = from;
        return torc_fail(why, TORC_ERR_TOO_LARGE,
                         "a transaction of %" PRIu32 " records, the first %.40s: a key has at most "
                         "%u bytes, a value %u",
                         change->op_count, kept[from].key, TORC_JOURNAL_KEY_MAX,
                         TORC_JOURNAL_VALUE_MAX);
    }
    return TORC_ERR_OK;
}

static enum torc_err meta_write(struct torc_meta_file *store, const struct torc_journal_op *kept,
                                uint32_t count, struct torc_fail *why)
{
    uint64_t bytes = torc_journal_entry_bytes(kept, count);
    enum torc_err err;

    torc_assert(bytes > 0); // TORC_META_OPS_MAX of the largest are one entry
    torc_journal_entry_make(store->scratch, kept, count, store->revision + 1, 0);
    err = meta_append(store, bytes, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    meta_took(store, store->scratch, bytes, store->revision + 1);
    for (uint32_t i = 0; i < count; i++) {
        torc_meta_table_apply(&store->table, kept + i);
    }
    return TORC_ERR_OK;
}

// Under the exclusive lock, caught up. One entry: only the last one can be torn (J2).
static void meta_change(struct torc_meta_file *store, struct torc_meta_change *changes,
                        uint32_t change_count)
{
    struct torc_journal_op kept[TORC_JOURNAL_OPS_MAX];
    struct torc_fail why = {0};
    uint32_t count = 0;
    enum torc_err err = TORC_ERR_OK;

    for (uint32_t i = 0; i < change_count; i++) {
        struct torc_meta_change *change = changes + i;

        change->err = meta_check(store, change->ops, change->op_count, &change->why);
        if (change->err == TORC_ERR_OK) {
            change->err = meta_collect(store, change, kept, &count, &change->why);
        }
    }
    if (count > 0) {
        err = meta_write(store, kept, count, &why);
    }
    if (err == TORC_ERR_NO_SPACE && change_count > 1) { // one of them may fit
        for (uint32_t i = 0; i < change_count; i++) {
            meta_change(store, changes + i, 1);
        }
        return;
    }
    for (uint32_t i = 0; i < change_count; i++) {
        if (changes[i].err == TORC_ERR_OK) {
            changes[i].err = err;
            changes[i].why = why;
            changes[i].revision = store->revision;
        }
    }
}

void torc_meta_file_txns(struct torc_meta_file *store, struct torc_meta_change *changes,
                         uint32_t change_count)
{
    struct torc_fail why = {0};
    enum torc_err err = meta_lock(store, LOCK_EX, &why);
    bool locked = err == TORC_ERR_OK;

    torc_assert(!store->look_only);
    if (locked) {
        err = meta_refresh(store, &why);
    }
    if (err == TORC_ERR_OK) {
        meta_change(store, changes, change_count);
        meta_compact(store);
    }
    if (locked) {
        meta_unlock(store);
    }
    for (uint32_t i = 0; err != TORC_ERR_OK && i < change_count; i++) {
        changes[i].err = err;
        changes[i].why = why;
    }
}

enum torc_err torc_meta_file_txn(struct torc_meta_file *store, const struct torc_meta_op *ops,
                                 uint32_t op_count, uint64_t *revision, struct torc_fail *why)
{
    struct torc_meta_change change = {.ops = ops, .op_count = op_count};

    torc_assert(op_count > 0);
    if (op_count > TORC_JOURNAL_OPS_MAX) {
        return torc_fail(why, TORC_ERR_TOO_LARGE, "transaction of %" PRIu32 " records: at most %u",
                         op_count, TORC_JOURNAL_OPS_MAX);
    }
    torc_meta_file_txns(store, &change, 1);
    if (change.err == TORC_ERR_OK) {
        *revision = change.revision;
    } else if (why != NULL) {
        *why = change.why;
    }
    return change.err;
}
