// SessionHandle: a caller's handle on one row of a generator.
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
  // Takes a free row, waiting for one as the generator's options say; the hooks' poll runs
  // meanwhile. Throws a busy error, and what the poll throws.
  explicit SessionHandle(Generator& generator, const Hooks& hooks = {});
  ~SessionHandle();
  SessionHandle(const SessionHandle&) = delete;
  SessionHandle& operator=(const SessionHandle&) = delete;

  // Adds a prompt or a part of one; it is read by the next Generate.
  void Append(std::span<const TokenId> token_ids);
  // Continues the text; the request's prompt, if any, is added first.
  Result Generate(const Request& request, const Hooks& hooks);
  // Drops the last `count` tokens.
  void Rewind(int count);
  // Another session with the same text, which is not read again. Takes a row as the constructor
  // does.
  std::unique_ptr<SessionHandle> Fork(const Hooks& hooks = {});
  // Drops everything.
  void Reset();
  // From any thread: ends a running generation.
  void Cancel();
  // From any thread: gives the row back; any later call is a usage error. A running generation is
  // cancelled, and keeps the row until it has ended.
  void Close();

  // The generator of its row.
  Generator& generator() const { return generator_; }
  std::vector<TokenId> Tokens();
  int Length();

 private:
  // With the scheduler locked: throws if the session is closed or writing.
  void CheckOpen() const;

  Generator& generator_;  // The generator of the row.
  Session& session_;      // The row; changed only in a pause, read with the scheduler locked.
  bool open_ = true;      // Guarded by the scheduler's lock.
};

}  // namespace ptgc
