// ptgc.hpp: the ptgc runtime in C++17, header-only over ptgc.h, whose comments apply here too.
// Failures are thrown as ptgc::Error; objects close their handles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ptgc.h"

namespace ptgc {
inline namespace v1 {

using TokenId = ptgc_token_id;
using TokenIds = std::vector<TokenId>;

// A failure of a function of ptgc.h; what() is its message.
class Error : public std::runtime_error {
 public:
  Error(ptgc_status status, const char* message, const char* action)
      : std::runtime_error(message), status_(status), action_(action) {}

  ptgc_status status() const { return status_; }
  // "usage", "capacity", ...
  const char* code() const { return ptgc_status_name(status_); }
  const std::string& action() const { return action_; }

 private:
  ptgc_status status_;  // The kind of failure.
  std::string action_;  // What to do about it; may be empty.
};

// How a build is loaded: see ptgc_load_options.
struct LoadOptions {
  std::string build_id;                        // Empty: the newest for the device.
  std::string device = "cpu";                  // Kind of device.
  std::string drafter;                         // Empty: as tuned, or the first that can draft.
  int num_threads = 0;                         // 0: as tuned, or the available processors.
  int num_draft_tokens = -1;                   // -1: as tuned, or the plan's.
  bool measured_draft_length = true;           // Verify as many drafts as pay here.
  int acceptance = PTGC_ACCEPTANCE_PLANNED;    // PTGC_ACCEPTANCE_...
  int ngram_match = PTGC_NGRAM_MATCH_PLANNED;  // PTGC_NGRAM_MATCH_...
  int overlap = PTGC_OVERLAP_TUNED;            // PTGC_OVERLAP_...
  bool verify = true;                          // Compare the files with their hashes.
  double wait_seconds = -1;                    // How long a call waits for a row.
  int max_waiting_texts = -1;                  // Most texts that may wait; -1: no limit.
  std::string datastore;                       // The file, for bundles that draft from one.
  std::string library;                         // Empty: $PTGC_ONNXRUNTIME, or found.
  const void* ort_api_base = nullptr;          // Result of OrtGetApiBase(), to use it.
};

// How tokens are chosen: see ptgc_sampling.
struct Sampling {
  double temperature = 0;                   // 0 chooses the most probable token.
  int top_k = 0;                            // 0: all.
  double top_p = 1;                         // 1: all.
  double min_p = 0;                         // 0: all.
  double repetition_penalty = 0;            // 1: none; 0: the bundle's.
  double presence_penalty = 0;              // 0: none.
  double frequency_penalty = 0;             // 0: none.
  std::vector<ptgc_logit_bias> logit_bias;  // Biases of single tokens.
  std::optional<std::uint64_t> seed;        // None: a new one, which the result gives.
};

// One text to write: see ptgc_request.
struct Request {
  TokenIds prompt_ids;                   // What to continue; in a session, what to add first.
  std::int64_t max_new_tokens = 0;       // 0: 256, or as many as fit.
  TokenIds eos_token_ids;                // Any of them ends the text; empty: the model's.
  bool ignore_eos = false;               // Continue after the token that ends a text.
  std::vector<TokenIds> stop_sequences;  // Each ends the text and is not part of it.
  Sampling sampling;                     // By default the most probable tokens.
  double deadline_seconds = 0;           // Generation stops after this time; 0: never.
  bool plain = false;                    // Decode without drafts.
  bool ignore_defaults = false;          // Ignore the bundle's generation defaults.
  int num_steps = 0;                     // Most rounds of a canvas; 0: the bundle's.
  std::optional<double> threshold;       // Of a canvas's policy; none: the bundle's.
};

// Receives new tokens in the calling thread; false ends that text. An exception from it ends all
// texts and is thrown by the call.
using OnChunk = std::function<bool(const ptgc_chunk&)>;

namespace internal {

inline void Check(ptgc_status status) {
  if (status == PTGC_OK) return;
  throw Error(status, ptgc_last_error_message(), ptgc_last_error_action());
}

inline const char* OrNull(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

template <typename Handle, ptgc_status (*close)(Handle*)>
struct Closer {
  void operator()(Handle* handle) const { close(handle); }
};
template <typename Handle, ptgc_status (*close)(Handle*)>
using Owned = std::unique_ptr<Handle, Closer<Handle, close>>;

// A request in the form of ptgc.h; refers to the one that it was made from.
class RequestView {
 public:
  explicit RequestView(const Request& from) {
    for (const TokenIds& stop : from.stop_sequences) stops_.push_back({stop.data(), stop.size()});
    request_.prompt_ids = from.prompt_ids.data();
    request_.num_prompt_ids = from.prompt_ids.size();
    request_.eos_token_ids = from.eos_token_ids.empty() ? nullptr : from.eos_token_ids.data();
    request_.num_eos_token_ids = from.eos_token_ids.size();
    request_.stop_sequences = stops_.data();
    request_.num_stop_sequences = stops_.size();
    request_.deadline_seconds = from.deadline_seconds;
    request_.max_new_tokens = from.max_new_tokens;
    request_.ignore_eos = from.ignore_eos ? 1 : 0;
    request_.plain = from.plain ? 1 : 0;
    request_.ignore_defaults = from.ignore_defaults ? 1 : 0;
    request_.num_steps = from.num_steps;
    request_.threshold = from.threshold.value_or(-1.0);
    request_.sampling = &sampling_;
    SetSampling(from.sampling);
  }
  RequestView(const RequestView&) = delete;
  RequestView& operator=(const RequestView&) = delete;

  const ptgc_request* get() const { return &request_; }

 private:
  void SetSampling(const Sampling& from) {
    sampling_.temperature = from.temperature;
    sampling_.top_k = from.top_k;
    sampling_.top_p = from.top_p;
    sampling_.min_p = from.min_p;
    sampling_.repetition_penalty = from.repetition_penalty;
    sampling_.presence_penalty = from.presence_penalty;
    sampling_.frequency_penalty = from.frequency_penalty;
    sampling_.logit_bias = from.logit_bias.data();
    sampling_.num_logit_bias = from.logit_bias.size();
    sampling_.has_seed = from.seed.has_value() ? 1 : 0;
    sampling_.seed = from.seed.value_or(0);
  }

  std::vector<ptgc_token_sequence> stops_;       // Views of the stop sequences.
  ptgc_sampling sampling_ = PTGC_SAMPLING_INIT;  // Pointed to by the request.
  ptgc_request request_ = PTGC_REQUEST_INIT;     // What ptgc.h takes.
};

// Calls an OnChunk; stores what it throws until the call has returned.
class Listener {
 public:
  explicit Listener(const OnChunk& on_chunk) : on_chunk_(on_chunk) {}

  ptgc_on_chunk function() const { return on_chunk_ ? &Listener::Hear : nullptr; }
  // An exception of the callback takes precedence over the call's status.
  void Check(ptgc_status status) const {
    if (thrown_) std::rethrow_exception(thrown_);
    internal::Check(status);
  }

 private:
  static std::int32_t Hear(void* self, const ptgc_chunk* chunk) {
    auto* listener = static_cast<Listener*>(self);
    if (listener->thrown_) return PTGC_STOP;
    try {
      return listener->on_chunk_(*chunk) ? PTGC_CONTINUE : PTGC_STOP;
    } catch (...) {
      listener->thrown_ = std::current_exception();
      return PTGC_STOP;
    }
  }

  const OnChunk& on_chunk_;    // May be empty.
  std::exception_ptr thrown_;  // The exception that it threw.
};

}  // namespace internal

// One text, written.
class Result {
 public:
  explicit Result(ptgc_result* handle) : handle_(handle) {}

  TokenIds token_ids() const {
    const TokenId* ids = nullptr;
    std::size_t count = 0;
    internal::Check(ptgc_result_get_token_ids(handle_.get(), &ids, &count));
    return TokenIds(ids, ids + count);
  }
  ptgc_finish_reason finish_reason() const {
    ptgc_finish_reason reason = PTGC_FINISH_LENGTH;
    internal::Check(ptgc_result_get_finish_reason(handle_.get(), &reason));
    return reason;
  }
  // Its fallback_reason is valid as long as this result.
  ptgc_statistics statistics() const {
    ptgc_statistics statistics = PTGC_STATISTICS_INIT;
    internal::Check(ptgc_result_get_statistics(handle_.get(), &statistics));
    return statistics;
  }
  // How drafts fared, by depth and rank.
  std::vector<ptgc_draft_count> draft_counts() const {
    const ptgc_draft_count* counts = nullptr;
    std::size_t count = 0;
    internal::Check(ptgc_result_get_draft_counts(handle_.get(), &counts, &count));
    return {counts, counts + count};
  }
  std::uint64_t seed() const {
    std::uint64_t seed = 0;
    internal::Check(ptgc_result_get_seed(handle_.get(), &seed));
    return seed;
  }

 private:
  internal::Owned<ptgc_result, ptgc_result_free> handle_;  // Freed with this.
};

// Text that stays in the cache between calls; takes a row until it is destroyed.
class Session {
 public:
  explicit Session(ptgc_session* handle) : handle_(handle) {}

  void Append(const TokenIds& token_ids) {
    internal::Check(ptgc_session_append(handle_.get(), token_ids.data(), token_ids.size()));
  }
  Result Generate(const Request& request, const OnChunk& on_chunk = nullptr) {
    const internal::RequestView view(request);
    internal::Listener listener(on_chunk);
    ptgc_result* result = nullptr;
    const ptgc_status status =
        ptgc_session_generate(handle_.get(), view.get(), listener.function(), &listener, &result);
    Result owned(result);
    listener.Check(status);
    return owned;
  }
  void Rewind(std::size_t count) { internal::Check(ptgc_session_rewind(handle_.get(), count)); }
  void Reset() { internal::Check(ptgc_session_reset(handle_.get())); }
  Session Fork() {
    ptgc_session* copy = nullptr;
    internal::Check(ptgc_session_fork(handle_.get(), &copy));
    return Session(copy);
  }
  // From any thread.
  void Cancel() { internal::Check(ptgc_session_cancel(handle_.get())); }

  std::size_t length() const {
    std::size_t length = 0;
    internal::Check(ptgc_session_get_length(handle_.get(), &length));
    return length;
  }
  TokenIds token_ids() const {
    TokenIds ids(length());
    std::size_t length = 0;
    internal::Check(ptgc_session_get_token_ids(handle_.get(), ids.data(), ids.size(), &length));
    ids.resize(length < ids.size() ? length : ids.size());
    return ids;
  }

 private:
  internal::Owned<ptgc_session, ptgc_session_close> handle_;  // Closed with this.
};

// A loaded build; safe to use from many threads.
class Generator {
 public:
  // `path` is a bundle, or one build of it.
  explicit Generator(const std::string& path, const LoadOptions& options = {}) {
    ptgc_load_options load = PTGC_LOAD_OPTIONS_INIT;
    load.build_id = internal::OrNull(options.build_id);
    load.device = internal::OrNull(options.device);
    load.drafter = internal::OrNull(options.drafter);
    load.num_threads = options.num_threads;
    load.num_draft_tokens = options.num_draft_tokens;
    load.draft_length =
        options.measured_draft_length ? PTGC_DRAFT_LENGTH_MEASURED : PTGC_DRAFT_LENGTH_FIXED;
    load.skip_verification = options.verify ? 0 : 1;
    load.acceptance = options.acceptance;
    load.ngram_match = options.ngram_match;
    load.overlap = options.overlap;
    load.wait_seconds = options.wait_seconds;
    load.max_waiting_texts = options.max_waiting_texts;
    load.datastore = internal::OrNull(options.datastore);
    load.library = internal::OrNull(options.library);
    load.ort_api_base = options.ort_api_base;
    ptgc_generator* opened = nullptr;
    internal::Check(ptgc_generator_open(path.c_str(), &load, &opened));
    handle_.reset(opened);
  }

  Result Generate(const Request& request, const OnChunk& on_chunk = nullptr) {
    return std::move(Generate(std::vector<Request>{request}, on_chunk).front());
  }
  // Writes any number of texts; results come in the order of the requests.
  std::vector<Result> Generate(const std::vector<Request>& requests,
                               const OnChunk& on_chunk = nullptr) {
    std::vector<std::unique_ptr<internal::RequestView>> views;
    std::vector<const ptgc_request*> pointers;
    for (const Request& request : requests) {
      views.push_back(std::make_unique<internal::RequestView>(request));
      pointers.push_back(views.back()->get());
    }
    internal::Listener listener(on_chunk);
    std::vector<ptgc_result*> handles(requests.size(), nullptr);
    const ptgc_status status =
        ptgc_generator_generate(handle_.get(), pointers.data(), pointers.size(),
                                listener.function(), &listener, handles.data());
    std::vector<Result> results;
    for (ptgc_result* handle : handles) results.emplace_back(handle);
    listener.Check(status);
    return results;
  }
  Session OpenSession() {
    ptgc_session* session = nullptr;
    internal::Check(ptgc_session_open(handle_.get(), &session));
    return Session(session);
  }
  // Its pointers are valid as long as this generator.
  ptgc_generator_info info() const {
    ptgc_generator_info info = PTGC_GENERATOR_INFO_INIT;
    internal::Check(ptgc_generator_get_info(handle_.get(), &info));
    return info;
  }

 private:
  internal::Owned<ptgc_generator, ptgc_generator_close> handle_;  // Closed with this.
};

}  // namespace v1
}  // namespace ptgc
