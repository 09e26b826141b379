// Torc control: keeping checkpoints. See control/checkpoint_uring.h.
#include "control/checkpoint_uring.h"

#include "control/recover_uring.h"
#include "kit/bugs.h"
#include "kit/log_os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum {
    MAKE_BUFFER_BYTES = 1 << 20,
    MAKE_BUFFERS = 2,
    MAKE_NAME_BYTES = 48,
    MAKE_HEAD_BYTES = 128, // of the file, kept to look at
    MAKE_TAIL_BYTES = 96,
    MAKE_TAKE_MAX = 32 // messages a step and worker
};

enum make_state {
    MAKE_IDLE,
    MAKE_TAKING,  // bytes come in
    MAKE_WRITING, // all are there; the last are being written
    MAKE_SYNCING,
    MAKE_WAITING, // for the log
    MAKE_NAMING,  // renamed; the folder is synced
    MAKE_FAILING, // until its operations are back
};

struct make_buffer {
    unsigned char *bytes;
    bool busy; // being written
    struct torc_disk_op op;
};

struct make {
    struct torc_checkpoints *checkpoints;
    uint32_t worker;
    enum make_state state;
    uint64_t number;
    struct torc_cluster_shard *shard;
    char name[MAKE_NAME_BYTES]; // of the file now; empty: none
    uint32_t file;
    uint32_t filling; // buffer
    uint32_t filled_bytes;
    uint64_t written_bytes; // given to the disk
    uint64_t byte_count;    // came in
    bool told;              // the event came
    bool nothing;           // and said that there is nothing to make one of
    struct torc_evt_checkpoint event;
    struct torc_checkpoint_info info;
    struct torc_checkpoint_footer footer;
    int failure; // errno of a write
    struct torc_fail why;
    uint32_t busy;
    struct torc_disk_op op; // syncs
    struct make_buffer buffers[MAKE_BUFFERS];
    unsigned char head[MAKE_HEAD_BYTES];
    unsigned char tail[MAKE_TAIL_BYTES];
    struct torc_cmd answer; // CHECKPOINT_END that its ring had no room for
    bool answer_waits;
};

struct torc_checkpoints {
    struct torc_checkpoints_config config;
    uint32_t worker_count;
    uint32_t folder;
    uint64_t next_number;
    struct torc_checkpoints_numbers numbers;
    struct make *makes; // one a worker
    bool settling;
    bool kept_one;
};

enum torc_err torc_checkpoints_open(struct torc_checkpoints **out,
                                    const struct torc_checkpoints_config *config,
                                    struct torc_fail *why)
{
    struct torc_checkpoints *checkpoints = calloc(1, sizeof(*checkpoints));
    enum torc_err err;

    torc_assert(checkpoints != NULL);
    checkpoints->config = *config;
    checkpoints->worker_count = config->attach->hello.worker_count;
    checkpoints->next_number = config->first_number;
    checkpoints->makes = calloc(checkpoints->worker_count, sizeof(*checkpoints->makes));
    torc_assert(checkpoints->makes != NULL);
    for (uint32_t i = 0; i < checkpoints->worker_count; i++) {
        checkpoints->makes[i].checkpoints = checkpoints;
        checkpoints->makes[i].worker = i;
    }
    err = torc_disk_file_open(config->disk, config->folder_fd, ".", O_RDONLY | O_DIRECTORY,
                              &checkpoints->folder, why);
    if (err != TORC_ERR_OK) {
        free(checkpoints->makes);
        free(checkpoints);
        return err;
    }
    *out = checkpoints;
    return TORC_ERR_OK;
}

void torc_checkpoints_close(struct torc_checkpoints *checkpoints)
{
    for (uint32_t i = 0; i < checkpoints->worker_count; i++) {
        struct make *make = checkpoints->makes + i;

        torc_assert(make->busy == 0);
        if (make->file != 0) {
            torc_disk_file_close(checkpoints->config.disk, make->file);
        }
        for (uint32_t at = 0; at < MAKE_BUFFERS; at++) {
            free(make->buffers[at].bytes);
        }
    }
    torc_disk_file_close(checkpoints->config.disk, checkpoints->folder);
    free(checkpoints->makes);
    free(checkpoints);
}

