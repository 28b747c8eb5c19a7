#include "load.h"

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "base/processors.h"
#include "build_choice.h"
#include "sized_struct.h"
#include "status.h"

namespace ptgc::capi {
namespace {

// Size of version 1 of the API: up to its last field.
constexpr std::size_t kOptionsSize =
    offsetof(ptgc_load_options, drafter) + sizeof(ptgc_load_options::drafter);
static_assert(static_cast<int>(DraftLengthMode::kFixed) == PTGC_DRAFT_LENGTH_FIXED &&
              static_cast<int>(DraftLengthMode::kMeasured) == PTGC_DRAFT_LENGTH_MEASURED);
static_assert(static_cast<int>(AcceptanceRule::kMatch) == PTGC_ACCEPTANCE_MATCH &&
              static_cast<int>(AcceptanceRule::kSpeculative) == PTGC_ACCEPTANCE_SPECULATIVE &&
              static_cast<int>(AcceptanceRule::kBlock) == PTGC_ACCEPTANCE_BLOCK &&
              static_cast<int>(AcceptanceRule::kTypical) == PTGC_ACCEPTANCE_TYPICAL &&
              static_cast<int>(AcceptanceRule::kRelaxed) == PTGC_ACCEPTANCE_RELAXED);
static_assert(static_cast<int>(NgramMatch::kLatest) == PTGC_NGRAM_MATCH_LATEST &&
              static_cast<int>(NgramMatch::kFirst) == PTGC_NGRAM_MATCH_FIRST);

std::string OrEmpty(const char* text) { return text == nullptr ? "" : text; }

// Collects values that are out of range.
class Problems {
 public:
  template <typename Value>
  void Check(bool right, const char* name, Value value, const char* allowed) {
    if (right) return;
    text_ += std::string(name) + " is " + std::to_string(value) + "; it must be " + allowed + ". ";
  }
  void Add(const char* problem) { text_ += problem; }
  // Throws a usage error that names all of them, if there are any.
  void Refuse() {
    if (text_.empty()) return;
    text_.pop_back();
    RefuseUsage(text_, "Initialise the struct with PTGC_LOAD_OPTIONS_INIT.");
  }

 private:
  std::string text_;  // One sentence each.
};

void CheckRanges(const ptgc_load_options& options) {
  const auto is_from = [](std::int32_t value, std::int32_t least, std::int32_t most) {
    return value >= least && value <= most;
  };
  Problems problems;
  const std::string threads = "from 1 to " + std::to_string(MostThreads()) +
                              ", or 0 for what was tuned, or the processors at hand";
  problems.Check(is_from(options.num_threads, 0, MostThreads()), "num_threads", options.num_threads,
                 threads.c_str());
  problems.Check(options.num_draft_tokens >= -1, "num_draft_tokens", options.num_draft_tokens,
                 "0 or more, or -1 for what was tuned, or the plan's");
  problems.Check(is_from(options.draft_length, 0, 1), "draft_length", options.draft_length,
                 "PTGC_DRAFT_LENGTH_FIXED or _MEASURED");
  problems.Check(is_from(options.acceptance, -1, 4), "acceptance", options.acceptance,
                 "PTGC_ACCEPTANCE_PLANNED, _MATCH, _SPECULATIVE, _BLOCK, _TYPICAL or _RELAXED");
  problems.Check(is_from(options.ngram_match, -1, 1), "ngram_match", options.ngram_match,
                 "PTGC_NGRAM_MATCH_PLANNED, _LATEST or _FIRST");
  problems.Check(is_from(options.skip_verification, 0, 1), "skip_verification",
                 options.skip_verification, "0 or 1");
  problems.Check(options.wait_seconds >= 0 || options.wait_seconds == -1, "wait_seconds",
                 options.wait_seconds, "0 or more, or -1 for texts that are being written");
  problems.Check(options.max_waiting_texts >= -1, "max_waiting_texts", options.max_waiting_texts,
                 "0 or more, or -1 for any number");
  problems.Check(is_from(options.overlap, 0, 2), "overlap", options.overlap,
                 "PTGC_OVERLAP_TUNED, _OFF or _ON");
  if (options.library != nullptr && options.ort_api_base != nullptr) {
    problems.Add("library and ort_api_base are both set; only one can run the engines. ");
  }
  if (options.cuda_stream != nullptr) problems.Add("cuda_stream is reserved and must be NULL. ");
  problems.Refuse();
}

// The value as an enum of the core; none if the plan decides.
template <typename Enum>
std::optional<Enum> UnlessPlanned(std::int32_t value) {
  return value < 0 ? std::nullopt : std::optional(static_cast<Enum>(value));
}

GeneratorOptions CoreOptions(const ptgc_load_options& options, const Bundle& build) {
  const std::optional<Tuning> tuning = MeasuredTuning(build);
  GeneratorOptions core;
  core.load.num_threads = options.num_threads;
  if (options.num_threads == 0) {
    core.load.num_threads = tuning ? tuning->num_threads : AvailableProcessors();
  }
  core.load.library = OrEmpty(options.library);
  core.load.ort_api_base = options.ort_api_base;
  core.load.drafter = OrEmpty(options.drafter);
  if (tuning && options.drafter == nullptr) core.load.drafter = tuning->drafter;
  core.load.costs = MeasuredCosts(build, core.load.num_threads, core.load.drafter);
  core.load.draft_length = static_cast<DraftLengthMode>(options.draft_length);
  core.load.num_draft_tokens = options.num_draft_tokens;
  if (tuning && options.num_draft_tokens == -1) {
    core.load.num_draft_tokens = tuning->num_draft_tokens;
    core.load.tree = tuning->tree;
  }
  if (tuning && core.load.tree == tuning->tree && core.load.drafter == tuning->drafter) {
    core.load.gains = tuning->gains;
  }
  core.load.acceptance = UnlessPlanned<AcceptanceRule>(options.acceptance);
  core.load.ngram_match = UnlessPlanned<NgramMatch>(options.ngram_match);
  if (options.overlap != PTGC_OVERLAP_TUNED) core.load.overlap = options.overlap == PTGC_OVERLAP_ON;
  if (tuning && core.load.num_threads == tuning->num_threads) {
    core.load.tuned_overlap = tuning->overlap;
  }
  core.load.datastore = OrEmpty(options.datastore);
  core.waiting.seconds = options.wait_seconds;
  core.waiting.max_texts = options.max_waiting_texts;
  return core;
}

}  // namespace

std::unique_ptr<Generator> Load(const char* path, const ptgc_load_options* given) {
  ptgc_load_options options = PTGC_LOAD_OPTIONS_INIT;
  if (given != nullptr) options = ReadSized(given, options, kOptionsSize, "ptgc_load_options");
  CheckRanges(options);
  const std::string device = options.device == nullptr ? "cpu" : options.device;
  Bundle build = ChooseBuild(path, OrEmpty(options.build_id), device);
  GeneratorOptions core = CoreOptions(options, build);
  core.verify = options.skip_verification == 0;
  return Generator::Open(std::move(build), core);
}

}  // namespace ptgc::capi
