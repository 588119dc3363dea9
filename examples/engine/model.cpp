#include "model.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "error.h"
#include "half.h"
#include "kernels.h"

namespace engine {

namespace {

constexpr char magic[] = "KVLM0001";
constexpr char trailer_magic[] = "CRC4";
constexpr size_t magic_bytes = 8, trailer_bytes = 8;
constexpr uint64_t file_bytes_max = uint64_t(1) << 30;

uint32_t u32_at(const std::byte* p) {
    return uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24;
}

// Takes tensors from the front of the file. The file's length has been checked against the header
// before.
class Reader {
  public:
    explicit Reader(std::span<const std::byte> bytes) : at_(bytes.data()), end_(at_ + bytes.size()) {}

    int32_t i32() { return int32_t(u32_at(take(4))); }
    float f32() { return std::bit_cast<float>(u32_at(take(4))); }
    float f16() {
        const std::byte* p = take(2);
        return half_to_float(uint16_t(uint32_t(p[0]) | uint32_t(p[1]) << 8));
    }
    void skip(size_t n) { take(n); }

    std::vector<float> vector(size_t n) {
        std::vector<float> v(n);
        for (float& x : v) x = f32();
        return v;
    }
    Matrix matrix(size_t n_out, size_t n_in, bool half) {
        Matrix m(n_out, n_in);
        for (size_t o = 0; o < n_out; ++o)
            for (size_t i = 0; i < n_in; ++i) m.set(o, i, half ? f16() : f32());
        return m;
    }

