#include "request.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace larder_redis {

namespace {

constexpr uint32_t head_magic = 0x3152444c;  // "LDR1"
constexpr uint8_t max_rounds = 4;

// Of two reasons the one that tells the caller more.
larder_status worse(larder_status a, larder_status b) noexcept {
    const auto rank = [](larder_status s) {
        switch (s) {
        case LARDER_OK:
            return 0;
        case LARDER_E_TIMEOUT:
            return 1;
        case LARDER_E_PEER_DEAD:
            return 2;
        case LARDER_E_BUSY:
            return 3;
        default:
            return 4;
        }
    };
    return rank(a) >= rank(b) ? a : b;
}

uint64_t bytes_of(const larder_remote_item_v1& item) noexcept {
    uint64_t n = 0;
    for (uint32_t i = 0; i < item.n_pieces; ++i) n += item.pieces[i].n_bytes;
    return n;
}

}  // namespace

void Cut::write_head(char* out) const noexcept {
    const uint32_t part = uint32_t(part_bytes);
    std::memcpy(out, &head_magic, 4);
    std::memcpy(out + 4, &part, 4);
    std::memcpy(out + 8, &total, 8);
}

bool Cut::read_head(const char* in) noexcept {
    uint32_t magic, part;
    std::memcpy(&magic, in, 4);
    std::memcpy(&part, in + 4, 4);
    std::memcpy(&total, in + 8, 8);
    part_bytes = part;
    return magic == head_magic && total > 0 && total <= Redis::max_value_bytes && part >= (256u << 10) &&
           part <= (1u << 20);
}

void Cursor::forward(uint64_t n) noexcept {
    offset += n;
    while (n && offset >= piece->n_bytes) {
        offset -= piece->n_bytes;
        ++piece;
        if (!offset) break;
    }
}

uint64_t Cursor::vectors(uint64_t n, iovec* out, int capacity, int* out_n) const noexcept {
    uint64_t done = 0;
    const larder_remote_piece_v1* p = piece;
    uint64_t skip = offset;
    for (*out_n = 0; done < n && *out_n < capacity; ++p, skip = 0) {
        if (skip == p->n_bytes) continue;
        const uint64_t k = std::min(n - done, p->n_bytes - skip);
        out[(*out_n)++] = {static_cast<char*>(p->data) + skip, k};
        done += k;
    }
    return done;
}

Request::Request(Redis& r, const larder_remote_batch_v1& b)
    : redis_(r), batch_(b), items_(r.host), commands_(r.host), lanes_(r.host) {
    items_.resize(b.n_items);
    commands_.reserve(b.n_items);
}

larder_status Request::post(uint64_t timeout_ns) {
    if (n_left_) return fail(redis_.host, LARDER_E_STATE, 0, "the request is under way");
    now_ = now_ns(redis_.host);
    deadline_ns_ = later(now_, timeout_ns);
    posted_ = true;
    n_left_ = batch_.n_items;
    commands_.clear();
    redis_.maintain(now_);
    for (uint32_t i = 0; i < batch_.n_items; ++i) {
        items_[i] = Item();
        batch_.items[i].status = LARDER_PENDING;
        batch_.items[i].n_bytes = 0;
    }
    try {
        for (uint32_t i = 0; i < batch_.n_items; ++i) begin_item(i);
    } catch (const std::bad_alloc&) {
        give_up(LARDER_E_NOMEM);
    }
    return LARDER_OK;
}

void Request::begin_item(uint32_t i) {
    Item& item = items_[i];
    item.first_command = uint32_t(commands_.size());
    switch (batch_.op) {
    case LARDER_REMOTE_PUT:
        begin_put(i);
        break;
    case LARDER_REMOTE_GET:
        item.cut.part_bytes = redis_.settings.part_bytes;
        item.covered = batch_.items[i].offset;
        begin_get(i, item.covered);
        break;
    case LARDER_REMOTE_EXISTS:
        commands_.push_back({.kind = Kind::exists, .item = i});
        break;
    case LARDER_REMOTE_REMOVE:
        // How many parts there are is known once its first one is gone.
        commands_.push_back({.kind = Kind::head, .item = i});
        commands_.push_back({.kind = Kind::unlink, .item = i});
        break;
    }
    const uint32_t end = uint32_t(commands_.size());
    item.n_commands = end - item.first_command;
    item.n_outstanding = item.n_commands;
    for (uint32_t c = item.first_command; c < end; ++c) route(c);
}

void Request::begin_put(uint32_t i) {
    Item& item = items_[i];
    item.cut = {bytes_of(batch_.items[i]), redis_.settings.part_bytes};
    if (item.cut.total > Redis::max_value_bytes) {
        fail(redis_.host, LARDER_E_RANGE, 0, "a value has at most %llu bytes",
             (unsigned long long)Redis::max_value_bytes);
        return finish(i, LARDER_E_RANGE);
    }
    item.cut.write_head(item.head);
    for (uint32_t part = 0; part < item.cut.n_parts(); ++part) {
        const uint64_t begin = part * item.cut.part_bytes;
        commands_.push_back({.kind = Kind::set,
                             .item = i,
                             .part = part,
                             .offset = begin,
                             .length = item.cut.end_of(part) - begin,
                             .with_head = part == 0});
    }
}

