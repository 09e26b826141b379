// Torc kit: the clock that stamps. See kit/wall.h.
#include "kit/wall.h"

#include "kit/bugs.h"

#define WALL_LOOK_NS UINT64_C(1000000) // below it a sixteenth is lost in rounding

// From `offset` towards `target`, by `most` at most.
static int64_t wall_slew(int64_t offset_us, int64_t target_us, int64_t most_us)
{
    if (target_us > offset_us + most_us) {
        return offset_us + most_us;
    }
    return target_us < offset_us - most_us ? offset_us - most_us : target_us;
}

static bool wall_ahead(int64_t offset_us, int64_t median_us)
{
    return median_us != TORC_WALL_UNKNOWN && offset_us > median_us + TORC_WALL_APART_US;
}

static bool wall_behind(int64_t offset_us, int64_t median_us)
{
    return median_us != TORC_WALL_UNKNOWN && offset_us < median_us - TORC_WALL_APART_US;
}

// The offsets go after what they follow.
static void wall_move(struct torc_wall *wall, const struct torc_wall_look *look, int64_t system_us)
{
    uint64_t elapsed_ns = look->now_ns - wall->moved_ns;
    int64_t most_us = (int64_t)(elapsed_ns / 1000 / TORC_WALL_SLEW);
    int64_t target_us;

    if (elapsed_ns < WALL_LOOK_NS) {
        return;
    }
    wall->moved_ns = look->now_ns;
    wall->own_us = wall_slew(wall->own_us, system_us, most_us);
    if (wall->hold_ns != 0 && look->now_ns >= wall->hold_ns) {
        wall->hold_ns = 0;
        wall->used_us = wall->used_us < wall->own_us ? wall->own_us : wall->used_us;
    }
    target_us =
        wall_ahead(wall->own_us, look->median_us) || wall_behind(wall->own_us, look->median_us)
            ? look->median_us
            : wall->own_us;
    if (wall->hold_ns == 0) {
        wall->used_us = wall_slew(wall->used_us, target_us, most_us);
    }
}

uint64_t torc_wall_step(struct torc_wall *wall, const struct torc_wall_look *look)
{
    int64_t system_us = torc_wall_offset_us(look->system_us, look->now_ns);
    int64_t stamped_us = torc_wall_offset_us(look->stamped_us, look->now_ns);

    if (!wall->begun || TORC_BUG(WALL_FOLLOWS_STEPS)) {
        *wall = (struct torc_wall){
            .begun = true, .moved_ns = look->now_ns, .own_us = system_us, .used_us = system_us};
        return look->system_us;
    }
    torc_assert(look->now_ns >= wall->moved_ns);
    wall->hold_ns = look->median_us == TORC_WALL_UNKNOWN ? wall->hold_ns : 0;
    wall_move(wall, look, system_us);
    if (wall_behind(wall->used_us, look->median_us) ||
        (wall_ahead(wall->used_us, look->median_us) && stamped_us <= look->median_us)) {
        wall->used_us = look->median_us;
    }
    if (stamped_us > wall->used_us + TORC_WALL_HELD_US) {
        wall->used_us = stamped_us; // and slowly back
    }
    return (uint64_t)((int64_t)(look->now_ns / 1000) + wall->used_us);
}

void torc_wall_hold(struct torc_wall *wall, uint64_t now_ns, uint64_t stamped_us, uint64_t hold_ns)
{
    torc_assert(wall->begun);
    wall->used_us = torc_wall_offset_us(stamped_us, now_ns);
    wall->hold_ns = now_ns + hold_ns;
}

void torc_wall_floor(struct torc_wall *wall, uint64_t now_ns, uint64_t wall_us)
{
    int64_t floor_us = torc_wall_offset_us(wall_us, now_ns);

    torc_assert(wall->begun);
    wall->own_us = wall->own_us < floor_us ? floor_us : wall->own_us;
    wall->used_us = wall->used_us < floor_us ? floor_us : wall->used_us;
}

int64_t torc_wall_median_us(int64_t *offsets_us, uint32_t count, uint32_t missing)
{
    uint32_t highest = (count + missing - 1) / 2; // if all that are missing are above the rest

    torc_assert(count > 0);
    if (highest < missing || highest >= count) {
        return TORC_WALL_UNKNOWN;
    }
    if (count < 3) {
        return count == 2 && !wall_ahead(offsets_us[0], offsets_us[1]) &&
                       !wall_behind(offsets_us[0], offsets_us[1])
                   ? offsets_us[0]
                   : TORC_WALL_UNKNOWN;
    }
    for (uint32_t i = 1; i < count; i++) { // a few dozen at most
        int64_t offset_us = offsets_us[i];
        uint32_t at = i;

        for (; at > 0 && offsets_us[at - 1] > offset_us; at--) {
            offsets_us[at] = offsets_us[at - 1];
        }
        offsets_us[at] = offset_us;
    }
    return wall_ahead(offsets_us[highest], offsets_us[highest - missing])
               ? TORC_WALL_UNKNOWN
               : offsets_us[(count - 1) / 2];
}
