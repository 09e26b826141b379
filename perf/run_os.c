// Torc perf: one run of a workload; see run_os.h.
#include "perf/run_os.h"

#include "client/address.h"
#include "kit/clock_os.h"
#include "perf/value.h"

#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    ADDRESS_BYTES = 1024,
    COMPLETIONS_MAX = 256,
    NAP_LEAST_NS = 15000, // where there is nothing to wait on: a part of a disk's sync
    NAP_MOST_NS = 1000000,
    WAIT_NS_MAX = 100000000,
    CALIBRATION_NS = 10000000,
    CLOCK_STALE_NS = 1000000,
};

// -- Signals -------------------------------------------------------------------------------------

static _Atomic bool told_to_stop; // by a signal, which has no other way to say it

static void stop_on_signal(int number)
{
    (void)number;
    atomic_store_explicit(&told_to_stop, true, memory_order_relaxed);
}

bool torc_perf_is_told_to_stop(void)
{
    return atomic_load_explicit(&told_to_stop, memory_order_relaxed);
}

static void signals_take(void)
{
    struct sigaction action = {.sa_handler = stop_on_signal};

    (void)sigaction(SIGINT, &action, NULL); // cannot fail for these two
    (void)sigaction(SIGTERM, &action, NULL);
}

// -- Time ----------------------------------------------------------------------------------------

static uint64_t run_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return 0;
#endif
}

// How fast the counter runs, measured for 10 ms.
static void run_clock_open(struct torc_perf_clock *clock)
{
    uint64_t start_ns = torc_clock_now_ns();
    uint64_t start_ticks = run_ticks();

    do {
        clock->now_ns = torc_clock_now_ns();
        clock->ticks = run_ticks();
    } while (clock->now_ns - start_ns < CALIBRATION_NS);
    if (clock->ticks - start_ticks > CALIBRATION_NS / 100) {
        clock->ns_per_tick = ((clock->now_ns - start_ns) << 32) / (clock->ticks - start_ticks);
    }
}

// Never goes back; off by less than a microsecond, since the system's clock is read every
// millisecond.
static uint64_t run_now_ns(struct torc_perf_run *run)
{
    struct torc_perf_clock *clock = &run->clock;
    uint64_t since_ns = 0;

    if (clock->ns_per_tick != 0) {
        uint64_t ticks = run_ticks() - clock->ticks;

        since_ns = ticks > UINT32_MAX ? UINT64_MAX : ticks * clock->ns_per_tick >> 32;
    }
    if (clock->ns_per_tick == 0 || since_ns > CLOCK_STALE_NS) {
        clock->now_ns = torc_max_u64(clock->now_ns, torc_clock_now_ns());
        clock->ticks = run_ticks();
        since_ns = 0;
    }
    return clock->now_ns + since_ns;
}

// -- Life ----------------------------------------------------------------------------------------

// Over memif each session has a slot of the node to itself.
static const char *client_address(const struct torc_perf_run *run, char *room)
{
    const char *cluster = run->options->cluster;
    int bytes;

    if (cluster == NULL || !torc_address_is_memif(cluster) || run->options->clients == 1) {
        return cluster;
    }
    bytes = snprintf(room, ADDRESS_BYTES, "%s,slot=%u", cluster, run->client_count - 1);
    return bytes < ADDRESS_BYTES ? room : cluster;
}

static enum torc_err client_open(struct torc_perf_run *run, struct torc_perf_client *client,
                                 struct torc_fail *why)
{
    char room[ADDRESS_BYTES];
    const struct torc_perf_options *options = run->options;
    uint32_t window = (uint32_t)options->window;
    struct torc_options want = {.timeout_us = options->timeout_ms * 1000,
                                .memory_bytes = options->memory_mb << 20,
                                // Completions handed out count until the next poll.
                                .operations = window + 2 * COMPLETIONS_MAX,
                                .transport_spin = options->block ? 0 : 1000,
                                .key_file = options->key_file};
    struct torc_message message = {0};
    enum torc_err err = torc_queue_open(client_address(run, room), &want, &client->queue, &message);

    if (err != TORC_ERR_OK) {
        client->queue = NULL;
        return torc_fail(why, err, "%.150s", message.text);
    }
    err = torc_queue_ready(client->queue, 0);
    if (err != TORC_ERR_OK) {
        return torc_fail(why, err, "%.150s", torc_queue_message(client->queue));
    }
    client->slots = calloc(window, sizeof(*client->slots));
    if (client->slots == NULL) {
        return torc_fail(why, TORC_ERR_IO, "no memory for a window of %u", window);
    }
    for (uint32_t i = 0; i < window; i++) {
        client->slots[i].next_free = client->free_slot;
        client->free_slot = i + 1;
    }
    return TORC_ERR_OK;
}

