#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tools/test.sh STAGES... - build everything, run `make STAGE` for each stage, also when an earlier one failed, then
# print the sum.  Stages joined by "+" (unit+model) run at the same time; the output of each is shown at its end.
#
# A stage writes build/results/STAGE.txt, lines "name passed failed skipped".  A stage that fails, or ends without a
# result (it does not compile, it crashed), is one more failure.
set -uo pipefail
# each make below starts its own job server; variables like V=1 are in the environment
unset MAKEFLAGS MAKELEVEL
results=build/results
rm -rf $results; mkdir -p $results

run_stage() {
    local stage=$1 file=$results/$1.txt rc
    make --no-print-directory "$stage"; rc=$?
    if [ ! -s "$file" ]; then
        echo "$stage: nothing was counted (make $stage ended with code $rc)"; echo "$stage 0 1 0" > "$file"
    elif [ $rc != 0 ] && ! awk '$3 > 0 { bad = 1 } END { exit !bad }' "$file"; then
        echo "$stage: make $stage failed with code $rc"; echo "$stage-stage 0 1 0" >> "$file"
    fi
}

make --no-print-directory -k all guest unit-build fuzz-build    # what does not build fails in its stage
for group in "$@"; do
    stages=${group//+/ }
    if [ "$stages" = "$group" ]; then echo "== $group"; run_stage "$group"; continue; fi
    echo "== $stages, at the same time"
    for stage in $stages; do run_stage "$stage" > "$results/$stage.log" 2>&1 & done
    wait
    for stage in $stages; do echo "-- $stage"; cat "$results/$stage.log"; done
done
tools/summary.sh $results
