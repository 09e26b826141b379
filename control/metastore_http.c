// Torc control: the kind `etcd` of the metastore. See control/metastore_http.h.
#include "control/metastore_http.h"

#include "control/etcd_carry_http.h"
#include "control/etcd_http.h"
#include "control/names_os.h"
#include "kit/clock_os.h"
#include "kit/log_os.h"
#include "kit/secret_os.h"
#include "kit/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum {
    ETCD_MEMBERS_MAX = TORC_NAMES_MAX,
    ETCD_HOST_BYTES = TORC_NAMES_HOST_BYTES, // with its port
    ETCD_PASSWORD_FILE_BYTES = 4096,
    ETCD_LOGINS_MAX = 3 // of one request: else it is refused
};

// Bets. A read goes to the next member after the first, and has twice as long there each time: an
// etcd under load answers late, and what is thrown away keeps it busy. A transaction that was sent
// waits longer, since the outcome is what it wants to know.
#define ETCD_READ_NS  (500 * TORC_NS_PER_MS)
#define ETCD_LIST_NS  (2 * TORC_NS_PER_S)
#define ETCD_TXN_NS   (1500 * TORC_NS_PER_MS)
#define ETCD_PAUSE_NS (20 * TORC_NS_PER_MS) // when all members have failed
#define ETCD_BEGIN_NS (2 * TORC_NS_PER_S)   // a watch that is not created by then, a login
#define ETCD_TURN_NS  (10 * TORC_NS_PER_S)  // a watch is asked for again
// The pause between logins that are refused grows to 5 s.
#define ETCD_REFUSALS_SHIFT 8

enum etcd_state {
    ETCD_FREE,
    ETCD_WAITS, // until send_ns
    ETCD_SENT,
    ETCD_DONE,
};

struct etcd_slot {
    enum etcd_state state;
    struct torc_meta_request *request;
    uint64_t sequence;
    uint64_t send_ns;
    uint64_t until_ns; // of this try
    uint32_t tries;
    uint32_t logins;
    uint32_t login_count; // of its token
    struct torc_transfer transfer;
    struct torc_meta_answer answer;
    void *memory;         // of the answer
    struct torc_fail why; // of the last try
};

struct etcd_watch {
    bool used;
    uint64_t ticket;
    uint64_t send_ns;
    uint64_t until_ns;
    uint32_t member;
    uint32_t failures;    // in a row
    uint32_t login_count; // of its token
    struct torc_etcd_seen seen;
    struct torc_meta_wake wake;
    struct torc_transfer transfer;
    char key[TORC_META_KEY_MAX + 1];
};

struct etcd_store {
    struct torc_metastore store; // first: the two are one
    struct torc_carrier carrier;
    struct torc_names names; // of the members
    uint64_t now_ns;
    uint64_t sequence;
    uint32_t member_count;
    uint32_t member; // that is used; its address is known, or nobody's is
    char members[ETCD_MEMBERS_MAX][ETCD_HOST_BYTES];
    char prefix[TORC_ETCD_PREFIX_BYTES];
    char cluster[TORC_ETCD_CLUSTER_BYTES]; // etcd's own id, of the first answer
    char user[TORC_CARRY_TEXT_BYTES];
    char password_file[TORC_CARRY_TEXT_BYTES];
    char password[TORC_CARRY_TEXT_BYTES];
    char *token; // of the login, or NULL
    uint64_t login_ns;
    uint32_t login_count;
    uint32_t refusals;        // of logins, in a row
    struct torc_fail refused; // the last one
    struct torc_transfer login;
    struct etcd_slot slots[TORC_META_INFLIGHT_MAX];
    struct etcd_watch watches[TORC_META_WATCHES_MAX];
    void *handed;
    struct torc_meta_woken woken;
};

static struct etcd_store *etcd_of(struct torc_metastore *store)
{
    return (struct etcd_store *)store;
}

// -- Transfers -----------------------------------------------------------------------------------

static void etcd_begin(struct etcd_store *it, struct torc_transfer *transfer, uint32_t member,
                       const char *path, char *body)
{
    torc_assert(it->names.names[member].known);
    transfer->member = member;
    transfer->got_max = TORC_ETCD_BODY_MAX;
    transfer->addresses = it->names.names[member].found;
    torc_carry_begin(&it->carrier, transfer, it->members[member], path,
                     transfer != &it->login ? it->token : NULL, body);
}

