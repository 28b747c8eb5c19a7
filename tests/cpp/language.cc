#include "language.h"

namespace ptgc {

TokenId NextToken(std::span<const TokenId> text) {
  const std::size_t last = text.size() - 1;
  const TokenId before = last > 0 ? text[last - 1] : 0;
  if (text.size() % 13 != 0) return (text[last] * 5 + before * 3 + 1) % 7;
  TokenId sum = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    sum = (sum * 31 + text[i] + static_cast<TokenId>(i)) % 10007;
  }
  return sum % kVocabSize;
}

std::vector<TokenId> Continuation(std::vector<TokenId> prompt, int count) {
  const std::size_t start = prompt.size();
  for (int i = 0; i < count; ++i) prompt.push_back(NextToken(prompt));
  return {prompt.begin() + static_cast<std::ptrdiff_t>(start), prompt.end()};
}

std::vector<TokenId> MakePrompt(int length, int seed) {
  std::vector<TokenId> prompt;
  unsigned state = static_cast<unsigned>(seed) * 2654435761u + 12345u;
  for (int i = 0; i < length; ++i) {
    state = state * 1664525u + 1013904223u;
    prompt.push_back(static_cast<TokenId>((state >> 16) % kVocabSize));
  }
  return prompt;
}

}  // namespace ptgc
