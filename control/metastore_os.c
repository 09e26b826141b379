// Torc control: the kind `file` of the metastore. See control/metastore_os.h.
//
// What    a thread that does one request after the other on the file (control/meta_file_os.h), all
//         transactions that wait and name different records with one sync (REPLICATION.md M5), and
//         looks at it when others have changed it (inotify; where there is none, every 10 ms).
// Owner   the lock guards `slots` and `watches`; the thread alone touches `file`; all else is the
//         caller's. Answers that a slow disk keeps for too long are given by the caller's thread.
#include "control/metastore_os.h"

#include "control/meta_file_os.h"
#include "control/meta_wake.h"
#include "kit/clock_os.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

enum {
    FILE_SLOTS = 2 * TORC_META_INFLIGHT_MAX, // a batch may be the thread's although it was answered
    FILE_LOOK_MS = 10,                       // without inotify, or after a look that failed
    FILE_CALM_MS = 1000                      // with inotify: an event may be lost with its queue
};

struct file_slot {
    struct torc_meta_request *request; // NULL: free. One piece of memory
    uint64_t sequence;
    uint64_t deadline_ns;
    bool running; // the thread has it
    bool answered;
    bool told; // the caller has its answer
    struct torc_meta_answer answer;
    void *records; // of the answer, one piece of memory
};

struct file_watch {
    bool used;
    uint64_t ticket;
    uint64_t next_revision; // changes from it on are not yet in `wake`
    char prefix[TORC_META_KEY_MAX + 1];
    struct torc_meta_wake wake;
};

struct file_store {
    struct torc_metastore store; // first: the two are one
    struct torc_meta_file *file;
    struct torc_meta_record *listed; // the thread's, TORC_META_OPS_MAX or a list's
    uint32_t listed_room;
    uint32_t batch_count; // the thread's, as `batch` and `changes`
    struct file_slot *batch[FILE_SLOTS];
    struct torc_meta_change changes[FILE_SLOTS];
    pthread_t thread;
    pthread_mutex_t lock;
    int ask_fd;  // to the thread
    int done_fd; // to the caller
    int notify_fd;
    uint64_t sequence;
    bool stop;
    struct file_slot slots[FILE_SLOTS];
    struct file_watch watches[TORC_META_WATCHES_MAX];
    // The caller's: what it was handed last.
    void *handed;
    struct torc_meta_woken woken;
};

static struct file_store *file_of(struct torc_metastore *store)
{
    return (struct file_store *)store;
}

static void file_lock(struct file_store *it)
{
    int locked = pthread_mutex_lock(&it->lock);

    torc_assert(locked == 0);
}

static void file_unlock(struct file_store *it)
{
    int unlocked = pthread_mutex_unlock(&it->lock);

    torc_assert(unlocked == 0);
}

static void file_ring(int fd)
{
    int rung = eventfd_write(fd, 1);

    torc_assert(rung == 0);
}

static void file_drain(int fd)
{
    eventfd_t count;

    (void)eventfd_read(fd, &count); // it may have been empty
}

static void file_free(struct file_slot *slot)
{
    free(slot->request);
    free(slot->records);
    *slot = (struct file_slot){0};
}

// -- The thread -----------------------------------------------------------------------------------

// Copies the records that an answer is to hold; the file's own live only until its next call.
static void *file_keep(struct torc_meta_answer *answer, const struct torc_meta_record *records,
                       uint32_t record_count)
{
    uint64_t bytes = record_count * sizeof(*records);
    struct torc_meta_record *kept;
    char *at;

    for (uint32_t i = 0; i < record_count; i++) {
        bytes += strlen(records[i].key) + 1 + records[i].value_bytes + 1;
    }
    kept = malloc(bytes + 1);
    torc_assert(kept != NULL);
    at = (char *)(kept + record_count);
    for (uint32_t i = 0; i < record_count; i++) {
        uint64_t key_bytes = strlen(records[i].key) + 1;

        kept[i] = records[i];
        kept[i].key = memcpy(at, records[i].key, key_bytes);
        at += key_bytes;
        kept[i].value = memcpy(at, records[i].value, records[i].value_bytes + UINT64_C(1));
        at += records[i].value_bytes + UINT64_C(1);
    }
    answer->records = kept;
    answer->record_count = record_count;
    return kept;
}

