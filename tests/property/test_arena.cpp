// Random operations on an arena against a model that keeps every token's value per sequence. What a sequence reads
// through its tables must be what it wrote or inherited, whatever others did; the books must balance; a failed
// operation must leave no trace.
#include "support/cmocka.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <vector>

#include "base/hash.h"
#include "larder/larder.h"
#include "support/seed.h"

using larder::Rng;

namespace {

[[gnu::format(printf, 1, 2)]] void die(const char* format, ...) {
    char line[256];
    va_list args;
    va_start(args, format);
    std::vsnprintf(line, sizeof line, format, args);
    va_end(args);
    print_error("%s\n", line);
    _fail(__FILE__, __LINE__);
}

enum Group : uint32_t { full, window, state, n_groups };
constexpr uint32_t block_tokens[] = {4, 2, 1};
constexpr uint32_t n_layers = 2, window_tokens = 10, n_sinks = 3;

struct Seq {
    larder_seq id = 0;
    std::vector<uint32_t> tokens;  // the value that was written at each position, in every token group
    uint64_t released = 0;         // positions of the window group below it, behind the sinks, are gone
    uint32_t state = 0;
};

// A prefix that somebody keeps, as a cache would: references of its own.
struct Held {
    std::vector<larder_block> blocks[n_groups];
    std::vector<uint32_t> tokens;
    uint32_t state = 0;
};

struct World {
    larder_context* context = nullptr;
    larder_layout* layout = nullptr;
    larder_arena* arena = nullptr;
    std::vector<unsigned char> imported;
    larder_arena_layer views[n_groups][n_layers];
    std::vector<Seq> seqs;
    std::vector<Held> held;
    Rng rng;
    uint32_t next_value = 1;
    bool list_copies = false, contiguous = false;
    uint64_t n_failures = 0, n_copies = 0;

    explicit World(uint64_t s) : rng(s) {
        larder_context_options co = LARDER_CONTEXT_OPTIONS_INIT;
        co.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
        assert_int_equal(larder_context_create(&co, &context), LARDER_OK);
        larder_layer_group g[n_groups] = {LARDER_LAYER_GROUP_INIT, LARDER_LAYER_GROUP_INIT, LARDER_LAYER_GROUP_INIT};
        for (uint32_t i = 0; i < n_groups; ++i) {
            g[i].n_layers = n_layers;
            g[i].block_tokens = block_tokens[i];
            if (i == state) continue;
            g[i].n_kv_heads = 1;
            g[i].k_dim = 4;
            g[i].v_dim = 6;
        }
        g[window].kind = LARDER_GROUP_WINDOW;
        g[window].window = window_tokens;
        g[window].n_sinks = n_sinks;
        g[state].kind = LARDER_GROUP_RECURRENT;
        g[state].state_bytes = 24;
        g[state].checkpoint_tokens = 16;
        larder_layout_options lo = LARDER_LAYOUT_OPTIONS_INIT;
        lo.groups = g;
        lo.n_groups = n_groups;
        lo.group_stride = sizeof g[0];
        assert_int_equal(larder_layout_create(context, &lo, &layout), LARDER_OK);
    }
    ~World() {
        larder_arena_destroy(arena);
        larder_layout_destroy(layout);
        larder_context_destroy(context);
    }

