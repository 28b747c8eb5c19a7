// NgramDrafter: the continuation of an earlier occurrence of the text's last tokens.
#pragma once

#include <span>

#include "drafter.h"

namespace ptgc {

// Prompt lookup (Saxena 2023; LLMA, arXiv 2304.04487, section 3): finds the longest suffix of n
// tokens, min <= n <= max, that occurs earlier in the text, of equal ones the most recent, and
// proposes what followed it. Where that runs into the end of the text, it goes on with the tokens
// it has itself proposed.
class NgramDrafter : public Drafter {
 public:
  NgramDrafter(int min_ngram_size, int max_ngram_size)
      : min_ngram_size_(min_ngram_size), max_ngram_size_(max_ngram_size) {}

  void Begin() override {}
  void Draft(std::span<const TokenId> text, int limit, Proposal& proposal) override;
  void Accept(std::span<const int>) override {}

 private:
  int min_ngram_size_;  // The shortest suffix that counts as a match.
  int max_ngram_size_;  // The longest suffix that is looked up.
};

}  // namespace ptgc
