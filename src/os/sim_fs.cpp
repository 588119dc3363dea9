#include "os/sim_fs.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace larder {
namespace {

// "/a//b/" and "a/b" are both {"a", "b"}.
Vec<std::string> split(const char* path) {
    Vec<std::string> parts;
    std::string part;
    for (const char* p = path;; ++p) {
        if (*p && *p != '/') {
            part += *p;
            continue;
        }
        if (!part.empty() && part != ".") parts.push_back(part);
        part.clear();
        if (!*p) return parts;
    }
}

bool is_under(const Vec<std::string>& path, const Vec<std::string>& top) {
    return path.size() >= top.size() && std::equal(top.begin(), top.end(), path.begin());
}

}  // namespace

SimFs::SimFs() {
    add_node(true);
    nodes_[0].links = 1;
}

SimFs::Node SimFs::add_node(bool is_dir) {
    nodes_.emplace_back();
    nodes_.back().is_dir = is_dir;
    return Node(nodes_.size() - 1);
}

Result<SimFs::Node> SimFs::lookup(const char* path) const {
    Node at = 0;
    for (const std::string& part : split(path)) {
        if (!nodes_[at].is_dir)
            return fail_os(LARDER_E_INVALID, ENOTDIR, "path", "%s: a part is not a directory", path);
        const auto it = nodes_[at].entries.find(part);
        if (it == nodes_[at].entries.end()) return fail_os(LARDER_E_NOT_FOUND, ENOENT, "path", "%s is not there", path);
        at = it->second;
    }
    return at;
}

Result<SimFs::Place> SimFs::parent_of(const char* path) const {
    Vec<std::string> parts = split(path);
    if (parts.empty()) return fail_os(LARDER_E_INVALID, EINVAL, "path", "%s names no file", path);
    Place place{0, parts.back()};
    std::string dir;
    for (size_t i = 0; i + 1 < parts.size(); ++i) dir += "/" + parts[i];
    LARDER_ASSIGN(place.dir, lookup(dir.c_str()));
    if (!nodes_[place.dir].is_dir)
        return fail_os(LARDER_E_INVALID, ENOTDIR, "path", "%s: a part is not a directory", path);
    return place;
}

bool SimFs::is_read_only(const char* path) const {
    const Vec<std::string> parts = split(path);
    return std::any_of(read_only_.begin(), read_only_.end(),
                       [&](const std::string& top) { return is_under(parts, split(top.c_str())); });
}

larder_status SimFs::check_writable(const char* path) const {
    return is_read_only(path) ? fail_os(LARDER_E_READ_ONLY, EROFS, "path", "%s is read-only", path) : LARDER_OK;
}

void SimFs::set_read_only(const char* path, bool on) {
    std::erase(read_only_, path);
    if (on) read_only_.push_back(path);
}

Result<SimFs::Node> SimFs::create(const char* path, bool exclusive) {
    const Result<Node> there = lookup(path);
    if (there.ok())
        return exclusive ? Result<Node>(fail_os(LARDER_E_EXISTS, EEXIST, "path", "%s exists", path)) : there;
    if (there.status() != LARDER_E_NOT_FOUND) return there;
    LARDER_TRY(check_writable(path));
    LARDER_ASSIGN(Place place, parent_of(path));
    const Node n = add_node(false);
    nodes_[n].links = 1;
    nodes_[place.dir].entries[place.name] = n;
    pending_.push_back({.op = Op::link, .node = n, .dir = place.dir, .name = place.name});
    return n;
}

larder_status SimFs::make_dir(const char* path) {
    const Result<Node> there = lookup(path);
    if (there.ok())
        return nodes_[*there].is_dir ? LARDER_OK : fail_os(LARDER_E_INVALID, ENOTDIR, "path", "%s is a file", path);
    LARDER_TRY(check_writable(path));
    LARDER_ASSIGN(Place place, parent_of(path));
    const Node n = add_node(true);
    nodes_[n].links = 1;
    nodes_[place.dir].entries[place.name] = n;
    pending_.push_back({.op = Op::link, .node = n, .dir = place.dir, .name = place.name});
    return LARDER_OK;
}

