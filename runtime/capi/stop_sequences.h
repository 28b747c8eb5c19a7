// StopSequences: finds the token sequences that end a text.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/token.h"

namespace ptgc::capi {

// Looks for the sequences in a growing text.
class StopSequences {
 public:
  // No sequence may be empty.
  explicit StopSequences(std::vector<std::vector<TokenId>> sequences)
      : sequences_(std::move(sequences)) {}

  // Where the first sequence begins that ends after the first `searched` tokens of `text`, if any;
  // of several that end at the same token, the longest.
  std::optional<std::size_t> Find(std::span<const TokenId> text, std::size_t searched) const;
  // How many tokens of `text`, which contains no sequence, cannot be part of one that is still to
  // come.
  std::size_t Certain(std::span<const TokenId> text) const;

 private:
  std::vector<std::vector<TokenId>> sequences_;  // Any of them ends the text.
};

}  // namespace ptgc::capi
