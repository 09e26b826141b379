// Torc control: what a start of the dataplane goes on from. See control/starts.h.
#include "control/starts.h"

enum torc_err torc_start_plan(struct torc_start_plan *plan, const struct torc_start_seen *seen,
                              struct torc_fail *why)
{
    const struct torc_node_fields *node = seen->node;
    const struct torc_start_fields *start = seen->start;
    bool known = start->start_count == node->start_count && node->start_count > 0;
    bool served = known && start->served == node->boot;
    bool cut_short = known && !served;

    if (seen->dir_count != node->start_count &&
        (seen->dir_count + 1 != node->start_count || served)) {
        return torc_fail(why, TORC_ERR_CORRUPT,
                         "data directory: start %" PRIu64 ", metastore: start %" PRIu64
                         ": one of them is an old copy; put both back from the same backup",
                         seen->dir_count, node->start_count);
    }
    *plan = (struct torc_start_plan){.served = cut_short ? start->served : node->boot,
                                     .copy = cut_short ? start->copy : node->copy,
                                     .behind = seen->dir_count != node->start_count};
    // No life can have served from a directory that no start has got behind step 2 with.
    plan->fresh = seen->forgets && plan->served == 0 && seen->dir_count == 0;
    plan->renew =
        seen->forgets && !plan->fresh && (!seen->sealed || seen->sealed_boot != plan->served);
    return TORC_ERR_OK;
}

bool torc_start_has_lines(uint64_t of, uint64_t disk_copy, uint64_t copy)
{
    return of != 0 && (of == disk_copy || copy != disk_copy);
}
