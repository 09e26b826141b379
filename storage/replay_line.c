// Torc storage: what the records of a shard that follows do to its log, without keeping any; and
// so what the rest of a log cancels. See storage/replay_impl.h.
#include "kit/bugs.h"
#include "storage/replay_impl.h"
#include "storage/shard_impl.h"

// -- Epochs ---------------------------------------------------------------------------------------

static void line_epoch_add(struct torc_replay_line *line, uint32_t epoch, uint64_t lsn)
{
    uint32_t count = line->epoch_count;

    if (epoch == 0 || (count > 0 && line->epochs[count - 1].epoch == epoch)) {
        return;
    }
    if (count == TORC_REPLAY_LINE_EPOCHS) {
        line->forgot = true;
        count--;
        for (uint32_t i = 0; i < count; i++) {
            line->epochs[i] = line->epochs[i + 1];
        }
    }
    line->epochs[count] = (struct torc_replay_epoch){.epoch = epoch, .first_lsn = lsn};
    line->epoch_count = count + 1;
}

// Of the record that the line has at `lsn`; 0: it is not known any more.
static uint32_t line_epoch_at(const struct torc_replay_line *line, const struct torc_shard *engine,
                              uint64_t lsn)
{
    for (uint32_t i = line->epoch_count; i > 0; i--) {
        if (line->epochs[i - 1].first_lsn <= lsn) {
            return line->epochs[i - 1].epoch;
        }
    }
    return engine == NULL ? 0 : torc_shard_held_epoch(engine, lsn);
}

void torc_replay_line_epochs(const struct torc_replay_line *line, struct torc_replay_result *result)
{
    uint32_t count = line->epoch_count;
    uint32_t skip = count > TORC_REPLAY_EPOCHS_MAX ? count - TORC_REPLAY_EPOCHS_MAX : 0;

    result->epoch_count = count - skip;
    for (uint32_t i = skip; i < count; i++) {
        result->epochs[i - skip] = line->epochs[i];
    }
}

void torc_replay_line_cut(struct torc_replay_line *line, const struct torc_shard *engine,
                          uint64_t lsn)
{
    line->epoch = line_epoch_at(line, engine, lsn);
    line->next_lsn = lsn + 1;
    while (line->epoch_count > 0 && line->epochs[line->epoch_count - 1].first_lsn > lsn) {
        line->epoch_count--;
    }
}

// -- Records --------------------------------------------------------------------------------------

void torc_replay_line_base(struct torc_replay_line *line)
{
    line->base_epoch = line->epoch;
    line->base_turn = line->turn;
    line->epoch_count = 0;
    line_epoch_add(line, line->epoch, line->base_lsn);
}

void torc_replay_line_empty(struct torc_replay_line *line)
{
    line->base_lsn = 0;
    line->base_epoch = 0;
    line->next_lsn = 1;
    line->epoch = 0;
    line->gap = false;
    line->forgot = false;
    line->epoch_count = 0;
}

void torc_replay_line_add(struct torc_replay_line *line, const struct torc_log_record *record)
{
    torc_assert(record->lsn == line->next_lsn);
    line_epoch_add(line, record->epoch, record->lsn);
    line->next_lsn = record->lsn + 1;
    line->epoch = record->epoch;
}

bool torc_replay_line_turn(struct torc_replay_line *line, const struct torc_log_record *record)
{
    if (record->turn < line->turn && record->turn >= line->base_turn) {
        return false;
    }
    if (record->kind != TORC_LOG_BEGUN && record->turn > line->turn) { // which looks at it first
        line->turn = record->turn;
    }
    return true;
}

// BEGUN: of a base whose checkpoint was not kept, or of nothing, and then the log is whole.
static enum torc_replay_move line_begun(struct torc_replay_line *line,
                                        const struct torc_log_record *record)
{
    bool counts = record->turn > line->turn && record->turn > line->base_turn;

    line->turn = record->turn > line->turn ? record->turn : line->turn;
    if (!counts) {
        return TORC_REPLAY_PASS;
    }
    torc_replay_line_empty(line);
    line->lost = record->lsn > 1;
    line->base_turn = record->turn;
    return TORC_REPLAY_ANEW;
}

// P1, after what the record cancels was cut: whether it goes on where the log stood. It does not
// where the shard began anew (torc_shard_reset), and no checkpoint of its base was kept.
static bool line_goes_on(const struct torc_replay_line *line, const struct torc_log_record *record)
{
    return record->lsn == line->next_lsn &&
           (record->kind == TORC_LOG_EPOCH ? record->epoch > line->epoch
                                           : record->epoch == line->epoch);
}

// A record cancels what lies at or above its LSN, even if the checkpoint has it.
static void line_cut(struct torc_replay_line *line, const struct torc_shard *engine,
                     const struct torc_log_record *record, struct torc_replay_step *step)
{
    uint64_t lsn = torc_max_u64(record->lsn - 1, line->base_lsn);

    if (lsn + 1 >= line->next_lsn || TORC_BUG(EPOCH_KEEPS_TAIL)) {
        return;
    }
    step->cuts = true;
    step->cut_lsn = lsn;
    torc_replay_line_cut(line, engine, lsn);
    step->unsure = line->epoch == 0 && line->forgot;
}

