// The demo engine: it agrees with the reference logits, its bits do not depend on how a prompt is
// cut, and a file that is not a model is refused with a sentence.
#include "support/cmocka.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "engine/decoder.h"
#include "engine/error.h"
#include "engine/private_kv.h"
#include "engine/tokenizer.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"

using namespace engine;

namespace {

std::vector<int32_t> some_tokens(size_t n, uint32_t vocab, uint32_t seed) {
    std::vector<int32_t> tokens;
    for (size_t i = 0; i < n; ++i) tokens.push_back(int32_t((seed = seed * 1664525u + 1013904223u) % vocab));
    return tokens;
}

// Logits of every position, computed `chunk` tokens at a time.
std::vector<float> logits_of(Decoder& d, const KvView& kv, std::span<const int32_t> tokens, size_t chunk) {
    std::vector<float> all;
    for (size_t p = 0; p < tokens.size(); p += chunk) {
        const Slice s{tokens.subspan(p, std::min(chunk, tokens.size() - p)), uint32_t(p), &kv};
        const auto rows = d.step({&s, 1}, Rows::all);
        all.insert(all.end(), rows.begin(), rows.end());
    }
    return all;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

void bits_do_not_depend_on_chunks_or_processor(void**) {
    const Model m = parse_model(TinyModel().file(), "tiny");
    const auto tokens = some_tokens(m.shape.context, m.shape.vocab, 7);
    Decoder first(m, *kernels_for(Isa::baseline));
    PrivateKv kv(m.shape);
    const auto want = logits_of(first, kv.view(), tokens, tokens.size());
    for (float x : want) assert_true(std::isfinite(x));
    for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
        const Kernels* k = kernels_for(isa);
        if (!k) continue;
        Decoder d(m, *k);
        for (size_t chunk : {1, 2, 7, 16, 64, 199, 200}) {
            PrivateKv own(m.shape);
            assert_true(same_bits(logits_of(d, own.view(), tokens, chunk), want));
        }
    }
}

// Each query that is asked gives away a weight of 1 in each head of each layer, and changes nothing by being asked.
void attention_is_watched(void**) {
    const Model m = parse_model(TinyModel().file(), "tiny");
    const auto tokens = some_tokens(100, m.shape.vocab, 9);
    Decoder d(m);
    PrivateKv kv(m.shape), watched(m.shape);
    const auto want = logits_of(d, kv.view(), tokens, tokens.size());
    AttentionWatch watch{10, {}};
    d.watch_attention(&watch);
    assert_true(same_bits(logits_of(d, watched.view(), tokens, tokens.size()), want));
    assert_int_equal(watch.received.size(), tokens.size());
    double sum = 0;
    for (float w : watch.received) sum += w;
    assert_true(std::fabs(sum - 10.0 * m.shape.n_heads * m.shape.n_layers) < 1e-3);
    // Only the last token sees the last token; the first is seen by all ten.
    assert_true(watch.received.back() < float(m.shape.n_heads * m.shape.n_layers));
}

// The same sequence with its rows scattered over small blocks in a shuffled order, as in a paged
// arena.
void bits_do_not_depend_on_paging(void**) {
    const Model m = parse_model(TinyModel().file(), "tiny");
    const auto tokens = some_tokens(m.shape.context, m.shape.vocab, 11);
    Decoder d(m);
    PrivateKv contiguous(m.shape);
    const auto want = logits_of(d, contiguous.view(), tokens, 50);
    constexpr uint32_t block_tokens = 16, n_blocks = 32;
    const size_t row = m.shape.kv_width() * 2;
    std::vector<std::byte> arena(n_blocks * m.shape.n_layers * block_tokens * row * 2,
                                 std::byte{0xff});  // NaN everywhere
    std::vector<int32_t> table;
    for (int32_t i = 0; i < 13; ++i) table.push_back((i * 19 + 3) % int32_t(n_blocks));
    KvView v;
    for (size_t l = 0; l < m.shape.n_layers; ++l)
        v.layers.push_back(
            {arena.data() + 2 * l * block_tokens * row, arena.data() + (2 * l + 1) * block_tokens * row});
    v.k_block_stride = v.v_block_stride = m.shape.n_layers * 2 * block_tokens * row;
    v.k_token_stride = v.v_token_stride = row;
    v.block_tokens = block_tokens;
    v.blocks = table.data();
    assert_true(same_bits(logits_of(d, v, tokens, 33), want));
}

void bits_do_not_depend_on_the_batch(void**) {
    const Model m = parse_model(TinyModel().file(), "tiny");
    Decoder d(m);
    constexpr size_t n = 3;
    const size_t length[n] = {40, 7, 1};
    std::vector<int32_t> tokens[n];
    std::vector<float> want;
    for (size_t i = 0; i < n; ++i) {
        tokens[i] = some_tokens(length[i], m.shape.vocab, uint32_t(i));
        PrivateKv kv(m.shape);
        const auto rows = logits_of(d, kv.view(), tokens[i], 64);
        want.insert(want.end(), rows.end() - m.shape.vocab, rows.end());
    }
    PrivateKv a(m.shape), b(m.shape), c(m.shape);
    const Slice slices[n] = {{tokens[0], 0, &a.view()}, {tokens[1], 0, &b.view()}, {tokens[2], 0, &c.view()}};
    assert_true(same_bits(d.step(slices), want));
}

TinyModel tiny_mixture() {
    TinyModel t;
    t.experts = 5, t.topk = 2;
    return t;
}

void a_mixture_s_bits_do_not_depend_on_chunks_either(void**) {
    const Model m = parse_model(tiny_mixture().file(), "tiny");
    assert_int_equal(m.n_parameters(), 67 * 40 + 40 + 2 * (2 * 40 * (60 + 20 + 1) + 5 * (3 * 40 * 72 + 40)));
    const auto tokens = some_tokens(m.shape.context, m.shape.vocab, 7);
    Decoder first(m, *kernels_for(Isa::baseline));
    PrivateKv kv(m.shape);
    const auto want = logits_of(first, kv.view(), tokens, tokens.size());
    for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
        const Kernels* k = kernels_for(isa);
        if (!k) continue;
        Decoder d(m, *k);
        for (size_t chunk : {1, 7, 64, 199}) {
            PrivateKv own(m.shape);
            assert_true(same_bits(logits_of(d, own.view(), tokens, chunk), want));
        }
    }
}

