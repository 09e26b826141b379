// Torc control: who leads placement, and a leader's transactions. See control/leader.h.
#include "control/leader_impl.h"
#include "kit/bugs.h"

#include <string.h>

uint64_t torc_leader_nonce(struct torc_leader *leader)
{
    return leader->config.nonce + ++leader->nonce_count;
}

void torc_leader_init(struct torc_leader *leader, const struct torc_leader_config *config,
                      uint64_t now_ns)
{
    torc_assert(config->node > 0 && config->node <= TORC_RECORD_NODE_MAX);
    torc_assert(config->replicas >= 1 && config->replicas <= TORC_PLACEMENT_REPLICAS_MAX);
    torc_assert(config->beat_ns < config->lease_ns / 3);
    memset(leader, 0, sizeof(*leader));
    leader->config = *config;
    leader->poll_at_ns = now_ns;
    leader->seen_ns = now_ns;
}

void torc_leader_wake(struct torc_leader *leader)
{
    leader->woken = true;
}

void torc_leader_seat(struct torc_leader *leader, const uint8_t seats[TORC_PLACEMENT_IDS])
{
    if (memcmp(leader->seats, seats, sizeof(leader->seats)) != 0) {
        memcpy(leader->seats, seats, sizeof(leader->seats));
        leader->woken = true;
    }
}

// Polls of several nodes are apart: a few reads a lease each, none at the same time for long.
static void leader_poll(struct torc_leader *leader, uint64_t now_ns)
{
    uint64_t mixed = (leader->config.nonce + leader->nonce_count++) * 0x9e3779b97f4a7c15u;
    uint64_t step_ns = leader->config.lease_ns / 8;

    leader->poll_at_ns = now_ns + step_ns + (mixed >> 32) * step_ns / UINT32_MAX;
}

static void leader_follow(struct torc_leader *leader, uint64_t now_ns, uint64_t version)
{
    leader->counters.lost += leader->state == TORC_LEADER_LEADS ? 1 : 0;
    leader->state = TORC_LEADER_FOLLOWS;
    leader->flight = TORC_LEADER_NOTHING;
    leader->version = version;
    leader->seen_ns = now_ns;
    leader_poll(leader, now_ns);
}

static void leader_lead(struct torc_leader *leader, uint64_t now_ns)
{
    leader->state = TORC_LEADER_LEADS;
    leader->stage = leader->shard_count > 0 && TORC_BUG(LEADER_OLD_WISHES) ? TORC_LEADER_NODES
                                                                           : TORC_LEADER_SHARDS;
    leader->batch_max = TORC_LEADER_WANTS_MAX;
    leader->retry_at_ns = now_ns;
    leader->pace_at_ns = now_ns + leader->config.pace_ns;
    leader->table_count = 0;
    memset(leader->down, 0, sizeof(leader->down)); // of a term before: it did not look since
    leader->planned = false;
    leader->why = (struct torc_fail){0};
    leader->counters.terms++;
}

// -- Transactions --------------------------------------------------------------------------------

bool torc_leader_add(struct torc_leader *leader, const char *family, uint64_t id,
                     const struct torc_meta_op *op)
{
    uint32_t at = leader->op_count;

    torc_assert(at <= TORC_LEADER_WANTS_MAX);
    if (op->value_bytes > TORC_LEADER_TEXT_BYTES - leader->text_bytes) {
        return false;
    }
    if (id == 0) {
        (void)snprintf(leader->names[at], sizeof(leader->names[at]), "%s", family);
    } else {
        torc_record_name(leader->names[at], family, id);
    }
    leader->ops[at] = *op;
    leader->ops[at].key = leader->names[at];
    leader->ops[at].value = leader->text + leader->text_bytes;
    if (op->value_bytes > 0) {
        memcpy(leader->text + leader->text_bytes, op->value, op->value_bytes);
    }
    leader->text_bytes += op->value_bytes;
    leader->op_count++;
    return true;
}

