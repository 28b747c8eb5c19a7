#include "serving/generator.h"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/home_process.h"
#include "bundle/build_files.h"
#include "bundle/drafter_choice.h"

namespace ptgc {
namespace {

SessionLimits LimitsOf(const Bundle& bundle) {
  SessionLimits limits;
  limits.max_length = bundle.shapes.max_length;
  limits.context_length = bundle.model.context_length;
  limits.vocab_size = bundle.model.source_vocab_size.value_or(bundle.model.vocab_size);
  limits.start_token_id = bundle.model.start_token_id;
  if (bundle.plan.loop == LoopKind::kCanvas) {
    limits.mask_token_id = bundle.plan.canvas.mask_token_id;
  }
  const auto encoder = bundle.shapes.roles.find("encoder");
  if (encoder != bundle.shapes.roles.end()) {
    limits.max_source_length = encoder->second.source_lengths.back();
  }
  if (bundle.plan.loop == LoopKind::kEdit && bundle.plan.edit.start == EditStart::kSource) {
    // The edited text is on a canvas, between a begin and an end token.
    const RoleShapes& shapes = bundle.shapes.roles.at(bundle.plan.edit.operations.front());
    const int room = std::min(shapes.canvas_lengths.back() - 2, limits.length());
    const int read = limits.max_source_length;
    limits.max_source_length = read > 0 ? std::min(read, room) : room;
  }
  return limits;
}

void CheckThreads(int num_threads) {
  if (num_threads >= 0 && num_threads <= MostThreads()) return;
  throw Error(ErrorCode::kUsage,
              "num_threads is " + std::to_string(num_threads) + "; it must be from 1 to " +
                  std::to_string(MostThreads()) + ", or 0 for the engine's choice.",
              "Take as many as there are processors, or fewer.");
}

[[noreturn]] void RefuseSize(const std::string& id) {
  throw Error(ErrorCode::kCapacity, "Build '" + id + "' does not fit into this machine's memory.",
              "Build again with a smaller --max-length or --batch-size.");
}

}  // namespace

int MostThreads() { return std::max(256, static_cast<int>(std::thread::hardware_concurrency())); }

std::unique_ptr<Generator> Generator::Open(const std::filesystem::path& build_directory,
                                           const GeneratorOptions& options) {
  return Open(ReadBundle(build_directory), options);
}

std::unique_ptr<Generator> Generator::Open(Bundle bundle, const GeneratorOptions& options) {
  const Clock::time_point start = Clock::now();
  CheckThreads(options.load.num_threads);
  ExitForksAtOnce();
  const std::string id = bundle.id;
  try {
    auto generator = Load(std::move(bundle), options);
    generator->load_seconds_ = SecondsSince(start);
    return generator;
  } catch (const std::bad_alloc&) {
    RefuseSize(id);
  } catch (const std::length_error&) {
    RefuseSize(id);
  }
}

std::unique_ptr<Generator> Generator::Load(Bundle bundle, const GeneratorOptions& options) {
  ChooseDrafter(options.load.drafter, bundle);
  if (options.verify) VerifyOtherFiles(bundle);
  const std::unique_ptr<Backend> backend =
      MakeBackend({bundle.backend, bundle.device, options.load.library, options.load.ort_api_base,
                   bundle.min_onnxruntime});
  Engines engines;
  const bool takes_turns = bundle.roles.size() > 1;
  for (const auto& [name, role] : bundle.roles) {
    engines[name] = backend->Load(
        ReadEngineSource(bundle, role, options.verify),
        {options.load.num_threads, takes_turns, role.engine_options, role.updates_in_place});
  }
  auto generator = std::make_unique<Generator>(std::move(bundle), std::move(engines), options);
  generator->library_version_ = backend->Version();
  return generator;
}

Generator::Generator(Bundle bundle, Engines engines, const GeneratorOptions& options)
    : bundle_(std::move(bundle)), limits_(LimitsOf(bundle_)) {
  if (options.load.acceptance) bundle_.plan.SetAcceptance(*options.load.acceptance);
  std::vector<Session*> rows;
  for (int row = 0; row < bundle_.num_sequences(); ++row) {
    sessions_.push_back(std::make_unique<Session>(row, limits_));
    rows.push_back(sessions_.back().get());
  }
  std::shared_ptr<const DeviceCounters> counters;
  if (!engines.empty()) counters = engines.begin()->second->counters();
  loop_ = MakeLoop(bundle_, std::move(engines), options.load, rows);
  scheduler_ = std::make_unique<Scheduler>(*loop_, rows, options.waiting, std::move(counters));
}

// A forked process has neither the engines' threads nor the waiting threads; destroying the engines
// there would never return.
Generator::~Generator() {
  if (scheduler_->is_home()) return;
  static_cast<void>(scheduler_.release());
  static_cast<void>(loop_.release());
}

std::vector<Result> Generator::Generate(std::span<const Request> requests, const Hooks& hooks) {
  const Clock::time_point called = Clock::now();
  CheckRequests(requests);
  if (requests.empty()) return {};
  std::vector<Generation> generations;
  for (const Request& request : requests)
    generations.emplace_back(request, called, hooks.cancelled);
  scheduler_->Write(generations, hooks);
  std::vector<Result> results;
  for (Generation& generation : generations) {
    results.push_back(generation.TakeResult(load_seconds_));
  }
  return results;
}

std::vector<double> Generator::Measure(const EngineRuns& runs) {
  const Scheduler::Pause pause(*scheduler_);
  if (runs.repeats < 0) {
    throw Error(ErrorCode::kUsage, "A number of runs is below 0.", "Measure at least one.");
  }
  if (!scheduler_->AllFree()) {
    throw Error(ErrorCode::kBusy, "Sessions are open, whose text measuring would write over.",
                "Close them first.");
  }
  std::vector<double> seconds = loop_->Measure(runs);
  loop_->Clear();
  return seconds;
}

void Generator::Stop() { scheduler_->Stop(); }

void Generator::Close() {
  scheduler_->Close();
  loop_.reset();
}

void Generator::CheckRequests(std::span<const Request> requests) const {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const std::vector<TokenId>& prompt = requests[i].prompt_ids;
    try {
      limits_.CheckPrompt(0, prompt);
      limits_.CheckRequest(0, 0, prompt, requests[i].max_new_tokens);
      CheckOptions(requests[i]);
    } catch (const Error& error) {
      if (requests.size() == 1) throw;
      throw Error(error.code(), "Request " + std::to_string(i) + ": " + error.message(),
                  error.action());
    }
  }
}

void Generator::CheckOptions(const Request& request) const {
  const SamplingOptions& sampling = request.sampling;
  sampling.Check(bundle_.model.vocab_size);
  request.canvas.Check(bundle_.plan, sampling);
  const LoopKind loop = bundle_.plan.loop;
  if (sampling.is_argmax() || loop == LoopKind::kSpeculative || loop == LoopKind::kCanvas) return;
  throw Error(ErrorCode::kUsage,
              "The strategy '" + bundle_.plan.strategy +
                  "' takes the likeliest tokens; it has no temperature, penalties or biases.",
              "Leave the sampling options out.");
}

}  // namespace ptgc
