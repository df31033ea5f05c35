# SPDX-License-Identifier: BSD-2-Clause
"""Guests of a few hundred bytes as bzImages, for emulators too slow for Linux: tests/guest/walker.c checks its own
memory, masked.c tries features.  And the checks' helpers for the walker and for the cost of dirty logging."""
import os
import re
import subprocess

from emulator import ROOT, SYSTEM
from host import vm
from tiny_kernel import bzimage

NO_LINUX = {"vmlinuz": None, "initramfs.cpio.gz": None}                 # a host's files without Debian's
TICK = r"^tick (\d+) visits= (\d+) sweeps= (\d+) bad=(\d+) gap=(\d+) khz=(\d+) skew=(\d+)\n"


def build(name):
    """Compile tests/guest/NAME.c; returns the path of the kernel image."""
    folder = os.path.join(SYSTEM, "guest")
    os.makedirs(folder, exist_ok=True)
    binary, image = (os.path.join(folder, f"{name}.{kind}") for kind in ("bin", "bzimage"))
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-fpie", "-static",
                    "-no-pie", "-mgeneral-regs-only",
                    "-mno-red-zone", "-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables",
                    "-fno-builtin",
                    "-Wl,-N,--build-id=none,--oformat=binary,-Ttext=0,-e0", "-o", binary,
                    os.path.join(ROOT, "tests", "guest", f"{name}.c")],
                   check=True)
    with open(binary, "rb") as f, open(image, "wb") as out:
        out.write(bzimage(f.read()))
    return image


def walker():
    return build("walker")


def elf(protocol):
    """tests/guest/elf.c as a kernel for "pvh" or "multiboot"; returns the path."""
    source, out = os.path.join(ROOT, "tests", "guest", "elf"), os.path.join(SYSTEM, "guest", f"elf-{protocol}")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    subprocess.run(["gcc", "-m32", "-O2", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-fno-pie",
                    "-static", "-no-pie", "-mgeneral-regs-only",
                    "-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-fno-builtin",
                    f"-Wl,--build-id=none,--no-warn-rwx-segments,-z,max-page-size=4096,-T,{source}.ld",
                    *(["-DPVH"] if protocol == "pvh" else []), "-o", out, f"{source}.c"], check=True)
    return out


def realmode():
    """tests/guest/realmode.S, a Multiboot file that is no ELF file; returns the path."""
    source, out = os.path.join(ROOT, "tests", "guest", "realmode.S"), os.path.join(SYSTEM, "guest", "realmode")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    subprocess.run(["gcc", "-m32", "-nostdlib", "-static", "-no-pie",
                    "-Wl,--build-id=none,--oformat=binary,-Ttext=0x8000", "-o", out, source], check=True)
    return out


MODULES = {"module": bytes(i * 7 & 255 for i in range(10000)), "module2": bytes(i * 5 & 255 for i in range(4097))}


def elf_files():
    files = {"pvh": elf("pvh"), "multiboot": elf("multiboot"), "realmode": realmode(), "traps": build("traps"),
             **NO_LINUX}
    for name, content in MODULES.items():
        files[name] = os.path.join(SYSTEM, "guest", name)
        with open(files[name], "wb") as f:
            f.write(content)
    return files


ELF_KERNELS = ("pvh", "multiboot")


def elf_vms():
    return {"realmode": vm(memory="16M", kernel="realmode", initrd=None),
            "traps": vm(memory="40M", kernel="traps", initrd=None, autostart=False),
            **{name: {**vm(memory="24M", kernel=name, initrd="module", module=["module2 x=1  y", "module"]),
                      "cmdline": f"one two={name}"}
               for name in ELF_KERNELS}}


def traps_are_delivered(host):
    """Each emulated instruction has its single-step trap.  Of two NMIs that arrive in an NMI's handler one is kept, and
    is delivered right after the handler's IRET."""
    host.command("vm start traps")
    with host.guest("traps") as g:
        said = g.expect(r"^traps .* ;\n", 30)[0]
    assert said == "traps db=2,7,9,14,15,17,18,23,28,28,30,31,38,39 nmi=2 late=0 ;\n", said
    host.command("vm stop traps")


def elf_line(name):
    """What elf_vms()' guest of that name says over and over."""
    modules = " ".join(f"module={len(MODULES[m])} sum={sum(MODULES[m])} [{string}]"
                       for m, string in (("module", ""), ("module2", "x=1  y"), ("module", "")))
    return f"elf {name} ram_kib={639 + 23 * 1024} {modules} cmdline=[one two={name}] acpi=1 bss=0 ;\n"


def elf_reset(host, name):
    """The guest resets itself; returns what it says then."""
    with host.guest(name) as g:
        before = len(re.findall(f"{name}: started", host.log()))
        g.send("r")
        host.wait_log(rf"(?s)({name}: started.*){{{before + 1}}}", 30)
        host.serial.mark()
        g.expect(r"^elf .* ;\n", 30)
        return g.expect(r"^elf .* ;\n", 30)[0]


def elf_kernels_run(host):
    """All kernels say that they were told the truth; the BIOS's calls return."""
    traps_are_delivered(host)
    with host.guest("realmode") as g:
        assert g.expect(r"^real .* ;\n", 30)[0] == "real memory=027f equipment=0202 e820=8641 key=8641 ;\n"
    for name in ELF_KERNELS:
        with host.guest(name) as g:
            said = g.expect(r"^elf .* ;\n", 30)[0]
        assert said == elf_line(name), f"{said!r} is not {elf_line(name)!r}"