// The first one from `member` on whose address is known; `member` itself, when nobody's is.
static uint32_t etcd_known(const struct etcd_store *it, uint32_t member)
{
    for (uint32_t i = 0; i < it->member_count; i++) {
        uint32_t at = (member + i) % it->member_count;

        if (it->names.names[at].known) {
            return at;
        }
    }
    return member;
}

static bool etcd_has_member(const struct etcd_store *it)
{
    return it->names.names[it->member].known;
}

// A try is begun when it can be: its time is etcd's, not a name server's or a login's.
static bool etcd_may_send(const struct etcd_store *it)
{
    return etcd_has_member(it) && (it->user[0] == '\0' || it->token != NULL);
}

// What went with the token of this login was refused. Another one is left alone.
static void etcd_drop_token(struct etcd_store *it, uint32_t login_count)
{
    if (login_count == it->login_count) {
        free(it->token);
        it->token = NULL;
    }
}

// -- Requests -------------------------------------------------------------------------------------

static void etcd_done(struct etcd_slot *slot, enum torc_err err)
{
    torc_carry_end(&slot->transfer);
    slot->state = ETCD_DONE;
    slot->answer.ticket = slot->request->ticket;
    slot->answer.verb = slot->request->verb;
    slot->answer.known_revision = slot->request->known_revision;
    slot->answer.err = err;
    if (slot->answer.why.err != err && err != TORC_ERR_OK) {
        slot->answer.why = slot->why;
        slot->answer.why.err = err;
    }
}

// The member failed: the next one is asked, by whatever comes too.
static void etcd_leave(struct etcd_store *it, uint32_t member)
{
    if (it->member == member) {
        it->member = etcd_known(it, (member + 1) % it->member_count);
    }
}

// Tries again, at the next member; when all were tried, after a pause.
static void etcd_again(struct etcd_store *it, struct etcd_slot *slot)
{
    uint64_t rounds = ++slot->tries / it->member_count;
    uint64_t pause_ns = ETCD_PAUSE_NS << torc_min_u64(rounds, 4);

    etcd_leave(it, slot->transfer.member);
    torc_carry_end(&slot->transfer);
    slot->state = ETCD_WAITS;
    slot->send_ns = it->now_ns + (slot->tries % it->member_count == 0 ? pause_ns : 0);
}

// What was sent may have happened, what was not has not.
static void etcd_failed(struct etcd_store *it, struct etcd_slot *slot, bool may_have_happened)
{
    if (slot->request->verb == TORC_META_TXN && may_have_happened) {
        etcd_leave(it, slot->transfer.member);
        etcd_done(slot, TORC_ERR_IN_DOUBT);
    } else {
        etcd_again(it, slot);
    }
}

static void etcd_login_again(struct etcd_store *it, struct etcd_slot *slot)
{
    etcd_drop_token(it, slot->login_count);
    slot->logins++;
    torc_carry_end(&slot->transfer);
    slot->state = ETCD_WAITS;
    slot->send_ns = it->now_ns;
}

// etcd said no, or that something is wrong with it.
static void etcd_refused(struct etcd_store *it, struct etcd_slot *slot,
                         const struct torc_etcd_head *head)
{
    bool login = head->code == TORC_ETCD_UNAUTHENTICATED ||
                 strstr(head->text, "revision of auth store is old") != NULL ||
                 strstr(head->text, "invalid auth token") != NULL;

    (void)torc_fail(&slot->why, TORC_ERR_UNAVAILABLE, "etcd at %.50s: %.90s",
                    it->members[slot->transfer.member], head->text);
    if (login && it->user[0] != '\0' && slot->logins < ETCD_LOGINS_MAX) {
        etcd_login_again(it, slot);
    } else if (login || head->code == TORC_ETCD_FORBIDDEN ||
               strstr(head->text, "user name is empty") != NULL) {
        etcd_done(slot, TORC_ERR_FORBIDDEN);
    } else if (head->code == TORC_ETCD_EXHAUSTED) {
        etcd_done(slot, strstr(head->text, "space exceeded") != NULL ? TORC_ERR_NO_SPACE
                                                                     : TORC_ERR_UNAVAILABLE);
    } else if (head->code == TORC_ETCD_INVALID || head->code == TORC_ETCD_PRECONDITION ||
               head->code == TORC_ETCD_UNIMPLEMENTED) {
        etcd_done(slot, TORC_ERR_UNSUPPORTED);
    } else {
        etcd_failed(it, slot, true);
    }
}

