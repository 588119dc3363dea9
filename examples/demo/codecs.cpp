#include "demo/codecs.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>

#include "demo/larder_call.h"
#include "engine/decoder.h"
#include "engine/private_kv.h"
#include "larder/larder.h"

namespace demo {

namespace {

constexpr uint32_t prompt_tokens = 512, scored_tokens = 256;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// A prompt in an fp16 cache, and what the model says about the tokens after it.
struct Window {
    std::vector<int32_t> tokens;  // prompt, then the scored ones
    std::unique_ptr<engine::PrivateKv> kv;
    std::vector<float> logits;    // [scored_tokens - 1][vocab]
    std::vector<float> saliency;  // [prompt_tokens] mean attention of the last ones that see a token (ZipCache)
};

class Bench {
  public:
    Bench(const engine::Model& model, int32_t beginning, std::span<const int32_t> text,
          const std::vector<std::vector<int32_t>>& calibration, uint32_t n_windows)
        : model_(model), decoder_(model), restored_(model.shape), calibration_(calibration) {
        larder_context* context = nullptr;
        check(larder_context_create(nullptr, &context), "larder_context_create");
        context_.reset(context);
        constexpr size_t fresh = prompt_tokens + scored_tokens - 1;
        const size_t n = std::min<size_t>(text.size() / fresh, n_windows);
        if (n == 0) throw engine::Error("the text leaves too few tokens for measuring codecs");
        for (size_t i = 0; i < n; ++i) {  // spread over the text
            const auto from = text.begin() + ptrdiff_t(text.size() / n * i);
            Window& w = windows_.emplace_back();
            w.tokens.assign(from, from + fresh);
            w.tokens.insert(w.tokens.begin(), beginning);
        }
        for (Window& w : windows_) {
            w.kv = std::make_unique<engine::PrivateKv>(model.shape);
            const engine::Slice prompt{std::span(w.tokens).first(prompt_tokens), 0, &w.kv->view()};
            engine::AttentionWatch watch;
            decoder_.watch_attention(&watch);
            decoder_.step({&prompt, 1});
            decoder_.watch_attention(nullptr);
            w.saliency = std::move(watch.received);
            for (uint32_t t = 0; t < prompt_tokens; ++t)
                w.saliency[t] /= float(std::min(watch.n_last, prompt_tokens - t));
            const auto logits = score(w, w.kv->view());
            w.logits.assign(logits.begin(), logits.end());
        }
    }

    CodecReport run() {
        CodecReport report;
        report.n_windows = uint32_t(windows_.size());
        report.prompt_tokens = prompt_tokens;
        report.scored_tokens = scored_tokens - 1;
        double nats = 0;
        for (const Window& w : windows_) nats += nats_of(w, w.logits);
        report.plain_perplexity = perplexity(nats);
        larder_codec_info info = LARDER_CODEC_INFO_INIT;
        for (uint32_t i = 0; larder_codec_list(i, &info) == LARDER_OK; ++i)
            if (!(info.needs & LARDER_CODEC_TAKES_INPUT)) report.presets.push_back(measure(info));
        return report;
    }

  private:
    // The logits after each scored token but the last. The scored tokens' own keys and values are
    // computed anew.
    std::span<const float> score(const Window& w, const engine::KvView& view) {
        const engine::Slice rest{std::span(w.tokens).subspan(prompt_tokens, scored_tokens - 1), prompt_tokens, &view};
        return decoder_.step({&rest, 1}, engine::Rows::all);
    }

    double nats_of(const Window& w, std::span<const float> logits) const {
        const size_t vocab = model_.shape.vocab;
        double sum = 0;
        for (size_t i = 0; i + 1 < scored_tokens - 1; ++i)
            sum += engine::nll(logits.subspan(i * vocab, vocab), w.tokens[prompt_tokens + i + 1]);
        return sum;
    }

    double perplexity(double nats) const { return std::exp(nats / double(windows_.size() * (scored_tokens - 2))); }

    larder_stream_shape shape() const {
        const engine::Shape& s = model_.shape;
        larder_stream_shape shape = LARDER_STREAM_SHAPE_INIT;
        shape.n_layers = s.n_layers;
        shape.n_tokens = prompt_tokens;
        shape.n_kv_heads = s.n_kv_heads;
        shape.k_dim = shape.v_dim = s.head_dim;
        return shape;
    }

    std::vector<larder_stream_plane> planes(const engine::KvView& view) const {
        std::vector<larder_stream_plane> planes;
        for (size_t l = 0; l < model_.shape.n_layers; ++l)
            for (std::byte* base : {view.k_row(l, 0), view.v_row(l, 0)}) {
                larder_stream_plane p = LARDER_STREAM_PLANE_INIT;
                p.base = base;
                p.token_stride = view.k_token_stride;
                planes.push_back(p);
            }
        return planes;
    }