// Ask for what is wanted from `from` on; until the head is known, as if the value ended where the memory does.
void Request::begin_get(uint32_t i, uint64_t from) {
    Item& item = items_[i];
    const larder_remote_item_v1& wish = batch_.items[i];
    Cut cut = item.cut;
    uint64_t end = wish.offset + bytes_of(wish);
    if (item.has_head)
        end = std::min(end, cut.total);
    else
        cut.total = std::min<uint64_t>(end, Redis::max_value_bytes);
    if (!item.has_head && from > 0) commands_.push_back({.kind = Kind::head, .item = i});
    for (uint64_t at = from; at < end && at < cut.total;) {
        const uint32_t part = std::min(uint32_t(at / cut.part_bytes), cut.n_parts() - 1);
        const uint64_t stop = std::min(end, cut.end_of(part));
        const bool with_head = !item.has_head && at == 0;
        commands_.push_back({.kind = Kind::range,
                             .item = i,
                             .part = part,
                             .at = at - part * cut.part_bytes + (part || with_head ? 0 : head_bytes),
                             .offset = at,
                             .length = stop - at,
                             .with_head = with_head});
        at = stop;
    }
}

std::string_view Request::key_of(uint32_t item, uint32_t part) {
    static constexpr char digits[] = "0123456789abcdef";
    const Text& prefix = redis_.settings.prefix;
    char* at = std::copy(prefix.begin(), prefix.end(), key_);
    *at++ = ':';
    for (const uint8_t b : batch_.items[item].key.bytes) {
        *at++ = digits[b >> 4];
        *at++ = digits[b & 15];
    }
    if (part) {
        *at++ = ':';
        at = std::to_chars(at, key_ + sizeof key_, part).ptr;
    }
    return {key_, size_t(at - key_)};
}

void Request::route(uint32_t command) {
    Command& c = commands_[command];
    const uint32_t slot = redis_.is_cluster() ? slot_of(key_of(c.item, c.part)) : 0;
    const uint32_t node = redis_.node_of(slot);
    if (node == no_node) {
        redis_.learn_topology();
        return command_failed(command, LARDER_E_BUSY);
    }
    enqueue(node, command);
}

void Request::enqueue(uint32_t node, uint32_t command, bool asking) {
    auto it =
        std::find_if(lanes_.begin(), lanes_.end(), [&](const auto& l) { return l->node == node && l->connection; });
    if (it == lanes_.end()) {
        lanes_.reserve(lanes_.size() + 1);
        auto made = make<Lane>(redis_.host, redis_.host);
        Lane& lane = *made;
        lane.node = node;
        const larder_status s = redis_.take(node, now_, lane.connection, &lane.reused);
        if (s < 0) {
            Command& c = commands_[command];
            const bool reads = batch_.op == LARDER_REMOTE_GET || batch_.op == LARDER_REMOTE_EXISTS;
            const uint32_t replica = reads && !c.second_chance ? redis_.replica_of(node) : no_node;
            if (replica != no_node) {
                c.second_chance = true;
                return enqueue(replica, command);
            }
            redis_.counters.refused.fetch_add(1, std::memory_order_relaxed);
            if (s == LARDER_E_PEER_DEAD && lane.connection) redis_.node_failed(node, s, now_);
            return command_failed(command, s);
        }
        lane.silent_since = now_;
        lane.sent_before = lane.connection->sent_bytes();
        lane.received_before = lane.connection->received_bytes();
        lanes_.push_back(std::move(made));
        it = lanes_.end() - 1;
    }
    Lane& lane = **it;
    lane.fresh = true;
    if (asking) lane.queue.push_back(Lane::asking);
    lane.queue.push_back(command);
    ++commands_[command].n_lanes;
}

void Request::command_failed(uint32_t command, larder_status status) {
    Command& c = commands_[command];
    if (c.done) return;
    c.done = true;
    Item& item = items_[c.item];
    item.worst = worse(status, item.worst);
    if (--item.n_outstanding == 0) item_answered(c.item);
}

void Request::command_done(uint32_t command) {
    Command& c = commands_[command];
    if (c.done) return;
    c.done = true;
    Item& item = items_[c.item];
    if (c.kind == Kind::head || c.with_head) {
        if (batch_.op != LARDER_REMOTE_PUT) {
            item.has_head = c.got >= head_bytes && item.cut.read_head(item.head);
            item.is_there = c.got > 0;
            if (c.with_head) c.got -= std::min<uint64_t>(c.got, head_bytes);
        }
    }
    if (c.kind == Kind::exists || c.kind == Kind::unlink) item.is_there |= c.part == 0 && c.got > 0;
    if (--item.n_outstanding == 0) item_answered(c.item);
}

