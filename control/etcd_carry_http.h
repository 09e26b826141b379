// Torc control: requests to a web server, several at a time, without waiting: libcurl's multi
// interface around an epoll set.
//
// What    a transfer is one POST and what came back; torc_carry_turn moves all of them.
// Owner   control/metastore_http.c, one thread.
// Memory  a transfer's, until torc_carry_end.
// Repeats libcurl repeats by itself what a kept connection lost, a POST too, unless it can not: the
//         body is handed out without a way back to its start. A change is sent once or not at all.
#ifndef TORC_CONTROL_ETCD_CARRY_HTTP_H
#define TORC_CONTROL_ETCD_CARRY_HTTP_H

#include "kit/base.h"

#include <curl/curl.h>

#define TORC_CARRY_TEXT_BYTES 256

struct torc_carrier {
    CURLM *multi;
    int epoll_fd;
    uint64_t now_ns;
    uint64_t timer_ns; // libcurl's; UINT64_MAX: none
    bool again;        // something came that its owner has not looked at yet: turn again
    char ca[TORC_CARRY_TEXT_BYTES];
    char cert[TORC_CARRY_TEXT_BYTES];
    char key[TORC_CARRY_TEXT_BYTES];
};

struct torc_transfer {
    CURL *easy; // NULL: nothing is under way
    struct torc_carrier *carrier;
    struct curl_slist *headers;
    struct curl_slist *resolved;
    char *body;
    uint64_t body_bytes;
    uint64_t sent;
    char *got;
    uint64_t got_bytes;
    uint64_t got_room;
    uint64_t got_max;      // more ends it
    uint32_t member;       // its owner's
    const char *addresses; // of the host, with commas between; empty: it is a number
    bool ended;
    CURLcode result;
};

void torc_carrier_begin(struct torc_carrier *carrier);
void torc_carrier_end(struct torc_carrier *carrier);

// The carrier's descriptor is readable, too, when `fd` is.
void torc_carrier_listen(struct torc_carrier *carrier, int fd);

// Sends `body`, which becomes the transfer's, to http(s)://`host``path`. `token`: or NULL. Set
// before: `got_max`, `addresses`.
void torc_carry_begin(struct torc_carrier *carrier, struct torc_transfer *transfer,
                      const char *host, const char *path, const char *token, char *body);
void torc_carry_end(struct torc_transfer *transfer);

// Moves what can be moved.
void torc_carry_turn(struct torc_carrier *carrier);

// May anything of it have reached the other side?
bool torc_carry_was_sent(const struct torc_transfer *transfer);

#endif