static void run_watch(struct torc_perf_run *run)
{
    run->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (uint32_t i = 0; i < run->client_count && run->epoll_fd >= 0; i++) {
        struct epoll_event event = {.events = EPOLLIN};
        int fd = torc_queue_fd(run->clients[i].queue);

        if (fd < 0 || epoll_ctl(run->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
            close(run->epoll_fd);
            run->epoll_fd = -1;
        }
    }
}

// Room for inserts that no run uses up: a minute at a million a second. The same for all workloads,
// so that one may find what another has loaded; `check` reads ranges over all its few keys.
static uint64_t run_inserts(const struct torc_perf_options *options)
{
    return options->mix == TORC_WORKLOAD_CHECK ? 0 : UINT64_C(1) << 26;
}

enum torc_err torc_perf_run_open(struct torc_perf_run **made,
                                 const struct torc_perf_options *options, struct torc_fail *why)
{
    struct torc_perf_run *run = calloc(1, sizeof(*run));
    enum torc_err err = TORC_ERR_OK;

    *made = run;
    if (run == NULL) {
        return torc_fail(why, TORC_ERR_IO, "no memory for a run");
    }
    signals_take();
    (void)prctl(PR_SET_TIMERSLACK, 1000UL); // else a wait lasts 50 us longer than asked
    run->options = options;
    // Half of them: so that the server has work while the other half's answers are looked at.
    run->take = (uint32_t)torc_min_u64(
        options->take != 0 ? options->take : torc_max_u64(options->window / 2, 1), COMPLETIONS_MAX);
    run_clock_open(&run->clock);
    run->epoll_fd = -1;
    run->rng.state = options->seed != 0 ? options->seed : torc_clock_wall_ns();
    run->clients = calloc(options->clients, sizeof(*run->clients));
    run->value = malloc(options->value_bytes + 1);
    if (run->clients == NULL || run->value == NULL) {
        return torc_fail(why, TORC_ERR_IO, "no memory for %lu clients",
                         (unsigned long)options->clients);
    }
    while (run->client_count < options->clients && err == TORC_ERR_OK) {
        err = client_open(run, &run->clients[run->client_count++], why);
    }
    if (err != TORC_ERR_OK) {
        return err;
    }
    run_watch(run);
    err = torc_queue_limits(run->clients[0].queue, &run->limits);
    if (err != TORC_ERR_OK) {
        return torc_fail(why, err, "%.150s", torc_queue_message(run->clients[0].queue));
    }
    if (options->records > run->limits.keys) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT, "--records %lu: the cluster has %lu keys",
                         (unsigned long)options->records, (unsigned long)run->limits.keys);
    }
    torc_keys_init(&run->keys, options->order, options->records, run_inserts(options),
                   run->limits.keys, (double)options->theta / 1000.0);
    run->keys.rising = options->rising;
    return TORC_ERR_OK;
}

void torc_perf_run_close(struct torc_perf_run *run)
{
    if (run == NULL) {
        return;
    }
    for (uint32_t i = 0; i < run->client_count; i++) {
        if (run->clients[i].queue != NULL) {
            torc_queue_close(run->clients[i].queue);
        }
        free(run->clients[i].slots);
    }
    if (run->epoll_fd >= 0) {
        close(run->epoll_fd);
    }
    free(run->value);
    free(run->clients);
    free(run);
}

// -- One operation -------------------------------------------------------------------------------

static enum torc_err slot_put(struct torc_perf_run *run, struct torc_perf_client *client,
                              uint32_t index)
{
    const struct torc_perf_slot *slot = &client->slots[index];

    torc_value_make(run->value, run->options->value_bytes, slot->key, run->nonce++);
    return torc_prep_put(client->queue, slot->key, run->value, run->options->value_bytes, index);
}

static enum torc_err slot_scan(struct torc_perf_run *run, struct torc_perf_client *client,
                               uint32_t index)
{
    uint64_t longest = run->options->scan;
    uint64_t rows =
        run->options->mix == TORC_WORKLOAD_RANGE ? longest : 1 + torc_rng_below(&run->rng, longest);
    struct torc_range_options options = {.limit = rows,
                                         .bytes = rows * (run->options->value_bytes + 64)};

    return torc_prep_range(client->queue, client->slots[index].key, run->limits.keys, &options,
                           index);
}