static uint32_t checkpoints_wanted(const struct torc_checkpoints *checkpoints)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < checkpoints->config.cluster->shard_count; i++) {
        count += checkpoints->config.cluster->shards[i].wanted ? 1 : 0;
    }
    return count;
}

void torc_checkpoints_round(struct torc_checkpoints *checkpoints)
{
    for (uint32_t i = 0; i < checkpoints->config.cluster->shard_count; i++) {
        struct torc_cluster_shard *shard = checkpoints->config.cluster->shards + i;

        shard->wanted = shard->shard != 0 && !shard->leaving;
    }
    checkpoints->numbers.rounds++;
    checkpoints->numbers.due = checkpoints_wanted(checkpoints);
    checkpoints->numbers.without = 0;
    checkpoints->numbers.failure = (struct torc_fail){0};
}

bool torc_checkpoints_is_idle(const struct torc_checkpoints *checkpoints)
{
    bool idle = checkpoints_wanted(checkpoints) == 0;

    for (uint32_t i = 0; i < checkpoints->worker_count; i++) {
        idle =
            idle && checkpoints->makes[i].state == MAKE_IDLE && !checkpoints->makes[i].answer_waits;
    }
    return idle;
}

bool torc_checkpoints_has(const struct torc_checkpoints *checkpoints, uint32_t shard)
{
    for (uint32_t i = 0; i < checkpoints->worker_count; i++) {
        const struct make *make = checkpoints->makes + i;

        if ((make->state != MAKE_IDLE || make->answer_waits) && make->shard->shard == shard) {
            return true;
        }
    }
    return false;
}

bool torc_checkpoints_is_full(const struct torc_checkpoints *checkpoints, uint32_t worker)
{
    const struct make *make = checkpoints->makes + worker;

    torc_assert(worker < checkpoints->worker_count);
    return make->state == MAKE_TAKING && (make->buffers[0].busy || make->buffers[1].busy);
}

// -- Ending one ----------------------------------------------------------------------------------

static bool make_say_end(struct make *make, bool given_up)
{
    make->answer = (struct torc_cmd){.kind = TORC_CMD_CHECKPOINT_END};
    make->answer.checkpoint = (struct torc_cmd_checkpoint){
        .checkpoint = make->number, .shard = make->shard->shard, .given_up = given_up ? 1 : 0};
    make->answer_waits =
        !torc_attach_cmd(make->checkpoints->config.attach, make->worker, &make->answer);
    return !make->answer_waits;
}

static void make_fail(struct make *make, enum torc_err err, const char *text)
{
    if (make->state == MAKE_FAILING) {
        return; // the first failure says why
    }
    (void)torc_fail(&make->why, err, "checkpoint of shard %" PRIu32 ": %.110s", make->shard->shard,
                    text);
    make->state = MAKE_FAILING;
}

// All operations are back: the file goes, the worker hears of it. A shard without a base is no
// failure of the round: it holds no log back (once what it had is forgotten), and asks for a
// checkpoint of its own when it has its base (TORC_EVT_CHECKPOINT).
static void make_end_failed(struct make *make)
{
    struct torc_checkpoints *checkpoints = make->checkpoints;

    if (make->file != 0) {
        torc_disk_file_close(checkpoints->config.disk, make->file);
        make->file = 0;
    }
    if (make->name[0] != '\0') {
        // The next start finds it, else.
        (void)torc_disk_remove(checkpoints->config.disk, checkpoints->config.folder_fd, make->name);
        make->name[0] = '\0';
    }
    make->shard->wanted = false;
    if (make->nothing) {
        checkpoints->numbers.without++;
        torc_log(TORC_LOG_DEBUG, "checkpoint", "nothing", "shard=%" PRIu32, make->shard->shard);
    } else {
        checkpoints->numbers.failures++;
        checkpoints->numbers.failure = make->why;
        torc_log(TORC_LOG_WARN, "checkpoint", "given-up",
                 "shard=%" PRIu32 " reason=\"%s\" note=\"the older one and the log stay\"",
                 make->shard->shard, make->why.text);
    }
    if (make->why.err == TORC_ERR_NO_SPACE) { // the others would fare no better
        for (uint32_t i = 0; i < checkpoints->config.cluster->shard_count; i++) {
            checkpoints->config.cluster->shards[i].wanted = false;
        }
    }
    if (!checkpoints->settling) {
        (void)make_say_end(make, true);
    }
    make->state = MAKE_IDLE;
}

