// SessionHandle: a caller's hold on one row of a generator.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/token.h"
#include "loops/request.h"
#include "serving/generator.h"

namespace ptgc {

// Text that stays in the cache between calls. Must not outlive its generator.
class SessionHandle {
 public:
  // Takes a free row, as the generator waits for one, while the hooks' poll runs. Throws a busy
  // error, and what the poll throws.
  explicit SessionHandle(Generator& generator, const Hooks& hooks = {});
  ~SessionHandle();
  SessionHandle(const SessionHandle&) = delete;
  SessionHandle& operator=(const SessionHandle&) = delete;

  // Adds a prompt or a part of one; it is read with the next Generate.
  void Append(std::span<const TokenId> token_ids);
  // Continues the text; the request's prompt, if any, is added first.
  Result Generate(const Request& request, const Hooks& hooks);
  // Drops the last `count` tokens.
  void Rewind(int count);
  // Another session with the same text; nothing of it is read again. Takes a row as the
  // constructor does.
  std::unique_ptr<SessionHandle> Fork(const Hooks& hooks = {});
  // Drops everything.
  void Reset();
  // From any thread: ends the generation that is under way.
  void Cancel();
  // From any thread: gives the row back; whatever follows is a usage error. A generation that is
  // under way is cancelled, and keeps the row until it has ended.
  void Close();

  // Whose row it has.
  Generator& generator() const { return generator_; }
  std::vector<TokenId> Tokens();
  int Length();

 private:
  // With the scheduler locked: throws where the session is closed or writing.
  void CheckOpen() const;

  Generator& generator_;  // Whose row.
  Session& session_;      // The row; changed only in a pause, read with the scheduler locked.
  bool open_ = true;      // Guarded by the scheduler's lock.
};

}  // namespace ptgc