// With all experts alike, the gates add up to one: the mixture is the dense model.
void a_mixture_of_equals_is_the_dense_model(void**) {
    Model m = parse_model(tiny_mixture().file(), "tiny");
    const size_t n = m.shape.expert_floats();
    Model dense = parse_model(TinyModel().file(), "tiny");
    for (size_t l = 0; l < m.layers.size(); ++l) {
        Layer &from = m.layers[l], &to = dense.layers[l];
        for (size_t e = 1; e < m.shape.n_experts; ++e) std::copy_n(&from.experts[0], n, &from.experts[e * n]);
        for (Matrix Layer::*w : {&Layer::wq, &Layer::wk, &Layer::wv, &Layer::wo}) to.*w = from.*w;
        const float* packed = from.experts.data();
        for (Matrix* w : {&to.w1, &to.w3, &to.w2}) {
            for (size_t o = 0; o < w->n_out(); ++o)
                for (size_t i = 0; i < w->n_in(); ++i)
                    w->set(o, i, packed[(o / lanes * w->n_in() + i) * lanes + o % lanes]);
            packed += padded(w->n_out()) * w->n_in();
        }
    }
    dense.embedding = m.embedding;
    const auto tokens = some_tokens(40, m.shape.vocab, 3);
    Decoder a(m), b(dense);
    PrivateKv kv_a(m.shape), kv_b(dense.shape);
    const auto mixed = logits_of(a, kv_a.view(), tokens, 40), plain = logits_of(b, kv_b.view(), tokens, 40);
    for (size_t i = 0; i < mixed.size(); ++i) assert_true(std::fabs(mixed[i] - plain[i]) < 0.02f);
}

// Hands out copies of the experts, in the opposite order, and looks at what it is asked for.
class Elsewhere : public Experts {
  public:
    explicit Elsewhere(const Model& m) : m_(m), chosen_(m.shape.n_layers) {}
    std::span<const uint32_t> begin(size_t layer, const Routed& routed) override {
        layer_ = layer;
        chosen_[layer].insert(chosen_[layer].end(), routed.experts.begin(), routed.experts.end());
        for (size_t i = 0; i < routed.gates.size(); i += m_.shape.topk) {
            float sum = 0;
            for (size_t j = 0; j < m_.shape.topk; ++j) {
                sum += routed.gates[i + j];
                assert_true(!j || routed.gates[i + j] <= routed.gates[i + j - 1]);
            }
            assert_true(std::fabs(sum - 1) < 1e-6f);
        }
        order_.assign(routed.experts.begin(), routed.experts.end());
        std::sort(order_.begin(), order_.end(), std::greater<>());
        order_.erase(std::unique(order_.begin(), order_.end()), order_.end());
        return order_;
    }
    const float* weights(uint32_t expert) override {
        const size_t n = m_.shape.expert_floats();
        copies_.emplace_back(&m_.layers[layer_].experts[expert * n], &m_.layers[layer_].experts[expert * n] + n);
        return copies_.back().data();
    }
    void done() override { copies_.clear(); }
    const std::vector<uint32_t>& chosen(size_t layer) const { return chosen_[layer]; }

