#!/bin/sh
# A run is a turn: the prompt comes as one line of JSON on standard input, what is written to standard output is
# the reply, and the exit status says whether it succeeded. What lies in the working directory and in $HOME
# afterwards is there again for the next turn, on whichever host.
set -eu

text=$(node -p 'JSON.parse(require("node:fs").readFileSync(0, "utf8")).text')
printf '%s\n' "$text" >> said.txt
printf 'You said: %s\nThat makes %d lines so far.\n' "$text" "$(wc -l < said.txt)"