larder_status SimFs::unlink(const char* path) {
    const Result<Node> there = lookup(path);
    if (!there.ok()) return there.status() == LARDER_E_NOT_FOUND ? LARDER_OK : there.status();
    if (nodes_[*there].is_dir) return fail_os(LARDER_E_INVALID, EISDIR, "path", "%s is a directory", path);
    LARDER_TRY(check_writable(path));
    LARDER_ASSIGN(Place place, parent_of(path));
    nodes_[place.dir].entries.erase(place.name);
    pending_.push_back({.op = Op::unlink, .node = *there, .dir = place.dir, .name = place.name});
    drop_link(*there);
    return LARDER_OK;
}

larder_status SimFs::rename(const char* from, const char* to) {
    LARDER_ASSIGN(const Node n, lookup(from));
    LARDER_TRY(check_writable(from));
    LARDER_TRY(check_writable(to));
    LARDER_ASSIGN(Place source, parent_of(from));
    LARDER_ASSIGN(Place target, parent_of(to));
    Entries& entries = nodes_[target.dir].entries;
    const auto old = entries.find(target.name);
    if (old != entries.end()) {
        if (old->second == n) return LARDER_OK;
        if (nodes_[old->second].is_dir || nodes_[n].is_dir)
            return fail_os(LARDER_E_EXISTS, ENOTEMPTY, "path", "%s exists", to);
        drop_link(old->second);
    }
    entries[target.name] = n;
    nodes_[source.dir].entries.erase(source.name);
    pending_.push_back({.op = Op::rename,
                        .node = n,
                        .dir = source.dir,
                        .to_dir = target.dir,
                        .name = source.name,
                        .to_name = target.name});
    return LARDER_OK;
}

Result<Vec<DirEntry>> SimFs::list(const Allocator& a, const char* path) const {
    LARDER_ASSIGN(const Node dir, lookup(path));
    if (!nodes_[dir].is_dir) return fail_os(LARDER_E_INVALID, ENOTDIR, "path", "%s is not a directory", path);
    Vec<DirEntry> out(a);
    for (const auto& [name, n] : nodes_[dir].entries)
        out.push_back({String(name.begin(), name.end(), a), nodes_[n].now.size, nodes_[n].is_dir});
    return out;
}

// --- contents -------------------------------------------------------------------------------------------

size_t SimFs::read(Node n, void* out, size_t n_bytes, uint64_t offset) const {
    const Content& c = nodes_[n].now;
    if (offset >= c.size) return 0;
    n_bytes = size_t(std::min<uint64_t>(n_bytes, c.size - offset));
    auto* p = static_cast<std::byte*>(out);
    for (size_t done = 0; done < n_bytes;) {
        const uint64_t at = offset + done;
        const size_t in_page = at % page_bytes, piece = std::min(n_bytes - done, page_bytes - in_page);
        const auto it = c.pages.find(at / page_bytes);
        if (it != c.pages.end() && it->second)
            std::memcpy(p + done, it->second->data() + in_page, piece);
        else
            std::memset(p + done, 0, piece);
        done += piece;
    }
    return n_bytes;
}

// Pages that are not there yet need room on the disk.
larder_status SimFs::charge(const Content& c, uint64_t offset, uint64_t n_bytes) {
    uint64_t fresh = 0;
    for (uint64_t i = offset / page_bytes; n_bytes && i <= (offset + n_bytes - 1) / page_bytes; ++i)
        fresh += !c.pages.contains(i);
    if (fresh > capacity_pages_ - std::min(used_pages_, capacity_pages_))
        return fail_os(LARDER_E_DISK_FULL, ENOSPC, "", "the simulated disk is full");
    used_pages_ += fresh;
    return LARDER_OK;
}

void SimFs::put(Content& c, const std::byte* data, size_t n_bytes, uint64_t offset) {
    for (size_t done = 0; done < n_bytes;) {
        const uint64_t at = offset + done;
        const size_t in_page = at % page_bytes, piece = std::min(n_bytes - done, page_bytes - in_page);
        std::shared_ptr<Page>& page = c.pages[at / page_bytes];
        if (!page)
            page = std::make_shared<Page>();
        else if (page.use_count() > 1)
            page = std::make_shared<Page>(*page);  // also seen by a snapshot or by the durable state
        std::memcpy(page->data() + in_page, data + done, piece);
        done += piece;
    }
    c.size = std::max(c.size, offset + n_bytes);
}