static void file_room(struct file_store *it, uint32_t record_count)
{
    if (record_count > it->listed_room) {
        it->listed = realloc(it->listed, record_count * sizeof(*it->listed));
        torc_assert(it->listed != NULL);
        it->listed_room = record_count;
    }
}

static void *file_run_list(struct file_store *it, const struct torc_meta_request *request,
                           struct torc_meta_answer *answer)
{
    uint32_t count = 0;

    file_room(it, request->record_max);
    answer->err = torc_meta_file_list(it->file, request->key, it->listed, request->record_max,
                                      &count, &answer->why);
    return answer->err == TORC_ERR_OK ? file_keep(answer, it->listed, count) : NULL;
}

// The end of a transaction: of a refused one also what is there.
static void *file_end_txn(struct file_store *it, const struct torc_meta_request *request,
                          const struct torc_meta_change *change, struct torc_meta_answer *answer)
{
    uint32_t count = 0;

    answer->err = change->err;
    answer->why = change->why;
    if (answer->err != TORC_ERR_CONDITION_FAILED) {
        return NULL;
    }
    file_room(it, request->op_count);
    for (uint32_t i = 0; i < request->op_count; i++) {
        count += torc_meta_file_peek(it->file, request->ops[i].key, it->listed + count) ? 1 : 0;
    }
    return file_keep(answer, it->listed, count);
}

// Returns the memory of the answer's records, or NULL.
static void *file_run(struct file_store *it, const struct torc_meta_request *request,
                      struct torc_meta_answer *answer)
{
    struct torc_meta_record record;
    void *memory = NULL;

    switch (request->verb) {
    case TORC_META_GET:
        answer->err = torc_meta_file_get(it->file, request->key, &record, &answer->why);
        memory = answer->err == TORC_ERR_OK ? file_keep(answer, &record, 1) : NULL;
        break;
    case TORC_META_LIST: memory = file_run_list(it, request, answer); break;
    case TORC_META_TXN: // file_change does them
    case TORC_META_WATCH: torc_unreachable("a watch has no slot");
    }
    answer->revision = torc_meta_file_revision(it->file);
    return memory;
}

// The oldest request that waits, or NULL.
static struct file_slot *file_next(struct file_store *it)
{
    struct file_slot *next = NULL;

    for (uint32_t i = 0; i < FILE_SLOTS; i++) {
        struct file_slot *slot = it->slots + i;

        if (slot->request != NULL && !slot->running && !slot->answered &&
            (next == NULL || slot->sequence < next->sequence)) {
            next = slot;
        }
    }
    return next;
}

static bool file_names(const struct torc_meta_request *request, const char *key)
{
    for (uint32_t i = 0; i < request->op_count; i++) {
        if (strcmp(request->ops[i].key, key) == 0) {
            return true;
        }
    }
    return false;
}

// May they happen in one entry? Whose conditions another one changes has to wait.
static bool file_apart(const struct torc_meta_request *a, const struct torc_meta_request *b)
{
    for (uint32_t i = 0; i < a->op_count; i++) {
        if (file_names(b, a->ops[i].key)) {
            return false;
        }
    }
    return true;
}

static bool file_joins(const struct file_store *it, const struct file_slot *slot, uint32_t op_count)
{
    if (slot->request == NULL || slot->running || slot->answered ||
        slot->request->verb != TORC_META_TXN ||
        op_count + slot->request->op_count > TORC_META_OPS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < it->batch_count; i++) {
        if (!file_apart(it->batch[i]->request, slot->request)) {
            return false;
        }
    }
    return true;
}

