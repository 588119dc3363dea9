#include "support/shared_data.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>

std::optional<std::string> shared_data(const std::string& name) {
    const char* dir = std::getenv("LARDER_SHARED_DIR");
    if (dir && *dir) {
        const std::string path = std::string(dir) + "/" + name;
        std::error_code ignored;
        if (std::filesystem::exists(path, ignored)) return path;
    }
    std::printf("SKIPPED: reference data %s is not here (set LARDER_SHARED_DIR)\n", name.c_str());
    return std::nullopt;
}
