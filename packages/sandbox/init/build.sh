#!/bin/sh
# Builds what is put into sandboxes, and longshore-host for beside them, into packages/sandbox/dist, static, for any image. Needs a C compiler, musl and SQLite
# (Debian: musl-tools, libsqlite3-dev). Arguments: other compiler and flags, as a test has that builds longshore-init with sanitizers.
set -eu
cd "$(dirname "$0")"
warnings="-std=gnu11 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wformat=2 -Wvla -Werror"
if [ $# -gt 0 ]; then
  # shellcheck disable=SC2086
  exec "$@" $warnings longshore-init.c
fi
mkdir -p ../dist
unfinished="../dist/.unfinished.$$"
trap 'rm -f "$unfinished"' EXIT
# shellcheck disable=SC2086
"${CC:-musl-gcc}" -static -Os -s -fstack-protector-strong $warnings -o "$unfinished" longshore-init.c
mv "$unfinished" ../dist/longshore-init
# Against glibc: musl-tools has no headers of the kernel, and Debian's archive of SQLite is made for it.
# shellcheck disable=SC2086
gcc -static -Os -s -fstack-protector-strong $warnings -o "$unfinished" longshore-host.c
mv "$unfinished" ../dist/longshore-host
# shellcheck disable=SC2086
gcc -static -Os -s -fstack-protector-strong $warnings -o "$unfinished" longshore-mailbox.c -Wl,--no-warnings -lsqlite3 -lm
mv "$unfinished" ../dist/longshore-mailbox
