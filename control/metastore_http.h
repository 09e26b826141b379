// Torc control: the kind `etcd` of the metastore: etcd 3.4 or newer through its JSON gateway.
//
// What    `etcd:HOST:PORT[,HOST:PORT…][/NAME]`: the members of one etcd cluster, and the name under
//         which this cluster of Torc lies there (`/torc/NAME/`, without it `/torc/main/`), so that
//         several may share one etcd.
// Owner   control's one thread: libcurl's multi interface, an epoll set, no wait. Another one
//         beside it only where members have names (control/names_os.h).
// Memory  a few requests and answers, bounded by TORC_META_INFLIGHT_MAX and TORC_ETCD_BODY_MAX.
// Members One, drawn at first, is used until it fails; reads then go to the next, and so does a
//         transaction that was certainly not sent. One that may have been is IN_DOUBT, never sent
//         again by this file: not by libcurl either, which repeats what a kept connection lost
//         unless it can not.
// Watches are asked for again every 10 s, at the next member after a silence: a member that hangs
//         delays a wake-up by that and no more. Leases are not used: nothing rests on their expiry.
// Names   a member is asked once its address is known; a try's time begins then.
// Password is read again when a login is refused. Its file is this process's user's or root's, and
//         nobody else may write it; its group may read it, which is warned of.
#ifndef TORC_CONTROL_METASTORE_HTTP_H
#define TORC_CONTROL_METASTORE_HTTP_H

#include "control/metastore_open_os.h"

// INVALID_ARGUMENT, or FORBIDDEN when the password can not be read. Does not wait for an answer.
enum torc_err torc_must_use torc_metastore_open_etcd(struct torc_metastore **out,
                                                     const struct torc_metastore_config *config,
                                                     struct torc_fail *why);

#endif
