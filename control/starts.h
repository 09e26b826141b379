// Torc control: what a start of the dataplane goes on from.
//
// What    a start changes two places that cannot change together: the metastore and the data
//         directory. It may be cut short between any two of its steps, many times over. This says
//         what the next one finds: whether the directory is the node's, which life may have served
//         last, and as which copy the next one begins.
// Steps   of a start, in this order (control/registry_os.h); `served` below is of the record
//         `start/<id>`, of which nothing but starts reads anything:
//           1  torc.node, where it is one behind; the seal of boot 0 in a directory that never
//              got further than this                       (nothing was raised yet)
//           2  `node/<id>`: boot and start count, one more; `start/<id>`: of this start, served as
//              it was found                                (one transaction)
//           3  torc.node: this start
//           4  recovery reads the log; whoever fails up to here has served nobody
//           5  `start/<id>`: served is this boot
//           6  the seal is removed
//           7  DATA/replicas (control/based_os.h), where the cluster keeps copies: as the copy that
//              begins; from here on the node may acknowledge
// Owner   none: a pure function.
// Invariants
//   N1  torc.node's start count is the metastore's; or one less, where the metastore does not say
//       that this start served. Anything else means that one of them is an old copy.
//   N2  A copy goes on only where the directory has all that any life acknowledged as this copy:
//       its seal is of the last life that may have served. Both the metastore (5) and the directory
//       (6) know before a life serves that it may: one of them may be put back from a backup.
//   N3  What DATA/replicas says is of the directory that it lies in, however many starts ended
//       between 5 and 7 since it was written: they changed nothing that it is about, or wrote it
//       first. As which copy a replica goes on is taken from it only where it was written by this
//       copy of the node.
// Sources REPLICATION.md, sections 2 and 10; docs/decisions/0034.
#ifndef TORC_CONTROL_STARTS_H
#define TORC_CONTROL_STARTS_H

#include "control/records.h"

struct torc_start_seen {
    const struct torc_node_fields *node;
    const struct torc_start_fields *start; // all zero: there is none, an older version ran last
    uint64_t dir_count;                    // of torc.node
    uint64_t sealed_boot;                  // where the directory is sealed
    bool sealed;
    bool forgets; // `replicated`: what was acknowledged was in memory
};

struct torc_start_plan {
    uint64_t served; // the last boot that may have served; 0: none
    uint64_t copy;   // as which it did: whose records lie on the disk
    bool fresh;      // step 1: the directory is to be sealed, of boot 0
    bool behind;     // step 1: torc.node is to be written
    bool renew;      // the next life is another copy; else it is `copy`
};

// CORRUPT: N1, with the next step.
enum torc_err torc_must_use torc_start_plan(struct torc_start_plan *plan,
                                            const struct torc_start_seen *seen,
                                            struct torc_fail *why);

// N3: whether DATA/replicas counts, written as copy `of` (0: there is none), where a start found
// `disk_copy` and begins as `copy`. Whoever goes on as a copy has served as it, and written it.
bool torc_must_use torc_start_has_lines(uint64_t of, uint64_t disk_copy, uint64_t copy);

#endif
