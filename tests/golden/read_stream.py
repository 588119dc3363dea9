#!/usr/bin/env python3
"""A stream decoder written from docs/formats/stream.md alone, to show that the page is enough.

It knows affine chains (with and without rANS), lossless ones, refinement, checksums of codes, raw extents and generations, for F16 and BF16 data. It prints, or checks
against decoded.tsv, the CRC32C of the decoded elements. Nothing outside Python's standard library is needed.

    read_stream.py STREAM...            print name and CRC
    read_stream.py --check FOLDER       check every stream of FOLDER/decoded.tsv that it knows
"""
import os
import struct
import sys

TABLE = []
for byte in range(256):
    value = byte
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    TABLE.append(value)


def crc32c(data, crc=0):
    crc ^= 0xFFFFFFFF
    for b in data:
        crc = TABLE[(crc ^ b) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


class Unknown(Exception):
    """A chain that this decoder does not know."""


def need(condition, what):
    if not condition:
        raise ValueError(what)


def up(n, a):
    return (n + a - 1) // a * a


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


def from_16(bits, dtype):
    if dtype == 1:
        return struct.unpack("<e", struct.pack("<H", bits))[0]
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


def to_16(x, dtype):
    if dtype == 1:
        x = max(-65504.0, min(65504.0, x))
        return struct.pack("<e", x)
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    return struct.pack("<H", (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def bit_string(data, at, n):
    """n bits from bit number at on, lowest first."""
    value = 0
    for i in range(n):
        value |= (data[(at + i) // 8] >> (at + i) % 8 & 1) << i
    return value


class Tables:
    def __init__(self, data, layers, width):
        magic, count, kind, zero = struct.unpack_from("<IHBB", data)
        need(magic == 0x3142544C and zero == 0 and kind <= 2, "tables")
        self.kind, self.width = kind, width
        n_map = [0, 2 * layers, layers * (width[0] + width[1])][kind]
        self.map = data[8 : 8 + n_map]
        at = up(8 + n_map, 4)
        self.tables = []
        for _ in range(count):
            base, k, n = struct.unpack_from("<hBB", data, at)
            freq = list(data[at + 4 : at + 4 + n])
            at += 4 + n
            freq.append(256 - sum(freq))  # the escape
            slots = []
            for symbol, f in enumerate(freq):
                slots += [symbol] * f
            start = [sum(freq[:i]) for i in range(len(freq))]
            self.tables.append((base, k, n, freq, start, slots))

    def of(self, layer, kv, channel):
        if self.kind == 0:
            return self.tables[0]
        if self.kind == 1:
            return self.tables[self.map[2 * layer + kv]]
        return self.tables[self.map[layer * sum(self.width) + (self.width[0] if kv else 0) + channel]]


def decode_symbols(body, tables, layer, kv, tokens, width, side_bytes):
    """Side data and codes, [t][c]."""
    head = struct.unpack_from("<I", body)[0]
    carried, n_escapes = head >> 31, head & 0x7FFFFFFF
    states = list(struct.unpack_from("<32I", body, 4))
    rows = []  # (places, planes): where the lanes' values belong
    if tables.kind == 2:
        for t in range(0, tokens, 32):
            for c in range(width):
                rows.append([i * width + c for i in range(t, min(tokens, t + 32))])
    else:
        rows = [list(range(i, min(tokens * width, i + 32))) for i in range(0, tokens * width, 32)]
    table_of = [[tables.of(layer, kv, place % width) for place in row] for row in rows]
    plane_bytes = sum(table_of[i][0][1] * ((len(rows[i]) + 7) // 8) for i in range(len(rows)))
    raw_bytes = side_bytes + 2 * n_escapes + plane_bytes
    stored = raw_bytes - (64 if carried else 0)
    n_words = (len(body) - 132 - stored) // 2
    need(n_words >= 0 and 132 + 2 * n_words + stored == len(body), "sizes of the coded part")
    words = struct.unpack_from("<%dH" % n_words, body, 132)
    at, classes = 0, []
    for row, row_tables in zip(rows, table_of):
        out = []
        for lane in range(len(row)):
            _, _, _, freq, start, slots = row_tables[lane]
            x = states[lane]
            slot = x & 255
            y = slots[slot]
            x = freq[y] * (x >> 8) + slot - start[y]
            if x < 65536:
                x = x << 16 | words[at]
                at += 1
            states[lane] = x
            out.append(y)
        classes.append(out)
    need(at == n_words and all(x >> 16 == 1 if carried else x == 65536 for x in states), "end of the coded symbols")
    raw = body[len(body) - stored :]
    if carried:
        raw = b"".join(struct.pack("<H", x & 0xFFFF) for x in states) + raw
    codes, escaped, plane_at = [0] * (tokens * width), [], side_bytes + 2 * n_escapes
    for row, row_tables, row_classes in zip(rows, table_of, classes):
        k, n_row_bytes = row_tables[0][1], (len(row) + 7) // 8
        for lane, place in enumerate(row):
            base, _, n, _, _, _ = row_tables[lane]
            low = sum((raw[plane_at + p * n_row_bytes + lane // 8] >> lane % 8 & 1) << p for p in range(k))
            if row_classes[lane] == n:
                escaped.append(place)
            else:
                codes[place] = (row_classes[lane] + base << k) + low
        plane_at += k * n_row_bytes
    need(len(escaped) == n_escapes, "escapes")
    for i, place in enumerate(sorted(escaped)):
        codes[place] = struct.unpack_from("<h", raw, side_bytes + 2 * i)[0]
    return raw[:side_bytes], codes


class Generation:
    def __init__(self, data):
        h = data[:128]
        need(struct.unpack_from("<I", h)[0] == 0x31564B4C and h[4] == 1, "magic")
        self.flags = struct.unpack_from("<H", h, 6)[0]
        self.total = struct.unpack_from("<Q", h, 8)[0]
        self.layers, self.heads, self.tokens, k_dim, v_dim = struct.unpack_from("<HHIII", h, 16)
        self.dtype = h[32:34]
        self.chunk, self.first, stages, profile, meta_crc, head_crc = struct.unpack_from("<IQIIII", h, 36)
        self.width = [self.heads * k_dim, self.heads * v_dim]
        need(crc32c(h[64:], crc32c(h[:60])) == head_crc, "checksum of the header")
        self.levels = 1 + (self.flags & 7)
        self.chunks = (self.tokens + self.chunk - 1) // self.chunk
        self.sides = 2 if v_dim else 1
        n_entries = self.layers * self.sides * self.chunks * self.levels
        p = up(128 + stages, 64)
        i = up(p + profile, 64)
        e = up(i + 8 * n_entries, 64)
        need(crc32c(data[128:e]) == meta_crc, "checksum of stages, profile and index")
        self.profile = data[p : p + profile]
        self.quant = self.entropy = None
        self.read_stages(data[128 : 128 + stages])
        self.extents = []
        for k in range(n_entries):
            n, crc = struct.unpack_from("<II", data, i + 8 * k)
            need(crc32c(data[e : e + up(n, 8)]) == crc, "checksum of an extent")
            self.extents.append(data[e : e + n])
            e += up(n, 8)
        trailer = data[e : e + 32]
        need(e + 32 == self.total and trailer[:8] == b"LKVDONE1" and crc32c(trailer[:28]) == struct.unpack_from("<I", trailer, 28)[0], "trailer")

    def read_stages(self, data):
        at = 0
        while at < len(data):
            kind, version, flags, n = struct.unpack_from("<HBBI", data, at)
            body = data[at + 8 : at + 8 + n]
            at += up(8 + n, 8)
            if (kind, version) == (0x0101, 1):
                self.quant, self.bits, self.axis = body[0], body[2:4], body[4:6]
                self.group, self.symmetric, self.taper = struct.unpack_from("<HBB", body, 6)
            elif (kind, version) == (0x0201, 1):
                self.entropy = body[0]
            elif (kind, version) == (0x0401, 1):
                pass
            elif flags & 1:
                raise Unknown("stage %#x" % kind)
        if (self.quant, self.entropy) not in ((1, 0), (1, 1), (2, 0), (2, 1)):
            raise Unknown("quantizer %s with coder %s" % (self.quant, self.entropy))

    def limit(self, layer, kv):
        if self.taper:
            third = 3 * layer // self.layers
            return [[(7, 7, 5), (7, 5, 5)], [(15, 7, 7), (15, 7, 7)], [(15, 15, 15), (15, 15, 15)]][self.taper - 1][kv][third]
        return (1 << self.bits[kv] - 1) - 1 if self.symmetric else (1 << self.bits[kv]) - 1

    def decode(self, levels=99):
        """Planes K, V, K, V, ... of elements."""
        levels = min(levels, self.levels)
        per_level = len(self.extents) // self.levels
        tables = Tables(self.profile, self.layers, self.width) if self.entropy == 1 else None
        planes = []
        for layer in range(self.layers):
            for kv in range(self.sides):
                plane = b""
                for chunk in range(self.chunks):
                    number = (layer * self.sides + kv) * self.chunks + chunk
                    n = min(self.chunk, self.tokens - chunk * self.chunk)
                    refinement = [self.extents[level * per_level + number] for level in range(1, levels)]
                    plane += self.extent(self.extents[number], refinement, layer, kv, n, tables)
                planes.append(plane)
        return planes

    def extent(self, data, refinement, layer, kv, n, tables):
        width, dtype = self.width[kv], self.dtype[kv]
        need(data[1:4] == bytes(3), "head of an extent")
        body = data[4:]
        if data[0] == 0:
            return body
        need(dtype in (1, 2), "only 16-bit elements are known here")
        if self.flags & 8:
            body, codes_crc = body[:-4], struct.unpack("<I", body[-4:])[0]
        if self.quant == 1:
            out = self.exact(body, layer, kv, n, tables)
            need(not self.flags & 8 or crc32c(out) == codes_crc, "checksum of the elements")
            return out
        by_token, group = self.axis[kv] == 0, self.group or width
        n_scales = width // group if by_token else width
        record = n_scales * (2 if self.symmetric else 4)
        records = n if by_token else (n + self.group - 1) // self.group
        if self.entropy == 1:
            side, codes = decode_symbols(body, tables, layer, kv, n, width, records * record)
        else:
            side, packed = body[: records * record], body[records * record :]
            row = (width * self.bits[kv] + 7) // 8
            bias = (1 << self.bits[kv] - 1) - 1 if self.symmetric else 0
            codes = [bit_string(packed, 8 * t * row + c * self.bits[kv], self.bits[kv]) - bias for t in range(n) for c in range(width)]
        if self.flags & 8:
            need(crc32c(struct.pack("<%dh" % len(codes), *codes)) == codes_crc, "checksum of the codes")
        out = []
        for t in range(n):
            start = (t if by_token else t // self.group) * record
            for c in range(width):
                i = c // group if by_token else c
                scale = from_16(struct.unpack_from("<H", side, start + 2 * i)[0], dtype)
                offset = 0.0 if self.symmetric else from_16(struct.unpack_from("<H", side, start + 2 * (n_scales + i))[0], dtype)
                x = f32(codes[t * width + c] * scale + offset)
                if refinement:
                    u = 0
                    for bits in refinement:
                        u = 2 * u + bit_string(bits, t * width + c, 1)
                    k = len(refinement)
                    x = f32(x + f32((2 * u + 1 - (1 << k)) * f32(scale / (2 << k))))
                out.append(to_16(x, dtype))
        return b"".join(out)


    def exact(self, body, layer, kv, n, tables):
        """Exponents as symbols, then the other bits tile by tile."""
        width, half = self.width[kv], self.dtype[kv] == 1
        tiles = [min(32, n - t) * width for t in range(0, n, 32)]
        rest_bytes = [m + (12 * ((m + 31) // 32) if half else 0) for m in tiles]
        at = len(body) - sum(rest_bytes)
        _, exponents = decode_symbols(body[:at], tables, layer, kv, n, width, 0)
        out, first = [], 0
        for m, size in zip(tiles, rest_bytes):
            low, planes = body[at : at + m], body[at + m : at + size]
            plane = 4 * ((m + 31) // 32)
            for i in range(m):
                if half:
                    bits = [bit_string(planes[p * plane :], i, 1) for p in range(3)]
                    value = low[i] | bits[0] << 8 | bits[1] << 9 | exponents[first + i] << 10 | bits[2] << 15
                else:
                    value = low[i] & 127 | exponents[first + i] << 7 | low[i] >> 7 << 15
                out.append(value)
            first, at = first + m, at + size
        return struct.pack("<%dH" % len(out), *out)


def decode_stream(data):
    planes = None
    while data:
        g = Generation(data)
        new = g.decode()
        planes = [a + b for a, b in zip(planes, new)] if planes else new
        data = data[g.total :]
    return planes


def checksum(path):
    with open(path, "rb") as f:
        planes = decode_stream(f.read())
    crc = 0
    for plane in planes:
        crc = crc32c(plane, crc)
    return crc


def check(folder):
    known = 0
    with open(os.path.join(folder, "decoded.tsv")) as f:
        expected = dict(line.split("\t") for line in f.read().splitlines())
    for name, want in sorted(expected.items()):
        try:
            got = checksum(os.path.join(folder, name + ".lkv"))
        except Unknown as e:
            print("%-24s not known here: %s" % (name, e))
            continue
        if got != int(want):
            sys.exit("%s: decoded to CRC %d, not %s" % (name, got, want))
        known += 1
        print("%-24s as decoded by the library" % name)
    if known < 11:
        sys.exit("only %d golden streams were decoded" % known)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--check":
        check(sys.argv[2])
    else:
        for path in sys.argv[1:]:
            print("%s\t%d" % (path, checksum(path)))
