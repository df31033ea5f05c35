#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tools/run-fuzz.sh RESULT SECONDS TARGET... - run each libFuzzer target for SECONDS and write "fuzz passed failed
# skipped" to RESULT.
#
# Seeds: tests/fuzz/corpus/NAME/ (read only).  What fuzzing finds beyond them is kept in build/fuzz/corpus/NAME/; an
# input that breaks a target is left as build/fuzz/NAME.crash-*: run build/fuzz/fuzz_NAME FILE to see it again, and add
# it to the corpus with the repair.
set -uo pipefail
result=$1; seconds=$2; shift 2
passed=0; failed=0
if [ "${BUILT:-1}" = 0 ]; then echo "  FAILED: not everything was built, see above"; failed=1; fi
for target in "$@"; do
    if [ ! -x "$target" ]; then
        printf '  %-28s FAILED: did not build\n' "${target##*/}"; failed=$((failed + 1)); continue
    fi
    name=${target##*/fuzz_}; dir=$(dirname "$target")
    log=$dir/$name.log; corpus=$dir/corpus/$name
    mkdir -p "$corpus"
    seeds=(); [ -d "tests/fuzz/corpus/$name" ] && seeds=("tests/fuzz/corpus/$name")
    if timeout -s KILL $((seconds + 120)) "$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$dir/$name." "$corpus" "${seeds[@]}" >"$log" 2>&1 </dev/null; then
        passed=$((passed + 1))
        printf '  %-28s ok, %s inputs\n' "fuzz_$name" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    else
        failed=$((failed + 1))
        printf '  %-28s FAILED:\n' "fuzz_$name"; tail -40 "$log" | sed 's/^/    | /'
    fi
done
mkdir -p "$(dirname "$result")"
echo "fuzz $passed $failed 0" > "$result"
[ $failed = 0 ]
