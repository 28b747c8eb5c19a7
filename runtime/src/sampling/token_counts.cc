#include "sampling/token_counts.h"

namespace ptgc {

TokenCounts::TokenCounts(std::int64_t vocab_size, int max_length)
    : counts_(static_cast<std::size_t>(vocab_size)) {
  token_ids_.reserve(static_cast<std::size_t>(max_length));
}

void TokenCounts::AppendPrompt(std::span<const TokenId> token_ids) {
  if (prompt_length_ < length_) {
    for (TokenId id : token_ids_) {
      Count& count = counts_[Index(id)];
      count.prompt += count.generated;
      count.generated = 0;
    }
  }
  for (TokenId id : token_ids) Add(id, &Count::prompt);
  prompt_length_ = length_;
}

void TokenCounts::Push(TokenId token_id) { Add(token_id, &Count::generated); }

void TokenCounts::Pop(TokenId token_id) {
  Count& count = counts_[Index(token_id)];
  if (length_ > prompt_length_) {
    --count.generated;
  } else {
    --count.prompt;
    --prompt_length_;
  }
  --length_;
  // When the first occurrence of a token is removed, the token is on top of the stack.
  if (!contains(token_id)) token_ids_.pop_back();
}

void TokenCounts::Clear() {
  for (TokenId id : token_ids_) counts_[Index(id)] = Count();
  token_ids_.clear();
  length_ = 0;
  prompt_length_ = 0;
}

void TokenCounts::Add(TokenId token_id, int Count::* part) {
  if (!contains(token_id)) token_ids_.push_back(token_id);
  ++(counts_[Index(token_id)].*part);
  ++length_;
}

}  // namespace ptgc
