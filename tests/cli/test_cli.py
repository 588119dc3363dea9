#!/usr/bin/env python3
"""The `larder` command as a script sees it: exit codes, JSON, and replay counts against an independent simulator."""
import collections, json, os, pathlib, random, subprocess, sys, tempfile

LARDER, STORE_EXAMPLE = sys.argv[1:3]
failures = []


def run(*args):
    p = subprocess.run([LARDER, *map(str, args)], capture_output=True, text=True)
    return p.returncode, p.stdout, p.stderr


def expect(name, got, want):
    if got != want:
        failures.append(f"{name}: got {got!r}, want {want!r}")


def simulate(requests, capacity, policy):
    """Block and leading-prefix hits; hits are judged before the request's blocks come in, capacity is enforced at its end.
    Ties go by the smaller id: with repeated blocks even Belady's hits depend on it."""
    future = collections.defaultdict(list)
    for n, ids in enumerate(requests):
        for i in set(ids):
            future[i].append(n)
    cache = {}  # block -> rank; the smallest goes first
    clock = block = prefix = 0
    for n, ids in enumerate(requests):
        hit = [i in cache for i in ids]
        block += sum(hit)
        prefix += next((k for k, h in enumerate(hit) if not h), len(hit))
        for i in ids:
            clock += 1
            if policy == "lru" or (policy == "fifo" and i not in cache):
                cache[i] = clock
            elif policy == "belady":
                later = [u for u in future[i] if u > n]
                cache[i] = -later[0] if later else float("-inf")
        while len(cache) > capacity:
            del cache[min(cache, key=lambda i: (cache[i], i))]
    return block, prefix


def random_trace(rng, n_requests):
    """Chains that share prefixes, with some stray blocks and repetitions."""
    chains = [[rng.randrange(60) * 100 + k for k in range(rng.randrange(1, 12))] for _ in range(25)]
    rows = []
    for _ in range(n_requests):
        chain = list(rng.choice(chains)[: rng.randrange(1, 12)])
        chain += [rng.randrange(10000, 10400) for _ in range(rng.randrange(3))]
        chain += rng.choices(chain, k=rng.randrange(3))
        rows.append(chain)
    return rows


def write_trace(path, requests):
    path.write_text("".join(json.dumps({"timestamp": 10 * n, "input_length": 1, "output_length": 1, "hash_ids": ids}) + "\n"
                            for n, ids in enumerate(requests)))


def check_replay(tmp):
    seed = int(os.environ.get("LARDER_SEED", "7"))
    print("seed", seed)
    rng = random.Random(seed)
    trace = tmp / "trace.jsonl"
    for _ in range(3):
        requests = random_trace(rng, 400)
        write_trace(trace, requests)
        capacities = [1, 3, 17, 60, 200, 5000]
        code, out, err = run("--json", "replay", trace, "-c", ",".join(map(str, capacities)), "-p", "lru,fifo,belady",
                             "--csv", tmp / "x.csv", "--svg", tmp / "x.svg")
        expect("replay exit " + err, code, 0)
        if code:
            return
        for row in json.loads(out)["rows"]:
            block, prefix = simulate(requests, row["capacity_blocks"], row["policy"])
            name = f"{row['policy']} at {row['capacity_blocks']}"
            expect(name + ", block hits", row["block_hits"], block)
            expect(name + ", prefix hits", row["prefix_hits"], prefix)
        expect("csv rows", len((tmp / "x.csv").read_text().splitlines()), 1 + len(capacities) * 3)
        expect("svg", (tmp / "x.svg").read_text()[:4], "<svg")
    trace.write_text('{"timestamp": 1, "hash_ids": [1]}\nnot json\n')
    code, _, err = run("replay", trace)
    expect("damaged trace", code, 3)
    expect("damaged trace names the line", ":2:" in err, True)
    code, out, _ = run("--json", "replay", trace)
    expect("damaged trace as JSON", ":2:" in json.loads(out)["error"]["message"], True)
    for field, row in (("timestamp", '{"timestamp": "noon", "hash_ids": [1]}'), ("block id", '{"hash_ids": [1.5]}'), ("hash_ids", '{"timestamp": 1}')):
        trace.write_text(row + "\n")
        code, _, err = run("replay", trace)
        expect("bad " + field, (code, field in err), (3, True))
    trace.write_text('{"hash_ids": [1, "1", -1, 18446744073709551615]}\n{"hash_ids": []}\n')
    expect("kinds of ids", json.loads(run("--json", "replay", trace)[1])["unique"], 4)
    expect("missing trace", run("replay", tmp / "none")[0], 3)
    write_trace(trace, [[1, 2]])
    names = "lru,lru-tail,fifo,lfu,belady,s3-fifo,arc,lru-2,gdsf,2q,lru-leaf,auto"
    code, out, err = run("--json", "replay", trace, "-c", "1,2", "-p", names)
    expect("every policy " + err, (code, len(json.loads(out or '{"rows": []}')["rows"])), (0, 24))
    expect("unknown policy", run("replay", trace, "-p", "psychic")[0], 2)
    expect("capacity zero", run("replay", trace, "-c", "0")[0], 2)
    expect("capacity beyond 64 bits", run("replay", trace, "-c", "99999999999999999999")[0], 2)


