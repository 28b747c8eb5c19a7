// The functions of sessions.
#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "callback.h"
#include "handles.h"
#include "ptgc.h"
#include "request_reader.h"
#include "status.h"
#include "text_stream.h"

namespace ptgc::capi {
namespace {

// Holds a session while a call uses it.
class Held {
 public:
  explicit Held(const ptgc_session* session) : state_(Sessions().Find(session)) {
    RefuseWithinCallback(*state_->generator);
    lock_ = std::unique_lock(state_->mutex);
    if (state_->closed) Sessions().Find(session);  // closed while waiting: an error
  }

  SessionHandle* operator->() const { return state_->session.get(); }
  bool closed() const { return state_->closed; }
  const std::shared_ptr<GeneratorState>& whose() const { return state_->generator; }
  const Generator& generator() const { return *state_->generator->generator; }

 private:
  std::shared_ptr<SessionState> state_;  // Stays alive until the call returns.
  std::unique_lock<std::mutex> lock_;    // Released before it.
};

std::shared_ptr<ResultState> Generate(const Held& session, const ptgc_request* given,
                                      const Callback& callback) {
  ReadRequest read = ReadRequestOf(given, session.generator(), session->Length());
  TextStream stream(0, std::move(read.stops), callback);
  Hooks hooks;
  hooks.on_tokens = [&stream](std::size_t, std::span<const TokenId> tokens) {
    return stream.Append(tokens);
  };
  // The session may have been closed just before the core clears earlier cancellations.
  hooks.poll = [&session] {
    if (session.closed()) session->Cancel();
  };
  Result result = session->Generate(read.request, hooks);
  const std::size_t written = result.token_ids.size();
  stream.Finish(result);
  // The session must hold exactly the text that its caller was given.
  if (result.token_ids.size() < written) {
    session->Rewind(static_cast<int>(written - result.token_ids.size()));
  }
  return std::make_shared<ResultState>(std::move(result), read.request.sampling.seed);
}

}  // namespace
}  // namespace ptgc::capi

using namespace ptgc::capi;  // NOLINT: this file defines functions of the C API only

extern "C" {

ptgc_status ptgc_session_open(ptgc_generator* generator, ptgc_session** session) {
  return Guarded([&] {
    RequirePointer(session, "session");
    *session = nullptr;
    const std::shared_ptr<GeneratorState> state = Generators().Find(generator);
    RefuseWithinCallback(*state);
    *session = Sessions().Add(std::make_shared<SessionState>(
        state, std::make_unique<ptgc::SessionHandle>(*state->generator)));
  });
}

ptgc_status ptgc_session_append(ptgc_session* session, const ptgc_token_id* token_ids,
                                size_t count) {
  return Guarded([&] {
    const Held held(session);
    held->Append(ReadTokens(token_ids, count, held.generator(), "token_ids"));
  });
}

ptgc_status ptgc_session_generate(ptgc_session* session, const ptgc_request* request,
                                  ptgc_on_chunk on_chunk, void* user_data, ptgc_result** result) {
  return Guarded([&] {
    RequirePointer(result, "result");
    *result = nullptr;
    const Held held(session);
    const Callback callback{on_chunk, user_data, held.whose().get()};
    *result = Results().Add(Generate(held, request, callback));
  });
}

ptgc_status ptgc_session_rewind(ptgc_session* session, size_t count) {
  return Guarded([&] {
    const Held held(session);
    constexpr std::size_t kMost = std::numeric_limits<int>::max();
    held->Rewind(static_cast<int>(std::min(count, kMost)));
  });
}

ptgc_status ptgc_session_reset(ptgc_session* session) {
  return Guarded([&] { Held(session)->Reset(); });
}

ptgc_status ptgc_session_fork(ptgc_session* session, ptgc_session** copy) {
  return Guarded([&] {
    RequirePointer(copy, "copy");
    *copy = nullptr;
    const Held held(session);
    *copy = Sessions().Add(std::make_shared<SessionState>(held.whose(), held->Fork()));
  });
}

ptgc_status ptgc_session_get_length(ptgc_session* session, size_t* length) {
  return Guarded([&] {
    RequirePointer(length, "length");
    *length = static_cast<std::size_t>(Held(session)->Length());
  });
}

ptgc_status ptgc_session_get_token_ids(ptgc_session* session, ptgc_token_id* token_ids,
                                       size_t capacity, size_t* length) {
  return Guarded([&] {
    RequirePointer(length, "length");
    if (capacity > 0) RequirePointer(token_ids, "token_ids");
    const std::vector<ptgc::TokenId> tokens = Held(session)->Tokens();
    std::copy_n(tokens.begin(), std::min(capacity, tokens.size()), token_ids);
    *length = tokens.size();
  });
}

ptgc_status ptgc_session_cancel(ptgc_session* session) {
  return Guarded([&] { Sessions().Find(session)->session->Cancel(); });
}

ptgc_status ptgc_session_close(ptgc_session* session) {
  return Guarded([&] {
    if (session == nullptr) return;
    RefuseWithinCallback(*Sessions().Find(session)->generator);
    // The last user of the session gives the row back: this call, or a running one.
    const std::shared_ptr<SessionState> state = Sessions().Remove(session);
    state->closed = true;
    state->session->Cancel();
  });
}

}  // extern "C"
