#include "stop_sequences.h"

#include <algorithm>

namespace ptgc::capi {
namespace {

bool EndsWith(std::span<const TokenId> text, std::span<const TokenId> tail) {
  return tail.size() <= text.size() && std::ranges::equal(text.last(tail.size()), tail);
}

}  // namespace

std::optional<std::size_t> StopSequences::Find(std::span<const TokenId> text,
                                               std::size_t searched) const {
  for (std::size_t end = searched + 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::vector<TokenId>& sequence : sequences_) {
      if (EndsWith(text.first(end), sequence)) longest = std::max(longest, sequence.size());
    }
    if (longest > 0) return end - longest;
  }
  return std::nullopt;
}

std::size_t StopSequences::Certain(std::span<const TokenId> text) const {
  std::size_t held = 0;
  for (const std::vector<TokenId>& sequence : sequences_) {
    const std::span<const TokenId> tokens(sequence);
    for (std::size_t count = std::min(sequence.size() - 1, text.size()); count > held; --count) {
      if (EndsWith(text, tokens.first(count))) held = count;
    }
  }
  return text.size() - held;
}

}  // namespace ptgc::capi
