#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tools/lint.py - checks the rules of the tree: which room includes and calls which, headers, format, sizes, licences.

usage: lint.py [--root DIR] [--obj DIR] [--only CHECK,...] [--figures] [--all] [FILE...]
  --root DIR   the tree to check (default: the tree of this script)
  --obj DIR    the objects of that tree, for the check of calls (default: ROOT/build/obj); `make lint` builds them first
  --only       names from this list: {checks}
  --figures    the share of comments of each public header
  --all        every finding; without it, at most {shown} of each check
  FILE...      only findings of these files (paths from the root of the tree); a circle needs all its files

The rooms are the data below.  A finding is one line: file:line, the cause, the fix.  The exit code is 1 when there is
one.  The test of this script is tests/lint/run.py: it breaks each rule once."""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict, namedtuple

# ---- the rules, as data ----

# Room: what it may include and call besides itself.  "+ x" is x and all that x may include; "x/y.h" is that one header.
# A room is the folder kernel/ROOM, or the folder ROOM when KERNEL_ROOMS does not list it.
ROOMS = {
    "lib":     "",
    "config":  "lib",
    "host":    "lib",
    "core":    "lib config host",
    "dev":     "+ core",
    "run":     "+ dev",
    "store":   "lib config host core/disk.h net/sha256.h",
    "vm":      "+ run net store migrate/memory.h",
    "peers":   "+ vm migrate",
    "manage":  "+ peers",
    "root":    "+ manage vmx svm boot",                 # ROOT_FILES, which join everything
    "vmx":     "lib host core run/insn.h",
    "svm":     "lib host core run/insn.h",
    "net":     "lib config host core/disk.h",
    "migrate": "lib",
    "boot":    "host/boot_info.h",
    "tools":   "lib migrate config host vm",
}
KERNEL_ROOMS = "lib config host core dev run store vm peers manage".split()
INNER_FOLDERS = {"kernel/lib/libc", "kernel/host/x86"}  # a room's files lie in its folder itself, or in one of these
ROOT_FILES = {"kernel/main.c", "kernel/service.c", "kernel/service.h"}

# Headers that are implemented above their own room: whoever may include them may call what they declare.
IMPLEMENTED_ABOVE = {"kernel/lib/log.h": ("kernel/host/log.c", "kernel/host/panic.c")}
# Functions of the C library are there for every folder, boot/ as well: its headers lie outside the table.
LIBC = "kernel/lib/libc/"
# Symbols that the compiler uses, in every folder.
COMPILER_CALLS = {"__stack_chk_fail", "__stack_chk_guard"}

# What other rooms may include of net/; tests may include all of it.
NET_PUBLIC = {"net/net.h", "net/stream.h", "net/vswitch.h", "net/port_filter.h", "net/nbd.h", "net/http.h",
              "net/sha256.h"}

# Files that hold keys and seeds: they erase with wipe().  WIPE_STORE: an instruction that stores zero.
WIPE = "kernel/lib/wipe.c"
SECRETS = {"net/tls.c", "net/entropy.c", "net/jitter.c"}
ZEROING = re.compile(r"\bmemset\(")
WIPE_CALL = re.compile(r"\bwipe\(")
WIPE_RELOCATION = re.compile(r"\bR_X86_64_(?:PLT32|PC32|GOTPCRELX?)\s+wipe\b")
TARGET = re.compile(r"__attribute__\(\(.*\btarget\(")
WIPE_STORE = re.compile(r"\bmov[bq]\s+\$0x0,\S*\(|\brep stos")

# What a source or a header of ours is called; a folder may have a page as well.
SUFFIXES = (".c", ".h", ".S", ".md")

# How a <header> of an imported library or of the compiler begins: the files and folders that may include it.  Tests and
# tools may include any.
LIBRARIES = {
    "lwip/": "net/", "netif/": "net/", "bearssl": "net/", "llhttp.h": "net/http.h", "lz4": "migrate/batch.c",
    "jsmn.h": "kernel/lib/json.c", "Zydis/": "kernel/run/insn_exec.h", "efi": "boot/boot.h", "cpuid.h": "net/entropy.c",
}
STANDARD = {"limits.h", "stdarg.h", "stdatomic.h", "stdbool.h", "stddef.h", "stdint.h"}     # the compiler's

# A header that cannot compile alone, and why.
NOT_ALONE = {"tests/guest/bare.h"}                      # calls main() of the program that includes it

# Scripts with a check of their own; one that is not there is passed over.
SCRIPTS = ["tools/check-errors.py", "tools/check-tour.py"]

# The core asks cpu_ops or cpu_caps and knows no vendor.  The numbers are what CPUID leaf 0 says in EBX.
VENDORS = re.compile(r"(?<![a-z])(amd|intel|svm|vmx(?:on|off)?|vt-x|genuineintel|authenticamd|0x68747541|0x756e6547)"
                     r"(?![a-z])", re.I)
VENDORS_NAMED_IN = ("kernel/main.c", "kernel/host/x86/")

# Everything else is C that the unit tests compile for the host.
ASSEMBLY_IN = re.compile(r"boot/|kernel/host/x86/|(vmx|svm)/\1_(insn\.[ch]|entry\.S)$")

COLUMNS = 120
COLUMNS_NOT = ".pml"                                    # tests/model/run.py quotes their lines
FILE_LINES = 999
FUNCTION_LINES = 60
COMMENT_SHARE = (30, 50)                                # percent of a public header
COMMENT_LINES = 10                                      # a header with fewer lines has any share
FORMATTER = "clang-format-19"                           # another version formats otherwise
SHOWN = 30                                              # findings of each check

OURS = ("boot", "kernel", "vmx", "svm", "net", "migrate")
INCLUDE_ROOTS = OURS + ("tests", "tools")
# A public header is one that another room includes.  Not these: internal headers, the C library, names that the manuals
# explain.
PUBLIC_NOT = re.compile(r"(_impl|_internal)\.h$|^kernel/lib/libc/|^kernel/host/x86/(msr|regs|x86)\.h$")

Finding = namedtuple("Finding", "place cause fix")
Edge = namedtuple("Edge", "source target place what")   # rooms, file:line, and what is included or called there


class LintError(Exception):
    """The check itself cannot run."""


# ---- the tree ----

class Tree:
    """The files under a root, and what the checks share about them."""

    def __init__(self, root, obj, chosen=()):
        self.root, self.obj, self.only = root, obj, set(chosen)
        self.notes, self.texts, self.codes = [], {}, {}
        self.edges = {}                                 # "includes" and "uses": [Edge], filled in by the checks
        if os.path.exists(os.path.join(root, ".git")):  # new files too, before they are added
            listed = run(root, "git", "ls-files", "-co", "--exclude-standard")
            names = set(walk(root) if listed.returncode else listed.stdout.splitlines())
        else:
            names = set(walk(root))
        self.links = sorted(n for n in names if os.path.islink(os.path.join(root, n)))
        self.files = sorted(n for n in names if os.path.isfile(os.path.join(root, n)))
        self.c_files = [f for f in self.files if f.endswith((".c", ".h", ".S"))]

    def text(self, file):
        if file not in self.texts:
            with open(os.path.join(self.root, file), encoding="utf-8", errors="replace") as f:
                self.texts[file] = f.read()
        return self.texts[file]

    def code(self, file):
        """The text without its comments; a continued line is joined, the lines after it stay where they are."""
        if file not in self.codes:
            text = joined(self.text(file))
            self.codes[file] = TOKENS.sub(lambda m: blank(m[0]) if m[0].startswith("/") else m[0], text)
        return self.codes[file]

    def chosen(self, files):
        """Those of the files that the user wants to know about."""
        return [f for f in files if f in self.only] if self.only else files

    def is_script(self, file):
        return "." not in os.path.basename(file) and re.match(r"#!.*(python3|bash|sh)\b", self.text(file)) is not None


def walk(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [d for d in folders if d not in ("build", ".git", "__pycache__")]
        names += [d for d in folders if os.path.islink(os.path.join(folder, d))]
        yield from (os.path.relpath(os.path.join(folder, name), root) for name in names)


# comments, and the literals in which their marks mean nothing
TOKENS = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*', re.S)


def joined(text):
    """Lines that end in a backslash, each joined with the next; empty lines take the place of those."""
    def join(m):
        return re.sub(r"\\[ \t]*\n", "", m[0]) + "\n" * m[0].count("\n")
    return re.sub(r"(?:[^\n]*\\[ \t]*\n)+[^\n]*", join, text)


def blank(text):
    return re.sub(r"[^\n]+", " ", text)


def comments(text):
    """Only the comments of a C text, their marks taken away."""
    out, at = [], 0
    for m in TOKENS.finditer(text):
        out.append(re.sub(r"[^\n]+", "", text[at:m.start()]))
        out.append(re.sub(r"(?m)^[ \t]*\*+/?|^/[*/]+|\*+/$", "", m[0]) if m[0].startswith("/") else "")
        at = m.end()
    return "".join(out) + re.sub(r"[^\n]+", "", text[at:])


def run(root, *command):
    """A finished command in this folder, with its output; a make in it is not part of the one that runs us."""
    return subprocess.run(command, cwd=root, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "LC_ALL": "C.UTF-8", "MAKEFLAGS": "", "MAKELEVEL": "0"})


def line_of(text, at):
    return text.count("\n", 0, at) + 1


# ---- where a file may be ----

def in_ours(file):
    return file.startswith(tuple(d + "/" for d in OURS))


def check_places(tree):
    """Sources lie in folders that the other checks know, have a usual suffix, and are no links."""
    for file in tree.chosen(tree.files):
        if in_ours(file) and not file.endswith(SUFFIXES):
            yield Finding(f"{file}:1", "is neither C nor assembly", f"name it {' or '.join(SUFFIXES)}, or move it")
        if file in tree.c_files and file.split("/")[0] not in INCLUDE_ROOTS:
            yield Finding(f"{file}:1", "is a source outside the known folders",
                          f"move it into one of: {' '.join(INCLUDE_ROOTS)} (INCLUDE_ROOTS in tools/lint.py)")
    for file in tree.chosen(tree.links):
        if file.split("/")[0] in INCLUDE_ROOTS:
            yield Finding(f"{file}:1", "is a symbolic link, so a file has two rooms", "copy or move what it points at")


# ---- rooms: who may include whom ----

def room_of(file):
    """The room of a file; None: in no room.  Outside kernel/ it is the name of the folder, also without a rule."""
    folder = os.path.dirname(file)
    if file in ROOT_FILES:
        return "root"
    if not file.startswith("kernel/"):
        return file.split("/")[0]
    room = file.split("/")[1]
    return room if room in KERNEL_ROOMS and (folder == f"kernel/{room}" or folder in INNER_FOLDERS) else None


def may_include(room, above=()):
    """The rooms and single headers that a room may include."""
    if room in above:
        raise LintError(f"tools/lint.py: the table ROOMS goes round in a circle: {' '.join(above)} {room}")
    words, allowed = ROOMS[room].split(), set()
    for i, word in enumerate(words):
        if word == "+":
            allowed |= may_include(words[i + 1], (*above, room))
        elif "/" in word:
            allowed.add(word if word.split("/")[0] not in KERNEL_ROOMS else "kernel/" + word)
        else:
            allowed.add(word)
    return allowed


def rule(room):
    return f"{room} may include: {ROOMS[room] or 'nothing else'}"


INCLUDE = re.compile(r'^[ \t]*(?:#|%:)[ \t]*(?:include|include_next|import)\b[ \t]*'
                     r'(?:"([^"\n]*)"|<([^>\n]*)>|([^\n]*))', re.M)


def includes(tree):
    """(file, line, header, is it one of ours, the match of INCLUDE) of every #include."""
    for file in tree.chosen(tree.c_files):
        code = tree.code(file)
        for m in INCLUDE.finditer(code):
            header = m[1] or m[2] or ""
            yield file, line_of(code, m.start()), header, header.split("/")[0] in INCLUDE_ROOTS and "/" in header, m