CR4 = {"tsd": 2, "umip": 11, "fsgsbase": 16, "pcide": 17, "osxsave": 18, "smep": 20, "smap": 21}


def masked_vm(cpu, cr4):
    """A guest on baseline cpu that tries features and the named bits of CR4."""
    return {**vm(memory="40M", kernel="masked", initrd=None, cpu=cpu),
            "cmdline": str(sum(1 << CR4[bit] for bit in cr4))}


def masked(host, name, timeout=30):
    """What that guest got for each: {"rdtscp": 0, ..., "smep": 13}, the exception's vector or 0."""
    with host.guest(name) as g:
        line = g.expect(r"^masked( \S+=\d+)+ ;\n", timeout)[0]
    names = {f"cr4.{bit}": name for name, bit in CR4.items()}
    return {names.get(k, k): int(v) for k, v in re.findall(r"(\S+)=(\d+)", line)}


def masked_features(own, model, also):
    """A guest on the lowest level: #UD and #GP for what the host has and the guest is not shown, where the processor
    can raise them."""
    cr4 = ("fsgsbase", "osxsave", "smep", "smap", "tsd")
    a = own.in_bochs("a", model=model,
                     vms={"all": masked_vm("host", cr4), "least": masked_vm("x86-64-v1", ("umip", "pcide") + cr4)},
                  files={"masked": build("masked"), **NO_LINUX})
    got = masked(a, "all")
    assert not any(got[k] for k in ("rdtscp", "rdrand", "rdseed", "xgetbv", "rdfsbase") + cr4), got
    got = masked(a, "least")
    want = {"rdtscp": 6, "invpcid": 6, "monitor": 6, "xgetbv": 6, "rdfsbase": 6, "xsaves": 6, "umip": 13,
            "fsgsbase": 13, "pcide": 13,
            "osxsave": 13, "smep": 13, "smap": 13, "tsd": 0, **also}
    assert {k: got[k] for k in want} == want, got


def read_tick(text):
    m = re.search(TICK, text, re.M)
    return {"n": int(m[1]), "visits": int(m[2]), "sweeps": int(m[3]), "bad": int(m[4]), "gap_k": int(m[5]),
            "khz": int(m[6]), "skew": int(m[7])}


def walker_files():
    return {"walker": walker(), **NO_LINUX}


BOCHS_TICKS, QEMU_TICKS = 20000, 200000  # for walker_vm(): some 2000 pages a second, if it gets the CPU


def walker_vm(ticks_per_visit=BOCHS_TICKS, **more):
    """A [vm] section.  ticks_per_visit: of its TSC, which counts 40 million a second in Bochs, and as this machine's
    does in QEMU."""
    return {**vm(memory="40M", kernel="walker", initrd=None, **more), "cmdline": str(ticks_per_visit)}


def ticks(host, name="guest", n=2, timeout=30):
    """The last of n new tick lines of the walker; AssertionError if it found wrong words."""
    with host.guest(name) as g:
        for _ in range(n):
            tick = read_tick(g.expect(TICK, timeout)[0])
    assert tick["bad"] == 0, f"{tick['bad']} words of the guest's memory are wrong: {tick}"
    assert tick["skew"] == 0, f"the processor's RDTSC and the hypervisor's idea of the guest's TSC differ: {tick}"
    return tick


LEAST_PAGES = 50  # move() expects so many changed pages to be found
# "dirty-log" -> what the host's log says
BY = {"pml": "the processor's log (PML)", "ad": "D bits", "wp": "write protection"}


def move(src, dst, by=None, name="guest"):
    """Move the walker and have it check all of its memory twice at the new place.  by: how src must find changed pages,
    a key of BY."""
    before = ticks(src, name)
    report = src.migrate(name, dst.name)
    assert not src.has_vm(name) and dst.has_vm(name)
    after = ticks(dst, name)
    while after["sweeps"] < before["sweeps"] + 2:
        after = ticks(dst, name)
    costs = log_costs(src, name)
    assert costs["pages"] >= LEAST_PAGES, (
        f"only {costs['pages']} changed pages found, of a guest that writes all the time:\n{report.text}")
    assert by is None or costs["by"] == BY[by], f"not by {BY[by]}:\n{src.log()[-800:]}"
    return report


def log_costs(host, name="guest"):
    """What finding changed pages has cost host in name's last move, by its own log: {"by": how, "pages": n, ...}."""
    lines = re.findall(rf"{name}: changed pages are found by (.*)\n(?:.*\n)*?.*{name}: (\d+) changed pages found in "
                       r"(\d+) harvests, "
                       r"which took (\d+) us; (\d+) exits, (\d+) us in faults", host.log())
    assert lines, f"no figures of the dirty log:\n{host.log()[-800:]}"
    by, *numbers = lines[-1]
    return {"by": by, **dict(zip(("pages", "harvests", "harvest_us", "exits", "fault_us"), map(int, numbers)))}


def refused(src, dst_name, name, words):
    """The walker cannot move: refused before any page was sent, for reasons that have all of the words, and it runs
    on."""
    report = src.migrate(name, dst_name, must=False)
    assert not report.ok and report.number("wire_bytes") < 200000, f"not refused at validation:\n{report.text}"
    for word in words:
        assert word in report.text, f"the refusal does not name {word}:\n{report.text}"
    ticks(src, name)
