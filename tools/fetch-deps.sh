#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tools/fetch-deps.sh - fetch, verify and unpack what tools/deps.lock names into a build folder.
#
# Uses a private apt (own sources.list, lists and cache inside DEST) that knows the machine's Debian mirrors and proxy
# but changes nothing outside DEST, so a plain user can run it.  apt checks signatures down to each file; the lock's
# checksum pins source packages for good.  Complete ones are not fetched again; with nothing to fetch, the network is
# not used.
#
# usage: tools/fetch-deps.sh DEST [LOCKFILE]
# environment: DEPS_MIRROR, DEPS_SECURITY_MIRROR  Debian archives to use instead of the machine's own
set -euo pipefail
HERE=$(dirname "$(realpath "$0")")
DEST=$(realpath -m "${1:?usage: fetch-deps.sh DEST [LOCKFILE]}")
LOCK=$(realpath "${2:-$HERE/deps.lock}")
DL=$DEST/.dl
. "$HERE/mirrors.sh"

say() { echo "fetch-deps: $*" >&2; }
die() { say "$*"; exit 1; }
entries() { grep -Ev '^[[:space:]]*(#|$)' "$LOCK"; }

for tool in apt-get dpkg-source dpkg-deb sha256sum xz bzip2 patch; do
    command -v $tool >/dev/null ||
        die "$tool is missing: run tools/setup.sh (or apt-get install dpkg-dev xz-utils bzip2 patch)"
done
mkdir -p "$DL"

# ---- the private apt, one per suite so that the suites do not mix ----------------------------------------------------
use_suite() {       # suite: sets SUITE, APT and apt_options
    SUITE=$1; APT=$DEST/.apt/$1
    mkdir -p "$APT"/{lists/partial,cache/archives/partial,etc}
    apt_options=(-o Dir::Etc::sourcelist="$APT/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Dir::State="$APT" -o Dir::State::lists="$APT/lists" -o Dir::State::status=/dev/null
        -o Dir::Cache="$APT/cache" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User= -o Acquire::Retries=3
        -o Acquire::Languages=none -o APT::Update::Error-Mode=any -o Debug::NoLocking=1
        -o APT::Update::Post-Invoke= -o APT::Update::Post-Invoke-Success=)
}

updated=' '
apt_update() {      # once per suite and run, and only when something is missing
    case $updated in *" $SUITE "*) return 0 ;; esac
    find_mirrors
    [ -n "$MAIN" ] ||
        die "this machine's apt knows no Debian archive: set DEPS_MIRROR=http://deb.debian.org/debian or your mirror"
    sources_list "$SUITE" deb deb-src > "$APT/etc/sources.list"
    apt-get "${apt_options[@]}" -qq update ||
        die "can't read the Debian archive at $MAIN: check the network and proxy, or set DEPS_MIRROR"
    updated+="$SUITE "
}

# ---- source packages: pinned -----------------------------------------------------------------------------------------
pinned() { [ -f "$1" ] && [ "$2" != - ] && echo "$2  $1" | sha256sum -c --status 2>/dev/null; }

fetch_dsc() {       # package version sha -> .dsc and its tarballs in $DL
    local pkg=$1 ver=$2 sha=$3 dsc=$DL/$1_${2#*:}.dsc
    pinned "$dsc" "$sha" && return 0
    apt_update
    (cd "$DL" && apt-get "${apt_options[@]}" -qq --download-only --only-source source "$pkg=$ver") || {
        say "can't download $pkg $ver.  If $SUITE (below) has another version, this one left the archive;" \
            "if it has the same, the mirror is incomplete."
        apt-cache "${apt_options[@]}" showsrc --only-source "$pkg" |
            sed -n 's/^Version:/   '"$SUITE has"'/p' >&2 || true
        die "move the pin in $LOCK: write the new version and '-' as checksum, run this again, review," \
            "enter the printed checksum"
    }
    if [ "$sha" = - ]; then
        say "not pinned: $pkg $ver has sha256 $(sha256sum < "$dsc" | cut -d' ' -f1); enter it in $LOCK"
    else
        pinned "$dsc" "$sha" ||
            die "$dsc is not the file pinned in $LOCK: the archive or the lock was changed; compare both"
    fi
}

get_source() {      # name package version sha
    local name=$1 pkg=$2 ver=$3 sha=$4 out
    local upstream=${ver#*:}; upstream=${upstream%-*}
    out=$DEST/$name-$upstream
    if [ "$(cat "$out/.complete" 2>/dev/null)" != "$ver $sha" ]; then
        fetch_dsc "$pkg" "$ver" "$sha"
        rm -rf "$out" "$out.tmp"
        dpkg-source --no-copy -q --require-strong-checksums -x "$DL/${pkg}_${ver#*:}.dsc" "$out.tmp" \
            2>"$APT/dpkg-source.log" ||
            { cat "$APT/dpkg-source.log" >&2; die "can't unpack $pkg $ver (disk full? else delete $DL and run again)"; }
        echo "$ver $sha" > "$out.tmp/.complete"
        mv "$out.tmp" "$out"
    fi
    ln -sfn "$name-$upstream" "$DEST/$name"
    echo "$name $ver"
}

# ---- binary packages: unpacked here, never installed -----------------------------------------------------------------
PICK=5              # raise when a pick_ function below takes other files, so that packages are unpacked again
resolve() {         # package or meta:package -> real package
    case $1 in meta:*) ;; *) echo "$1"; return ;; esac
    apt-cache "${apt_options[@]}" depends --important "${1#meta:}" | awk '/Depends:/ {print $2; exit}'
}

