#!/usr/bin/env python3
"""Charts and a table of presets from the rows of `larder-bench quality --json FILE`.

usage: quality_chart.py ROWS.json OUT_DIRECTORY
Writes preset-quality-MODEL.svg for each model and prints the table of the guide in Markdown.
"""
import json
import math
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 440, 70, 50, 40, 20
FLOOR = 3e-4  # rises below are drawn here: they are within the noise


def load(path):
    models = {}
    for row in json.loads(Path(path).read_text()):
        model, _, chain = row["case"].partition(" ")
        if chain:
            models.setdefault(model, {}).setdefault(chain, {})[row["metric"]] = row["larder"]
    return models


def pareto(presets):
    best, front = math.inf, set()
    for chain, f in sorted(presets.items(), key=lambda p: p[1]["size"]):
        if f["rise of the loss"] < best:
            best = f["rise of the loss"]
            front.add(chain)
    return front


def chart(model, presets):
    def x(bits):
        return LEFT + (WIDTH - LEFT - RIGHT) * bits / 9

    def y(rise):
        top, low = math.log10(1.0), math.log10(FLOOR)
        at = (math.log10(min(1.0, max(FLOOR, rise))) - low) / (top - low)
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * at

    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">' % (WIDTH, HEIGHT),
           '<style>text{fill:#444}.g{stroke:#8884}.p{fill:#888}.b{fill:#c50}@media(prefers-color-scheme:dark){text{fill:#ccc}}</style>',
           '<text x="%d" y="20" font-size="14">%s: bits per value and rise of the loss</text>' % (LEFT, model)]
    for bits in range(0, 10):
        out.append('<line class="g" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text x="%.1f" y="%d" text-anchor="middle">%d</text>'
                   % (x(bits), TOP, x(bits), HEIGHT - BOTTOM, x(bits), HEIGHT - BOTTOM + 16, bits))
    for rise in (0.001, 0.01, 0.1, 1):
        out.append('<line class="g" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%g</text>'
                   % (LEFT, y(rise), WIDTH - RIGHT, y(rise), LEFT - 6, y(rise) + 4, rise))
    out.append('<text x="%d" y="%d" text-anchor="middle">bits per value</text>' % ((LEFT + WIDTH) // 2, HEIGHT - 12))
    out.append('<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">nats per token</text>' % (HEIGHT // 2))
    front = pareto(presets)
    taken = []
    for chain, f in sorted(presets.items(), key=lambda p: p[1]["size"]):
        px, py = x(f["size"]), y(f["rise of the loss"])
        ty = py + 4
        while any(abs(ty - b) < 11 and abs(px - a) < 110 for a, b in taken):
            ty -= 11
        taken.append((px, ty))
        out.append('<circle class="%s" cx="%.1f" cy="%.1f" r="4"/><text x="%.1f" y="%.1f">%s</text>'
                   % ("b" if chain in front else "p", px, py, px + 7, ty, chain))
    return "\n".join(out + ["</svg>"]) + "\n"


def table(models):
    chains = sorted({c for m in models.values() for c in m},
                    key=lambda c: next(m[c]["size"] for m in models.values() if c in m))
    print("| chain | " + " | ".join("%s: bits, rise, error K / V / attention" % m for m in models) + " |")
    print("|---|" + "---|" * len(models))
    for c in chains:
        cells = []
        for m in models.values():
            f = m.get(c)
            cells.append("%.2f, %+.4f, %.3f / %.3f / %.3f" % (f["size"], f["rise of the loss"], f["error of K"], f["error of V"],
                                                          f["error of attention"]) if f else "")
        print("| `%s` | %s |" % (c, " | ".join(cells)))


def main():
    models, out = load(sys.argv[1]), Path(sys.argv[2])
    for model, presets in models.items():
        (out / ("preset-quality-%s.svg" % model)).write_text(chart(model, presets))
    table(models)


if __name__ == "__main__":
    main()
