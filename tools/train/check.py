#!/usr/bin/env python3
"""Read a shipped model back with numpy alone and measure it on held-out text.

    check.py MODEL.kvlm MODEL.bpe TEXT [--spans N] [--keep N] [--context N ...]

Nothing is shared with train.py: the file, its CRC and the forward pass are read and computed anew, in float32.
The target tokens are the same for every context length: N spans spread over the text, --keep tokens each; the model
sees BOS, then the given number of tokens of context before the span, then the span.
"""
import argparse
import struct
import time

import numpy as np

from bpe import Tokenizer

FIELDS = "dim hidden layers heads kv_heads head_dim vocab context experts topk theta".split()


def crc32c(data):
    """Castagnoli polynomial, reflected, bit by bit into a table and then byte by byte."""
    table = []
    for v in range(256):
        for _ in range(8):
            v = v >> 1 ^ 0x82F63B78 * (v & 1)
        table.append(v)
    assert crc_of(table, b"123456789") == 0xE3069283
    return crc_of(table, data)


def crc_of(table, data):
    crc = 0xFFFFFFFF
    for b in data:
        crc = crc >> 8 ^ table[crc & 255 ^ b]
    return ~crc & 0xFFFFFFFF


class Weights:
    def __init__(self, path):
        raw = open(path, "rb").read()
        if raw[:8] != b"KVLM0001" or raw[-8:-4] != b"CRC4":
            raise ValueError("not a kvlm1 file with a CRC trailer")
        if struct.unpack("<I", raw[-4:])[0] != crc32c(raw[:-8]):
            raise ValueError("wrong CRC")
        self.__dict__.update(zip(FIELDS, struct.unpack_from("<11i", raw, 8)))
        self.bytes, at = len(raw), 52

        def take(*shape):
            nonlocal at
            kind = np.dtype("<f4" if len(shape) == 1 else "<f2")
            n = int(np.prod(shape))
            a = np.frombuffer(raw, kind, n, at).reshape(shape).astype(np.float32)
            at += n * kind.itemsize
            return a

        d, q, kv, f = self.dim, self.heads * self.head_dim, self.kv_heads * self.head_dim, self.hidden
        self.emb = take(self.vocab, d)
        self.layer = [dict(n1=take(d), wq=take(q, d), wk=take(kv, d), wv=take(kv, d), wo=take(d, q),
                           n2=take(d), w1=take(f, d), w3=take(f, d), w2=take(d, f)) for _ in range(self.layers)]
        self.last = take(d)
        if at != len(raw) - 8:
            raise ValueError("wrong length")
        self.parameters = self.emb.size + self.last.size + sum(a.size for l in self.layer for a in l.values())


def norm(x, w):
    return x / np.sqrt(np.mean(np.square(x), -1, keepdims=True) + np.float32(1e-5)) * w


def turn(x, angle):
    """RoPE as a product of complex numbers; x is (head, token, head_dim)."""
    pairs = np.ascontiguousarray(x).view(np.complex64) * np.exp(1j * angle).astype(np.complex64)
    return pairs.view(np.float32)


def forward(m, ids, keep):
    """Logits of the last `keep` positions of one window."""
    n = len(ids)
    angle = np.outer(np.arange(n), float(m.theta) ** (-np.arange(0, m.head_dim, 2) / m.head_dim))
    future = np.triu(np.full((n, n), -np.inf, np.float32), 1)
    heads = lambda a, k: a.reshape(n, k, m.head_dim).transpose(1, 0, 2)
    x = m.emb[ids]
    for l in m.layer:
        h = norm(x, l["n1"])
        q = turn(heads(h @ l["wq"].T, m.heads), angle)
        k = turn(heads(h @ l["wk"].T, m.kv_heads), angle)
        v = heads(h @ l["wv"].T, m.kv_heads)
        out = []
        for j in range(m.heads):
            g = j * m.kv_heads // m.heads
            s = q[j] @ k[g].T / np.float32(np.sqrt(m.head_dim)) + future
            p = np.exp(s - s.max(1, keepdims=True))
            out.append(p @ v[g] / p.sum(1, keepdims=True))
        x = x + np.concatenate(out, 1) @ l["wo"].T
        h = norm(x, l["n2"])
        a = h @ l["w1"].T
        x = x + (a / (1 + np.exp(-a)) * (h @ l["w3"].T)) @ l["w2"].T
    return norm(x[-keep:], m.last) @ m.emb.T


def main():
    arg = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arg.add_argument("model")
    arg.add_argument("tokenizer")
    arg.add_argument("text", help="held-out text")
    arg.add_argument("--spans", type=int, default=256)
    arg.add_argument("--keep", type=int, default=8, help="target tokens in a span")
    arg.add_argument("--context", type=int, nargs="+", default=[16, 64, 256, 768])
    a = arg.parse_args()
    m, tok = Weights(a.model), Tokenizer(a.tokenizer)
    text = open(a.text, "rb").read()
    ids = np.array(tok.encode(text))
    assert m.vocab == tok.vocab and tok.decode(ids) == text.replace(b"\0", b"")
    print("%d bytes, %d parameters, CRC right; text: %d bytes, %d tokens" % (
        m.bytes, m.parameters, len(text), len(ids)))
    at = np.linspace(max(a.context) + 1, len(ids) - a.keep, a.spans).astype(int)
    first = None
    for n in a.context:
        start, nll = time.time(), []
        for t in at:
            window = np.concatenate(([0], ids[t - n:t + a.keep]))
            z = forward(m, window[:-1], a.keep).astype(np.float64)
            top = z.max(1, keepdims=True)
            log_sum = np.log(np.exp(z - top).sum(1)) + top[:, 0]
            nll.append(log_sum - z[np.arange(a.keep), window[-a.keep:]])
        nll = np.mean(nll, 1)                      # one figure for each span
        first = nll if first is None else first
        gap = nll - first
        print("context %4d: nll %.4f (difference from the first %+.4f, standard error %.4f)  %.0f s" % (
            n, nll.mean(), gap.mean(), gap.std() / np.sqrt(len(gap)), time.time() - start), flush=True)


if __name__ == "__main__":
    main()