// The number of pages given up.
size_t SimFs::cut_to(Content& c, uint64_t n_bytes) {
    size_t dropped = 0;
    const auto first = c.pages.lower_bound((n_bytes + page_bytes - 1) / page_bytes);
    for (auto it = first; it != c.pages.end(); ++it) ++dropped;
    c.pages.erase(first, c.pages.end());
    if (const size_t in_page = n_bytes % page_bytes; in_page && n_bytes < c.size) {
        const auto it = c.pages.find(n_bytes / page_bytes);
        if (it != c.pages.end() && it->second) {
            it->second = std::make_shared<Page>(*it->second);
            std::memset(it->second->data() + in_page, 0, page_bytes - in_page);
        }
    }
    c.size = n_bytes;
    return dropped;
}

larder_status SimFs::write(Node n, const void* data, size_t n_bytes, uint64_t offset) {
    LARDER_TRY(charge(nodes_[n].now, offset, n_bytes));
    const auto* p = static_cast<const std::byte*>(data);
    put(nodes_[n].now, p, n_bytes, offset);
    pending_.push_back({.op = Op::write, .node = n, .offset = offset, .data = Vec<std::byte>(p, p + n_bytes)});
    return LARDER_OK;
}

larder_status SimFs::resize(Node n, uint64_t n_bytes) {
    used_pages_ -= cut_to(nodes_[n].now, n_bytes);
    pending_.push_back({.op = Op::resize, .node = n, .offset = n_bytes});
    return LARDER_OK;
}

larder_status SimFs::allocate(Node n, uint64_t offset, uint64_t n_bytes) {
    Content& c = nodes_[n].now;
    LARDER_TRY(charge(c, offset, n_bytes));
    for (uint64_t i = offset / page_bytes; n_bytes && i <= (offset + n_bytes - 1) / page_bytes; ++i)
        c.pages.try_emplace(i);
    if (offset + n_bytes > c.size) {
        c.size = offset + n_bytes;
        pending_.push_back({.op = Op::resize, .node = n, .offset = c.size});
    }
    return LARDER_OK;
}

void SimFs::drop_link(Node n) {
    --nodes_[n].links;
    forget_if_unused(n);
}

void SimFs::unpin(Node n) {
    --nodes_[n].pins;
    forget_if_unused(n);
}

// Frees the room; the durable contents stay until the unlink is durable.
void SimFs::forget_if_unused(Node n) {
    Inode& i = nodes_[n];
    if (i.is_dir || i.links || i.pins) return;
    used_pages_ -= i.now.pages.size();
    i.now = {};
}

// --- durability -----------------------------------------------------------------------------------------

void SimFs::apply(const Pending& p, bool torn, Rng& rng) {
    Inode& i = nodes_[p.node];
    switch (p.op) {
    case Op::write:
        for (size_t at = 0; at < p.data.size();) {
            const size_t piece = std::min(p.data.size() - at, sector_bytes - size_t((p.offset + at) % sector_bytes));
            if (!torn || rng.next() & 1) put(i.durable, p.data.data() + at, piece, p.offset + at);
            at += piece;
        }
        break;
    case Op::resize:
        cut_to(i.durable, p.offset);
        break;
    case Op::link:
        nodes_[p.dir].durable_entries[p.name] = p.node;
        break;
    case Op::unlink:
        nodes_[p.dir].durable_entries.erase(p.name);
        break;
    case Op::rename: {
        Entries& source = nodes_[p.dir].durable_entries;
        if (const auto it = source.find(p.name); it != source.end() && it->second == p.node) source.erase(it);
        nodes_[p.to_dir].durable_entries[p.to_name] = p.node;
        break;
    }
    }
}

void SimFs::sync(Node n) {
    // All of it is durable now, so the whole visible content is the durable one.
    std::erase_if(pending_, [&](const Pending& p) { return p.node == n && (p.op == Op::write || p.op == Op::resize); });
    if (!nodes_[n].is_dir) nodes_[n].durable = nodes_[n].now;
}

larder_status SimFs::sync_dir(const char* path) {
    LARDER_ASSIGN(const Node dir, lookup(path));
    if (!nodes_[dir].is_dir) return fail_os(LARDER_E_INVALID, ENOTDIR, "path", "%s is not a directory", path);
    // A rename ties two directories together: what came before it in the other one becomes durable with it.
    Vec<Node> dirs(1, dir);
    Vec<bool> chosen(pending_.size(), false);
    const auto among = [&](Node n) { return std::find(dirs.begin(), dirs.end(), n) != dirs.end(); };
    for (size_t i = pending_.size(); i-- > 0;) {
        const Pending& p = pending_[i];
        if (p.op == Op::write || p.op == Op::resize) continue;
        const bool two = p.op == Op::rename;
        if (!among(p.dir) && !(two && among(p.to_dir))) continue;
        chosen[i] = true;
        dirs.push_back(p.dir);
        if (two) dirs.push_back(p.to_dir);
    }
    Rng rng(0);
    Vec<Pending> rest;
    for (size_t i = 0; i < pending_.size(); ++i) {
        if (chosen[i])
            apply(pending_[i], false, rng);
        else
            rest.push_back(std::move(pending_[i]));
    }
    pending_ = std::move(rest);
    return LARDER_OK;
}

