// The functions of generators: load, describe, write a batch, close.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "callback.h"
#include "handles.h"
#include "load.h"
#include "ptgc.h"
#include "request_reader.h"
#include "sized_struct.h"
#include "status.h"
#include "text_stream.h"

namespace ptgc::capi {
namespace {

// Size of version 1 of the API: up to its last field.
constexpr std::size_t kInfoSize =
    offsetof(ptgc_generator_info, load_seconds) + sizeof(ptgc_generator_info::load_seconds);

// The most texts of one call; a larger count must be uninitialised.
constexpr std::int64_t kMostTexts = 1 << 20;

ptgc_generator_info Describe(const GeneratorState& state) {
  Generator& generator = *state.generator;
  const Bundle& bundle = generator.bundle();
  ptgc_generator_info info = PTGC_GENERATOR_INFO_INIT;
  info.build_id = bundle.id.c_str();
  info.strategy = bundle.plan.strategy.c_str();
  info.guarantee = Name(bundle.plan.guarantee).data();  // A literal, which is null-terminated.
  info.backend = bundle.backend.c_str();
  info.library_version = generator.library_version().c_str();
  info.eos_token_ids = bundle.model.eos_token_ids.data();
  info.num_eos_token_ids = bundle.model.eos_token_ids.size();
  info.vocab_size = bundle.model.vocab_size;
  info.max_length = generator.limits().length();
  info.max_source_length = generator.limits().max_source_length;
  info.batch_size = bundle.num_sequences();
  info.free_rows = generator.free_rows();
  info.load_seconds = generator.load_seconds();
  return info;
}

// Reads the requests; errors name the request.
std::vector<ReadRequest> ReadRequests(std::span<const ptgc_request* const> requests,
                                      const Generator& generator) {
  std::vector<ReadRequest> read;
  for (const ptgc_request* request : requests) {
    try {
      read.push_back(ReadRequestOf(request, generator, /*held=*/0));
    } catch (const Error& error) {
      if (requests.size() == 1) throw;
      throw Error(error.code(), "Request " + std::to_string(read.size()) + ": " + error.message(),
                  error.action());
    }
  }
  return read;
}

// Registers a call for cancellation while it lives.
class CancellableCall {
 public:
  CancellableCall(GeneratorState& state, const void* user_data) : state_(state) {
    const std::lock_guard lock(state_.calls_mutex);
    call_ = state_.calls.emplace(state_.calls.end());
    call_->user_data = user_data;
  }
  ~CancellableCall() {
    const std::lock_guard lock(state_.calls_mutex);
    state_.calls.erase(call_);
  }
  CancellableCall(const CancellableCall&) = delete;
  CancellableCall& operator=(const CancellableCall&) = delete;

  const std::atomic<bool>* cancelled() const { return &call_->cancelled; }

 private:
  GeneratorState& state_;                // The generator of the call.
  std::list<CallState>::iterator call_;  // The call in its list.
};

std::vector<std::shared_ptr<ResultState>> WriteTexts(GeneratorState& state,
                                                     std::vector<ReadRequest> read,
                                                     const Callback& callback) {
  std::vector<Request> requests;
  std::vector<TextStream> streams;
  for (ReadRequest& one : read) {
    streams.emplace_back(requests.size(), std::move(one.stops), callback);
    requests.push_back(std::move(one.request));
  }
  const CancellableCall call(state, callback.user_data);
  Hooks hooks;
  hooks.cancelled = call.cancelled();
  hooks.on_tokens = [&streams](std::size_t index, std::span<const TokenId> tokens) {
    return streams[index].Append(tokens);
  };
  std::vector<Result> results = state.generator->Generate(requests, hooks);
  std::vector<std::shared_ptr<ResultState>> states;
  for (std::size_t i = 0; i < results.size(); ++i) {
    streams[i].Finish(results[i]);
    states.push_back(
        std::make_shared<ResultState>(std::move(results[i]), requests[i].sampling.seed));
  }
  return states;
}

}  // namespace
}  // namespace ptgc::capi

using namespace ptgc::capi;  // NOLINT: this file defines functions of the C API only

extern "C" {

ptgc_status ptgc_generator_open(const char* path, const ptgc_load_options* options,
                                ptgc_generator** generator) {
  return Guarded([&] {
    RequirePointer(generator, "generator");
    *generator = nullptr;
    RequirePointer(path, "path");
    *generator = Generators().Add(std::make_shared<GeneratorState>(Load(path, options)));
  });
}

ptgc_status ptgc_generator_get_info(const ptgc_generator* generator, ptgc_generator_info* info) {
  return Guarded([&] {
    const std::shared_ptr<GeneratorState> state = Generators().Find(generator);
    WriteSized(info, Describe(*state), kInfoSize, "ptgc_generator_info");
  });
}

ptgc_status ptgc_generator_generate(ptgc_generator* generator, const ptgc_request* const* requests,
                                    size_t count, ptgc_on_chunk on_chunk, void* user_data,
                                    ptgc_result** results) {
  return Guarded([&] {
    CheckCount(count, kMostTexts, "requests");
    if (results != nullptr) std::fill_n(results, count, nullptr);
    const std::shared_ptr<GeneratorState> state = Generators().Find(generator);
    RefuseWithinCallback(*state);
    if (count == 0) return;
    RequirePointer(requests, "requests");
    RequirePointer(results, "results");
    std::vector<ReadRequest> read = ReadRequests({requests, count}, *state->generator);
    const Callback callback{on_chunk, user_data, state.get()};
    std::vector<std::shared_ptr<ResultState>> written =
        WriteTexts(*state, std::move(read), callback);
    Results().AddAll(written, results);
  });
}

ptgc_status ptgc_generator_cancel(ptgc_generator* generator, const void* user_data) {
  return Guarded([&] {
    const std::shared_ptr<GeneratorState> state = Generators().Find(generator);
    const std::lock_guard lock(state->calls_mutex);
    for (CallState& call : state->calls) {
      if (call.user_data == user_data) call.cancelled = true;
    }
  });
}

ptgc_status ptgc_generator_close(ptgc_generator* generator) {
  return Guarded([&] {
    if (generator == nullptr) return;
    RefuseWithinCallback(*Generators().Find(generator));
    Generators().Remove(generator)->generator->Close();
  });
}

}  // extern "C"