def check_rooms(tree):
    """Each file of kernel/ is in a room; each include is allowed."""
    for file in tree.c_files:
        if room_of(file) is None:
            yield Finding(f"{file}:1", "is in no room of kernel/",
                          f"move it into one of: {' '.join(KERNEL_ROOMS)} (table ROOMS in tools/lint.py)")
    edges = []
    for file, line, header, ours, m in includes(tree):
        place, source = f"{file}:{line}", room_of(file)
        if source is None or source not in ROOMS and source != "tests":
            continue
        if file in NET_PUBLIC:
            yield from check_public_net(place, file, header, ours)
        if m[3] is not None:
            yield Finding(place, "includes by a macro, which this check cannot follow", "write the header's name")
        elif not header.endswith(".h") and source != "tests":
            yield Finding(place, f"includes {header}, which is no header", "name it .h, or compile it by itself")
        elif not ours:
            yield from check_library(tree, place, file, header, m[1] is not None)
        elif os.path.normpath(header) != header:
            yield Finding(place, f'includes "{header}"', f'write "{os.path.normpath(header)}"')
        elif source != "tests":
            target = room_of(header)
            if target == source:
                continue
            edges.append(Edge(source, target, place, f"includes {header}"))
            allowed = may_include(source)
            if target not in allowed and header not in allowed:
                yield Finding(place, f"{source} may not include {header} of {target or 'no room'}",
                              f"{rule(source)}; move the code, or have the upper room register a function")
            elif target == "net" and header not in NET_PUBLIC:
                yield Finding(place, f"includes {header}, which is internal to net/",
                              f"use one of: {' '.join(sorted(NET_PUBLIC))} (NET_PUBLIC in tools/lint.py)")
    tree.edges["includes"] = edges


