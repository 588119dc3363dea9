#!/usr/bin/env python3
"""Write the corpus: public-domain English that Debian packages carry.

    sqlite3-doc           the SQLite manual (dedicated to the public domain), HTML turned to text
    jargon-text           the Jargon File (public domain), HTML turned to text
    r-cran-janeaustenr    Jane Austen's six novels, read from R's data file
    bible-kjv-text        the King James text, as the `bible` program prints it

    corpus.py --out DIR [--excerpt FILE]

writes DIR/train.txt and DIR/held.txt; documents are separated by a zero byte, which the tokenizer turns into BOS. Whole documents are
held out: one SQLite page in fifteen, one novel, and seven books of the Bible. --excerpt also writes some held-out SQLite pages as plain text.
"""
import argparse
import hashlib
import html
import pathlib
import re
import struct
import subprocess
import zlib

SQLITE = pathlib.Path("/usr/share/doc/sqlite3")
JARGON = pathlib.Path("/usr/share/doc/jargon-text/jargon.html")
AUSTEN = pathlib.Path("/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb")
# Indices of the manual, and pages that repeat the sentences of others.
SKIP = re.compile(r"crossref|requirements|keyword_index|syntaxdiagrams|capi3ref|^changes|^c_interface|toc\.|releaselog|^matrix|^sitemap")
HELD_BOOKS = ("Ruth", "Est", "Eccl", "Dan", "Jonah", "Hbr", "Jas")
HELD_NOVEL = "NORTHANGER ABBEY"


def text_of(page):
    """Plain text of an HTML page: blocks become lines, drawings and scripts go."""
    page = re.sub(r"(?is)<(script|style|svg|head)\b.*?</\1>", " ", page)
    page = re.sub(r"(?is)<!--.*?-->", " ", page)
    pre = []

    def keep(m):
        pre.append(html.unescape(re.sub(r"<[^>]*>", "", m.group(1))).rstrip())
        return "\n\x01%d\x01\n" % (len(pre) - 1)

    page = re.sub(r"(?is)<pre\b[^>]*>(.*?)</pre>", keep, page)
    page = re.sub(r"\s+", " ", page)
    page = re.sub(r"(?i)<(p|div|h[1-6]|li|tr|dt|dd|br|table|ul|ol|blockquote|center)\b[^>]*>", "\n", page)
    page = html.unescape(re.sub(r"<[^>]*>", "", page))
    page = re.sub(r"\x01(\d+)\x01", lambda m: "\n" + pre[int(m.group(1))] + "\n", page)
    page = re.sub(r"[ \t]+\n|\n[ \t]+(?=\n)", "\n", re.sub(r"\n[ ]+(?=\S)", "\n", page))
    return re.sub(r"\n{3,}", "\n\n", page).encode("ascii", "ignore").decode().strip() + "\n"


def sqlite_pages():
    """(name, text) of the manual's pages, without lines that many pages share (menus) and without repeated paragraphs."""
    pages = {}
    for f in sorted(SQLITE.rglob("*.html")):
        name = str(f.relative_to(SQLITE))
        if not SKIP.search(f.name):
            pages[name] = text_of(f.read_text(errors="ignore"))
    seen_in = {}
    for text in pages.values():
        for line in set(text.split("\n")):
            seen_in[line] = seen_in.get(line, 0) + 1
    told = set()
    for name, text in pages.items():
        out = []
        for line in text.split("\n"):
            if line and (seen_in[line] > 25 or (len(line) > 60 and line in told)):
                continue
            told.add(line)
            out.append(line)
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()
        if len(text) > 600:
            yield name, text + "\n"


def novels():
    """(title, text) of the novels: R's data file holds zlib streams, each after its length, of big-endian vectors of strings."""
    raw = AUSTEN.read_bytes()
    while len(raw) > 4:
        stream = zlib.decompressobj()
        data, raw = stream.decompress(raw[4:]), stream.unused_data
        lines, i = [], data.find(b"\x00\x04\x00\x09")
        while 0 <= i < len(data) - 8 and data[i:i + 4] in (b"\x00\x04\x00\x09", b"\x00\x00\x00\x09"):
            length, = struct.unpack(">i", data[i + 4:i + 8])
            lines.append(data[i + 8:i + 8 + max(length, 0)].decode("ascii", "ignore"))
            i += 8 + max(length, 0)
        if len(lines) > 1000:
            paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
            text = "\n".join(" ".join(p.split()) for p in paragraphs if p.strip())
            yield lines[0].strip(), text + "\n"


def books():
    """(short name, text) of the 66 books: a verse is a line, a chapter begins with its heading."""
    text = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout.decode("ascii")
    parts, last = {}, None
    for line in text.splitlines():
        short, chapter, verse = re.match(r"(\d?[A-Za-z]+)(\d+):\d+ +(.*)", line).groups()
        book = parts.setdefault(short, [])
        if (short, chapter) != last:
            book.append("%s%s %s\n\n" % ("\n" if book else "", short, chapter))
            last = short, chapter
        book.append(verse.strip() + "\n")
    return [(short, "".join(lines)) for short, lines in parts.items()]


def main():
    arg = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arg.add_argument("--out", type=pathlib.Path, required=True)
    arg.add_argument("--excerpt", type=pathlib.Path)
    a = arg.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    train, held, excerpt = [], [], []
    for name, text in sqlite_pages():
        out = hashlib.sha256(name.encode()).digest()[0] % 15 == 0
        (held if out else train).append(text)
        if out and len(text) > 6000:
            excerpt.append(text)
    if JARGON.exists():
        train.append(text_of(JARGON.read_text(errors="ignore")))
    for title, text in novels():
        (held if title == HELD_NOVEL else train).append(text)
    for short, text in books():
        (held if short in HELD_BOOKS else train).append(text)
    (a.out / "train.txt").write_text("\0".join(train))
    (a.out / "held.txt").write_text("\0".join(held))
    if a.excerpt:
        a.excerpt.write_text("\n".join(excerpt)[:120000])
    print("%d documents for training, %.1f MB; %d held out, %.2f MB" % (len(train), sum(map(len, train)) / 1e6, len(held), sum(map(len, held)) / 1e6))


main()
