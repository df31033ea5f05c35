#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tests/model/run.py - checks the handoff model with Spin, compares the model with the code, and proves that both
checks can fail.

usage: run.py [-k PATTERN] [--deep] [--list]
  --deep   three attempts to move instead of two; with registries two instead of one (minutes)

The properties of handoff.pml, each by a full search, for hosts with and without a registry on a disk. `reached`: no
transition of the model is dead. `code`: each state change in the code's tables is a transition of the model and vice
versa, and docs/handoff.md names an existing function for each. Then mutants: the model with one mistake, which must
be found, for the reason named here. A failure leaves its trail in build/model/NAME/.
"""
import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
START = os.path.join(ROOT, "tests", "model", "start.pml")
MODEL = os.path.join(ROOT, "tests", "model", "handoff.pml")
DOC = os.path.join(ROOT, "docs", "handoff.md")
WORK = os.path.join(ROOT, "build", "model")
RESULT = os.path.join(ROOT, "build", "results", "model.txt")
LIMIT_S = 120                           # one search; usual are seconds
MEM_MIB = 1500
CC = "clang" if shutil.which("clang") else "gcc"        # half the time of gcc for a program that runs for seconds

TWO, LOST, PULLED, STUCK = "two runners", "guest lost", "nothing to run", "never ends"
OWNERS, BACK, CUT_TWO, CUT_NONE = ("two owners", "back in time", "a power cut leaves two owners",
                                   "a power cut leaves no owner")
COPY, DOUBT, WRITERS, PARTIAL = ("no complete copy", "A's volume is gone", "two writers", "runs on an incomplete copy")
SAYS = {TWO: "assertion violated  !(((guest_a==4)&&(guest_b==4)))",
        LOST: "assertion violated (((guest_a>=3)||(guest_b==4))||lost)",
        PULLED: "assertion violated (guest_b!=0)", STUCK: "acceptance cycle",
        OWNERS: "assertion violated  !((((guest_a==4)||((guest_a==2)&&(tx==0)))&&((guest_b==4)||(guest_b==2))))",
        BACK: "assertion violated  !(ran)",
        CUT_TWO: "assertion violated  !(((disk_a==0)&&", CUT_NONE: "assertion violated ((disk_a!=",
        COPY: "assertion violated (( !(1)||(vol_a&&",
        DOUBT: "assertion violated (( !(1)||vol_a)|| !",
        WRITERS: "assertion violated (( !(1)||(guest_b!=4))|| !",
        PARTIAL: "assertion violated (( !(1)||(guest_b!=4))||(("}
PROPERTIES = [
    ("safe", "never two runners, owners; never lost, or back in time"),
    ("ends", "each job ends, then the guest is one host's (with an operator)"),
    ("alone", "the same without an operator, while B remembers"),
]
# which hosts have a registry: name, options of the model; attempts to move and more options for safe, for the others
REGISTRIES = [
    ("none", [], (2, []), (2, [])),
    ("both", ["-DREG_A=1", "-DREG_B=1"], (2, ["-DLINKS=2"]), (1, ["-DCRASHES_A=2"])),
    ("A", ["-DREG_A=1"], (1, []), (1, [])),
    ("B", ["-DREG_B=1"], (1, []), (1, [])),
    ("both, volumes", ["-DREG_A=1", "-DREG_B=1", "-DVOLUMES=1", "-DLINKS=2"], (1, []), (1, [])),
]
# name, the mistake, property that finds it, how, text in the model (must be there once), replacement
MUTANTS = [
    ("resume-on-loss", "A resumes when the link is lost after COMMIT", "safe", TWO,
     "tx == TX_IN_DOUBT && A_MAY_LOSE ->\n        a_close()",
     "tx == TX_IN_DOUBT && A_MAY_LOSE ->\n        tx_fail()"),
    ("cancel-after-commit", "A's cancel works after COMMIT too", "safe", TWO,
     "!calm && tx != OFF && tx < TX_IN_DOUBT ->", "!calm && tx != OFF ->"),
    ("run-at-state", "B runs the guest when it is loaded, not at COMMIT", "safe", TWO,
     "b_send(l, PREPARED, id)\n", "b_send(l, PREPARED, id); guest_b = RUN; guest_check()\n"),
    ("no-settle", "B answers refused and leaves the older machine alive", "safe", TWO,
     "rx_settle(0, id);\n        rx_settle(1, id);\n        rx_settle(LINKS - 1, id);\n",
     "if\n :: verdict[id] == UNKNOWN -> verdict[id] = REFUSED\n :: else\n fi;\n"),
    ("fail-without-drop", "B says FAIL at its timeout and keeps the guest", "safe", TWO,
     ":: true -> b_send(l, FAIL, rx_job[l])",
     ":: rx[l] == RX_PREPARED && len(ba[l]) == 0 -> b_send(l, FAIL, rx_job[l]); goto end"),
    ("unknown-is-refused", "A resumes when B does not know the job (B may have forgotten and run it)", "safe", TWO,
     ":: arg == UNKNOWN -> a_close()", ":: arg == UNKNOWN -> tx_fail()"),
    ("unknown-is-running", "A frees the guest when B does not know the job", "safe", LOST,
     ":: arg == UNKNOWN -> a_close()", ":: arg == UNKNOWN -> tx_release()"),
    ("operator-overlooks-arriving", "the operator resumes on A while the guest is still arriving on B", "safe", TWO,
     "tx == TX_IN_DOUBT && guest_b == GONE &&", "tx == TX_IN_DOUBT && guest_b != RUN &&"),
    ("autostart", "A starts the guest again when it comes back from a crash, without asking B", "safe", TWO,
     ":: else -> skip                     /* it has no guest */", ":: else -> guest_a = RUN"),
    ("found-arriving-is-none", "B says that it has no guest while one is arriving, and A starts its copy", "safe", TWO,
     "(guest_b == GONE -> IS_NONE : IS_THERE)", "(guest_b != RUN -> IS_NONE : IS_THERE)"),
    ("stop-arriving", "`vm stop` on B tears a guest down that B's machine still works on", "safe", PULLED,
     ":: atomic { !up_b -> boot_b() }", ":: atomic { !up_b -> boot_b() }\n :: atomic { guest_b == INCOMING -> "
                                         "guest_b = GONE }"),
    ("no-operator", "B's memory is lost and no operator comes", "ends", STUCK,
     "        run Operator()\n", "        skip\n"),
    ("never-asks", "A does not make a new link after COMMIT", "alone", STUCK,
     "tx == TX_IN_DOUBT && link == NO && up_b", "tx == TX_IN_DOUBT && link == NO && false"),
    ("running-forgotten", "B does not remember that it runs the guest", "alone", STUCK, "        verdict[id] = RUNS;\n",
     ""),
    ("refusal-forgotten", "B does not remember that it dropped the guest", "alone", STUCK,
     "verdict[rx_job[l]] = REFUSED", "skip"),
]
# The same, of hosts that both have a registry
DISK_MUTANTS = [
    ("stop-before-doubt-recorded", "A stops the guest, and sends COMMIT, before IN_DOUBT is durable", "safe", CUT_TWO,
     "tx == TX_STOPPING && A_DURABLE && A_QUIET ->", "tx == TX_STOPPING && A_QUIET ->"),
    ("doubt-not-recorded", "A does not record that it is in doubt", "safe", CUT_TWO,
     "        a_put(cur) }", "        skip }"),
    ("doubt-starts", "A, in doubt, starts the guest after a power cut, without asking B", "safe", TWO,
     "cur = disk_a; tx = TX_IN_DOUBT", "skip"),
    ("removed-before-running", "A removes the guest from its registry when it sends COMMIT", "safe", CUT_NONE,
     "/* T a_commit: STOPPED -> IN_DOUBT */\n", "a_put(A_LEFT);\n"),
    ("not-removed", "A leaves the guest in its registry", "safe", CUT_TWO,
     "    a_put(A_LEFT);\n", "    a_put(A_OWN);\n"),
    ("accept-before-recorded", "B accepts the guest before its id is durable", "alone", STUCK,
     "!REG_B || (rx_job[l] && B_DURABLE &&", "!REG_B || (rx_job[l] &&"),
    ("run-before-recorded", "B runs the guest, and says so, before it is durable that it is B's", "safe", CUT_NONE,
     "rx[l] == RX_COMMITTED && B_DURABLE ->", "rx[l] == RX_COMMITTED ->"),
    ("run-while-recording", "B runs the guest while that is written, and says so later", "alone", BACK,
     ":: atomic { rx[l] == RX_COMMITTED && B_DURABLE ->",
     ":: atomic { rx[l] == RX_COMMITTED && guest_b == INCOMING -> guest_b = RUN; ran = true; lost = false }\n"
     ":: atomic { rx[l] == RX_COMMITTED && B_DURABLE ->"),
    ("answer-before-recorded", "B says that it runs the guest before that is durable", "safe", LOST,
     "!(COMMITTING && ab[l] ? [QUERY, _])", "true"),
    ("arriving-is-owned", "B, after a power cut, takes what was arriving for its own", "safe", OWNERS,
     ":: B_DISK_RUNS -> guest_b = DOWN", ":: B_DISK_RUNS || disk_b[1] == REFUSED -> guest_b = DOWN"),
    ("arriving-is-forgotten", "B, after a power cut, has forgotten what was arriving", "alone", STUCK,
     ":: disk_b[i] == ARRIVES -> disk_b[i] = REFUSED", ":: disk_b[i] == ARRIVES -> disk_b[i] = UNKNOWN"),
    ("stopped-is-none", "B says that it has no guest, since the one that is its own is stopped", "safe", TWO,
     "(guest_b == GONE -> IS_NONE : IS_THERE)", "(guest_b == GONE || guest_b == DOWN -> IS_NONE : IS_THERE)"),
    ("operator-overlooks-disk", "the operator resumes on A while B, which has a registry, is off", "safe", CUT_TWO,
     "guest_b == GONE && (up_b || !REG_B)", "guest_b == GONE"),
]
# The same, of a guest with a volume that moves along
VOLUME_MUTANTS = [
    ("deleted-at-commit", "A deletes its volume when it sends COMMIT", "safe", DOUBT,
     "/* T a_commit: STOPPED -> IN_DOUBT */\n", "del_a = true;\n"),
    ("deleted-before-left-recorded", "A deletes its volume while its registry still says in doubt", "safe", DOUBT,
     "up_a && del_a && A_DURABLE ->", "up_a && del_a ->"),
    ("deleted-in-doubt", "A, in doubt after a power cut, deletes its volume", "safe", DOUBT,
     "REG_A && disk_a == A_LEFT -> a_volume_left()", "REG_A && disk_a != A_OWN -> del_a = true"),
    ("stopped-unflushed", "A stops the guest before B's disk is flushed", "safe", PARTIAL,
     "(!out_a && sync_a == FLUSH)", "(!out_a && sync_a)"),
    ("stopped-undrained", "A stops the guest, and sends STATE, while a write is under way", "safe", PARTIAL,
     "(!out_a && sync_a == FLUSH)", "true"),
    ("mirror-ended-early", "A ends its copy at the stop, and takes it for in sync when the guest runs on", "safe",
     PARTIAL, "        guest_a = RUN;\n        guest_check();\n        regretted",
     "        a_run();\n        regretted"),
    ("answered-early", "B answers a request before its disk has done it", "safe", WRITERS,
     "        busy[id] = l + 1\n", "        b_send(l, DISKED, id); busy[id] = 2 - l\n"),
    ("judged-by-tag", "B, after a power cut, deletes each volume with a tag", "safe", PARTIAL,
     "(disk_b[i] == RUNS -> KEEP : DELETE)", "DELETE"),
    ("run-is-judged-wrong", "the same, but only if the guest has run there", "safe", COPY,
     "(disk_b[i] == RUNS -> KEEP : DELETE)", "(disk_b[i] == RUNS && !ran_b -> KEEP : DELETE)"),
    ("made-before-recorded", "B makes the volume before the job is durable", "alone", STUCK,
     "rx_job[l] && B_DURABLE && !vol_b[rx_job[l]]", "rx_job[l] && !vol_b[rx_job[l]]"),
    ("kept-at-prepared", "B takes the tag off when the guest is complete", "alone", STUCK,
     "           rx_goto(l, RX_PREPARED);\n", "           rx_goto(l, RX_PREPARED); todo_b[id] = KEEP;\n"),
    ("dropped-is-left", "B does not delete the volume of a guest that it drops", "alone", STUCK,
     "(vol_b[rx_job[l]] -> DELETE : 0)", "0"),
]


# The rule by which two hosts do not both start a guest (start.pml): name, the mistake, text, replacement
START_MUTANTS = [
    ("start-unsaid", "a host that is about to start says none", "(wanted[me] -> WANTED : NONE)", "NONE"),
    ("start-first-wins", "of two that want, the lower ticket starts without asking again",
     "me == 0 -> q[me] = NOT_ASKED", "me == 0 -> q[me] = NONE"),
    ("start-stale", "an answer counts that was given before the host wanted again",
     "asking[me] && !wanted[me] -> wanted[me] = true; q[me] = NOT_ASKED }\n",
     "asking[me] && !wanted[me] -> wanted[me] = true }\n    :: atomic { asking[me] && !wanted[me] -> q[me] = ASKED "
     "}\n"),
]


def edges(side):
    """{(from, to)} of the code's table of allowed state changes."""
    with open(os.path.join(ROOT, "migrate", side + ".c")) as f:
        table = re.search(rf"{side}_edges\[\] = \{{(.*?)\n\}};", f.read(), re.S)[1]
    up = side.upper()
    return {(a, b) for a, row in re.findall(rf"\[MIG_{up}_(\w+)\]\s*=([^\n]*)", table)
            for b in re.findall(rf"BIT32\(MIG_{up}_(\w+)\)", row)}