    CodecResult measure(const larder_codec_info& info) {
        CodecResult r;
        r.name = info.name;
        r.description = info.description;
        r.exact = info.quality == LARDER_QUALITY_EXACT;
        try {
            larder_codec_options options = LARDER_CODEC_OPTIONS_INIT;
            options.chain = info.name;
            if (info.needs & (LARDER_CODEC_NEEDS_PROFILE | LARDER_CODEC_USES_PROFILE)) options.profile = profile();
            larder_codec* codec = nullptr;
            check(larder_codec_open(context_.get(), &options, &codec), "larder_codec_open");
            const Handle<larder_codec, larder_codec_close> open(codec);
            measure_with(codec, r);
        } catch (const engine::Error& e) {
            r.why = e.what();
        }
        return r;
    }

    void measure_with(const larder_codec* codec, CodecResult& r) {
        larder_stream_source source = LARDER_STREAM_SOURCE_INIT;
        source.shape = shape();
        uint64_t bound = 0, n_bytes = 0, total = 0;
        check(larder_codec_sizes(codec, &source.shape, &bound, nullptr), "larder_codec_sizes");
        std::vector<std::byte> stream(bound);
        double encode_s = 0, decode_s = 0, nats = 0;
        const auto targets = planes(restored_.view());
        for (const Window& w : windows_) {
            const auto sources = planes(w.kv->view());
            source.planes = sources.data();
            source.saliency = w.saliency.data();
            auto start = Clock::now();
            check(larder_stream_encode(codec, &source, stream.data(), stream.size(), nullptr, 0, &n_bytes),
                  "larder_stream_encode");
            encode_s += seconds_since(start);
            total += n_bytes;
            larder_stream_target target = LARDER_STREAM_TARGET_INIT;
            target.planes = targets.data();
            const larder_profile* profiles[] = {profile_.get()};
            target.profiles = profiles;
            target.n_profiles = profile_ ? 1 : 0;
            start = Clock::now();
            check(larder_stream_decode(context_.get(), {stream.data(), n_bytes}, &target), "larder_stream_decode");
            decode_s += seconds_since(start);
            const auto logits = score(w, restored_.view());
            nats += nats_of(w, logits);
            compare(logits, w.logits, r);
        }
        const double values =
            double(windows_.size()) * 2 * model_.shape.n_layers * prompt_tokens * double(model_.shape.kv_width());
        r.bits_per_value = double(total) * 8 / values;
        r.compression = 16 / r.bits_per_value;
        r.encode_mb_s = values * 2e-6 / encode_s;
        r.decode_mb_s = values * 2e-6 / decode_s;
        r.perplexity = perplexity(nats);
        r.measured = true;
    }

    static void compare(std::span<const float> got, std::span<const float> want, CodecResult& r) {
        for (size_t i = 0; i < want.size(); ++i) {
            r.logit_difference = std::max(r.logit_difference, double(std::fabs(got[i] - want[i])));
            r.n_logits_different += std::memcmp(&got[i], &want[i], sizeof(float)) != 0;
        }
    }

    // Learnt when the first preset asks for it.
    const larder_profile* profile() {
        if (profile_) return profile_.get();
        larder_profile_options options = LARDER_PROFILE_OPTIONS_INIT;
        options.shape = shape();
        options.rope = LARDER_ROPE_POST;
        options.rope_interleaved = 1;
        options.rope_base = model_.shape.theta;
        larder_profile* p = nullptr;
        check(larder_profile_create(context_.get(), &options, &p), "larder_profile_create");
        Handle<larder_profile, larder_profile_destroy> learning(p);
        larder_stream_source sample = LARDER_STREAM_SOURCE_INIT;
        const auto from = planes(restored_.view());
        sample.planes = from.data();
        sample.shape = shape();
        for (const std::vector<int32_t>& tokens : calibration_) {
            const engine::Slice prompt{std::span(tokens).first(prompt_tokens), 0, &restored_.view()};
            decoder_.step({&prompt, 1});
            check(larder_profile_add(p, &sample), "larder_profile_add");
        }
        check(larder_profile_finish(p), "larder_profile_finish");
        profile_ = std::move(learning);
        return p;
    }

    const engine::Model& model_;
    engine::Decoder decoder_;
    engine::PrivateKv restored_;
    const std::vector<std::vector<int32_t>>& calibration_;  // each at least prompt_tokens long
    std::vector<Window> windows_;
    Handle<larder_context, larder_context_destroy> context_;
    Handle<larder_profile, larder_profile_destroy> profile_;
};

}  // namespace

CodecReport measure_codecs(const engine::Model& model, int32_t beginning, std::span<const int32_t> text,
                           const std::vector<std::vector<int32_t>>& calibration, uint32_t n_windows) {
    return Bench(model, beginning, text, calibration, n_windows).run();
}

}  // namespace demo
