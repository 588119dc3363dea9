#include "index/prefix_index.h"

#include "base/options.h"
#include "index/prefix_impl.h"

namespace larder {

using namespace prefix_state;

PrefixIndex::PrefixIndex(larder_context& c, const larder_prefix_options& checked)
    : context_(c), impl_(make_owned<Impl>(c.alloc, c, checked)) {}
PrefixIndex::~PrefixIndex() = default;

larder_status PrefixIndex::create(larder_context& c, const larder_prefix_options* user, Owned<PrefixIndex>& out) {
    larder_prefix_options o;
    LARDER_TRY(read_prefix_options(user, o));
    Owned<PrefixIndex> p = make_owned<PrefixIndex>(c.alloc, c, o);
    LARDER_TRY(p->init());
    out = std::move(p);
    return LARDER_OK;
}

larder_status PrefixIndex::read_prefix_options(const larder_prefix_options* user, larder_prefix_options& o) noexcept {
    LARDER_TRY(read_options(user, o, "larder_prefix_options"));
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    if (o.flags & ~LARDER_PREFIX_NO_TOKENS)
        return fail(LARDER_E_TOO_NEW, "flags", "flags 0x%x has a bit that this library does not know", o.flags);
    if (!o.block_tokens) o.block_tokens = 16;
    if (!o.max_entries) o.max_entries = uint64_t(1) << 24;
    LARDER_TRY(check_range(o.block_tokens, 1, 4096, "block_tokens"));
    if (!std::has_single_bit(o.block_tokens))
        return fail(LARDER_E_INVALID, "block_tokens", "block_tokens %u is not a power of two", o.block_tokens);
    LARDER_TRY(check_range(o.max_entries, 1, uint64_t(1) << 27, "max_entries"));
    return EventLog::check(o.n_events);
}

larder_status PrefixIndex::init() noexcept {
    return impl_->init();
}
uint32_t PrefixIndex::block_tokens() const noexcept {
    return impl_->block_tokens_;
}

size_t PrefixIndex::match_length(std::span<const larder_key> keys) noexcept {
    return impl_->match_length(keys);
}

larder_status PrefixIndex::match(const larder_prefix_query& q, std::span<PrefixBlock> out,
                                 larder_prefix_match_info& info) {
    if (q.n_keys && !q.keys) return fail(LARDER_E_INVALID, "keys", "keys is NULL");
    LARDER_TRY(check_range(q.n_next, 0, impl_->block_tokens_, "n_next"));
    if (q.n_next && !q.next_tokens) return fail(LARDER_E_INVALID, "next_tokens", "next_tokens is NULL");
    const bool peek = q.flags & LARDER_PREFIX_PEEK;
    if (!out.data() && !peek)
        return fail(LARDER_E_INVALID, "out_blocks", "what is pinned must be told: out_blocks is NULL");
    const std::span keys(q.keys, size_t(q.n_keys));
    const size_t n_found = impl_->match_length(out.data() ? keys.first(std::min(keys.size(), out.size())) : keys);
    size_t n = n_found;
    uint64_t last = 0;
    if (out.data()) {
        n = impl_->match_blocks(keys.first(n_found), !peek, out);
        if (n) last = out[n - 1].entry;
    } else if (n) {
        last = impl_->find(keys[n - 1]);
    }
    if (!peek && n) {
        const uint64_t now =
            impl_->tick(n);  // the first block is the one used last, so a prefix outlives what follows it
        for (size_t i = 0; i < n; ++i) impl_->at(Id::index(out[i].entry))->last_use.store(now + n - 1 - i, relaxed);
    }
    info.n_blocks = n;
    info.n_partial_tokens = 0;
    info.partial = {};
    if (!out.data() || n < out.size() || n == keys.size()) impl_->match_partial(q, n, last, info);
    if (!peek) {
        context_.stats.add(Stat::prefix_queries);
        context_.stats.add(Stat::prefix_blocks_queried, q.n_keys);
        context_.stats.add(Stat::prefix_blocks_hit, n);
    }
    return LARDER_OK;
}

larder_status PrefixIndex::lookup(const larder_key& key, PrefixBlock& out) noexcept {
    const uint64_t id = impl_->find(key);
    return id && impl_->peek(id, out) ? LARDER_OK : LARDER_MISS;
}

larder_status PrefixIndex::pin(std::span<const uint64_t> entries) noexcept {
    for (size_t i = 0; i < entries.size(); ++i)
        if (const larder_status s = impl_->pin(entries[i], nullptr); s < 0) {
            for (size_t j = 0; j < i; ++j) impl_->unpin(*impl_->at(Id::index(entries[j])));
            return s;
        }
    return LARDER_OK;
}

larder_status PrefixIndex::unpin(std::span<const uint64_t> entries) noexcept {
    larder_status worst = LARDER_OK;
    for (const uint64_t id : entries) {
        PrefixEntry* e = impl_->at_id(id);
        if (!e) {
            worst =
                fail(LARDER_E_STALE, "entries", "entry %llx is not, or no longer, published", (unsigned long long)id);
            continue;
        }
        uint64_t s = e->state.load(relaxed);
        while (pins(s) && !e->state.compare_exchange_weak(s, s - one_pin, acq_rel, relaxed)) {
        }
        if (!pins(s)) worst = fail(LARDER_E_STATE, "entries", "entry %llx is not pinned", (unsigned long long)id);
    }
    return worst;
}

void PrefixIndex::touch(std::span<const uint64_t> entries) noexcept {
    const uint64_t now = impl_->tick(entries.size());
    for (size_t i = 0; i < entries.size(); ++i)
        if (PrefixEntry* e = impl_->at_id(entries[i])) e->last_use.store(now + entries.size() - 1 - i, relaxed);
}

larder_status PrefixIndex::publish(const larder_key& root, uint64_t parent, std::span<const PrefixItem> items, bool pin,
                                   std::span<PrefixPublished> out, uint64_t& out_n) {
    out_n = 0;
    for (size_t i = 0; i < items.size(); ++i) {
        const PrefixItem& item = items[i];
        if (!item.n_tokens || item.n_tokens > impl_->block_tokens_ ||
            (item.n_tokens < impl_->block_tokens_ && i + 1 < items.size()))
            return fail(LARDER_E_INVALID, "items.n_tokens",
                        "item %zu has %u tokens; only the last may have fewer than %u", i, item.n_tokens,
                        impl_->block_tokens_);
        if (!std::has_single_bit(item.residency) || item.residency > all_places)
            return fail(LARDER_E_INVALID, "items.residency", "item %zu: residency must be one LARDER_PREFIX_IN_* bit",
                        i);
        if (item.flags & ~LARDER_PREFIX_ITEM_NO_PARTIAL)
            return fail(LARDER_E_TOO_NEW, "items.flags", "item %zu has a flag that this library does not know", i);
        for (uint32_t t = 0; item.tokens && t < item.n_tokens; ++t)
            if (item.tokens[t] < 0)
                return fail(LARDER_E_INVALID, "items.tokens", "token %u of item %zu is negative", t, i);
    }
    if (items.empty()) return LARDER_OK;
    if (!parent) {
        LARDER_ASSIGN(const uint64_t id, impl_->root_for_child(root));
        const larder_status s = impl_->publish_under(id, items, pin, out, out_n);
        impl_->release_child(Id::index(id));
        return s;
    }
    LARDER_TRY(impl_->pin(parent, nullptr));
    PrefixEntry& p = *impl_->at(Id::index(parent));
    const larder_status s = Impl::n_tokens(p) < impl_->block_tokens_
                                ? fail(LARDER_E_STATE, "parent", "the parent is a tail: no block can follow it")
                                : impl_->publish_under(parent, items, pin, out, out_n);
    impl_->unpin(p);
    return s;
}

static larder_status check_bit(uint32_t residency) noexcept {
    if (std::has_single_bit(residency) && residency <= all_places) return LARDER_OK;
    return fail(LARDER_E_INVALID, "residency", "residency must be one LARDER_PREFIX_IN_* bit");
}

larder_status PrefixIndex::add(uint64_t entry, uint32_t residency, uint64_t location) noexcept {
    LARDER_TRY(check_bit(residency));
    LARDER_TRY(impl_->pin(entry, nullptr));
    PrefixEntry& e = *impl_->at(Id::index(entry));
    const larder_status s = impl_->add_place(entry, residency, location, true);
    if (s >= 0) impl_->enqueue(entry, all_places);  // what was its last place need not be any more
    impl_->unpin(e);
    return s;
}

larder_status PrefixIndex::drop(uint64_t entry, uint32_t residency, PrefixBlock* out) noexcept {
    LARDER_TRY(check_bit(residency));
    return impl_->drop(entry, residency, out);
}

larder_status PrefixIndex::remove(uint64_t entry, std::span<PrefixBlock> out, uint64_t& out_n) {
    return impl_->remove_tree(entry, out, out_n);
}

larder_status PrefixIndex::candidates(uint32_t residency, std::span<PrefixBlock> out, uint64_t& out_n) {
    LARDER_TRY(check_bit(residency));
    return impl_->candidates(Impl::bit_to_place(residency), out, out_n);
}

larder_status PrefixIndex::children(const larder_key* root, uint64_t entry, uint64_t after, std::span<PrefixBlock> out,
                                    uint64_t& out_n) {
    out_n = 0;
    if (!entry && !root) return fail(LARDER_E_INVALID, "root", "neither root nor entry is given");
    const uint64_t parent = entry ? entry : impl_->find(*root);
    if (!parent) return LARDER_MISS;
    // Held, so that its slot means the same parent all the time. A root is held by a child's reservation.
    if (entry)
        LARDER_TRY(impl_->pin(entry, nullptr));
    else if (!impl_->reserve_child(parent))
        return LARDER_MISS;
    const uint32_t slot = Id::index(parent);
    const larder_status s = impl_->children(slot, after, out, out_n);
    if (entry)
        impl_->unpin(*impl_->at(slot));
    else
        impl_->release_child(slot);
    return s == LARDER_OK && !out_n && !after ? LARDER_MISS : s;
}

larder_status PrefixIndex::describe(uint64_t entry, larder_key* key, uint64_t* parent, std::span<int32_t> tokens,
                                    uint64_t* n_tokens) noexcept {
    LARDER_TRY(impl_->pin(entry, nullptr));
    PrefixEntry& e = *impl_->at(Id::index(entry));
    const uint32_t p = load_at(&e.parent), n = load_at(&e.tokens_slot) ? Impl::n_tokens(e) : 0;
    if (key) *key = Impl::key_of(e);
    if (parent) *parent = Impl::is_root(*impl_->at(p)) ? 0 : impl_->id_of(p);
    if (n_tokens) *n_tokens = n;
    larder_status s = LARDER_OK;
    if (tokens.data() && tokens.size() < n)
        s = fail(LARDER_E_BUFFER_TOO_SMALL, "capacity", "the block has %u tokens", n);
    else if (tokens.data())
        for (uint32_t i = 0; i < n; ++i) tokens[i] = load_at(impl_->tokens_of(e) + i);
    impl_->unpin(e);
    return s;
}

larder_status PrefixIndex::set_tag(uint64_t entry, uint32_t tag) noexcept {
    LARDER_TRY(impl_->pin(entry, nullptr));
    PrefixEntry& e = *impl_->at(Id::index(entry));
    e.tag.store(tag, relaxed);
    impl_->unpin(e);
    return LARDER_OK;
}

larder_status PrefixIndex::read_events(uint64_t& cursor, larder_event* out, uint32_t stride, uint64_t n,
                                       uint64_t& out_n) const noexcept {
    return impl_->events_.read(cursor, out, stride, n, out_n);
}
larder_status PrefixIndex::snapshot(uint64_t& position, uint64_t& cursor, larder_event* out, uint32_t stride,
                                    uint64_t n, uint64_t& out_n) noexcept {
    return impl_->snapshot(position, cursor, out, stride, n, out_n);
}

larder_status PrefixIndex::save(uint32_t places, const larder_index_sink& sink) {
    if (!places || places & ~all_places)
        return fail(LARDER_E_INVALID, "places", "places must be LARDER_PREFIX_IN_* bits, at least one");
    return impl_->save(places, sink);
}
larder_status PrefixIndex::load(const larder_index_source& source, larder_prefix_import_info& out) {
    return impl_->load(source, out);
}

void PrefixIndex::info(larder_prefix_info& out) noexcept {
    impl_->info(out);
}
larder_status PrefixIndex::verify() {
    return impl_->verify();
}

}  // namespace larder