def model_text():
    """The model with the code's tables in front."""
    with open(MODEL) as f:
        text = f.read()
    head = ""
    for side in ("tx", "rx"):
        up = side.upper()
        pairs = " || ".join(f"((from) == {up}_{a} && (to) == {up}_{b})" for a, b in sorted(edges(side)))
        head += f"#define {up}_EDGE(from, to) ({pairs})\n"
    return head + text


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))


def search(name, prop, text, jobs=2, options=()):
    """Run Spin on text, with options.  Returns (output of the search, seconds), or raises RuntimeError."""
    folder = os.path.join(WORK, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(folder, "handoff.pml"), "w") as f:
        f.write(text)
    begin = time.time()
    spin = (["spin", "-a", "-o3"] + ([] if prop == "safe" else [f"-DCHECK_{prop.upper()}"]) + [f"-DJOBS={jobs}",
            *options, "handoff.pml"])
    cc = [CC, "-O1" if jobs > 2 else "-O0", "-w", f"-DMEMLIM={MEM_MIB}", "-o", "pan", "pan.c"]
    cc += ["-DSAFETY", "-DNOCLAIM"] if prop == "safe" else ["-DNFAIR=3"]
    pan = ["./pan", "-m100000", "-w24" if jobs > 2 else "-w21"] + ([] if prop == "safe" else ["-a", "-f"])
    for command in (spin, cc, pan):
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              stdin=subprocess.DEVNULL,
                              timeout=LIMIT_S * (10 if jobs > 2 else 1), preexec_fn=limit_memory)
        if command is not pan and done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout}")
    out = done.stdout
    for word in ("errors:", "elapsed time"):
        if word not in out:
            raise RuntimeError(f"the search did not end well:\n{out[-2000:]}")
    return out, time.time() - begin


