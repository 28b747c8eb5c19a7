#include "ngram_drafter.h"

#include <cstddef>

namespace ptgc {

void NgramDrafter::Draft(std::span<const TokenId> text, int limit, Proposal& proposal) {
  if (text.size() < 2) return;
  const std::size_t max_length = static_cast<std::size_t>(max_ngram_size_);
  const std::size_t last = text.size() - 1;
  std::size_t length = static_cast<std::size_t>(min_ngram_size_) - 1;  // Longest match so far.
  std::size_t next = 0;                                                // What followed it.
  for (std::size_t end = last; end-- > length && length < max_length;) {
    // A longer match must agree `length` tokens back, which rules most places out at once.
    if (text[end] != text[last] || text[end - length] != text[last - length]) continue;
    std::size_t agreed = 1;
    while (agreed < max_length && agreed <= end && text[end - agreed] == text[last - agreed]) {
      ++agreed;
    }
    if (agreed <= length) continue;
    length = agreed;
    next = end + 1;
  }
  if (next == 0) return;
  for (int i = 0; i < limit; ++i, ++next) {
    proposal.Append(next < text.size() ? text[next] : proposal.tokens()[next - text.size()]);
  }
  proposal.set_match_length(static_cast<int>(length));
}

}  // namespace ptgc
