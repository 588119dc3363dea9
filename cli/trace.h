// A prefix trace in the Mooncake format: one JSON object per line with timestamp and hash_ids; or the traffic that a
// store recorded.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cli {

struct Trace {
    std::vector<uint64_t> blocks;  // of all requests, in order of time
    std::vector<uint64_t> ends;    // of each request, into blocks
    uint64_t n_unique = 0;
};

// Fills `error` with file, line and reason and returns false when the file is not a trace.
bool load_trace(const std::string& path, Trace& trace, std::string& error);

// Whether the file is recorded traffic of a store (docs/formats/record.md).
bool is_record(const std::string& path);

}  // namespace cli
