// The prefix index against a naive tree: random publishes, matches, pins, drops, removals and evictions on a small
// alphabet, so that chains share much.
#include <algorithm>
#include <list>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "index/prefix_index.h"
#include "support/cmocka.h"
#include "support/seed.h"

using namespace larder;

namespace {

constexpr uint32_t bt = 4;  // tokens of a block

struct Node {
    std::vector<int32_t> tokens;
    uint64_t entry = 0;
    uint32_t residency = 0, pins = 0, depth = 0;
    uint64_t location[4] = {};
    Node* parent = nullptr;
    std::map<std::vector<int32_t>, std::unique_ptr<Node>> children;
    std::list<Node*>::iterator in_order;
    size_t in_all = 0;
};

struct Model {
    Node roots[2];
    std::vector<Node*> all;
    std::unordered_map<uint64_t, Node*> by_entry;
    std::list<Node*> order;      // the least recently used first
    std::vector<uint64_t> held;  // an element for each pin

    static Node* child(Node& n, const std::vector<int32_t>& tokens) {
        auto it = n.children.find(tokens);
        return it == n.children.end() ? nullptr : it->second.get();
    }
    void add(Node* n) {
        n->in_order = order.insert(order.end(), n);
        n->in_all = all.size();
        all.push_back(n);
        assert_true(by_entry.emplace(n->entry, n).second);
    }
    void use(Node* n) { order.splice(order.end(), order, n->in_order); }
    void erase(Node* n) {
        order.erase(n->in_order);
        all[n->in_all] = all.back();
        all[n->in_all]->in_all = n->in_all;
        all.pop_back();
        by_entry.erase(n->entry);
        n->parent->children.erase(n->tokens);
    }
};

struct World {
    larder_context* context = nullptr;
    Owned<PrefixIndex> index;
    larder_key root[2];
    Model model;
    std::vector<PrefixBlock> removed;
    Rng rng{0};

