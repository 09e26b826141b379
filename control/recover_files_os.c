// Torc control: the files of checkpoints that recovery finds. See control/recover_uring.h.
#include "control/recover_impl_uring.h"
#include "kit/bugs.h"
#include "kit/log_os.h"

#include <fcntl.h>

#define FOOTER_BYTES 96u

void torc_checkpoint_name(char *name, uint32_t name_bytes, uint32_t shard, uint64_t lsn)
{
    (void)snprintf(name, name_bytes, "%" PRIu32 "-%" PRIu64, shard, lsn);
}

bool torc_checkpoint_name_parse(const char *name, uint32_t *shard, uint64_t *lsn)
{
    uint64_t numbers[2] = {0};
    uint32_t which = 0;
    char again[TORC_RECOVER_NAME_BYTES];

    for (const char *at = name; *at != '\0'; at++) {
        if (*at == '-' && which == 0) {
            which = 1;
        } else if (*at < '0' || *at > '9' ||
                   __builtin_mul_overflow(numbers[which], UINT64_C(10), &numbers[which]) ||
                   __builtin_add_overflow(numbers[which], (uint64_t)(*at - '0'), &numbers[which])) {
            return false;
        }
    }
    if (numbers[0] > UINT32_MAX) {
        return false;
    }
    *shard = (uint32_t)numbers[0];
    *lsn = numbers[1];
    torc_checkpoint_name(again, sizeof(again), *shard, *lsn);
    return strcmp(again, name) == 0;
}

// Header and footer of one file.
static enum torc_err recover_check_file(const struct torc_recover *recover, const char *name,
                                        struct torc_checkpoint_info *info, uint64_t *byte_count,
                                        struct torc_fail *why)
{
    struct torc_disk *disk = recover->config.disk;
    int folder = recover->config.checkpoint_fd;
    unsigned char head[sizeof(struct torc_checkpoint_header)] = {0};
    unsigned char tail[FOOTER_BYTES] = {0};
    struct torc_checkpoint_footer footer;
    struct torc_fail inner = {0};
    enum torc_err err = TORC_ERR_IO;
    struct torc_disk_piece piece = {.bytes = head, .byte_count = sizeof(head)};
    int32_t got = torc_disk_peek(disk, folder, name, &piece);
    bool is_long = got >= 0 && piece.file_bytes >= sizeof(head) + sizeof(tail);

    if (is_long) {
        piece = (struct torc_disk_piece){
            .bytes = tail, .byte_count = sizeof(tail), .offset = piece.file_bytes - sizeof(tail)};
        got = torc_disk_peek(disk, folder, name, &piece);
    }
    *byte_count = piece.file_bytes;
    if (got < 0) {
        err = torc_fail(why, TORC_ERR_IO, "read checkpoint/%s: %s", name, strerrordesc_np(-got));
    } else if (!is_long) {
        err = torc_fail(why, TORC_ERR_CORRUPT, "checkpoint/%s: cut short at %" PRIu64 " bytes",
                        name, *byte_count);
    } else {
        err = torc_checkpoint_header_check(head, sizeof(head), info, &inner);
        if (err == TORC_ERR_OK) {
            err = torc_checkpoint_footer_check(tail, sizeof(tail), &footer, &inner);
        }
        if (err == TORC_ERR_OK &&
            (info->cluster != recover->config.cluster || info->node != recover->config.node)) {
            err = torc_fail(&inner, TORC_ERR_CORRUPT, "of another node: put here from elsewhere?");
        }
        if (err != TORC_ERR_OK) {
            err = torc_fail(why, err, "checkpoint/%s: %.100s", name, inner.text);
        }
    }
    return err;
}

// A later turn is newer whatever its LSN: the log may have begun anew in between.
static bool recover_is_older(const struct torc_checkpoint_info *info,
                             const struct torc_checkpoint_info *than)
{
    return info->turn != than->turn ? info->turn < than->turn : info->lsn < than->lsn;
}

// A good file: the newest of its shard counts, an older one is of no use any more.
static void recover_take_file(struct torc_recover *recover, struct torc_recover_shard *shard,
                              const struct torc_checkpoint_info *info, uint64_t byte_count)
{
    uint64_t old_lsn = shard->has_checkpoint ? shard->checkpoint.lsn : UINT64_MAX;
    char name[TORC_RECOVER_NAME_BYTES];

    if (shard->has_checkpoint && recover_is_older(info, &shard->checkpoint)) {
        old_lsn = info->lsn;
    } else {
        shard->checkpoint = *info;
        shard->checkpoint_bytes = byte_count;
        shard->stream = info->stream;
        shard->turn = info->turn;
    }
    shard->has_checkpoint = true;
    if (old_lsn != UINT64_MAX && !recover->config.look_only) {
        torc_checkpoint_name(name, sizeof(name), shard->shard, old_lsn);
        // Found again, if it stays.
        (void)torc_disk_remove(recover->config.disk, recover->config.checkpoint_fd, name);
    }
}

// A shard that other nodes have now: it left this one while it was away.
static enum torc_err recover_foreign(struct torc_recover *recover, const char *name)
{
    torc_log(TORC_LOG_INFO, "checkpoint", "foreign",
             "name=checkpoint/%.60s note=\"its shard is other nodes' now\"", name);
    if (!recover->config.look_only) {
        (void)torc_disk_remove(recover->config.disk, recover->config.checkpoint_fd, name);
    }
    return TORC_ERR_OK;
}

