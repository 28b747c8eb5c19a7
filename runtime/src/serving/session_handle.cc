#include "serving/session_handle.h"

#include "base/clock.h"
#include "base/error.h"

namespace ptgc {

SessionHandle::SessionHandle(Generator& generator, const Hooks& hooks)
    : generator_(generator), session_(generator.scheduler_->Keep(hooks)) {}

SessionHandle::~SessionHandle() { Close(); }

void SessionHandle::Append(std::span<const TokenId> token_ids) {
  const Scheduler::Pause pause(*generator_.scheduler_);
  CheckOpen();
  session_.Append(token_ids);
}

Result SessionHandle::Generate(const Request& request, const Hooks& hooks) {
  const Clock::time_point called = Clock::now();
  {
    const auto lock = generator_.scheduler_->Lock();
    CheckOpen();
    session_.ClearCancel();  // Before the pause, so that a Cancel during it counts.
  }
  Generation generation(request, called, hooks.cancelled);
  Scheduler::Pause pause(*generator_.scheduler_);
  CheckOpen();
  session_.CheckRequest(request.prompt_ids, request.max_new_tokens);
  generator_.CheckOptions(request);
  generator_.scheduler_->Continue(pause, session_, generation, hooks);
  return generation.TakeResult(generator_.load_seconds_);
}

void SessionHandle::Rewind(int count) {
  const Scheduler::Pause pause(*generator_.scheduler_);
  CheckOpen();
  session_.Rewind(count);
  generator_.loop_->Rewind(session_);
}

std::unique_ptr<SessionHandle> SessionHandle::Fork(const Hooks& hooks) {
  {
    const auto lock = generator_.scheduler_->Lock();
    CheckOpen();
  }
  auto fork = std::make_unique<SessionHandle>(generator_, hooks);
  const Scheduler::Pause pause(*generator_.scheduler_);
  CheckOpen();
  fork->session_.CopyFrom(session_);
  generator_.loop_->Fork(session_, fork->session_);
  return fork;
}

void SessionHandle::Reset() {
  const Scheduler::Pause pause(*generator_.scheduler_);
  CheckOpen();
  session_.Reset();
  generator_.loop_->Begin(session_);
}

void SessionHandle::Cancel() {
  const auto lock = generator_.scheduler_->Lock();
  if (open_) session_.Cancel();
}

void SessionHandle::Close() {
  if (!generator_.scheduler_->is_home()) return;  // The row belongs to the parent process.
  const auto lock = generator_.scheduler_->Lock();
  if (open_) generator_.scheduler_->GiveBack(session_);
  open_ = false;
}

std::vector<TokenId> SessionHandle::Tokens() {
  const auto lock = generator_.scheduler_->Lock();
  CheckOpen();
  const std::span<const TokenId> tokens = session_.tokens();
  return {tokens.begin(), tokens.end()};
}

int SessionHandle::Length() {
  const auto lock = generator_.scheduler_->Lock();
  CheckOpen();
  return session_.length();
}

void SessionHandle::CheckOpen() const {
  generator_.scheduler_->CheckCaller();
  if (!open_) {
    throw Error(ErrorCode::kUsage, "This session is closed.", "Open another one.");
  }
  generator_.scheduler_->CheckIdle(session_);
}

}  // namespace ptgc
