#include "index/ordered_map.h"

#include "base/bytes.h"
#include "base/options.h"
#include "index/snapshot.h"

namespace larder {
namespace {

using bskip::Key;
using bskip::Value;

template <uint32_t KW, uint32_t VW> class MapOf final : public OrderedMap {
  public:
    MapOf(larder_context& c, const larder_index_options& o)
        : OrderedMap(c, o), slabs_(c, o.max_bytes), list_(c, slabs_) {}
    larder_status init() noexcept { return list_.init(); }

    larder_status get(const void* key, void* out_value) const noexcept override {
        ValueType v;
        if (!list_.get(read_key(key), v)) return LARDER_MISS;
        write_value(v, out_value);
        return LARDER_OK;
    }
    larder_status put(const void* key, const void* value) noexcept override {
        return list_.put(read_key(key), read_value(value));
    }
    larder_status insert(const void* key, const void* value, void* out_present) noexcept override {
        ValueType present;
        const larder_status s = list_.insert(read_key(key), read_value(value), &present);
        if (s != LARDER_E_EXISTS) return s;
        write_value(present, out_present);
        return fail(s, "key", "the key is there already");
    }
    larder_status swap(const void* key, void* expected, const void* value) noexcept override {
        ValueType e = read_value(expected);
        const larder_status s = list_.swap(read_key(key), e, read_value(value));
        if (s != LARDER_E_STATE) return s;
        write_value(e, expected);
        return fail(s, "expected", "the key has another value");
    }
    larder_status remove(const void* key, void* out_value) noexcept override {
        ValueType v;
        if (!list_.remove(read_key(key), &v)) return LARDER_MISS;
        write_value(v, out_value);
        return LARDER_OK;
    }

    larder_status get_many(const void* keys, uint64_t n, void* out_values, larder_status* out_status,
                           uint64_t& out_n_found) const noexcept override {
        KeyType k[group];
        ValueType v[group];
        bool found[group];
        for (uint64_t at = 0; at < n; at += group) {
            const size_t m = size_t(std::min<uint64_t>(group, n - at));
            for (size_t i = 0; i < m; ++i) k[i] = read_key(element(keys, at + i, key_bytes));
            out_n_found += list_.get_many(k, m, v, found);
            for (size_t i = 0; i < m; ++i) {
                if (out_values) write_value(v[i], element(out_values, at + i, value_bytes));
                if (out_status) out_status[at + i] = found[i] ? LARDER_OK : LARDER_MISS;
            }
        }
        return LARDER_OK;
    }
    // Changes are made one by one, in order, after the leaves of a whole group have been brought near.
    larder_status put_many(const void* keys, const void* values, uint64_t n,
                           larder_status* out_status) noexcept override {
        larder_status worst = LARDER_OK;
        for_each_warm(keys, n, [&](const KeyType& k, uint64_t i) {
            const larder_status s = list_.put(k, read_value(element(values, i, value_bytes)));
            if (out_status) out_status[i] = s;
            if (s < 0) worst = LARDER_PARTIAL;
        });
        return worst;
    }
    larder_status remove_many(const void* keys, uint64_t n, larder_status* out_status,
                              uint64_t& out_n_removed) noexcept override {
        for_each_warm(keys, n, [&](const KeyType& k, uint64_t i) {
            const bool removed = list_.remove(k, nullptr);
            if (out_status) out_status[i] = removed ? LARDER_OK : LARDER_MISS;
            out_n_removed += removed;
        });
        return LARDER_OK;
    }

    larder_status scan(larder_index_from from, const void* key, void* out_keys, void* out_values, uint64_t n,
                       uint64_t& out_n) const noexcept override {
        const bool up = ascends(from);
        bool strict = is_strict(from);
        KeyType k[scan_group], last;
        ValueType v[scan_group];
        if (key) last = read_key(key);
        const KeyType* start = key ? &last : nullptr;
        uint64_t done = 0;
        while (done < n) {
            const size_t want = size_t(std::min<uint64_t>(scan_group, n - done));
            const size_t m = up ? list_.scan_up(start, strict, want, k, v) : list_.scan_down(start, strict, want, k, v);
            for (size_t i = 0; out_keys && i < m; ++i) write_key(k[i], element(out_keys, done + i, key_bytes));
            if (out_values) std::memcpy(element(out_values, done, value_bytes), v, m * value_bytes);
            done += m;
            if (m < want) break;
            last = k[m - 1];
            start = &last;
            strict = true;
        }
        out_n = done;
        return LARDER_OK;
    }
    larder_status scan_keys(larder_index_from, const void*, MutByteSpan, larder_index_key*, void*, uint64_t,
                            uint64_t&) const noexcept override {
        return fail(LARDER_E_INVALID, "index", "larder_index_scan serves keys of a fixed size");
    }
    larder_status share_below(const void* key, double& out) const noexcept override {
        out = list_.share_below(read_key(key));
        return LARDER_OK;
    }

    larder_status build(const void* keys, const void* values, uint64_t n) noexcept override {
        typename List::Builder b(list_);
        for (uint64_t i = 0; i < n; ++i) {
            const larder_status s =
                b.append(read_key(element(keys, i, key_bytes)), read_value(element(values, i, value_bytes)));
            if (s < 0) return list_.clear(), s;
        }
        return LARDER_OK;
    }
    larder_status load_pairs(const larder_index_source& source) override {
        typename List::Builder b(list_);
        ChunkReader reader(source, key_bytes + value_bytes, context_.alloc);
        for (;;) {
            uint32_t n;
            LARDER_TRY(reader.next(n));
            if (!n) return LARDER_OK;
            const std::byte *keys = reader.payload(), *values = keys + size_t(n) * key_bytes;
            for (uint32_t i = 0; i < n; ++i)
                LARDER_TRY(not_ascending_is_corrupt(
                    b.append(read_key(keys + size_t(i) * key_bytes), read_value(values + size_t(i) * value_bytes))));
        }
    }
    larder_status save_pairs(const larder_index_sink& sink) const override {
        ChunkWriter writer(sink, snapshot::pairs_per_chunk * (key_bytes + value_bytes), context_.alloc);
        Vec<std::byte> values(size_t(snapshot::pairs_per_chunk) * value_bytes, std::byte{}, context_.alloc);
        std::byte last[key_bytes];
        std::byte* const pairs = writer.payload();
        for (bool first = true;; first = false) {
            uint64_t n = 0;
            LARDER_TRY(scan(first ? LARDER_INDEX_AT_LEAST : LARDER_INDEX_ABOVE, first ? nullptr : last, pairs,
                            values.data(), snapshot::pairs_per_chunk, n));
            if (n) {
                std::memcpy(last, pairs + (n - 1) * key_bytes, key_bytes);
                std::memcpy(pairs + n * key_bytes, values.data(), n * value_bytes);
            }
            LARDER_TRY(writer.write(uint32_t(n), n * (key_bytes + value_bytes)));
            if (!n) return LARDER_OK;
        }
    }

    uint64_t count() const noexcept override { return list_.count(); }
    bskip::Totals totals() const noexcept override { return list_.totals(); }
    uint64_t memory_bytes() const noexcept override { return slabs_.held_bytes(); }
    uint64_t record_bytes() const noexcept override { return 0; }
    larder_status clear() noexcept override {
        const larder_status s = list_.clear();
        slabs_.trim(0);
        return s;
    }
    larder_status verify() const override { return list_.verify(context_.alloc); }

  private:
    using List = bskip::Skiplist<KW, VW>;
    using KeyType = Key<KW>;
    using ValueType = Value<VW>;
    static constexpr uint32_t key_bytes = 8 * KW, value_bytes = 8 * VW;
    static constexpr size_t group = 64;
    static constexpr size_t scan_group = 256 / KW;  // each one begins with a descent

    static const std::byte* element(const void* p, uint64_t i, uint32_t bytes) noexcept {
        return static_cast<const std::byte*>(p) + i * bytes;
    }
    static std::byte* element(void* p, uint64_t i, uint32_t bytes) noexcept {
        return static_cast<std::byte*>(p) + i * bytes;
    }

    // In the list a key's words are in order of weight, each a native number.
    KeyType read_key(const void* p) const noexcept {
        KeyType k;
        std::memcpy(k.w.data(), p, key_bytes);
        return turned(k);
    }
    void write_key(const KeyType& k, void* p) const noexcept {
        const KeyType t = turned(k);
        std::memcpy(p, t.w.data(), key_bytes);
    }
    KeyType turned(KeyType k) const noexcept {
        if (options_.order == LARDER_INDEX_ORDER_INTEGER) {
            std::reverse(k.w.begin(), k.w.end());
            return k;
        }
        for (uint64_t& w : k.w) w = __builtin_bswap64(w);
        return k;
    }
    static ValueType read_value(const void* p) noexcept {
        ValueType v;
        std::memcpy(v.w.data(), p, value_bytes);
        return v;
    }
    static void write_value(const ValueType& v, void* p) noexcept {
        if (p) std::memcpy(p, v.w.data(), value_bytes);
    }

    template <class F> void for_each_warm(const void* keys, uint64_t n, F f) noexcept {
        KeyType k[List::width];
        for (uint64_t at = 0; at < n; at += List::width) {
            const size_t m = size_t(std::min<uint64_t>(List::width, n - at));
            for (size_t i = 0; i < m; ++i) k[i] = read_key(element(keys, at + i, key_bytes));
            if (m > 1) list_.warm(k, m);
            for (size_t i = 0; i < m; ++i) f(k[i], at + i);
        }
    }

    SlabPool slabs_;
    List list_;
};

template <uint32_t KW, uint32_t VW>
larder_status make(larder_context& c, const larder_index_options& o, Owned<OrderedMap>& out) {
    Owned<MapOf<KW, VW>> map = make_owned<MapOf<KW, VW>>(c.alloc, c, o);
    LARDER_TRY(map->init());
    out = std::move(map);
    return LARDER_OK;
}

template <uint32_t KW>
larder_status make_with_values(larder_context& c, const larder_index_options& o, Owned<OrderedMap>& out) {
    switch (o.value_bytes) {
    case 8:
        return make<KW, 1>(c, o, out);
    case 16:
        return make<KW, 2>(c, o, out);
    case 32:
        return make<KW, 4>(c, o, out);
    default:
        return fail(LARDER_E_INVALID, "value_bytes", "value_bytes is %u; it must be 8, 16 or 32", o.value_bytes);
    }
}

}  // namespace

larder_status OrderedMap::create(larder_context& c, const larder_index_options* user, Owned<OrderedMap>& out) {
    larder_index_options o;
    LARDER_TRY(read_options(user, o, "larder_index_options"));
    const bool any = o.key_bytes == LARDER_INDEX_ANY_LENGTH;
    if (!o.key_bytes) o.key_bytes = 8;
    if (!o.value_bytes) o.value_bytes = 8;
    if (!o.order) o.order = any ? LARDER_INDEX_ORDER_BYTES : LARDER_INDEX_ORDER_INTEGER;
    if (!o.max_bytes) o.max_bytes = uint64_t(1) << 40;
    LARDER_TRY(check_range(uint32_t(o.order), LARDER_INDEX_ORDER_BYTES, LARDER_INDEX_ORDER_INTEGER, "order"));
    LARDER_TRY(check_range(o.max_bytes, SlabPool::slab_bytes, uint64_t(1) << 42, "max_bytes"));
    switch (o.key_bytes) {
    case 8:
        return make_with_values<1>(c, o, out);
    case 16:
        return make_with_values<2>(c, o, out);
    case 32:
        return make_with_values<4>(c, o, out);
    case LARDER_INDEX_ANY_LENGTH:
        if (o.order != LARDER_INDEX_ORDER_BYTES)
            return fail(LARDER_E_INVALID, "order", "keys of any length are ordered as bytes");
        return create_bytes_map(c, o, out);
    default:
        return fail(LARDER_E_INVALID, "key_bytes", "key_bytes is %u; it must be 8, 16, 32 or LARDER_INDEX_ANY_LENGTH",
                    o.key_bytes);
    }
}

}  // namespace larder
