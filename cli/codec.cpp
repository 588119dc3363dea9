// `larder codec list`: the presets, what they cost and what they need.
#include <iomanip>
#include <iostream>

#include "cli.h"
#include "larder/codec.h"

namespace cli {
namespace {

std::string needs(uint32_t flags) {
    std::string s;
    if (flags & LARDER_CODEC_NEEDS_PROFILE) s += "needs a profile; ";
    if (flags & LARDER_CODEC_USES_PROFILE) s += "uses a profile; ";
    if (flags & LARDER_CODEC_NEEDS_SALIENCY) s += "needs the tokens' saliency; ";
    if (flags & LARDER_CODEC_TAKES_INPUT) s += "layer inputs in the place of K and V; ";
    if (flags & LARDER_CODEC_FLOAT_ONLY) s += "float data; ";
    return s.empty() ? "" : s.substr(0, s.size() - 2);
}

int list(const Options& o) {
    nlohmann::json rows = nlohmann::json::array();
    larder_codec_info c = LARDER_CODEC_INFO_INIT;
    if (!o.json)
        std::cout << std::left << std::setw(16) << "preset" << std::setw(11) << "bits/value" << std::setw(13)
                  << "quality"
                  << "description\n";
    for (uint32_t i = 0; larder_codec_list(i, &c) == LARDER_OK; ++i) {
        const char* quality = c.quality == LARDER_QUALITY_EXACT ? "exact" : "approximate";
        rows.push_back({{"name", c.name},
                        {"bits_per_value", c.bits_per_value},
                        {"quality", quality},
                        {"chain", c.chain},
                        {"needs", needs(c.needs)},
                        {"description", c.description}});
        if (!o.json)
            std::cout << std::left << std::setw(16) << c.name << std::setw(11) << c.bits_per_value << std::setw(13)
                      << quality << c.description << (c.needs ? " (" + needs(c.needs) + ")" : "") << "\n";
    }
    if (o.json) std::cout << to_text(rows) << "\n";
    return exit_ok;
}

}  // namespace

void add_codec(CLI::App& app, Options& o, int& code) {
    auto* sub = app.add_subcommand("codec", "codecs");
    sub->require_subcommand(1);
    sub->add_subcommand("list", "the presets with bits per value and what each needs")->callback([&] {
        code = list(o);
    });
}

}  // namespace cli
