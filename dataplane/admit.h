// Torc dataplane: which packets of clients a worker takes when there are more than it can do.
//
// What    Watches the queue. When it was never empty for 100 ms, and always held more work than the
//         target, the worker sheds: of each turn it does so much that a packet is answered, or
//         refused, within the target of its arrival, and refuses the rest. What it does is divided
//         between sessions: each has an account that fills with what was taken of it and empties by
//         `leak` a turn; one whose account is full is refused. The leak is what makes the sum come
//         out right: it grows while less was taken than could be done though some were refused, and
//         shrinks when more was. So a session that asks for less than an even share gets all it
//         asks for, and those that ask for more get the same (max-min fairness), whatever the
//         number of sessions; nobody has to be counted.
//         Shedding ends when less than 1 % was refused in 100 ms.
//         A packet that only reads, and says so (TORC_REPLY_BYTES_DROP), is not even opened when
//         it is over the share of its session: its number is noted on the account, and told with
//         the next answer to that session (UNREAD), or alone when there was none in
//         TORC_ADMIT_TELL_TURNS. Each answer leaves room for some such notices: what the requests
//         that were opened allowed and their answers did not take. Without room for one, or when
//         nothing of the session was opened lately, a packet is opened and refused as others are.
//         A receive ring does not say when a frame came. But it says how many are in it, so for
//         each of the last looks it is known how many had come by then: the first frame of a turn
//         came after the last look by which no more had come than were taken before. What was late
//         by that bound may have been in time by a turn, never the other way (A3).
// Owner   the worker.
// Memory  TORC_ADMIT_SLOTS accounts, in the struct; sessions beyond that number share them.
// Invariants
//         A1  no packet is refused before the queue stood for TORC_ADMIT_STANDING_NS.
//         A2  while it sheds, a turn takes at most `turn_max` packets, and as many again of those
//             sessions that have asked for little lately.
//         A3  no frame of a turn is older than `age_ns`, while the ring says how many wait and the
//             worker looked before them.
//         A4  an account has at most one notice to come, and notices take no more bytes than
//             answers left.
// Sources CoDel (RFC 8289) for the standing queue; CSFQ (Stoica, Shenker, Zhang, SIGCOMM 1998) for
//         the estimated share; docs/decisions/0018-overload.md for what was measured.
#ifndef TORC_DATAPLANE_ADMIT_H
#define TORC_DATAPLANE_ADMIT_H

#include "kit/base.h"

#define TORC_ADMIT_SLOTS       4096u // a power of two
#define TORC_ADMIT_STANDING_NS UINT64_C(100000000)
#define TORC_ADMIT_LOOKS       16u
#define TORC_ADMIT_TELL_TURNS  2u
#define TORC_ADMIT_DUE         1024u // notices to come, a power of two
#define TORC_ADMIT_ONE         256u  // a packet, in an account

struct torc_admit_slot {
    uint32_t turn; // when it was last looked at
    uint32_t level;
    uint32_t session; // whose packets are noted, while some are
    uint32_t noted;   // turn of the first
    uint32_t heard;   // session whose packet was opened last
    uint32_t opened;  // turn of that
    uint32_t notices; // for which answers to it left room
    uint64_t first;   // its seq
    uint64_t bitmap;  // bit i: first + i was dropped unread; 0: nothing to tell
};

// An account with something to tell.
struct torc_admit_due {
    uint32_t session;
    uint32_t noted;
};

// What was known at the beginning of a turn.
struct torc_admit_look {
    uint64_t at_ns;
    uint64_t seen; // frames that had come, since ever
};

struct torc_admit {
    uint64_t target_ns;
    uint64_t now_ns;
    uint64_t cost_ns;     // of one packet when nothing interrupts, roughly
    uint64_t standing_ns; // since when the queue is too long; 0: it is not
    uint64_t age_ns;      // of the oldest frame of this turn, at most
    uint64_t window_ns;   // since when it is counted how many are refused
    uint64_t window_frames;
    uint64_t window_refused;
    uint64_t taken_ever; // frames, before this turn
    uint32_t turn;
    uint32_t turn_aim; // packets to take in a turn, on average
    uint32_t turn_max; // and at most
    uint32_t taken;    // of them, in this turn
    uint32_t refused;  // in this turn
    uint32_t unopened; // and those that were dropped unopened
    uint32_t told;     // notices that went alone, in this turn
    uint32_t untold;   // accounts with something noted
    uint32_t frames;   // in this turn, all
    uint32_t leak;     // of each account, a turn
    bool shedding;
    bool flooded; // even refusals take too long: what is refused is not opened
    bool pressed; // in this turn some are refused
    uint32_t look_first;
    uint32_t look_count;
    struct torc_admit_look looks[TORC_ADMIT_LOOKS]; // a ring
    uint32_t due_first;
    uint32_t due_count;
    struct torc_admit_due due[TORC_ADMIT_DUE]; // a ring, the oldest first
    struct torc_admit_slot slots[TORC_ADMIT_SLOTS];
};

// What the turn found.
struct torc_admit_queue {
    uint64_t now_ns;
    uint32_t frames;  // to be taken in now
    uint32_t waiting; // behind them
    bool full;        // it may be that more wait than could be seen
};

void torc_admit_init(struct torc_admit *admit, uint64_t target_ns);

// A turn begins.
void torc_admit_turn(struct torc_admit *admit, const struct torc_admit_queue *queue);

// While it sheds: whether one more packet of that session may be taken. The account is changed by
// torc_admit_take only, when it is known that the packet is the session's.
bool torc_admit_may(struct torc_admit *admit, uint32_t session);
void torc_admit_take(struct torc_admit *admit, uint32_t session);
void torc_admit_refuse(struct torc_admit *admit, uint32_t session);
void torc_admit_drop(struct torc_admit *admit); // unopened: it was the session's or not

// The account of that session, if it is one, will be looked at.
static inline void torc_admit_prefetch(const struct torc_admit *admit, uint32_t session)
{
    __builtin_prefetch(&admit->slots[session % TORC_ADMIT_SLOTS], 1);
}

// Whether packets of that session were noted in the last turns: it exists, and is a client's.
bool torc_admit_knows(const struct torc_admit *admit, uint32_t session);
// Whether the packet, one too many, may be dropped unread: then it is noted.
bool torc_admit_note(struct torc_admit *admit, uint32_t session, uint64_t seq);
// An answer to the session left so many bytes of what was allowed for it.
void torc_admit_leave(struct torc_admit *admit, uint32_t session, uint32_t bytes);
// Whether the due notice `ahead` places behind the next one has waited long enough, and to whom it
// goes, unless something tells it first.
bool torc_admit_ahead(const struct torc_admit *admit, uint32_t ahead, uint32_t *session);
// At the end of a turn: the next session to which a notice goes that has waited long enough. False:
// none. The notice must be told at once.
bool torc_admit_due(struct torc_admit *admit, uint32_t *session);
// What was noted of that session, which is forgotten. False: nothing.
bool torc_admit_tell(struct torc_admit *admit, uint32_t session, uint64_t *first, uint64_t *bitmap);

#endif