    std::vector<int32_t> random_tokens(size_t n) {
        std::vector<int32_t> t(n);
        for (auto& x : t) x = int32_t(rng.below(3) ? rng.below(2) : rng.below(4));
        return t;
    }
    std::vector<larder_key> keys(uint32_t r, const std::vector<int32_t>& tokens) {
        larder_prefix_tokens t = LARDER_PREFIX_TOKENS_INIT;
        t.block_tokens = bt;
        t.tokens = tokens.data();
        t.n_tokens = tokens.size();
        std::vector<larder_key> k(tokens.size() / bt);
        prefix_keys(root[r], t, k);
        return k;
    }
    Node* pick() { return model.all.empty() ? nullptr : model.all[size_t(rng.below(model.all.size()))]; }
};

std::vector<int32_t> slice(const std::vector<int32_t>& t, size_t i) {
    return {t.begin() + std::ptrdiff_t(i * bt), t.begin() + std::ptrdiff_t(std::min(t.size(), (i + 1) * bt))};
}

void check_block(const PrefixBlock& b, const Node& n) {
    assert_int_equal(b.entry, n.entry);
    assert_int_equal(b.residency, n.residency);
    assert_int_equal(b.n_tokens, n.tokens.size());
    assert_int_equal(b.depth, n.depth);
    for (int p = 0; p < 4; ++p) assert_int_equal(b.location[p], n.residency >> p & 1 ? n.location[p] : 0);
}

void do_publish(World& w) {
    const uint32_t r = uint32_t(w.rng.below(2));
    const auto tokens = w.random_tokens(1 + w.rng.below(4 * bt));
    const auto keys = w.keys(r, tokens);
    std::vector<PrefixItem> items;
    const uint32_t bit = 1u << w.rng.below(3);
    std::vector<std::vector<int32_t>> parts;
    for (size_t i = 0; i * bt < tokens.size(); ++i) parts.push_back(slice(tokens, i));
    if (parts.back().size() < bt && w.rng.below(2)) parts.pop_back();
    for (size_t i = 0; i < parts.size(); ++i) {
        PrefixItem item{};
        const larder_key& before = i ? keys[i - 1] : w.root[r];
        item.key = parts[i].size() == bt ? keys[i]
                                         : prefix_block_key(before, parts[i].data(), uint32_t(parts[i].size()), i * bt);
        item.tokens = parts[i].data();
        item.n_tokens = uint32_t(parts[i].size());
        item.residency = bit;
        item.location = w.rng.next();
        items.push_back(item);
    }
    std::vector<PrefixPublished> out(items.size());
    uint64_t n = 0;
    assert_int_equal(w.index->publish(w.root[r], 0, items, false, out, n), LARDER_OK);
    assert_int_equal(n, items.size());
    Node* at = &w.model.roots[r];
    for (size_t i = 0; i < items.size(); ++i) {
        Node* c = Model::child(*at, parts[i]);
        const int place = std::countr_zero(bit);
        if (!c) {
            assert_int_equal(out[i].outcome, LARDER_PREFIX_NEW);
            auto fresh = std::make_unique<Node>();
            c = fresh.get();
            c->tokens = parts[i];
            c->entry = out[i].block.entry;
            c->parent = at;
            c->depth = at == &w.model.roots[r] ? 0 : at->depth + 1;
            at->children[parts[i]] = std::move(fresh);
            w.model.add(c);
            c->residency = bit;
            c->location[place] = items[i].location;
        } else if (c->residency & bit) {
            assert_int_equal(out[i].outcome, LARDER_PREFIX_DUPLICATE);
        } else {
            assert_int_equal(out[i].outcome, LARDER_PREFIX_JOINED);
            c->residency |= bit;
            c->location[place] = items[i].location;
        }
        w.model.use(c);
        check_block(out[i].block, *c);
        at = c;
    }
}

void do_match(World& w) {
    const uint32_t r = uint32_t(w.rng.below(2));
    const auto tokens = w.random_tokens(w.rng.below(6 * bt));
    const auto keys = w.keys(r, tokens);
    const bool peek = w.rng.below(2);
    larder_prefix_query q = LARDER_PREFIX_QUERY_INIT;
    q.flags = peek ? LARDER_PREFIX_PEEK : 0;
    q.root = w.root[r];
    q.keys = keys.data();
    q.n_keys = keys.size();
    q.tokens = tokens.data();
    q.next_tokens = tokens.data() + keys.size() * bt;
    q.n_next = tokens.size() - keys.size() * bt;
    std::vector<PrefixBlock> out(keys.size() + 1);
    larder_prefix_match_info info = LARDER_PREFIX_MATCH_INFO_INIT;
    assert_int_equal(w.index->match(q, out, info), LARDER_OK);
    Node* at = &w.model.roots[r];
    std::vector<Node*> path;
    for (size_t i = 0; i < keys.size(); ++i) {
        Node* c = Model::child(*at, slice(tokens, i));
        if (!c) break;
        path.push_back(at = c);
    }
    assert_int_equal(info.n_blocks, path.size());
    for (size_t i = 0; i < path.size(); ++i) check_block(out[i], *path[i]);
    assert_int_equal(w.index->match_length(keys), path.size());
    const auto rest = slice(tokens, path.size());
    size_t best = 0;
    for (auto& [t, c] : at->children) {
        size_t same = 0;
        while (same < std::min(t.size(), rest.size()) && t[same] == rest[same]) ++same;
        best = std::max(best, same);
    }
    assert_int_equal(info.n_partial_tokens, best);
    Node* source = nullptr;
    if (best) {
        source = w.model.by_entry.at(info.partial.entry);
        assert_ptr_equal(source->parent, at);
        assert_true(std::equal(rest.begin(), rest.begin() + std::ptrdiff_t(best), source->tokens.begin()));
        check_block(info.partial, *source);
    }
    if (peek) return;
    for (size_t i = path.size(); i-- > 0;) w.model.use(path[i]);
    if (source) w.model.use(source);
    if (source) path.push_back(source);
    std::vector<uint64_t> pinned;
    for (Node* n : path) pinned.push_back(n->entry);
    if (w.rng.below(4)) return assert_int_equal(w.index->unpin(pinned), LARDER_OK);
    for (Node* n : path) ++n->pins;
    w.model.held.insert(w.model.held.end(), pinned.begin(), pinned.end());
}

void do_unpin(World& w) {
    assert_int_equal(w.index->unpin(w.model.held), LARDER_OK);
    for (uint64_t id : w.model.held) --w.model.by_entry.at(id)->pins;
    w.model.held.clear();
}

void do_add_or_drop(World& w) {
    Node* n = w.pick();
    if (!n) return;
    const uint32_t place = uint32_t(w.rng.below(3)), bit = 1u << place;
    if (w.rng.below(2)) {
        const uint64_t location = w.rng.next();
        const bool busy = n->pins && (n->residency & bit);
        assert_int_equal(w.index->add(n->entry, bit, location), busy ? LARDER_E_BUSY : LARDER_OK);
        if (busy) return;
        n->residency |= bit;
        n->location[place] = location;
        return;
    }
    PrefixBlock b;
    const larder_status s = w.index->drop(n->entry, bit, &b);
    check_block(b, *n);
    if (!(n->residency & bit)) return assert_int_equal(s, LARDER_MISS);
    if (n->pins || (n->residency == bit && !n->children.empty())) return assert_int_equal(s, LARDER_E_BUSY);
    assert_int_equal(s, LARDER_OK);
    n->residency &= ~bit;
    if (n->residency) return;
    const uint64_t gone = n->entry;
    w.model.erase(n);
    assert_int_equal(w.index->pin({&gone, 1}), LARDER_E_STALE);
}

bool remove_model(World& w, Node* n, std::vector<uint64_t>& gone) {
    std::vector<Node*> kids;
    for (auto& [t, c] : n->children) kids.push_back(c.get());
    bool all = true;
    for (Node* c : kids) all &= remove_model(w, c, gone);
    if (!all || n->pins) return false;
    gone.push_back(n->entry);
    w.model.erase(n);
    return true;
}

void do_remove(World& w) {
    Node* n = w.pick();
    if (!n || w.rng.below(4)) return;
    if (w.removed.size() < w.model.all.size()) w.removed.resize(w.model.all.size());
    uint64_t n_out = 0;
    const uint64_t id = n->entry;
    const larder_status s = w.index->remove(id, w.removed, n_out);
    std::vector<uint64_t> gone, got;
    const bool all = remove_model(w, n, gone);
    for (uint64_t i = 0; i < n_out; ++i) got.push_back(w.removed[i].entry);
    std::sort(got.begin(), got.end());
    std::sort(gone.begin(), gone.end());
    assert_true(got == gone);
    assert_int_equal(s, all ? LARDER_OK : LARDER_E_BUSY);
}

// Leaves first, least recently used first: evict some, one by one, and compare the order with the model's.
void do_evict(World& w) {
    const uint32_t place = uint32_t(w.rng.below(3)), bit = 1u << place;
    PrefixBlock out[64];
    uint64_t n_out = 0;
    const size_t want = 1 + w.rng.below(5);
    assert_int_equal(w.index->candidates(bit, {out, want}, n_out), LARDER_OK);
    std::vector<Node*> can;
    for (auto it = w.model.order.begin(); it != w.model.order.end() && can.size() < want; ++it) {
        Node* n = *it;
        bool below = false;
        for (auto& [t, c] : n->children) below |= (c->residency & bit) != 0;
        if (!(n->residency & bit) || n->pins || below || (n->residency == bit && !n->children.empty())) continue;
        can.push_back(n);
    }
    assert_int_equal(n_out, can.size());
    for (uint64_t i = 0; i < n_out; ++i) assert_int_equal(out[i].entry, can[i]->entry);
    for (uint64_t i = 0; i < n_out && w.rng.below(2); ++i) {
        assert_int_equal(w.index->drop(out[i].entry, bit, nullptr), LARDER_OK);
        if (!(can[i]->residency &= ~bit)) w.model.erase(can[i]);
    }
}

void do_children(World& w) {
    Node* n = w.pick();
    const uint32_t r = uint32_t(w.rng.below(2));
    const bool of_root = !n || w.rng.below(2);
    Node* at = of_root ? &w.model.roots[r] : n;
    std::vector<uint64_t> got, want;
    const size_t at_once = 1 + size_t(w.rng.below(20));
    uint64_t after = 0;
    for (;;) {
        PrefixBlock out[20];
        uint64_t n_out = 0;
        const larder_status s = w.index->children(&w.root[r], of_root ? 0 : n->entry, after, {out, at_once}, n_out);
        for (uint64_t i = 0; i < n_out; ++i) got.push_back(out[i].entry);
        if (s != LARDER_PARTIAL) {
            assert_true(s == LARDER_OK || (s == LARDER_MISS && !n_out));
            break;
        }
        after = out[n_out - 1].entry;
    }
    for (auto& [t, c] : at->children) want.push_back(c->entry);
    std::sort(got.begin(), got.end());
    std::sort(want.begin(), want.end());
    assert_true(got == want);
    if (of_root || !n) return;
    larder_key key;
    uint64_t parent = 0, n_tokens = 0;
    int32_t tokens[bt];
    assert_int_equal(w.index->describe(n->entry, &key, &parent, tokens, &n_tokens), LARDER_OK);
    assert_int_equal(n_tokens, n->tokens.size());
    assert_memory_equal(tokens, n->tokens.data(), n_tokens * 4);
    assert_int_equal(parent, n->depth ? n->parent->entry : 0);
    PrefixBlock b;
    assert_int_equal(w.index->lookup(key, b), LARDER_OK);
    check_block(b, *n);
}

void against_model(void**) {
    World w;
    const uint64_t seed = test_seed();
    w.rng = Rng(seed);
    larder_context_options o = LARDER_CONTEXT_OPTIONS_INIT;
    o.set_mask = LARDER_CONTEXT_SET_N_WORKERS;
    assert_int_equal(larder_context::create(&o, posix_os(), &w.context), LARDER_OK);
    larder_prefix_options po = LARDER_PREFIX_OPTIONS_INIT;
    po.block_tokens = bt;
    assert_int_equal(PrefixIndex::create(*w.context, &po, w.index), LARDER_OK);
    for (int r = 0; r < 2; ++r) {
        larder_prefix_scope s = LARDER_PREFIX_SCOPE_INIT;
        const uint8_t salt = uint8_t(r);
        s.salt = {&salt, 1};
        assert_int_equal(prefix_root(s, w.root[r]), LARDER_OK);
    }
    const size_t n_ops = test_rounds(1'000'000);
    for (size_t i = 0; i < n_ops; ++i) {
        static constexpr void (*ops[])(World&) = {
            do_publish,     do_publish,     do_publish,     do_match,  do_match, do_match, do_match,   do_unpin,
            do_add_or_drop, do_add_or_drop, do_add_or_drop, do_remove, do_evict, do_evict, do_children};
        ops[w.rng.below(std::size(ops))](w);
        if (i % 10'000) continue;
        if (w.index->verify() < 0) print_error("after %zu operations: %s\n", i, last_error().message);
        assert_int_equal(w.index->verify(), LARDER_OK);
    }
    do_unpin(w);
    assert_int_equal(w.index->verify(), LARDER_OK);
    w.index.reset();
    assert_int_equal(larder_context_destroy(w.context), LARDER_OK);
}

}  // namespace

int main() {
    const CMUnitTest tests[] = {cmocka_unit_test(against_model)};
    return cmocka_run_group_tests_name("prefix_index", tests, nullptr, nullptr);
}
