#include "bundle/bundle_engines.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "bundle/json_document.h"

namespace ptgc {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 2> kAheadOfTime = {"tensorrt", "tensorrt-rtx"};

// The sizes that each named dimension of a role takes.
std::map<std::string, std::vector<int>> SizesOf(int batch, const RoleShapes& shapes) {
  std::map<std::string, std::vector<int>> sizes = {
      {"batch", {batch}},
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

// The sizes that an engine takes, by name of the dimension.
std::map<std::string, Range> LimitsOf(const Fields& engine) {
  std::map<std::string, Range> taken;
  for (const auto& [name, size] : engine.Sizes("sizes", limits::kContextLength)) {
    taken[name] = {size, size};
  }
  for (const auto& [name, sizes] : engine.Ranges("ranges", limits::kContextLength)) {
    taken[name] = sizes;
  }
  return taken;
}

// A sentence for each size of the role that the engine does not take.
std::string Outside(const std::string& path, const std::map<std::string, Range>& taken, int batch,
                    const RoleShapes& shapes) {
  std::string problems;
  for (const auto& [name, sizes] : SizesOf(batch, shapes)) {
    const auto range = taken.find(name);
    if (range == taken.end()) continue;
    for (int size : sizes) {
      if (range->second.Holds(size)) continue;
      problems += " '" + path + "' takes " + name + " from " + std::to_string(range->second.least) +
                  " to " + std::to_string(range->second.most) + ", not " + std::to_string(size) +
                  ".";
      break;
    }
  }
  return problems;
}

}  // namespace

std::map<std::string, EngineFile> ReadEngines(const json& build, const ShapePlan& shapes) {
  Problems damage;
  const Fields fields(build, "build.json: ", damage);
  const std::string backend = Printable(fields.Text("backend"));
  const std::string id = Printable(fields.Text("id"));
  const std::string again =
      "Compile it again: ptgc build BUNDLE --backend " + backend + " --stage compile --id " + id;
  std::map<std::string, EngineFile> files;
  std::string problems;
  for (const Fields& engine : fields.List("engines", /*may_be_absent=*/true)) {
    const std::string role = engine.Text("role");
    const std::string path = engine.Text("path");
    const auto [known, is_new] =
        files.emplace(role, EngineFile{path, engine.Flag("updates_in_place", true)});
    if (!is_new) {
      throw Error(ErrorCode::kBundle,
                  "Build '" + id + "' has several engines for the role '" + role + "', '" +
                      known->second.path + "' and '" + path +
                      "', one for each cache capacity; this ptgc runs one.",
                  "Build again with `ptgc build`, which makes one.");
    }
    const auto own = shapes.roles.find(role);
    if (own == shapes.roles.end()) continue;  // Not a role of the build; reported elsewhere.
    problems += Outside(path, LimitsOf(engine), shapes.batch, own->second);
  }
  if (!damage.empty()) {
    throw Error(ErrorCode::kBundle, "Build '" + id + "' is damaged: " + damage.Text(), again);
  }
  if (!problems.empty()) {
    throw Error(ErrorCode::kBundle,
                "Build '" + id + "' has shapes that its engines do not take:" + problems, again);
  }
  if (std::find(kAheadOfTime.begin(), kAheadOfTime.end(), backend) == kAheadOfTime.end()) {
    if (files.empty()) return files;
    // They would be loaded as graphs whose external data was never checked.
    throw Error(ErrorCode::kBundle,
                "Build '" + id + "' has engines, and its backend '" + backend +
                    "' compiles its graphs while it loads.",
                again);
  }
  for (const auto& [role, data] : fields.Map("roles", limits::kRoles)) {
    if (files.contains(role)) continue;
    throw Error(
        ErrorCode::kBundle,
        "Build '" + id + "' was prepared and not compiled: the role '" + role + "' has no engine.",
        again);
  }
  return files;
}

}  // namespace ptgc
