// Groups of unequal blocks, and workers that hold a part of the heads, layers or tokens: every value of every token is
// where the views say, in the arena and after a way through the tiers.
#include "support/kv_engine.h"

using namespace kvtest;

namespace {

// Two groups: three full layers with blocks of eight tokens, two window layers with blocks of four.
struct Model {
    static constexpr uint32_t n_groups = 2, big_block = 8, n_heads = 4;
    static constexpr uint32_t block_tokens[n_groups] = {8, 4}, k_dim[n_groups] = {4, 8}, v_dim[n_groups] = {6, 4};
    static constexpr uint32_t layer_numbers[n_groups][3] = {{0, 1, 3}, {2, 4, 0}};
    static constexpr uint32_t n_layers[n_groups] = {3, 2};

    static larder_layout* layout(larder_context* context) {
        larder_layer_group g[n_groups] = {LARDER_LAYER_GROUP_INIT, LARDER_LAYER_GROUP_INIT};
        for (uint32_t i = 0; i < n_groups; ++i) {
            g[i].layers = layer_numbers[i];
            g[i].n_layers = n_layers[i];
            g[i].block_tokens = block_tokens[i];
            g[i].n_kv_heads = n_heads;
            g[i].k_dim = k_dim[i];
            g[i].v_dim = v_dim[i];
            g[i].scale_bytes = i ? 2 : 0;
        }
        g[1].kind = LARDER_GROUP_WINDOW;
        g[1].window = 16;
        larder_layout_options o = LARDER_LAYOUT_OPTIONS_INIT;
        o.n_groups = n_groups;
        o.groups = g;
        o.group_stride = sizeof g[0];
        larder_layout* l = nullptr;
        OK(larder_layout_create(context, &o, &l));
        return l;
    }
};

// One rank: what it holds of the model, and where.
struct Part {
    uint32_t tp = 0, n_tp = 1, pp = 0, n_pp = 1, cp = 0, n_cp = 1;
    std::vector<larder_kv_layer_view> views[Model::n_groups];
    std::vector<uint32_t> layers[Model::n_groups];  // model numbers

