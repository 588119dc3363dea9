#!/usr/bin/env python3
"""Make abi/larder.symbols and src/larder.map from the public headers.

The headers are the one list of what is exported: every prototype marked LARDER_API under include/larder (experimental.h included).
Usage: tools/abi.py [--write]   without --write: exit 1 when the files disagree with the headers.
"""
import pathlib, re, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def exported():
    names = set()
    for header in sorted((ROOT / "include/larder").glob("*.h")):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        names.update(re.findall(r"LARDER_API\s[^;{(]*?\b(larder_\w+)\s*\(", text))
    return sorted(names)


def main():
    names = exported()
    files = {
        ROOT / "abi/larder.symbols": "".join(n + "\n" for n in names),
        ROOT / "src/larder.map": "LARDER_0.1 {\n  global:\n" + "".join(f"    {n};\n" for n in names) + "  local:\n    *;\n};\n",
    }
    stale = [p for p, text in files.items() if not p.exists() or p.read_text() != text]
    if "--write" in sys.argv[1:]:
        for p in stale:
            p.write_text(files[p])
    elif stale:
        print("out of date:", *(str(p.relative_to(ROOT)) for p in stale), "- run tools/abi.py --write")
        return 1
    return 0


sys.exit(main())
