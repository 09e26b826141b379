// Torc control: what a watch has seen. See control/meta_wake.h.
#include "control/meta_wake.h"

#include <string.h>

void torc_meta_wake_gap(struct torc_meta_wake *wake, uint64_t revision)
{
    wake->ready = true;
    wake->gap = true;
    wake->revision = torc_max_u64(wake->revision, revision);
}

void torc_meta_wake_add(struct torc_meta_wake *wake, const char *key, uint64_t version)
{
    uint32_t at = 0;

    while (at < wake->count && strcmp(wake->names[at], key) != 0) {
        at++;
    }
    if (at == TORC_META_WAKE_RECORDS) {
        torc_meta_wake_gap(wake, version);
        return;
    }
    torc_assert(strlen(key) <= TORC_META_KEY_MAX);
    memcpy(wake->names[at], key, strlen(key) + 1);
    wake->versions[at] = version;
    wake->count += at == wake->count ? 1 : 0;
    wake->ready = true;
    wake->revision = torc_max_u64(wake->revision, version);
}

bool torc_meta_wake_take(struct torc_meta_wake *wake, struct torc_meta_woken *woken,
                         uint64_t ticket, struct torc_meta_answer *answer)
{
    if (!wake->ready) {
        return false;
    }
    woken->wake = *wake;
    *wake = (struct torc_meta_wake){.revision = wake->revision};
    for (uint32_t i = 0; i < woken->wake.count; i++) {
        woken->records[i] = (struct torc_meta_record){.key = woken->wake.names[i],
                                                      .version = woken->wake.versions[i]};
    }
    *answer = (struct torc_meta_answer){.ticket = ticket,
                                        .verb = TORC_META_WATCH,
                                        .revision = woken->wake.revision,
                                        .gap = woken->wake.gap,
                                        .record_count = woken->wake.count,
                                        .records = woken->records};
    return true;
}
