#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tests/lint/run.py - runs the linter on the tree, then proves that it can fail: breaks each rule once, in a copy.

usage: run.py [--obj DIR] [-k PATTERN] [--list]
  --obj DIR   the objects of the tree (default: build/obj)
  -k PATTERN  only the cases whose name matches; the tree itself is not checked then

A case changes some files of the copy and runs the checks that it names.  The linter must fail with the case's message,
which it does not print for the untouched copy.  A case without a message is no violation: the linter must find nothing
new.  The linter's run on the tree counts as one check, each case as another."""
import argparse
import contextlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LINT = os.path.join(ROOT, "tools", "lint.py")
COPY = os.path.join(ROOT, "build", "lint", "tree")
RESULT = os.path.join(ROOT, "build", "results", "lint.txt")
SPDX = "/* SPDX-License-Identifier: BSD-2-Clause */\n"
EVENT, FMT, WIRE = "kernel/core/event.c", "kernel/lib/fmt.c", "migrate/wire.c"


def include(header):
    return "\n#include " + (header if header[0] in "<\"" else f'"{header}"') + "\n"


# A change of a file is a text to append, or (regular expression, replacement) for its first match, or {"new": text} for
# a new file, or {"link": target}.  A case: name, checks, {file: change}, the message as a regular expression or "" for
# none.
CASES = [
    # places
    ("file-of-other-suffix", "places", {"kernel/core/stray.inc": {"new": SPDX}},
     r"kernel/core/stray\.inc:1: is neither C nor assembly"),
    ("page-in-folder", "places,rooms", {"kernel/README.md": {"new": "# kernel\n"}}, ""),
    ("link-to-file", "places", {"kernel/run/stray.c": {"link": "../core/event.c"}},
     r"kernel/run/stray\.c:1: is a symbolic link"),
    ("link-to-folder", "places", {"kernel/core/stray": {"link": "../run"}},
     r"kernel/core/stray:1: is a symbolic link"),
    ("source-in-root-of-tree", "places", {"stray.c": {"new": SPDX}}, r"stray\.c:1: is a source outside the known"),
    ("source-in-new-folder", "places", {"lib/stray.h": {"new": SPDX}},
     r"lib/stray\.h:1: is a source outside the known"),
    # wipes
    ("wipe-that-is-dropped", "wipes",
     {FMT: "\n#define wipe(p, n) ((void)(p), (void)(n))\n"
      "void fresh(char *p);\nvoid fresh(char *p) { wipe(p, 4); }\n"},
     r"fmt\.c:1: calls wipe\(\) 2 times, its object 0 times"),
    ("wipe-without-volatile", "wipes", {"kernel/lib/wipe.c": (r"(?s)void wipe.*", "void wipe(void *p, size_t len)\n"
     "{\n    (void)p;\n    (void)len;\n}\n")},
     r"wipe\.c:1: its object has no store"),
    ("memset-of-a-secret", "wipes",
     {"net/tls.c": "\nvoid fresh(void);\nvoid fresh(void) { memset(&own, 0, sizeof(own)); }\n"},
     r"net/tls\.c:\d+: erases by memset"),
    # rooms
    ("include-of-upper-room", "rooms", {EVENT: include("kernel/run/sched.h")},
     r"event\.c:\d+: core may not include kernel/run/sched\.h of run"),
    ("include-of-upper-room-by-header", "rooms", {"kernel/lib/err.h": include("kernel/host/page.h")},
     r"err\.h:\d+: lib may not include kernel/host/page\.h of host"),
    ("include-of-upper-room-by-assembly", "rooms", {"kernel/host/x86/entry.S": include("kernel/core/vm.h")},
     r"entry\.S:\d+: host may not include kernel/core/vm\.h"),
    ("include-in-angle-brackets", "rooms", {EVENT: include("<kernel/run/sched.h>")},
     r"core may not include kernel/run/sched\.h"),
    ("include-after-comment-marks", "rooms",
     {EVENT: '\nstatic const char a[] = "/*";\n#/* */include "kernel/run/sched.h"\nstatic const char b[] = "*/";\n'},
     r"core may not include kernel/run/sched\.h"),
    ("include-in-comments", "rooms,circles",
     {EVENT: '\n/*\n#include "kernel/run/sched.h"\n*/\n// #include "kernel/run/sched.h"\n'},
     ""),
    ("include-of-lower-room", "rooms,circles", {"kernel/run/insn.c": include("kernel/core/event.h")}, ""),
    ("include-by-relative-path", "rooms", {EVENT: include("../run/sched.h")},
     r"event\.c:\d+: includes \"\.\./run/sched\.h\": write its path"),
    ("include-by-detour", "rooms", {EVENT: include("kernel/lib/../run/sched.h")},
     r"event\.c:\d+: includes \"kernel/lib/\.\./run/sched\.h\""),
    ("include-by-other-directive", "rooms", {EVENT: '\n#include_next "kernel/run/sched.h"\n'},
     r"event\.c:\d+: core may not include kernel/run/sched\.h"),
    ("include-by-macro", "rooms", {EVENT: "\n#include SOMETHING\n"}, r"event\.c:\d+: includes by a macro"),
    ("include-of-no-header", "rooms", {EVENT: include("kernel/core/dirty.c")},
     r"event\.c:\d+: includes kernel/core/dirty\.c, which is no header"),
    ("include-continued", "rooms", {EVENT: '\n#\\\ninclude \\\n"kernel/run/\\\nsched.h"\n'},
     r"event\.c:\d+: core may not include kernel/run/sched\.h"),
    ("include-by-digraph", "rooms", {EVENT: '\n%: include "kernel/run/sched.h"\n'},
     r"event\.c:\d+: core may not include kernel/run/sched\.h"),
    ("include-of-net-below-vm", "rooms", {"kernel/run/exit.c": include("net/stream.h")},
     r"exit\.c:\d+: run may not include net/stream\.h"),
    ("include-of-migrate-below-peers", "rooms", {"kernel/vm/e820.c": include("migrate/wire.h")},
     r"e820\.c:\d+: vm may not include migrate/wire\.h"),
    ("include-of-main", "rooms", {"kernel/manage/api.c": include("kernel/service.h")},
     r"api\.c:\d+: manage may not include kernel/service\.h of root"),
    ("include-of-host-by-migrate", "rooms", {WIRE: include("kernel/host/page.h")},
     r"wire\.c:\d+: migrate may not include kernel/host/page\.h"),
    ("include-of-vendor-by-core", "rooms", {EVENT: include("svm/vmcb.h")}, r"core may not include svm/vmcb\.h"),
    ("include-of-devices-by-vendor", "rooms", {"vmx/vmx_cr.c": include("kernel/dev/lapic.h")},
     r"vmx_cr\.c:\d+: vmx may not include kernel/dev/lapic\.h"),
    ("include-of-one-header-only", "rooms", {"net/nic.c": include("kernel/core/vm.h")},
     r"nic\.c:\d+: net may not include kernel/core/vm\.h"),
    ("include-of-log-by-boot", "rooms", {"boot/seed.c": include("kernel/lib/log.h")},
     r"seed\.c:\d+: boot may not include kernel/lib/log\.h"),
    ("include-of-internal-net-header", "rooms", {"kernel/vm/vm_disk.c": include("net/tls.h")},
     r"vm_disk\.c:\d+: includes net/tls\.h, which is internal"),
    ("include-of-internal-by-public-header", "rooms", {"net/stream.h": include("net/tls.h")},
     r"stream\.h:\d+: net/stream\.h is public, but includes net/tls\.h, which is internal"),
    ("include-of-library-by-public-header", "rooms", {"net/stream.h": include("<bearssl.h>")},
     r"stream\.h:\d+: net/stream\.h is public, but includes <bearssl\.h>"),
    ("include-of-core-by-tools", "rooms", {"tools/mig-dump.c": include("kernel/core/vm.h")},
     r"mig-dump\.c:\d+: tools may not include kernel/core/vm\.h"),
    ("include-of-library", "rooms", {"kernel/manage/api.c": include("<bearssl.h>")},
     r"api\.c:\d+: includes <bearssl\.h>: only net/ may"),
    ("include-of-unknown-library", "rooms", {EVENT: include("<zstd.h>")},
     r"event\.c:\d+: includes <zstd\.h>, which this tree does not know"),
    ("file-in-root", "rooms", {"kernel/stray.c": {"new": SPDX}}, r"kernel/stray\.c:1: is in no room"),
    ("file-in-unknown-folder", "rooms", {"kernel/misc/stray.h": {"new": SPDX}},
     r"kernel/misc/stray\.h:1: is in no room"),
    ("file-in-folder-of-room", "rooms", {"kernel/core/deep/stray.c": {"new": SPDX}},
     r"kernel/core/deep/stray\.c:1: is in no room"),
    ("circle-of-includes", "rooms,circles", {FMT: include("kernel/config/config.h")},
     r"circle of rooms: lib -> config -> lib \(kernel/lib/fmt\.c:\d+ includes kernel/config/config\.h; "),
    ("circle-of-includes-in-header", "rooms,circles", {"kernel/config/config.h": include("net/stream.h")},
     r"circle of rooms: config -> net -> config \("),
    # calls
    ("call-of-upper-room", "calls",
     {FMT: "\nunsigned long clock_us(void), upward(void);\nunsigned long upward(void) { return clock_us(); }\n"},
     r"fmt\.c:\d+: lib may not call clock_us of host, defined in kernel/host/clock\.c"),
    ("variable-of-upper-room", "calls",
     {WIRE: "\nextern unsigned pcpu_count;\nunsigned upward(void);\nunsigned upward(void) { return pcpu_count; }\n"},
     r"wire\.c:\d+: migrate may not call pcpu_count of host, defined in kernel/host/pcpu\.c"),
    ("circle-of-calls", "rooms,calls,circles",
     {FMT: "\nvoid *config_parse(void), *upward(void);\nvoid *upward(void) { return config_parse(); }\n"},
     r"circle of rooms: lib -> config -> lib \(kernel/lib/fmt\.c:\d+ uses config_parse of kernel/config/config\.c; "),
    ("call-of-log", "calls",
     {WIRE: '\n#include "kernel/lib/log.h"\nvoid up(int n);\nvoid up(int n) { ASSERT(n); log_info("x", "y"); }\n'},
     ""),
    ("symbol-of-two-rooms", "calls",
     {FMT: "\nunsigned long clock_us(void);\nunsigned long clock_us(void) { return 0; }\n"},
     r"fmt\.c:\d+: clock_us is defined in kernel/host/clock\.c and kernel/lib/fmt\.c"),
    ("file-without-object", "calls", {"kernel/core/fresh.c": {"new": SPDX}}, r"kernel/core/fresh\.c:1: has no object"),
    # headers and format
    ("header-not-alone", "headers", {"kernel/core/lone.h": {"new": SPDX + "uint64_t lone(void);\n"}},
     r"kernel/core/lone\.h:2: does not compile alone"),
    ("header-not-alone-boot", "headers", {"boot/lone.h": {"new": SPDX + "EFI_STATUS lone(void);\n"}},
     r"boot/lone\.h:2: does not compile alone"),
    ("header-not-alone-tests", "headers", {"tests/fakes/lone.h": {"new": SPDX + "FILE *lone(void);\n"}},
     r"tests/fakes/lone\.h:2: does not compile alone"),
    ("header-needs-firmware", "headers", {"kernel/core/lone.h": {"new": SPDX + "#include <efi.h>\n"}},
     r"kernel/core/lone\.h:2: does not compile alone"),
    ("header-alone", "headers", {"kernel/core/lone.h": {"new": SPDX + "#include <stdint.h>\nuint64_t lone(void);\n"}},
     ""),
    ("not-formatted", "format", {"kernel/core/ugly.c": {"new": SPDX + "int  x ;\n"}},
     r"kernel/core/ugly\.c:2: is not as clang-format-19 formats it"),
    ("no-formatter", "format", {}, r"clang-format-19 is not installed: run tools/setup\.sh"),
    # sizes and texts
    ("long-function", "size", {EVENT: "\nvoid endless(void)\n{\n" + "    ;\n" * 59 + "}\n"},
     r"event\.c:\d+: endless has 61 lines, the limit is 60"),
    ("function-of-60-lines", "size", {EVENT: "\nvoid endless(void)\n{\n" + "    ;\n" * 58 + "}\n"}, ""),
    ("long-line", "size", {EVENT: "\n/* " + "x" * 118 + "\n*/\n"}, r"event\.c:\d+: has 121 columns"),
    ("long-line-script", "size", {"tests/lint/run.py": "\n#" + "x" * 320 + "\n"},
     r"tests/lint/run\.py:\d+: has 321 columns"),
    ("long-line-page", "size", {"README.md": "\n" + "word " * 99 + "\n"}, r"README\.md:\d+: has 495 columns"),
    ("long-line-of-table", "size",
     {EVENT: "\n/* clang-format off */\n/* " + "x" * 118 + "\n*/\n/* clang-format on */\n",
      "tools/mkhost": "\n# fmt: off\n#" + "x" * 120 + "\n# fmt: on\n",
      "README.md": "\n| " + "word " * 25 + "|\n```\n" + "word " * 25 + "\n```\n"}, ""),
    ("long-file", "size", {"kernel/core/long.c": {"new": SPDX + "\n" * 999}},
     r"kernel/core/long\.c:1000: has 1000 lines"),
    ("long-script", "size", {"tools/long.py": {"new": "\n" * 1000}}, r"tools/long\.py:1000: has 1000 lines"),
    # names and code
    ("static-of-same-name", "names",
     {EVENT: '\nstatic __attribute__((target("sse2"))) int twin(void) { return 1; }\n',
      FMT: "\nstatic inline int twin(void)\n{\n    return 1;\n}\n"},
     r"event\.c:\d+: twin is a static function in kernel/lib/fmt\.c as well"),
    ("static-declared-twice", "names", {EVENT: "\nstatic int twin(void);\nstatic int twin(void) { return 1; }\n"}, ""),
    ("assembly-in-core", "code", {EVENT: '\nstatic void halt(void) { __asm__ volatile("hlt"); }\n'},
     r"event\.c:\d+: has inline assembly"),
    ("assembly-in-vendor", "code", {"vmx/vmx_cr.c": '\nstatic void halt(void) { asm("hlt"); }\n'},
     r"vmx_cr\.c:\d+: has inline assembly"),
    ("assembly-file-in-net", "code", {"net/stray.S": {"new": SPDX}}, r"net/stray\.S:1: is assembly outside"),
    ("assembly-allowed", "code", {"vmx/vmx_insn.c": '\nasm("nop");\n', "kernel/host/x86/x86.h": '\nasm("nop");\n',
                                  EVENT: '\n/* asm */\nstatic const char s[] = "asm, weak";\n'}, ""),
    ("weak-symbol", "code", {EVENT: "\n__attribute__((noinline, weak)) void up(void) {}\n"},
     r"event\.c:\d+: has weak, so another file may define"),
    ("weak-by-pragma", "code", {EVENT: "\n#pragma weak clock_us\n"}, r"event\.c:\d+: has weak"),
    ("function-without-format", "code",
     {EVENT: "\n/* clang-format off */\nvoid  up(void)\n{\n}\n/* clang-format on */\n"},
     r"event\.c:\d+: is a function's body where clang-format is off"),
    ("condition-without-format", "code", {EVENT: "\nint a; // clang-format off\nvoid up(void) {\n}\n"},
     r"event\.c:\d+: is a function's body where clang-format is off"),
    # texts
    ("vendor-in-core", "text", {EVENT: "\nstatic int amd_only;\n"}, r"event\.c:\d+: names a vendor \(amd\)"),
    ("vendor-in-longer-word", "text", {EVENT: '\nstatic const char s[] = "intelligible amdahl";\n'}, ""),
    ("vendor-in-comment", "text", {EVENT: "\n/* AMD's manual, Intel's as well */\n"}, ""),
    ("no-licence", "text", {EVENT: ("SPDX-License-Identifier: BSD-2-Clause", "")}, r"event\.c:1: no SPDX line"),
    ("no-licence-script", "text", {"tools/mkhost": ("SPDX-License-Identifier: BSD-2-Clause", "")},
     r"tools/mkhost:1: no SPDX line"),
    ("long-long-format", "text", {EVENT: '\nstatic const char f[] = "%#llx";\n'}, r"event\.c:\d+: has %#llx"),
    ("long-long-cast", "text", {EVENT: "\nstatic const unsigned long f = (unsigned long long)1;\n"},
     r"event\.c:\d+: has \(unsigned long long\)"),
    ("no-comments", "comments",
     {"kernel/lib/bare.h": {"new": SPDX + "int bare(void);\n" * 10}, EVENT: include("kernel/lib/bare.h")},
     r"kernel/lib/bare\.h:1: is 0 % comment, a public header has 30 to 50"),
    ("no-comments-in-short-header", "comments",
     {"kernel/lib/bare.h": {"new": SPDX + "int bare(void);\n" * 9}, EVENT: include("kernel/lib/bare.h")}, ""),
    ("only-comments", "comments", {"kernel/lib/bare.h": {"new": SPDX + "/* x */\n" * 9 + "int bare(void);\n"},
                                   EVENT: include("kernel/lib/bare.h")}, r"kernel/lib/bare\.h:1: is 90 % comment"),
    # the scripts that it runs
    ("error-not-documented", "scripts", {"docs/errors.md": (r"\n\| `HV_E_NOMEM` [^\n]*", "")},
     r"docs/errors\.md lacks HV_E_NOMEM"),
    ("tour-of-unknown-function", "scripts", {"docs/tour.md": (r"`dirty_start\(\)`", "`dirty_never()`")},
     r"dirty_never\(\) is not defined in kernel/core/dirty\.c"),
    ("page-of-unknown-function", "scripts", {"docs/emulators.md": "\nSee `dirty_never()`.\n"},
     r"docs/emulators\.md:\d+: there is no function dirty_never\(\)"),
]