// One answer of etcd's cluster, and always of the same.
static void etcd_answered(struct etcd_store *it, struct etcd_slot *slot)
{
    struct torc_transfer *transfer = &slot->transfer;
    struct torc_etcd_head head;

    slot->memory = torc_etcd_read(slot->request, it->prefix, transfer->got, transfer->got_bytes,
                                  &head, &slot->answer);
    if (head.code != TORC_ETCD_OK) {
        etcd_refused(it, slot, &head);
        return;
    }
    if (it->cluster[0] == '\0') {
        memcpy(it->cluster, head.cluster, sizeof(it->cluster));
    }
    if (strcmp(it->cluster, head.cluster) != 0) {
        free(slot->memory);
        slot->memory = NULL;
        slot->answer = (struct torc_meta_answer){0};
        (void)torc_fail(&slot->why, TORC_ERR_CORRUPT,
                        "%.50s is of etcd cluster %s, another member of %s: one metastore "
                        "is one cluster",
                        it->members[transfer->member], head.cluster, it->cluster);
        etcd_done(slot, TORC_ERR_CORRUPT);
        return;
    }
    etcd_done(slot, slot->answer.err);
}

static void etcd_ended(struct etcd_store *it, struct etcd_slot *slot)
{
    struct torc_transfer *transfer = &slot->transfer;
    long status = 0;

    (void)curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
    if (transfer->result == CURLE_OK && status == 404) {
        (void)torc_fail(&slot->why, TORC_ERR_UNSUPPORTED,
                        "%.60s answers HTTP 404: no etcd of version 3.4 or newer",
                        it->members[transfer->member]);
        etcd_done(slot, TORC_ERR_UNSUPPORTED);
        return;
    }
    if (transfer->result == CURLE_OK) {
        etcd_answered(it, slot);
        return;
    }
    (void)torc_fail(&slot->why, TORC_ERR_UNAVAILABLE, "etcd at %.60s: %s",
                    it->members[transfer->member], curl_easy_strerror(transfer->result));
    etcd_failed(it, slot, torc_carry_was_sent(transfer));
}

// How long a try may take.
static uint64_t etcd_patience_ns(const struct etcd_slot *slot)
{
    uint64_t first_ns = slot->request->verb == TORC_META_LIST ? ETCD_LIST_NS : ETCD_READ_NS;

    return slot->request->verb == TORC_META_TXN ? ETCD_TXN_NS
                                                : first_ns << torc_min_u64(slot->tries, 6);
}

static void etcd_send(struct etcd_store *it, struct etcd_slot *slot)
{
    const char *path;
    char *body = torc_etcd_make(slot->request, it->prefix, &path);

    slot->state = ETCD_SENT;
    slot->login_count = it->login_count;
    slot->until_ns = torc_min_u64(it->now_ns + etcd_patience_ns(slot), slot->request->deadline_ns);
    etcd_begin(it, &slot->transfer, it->member, path, body);
}

// The try took too long, or the whole request did.
static void etcd_late(struct etcd_store *it, struct etcd_slot *slot)
{
    bool over = slot->request->deadline_ns <= it->now_ns;
    bool sent = slot->state == ETCD_SENT && torc_carry_was_sent(&slot->transfer);

    if (slot->state == ETCD_SENT) {
        (void)torc_fail(&slot->why, TORC_ERR_UNAVAILABLE, "etcd at %.60s: no answer in time",
                        it->members[slot->transfer.member]);
    }
    if (!over) {
        etcd_failed(it, slot, sent);
        return;
    }
    if (slot->state == ETCD_SENT) {
        etcd_leave(it, slot->transfer.member);
    }
    if (slot->why.text[0] == '\0' && it->refusals > 0) {
        slot->why = it->refused;
    } else if (slot->why.text[0] == '\0' && !etcd_has_member(it)) {
        const char *why = it->names.names[it->member].why;

        (void)torc_fail(&slot->why, TORC_ERR_UNAVAILABLE,
                        "etcd at %.60s: its address is not known: %s", it->members[it->member],
                        why[0] != '\0' ? why : "name servers are silent");
    } else if (slot->why.text[0] == '\0') {
        (void)torc_fail(&slot->why, TORC_ERR_UNAVAILABLE, "etcd at %.60s: nobody answers",
                        it->members[it->member]);
    }
    etcd_done(slot, sent && slot->request->verb == TORC_META_TXN ? TORC_ERR_IN_DOUBT
                                                                 : TORC_ERR_UNAVAILABLE);
}

