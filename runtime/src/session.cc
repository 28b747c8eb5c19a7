#include "session.h"

#include <algorithm>
#include <string>

#include "error.h"

namespace ptgc {

int SessionLimits::length() const {
  return static_cast<int>(std::min<std::int64_t>(max_length, context_length));
}

void SessionLimits::CheckPrompt(int held, std::span<const TokenId> token_ids) const {
  if (token_ids.empty()) {
    throw Error(ErrorCode::kUsage, "The prompt is empty.", "Give at least one token.");
  }
  for (TokenId id : token_ids) {
    if (id >= 0 && id < vocab_size) continue;
    throw Error(ErrorCode::kUsage,
                "Token id " + std::to_string(id) + " is not in the vocabulary of " +
                    std::to_string(vocab_size) + " entries.",
                "Use the tokenizer of this bundle.");
  }
  const std::size_t total = static_cast<std::size_t>(held) + token_ids.size();
  if (total <= static_cast<std::size_t>(length())) return;
  const bool model_ends = context_length <= max_length;
  throw Error(ErrorCode::kCapacity,
              "The prompt makes the text " + std::to_string(total) + " tokens long; " +
                  (model_ends ? "the model was made for " : "this build holds ") +
                  std::to_string(length()) + ".",
              model_ends ? "Shorten the prompt."
                         : "Shorten the prompt, or build again with a larger --max-length.");
}

void SessionLimits::CheckRoom(int held, int max_new_tokens) const {
  if (held == 0) {
    throw Error(ErrorCode::kUsage, "The prompt is empty.", "Give at least one token.");
  }
  if (max_new_tokens < 1) {
    throw Error(ErrorCode::kUsage,
                "max_new_tokens is " + std::to_string(max_new_tokens) + "; it must be at least 1.",
                "Ask for one token or more.");
  }
  const int room = length() - held;
  if (max_new_tokens <= room) return;
  const bool model_ends = context_length <= max_length;
  throw Error(ErrorCode::kCapacity,
              std::to_string(max_new_tokens) + " new tokens do not fit: after " +
                  std::to_string(held) + " tokens there is room for " + std::to_string(room) +
                  (model_ends ? " in the model's context of " : " in this build's length of ") +
                  std::to_string(length()) + ".",
              model_ends ? "Ask for fewer tokens or shorten the prompt."
                         : "Ask for fewer tokens, or build again with a larger --max-length.");
}

Session::Session(int row, SessionLimits limits, const DrafterPlan& drafter)
    : row_(row),
      limits_(limits),
      plan_(drafter),
      drafter_(MakeDrafter(drafter)),
      estimate_(drafter.min_ngram_size, drafter.max_ngram_size) {
  tokens_.reserve(Index(limits_.length()));
}

void Session::Append(std::span<const TokenId> token_ids) {
  limits_.CheckPrompt(length(), token_ids);
  tokens_.insert(tokens_.end(), token_ids.begin(), token_ids.end());
}

void Session::Rewind(int count) {
  if (count < 0 || count > length()) {
    throw Error(ErrorCode::kUsage,
                "Cannot rewind by " + std::to_string(count) + " tokens; the session has " +
                    std::to_string(length()) + ".",
                "Rewind by at most its length.");
  }
  tokens_.resize(tokens_.size() - Index(count));
  // The last token goes through the target once more: its logits are needed.
  committed_ = std::clamp(length() - 1, 0, committed_);
  if (drafter_ != nullptr) drafter_->Begin();
}

void Session::Reset() {
  tokens_.clear();
  committed_ = 0;
  estimate_ = AcceptanceEstimate(plan_.min_ngram_size, plan_.max_ngram_size);
  if (drafter_ != nullptr) drafter_->Begin();
}

}  // namespace ptgc
