// An arena in several processes: one makes it, others join by its descriptor.
#include <cstring>

#include "base/options.h"
#include "memory/arena.h"

using namespace larder;

namespace {
constexpr uint32_t agreed_flags = LARDER_ARENA_ISOLATE | LARDER_ARENA_GUARD | LARDER_ARENA_BIAS;

// The head of a shared arena, mapped for as long as this lives.
struct MappedHead {
    Os& os;
    std::byte* at = nullptr;
    ~MappedHead() {
        if (at) os.release(at, SharedRecord::head_bytes);
    }
};
}  // namespace

SharedTerms larder_arena::terms() const noexcept {
    return {layout_->identity, options_.flags & agreed_flags, uint32_t(options_.order), options_.n_tp, options_.v_rank};
}

larder_status larder_arena::open_record(bool make) {
    Vec<uint64_t> n_blocks(context->alloc);
    for (const GroupShape& s : shapes_) n_blocks.push_back(s.n_blocks);
    record_ = make_owned<SharedRecord>(context->alloc, context->alloc, context->os, storage_->head(), n_blocks);
    if (make) record_->write_head(terms());
    return record_->enter();
}

larder_status larder_arena::export_fd(int32_t* out) noexcept {
    if (!record_ || !storage_->file().valid())
        return fail(LARDER_E_UNSUPPORTED, "memory",
                    "only a PAGED arena in MEMFD without run_blocks can be exported, and by its maker");
    *out = storage_->file().value;
    return LARDER_OK;
}

larder_status larder_arena::join(larder_context& c, larder_layout& layout, const larder_arena_options* user,
                                 OsHandle file, larder_arena** out) {
    larder_arena_options o = LARDER_ARENA_OPTIONS_INIT;
    if (user) LARDER_TRY(read_options(user, o, "larder_arena_options"));
    LARDER_ASSIGN(const uint64_t file_bytes, c.os.size(file));
    if (file_bytes < SharedRecord::head_bytes)
        return fail(LARDER_E_INVALID, "fd", "the shared memory of %llu bytes holds no arena",
                    (unsigned long long)file_bytes);
    MappedHead head{c.os};
    LARDER_ASSIGN(head.at, c.os.map_handle(nullptr, SharedRecord::head_bytes, file, 0, false));
    SharedTerms t;
    Vec<uint64_t> counts(c.alloc);
    LARDER_TRY(SharedRecord::read_head(head.at, file_bytes, uint32_t(layout.groups.size()), t, counts));
    if (std::memcmp(&t.identity, &layout.identity, sizeof t.identity) != 0)
        return fail(LARDER_E_INVALID, "layout", "the shared arena is of another layout");
    Vec<uint32_t> n_blocks(counts.begin(), counts.end(), c.alloc);
    constexpr uint32_t own_flags = LARDER_ARENA_ZERO_ON_FREE | LARDER_ARENA_ZERO_ON_HANDOVER;
    o.flags = (o.flags & own_flags) | (t.flags & agreed_flags);
    o.mode = LARDER_ARENA_PAGED;
    o.memory = LARDER_ARENA_MEMFD;
    o.order = larder_arena_order(t.order);
    o.n_tp = t.n_tp;
    o.v_rank = t.v_rank;
    o.run_blocks = 0;
    o.budget_bytes = 0;
    o.n_blocks = n_blocks.data();
    o.n_block_counts = uint32_t(n_blocks.size());
    return make(c, layout, &o, {.join = file}, out);
}

larder_status larder_arena::reap(uint64_t* out) noexcept {
    if (!record_) return fail(LARDER_E_UNSUPPORTED, "memory", "the arena is not shared");
    const uint64_t n = record_->reap();
    if (out) *out = n;
    return LARDER_OK;
}
