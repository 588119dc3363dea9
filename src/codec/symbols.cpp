#include "codec/symbols.h"

#include <algorithm>

#include "base/result.h"
#include "codec/arena.h"

namespace larder {

namespace {

// The coded part begins with: u32 number of escapes | carried flag on top.
constexpr uint32_t carried_flag = 0x80000000u;
constexpr size_t carried_bytes = 2 * rans_lanes;

size_t plane_row_bytes(uint32_t lanes) noexcept {
    return (lanes + 7) / 8;
}

}  // namespace

const uint8_t* TableSet::ids(uint32_t layer, uint32_t kv, uint32_t& period) const noexcept {
    static constexpr uint8_t zero = 0;
    period = 1;
    if (map_kind == TableMap::one) return &zero;
    if (map_kind == TableMap::per_plane) return map + 2 * size_t(layer) + kv;
    period = width[kv];
    return map + size_t(layer) * (size_t(width[0]) + width[1]) + (kv ? width[0] : 0);
}

size_t table_map_bytes(TableMap kind, uint32_t n_layers, const uint32_t width[2]) noexcept {
    if (kind == TableMap::one) return 0;
    return kind == TableMap::per_plane ? 2 * size_t(n_layers) : size_t(n_layers) * (size_t(width[0]) + width[1]);
}

size_t write_table_set(TableMap kind, const uint8_t* map, size_t map_bytes, const TableSpec* specs, uint32_t n_tables,
                       std::byte* out) noexcept {
    store_le<uint32_t>(out, table_set_magic);
    store_le<uint16_t>(out + 4, uint16_t(n_tables));
    store_le<uint8_t>(out + 6, uint8_t(kind));
    store_le<uint8_t>(out + 7, 0);
    size_t at = 8;
    auto pad = [&] {
        for (; at % 4; ++at) out[at] = std::byte{0};
    };
    if (map_bytes) std::memcpy(out + at, map, map_bytes);
    at += map_bytes;
    pad();
    for (uint32_t i = 0; i < n_tables; ++i) at += specs[i].write(out + at);
    pad();
    return at;
}

uint32_t table_set_count(ByteSpan bytes) noexcept {
    if (bytes.size() < 8 || load_le<uint32_t>(bytes.data()) != table_set_magic) return 0;
    return std::min<uint32_t>(load_le<uint16_t>(bytes.data() + 4), max_tables);
}

larder_status read_table_set(ByteSpan bytes, uint32_t n_layers, const uint32_t width[2], RansTable* expanded,
                             TableSet& out) noexcept {
    ByteReader in(bytes);
    const uint32_t magic = in.get<uint32_t>();
    const uint32_t n = in.get<uint16_t>();
    const uint32_t kind = in.get<uint8_t>();
    const uint32_t zero = in.get<uint8_t>();
    if (!in.ok() || magic != table_set_magic || zero || kind > uint32_t(TableMap::per_channel) || n == 0 ||
        n > max_tables)
        return fail(LARDER_E_CORRUPT, "tables", "the stream's table section is damaged");
    out.map_kind = TableMap(kind);
    out.width[0] = width[0];
    out.width[1] = width[1];
    const size_t map_bytes = table_map_bytes(out.map_kind, n_layers, width);
    const ByteSpan map = in.take(map_bytes);
    in.take((4 - map_bytes % 4) % 4);
    out.map = reinterpret_cast<const uint8_t*>(map.data());
    for (std::byte b : map)
        if (uint32_t(b) >= n)
            return fail(LARDER_E_CORRUPT, "tables", "the table map names table %u of %u", uint32_t(b), n);
    for (uint32_t i = 0; i < n; ++i) {
        TableSpec s;
        if (!s.read(in)) return fail(LARDER_E_CORRUPT, "tables", "probability table %u is damaged", i);
        expanded[i].expand(s);
    }
    if (!in.ok()) return fail(LARDER_E_CORRUPT, "tables", "the table section ends early");
    out.tables = expanded;
    out.n_tables = n;
    return LARDER_OK;
}

void CodeArrays::fill(const TableSet& set, uint32_t layer, uint32_t kv, uint32_t width) noexcept {
    uint32_t period;
    const uint8_t* ids = set.ids(layer, kv, period);
    total_k = 0;
    for (uint32_t c = 0; c < width; ++c) {
        const RansTable& t = set.tables[ids[period == 1 ? 0 : c]];
        base[c] = int16_t(t.base);
        k[c] = uint16_t(t.k);
        n[c] = uint16_t(t.n);
        base8[c] = uint8_t(t.base);
        n8[c] = uint8_t(t.n);
        total_k += t.k;
    }
}

uint32_t RowPlan::n_full() const noexcept {
    return along_tokens ? n_tokens / rans_lanes * width : uint32_t(uint64_t(n_tokens) * width / rans_lanes);
}
uint32_t RowPlan::n_tail() const noexcept {
    return along_tokens ? (n_tokens % rans_lanes ? width : 0) : (uint64_t(n_tokens) * width % rans_lanes ? 1 : 0);
}
uint32_t RowPlan::tail_lanes() const noexcept {
    return along_tokens ? n_tokens % rans_lanes : uint32_t(uint64_t(n_tokens) * width % rans_lanes);
}
size_t RowPlan::plane_bytes(const uint16_t* k) const noexcept {
    if (!along_tokens) return size_t(k[0]) * (4 * size_t(n_full()) + (n_tail() ? plane_row_bytes(tail_lanes()) : 0));
    size_t sum_k = 0;
    for (uint32_t c = 0; c < width; ++c) sum_k += k[c];
    return sum_k * (4 * size_t(n_tokens / rans_lanes) + plane_row_bytes(n_tokens % rans_lanes));
}

size_t max_raw_bytes(uint32_t n_tokens, uint32_t width, size_t side_bytes) noexcept {
    return side_bytes + size_t(n_tokens) * width * 3 + size_t(width) * TableSpec::max_k * 4 + 64;
}

SymbolScratch carve_symbol_scratch(std::byte*& at, uint32_t n_tokens, uint32_t width, bool encode) noexcept {
    const size_t values = size_t(n_tokens) * width, tile = size_t(tile_tokens) * width;
    const size_t rows = (size_t(n_tokens) + rans_lanes - 1) / rans_lanes * width + 1;
    SymbolScratch s{};
    s.symbols = carve<uint8_t>(at, rows * rans_lanes);
    s.tile = carve<uint8_t>(at, tile);
    s.low_tile = carve<uint8_t>(at, tile);
    s.low_rows = carve<uint8_t>(at, tile);
    s.escape_at = carve<uint32_t>(at, width);
    s.codes.base = carve<int16_t>(at, width);
    s.codes.k = carve<uint16_t>(at, width);
    s.codes.n = carve<uint16_t>(at, width);
    s.codes.base8 = carve<uint8_t>(at, width);
    s.codes.n8 = carve<uint8_t>(at, width);
    if (encode) {
        s.escapes = carve<int16_t>(at, values);
        s.planes = carve<std::byte>(at, rows * 4 * TableSpec::max_k);
        s.n_words_room = values + 64;
        s.words = carve<uint16_t>(at, s.n_words_room);
    }
    return s;
}

size_t symbol_scratch_bytes(uint32_t n_tokens, uint32_t width, bool encode) noexcept {
    std::byte* at = nullptr;
    carve_symbol_scratch(at, n_tokens, width, encode);
    return carved(at);
}

SymbolEncoder::SymbolEncoder(const Kernels& k, const SymbolScratch& scratch, const TableSet& set, uint32_t layer,
                             uint32_t kv, uint32_t n_tokens, uint32_t width) noexcept
    : k_(k), s_(scratch), set_(set), rows_{n_tokens, width, set.map_kind == TableMap::per_channel} {
    ids_ = set.ids(layer, kv, period_);
    s_.codes.fill(set, layer, kv, width);
}

void SymbolEncoder::put(const int16_t* q, uint32_t n) noexcept {
    const uint32_t w = rows_.width;
    // Along channels, classes of consecutive tokens are the rows already.
    uint8_t* classes = rows_.along_tokens ? s_.tile : s_.symbols + size_t(token_) * w;
    for (uint32_t t = 0; t < n; ++t) {
        uint8_t* row = classes + size_t(t) * w;
        if (!k_.classify(q + size_t(t) * w, s_.codes.view(), row,
                         s_.codes.total_k ? s_.low_tile + size_t(t) * w : nullptr, w))
            continue;
        const uint32_t n_found = k_.find_escapes(row, s_.codes.n, w, s_.escape_at);
        for (uint32_t i = 0; i < n_found; ++i) {
            const uint32_t c = s_.escape_at[i];
            s_.escapes[n_escapes_++] = q[size_t(t) * w + c];
            uncodable_ = uncodable_ || set_.tables[ids_[period_ == 1 ? 0 : c]].is_closed();
        }
    }
    if (rows_.along_tokens) k_.transpose8(s_.tile, w, s_.symbols + size_t(token_) * w, rans_lanes, n, w);
    if (s_.codes.total_k) put_planes(n);
    token_ += n;
}

void SymbolEncoder::put_planes(uint32_t n) noexcept {
    const uint32_t w = rows_.width;
    auto put_row = [&](const uint8_t* low, uint32_t lanes, uint32_t k) {
        for (uint32_t p = 0; p < k; ++p) {
            uint32_t bits = 0;
            for (uint32_t l = 0; l < lanes; ++l) bits |= uint32_t(low[l] >> p & 1) << l;
            const size_t bytes = plane_row_bytes(lanes);
            for (size_t b = 0; b < bytes; ++b) s_.planes[n_plane_bytes_++] = std::byte(uint8_t(bits >> 8 * b));
        }
    };
    if (rows_.along_tokens) {
        k_.transpose8(s_.low_tile, w, s_.low_rows, rans_lanes, n, w);
        for (uint32_t c = 0; c < w; ++c) put_row(s_.low_rows + size_t(c) * rans_lanes, n, s_.codes.k[c]);
        return;
    }
    // 32 tokens are a whole number of rows whatever the width; only the last tile can end in a short one.
    for (uint32_t i = 0; i < n * w; i += rans_lanes)
        put_row(s_.low_tile + i, std::min(rans_lanes, n * w - i), s_.codes.k[0]);
}

size_t SymbolEncoder::finish(ByteSpan side, std::byte* out, size_t capacity) noexcept {
    if (uncodable_) return 0;
    const size_t escape_bytes = 2 * n_escapes_;
    const size_t raw_bytes = side.size() + escape_bytes + n_plane_bytes_;
    // The initial states of the lanes are free to choose: where there is little data they carry the first raw bytes.
    const bool carry = raw_bytes >= carried_bytes;
    if (4 + rans_state_bytes + raw_bytes > capacity + (carry ? carried_bytes : 0)) return 0;
    auto put = [&, at = size_t(0), to = out + 4 + rans_state_bytes](const void* data, size_t n) mutable {
        std::memcpy(to + at, data, n);
        at += n;
    };
    // Assemble the raw bytes behind the words' place first; the words' number is only known after coding.
    std::byte head[carried_bytes];
    size_t n_head = 0;
    const ByteSpan parts[3] = {
        side, {reinterpret_cast<const std::byte*>(s_.escapes), escape_bytes}, {s_.planes, n_plane_bytes_}};
    if (carry)
        for (const ByteSpan& p : parts) {
            const size_t n = std::min(p.size(), carried_bytes - n_head);
            if (n) std::memcpy(head + n_head, p.data(), n);
            n_head += n;
        }
    RansJob job{};
    job.tables = set_.tables;
    job.ids = ids_;
    job.period = period_;
    job.n_full_rows = rows_.n_full();
    job.tail_rows = rows_.n_tail();
    job.tail_lanes = rows_.tail_lanes();
    job.symbols = s_.symbols;
    for (uint32_t l = 0; l < rans_lanes; ++l) job.state[l] = rans_floor | (carry ? load_le<uint16_t>(head + 2 * l) : 0);
    uint16_t* words_end = s_.words + s_.n_words_room;
    const size_t n_words = k_.rans_encode(job, words_end);
    const size_t total = 4 + rans_state_bytes + 2 * n_words + raw_bytes - n_head;
    if (total > capacity) return 0;
    store_le<uint32_t>(out, uint32_t(n_escapes_) | (carry ? carried_flag : 0));
    for (uint32_t l = 0; l < rans_lanes; ++l) store_le<uint32_t>(out + 4 + 4 * l, job.state[l]);
    put(words_end - n_words, 2 * n_words);
    size_t skip = n_head;
    for (const ByteSpan& p : parts) {
        const size_t s = std::min(skip, p.size());
        skip -= s;
        if (p.size() > s) put(p.data() + s, p.size() - s);
    }
    return total;
}

larder_status SymbolDecoder::open(const Kernels& k, const SymbolScratch& scratch, const TableSet& set, uint32_t layer,
                                  uint32_t kv, uint32_t n_tokens, uint32_t width, size_t side_bytes, ByteSpan coded,
                                  std::byte* raw_buffer) noexcept {
    *this = SymbolDecoder();
    k_ = &k;
    s_ = scratch;
    rows_ = {n_tokens, width, set.map_kind == TableMap::per_channel};
    s_.codes.fill(set, layer, kv, width);
    const auto damaged = [] {
        return fail(LARDER_E_CORRUPT, "extent",
                    "the coded part of an extent does not have the size that its counts need");
    };
    if (coded.size() < 4 + rans_state_bytes) return damaged();
    const uint32_t head = load_le<uint32_t>(coded.data());
    carried_ = head & carried_flag;
    const uint64_t n_escapes = head & ~carried_flag;
    if (n_escapes > uint64_t(n_tokens) * width) return damaged();
    const size_t raw_bytes = side_bytes + 2 * n_escapes + rows_.plane_bytes(s_.codes.k);
    const size_t stored_raw = raw_bytes - (carried_ ? std::min(carried_bytes, raw_bytes) : 0);
    const size_t rest = coded.size() - 4 - rans_state_bytes;
    if ((carried_ && raw_bytes < carried_bytes) || rest < stored_raw || (rest - stored_raw) % 2) return damaged();
    job_.tables = set.tables;
    job_.ids = set.ids(layer, kv, job_.period);
    job_.n_full_rows = rows_.n_full();
    job_.tail_rows = rows_.n_tail();
    job_.tail_lanes = rows_.tail_lanes();
    job_.symbols = s_.symbols;
    job_.words = coded.data() + 4 + rans_state_bytes;
    job_.n_words = (rest - stored_raw) / 2;
    for (uint32_t l = 0; l < rans_lanes; ++l) {
        job_.state[l] = load_le<uint32_t>(coded.data() + 4 + 4 * l);
        if (job_.state[l] < rans_floor) return damaged();
    }
    raw_ = coded.last(stored_raw);
    if (carried_) {
        if (stored_raw) std::memcpy(raw_buffer + carried_bytes, raw_.data(), stored_raw);
        raw_ = {raw_buffer, raw_bytes};
    }
    raw_buffer_ = raw_buffer;
    side_ = raw_.first(side_bytes);
    escapes_ = raw_.subspan(side_bytes, 2 * n_escapes);
    planes_ = raw_.subspan(side_bytes + 2 * n_escapes);
    return LARDER_OK;
}

larder_status SymbolDecoder::close_job() noexcept {
    bool good = !job_.overrun && job_.at == job_.n_words;
    for (uint32_t l = 0; l < rans_lanes; ++l) {
        const uint32_t x = job_.state[l];
        good = good && (carried_ ? x >> 16 == 1 : x == rans_floor);
        if (carried_) store_le<uint16_t>(raw_buffer_ + 2 * l, uint16_t(x));
    }
    return good ? LARDER_OK
                : fail(LARDER_E_CORRUPT, "extent", "the coded symbols of an extent do not end where they began");
}

void SymbolDecoder::get_planes(uint32_t n) noexcept {
    const uint32_t w = rows_.width;
    auto get_row = [&](uint8_t* low, uint32_t lanes, uint32_t k) {
        std::memset(low, 0, rans_lanes);
        for (uint32_t p = 0; p < k; ++p) {
            uint32_t bits = 0;
            const size_t bytes = plane_row_bytes(lanes);
            for (size_t b = 0; b < bytes; ++b) bits |= uint32_t(planes_[plane_at_++]) << 8 * b;
            for (uint32_t l = 0; l < lanes; ++l) low[l] |= uint8_t((bits >> l & 1) << p);
        }
    };
    if (rows_.along_tokens) {
        for (uint32_t c = 0; c < w; ++c) get_row(s_.low_rows + size_t(c) * rans_lanes, n, s_.codes.k[c]);
        k_->transpose8(s_.low_rows, rans_lanes, s_.low_tile, w, w, n);
        return;
    }
    for (uint32_t i = 0; i < n * w; i += rans_lanes) {
        const uint32_t lanes = std::min(rans_lanes, n * w - i);
        uint8_t row[rans_lanes];
        get_row(row, lanes, s_.codes.k[0]);
        std::memcpy(s_.low_tile + i, row, lanes);
    }
}

larder_status SymbolDecoder::get(int16_t* q, uint32_t n) noexcept {
    const uint32_t w = rows_.width;
    const uint8_t* classes = s_.symbols + size_t(token_) * w;
    if (rows_.along_tokens) {
        k_->transpose8(classes, rans_lanes, s_.tile, w, w, n);
        classes = s_.tile;
    }
    if (s_.codes.total_k) get_planes(n);
    for (uint32_t t = 0; t < n; ++t) {
        const uint8_t* row = classes + size_t(t) * w;
        int16_t* to = q + size_t(t) * w;
        if (!k_->declassify(row, s_.codes.total_k ? s_.low_tile + size_t(t) * w : nullptr, s_.codes.view(), to, w))
            continue;
        const uint32_t n_found = k_->find_escapes(row, s_.codes.n, w, s_.escape_at);
        for (uint32_t i = 0; i < n_found; ++i) LARDER_TRY(next_escape(to[s_.escape_at[i]]));
    }
    token_ += n;
    return LARDER_OK;
}

const uint8_t* SymbolDecoder::tile_rows(uint32_t n) const noexcept {
    const bool plain = rows_.along_tokens && n == rans_lanes && !s_.codes.total_k;
    return plain ? s_.symbols + size_t(token_) * rows_.width : nullptr;
}

larder_status SymbolDecoder::next_escape(int16_t& q) noexcept {
    if (escape_at_ + 2 > escapes_.size())
        return fail(LARDER_E_CORRUPT, "extent", "an extent has fewer escape values than escapes");
    q = load_le<int16_t>(escapes_.data() + escape_at_);
    escape_at_ += 2;
    return LARDER_OK;
}

larder_status SymbolDecoder::end() const noexcept {
    return escape_at_ == escapes_.size()
               ? LARDER_OK
               : fail(LARDER_E_CORRUPT, "extent", "an extent has more escape values than escapes");
}

}  // namespace larder
