// A directory of its own for one test, removed with everything in it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

class TempDir {
  public:
    // Under $TMPDIR or /tmp unless told otherwise (/dev/shm: memory, where disk speed would only slow a test).
    explicit TempDir(const char* base = nullptr) {
        const char* env = std::getenv("TMPDIR");
        path_ = std::string(base ? base : env && *env ? env : "/tmp") + "/larder-test-XXXXXX";
        if (!::mkdtemp(path_.data())) std::abort();
    }
    ~TempDir() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;

    const std::string& path() const { return path_; }
    std::string path(const std::string& name) const { return path_ + "/" + name; }

  private:
    std::string path_;
};
