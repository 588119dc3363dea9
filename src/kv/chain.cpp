#include "kv/chain.h"

#include <algorithm>

#include "base/options.h"

namespace larder {
namespace {

constexpr uint64_t max_tokens = uint64_t(1) << 31;

larder_status read_extras(const larder_kv_query& q, Vec<larder_prefix_extra>& out) {
    if (q.n_extras && !q.extras)
        return fail(LARDER_E_INVALID, "extras", "n_extras is %u and extras is NULL", q.n_extras);
    uint64_t end = 0;
    out.reserve(q.n_extras);
    for (uint32_t i = 0; i < q.n_extras; ++i) {
        const larder_kv_extra& e = q.extras[i];
        if (!e.n || e.first < end)
            return fail(LARDER_E_INVALID, "extras", "extra %u is empty, overlaps or is out of order", i);
        larder_prefix_extra x{e.first, e.n, {}};
        std::memcpy(x.digest, e.digest, sizeof x.digest);
        out.push_back(x);
        end = uint64_t(e.first) + e.n;
    }
    return LARDER_OK;
}

larder_status check_query(larder_kv_query& q) {
    LARDER_TRY(check_reserved(q.reserved0, "reserved0"));
    LARDER_TRY(check_range(q.peek, 0, 1, "peek"));
    LARDER_TRY(check_range(q.priority, 0, 100, "priority"));
    if (!q.priority) q.priority = 50;
    if (!q.min_quality) q.min_quality = LARDER_QUALITY_EXACT;
    LARDER_TRY(check_range(uint32_t(q.min_quality), LARDER_QUALITY_EXACT, LARDER_QUALITY_APPROXIMATE, "min_quality"));
    if ((q.tokens && q.keys) || (!q.tokens && q.n_tokens) || (!q.keys && q.n_keys))
        return fail(LARDER_E_INVALID, "tokens", "a query has tokens or keys, with their number");
    LARDER_TRY(check_span(q.salt, "salt"));
    LARDER_TRY(check_span(q.adapter, "adapter"));
    LARDER_TRY(check_range(q.n_tokens, 0, max_tokens, "n_tokens"));
    return check_range(q.n_keys, 0, max_tokens / 16, "n_keys");
}

}  // namespace

larder_status check_span(const larder_span& s, const char* field) noexcept {
    if (s.n_bytes && !s.data) return fail(LARDER_E_INVALID, field, "%s has a length but no data", field);
    return check_range(s.n_bytes, 0, 65536, field);
}

larder_key scoped_key(const larder_key& root, const larder_key& own) noexcept {
    return Blake2b(root.bytes, sizeof root.bytes).add(own.bytes, sizeof own.bytes).finish();
}

larder_status check_tokens(const larder_layout& layout, const int32_t* tokens, uint64_t n) noexcept {
    for (uint64_t i = 0; i < n; ++i)
        if (!layout.valid_token(tokens[i]))
            return fail(LARDER_E_INVALID, "tokens", "token %llu is %d, outside the vocabulary", (unsigned long long)i,
                        tokens[i]);
    return LARDER_OK;
}

void TokenChain::extend_keys(uint32_t block_tokens) {
    const size_t n_full = tokens.size() / block_tokens;
    if (by_keys || n_full <= keys.size()) return;
    keys.reserve(n_full);
    for (size_t i = keys.size(); i < n_full; ++i)
        keys.push_back(prefix_block_key(i ? keys[i - 1] : root, tokens.data() + i * block_tokens, block_tokens,
                                        i * uint64_t(block_tokens), extras));
}

larder_status read_query(const larder_kv_query* user, const ChainScope& scope, uint32_t block_tokens,
                         const Allocator& a, QueryPlan& out) {
    larder_kv_query q;
    if (!user) return fail(LARDER_E_INVALID, "query", "query is NULL");
    LARDER_TRY(read_options(user, q, "larder_kv_query"));
    LARDER_TRY(check_query(q));
    TokenChain c(a);
    LARDER_TRY(read_extras(q, c.extras));
    LARDER_TRY(check_tokens(*scope.layout, q.tokens, q.n_tokens));
    larder_prefix_scope s = LARDER_PREFIX_SCOPE_INIT;
    s.layout = scope.layout;
    s.tenant_key = {scope.tenant_key.data(), scope.tenant_key.size()};
    s.adapter = q.adapter;
    s.salt = q.salt.n_bytes ? q.salt : larder_span{scope.salt.data(), scope.salt.size()};
    LARDER_TRY(prefix_root(s, c.root));
    c.by_keys = q.keys != nullptr;
    c.priority = q.priority;
    c.min_quality = q.min_quality;
    const uint64_t n_asked = c.by_keys ? q.n_keys * block_tokens : q.n_tokens;
    // The logits of the last token are needed even where everything is known.
    const uint64_t wanted = q.max_match_tokens ? q.max_match_tokens : (c.by_keys ? n_asked : n_asked - (n_asked != 0));
    out.limit = std::min(n_asked, wanted);
    out.peek = q.peek;
    out.deadline_ns = q.deadline_ns;
    if (c.by_keys) {
        c.keys.reserve(q.n_keys);
        for (uint64_t i = 0; i < q.n_keys; ++i) c.keys.push_back(scoped_key(c.root, q.keys[i]));
    } else {
        c.tokens.assign(q.tokens, q.tokens + out.limit);
        c.extend_keys(block_tokens);
    }
    out.chain = std::move(c);
    return LARDER_OK;
}

}  // namespace larder
