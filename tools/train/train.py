#!/usr/bin/env python3
"""Train the demo model: a small Llama-style decoder, on the CPU, within a given time.

The learning rate follows the elapsed share of --minutes (warm-up, then cosine), so the run always ends in time with
a finished schedule.  The first --early share of the time uses windows of --short tokens, whose attention is cheaper,
and the rest full windows; each step has the same number of tokens.

Two aids, off unless asked for and not yet shown to help: --copy makes a share of the windows random tokens that repeat
with a random period; --guide adds, in the early part, a loss on where three heads look (see guide).

A checkpoint is written every --every minutes; running the same command again goes on from it.  Each checkpoint also
writes the weights in the kvlm1 layout with a CRC-32C trailer (see README.md).
"""
import argparse
import math
import pathlib
import struct
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import bpe

EPS, THETA = 1e-5, 10000


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.w = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.w, EPS)


def rotate(x, cos, sin):
    """RoPE on the pairs (0,1), (2,3), ...; x is (batch, token, head, head_dim)."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        mat = lambda i, o: nn.Linear(i, o, bias=False)
        self.n1, self.n2 = Norm(c.dim), Norm(c.dim)
        self.wq, self.wk = mat(c.dim, c.heads * c.head_dim), mat(c.dim, c.kv_heads * c.head_dim)
        self.wv, self.wo = mat(c.dim, c.kv_heads * c.head_dim), mat(c.heads * c.head_dim, c.dim)
        self.w1, self.w3, self.w2 = mat(c.dim, c.hidden), mat(c.dim, c.hidden), mat(c.hidden, c.dim)

    def forward(self, x, cos, sin):
        c = self.c
        h = self.n1(x)
        q = rotate(self.wq(h).unflatten(-1, (c.heads, c.head_dim)), cos, sin)
        k = rotate(self.wk(h).unflatten(-1, (c.kv_heads, c.head_dim)), cos, sin)
        v = self.wv(h).unflatten(-1, (c.kv_heads, c.head_dim))
        k, v = (t.repeat_interleave(c.heads // c.kv_heads, 2) for t in (k, v))
        q, k, v = (t.transpose(1, 2).to(v.dtype) for t in (q, k, v))
        self.qk = q, k
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + F.dropout(self.wo(o), c.dropout, self.training)
        h = self.n2(x)
        return x + F.dropout(self.w2(F.silu(self.w1(h)) * self.w3(h)), c.dropout, self.training)


class Model(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.emb = nn.Embedding(c.vocab, c.dim)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.last = Norm(c.dim)
        angle = torch.outer(torch.arange(c.context), THETA ** (-torch.arange(0, c.head_dim, 2) / c.head_dim))
        self.register_buffer("cos", angle.cos()[:, None], persistent=False)
        self.register_buffer("sin", angle.sin()[:, None], persistent=False)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                std = 0.02 if name == "emb.weight" else p.shape[1] ** -0.5
                nn.init.normal_(p, 0, std / (math.sqrt(2 * c.layers) if ".wo." in name or ".w2." in name else 1))

    def forward(self, ids):
        n = ids.shape[1]
        x = F.dropout(self.emb(ids), self.c.dropout, self.training)
        for layer in self.layers:
            x = layer(x, self.cos[:n], self.sin[:n])
        return F.linear(self.last(x), self.emb.weight)

    def loss(self, ids, target=None, keep=None):
        """Mean nll of target (ids[:, 1:]), or of its last `keep` tokens; products in bfloat16, sums in float32."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = self(ids[:, :-1])
        y = ids[:, 1:] if target is None else target
        if keep:
            z, y = z[:, -keep:], y[:, -keep:]
        return F.cross_entropy(z.float().flatten(0, 1), y.flatten())


def guide(model, periods):
    """Loss that shows a few heads where to look: one at the previous token; in windows that repeat (periods[row] is
    not 0), two of a later layer at the tokens that followed the earlier occurrences of the present one."""
    def log_attention(layer, head):
        q, k = (t[:, head].float() for t in model.layers[layer].qk)
        s = q @ k.mT * q.shape[-1] ** -0.5
        return s.masked_fill(torch.ones(s.shape[-2:], dtype=bool).triu(1), -1e9).log_softmax(-1)

    n = model.layers[0].qk[0].shape[2]
    loss = -log_attention(1, 5).diagonal(-1, 1, 2).mean()
    i, j = torch.arange(n)[:, None], torch.arange(n)
    for head in (0, 3):
        p = log_attention(3, head)
        for row in np.flatnonzero(periods):
            period = int(periods[row])
            there = (j >= 2) & (j <= i) & ((i + 1 - j) % period == 0)
            hit = p[row].masked_fill(~there, -1e9).logsumexp(-1)[period + 1:]
            loss = loss - hit.mean() / np.count_nonzero(periods)
    return loss


