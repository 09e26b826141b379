// Torc control: placement as each node runs it. See control/placer.h.
#include "control/placer.h"

#define PLACER_BEATS 5u // of a lease: four may be late
// A bet. No setting: changes of nodes wake the leader, and no shard is made while nodes run.
#define PLACER_RESCAN_NS UINT64_C(30000000000)

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
    placer->changes = 0;
    torc_leader_init(&placer->leader, &leader, now_ns);
}

void torc_placer_look(struct torc_placer *placer, const struct torc_follow *follow)
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
    }
}