def check_public_net(place, file, header, ours):
    """A public header of net/ gives nothing else of net/ to those who include it."""
    if header.startswith("net/") and header not in NET_PUBLIC:
        yield Finding(place, f"{file} is public, but includes {header}, which is internal to net/",
                      "declare the type that it needs, or move it (NET_PUBLIC in tools/lint.py)")
    if not ours and any(header.startswith(prefix) and places != file for prefix, places in LIBRARIES.items()):
        yield Finding(place, f"{file} is public, but includes <{header}>", "keep the library inside net/")


def check_library(tree, place, file, header, quoted):
    """A <header> of C or of an imported library."""
    if file.startswith(("tests/", "tools/")) and not quoted:
        return
    places = next((LIBRARIES[prefix] for prefix in LIBRARIES if header.startswith(prefix)), None)
    if quoted and not (file.startswith("tests/guest/") or places):
        yield Finding(place, f'includes "{header}"', "write its path from the root of the tree")
    elif places and not file.startswith(("tests/", *places.split())):
        yield Finding(place, f"includes <{header}>", f"only {places} may (LIBRARIES in tools/lint.py)")
    elif not places and not quoted and header not in STANDARD and LIBC + header not in tree.files:
        yield Finding(place, f"includes <{header}>, which this tree does not know",
                      "add it to LIBRARIES in tools/lint.py, with the files that need it")


