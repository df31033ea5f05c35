#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tests/system/mutants.py - proves that the tests can fail: builds Godwit with one mistake at a time and sees that a test catches it.

usage: mutants.py [-k PATTERN] [--list]

A mutant is one replacement in one source file, made in a copy of the tree under build/mutants/.  The mistakes are those that a hypervisor with
migration must fear: a write that is not in the dirty log, a page that is not sent, a state that is not carried over.  A replacement that no
longer fits its file is a failure too: then mend the list below.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build")
TREE = ("Makefile", "linker.ld", "boot", "kernel", "svm", "vmx", "net", "migrate", "tests", "tools", "docs")
UNIT, SYSTEM_MOVE = ["make", "unit"], ["tests/system/run.py", "-k", "migrate.a_to_b_under_load"]

# name, what is lost, file, regular expression (must match once), replacement, command that must fail
MUTANTS = [
    ("lost-dirty-page", "one page in 512 is never in the dirty log", "kernel/dirty.c",
     r"out\[w\] \|= bits\[w\];", "out[w] |= bits[w] & ~(w == 2 ? BIT64(7) : 0);", SYSTEM_MOVE),
    ("unmarked-guest-write", "what the host writes to guest memory is not in the dirty log", "kernel/guest_mem.c",
     r"dirty_mark\(vm, gpa_gfn\(a\)\); +/\* after the copy.*?\*/", "", UNIT),
    ("unsent-page", "one page in 1024 is never sent", "migrate/tx_pages.c",
     r"(static unsigned send_page\(struct mig_tx \*m, uint64_t gfn\)\n\{\n)", r"\1    if (gfn % 1024 == 513) return 1;\n", SYSTEM_MOVE),
    ("unsent-page-engine", "the same, seen by the engine's own tests", "migrate/tx_pages.c",
     r"(static unsigned send_page\(struct mig_tx \*m, uint64_t gfn\)\n\{\n)", r"\1    if (gfn % 64 == 13) return 1;\n", UNIT),
]


def copy_tree(name):
    """A copy of the sources with everything built so far (timestamps kept, so make builds only what changes)."""
    tree = os.path.join(BUILD, "mutants", name)
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(os.path.join(tree, "build"))
    for part in TREE:
        if os.path.exists(os.path.join(ROOT, part)):
            subprocess.run(["cp", "-a", os.path.join(ROOT, part), tree], check=True)
    for part in os.listdir(BUILD):
        if part == "deps":
            os.symlink(os.path.join(BUILD, part), os.path.join(tree, "build", part))
        elif part not in ("mutants", "results", "system", "demo", "bench"):
            subprocess.run(["cp", "-a", os.path.join(BUILD, part), os.path.join(tree, "build")], check=True)
    return tree


def mutate(tree, file, pattern, replacement):
    path = os.path.join(tree, file)
    with open(path, encoding="utf-8") as f:
        text = f.read()
    changed, n = re.subn(pattern, replacement, text, flags=re.S)
    if n != 1:
        raise RuntimeError(f"the replacement fits {file} {n} times, must be once: mend the list in tests/system/mutants.py")
    with open(path, "w", encoding="utf-8") as f:
        f.write(changed)


def survives(name, file, pattern, replacement, command):
    """Build the mutant and run the test; returns "" if it was caught, else why not."""
    tree = copy_tree(name)
    mutate(tree, file, pattern, replacement)
    with open(os.path.join(tree, "output.txt"), "w", encoding="utf-8") as out:
        build = subprocess.run(["make", "all", "guest"], cwd=tree, stdout=out, stderr=out, check=False)
        if build.returncode != 0:
            return f"the mutant does not compile, see {out.name}"
        test = subprocess.run(command, cwd=tree, stdout=out, stderr=out, check=False, timeout=900)
    if test.returncode == 0:
        return f"no test noticed it, see {out.name}"
    with open(out.name, encoding="utf-8", errors="replace") as f:
        text = f.read()
    if command is SYSTEM_MOVE and "FAIL migrate.a_to_b" not in text:
        return f"the test failed for another reason, see {out.name}"
    shutil.rmtree(tree)
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-k", default="", metavar="PATTERN")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    chosen = [m for m in MUTANTS if re.search(args.k, m[0])]
    if args.list:
        print("\n".join(f"{name:<24}{what} ({' '.join(command)})" for name, what, _, _, _, command in chosen))
        return 0
    failed = 0
    for name, what, file, pattern, replacement, command in chosen:
        try:
            why = survives(name, file, pattern, replacement, command)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            why = str(error)
        failed += bool(why)
        print(f"{'FAIL' if why else 'ok  '} {name}: {what}" + (f"\n        {why}" if why else ": caught"), flush=True)
    os.makedirs(os.path.join(BUILD, "results"), exist_ok=True)
    with open(os.path.join(BUILD, "results", "mutants.txt"), "w", encoding="utf-8") as f:
        f.write(f"mutants {len(chosen) - failed} {failed} 0\n")
    print(f"{len(chosen) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
