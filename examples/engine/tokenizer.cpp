#include "tokenizer.h"

#include <charconv>
#include <cstring>
#include <unordered_map>

#include "error.h"
#include "model.h"

namespace engine {

namespace {

bool is_letter(unsigned char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}
bool is_digit(unsigned char c) {
    return c >= '0' && c <= '9';
}
bool is_space(unsigned char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_other(unsigned char c) {
    return !is_letter(c) && !is_digit(c) && !is_space(c);
}

// The length of the piece that begins `text`; merges never cross from one piece to the next. The
// first that matches of: an optional space and letters; an optional space and up to three digits;
// an optional space and other bytes; newlines; white space.
size_t piece_length(std::string_view text) {
    const size_t from = text[0] == ' ' ? 1 : 0;
    const auto run = [&](size_t begin, size_t most, bool (*in)(unsigned char)) {
        size_t n = begin;
        while (n < text.size() && n - begin < most && in(static_cast<unsigned char>(text[n]))) ++n;
        return n > begin ? n : 0;
    };
    if (size_t n = run(from, text.size(), is_letter)) return n;
    if (size_t n = run(from, 3, is_digit)) return n;
    if (size_t n = run(from, text.size(), is_other)) return n;
    if (size_t n = run(0, text.size(), [](unsigned char c) { return c == '\n'; })) return n;
    return run(0, text.size(), is_space);
}

// Ids: 0 begins a text, 1 .. 256 are the bytes, 257 .. the merges, each of two earlier ids.
class BytePairs final : public Tokenizer {
  public:
    BytePairs(std::string_view file, const std::string& name) {
        for (int i = -1; i < 256; ++i) pieces_.push_back(i < 0 ? std::string() : std::string(1, char(i)));
        const uint32_t vocab = number(file, name, "bpe1 ");
        if (vocab < 257 || vocab > (1u << 20))
            throw Error(name + ": its vocabulary of " + std::to_string(vocab) + " is not in 257 .. 1048576");
        while (pieces_.size() < vocab) {
            const uint32_t a = number(file, name, ""), b = number(file, name, " ");
            if (a == 0 || b == 0 || a >= pieces_.size() || b >= pieces_.size())
                throw Error(name + ": merge " + std::to_string(pieces_.size()) +
                            " joins tokens that do not come before it");
            merges_.emplace(key(int32_t(a), int32_t(b)), int32_t(pieces_.size()));
            pieces_.push_back(pieces_[a] + pieces_[b]);
            if (pieces_.back().size() > 4096) throw Error(name + ": a token of more than 4096 bytes");
        }
        if (file.find_first_not_of(" \r\n") != file.npos)
            throw Error(name + ": more merges than its vocabulary has room for");
    }

    std::vector<int32_t> encode(std::string_view text) const override {
        std::vector<int32_t> out, piece;
        while (!text.empty()) {
            const size_t n = piece_length(text);
            piece.clear();
            for (char c : text.substr(0, n)) piece.push_back(1 + static_cast<unsigned char>(c));
            merge(piece);
            out.insert(out.end(), piece.begin(), piece.end());
            text.remove_prefix(n);
        }
        return out;
    }

    std::string decode(std::span<const int32_t> tokens) const override {
        std::string text;
        for (int32_t t : tokens)
            if (t > 0 && size_t(t) < pieces_.size()) text += pieces_[size_t(t)];
        return text;
    }

    uint32_t vocab() const override { return uint32_t(pieces_.size()); }
    int32_t beginning() const override { return 0; }

  private:
    static uint64_t key(int32_t a, int32_t b) { return uint64_t(uint32_t(a)) << 32 | uint32_t(b); }

    // The number at the front of `file`, behind `prefix`; what separates it from the next is taken
    // too.
    static uint32_t number(std::string_view& file, const std::string& name, std::string_view prefix) {
        uint32_t value = 0;
        if (!file.starts_with(prefix))
            throw Error(name + ": not a tokenizer: '" + std::string(prefix) + "' is missing");
        file.remove_prefix(prefix.size());
        const auto [end, error] = std::from_chars(file.data(), file.data() + file.size(), value);
        if (error != std::errc()) throw Error(name + ": a number is missing or it ends early");
        file.remove_prefix(size_t(end - file.data()));
        if (file.starts_with('\r')) file.remove_prefix(1);
        if (file.starts_with('\n')) file.remove_prefix(1);
        return value;
    }

    // The earliest learnt merge first, at all its places, until none applies.
    void merge(std::vector<int32_t>& ids) const {
        while (ids.size() > 1) {
            int32_t best = INT32_MAX;
            for (size_t i = 0; i + 1 < ids.size(); ++i) {
                const auto found = merges_.find(key(ids[i], ids[i + 1]));
                if (found != merges_.end() && found->second < best) best = found->second;
            }
            if (best == INT32_MAX) return;
            size_t to = 0;
            for (size_t i = 0; i < ids.size(); ++to) {
                const auto found = i + 1 < ids.size() ? merges_.find(key(ids[i], ids[i + 1])) : merges_.end();
                const bool join = found != merges_.end() && found->second == best;
                ids[to] = join ? best : ids[i];
                i += join ? 2 : 1;
            }
            ids.resize(to);
        }
    }

    std::vector<std::string> pieces_;
    std::unordered_map<uint64_t, int32_t> merges_;
};

// llama2.c: int32 longest piece, then for each token float score, int32 length, bytes. Pieces merge
// by the best score.
class ScoredPieces final : public Tokenizer {
  public:
    ScoredPieces(std::string_view file, uint32_t n, const std::string& name) {
        file.remove_prefix(4);
        for (uint32_t i = 0; i < n; ++i) {
            float score = 0;
            int32_t length = 0;
            if (file.size() < 8)
                throw Error(name + ": not a tokenizer, or truncated: it ends before token " + std::to_string(i));
            std::memcpy(&score, file.data(), 4);
            std::memcpy(&length, file.data() + 4, 4);
            file.remove_prefix(8);
            if (length < 0 || size_t(length) > file.size())
                throw Error(name + ": not a tokenizer: token " + std::to_string(i) + " has a length of " +
                            std::to_string(length));
            pieces_.emplace_back(file.substr(0, size_t(length)));
            scores_.push_back(score);
            ids_.try_emplace(pieces_.back(), int32_t(i));
            file.remove_prefix(size_t(length));
        }
        if (!file.empty()) throw Error(name + ": not the tokenizer of a model of " + std::to_string(n) + " tokens");
    }

    std::vector<int32_t> encode(std::string_view text) const override {
        std::vector<int32_t> out;
        if (text.empty()) return out;
        std::string spaced(1, ' ');
        spaced += text;
        for (size_t at = 0; at < spaced.size();) {  // one character of UTF-8, or its bytes, which
                                                    // follow three special tokens
            size_t n = 1;
            while (at + n < spaced.size() && (spaced[at + n] & 0xc0) == 0x80) ++n;
            const auto found = ids_.find(spaced.substr(at, n));
            if (found != ids_.end())
                out.push_back(found->second);
            else
                for (size_t i = 0; i < n; ++i) out.push_back(3 + static_cast<unsigned char>(spaced[at + i]));
            at += n;
        }
        while (merge_best(out)) {
        }
        return out;
    }

    std::string decode(std::span<const int32_t> tokens) const override {
        std::string text;
        for (int32_t t : tokens)
            if (t > 2 && size_t(t) < pieces_.size()) text += pieces_[size_t(t)];
        return text;
    }

    uint32_t vocab() const override { return uint32_t(pieces_.size()); }
    int32_t beginning() const override { return 1; }

  private:
    bool merge_best(std::vector<int32_t>& ids) const {
        size_t where = 0;
        int32_t best = -1;
        for (size_t i = 0; i + 1 < ids.size(); ++i) {
            const auto found = ids_.find(pieces_[size_t(ids[i])] + pieces_[size_t(ids[i + 1])]);
            if (found == ids_.end() || (best >= 0 && scores_[size_t(found->second)] <= scores_[size_t(best)])) continue;
            best = found->second;
            where = i;
        }
        if (best < 0) return false;
        ids[where] = best;
        ids.erase(ids.begin() + ptrdiff_t(where) + 1);
        return true;
    }

    std::vector<std::string> pieces_;
    std::vector<float> scores_;
    std::unordered_map<std::string, int32_t> ids_;
};

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& path, uint32_t vocab) {
    const std::vector<std::byte> bytes = read_file(path);
    const std::string_view file(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    std::unique_ptr<Tokenizer> t;
    if (file.starts_with("bpe1 "))
        t = std::make_unique<BytePairs>(file, path);
    else if (file.size() > 4 && vocab > 259)
        t = std::make_unique<ScoredPieces>(file, vocab, path);
    else
        throw Error(path + ": not a tokenizer file");
    if (t->vocab() != vocab)
        throw Error(path + ": " + std::to_string(t->vocab()) + " tokens, but the model has " + std::to_string(vocab));
    return t;
}

}  // namespace engine
