#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tools/lint.sh - which folder includes which?  Prints each edge with its number of lines and fails on one that is not allowed.
#
# The rules: dependencies point at kernel/ only.  boot/ takes nothing but kernel/host/boot_info.h, migrate/ no hardware (kernel/host/host/x86/), and only
# the files named below join the parts.  Also: no vendor by name in the core; docs/errors.md has every error (tools/check-errors.py), every C file and script of
# ours says its licence, and source files have < 1000 lines.
set -uo pipefail
cd "$(dirname "$0")/.."

# Files of kernel/ that may reach into other folders: main.c joins the parts; the rest is the glue between a VM and the engine or streams.
JOINERS='^kernel/(main|migration[a-z_]*|service|console|vm_manage|vm_disk|guest_net|operate|validate|ask|start|start_rule|stream_io|dial|choose|evacuate|move_options|api[a-z_]*)\.[ch]$'
PARTS='boot|kernel|vmx|svm|net|migrate|tests|tools'
bad=0
complain() { echo "lint: $*"; bad=1; }

# "file folder-included header" for every #include "folder/..." of ours
includes() {
    git ls-files -- 'boot/*.[chS]' 'kernel/*.[chS]' 'vmx/*.[chS]' 'svm/*.[chS]' 'net/*.[chS]' 'migrate/*.[chS]' | sort -u |
        xargs grep -HnE "^[[:space:]]*#[[:space:]]*include[[:space:]]+\"($PARTS)/" |
        sed -E 's/^([^:]+):([0-9]+):[^"]*"([^"]+)".*/\1 \2 \3/'
}

echo "includes between folders (lines):"
includes | awk '{ split($1, from, "/"); split($3, to, "/"); if (from[1] != to[1]) n[from[1] " -> " to[1]]++ }
                END { for (e in n) printf "  %-20s %d\n", e, n[e] }' | sort

while read -r file line header; do
    from=${file%%/*}; to=${header%%/*}
    [ "$from" = "$to" ] && continue
    case "$from $to" in
    "boot kernel") [ "$header" = kernel/host/boot_info.h ] || complain "$file:$line: boot/ may include kernel/host/boot_info.h only, not $header" ;;
    "migrate kernel") [ "${header#kernel/host/x86/}" = "$header" ] || complain "$file:$line: migrate/ is portable: not $header" ;;
    "vmx kernel"|"svm kernel"|"net kernel") ;;
    kernel*) [[ $file =~ $JOINERS ]] || complain "$file:$line: kernel/ does not depend on $to/ (only main.c and the glue named in tools/lint.sh)" ;;
    *) complain "$file:$line: $from/ may not include $header" ;;
    esac
done < <(includes)

# The core knows no vendor: only main.c, which picks the operations, names one.  Comments may (manuals), and so may the hardware's own definitions in
# kernel/host/x86/.  The numbers are what CPUID leaf 0 says in EBX.
VENDORS='(^|[^a-z])(amd|intel|svm|vmx|vt-x|genuineintel|authenticamd|0x68747541|0x756e6547)'
while read -r file; do
    found=$(perl -0777 -pe 's{/\*.*?\*/|//[^\n]*}{$& =~ s/[^\n]//gr}gse' "$file" | grep -niE "$VENDORS") &&
        complain "$file: names a vendor outside vmx/, svm/ and kernel/main.c; ask cpu_ops or cpu_caps: $found"
done < <(git ls-files -- 'boot/*.[ch]' 'kernel/*.[ch]' 'net/*.[ch]' 'migrate/*.[ch]' | grep -vE '^kernel/(main\.c$|host/x86/)')

while read -r file; do
    head -3 "$file" | grep -q 'SPDX-License-Identifier: BSD-2-Clause' || complain "$file: no SPDX line"
    case $file in *.c|*.h|*.S)
        [ "$(wc -l < "$file")" -lt 1000 ] || complain "$file: 1000 lines or more"
    esac
done < <(git ls-files -- '*.c' '*.h' '*.S' '*.sh' '*.py' '*.ld' Makefile)
tools/check-errors.py || bad=1
tools/check-tour.py || bad=1
[ $bad = 0 ] && echo "lint: ok"
exit $bad
