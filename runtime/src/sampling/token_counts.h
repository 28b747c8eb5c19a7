// TokenCounts: how often each token occurs in one text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/token.h"

namespace ptgc {

// A text is its prompt and then what was generated after it. Tokens are added and removed at the
// end only: drafted ancestors of a verified row are pushed, the row is read, and they are popped.
class TokenCounts {
 public:
  // Takes all the storage that a text of `max_length` tokens needs.
  TokenCounts(std::int64_t vocab_size, int max_length);

  // Adds prompt tokens at the end. What was generated before is prompt from now on, as it is for
  // a service that sends the whole conversation as the prompt of the next answer.
  void AppendPrompt(std::span<const TokenId> token_ids);
  // Adds one generated or drafted token.
  void Push(TokenId token_id);
  // Takes off the last token of the text, which is `token_id`, prompt or not.
  void Pop(TokenId token_id);
  // Forgets the text.
  void Clear();

  int length() const { return length_; }
  // Different tokens of the text, in the order of their first occurrence.
  std::span<const TokenId> token_ids() const { return token_ids_; }
  // Occurrences among the generated tokens.
  int generated(TokenId token_id) const { return counts_[Index(token_id)].generated; }
  // Whether the token occurs in prompt or text.
  bool contains(TokenId token_id) const {
    const Count& count = counts_[Index(token_id)];
    return count.prompt + count.generated > 0;
  }

 private:
  struct Count {
    int prompt = 0;     // Occurrences in the prompt.
    int generated = 0;  // Occurrences after it.
  };
  static std::size_t Index(TokenId token_id) { return static_cast<std::size_t>(token_id); }
  void Add(TokenId token_id, int Count::* part);

  std::vector<Count> counts_;       // [vocab_size]
  std::vector<TokenId> token_ids_;  // Different tokens; a stack, because the text is one.
  int length_ = 0;                  // Tokens of the text.
  int prompt_length_ = 0;           // How many of them are prompt.
};

}  // namespace ptgc