def circle_through(edge, edges):
    """A shortest row of edges that begins with this one and comes back to its room, or None."""
    seen, rows = {edge.target}, [[edge]]
    while rows:
        row = rows.pop(0)
        if row[-1].target == edge.source:
            return row
        for e in edges:
            if e.source == row[-1].target and e.target not in seen:
                seen.add(e.target)
                rows.append(row + [e])
    return None


def check_circles(tree):
    """No circle of includes and calls goes through two rooms.  One finding for each pair of rooms that closes one."""
    known = [e for kind in ("includes", "uses") for e in tree.edges.get(kind, []) if e.target]
    edges = list({(e.source, e.target): e for e in reversed(known)}.values())
    edges.sort(key=lambda e: e.target in {room_of(x) if "/" in x else x for x in may_include(e.source)})
    while edges:                                        # the forbidden ones come first: they close the circles
        edge = edges.pop(0)
        row = circle_through(edge, [edge] + edges)
        if row:
            yield Finding(edge.place, f"circle of rooms: {' -> '.join(e.source for e in row)} -> {edge.source} "
                          f"({'; '.join(f'{e.place} {e.what}' for e in row)})", "turn one of these around")


# ---- calls: the same for the symbols in the objects ----

def symbols(tree):
    """({file: symbols it wants}, {symbol: files that define it})."""
    objects = {}
    for file in tree.c_files:
        if in_ours(file) and not file.endswith(".h"):
            objects[os.path.join(tree.obj, file + ".o")] = file
    missing = [file for path, file in objects.items() if not os.path.exists(path)]
    present = [path for path in objects if os.path.exists(path)]
    wants, defined = defaultdict(set), defaultdict(set)
    listed = run(tree.root, "nm", "-A", "-P", *present) if present else None
    if listed and listed.returncode:
        raise LintError(f"nm fails: {listed.stdout.strip()[-300:]}")
    for line in listed.stdout.splitlines() if listed else ():
        path, name, kind = line.rsplit(":", 1)[0], *line.rsplit(":", 1)[1].split()[:2]
        if kind in "Uwv":
            wants[objects[path]].add(name)
        elif kind.isupper():
            defined[name].add(objects[path])
    return wants, defined, missing


def call_place(tree, file, name):
    """Where the file uses a symbol; else where it includes the header that does."""
    word, code = re.compile(rf"\b{re.escape(name)}\b"), tree.code(file)
    m = word.search(INCLUDE.sub(lambda m: " " * len(m[0]), code)) or \
        next((m for m in INCLUDE.finditer(code) if m[1] in tree.files and word.search(tree.code(m[1]))), None)
    return f"{file}:{line_of(code, m.start()) if m else 1}"


def declares(tree, header, name):
    return header in tree.files and re.search(rf"\b{re.escape(name)}\b", tree.code(header)) is not None


def call_allowed(tree, source, name, definer):
    """May a room use the symbol that this file defines?"""
    target = room_of(definer)
    if target == source or definer.startswith(LIBC) or name in COMPILER_CALLS:
        return True
    allowed = may_include(source)
    if target in allowed:
        return True
    headers = {h for h in allowed if "/" in h}
    headers |= {h for h, by in IMPLEMENTED_ABOVE.items() if definer in by and room_of(h) in {source, *allowed}}
    return any(declares(tree, header, name) for header in headers)