  private:
    const Model& m_;
    size_t layer_ = 0;
    std::vector<uint32_t> order_;
    std::vector<std::vector<float>> copies_;
    std::vector<std::vector<uint32_t>> chosen_;
};

void bits_do_not_depend_on_who_keeps_the_experts(void**) {
    const Model m = parse_model(tiny_mixture().file(), "tiny");
    const auto tokens = some_tokens(90, m.shape.vocab, 5);
    Decoder d(m);
    PrivateKv kv(m.shape), other(m.shape);
    const auto want = logits_of(d, kv.view(), tokens, 16);
    Elsewhere elsewhere(m);
    d.set_experts(&elsewhere);
    assert_true(same_bits(logits_of(d, other.view(), tokens, 31), want));
    assert_int_equal(elsewhere.chosen(1).size(), 90 * 2);
}

void conversions_agree_on_every_half(void**) {
    std::vector<uint16_t> all(65536), back(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = uint16_t(i);
    std::vector<float> wide(65536), near(65536);
    for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
        const Kernels* k = kernels_for(isa);
        if (!k) continue;
        k->to_float(all.data(), wide.data(), all.size());
        for (size_t i = 0; i < all.size(); ++i) {
            const float f = half_to_float(all[i]);
            assert_memory_equal(&wide[i], &f, 4);
        }
        for (float shift : {1.0f, 1.00049f, 0.99951f, 1.0004883f}) {  // exact, and both sides of a tie
            for (size_t i = 0; i < all.size(); ++i) near[i] = wide[i] * shift;
            k->to_half(near.data(), back.data(), back.size());
            for (size_t i = 0; i < all.size(); ++i) assert_int_equal(back[i], float_to_half(near[i]));
        }
    }
    assert_int_equal(float_to_half(65519.99f), 0x7bff);
    assert_int_equal(float_to_half(65520.0f), 0x7c00);
    assert_int_equal(float_to_half(0x1p-25f), 0);
    assert_int_equal(float_to_half(0x1.8p-25f), 1);
}

void wrong_input_is_refused_before_anything_is_computed(void**) {
    const Model m = parse_model(TinyModel().file(), "tiny");
    Decoder d(m);
    PrivateKv kv(m.shape);
    const auto refused = [&](std::vector<int32_t> tokens, uint32_t position, const char* needle) {
        const Slice s{tokens, position, &kv.view()};
        try {
            d.step({&s, 1});
        } catch (const Error& e) {
            return std::string(e.what()).find(needle) != std::string::npos;
        }
        return false;
    };
    assert_true(refused({1, 67}, 0, "67"));
    assert_true(refused({-1}, 0, "-1"));
    assert_true(refused({1}, 200, "context"));
    assert_true(refused({1, 2}, UINT32_MAX, "context"));
}

