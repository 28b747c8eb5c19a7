#include "bundle/shapes_reader.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <string>
#include <vector>

namespace ptgc {
namespace {

bool Ascends(const std::vector<int>& values) {
  return std::adjacent_find(values.begin(), values.end(), std::greater_equal<>()) == values.end();
}

// A list of ascending sizes.
std::vector<int> ReadSizes(const Fields& data, const char* name, Range range, bool may_be_absent) {
  const std::vector<std::int64_t> read =
      data.Integers(name, range, limits::kEntries, may_be_absent);
  std::vector<int> sizes(read.begin(), read.end());
  if (!Ascends(sizes)) data.Add(name, " must ascend.");
  return sizes;
}

// The window that a name of digits stands for; none if it is not a number in range.
std::optional<int> WindowOf(const std::string& name) {
  int window = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), window);
  const bool whole = error == std::errc() && name == std::to_string(window);
  return whole && limits::kWindow.Holds(window) ? std::optional(window) : std::nullopt;
}

void ReadWindows(const Fields& data, RoleShapes& shapes) {
  const auto windows = data.Sizes("window_capacities", limits::kCapacity);
  if (windows.size() > static_cast<std::size_t>(limits::kEntries)) {
    return data.Add("window_capacities",
                    " has more than " + std::to_string(limits::kEntries) + " windows.");
  }
  for (const auto& [name, capacity] : windows) {
    const std::optional<int> window = WindowOf(name);
    if (window.has_value()) {
      shapes.window_capacities[*window] = static_cast<int>(capacity);
    } else {
      data.Add("window_capacities", " has a window that is no number from 1 to " +
                                        std::to_string(limits::kWindow.most) + ".");
    }
  }
}

RoleShapes ReadRoleShapes(const Fields& data) {
  RoleShapes shapes;
  shapes.widths = ReadSizes(data, "widths", limits::kWidth, /*may_be_absent=*/false);
  shapes.verify_width = static_cast<int>(data.Integer("verify_width", {0, limits::kWidth.most}));
  shapes.kv_capacities = ReadSizes(data, "kv_capacities", limits::kCapacity, false);
  ReadWindows(data, shapes);
  shapes.source_lengths = ReadSizes(data, "source_lengths", limits::kLength, true);
  shapes.canvas_lengths = ReadSizes(data, "canvas_lengths", limits::kLength, true);
  return shapes;
}

}  // namespace

ShapePlan ReadShapes(const Fields& build) {
  const Fields data = build.Object("shapes");
  ShapePlan shapes;
  shapes.batch = static_cast<int>(data.Integer("batch", limits::kBatch));
  shapes.max_length = static_cast<int>(data.Integer("max_length", limits::kLength));
  for (const auto& [name, role] : data.Map("roles", limits::kRoles)) {
    shapes.roles[name] = ReadRoleShapes(role);
  }
  return shapes;
}

}  // namespace ptgc
