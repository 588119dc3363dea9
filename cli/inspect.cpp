// `larder inspect PATH`: a stream file or a store directory.
#include <filesystem>
#include <iostream>

#include "cli.h"

namespace cli {

int inspect_stream(const Options& o, const std::string& path);
int inspect_store(const Options& o, const std::string& directory);

void add_inspect(CLI::App& app, Options& o, int& code) {
    auto* sub = app.add_subcommand("inspect", "what a stream file or a store directory holds");
    auto path = std::make_shared<std::string>();
    sub->add_option("path", *path, "a stream file or a store directory")->required();
    sub->callback([&o, &code, path] {
        std::error_code none;
        code = std::filesystem::is_directory(*path, none) ? inspect_store(o, *path) : inspect_stream(o, *path);
    });
}

}  // namespace cli
