#include "store/tiers/remote_tier.h"

#include <algorithm>

#include "base/crc32c.h"
#include "base/options.h"

namespace larder {
namespace {

// Records of a remote have no place in a log: this stands for one, so that no record of a file is taken for one of
// these.
constexpr format::StoreId remote_id = {'l', 'a', 'r', 'd', 'e', 'r', ' ', 'r', 'e', 'm', 'o', 't', 'e', ' ', 'v', '1'};
constexpr format::Place remote_place{remote_id, 0, 0};
constexpr uint64_t header_bytes = format::record_header_bytes;

}  // namespace

void RemoteWrite::add(format::Record record, const ExtentSums& sums, std::span<const ByteSpan> payload) {
    record.payload_sum = format::payload_sum(sums);
    Header& h = headers_.emplace_back();
    format::encode_record(record, remote_place, 0, h.data());
    first_piece_.push_back(pieces_.size());
    pieces_.push_back({h.data(), header_bytes});
    for (const ByteSpan& p : payload) pieces_.push_back({const_cast<std::byte*>(p.data()), p.size()});
    items_.push_back({record.key, nullptr, uint32_t(1 + payload.size()), LARDER_E_CANCELLED, 0, 0});
}

Result<Owned<RemoteTier>> RemoteTier::open(larder_context& c, const larder_remote_options& user) {
    larder_remote_options o = user;
    LARDER_TRY(check_reserved(o.reserved0, "reserved0"));
    if (!o.plugin) return fail(LARDER_E_INVALID, "plugin", "a remote tier needs a plug-in");
    if (o.n_settings && !o.settings) return fail(LARDER_E_INVALID, "settings", "settings is NULL");
    LARDER_TRY(check_range(o.n_settings, 0, 1000, "n_settings"));
    if (!o.get_timeout_ns) o.get_timeout_ns = 20000000;
    if (!o.put_timeout_ns) o.put_timeout_ns = 1000000000;
    if (!o.max_queued) o.max_queued = 4096;
    LARDER_TRY(check_range(o.max_queued, 1, 1 << 20, "max_queued"));
    Vec<larder_remote_setting_v1> settings(c.alloc);
    for (uint32_t i = 0; i < o.n_settings; ++i) settings.push_back({o.settings[i].name, o.settings[i].value});
    LARDER_ASSIGN(Owned<Remote> remote, Remote::open(c, o.plugin, settings));
    const uint64_t max_value = remote->caps().max_value_bytes;
    o.plugin = nullptr;
    o.settings = nullptr;
    auto tier = make_owned<RemoteTier>(c.alloc, c, std::move(remote), o);
    tier->max_payload_ = std::min<uint64_t>(max_value - header_bytes, format::max_segment_bytes);
    return tier;
}

void RemoteTier::read(std::span<RemoteRead> reads, uint64_t timeout_ns) {
    const uint64_t begin = context_.os.now_ns();
    n_asked_.fetch_add(reads.size(), relaxed);
    while (!reads.empty()) {
        const auto some = reads.first(std::min<size_t>(reads.size(), remote_->caps().max_items));
        reads = reads.subspan(some.size());
        const uint64_t spent = context_.os.now_ns() - begin;
        read_some(some, spent < timeout_ns ? timeout_ns - spent : 0);
    }
}

void RemoteTier::read_some(std::span<RemoteRead> reads, uint64_t timeout_ns) {
    Vec<larder_remote_item_v1> items(context_.alloc);
    Vec<larder_remote_piece_v1> pieces(context_.alloc);
    Vec<std::byte> headers(reads.size() * header_bytes, std::byte{}, context_.alloc);
    items.reserve(reads.size());
    pieces.reserve(2 * reads.size());
    for (size_t i = 0; i < reads.size(); ++i) {
        const size_t first = pieces.size();
        pieces.push_back({headers.data() + i * header_bytes, header_bytes});
        if (reads[i].capacity) pieces.push_back({reads[i].out, reads[i].capacity});
        items.push_back({reads[i].key, pieces.data() + first, reads[i].capacity ? 2u : 1u, LARDER_E_CANCELLED, 0, 0});
    }
    const larder_status ran = remote_->run(LARDER_REMOTE_GET, items, 0, timeout_ns);
    for (size_t i = 0; i < reads.size(); ++i) {
        RemoteRead& r = reads[i];
        r.status = ran < 0 ? ran : items[i].status;
        if (r.status == LARDER_OK) r.status = judge(r, items[i], headers.data() + i * header_bytes);
        if (r.status == LARDER_E_CORRUPT) n_corrupt_.fetch_add(1, relaxed);
        if (r.status == LARDER_OK) n_hits_.fetch_add(1, relaxed);
        if (r.status == LARDER_OK && r.capacity) hit_bytes_.fetch_add(r.record.n_bytes, relaxed);
        if (r.status == LARDER_E_TIMEOUT || r.status == LARDER_E_PEER_DEAD) n_unanswered_.fetch_add(1, relaxed);
    }
}

// The bytes that came, against what they say of themselves and what was asked for.
larder_status RemoteTier::judge(RemoteRead& r, const larder_remote_item_v1& item, const std::byte* header) {
    if (item.n_bytes <= header_bytes || !format::decode_record(header, remote_place, 0, r.record) ||
        r.record.kind != format::RecordKind::object || !(r.record.key == r.key) ||
        item.n_bytes != header_bytes + r.record.n_bytes)
        return LARDER_E_CORRUPT;
    if (!r.capacity) return LARDER_OK;
    if (r.record.n_bytes > r.capacity) return LARDER_E_BUFFER_TOO_SMALL;
    r.sums = ExtentSums(context_.alloc, r.record.n_extents());
    for (uint32_t e = 0; e < r.sums.size(); ++e) {
        const uint64_t at = uint64_t(e) * extent_bytes;
        r.sums.data()[e] = crc32c(0, r.out + at, std::min<uint64_t>(extent_bytes, r.record.n_bytes - at));
    }
    return format::payload_sum(r.sums) == r.record.payload_sum ? LARDER_OK : LARDER_E_CORRUPT;
}

larder_status RemoteTier::remove(const larder_key& key, uint64_t timeout_ns) {
    larder_remote_item_v1 item{key, nullptr, 0, LARDER_E_CANCELLED, 0, 0};
    LARDER_TRY(remote_->run(LARDER_REMOTE_REMOVE, {&item, 1}, 0, timeout_ns));
    if (item.status < 0) return fail(item.status, "tiers", "the remote does not say whether it has removed it");
    return item.status;
}

larder_status RemoteTier::begin(RemoteWrite& w) {
    for (size_t i = 0; i < w.items_.size(); ++i) w.items_[i].pieces = w.pieces_.data() + w.first_piece_[i];
    return remote_->begin(LARDER_REMOTE_PUT, w.items_, options_.ttl_ms, options_.put_timeout_ns, &w.request_);
}

larder_status RemoteTier::advance(RemoteWrite& w, uint64_t wait_ns) noexcept {
    return remote_->advance(w.request_, wait_ns);
}

void RemoteTier::end(RemoteWrite& w) noexcept {
    if (w.request_) remote_->end(w.request_);
    w.request_ = nullptr;
    for (size_t i = 0; i < w.items_.size(); ++i) {
        const bool ok = w.items_[i].status == LARDER_OK;
        (ok ? n_put_ : n_put_failed_).fetch_add(1, relaxed);
        if (!ok) continue;
        uint64_t n = 0;
        for (uint32_t k = 1; k < w.items_[i].n_pieces; ++k) n += w.items_[i].pieces[k].n_bytes;
        put_bytes_.fetch_add(n, relaxed);
    }
}

larder_remote_info RemoteTier::info() const noexcept {
    const larder_remote_counters_v1 c = remote_->counters();
    larder_remote_info i = LARDER_REMOTE_INFO_INIT;
    i.health = c.health;
    i.n_nodes = c.n_nodes;
    i.n_nodes_down = c.n_nodes_down;
    i.n_put = n_put_.load(relaxed);
    i.put_bytes = put_bytes_.load(relaxed);
    i.n_put_failed = n_put_failed_.load(relaxed);
    i.n_asked = n_asked_.load(relaxed);
    i.n_hits = n_hits_.load(relaxed);
    i.hit_bytes = hit_bytes_.load(relaxed);
    i.n_corrupt = n_corrupt_.load(relaxed);
    i.n_unanswered = n_unanswered_.load(relaxed);
    i.n_round_trips = c.n_round_trips;
    i.n_timeouts = c.n_timeouts;
    i.n_redirects = c.n_redirects;
    i.n_hedges = c.n_hedges;
    i.n_foreign = c.n_foreign;
    i.n_malformed = c.n_malformed;
    return i;
}

}  // namespace larder
