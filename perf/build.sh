# Sourced by the programs of this folder: the release build in build/, made when $TORC_BUILD names none.
if [ -z "${TORC_BUILD-}" ]; then
  root=$(cd "$(dirname "$0")/.." && pwd)
  TORC_BUILD=$root/build
  [ -e "$TORC_BUILD/build.ninja" ] ||
    meson setup "$TORC_BUILD" "$root" --buildtype=release >/dev/null
  ninja -C "$TORC_BUILD" "perf/torc-$(basename "$0")" >/dev/null
fi
