// Plans: what a planner decided and workers shall do, as a list of operations and as bytes (docs/formats/plan.md).
#pragma once

#include "base/bytes.h"
#include "core/context.h"
#include "larder/plan.h"

namespace larder {

enum class PlanOpKind : uint16_t {
    load = 1,   // the record of `key` -> block
    store = 2,  // block -> a record under `key`
    copy = 3,   // the first n_tokens of block `source` -> block
    drop = 4,   // remove the record of `key`
    seal = 5,   // block is complete and has `key` from now on
    flush = 6   // make what was stored durable
};

// Flag of load, store and copy: block and source are state slots of the RECURRENT groups. A copy from slot 0 clears.
inline constexpr uint16_t plan_op_state = 1;

// Operations are applied in the order copy, load, seal, store, drop, flush, whatever their order in the list.
struct PlanOp {
    PlanOpKind kind = PlanOpKind::seal;
    uint16_t flags = 0;     // plan_op_state or 0
    uint32_t block = 0;     // load, store, copy, seal: 1 .. n_blocks
    uint32_t source = 0;    // copy
    uint32_t n_tokens = 0;  // load, store, copy, seal
    uint16_t quality = 0;   // store, seal: a larder_quality of the contents; load: the least that will do
    uint16_t priority = 0;  // 0 .. 100
    larder_key key{};       // load, store, drop, seal
    larder_key parent{};    // store, seal: key of the block before; zero for the first
    bool is_state() const noexcept { return flags & plan_op_state; }
};

struct Plan {
    Plan() = default;
    explicit Plan(const Allocator& a) : ops(a) {}
    larder_plan_id id = 0;
    larder_key layout{};
    Vec<PlanOp> ops;
};

inline constexpr size_t plan_header_bytes = 64;
inline constexpr size_t plan_op_bytes = 96;
constexpr uint64_t plan_bytes(size_t n_ops) noexcept {
    return plan_header_bytes + n_ops * plan_op_bytes;
}

// out has plan_bytes(plan.ops.size()) bytes.
void plan_write(const Plan& plan, MutByteSpan out) noexcept;
// All checks, allocating nothing. The bytes may be hostile.
larder_status plan_check(ByteSpan bytes) noexcept;
// plan_check(), then read.
larder_status plan_read(ByteSpan bytes, Plan& out);

}  // namespace larder

struct larder_plan final : larder::Handle {
    larder_plan(larder_context& c, larder::Plan p) : Handle(larder::HandleType::plan, c), plan(std::move(p)) {}
    larder::Plan plan;
};