    void find_layers() {
        for (uint32_t g = 0; g < Model::n_groups; ++g)
            for (uint32_t l = 0; l < Model::n_layers[g]; ++l) {
                const uint32_t n = Model::layer_numbers[g][l];
                if (n >= 5 * pp / n_pp && n < 5 * (pp + 1) / n_pp) layers[g].push_back(n);
            }
    }
    // Writes the token at `slot` of a group, or compares it. A slot of -1: another rank has it.
    bool touch(uint32_t g, int64_t slot, uint64_t hash, bool write) const {
        if (slot < 0) return true;
        bool same = true;
        const uint32_t n_heads = Model::n_heads / n_tp;
        for (size_t l = 0; l < layers[g].size(); ++l) {
            const larder_kv_layer_view& v = views[g][l];
            const uint64_t block = uint64_t(slot) / v.block_tokens, at = uint64_t(slot) % v.block_tokens;
            const auto row = [&](void* base, uint64_t block_stride, uint64_t token_stride, const void* want, size_t n) {
                char* p = static_cast<char*>(base) + block * block_stride + at * token_stride;
                if (write) std::memcpy(p, want, n);
                same = same && !std::memcmp(p, want, n);
            };
            uint16_t want[64];
            model_row(hash, layers[g][l], 0, tp * n_heads, n_heads, Model::k_dim[g], want);
            row(v.k, v.k_block_stride_bytes, v.k_token_stride_bytes, want, 2 * n_heads * Model::k_dim[g]);
            model_row(hash, layers[g][l], 1, tp * n_heads, n_heads, Model::v_dim[g], want);
            row(v.v, v.v_block_stride_bytes, v.v_token_stride_bytes, want, 2 * n_heads * Model::v_dim[g]);
            if (g == 1) row(v.scales, v.scale_block_stride_bytes, v.scale_token_stride_bytes, &hash, 2);
        }
        return same;
    }
};

void a_block_of_one_group_is_several_of_another(void**) {
    larder_context* context = nullptr;
    OK(larder_context_create(nullptr, &context));
    larder_layout* layout = Model::layout(context);
    larder_kv_options o = LARDER_KV_OPTIONS_INIT;
    o.n_blocks = 6;
    o.host_bytes = 1 << 20;
    larder_kv* kv = nullptr;
    OK(larder_kv_open(context, layout, &o, &kv));
    Part part;
    part.find_layers();
    for (uint32_t g = 0; g < Model::n_groups; ++g)
        for (uint32_t l = 0; l < Model::n_layers[g]; ++l) {
            part.views[g].push_back(LARDER_KV_LAYER_VIEW_INIT);
            OK(larder_kv_get_layer(kv, g, l, &part.views[g].back()));
            assert_int_equal(part.views[g].back().block_tokens, Model::block_tokens[g]);
            assert_int_equal(part.views[g].back().n_blocks, 7 * Model::big_block / Model::block_tokens[g]);
        }
    const auto slots = [&](larder_seq s, uint32_t g, uint64_t n) {
        std::vector<int64_t> out(n);
        uint64_t zero = 0;
        larder_kv_view_options v = LARDER_KV_VIEW_OPTIONS_INIT;
        v.group = g;
        v.format = LARDER_KV_VIEW_SLOT_MAPPING;
        v.dst = out.data();
        v.dst_stride = n;
        v.first_token = &zero;
        OK(larder_kv_view(kv, &s, 1, &v));
        return out;
    };
    // Four prompts of four blocks each through an arena of six.
    for (int round = 0; round < 2; ++round)
        for (uint32_t id = 0; id < 4; ++id) {
            const auto t = prompt(id, 27);
            larder_kv_query q = LARDER_KV_QUERY_INIT;
            q.tokens = t.data();
            q.n_tokens = t.size();
            larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
            OK(larder_kv_match(kv, &q, &m));
            assert_int_equal(m.n_tokens, round ? 24 : 0);
            larder_seq s = 0;
            OK(larder_kv_begin(kv, m.lease, nullptr, nullptr, 0, &s, nullptr));
            OK(larder_kv_reserve(kv, s, 27 - m.n_tokens, 0));
            for (uint32_t g = 0; g < Model::n_groups; ++g) {
                const auto at = slots(s, g, 27);
                for (uint64_t i = 0; i < 27; ++i)
                    assert_true(part.touch(g, at[i], prefix_hash(t.data(), i + 1), i >= m.n_tokens));
                // Block table and CSR name the same places.
                const uint32_t n = Model::block_tokens[g];
                std::vector<int32_t> table(16), indices(16);
                int32_t indptr[2], last = 0;
                larder_kv_view_options v = LARDER_KV_VIEW_OPTIONS_INIT;
                v.group = g;
                v.dst = table.data();
                v.dst_stride = table.size();
                OK(larder_kv_view(kv, &s, 1, &v));
                v.format = LARDER_KV_VIEW_CSR;
                v.dst = indices.data();
                v.indptr = indptr;
                v.last_block_tokens = &last;
                v.include_reserved = 1;
                OK(larder_kv_view(kv, &s, 1, &v));
                assert_int_equal(indptr[1], (27 + n - 1) / n);
                assert_int_equal(last, 3);
                for (uint64_t i = 0; i < 27; ++i) {
                    assert_int_equal(at[i], table[i / n] * int64_t(n) + int64_t(i % n));
                    assert_int_equal(indices[i / n], table[i / n]);
                }
                for (size_t i = 4 * Model::big_block / n; i < table.size(); ++i) assert_int_equal(table[i], 0);
            }
            OK(larder_kv_commit(kv, s, t.data() + m.n_tokens, 27 - m.n_tokens));
            OK(larder_kv_end(kv, s));
        }
    larder_kv_close(kv);
    larder_layout_destroy(layout);
    OK(larder_context_destroy(context));
}

// A planner and the workers of all ranks in one process.
struct Replica {
    larder_context* context = nullptr;
    larder_layout* layout = nullptr;
    larder_planner* planner = nullptr;
    std::vector<larder_worker*> workers;
    std::vector<Part> parts;

