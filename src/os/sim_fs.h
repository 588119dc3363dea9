// A file system in memory that remembers what is not durable yet, so that a test can cut the power.
//
// Each file and directory has two states: what the process sees, and what is on the disk. A write, a change of size, a
// create, an unlink or a rename changes the first and is noted as pending; sync and sync_dir carry pending operations
// over, exactly those that POSIX promises. A power cut applies any chosen part of the pending operations, torn at
// 512-byte sectors if wished, and forgets the rest.
//
// A plain value: a copy is a snapshot (contents are shared until written). Not synchronised.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/result.h"
#include "os/os.h"

namespace larder {

// What becomes of each pending operation when the power goes. Operations beyond the end of `fates` are lost.
struct PowerCut {
    enum class Fate : uint8_t { lost, kept, torn };
    Vec<Fate> fates;
    uint64_t seed = 0;  // chooses the sectors of torn writes

    static PowerCut all_lost() { return {}; }
    static PowerCut all_kept(size_t n) { return {Vec<Fate>(n, Fate::kept), 0}; }
};

class SimFs {
  public:
    using Node = uint32_t;
    static constexpr size_t sector_bytes = 512;
    static constexpr size_t page_bytes = 16384;

    enum class Op : uint8_t { write, resize, link, unlink, rename };
    struct Pending {
        Op op;
        Node node;        // the file written or resized, or the one linked or renamed
        Node dir = 0;     // of link, unlink and the source of rename
        Node to_dir = 0;  // of the target of rename
        std::string name, to_name;
        uint64_t offset = 0;  // of write; the new size of resize
        Vec<std::byte> data;  // of write
    };

    SimFs();

    Result<Node> lookup(const char* path) const;
    // Makes the file when it is not there (`exclusive`: E_EXISTS when it is).
    Result<Node> create(const char* path, bool exclusive);
    larder_status make_dir(const char* path);
    larder_status unlink(const char* path);
    larder_status rename(const char* from, const char* to);
    Result<Vec<DirEntry>> list(const Allocator& a, const char* path) const;
    bool is_dir(Node n) const { return nodes_[n].is_dir; }

    uint64_t size(Node n) const { return nodes_[n].now.size; }
    // Up to n_bytes; fewer at the end of the file.
    size_t read(Node n, void* out, size_t n_bytes, uint64_t offset) const;
    larder_status write(Node n, const void* data, size_t n_bytes, uint64_t offset);
    larder_status resize(Node n, uint64_t n_bytes);
    larder_status allocate(Node n, uint64_t offset, uint64_t n_bytes);
    void sync(Node n);
    larder_status sync_dir(const char* path);

    // An open handle keeps an unlinked file.
    void pin(Node n) { ++nodes_[n].pins; }
    void unpin(Node n);

    void set_capacity(uint64_t n_bytes) { capacity_pages_ = n_bytes / page_bytes; }
    uint64_t free_bytes() const {
        return used_pages_ < capacity_pages_ ? (capacity_pages_ - used_pages_) * page_bytes : 0;
    }
    // Nothing under the path can be changed any more, E_READ_ONLY.
    void set_read_only(const char* path, bool on);
    bool is_read_only(const char* path) const;

    const Vec<Pending>& pending() const { return pending_; }
    // One line for messages: what a pending operation is.
    std::string describe(size_t pending_index) const;
    void power_cut(const PowerCut& cut);
    // Change durable and visible contents behind everybody's back, as a failing medium does.
    void flip_bits(Node n, uint64_t offset, std::byte mask);

  private:
    using Page = std::array<std::byte, page_bytes>;
    struct Content {
        uint64_t size = 0;
        TreeMap<uint64_t, std::shared_ptr<Page>> pages;  // absent: zeros
    };
    using Entries = TreeMap<std::string, Node>;
    struct Inode {
        bool is_dir = false;
        uint32_t links = 0;
        uint32_t pins = 0;
        Content now, durable;
        Entries entries, durable_entries;
    };
    struct Place {
        Node dir;
        std::string name;
    };

    Result<Place> parent_of(const char* path) const;
    larder_status check_writable(const char* path) const;
    Node add_node(bool is_dir);
    void drop_link(Node n);
    void forget_if_unused(Node n);
    larder_status charge(const Content& c, uint64_t offset, uint64_t n_bytes);
    static void put(Content& c, const std::byte* data, size_t n_bytes, uint64_t offset);
    static size_t cut_to(Content& c, uint64_t n_bytes);
    void apply(const Pending& p, bool torn, Rng& rng);
    void recount();

    Vec<Inode> nodes_;
    Vec<Pending> pending_;
    Vec<std::string> read_only_;
    uint64_t capacity_pages_ = UINT64_MAX / page_bytes;
    uint64_t used_pages_ = 0;
};

// The power cuts worth trying for a file system as it stands: every subset of the pending operations while these are
// few; otherwise every prefix, every prefix with a torn last operation, every single loss, and random subsets with torn
// writes until the budget is used up.
class PowerCuts {
  public:
    PowerCuts(const SimFs& fs, uint64_t budget, uint64_t seed);
    bool next(PowerCut& out);

  private:
    size_t n_;
    uint64_t budget_, at_ = 0;
    bool every_subset_;
    Rng rng_;
};

}  // namespace larder