static void etcd_step_slot(struct etcd_store *it, struct etcd_slot *slot)
{
    if (slot->state == ETCD_SENT && slot->transfer.ended) {
        etcd_ended(it, slot);
    }
    if ((slot->state == ETCD_SENT && slot->until_ns <= it->now_ns) ||
        (slot->state == ETCD_WAITS && slot->request->deadline_ns <= it->now_ns)) {
        etcd_late(it, slot);
    }
    // What has just ended may have dropped the token.
    if (slot->state == ETCD_WAITS && etcd_may_send(it) && slot->send_ns <= it->now_ns) {
        etcd_send(it, slot);
    }
}

// -- Logging in -----------------------------------------------------------------------------------

// The file whole. Its group may read it, as files that root gives to a service's group: `shared`.
static enum torc_err etcd_open_password(const char *path, struct torc_secret *secret, bool *shared,
                                        struct torc_fail *why)
{
    struct torc_secret_rules rules = {
        .bytes_max = ETCD_PASSWORD_FILE_BYTES, .mode = 0600, .owner = TORC_SECRET_OURS};
    struct torc_fail inner = {0};

    *shared = false;
    if (torc_secret_read(secret, path, &rules, &inner) == TORC_ERR_OK) {
        return TORC_ERR_OK;
    }
    rules.mode = 0640;
    *shared = torc_secret_read(secret, path, &rules, NULL) == TORC_ERR_OK;
    return *shared ? TORC_ERR_OK
                   : torc_fail(why, TORC_ERR_FORBIDDEN,
                               "metastore-password-file %.110s (read by uid %u)", inner.text,
                               geteuid());
}

// The file's first line.
static enum torc_err etcd_read_password(const char *path, char password[TORC_CARRY_TEXT_BYTES],
                                        bool *shared, struct torc_fail *why)
{
    struct torc_secret secret = {0};
    enum torc_err err = etcd_open_password(path, &secret, shared, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    ((char *)secret.bytes)[strcspn(secret.bytes, "\r\n")] = '\0';
    if (strlen(secret.bytes) >= TORC_CARRY_TEXT_BYTES) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "metastore-password-file %.80s: its first line has over %u bytes", path,
                        TORC_CARRY_TEXT_BYTES - 1);
    } else if (!torc_utf8_is(secret.bytes, strlen(secret.bytes))) {
        err = torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                        "metastore-password-file %.80s: its first line is not UTF-8", path);
    } else {
        memcpy(password, secret.bytes, strlen(secret.bytes) + 1);
    }
    torc_secret_close(&secret);
    return err;
}

// Whether the file holds another password than the one that was used. One that can not be read now
// changes nothing, and says why.
static bool etcd_password_changed(struct etcd_store *it, struct torc_fail *why)
{
    char password[TORC_CARRY_TEXT_BYTES] = "";
    bool shared;
    bool changed = etcd_read_password(it->password_file, password, &shared, why) == TORC_ERR_OK &&
                   strcmp(password, it->password) != 0;

    if (changed) {
        memcpy(it->password, password, sizeof(it->password));
    }
    explicit_bzero(password, sizeof(password));
    return changed;
}

// etcd checks a password by bcrypt: whoever goes on with a wrong one is to leave it time.
static void etcd_login_refused(struct etcd_store *it, const char *text)
{
    struct torc_fail file = {0};
    bool changed = etcd_password_changed(it, &file); // then it is tried at once

    it->refusals = changed ? 0 : it->refusals + 1;
    (void)torc_fail(&it->refused, TORC_ERR_UNAVAILABLE, "login as %.30s at etcd %.40s: %.70s",
                    it->user, it->members[it->login.member], text);
    if (file.err != TORC_ERR_OK) { // the right one may be in there
        (void)torc_fail(&it->refused, TORC_ERR_UNAVAILABLE, "login as %.20s refused; %.125s",
                        it->user, file.text);
    }
    for (uint32_t i = 0; i < TORC_META_INFLIGHT_MAX && !changed; i++) {
        if (it->slots[i].state == ETCD_WAITS) {
            it->slots[i].why = it->refused;
            etcd_done(it->slots + i, TORC_ERR_FORBIDDEN);
        }
    }
}