def crc32c(data):
    table = []
    for i in range(256):
        for _ in range(8):
            i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    crc = 0xFFFFFFFF
    for b in data:
        crc = table[(crc ^ b) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def export(path, model):
    """Write kvlm1: fp16 matrices and fp32 norms in a fixed order, then "CRC4" and the CRC-32C of all before it."""
    c = model.c
    out = [b"KVLM0001" + struct.pack("<11i", c.dim, c.hidden, c.layers, c.heads, c.kv_heads, c.head_dim, c.vocab,
                                     c.context, 0, 0, THETA)]
    put = lambda p: out.append(p.detach().numpy().astype("<f2" if p.dim() > 1 else "<f4").tobytes())
    put(model.emb.weight)
    for l in model.layers:
        for p in (l.n1.w, l.wq.weight, l.wk.weight, l.wv.weight, l.wo.weight,
                  l.n2.w, l.w1.weight, l.w3.weight, l.w2.weight):
            put(p)
    put(model.last.w)
    data = b"".join(out)
    tmp = path.with_suffix(".tmp")
    tmp.write_bytes(data + b"CRC4" + struct.pack("<I", crc32c(data)))
    tmp.replace(path)


def held_out(model, ids, context, spans=128, keep=8):
    """nll of the same held-out tokens for each length of context (BOS and that many tokens, or up to keep - 1 more)."""
    room = max(context)
    at = np.linspace(room + 1, len(ids) - keep, spans).astype(int)
    model.eval()
    nll = []
    with torch.no_grad():
        for n in context:
            x = np.stack([ids[a - n - 1:a + keep] for a in at])
            x[:, 0] = 0
            x = torch.from_numpy(x)
            nll.append(np.mean([model.loss(b, keep=keep).item() for b in x.split(16)]))
    model.train()
    return nll


def main():
    arg = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    arg.add_argument("--train", type=pathlib.Path, required=True, help="training text")
    arg.add_argument("--held", type=pathlib.Path, required=True, help="held-out text")
    arg.add_argument("--tokenizer", type=pathlib.Path, required=True, help="bpe1 file; learnt from --train if missing")
    arg.add_argument("--out", type=pathlib.Path, required=True, help="weights file (kvlm1); checkpoint beside it")
    arg.add_argument("--minutes", type=float, default=42)
    arg.add_argument("--every", type=float, default=5, help="minutes between checkpoints")
    for name, value in dict(dim=192, hidden=384, layers=6, heads=6, kv_heads=2, head_dim=64, vocab=1024,
                            context=1024, short=256, batch=4, warmup=150, threads=2, seed=1).items():
        arg.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    for name, value in dict(rate=1.2e-3, decay=0.1, dropout=0.05, early=0.3, copy=0.0, guide=0.0).items():
        arg.add_argument("--" + name, type=float, default=value)
    c = arg.parse_args()

    torch.set_num_threads(c.threads)
    torch.manual_seed(c.seed)
    rng = np.random.default_rng(c.seed)
    if not c.tokenizer.exists():
        bpe.save(c.tokenizer, bpe.learn(c.train.read_bytes(), c.vocab))
    tok = bpe.Tokenizer(c.tokenizer)
    c.vocab = tok.vocab
    train, held = (np.array(tok.encode(p.read_bytes()), np.int64) for p in (c.train, c.held))
    model = Model(c)
    print("parameters %d, tokens: %d for training, %d held out" % (
        sum(p.numel() for p in model.parameters()), len(train), len(held)), flush=True)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    norms = [p for p in model.parameters() if p.dim() == 1]
    opt = torch.optim.AdamW([dict(params=matrices, weight_decay=c.decay), dict(params=norms, weight_decay=0)],
                            betas=(0.9, 0.95), fused=True)

    saved, step, before = c.out.with_suffix(".pt"), 0, 0.0
    if saved.exists():
        s = torch.load(saved, weights_only=False)
        model.load_state_dict(s["model"])
        opt.load_state_dict(s["opt"])
        rng.bit_generator.state, step, before = s["rng"], s["step"], s["seconds"]
        torch.set_rng_state(s["torch"])
        print("going on from step %d, minute %.1f" % (step, before / 60))

    start, total, due = time.time(), c.minutes * 60, before + c.every * 60
    sum_loss, sum_guide, sum_n = 0.0, 0.0, 0
    while True:
        used = before + time.time() - start
        done = used >= total
        if done or used >= due:
            due += c.every * 60
            torch.save(dict(model=model.state_dict(), opt=opt.state_dict(), rng=rng.bit_generator.state,
                            torch=torch.get_rng_state(), step=step, seconds=used), saved)
            export(c.out, model)
            spans = [n for n in (16, 64, 256, 768) if n + 8 <= c.context]
            print("minute %.1f step %d held-out nll: %s" % (used / 60, step, ", ".join(
                "context %d %.3f" % p for p in zip(spans, held_out(model, held, spans)))), flush=True)
        if done:
            return
        rate = c.rate * min(1, (step + 1) / c.warmup) * (0.02 + 0.49 * (1 + math.cos(math.pi * used / total)))
        for g in opt.param_groups:
            g["lr"] = rate
        n = c.short if used < c.early * total else c.context
        x = np.stack([train[a:a + n + 1] for a in rng.integers(0, len(train) - n, c.batch * c.context // n)])
        x[:, 0] = 0                                # the model always sees BOS at position 0
        y = x[:, 1:].copy()
        periods = np.where(rng.random(len(x)) < c.copy, 8 * (n / 32) ** rng.random(len(x)), 0).astype(int)
        for row in np.flatnonzero(periods):
            period = periods[row]
            x[row, 1:] = np.resize(rng.integers(1, c.vocab, period), n)
            y[row] = x[row, 1:]
            y[row, :period] = -100                 # the first round cannot be foreseen
        loss = model.loss(torch.from_numpy(x), torch.from_numpy(y))
        if n < c.context and c.guide:
            g = guide(model, periods)
            sum_guide += g.item()
            loss = loss + c.guide * g
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step, sum_loss, sum_n = step + 1, sum_loss + loss.item(), sum_n + 1
        if step % 50 == 0:
            print("minute %.1f step %d rate %.5f loss %.3f guide %.3f" % (
                used / 60, step, rate, sum_loss / sum_n, sum_guide / sum_n), flush=True)
            sum_loss, sum_guide, sum_n = 0.0, 0.0, 0


if __name__ == "__main__":
    main()
