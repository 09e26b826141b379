// Torc control: what etcd's JSON gateway is sent and what it answers (etcd 3.4: /v3/kv/range,
// /v3/kv/txn, /v3/watch, /v3/auth/authenticate). Bodies only; control/metastore_http.c sends them.
//
// What    keys and values in base64, 64-bit numbers as texts. Reads are linearizable:
//         `serializable` is never asked for.
// Owner   whoever calls: no state. Memory: what is returned is the caller's, to free.
#ifndef TORC_CONTROL_ETCD_HTTP_H
#define TORC_CONTROL_ETCD_HTTP_H

#include "control/meta_wake.h"

#define TORC_ETCD_PREFIX_BYTES  72
#define TORC_ETCD_CLUSTER_BYTES 24
#define TORC_ETCD_BODY_MAX      (64u << 20) // 8192 records of 4 KiB in base64, and some

// Numbers of gRPC that etcd's errors carry.
enum torc_etcd_code {
    TORC_ETCD_OK = 0,
    TORC_ETCD_NO_ANSWER = -1, // what came is none of etcd's
    TORC_ETCD_INVALID = 3,
    TORC_ETCD_FORBIDDEN = 7,
    TORC_ETCD_EXHAUSTED = 8,
    TORC_ETCD_PRECONDITION = 9,
    TORC_ETCD_UNIMPLEMENTED = 12,
    TORC_ETCD_UNAUTHENTICATED = 16,
};

// An answer's outside: an error, or whose it is.
struct torc_etcd_head {
    int code;
    uint64_t revision;
    char cluster[TORC_ETCD_CLUSTER_BYTES]; // etcd's own id of the cluster
    char text[TORC_FAIL_TEXT_BYTES];       // of an error
};

// The path and the body (to be freed) of a get, a list or a txn. `prefix` stands before all names.
char *torc_etcd_make(const struct torc_meta_request *request, const char *prefix,
                     const char **path);
char *torc_etcd_make_watch(const char *prefix, const char *key, uint64_t from_revision);
char *torc_etcd_make_login(const char *user, const char *password);

// Reads the answer to a get, a list or a txn: `answer`'s err, revision and records, whose memory is
// returned (NULL: none). When head->code is not OK the answer is left alone.
void *torc_etcd_read(const struct torc_meta_request *request, const char *prefix, const char *body,
                     uint64_t body_bytes, struct torc_etcd_head *head,
                     struct torc_meta_answer *answer);

// The token of a login, to be freed; NULL: head says why not.
char *torc_etcd_read_login(const char *body, uint64_t body_bytes, struct torc_etcd_head *head);

struct torc_etcd_seen {
    bool created;
    bool ended;   // the watch is to be asked for again
    bool refused; // for its token, as far as etcd tells
    uint64_t next_revision;
};

// One line of a watch's answer into `wake`; `seen` goes on from what it was.
void torc_etcd_read_watch(const char *prefix, const char *line, uint64_t line_bytes,
                          struct torc_etcd_seen *seen, struct torc_meta_wake *wake);

#endif