  private:
    const std::byte* take(size_t n) {
        if (size_t(end_ - at_) < n) throw Error("the file is shorter than its header says");
        return std::exchange(at_, at_ + n);
    }
    const std::byte* at_;
    const std::byte* end_;
};

struct Bound {
    const char* what;
    int64_t value, least, most;
};

// kind: what the header claims the file to be, for the message
void check_bounds(std::span<const Bound> bounds, const std::string& name, const char* kind) {
    for (const Bound& b : bounds)
        if (b.value < b.least || b.value > b.most)
            throw Error(name + ": not " + kind + ": " + b.what + " is " + std::to_string(b.value) +
                        ", which is not in " + std::to_string(b.least) + " .. " + std::to_string(b.most));
}

void check_shape(const Shape& s, const std::string& name, const char* kind) {
    const Bound bounds[] = {
        {"dim", s.dim, 1, 16384},       {"hidden", s.hidden, 1, 65536},      {"layers", s.n_layers, 1, 256},
        {"heads", s.n_heads, 1, 1024},  {"kv_heads", s.n_kv_heads, 1, 1024}, {"head_dim", s.head_dim, 2, 1024},
        {"vocab", s.vocab, 2, 1 << 20}, {"context", s.context, 1, 65536}};
    check_bounds(bounds, name, kind);
    if (s.head_dim % 2) throw Error(name + ": not " + kind + ": head_dim " + std::to_string(s.head_dim) + " is odd");
    if (s.n_heads % s.n_kv_heads)
        throw Error(name + ": not " + kind + ": " + std::to_string(s.n_heads) + " heads do not share " +
                    std::to_string(s.n_kv_heads) + " kv heads evenly");
}

void check_length(uint64_t have, uint64_t want, const std::string& name) {
    if (have == want) return;
    throw Error(name + (have < want ? ": truncated: " : ": too long: ") + std::to_string(have) +
                " bytes, its header describes " + std::to_string(want));
}

uint64_t kvlm_bytes(const Shape& s) {
    const uint64_t dim = s.dim;
    const uint64_t n_feeds = s.n_experts ? s.n_experts : 1;
    const uint64_t halves =
        dim * s.vocab + s.n_layers * (2 * dim * (s.q_width() + s.kv_width()) + n_feeds * 3 * dim * s.hidden);
    const uint64_t floats = dim * (s.n_layers * (2 + uint64_t(s.n_experts)) + 1);
    return magic_bytes + 11 * 4 + 2 * halves + 4 * floats;
}

// The file has all w1 of a layer, then all w3, then all w2; an expert's own weights are together in
// memory.
void read_experts(Reader& in, const Shape& s, Layer& layer) {
    layer.router = in.matrix(s.n_experts, s.dim, false);
    layer.experts.resize(s.n_experts * s.expert_floats());
    const uint32_t shapes[3][2] = {{s.hidden, s.dim}, {s.hidden, s.dim}, {s.dim, s.hidden}};
    size_t offset = 0;
    for (const auto& [n_out, n_in] : shapes) {
        const size_t n_floats = padded(n_out) * n_in;
        for (size_t e = 0; e < s.n_experts; ++e) {
            const Matrix m = in.matrix(n_out, n_in, true);
            std::copy_n(m.packed(), n_floats, &layer.experts[e * s.expert_floats() + offset]);
        }
        offset += n_floats;
    }
}

Model parse_kvlm(std::span<const std::byte> bytes, const std::string& name) {
    constexpr const char* kind = "a kvlm1 model";
    if (bytes.size() < magic_bytes + 44) throw Error(name + ": truncated: it ends inside the kvlm1 header");
    Reader in(bytes.subspan(magic_bytes));
    int32_t h[11];
    for (int32_t& x : h) x = in.i32();
    for (int32_t x : h)
        if (x < 0) throw Error(name + ": not " + kind + ": a negative number in its header");
    if (h[10] < 1) throw Error(name + ": not " + kind + ": theta is 0");
    Model m;
    m.shape = {uint32_t(h[0]), uint32_t(h[1]), uint32_t(h[2]), uint32_t(h[3]), uint32_t(h[4]), uint32_t(h[5]),
               uint32_t(h[6]), uint32_t(h[7]), double(h[10]),  uint32_t(h[8]), uint32_t(h[9])};
    const Shape& s = m.shape;
    check_shape(s, name, kind);
    const Bound mixture[] = {{"experts", s.n_experts, 0, 1024},
                             {"topk", s.topk, s.n_experts ? 1 : 0, std::min<int64_t>(s.n_experts, 64)}};
    check_bounds(mixture, name, kind);
    const uint64_t want = kvlm_bytes(s);
    if (bytes.size() == want + trailer_bytes) {
        const std::byte* trailer = bytes.data() + want;
        if (std::memcmp(trailer, trailer_magic, 4) != 0)
            throw Error(name + ": 8 bytes too many, and they are no checksum");
        if (u32_at(trailer + 4) != crc32c(bytes.first(want)))
            throw Error(name + ": damaged: its checksum does not hold");
    } else {
        check_length(bytes.size(), want, name);
    }
    m.embedding = in.matrix(s.vocab, s.dim, true);
    for (uint32_t l = 0; l < s.n_layers; ++l) {
        Layer& layer = m.layers.emplace_back();
        layer.attention_norm = in.vector(s.dim);
        layer.wq = in.matrix(s.q_width(), s.dim, true);
        layer.wk = in.matrix(s.kv_width(), s.dim, true);
        layer.wv = in.matrix(s.kv_width(), s.dim, true);
        layer.wo = in.matrix(s.dim, s.q_width(), true);
        layer.feed_norm = in.vector(s.dim);
        if (s.n_experts) {
            read_experts(in, s, layer);
            continue;
        }
        layer.w1 = in.matrix(s.hidden, s.dim, true);
        layer.w3 = in.matrix(s.hidden, s.dim, true);
        layer.w2 = in.matrix(s.dim, s.hidden, true);
    }
    m.last_norm = in.vector(s.dim);
    return m;
}

// dim, hidden, layers, heads, kv_heads, vocab (negative: the output matrix is its own), context
Shape llama2c_shape(Reader& in, bool& own_output, const std::string& name) {
    constexpr const char* kind = "a model file (no kvlm1 magic, and no llama2.c header)";
    int64_t h[7];
    for (int64_t& x : h) x = in.i32();
    own_output = h[5] < 0;
    const Bound signs[] = {{"dim", h[0], 1, 16384},     {"hidden", h[1], 1, 65536},
                           {"layers", h[2], 1, 256},    {"heads", h[3], 1, 1024},
                           {"kv_heads", h[4], 1, 1024}, {"vocab", std::abs(h[5]), 2, 1 << 20},
                           {"context", h[6], 1, 65536}};
    check_bounds(signs, name, kind);
    if (h[0] % h[3]) throw Error(name + ": not " + kind + ": dim is no multiple of heads");
    Shape s;
    s.dim = uint32_t(h[0]), s.hidden = uint32_t(h[1]), s.n_layers = uint32_t(h[2]), s.n_heads = uint32_t(h[3]);
    s.n_kv_heads = uint32_t(h[4]), s.vocab = uint32_t(std::abs(h[5])), s.context = uint32_t(h[6]);
    s.head_dim = s.dim / s.n_heads;
    check_shape(s, name, kind);
    return s;
}

Model parse_llama2c(std::span<const std::byte> bytes, const std::string& name) {
    if (bytes.size() < 28) throw Error(name + ": not a model file: only " + std::to_string(bytes.size()) + " bytes");
    Reader in(bytes);
    bool own_output = false;
    Model m;
    m.shape = llama2c_shape(in, own_output, name);
    const Shape& s = m.shape;
    const uint64_t dim = s.dim,
                   rope_bytes = uint64_t(s.context) * s.head_dim * 4;  // two tables, made anew here
    const uint64_t floats = dim * s.vocab * (own_output ? 2 : 1) + dim +
                            s.n_layers * (2 * dim + 2 * dim * dim + 2 * dim * s.kv_width() + 3 * dim * s.hidden);
    check_length(bytes.size(), 28 + 4 * floats + rope_bytes, name);
    m.embedding = in.matrix(s.vocab, s.dim, false);
    m.layers.resize(s.n_layers);
    for (Layer& l : m.layers) l.attention_norm = in.vector(s.dim);
    for (Layer& l : m.layers) l.wq = in.matrix(s.dim, s.dim, false);
    for (Layer& l : m.layers) l.wk = in.matrix(s.kv_width(), s.dim, false);
    for (Layer& l : m.layers) l.wv = in.matrix(s.kv_width(), s.dim, false);
    for (Layer& l : m.layers) l.wo = in.matrix(s.dim, s.dim, false);
    for (Layer& l : m.layers) l.feed_norm = in.vector(s.dim);
    for (Layer& l : m.layers) l.w1 = in.matrix(s.hidden, s.dim, false);
    for (Layer& l : m.layers) l.w2 = in.matrix(s.dim, s.hidden, false);
    for (Layer& l : m.layers) l.w3 = in.matrix(s.hidden, s.dim, false);
    m.last_norm = in.vector(s.dim);
    in.skip(rope_bytes);
    if (own_output) m.output = in.matrix(s.vocab, s.dim, false);
    return m;
}

}  // namespace

Matrix::Matrix(size_t n_out, size_t n_in) : n_out_(n_out), n_in_(n_in), packed_(padded(n_out) * n_in) {}

size_t Matrix::index(size_t out, size_t in) const {
    return (out / lanes * n_in_ + in) * lanes + out % lanes;
}

size_t Shape::expert_floats() const {
    return 2 * padded(hidden) * dim + padded(dim) * hidden;
}

size_t Model::n_parameters() const {
    const Shape& s = shape;
    const size_t feed = size_t(3) * s.dim * s.hidden;
    return size_t(s.vocab) * s.dim * (output.n_out() ? 2 : 1) + s.dim +
           s.n_layers *
               (2 * s.dim * (s.q_width() + s.kv_width() + 1) + (s.n_experts ? s.n_experts * (feed + s.dim) : feed));
}

Model parse_model(std::span<const std::byte> bytes, const std::string& name) {
    const bool kvlm = bytes.size() >= magic_bytes && std::memcmp(bytes.data(), magic, magic_bytes) == 0;
    Model m = kvlm ? parse_kvlm(bytes, name) : parse_llama2c(bytes, name);
    m.crc32c = crc32c(bytes);
    return m;
}

Model load_model(const std::string& path) {
    return parse_model(read_file(path), path);
}

std::vector<std::byte> read_file(const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) throw Error(path + ": " + std::strerror(errno));
    std::vector<std::byte> bytes;
    for (size_t n = 1; n > 0;) {
        const size_t have = bytes.size();
        if (have >= file_bytes_max) throw Error(path + ": larger than any file that this engine reads (1 GiB)");
        bytes.resize(have + (size_t(1) << 20));
        n = std::fread(bytes.data() + have, 1, bytes.size() - have, file.get());
        bytes.resize(have + n);
    }
    if (std::ferror(file.get())) throw Error(path + ": " + std::strerror(errno));
    return bytes;
}

uint32_t crc32c(std::span<const std::byte> bytes) {
    static constexpr auto table = [] {
        std::array<uint32_t, 256> t{};
        for (uint32_t i = 0; i < 256; ++i) {
            uint32_t c = i;
            for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ (c & 1 ? 0x82f63b78u : 0u);
            t[i] = c;
        }
        return t;
    }();
    uint32_t crc = ~0u;
    for (std::byte b : bytes) crc = (crc >> 8) ^ table[(crc ^ uint32_t(b)) & 255u];
    return ~crc;
}

}  // namespace engine
