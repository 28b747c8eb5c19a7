#include "bundle/shape_rules.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "drafters/registry.h"

namespace ptgc {
namespace {

// Whether a port or state of a role has a dimension of this name.
bool Has(const Role& role, std::string_view dimension) {
  const auto names = [&](const Port& port) {
    return std::find(port.dimensions.begin(), port.dimensions.end(), dimension) !=
           port.dimensions.end();
  };
  if (dimension == "source_length" && !role.cross_states.empty()) return true;
  return std::any_of(role.inputs.begin(), role.inputs.end(), names) ||
         std::any_of(role.outputs.begin(), role.outputs.end(), names);
}

std::int64_t Longest(const std::vector<int>& sizes) { return sizes.empty() ? 1 : sizes.back(); }

// Checks the shapes of one role.
class ShapeCheck {
 public:
  ShapeCheck(const Fields& build, const std::string& name, const Bundle& bundle)
      : build_(build),
        name_(name),
        bundle_(bundle),
        role_(bundle.roles.at(name)),
        shapes_(bundle.shapes.roles.at(name)) {}

  // The sizes that its ports and states name must be given, and no others.
  void Sizes() const {
    Given("widths", "num_tokens", !shapes_.widths.empty());
    Given("verify_width", "num_logits", shapes_.verify_width > 0);
    Given("kv_capacities", "num_tokens", !shapes_.kv_capacities.empty());
    Given("source_lengths", "source_length", !shapes_.source_lengths.empty());
    Given("canvas_lengths", "canvas_length", !shapes_.canvas_lengths.empty());
    if (!shapes_.widths.empty() && !shapes_.kv_capacities.empty()) Rounds();
    for (const LayerState& state : role_.states) {
      if (state.kind != StateKind::kWindow) continue;
      if (shapes_.window_capacities.contains(state.window)) continue;
      Add("window_capacities", " lacks the window of " + std::to_string(state.window) + " tokens.");
    }
  }

  // Every buffer that is allocated for the role must have a possible size.
  void Buffers() const {
    const std::int64_t batch = bundle_.shapes.batch, width = Longest(shapes_.widths);
    Fits({batch, width, role_.states.empty() ? 1 : width, sizeof(std::int64_t)}, "ports");
    Fits({batch, Longest(shapes_.canvas_lengths), sizeof(std::int64_t)}, "canvas");
    for (const Port& port : role_.outputs) {
      const std::int64_t rows = port.name == "logits" ? std::max(shapes_.verify_width, 1)
                                                      : Longest(shapes_.source_lengths);
      if (port.dimensions.size() == 3) {
        Fits({batch, rows, port.last_size, sizeof(float)}, port.name.c_str());
      }
    }
    FitAll(role_.states, Longest(shapes_.kv_capacities));
    FitAll(role_.cross_states, Longest(shapes_.source_lengths));
  }

 private:
  void Add(const std::string& field, const std::string& what) const {
    build_.Add("shapes.roles." + name_ + "." + field, what);
  }

  void Given(const char* field, const char* dimension, bool is_given) const {
    if (Has(role_, dimension) == is_given) return;
    const std::string what = std::string(" of the role has ") + dimension + ".";
    Add(field, is_given ? " is given, and no port" + what : " is empty, and a port" + what);
  }

  void Rounds() const {
    const int widest = shapes_.widths.back();
    const std::vector<int>& capacities = shapes_.kv_capacities;
    if (bundle_.plan.loop == LoopKind::kSpeculative && shapes_.widths.front() != 1) {
      Add("widths", " must ascend from 1.");
    }
    if (shapes_.verify_width > widest) Add("verify_width", " is outside the widths.");
    if (capacities.back() < bundle_.shapes.max_length + widest) {
      Add("kv_capacities", " must ascend to at least max_length plus the largest width.");
    } else if (capacities.front() < widest) {
      Add("kv_capacities", ": every kv_capacity must hold the largest width.");
    } else if (!shapes_.window_capacities.empty()) {
      const int seen = shapes_.window_capacities.rbegin()->first - 1;  // Of the widest window.
      const int least = std::min(seen + widest, capacities.back());
      for (const auto& [window, capacity] : shapes_.window_capacities) {
        if (capacity >= least) continue;
        Add("window_capacities", " must hold what the widest window sees and the largest width.");
        break;
      }
    }
  }

