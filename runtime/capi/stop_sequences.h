// StopSequences: finds the token sequences that end a text.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/token.h"

namespace ptgc::capi {

// Looks for the sequences in a text that grows.
class StopSequences {
 public:
  // None of them may be empty.
  explicit StopSequences(std::vector<std::vector<TokenId>> sequences)
      : sequences_(std::move(sequences)) {}

  // Where the first sequence begins that ends in `text` behind its first `searched` tokens, if any;
  // of several that end at one token the longest.
  std::optional<std::size_t> Find(std::span<const TokenId> text, std::size_t searched) const;
  // How many tokens of `text`, which contains none of them, can belong to none that is yet to come.
  std::size_t Certain(std::span<const TokenId> text) const;

 private:
  std::vector<std::vector<TokenId>> sequences_;  // Any of them ends the text.
};

}  // namespace ptgc::capi
