// A mixture of experts generates text with a quarter, half and all of its experts in memory, the rest in
// a file, and must say the same to the bit.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>

#include <unistd.h>

#include "demo/format.h"
#include "engine/decoder.h"
#include "engine/private_kv.h"
#include "engine/tokenizer.h"
#include "moe/cached_experts.h"

namespace moe {

namespace {

using demo::check;
using demo::format;

constexpr char usage[] = "usage: larder-demo-moe --model FILE [options]\n"
                         "  --model FILE      a mixture of experts, kvlm1\n"
                         "  --tokenizer FILE  (beside the model, .bpe)\n"
                         "  --text FILE       whose beginning is the prompt (beside the model, .txt)\n"
                         "  --prompt N        tokens of it (64)\n"
                         "  --tokens N        tokens to generate (256)\n"
                         "  --routes FILE     write the routing, for `larder experts analyze FILE --type u8`\n";

struct Arguments {
    std::string model, tokenizer, text, routes;
    uint32_t n_prompt = 64, n_tokens = 256;
};

uint32_t number(const std::string& option, const char* text) {
    char* end = nullptr;
    const unsigned long n = std::strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || n < 1 || n > 65536)
        throw engine::Error(option + ": '" + text + "' is not a number in 1 .. 65536");
    return uint32_t(n);
}

Arguments parse(int argc, char** argv) {
    Arguments a;
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        if (option == "--help") {
            std::fputs(usage, stdout);
            std::exit(0);
        }
        std::string* const text = option == "--model"       ? &a.model
                                  : option == "--tokenizer" ? &a.tokenizer
                                  : option == "--text"      ? &a.text
                                  : option == "--routes"    ? &a.routes
                                                            : nullptr;
        uint32_t* const n = option == "--prompt" ? &a.n_prompt : option == "--tokens" ? &a.n_tokens : nullptr;
        if ((!text && !n) || i + 1 == argc)
            throw engine::Error(option + ": unknown, or its value is missing; see --help");
        ++i;
        if (text) *text = argv[i];
        if (n) *n = number(option, argv[i]);
    }
    if (a.model.empty()) throw engine::Error("--model is needed; see --help");
    const std::filesystem::path model = a.model;
    if (a.tokenizer.empty()) a.tokenizer = std::filesystem::path(model).replace_extension(".bpe");
    if (a.text.empty()) a.text = std::filesystem::path(model).replace_extension(".txt");
    return a;
}

// The experts in the model itself, and what the routers chose: [token][layer][k].
class Recorded final : public engine::Experts {
  public:
    explicit Recorded(const engine::Model& m) : model_(m) {}
    std::span<const uint32_t> begin(size_t layer, const engine::Routed& routed) override {
        layer_ = layer;
        for (uint32_t e : routed.experts) ids.push_back(uint16_t(e));
        order_.assign(routed.experts.begin(), routed.experts.end());
        return order_;
    }
    const float* weights(uint32_t expert) override {
        return &model_.layers[layer_].experts[expert * model_.shape.expert_floats()];
    }
    void done() override {}
    std::vector<uint16_t> ids;

  private:
    const engine::Model& model_;
    size_t layer_ = 0;
    std::vector<uint32_t> order_;
};

struct Run {
    std::vector<int32_t> tokens;
    std::vector<float> logits;  // of every step
    double seconds = 0;
};

// One token at a time, so that each asks for its own experts.
Run generate(engine::Decoder& d, std::span<const int32_t> prompt, uint32_t n_tokens) {
    Run run;
    engine::PrivateKv kv(d.model().shape);
    const auto begin = std::chrono::steady_clock::now();
    int32_t token = prompt[0];
    for (uint32_t p = 0; p < prompt.size() + n_tokens - 1; ++p) {
        const engine::Slice s{{&token, 1}, p, &kv.view()};
        const auto logits = d.step({&s, 1});
        run.logits.insert(run.logits.end(), logits.begin(), logits.end());
        token = p + 1 < prompt.size() ? prompt[p + 1] : engine::greatest(logits);
        if (p + 1 >= prompt.size()) run.tokens.push_back(token);
    }
    run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return run;
}

double replayed(larder_context* context, const engine::Shape& s, const std::vector<uint16_t>& ids, uint32_t slots,
                larder_expert_policy policy) {
    larder_moe_routing t = LARDER_MOE_ROUTING_INIT;
    t.type = LARDER_MOE_I16;
    t.order = LARDER_MOE_TOKENS_FIRST;
    t.n_layers = s.n_layers;
    t.n_experts = s.n_experts;
    t.k = s.topk;
    t.n_tokens = ids.size() / s.n_layers / s.topk;
    t.n_bytes = ids.size() * sizeof ids[0];
    t.ids = ids.data();
    larder_expert_replay_options o = LARDER_EXPERT_REPLAY_OPTIONS_INIT;
    o.policy = policy;
    o.layer_slots = slots;
    larder_expert_replay_result r = LARDER_EXPERT_REPLAY_RESULT_INIT;
    check(larder_expert_replay(context, &t, &o, nullptr, &r), "replay");
    return double(r.n_hits) / double(r.n_references);
}

