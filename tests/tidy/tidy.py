#!/usr/bin/env python3
"""Rules of CONTRIBUTING.md that a program can check: floors, door rules, sizes, words, documented exports."""
import pathlib, re, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
problems = []


def say(path, line, text):
    problems.append(f"{path.relative_to(ROOT)}:{line}: {text}")


def tracked():
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if out.returncode == 0 and out.stdout:
        return [ROOT / p for p in out.stdout.split("\n") if p and (ROOT / p).exists()]
    return [p for p in ROOT.rglob("*") if p.is_file() and "build" not in p.parts and ".git" not in p.parts]


def deps():
    rules = {}
    for line in (ROOT / "src/DEPS").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            room, _, below = line.partition(":")
            rules[room.strip()] = set(below.split())
    return rules


# Calls that belong behind a seam, and the rooms where they may stand.
DOORS = [
    (re.compile(r"\b(mmap|munmap|madvise|mprotect|pread|pwrite|fsync|fdatasync|clock_gettime|nanosleep|getrandom|socketpair|memfd_create|flock)\s*\("), {"os"}, "reached through os/os.h"),
    (re.compile(r"\bstd::(atomic|atomic_ref)\b"), {"base"}, "atomics come from base/atomic.h"),
    (re.compile(r"\b(abort|exit|_exit|printf|puts|perror|std::cout|std::cerr)\s*(\(|<<)"), set(), "the library never aborts, prints or exits"),
    (re.compile(r"\bstd::(random_device|this_thread::sleep_for|thread\b)"), {"os"}, "reached through os/os.h"),
]
MARKS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def check_source(path, rules):
    room = path.relative_to(ROOT / "src").parts[0]
    text = path.read_text()
    if room not in rules:
        say(path, 1, f"room '{room}' is not in src/DEPS")
        return
    code = re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    for n, line in enumerate(text.split("\n"), 1):
        m = re.match(r'\s*#include "([a-z0-9_]+)/', line)
        if m and m.group(1) in rules and m.group(1) != room and m.group(1) not in rules[room]:
            say(path, n, f"{room} must not include {m.group(1)}")
    for n, line in enumerate(re.sub(r'"(\\.|[^"\\\n])*"', '""', code).split("\n"), 1):
        for pattern, rooms, why in DOORS:
            if room not in rooms and pattern.search(line) and "gnu::format" not in line:
                say(path, n, f"'{pattern.search(line).group()}': {why}")
    n_lines = text.count("\n")
    if n_lines > 700:
        say(path, n_lines, f"{n_lines} lines; a file holds one idea in about 600")


def check_exports():
    for header in sorted((ROOT / "include/larder").glob("*.h")):
        text = header.read_text()
        for m in re.finditer(r"^LARDER_API[^;]*?\b(larder_\w+)\s*\(", text, flags=re.M):
            before = text[: m.start()].rstrip()
            line = text[: m.start()].count("\n") + 1
            if not before.endswith("*/"):
                say(header, line, f"{m.group(1)} has no comment")
            elif "@threads" not in before[before.rfind("/**"):]:
                say(header, line, f"{m.group(1)} has no @threads line")


def check_readme():
    readme = (ROOT / "README.md").read_text()
    if (ROOT / "examples/readme.c").read_text() not in readme:
        say(ROOT / "README.md", 1, "the example differs from examples/readme.c")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", readme):
        if not (ROOT / target).exists():
            say(ROOT / "README.md", 1, f"links to {target}, which is not there")


def main():
    rules = deps()
    for path in tracked():
        if path.suffix in {".cpp", ".h", ".c", ".cu", ".py", ".sh"}:
            text = path.read_text(errors="replace")
            if path.name != "tidy.py":
                for n, line in enumerate(text.split("\n"), 1):
                    if MARKS.search(line):
                        say(path, n, "a mark of unfinished work")
            if (ROOT / "src") in path.parents and path.suffix in {".cpp", ".h"}:
                check_source(path, rules)
        if path.stat().st_size > 6 << 20:
            say(path, 1, "larger than 6 MiB")
    check_exports()
    check_readme()
    print(*problems, sep="\n")
    print(f"{len(problems)} problem(s)")
    return 1 if problems else 0


sys.exit(main())