def expert_hits(steps, slots, policy, lookahead):
    """Hits of one layer's cache: judged before a token's experts come in; they stay until the next token's."""
    cache, used, uses, hits = set(), {}, collections.Counter(), 0
    for t, ids in enumerate(steps):
        hits += len(cache & set(ids))
        for j, e in enumerate(ids):
            used[e] = (t, -j)
            uses[e] += 1
        later = steps[t + 1:]
        worth = {"lru": lambda e: 0, "lfu": lambda e: uses[e], "sch": lambda e: sum(e in s for s in later[:lookahead]),
                 "belady": lambda e: -next((n for n, s in enumerate(later) if e in s), len(steps))}[policy]
        cache |= set(ids)
        while len(cache) > slots:
            cache.remove(min(cache, key=lambda e: (e in ids, worth(e), used[e])))
    return hits


def expert_srp(layers, m):
    """Best F1 of "held: at least a activations in the segment", over all segments and experts of these layers."""
    experts = range(1 + max(e for steps in layers for ids in steps for e in ids))
    counts = [sum(e in ids for ids in steps[p:p + m]) for steps in layers for p in range(len(steps) - m + 1) for e in experts]
    return max(2 * sum(c for c in counts if c >= a) / (m * sum(c >= a for c in counts) + sum(counts)) for a in range(m + 1))


def check_experts(tmp):
    rng = random.Random(int(os.environ.get("LARDER_SEED", "7")))
    n_layers, n_experts, k, n_tokens = 3, 9, 2, 60
    layers = []
    for _ in range(n_layers):
        favourites = rng.sample(range(n_experts), 4)
        layers.append([rng.sample(favourites if rng.random() < 0.8 else range(n_experts), k) for _ in range(n_tokens)])
    layers[0][0] = [n_experts - 1, 0]
    by_layer = [e for steps in layers for ids in steps for e in ids]
    by_token = [e for t in range(n_tokens) for steps in layers for e in steps[t]]
    trace = tmp / "route.u8"
    trace.write_bytes(bytes(by_layer))
    (tmp / "route.i16").write_bytes(b"".join(e.to_bytes(2, "little") for e in by_token))
    (tmp / "route.dat").write_bytes(b"".join(e.to_bytes(4, "little") for e in by_token))
    common = ["-l", n_layers, "-k", k, "--segments", "3,8", "--lookahead", 5]
    code, out, err = run("--json", "experts", "analyze", trace, *common, "--order", "layers", "--csv", tmp / "e.csv", "--svg", tmp / "e.svg")
    expect("experts exit " + err, code, 0)
    if code:
        return
    result = json.loads(out)
    expect("shape", [result[f] for f in ("tokens", "layers", "experts", "topk")], [n_tokens, n_layers, n_experts, k])
    for row in result["caches"]:
        want = [expert_hits(layers[row["layer"]], c, row["policy"], 5) for c in range(n_experts + 1)]
        expect(f"{row['policy']} of layer {row['layer']}", row["hits"], want)
    for row in result["segments"]:
        some = layers if row["layer"] is None else [layers[row["layer"]]]
        expect(f"SRP {row['tokens']} of layer {row['layer']}", round(row["srp"], 9), round(expert_srp(some, row["tokens"]), 9))
    expect("slots add up", sum(result["advice"]["slots"]), result["advice"]["total_slots"])
    expect("csv rows", len((tmp / "e.csv").read_text().splitlines()), 1 + 4 * n_layers * n_experts)
    expect("svg", (tmp / "e.svg").read_text()[:4], "<svg")
    for name, more in (("route.i16", []), ("route.dat", ["--type", "i32"])):
        expect(name, json.loads(run("--json", "experts", "analyze", tmp / name, *common, *more)[1]), result)
    for verdict, times in (("offload", (1, 100)), ("keep whole", (1000, 1))):
        code, out, _ = run("--json", "experts", "analyze", trace, *common, "--order", "layers", "--load-us", times[0], "--step-us", times[1])
        expect("verdict by times", (code, json.loads(out)["advice"]["verdict"]), (0, verdict))
    code, out, _ = run("experts", "analyze", trace, *common, "--order", "layers", "--load-us", 1000, "--step-us", 1)
    expect("said plainly", (code, "Do not offload this model" in out), (0, True))
    trace.write_bytes(bytes(by_layer[:-1]))
    code, _, err = run("experts", "analyze", trace, *common)
    expect("a part of a token", (code, "whole tokens" in err), (3, True))
    trace.write_bytes(bytes([1, 1] + by_layer[2:]))
    code, _, err = run("experts", "analyze", trace, *common)
    expect("an expert twice", (code, "token 0, layer 0" in err), (3, True))
    trace.write_bytes(bytes(by_layer))
    expect("an expert too many", run("experts", "analyze", trace, *common, "--experts", n_experts - 1)[0], 3)
    expect("a segment too long", run("experts", "analyze", trace, *common[:4], "--segments", 61)[0], 2)
    expect("one time alone", run("experts", "analyze", trace, *common, "--load-us", 5)[0], 2)
    expect("a name without a type", run("experts", "analyze", tmp / "e.csv", *common)[0], 2)
    expect("no trace", run("experts", "analyze", tmp / "none.u8", *common)[0], 3)