static void etcd_login_failed(struct etcd_store *it, const char *text)
{
    for (uint32_t i = 0; i < TORC_META_INFLIGHT_MAX; i++) {
        if (it->slots[i].state == ETCD_WAITS) {
            (void)torc_fail(&it->slots[i].why, TORC_ERR_UNAVAILABLE,
                            "login as %.30s at etcd %.40s: %.70s", it->user,
                            it->members[it->login.member], text);
        }
    }
}

// Whoever waits is told why the login was refused, when it was.
static void etcd_login_ended(struct etcd_store *it)
{
    struct torc_etcd_head head = {0};

    it->token = it->login.result == CURLE_OK
                    ? torc_etcd_read_login(it->login.got, it->login.got_bytes, &head)
                    : NULL;
    if (it->token != NULL) {
        it->login_count++;
        it->refusals = 0;
    } else if (head.code == TORC_ETCD_INVALID || head.code == TORC_ETCD_PRECONDITION) {
        etcd_login_refused(it, head.text);
    } else {
        etcd_login_failed(it, it->login.result != CURLE_OK ? curl_easy_strerror(it->login.result)
                                                           : head.text);
    }
    if (it->token == NULL) {
        etcd_leave(it, it->login.member);
    }
    torc_carry_end(&it->login);
    it->login_ns = it->now_ns + (ETCD_PAUSE_NS << torc_min_u64(it->refusals, ETCD_REFUSALS_SHIFT));
}

static bool etcd_somebody_waits(const struct etcd_store *it)
{
    bool waits = false;

    for (uint32_t i = 0; i < TORC_META_INFLIGHT_MAX; i++) {
        waits = waits || it->slots[i].state == ETCD_WAITS;
    }
    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        waits = waits || (it->watches[i].used && it->watches[i].transfer.easy == NULL);
    }
    return waits;
}

static void etcd_step_login(struct etcd_store *it)
{
    if (it->login.easy != NULL && !it->login.ended && it->login_ns <= it->now_ns) {
        it->login.result = CURLE_OPERATION_TIMEDOUT;
        it->login.ended = true;
    }
    if (it->login.easy != NULL && it->login.ended) {
        etcd_login_ended(it);
    }
    if (it->user[0] != '\0' && it->token == NULL && it->login.easy == NULL &&
        it->login_ns <= it->now_ns && etcd_has_member(it) && etcd_somebody_waits(it)) {
        it->login_ns = it->now_ns + ETCD_BEGIN_NS;
        if (it->refusals > 0) {
            (void)etcd_password_changed(it, NULL); // it may have been written since
        }
        etcd_begin(it, &it->login, it->member, "/v3/auth/authenticate",
                   torc_etcd_make_login(it->user, it->password));
    }
}

// -- Watches --------------------------------------------------------------------------------------

// Takes the whole lines that have come; what an answer ended with need not have an end of line.
static void etcd_read_lines(const struct etcd_store *it, struct etcd_watch *watch)
{
    struct torc_transfer *transfer = &watch->transfer;
    uint64_t at = 0;

    for (const char *end = transfer->got; end != NULL && transfer->got_bytes > at;) {
        const char *line = transfer->got + at;

        end = memchr(line, '\n', transfer->got_bytes - at);
        if (end != NULL) {
            torc_etcd_read_watch(it->prefix, line, (uint64_t)(end - line), &watch->seen,
                                 &watch->wake);
            at += (uint64_t)(end - line) + 1;
        }
    }
    if (transfer->ended && transfer->got_bytes > at) {
        torc_etcd_read_watch(it->prefix, transfer->got + at, transfer->got_bytes - at, &watch->seen,
                             &watch->wake);
        at = transfer->got_bytes;
    }
    if (at > 0) {
        memmove(transfer->got, transfer->got + at, transfer->got_bytes - at);
        transfer->got_bytes -= at;
    }
}

