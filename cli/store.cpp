// `larder inspect DIRECTORY` and `larder fsck DIRECTORY`: the records of a store that is not open, and whether they
// hold.
#include <iostream>

#include "cli.h"
#include "larder/store.h"

namespace cli {
namespace {

struct Listing {
    const Options* options;
    bool list;  // show sound records too
    nlohmann::json records = nlohmann::json::array();
};

int32_t on_record(void* ctx, const larder_store_record* r) {
    auto& l = *static_cast<Listing*>(ctx);
    if (r->status == LARDER_OK && !l.list) return 0;
    if (l.options->json) {
        l.records.push_back({{"key", hex(r->key.bytes, 32)},
                             {"status", larder_status_name(r->status)},
                             {"segment", r->segment},
                             {"offset", r->offset},
                             {"n_bytes", r->n_bytes},
                             {"superseded", r->superseded != 0}});
    } else {
        std::cout << hex(r->key.bytes, 16) << "..  segment " << r->segment << " +" << r->offset << "  "
                  << human_bytes(r->n_bytes) << (r->superseded ? "  superseded" : "")
                  << (r->status == LARDER_OK ? "" : std::string("  ") + larder_status_name(r->status)) << "\n";
    }
    return 0;
}

nlohmann::json to_json(const larder_store_report& r) {
    return {{"format_version", r.format_version},
            {"n_segments", r.n_segments},
            {"n_sealed", r.n_sealed},
            {"n_records", r.n_records},
            {"n_bytes", r.n_bytes},
            {"n_corrupt", r.n_corrupt},
            {"n_torn", r.n_torn},
            {"n_bad_superblocks", r.n_bad_superblocks},
            {"n_repaired", r.n_repaired},
            {"n_removals", r.n_removals}};
}

void print(const larder_store_report& r, bool sound) {
    std::cout << "format version " << r.format_version << "\n"
              << r.n_segments << " segments, " << r.n_sealed << " sealed; " << r.n_records << " sound records, "
              << human_bytes(r.n_bytes) << "\n"
              << r.n_corrupt << " corrupt records, " << r.n_torn << " torn tails, " << r.n_bad_superblocks
              << " damaged superblock copies, " << r.n_repaired << " repaired\n"
              << (sound ? "The store is sound.\n" : "Damage was found.\n");
}

int check(const Options& o, const std::string& directory, uint32_t flags, bool list) {
    auto context = make_context();
    if (!context) return report(o, LARDER_E_SYSTEM, "no context");
    Listing listing{&o, list};
    larder_store_report r = LARDER_STORE_REPORT_INIT;
    const larder_status s = larder_store_check(context.get(), directory.c_str(), flags, on_record, &listing, &r);
    if (s < 0) return report(o, s, directory);
    const bool sound = s == LARDER_OK;
    if (o.json) {
        auto j = to_json(r);
        j["sound"] = sound;
        j["records"] = std::move(listing.records);
        std::cout << to_text(j) << "\n";
    } else {
        print(r, sound);
    }
    return sound ? exit_ok : exit_found;
}

}  // namespace

int inspect_store(const Options& o, const std::string& directory) {
    return check(o, directory, 0, true);
}

void add_fsck(CLI::App& app, Options& o, int& code) {
    auto* sub = app.add_subcommand("fsck", "verify every record of a store directory; the store must not be open");
    auto directory = std::make_shared<std::string>();
    auto repair = std::make_shared<bool>(false);
    sub->add_option("directory", *directory)->required();
    sub->add_flag("--repair", *repair, "cut torn tails, drop corrupt records, renew damaged superblocks");
    sub->callback(
        [&o, &code, directory, repair] { code = check(o, *directory, *repair ? LARDER_CHECK_REPAIR : 0, false); });
}

}  // namespace cli