// The oldest request; with a transaction go all that wait and touch nothing that it names. All
// that wait are concurrent: any order is as good.
static bool file_pick(struct file_store *it)
{
    struct file_slot *slot = file_next(it);
    uint32_t op_count;

    it->batch_count = 0;
    if (slot == NULL) {
        return false;
    }
    it->batch[it->batch_count++] = slot;
    slot->running = true;
    if (slot->request->verb != TORC_META_TXN) {
        return true;
    }
    op_count = slot->request->op_count;
    for (uint32_t i = 0; i < FILE_SLOTS; i++) {
        slot = it->slots + i;
        if (file_joins(it, slot, op_count)) {
            it->batch[it->batch_count++] = slot;
            slot->running = true;
            op_count += slot->request->op_count;
        }
    }
    return true;
}

// Under the lock.
static void file_end(struct file_slot *slot, struct torc_meta_answer *answer, void *memory)
{
    slot->running = false;
    slot->records = memory;
    if (!slot->answered) {
        answer->ticket = slot->request->ticket;
        answer->verb = slot->request->verb;
        answer->known_revision = slot->request->known_revision;
        slot->answer = *answer;
        slot->answered = true;
    } else if (slot->told) {
        file_free(slot); // too late: the caller has been told so
    }
}

static void file_change(struct file_store *it)
{
    for (uint32_t i = 0; i < it->batch_count; i++) {
        it->changes[i] = (struct torc_meta_change){.ops = it->batch[i]->request->ops,
                                                   .op_count = it->batch[i]->request->op_count};
    }
    torc_meta_file_txns(it->file, it->changes, it->batch_count);
    for (uint32_t i = 0; i < it->batch_count; i++) {
        struct torc_meta_answer answer = {.revision = torc_meta_file_revision(it->file)};
        void *memory = file_end_txn(it, it->batch[i]->request, it->changes + i, &answer);

        file_lock(it);
        file_end(it->batch[i], &answer, memory);
        file_unlock(it);
    }
}

// Does one request, or the transactions that can go together; false when there is none.
static bool file_work(struct file_store *it)
{
    bool found;

    file_lock(it);
    found = file_pick(it);
    file_unlock(it);
    if (!found) {
        return false;
    }
    if (it->batch[0]->request->verb == TORC_META_TXN) {
        file_change(it);
    } else {
        struct torc_meta_answer answer = {0};
        void *memory = file_run(it, it->batch[0]->request, &answer);

        file_lock(it);
        file_end(it->batch[0], &answer, memory);
        file_unlock(it);
    }
    file_ring(it->done_fd);
    return true;
}

// What has changed for one watch; true when something has.
static bool file_wake(struct file_store *it, struct file_watch *watch)
{
    struct torc_meta_record changed[TORC_META_WAKE_RECORDS];
    uint64_t revision = torc_meta_file_revision(it->file);
    uint32_t count = 0;
    bool whole = torc_meta_file_changes(it->file, watch->prefix, watch->next_revision, changed,
                                        TORC_META_WAKE_RECORDS, &count);

    watch->next_revision = torc_max_u64(watch->next_revision, revision + 1);
    for (uint32_t i = 0; i < count; i++) {
        torc_meta_wake_add(&watch->wake, changed[i].key, changed[i].version);
    }
    if (!whole) {
        torc_meta_wake_gap(&watch->wake, revision);
    }
    return count > 0 || !whole;
}

// True when the file could be looked at, or nobody watches.
static bool file_look(struct file_store *it)
{
    bool woke = false;
    bool watched = false;

    file_lock(it);
    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        watched = watched || it->watches[i].used;
    }
    file_unlock(it);
    if (!watched) {
        return true;
    }
    if (torc_meta_file_look(it->file, NULL) != TORC_ERR_OK) {
        return false;
    }
    file_lock(it);
    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        woke = (it->watches[i].used && file_wake(it, it->watches + i)) || woke;
    }
    file_unlock(it);
    if (woke) {
        file_ring(it->done_fd);
    }
    return true;
}

static bool file_is_stopped(struct file_store *it)
{
    bool stop;

    file_lock(it);
    stop = it->stop;
    file_unlock(it);
    return stop;
}

