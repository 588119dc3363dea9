// The chain of blocks that a query or a sequence is about: tokens, keys, and what else the keys depend on.
#pragma once

#include <span>

#include "core/layout.h"
#include "index/prefix_index.h"
#include "larder/kv.h"

namespace larder {

struct TokenChain {
    TokenChain() = default;
    explicit TokenChain(const Allocator& a) : tokens(a), keys(a), extras(a) {}

    larder_key root{};
    Vec<int32_t> tokens;   // computed (or matched) tokens; empty when the caller brings keys
    Vec<larder_key> keys;  // of full blocks, from the first on
    Vec<larder_prefix_extra> extras;
    bool by_keys = false;
    larder_quality quality = LARDER_QUALITY_EXACT;      // of what was computed on it
    larder_quality min_quality = LARDER_QUALITY_EXACT;  // what it accepts from the cache
    uint32_t priority = 50;

    const larder_key* parent(size_t i) const noexcept { return i ? &keys[i - 1] : nullptr; }
    larder_key parent_or_zero(size_t i) const noexcept { return i ? keys[i - 1] : larder_key{}; }
    // Whether a block may be shared in part: what is not a token must not be inside.
    bool touched(size_t block, uint32_t block_tokens) const noexcept {
        return prefix_block_is_touched(block * uint64_t(block_tokens), block_tokens, extras, {});
    }
    // Keys of the blocks that `tokens` fills beyond those that have one. Strong guarantee.
    void extend_keys(uint32_t block_tokens);
};

// What scopes all keys of a kv.
struct ChainScope {
    const larder_layout* layout = nullptr;
    Vec<std::byte> tenant_key, salt;
};

struct QueryPlan {
    TokenChain chain;    // tokens and keys up to the limit
    uint64_t limit = 0;  // tokens that may be matched
    bool peek = false;
    uint64_t deadline_ns = 0;
};

// Check a caller's query and make its chain; full keys only as far as may be matched.
larder_status read_query(const larder_kv_query* user, const ChainScope& scope, uint32_t block_tokens,
                         const Allocator& a, QueryPlan& out);
// The key under which the caller's own key of a block is kept: other roots (layout, tenant, salt, adapter) never share
// it.
larder_key scoped_key(const larder_key& root, const larder_key& own) noexcept;
// A salt or adapter: with data, and not absurdly long.
larder_status check_span(const larder_span& s, const char* field) noexcept;
larder_status check_tokens(const larder_layout& layout, const int32_t* tokens, uint64_t n) noexcept;

}  // namespace larder
