#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""tools/check-tour.py - do README and docs/ name what exists?

usage: check-tour.py [ROOT]

Tour: in docs/tour.md each `function()` must be defined in the `file` named before it in the same step.  Each numbered
step must name one.  There must be at least STEPS_MIN steps, so that an empty tour does not pass.
Links: in README.md and docs/*.md each relative link must point at a file, and its #part at a heading of that file.
Names: there, each name in backticks that begins with a folder of ours, such as `kernel/core/s2.c`, must exist.
* and {a,b} are wildcards.
Functions: there, each `name()` must occur with its parenthesis in C or assembly of ours, or be defined in a script.
Part of `make lint`."""
import difflib
import glob
import os
import re
import sys

STEPS_MIN = 20
TOUR = os.path.join("docs", "tour.md")
FOLDERS = ("boot", "kernel", "vmx", "svm", "net", "migrate", "tests", "tools", "docs")
SOURCE = r"[\w./-]+/[\w.-]+\.[chS]"
PLACEHOLDER = r"\b(NAME|FILE|TAG|FOLDER)\b"         # `tests/unit/test_NAME.c` stands for many files
NAMED = {                                           # how a file of this suffix names a function
    ".c": r"\b(\w+)\)?\s*\(", ".h": r"\b(\w+)\)?\s*\(", ".S": r"^(\w+):", ".py": r"^\s*(?:def|class) (\w+)",
    ".sh": r"^(\w+)\(\)", "": r"^\s*(?:def |class )?(\w+)\(",
}
FOREIGN = {"cpu_clear_ignne", "cpu_get_ticks"}      # of QEMU, in docs/emulators.md


# ---- functions of C and assembly ----

def without_comments(source):
    """C source with comments and literals blanked; line breaks stay."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m[0])
    literals = r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\''
    return re.sub(r"/\*.*?\*/|//[^\n]*|" + literals, blank, source, flags=re.S)


def closing(source, start):
    """The place behind the parenthesis that closes the one before start."""
    depth, i = 1, start
    while depth and i < len(source):
        depth += (source[i] == "(") - (source[i] == ")")
        i += 1
    return i


def functions_of(path):
    """The names of the functions that a file defines."""
    with open(path, encoding="utf-8", errors="replace") as f:
        source = f.read()
    if path.endswith(".S"):
        return set(re.findall(r"^(\w+):", source, re.M))
    source = without_comments(source)
    # A definition begins in the first column; its type may be a line of its own.
    starts = list(re.finditer(r"^[A-Za-z_][^\n;{}()=#]*?\b(\w+)\s*\(", source, re.M))
    starts += re.finditer(r"^[A-Za-z_][\w \t*]*\n(\w+)\s*\(", source, re.M)
    return {m[1] for m in starts if re.match(r"\s*\{", source[closing(source, m.end()):])}


class Sources:
    """What each source file defines; read when somebody asks."""

    def __init__(self, root):
        self.root, self.cache = root, {}

    def functions(self, name):
        if name not in self.cache:
            self.cache[name] = functions_of(os.path.join(self.root, name))
        return self.cache[name]

    def elsewhere(self, function):
        """The files of ours, tests aside, that define it."""
        found = []
        for folder in FOLDERS:
            for here, _, files in os.walk(os.path.join(self.root, folder)):
                names = [os.path.relpath(os.path.join(here, f), self.root) for f in files if re.search(r"\.[chS]$", f)]
                found += [n for n in names if not n.startswith("tests/") and function in self.functions(n)]
        return sorted(found)

    def mentioned(self):
        """What C of ours calls, declares or defines, labels of assembly, functions and classes of scripts."""
        names = set()
        for here, _, files in (found for folder in FOLDERS for found in os.walk(os.path.join(self.root, folder))):
            for path in (os.path.join(here, f) for f in files if os.path.splitext(f)[1] in NAMED):
                with open(path, encoding="utf-8", errors="replace") as f:
                    text = f.read()
                text = without_comments(text) if path.endswith((".c", ".h")) else text
                names |= set(re.findall(NAMED[os.path.splitext(path)[1]], text, re.M))
        return names


# ---- the tour ----

def steps_of(text):
    """[(line of the step, [(line, word in backticks), ...]), ...] of all numbered steps."""
    steps, current, code = [], None, False
    for n, line in enumerate(text.split("\n"), 1):
        if line.startswith("```"):
            code = not code
        if code:
            continue
        if re.match(r"\d+\. ", line):
            current = []
            steps.append((n, current))
        elif not re.match(r"\s+\S", line):
            current = None                          # the step ends with the first line that is not indented
        if current is not None:
            current += [(n, word) for word in re.findall(r"`([^`]+)`", line)]
    return steps


def renamed_to(function, names):
    """Which of a file's functions is probably the one that had this name?  Or None."""
    words = set(function.split("_"))
    same = [n for n in sorted(names) if words <= set(n.split("_"))]             # more words, or in another order
    return (same or difflib.get_close_matches(function, names, 1, 0.8) or [None])[0]


def where(sources, file, function):
    """Where a function that file does not define is now, and what to write."""
    places = sources.elsewhere(function)
    likely = renamed_to(function, sources.functions(file) if file else ())
    says = [f"renamed there to {likely}()"] * bool(likely) + [f"moved to {' or '.join(places)}"] * bool(places)
    if not says:
        return "it is nowhere else either: write what does its work now"
    return f"{', or '.join(says)}?  Write what is true now"


