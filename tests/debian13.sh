#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tests/debian13.sh - does a copy of this checkout install its packages, build, pass its tests and move a guest on
# Debian 13 (trixie)?
#
# usage: tests/debian13.sh [--quick]      --quick: no Intel host in Bochs, whose move takes three minutes
#
# mmdebstrap makes a minimal Debian 13, and each step runs in it by chroot.  Each step has a PID namespace of its own:
# when the step ends or exceeds its time limit, the kernel kills all its processes.
# Needs root or user namespaces, the Debian archive that this machine's apt uses, and 6 GB of disk space while it runs.
# Where one of them is missing, everything is skipped.
# Kept in build/debian13: root.tar (the minimal system, made again after 30 days), debs (packages), STEP.log.  The
# unpacked system, root, is removed at the end.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. tools/mirrors.sh
quick=''; [ "${1:-}" != --quick ] || quick=1
dir=$PWD/build/debian13 root=$PWD/build/debian13/root
result=build/results/debian13.txt
passed=0; failed=0; skipped=0
NEED_MB=6000

mkdir -p "$dir/debs/partial" build/results
rm -f "$result"
exec 9> "$dir/lock"
flock -n 9 || { echo "debian13: another run uses $dir"; exit 1; }

finish() {
    remove_root
    echo "debian13 $passed $failed $skipped" > "$result"
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]; exit
}
skip() { echo "skip $1: $2"; skipped=$((skipped + 1)); }
skip_all() { skip debian13 "$1"; finish; }

# ---- namespaces: a plain user is root of a user namespace -----------------------------------------------------------
user_ns=()
[ "$(id -u)" = 0 ] || user_ns=(--map-root-user --map-auto)

# Run a command; kill it after so many seconds, and when this script dies.
limited() {         # seconds command...
    setpriv --pdeathsig KILL timeout --foreground -s KILL "$1" setpriv --pdeathsig KILL "${@:2}" 9>&- < /dev/null
}
in_namespaces() {   # seconds command...
    limited "$1" unshare "${user_ns[@]}" --mount --pid --fork --kill-child "${@:2}"
}
in_root() {         # seconds shell-command: in the Debian 13, in the copy of the checkout
    in_namespaces "$1" bash -euc '
        root=$0 debs=$1 command=$2; shift 2
        mount -t proc proc "$root/proc" 2>/dev/null || mount --rbind /proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --bind "$debs" "$root/var/cache/apt/archives"
        exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@" \
            chroot "$root" bash -c "cd /godwit && $command"
    ' "$root" "$dir/debs" "$2" "${environment[@]}"
}
remove_root() {
    [ ! -e "$root" ] || in_namespaces 600 rm -rf --one-file-system "$root"
}

# What apt, fetch-deps.sh and the emulators' time limits take from the environment.
environment=()
for name in http_proxy https_proxy no_proxy DEPS_MIRROR DEPS_SECURITY_MIRROR GODWIT_SLOWNESS; do
    [ -z "${!name:-}" ] || environment+=("$name=${!name}")
done

# ---- can it run here? -----------------------------------------------------------------------------------------------
for tool in mmdebstrap unshare setpriv; do
    command -v $tool > /dev/null || skip_all "$tool is missing: run tools/setup.sh"
done
in_namespaces 20 true 2> "$dir/namespaces.log" ||
    skip_all "neither root nor user namespaces (uidmap, /etc/subuid, /etc/subgid): $(tail -n 1 "$dir/namespaces.log")"
trap 'trap - EXIT; trap "" PIPE; kill -KILL $(jobs -p) 2>/dev/null; remove_root' EXIT
trap 'exit 130' INT TERM HUP
remove_root
free_mb=$(($(df -m --output=avail "$dir" | tail -n 1)))
[ "$free_mb" -ge $NEED_MB ] || skip_all "$dir has $free_mb MB of free space, and $NEED_MB are needed"
find_mirrors
[ -n "$MAIN" ] || skip_all "this machine's apt knows no Debian archive: set DEPS_MIRROR"
sources_list trixie deb > "$dir/sources.list"
apt-config dump | grep -E '^Acquire::https?::Proxy(::[^:]*)? ' > "$dir/proxy.conf"
limited 120 /usr/lib/apt/apt-helper download-file "$MAIN/dists/trixie/InRelease" "$dir/InRelease" \
    > "$dir/archive.log" 2>&1 ||
    skip_all "no Debian 13 at $MAIN (no network?): $(grep -m 1 '^E:' "$dir/archive.log")"