static enum torc_err recover_entry(struct torc_recover *recover, const char *name,
                                   struct torc_fail *why)
{
    struct torc_checkpoint_info info = {0};
    struct torc_recover_shard *shard;
    uint64_t byte_count = 0;
    uint32_t number;
    uint64_t lsn;
    uint64_t length = strlen(name);
    enum torc_err err;

    if (length > 4 && strcmp(name + length - 4, ".tmp") == 0) { // never finished
        if (!recover->config.look_only) {
            (void)torc_disk_remove(recover->config.disk, recover->config.checkpoint_fd, name);
        }
        return TORC_ERR_OK;
    }
    if (!torc_checkpoint_name_parse(name, &number, &lsn)) {
        torc_log(TORC_LOG_WARN, "checkpoint", "unknown-file", "name=checkpoint/%.60s", name);
        return TORC_ERR_OK;
    }
    err = recover_check_file(recover, name, &info, &byte_count, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    shard = torc_recover_shard_of(recover, number);
    if (shard == NULL && recover->config.others != NULL && info.shard == number &&
        info.lsn == lsn) {
        return recover_foreign(recover, name);
    }
    if (shard == NULL || info.shard != number || info.lsn != lsn) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "checkpoint/%s holds shard %" PRIu32 " up to %" PRIu64
                         ": no such shard of this node",
                         name, info.shard, info.lsn);
    }
    recover_take_file(recover, shard, &info, byte_count);
    return TORC_ERR_OK;
}

static enum torc_err recover_check_other(const struct torc_recover *recover, const char *name,
                                         struct torc_fail *why)
{
    struct torc_survey *others = recover->config.others;
    const struct torc_survey_shard *record;
    struct torc_checkpoint_info info = {0};
    uint64_t byte_count;
    uint32_t shard;
    uint64_t lsn;
    enum torc_err err;

    if (!torc_checkpoint_name_parse(name, &shard, &lsn)) {
        return TORC_ERR_OK;
    }
    record = torc_survey_shard(others, shard);
    if (record != NULL && torc_survey_concerns(others, record, recover->config.node)) {
        return TORC_ERR_OK; // what it says of that one is seen when its log was read
    }
    err = recover_check_file(recover, name, &info, &byte_count, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    if (record == NULL || record->epoch < info.epoch) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "METASTORE_WENT_BACK: checkpoint/%.40s is of epoch %" PRIu32
                         " and the metastore's record of its shard of epoch %" PRIu32
                         ", without this node: put the right metastore back",
                         name, info.epoch, record != NULL ? record->epoch : 0);
    }
    return TORC_ERR_OK;
}

enum torc_err torc_recover_check_others(const struct torc_recover_config *config,
                                        struct torc_fail *why)
{
    const struct torc_recover recover = {.config = *config};
    struct torc_disk_names names = {0};
    enum torc_err err = TORC_ERR_OK;
    int32_t listed;

    if (config->others == NULL) {
        return TORC_ERR_OK;
    }
    listed = torc_disk_list(config->disk, config->checkpoint_fd, &names);
    if (listed < 0) {
        return torc_fail(why, TORC_ERR_IO, "read checkpoint/: %s", strerrordesc_np(-listed));
    }
    for (uint32_t i = 0; i < names.count && err == TORC_ERR_OK; i++) {
        err = recover_check_other(&recover, names.names[i], why);
    }
    torc_disk_names_free(&names);
    return err;
}

// A control may have died between a checkpoint's name and the folder's sync, or that sync failed.
// Who goes by the name removes the checkpoint before it, and trims the log that it covers: so it
// has to last.
static enum torc_err recover_keep_names(struct torc_recover *recover, struct torc_fail *why)
{
    struct torc_disk *disk = recover->config.disk;
    struct torc_disk_op op = {.kind = TORC_DISK_SYNC};
    enum torc_err err;

    if (recover->config.look_only || TORC_BUG(NAMES_NOT_KEPT)) {
        return TORC_ERR_OK;
    }
    err = torc_disk_file_open(disk, recover->config.checkpoint_fd, ".", O_RDONLY | O_DIRECTORY,
                              &op.file, why);
    if (err != TORC_ERR_OK) {
        return err;
    }
    if (torc_disk_do(disk, &op) < 0) {
        err = torc_fail(why, TORC_ERR_IO, "sync checkpoint/: %s", strerrordesc_np(-op.result));
    }
    torc_disk_file_close(disk, op.file);
    return err;
}

enum torc_err torc_recover_checkpoints(struct torc_recover *recover, struct torc_fail *why)
{
    struct torc_disk_names names = {0};
    enum torc_err err = recover_keep_names(recover, why);
    int32_t listed;

    if (err != TORC_ERR_OK) {
        return err;
    }
    listed = torc_disk_list(recover->config.disk, recover->config.checkpoint_fd, &names);
    if (listed < 0) {
        return torc_fail(why, TORC_ERR_IO, "read checkpoint/: %s", strerrordesc_np(-listed));
    }
    for (uint32_t i = 0; i < names.count && err == TORC_ERR_OK; i++) {
        if (names.names[i][0] != '.') {
            err = recover_entry(recover, names.names[i], why);
        }
    }
    torc_disk_names_free(&names);
    for (uint32_t i = 0; i < recover->config.shard_count; i++) {
        recover->numbers.checkpoint_bytes += recover->config.shards[i].checkpoint_bytes;
    }
    return err;
}
