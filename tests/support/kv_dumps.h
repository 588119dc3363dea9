// The reference KV dumps, found through LARDER_SHARED_DIR: raw [layer][token][head][dim] with a manifest.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace kv_test {

struct Dump {
    uint32_t n_layers, n_tokens, n_heads, dim;
    std::vector<uint16_t> data;
    const uint16_t* layer(uint32_t l) const { return data.data() + size_t(l) * n_tokens * n_heads * dim; }
};

inline std::optional<std::string> shared_dir() {
    const char* dir = std::getenv("LARDER_SHARED_DIR");
    if (dir && std::ifstream(std::string(dir) + "/data/kv/MANIFEST.tsv")) return std::string(dir) + "/data/kv/";
    return std::nullopt;
}

// For example "mid3m.heldout0.k.f16".
inline std::optional<Dump> load_dump(const std::string& name) {
    const auto dir = shared_dir();
    if (!dir) return std::nullopt;
    std::ifstream manifest(*dir + "MANIFEST.tsv");
    for (std::string line; std::getline(manifest, line);) {
        std::istringstream fields(line);
        std::string file, type, dims;
        fields >> file >> type >> dims;
        Dump d;
        if (file != name || std::sscanf(dims.c_str(), "%ux%ux%ux%u", &d.n_layers, &d.n_tokens, &d.n_heads, &d.dim) != 4)
            continue;
        d.data.resize(size_t(d.n_layers) * d.n_tokens * d.n_heads * d.dim);
        std::ifstream in(*dir + name, std::ios::binary);
        in.read(reinterpret_cast<char*>(d.data.data()), std::streamsize(2 * d.data.size()));
        if (in) return d;
    }
    return std::nullopt;
}

}  // namespace kv_test