spec = importlib.util.spec_from_file_location("linter", LINT)
linter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(linter)
baselines = {}


class Broken(Exception):
    """A case does not fit the tree: mend the table CASES."""


def copy_tree(obj):
    """The sources, and the objects and imported headers as links."""
    shutil.rmtree(COPY, ignore_errors=True)
    for file in linter.Tree(ROOT, obj).files:
        os.makedirs(os.path.dirname(os.path.join(COPY, file)), exist_ok=True)
        shutil.copy2(os.path.join(ROOT, file), os.path.join(COPY, file))
    os.makedirs(os.path.join(COPY, "build"))
    os.symlink(os.path.join(ROOT, "build", "deps"), os.path.join(COPY, "build", "deps"))
    for folder, _, names in os.walk(obj):
        there = os.path.join(COPY, "build", "obj", os.path.relpath(folder, obj))
        os.makedirs(there, exist_ok=True)
        for name in (n for n in names if n.endswith(".o")):
            os.symlink(os.path.join(os.path.abspath(folder), name), os.path.join(there, name))
    if not os.path.exists(os.path.join(COPY, ".clang-format")):
        write(".clang-format", "BasedOnStyle: LLVM\n")


def read(file):
    with open(os.path.join(COPY, file), encoding="utf-8") as f:
        return f.read()


