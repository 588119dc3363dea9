#!/usr/bin/env python3
"""Write tests/abi/layout.c: the offset of every field of every public struct, as the compiler lays them out now.

Run it when a struct was added or a field appended. A field that moved shows up as a changed line: before the tag 0.1 that has to be
meant, afterwards it must not happen.
"""
import pathlib, re, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def structs():
    """(name, [fields]) of every public struct, in the order of the headers."""
    for header in sorted((ROOT / "include/larder").glob("*.h")):
        text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.S)
        for name, body in re.findall(r"typedef struct (larder_\w+) \{(.*?)\n?\} \1;", text, flags=re.S):
            if "LARDER_STATS_MAP" in body:  # one list makes it; its fields are locked by the list's order
                body = re.sub(r"#define.*|LARDER_STATS_MAP.*|#undef.*", "", body)
            fields = []
            for declaration in body.split(";"):
                callback = re.search(r"\(\*(\w+)\)", declaration)
                names = [callback.group(1)] if callback else re.findall(r"(\w+)\s*(?:\[[^\]]*\])*\s*(?:,|$)", declaration.strip())
                fields += names
            yield name, fields


def measure(all_structs):
    lines = ["#include <stdio.h>", '#include "larder/larder.h"', "int main(void) {"]
    for name, fields in all_structs:
        lines.append(f'printf("{name} %zu\\n", sizeof({name}));')
        lines += [f'printf("{name}.{f} %zu\\n", offsetof({name}, {f}));' for f in fields]
    lines.append("return 0; }")
    with tempfile.TemporaryDirectory() as d:
        source, program = pathlib.Path(d) / "m.c", pathlib.Path(d) / "m"
        source.write_text("\n".join(lines))
        subprocess.run(["cc", "-std=c11", f"-I{ROOT}/include", source, "-o", program], check=True)
        out = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return dict(line.split() for line in out.splitlines())


def main():
    found = list(structs())
    at = measure(found)
    out = ["/* Locks the layout of the public structs of version 0.1 (written by tools/abi_layout.py). A field may be appended; none may move. */",
           "#include <stdio.h>", "", '#include "larder/larder.h"', "",
           '#define LOCK(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field " moved")',
           '#define SIZE(type, bytes) _Static_assert(sizeof(type) >= (bytes), #type " shrank")', ""]
    for name, fields in found:
        out.append(f"SIZE({name}, {at[name]});")
        out += [f"LOCK({name}, {f}, {at[name + '.' + f]});" for f in fields]
    out += ["", "int main(void) {",
            "    /* The compiler did the work; running shows that the library fills a struct as the header lays it out. */",
            "    larder_error_info e = LARDER_ERROR_INFO_INIT;",
            "    if (larder_last_error(&e) != LARDER_OK || e.struct_size != sizeof e) return 1;",
            f'    printf("{len(found)} structs hold\\n");', "    return 0;", "}", ""]
    (ROOT / "tests/abi/layout.c").write_text("\n".join(out))


sys.exit(main())
