// The demo engine with its experts in a cache: the same bits with any number of slots, however the prompt is cut, and a
// load that fails is said.
#include "support/cmocka.h"

#include <cstring>
#include <filesystem>

#include "engine/decoder.h"
#include "engine/private_kv.h"
#include "moe/cached_experts.h"
#include "support/temp_dir.h"
#include "support/tiny_model.h"

using namespace engine;

namespace {

struct Bed {
    TempDir dir;
    Model model;
    std::vector<int32_t> tokens;
    larder_context* context = nullptr;

    Bed() {
        TinyModel t;
        t.experts = 7, t.topk = 2;
        model = parse_model(t.file(), "tiny");
        for (uint32_t i = 0, x = 9; i < 60; ++i) tokens.push_back(int32_t((x = x * 1664525u + 1013904223u) % 67));
        moe::write_experts(model, dir.path("experts"));
        assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
    }
    ~Bed() { assert_int_equal(larder_context_destroy(context), LARDER_OK); }

    std::vector<float> logits(Experts* experts, size_t chunk) const {
        Decoder d(model);
        d.set_experts(experts);
        PrivateKv kv(model.shape);
        std::vector<float> all;
        for (size_t p = 0; p < tokens.size(); p += chunk) {
            const Slice s{std::span(tokens).subspan(p, std::min(chunk, tokens.size() - p)), uint32_t(p), &kv.view()};
            const auto rows = d.step({&s, 1}, Rows::all);
            all.insert(all.end(), rows.begin(), rows.end());
        }
        return all;
    }
};

void the_same_bits_with_any_number_of_slots(void**) {
    const Bed bed;
    const auto want = bed.logits(nullptr, 60);
    for (uint32_t slots = 2; slots <= 8; ++slots)
        for (size_t chunk : {1, 5, 60}) {
            moe::CachedExperts cached(bed.context, bed.model.shape, bed.dir.path("experts"), slots);
            const auto got = bed.logits(&cached, chunk);
            assert_int_equal(got.size(), want.size());
            assert_memory_equal(got.data(), want.data(), want.size() * sizeof(float));
            const larder_expert_state s = cached.state();
            assert_int_equal(s.n_leases, 0);
            assert_true(s.n_loads >= 7 || s.n_acquired < 7);
            if (chunk == 1) assert_int_equal(s.n_acquired, 60 * 2 * 2);
            if (slots >= 7) assert_true(s.n_evictions == 0);
        }
}

void a_file_that_ends_early_is_said(void**) {
    const Bed bed;
    std::filesystem::resize_file(bed.dir.path("experts"), 1000);
    bool refused = false;
    try {
        moe::CachedExperts cached(bed.context, bed.model.shape, bed.dir.path("experts"), 3);
    } catch (const Error& e) {
        refused = std::strstr(e.what(), "TRUNCATED") != nullptr;
    }
    assert_true(refused);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(the_same_bits_with_any_number_of_slots),
        cmocka_unit_test(a_file_that_ends_early_is_said),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