    Replica(uint32_t n_tp, uint32_t n_pp, uint32_t n_cp) {
        OK(larder_context_create(nullptr, &context));
        layout = Model::layout(context);
        larder_planner_options o = LARDER_PLANNER_OPTIONS_INIT;
        o.n_tp = n_tp, o.n_pp = n_pp, o.n_cp = n_cp;
        o.n_blocks = 10;
        o.has_store = 1;
        OK(larder_planner_create(context, layout, &o, &planner));
        for (uint32_t r = 0; r < n_tp * n_pp * n_cp; ++r) {
            Part p{r % n_tp, n_tp, r / n_tp % n_pp, n_pp, r / n_tp / n_pp, n_cp, {}, {}};
            p.find_layers();
            larder_worker_options w = LARDER_WORKER_OPTIONS_INIT;
            w.tp = p.tp, w.n_tp = n_tp, w.pp = p.pp, w.n_pp = n_pp, w.cp = p.cp, w.n_cp = n_cp;
            w.n_blocks = 10;
            w.host_bytes = 1 << 20;
            larder_worker* worker = nullptr;
            OK(larder_worker_create(context, layout, &w, &worker));
            larder_kv_layer_view view = LARDER_KV_LAYER_VIEW_INIT;
            for (uint32_t g = 0; g < Model::n_groups; ++g) {
                for (uint32_t l = 0; l < p.layers[g].size(); ++l) {
                    OK(larder_worker_get_layer(worker, g, l, &view));
                    assert_int_equal(view.block_tokens, Model::block_tokens[g] / n_cp);
                    p.views[g].push_back(view);
                }
                assert_int_equal(larder_worker_get_layer(worker, g, uint32_t(p.layers[g].size()), &view),
                                 LARDER_E_RANGE);
            }
            workers.push_back(worker);
            parts.push_back(p);
        }
    }
    ~Replica() {
        for (larder_worker* w : workers) larder_worker_destroy(w);
        larder_planner_destroy(planner);
        larder_layout_destroy(layout);
        OK(larder_context_destroy(context));
    }
    void carry_out(larder_plan* plan) {
        if (!plan) return;
        larder_plan_info info = LARDER_PLAN_INFO_INIT;
        OK(larder_plan_get_info(plan, &info));
        std::vector<larder_status> statuses(info.n_ops);
        for (uint32_t r = 0; r < workers.size(); ++r) {
            OK(larder_worker_submit(workers[r], plan, 0, nullptr, 0, nullptr));
            uint64_t n = 0;
            OK(larder_worker_take_report(workers[r], info.id, statuses.data(), statuses.size(), &n));
            for (larder_status s : statuses) assert_int_equal(s, LARDER_OK);
            const larder_status s = larder_planner_report(planner, info.id, r, statuses.data(), n);
            assert_int_equal(s, r + 1 < workers.size() ? LARDER_PENDING : LARDER_OK);
        }
        larder_plan_destroy(plan);
    }
    // Each rank's share of the tokens [first, n): written, or compared. Each token is on one rank of each n_cp.
    void touch(larder_seq seq, const std::vector<int32_t>& tokens, uint64_t first, uint64_t n, bool write) {
        std::vector<int64_t> slots(64);
        for (const Part& p : parts)
            for (uint32_t g = 0; g < Model::n_groups; ++g) {
                uint64_t zero = 0;
                larder_kv_view_options o = LARDER_KV_VIEW_OPTIONS_INIT;
                o.group = g;
                o.cp = p.cp;
                o.format = LARDER_KV_VIEW_SLOT_MAPPING;
                o.dst = slots.data();
                o.dst_stride = slots.size();
                o.first_token = &zero;
                OK(larder_planner_view(planner, &seq, 1, &o));
                for (uint64_t i = first; i < n; ++i) {
                    assert_int_equal(slots[i] >= 0, i % Model::big_block % p.n_cp == p.cp);
                    assert_true(p.touch(g, slots[i], prefix_hash(tokens.data(), i + 1), write));
                }
            }
    }
    uint64_t serve(const std::vector<int32_t>& tokens) {
        larder_kv_query q = LARDER_KV_QUERY_INIT;
        q.tokens = tokens.data();
        q.n_tokens = tokens.size();
        larder_kv_match_info m = LARDER_KV_MATCH_INFO_INIT;
        OK(larder_planner_match(planner, &q, &m));
        larder_seq s = 0;
        larder_plan* plan = nullptr;
        const larder_status began = larder_planner_begin(planner, m.lease, nullptr, &s, &plan);
        assert_true(began == LARDER_OK || began == LARDER_PENDING);
        carry_out(plan);
        larder_kv_seq_info info = LARDER_KV_SEQ_INFO_INIT;
        OK(larder_planner_seq_get_info(planner, s, &info));
        const uint64_t done = info.n_computed;
        touch(s, tokens, 0, done, false);
        larder_status reserved;
        while ((reserved = larder_planner_reserve(planner, s, tokens.size() - done, 0, &plan)) == LARDER_RETRY)
            carry_out(plan);
        assert_int_equal(reserved, LARDER_OK);
        carry_out(plan);
        touch(s, tokens, done, tokens.size(), true);
        touch(s, tokens, 0, tokens.size(), false);
        OK(larder_planner_commit(planner, s, tokens.data() + done, tokens.size() - done, &plan));
        carry_out(plan);
        OK(larder_planner_end(planner, s));
        return done;
    }
};

void every_rank_keeps_its_part(void**) {
    const uint32_t shapes[][3] = {{2, 1, 1}, {1, 2, 1}, {1, 5, 1}, {1, 1, 2}, {1, 1, 4}, {2, 2, 2}, {4, 3, 4}};
    for (const auto& s : shapes) {
        Replica r(s[0], s[1], s[2]);
        for (uint32_t id = 0; id < 5; ++id) assert_int_equal(r.serve(prompt(id, 27)), 0);
        for (uint32_t id = 0; id < 5; ++id) assert_int_equal(r.serve(prompt(id, 27)), 24);
        auto t = prompt(3, 27);
        t[21] += 1;  // a partial block is copied
        assert_int_equal(r.serve(t), 21);
    }
}

void parts_that_are_none(void**) {
    larder_context* context = nullptr;
    OK(larder_context_create(nullptr, &context));
    larder_layout* layout = Model::layout(context);
    larder_worker* worker = nullptr;
    larder_worker_options w = LARDER_WORKER_OPTIONS_INIT;
    w.n_blocks = 10;
    const auto create = [&] { return larder_worker_create(context, layout, &w, &worker); };
    w.n_cp = 8;  // more than the four tokens of the window group's blocks
    assert_int_equal(create(), LARDER_E_RANGE);
    w.n_cp = 3;
    assert_int_equal(create(), LARDER_E_RANGE);
    w.n_cp = 2, w.cp = 2;
    assert_int_equal(create(), LARDER_E_RANGE);
    w.n_cp = 1, w.cp = 0;
    w.first_layer = 1;
    assert_int_equal(create(), LARDER_E_INVALID);
    w.first_layer = 5, w.n_layers = 2;
    assert_int_equal(create(), LARDER_E_RANGE);
    w.n_layers = UINT32_MAX;
    assert_int_equal(create(), LARDER_E_RANGE);
    w.first_layer = 2, w.n_layers = 2;
    w.n_blocks =
        1u << 27;  // twice as many in the window group: still numbers of 32 bits, but no machine has the memory
    w.engine_memory = 1;
    OK(create());
    larder_kv_layer_view v = LARDER_KV_LAYER_VIEW_INIT;
    assert_int_equal(larder_worker_get_layer(worker, 0, 1, &v), LARDER_E_RANGE);  // of group 0 only layer 3
    // Small blocks must lie without gaps.
    static char memory[1];
    larder_worker_tensor t = LARDER_WORKER_TENSOR_INIT;
    t.group = 1;
    t.view.k = t.view.v = t.view.scales = memory;
    t.view.n_blocks = 1u << 29;
    t.view.k_token_stride_bytes = t.view.v_token_stride_bytes = t.view.scale_token_stride_bytes = 64;
    t.view.k_block_stride_bytes = t.view.v_block_stride_bytes = t.view.scale_block_stride_bytes = 4 * 64 + 64;
    assert_int_equal(larder_worker_register(worker, &t, sizeof t, 1), LARDER_E_INVALID);
    t.view.k_block_stride_bytes = t.view.v_block_stride_bytes = t.view.scale_block_stride_bytes = 4 * 64;
    t.view.n_blocks = 1u << 28;
    assert_int_equal(larder_worker_register(worker, &t, sizeof t, 1), LARDER_E_RANGE);
    t.view.n_blocks = (1u << 28) + 2;
    OK(larder_worker_register(worker, &t, sizeof t, 1));
    OK(larder_worker_get_layer(worker, 1, 0, &v));
    assert_int_equal(v.block_tokens, 4);
    assert_int_equal(v.k_block_stride_bytes, 4 * 64);
    larder_worker_destroy(worker);
    larder_layout_destroy(layout);
    OK(larder_context_destroy(context));
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(a_block_of_one_group_is_several_of_another),
        cmocka_unit_test(every_rank_keeps_its_part),
        cmocka_unit_test(parts_that_are_none),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
