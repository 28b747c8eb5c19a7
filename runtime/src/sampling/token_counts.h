// TokenCounts: how often each token occurs in one text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/token.h"

namespace ptgc {

// A text is its prompt and then what was generated after it. Tokens are only added and removed at
// the end: drafted ancestors of a verified row are pushed, the row is read, and they are popped.
class TokenCounts {
 public:
  // Allocates all storage that a text of `max_length` tokens needs.
  TokenCounts(std::int64_t vocab_size, int max_length);

  // Adds prompt tokens at the end. Earlier generated tokens count as prompt from now on, as in
  // services that send the whole conversation as the prompt of the next answer.
  void AppendPrompt(std::span<const TokenId> token_ids);
  // Adds one generated or drafted token.
  void Push(TokenId token_id);
  // Removes the last token of the text, which is `token_id`, whether prompt or generated.
  void Pop(TokenId token_id);
  // Clears the text.
  void Clear();

  int length() const { return length_; }
  // The distinct tokens of the text, in the order of their first occurrence.
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
  std::vector<TokenId> token_ids_;  // Distinct tokens; a stack, like the text.
  int length_ = 0;                  // Tokens of the text.
  int prompt_length_ = 0;           // How many of them are the prompt.
};

}  // namespace ptgc
