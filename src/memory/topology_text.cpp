#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/options.h"
#include "memory/topology.h"

namespace larder {
namespace {

bool is_space(char c) noexcept {
    return c == ' ' || c == '\t' || c == '\r';
}

// The words of one line.
struct Words {
    const char* p;
    // Length 0 at the end of the line or before a comment.
    size_t next(const char*& word) noexcept {
        while (is_space(*p)) ++p;
        word = p;
        while (*p && *p != '\n' && *p != '#' && !is_space(*p)) ++p;
        return size_t(p - word);
    }
};

bool is(const char* word, size_t n, const char* what) noexcept {
    return n == std::strlen(what) && !std::memcmp(word, what, n);
}

// "256G"; false when it is no number or does not fit.
bool number(const char* word, size_t n, uint64_t& out) noexcept {
    out = 0;
    size_t i = 0;
    for (; i < n && word[i] >= '0' && word[i] <= '9'; ++i) {
        if (out > (UINT64_MAX - 9) / 10) return false;
        out = out * 10 + uint64_t(word[i] - '0');
    }
    if (i == 0) return false;
    if (i == n) return true;
    const char* suffix = i + 1 == n ? std::strchr("KMGT", word[i]) : nullptr;
    if (!suffix || !*suffix) return false;
    const unsigned shift = 10 * unsigned(suffix - "KMGT" + 1);
    if (out >> (64 - shift)) return false;
    out <<= shift;
    return true;
}

larder_status parse_line(const char* line, uint32_t line_number, larder_memory_node& node) {
    Words words{line};
    const char* word;
    bool has_free = false;
    for (size_t n = words.next(word); n; n = words.next(word)) {
        if (is(word, n, "cpus")) {
            node.has_cpus = 1;
            continue;
        }
        const char* field = word;
        const size_t n_field = n;
        uint64_t value = 0;
        n = words.next(word);
        if (!number(word, n, value))
            return fail(LARDER_E_INVALID, "text", "line %u: a number is missing after '%.*s'", line_number,
                        int(std::min<size_t>(n_field, 40)), field);
        if (is(field, n_field, "node") && value < 1024)
            node.id = uint32_t(value);
        else if (is(field, n_field, "bytes"))
            node.n_bytes = value;
        else if (is(field, n_field, "free"))
            node.free_bytes = value, has_free = true;
        else if (is(field, n_field, "latency"))
            node.latency_ns = value;
        else if (is(field, n_field, "bandwidth"))
            node.bandwidth_bytes_per_s = value;
        else
            return fail(LARDER_E_INVALID, "text", "line %u: '%.*s %llu' says nothing of a node", line_number,
                        int(std::min<size_t>(n_field, 40)), field, (unsigned long long)value);
    }
    if (!has_free || node.free_bytes > node.n_bytes) node.free_bytes = node.n_bytes;
    return LARDER_OK;
}

}  // namespace

larder_status parse_topology(const char* text, Vec<larder_memory_node>& out) {
    uint32_t line_number = 0;
    for (const char* line = text; *line;) {
        ++line_number;
        const char* p = line;
        while (is_space(*p)) ++p;
        if (*p && *p != '\n' && *p != '#') {
            if (std::strncmp(p, "node ", 5) != 0)
                return fail(LARDER_E_INVALID, "text", "line %u does not begin with 'node'", line_number);
            larder_memory_node node = LARDER_MEMORY_NODE_INIT;
            LARDER_TRY(parse_line(p, line_number, node));
            for (const larder_memory_node& other : out)
                if (other.id == node.id)
                    return fail(LARDER_E_INVALID, "text", "line %u: node %u is there already", line_number, node.id);
            out.push_back(node);
        }
        const char* end = std::strchr(line, '\n');
        line = end ? end + 1 : line + std::strlen(line);
    }
    return LARDER_OK;
}

}  // namespace larder
