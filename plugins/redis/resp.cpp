#include "resp.h"

#include <array>
#include <charconv>
#include <cstring>

namespace larder_redis {

namespace {

constexpr int64_t max_bulk = int64_t(512) << 20;  // the server's own limit
constexpr int64_t max_elements = 1 << 20;

bool has_number(char type) noexcept {
    return std::strchr(":$*%~>=!|", type) != nullptr;
}
bool has_body(char type) noexcept {
    return type == '$' || type == '=' || type == '!';
}
// Elements of an aggregate, 0 for a scalar.
int64_t elements(const ReplyLine& l) noexcept {
    if (l.number <= 0) return 0;
    if (l.type == '*' || l.type == '~' || l.type == '>') return l.number;
    return l.type == '%' || l.type == '|' ? 2 * l.number : 0;
}

}  // namespace

Parsed parse_line(std::string_view in, ReplyLine& out, size_t& used) noexcept {
    if (in.empty()) return Parsed::more;
    if (!in[0] || !std::strchr("+-:$*_#,(%~>=!|", in[0])) return Parsed::bad;
    const size_t end = in.substr(0, max_line).find('\n');
    if (end == std::string_view::npos) return in.size() < max_line ? Parsed::more : Parsed::bad;
    if (end < 2 || in[end - 1] != '\r') return Parsed::bad;
    out = {in[0], in.substr(1, end - 2), 0};
    used = end + 1;
    if (out.type == '_') {
        out = {'$', {}, -1};
        return Parsed::ok;
    }
    if (!has_number(out.type)) return Parsed::ok;
    const char* last = out.text.data() + out.text.size();
    const auto r = std::from_chars(out.text.data(), last, out.number);
    if (r.ec != std::errc() || r.ptr != last) return Parsed::bad;
    if (out.type == ':') return Parsed::ok;
    return out.number < -1 || out.number > (has_body(out.type) ? max_bulk : max_elements) ? Parsed::bad : Parsed::ok;
}

Parsed reply_length(std::string_view in, size_t& used) noexcept {
    size_t at = 0;
    // An attribute stands before the value that it belongs to, and is none itself.
    for (int64_t left = 1; left > 0; --left) {
        ReplyLine l;
        size_t n = 0;
        const Parsed p = parse_line(in.substr(at), l, n);
        if (p != Parsed::ok) return p;
        at += n;
        left += elements(l) + (l.type == '|');
        if (left > max_elements) return Parsed::bad;
        if (!has_body(l.type) || l.number < 0) continue;
        if (in.size() - at < size_t(l.number) + 2) return Parsed::more;
        at += size_t(l.number) + 2;
        if (in[at - 2] != '\r' || in[at - 1] != '\n') return Parsed::bad;
    }
    used = at;
    return Parsed::ok;
}

bool ReplyWalker::line(ReplyLine& out) noexcept {
    size_t n = 0;
    ok_ = ok_ && parse_line(left_, out, n) == Parsed::ok;
    if (ok_) left_.remove_prefix(n);
    return ok_;
}

uint64_t ReplyWalker::array() noexcept {
    ReplyLine l;
    if (!line(l)) return 0;
    ok_ = (l.type == '*' || l.type == '~') && l.number >= 0;
    return ok_ ? uint64_t(l.number) : 0;
}

int64_t ReplyWalker::integer() noexcept {
    ReplyLine l;
    if (!line(l)) return 0;
    ok_ = l.type == ':';
    return ok_ ? l.number : 0;
}

std::string_view ReplyWalker::string() noexcept {
    ReplyLine l;
    if (!line(l)) return {};
    if (l.type == '+') return l.text;
    ok_ = l.type == '$' && (l.number < 0 || left_.size() >= size_t(l.number) + 2);
    if (!ok_ || l.number < 0) return {};
    const std::string_view s = left_.substr(0, size_t(l.number));
    left_.remove_prefix(s.size() + 2);
    return s;
}

void ReplyWalker::skip() noexcept {
    size_t n = 0;
    ok_ = ok_ && reply_length(left_, n) == Parsed::ok;
    if (ok_) left_.remove_prefix(n);
}

uint32_t slot_of(std::string_view key) noexcept {
    static constexpr std::array<uint16_t, 256> table = [] {
        std::array<uint16_t, 256> t{};
        for (uint32_t i = 0; i < 256; ++i) {
            uint32_t c = i << 8;
            for (int bit = 0; bit < 8; ++bit) c = c & 0x8000 ? c << 1 ^ 0x1021 : c << 1;
            t[i] = uint16_t(c);
        }
        return t;
    }();
    // What stands between the first { and the next }, when that is anything.
    if (const size_t open = key.find('{'); open != std::string_view::npos) {
        const size_t close = key.find('}', open + 1);
        if (close != std::string_view::npos && close > open + 1) key = key.substr(open + 1, close - open - 1);
    }
    uint16_t crc = 0;
    for (const char c : key) crc = uint16_t(crc << 8 ^ table[(crc >> 8 ^ uint8_t(c)) & 0xff]);
    return crc % n_slots;
}

}  // namespace larder_redis
