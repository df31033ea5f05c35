#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tools/check-errors.py - checks that docs/errors.md has every error code, and every reason that a start or a move may
report, and that a test provokes each.

usage: check-errors.py [--list | --said FOLDER]
  --list   print the reasons as the document writes them, with their places
  --said   FOLDER has the texts that unit tests have made (tests/fakes/said.c): is each reason among them, or in
           tests/errors-elsewhere.txt?

Codes: the HV_E_* of kernel/lib/err.h.  Reasons: the texts in the calls named below, in the files named below; a printf
directive is written as … A reason of the document that is in no source any more is an error as well.  Part of `make
lint`; --said is the end of `make unit`."""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOC = os.path.join(ROOT, "docs", "errors.md")
ELSEWHERE = os.path.join(ROOT, "tests", "errors-elsewhere.txt")
# functions that create a reason; snprintf counts when it writes into one of these
CALLS = r"\b(?:(?:tx_fail|rx_fail|tx_doubt|[tr]x_peer_broke|mig_reason_add|stream_fail|why_say|REFUSE|" \
        r"link_failed|reply_failed|job_end|dial_note|ask_dead|BAD|EXAMINE_BAD|identity_fail|shutdown_abandon|" \
        r"save_fail|restore_fail|revert_over|move_fails|mirror_fail|mirror_cancel)\s*\(|" \
        r"snprintf\((?:s->text|c->reasons|text|d->trouble|t->reason|vm->crash_reason|g->why_not|s->why|r\.why),)"
FILES = ["kernel/peers/ask.c", "kernel/vm/boot_files.c", "kernel/vm/boot_travel.c", "kernel/vm/boot_image.h",
         "kernel/peers/choose.c",
         "kernel/core/cpu_baseline.c", "kernel/core/cpuid.c", "kernel/peers/dial.c", "kernel/vm/elf_boot.c",
         "kernel/peers/evacuate.c", "kernel/peers/kind.c", "kernel/peers/arrive_disks.c", "kernel/peers/leave_disks.c",
         "kernel/vm/linux_boot.c", "kernel/peers/migration.c", "kernel/peers/migration_in.c",
         "kernel/peers/migration_out.c", "kernel/peers/start.c", "kernel/peers/save.c", "kernel/peers/restore.c",
         "kernel/store/saved.c", "kernel/peers/checkpoint.c", "kernel/store/checkpoint.c",
         "kernel/store/checkpoint_move.c",
         "kernel/store/checkpoint_revert.c", "kernel/store/checkpoint.h",
         "kernel/store/gpt.c", "kernel/store/lv_disk.c", "kernel/store/lvm.c", "kernel/store/lvm_change.c",
         "kernel/store/lvm_commit.c", "kernel/store/lvm_write.c", "kernel/store/lvm_text.c", "kernel/store/lvm_tree.c",
         "kernel/store/registry.c", "kernel/store/registry_format.c", "kernel/store/store_create.c",
         "kernel/store/volume.c", "kernel/store/snapshot.c", "kernel/store/snapshot_disk.c",
         "kernel/store/snapshot_make.c", "kernel/store/snapshot_origin.c", "kernel/store/snapshot_revert.c",
         "kernel/store/snapshot_view.c",
         "kernel/vm/vm_attach.c", "kernel/vm/vm_disk.c", "kernel/vm/vm_mac.c", "kernel/vm/vm_manage.c",
         "kernel/vm/vm_offer.c", "kernel/vm/offer_disks.c", "kernel/vm/offer_check.c", "kernel/vm/vm_state.c",
         "kernel/manage/settings.c", "migrate/ask.c", "migrate/rx.c",
         "migrate/tx.c", "migrate/tx_pages.c", "migrate/tx_disks.c",
         "kernel/manage/import.c", "kernel/vm/boot_keep.c", "kernel/vm/boot_store.c",
         "net/stream.c", "net/tls.c", "kernel/vm/vm_define.c",
         "kernel/manage/move_disk.c", "kernel/manage/operate_move_disk.c",
         "kernel/store/mirror.c", "kernel/vm/ram_image.c"]
LITERAL = r'"((?:[^"\\]|\\.)*)"'


def call_text(source, start):
    """The text of a call up to its closing parenthesis."""
    depth, i, quoted = 1, start, False
    while depth and i < len(source):
        c = source[i]
        if quoted:
            i += c == "\\"
            quoted = c != '"'
        elif c == '"':
            quoted = True
        else:
            depth += (c == "(") - (c == ")")
        i += 1
    return source[start:i]


def written(text):
    """A format as the document writes it."""
    text = re.sub(r"%[-0#]*[0-9*]*(?:\.\*?[0-9]*)?(?:ll|z|l)?[a-zA-Z]", "…",
                  text.replace("%%", "%").replace('\\"', '"').replace("\\\\", "\\"))
    return re.sub(r"(?:…[ :;]*)+$", "…", text).strip()


def reasons():
    """{reason: place} of all that says something by itself: at least three words."""
    found = {}
    for name in FILES:
        with open(os.path.join(ROOT, name), encoding="utf-8") as f:
            source = f.read()
        source = source.replace('" PEER_FMT "', "%s").replace('PEER_FMT "', '"%s')
        for m in re.finditer(CALLS, source):
            body = call_text(source, m.end())
            body = re.sub(r'"\s*\n\s*"', "", body)                     # one literal in pieces
            for literal in re.findall(LITERAL, body):
                text = written(literal)
                if len(re.findall(r"[a-z]{2,}", text)) >= 3:
                    found.setdefault(text, f"{name}:{source.count(chr(10), 0, m.start()) + 1}")
    return found


# ---- which test provokes it ----

def elsewhere(found):
    """{reason: (check or "-", words or why)} of the table, and what is wrong with it."""
    table, wrong = {}, []
    with open(ELSEWHERE, encoding="utf-8") as f:
        rows = [[part.strip() for part in line.split("|")] for line in f if line.strip() and line[0] != "#"]
    for check, words, beginning in rows:
        meant = [text for text in found if text.startswith(beginning)]
        meant = [text for text in meant if text == beginning] or meant
        if len(meant) != 1:
            wrong.append(f"tests/errors-elsewhere.txt: {len(meant)} reasons begin with “{beginning}”")
            continue
        table[meant[0]] = (check, words)
        if check != "-" and words not in meant[0]:
            wrong.append(f"tests/errors-elsewhere.txt: “{words}” is not in the reason “{meant[0]}”")
        if check != "-" and words not in source_of(check):
            wrong.append(f"tests/errors-elsewhere.txt: there is no {check}, or it does not look for “{words}”")
    return table, wrong


def source_of(check):
    """The source of FILE:FUNCTION in tests/system, regular expressions' backslashes taken away."""
    file, _, function = check.partition(":")
    path = os.path.join(ROOT, "tests", "system", file)
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as f:
        body = re.search(rf"^def {function}\(.*?(?=^\S|\Z)", f.read(), re.M | re.S)
    return body[0].replace("\\", "") if body else ""