void torc_leader_begin(struct torc_leader *leader, uint64_t now_ns, enum torc_leader_batch batch)
{
    struct torc_placement_fields *record = &leader->record;
    char text[TORC_RECORD_BYTES_MAX];
    struct torc_meta_op op = {.kind = TORC_META_PUT, .value = text, .expected = leader->version};
    bool fits;

    torc_assert(leader->flight == TORC_LEADER_NOTHING);
    record->term += batch == TORC_LEADER_CLAIM ? 1 : 0;
    record->leader = leader->config.node;
    record->boot = leader->config.boot;
    record->beat++;
    record->nonce = torc_leader_nonce(leader);
    leader->batch = batch;
    leader->batch_count = 0;
    leader->op_count = 0;
    leader->text_bytes = 0;
    op.value_bytes = torc_record_encode(TORC_RECORD_PLACEMENT, record, text);
    fits = torc_leader_add(leader, "placement", 0, &op);
    torc_assert(fits);
    leader->beat_at_ns = now_ns + leader->config.beat_ns;
}

void torc_leader_send(struct torc_leader *leader)
{
    torc_swap_begin(&leader->swap, leader->ops, leader->op_count, leader->config.ticket);
    leader->flight = TORC_LEADER_SWAP;
}

static void leader_won(struct torc_leader *leader, uint64_t now_ns)
{
    leader->version = leader->swap.version;
    leader->counters.beats++;
    if (leader->stage >= TORC_LEADER_WRITES) { // else it is for a list to say
        leader->why = (struct torc_fail){0};
    }
    switch (leader->batch) {
    case TORC_LEADER_CLAIM: leader_lead(leader, now_ns); return;
    case TORC_LEADER_BEAT: return;
    case TORC_LEADER_WISH:
        torc_leader_written(leader);
        leader->pace_at_ns = now_ns + leader->config.pace_ns;
        leader->batch_max =
            (uint32_t)torc_min_u64(UINT64_C(2) * leader->batch_max, TORC_LEADER_WANTS_MAX);
        return;
    case TORC_LEADER_PLACE: leader->counters.slots += leader->batch_count; return;
    case TORC_LEADER_TIDY: return;
    }
    torc_unreachable("all kinds return");
}

// It did not happen, and asking for the same again would not help. Wishes are tried alone (M5).
static void leader_failed(struct torc_leader *leader, uint64_t now_ns)
{
    (void)torc_fail(&leader->why, leader->swap.err, "metastore: placement: %s",
                    torc_err_name(leader->swap.err));
    leader->pace_at_ns = now_ns + leader->config.pace_ns;
    if (leader->batch == TORC_LEADER_CLAIM) {
        leader_follow(leader, now_ns, leader->version);
    } else if (leader->batch == TORC_LEADER_WISH && leader->batch_count > 1) {
        leader->batch_max = 1;
        leader->cursor = leader->places[0];
    } else if (leader->batch == TORC_LEADER_WISH) {
        leader->counters.refused++;
        leader->planned = false; // the next look at the shards tries it again
    } else {
        leader->retry_at_ns = now_ns + leader->config.beat_ns;
    }
}

static void leader_take_swap(struct torc_leader *leader, uint64_t now_ns,
                             const struct torc_meta_answer *answer)
{
    torc_swap_take(&leader->swap, now_ns, answer);
    if (!torc_swap_is_over(&leader->swap)) {
        return;
    }
    leader->flight = TORC_LEADER_NOTHING;
    if (leader->swap.state == TORC_SWAP_WON) {
        leader_won(leader, now_ns);
    } else if (leader->swap.state == TORC_SWAP_FAILED) {
        leader_failed(leader, now_ns);
    } else if (leader->swap.version != leader->version && leader->state == TORC_LEADER_LEADS &&
               TORC_BUG(LEADER_GOES_ON)) {
        leader->version = leader->swap.version;
    } else if (leader->swap.version != leader->version) {
        leader_follow(leader, now_ns, leader->swap.version);
    } else {
        leader->retry_at_ns = now_ns; // a node's record has changed meanwhile: look again
    }
}

// -- Followers -----------------------------------------------------------------------------------

