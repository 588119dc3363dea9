// Every kernel of every instruction set gives the bytes of the scalar one: random kernels, shapes and data. A million
// shapes in a long run.
#include "support/cmocka.h"

#include "support/kernel_cases.h"
#include "support/seed.h"

using namespace kernel_cases;

namespace {

void all_instruction_sets_give_the_same_bytes(void**) {
    Rng r(test_seed());
    const uint64_t rounds = test_rounds(50000);
    for (uint64_t round = 0; round < rounds; ++round) {
        const Case& c = all[r.below(std::size(all))];
        const uint64_t seed = r.next();
        Bytes expected;
        for (IsaLevel level : {IsaLevel::scalar, IsaLevel::avx2, IsaLevel::avx512}) {
            const Kernels& k = kernels(level);
            if (level != IsaLevel::scalar && &k == &kernels_scalar) continue;
            Rng same(seed);
            Bytes got;
            c.run(k, same, got);
            if (level == IsaLevel::scalar) {
                expected = got;
            } else if (got != expected) {
                print_error("seed %llu round %llu: %s differs at level %d\n", (unsigned long long)test_seed(),
                            (unsigned long long)round, c.name, int(level));
                assert_true(false);
            }
        }
    }
}

// The same with data that never changes: what other processors must give as well (tests/cross).
void the_bytes_are_pinned(void**) {
    assert_true(digest(kernels(IsaLevel::scalar)) == pinned_digest);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(all_instruction_sets_give_the_same_bytes),
                                cmocka_unit_test(the_bytes_are_pinned)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
