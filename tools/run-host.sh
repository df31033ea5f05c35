#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# tools/run-host.sh [--gdb] - one Godwit host in QEMU, its serial port (console and guest) on this terminal.  Leave with
# Ctrl-A x.
#
# VENDOR=intel: in Bochs, which emulates VT-x (tools/run-bochs.py); no network, a guest of 128 MiB, and patience.
# BUILD=folder of godwit.efi · CONF=file: another configuration · CPUS=n, MEMORY=megabytes of the host · KERNEL=,
# INITRD= guest files · QEMU_ARGS= more arguments
# --gdb: Godwit waits after loading; gdb starts here with its symbols loaded at the right address, the console is in
# build/run/console.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
dir=$build/run; mkdir -p $dir
kernel=${KERNEL:-build/deps/linux/vmlinuz}
initrd=${INITRD:-$(ls build/guest/initrd.gz build/guest/*.cpio.gz 2>/dev/null | head -1 || true)}
conf=${CONF:-}
cpus=${CPUS:-2}
memory=256M; [ "${VENDOR:-amd}" != intel ] || memory=128M
if [ -z "$conf" ]; then
    conf=$dir/godwit.conf
    {
        printf '[host]\nname = alpha\nip = dhcp\n'
        # Several threads emulate QEMU's CPUs, and the first one must run no guests: docs/emulators.md
        [ "${VENDOR:-amd}" = intel ] || [ "$cpus" = 1 ] || printf 'guest-cpus = 1-%d\n' $((cpus - 1))
        printf '\n[vm demo]\nmemory = %s\nkernel = vmlinuz\n' $memory
        [ -z "$initrd" ] || printf 'initrd = initrd.gz\n'
        printf 'cmdline = console=ttyS0 panic=-1\nautostart = yes\n'
    } > $conf
fi
files=(--file "$kernel=vmlinuz")
[ -z "$initrd" ] || files+=(--file "$initrd=initrd.gz")
gdb=0; [ "${1:-}" = --gdb ] && gdb=1
if [ $gdb = 1 ]; then : > $dir/empty; files+=(--file "$dir/empty=gdb"); fi
tools/mkhost --efi $build/godwit.efi --name alpha --conf "$conf" "${files[@]}" --out $dir/alpha.img
if [ "${VENDOR:-amd}" = intel ]; then
    [ $gdb = 0 ] || { echo "make gdb is for QEMU only: Bochs has its own debugger, see docs/hacking.md" >&2; exit 2; }
    exec tools/run-bochs.py $dir/alpha.img $dir
fi
cp /usr/share/OVMF/OVMF_VARS_4M.fd $dir/vars.fd

qemu=(qemu-system-x86_64 -accel tcg,thread=multi,tb-size=512 -machine q35 -cpu EPYC -smp "$cpus" -m "${MEMORY:-1536}"
    -nodefaults -no-reboot -display none -debugcon file:$dir/debug.log
    -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
    -drive if=pflash,format=raw,file=$dir/vars.fd
    -drive format=raw,file=$dir/alpha.img -netdev user,id=n0 -device virtio-net-pci,netdev=n0 ${QEMU_ARGS:-})
rm -f $dir/debug.log
if [ $gdb = 0 ]; then
    echo "Godwit's console is below; 'help' lists commands; Ctrl-A x leaves.  Log: $dir/debug.log"
    exec "${qemu[@]}" -serial mon:stdio 2> >(grep -v "TCG doesn't support" >&2)
fi

"${qemu[@]}" -serial file:$dir/console -gdb tcp:127.0.0.1:${GDB_PORT:-1234} 2>$dir/qemu.err & pid=$!
trap 'kill $pid 2>/dev/null || true' EXIT
for _ in $(seq 100); do grep -q 'waiting for a debugger' $dir/debug.log 2>/dev/null && break; sleep 0.3; done
base=$(sed -n 's/.*image at \(0x[0-9a-f]*\).*/\1/p' $dir/debug.log | tail -1)
[ -n "$base" ] || { echo "Godwit did not start within 30 s; see $dir/debug.log and $dir/qemu.err" >&2; exit 1; }
cat > $dir/gdbinit <<END
# Symbols of the image where the firmware loaded it; then let Godwit go on and stop at the kernel's entry.
set pagination off
set confirm off
set architecture i386:x86-64
symbol-file $build/godwit.elf -o $base
target remote 127.0.0.1:${GDB_PORT:-1234}
set var boot_debugger_ready = 1
hbreak kernel_entry
continue
END
gdb -q -x $dir/gdbinit ${GDB_ARGS:-}
