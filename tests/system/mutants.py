#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tests/system/mutants.py - mutation testing: builds Godwit with one mistake at a time and checks that a test catches
it.

usage: mutants.py [--fast] [-k PATTERN] [--list]
  --fast   only those that the host-side unit tests catch (a few seconds each; `make test` runs these), without those
           marked MORE

A mutant is one replacement in one source file, made in a copy of the tree under build/mutants/.  The mistakes are
typical of a hypervisor with migration: a write missing from the dirty log, a translation that is not flushed, a page
that is not sent, a register that is not transferred.  Each names the test that must catch it.  A replacement that no
longer matches its file is a failure as well: then correct the list below.  Caught means that an assertion of that test
failed.  A crash, a compiler error or a hang proves nothing and counts as a failure.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build")
TREE = ("Makefile", "LICENSE", "linker.ld", "boot", "kernel", "svm", "vmx", "net", "migrate", "tests", "tools", "docs")
SYSTEM = "system "  # a test that starts so is a pattern for run.py -k; else a program of tests/unit/
MORE = "more "  # a program of tests/unit/ too, but not with --fast: one rule of several, and a test that takes longer
LIMIT_S = 900

# name, what is lost, file, regular expression (must match once), replacement, test
MUTANTS = [
    ("unmarked-guest-write", "what the host writes to guest memory is not in the dirty log", "kernel/core/guest_mem.c",
     r"dirty_mark\(vm, gpa_gfn\(a\)\); +/\* after the copy.*?\*/", "", "test_dirty"),
    ("unmarked-page-for-write", "a page lent for writing is not in the dirty log", "kernel/core/guest_mem.c",
     r"dirty_mark\(vm, gfn\);", "", "test_dirty"),
    ("lost-in-harvest", "a harvest loses one page of 512", "kernel/core/dirty.c",
     r"out\[w\] \|= bits\[w\];", "out[w] |= bits[w] & ~(w == 2 ? BIT64(7) : 0);", "test_dirty"),
    ("no-flush-after-harvest", "the guest goes on storing through stale translations after a harvest",
     "kernel/core/dirty.c",
     r"(harvest_block\(vm, i, [^;]*;\n)    s2_flush\(vm\);", r"\1", "test_dirty"),
    ("no-flush-at-start", "the guest goes on storing through 2 MiB translations when the log starts",
     "kernel/core/dirty.c",
     r"s2_flush\(vm\); +/\* from here on each store is seen \*/", "", "test_dirty"),
    ("flush-not-waited-for", "a flush does not wait for the vCPUs that are in guest mode", "kernel/core/s2.c",
     r"(for \(unsigned i = 0; i < vm->n_vcpus); i\+\+\) \{(?=\n        struct vcpu \*v = vm->vcpus\[i\];\n        for "
     r"\(unsigned spin)",
     r"\1 && !gen; i++) {", "test_s2"),
    ("flush-not-done-at-entry", "AMD-V: an entry after a flush keeps the old translations", "svm/svm_run.c",
     r"bool flush = v->tlb_flush \|\| gen != [^;]*;", "bool flush = v->tlb_flush;", "test_svm"),
    ("machine-check-shuts-down", "AMD-V: a machine check while a guest runs resets that guest", "svm/svm_cr.c",
     r"vmcb_set_cr4\(s->vmcb, cr4 \| CR4_MCE\);", "vmcb_set_cr4(s->vmcb, cr4);", "test_svm"),
    ("lost-memory-is-reused", "memory that has lost data is given to the next guest", "kernel/vm/vm_machine_check.c",
     r"block_pin\(block\);", "", "test_machine_check"),
    ("doorbells-take-all", "a guest that rings doorbells for ever leaves no time to others", "kernel/run/sched.c",
     r"me->serve_from = service\.due - MIN\(service\.due, burst\);", "me->serve_from = burst - burst;", "test_fair"),
    ("zeroes-in-one-go", "a guest zeroes megabytes of its disk in one turn", "kernel/dev/vdev_blk.c",
     r"MIN\(whole - q->skip, PIECE_MAX\)", "whole - q->skip", "test_vdev_work"),
    ("descriptors-are-free", "a guest has its host read descriptors without end", "kernel/dev/vdev.c",
     r"VDEV_REQUEST_WORK \+ \(c->n_out \+ c->n_in\) \* VDEV_SEG_WORK", "VDEV_REQUEST_WORK", MORE + "test_vdev_work"),
    ("kick-whoever-runs", "a wake-up interrupts another guest on the sleeper's CPU", "kernel/core/vcpu.c",
     r"if \(!running \|\| running == v\)", "if (!running || running)", MORE + "test_fair"),
    ("unsent-page", "the engine never sends one page of 64", "migrate/tx_pages.c",
     r"(static unsigned tx_page_send\(struct mig_tx \*m, uint64_t gfn\)\n\{\n)",
     r"\1    if (gfn % 64 == 13) return 1;\n", "test_mig"),
    ("no-final-harvest", "what was written just before the stop is not sent", "migrate/tx_pages.c",
     r"(static struct mig_wait tx_final_harvest\(struct mig_tx \*m\)\n\{\n)    tx_harvest\(m\);\n", r"\1", "test_mig"),
    ("no-resume", "a guest that was stopped when its move failed stays stopped", "migrate/tx.c",
     r"if \(m->pausing\)\s+m->ops->resume\(m->ctx\);", "", "test_mig"),
    ("log-left-on", "after a failed move the dirty log stays on", "migrate/tx.c",
     r"if \(m->logging\)\s+m->ops->log_stop\(m->ctx\);", "", "test_mig"),
    ("start-on-stale-answers", "a guest is started on a peer's word from before it moved there",
     "kernel/peers/start_rule.c",
     r"now_us - reply\[i\]\.at_us > START_FRESH_US", "false", "test_start_rule"),
    ("start-on-void-answers", "a guest is started on an answer to a question that was put before the others knew",
     "kernel/peers/start_rule.c",
     r"reply\[i\]\.round\+\+; +/\*.*?\*/", "", "test_start_rule"),
    ("verdicts-flooded", "refused offers push out what became of jobs in doubt", "migrate/mig.c",
     r"if \(prepared && !old\)", "if ((prepared || why) && !old)", "test_mig_links"),
    ("register-left-behind", "one register does not move", "kernel/vm/vm_state.c",
     r"reg_put\(w, RID_NMI_BLOCKED, r\.nmi_blocked\);", "reg_put(w, RID_NMI_BLOCKED, 0);", "test_vm_state"),
    # The handoff's rules.
    ("resume-on-loss", "the source resumes the guest when the link is lost after COMMIT", "migrate/tx.c",
     r'if \(m->state == MIG_TX_IN_DOUBT\)\s+tx_doubt\(m, err, "the link was lost',
     'if (0) tx_doubt(m, err, "the link was lost', "test_faults"),
    ("cancel-after-commit", "a cancel resumes the guest after COMMIT too", "migrate/tx.c",
     r"if \(m->state == MIG_TX_IN_DOUBT \|\| m->state == MIG_TX_RELEASED\)\s+return",
     "if (m->state == MIG_TX_RELEASED) return", MORE + "test_faults"),
    ("unknown-is-refused", "the source resumes when the destination does not know the job", "migrate/tx.c",
     r"case MIG_V_UNKNOWN:\n +tx_doubt\(\s*m, HV_E_NOENT,",
     "case MIG_V_UNKNOWN:\n        tx_fail(m, HV_E_NOENT, false,", MORE + "test_faults"),
    ("unknown-is-running", "the source frees the guest when the destination does not know the job", "migrate/tx.c",
     r"case MIG_V_UNKNOWN:\n", "case MIG_V_UNKNOWN:\n        tx_release(m);\n        return;\n", MORE + "test_faults"),
    ("talk-is-progress", "a destination that only talks keeps a stopped guest stopped", "migrate/tx.c",
     r"if \(admits \? [^;]*;", "(void)admits, (void)verifies, (void)us; m->progress_us = m->now;",
     MORE + "test_faults"),
    ("no-settle", "a question is answered with refused, and an older machine of the same job left alive",
     "migrate/rx.c",
     r"if \(m->settle && [^;]*return false;",
     'if (mig_ids_get(m->ids, &id, NULL) == MIG_V_UNKNOWN) mig_ids_put(m->ids, &id, m->source, true, MIG_V_REFUSED, '
     '"");', "test_faults"),
    ("run-at-prepared", "the destination runs the guest before COMMIT", "migrate/rx.c",
     r"rx_goto\(m, MIG_RX_PREPARED\);", "rx_goto(m, MIG_RX_PREPARED); m->ops->run(m->ctx);", MORE + "test_faults"),
    ("running-forgotten", "the destination does not remember that it runs the guest", "migrate/rx.c",
     r'mig_ids_put\(m->ids, &m->id, m->source, true, MIG_V_RUNNING, ""\);', "", MORE + "test_faults"),
    ("refusal-forgotten", "the destination does not remember that it dropped the guest", "migrate/rx.c",
     r"if \(m->have_id\)\s+mig_ids_put\(m->ids, &m->id, m->source, prepared, MIG_V_REFUSED, m->text\);",
     "(void)prepared;", MORE + "test_faults"),
    ("not-dropped", "the destination says that it dropped the guest, and keeps it", "migrate/rx.c",
     r"if \(admitted\)\s+m->ops->drop\(m->ctx\);", "(void)admitted;", MORE + "test_faults"),
    ("state-unchecked", "the destination runs a guest whose state was damaged on the way", "migrate/rx.c",
     r"if \(p->check != [^;]*\) \{", "if (0) {", "test_faults"),
    ("drips-are-patience", "a peer that sends a byte now and then keeps its place for ever", "migrate/rx.c",
     r"m->progress_in && m->state == MIG_RX_LOADING\)", "m->progress_in)", MORE + "test_faults"),
    ("load-takes-no-time", "the guest's clock loses the time that checking its state takes", "kernel/dev/pvclock.c",
     r"age_us \* 1000 \+ tsc_to_ns\([^;]*;", "age_us * 1000 + 0 * at_tsc);", MORE + "test_vm_state"),
    ("edge-too-many", "the code's table lets a job in doubt go on", "migrate/tx.c",
     r"(\[MIG_TX_IN_DOUBT\] = BIT32\(MIG_TX_RELEASED\))", r"\1 | BIT32(MIG_TX_PRECOPY)", "test_mig_edges"),
    ("edges-unchecked", "a change of state is not checked against the table", "migrate/rx.c",
     r"ASSERT\(rx_edges\[m->state\] & BIT32\(s\)\);[^\n]*", "", "test_mig_edges"),
    ("lost-in-harvest-emulated", "the same in godwit.efi: four pages of 512 are never in the log of a running Linux",
     "kernel/core/dirty.c",
     r"out\[w\] \|= bits\[w\];", "out[w] |= bits[w] & ~(w == 2 ? UINT64_C(0xf0) : 0);",
     SYSTEM + "migrate.a_to_b_under_load"),
]


