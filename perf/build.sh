# Sourced by the programs of this folder: the release build in build/, made when $TORC_BUILD names none.
if [ -z "${TORC_BUILD-}" ]; then
  root=$(cd "$(dirname "$0")/.." && pwd)
  TORC_BUILD=$root/build
  {
    { [ -e "$TORC_BUILD/build.ninja" ] || meson setup "$TORC_BUILD" "$root" --buildtype=release -Db_lto=true; } &&
      ninja -C "$TORC_BUILD" "perf/torc-$(basename "$0")"
  } >"${TMPDIR:-/tmp}/torc-build-$$.log" 2>&1 || {
    cat "${TMPDIR:-/tmp}/torc-build-$$.log" >&2
    rm -f "${TMPDIR:-/tmp}/torc-build-$$.log"
    exit 1
  }
  rm -f "${TMPDIR:-/tmp}/torc-build-$$.log"
fi