// It moves on, after a pause if it failed. Refused for its token: the login is made again.
static void etcd_watch_on(struct etcd_store *it, struct etcd_watch *watch, bool failed)
{
    if (watch->seen.refused) {
        etcd_drop_token(it, watch->login_count);
    }
    watch->member = (watch->transfer.member + 1) % it->member_count;
    watch->failures = watch->seen.created && !watch->seen.refused ? 0 : watch->failures + 1;
    watch->send_ns = it->now_ns + (failed ? ETCD_PAUSE_NS << torc_min_u64(watch->failures, 6) : 0);
    torc_carry_end(&watch->transfer);
}

static void etcd_step_watch(struct etcd_store *it, struct etcd_watch *watch)
{
    struct torc_transfer *transfer = &watch->transfer;
    bool failed;
    bool late;

    etcd_read_lines(it, watch);
    failed = transfer->easy != NULL && (transfer->ended || watch->seen.ended);
    late = transfer->easy != NULL && watch->until_ns <= it->now_ns;
    if (transfer->easy != NULL && watch->seen.created) {
        watch->until_ns = torc_max_u64(watch->until_ns, watch->send_ns + ETCD_TURN_NS);
        late = watch->until_ns <= it->now_ns;
    }
    if (failed || late) {
        etcd_watch_on(it, watch, failed);
    }
    if (transfer->easy == NULL && watch->send_ns <= it->now_ns && etcd_may_send(it)) {
        watch->seen.created = false;
        watch->seen.ended = false;
        watch->seen.refused = false;
        watch->login_count = it->login_count;
        watch->send_ns = it->now_ns;
        watch->until_ns = it->now_ns + (ETCD_BEGIN_NS << torc_min_u64(watch->failures, 3));
        etcd_begin(it, transfer, etcd_known(it, watch->member), "/v3/watch",
                   torc_etcd_make_watch(it->prefix, watch->key, watch->seen.next_revision));
    }
}

// -- The kind -------------------------------------------------------------------------------------

static void etcd_pump(struct etcd_store *it)
{
    it->carrier.again = false;
    torc_names_step(&it->names, it->now_ns);
    it->member = etcd_known(it, it->member);
    etcd_step_login(it);
    for (uint32_t i = 0; i < TORC_META_INFLIGHT_MAX; i++) {
        etcd_step_slot(it, it->slots + i);
    }
    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        if (it->watches[i].used) {
            etcd_step_watch(it, it->watches + i);
        }
    }
}

static void etcd_step(struct torc_metastore *store, uint64_t now_ns)
{
    struct etcd_store *it = etcd_of(store);

    free(it->handed);
    it->handed = NULL;
    it->now_ns = it->carrier.now_ns = now_ns;
    torc_carry_turn(&it->carrier);
    etcd_pump(it);
    torc_carry_turn(&it->carrier); // what was begun gets under way at once
}

static void etcd_submit(struct torc_metastore *store, const struct torc_meta_request *request,
                        uint64_t now_ns)
{
    struct etcd_store *it = etcd_of(store);
    struct etcd_slot *slot = it->slots;
    struct etcd_watch *watch = it->watches;

    it->now_ns = it->carrier.now_ns = now_ns;
    if (request->verb == TORC_META_WATCH) {
        while (watch->used) {
            watch++;
        }
        torc_assert(watch < it->watches + TORC_META_WATCHES_MAX);
        *watch = (struct etcd_watch){.used = true,
                                     .ticket = request->ticket,
                                     .member = it->member,
                                     .seen = {.next_revision = request->from_revision}};
        memcpy(watch->key, request->key, strlen(request->key) + 1);
    } else {
        while (slot->state != ETCD_FREE) {
            slot++;
        }
        torc_assert(slot < it->slots + TORC_META_INFLIGHT_MAX);
        *slot = (struct etcd_slot){.state = ETCD_WAITS, .sequence = ++it->sequence};
        slot->request = malloc(torc_meta_request_bytes(request));
        torc_assert(slot->request != NULL);
        (void)torc_meta_request_pack(request, slot->request);
    }
    etcd_pump(it);
    torc_carry_turn(&it->carrier);
}

static void etcd_unwatch(struct torc_metastore *store, uint64_t ticket)
{
    struct etcd_store *it = etcd_of(store);

    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        if (it->watches[i].used && it->watches[i].ticket == ticket) {
            torc_carry_end(&it->watches[i].transfer);
            it->watches[i].used = false;
        }
    }
}