def copy_tree():
    """A copy of the sources with everything built so far (timestamps kept, so make builds only what changes)."""
    tree = os.path.join(BUILD, "mutants", "tree")
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(os.path.join(tree, "build"))
    for part in TREE:
        if os.path.exists(os.path.join(ROOT, part)):
            subprocess.run(["cp", "-a", os.path.join(ROOT, part), tree], check=True)
    os.symlink(os.path.join(BUILD, "deps"), os.path.join(tree, "build", "deps"))
    for part in ("host", "unit", "obj", "lib", "guest", "symtab0.S", "symtab0.o", "symtab1.S", "symtab1.o",
                 "godwit.pass1.elf", "godwit.elf",
                 "godwit.efi"):
        if os.path.exists(os.path.join(BUILD, part)):
            subprocess.run(["cp", "-a", os.path.join(BUILD, part), os.path.join(tree, "build")], check=True)
    return tree


def mutated(text, file, pattern, replacement):
    changed, n = re.subn(pattern, replacement, text, flags=re.S)
    if n != 1:
        raise RuntimeError(f"the replacement fits {file} {n} times, must be once: mend the list in "
                           "tests/system/mutants.py")
    return changed


def run(command, tree, **environment):
    """Run a command in the tree; returns its exit code and output."""
    done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          timeout=LIMIT_S, text=True,
                          # a make of its own
                          errors="replace", env={**os.environ, "MAKEFLAGS": "", "MAKELEVEL": "0", **environment})
    return done.returncode, done.stdout


