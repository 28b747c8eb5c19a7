// The Python module ptgc.runtime._core, which only wraps the generator.
#include <nanobind/nanobind.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/names.h"
#include "base/processors.h"
#include "bundle/bundle_limits.h"
#include "callbacks.h"
#include "datastore_binding.h"
#include "drafters/registry.h"
#include "engines/device.h"
#include "engines/gpu/cuda.h"
#include "kernels/block_product.h"
#include "loops/request.h"
#include "python_errors.h"
#include "running_call.h"
#include "sampling/sampling_options.h"
#include "serving/generator.h"
#include "serving/session_handle.h"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace ptgc {
namespace {

template <typename Enum>
Enum ReadName(const std::string& name, const std::string& what) {
  const std::optional<Enum> found = FromName<Enum>(name);
  if (found.has_value()) return *found;
  std::string all;
  for (std::string_view one : Names<Enum>::kAll)
    all += (all.empty() ? "" : ", ") + std::string(one);
  throw Error(ErrorCode::kUsage, "There is no " + what + " '" + name + "'.",
              "Choose from: " + all + ".");
}

template <typename Enum>
std::optional<Enum> ReadOptionalName(const std::optional<std::string>& name,
                                     const std::string& what) {
  if (!name.has_value()) return std::nullopt;
  return ReadName<Enum>(*name, what);
}

template <typename Enum>
std::vector<std::string> AllNames() {
  return {Names<Enum>::kAll.begin(), Names<Enum>::kAll.end()};
}

std::vector<std::string> DrafterKindNames() {
  std::vector<std::string> names;
  for (const DrafterKind& kind : DrafterKinds()) names.emplace_back(kind.name);
  return names;
}

std::map<std::string, std::vector<std::string>> EnumNames() {
  return {
      {"Guarantee", AllNames<Guarantee>()},
      {"DrafterKind", DrafterKindNames()},
      {"Loop", AllNames<LoopKind>()},
      {"NgramMatch", AllNames<NgramMatch>()},
      {"DrafterVocabulary", AllNames<DrafterVocabulary>()},
      {"CanvasCache", AllNames<CanvasCache>()},
      {"PolicyKind", AllNames<PolicyKind>()},
      {"ConfidenceOf", AllNames<ConfidenceOf>()},
      {"Schedule", AllNames<Schedule>()},
      {"CanvasStop", AllNames<CanvasStop>()},
      {"EditStart", AllNames<EditStart>()},
      {"OneShotPath", AllNames<OneShotPath>()},
      {"AcceptanceRule", AllNames<AcceptanceRule>()},
      {"DType", AllNames<DType>()},
      {"StateKind", AllNames<StateKind>()},
      {"AttentionKind", AllNames<AttentionKind>()},
      {"FinishReason", AllNames<FinishReason>()},
      {"DraftLengthMode", AllNames<DraftLengthMode>()},
  };
}

// The limits of a bundle's documents, by their names in ptgc.spec.limits.
std::map<std::string, std::int64_t> Limits() {
  return {
      {"MAX_JSON_BYTES", static_cast<std::int64_t>(limits::kDocumentBytes)},
      {"MAX_JSON_DEPTH", limits::kDocumentDepth},
      {"MAX_STRING", static_cast<std::int64_t>(limits::kTextLength)},
      {"MAX_BATCH", limits::kBatch.most},
      {"MAX_SIZES", limits::kEntries},
      {"MAX_WIDTH", limits::kWidth.most},
      {"MAX_LENGTH", limits::kLength.most},
      {"MAX_CAPACITY", limits::kCapacity.most},
      {"MAX_VOCAB_SIZE", limits::kVocabSize.most},
      {"MAX_CONTEXT_LENGTH", limits::kContextLength.most},
      {"MAX_STATES", limits::kStates},
      {"MAX_HEADS", limits::kHeads.most},
      {"MAX_EOS_TOKENS", limits::kEndTokens},
      {"MAX_TREE_NODES", limits::kTreeNodes},
      {"MAX_NGRAM_SIZE", limits::kNgramSize.most},
      {"MAX_ROUNDS", limits::kRounds.most},
      {"MAX_UPSAMPLING", limits::kUpsampling.most},
      {"MAX_COUNT", limits::kFileSize.most},
      {"MAX_BUFFER_BYTES", limits::kBufferBytes},
  };
}

void BindSampling(nb::module_& module) {
  nb::class_<SamplingOptions>(module, "SamplingOptions", "How a token is chosen from logits.")
      .def(
          "__init__",
          [](SamplingOptions* self, double temperature, std::int64_t top_k, double top_p,
             double min_p, double repetition_penalty, double presence_penalty,
             double frequency_penalty, const std::map<TokenId, float>& logit_bias,
             std::uint64_t seed) {
            auto* made = new (self) SamplingOptions;
            made->temperature = temperature;
            made->top_k = top_k;
            made->top_p = top_p;
            made->min_p = min_p;
            made->repetition_penalty = repetition_penalty;
            made->presence_penalty = presence_penalty;
            made->frequency_penalty = frequency_penalty;
            for (const auto& [token, bias] : logit_bias) made->logit_bias.push_back({token, bias});
            made->seed = seed;
          },
          "temperature"_a = 0.0, "top_k"_a = 0, "top_p"_a = 1.0, "min_p"_a = 0.0,
          "repetition_penalty"_a = 1.0, "presence_penalty"_a = 0.0, "frequency_penalty"_a = 0.0,
          "logit_bias"_a = std::map<TokenId, float>(), "seed"_a = 0)
      .def_ro("temperature", &SamplingOptions::temperature, "0 for the largest logit.")
      .def_ro("seed", &SamplingOptions::seed, "Equal seeds give equal texts.");
}

void BindRequest(nb::module_& module) {
  nb::class_<Request>(module, "Request", "One text to write.")
      .def(
          "__init__",
          [](Request* self, std::vector<TokenId> prompt_ids, int max_new_tokens,
             std::vector<TokenId> eos_token_ids, bool plain, double deadline_seconds, bool trace,
             const SamplingOptions& sampling, int num_steps, std::optional<double> threshold) {
            new (self) Request{std::move(prompt_ids),
                               max_new_tokens,
                               std::move(eos_token_ids),
                               plain,
                               deadline_seconds,
                               trace,
                               sampling,
                               {num_steps, threshold}};
          },
          "prompt_ids"_a, "max_new_tokens"_a, "eos_token_ids"_a = std::vector<TokenId>(),
          "plain"_a = false, "deadline_seconds"_a = 0.0, "trace"_a = false,
          "sampling"_a = SamplingOptions(), "num_steps"_a = 0, "threshold"_a = nb::none())
      .def_ro("prompt_ids", &Request::prompt_ids,
              "What to continue; in a session, what to add first.")
      .def_ro("max_new_tokens", &Request::max_new_tokens, "Tokens to write at most.")
      .def_ro("eos_token_ids", &Request::eos_token_ids,
              "Any of them ends the text and is its last token.")
      .def_ro("plain", &Request::plain, "Decode without drafts.")
      .def_ro("deadline_seconds", &Request::deadline_seconds,
              "The text ends as it is after so long; 0 for never.")
      .def_ro("trace", &Request::trace, "Keep what every round did.")
      .def_ro("sampling", &Request::sampling, "How tokens are chosen.");
}

void BindStatistics(nb::module_& module) {
  nb::class_<DraftCount>(module, "DraftCount", "How drafts of one place in their trees fared.")
      .def_ro("depth", &DraftCount::depth, "1 for a child of the root.")
      .def_ro("rank", &DraftCount::rank, "Among its siblings, from 0.")
      .def_ro("tried", &DraftCount::tried, "Drafts there whose parent was accepted.")
      .def_ro("accepted", &DraftCount::accepted, "How many of them were accepted.");
  nb::class_<Statistics>(module, "Statistics", "What was done for one text and what it cost.")
      .def_ro("prompt_tokens", &Statistics::prompt_tokens, "Tokens before the first new one.")
      .def_ro("new_tokens", &Statistics::new_tokens, "Tokens written.")
      .def_ro("rounds", &Statistics::rounds, "Rounds after the first new token.")
      .def_ro("plain_rounds", &Statistics::plain_rounds, "Those without draft tokens.")
      .def_ro("fallback_reason", &Statistics::fallback_reason,
              "Why drafts were mostly declined, if they were.")
      .def_ro("drafted_tokens", &Statistics::drafted_tokens, "Draft tokens verified.")
      .def_ro("accepted_tokens", &Statistics::accepted_tokens, "Draft tokens accepted.")
      .def_ro("draft_counts", &Statistics::draft_counts, "The same by depth and rank.")
      .def_ro("ahead_tokens", &Statistics::ahead_tokens,
              "Draft tokens made while the target verified others.")
      .def_ro("ahead_used_tokens", &Statistics::ahead_used_tokens,
              "How many of them were verified.")
      .def_ro("mean_accept_length", &Statistics::mean_accept_length, "New tokens per round.")
      .def_ro("load_seconds", &Statistics::load_seconds, "Opening the build.")
      .def_ro("time_to_first_token", &Statistics::time_to_first_token,
              "From the call, waiting for a row included.")
      .def_ro("prefill_seconds", &Statistics::prefill_seconds,
              "From the row's start to its first new token.")
      .def_ro("decode_seconds", &Statistics::decode_seconds,
              "From the first new token to the last.")
      .def_ro("engine_seconds", &Statistics::engine_seconds,
              "Inside engine calls, part of decode_seconds.")
      .def_ro("draft_seconds", &Statistics::draft_seconds, "Drafting, part of decode_seconds.")
      .def_ro("accept_seconds", &Statistics::accept_seconds,
              "Choosing tokens and accepting drafts, part of decode_seconds.")
      .def_ro("commit_seconds", &Statistics::commit_seconds,
              "Moving what was accepted, part of decode_seconds.")
      .def_ro("tokens_per_second", &Statistics::tokens_per_second,
              "New tokens of decode rounds / decode_seconds.")
      .def_ro("peak_memory_bytes", &Statistics::peak_memory_bytes,
              "Largest resident memory of the process so far.")
      .def_ro("graph_launches", &Statistics::graph_launches,
              "Engine runs on a device that were one captured graph, in decode rounds.")
      .def_ro("uncaptured_runs", &Statistics::uncaptured_runs,
              "Those that were queued piece by piece.")
      .def_ro("synchronisations", &Statistics::synchronisations,
              "Waits of the host for the device, in decode rounds.");
}

void BindResult(nb::module_& module) {
  nb::class_<TraceRound>(module, "TraceRound", "One round of one text.")
      .def_ro("width", &TraceRound::width, "Rows that the engine ran.")
      .def_ro("drafted_ids", &TraceRound::drafted_ids, "Draft tokens verified.")
      .def_ro("part", &TraceRound::part, "Which of merged drafters made them.")
      .def_ro("is_ahead", &TraceRound::is_ahead, "Whether they were made during the round before.")
      .def_ro("parents", &TraceRound::parents, "The node that each of them follows; 0 is the root.")
      .def_ro("path", &TraceRound::path, "The nodes that were accepted.")
      .def_ro("accepted", &TraceRound::accepted, "How many of them became text.")
      .def_ro("filled_positions", &TraceRound::filled_positions,
              "Positions of a canvas that were filled.")
      .def_ro("filled_ids", &TraceRound::filled_ids, "Their tokens.")
      .def_ro("confidences", &TraceRound::confidences, "The probabilities of these.")
      .def_ro("emitted_ids", &TraceRound::emitted_ids,
              "New tokens; none while a prompt is being read.")
      .def_ro("engine_seconds", &TraceRound::engine_seconds, "Inside engine calls.")
      .def_ro("draft_seconds", &TraceRound::draft_seconds, "Drafting, engine calls included.")
      .def_ro("accept_seconds", &TraceRound::accept_seconds,
              "Choosing tokens and accepting drafts.")
      .def_ro("commit_seconds", &TraceRound::commit_seconds, "Moving what was accepted.")
      .def_ro("round_seconds", &TraceRound::round_seconds, "The whole round.");
  nb::class_<Result>(module, "Result", "One text, written.")
      .def_ro("token_ids", &Result::token_ids, "The new tokens.")
      .def_prop_ro(
          "finish_reason", [](const Result& self) { return std::string(Name(self.finish_reason)); },
          "eos, length, stop, cancelled or deadline.")
      .def_ro("statistics", &Result::statistics, nb::rv_policy::reference_internal,
              "What was done and what it cost.")
      .def_ro("trace", &Result::trace, "Round by round, where asked for.");
}

// Binds a method of sessions, which runs without the interpreter's lock.
template <typename Return, typename... Args>
auto Unlocked(Return (SessionHandle::*method)(Args...)) {
  return [method](SessionHandle& self, Args... args) {
    return RunUnlocked(&self.generator(), [&] { return (self.*method)(args...); });
  };
}

void BindCancellation(nb::module_& module) {
  nb::class_<Cancellation>(module, "Cancellation", "Ends the calls that it was given to.")
      .def(nb::init<>())
      .def(
          "cancel", [](Cancellation& self) { self.is_set = true; },
          "From any thread: their texts end as they are, also those that wait for a row.");
}

void BindSession(nb::module_& module) {
  nb::class_<SessionHandle>(module, "Session", "Text that stays in the cache between calls.")
      .def(
          "append",
          [](SessionHandle& self, const std::vector<TokenId>& ids) {
            RunUnlocked(&self.generator(), [&] { self.Append(ids); });
          },
          "token_ids"_a, "Adds a prompt or a part of one.")
      .def(
          "generate",
          [](SessionHandle& self, const Request& request, const Callback& on_tokens,
             const Cancellation* cancellation, const FillCallback& on_fills) {
            const Hooks hooks = MakeHooks(on_tokens, cancellation, on_fills);
            return RunUnlocked(&self.generator(), [&] { return self.Generate(request, hooks); });
          },
          "request"_a, "on_tokens"_a = nb::none(), "cancellation"_a.none() = nb::none(),
          "on_fills"_a = nb::none(),
          "Continues the text, after adding the request's prompt, if any.")
      .def("rewind", Unlocked(&SessionHandle::Rewind), "count"_a, "Drops the last tokens.")
      .def(
          "fork",
          [](SessionHandle& self) {
            const Hooks hooks = MakeHooks();
            return RunUnlocked(&self.generator(), [&] { return self.Fork(hooks).release(); });
          },
          nb::rv_policy::take_ownership, nb::keep_alive<0, 1>(),
          "Another session with the same text; nothing of it is read again.")
      .def("reset", Unlocked(&SessionHandle::Reset), "Drops everything.")
      .def("cancel", Unlocked(&SessionHandle::Cancel),
           "From any thread: ends the generation that is under way.")
      .def("close", &SessionHandle::Close, "Gives the row back.")
      .def_prop_ro("tokens", Unlocked(&SessionHandle::Tokens), "Prompt and text.")
      .def_prop_ro("length", Unlocked(&SessionHandle::Length), "Number of tokens.");
}

void BindGenerator(nb::module_& module) {
  nb::class_<Generator>(module, "Generator", "A loaded build; many threads may use one.")
      .def(nb::new_([](const std::filesystem::path& build_directory, int num_threads,
                       const std::string& library, const std::map<std::string, Costs>& costs,
                       const std::string& draft_length, int num_draft_tokens,
                       std::optional<std::vector<int>> tree, std::vector<double> gains,
                       const std::optional<std::string>& acceptance,
                       const std::optional<std::string>& ngram_match, std::optional<bool> overlap,
                       std::optional<bool> tuned_overlap, const std::string& datastore,
                       const std::string& drafter, double wait_seconds, int max_waiting,
                       const nb::object& to_drafter, const nb::object& to_target, bool verify) {
             GeneratorOptions options;
             options.load.num_threads = num_threads;
             options.load.library = library;
             options.load.costs = costs;
             options.load.draft_length = ReadName<DraftLengthMode>(draft_length, "draft length");
             options.load.num_draft_tokens = num_draft_tokens;
             options.load.tree = std::move(tree);
             options.load.gains = std::move(gains);
             options.load.acceptance =
                 ReadOptionalName<AcceptanceRule>(acceptance, "acceptance rule");
             options.load.ngram_match = ReadOptionalName<NgramMatch>(ngram_match, "n-gram match");
             options.load.overlap = overlap;
             options.load.tuned_overlap = tuned_overlap;
             options.load.datastore = datastore;
             options.load.drafter = drafter;
             options.load.reencoding = {MakeReencode(to_drafter), MakeReencode(to_target)};
             options.waiting = {wait_seconds, max_waiting};
             options.verify = verify;
             return RunUnlocked(nullptr, [&] { return Generator::Open(build_directory, options); });
           }),
           "build_directory"_a, "num_threads"_a = 0, "library"_a = "",
           "costs"_a = std::map<std::string, Costs>(), "draft_length"_a = "measured",
           "num_draft_tokens"_a = -1, "tree"_a = nb::none(), "gains"_a = std::vector<double>(),
           "acceptance"_a = nb::none(), "ngram_match"_a = nb::none(), "overlap"_a = nb::none(),
           "tuned_overlap"_a = nb::none(), "datastore"_a = "", "drafter"_a = "",
           "wait_seconds"_a = -1.0, "max_waiting"_a = -1, "to_drafter"_a = nb::none(),
           "to_target"_a = nb::none(), "verify"_a = false)
      .def(
          "generate",
          [](Generator& self, const std::vector<const Request*>& requests,
             const Callback& on_tokens, const Cancellation* cancellation,
             const FillCallback& on_fills) {
            std::vector<Request> copies;
            for (const Request* request : requests) {
              if (request == nullptr) throw nb::type_error("requests must not contain None");
              copies.push_back(*request);
            }
            const Hooks hooks = MakeHooks(on_tokens, cancellation, on_fills);
            return RunUnlocked(&self, [&] { return self.Generate(copies, hooks); });
          },
          "requests"_a, "on_tokens"_a = nb::none(), "cancellation"_a.none() = nb::none(),
          "on_fills"_a = nb::none(),
          "Writes any number of texts; `on_tokens(index, ids)` ends a text by returning False. "
          "`on_fills(index, positions, ids)` hears what a round filled into a canvas.")
      .def(
          "session",
          [](Generator& self) {
            const Hooks hooks = MakeHooks();
            return RunUnlocked(&self, [&] { return new SessionHandle(self, hooks); });
          },
          nb::rv_policy::take_ownership, nb::keep_alive<0, 1>(), "Takes a free row.")
      .def(
          "measure",
          [](Generator& self, int num_tokens, int num_logits, int past_length, int repeats,
             const std::string& role) {
            const EngineRuns runs{role, num_tokens, num_logits, past_length, repeats};
            return RunUnlocked(&self, [&] { return self.Measure(runs); });
          },
          "num_tokens"_a, "num_logits"_a, "past_length"_a, "repeats"_a, "role"_a = "target",
          "Seconds of each of `repeats` bare engine runs of a role.")
      .def(
          "close",
          [](Generator& self) {
            // At exit, calls were ended already, and the process frees the memory.
            if (!AreCallsEnding()) RunUnlocked(&self, [&] { self.Close(); });
          },
          "Gives the engine's memory back.")
      .def_prop_ro("batch_size",
                   [](const Generator& self) { return self.bundle().num_sequences(); })
      .def_prop_ro("max_length",
                   [](const Generator& self) { return self.bundle().shapes.max_length; })
      .def_prop_ro("context_length",
                   [](const Generator& self) { return self.bundle().model.context_length; })
      .def_prop_ro("vocab_size",
                   [](const Generator& self) { return self.bundle().model.vocab_size; })
      .def_prop_ro("eos_token_ids",
                   [](const Generator& self) { return self.bundle().model.eos_token_ids; })
      .def_prop_ro("free_rows", &Generator::free_rows)
      .def_prop_ro("load_seconds", &Generator::load_seconds)
      .def_prop_ro("engine_library_version",
                   [](const Generator& self) { return self.library_version(); });
}

}  // namespace
}  // namespace ptgc