static bool etcd_take_answer(struct torc_metastore *store, struct torc_meta_answer *answer)
{
    struct etcd_store *it = etcd_of(store);
    struct etcd_slot *first = NULL;

    free(it->handed);
    it->handed = NULL;
    for (uint32_t i = 0; i < TORC_META_INFLIGHT_MAX; i++) {
        struct etcd_slot *slot = it->slots + i;

        if (slot->state == ETCD_DONE && (first == NULL || slot->sequence < first->sequence)) {
            first = slot;
        }
    }
    if (first != NULL) {
        *answer = first->answer;
        it->handed = first->memory;
        free(first->request);
        *first = (struct etcd_slot){0};
        return true;
    }
    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        struct etcd_watch *watch = it->watches + i;

        if (watch->used && torc_meta_wake_take(&watch->wake, &it->woken, watch->ticket, answer)) {
            return true;
        }
    }
    return false;
}

static uint64_t etcd_deadline_ns(struct torc_metastore *store)
{
    const struct etcd_store *it = etcd_of(store);
    bool ready = etcd_may_send(it);
    uint64_t next_ns = torc_min_u64(it->carrier.timer_ns, torc_names_deadline_ns(&it->names));

    if (it->carrier.again) {
        return it->now_ns;
    }
    if (it->login.easy != NULL || (!ready && etcd_has_member(it) && etcd_somebody_waits(it))) {
        next_ns = torc_min_u64(next_ns, it->login_ns);
    }
    for (uint32_t i = 0; i < TORC_META_INFLIGHT_MAX; i++) {
        const struct etcd_slot *slot = it->slots + i;

        if (slot->state == ETCD_SENT) {
            next_ns = torc_min_u64(next_ns, slot->until_ns);
        } else if (slot->state == ETCD_WAITS) {
            next_ns = torc_min_u64(next_ns, slot->request->deadline_ns);
            next_ns = ready ? torc_min_u64(next_ns, slot->send_ns) : next_ns;
        }
    }
    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        const struct etcd_watch *watch = it->watches + i;

        if (watch->used && watch->transfer.easy != NULL) {
            next_ns = torc_min_u64(next_ns, watch->until_ns);
        } else if (watch->used && ready) {
            next_ns = torc_min_u64(next_ns, watch->send_ns);
        }
    }
    return next_ns;
}

static int etcd_fd(const struct torc_metastore *store)
{
    return ((const struct etcd_store *)store)->carrier.epoll_fd;
}

static void etcd_close(struct torc_metastore *store)
{
    struct etcd_store *it = etcd_of(store);

    for (uint32_t i = 0; i < TORC_META_INFLIGHT_MAX; i++) {
        torc_carry_end(&it->slots[i].transfer);
        free(it->slots[i].request);
        free(it->slots[i].memory);
    }
    for (uint32_t i = 0; i < TORC_META_WATCHES_MAX; i++) {
        torc_carry_end(&it->watches[i].transfer);
    }
    torc_carry_end(&it->login);
    torc_names_end(&it->names);
    torc_carrier_end(&it->carrier);
    free(it->handed);
    free(it->token);
    explicit_bzero(it->password, sizeof(it->password));
    free(it);
}

// -- Opening --------------------------------------------------------------------------------------

static enum torc_err etcd_copy(char *to, const char *from, const char *what, struct torc_fail *why)
{
    if (from != NULL && strlen(from) >= TORC_CARRY_TEXT_BYTES) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "%s: over %u bytes", what,
                         TORC_CARRY_TEXT_BYTES - 1);
    }
    (void)snprintf(to, TORC_CARRY_TEXT_BYTES, "%s", from != NULL ? from : "");
    return TORC_ERR_OK;
}