def check_calls(tree):
    """Each symbol that a room uses is defined in a room that it may include."""
    wants, defined, missing = symbols(tree)
    for file in missing:
        yield Finding(f"{file}:1", f"has no object in {os.path.relpath(tree.obj, tree.root)}",
                      "run make; if that does not help, add its folder to DIRS in the Makefile")
    for name, files in sorted(defined.items()):
        if len({room_of(file) for file in files}) > 1:
            for file in sorted(files):
                yield Finding(call_place(tree, file, name), f"{name} is defined in {' and '.join(sorted(files))}",
                              "rename one, or keep only one")
    edges = []
    for file in tree.chosen(sorted(wants)):
        source = room_of(file)
        for name in sorted(wants[file]):
            definers = sorted(defined.get(name, ()))
            if source not in ROOMS or not definers or any(room_of(d) in (source, None) for d in definers):
                continue
            definer = next((d for d in definers if call_allowed(tree, source, name, d)), None)
            place = call_place(tree, file, name)
            if definer is None:
                cause = f"{source} may not call {name} of {room_of(definers[0])}, defined in {definers[0]}"
                yield Finding(place, cause,
                              f"{rule(source)}; move the code, or have the upper room register a function")
            definer = definer or definers[0]
            above = any(definer in d and declares(tree, h, name) for h, d in IMPLEMENTED_ABOVE.items())
            if not above and not definer.startswith(LIBC) and name not in COMPILER_CALLS:
                edges.append(Edge(source, room_of(definer), place, f"uses {name} of {definer}"))
    tree.edges["uses"] = edges


def wipes_without_stores(tree):
    """wipe() itself: its object must write to memory."""
    file = os.path.join(tree.obj, WIPE + ".o")
    if not os.path.exists(file):
        return True
    listed = run(tree.root, "objdump", "-d", "--no-show-raw-insn", file)
    return listed.returncode != 0 or not WIPE_STORE.search(listed.stdout)


def check_wipes(tree):
    """Each wipe() of a source is in its object, and secrets are erased by nothing else."""
    for file in filter(in_ours, tree.chosen(tree.c_files)):
        if file in SECRETS:
            for place, _ in lines_with(tree, file, ZEROING):
                yield Finding(place, "erases by memset(), which the compiler may drop", "wipe(), of kernel/lib/wipe.h")
        if TARGET.search(tree.code(file)) and "no_stack_protector" not in tree.code(file):
            yield Finding(f"{file}:1", "has a function with a target of its own, whose stack protector would use %fs",
                          "add no_stack_protector to its attributes")
        said = len(WIPE_CALL.findall(tree.code(file))) if file.endswith(".c") and file != WIPE else 0
        obj = os.path.join(tree.obj, file + ".o")
        if not said or not os.path.exists(obj):
            continue
        listed = run(tree.root, "objdump", "-r", obj)
        if listed.returncode:
            raise LintError(f"objdump fails: {listed.stdout.strip()[-300:]}")
        there = len(WIPE_RELOCATION.findall(listed.stdout))
        if there < said:
            yield Finding(f"{file}:1", f"calls wipe() {said} times, its object {there} times",
                          "the compiler dropped one: declare wipe() in its header only, and let the object be built")
    if WIPE in tree.chosen(tree.c_files) and wipes_without_stores(tree):
        yield Finding(f"{WIPE}:1", "its object has no store to memory", "the stores must be volatile")


def print_edges(tree):
    count = [Counter((e.source, e.target or "no room") for e in tree.edges.get(k, [])) for k in ("includes", "uses")]
    order = [*ROOMS, "no room"]
    print("rooms and what they use: includes, symbols")
    for pair in sorted({**count[0], **count[1]}, key=lambda pair: [order.index(room) for room in pair]):
        print(f"  {' -> '.join(pair):<20}{count[0][pair]:>4}{count[1][pair]:>5}")


# ---- headers, format ----

def flags_of(tree):
    """[(folder, compiler flags)], the longest folder first: the Makefile knows them."""
    done = run(tree.root, "make", "-s", "--no-print-directory", "flags")
    rows = re.findall(r"^([\w/]*): (.*)$", done.stdout, re.M)
    if done.returncode or not rows:
        raise LintError(f"make flags fails: {done.stdout.strip()[:300]}")
    return sorted(rows, key=lambda row: -len(row[0]))


def check_headers(tree):
    """Each header compiles alone, with its folder's flags."""
    flags = flags_of(tree)

    def compiled(file):
        mine = next(f for folder, f in flags if file.startswith(folder))
        return run(tree.root, "gcc", *mine.split(), "-fsyntax-only", "-x", "c", "-include", file, os.devnull)

    headers = tree.chosen([f for f in tree.files if f.endswith(".h") and f not in NOT_ALONE])
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, done in zip(headers, pool.map(compiled, headers)):
            if done.returncode:
                m = re.search(r"(?:(?:\./)?(\S+?):(\d+):\d+: )?(?:fatal )?error: (.*)", done.stdout)
                where = f"{m[1]}:{m[2]}: " if m and m[1] and m[1] != file else ""
                yield Finding(f"{file}:{m[2] if m and m[1] == file else 1}",
                              f"does not compile alone: {where}{m[3] if m else done.stdout[:200]}",
                              "include what it uses, or declare it")