    void make(larder_arena_options o) {
        assert_int_equal(larder_arena_create(context, layout, &o, &arena), LARDER_OK);
        contiguous = o.mode == LARDER_ARENA_CONTIGUOUS;
        read_views();
    }
    void make_imported(larder_arena_options o) {
        const uint32_t plane_bytes[n_groups][2] = {{4 * 8, 4 * 12}, {2 * 8, 2 * 12}, {24, 0}};
        imported.resize(1 << 20);
        std::vector<larder_arena_tensor> t;
        size_t at = 0;
        for (uint32_t g = 0; g < n_groups; ++g)
            for (uint32_t l = 0; l < n_layers; ++l)
                for (int p = 0; p < 2; ++p) {
                    if (!plane_bytes[g][p]) continue;
                    larder_arena_tensor x = LARDER_ARENA_TENSOR_INIT;
                    x.group = g;
                    x.layer = l;
                    x.plane = LARDER_PLANE_K + p;
                    x.base = imported.data() + at;
                    x.block_stride = plane_bytes[g][p];
                    at += size_t(plane_bytes[g][p]) * o.n_blocks[g];
                    t.push_back(x);
                }
        assert_true(at <= imported.size());
        larder_arena_import_options i = LARDER_ARENA_IMPORT_OPTIONS_INIT;
        i.tensors = t.data();
        i.n_tensors = uint32_t(t.size());
        i.tensor_stride = sizeof t[0];
        assert_int_equal(larder_arena_import(context, layout, &o, &i, &arena), LARDER_OK);
        list_copies = true;
        read_views();
    }
    void read_views() {
        for (uint32_t g = 0; g < n_groups; ++g)
            for (uint32_t l = 0; l < n_layers; ++l) {
                views[g][l] = LARDER_ARENA_LAYER_INIT;
                assert_int_equal(larder_arena_layer_view(arena, g, l, &views[g][l]), LARDER_OK);
            }
    }

    // The bytes of a token in one layer; NULL when its block was released.
    struct Place {
        char* k;
        char* v;
    };
    Place place(uint32_t g, uint32_t l, int64_t block, uint32_t in_block) {
        const larder_arena_layer& w = views[g][l];
        return {static_cast<char*>(w.k_base) + block * int64_t(w.k_block_stride) + in_block * w.k_token_stride,
                w.v_base
                    ? static_cast<char*>(w.v_base) + block * int64_t(w.v_block_stride) + in_block * w.v_token_stride
                    : nullptr};
    }
    // Which block and place a position has, for [first, first + n).
    std::vector<int64_t> slots(const Seq& s, uint32_t g, uint64_t first, uint64_t n) {
        std::vector<int64_t> out(n);
        const larder_arena_range r = {s.id, first, n};
        assert_int_equal(larder_arena_slot_mapping(arena, g, &r, 1, out.data(), 8, n, nullptr), LARDER_OK);
        return out;
    }
    template <class F> void each_token(const Seq& s, uint32_t g, uint64_t first, uint64_t n, F f) {
        if (contiguous) {
            for (uint32_t l = 0; l < n_layers; ++l) {
                void *k = nullptr, *v = nullptr;
                assert_int_equal(larder_arena_seq_base(arena, s.id, g, l, LARDER_PLANE_K, &k), LARDER_OK);
                assert_int_equal(larder_arena_seq_base(arena, s.id, g, l, LARDER_PLANE_V, &v), LARDER_OK);
                for (uint64_t i = first; i < first + n; ++i)
                    f(i, l,
                      Place{static_cast<char*>(k) + i * views[g][l].k_token_stride,
                            static_cast<char*>(v) + i * views[g][l].v_token_stride});
            }
            return;
        }
        const auto at = slots(s, g, first, n);
        for (uint64_t i = 0; i < n; ++i)
            for (uint32_t l = 0; l < n_layers && at[i] >= 0; ++l)
                f(first + i, l, place(g, l, at[i] / block_tokens[g], uint32_t(at[i] % block_tokens[g])));
    }
    Place state_place(const Seq& s, uint32_t l) {
        if (contiguous) {
            void* k = nullptr;
            assert_int_equal(larder_arena_seq_base(arena, s.id, state, l, LARDER_PLANE_K, &k), LARDER_OK);
            return {static_cast<char*>(k), nullptr};
        }
        int32_t number = 0;
        assert_int_equal(larder_arena_block_table(arena, state, &s.id, 1, 1, &number, 1), LARDER_OK);
        return place(state, l, number, 0);
    }

