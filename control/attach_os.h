// Torc control: its end of the channel to the dataplane (kit/chan.h says what is in it).
//
// What    connecting to run/channel.sock, mapping what comes, waking workers, noticing the end.
// Owner   control's one thread.
// Memory  the mapping and the descriptors, until torc_attach_close: after the dataplane's death
//         too, so that what it had published can still be written.
#ifndef TORC_CONTROL_ATTACH_OS_H
#define TORC_CONTROL_ATTACH_OS_H

#include "kit/chan.h"

struct torc_attach {
    struct torc_chan_hello hello; // the dataplane's
    struct torc_chan *chan;       // the mapping
    struct torc_chan_map *map;
    struct torc_chan_ports *ports; // hello.worker_count of them
    uint32_t number;               // of this control, among those that this dataplane has had
    int socket;                    // its end is the dataplane's death
    int pidfd;                     // as well; -1 where there is none
    int doorbell;                  // rung by workers
    int doorbells[TORC_CHAN_WORKERS_MAX];
    bool rung[TORC_CHAN_WORKERS_MAX]; // something was published since the last torc_attach_wake
};

// NOT_CONNECTED: no dataplane answers at `path`; IN_USE: another control is attached.
enum torc_err torc_must_use torc_attach_open(struct torc_attach *attach, const char *path,
                                             struct torc_fail *why);
void torc_attach_close(struct torc_attach *attach);

// Nobody has given an order to this dataplane yet. Else, while hello.boot is 0, a control before us
// died in the middle of its orders: they cannot be given again.
bool torc_attach_is_fresh(struct torc_attach *attach);

// True when the other end is gone. Does not block.
bool torc_attach_is_lost(const struct torc_attach *attach);

// Kills a dataplane that cannot be continued, so that its parent starts another.
void torc_attach_kill(const struct torc_attach *attach);

// After publishing to worker `index`: remembered until torc_attach_wake.
void torc_attach_note(struct torc_attach *attach, uint32_t index);

// Rings each noted worker that sleeps.
void torc_attach_wake(struct torc_attach *attach);

// Before and after blocking on `doorbell`: see "Doorbells" in kit/chan.h. Its counter is never
// read: whoever waits goes by edges (control/disk_uring.h). No worker that was noted may be left
// unrung: it would sleep on its orders for as long as control does.
void torc_attach_sleeping(struct torc_attach *attach, bool sleeping);

// One command to worker `index`. False: the ring is full, try again later.
bool torc_must_use torc_attach_cmd(struct torc_attach *attach, uint32_t index,
                                   const struct torc_cmd *cmd);
bool torc_must_use torc_attach_mark(struct torc_attach *attach, uint32_t index,
                                    const struct torc_mark *mark);

#endif