def check_format(tree):
    """What the formatter would change."""
    if not os.path.exists(os.path.join(tree.root, ".clang-format")):
        tree.notes.append("no .clang-format: the format was not checked")
        return
    if not shutil.which(FORMATTER):
        yield Finding(".clang-format:1", f"{FORMATTER} is not installed", "run tools/setup.sh")
        return
    files = tree.chosen([f for f in tree.files if f.endswith((".c", ".h"))])
    slices = [files[i::2 * os.cpu_count()] for i in range(2 * os.cpu_count())]

    def formatted(part):
        return run(tree.root, FORMATTER, "--dry-run", "-Werror", *part) if part else None

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in pool.map(formatted, slices):
            if not done or not done.returncode:
                continue
            places = defaultdict(list)
            for m in re.finditer(r"^(\S+?):(\d+):\d+: error: code should be clang-formatted", done.stdout, re.M):
                places[m[1]].append(m[2])
            if not places:
                raise LintError(f"{FORMATTER} fails: {done.stdout.strip()[:300]}")
            for file, lines in places.items():
                yield Finding(f"{file}:{lines[0]}", f"is not as {FORMATTER} formats it ({len(lines)} places)",
                              f"{FORMATTER} -i {file}")


# ---- sizes and texts ----

ATTRIBUTE = re.compile(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)")


def functions(tree, file):
    """(name, line of its brace, lines) of each function whose braces are at the beginning of a line."""
    code, before, begun = tree.code(file).split("\n"), "", None
    for number, line in enumerate(code, 1):
        if line.startswith("{"):
            begun = number
        elif line.startswith("}") and begun:
            name = re.findall(r"(\w+)\s*\(", ATTRIBUTE.sub("", before))
            yield name[0] if name else "?", begun, number - begun + 1
            begun, before = None, ""
        elif begun is None:
            before = line if re.match(r"\w.*\(", line) else before


def is_own_text(tree, file):
    return file.endswith((".c", ".h", ".S", ".py", ".sh", ".mk", ".ld", ".pml")) or file == "Makefile" or \
        tree.is_script(file)


# Lines between these marks are a table, in C and in scripts.
TABLE = {True: re.compile(r"^\s*/[/*]\s*clang-format (off|on)\b"), False: re.compile(r"^\s*# fmt: (off|on)\b")}
# A row of a table or only a link, in Markdown.
MARKDOWN_LONG = re.compile(r"\s*\||\s*(?:[-*]\s+)?\[[^]]*\]\(\S+\)[.,;]?$|\s*(\[\w+\]:\s*)?<?https?://\S+$")


def long_lines(tree, file):
    """(line number, columns) of each line that is too long and in no table or code block."""
    markdown, off = file.endswith(".md"), False
    for number, line in enumerate(tree.text(file).splitlines(), 1):
        if markdown:
            off ^= line.lstrip().startswith("```")
        elif m := TABLE[file.endswith((".c", ".h", ".S"))].match(line):
            off = m[1] == "off"
        columns = len(line.expandtabs(8))
        if columns > COLUMNS and not off and not (markdown and MARKDOWN_LONG.match(line)):
            yield number, columns


def check_size(tree):
    """Functions, files and lines that are too long."""
    for file in tree.chosen(tree.files):
        if not is_own_text(tree, file) and not file.endswith(".md"):
            continue
        lines = len(tree.text(file).splitlines())
        if lines > FILE_LINES and not file.endswith(".md"):
            yield Finding(f"{file}:{lines}", f"has {lines} lines, the limit is {FILE_LINES}", "divide it by subject")
        for number, columns in long_lines(tree, file) if not file.endswith(COLUMNS_NOT) else ():
            yield Finding(f"{file}:{number}", f"has {columns} columns, the limit is {COLUMNS}", "break the line")
        if file.endswith((".c", ".h")):
            for name, line, length in functions(tree, file):
                if length > FUNCTION_LINES:
                    yield Finding(f"{file}:{line}", f"{name} has {length} lines, the limit is {FUNCTION_LINES}",
                                  "give a part of it a name")


STATIC = re.compile(r"^(?:\w[\w ]*)?\bstatic\b[^;{}()=#]*?[\s*](\w+)\(", re.M)


