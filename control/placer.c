// Torc control: placement as each node runs it. See control/placer.h.
#include "control/placer.h"

#include "kit/bugs.h"

#define PLACER_BEATS 5u // of a lease: four may be late
// A bet. No setting: changes of nodes wake the leader, and no shard is made while nodes run.
#define PLACER_RESCAN_NS UINT64_C(30000000000)
// Bets: a write each minute of a node without shards is little, and a node that comes back has then
// waited long enough.
#define PLACER_ALIVE_MIN_NS UINT64_C(1000000000)
#define PLACER_ALIVE_MAX_NS UINT64_C(60000000000)

void torc_placer_init(struct torc_placer *placer, const struct torc_placer_config *config,
                      uint64_t now_ns)
{
    struct torc_leader_config leader = {.ticket = TORC_PLACER_TICKET,
                                        .nonce = config->nonce,
                                        .boot = config->boot,
                                        .node = config->node,
                                        .replicas = config->replicas,
                                        .lease_ns = config->lease_ns,
                                        .beat_ns = config->lease_ns / PLACER_BEATS,
                                        .pace_ns = config->pace_ns,
                                        .gone_ns = config->gone_ns,
                                        .rescan_ns = PLACER_RESCAN_NS,
                                        .placement = &placer->placement,
                                        .shards = placer->shards,
                                        .spare = placer->spare,
                                        .written = placer->written,
                                        .shard_max = TORC_CHAN_MAP_ENTRIES};

    placer->node_changes = 0;
    placer->changes = UINT64_MAX; // the first look is one
    placer->alive = (struct torc_note){0};
    placer->alive_at_ns = now_ns;
    placer->seat = TORC_SURVEY_SEATED; // until it has looked
    placer->shows = false;
    torc_leader_init(&placer->leader, &leader, now_ns);
}

// -- That it is there -----------------------------------------------------------------------------

static uint64_t placer_every_ns(const struct torc_placer *placer)
{
    return torc_min_u64(torc_max_u64(placer->leader.config.gone_ns / 4, PLACER_ALIVE_MIN_NS),
                        PLACER_ALIVE_MAX_NS);
}

// Who is kept from shards by an operator, or has some, has nothing to say.
static bool placer_shows(const struct torc_placer *placer, const struct torc_follow *follow)
{
    const struct torc_survey_node *own =
        torc_survey_node(follow->survey, placer->leader.config.node);

    return placer->seat == TORC_SURVEY_UNWISHED && own != NULL &&
           own->boot == follow->cluster->boot && own->boot != own->down &&
           (own->state == TORC_RECORD_NODE_SERVES || own->state == TORC_RECORD_NODE_YIELDS) &&
           !TORC_BUG(ALIVE_NOT_SAID);
}

void torc_placer_look(struct torc_placer *placer, uint64_t now_ns, const struct torc_follow *follow,
                      bool serves)
{
    uint8_t seats[TORC_PLACEMENT_IDS];

    if (placer->node_changes != follow->node_changes) {
        placer->node_changes = follow->node_changes;
        torc_leader_wake(&placer->leader);
    }
    if (placer->changes != follow->changes) {
        placer->changes = follow->changes;
        torc_survey_seats(follow->survey, seats);
        torc_leader_seat(&placer->leader, seats);
        placer->seat = (enum torc_survey_seat)seats[placer->leader.config.node];
    }
    placer->shows = serves && placer_shows(placer, follow);
    if (placer->shows && !placer->alive.open && now_ns >= placer->alive_at_ns) {
        placer->alive_at_ns = now_ns + placer_every_ns(placer);
        torc_note_begin(&placer->alive, TORC_NOTE_ALIVE, placer->leader.config.node,
                        follow->cluster->boot, TORC_PLACER_ALIVE);
    }
}

// -- Requests and answers -------------------------------------------------------------------------

bool torc_placer_next(struct torc_placer *placer, uint64_t now_ns,
                      struct torc_meta_request *request)
{
    return torc_leader_next(&placer->leader, now_ns, request) ||
           torc_note_next(&placer->alive, now_ns, request);
}

void torc_placer_take(struct torc_placer *placer, uint64_t now_ns,
                      const struct torc_meta_answer *answer, uint64_t nonce)
{
    if (answer->ticket == TORC_PLACER_TICKET) {
        torc_leader_take(&placer->leader, now_ns, answer);
    } else {
        torc_note_take(&placer->alive, now_ns, answer, nonce);
    }
}

uint64_t torc_placer_deadline_ns(const struct torc_placer *placer)
{
    uint64_t deadline_ns = torc_min_u64(torc_leader_deadline_ns(&placer->leader),
                                        torc_note_deadline_ns(&placer->alive));

    return placer->shows && !placer->alive.open ? torc_min_u64(deadline_ns, placer->alive_at_ns)
                                                : deadline_ns;
}
