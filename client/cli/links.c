// Torc cli: see links.h.
#include "client/cli/links.h"

#include <string.h>

static struct torc_links_step *torc_printf_like(2, 3)
    links_add(struct torc_links_plan *plan, const char *format, ...)
{
    struct torc_links_step *step;
    va_list arguments;
    int length;

    torc_assert(plan->count < TORC_LINKS_STEPS_MAX);
    step = &plan->steps[plan->count++];
    memset(step, 0, sizeof(*step));
    va_start(arguments, format);
    length = vsnprintf(step->command, sizeof(step->command), format, arguments);
    va_end(arguments);
    torc_assert(length > 0);
    torc_assert((size_t)length < sizeof(step->command));
    return step;
}

static void links_add_pair(const struct torc_links *links, struct torc_links_plan *plan)
{
    struct torc_links_step *made =
        links_add(plan,
                  "ip link add %s address %s mtu %u numrxqueues %u numtxqueues %u type veth "
                  "peer name %s mtu %u numrxqueues %u numtxqueues %u",
                  links->near, links->mac, links->mtu, links->queue_count, links->queue_count,
                  links->far, links->mtu, links->queue_count, links->queue_count);

    (void)snprintf(made->undo, sizeof(made->undo), "ip link del %s", links->near);
    links_add(plan, "echo 1 > /proc/sys/net/ipv6/conf/%s/disable_ipv6", links->near)->may_fail =
        true;
    links_add(plan, "ethtool -K %s tx off", links->far);
    (void)links_add(plan, "ip link set %s up", links->near);
    (void)links_add(plan, "ip link set %s up", links->far);
}

static void links_add_addresses(const struct torc_links *links, const char *link,
                                struct torc_links_plan *plan)
{
    if (links->host[0] != '\0') {
        (void)links_add(plan, "ip addr add %s dev %s", links->host, link);
    }
    if (links->host6[0] != '\0') {
        links_add(plan, "ip -6 addr add %s dev %s nodad", links->host6, link)->may_fail = true;
    }
}

// Makes the bridge and moves the first node's host's end, with its addresses, to it.
static void links_add_bridge(const struct torc_links *links, const char *holder,
                             struct torc_links_plan *plan)
{
    (void)links_add(plan, "ip link add %s type bridge mcast_snooping 0", TORC_LINKS_BRIDGE);
    (void)links_add(plan, "ip link set %s alias torc-serve", TORC_LINKS_BRIDGE);
    (void)links_add(plan, "ethtool -K %s tx off", TORC_LINKS_BRIDGE);
    (void)links_add(plan, "ip link set %s up", TORC_LINKS_BRIDGE);
    if (links->host[0] != '\0') {
        (void)links_add(plan, "ip addr del %s dev %s", links->host, holder);
    }
    if (links->host6[0] != '\0') {
        links_add(plan, "ip -6 addr del %s dev %s", links->host6, holder)->may_fail = true;
    }
    (void)links_add(plan, "ip link set %s master %s", holder, TORC_LINKS_BRIDGE);
    links_add_addresses(links, TORC_LINKS_BRIDGE, plan);
}

// torc<digits>h: the host's end of a node's pair.
static bool links_is_host_end(const char *name)
{
    size_t digits = strncmp(name, "torc", 4) == 0 ? strspn(name + 4, "0123456789") : 0;

    return digits > 0 && strcmp(name + 4 + digits, "h") == 0;
}

enum torc_err torc_links_steps(const struct torc_links *links, const struct torc_links_seen *seen,
                               struct torc_links_plan *plan, struct torc_fail *why)
{
    bool bridged = strcmp(seen->holder, TORC_LINKS_BRIDGE) == 0;

    plan->count = 0;
    if (!links->wanted || links->tap || seen->near) {
        return TORC_ERR_OK;
    }
    if (seen->holder[0] != '\0' && !bridged && !links_is_host_end(seen->holder)) {
        return torc_fail(why, TORC_ERR_IN_USE,
                         "the host's address %s is already on link %s: give --address and "
                         "--address6 of another network, or --link with a link that is there",
                         links->host[0] != '\0' ? links->host : links->host6, seen->holder);
    }
    links_add_pair(links, plan);
    if (seen->holder[0] == '\0' && !seen->bridge) {
        links_add_addresses(links, links->far, plan);
        return TORC_ERR_OK;
    }
    if (seen->holder[0] == '\0') {
        links_add_addresses(links, TORC_LINKS_BRIDGE, plan);
    } else if (!bridged) {
        links_add_bridge(links, seen->holder, plan);
    }
    (void)links_add(plan, "ip link set %s master %s", links->far, TORC_LINKS_BRIDGE);
    return TORC_ERR_OK;
}

void torc_links_tap_steps(const struct torc_links *links, struct torc_links_plan *plan)
{
    plan->count = 0;
    torc_assert(links->tap);
    (void)links_add(plan, "ip link set %s up", links->near);
    links_add_addresses(links, links->near, plan);
}
