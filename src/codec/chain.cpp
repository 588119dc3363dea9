#include "codec/chain.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <string_view>

#include "base/numeric.h"
#include "base/options.h"
#include "codec/basis.h"
#include "codec/codebook.h"
#include "codec/frame.h"
#include "core/layout.h"
#include "core/stages.h"

namespace larder {

namespace {

struct Preset {
    const char* name;
    const char* chain;
    uint32_t needs;
    double bits;
    const char* description;
};

constexpr Preset presets[] = {
    {"lossless", "exact entropy=rans", 0, 13.6,
     "every bit; exponents entropy-coded by channel, signs and mantissas as they are"},
    {"raw", "exact", 0, 16, "every bit, uncompressed: the cost of the container alone"},
    {"zstd", "exact entropy=zstd", 0, 14.2, "every bit; byte planes through zstd, for data that is not floating point"},
    {"int8", "affine bits=8 group=32 sym=1", LARDER_CODEC_FLOAT_ONLY, 8.5,
     "8-bit symmetric codes, one scale for 32 channels of a token"},
    {"int4", "affine bits=4 group=32", LARDER_CODEC_FLOAT_ONLY, 5,
     "4-bit codes, scale and offset for 32 channels of a token"},
    {"kivi4", "affine bits=4 group=32 kaxis=channel", LARDER_CODEC_FLOAT_ONLY, 5,
     "KIVI (arXiv 2402.02750) at 4 bits: keys grouped along tokens, values along channels"},
    {"kivi2", "affine bits=2 group=32 kaxis=channel", LARDER_CODEC_FLOAT_ONLY, 3,
     "KIVI (arXiv 2402.02750) at 2 bits; tail=128 keeps its full-precision window"},
    {"zipcache", "separable bits=2 kaxis=channel salient=60 salient_bits=4",
     LARDER_CODEC_NEEDS_SALIENCY | LARDER_CODEC_FLOAT_ONLY, 3.5,
     "ZipCache (arXiv 2405.14256): 4 bits for the 60 % most attended tokens, 2 for the others; values scaled by "
     "channel and token"},
    {"bfp12", "block format=bfp group=32 sort=1", LARDER_CODEC_FLOAT_ONLY, 4.26,
     "block floating point (arXiv 2403.20137): 4-bit mantissas, an 8-bit exponent for 32 channels of like strength"},
    {"mxfp4", "block format=mxfp4 group=32", LARDER_CODEC_FLOAT_ONLY, 4.25,
     "OCP MXFP4: E2M1 values, a power-of-two scale for 32 channels"},
    {"nvfp4", "block format=nvfp4 group=16", LARDER_CODEC_FLOAT_ONLY, 4.56,
     "E2M1 values, an E4M3 scale for 16 channels, a power-of-two scale per token"},
    {"fp8", "block format=fp8 group=0", LARDER_CODEC_FLOAT_ONLY, 8.13, "E4M3 values, one 16-bit scale per token"},
    {"turbo4", "block format=lloyd bits=4 group=32 hadamard=1", LARDER_CODEC_FLOAT_ONLY, 4.5,
     "after TurboQuant (arXiv 2504.19874): heads turned by a Walsh-Hadamard transform, Lloyd-Max levels of the normal "
     "distribution"},
    {"xquant", "affine bits=4 group=32", LARDER_CODEC_TAKES_INPUT | LARDER_CODEC_FLOAT_ONLY, 2.5,
     "XQuant (arXiv 2508.10395): the layers' inputs, from which the engine computes K and V again; bits per value of K "
     "and V where both are as wide as the input"},
    {"cskv", "lowrank level=1 keep=20 tail=32", LARDER_CODEC_NEEDS_PROFILE | LARDER_CODEC_FLOAT_ONLY, 3.2,
     "CSKV (arXiv 2409.10593): the strongest 20 % of the components of each block of heads, the newest tokens exact"},
    {"mustafar70", "sparse keep=30", LARDER_CODEC_FLOAT_ONLY, 6,
     "Mustafar (arXiv 2505.22913): the 30 % largest magnitudes of each token and head, with a bitmap"},
    {"cachegen-1", "affine bits=5 group=0 sym=1 taper=1 entropy=rans", LARDER_CODEC_FLOAT_ONLY, 3.0,
     "CacheGen (arXiv 2310.07240), coarsest: one scale per token, 11 to 15 levels by depth, entropy-coded by channel"},
    {"cachegen-2", "affine bits=5 group=0 sym=1 taper=2 entropy=rans", LARDER_CODEC_FLOAT_ONLY, 3.6,
     "the same with 15 to 31 levels"},
    {"cachegen-3", "affine bits=5 group=0 sym=1 taper=3 entropy=rans", LARDER_CODEC_FLOAT_ONLY, 4.3,
     "the same with 31 levels everywhere"},
    {"larder-fast", "step level=0 entropy=rans", LARDER_CODEC_NEEDS_PROFILE | LARDER_CODEC_FLOAT_ONLY, 3.1,
     "a calibrated step per channel at the profile's finest level, entropy-coded with static tables"},
    {"larder-small", "step level=1 entropy=rans", LARDER_CODEC_NEEDS_PROFILE | LARDER_CODEC_FLOAT_ONLY, 2.2,
     "a calibrated step per channel, keys before rotation, entropy-coded with static tables; level=0..7 trades size "
     "for precision"},
};

struct Word {
    std::string_view key, value;
    bool pair;
};

bool next_word(std::string_view& text, Word& w) noexcept {
    const auto start = text.find_first_not_of(" ,");
    if (start == text.npos) return false;
    text.remove_prefix(start);
    const auto word = text.substr(0, text.find_first_of(" ,"));
    text.remove_prefix(word.size());
    const auto eq = word.find('=');
    w = {word.substr(0, eq), eq == word.npos ? "" : word.substr(eq + 1), eq != word.npos};
    return true;
}

larder_status bad_word(const Word& w, const char* what) noexcept {
    return fail(LARDER_E_NOT_FOUND, "chain", "%s: \"%.*s%s%.*s\"", what, int(std::min<size_t>(w.key.size(), 60)),
                w.key.data(), w.pair ? "=" : "", int(std::min<size_t>(w.value.size(), 60)), w.value.data());
}

larder_status read_number(const Word& w, uint32_t max, uint32_t& out) noexcept {
    uint64_t v = 0;
    for (char c : w.value) {
        if (c < '0' || c > '9' || v > UINT32_MAX)
            return fail(LARDER_E_INVALID, "chain", "%.*s needs a number", int(w.key.size()), w.key.data());
        v = v * 10 + uint64_t(c - '0');
    }
    if (w.value.empty() || v > max)
        return fail(LARDER_E_RANGE, "chain", "%.*s is outside 0 to %u", int(w.key.size()), w.key.data(), max);
    out = uint32_t(v);
    return LARDER_OK;
}

template <class E> struct Named {
    std::string_view name;
    E value;
};
constexpr Named<Quant> quants[] = {
    {"exact", Quant::exact},   {"affine", Quant::affine},       {"block", Quant::block},    {"step", Quant::step},
    {"sparse", Quant::sparse}, {"separable", Quant::separable}, {"lowrank", Quant::lowrank}};
constexpr Named<Entropy> entropies[] = {{"none", Entropy::none}, {"rans", Entropy::rans}, {"zstd", Entropy::zstd}};
constexpr Named<Axis> axes[] = {{"token", Axis::token}, {"channel", Axis::channel}};
constexpr Named<BlockFormat> formats[] = {{"bfp", BlockFormat::bfp},     {"mxfp4", BlockFormat::mxfp4},
                                          {"nvfp4", BlockFormat::nvfp4}, {"fp8", BlockFormat::fp8},
                                          {"lloyd", BlockFormat::lloyd}, {"median", BlockFormat::median}};
constexpr Named<Predict> predictors[] = {
    {"none", Predict::none}, {"previous", Predict::previous}, {"anchor", Predict::anchor}};

template <class E, size_t N> bool find(const Named<E> (&list)[N], std::string_view name, E& out) noexcept {
    for (const auto& n : list)
        if (n.name == name) return out = n.value, true;
    return false;
}
template <class E, size_t N> const char* name_of(const Named<E> (&list)[N], E value) noexcept {
    for (const auto& n : list)
        if (n.value == value) return n.name.data();
    return "?";
}

larder_status set_stage(const Word& w, Chain& c, StageRegistry* stages) noexcept {
    const larder_codec_stage* s = stages ? stages->find(w.value.data(), w.value.size()) : nullptr;
    if (!s) return bad_word(w, "no such stage is registered");
    c.stage_id = uint16_t(s->id);
    c.stage_version = uint8_t(s->version);
    return LARDER_OK;
}

larder_status set_one(const Word& w, Chain& c, StageRegistry* stages) noexcept {
    uint32_t v = 0;
    if (w.key == "stage") return set_stage(w, c, stages);
    if (w.key == "entropy")
        return find(entropies, w.value, c.entropy) ? LARDER_OK : bad_word(w, "no such entropy coder");
    if (w.key == "format") return find(formats, w.value, c.format) ? LARDER_OK : bad_word(w, "no such block format");
    if (w.key == "predict") return find(predictors, w.value, c.predict) ? LARDER_OK : bad_word(w, "no such predictor");
    if (w.key == "axis" || w.key == "kaxis" || w.key == "vaxis") {
        Axis a;
        if (!find(axes, w.value, a)) return bad_word(w, "no such axis");
        if (w.key != "vaxis") c.axis[0] = a;
        if (w.key != "kaxis") c.axis[1] = a;
        return LARDER_OK;
    }
    if (w.key == "bits" || w.key == "kbits" || w.key == "vbits") {
        LARDER_TRY(read_number(w, 8, v));
        if (w.key != "vbits") c.bits[0] = uint8_t(v);
        if (w.key != "kbits") c.bits[1] = uint8_t(v);
        return LARDER_OK;
    }
    const struct {
        std::string_view key;
        uint32_t max;
        void (*set)(Chain&, uint32_t);
    } numbers[] = {
        {"group", 4096, [](Chain& k, uint32_t n) { k.group = uint16_t(n); }},
        {"sym", 1, [](Chain& k, uint32_t n) { k.symmetric = n != 0; }},
        {"taper", 3, [](Chain& k, uint32_t n) { k.taper = uint8_t(n); }},
        {"level", LARDER_PROFILE_MAX_LEVELS - 1, [](Chain& k, uint32_t n) { k.level = uint8_t(n); }},
        {"hadamard", 1, [](Chain& k, uint32_t n) { k.hadamard = n != 0; }},
        {"basis", max_heads, [](Chain& k, uint32_t n) { k.basis = uint16_t(n); }},
        {"keep", 100, [](Chain& k, uint32_t n) { k.keep_percent = uint8_t(n); }},
        {"sort", 1, [](Chain& k, uint32_t n) { k.sorted = n != 0; }},
        {"salient", 100, [](Chain& k, uint32_t n) { k.salient_percent = uint8_t(n); }},
        {"salient_bits", 8, [](Chain& k, uint32_t n) { k.salient_bits = uint8_t(n); }},
        {"tail", 1u << 24, [](Chain& k, uint32_t n) { k.exact_tail = n; }},
        {"chunk", 65536, [](Chain& k, uint32_t n) { k.chunk_tokens = n; }},
        {"refine", max_refine, [](Chain& k, uint32_t n) { k.refine = uint8_t(n); }},
        {"check", 1, [](Chain& k, uint32_t n) { k.checked = n != 0; }},
    };
    for (const auto& n : numbers) {
        if (w.key != n.key) continue;
        LARDER_TRY(read_number(w, n.max, v));
        n.set(c, v);
        return LARDER_OK;
    }
    return bad_word(w, "no such setting");
}

larder_status set_words(std::string_view text, Chain& c, StageRegistry* stages) noexcept {
    for (Word w; next_word(text, w);) {
        if (!w.pair) return bad_word(w, "a setting is written key=value");
        LARDER_TRY(set_one(w, c, stages));
    }
    return LARDER_OK;
}

}  // namespace

larder_status parse_chain(const char* text, Chain& out, StageRegistry* stages) noexcept {
    out = Chain{};
    std::string_view rest(text ? text : "lossless");
    if (rest.size() > 1000)
        return fail(LARDER_E_INVALID, "chain", "the chain is %zu characters long; 1000 is the limit", rest.size());
    Word first;
    if (!next_word(rest, first) || first.pair)
        return fail(LARDER_E_INVALID, "chain", "a chain begins with the name of a preset or quantizer");
    if (!find(quants, first.key, out.quant)) {
        const auto* p =
            std::find_if(std::begin(presets), std::end(presets), [&](const Preset& x) { return first.key == x.name; });
        if (p == std::end(presets)) return bad_word(first, "no such preset or quantizer");
        std::string_view written(p->chain);
        Word quantizer;
        next_word(written, quantizer);
        find(quants, quantizer.key, out.quant);
        LARDER_TRY(set_words(written, out, stages));
    }
    LARDER_TRY(set_words(rest, out, stages));
    return check_chain(out);
}

void print_chain(const Chain& c, char* out, size_t capacity) noexcept {
    int n = std::snprintf(out, capacity, "%s", name_of(quants, c.quant));
    auto add = [&](const char* format, auto... args) {
        if (n >= 0 && size_t(n) < capacity) n += std::snprintf(out + n, capacity - size_t(n), format, args...);
    };
    const bool separable = c.quant == Quant::separable;
    if (c.quant == Quant::affine || separable) {
        add(c.bits[0] == c.bits[1] ? " bits=%u" : " kbits=%u", c.bits[0]);
        if (c.bits[0] != c.bits[1]) add(" vbits=%u", c.bits[1]);
        if (!separable) add(" group=%u", c.group);
        if (c.axis[0] == c.axis[1])
            add(" axis=%s", name_of(axes, c.axis[0]));
        else
            add(" kaxis=%s vaxis=%s", name_of(axes, c.axis[0]), name_of(axes, c.axis[1]));
        if (c.symmetric && !separable) add(" sym=%u", 1u);
        if (c.taper && !separable) add(" taper=%u", c.taper);
        if (c.salient_percent) add(" salient=%u salient_bits=%u", c.salient_percent, c.salient_bits);
    }
    if (c.quant == Quant::block) add(" format=%s group=%u", name_of(formats, c.format), c.group);
    if (is_codebook(c.format)) add(c.bits[0] == c.bits[1] ? " bits=%u" : " kbits=%u", c.bits[0]);
    if (is_codebook(c.format) && c.bits[0] != c.bits[1]) add(" vbits=%u", c.bits[1]);
    if (c.hadamard) add(" hadamard=%u", 1u);
    if (c.predict != Predict::none) add(" predict=%s", name_of(predictors, c.predict));
    if (c.sorted) add(" sort=%u", 1u);
    if (needs_profile(c)) add(" level=%u", c.level);
    if (c.basis) add(" basis=%u", c.basis);
    if (c.quant == Quant::sparse || c.quant == Quant::lowrank) add(" keep=%u", c.keep_percent);
    if (c.entropy != Entropy::none) add(" entropy=%s", name_of(entropies, c.entropy));
    if (c.exact_tail) add(" tail=%u", c.exact_tail);
    if (c.refine) add(" refine=%u", c.refine);
    if (c.checked) add(" check=%u", 1u);
    if (c.stage_id) add(" stage=%#x", c.stage_id);
}

bool preset_at(uint32_t index, larder_codec_info& out) noexcept {
    if (index >= std::size(presets)) return false;
    const Preset& p = presets[index];
    Chain c;
    if (parse_chain(p.name, c) < 0) return false;
    out = LARDER_CODEC_INFO_INIT;
    out.quality = chain_quality(c);
    out.needs = p.needs;
    out.bits_per_value = p.bits;
    out.name = p.name;
    out.chain = p.chain;
    out.description = p.description;
    return true;
}

uint32_t code_limit(const Chain& c, uint32_t kv, uint32_t layer, uint32_t n_layers) noexcept {
    if (c.taper) {
        // Levels of the CacheGen artifact for 32 layers, scaled to the depth at hand: [level][K|V][third of the
        // layers].
        static constexpr uint8_t limits[3][2][3] = {
            {{7, 7, 5}, {7, 5, 5}}, {{15, 7, 7}, {15, 7, 7}}, {{15, 15, 15}, {15, 15, 15}}};
        return limits[c.taper - 1][kv][std::min<uint32_t>(2, layer * 3 / n_layers)];
    }
    return c.symmetric ? (1u << (c.bits[kv] - 1)) - 1 : (1u << c.bits[kv]) - 1;
}

namespace {

larder_status check_separable(const Chain& c) noexcept {
    const auto bad = [](const char* why) { return fail(LARDER_E_INVALID, "chain", "%s", why); };
    if (c.entropy != Entropy::none) return bad("a separable chain is not entropy-coded");
    if (c.symmetric || c.taper) return bad("sym and taper are for affine chains");
    for (const uint8_t bits : c.bits) {
        if (bits < 2 || bits > 8) return fail(LARDER_E_RANGE, "chain", "bits must be 2 to 8");
        if (c.salient_percent && (c.salient_bits > 8 || c.salient_bits < bits || c.salient_bits % bits))
            return bad("salient_bits must be a multiple of bits, 8 at most");
    }
    return LARDER_OK;
}

}  // namespace

larder_status check_chain(const Chain& c) noexcept {
    const auto bad = [](const char* why) { return fail(LARDER_E_INVALID, "chain", "%s", why); };
    if (c.chunk_tokens == 0) return fail(LARDER_E_RANGE, "chain", "chunk is 0");
    if (c.format != BlockFormat::none && c.quant != Quant::block) return bad("format is for block chains");
    if (c.basis && !needs_profile(c)) return bad("basis is for step and lowrank chains");
    if (c.basis && c.refine)
        return bad("a level with a basis cannot be refined: most components are far smaller than a step");
    if (c.hadamard && c.quant != Quant::affine && c.quant != Quant::block)
        return bad("hadamard is for affine and block chains");
    if (c.predict != Predict::none &&
        (c.quant != Quant::affine || c.entropy != Entropy::rans || std::max(c.bits[0], c.bits[1]) > 6))
        return bad("predict is for entropy-coded affine chains of at most 6 bits");
    if (c.sorted && (c.quant != Quant::block || !c.group)) return bad("sort is for block chains with groups");
    if (c.entropy == Entropy::zstd && c.quant != Quant::exact) return bad("zstd is for exact chains only");
    const bool steps = c.quant == Quant::affine || c.quant == Quant::step;
    if (c.refine && !steps) return bad("refine is for affine and step chains: others have no cells to halve");
    if (c.stage_id && c.quant == Quant::exact && c.entropy == Entropy::none)
        return bad("a stage works on coded extents, and this chain codes none");
    if (c.checked && !steps && !(c.quant == Quant::exact && c.entropy == Entropy::rans))
        return bad("check is for chains with integer codes: affine, step, exact entropy=rans");
    if (c.quant == Quant::affine) {
        for (uint32_t kv = 0; kv < 2; ++kv) {
            if (c.bits[kv] < (c.symmetric ? 2 : 1) || c.bits[kv] > 8)
                return fail(LARDER_E_RANGE, "chain", "bits must be 1 to 8, and 2 to 8 when symmetric");
            if (c.axis[kv] == Axis::channel && (c.group == 0 || 32 % c.group))
                return bad("a group along tokens has 1, 2, 4, 8, 16 or 32 of them");
        }
        if (c.taper && !c.symmetric) return bad("taper needs sym=1");
        if (c.salient_percent) return bad("salient tokens are not for this chain");
    } else if (c.quant == Quant::step) {
        if (c.entropy != Entropy::rans) return bad("a step chain is entropy-coded: entropy=rans");
    } else if (c.quant == Quant::block) {
        if (c.format == BlockFormat::none) return bad("a block chain needs a format");
        if (c.entropy != Entropy::none) return bad("a block chain is not entropy-coded");
        for (const uint8_t bits : c.bits)
            if (is_codebook(c.format) && (bits < 1 || bits > 4))
                return fail(LARDER_E_RANGE, "chain", "a codebook has 1 to 4 bits");
    } else if (c.quant == Quant::sparse || c.quant == Quant::lowrank) {
        if (c.keep_percent == 0) return fail(LARDER_E_RANGE, "chain", "keep is 0");
        if (c.entropy != Entropy::none) return bad("sparse and lowrank chains are not entropy-coded");
    } else if (c.quant == Quant::separable) {
        LARDER_TRY(check_separable(c));
    } else if (c.quant != Quant::exact) {
        return fail(LARDER_E_UNSUPPORTED, "chain", "there is no quantizer %u", uint32_t(c.quant));
    }
    return LARDER_OK;
}

larder_status check_chain_shape(const Chain& c, const larder_stream_shape& s) noexcept {
    for (uint32_t kv = 0; kv < 2; ++kv) {
        const uint32_t dim = kv ? s.v_dim : s.k_dim, width = dim * s.n_kv_heads;
        const larder_dtype t = kv ? s.v_dtype : s.k_dtype;
        if (!dim) continue;
        if (!is_float_dtype(t) && c.quant != Quant::exact)
            return fail(LARDER_E_UNSUPPORTED, kv ? "v_dtype" : "k_dtype",
                        "a lossy chain needs F16, BF16 or F32 data, not dtype %d", t);
        if (c.hadamard && (dim & (dim - 1)))
            return fail(LARDER_E_UNSUPPORTED, kv ? "v_dim" : "k_dim",
                        "a Walsh-Hadamard transform needs a power of two, not %u", dim);
        if (c.basis && (s.n_kv_heads % c.basis || c.basis * dim > max_basis_channels))
            return fail(LARDER_E_UNSUPPORTED, "n_kv_heads", "%u heads of %u are not in blocks of %u heads",
                        s.n_kv_heads, dim, c.basis);
        const bool grouped = c.quant == Quant::block || (c.quant == Quant::affine && c.axis[kv] == Axis::token);
        if (grouped && c.group && width % c.group)
            return fail(LARDER_E_UNSUPPORTED, kv ? "v_dim" : "k_dim",
                        "%u channels are not a multiple of the chain's group of %u", width, c.group);
    }
    return LARDER_OK;
}

namespace {

enum StageType : uint16_t {
    stage_quantizer = 0x0101,
    stage_sort = 0x0102,
    stage_basis = 0x0103,
    stage_hadamard = 0x0104,
    stage_predict = 0x0105,
    stage_entropy = 0x0201,
    stage_profile = 0x0301,
    stage_link = 0x0401
};
constexpr uint8_t stage_critical = 1;
constexpr size_t quantizer_bytes = 20, link_bytes = 16;

void put_link(const Link& link, std::byte* out) noexcept {
    store_le<uint32_t>(out, link.generation);
    store_le<uint32_t>(out + 4, link.previous_crc);
    store_le<uint64_t>(out + 8, link.offset);
}

size_t put_stage(std::byte* out, uint16_t type, const void* data, uint32_t n, uint8_t version = 1) noexcept {
    store_le<uint16_t>(out, type);
    store_le<uint8_t>(out + 2, version);
    store_le<uint8_t>(out + 3, stage_critical);
    store_le<uint32_t>(out + 4, n);
    if (n) std::memcpy(out + 8, data, n);
    const size_t padded = (8 + size_t(n) + 7) / 8 * 8;
    std::memset(out + 8 + n, 0, padded - 8 - n);
    return padded;
}

}  // namespace

size_t write_stages(const Chain& c, const larder_key* profile_hash, const Link& link, std::byte* out) noexcept {
    std::byte q[quantizer_bytes] = {};
    const uint8_t bytes[] = {uint8_t(c.quant), uint8_t(c.format),  c.bits[0],
                             c.bits[1],        uint8_t(c.axis[0]), uint8_t(c.axis[1])};
    std::memcpy(q, bytes, sizeof bytes);
    store_le<uint16_t>(q + 6, c.group);
    const uint8_t more[] = {uint8_t(c.symmetric), c.taper,        c.level, c.keep_percent,
                            c.salient_percent,    c.salient_bits, 0,       0};
    std::memcpy(q + 8, more, sizeof more);
    store_le<uint32_t>(q + 16, c.exact_tail);
    size_t at = put_stage(out, stage_quantizer, q, sizeof q);
    const uint8_t by_strength[8] = {1};
    if (c.sorted) at += put_stage(out + at, stage_sort, by_strength, sizeof by_strength);
    std::byte heads[8] = {};
    store_le<uint16_t>(heads, c.basis);
    if (c.basis) at += put_stage(out + at, stage_basis, heads, sizeof heads);
    const uint8_t turned[8] = {1}, predictor[8] = {uint8_t(c.predict)};
    if (c.hadamard) at += put_stage(out + at, stage_hadamard, turned, sizeof turned);
    if (c.predict != Predict::none) at += put_stage(out + at, stage_predict, predictor, sizeof predictor);
    const uint8_t e[8] = {uint8_t(c.entropy)};
    at += put_stage(out + at, stage_entropy, e, sizeof e);
    if (profile_hash) at += put_stage(out + at, stage_profile, profile_hash->bytes, 32);
    if (c.stage_id) at += put_stage(out + at, c.stage_id, nullptr, 0, c.stage_version);
    if (!link.generation) return at;
    std::byte l[link_bytes];
    put_link(link, l);
    return at + put_stage(out + at, stage_link, l, sizeof l);
}

void replace_link(MutByteSpan stages, const Link& link) noexcept {
    for (size_t at = 0; at + 8 <= stages.size();) {
        std::byte* record = stages.data() + at;
        if (load_le<uint16_t>(record) == stage_link) return put_link(link, record + 8);
        at += (8 + size_t(load_le<uint32_t>(record + 4)) + 7) / 8 * 8;
    }
}

larder_status read_stages(ByteSpan stages, Chain& c, larder_key& profile_hash, bool& names_profile,
                          Link& link) noexcept {
    c = Chain{};
    link = Link{};
    names_profile = false;
    bool seen_quantizer = false, seen_entropy = false;
    const auto damaged = [] { return fail(LARDER_E_CORRUPT, "stages", "the stage list is damaged"); };
    ByteReader in(stages);
    while (in.remaining()) {
        const uint16_t type = in.get<uint16_t>();
        const uint8_t version = in.get<uint8_t>(), flags = in.get<uint8_t>();
        const uint32_t n = in.get<uint32_t>();
        const ByteSpan data = in.take(n);
        const ByteSpan padding = in.take((8 - n % 8) % 8);
        if (!in.ok() || std::any_of(padding.begin(), padding.end(), [](std::byte b) { return b != std::byte{0}; }))
            return damaged();
        const bool known = version == 1 && (type == stage_quantizer || type == stage_sort || type == stage_basis ||
                                            type == stage_hadamard || type == stage_predict || type == stage_entropy ||
                                            type == stage_profile || type == stage_link);
        if (type >= LARDER_CODEC_STAGE_FIRST_ID && flags & stage_critical) {
            if (c.stage_id || n || !version)
                return fail(LARDER_E_FORMAT, "stages", "stage %#x is used in a way that this library does not know",
                            type);
            c.stage_id = type;
            c.stage_version = version;
            continue;
        }
        if (!known) {
            if (flags & stage_critical)
                return fail(LARDER_E_FORMAT, "stages",
                            "stage %#x version %u is not known to this library and may not be skipped", type, version);
            continue;
        }
        ByteReader d(data);
        if (type == stage_quantizer) {
            c.quant = Quant(d.get<uint8_t>());
            c.format = BlockFormat(d.get<uint8_t>());
            c.bits[0] = d.get<uint8_t>();
            c.bits[1] = d.get<uint8_t>();
            const uint8_t k_axis = d.get<uint8_t>(), v_axis = d.get<uint8_t>();
            c.axis[0] = Axis(k_axis);
            c.axis[1] = Axis(v_axis);
            c.group = d.get<uint16_t>();
            const uint8_t symmetric = d.get<uint8_t>();
            c.symmetric = symmetric;
            c.taper = d.get<uint8_t>();
            c.level = d.get<uint8_t>();
            c.keep_percent = d.get<uint8_t>();
            c.salient_percent = d.get<uint8_t>();
            c.salient_bits = d.get<uint8_t>();
            const uint16_t zero = d.get<uint16_t>();
            c.exact_tail = d.get<uint32_t>();
            if (!d.ok() || d.remaining() || zero || k_axis > 1 || v_axis > 1 || symmetric > 1 || c.taper > 3 ||
                c.level >= LARDER_PROFILE_MAX_LEVELS || c.format > BlockFormat::median || c.keep_percent > 100 ||
                c.salient_percent > 100)
                return damaged();
            seen_quantizer = true;
        } else if (type == stage_sort) {
            if (data.size() != 8 || d.get<uint64_t>() != 1) return damaged();
            c.sorted = true;
        } else if (type == stage_basis) {
            const uint64_t heads = d.get<uint64_t>();
            if (data.size() != 8 || !heads || heads > max_heads) return damaged();
            c.basis = uint16_t(heads);
        } else if (type == stage_hadamard) {
            if (data.size() != 8 || d.get<uint64_t>() != 1) return damaged();
            c.hadamard = true;
        } else if (type == stage_predict) {
            const uint64_t predictor = d.get<uint64_t>();
            if (data.size() != 8 || predictor < 1 || predictor > uint64_t(Predict::anchor)) return damaged();
            c.predict = Predict(predictor);
        } else if (type == stage_entropy) {
            const uint8_t e = d.get<uint8_t>();
            if (data.size() != 8 || e > uint8_t(Entropy::zstd)) return damaged();
            c.entropy = Entropy(e);
            seen_entropy = true;
        } else if (type == stage_link) {
            link.generation = d.get<uint32_t>();
            link.previous_crc = d.get<uint32_t>();
            link.offset = d.get<uint64_t>();
            if (data.size() != link_bytes || !link.generation) return damaged();
        } else {
            if (data.size() != 32) return damaged();
            std::memcpy(profile_hash.bytes, data.data(), 32);
            names_profile = true;
        }
    }
    if (!seen_quantizer || !seen_entropy) return damaged();
    if (uint8_t(c.quant) > uint8_t(Quant::lowrank))
        return fail(LARDER_E_FORMAT, "stages", "quantizer %u is not known to this library", uint32_t(c.quant));
    return check_chain(c) < 0 ? damaged() : LARDER_OK;
}

}  // namespace larder