// What the next operation is.
static void slot_choose(struct torc_perf_run *run, struct torc_perf_slot *slot)
{
    if (run->loading) {
        slot->action = TORC_PERF_UPDATE;
        slot->record = run->load_next++;
    } else {
        slot->action = torc_workload_draw(torc_workload_info(run->options->mix), &run->rng);
        if (slot->action == TORC_PERF_INSERT && !torc_keys_insert(&run->keys, &slot->record)) {
            slot->action = TORC_PERF_UPDATE; // no room left: the load stays what it is
        }
        if (slot->action != TORC_PERF_INSERT) {
            slot->record = torc_keys_pick(&run->keys, &run->rng);
        }
    }
    slot->key = torc_keys_key(&run->keys, slot->record);
    slot->writes_back = false;
}

static enum torc_err slot_issue(struct torc_perf_run *run, struct torc_perf_client *client,
                                uint64_t start_ns, struct torc_fail *why)
{
    uint32_t index = client->free_slot - 1;
    struct torc_perf_slot *slot = &client->slots[index];
    enum torc_err err = TORC_ERR_INTERNAL;

    slot_choose(run, slot);
    client->free_slot = slot->next_free;
    slot->start_ns = start_ns;
    switch (slot->action) {
    case TORC_PERF_READ:
    case TORC_PERF_RMW: err = torc_prep_get(client->queue, slot->key, NULL, index); break;
    case TORC_PERF_UPDATE:
    case TORC_PERF_INSERT: err = slot_put(run, client, index); break;
    case TORC_PERF_SCAN: err = slot_scan(run, client, index); break;
    case TORC_PERF_ACTION_COUNT: torc_unreachable("an action is drawn from the table");
    }
    if (err != TORC_ERR_OK) {
        return torc_fail(why, err, "key %lu: %.120s", (unsigned long)slot->key,
                         torc_queue_message(client->queue));
    }
    client->in_flight++;
    run->issued++;
    return run->options->alone ? torc_submit(client->queue) : TORC_ERR_OK;
}

// -- Answers -------------------------------------------------------------------------------------

static void answer_wrong(struct torc_perf_run *run, const struct torc_perf_slot *slot,
                         const char *what)
{
    if (run->wrong++ == 0) {
        (void)snprintf(run->first_wrong, sizeof(run->first_wrong), "%s of key %lu: %s",
                       torc_perf_action_name(slot->action), (unsigned long)slot->key, what);
    }
}

static void check_value(struct torc_perf_run *run, const struct torc_perf_slot *slot, uint64_t key,
                        const void *data, uint64_t bytes)
{
    if (run->verified++ % TORC_PERF_VERIFY_EVERY != 0 && bytes == run->options->value_bytes &&
        (bytes < TORC_VALUE_NAMED_BYTES || memcmp(data, &key, sizeof(key)) == 0)) {
        return;
    }
    if (!torc_value_check(data, bytes, run->options->value_bytes, key)) {
        answer_wrong(run, slot, "the value is not one that was written there");
    }
}

static void check_scan(struct torc_perf_run *run, const struct torc_perf_slot *slot,
                       const struct torc_completion *completion)
{
    uint64_t last = 0;

    if (completion->count == 0 || completion->rows[0].key != slot->key) {
        answer_wrong(run, slot, "the range does not begin with its first record");
    }
    for (uint64_t i = 0; i < completion->count; i++) {
        const struct torc_row *row = &completion->rows[i];

        if (i > 0 && row->key <= last) {
            answer_wrong(run, slot, "the range is not sorted");
        }
        last = row->key;
        check_value(run, slot, row->key, row->data, row->bytes);
    }
}

static void answer_check(struct torc_perf_run *run, const struct torc_perf_slot *slot,
                         const struct torc_completion *completion)
{
    if (completion->status == TORC_ERR_NOT_FOUND) {
        answer_wrong(run, slot, "the record is not there");
    } else if (completion->status != TORC_ERR_OK) {
        if (run->first_failure[0] == '\0') {
            (void)snprintf(run->first_failure, sizeof(run->first_failure),
                           "%s of key %lu: %s %.80s", torc_perf_action_name(slot->action),
                           (unsigned long)slot->key, torc_error_name((int)completion->status),
                           completion->text == NULL ? "" : completion->text);
        }
    } else if (slot->action == TORC_PERF_SCAN) {
        check_scan(run, slot, completion);
    } else if (slot->action == TORC_PERF_READ ||
               (slot->action == TORC_PERF_RMW && !slot->writes_back)) {
        check_value(run, slot, slot->key, completion->data, completion->bytes);
    } else if (slot->action == TORC_PERF_INSERT) {
        torc_keys_inserted(&run->keys, slot->record);
    }
}