static void *file_thread(void *context)
{
    struct file_store *it = context;
    bool good = true;

    while (!file_is_stopped(it)) {
        struct pollfd fds[] = {{.fd = it->ask_fd, .events = POLLIN},
                               {.fd = it->notify_fd, .events = POLLIN}};
        int wait_ms = it->notify_fd >= 0 && good ? FILE_CALM_MS : FILE_LOOK_MS;
        char events[4096];

        (void)poll(fds, TORC_COUNT_OF(fds), wait_ms); // whatever it says, all is looked at
        file_drain(it->ask_fd);
        while (file_work(it) && !file_is_stopped(it)) {
        }
        while (it->notify_fd >= 0 && read(it->notify_fd, events, sizeof(events)) > 0) {
        }
        good = file_look(it);
    }
    return NULL;
}

// -- The caller -----------------------------------------------------------------------------------

static void file_submit(struct torc_metastore *store, const struct torc_meta_request *request,
                        uint64_t now_ns)
{
    struct file_store *it = file_of(store);
    struct file_slot *slot = NULL;

    (void)now_ns;
    file_lock(it);
    if (request->verb == TORC_META_WATCH) {
        struct file_watch *watch = it->watches;

        while (watch->used) {
            watch++;
        }
        torc_assert(watch < it->watches + TORC_META_WATCHES_MAX);
        *watch = (struct file_watch){
            .used = true, .ticket = request->ticket, .next_revision = request->from_revision};
        memcpy(watch->prefix, request->key, strlen(request->key) + 1);
    } else {
        for (slot = it->slots; slot->request != NULL;) {
            slot++;
        }
        torc_assert(slot < it->slots + FILE_SLOTS);
        *slot = (struct file_slot){.sequence = ++it->sequence, .deadline_ns = request->deadline_ns};
        slot->request = malloc(torc_meta_request_bytes(request));
        torc_assert(slot->request != NULL);
        (void)torc_meta_request_pack(request, slot->request);
    }
    file_unlock(it);
    file_ring(it->ask_fd);
}

static void file_unwatch(struct torc_metastore *store, uint64_t ticket)
{
    struct file_store *it = file_of(store);

    file_lock(it);
    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        if (it->watches[i].used && it->watches[i].ticket == ticket) {
            it->watches[i].used = false;
        }
    }
    file_unlock(it);
}

// M4: what the thread does not finish in time is answered for it.
static void file_expire(struct file_slot *slot)
{
    bool doubt = slot->running && slot->request->verb == TORC_META_TXN;

    slot->answered = true;
    slot->answer =
        (struct torc_meta_answer){.ticket = slot->request->ticket, .verb = slot->request->verb};
    slot->answer.err =
        torc_fail(&slot->answer.why, doubt ? TORC_ERR_IN_DOUBT : TORC_ERR_UNAVAILABLE,
                  doubt ? "metastore: the disk did not answer in time; the outcome is not known"
                        : "metastore: away, its lock or its disk did not answer in time");
}

static void file_let_go(struct file_store *it)
{
    free(it->handed);
    it->handed = NULL;
}

static void file_step(struct torc_metastore *store, uint64_t now_ns)
{
    struct file_store *it = file_of(store);

    file_let_go(it);
    file_drain(it->done_fd);
    file_lock(it);
    for (uint32_t i = 0; i < FILE_SLOTS; i++) {
        struct file_slot *slot = it->slots + i;

        if (slot->request != NULL && !slot->answered && slot->deadline_ns <= now_ns) {
            file_expire(slot);
        }
    }
    file_unlock(it);
}

static bool file_take_watch(struct file_store *it, struct torc_meta_answer *answer)
{
    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        struct file_watch *watch = it->watches + i;

        if (watch->used && torc_meta_wake_take(&watch->wake, &it->woken, watch->ticket, answer)) {
            return true;
        }
    }
    return false;
}

