// Conservation: nothing lost, nothing held twice.
#include "memory/arena.h"

using namespace larder;

namespace {

// Counts what the tables of living sequences name.
struct Census {
    const BlockTables& tables;
    Vec<uint32_t> nodes;   // parents and roots that name a node
    Vec<uint32_t> blocks;  // leaves of the group at hand that name a block

    larder_status visit(uint32_t node, uint32_t height) {
        if (node >= nodes.size())
            return fail(LARDER_E_INTERNAL, "tables", "a table names node %u, which does not exist", node);
        if (nodes[node]++) return LARDER_OK;
        for (uint32_t e : tables.node_entries(node)) {
            if (height > 1)
                LARDER_TRY(visit(e, height - 1));
            else if (e >= blocks.size())
                return fail(LARDER_E_INTERNAL, "tables", "a table names block %u, which does not exist", e);
            else if (e != BlockPool::null_block)
                ++blocks[e];
        }
        return LARDER_OK;
    }
};

larder_status check_blocks(const BlockPool& pool, uint32_t group, const Vec<uint32_t>& named, const Allocator& a) {
    Vec<uint8_t> is_free(pool.n_blocks(), 0, a);
    uint64_t n_free = 0, n_used = 0;
    bool twice = false;
    pool.for_each_free([&](uint32_t b) {
        twice |= is_free[b] || b == BlockPool::null_block;
        is_free[b] = 1;
        ++n_free;
    });
    if (twice) return fail(LARDER_E_INTERNAL, "free_list", "a block of group %u is free twice", group);
    for (uint32_t b = 1; b < pool.n_blocks(); ++b) {
        const uint32_t refs = pool.refs(b);
        n_used += refs != 0;
        if (refs && is_free[b])
            return fail(LARDER_E_INTERNAL, "free_list", "block %u of group %u is free and has %u references", b, group,
                        refs);
        if (refs < named[b])
            return fail(LARDER_E_INTERNAL, "refs", "block %u of group %u has %u references; tables name it %u times", b,
                        group, refs, named[b]);
    }
    if (n_free + n_used + pool.n_retired() + pool.n_absent() + 1 != pool.n_blocks() || n_free != pool.n_free())
        return fail(LARDER_E_INTERNAL, "n_blocks",
                    "group %u has %u blocks; %llu free, %llu used and %llu retired do not add up", group,
                    pool.n_blocks(), (unsigned long long)n_free, (unsigned long long)n_used,
                    (unsigned long long)pool.n_retired());
    return LARDER_OK;
}

larder_status check_nodes(const BlockTables& tables, const Vec<uint32_t>& named, const Allocator& a) {
    Vec<uint8_t> is_free(named.size(), 0, a);
    uint64_t n_free = 0;
    tables.slots().for_each_free([&](uint32_t n) { is_free[n] = 1, ++n_free; });
    for (uint32_t n = 0; n < named.size(); ++n) {
        if (is_free[n] && named[n]) return fail(LARDER_E_INTERNAL, "tables", "table node %u is free and in use", n);
        if (!is_free[n] && !named[n]) return fail(LARDER_E_INTERNAL, "tables", "table node %u is lost", n);
        if (!is_free[n] && tables.node_refs(n) != named[n])
            return fail(LARDER_E_INTERNAL, "tables", "table node %u counts %u references; %u were found", n,
                        tables.node_refs(n), named[n]);
    }
    return n_free == tables.slots().n_free() ? LARDER_OK
                                             : fail(LARDER_E_INTERNAL, "tables", "the free table nodes do not add up");
}

}  // namespace

larder_status larder_arena::verify() {
    uint64_t n_live = 0;
    for (auto& s : seqs_) n_live += s.live.load(acquire);
    if (n_live + free_seqs_.size() != seqs_.size())
        return fail(LARDER_E_INTERNAL, "max_seqs", "%llu sequences live and %zu are free", (unsigned long long)n_live,
                    free_seqs_.size());
    if (contig_) return contig_->verify();
    const Allocator& a = context->alloc;
    Census census{*tables_, Vec<uint32_t>(tables_->slots().capacity(), 0, a), Vec<uint32_t>(a)};
    for (uint32_t g = 0; g < n_groups(); ++g) {
        const BlockPool& pool = groups_[g]->pool;
        census.blocks.assign(pool.n_blocks(), 0);
        for (uint32_t i = 0; i < seqs_.size(); ++i)
            if (const TableRoot& t = root(i, g); t.height) LARDER_TRY(census.visit(t.node, t.height));
        LARDER_TRY(check_blocks(pool, g, census.blocks, a));
        if (storage_->host_visible() && !storage_->is_zero(g, 0))
            return fail(LARDER_E_INTERNAL, "null_block", "the null block of group %u was written to", g);
    }
    return check_nodes(*tables_, census.nodes, a);
}
