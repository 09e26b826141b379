#!/bin/bash
# Bugs on purpose (kit/bugs.h): each must be found within 1000 seeds, by one that is clean without it.
#   tests/sim/bugs.sh                 all of them
#   tests/sim/bugs.sh --seconds T     as many as T seconds allow, from a place that moves on each day
# The last line says how many were not found; status 1 if there are any. docs/decisions/0036 has the
# table of how many seeds each took, and those that are not looked for here, with the reason.
set -u
cd "$(dirname "$0")/../.." || exit 1

seconds=1000000
[ "${1-}" != --seconds ] || seconds=$2
# Number in the protocol's list, 0: of what one node does. Copies of a shard that it takes.
mapfile -t bugs <<'BUGS'
0 ACK_BEFORE_DURABLE 1
0 MARK_WHEN_TAKEN 1
0 FAILED_LOG_GOES_ON 1
0 TRIM_TOO_MUCH 1
0 CUT_NOT_WRITTEN 1
0 DUPLICATE_RUNS 1
0 UNDO_IGNORED 1
30 DEFINITE_AFTER_UNANSWERED 1
25 READ_SKIPS_PENDING 1
41 TURN_IGNORED 1
26 CLIENT_WITHOUT_HLC 1
46 DELETE_NOT_REMEMBERED 1
1 T7_NO_PROMISE_WAIT 3
2 T7_NO_MEMBER_ACKS 3
3 TAKEOVER_NOT_IN_SYNC 3
4 COPY_IGNORED 3
5 COMMIT_BY_MAJORITY 3
7 CUT_TO_COMMIT_MARK 3
11 TAIL_NOT_APPLIED 3
13 LEASE_OF_ANY 3
14 RESTART_SAME_EPOCH 3
15 ACK_BEFORE_READ 3
16 NO_CUT 3
20 PROMISE_WITHOUT_EXCEPTIONS 3
27 FAILED_NOT_REMEMBERED 3
29 MIN_IN_SYNC_STOPS_TAIL 3
31 JOIN_BASE_IN_MEMORY 3
32 EPOCH_KEEPS_TAIL 3
36 JOIN_BELOW_COMMIT 3
37 EXCEPTIONS_UNPUBLISHED 3
BUGS

# Prints the first seed at or after $1 that fails with bug $2 and $3 copies; nothing: none does.
first_failed() {
  scripts/sim --seeds $((1001 - $1)) --base "$1" --bug "$2" --replicas "$3" --json 2>/dev/null |
    sed -n 's/.*"first_failed":\([0-9]*\),.*/\1/p'
}

# Whether a seed finds it that is clean without it. Prints that seed.
find_bug() {
  local seed=0
  while seed=$(first_failed $((seed + 1)) "$1" "$2"); [ -n "$seed" ]; do
    if scripts/sim --seeds 1 --base "$seed" --replicas "$2" --json >/dev/null 2>&1; then
      echo "$seed"
      return 0
    fi
  done
  return 1
}

begun=$SECONDS
first=$(($(date +%s) / 86400 * 7))
missed=0
tried=0
while [ $tried -lt ${#bugs[@]} ] && [ $((SECONDS - begun)) -lt "$seconds" ]; do
  read -r number bug copies <<<"${bugs[$(((first + tried) % ${#bugs[@]}))]}"
  if seed=$(find_bug "$bug" "$copies"); then
    echo "found: $bug ($number) by seed $seed of $copies copies"
  else
    echo "not found: $bug ($number)"
    missed=$((missed + 1))
  fi
  tried=$((tried + 1))
done
echo "$missed of $tried not found"
[ $missed = 0 ]
