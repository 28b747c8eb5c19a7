// Reads the measurements of this device that ptgc.runtime.measured writes.
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "build_choice.h"
#include "bundle/json_document.h"
#include "bundle/tree_part.h"
#include "drafters/registry.h"
#include "engines/device.h"

namespace ptgc::capi {
namespace {

namespace fs = std::filesystem;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The folder for data that can be recreated.
fs::path CacheDirectory() {
  if (const std::string given = Variable("PTGC_CACHE"); !given.empty()) return given;
  if (const std::string base = Variable("XDG_CACHE_HOME"); !base.empty()) {
    return fs::path(base) / "ptgc";
  }
  return fs::path(Variable("HOME")) / ".cache" / "ptgc";
}

// The most seconds of a round; no measured round takes longer.
constexpr double kMostSeconds = 1e6;
constexpr Range kThreads{1, 4096};

// The width that a name of digits stands for; none if it is not a width.
std::optional<int> WidthOf(const std::string& name) {
  int width = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), width);
  const bool is_width =
      error == std::errc() && end == name.data() + name.size() && limits::kWidth.Holds(width);
  return is_width ? std::optional(width) : std::nullopt;
}

// Seconds by width; none is above that of a wider round, which could be used instead. If the
// machine was busy while measuring, the fastest runs count, which were delayed least.
std::map<int, double> Seconds(const Fields& document, const char* name, bool noisy) {
  std::map<int, double> seconds;
  for (const auto& [width_name, cost] : document.Map(name, limits::kEntries)) {
    const double measured = cost.Number(noisy ? "minimum" : "median", 0, kMostSeconds);
    const std::optional<int> width = WidthOf(width_name);
    if (!width.has_value() || measured <= 0) {
      document.Add(name, " has what is no width with positive seconds.");
    } else {
      seconds[*width] = measured;
    }
  }
  double least = std::numeric_limits<double>::infinity();
  for (auto at = seconds.rbegin(); at != seconds.rend(); ++at) {
    least = std::min(least, at->second);
    at->second = least;
  }
  return seconds;
}

// Applies `read` to the best undamaged document of that name about this build on this device. None
// if nothing was measured here yet, or the files are damaged; choices then use a model of the cost.
template <typename Read>
auto ReadMeasured(const Bundle& build, const std::string& name, const Read& read)
    -> std::optional<decltype(read(std::declval<Fields&>()))> {
  const std::string file_name =
      DeviceFingerprint(build.device).append("-").append(name).append(".json");
  const std::string key =
      build.bundle_sha256.substr(0, 16) + "-" + build.id + "-" + std::to_string(build.sequence);
  // The cache is only used if nothing could be written beside the build.
  const fs::path measured = "measured";
  for (const auto& [folder, path] : {std::pair(CacheDirectory(), measured / key / file_name),
                                     std::pair(build.directory, measured / file_name)}) {
    try {
      const JsonDocument document = ReadJsonDocument(folder, path, /*action=*/"");
      Problems problems;
      const Fields fields(document.object, "", problems);
      const bool is_of_build = fields.Integer("sequence", limits::kSequence) == build.sequence;
      auto value = read(fields);
      if (is_of_build && problems.empty()) return value;
    } catch (const Error&) {
      continue;
    }
  }
  return std::nullopt;
}

std::map<std::string, std::map<int, double>> ReadCosts(const Fields& document) {
  const bool noisy = document.Flag("noisy", false);
  return {{"target", Seconds(document, "rounds", noisy)},
          {"drafter", Seconds(document, "drafter_rounds", noisy)}};
}

// The tree, which must be a part of that of the plan; none if the plan's is used.
std::optional<std::vector<int>> ReadTree(const Fields& document, const DecodePlan& plan) {
  const nlohmann::json* given = document.Find("tree");
  if (given == nullptr || given->is_null()) return std::nullopt;
  const std::vector<std::int64_t> nodes =
      document.Integers("tree", {-1, limits::kTreeNodes - 1}, limits::kTreeNodes);
  const std::vector<int> parents(nodes.begin(), nodes.end());
  const std::string problem = TreePartProblem(plan, parents);
  if (!problem.empty()) document.Add("tree", " " + problem);
  return parents;
}

// The gains of the tree, or those of a chain: the shares of rounds that accepted at least one
// draft, two drafts ... Of merged drafters, nobody knows which of them made those.
std::vector<double> ReadGains(const Fields& document, const DecodePlan& plan, bool has_tree) {
  const std::vector<double> shares =
      document.Numbers("acceptance", 0, 1, limits::kTreeNodes, /*may_be_absent=*/true);
  std::vector<double> gains = document.Numbers("gains", 0, 1, limits::kTreeNodes, !has_tree);
  if (has_tree) return gains;
  if (!gains.empty()) document.Add("gains", " has entries; there is no tree.");
  return plan.drafter.Parts().size() == 1 ? shares : std::vector<double>();
}

Tuning ReadTuning(const Fields& document, const DecodePlan& plan) {
  const std::optional<std::vector<int>> tree = ReadTree(document, plan);
  std::vector<double> gains = ReadGains(document, plan, tree.has_value());
  if (tree.has_value() && gains.size() + 1 != tree->size()) {
    document.Add("gains", " must have an entry for each draft of tree.");
  }
  return {static_cast<int>(document.Integer("num_threads", kThreads)),
          static_cast<int>(document.Integer("num_draft_tokens", limits::kDraftTokens)),
          document.Flag("overlap", false),
          tree,
          std::move(gains),
          document.Find("drafter") == nullptr ? "" : document.Text("drafter")};
}

}  // namespace

std::map<std::string, std::map<int, double>> MeasuredCosts(const Bundle& build, int num_threads,
                                                           const std::string& drafter) {
  std::string name = std::string("t").append(std::to_string(num_threads));
  const std::vector<std::string> roles = RolesOf(build.plan.drafter);
  const auto role = std::find(roles.begin(), roles.end(), drafter);
  if (role != roles.end() && role != roles.begin()) name.append("-").append(drafter);
  return ReadMeasured(build, name, &ReadCosts)
      .value_or(std::map<std::string, std::map<int, double>>());
}

std::optional<Tuning> MeasuredTuning(const Bundle& build) {
  const auto read = [&](const Fields& document) { return ReadTuning(document, build.plan); };
  std::optional<Tuning> tuning = ReadMeasured(build, "tuning", read);
  if (tuning.has_value()) {
    tuning->num_draft_tokens =
        std::min(tuning->num_draft_tokens, build.plan.drafter.num_draft_tokens);
    const std::vector<std::string> roles = RolesOf(build.plan.drafter);
    const bool drafts = std::find(roles.begin(), roles.end(), tuning->drafter) != roles.end();
    if (!drafts) tuning->drafter.clear();
  }
  return tuning;
}

}  // namespace ptgc::capi
