// Session: one row of the batch, its text, and how much of it is in the cache.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/token.h"

namespace ptgc {

// What a session may hold.
struct SessionLimits {
  int max_length = 0;               // Tokens of one sequence that the build was made for.
  std::int64_t context_length = 0;  // Positions that the model was made for.
  std::int64_t vocab_size = 0;      // Token ids are smaller than this.
  int max_source_length = 0;        // Most tokens of a source; 0 if prompts start the text.
  std::optional<TokenId> start_token_id = std::nullopt;  // Starts a text with a source.
  std::optional<TokenId> mask_token_id = std::nullopt;   // Prompts with this token are filled in.

  // The smaller of both lengths.
  int length() const;
  // Throws usage and capacity errors unless `token_ids` are valid and fit after `held` tokens.
  void CheckPrompt(int held, std::span<const TokenId> token_ids) const;
  // Throws unless `max_new_tokens` can be written after `prompt`, which follows `held` tokens of
  // earlier prompts. With an encoder, the `text_length` tokens of text are not part of these.
  void CheckRequest(int held, int text_length, std::span<const TokenId> prompt,
                    int max_new_tokens) const;
  // Whether this prompt has masks to fill in, so that nothing is appended to it.
  bool FillsIn(std::span<const TokenId> prompt) const;

 private:
  void CheckSource(int held, std::span<const TokenId> token_ids) const;
  // Throws unless `held` prompt tokens exist, and there is room after `text_length` tokens.
  void CheckRoom(int held, int text_length, int max_new_tokens) const;
};

// Of `tokens()`, the first `committed()` are in the cache. The rest is pending: the target must
// read it next. After a round of generation exactly the last token is pending. With an encoder, or
// if prompts are edited, prompts go to `source()`, and the tokens are only the written text.
class Session {
 public:
  Session(int row, SessionLimits limits);

  int row() const { return row_; }
  std::span<const TokenId> source() const { return source_; }
  std::span<const TokenId> tokens() const { return tokens_; }
  int length() const { return static_cast<int>(tokens_.size()); }
  int committed() const { return committed_; }
  std::span<const TokenId> pending() const { return tokens().subspan(Index(committed_)); }
  // Whether it holds nothing.
  bool empty() const { return tokens_.empty() && source_.empty(); }
  // Tokens of the prompt, for statistics.
  int prompt_length() const { return limits_.max_source_length > 0 ? Size(source_) : length(); }

  // Adds a prompt or a part of one. Throws usage and capacity errors and then changes nothing.
  void Append(std::span<const TokenId> token_ids);
  // Drops the last `count` tokens; later rounds write over their states.
  void Rewind(int count);
  // Drops everything.
  void Reset();
  // Becomes a copy of another session's text.
  void CopyFrom(const Session& other);
  // Throws unless `prompt`, which may be empty, can be added and `max_new_tokens` written after it.
  void CheckRequest(std::span<const TokenId> prompt, int max_new_tokens) const;

  // For the loop: the first `count` pending tokens are in the cache now.
  void Commit(int count) { committed_ += count; }
  // For the loop: only the first `count` tokens are still in the cache.
  void Uncommit(int count) { committed_ = count; }
  // For the loop: `token` was generated; it is pending until the next round.
  void Extend(TokenId token) {
    tokens_.push_back(token);
    committed_ = length() - 1;
  }
  // For the loop: drops everything after the first `length` tokens, which will be replaced from a
  // canvas.
  void Truncate(int length);

  // From any thread: ends a running generation.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  void ClearCancel() { cancelled_.store(false, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  static std::size_t Index(int value) { return static_cast<std::size_t>(value); }
  static int Size(const std::vector<TokenId>& ids) { return static_cast<int>(ids.size()); }

  int row_;                             // Index in the batch.
  SessionLimits limits_;                // What it may hold.
  std::vector<TokenId> source_;         // The source; has storage for a full one.
  std::vector<TokenId> tokens_;         // Prompt and text; has storage for a full session.
  int committed_ = 0;                   // Tokens whose states are in the cache.
  std::atomic<bool> cancelled_{false};  // Set from any thread.
};

}  // namespace ptgc