def check_step(root, sources, line, words):
    """(what is wrong, functions) of one step."""
    wrong, file, pairs = [], None, 0
    for n, word in words:
        if re.fullmatch(SOURCE, word):
            file = word if os.path.isfile(os.path.join(root, word)) else ""
            if not file:
                wrong.append(f"{TOUR}:{n}: there is no file {word}: moved or renamed?  Write its present path")
        elif word.endswith("()"):
            pairs += 1
            if file is None:
                wrong.append(f"{TOUR}:{n}: this step names no file before {word}: write `folder/file.c` before it")
            elif not file or word[:-2] not in sources.functions(file):
                place = file or "a file that exists"
                wrong.append(f"{TOUR}:{n}: {word} is not defined in {place}: {where(sources, file, word[:-2])}")
    if not pairs:
        wrong.append(f"{TOUR}:{line}: this step names no function: write `folder/file.c` `function()` at its end")
    return wrong, pairs


def check_tour(root):
    """(what is wrong, steps, functions)."""
    path = os.path.join(root, TOUR)
    if not os.path.exists(path):
        return [f"{TOUR} is missing: write it, or take this check out of tools/lint.py"], 0, 0
    with open(path, encoding="utf-8") as f:
        steps = steps_of(f.read())
    wrong, total, sources = [], 0, Sources(root)
    for line, words in steps:
        bad, pairs = check_step(root, sources, line, words)
        wrong += bad
        total += pairs
    if len(steps) < STEPS_MIN:
        wrong.append(f"{TOUR} has {len(steps)} numbered steps, at least {STEPS_MIN} are expected: was a part lost, "
                     "or is it numbered otherwise?")
    return wrong, len(steps), total


# ---- links and names of all pages ----

def prose(text):
    """[(line number, line), ...] without code blocks."""
    lines, code = [], False
    for n, line in enumerate(text.split("\n"), 1):
        if line.startswith("```"):
            code = not code
        elif not code:
            lines.append((n, line))
    return lines


def headings(path):
    """The anchors of a page, as GitHub makes them."""
    with open(path, encoding="utf-8") as f:
        titles = [re.sub(r"^#+ ", "", line) for _, line in prose(f.read()) if re.match(r"#+ ", line)]
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", t) for t in titles]
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


def check_link(root, page, n, target):
    if re.match(r"[a-z]+:", target):
        return None
    file, _, part = target.partition("#")
    path = os.path.normpath(os.path.join(root, os.path.dirname(page), file)) if file else os.path.join(root, page)
    if not os.path.exists(path):
        return f"{page}:{n}: link to {target}: there is no {os.path.relpath(path, root)}: moved?  Mend the link"
    if part and path.endswith(".md") and part not in headings(path):
        near = difflib.get_close_matches(part, headings(path), 1)
        likely = f": renamed to #{near[0]}?" if near else ":"
        return f"{page}:{n}: link to {target}: that page has no heading for #{part}{likely}  Mend the link"
    return None


def expand(name):
    """The names that {a,b} stands for."""
    m = re.search(r"\{([^{}]*)\}", name)
    if not m:
        return [name]
    return [one for part in m[1].split(",") for one in expand(name[:m.start()] + part + name[m.end():])]


def check_name(root, page, n, span):
    name = span.split()[0].rstrip(",;:")
    if re.search(PLACEHOLDER, name.replace("_", " ")):
        return None
    missing = [one for one in expand(name.split(":")[0]) if not glob.glob(os.path.join(root, one))]
    if not missing:
        return None
    return f"{page}:{n}: `{name}`: there is no {', '.join(missing)}: moved or renamed?  Write its present path"


def check_pages(root):
    """(what is wrong, links, names) of README.md and docs/*.md."""
    wrong, links, names, known = [], 0, 0, FOREIGN | Sources(root).mentioned()
    pages = sorted(os.path.join("docs", f) for f in os.listdir(os.path.join(root, "docs")) if f.endswith(".md"))
    for page in ["README.md"] + pages:
        with open(os.path.join(root, page), encoding="utf-8") as f:
            lines = prose(f.read())
        for n, line in lines:
            for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
                links += 1
                wrong.append(check_link(root, page, n, target))
            for span in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[^`]*)`", line):
                names += 1
                if page == TOUR and re.fullmatch(SOURCE, span):
                    continue                        # check_step() has looked
                wrong.append(check_name(root, page, n, span))
            for function in re.findall(r"`(?:\w+\.)*(\w+)\(\)`", line):
                names += 1
                if function not in known:
                    wrong.append(f"{page}:{n}: there is no function {function}(): renamed?  Write its present name")
    return [w for w in wrong if w], links, names


def main():
    root = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), ".."))
    wrong, steps, functions = check_tour(root)
    bad, links, names = check_pages(root)
    for w in wrong + bad:
        print(f"tour: {w}")
    print(f"tour: {steps} steps, {functions} functions; {links} links and {names} names in README.md and docs/; "
          f"{len(wrong + bad)} mistakes")
    return 1 if wrong or bad else 0


if __name__ == "__main__":
    sys.exit(main())