def write(file, text):
    os.makedirs(os.path.dirname(os.path.join(COPY, file)), exist_ok=True)
    with open(os.path.join(COPY, file), "w", encoding="utf-8") as f:
        f.write(text)


def change(file, how):
    if isinstance(how, dict):
        return how["new"]
    if isinstance(how, str):
        return read(file) + how
    text, n = re.subn(*how, read(file), count=1)
    if n != 1:
        raise Broken(f"{file} has no place that fits {how[0]}: mend the table CASES in tests/lint/run.py")
    return text


def lint(checks, files=(), path=None):
    """(exit code, findings) of the linter on the copy, in this process: Python takes long to start."""
    said, usual = io.StringIO(), os.environ["PATH"]
    os.environ["PATH"] = path or usual
    try:
        with contextlib.redirect_stdout(said):
            code = linter.main(["--root", COPY, "--all", "--only", checks, *files])
    finally:
        os.environ["PATH"] = usual
    return code, said.getvalue()


def compile_into_copy(file):
    """The object of a changed source, in place of the link to the tree's."""
    target = os.path.join(COPY, "build", "obj", file + ".o")
    flags = dict(linter.flags_of(linter.Tree(COPY, "")))[""]
    link = os.readlink(target)
    os.unlink(target)
    done = linter.run(COPY, "gcc", *flags.split(), "-c", file, "-o", target)
    if done.returncode:
        os.symlink(link, target)
        raise Broken(f"{file} of this case does not compile: {done.stdout[:500]}")
    return target, link


