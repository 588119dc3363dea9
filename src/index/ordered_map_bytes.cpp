// The index with keys of any length.
#include "index/ordered_map.h"
#include "index/snapshot.h"

namespace larder {
namespace {

using bskip::any_length;
using bskip::Value;
using ByteKey = bskip::Key<any_length>;
using HeldBytes = bskip::HeldKey<any_length>;
using ByteSink = bskip::KeySink<any_length>;

larder_index_key element(const void* keys, uint64_t i) noexcept {
    larder_index_key k;
    std::memcpy(&k, static_cast<const std::byte*>(keys) + i * sizeof k, sizeof k);
    return k;
}

larder_status check_keys(const void* keys, uint64_t n) noexcept {
    for (uint64_t i = 0; i < n; ++i) LARDER_TRY(check_index_key(element(keys, i), i));
    return LARDER_OK;
}

// The keys of one call, as the list wants them.
template <size_t N> struct Group {
    HeldBytes held[N];
    ByteKey view[N];
    void read(const void* keys, uint64_t at, size_t m) noexcept {
        for (size_t i = 0; i < m; ++i) {
            const larder_index_key k = element(keys, at + i);
            held[i].hold_bytes(k.data, uint32_t(k.n_bytes));
            view[i] = held[i].key();
        }
    }
};

template <uint32_t VW> class BytesMap final : public OrderedMap {
  public:
    BytesMap(larder_context& c, const larder_index_options& o)
        : OrderedMap(c, o), slabs_(c, o.max_bytes), list_(c, slabs_) {}
    larder_status init() noexcept { return list_.init(); }

    larder_status get(const void* key, void* out_value) const noexcept override {
        LARDER_TRY(check_keys(key, 1));
        Group<1> g;
        g.read(key, 0, 1);
        ValueType v;
        if (!list_.get(g.view[0], v)) return LARDER_MISS;
        write_value(v, out_value, 0);
        return LARDER_OK;
    }
    larder_status put(const void* key, const void* value) noexcept override {
        LARDER_TRY(check_keys(key, 1));
        Group<1> g;
        g.read(key, 0, 1);
        return list_.put(g.view[0], read_value(value, 0));
    }
    larder_status insert(const void* key, const void* value, void* out_present) noexcept override {
        LARDER_TRY(check_keys(key, 1));
        Group<1> g;
        g.read(key, 0, 1);
        ValueType present;
        const larder_status s = list_.insert(g.view[0], read_value(value, 0), &present);
        if (s != LARDER_E_EXISTS) return s;
        write_value(present, out_present, 0);
        return fail(s, "key", "the key is there already");
    }
    larder_status swap(const void* key, void* expected, const void* value) noexcept override {
        LARDER_TRY(check_keys(key, 1));
        Group<1> g;
        g.read(key, 0, 1);
        ValueType e = read_value(expected, 0);
        const larder_status s = list_.swap(g.view[0], e, read_value(value, 0));
        if (s != LARDER_E_STATE) return s;
        write_value(e, expected, 0);
        return fail(s, "expected", "the key has another value");
    }
    larder_status remove(const void* key, void* out_value) noexcept override {
        LARDER_TRY(check_keys(key, 1));
        Group<1> g;
        g.read(key, 0, 1);
        ValueType v;
        if (!list_.remove(g.view[0], &v)) return LARDER_MISS;
        write_value(v, out_value, 0);
        return LARDER_OK;
    }

    larder_status get_many(const void* keys, uint64_t n, void* out_values, larder_status* out_status,
                           uint64_t& out_n_found) const noexcept override {
        LARDER_TRY(check_keys(keys, n));
        Group<width> g;
        ValueType v[width];
        bool found[width];
        for (uint64_t at = 0; at < n; at += width) {
            const size_t m = size_t(std::min<uint64_t>(width, n - at));
            g.read(keys, at, m);
            out_n_found += list_.get_many(g.view, m, v, found);
            for (size_t i = 0; i < m; ++i) {
                write_value(v[i], out_values, at + i);
                if (out_status) out_status[at + i] = found[i] ? LARDER_OK : LARDER_MISS;
            }
        }
        return LARDER_OK;
    }
    larder_status put_many(const void* keys, const void* values, uint64_t n,
                           larder_status* out_status) noexcept override {
        larder_status worst = LARDER_OK;
        LARDER_TRY(for_each_warm(keys, n, [&](const ByteKey& k, uint64_t i) {
            const larder_status s = list_.put(k, read_value(values, i));
            if (out_status) out_status[i] = s;
            if (s < 0) worst = LARDER_PARTIAL;
        }));
        return worst;
    }
    larder_status remove_many(const void* keys, uint64_t n, larder_status* out_status,
                              uint64_t& out_n_removed) noexcept override {
        return for_each_warm(keys, n, [&](const ByteKey& k, uint64_t i) {
            const bool removed = list_.remove(k, nullptr);
            if (out_status) out_status[i] = removed ? LARDER_OK : LARDER_MISS;
            out_n_removed += removed;
        });
    }

    larder_status scan(larder_index_from, const void*, void*, void*, uint64_t, uint64_t&) const noexcept override {
        return fail(LARDER_E_INVALID, "index", "larder_index_scan_keys serves keys of any length");
    }
    larder_status scan_keys(larder_index_from from, const void* key, MutByteSpan buffer, larder_index_key* out_keys,
                            void* out_values, uint64_t n, uint64_t& out_n) const noexcept override {
        if (key) LARDER_TRY(check_keys(key, 1));
        Group<1> g;
        if (key) g.read(key, 0, 1);
        const ByteKey* start = key ? &g.view[0] : nullptr;
        bool strict = is_strict(from);
        uint32_t ends[scan_group];
        ValueType values[scan_group];
        for (size_t used = 0; out_n < n;) {
            const size_t want = size_t(std::min<uint64_t>(scan_group, n - out_n));
            // Offsets are of 32 bits.
            const size_t room = std::min<size_t>(buffer.size() - used, UINT32_MAX / 2);
            bool full = false;
            ByteSink sink(buffer.data() + used, room, ends, full);
            const size_t m = ascends(from) ? list_.scan_up(start, strict, want, sink, values)
                                           : list_.scan_down(start, strict, want, sink, values);
            for (size_t i = 0; i < m; ++i) {
                out_keys[out_n + i] = {sink.begin_of(i), sink.length_of(i)};
                write_value(values[i], out_values, out_n + i);
            }
            out_n += m;
            if (m) used += ends[m - 1];
            if (m < want) return full ? LARDER_PARTIAL : LARDER_OK;
            g.read(&out_keys[out_n - 1], 0, 1);
            start = &g.view[0];
            strict = true;
        }
        return LARDER_OK;
    }
    larder_status share_below(const void* key, double& out) const noexcept override {
        LARDER_TRY(check_keys(key, 1));
        Group<1> g;
        g.read(key, 0, 1);
        out = list_.share_below(g.view[0]);
        return LARDER_OK;
    }

    larder_status build(const void* keys, const void* values, uint64_t n) noexcept override {
        LARDER_TRY(check_keys(keys, n));
        typename List::Builder b(list_);
        for (uint64_t i = 0; i < n; ++i) {
            Group<1> g;
            g.read(keys, i, 1);
            const larder_status s = b.append(g.view[0], read_value(values, i));
            if (s < 0) return list_.clear(), s;
        }
        return LARDER_OK;
    }
    larder_status load_pairs(const larder_index_source& source) override {
        typename List::Builder b(list_);
        ChunkReader reader(source, 0, context_.alloc);
        for (;;) {
            uint32_t n;
            LARDER_TRY(reader.next(n));
            if (!n) return LARDER_OK;
            const snapshot::AnyChunk chunk(reader.payload(), n, value_bytes);
            if (!chunk.sound()) return fail(LARDER_E_CORRUPT, "source", "a key of the snapshot lies out of bounds");
            for (uint32_t i = 0; i < n; ++i) {
                const larder_index_key key = chunk.key(i);
                Group<1> g;
                g.read(&key, 0, 1);
                LARDER_TRY(not_ascending_is_corrupt(b.append(g.view[0], read_value(chunk.value(i), 0))));
            }
        }
    }
    larder_status save_pairs(const larder_index_sink& sink) const override {
        constexpr size_t beside = value_bytes + snapshot::end_bytes;
        constexpr size_t most = snapshot::any_payload_bytes / (beside + 1);
        ChunkWriter writer(sink, snapshot::any_payload_bytes, context_.alloc);
        Vec<std::byte> bytes(snapshot::any_payload_bytes, std::byte{}, context_.alloc);
        Vec<uint32_t> ends(most, 0, context_.alloc);
        Vec<ValueType> values(most, ValueType{}, context_.alloc);
        HeldBytes last;
        for (bool first = true;; first = false) {
            bool full = false;
            ByteSink keys(bytes.data(), bytes.size(), ends.data(), full, beside);
            const size_t n = list_.scan_up(first ? nullptr : &last.key(), true, most, keys, values.data());
            if (!n) return writer.write(0, 0);
            last.hold_bytes(keys.begin_of(n - 1), keys.length_of(n - 1));
            std::byte* out = writer.payload();
            std::memcpy(out, values.data(), n * value_bytes);
            std::memcpy(out + n * value_bytes, ends.data(), n * snapshot::end_bytes);
            std::memcpy(out + n * beside, bytes.data(), ends[n - 1]);
            const size_t n_used = n * beside + ends[n - 1];
            std::memset(out + n_used, 0, snapshot::any_payload_bytes - n_used);
            LARDER_TRY(writer.write(uint32_t(n), snapshot::any_payload_bytes));
        }
    }

    uint64_t count() const noexcept override { return list_.count(); }
    bskip::Totals totals() const noexcept override { return list_.totals(); }
    uint64_t memory_bytes() const noexcept override { return slabs_.held_bytes(); }
    uint64_t record_bytes() const noexcept override { return list_.record_bytes(); }
    larder_status clear() noexcept override {
        const larder_status s = list_.clear();
        slabs_.trim(0);
        return s;
    }
    larder_status verify() const override { return list_.verify(context_.alloc); }

  private:
    using List = bskip::Skiplist<any_length, VW>;
    using ValueType = Value<VW>;
    static constexpr uint32_t value_bytes = 8 * VW;
    static constexpr size_t width = 16;  // a kilobyte of stack each
    static constexpr size_t scan_group = 128;

    static ValueType read_value(const void* values, uint64_t i) noexcept {
        ValueType v;
        std::memcpy(v.w.data(), static_cast<const std::byte*>(values) + i * value_bytes, value_bytes);
        return v;
    }
    static void write_value(const ValueType& v, void* values, uint64_t i) noexcept {
        if (values) std::memcpy(static_cast<std::byte*>(values) + i * value_bytes, v.w.data(), value_bytes);
    }

    template <class F> larder_status for_each_warm(const void* keys, uint64_t n, F f) noexcept {
        LARDER_TRY(check_keys(keys, n));
        Group<width> g;
        for (uint64_t at = 0; at < n; at += width) {
            const size_t m = size_t(std::min<uint64_t>(width, n - at));
            g.read(keys, at, m);
            if (m > 1) list_.warm(g.view, m);
            for (size_t i = 0; i < m; ++i) f(g.view[i], at + i);
        }
        return LARDER_OK;
    }

    SlabPool slabs_;
    List list_;
};

template <uint32_t VW> larder_status make(larder_context& c, const larder_index_options& o, Owned<OrderedMap>& out) {
    Owned<BytesMap<VW>> map = make_owned<BytesMap<VW>>(c.alloc, c, o);
    LARDER_TRY(map->init());
    out = std::move(map);
    return LARDER_OK;
}

}  // namespace

larder_status create_bytes_map(larder_context& c, const larder_index_options& o, Owned<OrderedMap>& out) {
    switch (o.value_bytes) {
    case 8:
        return make<1>(c, o, out);
    case 16:
        return make<2>(c, o, out);
    case 32:
        return make<4>(c, o, out);
    default:
        return fail(LARDER_E_INVALID, "value_bytes", "value_bytes is %u; it must be 8, 16 or 32", o.value_bytes);
    }
}

}  // namespace larder