static void make_end_kept(struct make *make)
{
    struct torc_checkpoints *checkpoints = make->checkpoints;
    struct torc_cluster_shard *shard = make->shard;
    char old[MAKE_NAME_BYTES];

    if (shard->has_checkpoint && shard->checkpoint_lsn != make->info.lsn) {
        torc_checkpoint_name(old, sizeof(old), shard->shard, shard->checkpoint_lsn);
        // The next start removes it, else.
        (void)torc_disk_remove(checkpoints->config.disk, checkpoints->config.folder_fd, old);
    }
    shard->has_checkpoint = true;
    shard->checkpoint_lsn = make->info.lsn;
    shard->start_sequence = make->info.start_sequence;
    shard->covered = true;
    shard->records = torc_get_le64(make->footer.record_count);
    shard->wanted = false;
    checkpoints->numbers.kept++;
    checkpoints->numbers.bytes += make->byte_count;
    checkpoints->kept_one = true;
    torc_disk_file_close(checkpoints->config.disk, make->file);
    make->file = 0;
    make->name[0] = '\0';
    torc_log(TORC_LOG_DEBUG, "checkpoint", "kept",
             "shard=%" PRIu32 " lsn=%" PRIu64 " records=%" PRIu64 " bytes=%" PRIu64, shard->shard,
             make->info.lsn, shard->records, make->byte_count);
    (void)make_say_end(make, false);
    make->state = MAKE_IDLE;
}

// -- Writing -------------------------------------------------------------------------------------

static void make_back(struct torc_disk_op *op)
{
    struct make *make = op->context;
    bool whole =
        op->kind == TORC_DISK_SYNC ? op->result == 0 : op->result == (int32_t)op->byte_count;

    torc_assert(make->busy > 0);
    make->busy--;
    if (op->tag < MAKE_BUFFERS) {
        make->buffers[op->tag].busy = false;
    }
    if (!whole && make->failure == 0) {
        make->failure = op->result < 0 ? -op->result : ENOSPC; // cut short: that is what it means
    }
}

static void make_start(struct make *make, struct torc_disk_op *op, enum torc_disk_kind kind,
                       uint32_t file)
{
    op->kind = kind;
    op->file = file;
    op->context = make;
    op->done = make_back;
    make->busy++;
    torc_disk_start(make->checkpoints->config.disk, op);
}

// Writes out the buffer being filled; the last one of a file is filled up with zeros, cut off
// later.
static void make_write(struct make *make)
{
    struct make_buffer *buffer = make->buffers + make->filling;
    uint32_t bytes = (make->filled_bytes + TORC_DISK_ALIGN_BYTES - 1) / TORC_DISK_ALIGN_BYTES *
                     TORC_DISK_ALIGN_BYTES;

    memset(buffer->bytes + make->filled_bytes, 0, bytes - make->filled_bytes);
    buffer->busy = true;
    buffer->op = (struct torc_disk_op){.bytes = buffer->bytes,
                                       .byte_count = bytes,
                                       .offset = make->written_bytes,
                                       .tag = make->filling};
    make_start(make, &buffer->op, TORC_DISK_WRITE, make->file);
    make->written_bytes += make->filled_bytes;
    make->filling = (make->filling + 1) % MAKE_BUFFERS;
    make->filled_bytes = 0;
}

// Keeps the file's first and last bytes, to be looked at.
static void make_keep_ends(struct make *make, const unsigned char *bytes, uint32_t byte_count)
{
    if (make->byte_count < MAKE_HEAD_BYTES) {
        uint64_t take = torc_min_u64(MAKE_HEAD_BYTES - make->byte_count, byte_count);

        memcpy(make->head + make->byte_count, bytes, take);
    }
    if (byte_count >= MAKE_TAIL_BYTES) {
        memcpy(make->tail, bytes + byte_count - MAKE_TAIL_BYTES, MAKE_TAIL_BYTES);
    } else {
        memmove(make->tail, make->tail + byte_count, MAKE_TAIL_BYTES - byte_count);
        memcpy(make->tail + MAKE_TAIL_BYTES - byte_count, bytes, byte_count);
    }
}

