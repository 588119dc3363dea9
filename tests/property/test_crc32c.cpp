// CRC32C: known vectors, and every path against the table-driven reference.
#include "support/cmocka.h"

#include <cstring>
#include <vector>

#include "base/crc32c.h"
#include "base/crc32c_x86.h"
#include "base/hash.h"
#include "support/seed.h"

using namespace larder;

namespace {

// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
void known_vectors(void**) {
    unsigned char zeros[32] = {}, ones[32], up[32], down[32];
    std::memset(ones, 0xff, sizeof ones);
    for (int i = 0; i < 32; ++i) up[i] = static_cast<unsigned char>(i), down[i] = static_cast<unsigned char>(31 - i);
    for (auto f : {crc32c, crc32c_portable}) {
        assert_int_equal(f(0, zeros, 32), 0x8a9136aau);
        assert_int_equal(f(0, ones, 32), 0x62a8ab43u);
        assert_int_equal(f(0, up, 32), 0x46dd794eu);
        assert_int_equal(f(0, down, 32), 0x113fdb5cu);
        assert_int_equal(f(0, "123456789", 9), 0xe3069283u);
        assert_int_equal(f(0, nullptr, 0), 0);
        assert_int_equal(f(f(0, "1234", 4), "56789", 5), 0xe3069283u);
    }
}

std::vector<unsigned char> random_bytes(Rng& rng, size_t n) {
    std::vector<unsigned char> v(n);
    for (auto& b : v) b = static_cast<unsigned char>(rng.next());
    return v;
}

void all_lengths_match_the_reference(void**) {
    Rng rng(test_seed());
    const auto data = random_bytes(rng, 20000);
    for (size_t n = 0; n < 1100; ++n)
        assert_int_equal(crc32c(uint32_t(n), &data[n % 70], n), crc32c_portable(uint32_t(n), &data[n % 70], n));
    for (uint64_t i = 0; i < test_rounds(500); ++i) {
        const size_t at = rng.below(64), n = rng.below(data.size() - at);
        const uint32_t start = uint32_t(rng.next());
        const uint32_t want = crc32c_portable(start, &data[at], n);
        assert_int_equal(crc32c(start, &data[at], n), want);
#if defined(__x86_64__)
        if (crc32c_is_hardware()) assert_int_equal(~crc32c_x86::update_streams(~start, &data[at], n), want);
#endif
    }
}

void copies_are_copies(void**) {
    Rng rng(test_seed());
    for (uint64_t i = 0; i < test_rounds(60); ++i) {
        const size_t n = i % 3 == 0 ? 1000000 + rng.below(500000) : rng.below(5000), at = rng.below(70),
                     to = rng.below(70);
        const auto src = random_bytes(rng, n + at);
        std::vector<unsigned char> dst(to + n + 70, 0x77);
        const uint32_t start = uint32_t(rng.next());
        assert_int_equal(crc32c_copy(start, &dst[to], src.data() + at, n), crc32c_portable(start, src.data() + at, n));
        assert_true(n == 0 || std::memcmp(&dst[to], src.data() + at, n) == 0);
        for (size_t k = 0; k < to; ++k) assert_int_equal(dst[k], 0x77);
        for (size_t k = to + n; k < dst.size(); ++k) assert_int_equal(dst[k], 0x77);
#if defined(__x86_64__)
        std::vector<unsigned char> other(n + 16);
        unsigned char* aligned = other.data() + (size_t(-reinterpret_cast<uintptr_t>(other.data())) & 15);
        crc32c_x86::copy_bypass(aligned, src.data() + at, n);
        assert_true(n == 0 || std::memcmp(aligned, src.data() + at, n) == 0);
#endif
    }
}

void combining_equals_concatenating(void**) {
    Rng rng(test_seed());
    for (uint64_t i = 0; i < test_rounds(300); ++i) {
        const auto data = random_bytes(rng, rng.below(3000));
        const size_t cut = rng.below(data.size() + 1);
        const uint32_t a = crc32c(0, data.data(), cut), b = crc32c(0, data.data() + cut, data.size() - cut);
        assert_int_equal(crc32c_combine(a, b, data.size() - cut), crc32c(0, data.data(), data.size()));
    }
    // Lengths beyond memory: shifting twice by half is shifting once.
    for (uint64_t n : {uint64_t(1) << 40, uint64_t(1) << 62}) {
        const uint32_t half = crc32c_combine(0x12345678, 0, n / 2);
        assert_int_equal(crc32c_combine(half, 0, n / 2), crc32c_combine(0x12345678, 0, n));
    }
}

void every_single_bit_is_seen(void**) {
    Rng rng(test_seed());
    auto data = random_bytes(rng, 600);
    const uint32_t good = crc32c(0, data.data(), data.size());
    for (size_t bit = 0; bit < data.size() * 8; ++bit) {
        data[bit / 8] ^= static_cast<unsigned char>(1 << bit % 8);
        assert_int_not_equal(crc32c(0, data.data(), data.size()), good);
        data[bit / 8] ^= static_cast<unsigned char>(1 << bit % 8);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors),
        cmocka_unit_test(all_lengths_match_the_reference),
        cmocka_unit_test(copies_are_copies),
        cmocka_unit_test(combining_equals_concatenating),
        cmocka_unit_test(every_single_bit_is_seen),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
