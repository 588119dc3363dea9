// rANS beside an arithmetic coder with the same probabilities: the same symbols back, and as few bits.
#include "support/cmocka.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/hash.h"
#include "codec/kernels.h"
#include "support/arithmetic.h"
#include "support/seed.h"

using namespace larder;

namespace {

// Symbols as the table expects them, in rows of 32.
struct Sample {
    RansTable table;
    uint32_t cdf[rans_max_symbols + 2] = {};
    uint32_t n;  // with the escape, when the table has one
    std::vector<uint8_t> symbols;

    Sample(Rng& r, uint32_t rows) : symbols(size_t(rows) * rans_lanes) {
        uint32_t counts[rans_max_symbols];
        const uint32_t n_values = uint32_t(2 + r.below(rans_max_symbols - 1));
        const double spread = 0.5 + 4 * r.unit();
        for (uint32_t i = 0; i < n_values; ++i)
            counts[i] = uint32_t(1e6 * std::exp(-std::fabs(i - n_values / 2.0) / spread));
        TableSpec spec;
        if (r.below(2))
            fit_closed_table(counts, n_values, 0, spec);
        else
            fit_table(counts, n_values, 0, 0, spec);
        table.expand(spec);
        n = table.n + !table.is_closed();
        for (uint32_t i = 0; i < n; ++i) cdf[i + 1] = cdf[i] + (table.fc[i] >> 16) * 256;
        for (uint8_t& s : symbols) s = table.lut[r.below(256)];
    }
};

void rans_is_as_short_as_an_arithmetic_coder(void**) {
    Rng r(test_seed());
    for (uint64_t round = 0; round < test_rounds(40); ++round) {
        const uint32_t rows = uint32_t(1 + r.below(1500));
        Sample s(r, rows);
        assert_int_equal(s.cdf[s.n], 65536);
        arithmetic::Encoder encoder;
        for (uint8_t y : s.symbols) encoder.put(s.cdf, y);
        const std::vector<bool> bits = encoder.finish();
        arithmetic::Decoder decoder(bits);
        for (uint8_t y : s.symbols) assert_int_equal(decoder.get(s.cdf), y);

        static const uint8_t id = 0;
        std::vector<uint16_t> words(s.symbols.size() + 64);
        RansJob job{};
        job.tables = &s.table, job.ids = &id, job.period = 1, job.n_full_rows = rows, job.symbols = s.symbols.data();
        std::fill_n(job.state, rans_lanes, rans_floor);
        const Kernels& k = kernels(IsaLevel(r.below(3)));
        const size_t n_words = k.rans_encode(job, words.data() + words.size());
        std::vector<uint8_t> back(s.symbols.size() + 64);
        job.symbols = back.data();
        job.words = reinterpret_cast<const std::byte*>(words.data() + words.size() - n_words);
        job.n_words = n_words;
        RansJob* const list[] = {&job};
        k.rans_decode(list, 1);
        assert_true(!job.overrun && job.at == n_words);
        assert_memory_equal(back.data(), s.symbols.data(), s.symbols.size());
        // The final states hold up to 16 bits a lane that the words then need not.
        constexpr double states = 16 * rans_lanes;
        const double got = 16.0 * double(n_words), best = double(bits.size());
        if (got > best * 1.002 + 16 || got + states < best * 0.998 - 16) {
            print_error("seed %llu round %llu: %.0f bits where an arithmetic coder takes %.0f\n",
                        (unsigned long long)test_seed(), (unsigned long long)round, got, best);
            assert_true(false);
        }
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(rans_is_as_short_as_an_arithmetic_coder)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