get_binary() {      # name package version|* sha|-
    local name=$1 pkg=$2 ver=$3 sha=$4 out=$DEST/$1 real deb
    if [ "$(cat "$out/.complete" 2>/dev/null)" != "$ver $sha $PICK" ]; then
        apt_update
        real=$(resolve "$pkg"); [ -n "$real" ] || die "the archive has no $pkg in $SUITE"
        [ "$ver" = '*' ] || real=$real=$ver
        rm -rf "$out" "$out.tmp"; mkdir -p "$out.tmp/pkg"
        (cd "$out.tmp" && apt-get "${apt_options[@]}" -qq download "$real") ||
            die "can't download $real from $SUITE; if it left the archive, move the pin in $LOCK"
        deb=$(echo "$out.tmp"/*.deb)
        [ "$sha" = - ] || pinned "$deb" "$sha" ||
            die "$real is not the file pinned in $LOCK: the archive or the lock was changed"
        dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$out.tmp/pkg" || die "can't unpack $deb (disk full?)"
        dpkg-deb -f "$deb" Package Version > "$out.tmp/VERSION"
        pick_"$name" "$out.tmp"
        rm -rf "$out.tmp/pkg" "$deb"
        echo "$ver $sha $PICK" > "$out.tmp/.complete"; mv "$out.tmp" "$out"
    fi
    echo "$name $(awk '{print $2}' "$out/VERSION" | paste -sd' ')"
}
pick_linux() {      # the guest kernel: tests rely on 6.1 (newer ones crash under the emulator by themselves)
    grep -q '^Version: 6\.1\.' "$1/VERSION" || die "the archive's guest kernel is not 6.1: $(paste -sd' ' "$1/VERSION")"
    cp "$1"/pkg/boot/vmlinuz-* "$1/vmlinuz"
    cp "$1"/pkg/lib/modules/*/kernel/arch/x86/kernel/msr.ko "$1/msr.ko" ||
        die "the guest kernel has no msr.ko any more (tests/guest/probe needs it)"
    find "$1"/pkg/lib/modules \( -name button.ko -o -name evdev.ko \) -exec cp {} "$1/" \;    # `vm shutdown`
    local m n=10                                    # in the order in which they are loaded
    mkdir "$1/virtio"
    for m in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio-rng \
             virtio_balloon virtio_blk failover net_failover virtio_net virtio_console; do
        find "$1"/pkg/lib/modules -name $m.ko -exec cp {} "$1/virtio/$n-$m.ko" \; ; n=$((n + 1))
    done
    mkdir "$1/dm"                                   # device-mapper: tests/system/lvm2.py
    n=40
    for m in dm-mod dm-bufio dm-snapshot; do
        find "$1"/pkg/lib/modules -name $m.ko -exec cp {} "$1/dm/$n-$m.ko" \; ; n=$((n + 1))
    done
}
pick_xen() { gunzip -c "$1"/pkg/boot/xen-*.gz > "$1/xen"; }
pick_linux-generic() { pick_linux "$1"; }
pick_zycore() { cp -r "$1/pkg/usr/include" "$1/include"; cp "$1"/pkg/usr/share/doc/*/copyright "$1/"; }
pick_jsmn() { cp "$1/pkg/usr/include/jsmn.h" "$1"/pkg/usr/share/doc/*/copyright "$1/"; }
pick_llhttp() {
    cp "$1"/pkg/usr/share/llhttp/*.c "$1"/pkg/usr/share/include/llhttp/llhttp.h "$1"/pkg/usr/share/doc/*/copyright "$1/"
}
pick_promtool() { cp "$1/pkg/usr/bin/promtool" "$1/"; }
pick_openapi() {    # the public schema of OpenAPI 3.1 documents (schema.openapis.org), as that package has it
    find "$1/pkg" -path '*/v3.1/schema.json' -exec cp {} "$1/" \;
    cp "$1"/pkg/usr/share/doc/*/copyright "$1/"
}
pick_busybox() { cp "$1/pkg/bin/busybox" "$1/busybox"; }

while read -r kind name pkg ver sha suite; do
    use_suite "$suite"
    case $kind in
    source) get_source "$name" "$pkg" "$ver" "$sha" ;;
    binary) get_binary "$name" "$pkg" "$ver" "$sha" ;;
    *) die "$LOCK: '$kind' is neither source nor binary" ;;
    esac
done < <(entries)