def check_names(tree):
    """Each static function's name is the only one: a backtrace says just the name."""
    files = defaultdict(list)                           # name: [(file, line)], one for each file
    for file in (f for f in tree.c_files if (in_ours(f) or f.startswith("tools/")) and not f.endswith(".S")):
        code = ATTRIBUTE.sub(lambda m: blank(m[0]), tree.code(file))
        for name, line in {m[1]: line_of(code, m.start(1)) for m in STATIC.finditer(code)}.items():
            files[name].append((file, line))
    for name, places in sorted(files.items()):
        for file, line in places if len(places) > 1 else ():
            others = " and ".join(f for f, _ in places if f != file)
            yield Finding(f"{file}:{line}", f"{name} is a static function in {others} as well", "rename one")


LICENCE = "SPDX-License-Identifier: BSD-2-Clause"
LONG_LONG_IN = (LIBC, "tests/unit/test_fmt.c")          # where long long is meant: strtoll() and its like
LONG_LONG = re.compile(r"%[-+ #0-9.*]*ll[duxXo]|\((?:unsigned )?long long\)")


def lines_with(tree, file, pattern, strings=True):
    """(place, match) of each line of code that has it, also in a string."""
    for number, line in enumerate(tree.code(file).split("\n"), 1):
        if m := pattern.search(line if strings else re.sub(r'"(?:\\.|[^"\\])*"', '""', line)):
            yield f"{file}:{number}", m


OFF = re.compile(r"/[/*]\s*clang-format (off|on)\b")
BODY = re.compile(r"\{|.*\) \{\s*$")


def unformatted_bodies(tree, file):
    """The line of each body of a function, or of a condition, that the formatter is told to pass over."""
    off = False
    for number, (line, code) in enumerate(zip(tree.text(file).split("\n"), tree.code(file).split("\n")), 1):
        for m in OFF.finditer(line):
            off = m[1] == "off"
        if off and BODY.match(code):
            yield number


WEAK = re.compile(r"\b(?:__)?weak(?:ref)?(?:__)?\b")
ASM = re.compile(r"\b(?:asm|__asm|__asm__)\b")


def check_code(tree):
    """Assembly only where it belongs, no weak symbols, functions formatted."""
    for file in tree.chosen([f for f in tree.c_files if in_ours(f)]):
        if not ASSEMBLY_IN.match(file):
            if file.endswith(".S"):
                yield Finding(f"{file}:1", "is assembly outside the files for it",
                              "write C (ASSEMBLY_IN in tools/lint.py)")
            for place, _ in lines_with(tree, file, ASM, strings=False):
                yield Finding(place, "has inline assembly", "call a function of kernel/host/x86/, or of *_insn.h")
        for place, m in lines_with(tree, file, WEAK, strings=False):
            yield Finding(place, f"has {m[0]}, so another file may define the same symbol", "define it once")
    for file in tree.chosen([f for f in tree.c_files if not f.endswith(".S")]):
        for line in unformatted_bodies(tree, file):
            yield Finding(f"{file}:{line}", "is a function's body where clang-format is off",
                          "turn it off for tables only")


def check_text(tree):
    """Vendors' names in the core, licences, long long."""
    for file in tree.chosen(tree.files):
        if is_own_text(tree, file) and LICENCE not in "\n".join(tree.text(file).split("\n")[:3]):
            yield Finding(f"{file}:1", "no SPDX line", f"write {LICENCE} in a comment in the first three lines")
        if not file.endswith((".c", ".h")):
            continue
        if file.startswith(("boot/", "kernel/", "net/", "migrate/")) and not file.startswith(VENDORS_NAMED_IN):
            for place, m in lines_with(tree, file, VENDORS):
                yield Finding(place, f"names a vendor ({m[1]}) outside vmx/, svm/ and kernel/main.c",
                              "ask cpu_ops or cpu_caps")
        if file.startswith(tuple(d + "/" for d in INCLUDE_ROOTS)) and not file.startswith(LONG_LONG_IN):
            for place, m in lines_with(tree, file, LONG_LONG):
                yield Finding(place, f"has {m[0]}", "uint64_t is unsigned long: %lu, and no cast")


def check_scripts(tree):
    """The checks that are scripts of their own."""
    present = [s for s in SCRIPTS if os.path.exists(os.path.join(tree.root, s))]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for script, done in zip(present, pool.map(lambda s: run(tree.root, os.path.join(tree.root, s)), present)):
            lines = done.stdout.strip().split("\n")
            crashed = "Traceback (most recent call last)" in done.stdout
            tree.notes += [line for line in lines[-1:] if line and not crashed]
            if done.returncode:
                for line in (crashed and lines[-1:]) or lines[:-1] or lines:
                    m = re.match(r"\w+: (\S+?:\d+): (.*)", line)
                    yield Finding(m[1] if m else f"{script}:1", m[2] if m else line, f"see {script}")


# ---- figures ----