  // Bytes of a buffer; just above the limit if it is larger than that.
  std::int64_t Bytes(std::initializer_list<std::int64_t> sizes) const {
    std::int64_t bytes = 1;
    for (const std::int64_t size : sizes) {
      if (size > 0 && bytes > limits::kBufferBytes / size) return limits::kBufferBytes + 1;
      bytes *= size;
    }
    return bytes;
  }
  void Fits(std::initializer_list<std::int64_t> sizes, const char* what) const {
    if (Bytes(sizes) > limits::kBufferBytes) TooLarge(what);
  }
  // A shared layer counts for its owner only.
  void FitAll(const std::vector<LayerState>& states, std::int64_t capacity) const {
    std::int64_t bytes = 0;
    for (const LayerState& state : states) {
      if (state.shared_with.has_value()) continue;
      bytes += Bytes({bundle_.shapes.batch, state.kv_heads, capacity, state.head_dim, 2,
                      static_cast<std::int64_t>(ItemSize(state.dtype))});
      if (bytes > limits::kBufferBytes) return TooLarge("cache");
    }
  }
  void TooLarge(const char* what) const {
    build_.Add("roles." + name_,
               std::string(": its ") + what + " would take more memory than any machine has.");
  }

  const Fields& build_;       // Collects problems.
  const std::string& name_;   // The role's name.
  const Bundle& bundle_;      // The bundle of the role.
  const Role& role_;          // The role.
  const RoleShapes& shapes_;  // The shapes that are checked.
};

// Roles that pass each other sources or canvases must have the same sizes of them.
void CheckAgreement(const Fields& build, const ShapePlan& shapes,
                    std::vector<int> RoleShapes::* lengths, const char* field) {
  const RoleShapes* first = nullptr;
  for (const auto& [name, role] : shapes.roles) {
    if ((role.*lengths).empty()) continue;
    if (first == nullptr) first = &role;
    if (role.*lengths == first->*lengths) continue;
    build.Add("shapes.roles." + name + "." + field, " is not that of the other roles.");
  }
}

// Roles that share caches must have the same sizes of them.
void CheckSharing(const Fields& build, const Bundle& bundle, const std::string& name) {
  const RoleShapes& own = bundle.shapes.roles.at(name);
  for (const LayerState& state : bundle.roles.at(name).states) {
    if (!state.shared_with.has_value()) continue;
    const auto owner = bundle.shapes.roles.find(state.shared_with->role);
    if (owner == bundle.shapes.roles.end()) continue;
    if (own.kv_capacities == owner->second.kv_capacities &&
        own.window_capacities == owner->second.window_capacities) {
      continue;
    }
    return build.Add("shapes.roles." + name, " has other capacities than '" + owner->first +
                                                 "', whose cache the role shares.");
  }
}

void CheckCanvas(const Fields& build, const std::string& name, const RoleShapes& shapes,
                 std::int64_t least, const char* why) {
  if (Longest(shapes.canvas_lengths) >= least) return;
  build.Add("shapes.roles." + name + ".canvas_lengths",
            " must have one of at least " + std::to_string(least) + ", " + why);
}

// A round of a language model must have rows for what it reads, and logits for what it fills.
void CheckRows(const Fields& build, const std::string& name, const RoleShapes& shapes,
               const CanvasPlan& plan, std::int64_t longest) {
  const std::string place = "shapes.roles." + name;
  if (!plan.keeps_blocks() && shapes.widths.back() < longest) {
    build.Add(place + ".widths", " must have one of at least " + std::to_string(longest) +
                                     ", which is max_length: rounds read whole texts.");
  }
  const std::int64_t block = plan.block_length > 0 ? plan.block_length : longest;
  if (shapes.verify_width < std::min(block, longest)) {
    build.Add(place + ".verify_width",
              " is " + std::to_string(shapes.verify_width) + "; rounds fill up to " +
                  std::to_string(std::min(block, longest)) + " positions.");
  }
}

// Canvases must hold the texts of the loop.
void CheckCanvases(const Fields& build, const Bundle& bundle) {
  const DecodePlan& plan = bundle.plan;
  const std::int64_t longest = bundle.shapes.max_length;
  const int canvases = 1 + plan.canvas.num_draft_steps;
  if (bundle.shapes.batch % canvases != 0) {
    build.Add("shapes.batch", " is " + std::to_string(bundle.shapes.batch) +
                                  "; it must be a multiple of " + std::to_string(canvases) +
                                  ", a text's rows with plan.canvas.num_draft_steps.");
  }
  for (const auto& [name, shapes] : bundle.shapes.roles) {
    if (plan.loop == LoopKind::kCanvas && Longest(shapes.widths) < plan.canvas.block_length &&
        !shapes.widths.empty()) {
      build.Add("shapes.roles." + name + ".widths", " must have one of at least " +
                                                        std::to_string(plan.canvas.block_length) +
                                                        ", plan.canvas.block_length.");
    }
    if (plan.loop == LoopKind::kCanvas && !shapes.widths.empty()) {
      CheckRows(build, name, shapes, plan.canvas, longest);
    }
    if (shapes.canvas_lengths.empty()) continue;
    if (plan.loop == LoopKind::kOneShot) {
      CheckCanvas(build, name, shapes, Longest(shapes.source_lengths) * plan.one_shot.upsampling,
                  "the rows of the longest source.");
    } else {
      const bool has_ends = plan.loop == LoopKind::kEdit;
      CheckCanvas(build, name, shapes, has_ends ? std::max<std::int64_t>(longest, 3) : longest,
                  has_ends ? "which is max_length, or 3." : "which is max_length.");
    }
    if (plan.loop == LoopKind::kCanvas) {
      CheckCanvas(build, name, shapes, plan.canvas.block_length, "plan.canvas.block_length.");
    }
  }
}

// Every row of a round with drafts must have logits.
void CheckTree(const Fields& build, const Bundle& bundle) {
  const auto target = bundle.shapes.roles.find("target");
  const int nodes = bundle.plan.tree.num_nodes();
  if (target == bundle.shapes.roles.end() || target->second.verify_width >= nodes) return;
  build.Add("shapes.roles.target.verify_width",
            " is " + std::to_string(target->second.verify_width) + "; plan.tree has " +
                std::to_string(nodes) + " nodes.");
}

// A drafter of whole proposals needs rows for them, with logits for every draft.
void CheckBlocks(const Fields& build, const Bundle& bundle) {
  const DrafterKind* kind = FindDrafterKind(bundle.plan.drafter.kind);
  const auto drafter = bundle.shapes.roles.find("drafter");
  if (!kind->drafts_blocks || drafter == bundle.shapes.roles.end()) return;
  const RoleShapes& own = drafter->second;
  const auto& parameters = bundle.plan.drafter.Own<BlockParameters>();
  const int least = std::max(parameters.LeastRows(), 2);
  const int rows = bundle.plan.tree.height() + parameters.first_logits;
  if (!own.widths.empty() && own.widths.back() < least) {
    build.Add("shapes.roles.drafter.widths", " ends with " + std::to_string(own.widths.back()) +
                                                 "; a run needs " + std::to_string(least) + ".");
  }
  if (own.verify_width < rows) {
    build.Add("shapes.roles.drafter.verify_width", " is " + std::to_string(own.verify_width) +
                                                       "; a proposal needs " +
                                                       std::to_string(rows) + ".");
  }
}

}  // namespace

void CheckShapes(const Fields& build, const Bundle& bundle) {
  for (const auto& [name, role] : bundle.roles) {
    if (!bundle.shapes.roles.contains(name)) {
      build.Add("shapes.roles", " lacks the role '" + name + "'.");
      continue;
    }
    const ShapeCheck check(build, name, bundle);
    check.Sizes();
    check.Buffers();
    CheckSharing(build, bundle, name);
  }
  for (const auto& [name, shapes] : bundle.shapes.roles) {
    if (bundle.roles.contains(name)) continue;
    build.Add("shapes.roles", " has the role '" + name + "', which the build does not have.");
  }
  CheckAgreement(build, bundle.shapes, &RoleShapes::source_lengths, "source_lengths");
  CheckAgreement(build, bundle.shapes, &RoleShapes::canvas_lengths, "canvas_lengths");
  CheckCanvases(build, bundle);
  CheckTree(build, bundle);
  CheckBlocks(build, bundle);
}

}  // namespace ptgc