// Takes one message's bytes; false when both buffers are busy: then nothing was taken.
static bool make_take_bytes(struct make *make, const unsigned char *bytes, uint32_t byte_count)
{
    uint32_t room = MAKE_BUFFER_BYTES - make->filled_bytes;
    uint32_t first = (uint32_t)torc_min_u64(room, byte_count);

    if (make->buffers[make->filling].busy ||
        (byte_count >= room && make->buffers[(make->filling + 1) % MAKE_BUFFERS].busy)) {
        return false;
    }
    make_keep_ends(make, bytes, byte_count);
    make->byte_count += byte_count;
    memcpy(make->buffers[make->filling].bytes + make->filled_bytes, bytes, first);
    make->filled_bytes += first;
    if (make->filled_bytes == MAKE_BUFFER_BYTES) {
        make_write(make);
    }
    memcpy(make->buffers[make->filling].bytes + make->filled_bytes, bytes + first,
           byte_count - first);
    make->filled_bytes += byte_count - first;
    return true;
}

// Takes messages out of `out`; those of another number are of a checkpoint that was given up.
static bool make_take(struct make *make)
{
    struct torc_spsc_port *out = &make->checkpoints->config.attach->ports[make->worker].out;
    uint32_t took = 0;

    while (took < MAKE_TAKE_MAX && torc_spsc_readable(out, 1) > 0) {
        const struct torc_bulk *bulk = torc_spsc_read_at(out, 0);
        bool ours = make->state == MAKE_TAKING && bulk->checkpoint == make->number;

        if (ours && bulk->byte_count > sizeof(bulk->bytes)) {
            make_fail(make, TORC_ERR_CORRUPT, "a message longer than its slot");
        } else if (ours && bulk->kind == TORC_BULK_CHECKPOINT &&
                   !make_take_bytes(make, bulk->bytes, bulk->byte_count)) {
            break;
        }
        torc_spsc_release(out, 1);
        torc_attach_note(make->checkpoints->config.attach, make->worker); // it waits for room
        took++;
    }
    return took > 0;
}

// -- Steps ---------------------------------------------------------------------------------------

static bool make_order(struct make *make)
{
    struct torc_checkpoints *checkpoints = make->checkpoints;
    struct torc_cluster *cluster = checkpoints->config.cluster;
    struct torc_cmd order = {.kind = TORC_CMD_CHECKPOINT};
    struct torc_fail why = {0};
    uint32_t at = 0;
    enum torc_err err;

    while (at < cluster->shard_count &&
           (!cluster->shards[at].wanted || cluster->shards[at].worker != make->worker)) {
        at++;
    }
    if (at == cluster->shard_count || checkpoints->settling) {
        return false;
    }
    for (uint32_t i = 0; i < MAKE_BUFFERS && make->buffers[i].bytes == NULL; i++) {
        make->buffers[i].bytes = aligned_alloc(TORC_DISK_ALIGN_BYTES, MAKE_BUFFER_BYTES);
        torc_assert(make->buffers[i].bytes != NULL);
    }
    order.checkpoint.shard = cluster->shards[at].shard;
    order.checkpoint.checkpoint = checkpoints->next_number;
    if (!torc_attach_cmd(checkpoints->config.attach, make->worker, &order)) {
        return false;
    }
    make->number = checkpoints->next_number++;
    make->shard = cluster->shards + at;
    make->state = MAKE_TAKING;
    make->filling = 0;
    make->filled_bytes = 0;
    make->written_bytes = 0;
    make->byte_count = 0;
    make->told = false;
    make->nothing = false;
    make->failure = 0;
    (void)snprintf(make->name, sizeof(make->name), "%" PRIu32 "-%" PRIu64 ".tmp",
                   make->shard->shard, make->number);
    err = torc_disk_file_open(checkpoints->config.disk, checkpoints->config.folder_fd, make->name,
                              O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, &make->file, &why);
    if (err != TORC_ERR_OK) {
        make->name[0] = '\0';
        make->file = 0;
        make_fail(make, err, why.text);
    }
    return true;
}