def comment_share(tree, file):
    """Lines with comment and lines that are not empty; the line of the licence does not count."""
    lines = tree.text(file).splitlines()
    said = comments(tree.text(file)).split("\n")
    rows = [i for i, line in enumerate(lines) if line.strip() and "SPDX-License-Identifier" not in line]
    return sum(bool(said[i].strip()) for i in rows), len(rows)


def public_headers(tree):
    """{header: its room} of those that another room includes."""
    return {h: room_of(h) for f, _, h, ours, _ in includes(tree)
            if ours and h in tree.files and in_ours(h) and not PUBLIC_NOT.search(h)
            and in_ours(f) and room_of(f) != room_of(h) and room_of(h) in ROOMS}


def check_comments(tree):
    """The share of comments in public headers."""
    (low, high), headers = COMMENT_SHARE, public_headers(tree)
    for room in ROOMS:
        mine = {h: comment_share(tree, h) for h, r in sorted(headers.items()) if r == room}
        mine = {h: (said, lines) for h, (said, lines) in mine.items() if lines >= COMMENT_LINES}
        if not mine:
            continue
        shares = {h: round(100 * c / n) for h, (c, n) in mine.items()}
        wrong = {h: share for h, share in shares.items() if not low <= share <= high}
        pooled = 100 * sum(c for c, _ in mine.values()) / sum(n for _, n in mine.values())
        tree.notes.append(f"comments in public headers of {room}: {pooled:.0f} % ({min(shares.values())} to "
                          f"{max(shares.values())} in {len(mine)} headers, {len(wrong)} outside {low} to {high})")
        for file, share in wrong.items():
            yield Finding(f"{file}:1", f"is {share} % comment, a public header has {low} to {high}",
                          "document what a caller must know, and only that")


def header_figures(tree):
    rows = [(file, *comment_share(tree, file)) for file in sorted(public_headers(tree))]
    return [f"  {100 * said / lines:3.0f} % of {lines:3} lines: {file}" for file, said, lines in rows]


ASSERTS = re.compile(r"\b(ASSERT|ASSERT_EQ|_Static_assert|lock_assert_held)\(")


def print_figures(tree):
    lines, asserts, lengths = 0, Counter(), [0]
    for file in tree.c_files:
        if in_ours(file):
            lengths += [length for _, _, length in functions(tree, file)]
            if not file.startswith("boot/"):
                lines += len(tree.text(file).splitlines())
                asserts.update(ASSERTS.findall(re.sub(r"(?m)^#define.*", "", tree.code(file))))
    held = asserts.pop("lock_assert_held", 0)
    print(f"asserts: {asserts.total()} in {lines} lines, {1000 * asserts.total() / max(lines, 1):.1f} per 1000; "
          f"lock_assert_held: {held}")
    print(f"functions: {len(lengths) - 1}, median {sorted(lengths)[len(lengths) // 2]} lines, longest {max(lengths)}")


# ---- all of it ----

CHECKS = {"places": check_places, "rooms": check_rooms, "calls": check_calls, "circles": check_circles,
          "wipes": check_wipes, "headers": check_headers, "format": check_format, "size": check_size,
          "names": check_names, "code": check_code, "text": check_text, "scripts": check_scripts,
          "comments": check_comments}


def main(argv=None):
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].format(checks=" ".join(CHECKS), shown=SHOWN))
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser.add_argument("--obj")
    parser.add_argument("--only", default=",".join(CHECKS))
    parser.add_argument("--figures", action="store_true")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("files", nargs="*")
    args = parser.parse_args(argv)
    root = os.path.abspath(args.root)
    tree = Tree(root, os.path.abspath(args.obj) if args.obj else os.path.join(root, "build", "obj"), args.files)
    found = {}
    for name in args.only.split(","):
        if name not in CHECKS:
            parser.error(f"--only {name}: there is {' '.join(CHECKS)}")
        try:
            found[name] = [f for f in CHECKS[name](tree) if tree.chosen([f.place.split(":")[0]])]
        except (LintError, OSError, subprocess.SubprocessError) as error:
            found[name] = [Finding("tools/lint.py:1", f"check {name}: {error}", "mend this first")]
    if not args.files and args.only == parser.get_default("only"):
        print_edges(tree)
        print_figures(tree)
    for note in tree.notes + (header_figures(tree) if args.figures else []):
        print(note)
    for name, findings in found.items():
        for f in findings if args.all else findings[:SHOWN]:
            print(f"{f.place}: {f.cause}: {f.fix}")
        if len(findings) > SHOWN and not args.all:
            print(f"... and {len(findings) - SHOWN} more of {name} (tools/lint.py --all --only {name})")
    total = sum(map(len, found.values()))
    by_check = ", ".join(f"{name} {len(f)}" for name, f in found.items() if f)
    print(f"lint: {total} findings ({by_check})" if total else "lint: ok")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