void SimFs::power_cut(const PowerCut& cut) {
    Rng rng(cut.seed);
    for (size_t i = 0; i < pending_.size() && i < cut.fates.size(); ++i)
        if (cut.fates[i] != PowerCut::Fate::lost) apply(pending_[i], cut.fates[i] == PowerCut::Fate::torn, rng);
    pending_.clear();
    for (Inode& i : nodes_) {
        i.now = i.durable;
        i.entries = i.durable_entries;
        i.pins = i.links = 0;
    }
    recount();
}

// Links, and the room used by what can still be reached.
void SimFs::recount() {
    used_pages_ = 0;
    Vec<Node> to_visit(1, 0);
    nodes_[0].links = 1;
    while (!to_visit.empty()) {
        const Node n = to_visit.back();
        to_visit.pop_back();
        used_pages_ += nodes_[n].now.pages.size();
        for (const auto& [name, child] : nodes_[n].entries)
            if (nodes_[child].links++ == 0) to_visit.push_back(child);
    }
    for (Inode& i : nodes_)
        if (!i.links) i.now = {}, i.durable = {};
}

void SimFs::flip_bits(Node n, uint64_t offset, std::byte mask) {
    std::byte b;
    if (read(n, &b, 1, offset) != 1) return;
    b ^= mask;
    put(nodes_[n].now, &b, 1, offset);
    if (offset < nodes_[n].durable.size) put(nodes_[n].durable, &b, 1, offset);
}

std::string SimFs::describe(size_t i) const {
    const Pending& p = pending_[i];
    char line[256];
    switch (p.op) {
    case Op::write:
        std::snprintf(line, sizeof line, "write node %u, %zu bytes at %llu", p.node, p.data.size(),
                      (unsigned long long)p.offset);
        break;
    case Op::resize:
        std::snprintf(line, sizeof line, "resize node %u to %llu", p.node, (unsigned long long)p.offset);
        break;
    case Op::link:
        std::snprintf(line, sizeof line, "link %s = node %u", p.name.c_str(), p.node);
        break;
    case Op::unlink:
        std::snprintf(line, sizeof line, "unlink %s", p.name.c_str());
        break;
    case Op::rename:
        std::snprintf(line, sizeof line, "rename %s to %s", p.name.c_str(), p.to_name.c_str());
        break;
    }
    return line;
}

// --- power cuts -----------------------------------------------------------------------------------------

PowerCuts::PowerCuts(const SimFs& fs, uint64_t budget, uint64_t seed)
    : n_(fs.pending().size()), budget_(std::max<uint64_t>(budget, 1)),
      every_subset_(n_ < 20 && (1ull << n_) * 2 <= budget_), rng_(seed) {}

bool PowerCuts::next(PowerCut& out) {
    using Fate = PowerCut::Fate;
    if (at_ >= budget_) return false;
    const uint64_t i = at_++;
    out.seed = rng_.next();
    out.fates.assign(n_, Fate::lost);
    if (n_ == 0) return i == 0;
    if (every_subset_) {
        // First each subset whole, then each with its last operation torn.
        const uint64_t n_subsets = 1ull << n_, bits = i % n_subsets;
        if (i >= 2 * n_subsets) return false;
        for (size_t k = 0; k < n_; ++k)
            if (bits >> k & 1) out.fates[k] = i >= n_subsets && !(bits >> (k + 1)) ? Fate::torn : Fate::kept;
        return true;
    }
    if (i <= n_) {
        std::fill_n(out.fates.begin(), i, Fate::kept);
    } else if (i <= 2 * n_) {
        std::fill_n(out.fates.begin(), i - n_, Fate::kept);
        out.fates[i - n_ - 1] = Fate::torn;
    } else if (i <= 3 * n_) {
        out.fates.assign(n_, Fate::kept);
        out.fates[i - 2 * n_ - 1] = Fate::lost;
    } else {
        for (Fate& f : out.fates) f = Fate(rng_.below(3));
    }
    return true;
}

}  // namespace larder