# ---- the steps ------------------------------------------------------------------------------------------------------
# A step runs in the background, so that the traps above act at once.
broken=''           # the step that failed and that all later ones need
step() {            # name seconds function arguments...: runs `function seconds arguments...`
    local name=$1 seconds=$2 log=$dir/$1.log began=$SECONDS rc took
    if [ -n "$broken" ]; then skip "$name" "the step $broken failed"; return; fi
    "$3" "$seconds" "${@:4}" > "$log" 2>&1 &
    wait $!; rc=$?
    took="$((SECONDS - began)) s"
    if [ $rc = 0 ]; then
        echo "ok   $name ($took)"; passed=$((passed + 1))
    elif grep -qE '^0 passed, 0 failed, [1-9]' "$log"; then
        skip "$name" "$(sed -n 's/^skip //p' "$log")"
    else
        [ $rc != 137 ] || took="killed after $seconds s"
        echo "FAIL $name ($took, exit code $rc): the end of build/debian13/$name.log:"
        tail -n 40 "$log" | sed 's/^/        /'
        failed=$((failed + 1))
        return 1
    fi
}

minimal_system() {
    local include=()
    case $MAIN$SECURITY in *https:*) include=(--include=ca-certificates) ;; esac
    if [ -z "$(find "$dir/root.tar" -mtime -30 2>/dev/null)" ]; then
        limited "$1" mmdebstrap --variant=minbase --aptopt="$dir/proxy.conf" "${include[@]}" \
            trixie - "$(cat "$dir/sources.list")" > "$dir/root.tar.new" || return
        mv "$dir/root.tar.new" "$dir/root.tar"
    fi
    mkdir -p "$root"
    in_namespaces "$1" tar -C "$root" --exclude='./dev/*' -xpf "$dir/root.tar"
}

# The files as they are now, not as committed, and the source packages that were fetched for this checkout:
# fetch-deps.sh checks them again.
copy_checkout() {
    if [ -e .git ]; then
        git ls-files -co --exclude-standard -z | while IFS= read -r -d '' f; do
            [ ! -e "$f" ] || printf '%s\0' "$f"
        done
    else
        find . -path ./build -prune -o -type f -print0
    fi > "$dir/files"
    in_namespaces "$1" bash -euo pipefail -c '
        root=$0 dir=$1
        mkdir -p "$root/godwit/build/deps"
        tar --null -T "$dir/files" -cf - | tar -C "$root/godwit" --no-same-owner -xf -
        [ ! -d build/deps/.dl ] || cp -r build/deps/.dl "$root/godwit/build/deps/"
        for f in resolv.conf hosts; do
            [ ! -e /etc/$f ] || cat /etc/$f > "$root/etc/$f"
        done
        cp "$dir/sources.list" "$root/etc/apt/sources.list"
        { cat "$dir/proxy.conf"; echo "APT::Sandbox::User \"root\";"; } > "$root/etc/apt/apt.conf.d/99godwit"
    ' "$root" "$dir"
}

step system 900 minimal_system || broken=system
step copy 300 copy_checkout || broken=copy
step setup 1800 in_root 'tools/setup.sh && NO_INSTALL=1 tools/setup.sh && apt-get -q autoclean' || broken=setup
step fetch 900 in_root 'git init -q && git add -A && make deps' || broken=fetch
step build 2400 in_root 'make -k all guest tools unit-build fuzz-build' || broken=build
step unit 1800 in_root 'make unit'
step fuzz 900 in_root 'make fuzz FUZZ_SECONDS=1'
step lint 600 in_root 'make lint'
step boot 300 in_root "tests/system/run.py -k '^boot\.1_cpu\$'"
step move 900 in_root "tests/system/run.py -k '^migrate\.there_and_back\$'"
[ -n "$quick" ] ||
    step move-intel 1800 in_root "tests/system/run.py -k '^intel\.linux_with_two_vcpus_moves_there_and_back\$'"
trap - EXIT
finish
