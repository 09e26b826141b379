// Torc control: the kind `file` of the metastore, and what programs need that have nothing else to
// do than to wait for one.
//
// Owner   control's one thread; the file is a thread's of the store, which may block on its lock
//         and its syncs.
#ifndef TORC_CONTROL_METASTORE_OS_H
#define TORC_CONTROL_METASTORE_OS_H

#include "control/metastore.h"

// Opens DIRECTORY; makes it when it is missing. Blocks up to a second. `machine`: 16 bytes,
// torc_machine_id(). INVALID_ARGUMENT, FORBIDDEN, IO, CORRUPT, IN_USE (made on another machine),
// UNAVAILABLE (held by another process). `look_only`: nothing is made, nobody submits transactions.
enum torc_err torc_must_use torc_metastore_open_file(struct torc_metastore **out,
                                                     const char *folder, const uint8_t *machine,
                                                     bool look_only, struct torc_fail *why);

// -- Waiting --------------------------------------------------------------------------------------
//
// Each submits one request and waits for its answer: for starts and for tools. Nothing else may be
// in flight. A wait ends by its deadline, TORC_META_WAIT_NS from now.

// A bet: an election of etcd takes 1 to 3 s, a name behind two dead name servers 10 s.
#define TORC_META_WAIT_NS UINT64_C(15000000000)

// The records live until the next call.
enum torc_err torc_must_use torc_metastore_get(struct torc_metastore *store, const char *key,
                                               struct torc_meta_record *record,
                                               struct torc_fail *why);
enum torc_err torc_must_use torc_metastore_list(struct torc_metastore *store, const char *prefix,
                                                uint32_t record_max,
                                                const struct torc_meta_record **records,
                                                uint32_t *record_count, struct torc_fail *why);
enum torc_err torc_must_use torc_metastore_txn(struct torc_metastore *store,
                                               const struct torc_meta_op *ops, uint32_t op_count,
                                               uint64_t *revision, struct torc_fail *why);

// A compare-and-swap to its end (control/swap.h). CONDITION_FAILED: it is lost; IN_DOUBT: not known
// when the time was over. `version`: of what it wrote.
enum torc_err torc_must_use torc_metastore_swap(struct torc_metastore *store,
                                                const struct torc_meta_op *ops, uint32_t op_count,
                                                uint64_t *version, struct torc_fail *why);

// Draws `count` numbers that nobody was or will be given, all above `floor`; makes the
// counter when it is missing. A number drawn in a crash is nobody's.
enum torc_err torc_must_use torc_metastore_draw(struct torc_metastore *store, const char *counter,
                                                uint64_t floor, uint64_t count, uint64_t *first,
                                                struct torc_fail *why);

// Any request, any answer.
enum torc_err torc_must_use torc_metastore_ask(struct torc_metastore *store,
                                               const struct torc_meta_request *request,
                                               struct torc_meta_answer *answer);

#endif