NB_MODULE(_core, module) {
  module.doc() = "The C++ runtime: loads a build and runs its loop over token ids.";
  nb::register_exception_translator(&ptgc::TranslateError);
  ptgc::BindSampling(module);
  ptgc::BindRequest(module);
  ptgc::BindStatistics(module);
  ptgc::BindResult(module);
  ptgc::BindCancellation(module);
  ptgc::BindSession(module);
  ptgc::BindGenerator(module);
  ptgc::BindDatastore(module);
  module.def("available_processors", &ptgc::AvailableProcessors,
             "Number of processors that this process may use.");
  module.def("device_fingerprint", &ptgc::DeviceFingerprint, nb::arg("device") = "cpu",
             "Names this kind of processor, and for cuda its GPU, safe as a file name.");
  module.def("cuda_device_name", &ptgc::CudaDeviceName,
             "The first GPU of this machine; empty where there is none, or no driver.");
  module.def("end_calls", &ptgc::EndCalls,
             "Refuses all calls from now on, and ends and awaits those that are running.");
  module.def(
      "is_inside_call", [] { return ptgc::RunningCall::Innermost() != nullptr; },
      "Whether this thread is in a callback of a call.");
  module.def("peak_memory_bytes", &ptgc::PeakMemoryBytes,
             "Largest resident memory of the process so far.");
  module.def(
      "kernels", [] { return std::string(ptgc::ChosenBlockKernels().name); },
      "The instruction set of ptgc's own operators on this processor.");
  module.def("limits", &ptgc::Limits, "The largest numbers that a bundle's documents may hold.");
  module.def("enum_names", &ptgc::EnumNames,
             "The spellings of every enum of the core, and the kinds of drafters.");
}
