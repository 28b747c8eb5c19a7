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

// A list of sizes that ascends.
std::vector<int> ReadSizes(const Fields& data, const char* name, Range range, bool may_be_absent) {
  const std::vector<std::int64_t> read =
      data.Integers(name, range, limits::kEntries, may_be_absent);
  std::vector<int> sizes(read.begin(), read.end());
  if (!Ascends(sizes)) data.Add(name, " must ascend.");
  return sizes;
}

// Its digits and nothing else; none where it is no number in range.
std::optional<int> WindowOf(const std::string& name) {
  int window = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), window);
  const bool whole = error == std::errc() && name == std::to_string(window);
  return whole && limits::kWindow.Holds(window) ? std::optional(window) : std::nullopt;
}

void ReadWindows(const Fields& data, ShapePlan& shapes) {
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

void CheckRounds(const Fields& data, const ShapePlan& shapes, const DecodePlan& plan) {
  const std::vector<int>& widths = shapes.widths;
  const std::vector<int>& capacities = shapes.kv_capacities;
  if (widths.empty() || widths.front() != 1) return data.Add("widths", " must ascend from 1.");
  if (shapes.verify_width > widths.back()) {
    data.Add("verify_width", " is outside the widths.");
  }
  if (shapes.verify_width < plan.tree.num_nodes()) {
    data.Add("verify_width", " is " + std::to_string(shapes.verify_width) + "; plan.tree has " +
                                 std::to_string(plan.tree.num_nodes()) + " nodes.");
  }
  if (capacities.empty() || capacities.back() < shapes.max_length + widths.back()) {
    data.Add("kv_capacities", " must ascend to at least max_length plus the largest width.");
  } else if (capacities.front() < widths.back()) {
    data.Add("kv_capacities", ": every kv_capacity must hold the largest width.");
  } else if (!shapes.window_capacities.empty()) {
    const int seen = shapes.window_capacities.rbegin()->first - 1;  // By the widest window.
    const int least = std::min(seen + widths.back(), capacities.back());
    for (const auto& [window, capacity] : shapes.window_capacities) {
      if (capacity >= least) continue;
      data.Add("window_capacities",
               " must hold what the widest window sees and the largest width.");
      break;
    }
  }
}

void CheckCanvas(const Fields& data, const ShapePlan& shapes, std::int64_t least, const char* why) {
  if (!shapes.canvas_lengths.empty() && shapes.canvas_lengths.back() >= least) return;
  data.Add("canvas_lengths", " must have one of at least " + std::to_string(least) + ", " + why);
}

void CheckLengths(const Fields& data, const ShapePlan& shapes, const DecodePlan& plan) {
  const bool has_source = !shapes.source_lengths.empty();
  const bool reads_source = plan.loop == LoopKind::kEdit || plan.loop == LoopKind::kOneShot;
  if (reads_source && !has_source) {
    data.Add("source_lengths", " is empty; the encoder needs one.");
  }
  if (plan.loop == LoopKind::kEdit) {
    CheckCanvas(data, shapes, std::max(shapes.max_length, 2), "which is max_length, or 2.");
  } else if (plan.loop == LoopKind::kOneShot && has_source) {
    CheckCanvas(data, shapes, std::int64_t{shapes.source_lengths.back()} * plan.one_shot.upsampling,
                "the rows of the longest source.");
  } else if (plan.loop == LoopKind::kCanvas) {
    CheckCanvas(data, shapes, shapes.max_length, "which is max_length.");
    const int longest = shapes.canvas_lengths.empty() ? 0 : shapes.canvas_lengths.back();
    if (plan.canvas.block_length > longest) {
      data.Add("canvas_lengths", " has none that holds plan.canvas.block_length, " +
                                     std::to_string(plan.canvas.block_length) + ".");
    }
  }
}

}  // namespace

ShapePlan ReadShapes(const Fields& build, const DecodePlan& plan) {
  const Fields data = build.Object("shapes");
  const bool speculates = plan.loop == LoopKind::kSpeculative;
  ShapePlan shapes;
  shapes.batch = static_cast<int>(data.Integer("batch", limits::kBatch));
  shapes.max_length = static_cast<int>(data.Integer("max_length", limits::kLength));
  shapes.widths = ReadSizes(data, "widths", limits::kWidth, /*may_be_absent=*/false);
  const Range verify{speculates ? 1 : 0, limits::kWidth.most};
  shapes.verify_width = static_cast<int>(data.Integer("verify_width", verify));
  shapes.kv_capacities = ReadSizes(data, "kv_capacities", limits::kCapacity, false);
  shapes.source_lengths = ReadSizes(data, "source_lengths", limits::kLength, true);
  shapes.canvas_lengths = ReadSizes(data, "canvas_lengths", limits::kLength, true);
  ReadWindows(data, shapes);
  if (speculates) CheckRounds(data, shapes, plan);
  CheckLengths(data, shapes, plan);
  return shapes;
}

}  // namespace ptgc
