#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tools/run-unit.sh RESULT PROGRAM... - run cmocka test programs.  Prints a line for each program, its output lines that
# begin with "> ", and all output of those that fail.  Writes "unit passed failed skipped" (test functions) to RESULT.
# A program that is missing, crashes, hangs or counts nothing is one more failure.  One more test: is each reason of
# docs/errors.md provoked (tools/check-errors.py --said)?
set -uo pipefail
result=$1; shift
passed=0; failed=0; skipped=0
# BUILT=0: make could not build all; an old program may be left where the new one failed, so that alone is a failure.
if [ "${BUILT:-1}" = 0 ]; then echo "  FAILED: not everything was built, see above"; failed=1; fi
count() { sed -n "s/^\[ *$1 *\] \([0-9]*\) test.*/\1/p" "$log" | awk '{n += $1} END {print n + 0}'; }
log=$(mktemp); trap 'rm -f "$log"' EXIT
said=$(dirname "$result")/said; rm -rf "$said"; mkdir -p "$said"     # all texts that the tests make: which errors?
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1} UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
for program in "$@"; do
    if [ ! -x "$program" ]; then
        printf '  %-28s FAILED: did not build\n' "${program##*/}"; failed=$((failed + 1)); continue
    fi
    GODWIT_SAID=$said/${program##*/} timeout -s KILL 180 "$program" >"$log" 2>&1 </dev/null; rc=$?
    p=$(count PASSED); f=$(count FAILED); s=$(count SKIPPED)
    if [ $rc != 0 ] && [ "$f" = 0 ]; then f=1; why=" (exit code $rc before the end of its tests)"; 
    elif [ $((p + f + s)) = 0 ]; then f=1; why=" (ran no test)"; else why=; fi
    printf '  %-28s %3d passed %2d failed %2d skipped%s\n' "${program##*/}" "$p" "$f" "$s" "$why"
    sed -n 's/^> /      /p' "$log"
    [ "$f" = 0 ] || sed 's/^/    | /' "$log" | grep -Ev '\[ +(OK|RUN) ' | tail -60
    passed=$((passed + p)); failed=$((failed + f)); skipped=$((skipped + s))
done
if [ $failed = 0 ]; then
    if tools/check-errors.py --said "$said"; then passed=$((passed + 1)); else failed=1; fi
fi
echo "unit $passed $failed $skipped" > "$result"
[ $failed = 0 ]
