// Torc simulator: a metastore of the kind "simulated" (control/metastore.h).
//
// What    records that all controls of a run share, with requests that take their time, and the
//         faults of REPLICATION.md's menu: away; an answer that says "unknown" though the swap
//         happened, will happen late, or never does; watches that come late.
// Owner   the run. A handle belongs to one control and dies with it; its requests live on.
// Rules   a request takes effect at one moment between submit and answer, or never.
#ifndef TORC_TESTS_SIM_SIM_RECORDS_H
#define TORC_TESTS_SIM_SIM_RECORDS_H

#include "control/metastore.h"
#include "tests/sim/sim.h"

void sim_records_init(void);

// Before the run, of placement, and for oracles: at once, without faults. NULL: there is no such
// record.
void sim_records_put(const char *key, const char *value);
const char *sim_records_get(const char *key);

// A control's; one that the node's control before it left is gone.
struct torc_metastore *sim_records_open(uint32_t node);

// An event of kind SIM_EVENT_META.
void sim_records_event(struct sim_event *due);

#endif
