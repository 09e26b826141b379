// Torc control: what goes into the rings of the channel to the dataplane; no descriptor is touched.
// See control/attach_os.h.
#include "control/attach_os.h"

#include <string.h>

void torc_attach_note(struct torc_attach *attach, uint32_t index)
{
    torc_assert(index < attach->hello.worker_count);
    attach->rung[index] = true;
}

bool torc_attach_cmd(struct torc_attach *attach, uint32_t index, const struct torc_cmd *cmd)
{
    struct torc_spsc_port *port = &attach->ports[index].cmd;

    if (torc_spsc_writable(port, 1) == 0) {
        return false;
    }
    memcpy(torc_spsc_write_at(port, 0), cmd, sizeof(*cmd));
    torc_spsc_publish(port, 1);
    torc_attach_note(attach, index);
    return true;
}

bool torc_attach_mark(struct torc_attach *attach, uint32_t index, const struct torc_mark *mark)
{
    struct torc_spsc_port *port = &attach->ports[index].mark;

    if (torc_spsc_writable(port, 1) == 0) {
        return false;
    }
    memcpy(torc_spsc_write_at(port, 0), mark, sizeof(*mark));
    torc_spsc_publish(port, 1);
    torc_attach_note(attach, index);
    return true;
}

bool torc_attach_is_fresh(struct torc_attach *attach)
{
    bool fresh = true;

    for (uint32_t i = 0; i < attach->hello.worker_count; i++) {
        struct torc_spsc_port *cmd = &attach->ports[i].cmd;

        fresh = fresh && torc_spsc_writable(cmd, cmd->slot_count) == cmd->slot_count &&
                atomic_load_explicit(&attach->ports[i].worker->state, memory_order_acquire) ==
                    TORC_WORKER_UNCONFIGURED;
    }
    return fresh;
}
