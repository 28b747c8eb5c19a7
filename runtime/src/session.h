// Session: one row of the batch, its text and what of it is in the cache.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "bundle.h"
#include "draft_length.h"
#include "drafter.h"
#include "token.h"

namespace ptgc {

// What a session may hold.
struct SessionLimits {
  int max_length = 0;               // Tokens of one sequence that the build was made for.
  std::int64_t context_length = 0;  // Positions that the model was made for.
  std::int64_t vocab_size = 0;      // Token ids are below it.

  // The smaller of both lengths.
  int length() const;
  // Throws unless `token_ids` are ids and fit after `held` tokens: usage and capacity errors.
  void CheckPrompt(int held, std::span<const TokenId> token_ids) const;
  // Throws unless there is text to continue, `held` tokens, and room for `max_new_tokens` more.
  void CheckRoom(int held, int max_new_tokens) const;
};

// Of `tokens()`, the first `committed()` are in the cache, the rest is pending: it goes through
// the target first. After a round of generation exactly the last token is pending.
class Session {
 public:
  Session(int row, SessionLimits limits, const DrafterPlan& drafter);

  int row() const { return row_; }
  std::span<const TokenId> tokens() const { return tokens_; }
  int length() const { return static_cast<int>(tokens_.size()); }
  int committed() const { return committed_; }
  std::span<const TokenId> pending() const { return tokens().subspan(Index(committed_)); }

  // Adds a prompt or a part of one. Throws usage and capacity errors and then changes nothing.
  void Append(std::span<const TokenId> token_ids);
  // Drops the last `count` tokens; later rounds write over their states.
  void Rewind(int count);
  // Drops everything.
  void Reset();
  // Throws unless there is text to continue and room for `max_new_tokens` more.
  void CheckRoom(int max_new_tokens) const { limits_.CheckRoom(length(), max_new_tokens); }

  // The loop's part: the first `count` pending tokens are in the cache now.
  void Commit(int count) { committed_ += count; }
  // The loop's part: `token` was generated; it is pending until the next round.
  void Extend(TokenId token) {
    tokens_.push_back(token);
    committed_ = length() - 1;
  }

  Drafter* drafter() { return drafter_.get(); }
  void set_drafter(std::unique_ptr<Drafter> drafter) { drafter_ = std::move(drafter); }
  AcceptanceEstimate& estimate() { return estimate_; }

  // From any thread: ends the generation that is under way.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  void ClearCancel() { cancelled_.store(false, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  static std::size_t Index(int value) { return static_cast<std::size_t>(value); }

  int row_;                             // Its place in the batch.
  SessionLimits limits_;                // What it may hold.
  DrafterPlan plan_;                    // How its drafts are made.
  std::vector<TokenId> tokens_;         // Prompt and text; storage for a full session.
  int committed_ = 0;                   // Tokens whose states are in the cache.
  std::unique_ptr<Drafter> drafter_;    // Proposes tokens; null for plain decoding.
  AcceptanceEstimate estimate_;         // How well its drafts fare.
  std::atomic<bool> cancelled_{false};  // Set from any thread.
};

}  // namespace ptgc