    void write(Seq& s, uint64_t first, uint64_t n) {
        for (uint64_t i = first; i < first + n; ++i) s.tokens[i] = next_value++;
        for (uint32_t g : {full, window})
            each_token(s, g, first, n, [&](uint64_t i, uint32_t l, Place p) {
                const uint32_t value = s.tokens[i] * 8 + g * 4 + l;
                std::memcpy(p.k, &value, 4);
                std::memcpy(p.v + 8, &value, 4);
            });
        s.state = next_value++;
        for (uint32_t l = 0; l < n_layers; ++l) std::memcpy(state_place(s, l).k + 20, &s.state, 4);
    }
    void check(const Seq& s) {
        uint64_t length = 0;
        assert_int_equal(larder_arena_seq_length(arena, s.id, &length), LARDER_OK);
        assert_int_equal(length, s.tokens.size());
        if (s.tokens.empty()) return;
        for (uint32_t g : {full, window}) {
            uint64_t seen = 0;
            each_token(s, g, 0, s.tokens.size(), [&](uint64_t i, uint32_t l, Place p) {
                const uint32_t want = s.tokens[i] * 8 + g * 4 + l;
                uint32_t k = 0, v = 0;
                std::memcpy(&k, p.k, 4);
                std::memcpy(&v, p.v + 8, 4);
                if (g == window && i < s.released) return;  // its block may have come back with other contents
                ++seen;
                if (k != want || v != want)
                    die("group %u token %llu layer %u: %u and %u instead of %u", g, (unsigned long long)i, l, k, v,
                        want);
            });
            if (g == full) assert_int_equal(seen, s.tokens.size() * n_layers);
        }
        for (uint32_t l = 0; l < n_layers; ++l) {
            uint32_t got = 0;
            std::memcpy(&got, state_place(s, l).k + 20, 4);
            assert_int_equal(got, s.state);
        }
    }
    void check_books() {
        if (larder_arena_verify(arena) != LARDER_OK) {
            larder_error_info e = LARDER_ERROR_INFO_INIT;
            larder_last_error(&e);
            die("%s", e.message);
        }
        if (contiguous) return;
        // Blocks in use are exactly those that somebody names.
        for (uint32_t g = 0; g < n_groups; ++g) {
            std::set<larder_block> named;
            for (const Seq& s : seqs) {
                const uint64_t n = s.tokens.empty() ? 0
                                   : g == state     ? 1
                                                    : (s.tokens.size() + block_tokens[g] - 1) / block_tokens[g];
                std::vector<larder_block> b(n);
                assert_int_equal(larder_arena_seq_blocks(arena, s.id, g, 0, n, b.data()), LARDER_OK);
                named.insert(b.begin(), b.end());
            }
            for (const Held& h : held) named.insert(h.blocks[g].begin(), h.blocks[g].end());
            named.erase(0);
            larder_arena_group_state st = LARDER_ARENA_GROUP_STATE_INIT;
            assert_int_equal(larder_arena_group_query(arena, g, &st), LARDER_OK);
            assert_int_equal(st.n_used, named.size());
        }
    }

    // True: the model follows. A full arena or a sequence at its greatest length is an answer, anything else a bug.
    bool ok(larder_status s) {
        if (s == LARDER_OK) return true;
        if (s != LARDER_E_NOSPACE && s != LARDER_E_RANGE) die("unexpected status %s", larder_status_name(s));
        ++n_failures;
        return false;
    }
    void do_copies(const std::vector<larder_arena_copy>& list, uint32_t n) {
        for (uint32_t i = 0; i < n; ++i)
            for (uint32_t l = 0; l < n_layers; ++l) {
                const larder_arena_layer& w = views[list[i].group][l];
                std::memcpy(static_cast<char*>(w.k_base) + list[i].dst * w.k_block_stride,
                            static_cast<char*>(w.k_base) + list[i].src * w.k_block_stride,
                            list[i].n_tokens * w.k_token_stride);
                if (w.v_base)
                    std::memcpy(static_cast<char*>(w.v_base) + list[i].dst * w.v_block_stride,
                                static_cast<char*>(w.v_base) + list[i].src * w.v_block_stride,
                                list[i].n_tokens * w.v_token_stride);
            }
        n_copies += n;
    }