def baseline(checks):
    """What the linter finds in the untouched copy."""
    if checks not in baselines:
        baselines[checks] = lint(checks)[1]
    return baselines[checks]


def lines_of(output):
    """Findings without their line numbers, which move with a change."""
    lines = [line for line in output.split("\n") if not line.startswith(("lint: ", "errors: ", "tour: "))]
    return {re.sub(r"(\.\w+):\d+", r"\1", line) for line in lines}


def run_case(checks, changes, message):
    """What is wrong, or ""."""
    files = [] if checks.endswith(("circles", "scripts", "comments")) else list(changes)
    path = os.path.join(COPY, "build") if not changes else None         # a folder without programs
    before = baseline(checks) if any(os.path.exists(os.path.join(COPY, file)) for file in changes) else ""
    saved = {file: read(file) if os.path.exists(os.path.join(COPY, file)) else None for file in changes}
    objects = []
    try:
        for file, how in changes.items():
            if isinstance(how, dict) and "link" in how:
                os.symlink(how["link"], os.path.join(COPY, file))
                continue
            write(file, change(file, how))
            if ("calls" in checks or "wipes" in checks) and saved[file] is not None:
                objects.append(compile_into_copy(file))
        code, after = lint(checks, files, path)
    finally:
        for file, text in saved.items():
            if text is None:
                os.unlink(os.path.join(COPY, file))
            else:
                write(file, text)
        for target, link in objects:
            os.unlink(target)
            os.symlink(link, target)
    new = sorted(lines_of(after) - lines_of(before))
    if not message:
        return "" if not new else "is no violation, but the linter finds: " + "\n        ".join(new)
    if code == 0:
        return f"the linter does not fail; it must say: {message}"
    if re.search(message, before):
        return f"the linter says this of the untouched tree as well: {message}"
    return "" if re.search(message, after) else "\n        ".join([f"the linter does not say: {message}, but:", *new])


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
    parser.add_argument("--obj", default=os.path.join(ROOT, "build", "obj"))
    parser.add_argument("-k", default="", metavar="PATTERN")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    chosen = [case for case in CASES if re.search(args.k, case[0])]
    if args.list:
        print("\n".join(f"{name:<36}{checks}" for name, checks, _, _ in chosen))
        return 0
    passed = failed = skipped = 0
    if not args.k:
        clean = subprocess.run([sys.executable, LINT, "--obj", args.obj], check=False).returncode == 0
        passed, failed = (1, 0) if clean else (0, 1)
    began = time.monotonic()
    copy_tree(args.obj)
    for name, checks, changes, message in chosen:
        if checks == "scripts" and not all(os.path.exists(os.path.join(COPY, file)) for file in changes):
            print(f"SKIP {name}: there is no {' '.join(changes)}")
            skipped += 1
            continue
        try:
            why = run_case(checks, changes, message)
        except (Broken, OSError, subprocess.SubprocessError) as error:
            why = str(error)
        passed, failed = passed + (not why), failed + bool(why)
        if why:
            print(f"FAIL {name}: {why}", flush=True)
    shutil.rmtree(COPY)
    os.makedirs(os.path.dirname(RESULT), exist_ok=True)
    with open(RESULT, "w", encoding="utf-8") as f:
        f.write(f"lint {passed} {failed} {skipped}\n")
    print(f"each rule broken once: {len(chosen)} cases ({time.monotonic() - began:.1f} s)")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
