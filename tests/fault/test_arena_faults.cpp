// Every allocation and every mapping of an arena's life fails once and for ever: the status is documented, the books
// balance, nothing leaks.
#include "support/cmocka.h"

#include "larder/larder.h"
#include "memory/slab_pool.h"
#include "support/fault_loop.h"

using namespace larder;

namespace {

struct Made {
    larder_layout* layout = nullptr;
    larder_arena* arena = nullptr;
    ~Made() {
        larder_arena_destroy(arena);
        larder_layout_destroy(layout);
    }
};

larder_status make_layout(larder_context* c, larder_layout** out) {
    larder_layer_group g[2] = {LARDER_LAYER_GROUP_INIT, LARDER_LAYER_GROUP_INIT};
    g[0].n_layers = g[1].n_layers = 2;
    g[0].block_tokens = 4;
    g[0].n_kv_heads = 1;
    g[0].k_dim = g[0].v_dim = 8;
    g[1].kind = LARDER_GROUP_RECURRENT;
    g[1].state_bytes = 64;
    g[1].checkpoint_tokens = 16;
    larder_layout_options o = LARDER_LAYOUT_OPTIONS_INIT;
    o.groups = g;
    o.n_groups = 2;
    o.group_stride = sizeof g[0];
    return larder_layout_create(c, &o, out);
}

larder_status use(larder_arena* a) {
    larder_seq s = 0, f = 0;
    LARDER_TRY(larder_arena_seq_create(a, &s));
    larder_status status = larder_arena_seq_append(a, s, 300, nullptr, 0, nullptr);
    if (status >= 0) status = larder_arena_seq_fork(a, s, 290, 1, &f);
    if (status >= 0) status = larder_arena_seq_append(a, f, 20, nullptr, 0, nullptr);
    if (status >= 0) status = larder_arena_seq_make_writable(a, f, 5, 100, nullptr, 0, nullptr);
    if (f) (void)larder_arena_seq_destroy(a, f);
    (void)larder_arena_seq_destroy(a, s);
    return status;
}

// Whatever the first use met, the arena stands and balances, and a second use may succeed.
larder_status life(FaultEnv& env, const larder_arena_options& o) {
    FaultEnv::Context c;
    LARDER_TRY(env.make_context(c));
    Made m;
    LARDER_TRY(make_layout(c.get(), &m.layout));
    LARDER_TRY(larder_arena_create(c.get(), m.layout, &o, &m.arena));
    const larder_status first = use(m.arena);
    assert_int_not_equal(larder_arena_verify(m.arena), LARDER_E_INTERNAL);
    const larder_status second = use(m.arena);
    (void)larder_arena_trim(m.arena, 0);
    assert_int_not_equal(larder_arena_verify(m.arena), LARDER_E_INTERNAL);
    return first < 0 ? first : second;
}

void run(const char* name, larder_arena_options o) {
    FaultCase c;
    c.name = name;
    c.simulated = false;
    c.classes = {FaultClass::memory};
    c.body = [o](FaultEnv& env) { return life(env, o); };
    run_fault_loop(c);
}

void paged(void**) {
    static const uint32_t n_blocks[2] = {200, 8};
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.n_blocks = n_blocks;
    o.n_block_counts = 2;
    o.max_seqs = 4;
    run("paged arena", o);
    o.memory = LARDER_ARENA_MEMFD;
    run("paged arena in shared memory", o);
}

void contiguous(void**) {
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    o.mode = LARDER_ARENA_CONTIGUOUS;
    o.granule_bytes = 4096;
    o.budget_bytes = 1 << 20;
    o.max_seqs = 4;
    o.max_seq_tokens = 4096;
    run("contiguous arena", o);
    o.memory = LARDER_ARENA_MEMFD;
    run("contiguous arena in shared memory", o);
}

void slabs(void**) {
    FaultCase c;
    c.name = "slab pool";
    c.simulated = false;
    c.classes = {FaultClass::memory};
    c.body = [](FaultEnv& env) -> larder_status {
        FaultEnv::Context context;
        LARDER_TRY(env.make_context(context));
        SlabPool pool(*context, 8 * SlabPool::slab_bytes);
        larder_status first = LARDER_OK;
        for (size_t n = 1; n < 4; ++n) {
            try {
                auto p = pool.take_run(n, false);
                if (p.ok()) pool.give_back(*p, n);
                if (!p.ok()) first = p.status();
            } catch (const std::bad_alloc&) {
                first = LARDER_E_NOMEM;
            }
        }
        assert_int_equal(pool.held_bytes(), pool.idle_bytes());
        return first;
    };
    run_fault_loop(c);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(paged), cmocka_unit_test(contiguous), cmocka_unit_test(slabs)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
