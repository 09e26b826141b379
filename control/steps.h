// Torc control: the next step of a shard towards what is wished, by what the survey says.
//
// What    control/move.h over a survey: who seems alive is who has a boot that is not `down`.
// Owner   control's one thread. Pure.
#ifndef TORC_CONTROL_STEPS_H
#define TORC_CONTROL_STEPS_H

#include "control/move.h"
#include "control/survey.h"

// The step, and the hint that the primary's replica is to be told. Of a shard that the survey does
// not know the wish is the hint.
struct torc_move_step torc_steps_next(struct torc_survey *survey, uint32_t number,
                                      const struct torc_survey_want *wish, uint64_t min_in_sync,
                                      struct torc_want_fields *hint);

#endif