// The record as it is, or that there is none. A version that is new counts from now on; one that
// was there long before the question was asked stands still.
static void leader_take_record(struct torc_leader *leader, uint64_t now_ns,
                               const struct torc_meta_answer *answer)
{
    const struct torc_meta_record *record = answer->record_count > 0 ? answer->records : NULL;
    uint64_t version = record != NULL ? record->version : TORC_META_ABSENT;
    bool ours;

    leader->flight = TORC_LEADER_NOTHING;
    leader_poll(leader, now_ns);
    if (answer->err != TORC_ERR_OK && answer->err != TORC_ERR_NOT_FOUND) {
        return; // away: nothing is known
    }
    leader->record = (struct torc_placement_fields){0};
    leader->why = (struct torc_fail){0};
    if (record != NULL && torc_record_decode(TORC_RECORD_PLACEMENT, &leader->record, record->value,
                                             record->value_bytes, &leader->why) != TORC_ERR_OK) {
        return; // of a newer version: that leads
    }
    if (version != leader->version) {
        leader->version = version;
        leader->seen_ns = now_ns;
    }
    // A life of this node before: nobody else needs to be waited for.
    ours = leader->record.leader == leader->config.node;
    if (version == TORC_META_ABSENT || ours ||
        leader->asked_ns >= leader->seen_ns + leader->config.lease_ns) {
        leader->state = TORC_LEADER_CLAIMS;
        torc_leader_begin(leader, now_ns, TORC_LEADER_CLAIM);
        torc_leader_send(leader);
    }
}

// -- Steps ---------------------------------------------------------------------------------------

static bool leader_get(struct torc_leader *leader, uint64_t now_ns,
                       struct torc_meta_request *request)
{
    if (now_ns < leader->poll_at_ns) {
        return false;
    }
    leader->flight = TORC_LEADER_GET;
    leader->asked_ns = now_ns;
    *request = (struct torc_meta_request){
        .verb = TORC_META_GET, .ticket = leader->config.ticket, .key = "placement"};
    return true;
}

static bool leader_list(struct torc_leader *leader, const char *family, uint32_t record_max,
                        struct torc_meta_request *request)
{
    leader->flight = TORC_LEADER_LIST;
    *request = (struct torc_meta_request){.verb = TORC_META_LIST,
                                          .ticket = leader->config.ticket,
                                          .key = family,
                                          .record_max = record_max};
    return true;
}

// What to look at again: nodes when they have changed or one has been down for long, and all now
// and then.
static void leader_look(struct torc_leader *leader, uint64_t now_ns)
{
    bool may = leader->stage == TORC_LEADER_WRITES || leader->stage == TORC_LEADER_RESTS;

    if (may && (leader->woken || now_ns >= leader->gone_at_ns)) {
        leader->stage = TORC_LEADER_NODES;
    } else if (leader->stage == TORC_LEADER_RESTS && now_ns >= leader->rescan_at_ns) {
        leader->stage = TORC_LEADER_SHARDS;
    }
}

static bool leader_work(struct torc_leader *leader, uint64_t now_ns,
                        struct torc_meta_request *request)
{
    leader_look(leader, now_ns);
    if (leader->stage == TORC_LEADER_WRITES && now_ns >= leader->pace_at_ns) {
        if (torc_leader_fill(leader, now_ns)) {
            torc_leader_send(leader);
            return torc_swap_next(&leader->swap, now_ns, request);
        }
        leader->stage = TORC_LEADER_RESTS;
        leader->rescan_at_ns = now_ns + leader->config.rescan_ns;
    }
    if (now_ns >= leader->beat_at_ns) {
        torc_leader_begin(leader, now_ns, TORC_LEADER_BEAT);
        torc_leader_send(leader);
        return torc_swap_next(&leader->swap, now_ns, request);
    }
    if (leader->stage >= TORC_LEADER_WRITES || now_ns < leader->retry_at_ns) {
        return false;
    }
    if (leader->stage == TORC_LEADER_NODES) {
        leader->woken = false;
        return leader_list(leader, "node/", TORC_PLACEMENT_IDS, request);
    }
    return leader_list(leader, leader->stage == TORC_LEADER_SHARDS ? "shard/" : "want/",
                       leader->config.shard_max, request);
}

