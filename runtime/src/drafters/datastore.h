// Datastore: texts as tokens, and where each sequence of tokens occurs in them, in a mapped file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/token.h"

namespace ptgc {

// The beginning of the file; all numbers are little-endian. The suffixes follow, then the tokens.
struct DatastoreHeader {
  static constexpr std::array<char, 8> kMagic = {'p', 't', 'g', 'c', 'd', 'a', 't', 'a'};
  static constexpr std::uint32_t kVersion = 1;

  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t token_bytes = 2;                // Of one token: 2, or 3 for large vocabularies.
  std::uint64_t vocab_size = 0;                 // Tokens are below; it marks the end of a document.
  std::uint64_t num_tokens = 0;                 // Ends of documents included.
  std::uint64_t num_documents = 0;              // Each is followed by such an end.
  std::array<char, 64> vocabulary_sha256 = {};  // Of the tokenizer; hexadecimal.
};
static_assert(sizeof(DatastoreHeader) == 104 && alignof(DatastoreHeader) == 8);

// Tokens of fixed width, one after the other.
struct PackedTokens {
  const unsigned char* data = nullptr;  // [size, bytes], little-endian.
  std::uint64_t size = 0;               // Number of tokens.
  std::uint32_t bytes = 2;              // Of one token.
  std::uint32_t end = 0;                // Marks the end of a document.

  // The token at a place; the end of a document behind the last one.
  std::uint32_t At(std::uint64_t place) const {
    if (place >= size) return end;
    const unsigned char* const token = data + place * bytes;
    const std::uint32_t low = token[0] | std::uint32_t{token[1]} << 8U;
    return bytes == 2 ? low : low | std::uint32_t{token[2]} << 16U;
  }
};

// Occurrences of a sequence of tokens are found by binary search in the suffix array: the places of
// the text, sorted by what is written there. To halve it, only even places are in it, which costs
// at most one token of a match: what follows a sequence at an odd place is found by the sequence
// without its first token (a sparse suffix array, Karkkainen and Ukkonen, 1996). Places are sorted
// by kSortedTokens tokens; the order of places that agree in all of them does not matter here.
//
// The file is trusted in nothing that could lead out of it: damage gives wrong drafts at worst.
class Datastore {
 public:
  // Tokens by which places are sorted: the longest sequence that can be looked up.
  static constexpr int kSortedTokens = 32;
  // Only multiples of it are in the suffix array.
  static constexpr std::uint64_t kStride = 2;
  // Places must fit into the suffix array.
  static constexpr std::uint64_t kMostTokens = kStride << 32U;
  // What a token of a vocabulary of this size takes.
  static constexpr std::uint32_t TokenBytes(std::uint64_t vocab_size) {
    return vocab_size <= 0xffff ? 2 : 3;
  }
  // Places in the suffix array.
  static constexpr std::uint64_t NumSuffixes(std::uint64_t num_tokens) {
    return (num_tokens + kStride - 1) / kStride;
  }

  // Maps a file. Throws a bundle error if it is no datastore, is truncated, or cannot be read.
  explicit Datastore(const std::filesystem::path& path);
  ~Datastore();
  Datastore(const Datastore&) = delete;
  Datastore& operator=(const Datastore&) = delete;

  // Looks for the longest end of a text, of `shortest` to `longest` tokens, and writes the places
  // of what follows its occurrences: of all, or of `capacity` of them that are spread evenly.
  // Returns its length; 0 if not even the shortest occurs.
  int Find(std::span<const TokenId> text, int shortest, int longest, std::size_t capacity,
           std::vector<std::uint64_t>& places) const;
  // The token at a place; none at the end of a document.
  TokenId At(std::uint64_t place) const {
    const std::uint32_t token = tokens_.At(place);
    return token < tokens_.end ? static_cast<TokenId>(token) : kNoToken;
  }

  const DatastoreHeader& header() const { return header_; }
  std::string vocabulary_sha256() const {
    return {header_.vocabulary_sha256.begin(), header_.vocabulary_sha256.end()};
  }

 private:
  using Query = std::span<const TokenId>;
  // Where a sequence of tokens occurs: a range of the suffix array.
  struct Occurrences {
    std::uint64_t first = 0;
    std::uint64_t last = 0;  // Behind the last one.
    int length = 0;          // Of the sequence; 0 if it does not occur.
  };

  int Compare(std::uint64_t suffix, Query query) const;
  std::uint64_t FirstAfter(std::uint64_t first, std::uint64_t last, Query query, int above) const;
  Occurrences Search(Query query) const;
  Occurrences LongestOf(Query text, int shortest, int longest) const;
  void Collect(const Occurrences& found, std::size_t capacity,
               std::vector<std::uint64_t>& places) const;

  DatastoreHeader header_;                   // As read.
  void* mapped_ = nullptr;                   // The file.
  std::size_t bytes_ = 0;                    // Its size.
  std::span<const std::uint32_t> suffixes_;  // Places, in units of kStride, sorted.
  PackedTokens tokens_;                      // The texts.
};

}  // namespace ptgc