// "HOST:PORT,…" into the members.
static bool etcd_read_members(struct etcd_store *it, const char *text, uint64_t text_bytes)
{
    for (uint64_t at = 0; at < text_bytes && it->member_count < ETCD_MEMBERS_MAX;) {
        const char *comma = memchr(text + at, ',', text_bytes - at);
        uint64_t bytes = comma != NULL ? (uint64_t)(comma - text) - at : text_bytes - at;
        char *member = it->members[it->member_count];
        const char *colon;

        if (bytes < 3 || bytes >= ETCD_HOST_BYTES) {
            return false;
        }
        memcpy(member, text + at, bytes);
        member[bytes] = '\0';
        colon = strrchr(member, ':');
        if (colon == NULL || colon == member || strspn(colon + 1, "0123456789") == 0 ||
            colon[1 + strspn(colon + 1, "0123456789")] != '\0' || strpbrk(member, "/@?# ") ||
            strtoul(colon + 1, NULL, 10) > 65535) {
            return false;
        }
        torc_names_add(&it->names, member, (uint64_t)(colon - member));
        it->member_count++;
        at += bytes + 1;
        if (comma != NULL && at == text_bytes) {
            return false; // it ends with a comma
        }
        if (comma == NULL) {
            return true;
        }
    }
    return false;
}

static enum torc_err etcd_read_address(struct etcd_store *it, const char *address,
                                       struct torc_fail *why)
{
    const char *text = address + 5;
    const char *slash = strchr(text, '/');
    const char *name = slash != NULL ? slash + 1 : "main";
    uint64_t bytes = slash != NULL ? (uint64_t)(slash - text) : strlen(text);

    if (!etcd_read_members(it, text, bytes) || name[0] == '\0' || strlen(name) > 48 ||
        name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")] !=
            '\0') {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "metastore = %.70s: etcd:HOST:PORT[,HOST:PORT...][/NAME] expected, %u "
                         "members at most",
                         address, ETCD_MEMBERS_MAX);
    }
    (void)snprintf(it->prefix, sizeof(it->prefix), "/torc/%.48s/", name);
    return TORC_ERR_OK;
}

// The nodes of a room that has power again are not all to ask the same member.
static uint32_t etcd_any(uint32_t member_count)
{
    uint32_t drawn = 0;

    torc_assert(member_count > 0);
    torc_assert(getrandom(&drawn, sizeof(drawn), 0) == sizeof(drawn)); // so few are never short
    return drawn % member_count;
}

static enum torc_err etcd_configure(struct etcd_store *it,
                                    const struct torc_metastore_config *config,
                                    struct torc_fail *why)
{
    enum torc_err err = etcd_read_address(it, config->address, why);
    bool user = config->user != NULL && config->user[0] != '\0';
    bool shared = false;

    err = err == TORC_ERR_OK ? etcd_copy(it->user, config->user, "metastore-user", why) : err;
    err = err == TORC_ERR_OK ? etcd_copy(it->carrier.ca, config->ca, "metastore-ca", why) : err;
    err =
        err == TORC_ERR_OK ? etcd_copy(it->carrier.cert, config->cert, "metastore-cert", why) : err;
    err = err == TORC_ERR_OK ? etcd_copy(it->carrier.key, config->key, "metastore-key", why) : err;
    err = err == TORC_ERR_OK
              ? etcd_copy(it->password_file, config->password_file, "metastore-password-file", why)
              : err;
    if (err == TORC_ERR_OK && user) {
        err = etcd_read_password(it->password_file, it->password, &shared, why);
    }
    if (err == TORC_ERR_OK && shared) {
        torc_log(TORC_LOG_WARN, "metastore", "password_shared",
                 "path=%.200s reason=\"its group may read it: chmod 600, and chown to uid %u\"",
                 it->password_file, geteuid());
    }
    return err;
}

enum torc_err torc_metastore_open_etcd(struct torc_metastore **out,
                                       const struct torc_metastore_config *config,
                                       struct torc_fail *why)
{
    static const struct torc_metastore_code code = {.name = "etcd",
                                                    .submit = etcd_submit,
                                                    .unwatch = etcd_unwatch,
                                                    .step = etcd_step,
                                                    .take = etcd_take_answer,
                                                    .deadline_ns = etcd_deadline_ns,
                                                    .fd = etcd_fd,
                                                    .close = etcd_close};
    struct etcd_store *it = calloc(1, sizeof(*it));
    enum torc_err err;

    torc_assert(it != NULL);
    *out = NULL;
    it->store.code = &code;
    err = etcd_configure(it, config, why);
    if (err != TORC_ERR_OK) {
        free(it);
        return err;
    }
    torc_carrier_begin(&it->carrier);
    it->member = etcd_any(it->member_count);
    torc_names_begin(&it->names, it->member);
    torc_carrier_listen(&it->carrier, it->names.fd);
    *out = &it->store;
    return TORC_ERR_OK;
}