    // --- the operations ---------------------------------------------------------------------------
    void create() {
        Seq s;
        if (ok(larder_arena_seq_create(arena, &s.id))) seqs.push_back(s);
    }
    void destroy(size_t i) {
        assert_int_equal(larder_arena_seq_destroy(arena, seqs[i].id), LARDER_OK);
        seqs[i] = seqs.back();
        seqs.pop_back();
    }
    void append(Seq& s) {
        const uint64_t n = rng.below(8) ? 1 + rng.below(3) : 1 + rng.below(contiguous ? 900 : 60),
                       old = s.tokens.size();
        std::vector<larder_arena_copy> list(n_groups);
        uint32_t n_done = 0;
        const larder_status st =
            larder_arena_seq_append(arena, s.id, n, list_copies ? list.data() : nullptr, n_groups, &n_done);
        if (!ok(st)) return;
        if (list_copies) do_copies(list, n_done);
        s.tokens.resize(old + n);
        write(s, old, n);
    }
    void rewrite(Seq& s) {
        if (s.tokens.empty()) return;
        const uint64_t from = rng.below(s.tokens.size()),
                       n = 1 + rng.below(std::min<uint64_t>(12, s.tokens.size() - from));
        std::vector<larder_arena_copy> list(32);
        uint32_t n_done = 0;
        const larder_status st =
            larder_arena_seq_make_writable(arena, s.id, from, n, list_copies ? list.data() : nullptr, 32, &n_done);
        if (!ok(st)) return;
        if (list_copies) do_copies(list, n_done);
        write(s, from, n);
    }
    void truncate(Seq& s) {
        const uint64_t n = s.tokens.size() - rng.below(std::min<uint64_t>(s.tokens.size(), contiguous ? 700 : 40) + 1);
        if (!ok(larder_arena_seq_truncate(arena, s.id, n))) return;
        s.tokens.resize(n);
    }
    void fork(size_t i) {
        const uint64_t n = rng.below(2) ? seqs[i].tokens.size() : rng.below(seqs[i].tokens.size() + 1);
        larder_seq out[2];
        const auto k = uint32_t(1 + rng.below(2));
        if (!ok(larder_arena_seq_fork(arena, seqs[i].id, n, k, out))) return;
        for (uint32_t c = 0; c < k; ++c) {
            Seq child = seqs[i];
            child.id = out[c];
            child.tokens.resize(n);
            seqs.push_back(child);
        }
    }
    void slide(Seq& s) {
        if (!ok(larder_arena_seq_slide(arena, s.id, s.tokens.size()))) return;
        if (s.tokens.size() > window_tokens)
            s.released = std::max<uint64_t>(s.released, s.tokens.size() - window_tokens);
    }
    void hold(const Seq& s) {
        if (s.tokens.empty() || held.size() >= 12) return;
        Held h;
        const uint64_t n = 1 + rng.below(s.tokens.size());
        if (s.released && n != s.tokens.size()) return;
        h.tokens.assign(s.tokens.begin(), s.tokens.begin() + ptrdiff_t(n));
        h.state = s.state;
        for (uint32_t g = 0; g < n_groups; ++g) {
            h.blocks[g].resize(g == state ? 1 : (n + block_tokens[g] - 1) / block_tokens[g]);
            assert_int_equal(larder_arena_seq_blocks(arena, s.id, g, 0, h.blocks[g].size(), h.blocks[g].data()),
                             LARDER_OK);
            for (larder_block b : h.blocks[g])
                if (b) assert_int_equal(larder_arena_ref(arena, &b, 1), LARDER_OK);
            if (rng.below(2))
                for (larder_block b : h.blocks[g])
                    if (b) assert_int_equal(larder_arena_seal(arena, &b, 1), LARDER_OK);
        }
        h_released.push_back(s.released);
        held.push_back(std::move(h));
    }
    void drop(size_t i) {
        for (auto& blocks : held[i].blocks)
            for (larder_block b : blocks)
                if (b) assert_int_equal(larder_arena_unref(arena, &b, 1), LARDER_OK);
        held[i] = held.back();
        held.pop_back();
        h_released[i] = h_released.back();
        h_released.pop_back();
    }
    void attach() {
        if (held.empty()) return;
        const size_t i = rng.below(held.size());
        const Held& h = held[i];
        Seq s;
        if (!ok(larder_arena_seq_create(arena, &s.id))) return;
        for (uint32_t g = 0; g < n_groups; ++g)
            if (!ok(larder_arena_seq_attach(arena, s.id, g, h.blocks[g].data(), h.blocks[g].size(), h.tokens.size()))) {
                assert_int_equal(larder_arena_seq_destroy(arena, s.id), LARDER_OK);
                return;
            }
        s.tokens = h.tokens;
        s.state = h.state;
        s.released = h_released[i];
        seqs.push_back(s);
    }
    std::vector<uint64_t> h_released;