static void answer_take(struct torc_perf_run *run, struct torc_perf_client *client,
                        const struct torc_completion *completion, uint64_t now_ns)
{
    uint32_t index = torc_narrow_u32(completion->user_data);
    struct torc_perf_slot *slot = &client->slots[index];
    bool measured =
        !run->loading && slot->start_ns >= run->measure_ns && slot->start_ns < run->stop_ns;

    answer_check(run, slot, completion);
    if (slot->action == TORC_PERF_RMW && !slot->writes_back && completion->status == TORC_ERR_OK) {
        slot->writes_back = true;
        if (slot_put(run, client, index) == TORC_ERR_OK) {
            return;
        }
    }
    if (measured) {
        run->statuses[(unsigned)completion->status & 0xffu]++;
        run->ended++;
        run->last_end_ns = now_ns;
        run->scanned_rows += slot->action == TORC_PERF_SCAN ? completion->count : 0;
        torc_histogram_record(&run->times[slot->action], now_ns - slot->start_ns);
    } else if (run->loading) {
        run->statuses[(unsigned)completion->status & 0xffu]++;
    }
    slot->next_free = client->free_slot;
    client->free_slot = index + 1;
    client->in_flight--;
    client->freed_ns = now_ns;
}

static uint32_t client_poll(struct torc_perf_run *run, struct torc_perf_client *client)
{
    struct torc_completion completions[COMPLETIONS_MAX];
    uint32_t count = torc_poll(client->queue, completions, run->take);
    uint64_t now_ns = count > 0 ? run_now_ns(run) : 0;

    for (uint32_t i = 0; i < count; i++) {
        answer_take(run, client, &completions[i], now_ns);
    }
    return count;
}

// -- Loops ---------------------------------------------------------------------------------------

// Whether the phase has operations to start.
static bool phase_goes_on(const struct torc_perf_run *run, uint64_t now_ns)
{
    return !torc_perf_is_told_to_stop() &&
           (run->loading ? run->load_next < run->keys.loaded : now_ns < run->stop_ns);
}

static enum torc_err issue_closed(struct torc_perf_run *run, struct torc_perf_client *client,
                                  uint64_t now_ns, struct torc_fail *why)
{
    uint32_t batch = (uint32_t)torc_min_u64(run->options->batch, run->options->window);
    uint32_t window = (uint32_t)run->options->window;
    enum torc_err err = TORC_ERR_OK;

    while (err == TORC_ERR_OK && window - client->in_flight >= batch &&
           phase_goes_on(run, now_ns)) {
        for (uint32_t i = 0; i < batch && err == TORC_ERR_OK && phase_goes_on(run, now_ns); i++) {
            err = slot_issue(run, client, now_ns, why);
        }
    }
    return err;
}

static enum torc_err issue_open(struct torc_perf_run *run, uint64_t now_ns, struct torc_fail *why)
{
    double gap_ns = 1e9 / (double)run->options->rate;
    uint32_t full = 0;
    enum torc_err err = TORC_ERR_OK;

    while (err == TORC_ERR_OK && run->intended_ns <= now_ns && full < run->client_count) {
        struct torc_perf_client *client = &run->clients[run->client_turn++ % run->client_count];
        uint64_t could_ns = torc_max_u64(run->intended_ns, client->freed_ns);

        if (client->free_slot == 0) {
            full++;
            continue;
        }
        full = 0;
        if (run->intended_ns >= run->measure_ns && now_ns - could_ns > TORC_PERF_LATE_NS) {
            run->late++;
        }
        err = slot_issue(run, client, run->intended_ns, why);
        run->intended_ns +=
            (uint64_t)(-log(1.0 - (double)(torc_rng_next(&run->rng) >> 11) * 0x1.0p-53) * gap_ns);
    }
    return err;
}

void torc_perf_run_wait(struct torc_perf_run *run)
{
    struct epoll_event event;
    uint64_t now_ns;
    uint64_t until_ns;

    if (!run->options->block) {
        return;
    }
    now_ns = run_now_ns(run);
    until_ns =
        now_ns + (run->epoll_fd < 0 ? torc_nap_next(&run->nap, now_ns, NAP_LEAST_NS, NAP_MOST_NS)
                                    : (uint64_t)WAIT_NS_MAX);
    if (run->options->rate > 0 && !run->loading) {
        until_ns = torc_min_u64(until_ns, run->intended_ns);
    }
    if (until_ns > now_ns) {
        struct timespec time = {.tv_sec = (time_t)((until_ns - now_ns) / TORC_NS_PER_S),
                                .tv_nsec = (long)((until_ns - now_ns) % TORC_NS_PER_S)};

        // A signal only ends it sooner.
        if (run->epoll_fd < 0) {
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
        } else {
            (void)epoll_pwait2(run->epoll_fd, &event, 1, &time, NULL);
        }
    }
}

