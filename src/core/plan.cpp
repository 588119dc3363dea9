#include "core/plan.h"

#include "base/crc32c.h"
#include "base/hash.h"
#include "base/ids.h"

namespace larder {
namespace {

constexpr uint32_t magic = 0x4e4c504c;  // "LPLN"
constexpr uint16_t version = 1;
constexpr uint32_t max_ops = 1u << 24;

// Offsets of the header's fields.
enum : size_t {
    at_magic = 0,
    at_version = 4,
    at_header_bytes = 6,
    at_crc = 8,
    at_n_ops = 12,
    at_id = 16,
    at_layout = 24,
    at_op_bytes = 56,
    at_reserved = 60
};
// Offsets of an operation's fields.
enum : size_t {
    op_kind = 0,
    op_flags = 2,
    op_block = 4,
    op_source = 8,
    op_n_tokens = 12,
    op_quality = 16,
    op_priority = 18,
    op_reserved = 20,
    op_key = 24,
    op_parent = 56,
    op_tail = 88
};

uint32_t checksum(ByteSpan bytes) noexcept {
    const uint32_t head = crc32c(0, bytes.data(), at_crc);
    return crc32c(head, bytes.data() + at_n_ops, bytes.size() - at_n_ops);
}

void write_op(const PlanOp& op, std::byte* p) noexcept {
    std::memset(p, 0, plan_op_bytes);
    store_le(p + op_kind, uint16_t(op.kind));
    store_le(p + op_flags, op.flags);
    store_le(p + op_block, op.block);
    store_le(p + op_source, op.source);
    store_le(p + op_n_tokens, op.n_tokens);
    store_le(p + op_quality, op.quality);
    store_le(p + op_priority, op.priority);
    std::memcpy(p + op_key, op.key.bytes, sizeof op.key.bytes);
    std::memcpy(p + op_parent, op.parent.bytes, sizeof op.parent.bytes);
}

PlanOp read_op(const std::byte* p) noexcept {
    PlanOp op;
    op.kind = PlanOpKind(load_le<uint16_t>(p + op_kind));
    op.flags = load_le<uint16_t>(p + op_flags);
    op.block = load_le<uint32_t>(p + op_block);
    op.source = load_le<uint32_t>(p + op_source);
    op.n_tokens = load_le<uint32_t>(p + op_n_tokens);
    op.quality = load_le<uint16_t>(p + op_quality);
    op.priority = load_le<uint16_t>(p + op_priority);
    std::memcpy(op.key.bytes, p + op_key, sizeof op.key.bytes);
    std::memcpy(op.parent.bytes, p + op_parent, sizeof op.parent.bytes);
    return op;
}

bool op_is_valid(const PlanOp& op) noexcept {
    const bool keyed = !(op.key == larder_key{});
    const bool block = op.block >= 1 && op.block <= Id::max_index && op.n_tokens >= 1 && op.n_tokens <= 4096;
    const bool quality = op.quality == LARDER_QUALITY_EXACT || op.quality == LARDER_QUALITY_APPROXIMATE;
    const bool no_parent = op.parent == larder_key{};
    const bool may_be_state =
        op.kind == PlanOpKind::load || op.kind == PlanOpKind::store || op.kind == PlanOpKind::copy;
    if ((op.flags & ~plan_op_state) || (op.is_state() && !may_be_state) || op.priority > 100) return false;
    switch (op.kind) {
    case PlanOpKind::load:
        return keyed && block && quality && !op.source && no_parent;
    case PlanOpKind::store:
    case PlanOpKind::seal:
        return keyed && block && quality && !op.source;
    case PlanOpKind::copy:
        return block && (op.source >= 1 || op.is_state()) && op.source <= Id::max_index && op.source != op.block &&
               !keyed && !op.quality && no_parent;
    case PlanOpKind::drop:
        return keyed && !op.block && !op.source && !op.n_tokens && !op.quality && no_parent;
    case PlanOpKind::flush:
        return !keyed && !op.block && !op.source && !op.n_tokens && !op.quality && no_parent;
    }
    return false;
}

bool is_zero(const std::byte* p, size_t n) noexcept {
    for (size_t i = 0; i < n; ++i)
        if (p[i] != std::byte{0}) return false;
    return true;
}

}  // namespace

void plan_write(const Plan& plan, MutByteSpan out) noexcept {
    LARDER_ASSERT(out.size() == plan_bytes(plan.ops.size()));
    std::byte* p = out.data();
    std::memset(p, 0, plan_header_bytes);
    store_le(p + at_magic, magic);
    store_le(p + at_version, version);
    store_le(p + at_header_bytes, uint16_t(plan_header_bytes));
    store_le(p + at_n_ops, uint32_t(plan.ops.size()));
    store_le(p + at_id, plan.id);
    std::memcpy(p + at_layout, plan.layout.bytes, sizeof plan.layout.bytes);
    store_le(p + at_op_bytes, uint32_t(plan_op_bytes));
    for (size_t i = 0; i < plan.ops.size(); ++i) write_op(plan.ops[i], p + plan_bytes(i));
    store_le(p + at_crc, checksum(out));
}

larder_status plan_check(ByteSpan bytes) noexcept {
    const std::byte* p = bytes.data();
    if (bytes.size() < plan_header_bytes)
        return fail(LARDER_E_TRUNCATED, "plan", "a plan has at least %zu bytes", plan_header_bytes);
    if (load_le<uint32_t>(p + at_magic) != magic)
        return fail(LARDER_E_FORMAT, "plan.magic", "these bytes are not a plan");
    const uint32_t v = load_le<uint16_t>(p + at_version);
    if (v > version)
        return fail(LARDER_E_VERSION, "plan.version", "the plan has version %u; this library reads up to %u", v,
                    version);
    if (v != version || load_le<uint16_t>(p + at_header_bytes) != plan_header_bytes ||
        load_le<uint32_t>(p + at_op_bytes) != plan_op_bytes)
        return fail(LARDER_E_FORMAT, "plan.header", "the sizes in the plan's header are not those of version %u",
                    version);
    const uint32_t n_ops = load_le<uint32_t>(p + at_n_ops);
    if (n_ops > max_ops) return fail(LARDER_E_FORMAT, "plan.n_ops", "a plan has at most %u operations", max_ops);
    if (bytes.size() < plan_bytes(n_ops))
        return fail(LARDER_E_TRUNCATED, "plan", "the plan ends before its last operation");
    if (bytes.size() > plan_bytes(n_ops)) return fail(LARDER_E_FORMAT, "plan", "there are bytes behind the plan");
    if (load_le<uint32_t>(p + at_crc) != checksum(bytes))
        return fail(LARDER_E_CORRUPT, "plan.crc", "the plan's checksum does not hold");
    if (Id::kind(load_le<uint64_t>(p + at_id)) != IdKind::plan || load_le<uint32_t>(p + at_reserved))
        return fail(LARDER_E_FORMAT, "plan.id", "the plan's id is not a plan id");
    for (uint32_t i = 0; i < n_ops; ++i) {
        const std::byte* op = p + plan_bytes(i);
        if (!op_is_valid(read_op(op)) || load_le<uint32_t>(op + op_reserved) ||
            !is_zero(op + op_tail, plan_op_bytes - op_tail))
            return fail(LARDER_E_FORMAT, "plan.ops", "operation %u of the plan is not valid", i);
    }
    return LARDER_OK;
}

larder_status plan_read(ByteSpan bytes, Plan& out) {
    LARDER_TRY(plan_check(bytes));
    const std::byte* p = bytes.data();
    const uint32_t n_ops = load_le<uint32_t>(p + at_n_ops);
    out.id = load_le<uint64_t>(p + at_id);
    std::memcpy(out.layout.bytes, p + at_layout, sizeof out.layout.bytes);
    out.ops.clear();
    out.ops.reserve(n_ops);
    for (uint32_t i = 0; i < n_ops; ++i) out.ops.push_back(read_op(p + plan_bytes(i)));
    return LARDER_OK;
}

}  // namespace larder
