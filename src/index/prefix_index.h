// The prefix index: a tree of published blocks, found by their chain keys.
//
// The same verbs as larder/prefix.h, with that header's structs; what each does and returns stands there. All are
// thread safe.
#pragma once

#include <span>

#include "base/hash.h"
#include "core/event_log.h"
#include "core/layout.h"
#include "larder/prefix.h"

namespace larder {

// Chain keys; pure functions. The byte order is frozen in docs/formats/keys.md.
larder_status prefix_root(const larder_prefix_scope& scope, larder_key& out) noexcept;
larder_status check_prefix_tokens(const larder_prefix_tokens& t) noexcept;
// Key of the one block tokens[0..n) at `position`. The ranges need not touch it.
larder_key prefix_block_key(const larder_key& parent, const int32_t* tokens, uint32_t n, uint64_t position,
                            std::span<const larder_prefix_extra> extras = {},
                            std::span<const larder_prefix_salted> salted = {}) noexcept;
// Whether an extra or salted range touches [position, position + n).
bool prefix_block_is_touched(uint64_t position, uint32_t n, std::span<const larder_prefix_extra> extras,
                             std::span<const larder_prefix_salted> salted) noexcept;
// Keys of the full blocks of t, at most out.size() of them. t was checked.
void prefix_keys(const larder_key& parent, const larder_prefix_tokens& t, std::span<larder_key> out) noexcept;

using PrefixBlock = larder_prefix_block;
using PrefixItem = larder_prefix_item;
using PrefixPublished = larder_prefix_published;

class PrefixIndex {
  public:
    // Checked, with the defaults filled in.
    static larder_status read_prefix_options(const larder_prefix_options* user, larder_prefix_options& out) noexcept;
    static larder_status create(larder_context& c, const larder_prefix_options* options, Owned<PrefixIndex>& out);
    // For owners that hold it as a member: construct, then init() once.
    PrefixIndex(larder_context& c, const larder_prefix_options& checked);
    larder_status init() noexcept;
    ~PrefixIndex();
    PrefixIndex(const PrefixIndex&) = delete;

    // How many leading keys are published now. Pins and touches nothing.
    size_t match_length(std::span<const larder_key> keys) noexcept;
    // out.size() bounds the number of blocks. Fills n_blocks, n_partial_tokens and partial of `info`.
    larder_status match(const larder_prefix_query& q, std::span<PrefixBlock> out, larder_prefix_match_info& info);
    larder_status lookup(const larder_key& key, PrefixBlock& out) noexcept;

    larder_status pin(std::span<const uint64_t> entries) noexcept;
    larder_status unpin(std::span<const uint64_t> entries) noexcept;
    void touch(std::span<const uint64_t> entries) noexcept;

    // out.size() == items.size()
    larder_status publish(const larder_key& root, uint64_t parent, std::span<const PrefixItem> items, bool pin,
                          std::span<PrefixPublished> out, uint64_t& out_n);
    larder_status add(uint64_t entry, uint32_t residency, uint64_t location) noexcept;
    larder_status drop(uint64_t entry, uint32_t residency, PrefixBlock* out) noexcept;
    larder_status remove(uint64_t entry, std::span<PrefixBlock> out, uint64_t& out_n);

    larder_status candidates(uint32_t residency, std::span<PrefixBlock> out, uint64_t& out_n);
    larder_status children(const larder_key* root, uint64_t entry, uint64_t after, std::span<PrefixBlock> out,
                           uint64_t& out_n);
    larder_status describe(uint64_t entry, larder_key* key, uint64_t* parent, std::span<int32_t> tokens,
                           uint64_t* n_tokens) noexcept;
    larder_status set_tag(uint64_t entry, uint32_t tag) noexcept;
    larder_status read_events(uint64_t& cursor, larder_event* out, uint32_t stride, uint64_t n,
                              uint64_t& out_n) const noexcept;
    larder_status snapshot(uint64_t& position, uint64_t& cursor, larder_event* out, uint32_t stride, uint64_t n,
                           uint64_t& out_n) noexcept;
    larder_status save(uint32_t places, const larder_index_sink& sink);
    larder_status load(const larder_index_source& source, larder_prefix_import_info& out);
    void info(larder_prefix_info& out) noexcept;
    larder_status verify();

    uint32_t block_tokens() const noexcept;

  private:
    class Impl;
    larder_context& context_;
    Owned<Impl> impl_;
};

}  // namespace larder

struct larder_prefix final : larder::Handle {
    larder_prefix(larder_context& c, const larder_prefix_options& checked)
        : Handle(larder::HandleType::prefix, c), index(c, checked) {}
    larder::PrefixIndex index;
};