static void make_taken(struct make *make)
{
    const struct torc_cluster *cluster = make->checkpoints->config.cluster;
    struct torc_fail why = {0};

    if (make->told && make->event.failed != 0) {
        make->nothing = make->event.failed == TORC_CHAN_UNMADE_NOTHING;
        make_fail(make, TORC_ERR_UNAVAILABLE, "the worker gave it up");
        return;
    }
    if (!make->told || make->byte_count < make->event.bytes || make->buffers[make->filling].busy) {
        return; // the event may be faster than the bytes
    }
    if (make->event.bytes != make->byte_count ||
        make->byte_count < MAKE_HEAD_BYTES + MAKE_TAIL_BYTES) {
        (void)torc_fail(&why, TORC_ERR_CORRUPT, "%" PRIu64 " bytes came, %" PRIu64 " were sent",
                        make->byte_count, make->event.bytes);
        make_fail(make, why.err, why.text);
        return;
    }
    if (torc_checkpoint_header_check(make->head, sizeof(make->head), &make->info, &why) !=
            TORC_ERR_OK ||
        torc_checkpoint_footer_check(make->tail, sizeof(make->tail), &make->footer, &why) !=
            TORC_ERR_OK) {
        make_fail(make, why.err, why.text);
        return;
    }
    if (make->info.cluster != cluster->cluster || make->info.shard != make->shard->shard ||
        make->info.stream != make->worker + 1) {
        make_fail(make, TORC_ERR_CORRUPT, "its header names another shard");
        return;
    }
    if (make->filled_bytes > 0) {
        make_write(make);
    }
    make->state = MAKE_WRITING;
}

static void make_written(struct make *make)
{
    int32_t cut = torc_disk_file_cut(make->checkpoints->config.disk, make->file, make->byte_count);

    if (cut < 0) {
        make_fail(make, TORC_ERR_IO, strerrordesc_np(-cut));
        return;
    }
    make->op = (struct torc_disk_op){.tag = MAKE_BUFFERS};
    make->state = MAKE_SYNCING;
    make_start(make, &make->op, TORC_DISK_SYNC, make->file);
}

// False: the log is not yet there.
static bool make_name(struct make *make)
{
    struct torc_checkpoints *checkpoints = make->checkpoints;
    struct torc_log_store_numbers log;
    char name[MAKE_NAME_BYTES];
    int32_t renamed;

    torc_log_store_numbers(checkpoints->config.store, &log);
    if (log.failed) {
        make_fail(make, TORC_ERR_UNAVAILABLE, "the log has failed and never gets there");
        return true;
    }
    if (torc_log_store_durable(checkpoints->config.store, make->worker) <
            torc_get_le64(make->footer.end_sequence) &&
        !TORC_BUG(CHECKPOINT_NAMED_EARLY)) {
        return false;
    }
    torc_checkpoint_name(name, sizeof(name), make->shard->shard, make->info.lsn);
    renamed =
        torc_disk_rename(checkpoints->config.disk, checkpoints->config.folder_fd, make->name, name);
    if (renamed < 0) {
        make_fail(make, TORC_ERR_IO, strerrordesc_np(-renamed));
        return true;
    }
    make->name[0] = '\0'; // it replaced one as good: it stays, whatever happens now
    make->op = (struct torc_disk_op){.tag = MAKE_BUFFERS};
    make->state = MAKE_NAMING;
    make_start(make, &make->op, TORC_DISK_SYNC, checkpoints->folder);
    return true;
}

// What the disk said since the last look.
static void make_look(struct make *make)
{
    if (make->failure != 0 && make->state != MAKE_IDLE) {
        bool full = make->failure == ENOSPC || make->failure == EDQUOT;

        make_fail(make, full ? TORC_ERR_NO_SPACE : TORC_ERR_IO, strerrordesc_np(make->failure));
        make->failure = 0;
    }
}

