// Several threads in one arena: each has sequences of its own, some of them forks that other threads handed over, and a
// small pool that all of them exhaust.
#include "support/cmocka.h"

#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "base/atomic.h"
#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"

using namespace larder;

namespace {

struct Owned {
    larder_seq id;
    std::vector<uint32_t> tokens;
};

struct Shared {
    larder_arena* arena = nullptr;
    larder_arena_layer view = LARDER_ARENA_LAYER_INIT;
    bool contiguous = false;
    std::mutex mutex;
    std::vector<Owned> handed_over;
    larder::atomic<uint32_t> n_broken{0}, n_full{0};

    uint32_t* token(larder_seq seq, uint64_t i) {
        if (contiguous) {
            void* base = nullptr;
            larder_arena_seq_base(arena, seq, 0, 0, LARDER_PLANE_K, &base);
            return reinterpret_cast<uint32_t*>(static_cast<char*>(base) + i * view.k_token_stride);
        }
        int32_t slot = 0;
        const larder_arena_range r = {seq, i, 1};
        if (larder_arena_slot_mapping(arena, 0, &r, 1, &slot, 4, 1, nullptr) != LARDER_OK) return nullptr;
        return reinterpret_cast<uint32_t*>(static_cast<char*>(view.k_base) + slot / 4 * int64_t(view.k_block_stride) +
                                           uint64_t(slot % 4) * view.k_token_stride);
    }
    void check(const Owned& s) {
        for (uint64_t i = 0; i < s.tokens.size(); i += 1 + s.tokens.size() / 16)
            if (*token(s.id, i) != s.tokens[i]) n_broken.fetch_add(1, relaxed);
    }
};

void work(Shared& w, uint32_t me, uint64_t n) {
    Rng rng(test_seed() + me);
    std::vector<Owned> mine;
    for (uint64_t step = 0; step < n; ++step) {
        const uint64_t what = rng.below(16);
        if (mine.empty() || what == 0) {
            Owned s{0, {}};
            if (larder_arena_seq_create(w.arena, &s.id) == LARDER_OK) mine.push_back(s);
            if (mine.empty()) continue;
        }
        const size_t i = rng.below(mine.size());
        Owned& s = mine[i];
        if (what < 8) {
            const uint64_t old = s.tokens.size(), k = 1 + rng.below(w.contiguous ? 400 : 9);
            const larder_status st = larder_arena_seq_append(w.arena, s.id, k, nullptr, 0, nullptr);
            if (st < 0) {
                w.n_full.fetch_add(1, relaxed);
                continue;
            }
            for (uint64_t t = old; t < old + k; ++t) {
                s.tokens.push_back(uint32_t(rng.next()));
                *w.token(s.id, t) = s.tokens[t];
            }
        } else if (what < 10) {
            Owned child{0, s.tokens};
            if (rng.below(2)) child.tokens.resize(rng.below(s.tokens.size() + 1));
            if (larder_arena_seq_fork(w.arena, s.id, child.tokens.size(), 1, &child.id) < 0) continue;
            std::lock_guard lock(w.mutex);
            w.handed_over.push_back(std::move(child));
        } else if (what < 12) {
            std::lock_guard lock(w.mutex);
            if (w.handed_over.empty()) continue;
            mine.push_back(std::move(w.handed_over.front()));
            w.handed_over.erase(w.handed_over.begin());
        } else if (what < 13) {
            w.check(s);
            if (larder_arena_seq_destroy(w.arena, s.id) < 0) w.n_broken.fetch_add(1, relaxed);
            std::swap(s, mine.back());
            mine.pop_back();
        } else if (what < 14) {
            const uint64_t keep = rng.below(s.tokens.size() + 1);
            if (larder_arena_seq_truncate(w.arena, s.id, keep) == LARDER_OK) s.tokens.resize(keep);
        } else {
            w.check(s);
        }
    }
    for (Owned& s : mine) {
        w.check(s);
        larder_arena_seq_destroy(w.arena, s.id);
    }
}

void run(larder_arena_options o, uint64_t n) {
    larder_context* context = nullptr;
    assert_int_equal(larder_context_create(nullptr, &context), LARDER_OK);
    larder_layer_group g = LARDER_LAYER_GROUP_INIT;
    g.n_layers = 1;
    g.block_tokens = 4;
    g.n_kv_heads = 1;
    g.k_dim = 4;
    larder_layout_options lo = LARDER_LAYOUT_OPTIONS_INIT;
    lo.groups = &g;
    lo.n_groups = 1;
    lo.group_stride = sizeof g;
    larder_layout* layout = nullptr;
    assert_int_equal(larder_layout_create(context, &lo, &layout), LARDER_OK);
    Shared w;
    assert_int_equal(larder_arena_create(context, layout, &o, &w.arena), LARDER_OK);
    assert_int_equal(larder_arena_layer_view(w.arena, 0, 0, &w.view), LARDER_OK);
    w.contiguous = o.mode == LARDER_ARENA_CONTIGUOUS;
    std::vector<std::thread> threads;
    for (uint32_t t = 0; t < 4; ++t) threads.emplace_back([&w, t, n] { work(w, t, n); });
    for (auto& t : threads) t.join();
    for (Owned& s : w.handed_over) {
        w.check(s);
        larder_arena_seq_destroy(w.arena, s.id);
    }
    assert_int_equal(w.n_broken.load(relaxed), 0);
    assert_true(w.n_full.load(relaxed) > 0);
    assert_int_equal(larder_arena_verify(w.arena), LARDER_OK);
    larder_arena_group_state st = LARDER_ARENA_GROUP_STATE_INIT;
    assert_int_equal(larder_arena_group_query(w.arena, 0, &st), LARDER_OK);
    if (!w.contiguous) assert_int_equal(st.n_used, 0);
    larder_arena_destroy(w.arena);
    larder_layout_destroy(layout);
    assert_int_equal(larder_context_destroy(context), LARDER_OK);
}

void paged(void**) {
    const uint32_t n_blocks = 260;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = &n_blocks;
    o.n_block_counts = 1;
    o.max_seqs = 40;
    run(o, test_rounds(20000));
}

void paged_in_runs(void**) {
    const uint32_t n_blocks = 260;
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = &n_blocks;
    o.n_block_counts = 1;
    o.max_seqs = 40;
    o.run_blocks = 8;
    run(o, test_rounds(20000));
}

void contiguous(larder_arena_memory memory, uint32_t flags) {
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.mode = LARDER_ARENA_CONTIGUOUS;
    o.memory = memory;
    o.flags = flags;
    o.granule_bytes = 4096;
    o.max_seqs = 16;
    o.max_seq_tokens = 8192;
    o.budget_bytes = 4096 * 40;
    o.warm_bytes = 4096 * 10;
    run(o, test_rounds(2000));
}

void contiguous_shared(void**) {
    contiguous(LARDER_ARENA_MEMFD, 0);
}
void contiguous_in_the_background(void**) {
    contiguous(LARDER_ARENA_MEMFD, LARDER_ARENA_BACKGROUND);
    contiguous(LARDER_ARENA_ANON, LARDER_ARENA_BACKGROUND);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(paged), cmocka_unit_test(paged_in_runs),
                                cmocka_unit_test(contiguous_shared), cmocka_unit_test(contiguous_in_the_background)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