def check_rest(tmp):
    code, out, _ = run("--json", "info")
    expect("info", code, 0)
    expect("info version", json.loads(out)["version"].count("."), 2)
    expect("no command", run()[0], 2)
    expect("unknown command", run("dance")[0], 2)
    expect("help", run("--help")[0], 0)
    code, out, _ = run("--json", "codec", "list")
    expect("codec list", code, 0)
    expect("lossless is a preset", "lossless" in [c["name"] for c in json.loads(out)], True)
    junk = tmp / "junk"
    junk.write_bytes(bytes(range(256)) * 4)
    expect("inspect junk", run("inspect", junk)[0], 3)
    expect("inspect nothing", run("inspect", tmp / "absent")[0], 3)
    expect("fsck nothing", run("fsck", tmp / "absent")[0], 3)
    code, out, _ = run("--json", "fsck", tmp / "absent")
    odd = subprocess.run([LARDER, "--json", "fsck", b"x\xff"], capture_output=True)
    expect("errors about a path that is not UTF-8", "error" in json.loads(odd.stdout), True)
    with open("/dev/full", "w") as full:
        expect("output that cannot be written", subprocess.run([LARDER, "info"], stdout=full, stderr=subprocess.DEVNULL).returncode, 4)
    endless = subprocess.run([LARDER, "inspect", "/dev/zero"], capture_output=True, timeout=20)
    expect("a file without an end is not read to it", endless.returncode, 3)
    expect("a directory is not a trace", run("replay", tmp)[0], 3)
    expect("errors as JSON", "status" in json.loads(out)["error"], True)


def check_store(tmp):
    """A real store, made by the example program: sound, then damaged, then repaired."""
    directory = tmp / "store"
    record = tmp / "record"
    made = subprocess.run([STORE_EXAMPLE, str(directory), str(record)], capture_output=True, text=True)
    expect("example store", made.returncode, 0)
    code, out, _ = run("replay", record, "-c", 1)
    expect("recorded traffic", (code, "each as it was" in out), (0, True))
    code, out, _ = run("--json", "replay", record, "-c", 1)
    result = json.loads(out)
    expect("recorded requests", (code, result["requests"], result["references"], result["unique"]), (0, 2, 2, 1))
    sound = record.read_bytes()
    record.write_bytes(sound[:-1])
    code, out, _ = run("replay", record, "-c", 1)
    expect("a torn end", code, 3)
    record.write_bytes(sound[:40] + b"!" + sound[41:])
    expect("a damaged record", run("replay", record, "-c", 1)[0], 3)
    code, out, _ = run("--json", "fsck", directory)
    expect("fsck of a sound store", (code, json.loads(out)["sound"], json.loads(out)["n_records"]), (0, True, 1))
    code, out, _ = run("--json", "inspect", directory)
    expect("inspect lists the record", (code, len(json.loads(out)["records"])), (0, 1))
    data = directory / "store.larder"
    before = bytearray(data.read_bytes())
    at = before.find(b"the keys and values")
    expect("the payload is in the file", at > 0, True)
    before[at] ^= 1
    data.write_bytes(before)
    code, out, _ = run("--json", "fsck", directory)
    expect("fsck finds a flipped bit", (code, json.loads(out)["sound"]), (1, False))
    expect("repair says that it did something", run("fsck", "--repair", directory)[0], 1)
    expect("fsck after repair", run("fsck", directory)[0], 0)


with tempfile.TemporaryDirectory() as d:
    check_store(pathlib.Path(d))
    check_replay(pathlib.Path(d))
    check_experts(pathlib.Path(d))
    check_rest(pathlib.Path(d))
print(*failures, sep="\n")
print("ok" if not failures else f"{len(failures)} failed")
sys.exit(1 if failures else 0)
