#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tools/setup.sh - install the Debian packages that building, testing and the demo need and this machine lacks.
#
# Lists the packages and their purpose first.  Uses sudo when not root.  NO_INSTALL=1: only list, exit 2 when one is
# missing.  If none is missing it does nothing and needs no network.
set -euo pipefail

# package: why
PACKAGES='
gcc: the compiler
make: the build
binutils: linker and objcopy, which makes the EFI program
gnu-efi: EFI headers and start-up code, linked into godwit.efi
dpkg-dev: dpkg-source, unpacks the third-party sources
xz-utils: unpacks them
bzip2: unpacks them
patch: applies Debian patches to them
python3: image, test and bench tools
libcmocka-dev: unit tests
libcurl4-openssl-dev: godwitctl, requests to hosts
libjansson-dev: godwitctl, JSON
libssl-dev: godwitctl, keys and fingerprints
curl: tests of the management interface
clang: fuzz targets
libclang-rt-dev: fuzz targets (libFuzzer), of the version that clang has
clang-format-19: the one formatter, checked by make lint
git: make lint asks it which files are ours
perl: make lint strips comments with it
qemu-system-x86: emulated AMD hosts for tests, demo and bench
bochs: emulated Intel hosts for tests and demo (QEMU emulates no VT-x)
bochs-term: the plug-in package that pulls a terminal display in instead of X
vgabios: video BIOS for them
ovmf: UEFI firmware for both
mtools: disk images without root
dosfstools: disk images (mkfs.fat)
acpica-tools: iasl, checks the guests'"'"' ACPI tables in a unit test
openssl: keys and certificates of hosts
libc6-dev: C library for tests and (static) for the guests'"'"' programs
zstd: packing test data
gdb: make gdb
nbdkit: server of guests'"'"' disks in system tests
qemu-utils: qemu-nbd, another one
mmdebstrap: the Debian guest of the demo
uidmap: lets mmdebstrap work without root
fakeroot: files that belong to root on that guest'"'"'s disk
e2fsprogs: mke2fs, that disk
lvm2: says what it thinks of the stores that hosts make
iproute2: bridge and tap devices between emulated hosts and a client outside
iputils-ping: that client
openssh-client: that client
spin: checks the model of the handoff protocol
python3-jsonschema: validates the OpenAPI document and the answers of hosts
'

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "setup: this is not a Debian system.  Install by other means what tools/setup.sh lists," \
        "then: touch build/deps/ready.mk" >&2
    exit 2
fi
missing=()
while IFS=: read -r package why; do
    [ -n "$package" ] || continue
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
        [ ${#missing[@]} -gt 0 ] || echo "setup: missing Debian packages:"
        printf '  %-20s %s\n' "$package" "${why# }"
        missing+=("$package")
    fi
done <<< "$PACKAGES"
[ ${#missing[@]} -gt 0 ] || exit 0

install=(apt-get install -y -q --no-install-recommends "${missing[@]}")
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
if [ "${NO_INSTALL:-0}" != 0 ]; then
    echo "setup: NO_INSTALL is set.  To install: ${as_root[*]} ${install[*]}"
    exit 2
fi
if [ ${#as_root[@]} -gt 0 ] && ! command -v sudo >/dev/null; then
    echo "setup: not root and no sudo.  As root, run: ${install[*]}" >&2
    exit 2
fi
echo "setup: installing them${as_root:+ with sudo}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -q ||
    echo "setup: apt-get update failed for some archive; trying to install anyway" >&2
"${as_root[@]}" "${install[@]}" </dev/null ||
    { echo "setup: can't install: ${missing[*]} (see above; network or apt configuration?)" >&2; exit 1; }
