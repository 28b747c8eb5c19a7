// What was measured on this device, read as ptgc.runtime.measured writes it.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "build_choice.h"
#include "device.h"

namespace ptgc::capi {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Where ptgc keeps what can be made again.
fs::path CacheDirectory() {
  if (const std::string given = Variable("PTGC_CACHE"); !given.empty()) return given;
  if (const std::string base = Variable("XDG_CACHE_HOME"); !base.empty()) {
    return fs::path(base) / "ptgc";
  }
  return fs::path(Variable("HOME")) / ".cache" / "ptgc";
}

// Seconds by width; none costs more than a wider one, in which its rows would fit as well. Of
// rounds that were measured on a busy machine the fastest runs count, which others delayed least.
std::map<int, double> Seconds(const json& rounds, bool noisy) {
  std::map<int, double> seconds;
  for (const auto& [width, cost] : rounds.items()) {
    seconds[std::stoi(width)] = cost.at(noisy ? "minimum" : "median").get<double>();
  }
  double least = std::numeric_limits<double>::infinity();
  for (auto at = seconds.rbegin(); at != seconds.rend(); ++at) {
    least = std::min(least, at->second);
    at->second = least;
  }
  return seconds;
}

// The documents of that name about this build on this device, best first: `read` takes the first
// that it can use.
template <typename Read>
void ReadMeasured(const BuildChoice& build, const std::string& name, Read read) {
  const std::string file_name =
      DeviceFingerprint(build.device).append("-").append(name).append(".json");
  const std::string key =
      build.bundle_sha256.substr(0, 16) + "-" + build.id + "-" + std::to_string(build.sequence);
  // What is in the cache was measured when nothing could be written beside the build.
  for (const fs::path& path : {CacheDirectory() / "measured" / key / file_name,
                               build.directory / "measured" / file_name}) {
    std::ifstream file(path);
    const json document = json::parse(file, nullptr, /*allow_exceptions=*/false);
    try {
      if (document.at("sequence").get<std::int64_t>() != build.sequence) continue;
      read(document);
      return;
    } catch (const std::exception&) {
      continue;  // nothing measured here yet, or a damaged file: choices fall back to a model of it
    }
  }
}

}  // namespace

std::map<std::string, std::map<int, double>> MeasuredCosts(const BuildChoice& build,
                                                           int num_threads) {
  std::map<std::string, std::map<int, double>> costs;
  const std::string name = std::string("t").append(std::to_string(num_threads));
  ReadMeasured(build, name, [&](const json& document) {
    const bool noisy = document.value("noisy", false);
    costs = {{"target", Seconds(document.at("rounds"), noisy)},
             {"drafter", Seconds(document.at("drafter_rounds"), noisy)}};
  });
  return costs;
}

std::optional<Tuning> MeasuredTuning(const BuildChoice& build) {
  std::optional<Tuning> tuning;
  ReadMeasured(build, "tuning", [&](const json& document) {
    tuning = {document.at("num_threads").get<int>(), document.at("num_draft_tokens").get<int>()};
  });
  return tuning;
}

}  // namespace ptgc::capi