// A new directory that goes with us.
struct Directory {
    std::string path = (std::filesystem::temp_directory_path() / "larder-demo-moe-XXXXXX").string();
    Directory() {
        if (!::mkdtemp(path.data())) throw engine::Error(path + ": " + std::strerror(errno));
    }
    ~Directory() {
        std::error_code ignored;
        std::filesystem::remove_all(path, ignored);
    }
};

std::vector<int32_t> prompt_of(const Arguments& a, const engine::Model& m) {
    const auto tokenizer = engine::load_tokenizer(a.tokenizer, m.shape.vocab);
    const auto bytes = engine::read_file(a.text);
    const size_t n_bytes = std::min<size_t>(bytes.size(), size_t(a.n_prompt) * 64);
    std::vector<int32_t> prompt = tokenizer->encode({reinterpret_cast<const char*>(bytes.data()), n_bytes});
    prompt.insert(prompt.begin(), tokenizer->beginning());
    prompt.resize(std::min<size_t>(prompt.size(), a.n_prompt));
    if (prompt.size() + a.n_tokens - 1 > m.shape.context)
        throw engine::Error(format("%zu + %u tokens are more than the model's context of %u", prompt.size(), a.n_tokens,
                                   m.shape.context));
    return prompt;
}

void write_routes(const std::string& path, const std::vector<uint16_t>& ids) {
    const std::vector<uint8_t> bytes(ids.begin(), ids.end());
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wb"), std::fclose);
    if (!file || std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size() || std::fflush(file.get()))
        throw engine::Error(path + ": cannot be written");
}

int run(const Arguments& a) {
    const engine::Model m = engine::load_model(a.model);
    const engine::Shape& s = m.shape;
    if (!s.n_experts) throw engine::Error(a.model + ": a dense model; this demo is for mixtures of experts");
    if (!a.routes.empty() && s.n_experts > 256)
        throw engine::Error("--routes: numbers of more than 256 experts are not bytes");
    const std::vector<int32_t> prompt = prompt_of(a, m);
    const Directory directory;
    const std::string file = directory.path + "/experts";
    write_experts(m, file);
    larder_context* raw = nullptr;
    check(larder_context_create(nullptr, &raw), "context");
    const demo::Handle<larder_context, larder_context_destroy> context(raw);

    engine::Decoder decoder(m);
    Recorded recorded(m);
    decoder.set_experts(&recorded);
    const Run want = generate(decoder, prompt, a.n_tokens);
    if (!a.routes.empty()) write_routes(a.routes, recorded.ids);
    const double n_steps = double(prompt.size() + a.n_tokens - 1);
    std::printf("%u layers of %u experts, %u for each token, %.1f MiB in all; %zu tokens read, %u generated\n\n",
                s.n_layers, s.n_experts, s.topk,
                double(s.n_layers * s.n_experts * s.expert_floats() * sizeof(float)) / (1 << 20), prompt.size(),
                a.n_tokens);
    std::printf("experts in memory   tokens/s   hits    lru     lfu     belady   waiting for loads   the same\n");
    std::printf("all, no cache     %10.1f%57s\n", n_steps / want.seconds, "");
    bool all_same = true;
    for (const uint32_t percent : {25, 50, 100}) {
        const uint32_t slots = std::max(s.topk, s.n_experts * percent / 100);
        CachedExperts cached(context.get(), s, file, slots);
        decoder.set_experts(&cached);
        const Run got = generate(decoder, prompt, a.n_tokens);
        const larder_expert_state state = cached.state();
        const bool same = got.tokens == want.tokens && got.logits.size() == want.logits.size() &&
                          std::memcmp(got.logits.data(), want.logits.data(), got.logits.size() * sizeof(float)) == 0;
        all_same &= same;
        std::printf("%3u of %3u a layer  %9.1f   %.3f   %.3f   %.3f   %.3f    %8.3f ms/token   %s\n", slots,
                    s.n_experts, n_steps / got.seconds, double(state.n_hits) / double(state.n_acquired),
                    replayed(context.get(), s, recorded.ids, slots, LARDER_EXPERT_LRU),
                    replayed(context.get(), s, recorded.ids, slots, LARDER_EXPERT_LFU),
                    replayed(context.get(), s, recorded.ids, slots, LARDER_EXPERT_BELADY),
                    cached.waited_s() / n_steps * 1e3, same ? "yes" : "NO");
    }
    decoder.set_experts(nullptr);
    std::printf("\n%s\n", all_same ? "All runs gave the same logits, to the bit." : "A RUN GAVE OTHER LOGITS.");
    return all_same ? 0 : 1;
}

}  // namespace

}  // namespace moe

int main(int argc, char** argv) {
    try {
        return moe::run(moe::parse(argc, argv));
    } catch (const std::exception& e) {
        std::fprintf(stderr, "larder-demo-moe: %s\n", e.what());
        return 2;
    }
}
