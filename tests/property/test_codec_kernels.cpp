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

// By the definition: one sum per output, terms in order, each product and sum rounded.
void mixing_is_the_plain_sum(void**) {
    Rng r(test_seed());
    const uint64_t rounds = test_rounds(600);
    for (uint64_t round = 0; round < rounds; ++round) {
        const uint32_t size = uint32_t(1 + r.below(r.below(4) ? 70 : 200)), rows = uint32_t(1 + r.below(33));
        const size_t stride = size + r.below(9);
        std::vector<float> x(rows * stride), matrix(size_t(size) * size), expected(rows * stride, 1.0f);
        const uint64_t kept = r.below(5);
        for (uint32_t i = 0; i < size; ++i) {
            const bool zero = r.below(4) >= kept;  // in all rows, as most components of a coarse level are
            for (uint32_t t = 0; t < rows; ++t)
                x[t * stride + i] = zero ? (r.below(2) ? 0.0f : -0.0f) : float(int(r.below(41)) - 20) * 0.37f;
        }
        for (float& m : matrix) m = float(int(r.below(2001)) - 1000) / 977;
        for (uint32_t t = 0; t < rows; ++t)
            for (uint32_t o = 0; o < size; ++o) {
                float sum = 0;
                for (uint32_t i = 0; i < size; ++i) {
                    const float product = x[t * stride + i] * matrix[size_t(i) * size + o];
                    sum += product;
                }
                expected[t * stride + o] = sum;
            }
        for (IsaLevel level : {IsaLevel::scalar, IsaLevel::avx2, IsaLevel::avx512}) {
            std::vector<float> y(rows * stride, 1.0f);
            kernels(level).mix(x.data(), stride, rows, matrix.data(), size, y.data());
            assert_memory_equal(y.data(), expected.data(), y.size() * sizeof(float));
        }
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(all_instruction_sets_give_the_same_bytes),
                                cmocka_unit_test(the_bytes_are_pinned), cmocka_unit_test(mixing_is_the_plain_sum)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