def unit_test(tree, name):
    """(which check failed by an assertion or "", output)."""
    built, output = run(["make", "-s", "NO_INSTALL=1", f"build/unit/{name}"], tree)
    if built != 0:
        raise RuntimeError("the mutant does not compile:\n" + output[-1500:])
    code, output = run([f"build/unit/{name}"], tree, CMOCKA_TEST_ABORT="1")         # stop at the first failure
    checks = re.findall(r"^\[ RUN +\] (\w+)", output, re.M)
    asserted = re.search(r"^\[ +(?:ERROR|LINE) +\] --- (?!Test failed)(.*)", output, re.M)
    return (f"{name}: {checks[-1]}" if code != 0 and checks and asserted else ""), output


def system_test(tree, pattern):
    built, output = run(["make", "-s", "NO_INSTALL=1", "all", "guest"], tree)
    if built != 0:
        raise RuntimeError("the mutant does not compile:\n" + output[-1500:])
    _, output = run(["tests/system/run.py", "-k", pattern], tree)
    failed = re.search(rf"^FAIL ({pattern})[^\n]*\n((?:        .*\n)+)", output, re.M)
    why = failed and re.search(r"memory is wrong|VERIFY FAILED.*|verify: .*", failed[2])
    return (f"{failed[1]} ({why[0]})" if why else ""), output


