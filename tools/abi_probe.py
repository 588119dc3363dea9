#!/usr/bin/env python3
"""Write a C file that defines every public function, empty: tools/abi_probe.py OUT.c

Compiled, it is a library with exactly the ABI that the headers declare and nothing of the C++ inside, which abidw and abidiff (2.2) read without
stumbling. That the real library exports the same names is tests/abi/symbols.sh; that it was compiled from the same headers, the compiler saw to.
"""
import pathlib, re, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    out = ['#include "larder/larder.h"', ""]
    for header in sorted((ROOT / "include/larder").glob("*.h")):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        for m in re.finditer(r"^LARDER_API\s+([^;]*?)\s*LARDER_NOEXCEPT\s*;", text, flags=re.M | re.S):
            prototype = " ".join(m.group(1).split())
            returns = "" if re.match(r"void\s+larder_", prototype) else " return 0; "
            out.append(prototype + " {" + returns + "}")
    pathlib.Path(sys.argv[1]).write_text("\n".join(out) + "\n")


main()
