#!/usr/bin/env python3
"""Cut the text of the demo from the held-out text (corpus.py).

    demo_text.py held.txt larder-demo.txt

Pages end with a form feed. The first three are the documents that the users read; what users say and what codecs are measured
on is taken from the rest, in order. A document is found by how it begins; from and n are in characters.
"""
import sys

PAGES = (  # begins with, from, n
    ("SQLite Over a Network", 0, 4000),
    ("NORTHANGER ABBEY", 1300, 4000),
    ("Jonah 1", 0, 4000),
    ("The ON CONFLICT Clause", 0, 3000),
    ("Ruth 1", 0, 3000),
    ("NORTHANGER ABBEY", 60000, 3000),
    ("The SQLite R*Tree Module", 0, 20000),
    ("NORTHANGER ABBEY", 120000, 20000),
    ("Dan 1", 0, 20000),
    ("SQL Language Expressions", 0, 20000),
)


def main(held, out):
    documents = open(held, encoding="ascii").read().split("\0")
    pages = []
    for title, begin, n in PAGES:
        text = next(d for d in documents if d.startswith(title))
        begin = text.find("\n", begin) + 1 if begin else 0
        pages.append(text[begin:begin + n].rsplit(" ", 1)[0].rstrip())
    open(out, "w").write("\f".join(pages))


main(*sys.argv[1:])
