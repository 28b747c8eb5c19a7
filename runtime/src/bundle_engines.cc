#include "bundle_engines.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "error.h"

namespace ptgc {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 2> kAheadOfTime = {"tensorrt", "tensorrt-rtx"};

// The sizes that each named dimension takes in a plan.
std::map<std::string, std::vector<int>> SizesOf(const ShapePlan& shapes) {
  std::map<std::string, std::vector<int>> sizes = {
      {"batch", {shapes.batch}},
      {"num_tokens", shapes.widths},
      {"kv_capacity", shapes.kv_capacities},
      {"source_length", shapes.source_lengths},
      {"canvas_length", shapes.canvas_lengths},
  };
  for (int width : shapes.widths) {
    sizes["num_logits"].push_back(1);
    sizes["num_logits"].push_back(shapes.LogitsFor(width));
  }
  for (const auto& [window, slots] : shapes.window_capacities) {
    for (int capacity : shapes.kv_capacities) {
      sizes["window_capacity_" + std::to_string(window)].push_back(std::min(slots, capacity));
    }
  }
  return sizes;
}

// A sentence for each size of the plan that the engine does not take.
std::string Outside(const json& engine, const ShapePlan& shapes) {
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> limits;
  for (const auto& [name, size] : engine.at("sizes").items()) {
    limits[name] = {size.get<std::int64_t>(), size.get<std::int64_t>()};
  }
  for (const auto& [name, range] : engine.at("ranges").items()) {
    limits[name] = {range.at(0).get<std::int64_t>(), range.at(2).get<std::int64_t>()};
  }
  std::string problems;
  for (const auto& [name, sizes] : SizesOf(shapes)) {
    const auto limit = limits.find(name);
    if (limit == limits.end()) continue;
    const auto [least, most] = limit->second;
    for (int size : sizes) {
      if (size >= least && size <= most) continue;
      problems += " '" + engine.at("path").get<std::string>() + "' takes " + name + " from " +
                  std::to_string(least) + " to " + std::to_string(most) + ", not " +
                  std::to_string(size) + ".";
      break;
    }
  }
  return problems;
}

}  // namespace

std::map<std::string, EngineFile> ReadEngines(const json& build, const ShapePlan& shapes) {
  const std::string backend = build.at("backend").get<std::string>();
  const std::string id = build.at("id").get<std::string>();
  const std::string again =
      "Compile it again: ptgc build BUNDLE --backend " + backend + " --stage compile --id " + id;
  std::map<std::string, EngineFile> files;
  std::string problems;
  for (const json& engine : build.value("engines", json::array())) {
    const std::string role = engine.at("role").get<std::string>();
    const std::string path = engine.at("path").get<std::string>();
    const auto [known, is_new] =
        files.emplace(role, EngineFile{path, engine.value("updates_in_place", true)});
    if (!is_new) {
      throw Error(ErrorCode::kBundle,
                  "Build '" + id + "' has several engines for the role '" + role + "', '" +
                      known->second.path + "' and '" + path +
                      "', one for each cache capacity; this ptgc runs one.",
                  "Build again with `ptgc build`, which makes one.");
    }
    problems += Outside(engine, shapes);
  }
  if (!problems.empty()) {
    throw Error(ErrorCode::kBundle,
                "Build '" + id + "' has shapes that its engines do not take:" + problems, again);
  }
  if (std::find(kAheadOfTime.begin(), kAheadOfTime.end(), backend) == kAheadOfTime.end()) {
    return files;
  }
  for (const auto& [role, data] : build.at("roles").items()) {
    if (files.contains(role)) continue;
    throw Error(
        ErrorCode::kBundle,
        "Build '" + id + "' was prepared and not compiled: the role '" + role + "' has no engine.",
        again);
  }
  return files;
}

}  // namespace ptgc
