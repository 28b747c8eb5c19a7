// SessionHandle: a caller's hold on one row of a generator.
#pragma once

#include <atomic>
#include <span>
#include <vector>

#include "generator.h"
#include "request.h"
#include "token.h"

namespace ptgc {

// Text that stays in the cache between calls. Must not outlive its generator.
class SessionHandle {
 public:
  // Takes a free row. Throws a busy error where there is none.
  explicit SessionHandle(Generator& generator);

  // Adds a prompt or a part of one; it is read with the next Generate.
  void Append(std::span<const TokenId> token_ids);
  // Continues the text; the request's prompt, if any, is added first.
  Result Generate(const Request& request, const Hooks& hooks);
  // Drops the last `count` tokens.
  void Rewind(int count);
  // Drops everything.
  void Reset();
  // From any thread: ends the generation that is under way.
  void Cancel();
  // Gives the row back; whatever follows is a usage error.
  void Close();

  std::vector<TokenId> Tokens();
  int Length();

 private:
  // The row, emptied when it is first used. The generator's lock must be held.
  Session& Row();

  Generator& generator_;          // Whose row.
  RowLease lease_;                // Gives the row back.
  Session& session_;              // The row; touched only under the generator's lock, cancel apart.
  std::atomic<bool> open_{true};  // Cleared by Close, from any thread.
  bool fresh_ = true;             // The row still holds what its last user left.
};

}  // namespace ptgc
