#include "drafters/datastore_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <system_error>

#include "base/error.h"
#include "bundle/bundle_limits.h"

namespace ptgc {
namespace {

// A place of the text, and the tokens that are written there.
struct Suffix {
  std::uint64_t key;    // Some tokens, the first one in the highest bits.
  std::uint32_t place;  // In units of the stride.
};

// Sorts places that agree in their first `depth` tokens. Each step sorts by as many tokens as fit
// into a key, so that sorting itself reads no tokens.
void Sort(std::span<Suffix> suffixes, const PackedTokens& tokens, int depth) {
  const int tokens_per_key = static_cast<int>(sizeof(Suffix::key) / tokens.bytes);
  for (Suffix& suffix : suffixes) {
    suffix.key = 0;
    const std::uint64_t first =
        suffix.place * Datastore::kStride + static_cast<std::uint64_t>(depth);
    for (int i = 0; i < tokens_per_key; ++i) {
      suffix.key =
          suffix.key << (tokens.bytes * 8) | tokens.At(first + static_cast<std::uint64_t>(i));
    }
  }
  std::ranges::sort(suffixes, {}, &Suffix::key);
  depth += tokens_per_key;
  if (depth >= Datastore::kSortedTokens) return;
  for (auto first = suffixes.begin(); first != suffixes.end();) {
    const auto last = std::find_if(first, suffixes.end(),
                                   [&](const Suffix& one) { return one.key != first->key; });
    if (last - first > 1) Sort({first, last}, tokens, depth);
    first = last;
  }
}

// The suffix array: places by their first token, by counting, and then those of each token, so
// that only these take the memory of their keys.
std::vector<std::uint32_t> SortedSuffixes(const PackedTokens& tokens) {
  std::vector<std::uint32_t> sorted(Datastore::NumSuffixes(tokens.size));
  std::vector<std::uint64_t> ends(std::size_t{tokens.end} + 2);  // Of each token's places.
  for (std::uint64_t place = 0; place < tokens.size; place += Datastore::kStride) {
    ++ends[tokens.At(place) + 1];
  }
  for (std::size_t token = 1; token < ends.size(); ++token) ends[token] += ends[token - 1];
  for (std::uint64_t i = 0; i < sorted.size(); ++i) {
    sorted[ends[tokens.At(i * Datastore::kStride)]++] = static_cast<std::uint32_t>(i);
  }
  std::vector<Suffix> suffixes;
  std::uint64_t first = 0;
  for (std::size_t token = 0; token <= tokens.end; first = ends[token++]) {
    const std::span<std::uint32_t> own = std::span(sorted).subspan(first, ends[token] - first);
    suffixes.clear();
    for (const std::uint32_t place : own) suffixes.push_back({0, place});
    Sort(suffixes, tokens, 1);
    std::ranges::transform(suffixes, own.begin(), &Suffix::place);
  }
  return sorted;
}

// A file that is written in pieces.
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path)
      : path_(path), file_(std::fopen(path.c_str(), "wbe"), &std::fclose) {
    if (file_ == nullptr) Refuse();
  }
  void Write(const void* data, std::size_t bytes) {
    if (std::fwrite(data, 1, bytes, file_.get()) != bytes) Refuse();
  }
  // Reports what is only found when the last bytes leave the buffer.
  void Close() {
    if (std::fclose(file_.release()) != 0) Refuse();
  }

 private:
  [[noreturn]] void Refuse() const {
    throw Error(
        ErrorCode::kStorage,
        "Cannot write '" + path_.string() + "': " + std::generic_category().message(errno) + ".",
        "Make room there, or choose another place.");
  }

  const std::filesystem::path& path_;                        // For errors.
  std::unique_ptr<std::FILE, decltype(&std::fclose)> file_;  // Null once closed.
};

}  // namespace

DatastoreWriter::DatastoreWriter(std::int64_t vocab_size, std::string_view vocabulary_sha256) {
  constexpr std::int64_t kMost = limits::kVocabSize.most - 1;  // One more marks ends.
  if (vocab_size < 1 || vocab_size > kMost) {
    throw Error(ErrorCode::kUsage, "A vocabulary has " + std::to_string(vocab_size) +
                                       " tokens; a datastore takes from 1 to " +
                                       std::to_string(kMost) + ".");
  }
  if (vocabulary_sha256.size() != header_.vocabulary_sha256.size()) {
    throw Error(ErrorCode::kUsage, "The digest of a vocabulary must have 64 digits.");
  }
  std::ranges::copy(vocabulary_sha256, header_.vocabulary_sha256.begin());
  header_.vocab_size = static_cast<std::uint64_t>(vocab_size);
  header_.token_bytes = Datastore::TokenBytes(header_.vocab_size);
}

void DatastoreWriter::Push(std::uint32_t token) {
  if (header_.num_tokens == Datastore::kMostTokens) {
    throw Error(ErrorCode::kUsage,
                "A datastore holds at most " + std::to_string(Datastore::kMostTokens) + " tokens.",
                "Make it of fewer texts.");
  }
  for (std::uint32_t byte = 0; byte < header_.token_bytes; ++byte) {
    tokens_.push_back(static_cast<unsigned char>(token >> (8 * byte)));
  }
  ++header_.num_tokens;
}

void DatastoreWriter::Append(std::span<const TokenId> tokens) {
  for (const TokenId token : tokens) {
    if (token < 0 || static_cast<std::uint64_t>(token) >= header_.vocab_size) {
      throw Error(ErrorCode::kUsage, "Token " + std::to_string(token) +
                                         " is not in the vocabulary of " +
                                         std::to_string(header_.vocab_size) + ".");
    }
    Push(static_cast<std::uint32_t>(token));
  }
  is_open_ = is_open_ || !tokens.empty();
}

void DatastoreWriter::EndDocument() {
  if (!is_open_) return;
  Push(static_cast<std::uint32_t>(header_.vocab_size));
  ++header_.num_documents;
  is_open_ = false;
}

void DatastoreWriter::Write(const std::filesystem::path& path) {
  EndDocument();
  const PackedTokens tokens{tokens_.data(), header_.num_tokens, header_.token_bytes,
                            static_cast<std::uint32_t>(header_.vocab_size)};
  const std::vector<std::uint32_t> suffixes = SortedSuffixes(tokens);
  OutputFile file(path);
  file.Write(&header_, sizeof(header_));
  file.Write(suffixes.data(), suffixes.size() * sizeof(suffixes[0]));
  file.Write(tokens_.data(), tokens_.size());
  file.Close();
}

}  // namespace ptgc