bool torc_leader_next(struct torc_leader *leader, uint64_t now_ns,
                      struct torc_meta_request *request)
{
    if (leader->flight == TORC_LEADER_SWAP) {
        return torc_swap_next(&leader->swap, now_ns, request);
    }
    if (leader->flight != TORC_LEADER_NOTHING) {
        return false;
    }
    switch (leader->state) {
    case TORC_LEADER_FOLLOWS: return leader_get(leader, now_ns, request);
    case TORC_LEADER_LEADS: return leader_work(leader, now_ns, request);
    case TORC_LEADER_CLAIMS: // its swap is under way
    case TORC_LEADER_STOPPED: return false;
    }
    torc_unreachable("all states return");
}

static void leader_take_list(struct torc_leader *leader, uint64_t now_ns,
                             const struct torc_meta_answer *answer)
{
    leader->flight = TORC_LEADER_NOTHING;
    leader->retry_at_ns = now_ns + leader->config.beat_ns; // unless it gets on
    if (answer->err != TORC_ERR_OK) {
        leader->why = answer->why;
        leader->why.err = answer->err;
        return;
    }
    leader->why = (struct torc_fail){0};
    if (leader->stage == TORC_LEADER_SHARDS) {
        torc_leader_take_shards(leader, answer);
    } else if (leader->stage == TORC_LEADER_WANTS) {
        torc_leader_take_wants(leader, now_ns, answer);
    } else {
        torc_leader_take_nodes(leader, now_ns, answer);
    }
    if (leader->why.err == TORC_ERR_OK) {
        leader->retry_at_ns = now_ns;
    }
}

void torc_leader_take(struct torc_leader *leader, uint64_t now_ns,
                      const struct torc_meta_answer *answer)
{
    torc_assert(answer->ticket == leader->config.ticket);
    if (answer->went_back) {
        leader->state = TORC_LEADER_STOPPED;
        leader->flight = TORC_LEADER_NOTHING;
        leader->why = answer->why;
        leader->why.err = TORC_ERR_CORRUPT;
        return;
    }
    switch (leader->flight) {
    case TORC_LEADER_NOTHING: break;
    case TORC_LEADER_GET: leader_take_record(leader, now_ns, answer); return;
    case TORC_LEADER_LIST: leader_take_list(leader, now_ns, answer); return;
    case TORC_LEADER_SWAP: leader_take_swap(leader, now_ns, answer); return;
    }
    torc_unreachable("an answer to nothing");
}

uint64_t torc_leader_deadline_ns(const struct torc_leader *leader)
{
    uint64_t at_ns;

    if (leader->flight == TORC_LEADER_SWAP) {
        return torc_swap_deadline_ns(&leader->swap);
    }
    if (leader->flight != TORC_LEADER_NOTHING || leader->state == TORC_LEADER_STOPPED) {
        return UINT64_MAX;
    }
    if (leader->state == TORC_LEADER_FOLLOWS) {
        return leader->poll_at_ns;
    }
    at_ns = torc_min_u64(leader->beat_at_ns, leader->gone_at_ns);
    switch (leader->stage) {
    case TORC_LEADER_SHARDS:
    case TORC_LEADER_WANTS:
    case TORC_LEADER_NODES: return torc_min_u64(leader->beat_at_ns, leader->retry_at_ns);
    case TORC_LEADER_WRITES: at_ns = torc_min_u64(at_ns, leader->pace_at_ns); break;
    case TORC_LEADER_RESTS: at_ns = torc_min_u64(at_ns, leader->rescan_at_ns); break;
    }
    return leader->woken ? torc_min_u64(at_ns, leader->retry_at_ns) : at_ns;
}

bool torc_leader_is_settled(const struct torc_leader *leader)
{
    return leader->state == TORC_LEADER_LEADS && leader->stage == TORC_LEADER_RESTS &&
           !leader->woken;
}
