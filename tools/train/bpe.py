#!/usr/bin/env python3
"""Byte-pair tokenizer in the text format "bpe1".

The first line is "bpe1 VOCAB"; each further line "A B" is a merge, best first.  Id 0 is BOS, 1..256 are the bytes
0..255, 257.. are the merges in order.  Text is cut into pieces (SPLIT) and merges never cross a piece, so any byte
string can be encoded and decoded without loss.  A zero byte in the text stands for BOS.

    bpe.py TEXT VOCAB OUT        learn a tokenizer
"""
import collections
import re
import sys

SPLIT = re.compile(rb" ?[A-Za-z]+| ?[0-9]{1,3}| ?[^\sA-Za-z0-9]+|\n+|\s+")


def join(ids, pair, new):
    """Replace each occurrence of pair in ids, from the left."""
    out, i = [], 0
    while i < len(ids):
        if tuple(ids[i:i + 2]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


def learn(text, vocab):
    """The merges, most frequent pair first; ties go to the smaller pair, so the result is reproducible."""
    words = [[[b + 1 for b in w], n]
             for w, n in collections.Counter(SPLIT.findall(text.replace(b"\0", b"\n"))).items()]
    count, where = collections.Counter(), collections.defaultdict(set)
    for i, (ids, n) in enumerate(words):
        for p in zip(ids, ids[1:]):
            count[p] += n
            where[p].add(i)
    merges = []
    while 257 + len(merges) < vocab:
        best = max(count, key=lambda p: (count[p], (-p[0], -p[1])))
        if count[best] < 2:
            break
        for i in where.pop(best):
            ids, n = words[i]
            for p in zip(ids, ids[1:]):
                count[p] -= n
            words[i][0] = ids = join(ids, best, 257 + len(merges))
            for p in zip(ids, ids[1:]):
                count[p] += n
                where[p].add(i)
        del count[best]
        merges.append(best)
    return merges


def save(path, merges):
    with open(path, "w") as f:
        f.write("bpe1 %d\n" % (257 + len(merges)))
        f.writelines("%d %d\n" % m for m in merges)


class Tokenizer:
    def __init__(self, path):
        head, *lines = open(path).read().splitlines()
        pairs = [tuple(map(int, s.split())) for s in lines]
        self.id = {p: 257 + i for i, p in enumerate(pairs)}
        self.piece = [b""] + [bytes([b]) for b in range(256)]
        for a, b in pairs:
            self.piece.append(self.piece[a] + self.piece[b])
        self.vocab = len(self.piece)
        self.known = {}
        if head != "bpe1 %d" % self.vocab:
            raise ValueError("%s: not a bpe1 file" % path)

    def _encode_piece(self, piece):
        ids = [b + 1 for b in piece]
        while True:                                # the earliest learnt merge first
            new = min((self.id.get(p, self.vocab) for p in zip(ids, ids[1:])), default=self.vocab)
            if new == self.vocab:
                return ids
            pair = next(p for p in zip(ids, ids[1:]) if self.id.get(p) == new)
            ids = join(ids, pair, new)

    def encode(self, text):
        """Ids of text (bytes), with BOS before it and for each zero byte in it."""
        out = []
        for part in text.split(b"\0"):
            out.append(0)
            for piece in SPLIT.findall(part):
                if piece not in self.known:
                    self.known[piece] = self._encode_piece(piece)
                out += self.known[piece]
        return out

    def decode(self, ids):
        return b"".join(self.piece[i] for i in ids)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    save(sys.argv[3], learn(open(sys.argv[1], "rb").read(), int(sys.argv[2])))