// Whether packets came since the last call.
static bool run_heard(struct torc_perf_run *run)
{
    uint64_t heard = 0;

    for (uint32_t i = 0; i < run->client_count; i++) {
        struct torc_counters counters;

        torc_queue_counters(run->clients[i].queue, &counters);
        heard += counters.packets_received;
    }
    if (heard == run->heard) {
        return false;
    }
    run->heard = heard;
    return true;
}

// Runs the phase until nothing more is to be started and all has ended.
static enum torc_err run_phase(struct torc_perf_run *run, struct torc_fail *why)
{
    bool open = run->options->rate > 0 && !run->loading;
    enum torc_err err = TORC_ERR_OK;

    while (err == TORC_ERR_OK) {
        uint64_t now_ns = run_now_ns(run);
        uint64_t issued = run->issued;
        uint32_t ended = 0;
        uint64_t in_flight = 0;

        if (open && phase_goes_on(run, now_ns)) {
            err = issue_open(run, now_ns, why);
        }
        for (uint32_t i = 0; i < run->client_count && err == TORC_ERR_OK; i++) {
            struct torc_perf_client *client = &run->clients[i];

            if (!open) {
                err = issue_closed(run, client, now_ns, why);
            }
            ended += client_poll(run, client);
            in_flight += client->in_flight;
        }
        if (err == TORC_ERR_OK && in_flight == 0 && !phase_goes_on(run, now_ns)) {
            break;
        }
        if (!run->loading && now_ns >= run->measure_ns &&
            (run_heard(run) || ended > 0 || run->issued != issued)) {
            run->busy_ns += run_now_ns(run) - now_ns;
        }
        if (ended > 0) {
            torc_nap_end(&run->nap, now_ns);
        } else {
            torc_perf_run_wait(run);
        }
    }
    return err;
}

// Jiffies that a hypervisor took from this machine: the eighth number of the first line.
static uint64_t run_stolen(void)
{
    char line[256] = "";
    char *at = line;
    FILE *file = fopen("/proc/stat", "re");
    uint64_t number = 0;

    if (file != NULL) {
        at = fgets(line, sizeof(line), file) == NULL ? line : line + strcspn(line, " ");
        (void)fclose(file); // was only read
    }
    for (uint32_t i = 0; i < 8; i++) {
        number = strtoull(at, &at, 10);
    }
    return number;
}

static enum torc_err run_load(struct torc_perf_run *run, struct torc_fail *why)
{
    uint64_t start_ns = run_now_ns(run);
    uint64_t good;
    enum torc_err err;

    run->loading = true;
    err = run_phase(run, why);
    run->loading = false;
    run->load_seconds = (double)(run_now_ns(run) - start_ns) / 1e9;
    good = run->statuses[TORC_ERR_OK];
    memset(run->statuses, 0, sizeof(run->statuses));
    if (err == TORC_ERR_OK && good != run->keys.loaded) {
        return torc_fail(why, TORC_ERR_UNAVAILABLE, "loading: %lu of %lu records went in; %.90s",
                         (unsigned long)good, (unsigned long)run->keys.loaded, run->first_failure);
    }
    return err;
}

enum torc_err torc_perf_run_go(struct torc_perf_run *run, struct torc_fail *why)
{
    const struct torc_perf_options *options = run->options;
    uint64_t stolen;
    enum torc_err err = options->no_load ? TORC_ERR_OK : run_load(run, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    run->issued = 0;
    run->intended_ns = run_now_ns(run);
    run->measure_ns = run->intended_ns + options->warmup * TORC_NS_PER_S;
    run->stop_ns = run->measure_ns + options->seconds * TORC_NS_PER_S;
    stolen = run_stolen();
    err = run_phase(run, why);
    run->steal_share = (double)(run_stolen() - stolen) / (double)sysconf(_SC_CLK_TCK) /
                       (double)(options->warmup + options->seconds);
    return err;
}

bool torc_perf_run_is_void(const struct torc_perf_run *run)
{
    return run->options->rate > 0 && run->late * 100 > run->ended;
}
