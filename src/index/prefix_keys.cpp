// Chain keys. The order of the bytes is frozen: docs/formats/keys.md.
#include "index/prefix_index.h"

#include "base/options.h"

namespace larder {
namespace {

constexpr char root_domain[] = "larder root 1";
constexpr char block_domain[4] = {'L', 'B', 'K', '1'};

Blake2b& add_span(Blake2b& h, const larder_span& s) noexcept {
    return h.add_le(s.n_bytes).add(s.data, s.n_bytes);
}

bool valid(const larder_span& s) noexcept {
    return s.data || !s.n_bytes;
}

template <class Range> bool touches(const Range& r, uint64_t position, uint64_t n) noexcept {
    return r.first < position + n && position < r.first + r.n;
}

template <class Range> uint32_t count_touching(std::span<const Range> ranges, uint64_t position, uint32_t n) noexcept {
    uint32_t c = 0;
    for (const Range& r : ranges) c += touches(r, position, n);
    return c;
}

template <class Range> larder_status check_ranges(std::span<const Range> ranges, const char* name) noexcept {
    for (size_t i = 0; i < ranges.size(); ++i) {
        if (!ranges[i].n || ranges[i].first + ranges[i].n < ranges[i].first)
            return fail(LARDER_E_INVALID, name, "%s[%zu] is empty or beyond the last position", name, i);
        if (i && ranges[i].first < ranges[i - 1].first)
            return fail(LARDER_E_INVALID, name, "%s are not in ascending order", name);
    }
    return LARDER_OK;
}

}  // namespace

larder_status prefix_root(const larder_prefix_scope& s, larder_key& out) noexcept {
    if (!valid(s.tenant_key) || !valid(s.adapter) || !valid(s.salt))
        return fail(LARDER_E_INVALID, "scope", "a span has a length but no data");
    if (s.tenant_key.n_bytes && (s.tenant_key.n_bytes < 16 || s.tenant_key.n_bytes > 64))
        return fail(LARDER_E_RANGE, "tenant_key", "tenant_key has %llu bytes; it must have none or 16 to 64",
                    (unsigned long long)s.tenant_key.n_bytes);
    const larder_key& identity = s.layout ? s.layout->identity : s.identity;
    Blake2b h(s.tenant_key.data, s.tenant_key.n_bytes);
    h.add(root_domain, sizeof root_domain).add(identity.bytes, sizeof identity.bytes);
    add_span(h, s.adapter);
    add_span(h, s.salt);
    out = h.finish();
    return LARDER_OK;
}

larder_status check_prefix_tokens(const larder_prefix_tokens& t) noexcept {
    LARDER_TRY(check_range(t.block_tokens, 1, 4096, "block_tokens"));
    if (t.n_tokens && !t.tokens) return fail(LARDER_E_INVALID, "tokens", "tokens is NULL");
    for (uint64_t i = 0; i < t.n_tokens; ++i)
        if (t.tokens[i] < 0)
            return fail(LARDER_E_INVALID, "tokens", "token %llu is %d", (unsigned long long)i, t.tokens[i]);
    if (t.first_position % t.block_tokens)
        return fail(LARDER_E_INVALID, "first_position", "first_position is not a multiple of block_tokens");
    if ((t.n_extras && !t.extras) || (t.n_salted && !t.salted))
        return fail(LARDER_E_INVALID, "extras", "extras or salted is NULL");
    LARDER_TRY(check_ranges(std::span(t.extras, t.n_extras), "extras"));
    LARDER_TRY(check_ranges(std::span(t.salted, t.n_salted), "salted"));
    for (uint32_t i = 0; i < t.n_salted; ++i)
        if (!valid(t.salted[i].salt)) return fail(LARDER_E_INVALID, "salted", "a salt has a length but no data");
    return LARDER_OK;
}

larder_key prefix_block_key(const larder_key& parent, const int32_t* tokens, uint32_t n, uint64_t position,
                            std::span<const larder_prefix_extra> extras,
                            std::span<const larder_prefix_salted> salted) noexcept {
    Blake2b h;
    h.add(parent.bytes, sizeof parent.bytes).add(block_domain, sizeof block_domain);
    h.add_le(n).add_le(count_touching(extras, position, n)).add_le(count_touching(salted, position, n));
    // Ranges count from the block's first token (in two's complement): the same content at the same place gives the
    // same key wherever its sequence began.
    for (const larder_prefix_extra& e : extras)
        if (touches(e, position, n)) h.add_le(e.first - position).add_le(e.n).add(e.digest, sizeof e.digest);
    for (const larder_prefix_salted& s : salted)
        if (touches(s, position, n)) add_span(h.add_le(s.first - position).add_le(s.n), s.salt);
    h.add(tokens, size_t(n) * sizeof *tokens);
    return h.finish();
}

bool prefix_block_is_touched(uint64_t position, uint32_t n, std::span<const larder_prefix_extra> extras,
                             std::span<const larder_prefix_salted> salted) noexcept {
    return count_touching(extras, position, n) || count_touching(salted, position, n);
}

void prefix_keys(const larder_key& parent, const larder_prefix_tokens& t, std::span<larder_key> out) noexcept {
    const larder_key* last = &parent;
    const uint64_t n = std::min<uint64_t>(t.n_tokens / t.block_tokens, out.size());
    std::span extras(t.extras, t.n_extras);
    std::span salted(t.salted, t.n_salted);
    for (uint64_t i = 0; i < n; ++i) {
        const uint64_t at = i * t.block_tokens, position = t.first_position + at;
        // Ranges that end before this block cannot touch a later one either, unless a longer one began earlier: drop
        // only leading ones.
        while (!extras.empty() && extras[0].first + extras[0].n <= position) extras = extras.subspan(1);
        while (!salted.empty() && salted[0].first + salted[0].n <= position) salted = salted.subspan(1);
        out[i] = prefix_block_key(*last, t.tokens + at, t.block_tokens, position, extras, salted);
        last = &out[i];
    }
}

}  // namespace larder
