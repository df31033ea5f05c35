#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tools/summary.sh DIR - add up DIR/*.txt (lines "name passed failed skipped"); the last line is "N passed, N failed, N
# skipped".  Exit code 1 when anything failed or nothing ran.
cat "${1:-build/results}"/*.txt 2>/dev/null | awk '
    NF >= 4 { printf "  %-28s %4d passed %3d failed %3d skipped\n", $1, $2, $3, $4; p += $2; f += $3; s += $4 }
    END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit (f > 0 || p == 0) }'