def survives(tree, file, pattern, replacement, test):
    """Build the mutant and run the test; returns what caught it ("" if nothing did) and the output."""
    path = os.path.join(tree, file)
    with open(path, encoding="utf-8") as f:
        original = f.read()
    mutant = mutated(original, file, pattern, replacement)      # before the file is opened: it may find nothing
    with open(path, "w", encoding="utf-8") as f:
        f.write(mutant)
    try:
        if test.startswith(SYSTEM):
            return system_test(tree, test[len(SYSTEM):])
        return unit_test(tree, test.removeprefix(MORE))
    finally:
        # newer than the mutant's object, so the next make compiles it again
        with open(path, "w", encoding="utf-8") as f:
            f.write(original)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-k", default="", metavar="PATTERN")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    chosen = [m for m in MUTANTS if re.search(args.k, m[0]) and not (args.fast and m[5].startswith((SYSTEM, MORE)))]
    if args.list:
        print("\n".join(f"{name:<26}{what} ({test})" for name, what, _, _, _, test in chosen))
        return 0
    failed, tree = 0, copy_tree()
    for name, what, file, pattern, replacement, test in chosen:
        began, by, why = time.monotonic(), "", ""
        try:
            by, output = survives(tree, file, pattern, replacement, test)
            if not by:
                log = os.path.join(BUILD, "mutants", f"{name}.txt")
                with open(log, "w", encoding="utf-8") as f:
                    f.write(output)
                why = f"{test} did not notice it, see {log}"
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            why = str(error)
        failed += not by
        print(f"{'ok  ' if by else 'FAIL'} {name}: {what} ({time.monotonic() - began:.1f} s)\n        " +
              (f"caught by {by}" if by else why),
              flush=True)
    shutil.rmtree(tree)
    os.makedirs(os.path.join(BUILD, "results"), exist_ok=True)
    with open(os.path.join(BUILD, "results", "mutants.txt"), "w", encoding="utf-8") as f:
        f.write(f"mutants {len(chosen) - failed} {failed} 0\n")
    print(f"{len(chosen) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
