// LookaheadPool: the n-grams that lookahead decoding has seen, by their first token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/token.h"

namespace ptgc {

// Keeps the last few n-grams of each first token, and of all together no more than there is room
// for: the oldest make way. It is searched from end to end, which costs little beside a run of a
// model.
class LookaheadPool {
 public:
  // N-grams of `ngram_size` tokens, at most `most` with the same first one, `capacity` in all.
  LookaheadPool(int ngram_size, int most, std::size_t capacity);

  void Clear() { size_ = 0; }
  // Adds the n-gram `first`, `rest`; one that is there already becomes the newest.
  void Add(TokenId first, std::span<const TokenId> rest);
  // The n-grams that begin with a token, the newest first; valid until the next call.
  std::span<const std::size_t> Find(TokenId first);
  // The tokens of an n-gram after its first one.
  std::span<const TokenId> Rest(std::size_t ngram) const {
    return std::span(rests_).subspan(ngram * rest_size_, rest_size_);
  }

 private:
  std::size_t SlotFor(TokenId first, std::span<const TokenId> rest);

  std::size_t rest_size_;           // Tokens after the first.
  std::size_t most_;                // Most n-grams with the same first token.
  std::size_t size_ = 0;            // N-grams.
  std::int64_t clock_ = 0;          // Counts additions.
  std::vector<TokenId> firsts_;     // [capacity]
  std::vector<TokenId> rests_;      // [capacity, rest_size]
  std::vector<std::int64_t> ages_;  // [capacity], the clock when each was added last.
  std::vector<std::size_t> found_;  // Of the last search, at most `most`.
};

}  // namespace ptgc