static bool file_take(struct torc_metastore *store, struct torc_meta_answer *answer)
{
    struct file_store *it = file_of(store);
    struct file_slot *first = NULL;
    bool taken = true;

    file_let_go(it);
    file_lock(it);
    for (uint32_t i = 0; i < FILE_SLOTS; i++) {
        struct file_slot *slot = it->slots + i;

        if (slot->answered && !slot->told && (first == NULL || slot->sequence < first->sequence)) {
            first = slot;
        }
    }
    if (first == NULL) {
        taken = file_take_watch(it, answer);
    } else {
        *answer = first->answer;
        first->told = true;
        if (!first->running) {
            it->handed = first->records;
            first->records = NULL;
            file_free(first);
        }
    }
    file_unlock(it);
    return taken;
}

static uint64_t file_deadline_ns(struct torc_metastore *store)
{
    struct file_store *it = file_of(store);
    uint64_t deadline_ns = UINT64_MAX;

    file_lock(it);
    for (uint32_t i = 0; i < FILE_SLOTS; i++) {
        if (it->slots[i].request != NULL && !it->slots[i].answered) {
            deadline_ns = torc_min_u64(deadline_ns, it->slots[i].deadline_ns);
        }
    }
    file_unlock(it);
    return deadline_ns;
}

static int file_fd(const struct torc_metastore *store)
{
    return ((const struct file_store *)store)->done_fd;
}

// -- Opening and closing --------------------------------------------------------------------------

static void file_close(struct torc_metastore *store)
{
    struct file_store *it = file_of(store);
    int joined;

    file_lock(it);
    it->stop = true;
    file_unlock(it);
    torc_meta_file_stop(it->file);
    file_ring(it->ask_fd);
    joined = pthread_join(it->thread, NULL);
    torc_assert(joined == 0);
    file_let_go(it);
    for (uint32_t i = 0; i < FILE_SLOTS; i++) {
        file_free(it->slots + i);
    }
    torc_meta_file_close(it->file);
    (void)close(it->ask_fd); // events only
    (void)close(it->done_fd);
    if (it->notify_fd >= 0) {
        (void)close(it->notify_fd);
    }
    (void)pthread_mutex_destroy(&it->lock); // nobody has it
    free(it->listed);
    free(it);
}

// Our own journal's changes and its replacement by another process's compaction.
static int file_notify(const char *folder)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

    if (fd >= 0 && inotify_add_watch(fd, folder, IN_MODIFY | IN_MOVED_TO) < 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd; // -1: there are too many; the file is looked at every FILE_LOOK_MS
}

static void file_begin_thread(struct file_store *it)
{
    sigset_t all;
    sigset_t before;
    int begun;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); // signals are the main thread's
    begun = pthread_create(&it->thread, NULL, file_thread, it);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    torc_assert(begun == 0);
}

enum torc_err torc_metastore_open_file(struct torc_metastore **out, const char *folder,
                                       const uint8_t *machine, bool look_only,
                                       struct torc_fail *why)
{
    static const struct torc_metastore_code code = {.name = "file",
                                                    .submit = file_submit,
                                                    .unwatch = file_unwatch,
                                                    .step = file_step,
                                                    .take = file_take,
                                                    .deadline_ns = file_deadline_ns,
                                                    .fd = file_fd,
                                                    .close = file_close};
    struct torc_meta_file *file = NULL;
    enum torc_err err = torc_meta_file_open(&file, folder, machine, look_only, why);
    struct file_store *it;

    *out = NULL;
    if (err != TORC_ERR_OK) {
        return err;
    }
    it = calloc(1, sizeof(*it));
    torc_assert(it != NULL);
    it->store.code = &code;
    it->store.revision = torc_meta_file_revision(file);
    it->file = file;
    it->ask_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    it->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    torc_assert(it->ask_fd >= 0);
    torc_assert(it->done_fd >= 0);
    it->notify_fd = file_notify(folder);
    (void)pthread_mutex_init(&it->lock, NULL); // never fails without attributes
    file_begin_thread(it);
    *out = &it->store;
    return TORC_ERR_OK;
}