static bool make_step(struct make *make)
{
    enum make_state before = make->state;
    bool moved = make_take(make);

    if (make->answer_waits) {
        make->answer_waits =
            !torc_attach_cmd(make->checkpoints->config.attach, make->worker, &make->answer);
        return !make->answer_waits;
    }
    make_look(make);
    switch (make->state) {
    case MAKE_IDLE: moved = make_order(make) || moved; break;
    case MAKE_TAKING: make_taken(make); break;
    case MAKE_WRITING:
        if (make->busy == 0) {
            make_written(make);
        }
        break;
    case MAKE_SYNCING:
        if (make->busy == 0) {
            make->state = MAKE_WAITING;
        }
        break;
    case MAKE_WAITING: moved = make_name(make) || moved; break;
    case MAKE_NAMING:
        if (make->busy == 0) {
            make_end_kept(make);
        }
        break;
    case MAKE_FAILING:
        if (make->busy == 0) {
            make_end_failed(make);
        }
        break;
    }
    return moved || make->state != before;
}

bool torc_checkpoints_step(struct torc_checkpoints *checkpoints, bool *kept)
{
    bool moved = false;

    checkpoints->kept_one = false;
    for (uint32_t i = 0; i < checkpoints->worker_count; i++) {
        moved = make_step(checkpoints->makes + i) || moved;
    }
    *kept = checkpoints->kept_one;
    return moved;
}

void torc_checkpoints_event(struct torc_checkpoints *checkpoints, uint32_t worker,
                            const struct torc_evt_checkpoint *event)
{
    struct make *make = checkpoints->makes + worker;

    torc_assert(worker < checkpoints->worker_count);
    if (make->state == MAKE_TAKING && event->checkpoint == make->number) {
        make->event = *event;
        make->told = true;
        if (event->failed == TORC_CHAN_UNMADE_NOTHING && event->start_sequence != 0) {
            torc_cluster_emptied(make->shard); // now: what its worker says next may end it
        }
    }
}

enum torc_err torc_checkpoints_forget(struct torc_checkpoints *checkpoints,
                                      const struct torc_cluster_shard *shard, struct torc_fail *why)
{
    struct torc_disk_op op = {.kind = TORC_DISK_SYNC, .file = checkpoints->folder};
    char name[MAKE_NAME_BYTES];
    int32_t result;

    if (!shard->has_checkpoint) {
        return TORC_ERR_OK;
    }
    torc_checkpoint_name(name, sizeof(name), shard->shard, shard->checkpoint_lsn);
    result = torc_disk_remove(checkpoints->config.disk, checkpoints->config.folder_fd, name);
    if (result >= 0 || result == -ENOENT) {
        result = torc_disk_do(checkpoints->config.disk, &op);
    }
    return result < 0 ? torc_fail(why, TORC_ERR_IO, "remove checkpoint/%s: %s", name,
                                  strerrordesc_np(-result))
                      : TORC_ERR_OK;
}

// What has its name already is kept.
static void make_give_up(struct make *make, const char *text)
{
    if (make->state != MAKE_IDLE && make->state != MAKE_NAMING) {
        make_fail(make, TORC_ERR_CLOSED, text);
    }
}

void torc_checkpoints_give_up(struct torc_checkpoints *checkpoints)
{
    for (uint32_t i = 0; i < checkpoints->config.cluster->shard_count; i++) {
        checkpoints->config.cluster->shards[i].wanted = false;
    }
    for (uint32_t i = 0; i < checkpoints->worker_count; i++) {
        make_give_up(checkpoints->makes + i, "the stop does not wait any longer");
    }
}

bool torc_checkpoints_settle(struct torc_checkpoints *checkpoints)
{
    bool settled = true;

    checkpoints->settling = true;
    for (uint32_t i = 0; i < checkpoints->worker_count; i++) {
        struct make *make = checkpoints->makes + i;

        make_look(make);
        make_give_up(make, "the dataplane is gone");
        if (make->busy == 0 && make->state == MAKE_FAILING) {
            make_end_failed(make);
        }
        if (make->busy == 0 && make->state == MAKE_NAMING) {
            make_end_kept(make);
        }
        make->answer_waits = false;
        settled = settled && make->busy == 0;
    }
    return settled;
}

void torc_checkpoints_numbers(const struct torc_checkpoints *checkpoints,
                              struct torc_checkpoints_numbers *numbers)
{
    *numbers = checkpoints->numbers;
    numbers->wanted = checkpoints_wanted(checkpoints);
}