def said(folder, found):
    """Compare what unit tests have made with the table."""
    texts = []
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as f:
            texts.append(f.read())
    texts, (table, _) = "\0".join(texts), elsewhere(found)
    wrong, by_unit = [], 0
    for text, place in found.items():
        pattern = "[^\0]*?".join(re.escape(part) for part in re.split("…+", text))
        here = re.search(pattern, texts) is not None
        by_unit += here
        if here == (text in table):
            wrong.append(f"{place}: “{text}” " + ("is provoked by unit tests: take it out of tests/errors-elsewhere.txt"
                                                  if here else
                                                  "is provoked by no unit test, and tests/errors-elsewhere.txt does "
                                                  "not say by what else"))
    for w in wrong:
        print(f"errors: {w}")
    by_system = sum(check != "-" for check, _ in table.values())
    print(f"errors: of {len(found)} reasons {by_unit} are provoked by unit tests, {by_system} by system tests, "
          f"{len(table) - by_system} by none "
          f"(tests/errors-elsewhere.txt says why), {len(wrong)} mistakes")
    return 1 if wrong else 0


def main():
    found = reasons()
    if "--said" in sys.argv:
        return said(sys.argv[2], found)
    if "--list" in sys.argv:
        for text, place in found.items():
            print(f"{place}\t{text}")
        return 0
    with open(DOC, encoding="utf-8") as f:
        doc = f.read()
    with open(os.path.join(ROOT, "kernel", "lib", "err.h"), encoding="utf-8") as f:
        codes = dict(re.findall(r"X\((HV_E_\w+),\s*(-\d+),", f.read()))
    listed = dict(re.findall(r"^\| `(HV_E_\w+)` \| (-\d+) \|", doc, re.M))
    wrong = [f"docs/errors.md lacks {c} {codes[c]}, or has another number for it" for c in codes
             if listed.get(c) != codes[c]]
    wrong += [f"docs/errors.md has {c}, kernel/lib/err.h has not" for c in listed if c not in codes]
    rows = re.findall(r"^\| “(.*?)” \|", doc, re.M)
    wrong += [f"docs/errors.md lacks the reason of {place}: “{text}”" for text, place in found.items()
              if text not in rows]
    wrong += [f"docs/errors.md has a reason that no source has: “{text}”" for text in rows if text not in found]
    wrong += [f"docs/errors.md has a reason twice: “{text}”" for text in set(rows) if rows.count(text) > 1]
    wrong += elsewhere(found)[1]
    for w in wrong:
        print(f"errors: {w}")
    print(f"errors: {len(codes)} codes, {len(found)} reasons, {len(wrong)} mistakes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
