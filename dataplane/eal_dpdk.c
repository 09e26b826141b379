// Torc dataplane: starting DPDK. See dataplane/eal_dpdk.h.
#include "dataplane/eal_dpdk.h"

#include "dataplane/machine_os.h"
#include "kit/log_os.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EAL_WORDS_MAX       24
#define EAL_LCORES_BYTES    16384
#define EAL_COMPLAINT_BYTES 96

// The complaint is written by whichever thread DPDK logs from and read by the one that opens ports,
// which is the same thread in all cases that matter; a torn text would be an odd message, no more.
static char eal_complaint[EAL_COMPLAINT_BYTES];

const char *torc_eal_complaint(void)
{
    return eal_complaint;
}

void torc_eal_forget_complaint(void)
{
    eal_complaint[0] = '\0';
}

// What DPDK and its drivers say, as lines of ours. Errors of a driver that is being tried are
// normal, so nothing is above "warn": whoever tried says whether it matters.
static ssize_t eal_write(void *cookie, const char *text, size_t text_bytes)
{
    size_t shown = text_bytes;
    uint32_t level = (uint32_t)rte_log_cur_msg_loglevel();

    (void)cookie;
    while (shown > 0 && (text[shown - 1] == '\n' || text[shown - 1] == ' ')) {
        shown--;
    }
    if (shown == 0) {
        return (ssize_t)text_bytes;
    }
    if (level <= RTE_LOG_ERR) {
        size_t kept = torc_min_u64(shown, sizeof(eal_complaint) - 1);

        memcpy(eal_complaint, text, kept);
        eal_complaint[kept] = '\0';
    }
    torc_log(TORC_LOG_DEBUG, "dpdk", "says", "level=%u text=\"%.*s\"", level, (int)shown, text);
    return (ssize_t)text_bytes;
}

static bool eal_log_to_ours(void)
{
    FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = eal_write});

    if (stream == NULL) {
        return false;
    }
    (void)setvbuf(stream, NULL, _IOLBF, 512);
    return rte_openlog_stream(stream) == 0;
}

uint32_t torc_eal_cpus(uint16_t cpus[TORC_EAL_CPUS_MAX])
{
    cpu_set_t allowed;
    uint32_t count = 0;

    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        CPU_SET(0, &allowed); // more than 1024 processors: the first one is better than none
    }
    for (uint16_t cpu = 0; cpu < TORC_EAL_CPUS_MAX; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            cpus[count++] = cpu;
        }
    }
    return count;
}

static bool eal_has_cpu(const uint16_t *cpus, uint32_t count, uint64_t cpu)
{
    for (uint32_t i = 0; i < count; i++) {
        if (cpus[i] == cpu) {
            return true;
        }
    }
    return false;
}

// Reads `first` or `first-last` at *text; false when it is neither.
static bool eal_parse_span(const char **text, uint64_t *first, uint64_t *last)
{
    char *end = NULL;

    if (**text < '0' || **text > '9') {
        return false;
    }
    *first = strtoull(*text, &end, 10);
    *last = *first;
    if (*end == '-' && end[1] >= '0' && end[1] <= '9') {
        *last = strtoull(end + 1, &end, 10);
    }
    *text = end;
    return *first <= *last && *last < TORC_EAL_CPUS_MAX && (*end == ',' || *end == '\0');
}

enum torc_err torc_eal_parse_cpus(const char *text, uint16_t cpus[TORC_EAL_CPUS_MAX],
                                  uint32_t *count, struct torc_fail *why)
{
    uint16_t allowed[TORC_EAL_CPUS_MAX];
    uint32_t allowed_count = torc_eal_cpus(allowed);
    const char *rest = text;

    *count = 0;
    for (;;) {
        uint64_t first = 0;
        uint64_t last = 0;

        if (!eal_parse_span(&rest, &first, &last)) {
            return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                             "cores=%.60s: a list of processors as in 1-3,5", text);
        }
        for (uint64_t cpu = first; cpu <= last; cpu++) {
            if (!eal_has_cpu(allowed, allowed_count, cpu) || eal_has_cpu(cpus, *count, cpu)) {
                return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                                 "cores=%.60s: processor %" PRIu64
                                 " is named twice, or this process may not use it",
                                 text, cpu);
            }
            cpus[(*count)++] = (uint16_t)cpu;
        }
        if (*rest == '\0') {
            return TORC_ERR_OK;
        }
        rest++;
    }
}

// Appends to a text that was sized for the most there can be.
static void torc_printf_like(3, 4) eal_append(char *text, size_t *filled, const char *format, ...)
{
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(text + *filled, EAL_LCORES_BYTES - *filled, format, arguments);
    va_end(arguments);
    torc_assert(length >= 0);
    torc_assert(*filled + (size_t)length < EAL_LCORES_BYTES);
    *filled += (size_t)length;
}