void torc_replay_line_step(struct torc_replay_line *line, const struct torc_shard *engine,
                           const struct torc_log_record *record, struct torc_replay_step *step)
{
    bool is_old = record->lsn <= line->base_lsn || record->epoch < line->base_epoch ||
                  record->turn < line->base_turn;

    *step = (struct torc_replay_step){.move = TORC_REPLAY_PASS};
    if (record->kind == TORC_LOG_BEGUN) {
        step->move = line_begun(line, record);
        return;
    }
    if (record->kind == TORC_LOG_MOVED || line->lost || record->turn < line->base_turn) {
        return;
    }
    if (!is_old && record->lsn < line->next_lsn) {
        uint32_t there = line_epoch_at(line, engine, record->lsn);

        step->unsure = there == 0 && line->forgot;
        if (there == record->epoch) {
            step->move = TORC_REPLAY_AGAIN;
            return;
        }
    }
    if (!step->unsure) {
        line_cut(line, engine, record, step);
    }
    if (is_old || step->unsure) {
        return;
    }
    // The end of a tail that was cut, whose beginning lies before what the checkpoint needs of the
    // log: the record that cancels it comes at next_lsn or below.
    line->gap = record->lsn > line->next_lsn;
    if (line->gap) {
        return;
    }
    step->move = line_goes_on(line, record) ? TORC_REPLAY_TAKE : TORC_REPLAY_LOSE;
    if (step->move == TORC_REPLAY_LOSE) {
        line->lost = true;
        torc_replay_line_empty(line);
    }
}

// -- Looking ahead --------------------------------------------------------------------------------

bool torc_replay_ahead_is_over(const struct torc_replay_ahead *ahead, uint64_t at)
{
    return ahead->until < at && !ahead->unsure;
}

// What is known still is kept: by it, records were passed over, and the line lacks them.
void torc_replay_ahead_begin(struct torc_replay_shard *shard, uint64_t at)
{
    shard->ahead.looking = torc_replay_ahead_is_over(&shard->ahead, at);
    if (shard->ahead.looking) {
        torc_assert(shard->ahead.cut_count == 0 ||
                    shard->ahead.cuts[shard->ahead.cut_count - 1].at < at);
        shard->ahead =
            (struct torc_replay_ahead){.line = shard->line, .until = UINT64_MAX, .looking = true};
    }
}

// A cut further down is the only one that matters for all that came before it. If there are too
// many, the last ones are left out: what comes before the last one known is known nevertheless, for
// it cancels whatever a later and higher one does. One that takes its place makes all known again.
static void ahead_cut(struct torc_replay_ahead *ahead, uint64_t lsn, uint64_t at)
{
    ahead->commit_lsn = torc_min_u64(ahead->commit_lsn, lsn == 0 ? 0 : lsn - 1);
    while (ahead->cut_count > 0 && ahead->cuts[ahead->cut_count - 1].lsn >= lsn) {
        ahead->cut_count--;
    }
    if (ahead->cut_count == TORC_REPLAY_CUTS_MAX) {
        ahead->until = ahead->cuts[TORC_REPLAY_CUTS_MAX - 1].at;
        return;
    }
    ahead->until = UINT64_MAX;
    ahead->cuts[ahead->cut_count++] = (struct torc_replay_cut){.at = at, .lsn = lsn};
}

static void ahead_commit(struct torc_replay_ahead *ahead, const struct torc_log_record *record,
                         uint64_t before_lsn)
{
    ahead->commit_lsn =
        torc_max_u64(ahead->commit_lsn, torc_min_u64(record->commit_lsn, before_lsn));
}

void torc_replay_ahead_record(struct torc_replay_shard *shard, const struct torc_log_record *record,
                              uint64_t at)
{
    struct torc_replay_ahead *ahead = &shard->ahead;
    struct torc_replay_line *line = &ahead->line;
    uint64_t before_lsn = line->next_lsn - 1;
    struct torc_replay_step step;

    if (!ahead->looking || !torc_replay_line_turn(line, record)) {
        return; // replay will say so
    }
    if (torc_replay_line_notes(line, record, false)) {
        ahead_commit(ahead, record, before_lsn);
    }
    torc_replay_line_step(line, NULL, record, &step);
    if (step.unsure) { // the cuts before it are true, whatever follows
        ahead->until = 0;
        ahead->unsure = true;
        ahead->looking = false;
        return;
    }
    if (step.cuts) {
        ahead_cut(ahead, step.cut_lsn + 1, at);
        before_lsn = step.cut_lsn;
    }
    switch (step.move) {
    case TORC_REPLAY_TAKE:
        ahead_commit(ahead, record, before_lsn);
        torc_replay_line_add(line, record);
        break;
    case TORC_REPLAY_ANEW: ahead_cut(ahead, 0, at); break;
    case TORC_REPLAY_LOSE:
    case TORC_REPLAY_PASS:
    case TORC_REPLAY_AGAIN: break;
    }
}

bool torc_replay_ahead_cancels(struct torc_replay_ahead *ahead, uint64_t lsn, uint64_t at)
{
    while (ahead->cut_first < ahead->cut_count && ahead->cuts[ahead->cut_first].at <= at) {
        ahead->cut_first++;
    }
    return ahead->cut_first < ahead->cut_count && ahead->cuts[ahead->cut_first].lsn <= lsn;
}