    void step() {
        const uint64_t what = rng.below(100);
        if (seqs.empty() || what < 4) return create();
        const size_t i = rng.below(seqs.size());
        if (what < 8) return destroy(i);
        if (what < 50) return append(seqs[i]);
        if (what < 60) return rewrite(seqs[i]);
        if (what < 70) return truncate(seqs[i]);
        if (what < 80) return fork(i);
        if (what < 88 || contiguous) return check(seqs[i]);
        if (what < 92) return slide(seqs[i]);
        if (what < 95) return hold(seqs[i]);
        if (what < 97 && !held.empty()) return drop(rng.below(held.size()));
        attach();
    }
    void run(uint64_t n, uint64_t books_each) {
        for (uint64_t i = 0; i < n; ++i) {
            step();
            if (i % books_each == 0) check_books();
        }
        for (const Seq& s : seqs) check(s);
        while (!held.empty()) drop(0);
        while (!seqs.empty()) destroy(0);
        check_books();
        print_message("%llu steps, %llu met a full arena, %llu copies listed\n", (unsigned long long)n,
                      (unsigned long long)n_failures, (unsigned long long)n_copies);
        assert_true(n_failures > 0);
    }
};

larder_arena_options paged_options(const uint32_t* n_blocks) {
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = n_blocks;
    o.n_block_counts = n_groups;
    o.max_seqs = 24;
    o.max_seq_tokens = 600;
    return o;
}

void paged_layer_first(void**) {
    World w(test_seed());
    const uint32_t n[] = {300, 400, 30};
    w.make(paged_options(n));
    w.run(test_rounds(600000), 512);
}

void paged_in_runs(void**) {
    World w(test_seed() + 5);
    const uint32_t n[] = {300, 400, 30};
    larder_arena_options o = paged_options(n);
    o.run_blocks = 16;
    w.make(o);
    w.run(test_rounds(200000), 256);
}

void paged_page_first_few_table_nodes(void**) {
    World w(test_seed() + 1);
    const uint32_t n[] = {500, 900, 40};
    larder_arena_options o = paged_options(n);
    o.order = LARDER_ARENA_PAGE_FIRST;
    o.max_table_entries = 64 * 60;  // so that table nodes run out before blocks do
    o.flags = LARDER_ARENA_ZERO_ON_FREE;
    w.make(o);
    w.run(test_rounds(200000), 256);
}

void imported_with_listed_copies(void**) {
    World w(test_seed() + 2);
    const uint32_t n[] = {300, 400, 30};
    w.make_imported(paged_options(n));
    w.run(test_rounds(200000), 512);
}

void contiguous(larder_arena_memory memory, uint64_t n, uint32_t flags = 0) {
    World w(test_seed() + 3 + uint64_t(memory));
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.mode = LARDER_ARENA_CONTIGUOUS;
    o.memory = memory;
    o.granule_bytes = 4096;
    o.max_seqs = 12;
    o.max_seq_tokens = 3000;
    o.budget_bytes = 4096 * 10 * 24;
    o.n_lookahead = 16;
    o.flags = flags;
    if (flags) o.warm_bytes = o.budget_bytes / 4;
    w.make(o);
    w.run(n, 256);
}

void contiguous_anonymous(void**) {
    contiguous(LARDER_ARENA_ANON, test_rounds(20000));
}
void contiguous_shared(void**) {
    contiguous(LARDER_ARENA_MEMFD, test_rounds(20000));
}

// The model knows nothing of the thread that maps and gives back beside it.
void contiguous_in_the_background(void**) {
    contiguous(LARDER_ARENA_ANON, test_rounds(10000), LARDER_ARENA_BACKGROUND);
    contiguous(LARDER_ARENA_MEMFD, test_rounds(10000), LARDER_ARENA_BACKGROUND);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(paged_layer_first),
        cmocka_unit_test(paged_in_runs),
        cmocka_unit_test(paged_page_first_few_table_nodes),
        cmocka_unit_test(imported_with_listed_copies),
        cmocka_unit_test(contiguous_anonymous),
        cmocka_unit_test(contiguous_shared),
        cmocka_unit_test(contiguous_in_the_background),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
