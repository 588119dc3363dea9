// The bytes of plans: what is written is read, and every damage is an error.
#include "support/cmocka.h"

#include <vector>

#include "base/crc32c.h"
#include "base/ids.h"
#include "core/plan.h"

using namespace larder;

namespace {

larder_key key(uint8_t x) {
    larder_key k{};
    k.bytes[0] = x;
    return k;
}

Plan sample() {
    Plan p;
    p.id = Id::make(IdKind::plan, 3, 77);
    p.layout = key(9);
    PlanOp op;
    op.kind = PlanOpKind::load;
    op.block = 5;
    op.n_tokens = 16;
    op.quality = LARDER_QUALITY_EXACT;
    op.priority = 50;
    op.key = key(1);
    p.ops.push_back(op);
    op.kind = PlanOpKind::store;
    op.parent = key(2);
    p.ops.push_back(op);
    op = PlanOp{};
    op.kind = PlanOpKind::copy;
    op.block = 6;
    op.source = 5;
    op.n_tokens = 3;
    p.ops.push_back(op);
    op = PlanOp{};
    op.kind = PlanOpKind::drop;
    op.key = key(4);
    p.ops.push_back(op);
    op = PlanOp{};
    op.kind = PlanOpKind::flush;
    p.ops.push_back(op);
    return p;
}

std::vector<std::byte> bytes_of(const Plan& p) {
    std::vector<std::byte> b(plan_bytes(p.ops.size()));
    plan_write(p, b);
    return b;
}

void renew_checksum(std::vector<std::byte>& b) {
    const uint32_t crc = crc32c(crc32c(0, b.data(), 8), b.data() + 12, b.size() - 12);
    store_le(b.data() + 8, crc);
}

void test_round_trip(void**) {
    const auto b = bytes_of(sample());
    assert_int_equal(larder_plan_validate(b.data(), b.size()), LARDER_OK);
    Plan p;
    assert_int_equal(plan_read(b, p), LARDER_OK);
    assert_true(bytes_of(p) == b);
    assert_int_equal(p.ops.size(), 5);
    assert_int_equal(p.ops[2].source, 5);
}

void test_every_flip_and_cut_is_found(void**) {
    const auto good = bytes_of(sample());
    for (size_t i = 0; i < good.size(); ++i)
        for (int bit = 0; bit < 8; ++bit) {
            auto b = good;
            b[i] ^= std::byte(1 << bit);
            assert_true(larder_plan_validate(b.data(), b.size()) <= LARDER_E_CORRUPT);
        }
    for (size_t n = 0; n < good.size(); ++n) assert_int_equal(larder_plan_validate(good.data(), n), LARDER_E_TRUNCATED);
    auto longer = good;
    longer.push_back({});
    assert_int_equal(larder_plan_validate(longer.data(), longer.size()), LARDER_E_FORMAT);
}

// Damage with a checksum that fits: the rules themselves refuse it.
void test_rules(void**) {
    struct Case {
        size_t at;
        uint8_t value;
        larder_status status;
    };
    const size_t op = plan_header_bytes;
    const Case cases[] = {
        {0, 'x', LARDER_E_FORMAT},       {4, 2, LARDER_E_VERSION},
        {4, 0, LARDER_E_FORMAT},         {6, 63, LARDER_E_FORMAT},
        {56, 88, LARDER_E_FORMAT},       {60, 1, LARDER_E_FORMAT},
        {23, 0x10, LARDER_E_FORMAT},     {op, 0, LARDER_E_FORMAT},
        {op, 7, LARDER_E_FORMAT},        {op + 2, 2, LARDER_E_FORMAT},
        {op + 4, 0, LARDER_E_FORMAT},    {op + 7, 0xff, LARDER_E_FORMAT},
        {op + 8, 1, LARDER_E_FORMAT},    {op + 12, 0, LARDER_E_FORMAT},
        {op + 15, 1, LARDER_E_FORMAT},   {op + 16, 3, LARDER_E_FORMAT},
        {op + 18, 101, LARDER_E_FORMAT}, {op + 20, 1, LARDER_E_FORMAT},
        {op + 24, 0, LARDER_E_FORMAT},   {op + 56, 1, LARDER_E_FORMAT},
        {op + 95, 1, LARDER_E_FORMAT},   {op + 2 * 96 + 8, 6, LARDER_E_FORMAT},
    };
    for (const Case& c : cases) {
        auto b = bytes_of(sample());
        b[c.at] = std::byte(c.value);
        renew_checksum(b);
        if (larder_plan_validate(b.data(), b.size()) != c.status) print_message("byte %zu = %u\n", c.at, c.value);
        assert_int_equal(larder_plan_validate(b.data(), b.size()), c.status);
    }
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_every_flip_and_cut_is_found),
                                cmocka_unit_test(test_rules)};
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