void Request::item_answered(uint32_t i) {
    Item& item = items_[i];
    if (item.worst != LARDER_OK) return finish(i, item.worst);
    switch (batch_.op) {
    case LARDER_REMOTE_GET:
        return get_answered(i);
    case LARDER_REMOTE_REMOVE:
        return remove_answered(i);
    case LARDER_REMOTE_EXISTS:
        return finish(i, item.is_there ? LARDER_OK : LARDER_MISS);
    default:
        return finish(i, LARDER_OK);
    }
}

void Request::get_answered(uint32_t i) {
    Item& item = items_[i];
    const larder_remote_item_v1& wish = batch_.items[i];
    if (!item.has_head) {
        if (!item.is_there) return finish(i, LARDER_MISS);
        redis_.counters.foreign.fetch_add(1, std::memory_order_relaxed);
        fail(redis_.host, LARDER_E_CORRUPT, 0, "a value was not written by a remote tier");
        return finish(i, LARDER_E_CORRUPT);
    }
    const Cut& cut = item.cut;
    const uint64_t end = std::min(wish.offset + bytes_of(wish), cut.total);
    for (uint32_t k = item.first_command; k < item.first_command + item.n_commands; ++k) {
        const Command& c = commands_[k];
        // What was asked for by a wrong idea of the parts' sizes is asked for again.
        if (c.kind != Kind::range || c.part >= cut.n_parts() || c.offset != item.covered ||
            (c.part && item.n_rounds == 0 && cut.part_bytes != redis_.settings.part_bytes))
            continue;
        const uint64_t want = std::min(c.offset + c.length, cut.end_of(c.part)) - c.offset;
        if (c.offset + c.length > cut.end_of(c.part) ? c.got != want : c.got < want) item.spoilt = true;
        item.covered += want;
    }
    if (item.spoilt || item.n_rounds > max_rounds) {
        redis_.counters.foreign.fetch_add(1, std::memory_order_relaxed);
        return finish(i, LARDER_MISS);
    }
    if (item.covered >= end) {
        batch_.items[i].n_bytes = cut.total;
        return finish(i, LARDER_OK);
    }
    ++item.n_rounds;
    item.first_command = uint32_t(commands_.size());
    begin_get(i, item.covered);
    item.n_commands = uint32_t(commands_.size()) - item.first_command;
    item.n_outstanding = item.n_commands;
    for (uint32_t c = item.first_command, n = item.n_commands; n; ++c, --n) route(c);
}

void Request::remove_answered(uint32_t i) {
    Item& item = items_[i];
    if (item.n_rounds++ || !item.has_head || item.cut.n_parts() == 1)
        return finish(i, item.is_there ? LARDER_OK : LARDER_MISS);
    const uint32_t first = uint32_t(commands_.size());
    for (uint32_t part = 1; part < item.cut.n_parts(); ++part)
        commands_.push_back({.kind = Kind::unlink, .item = i, .part = part});
    item.n_outstanding = uint32_t(commands_.size()) - first;
    for (uint32_t c = first, n = item.n_outstanding; n; ++c, --n) route(c);
}

void Request::finish(uint32_t i, larder_status status) {
    if (batch_.items[i].status != LARDER_PENDING) return;
    batch_.items[i].status = status;
    --n_left_;
}

// Nothing more will come of it.
void Request::give_up(larder_status status) noexcept {
    for (uint32_t i = 0; i < batch_.n_items; ++i) finish(i, status);
    end();
}

void Request::end() noexcept {
    for (auto& l : lanes_) settle(*l);
    lanes_.clear();
    n_left_ = 0;
}

larder_status Request::check(uint64_t wait_ns) {
    if (!posted_) return fail(redis_.host, LARDER_E_STATE, 0, "the request was not posted");
    now_ = now_ns(redis_.host);
    const uint64_t wait_until = std::min(later(now_, wait_ns), deadline_ns_);
    try {
        while (n_left_) {
            redis_.maintain(now_);
            // Answers may bring new commands, and these new lanes.
            bool again = true;
            while (again && n_left_) {
                again = false;
                for (size_t k = 0; k < lanes_.size() && n_left_; ++k) {
                    if (!lanes_[k]->connection) continue;
                    lanes_[k]->fresh = false;
                    advance(*lanes_[k]);
                }
                for (const auto& l : lanes_) again |= l->connection && l->fresh;
            }
            if (!n_left_) break;
            now_ = now_ns(redis_.host);
            if (redis_.settings.hedge_ns) hedge();
            if (now_ >= deadline_ns_) {
                give_up(LARDER_E_TIMEOUT);
                break;
            }
            if (now_ >= wait_until) return LARDER_PENDING;
            wait(wait_until);
            now_ = now_ns(redis_.host);
        }
    } catch (const std::bad_alloc&) {
        fail(redis_.host, LARDER_E_NOMEM, 0, "no memory for a request");
        give_up(LARDER_E_NOMEM);
    }
    end();
    return LARDER_OK;
}

}  // namespace larder_redis