// lcore 0 (main) and, when not pinned, the workers float over all processors allowed.
static void eal_lcores(char *text, const struct torc_eal_want *want)
{
    char all[EAL_LCORES_BYTES];
    uint16_t cpus[TORC_EAL_CPUS_MAX];
    uint32_t count = torc_eal_cpus(cpus);
    size_t filled = 0;

    for (uint32_t i = 0; i < count; i++) {
        eal_append(all, &filled, "%s%u", i > 0 ? "," : "", cpus[i]);
    }
    filled = 0;
    if (!want->pinned) {
        eal_append(text, &filled, "--lcores=(0-%u)@(%s)", want->worker_count, all);
        return;
    }
    eal_append(text, &filled, "--lcores=0@(%s)", all);
    for (uint32_t i = 0; i < want->worker_count; i++) {
        eal_append(text, &filled, ",%u@%u", i + 1, want->cpus[i]);
    }
}

// --no-huge and --in-memory exclude one another; both leave nothing on disk.
static enum torc_err eal_choose_memory(const struct torc_eal_want *want, bool *huge,
                                       struct torc_fail *why)
{
    uint64_t free_bytes = torc_machine_huge_free_bytes();

    *huge = !want->huge_never && free_bytes >= want->memory_bytes;
    if (want->huge_only && !*huge) {
        return torc_fail(why, TORC_ERR_NO_SPACE,
                         "huge=yes: %" PRIu64
                         " MiB of hugepages are free, packet buffers take %" PRIu64
                         " MiB (dpdk-memory)",
                         free_bytes >> 20, want->memory_bytes >> 20);
    }
    return TORC_ERR_OK;
}

// Two libraries under the af_xdp driver print at every opening what is no fault (no bpffs, unknown
// sections). They are there only where the driver's plugin is.
static void eal_hush(const char *library, const char *symbol)
{
    void *handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    void *(*set_print)(void *) = NULL;

    if (handle == NULL) {
        return;
    }
    *(void **)(void *)&set_print = dlsym(handle, symbol); // the cast that POSIX asks for
    if (set_print != NULL) {
        (void)set_print(NULL);
    }
    (void)dlclose(handle);
}

enum torc_err torc_eal_open(const struct torc_eal_want *want, struct torc_fail *why)
{
    static char lcores[EAL_LCORES_BYTES]; // EAL keeps pointers into its words
    static char prefix[96];
    static char memory[32];
    static char program[] = "torc-dataplane";
    static char pci[32];
    static char *words[EAL_WORDS_MAX];
    static const char *const fixed[] = {"--no-shconf", "--no-telemetry",
                                        "--log-level=lib.*:warning", "--log-level=pmd.*:warning",
                                        "--main-lcore=0"};
    int count = 0;
    bool huge = false;
    enum torc_err err = eal_choose_memory(want, &huge, why);

    if (err != TORC_ERR_OK) {
        return err;
    }
    if (want->worker_count + 1 > RTE_MAX_LCORE) {
        return torc_fail(why, TORC_ERR_INVALID_ARGUMENT,
                         "%" PRIu32 " workers: this DPDK is built for %d", want->worker_count,
                         RTE_MAX_LCORE - 1);
    }
    eal_lcores(lcores, want);
    (void)snprintf(prefix, sizeof(prefix), "--file-prefix=%s", want->file_prefix);
    (void)snprintf(memory, sizeof(memory), "-m%" PRIu64, want->memory_bytes >> 20);
    words[count++] = program;
    words[count++] = lcores;
    words[count++] = prefix;
    words[count++] = memory;
    for (size_t i = 0; i < TORC_COUNT_OF(fixed); i++) {
        words[count++] = strdup(fixed[i]); // EAL takes them as its own to change
    }
    words[count++] = strdup(huge ? "--in-memory" : "--no-huge");
    if (want->pci == NULL) {
        words[count++] = strdup("--no-pci");
    } else {
        (void)snprintf(pci, sizeof(pci), "-a%s", want->pci);
        words[count++] = pci;
    }
    torc_assert(count < EAL_WORDS_MAX);
    if (!eal_log_to_ours() || rte_eal_init(count, words) < 0) {
        return torc_fail(why, TORC_ERR_IO, "DPDK does not start: %s: %s", rte_strerror(rte_errno),
                         eal_complaint);
    }
    eal_hush("libbpf.so.1", "libbpf_set_print");
    eal_hush("libxdp.so.1", "libxdp_set_print");
    torc_log(TORC_LOG_INFO, "dpdk", "started", "memory=%s mib=%" PRIu64 " prefix=%s pinned=%s",
             huge ? "hugepages" : "pages", want->memory_bytes >> 20, want->file_prefix,
             want->pinned ? "yes" : "no");
    return TORC_ERR_OK;
}

void torc_eal_close(void)
{
    (void)rte_eal_cleanup(); // the process ends; what it could not free, the system does
}
