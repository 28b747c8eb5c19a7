#include "loops/session.h"

#include <algorithm>
#include <string>

#include "base/error.h"

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
  if (max_source_length > 0) return CheckSource(held, token_ids);
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

void SessionLimits::CheckSource(int held, std::span<const TokenId> token_ids) const {
  const std::size_t total = static_cast<std::size_t>(held) + token_ids.size();
  if (total <= static_cast<std::size_t>(max_source_length)) return;
  throw Error(ErrorCode::kCapacity,
              "The prompt has " + std::to_string(total) + " tokens; this build's encoder reads " +
                  std::to_string(max_source_length) + ".",
              "Shorten the prompt, or build again with a larger --max-length.");
}

bool SessionLimits::FillsIn(std::span<const TokenId> prompt) const {
  return mask_token_id.has_value() &&
         std::find(prompt.begin(), prompt.end(), *mask_token_id) != prompt.end();
}

void SessionLimits::CheckRequest(int held, int text_length, std::span<const TokenId> prompt,
                                 int max_new_tokens) const {
  if (FillsIn(prompt)) return;
  const int all = held + static_cast<int>(prompt.size());
  CheckRoom(all, max_source_length > 0 ? std::max(text_length, 1) : all, max_new_tokens);
}

void SessionLimits::CheckRoom(int held, int text_length, int max_new_tokens) const {
  if (held == 0) {
    throw Error(ErrorCode::kUsage, "The prompt is empty.", "Give at least one token.");
  }
  if (max_new_tokens < 1) {
    throw Error(ErrorCode::kUsage,
                "max_new_tokens is " + std::to_string(max_new_tokens) + "; it must be at least 1.",
                "Ask for one token or more.");
  }
  const int room = length() - text_length;
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

Session::Session(int row, SessionLimits limits) : row_(row), limits_(limits) {
  tokens_.reserve(Index(limits_.length()));
  source_.reserve(Index(limits_.max_source_length));
}

void Session::Append(std::span<const TokenId> token_ids) {
  if (limits_.max_source_length == 0) {
    limits_.CheckPrompt(length(), token_ids);
    tokens_.insert(tokens_.end(), token_ids.begin(), token_ids.end());
    return;
  }
  limits_.CheckPrompt(Size(source_), token_ids);
  if (length() > (limits_.start_token_id.has_value() ? 1 : 0)) {
    throw Error(ErrorCode::kUsage, "A text has been written about this source already.",
                "Reset the session, or open another one.");
  }
  source_.insert(source_.end(), token_ids.begin(), token_ids.end());
  if (tokens_.empty() && limits_.start_token_id.has_value()) {
    tokens_.push_back(*limits_.start_token_id);
  }
}

void Session::Rewind(int count) {
  const int least = limits_.max_source_length > 0 && limits_.start_token_id.has_value() ? 1 : 0;
  const int most = std::max(length() - least, 0);
  if (count < 0 || count > most) {
    throw Error(ErrorCode::kUsage,
                "Cannot rewind by " + std::to_string(count) + " tokens; the session has " +
                    std::to_string(most) + ".",
                "Rewind by at most its length.");
  }
  Truncate(length() - count);
}

void Session::Truncate(int length) {
  tokens_.resize(Index(length));
  // The last token is always pending, because continuing needs the logits after it.
  committed_ = std::min(committed_, std::max(length - 1, 0));
}

void Session::Reset() {
  tokens_.clear();
  source_.clear();
  committed_ = 0;
}

void Session::CopyFrom(const Session& other) {
  tokens_ = other.tokens_;
  source_ = other.source_;
  committed_ = other.committed_;
}

void Session::CheckRequest(std::span<const TokenId> prompt, int max_new_tokens) const {
  const int held = prompt_length();
  if (!prompt.empty()) limits_.CheckPrompt(held, prompt);
  if (limits_.FillsIn(tokens_)) return;
  limits_.CheckRequest(held, length(), prompt, max_new_tokens);
}

}  // namespace ptgc
