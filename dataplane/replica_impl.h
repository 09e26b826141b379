// Torc dataplane: what the replica's files share. Private to replica*.c; the manual is replica.h.
//
// Shape   an event changes the state; then every rule whose time has come acts on the state
//         (torc_replica_settle in replica.c). So no rule waits for a particular event, and what a
//         lost message would have caused is caused again by time.
#ifndef TORC_DATAPLANE_REPLICA_IMPL_H
#define TORC_DATAPLANE_REPLICA_IMPL_H

#include "dataplane/replica.h"
#include "kit/bugs.h"

static inline bool replica_leads(const struct torc_replica *replica)
{
    return replica->role == TORC_REPLICA_CANDIDATE || replica->role == TORC_REPLICA_ACTIVE;
}

// Whether the time has come: 0 is never.
static inline bool replica_due(const struct torc_replica *replica, uint64_t at_ns)
{
    return at_ns != 0 && replica->now_ns >= at_ns;
}

// No beat, no answer, or sick by its own word: as good as dead to whoever needs it. Not for a disk
// that is stalled: as of any slow one, how far it is behind decides (C5).
static inline bool replica_is_gone(const struct torc_peer_state *state)
{
    return state->silent || state->mute || (state->health & ~TORC_HEALTH_STALLED) != 0;
}

// -- replica.c ----------------------------------------------------------------------------------

struct torc_replica_action *torc_replica_emit(struct torc_replica_actions *actions,
                                              enum torc_replica_action_kind kind, uint32_t node);

// A message to `node`; its part is to be filled.
struct torc_peer_message *torc_replica_send(const struct torc_replica *replica,
                                            struct torc_replica_actions *actions,
                                            enum torc_peer_kind kind, uint32_t node);

// Whether the action list has room for `count` more.
bool torc_replica_room(const struct torc_replica_actions *actions, uint32_t count);

struct torc_replica_peer *torc_replica_find(struct torc_replica *replica, uint32_t node);

// The peer's entry, made if there is none; NULL: no place.
struct torc_replica_peer *torc_replica_meet(struct torc_replica *replica, uint32_t node);

// Whether `configuration` has this very copy as a member (T2).
bool torc_replica_is_member(const struct torc_configuration *configuration, uint32_t node,
                            uint64_t copy);

// Adopts a configuration whose primary is another: BACKUP or LEARNER of it.
void torc_replica_follow(struct torc_replica *replica,
                         const struct torc_configuration *configuration, bool synced,
                         struct torc_replica_actions *actions);

// Worker 0 is to know of the epoch; nothing is acknowledged before it answers (R4).
void torc_replica_adopt(struct torc_replica *replica, struct torc_watch_life down, bool keeps,
                        struct torc_replica_actions *actions);

// A proposal of epoch + 1; its members are to be filled.
struct torc_configuration *torc_replica_propose(struct torc_replica *replica);

// -- replica_log.c ------------------------------------------------------------------------------

void torc_replica_table_add(struct torc_epoch_table *table, uint32_t epoch, uint64_t first_lsn);

void torc_replica_on_epoch(struct torc_replica *replica, const struct torc_replica_event *event,
                           struct torc_replica_actions *actions);
void torc_replica_on_append(struct torc_replica *replica, const struct torc_replica_event *event,
                            struct torc_replica_actions *actions);
void torc_replica_on_ack(struct torc_replica *replica, const struct torc_replica_event *event,
                         struct torc_replica_actions *actions);
void torc_replica_on_durable(struct torc_replica *replica,
                             const struct torc_replica_durable *durable);

void torc_replica_refuse(const struct torc_replica *replica, uint32_t node, uint32_t epoch,
                         struct torc_replica_actions *actions);

// Primary: what the peers lack. Follower: what is to be acknowledged.
void torc_replica_ship(struct torc_replica *replica, struct torc_replica_actions *actions);
void torc_replica_acknowledge(struct torc_replica *replica, struct torc_replica_actions *actions);

// -- replica_commit.c ---------------------------------------------------------------------------

// Up to where a peer's acknowledgements count in this epoch (C1).
uint64_t torc_replica_mark(const struct torc_replica *replica,
                           const struct torc_replica_peer *peer);

void torc_replica_commit(struct torc_replica *replica, struct torc_replica_actions *actions);
void torc_replica_activate(struct torc_replica *replica, struct torc_replica_actions *actions);
void torc_replica_remove(struct torc_replica *replica);

// -- replica_takeover.c -------------------------------------------------------------------------

void torc_replica_on_probe(struct torc_replica *replica, const struct torc_replica_event *event,
                           struct torc_replica_actions *actions);
void torc_replica_on_probe_ack(struct torc_replica *replica,
                               const struct torc_replica_event *event);
void torc_replica_suspect(struct torc_replica *replica, struct torc_replica_actions *actions);

// -- replica_join.c -----------------------------------------------------------------------------

void torc_replica_on_snap(struct torc_replica *replica, const struct torc_replica_event *event,
                          struct torc_replica_actions *actions);
void torc_replica_on_base(struct torc_replica *replica, const struct torc_replica_base_event *base,
                          struct torc_replica_actions *actions);
void torc_replica_on_transfer(struct torc_replica *replica, const struct torc_replica_event *event);

void torc_replica_give_up_base(struct torc_replica *replica);
void torc_replica_enlist(struct torc_replica *replica);
void torc_replica_join(struct torc_replica *replica);
void torc_replica_stream(struct torc_replica *replica, struct torc_replica_peer *peer,
                         struct torc_replica_actions *actions);
void torc_replica_hand_over(struct torc_replica *replica, struct torc_replica_actions *actions);

// Learner: whole, and reconciled with the primary.
bool torc_replica_is_usable(const struct torc_replica *replica);

#endif