// The message of the refusal; empty when the bytes were taken for a model.
std::string refusal(std::span<const std::byte> bytes) {
    try {
        parse_model(bytes, "the-file");
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

void what_is_not_a_model_is_refused(void**) {
    const auto good = TinyModel().file();
    assert_string_equal(refusal(good).c_str(), "");
    for (size_t n = 0; n < good.size(); n += n < 80 ? 1 : 997) {
        const std::string why = refusal(std::span(good).first(n));
        assert_true(why.find("the-file") == 0);
    }
    for (size_t i = 0; i < good.size();
         i += i < 60 ? 1 : 101) {  // any one damaged byte: the checksum, or the header, speaks up
        auto bad = good;
        bad[i] ^= std::byte{0x10};
        assert_true(!refusal(bad).empty());
    }
    auto longer = good;
    longer.push_back(std::byte{0});
    assert_true(refusal(longer).find("too long") != std::string::npos);
    assert_true(refusal(std::span(good).first(good.size() / 2)).find("truncated") != std::string::npos);
    std::vector<std::byte> text(4096, std::byte{'a'}), zeros(4096, std::byte{0});
    assert_true(refusal(text).find("not a model file") != std::string::npos);
    assert_true(refusal(zeros).find("not a model file") != std::string::npos);
}

void absurd_dimensions_are_named(void**) {
    const auto why = [](auto change) {
        TinyModel t;
        auto file = t.file();
        change(t);
        const int32_t h[] = {t.dim,   t.hidden,  t.layers,  t.heads, t.kv_heads, t.head_dim,
                             t.vocab, t.context, t.experts, t.topk,  t.theta};
        std::memcpy(file.data() + 8, h, sizeof h);
        return refusal(file);
    };
    const auto says = [](const std::string& message, const char* needle) {
        return message.find(needle) != std::string::npos;
    };
    assert_true(says(why([](TinyModel& t) { t.dim = 0; }), "dim is 0"));
    assert_true(says(why([](TinyModel& t) { t.hidden = INT32_MAX; }), "hidden is 2147483647"));
    assert_true(says(why([](TinyModel& t) { t.layers = -1; }), "negative"));
    assert_true(says(why([](TinyModel& t) { t.kv_heads = 4; }), "kv heads"));
    assert_true(says(why([](TinyModel& t) { t.head_dim = 9; }), "odd"));
    assert_true(says(why([](TinyModel& t) { t.vocab = 1 << 30; }), "vocab"));
    assert_true(says(why([](TinyModel& t) { t.experts = 1025; }), "experts is 1025"));
    assert_true(says(why([](TinyModel& t) { t.experts = 8; }), "topk is 0"));
    assert_true(says(why([](TinyModel& t) { t.experts = 2, t.topk = 3; }), "topk is 3"));
    assert_true(says(why([](TinyModel& t) { t.topk = 1; }), "topk is 1"));
    assert_true(says(why([](TinyModel& t) { t.experts = 8, t.topk = 2; }), "truncated"));
    assert_true(says(why([](TinyModel& t) { t.theta = 0; }), "theta"));
    assert_true(says(why([](TinyModel& t) { t.dim = 16384, t.hidden = 65536, t.layers = 256, t.vocab = 1 << 20; }),
                     "truncated"));
}

void a_tokenizer_round_trips_and_bad_ones_are_refused(void**) {
    const TempDir dir;
    const auto written = [&](const std::string& text) {
        std::ofstream(dir.path("t.bpe"), std::ios::binary) << text;
        return dir.path("t.bpe");
    };
    // " a" = 33 98, then " an", then "and"'s tail "nd"
    const auto t = load_tokenizer(written("bpe1 260\n33 98\n257 111\n111 101\n"), 260);
    const std::string text = std::string("a band, and 1234 \n\n\x01\xff ") + "\xc3\xa9";
    const auto ids = t->encode(text);
    assert_string_equal(t->decode(ids).c_str(), text.c_str());
    assert_int_equal(t->encode(" an")[0], 258);
    assert_int_equal(t->encode("nd")[0], 259);
    assert_int_equal(t->encode("").size(), 0);
    const auto refused = [&](const std::string& file, uint32_t vocab, const char* needle) {
        try {
            load_tokenizer(written(file), vocab);
        } catch (const Error& e) {
            return std::string(e.what()).find(needle) != std::string::npos;
        }
        return false;
    };
    assert_true(refused("hello", 260, "not a tokenizer"));
    assert_true(refused("bpe1 x", 260, "number"));
    assert_true(refused("bpe1 260\n33 98\n", 260, "number"));
    assert_true(refused("bpe1 258\n33 300\n", 258, "joins tokens"));
    assert_true(refused("bpe1 258\n33 98\n1 2\n", 258, "more merges"));
    assert_true(refused("bpe1 258\n33 98\n", 300, "but the model has 300"));
    assert_true(refused("bpe1 99999999\n", 300, "vocabulary"));
}

std::vector<int32_t> read_tokens(const std::string& path) {
    const auto raw = read_file(path);
    std::vector<int32_t> tokens;
    for (size_t i = 0; i + 1 < raw.size(); i += 2) tokens.push_back(int32_t(raw[i]) | int32_t(raw[i + 1]) << 8);
    return tokens;
}

// Against logits of a float reference whose cache is float too; ours is fp16.
void compare(const std::string& data, const char* weights, const char* text, double nll_want, double nll_within,
             double logits_within) {
    const Model m = load_model(data + "/weights/" + weights);
    const auto tokens = read_tokens(data + "/kv/" + text + ".tokens.u16");
    Decoder d(m);
    PrivateKv kv(m.shape);
    const auto got = logits_of(d, kv.view(), tokens, 128);
    const size_t vocab = m.shape.vocab;
    double sum = 0;
    for (size_t i = 0; i + 1 < tokens.size(); ++i) sum += nll(std::span(got).subspan(i * vocab, vocab), tokens[i + 1]);
    const double mean = sum / double(tokens.size() - 1);
    if (nll_want > 0) assert_true(std::fabs(mean - nll_want) < nll_within);
    const auto raw = read_file(data + "/kv/" + text + ".logits_last64.f32");
    std::vector<float> want(raw.size() / 4);
    std::memcpy(want.data(), raw.data(), raw.size());
    const size_t skip = got.size() - want.size();
    double worst = 0;
    for (size_t i = 0; i < want.size(); ++i) worst = std::max(worst, double(std::fabs(want[i] - got[skip + i])));
    assert_true(worst < logits_within);
    std::printf("%s: nll %.6f, largest logit difference from the float reference %.4f\n", weights, mean, worst);
}

// Where the reference data is; empty when it is not there.
std::string reference_data() {
    const char* shared = std::getenv("LARDER_SHARED_DIR");
    const std::string data = std::string(shared ? shared : "") + "/data";
    const bool there = shared && std::filesystem::exists(data + "/weights/stories260K.bin");
    return there ? data : std::string();
}

void agrees_with_the_reference(void**) {
    if (reference_data().empty()) {  // nothing to destroy here: skip() jumps out
        std::printf("skipped: no reference data\n");
        skip();
    }
    const std::string data = reference_data();
    compare(data, "stories260K.bin", "stories260K.tinystories0", 1.422819, 3e-4, 0.08);
    compare(data, "mid3m.kvlm", "mid3m.heldout0", 0, 0, 0.01);
    const auto t = load_tokenizer(data + "/weights/tok512.bin", 512);
    const std::string text = "Once upon a time, there was a caf\xc3\xa9.";
    assert_string_equal(t->decode(t->encode(text)).c_str(), (" " + text).c_str());
}

// The experts that another program chose for the same text; a few differ, its cache being float.
void routes_as_the_reference(void**) {
    if (reference_data().empty()) {
        std::printf("skipped: no reference data\n");
        skip();
    }
    const std::string data = reference_data();
    const Model m = load_model(data + "/weights/moe11m.kvlm");
    const auto tokens = read_tokens(data + "/kv/moe11m.heldout0.tokens.u16");
    const auto want = read_file(data + "/kv/moe11m.heldout0.route.u8");
    Decoder d(m);
    PrivateKv kv(m.shape);
    Elsewhere elsewhere(m);
    d.set_experts(&elsewhere);
    logits_of(d, kv.view(), tokens, 128);
    size_t n_other = 0;
    for (size_t l = 0; l < m.shape.n_layers; ++l)
        for (size_t i = 0; i < tokens.size() * 2; ++i)
            n_other += elsewhere.chosen(l)[i] != uint32_t(want[l * tokens.size() * 2 + i]);
    std::printf("moe11m.kvlm: %zu of %zu experts other than the float reference's\n", n_other, want.size());
    assert_int_equal(want.size(), m.shape.n_layers * tokens.size() * 2);
    assert_true(n_other * 500 < want.size());
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_chunks_or_processor),
        cmocka_unit_test(bits_do_not_depend_on_paging),
        cmocka_unit_test(attention_is_watched),
        cmocka_unit_test(bits_do_not_depend_on_the_batch),
        cmocka_unit_test(a_mixture_s_bits_do_not_depend_on_chunks_either),
        cmocka_unit_test(a_mixture_of_equals_is_the_dense_model),
        cmocka_unit_test(bits_do_not_depend_on_who_keeps_the_experts),
        cmocka_unit_test(conversions_agree_on_every_half),
        cmocka_unit_test(wrong_input_is_refused_before_anything_is_computed),
        cmocka_unit_test(what_is_not_a_model_is_refused),
        cmocka_unit_test(absurd_dimensions_are_named),
        cmocka_unit_test(a_tokenizer_round_trips_and_bad_ones_are_refused),
        cmocka_unit_test(agrees_with_the_reference),
        cmocka_unit_test(routes_as_the_reference),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
