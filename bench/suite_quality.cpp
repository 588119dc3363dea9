// What each preset loses on real models: bits per value with everything counted, relative errors of K, V and of
// attention's output by layer, and the rise of the loss on text that was not calibrated on.
//
// Teacher-forced: every query reads the newest 32 tokens as they were computed and all older ones as the codec gives
// them back, in every layer, so errors add up through the layers as they do in an engine that keeps its cache coded.
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "bench/bench.h"
#include "bench/quality_codec.h"
#include "engine/tokenizer.h"

namespace {

using quality::Case;

std::vector<std::vector<int32_t>> windows(const std::vector<int32_t>& text, size_t from, size_t to, uint32_t length,
                                          uint32_t n, int32_t beginning) {
    std::vector<std::vector<int32_t>> out;
    for (uint32_t i = 0; i < n; ++i) {
        const size_t at = from + (to - from - length) * i / (n > 1 ? n - 1 : 1);
        out.emplace_back(text.begin() + ptrdiff_t(at), text.begin() + ptrdiff_t(at + length - 1));
        out.back().insert(out.back().begin(), beginning);
    }
    return out;
}

std::vector<int32_t> read_tokens(const std::string& path) {
    const auto bytes = engine::read_file(path);
    std::vector<int32_t> out(bytes.size() / 2);
    for (size_t i = 0; i < out.size(); ++i) {
        uint16_t t;
        std::memcpy(&t, &bytes[2 * i], 2);
        out[i] = t;
    }
    return out;
}

struct Wanted {
    std::string model;
    std::string chain;  // empty: all
    bool has(const std::string& name) const { return model.empty() || model == name; }
};

// LARDER_QUALITY="model" or "model:chain" measures that alone.
Wanted wanted() {
    const char* text = std::getenv("LARDER_QUALITY");
    const std::string s = text ? text : "";
    const auto colon = s.find(':');
    return {s.substr(0, colon), colon == s.npos ? "" : s.substr(colon + 1)};
}

std::string by_layer(const quality::Figures& f, double quality::LayerFigures::*field) {
    std::ostringstream s;
    s << "by layer:";
    s.precision(3);
    for (const auto& l : f.layers) s << " " << l.*field;
    return s.str();
}

double mean(const quality::Figures& f, double quality::LayerFigures::*field) {
    double sum = 0;
    for (const auto& l : f.layers) sum += l.*field / double(f.layers.size());
    return sum;
}

void report(bench::Run& run, const Case& c, const std::string& chain, const quality::Figures& f) {
    using L = quality::LayerFigures;
    const std::string name = c.name + " " + chain;
    std::ostringstream spread;
    spread.precision(2);
    spread << "+- " << f.standard_error << ", " << c.measured.size() << " windows of " << c.measured[0].size();
    run.row({name, "size", "bit/value", f.bits, {}, by_layer(f, &L::bits)});
    run.row({name, "rise of the loss", "nat", f.rise, {}, spread.str()});
    run.row({name, "error of K", "", mean(f, &L::k_error), {}, by_layer(f, &L::k_error)});
    run.row({name, "error of V", "", mean(f, &L::v_error), {}, by_layer(f, &L::v_error)});
    run.row({name, "error of attention", "", mean(f, &L::output_error), {}, by_layer(f, &L::output_error)});
}

void measure(bench::Run& run, const Case& c, const Wanted& w) {
    quality::Lab lab(c);
    run.row({c.name, "loss", "nat", lab.base_nll(), {}, "with the exact cache"});
    run.row({c.name, "profile", "KB", double(lab.profile_bytes()) / 1000, {}, "once for a model"});
    if (!w.chain.empty()) return report(run, c, w.chain, lab.measure(w.chain, w.chain.starts_with("xquant")));
    larder_codec_info info = LARDER_CODEC_INFO_INIT;
    for (uint32_t i = 0; larder_codec_list(i, &info) == LARDER_OK; ++i)
        if (info.quality != LARDER_QUALITY_EXACT)
            report(run, c, info.name, lab.measure(info.name, info.needs & LARDER_CODEC_TAKES_INPUT));
    for (const char* chain : {"larder-small level=2", "larder-small level=3", "cskv keep=50",
                              "cachegen-2 predict=anchor", "cachegen-2 predict=previous", "int4 hadamard=1"})
        report(run, c, chain, lab.measure(chain, false));
}

}  // namespace

BENCH_SUITE(quality, "presets on real models: size, errors by layer, rise of the loss") {
    const Wanted w = wanted();
    const std::string examples = LARDER_BENCH_MODELS;
    if (w.has("demo")) {
        Case c{"demo", engine::load_model(examples + "/larder-demo.kvlm"), {}, {}};
        const auto tokenizer = engine::load_tokenizer(examples + "/larder-demo.bpe", c.model.shape.vocab);
        const auto text = engine::read_file(examples + "/larder-demo.txt");
        const auto tokens = tokenizer->encode({reinterpret_cast<const char*>(text.data()), text.size()});
        c.measured = windows(tokens, 0, tokens.size() / 2, 768, run.size(8, 3), tokenizer->beginning());
        c.calibration = windows(tokens, tokens.size() / 2, tokens.size(), 768, run.size(12, 6), tokenizer->beginning());
        measure(run, c, w);
    }
    const char* shared = std::getenv("LARDER_SHARED_DIR");
    if (!shared) return run.absent("stories260K, mid3m", "LARDER_SHARED_DIR names no reference data");
    const std::string data = std::string(shared) + "/data/";
    if (w.has("stories260K")) {
        Case c{"stories260K", engine::load_model(data + "weights/stories260K.bin"), {}, {}};
        const auto tokens = read_tokens(data + "texts/tinystories.tok512.u16");
        c.measured = windows(tokens, 0, tokens.size() / 2, 512, run.size(12, 6), 1);
        c.calibration = windows(tokens, tokens.size() / 2, tokens.size(), 512, run.size(12, 6), 1);
        measure(run, c, w);
    }
    if (w.has("mid3m")) {
        Case c{"mid3m", engine::load_model(data + "weights/mid3m.kvlm"), {}, {}};
        const auto measured = read_tokens(data + "texts/heldout.bpe2048.u16");
        const auto other = read_tokens(data + "texts/tinyshakespeare.bpe2048.u16");
        c.measured = windows(measured, 0, measured.size(), 768, run.size(8, 3), 0);
        c.calibration = windows(other, 0, other.size(), 768, run.size(12, 6), 0);
        measure(run, c, w);
    }
}