def check_start(name, text):
    """Search start.pml; name: the mistake that text has, "" for none."""
    out, seconds = search("start" if not name else "mutant-" + name, "safe", text)
    found = "assertion violated  !(runs[(1-me)])" in out or "assertion violated !(runs[(1-me)])" in out
    if found == (not name) or (not name and "errors: 0" not in out):
        raise RuntimeError(f"{'two runners' if found else 'not found'}:\n{out[:600]}")
    return f"found: {TWO}, {seconds:.1f} s" if name else f"{figures(out)}, {seconds:.1f} s"


def check_start_mutant(mutant, text):
    name, _, old, new = mutant
    if text.count(old) != 1:
        raise RuntimeError(f"its text is {text.count(old)} times in the model, must be once: mend the list in "
                           "tests/model/run.py")
    return check_start(name, text.replace(old, new))


def figures(out):
    states, depth, mib = (re.search(p, out) for p in (r"(\d+) states, stored", r"depth reached (\d+)",
                                                      r"([\d.]+)\s+total actual memory"))
    return f"{int(states[1]):>8} states, depth {depth[1]:>4}, {float(mib[1]):4.0f} MiB"


def check_property(prop, text, registries, deep):
    registry, options, safe, others = registries
    jobs, more = safe if prop == "safe" else others
    jobs, options, name = jobs + deep, options + more, f"{prop}-{registry}"
    out, seconds = search(name, prop, text, jobs, options)
    if "errors: 0" in out and "max search depth too small" not in out and "Search not completed" not in out:
        return f"{figures(out)}, {seconds:.1f} s", out
    spin = (["spin", "-t", "-p", "-g"] + ([] if prop == "safe" else [f"-DCHECK_{prop.upper()}"]) +
            [f"-DJOBS={jobs}", *options, "handoff.pml"])
    trail = subprocess.run(spin, cwd=os.path.join(WORK, name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, errors="replace",
                           timeout=60).stdout
    with open(os.path.join(WORK, name, "trail.txt"), "w") as f:
        f.write(trail)
    raise RuntimeError(f"{out[:600]}\nthe way there is in build/model/{name}/trail.txt; its end:\n{trail[-3000:]}")


def check_reached(outs):
    """No line of the model that none of the full searches came to."""
    dead = [{line.strip() for line in out.splitlines() if re.match(r"\s+handoff\.pml:\d+, state", line)
             and '"-end-"' not in line} for out in outs]
    dead = sorted(set.intersection(*dead))
    if dead:
        raise RuntimeError("never reached:\n  " + "\n  ".join(dead))
    return "each transition is taken somewhere"


def transitions():
    """name -> [(from, to)] of the comments "T name: FROM -> TO, FROM -> TO"."""
    with open(MODEL) as f:
        marks = re.findall(r"/\* T (\w+): ([^*]*)\*/", f.read())
    return {name: re.findall(r"(any before IN_DOUBT|any|\w+)(?: of the same id)? -> (\w+)", what)
            for name, what in marks}


def check_code():
    """The code's tables and the model's transitions agree, and docs/handoff.md maps the latter to functions."""
    marks, wrong = transitions(), []
    for side, prefix in (("tx", "a_"), ("rx", "b_")):
        table = edges(side)
        pairs = {p for name, ps in marks.items() if name.startswith(prefix) for p in ps}
        covered = {(a, b) for a, b in table if (a, b) in pairs or ("any", b) in pairs
                   or ("any before IN_DOUBT", b) in pairs and a != "IN_DOUBT"}
        wrong += [f"migrate/{side}.c has {a} -> {b}, the model not" for a, b in sorted(table - covered)]
        wrong += [f"the model has {a} -> {b}, migrate/{side}.c not" for a, b in sorted(pairs - table) if a != b
                  and not a.startswith("any")]
    with open(DOC) as f:
        rows = re.findall(r"^\| `([ab]_\w+)` \|(.*)\|$", f.read(), re.M)
    wrong += [f"docs/handoff.md does not have {name}" for name in sorted(set(marks) - {r[0] for r in rows})]
    wrong += [f"docs/handoff.md has {name}, the model not" for name in sorted({r[0] for r in rows} - set(marks))]
    functions = 0
    for name, rest in rows:
        found = re.findall(r"`(\w+)\(\)` \(`([\w/.]+)`\)", rest)
        if not found:
            wrong.append(f"docs/handoff.md names no function for {name}")
        for function, file in found:
            with open(os.path.join(ROOT, file)) as f:
                if not re.search(rf"^[a-z][^\n;=]*\b{function}\([^\n;]*(\)|,|\) \{{ .*\}})$", f.read(), re.M):
                    wrong.append(f"docs/handoff.md: {name}: no function {function} in {file}")
            functions += 1
    if wrong:
        raise RuntimeError("\n".join(wrong))
    return (f"{len(marks)} transitions, {functions} functions, {len(edges('tx')) + len(edges('rx'))} state changes in "
            "the code's tables")


def check_mutant(mutant, text, options):
    name, _, prop, how, old, new = mutant
    if text.count(old) != 1:
        raise RuntimeError(f"its text is {text.count(old)} times in the model, must be once: mend the list in "
                           "tests/model/run.py")
    out, seconds = search("mutant-" + name, prop, text.replace(old, new), 1, options)
    if "errors: 0" in out:
        raise RuntimeError(f"not found by {prop}")
    if SAYS[how] not in out:
        raise RuntimeError(f"found for another reason than '{how}':\n{out[:400]}")
    return f"found: {how}, {seconds:.1f} s"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-k", default="", metavar="PATTERN")
    p.add_argument("--deep", action="store_true")
    p.add_argument("--list", action="store_true")
    args = p.parse_args()
    text, outputs = model_text(), {}

    def prop_check(name, registries):
        def run():
            said, outputs[(name, registries[0])] = check_property(name, text, registries, args.deep)
            return said
        return run
    checks = [(f"{name}, registry: {r[0]}", what, prop_check(name, r)) for r in REGISTRIES for name, what in PROPERTIES]
    checks += [("reached", "no transition of the model is dead",
                lambda: check_reached([outputs.get(("safe", r[0])) or check_property("safe", text, r, False)[1]
                                       for r in REGISTRIES])),
               ("code", "model, code and docs/handoff.md agree", check_code)]
    checks += [("mutant " + m[0], m[1], lambda m=m, r=r: check_mutant(m, text, r[1]))
               for r, mutants in ((REGISTRIES[0], MUTANTS), (REGISTRIES[1], DISK_MUTANTS),
                                  (REGISTRIES[4], VOLUME_MUTANTS)) for m in mutants]
    with open(START) as f:
        start = f.read()
    checks += [("start", "of two hosts that may start the guest, never both do", lambda: check_start("", start))]
    checks += [("mutant " + m[0], m[1], lambda m=m: check_start_mutant(m, start)) for m in START_MUTANTS]
    checks = [c for c in checks if args.k in c[0]]
    if args.list:
        for name, what, _ in checks:
            print(f"{name}: {what}")
        return 0
    passed = failed = 0
    begin = time.time()
    for name, what, check in checks:
        try:
            said = check()
            passed += 1
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
            said = f"FAILED: {e}"
            failed += 1
        print(f"  {name:<36} {said}\n  {'':<36}   {what}", flush=True)
    print(f"model: {passed} passed, {failed} failed, {time.time() - begin:.0f} s")
    if not args.k:                      # a part is not the stage
        os.makedirs(os.path.dirname(RESULT), exist_ok=True)
        with open(RESULT, "w") as f:
            f.write(f"model {passed} {failed} 0\n")
    return 1 if failed or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
