#!/bin/sh
# Builds longshore-init into packages/sandbox/dist: static, for any image. Needs a C compiler and musl
# (Debian: musl-tools). Arguments: other compiler and flags, as a test has that builds it with sanitizers.
set -eu
cd "$(dirname "$0")"
warnings="-std=gnu11 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wformat=2 -Wvla -Werror"
if [ $# -gt 0 ]; then
  # shellcheck disable=SC2086
  exec "$@" $warnings longshore-init.c
fi
mkdir -p ../dist
unfinished="../dist/.longshore-init.$$"
trap 'rm -f "$unfinished"' EXIT
# shellcheck disable=SC2086
"${CC:-musl-gcc}" -static -Os -s -fstack-protector-strong $warnings -o "$unfinished" longshore-init.c
mv "$unfinished" ../dist/longshore-init
