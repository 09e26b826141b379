// Torc dataplane: making the channel and handing it to control (kit/chan.h says what is in it).
//
// What    the sealed memfd, the doorbells, and the listener at run/channel.sock. One control at a
//         time: a second one is answered IN_USE and closed; the end of its socket is control's
//         death.
// Owner   one thread that is no worker: it polls the descriptors that torc_channel_poll_fds gives
//         and calls torc_channel_step. Workers use the memory and ring doorbells, nothing else of
//         this.
// Memory  torc_chan_bytes() of a memfd, until torc_channel_close.
// Bounds  a connection that does not say hello within TORC_CHANNEL_HELLO_MS is closed; meanwhile no
//         other is looked at. Nothing here is ever waited for.
#ifndef TORC_DATAPLANE_CHANNEL_OS_H
#define TORC_DATAPLANE_CHANNEL_OS_H

#include "kit/chan.h"

#include <poll.h>

#define TORC_CHANNEL_HELLO_MS 1000
#define TORC_CHANNEL_POLL_MAX 3
// The kernel passes 253 descriptors with a message; two are the memfd and control's doorbell.
#define TORC_CHANNEL_WORKERS_MAX 251u

enum torc_channel_event {
    TORC_CHANNEL_NOTHING,
    TORC_CHANNEL_ATTACHED, // a control has everything
    TORC_CHANNEL_REFUSED,  // `why` says whom and for what
    TORC_CHANNEL_LOST,     // control is gone
};

struct torc_channel {
    void *memory;
    uint64_t memory_bytes;
    uint32_t worker_count;
    int memfd;
    int listener;
    int control;          // the one that is attached, or -1
    int guest;            // has connected and said nothing yet, or -1
    uint64_t guest_at_ns; // when it connected
    uint32_t control_pid;
    int control_doorbell;
    int doorbells[TORC_CHANNEL_WORKERS_MAX];
    char path[108]; // of the listener; removed at the end
};

// What the dataplane says of itself to a new control.
struct torc_channel_self {
    uint64_t cluster; // all three 0 until configured
    uint64_t boot;
    uint32_t node;
};

// Makes everything; `path` is run/channel.sock, whose folder exists. A file left by a dead
// dataplane is replaced; IN_USE when a living one answers there.
enum torc_err torc_must_use torc_channel_open(struct torc_channel *channel, const char *path,
                                              uint32_t worker_count, struct torc_fail *why);

// Fills `fds` with what to poll for; returns how many. *timeout_ms is lowered when somebody must be
// closed for being late.
uint32_t torc_channel_poll_fds(const struct torc_channel *channel, uint64_t now_ns,
                               struct pollfd fds[TORC_CHANNEL_POLL_MAX], int *timeout_ms);

// Does one thing that is ready, without blocking; NOTHING when none is.
enum torc_channel_event torc_channel_step(struct torc_channel *channel, uint64_t now_ns,
                                          const struct torc_channel_self *self,
                                          struct torc_fail *why);

void torc_channel_close(struct torc_channel *channel);

// Wakes whoever blocks on an eventfd of ours. Any thread.
void torc_channel_ring(int doorbell);

// Wakes worker `index` of the channel in `chan`, and notes that (torc_chan_rang). Any thread.
void torc_channel_ring_worker(const int *doorbells, void *chan, uint32_t index);

// Makes an eventfd quiet again, by the one who waits on it.
void torc_channel_hush(int doorbell);

#endif
