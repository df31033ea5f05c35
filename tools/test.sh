#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tools/test.sh STAGE... - run `make STAGE` for each stage, also when an earlier one failed, then print the sum.
#
# A stage writes build/results/*.txt, lines "name passed failed skipped".  One that fails or ends without counting (it does not compile, it
# crashed) is one failure more.
set -uo pipefail
results=build/results
rm -rf $results; mkdir -p $results
for stage in "$@"; do
    echo "== $stage"
    before=$(cat $results/*.txt 2>/dev/null | wc -l)
    failed_before=$(cat $results/*.txt 2>/dev/null | awk '{n += $3} END {print n + 0}')
    make --no-print-directory "$stage"; rc=$?
    after=$(cat $results/*.txt 2>/dev/null | wc -l)
    failed_after=$(cat $results/*.txt 2>/dev/null | awk '{n += $3} END {print n + 0}')
    if [ $rc != 0 ] && [ "$failed_after" = "$failed_before" ]; then
        echo "$stage: make $stage failed with code $rc"; echo "$stage-stage 0 1 0" > $results/$stage-stage.txt
    elif [ "$after" = "$before" ]; then
        echo "$stage: nothing was counted"; echo "$stage-stage 0 1 0" > $results/$stage-stage.txt
    fi
done
tools/summary.sh $results
