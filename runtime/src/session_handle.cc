#include "session_handle.h"

#include "clock.h"
#include "error.h"

namespace ptgc {

SessionHandle::SessionHandle(Generator& generator)
    : generator_(generator),
      lease_(generator.TakeRow()),
      session_(*generator.sessions_[static_cast<std::size_t>(lease_.row())]) {}

void SessionHandle::Append(std::span<const TokenId> token_ids) {
  const Generator::Entry entry(generator_);
  Row().Append(token_ids);
}

Result SessionHandle::Generate(const Request& request, const Hooks& hooks) {
  const Clock::time_point called = Clock::now();
  session_.ClearCancel();  // Before waiting for the lock: a cancel that comes meanwhile counts.
  const Generator::Entry entry(generator_);
  Session* row = &Row();
  if (!request.prompt_ids.empty())
    generator_.limits_.CheckPrompt(row->length(), request.prompt_ids);
  generator_.limits_.CheckRoom(row->length() + static_cast<int>(request.prompt_ids.size()),
                               request.max_new_tokens);
  Generation generation(request, called);
  generator_.Run(Schedule({&generation, 1}, {&row, 1}, /*fresh=*/false), hooks);
  return generation.TakeResult(generator_.load_seconds_);
}

void SessionHandle::Rewind(int count) {
  const Generator::Entry entry(generator_);
  Row().Rewind(count);
}

void SessionHandle::Reset() {
  const Generator::Entry entry(generator_);
  Row().Reset();
}

void SessionHandle::Cancel() {
  if (open_.load()) session_.Cancel();
}

void SessionHandle::Close() {
  Cancel();
  if (open_.exchange(false)) lease_.Release();
}

std::vector<TokenId> SessionHandle::Tokens() {
  const Generator::Entry entry(generator_);
  const std::span<const TokenId> tokens = Row().tokens();
  return {tokens.begin(), tokens.end()};
}

int SessionHandle::Length() {
  const Generator::Entry entry(generator_);
  return Row().length();
}

Session& SessionHandle::Row() {
  if (!open_.load()) {
    throw Error(ErrorCode::kUsage, "This session is closed.", "Open another one.");
  }
  if (fresh_) session_.Reset();
  fresh_ = false;
  return session_;
}

}  // namespace ptgc
