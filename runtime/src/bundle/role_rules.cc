#include "bundle/role_rules.h"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drafters/registry.h"

namespace ptgc {
namespace {

// A port that a loop binds.
struct PortRule {
  std::string_view name;       // In the graph.
  std::optional<DType> dtype;  // None for the floating-point types.
  int rank;                    // How many sizes.
  bool is_needed;              // Whether there is no role without it.
};

// What a role is to its loop.
struct RoleRule {
  std::vector<PortRule> inputs;   // Those that the loop fills.
  std::vector<PortRule> outputs;  // Those that it reads; others are left alone.
  bool has_states = false;        // Whether it keeps a cache.
};

constexpr std::optional<DType> kAnyFloat = std::nullopt;

bool IsFloat(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

// A build may lack inputs that its lowering made superfluous.
RoleRule CausalRule() {
  return {{{"input_ids", DType::kInt64, 2, true},
           {"position_ids", DType::kInt64, 2, false},
           {"tree_mask", DType::kBool, 3, false},
           {"write_index", DType::kInt64, 1, false},
           {"row_count", DType::kInt64, 1, false},
           {"logits_rows", DType::kInt64, 2, false},
           {"window_offset", DType::kInt64, 1, false}},
          {{"next_ids", DType::kInt64, 2, true}, {"logits", kAnyFloat, 3, false}},
          true};
}

constexpr PortRule kSourceMask = {"encoder_attention_mask", DType::kBool, 2, false};
constexpr PortRule kHiddenStates = {"encoder_hidden_states", kAnyFloat, 3, true};
constexpr PortRule kTokens = {"input_ids", DType::kInt64, 2, true};
constexpr PortRule kLengths = {"lengths", DType::kInt64, 1, false};
constexpr PortRule kTextIds = {"output_ids", DType::kInt64, 2, true};
constexpr PortRule kTextLengths = {"output_lengths", DType::kInt64, 1, true};

// The rules of the loop's roles, by name.
std::map<std::string, RoleRule> RulesOf(const Bundle& bundle) {
  std::map<std::string, RoleRule> rules;
  switch (bundle.plan.loop) {
    case LoopKind::kSpeculative: {
      const auto target = bundle.roles.find("target");
      rules["target"] = CausalRule();
      if (target != bundle.roles.end() && !target->second.cross_states.empty()) {
        rules["target"].inputs.push_back(kSourceMask);
        rules["encoder"] = {{kTokens, kSourceMask}, {}};
      }
      for (const std::string_view role : FindDrafterKind(bundle.plan.drafter.kind)->roles) {
        rules[std::string(role)] = CausalRule();
      }
      break;
    }
    case LoopKind::kCanvas:
      rules["denoiser"] = {{kTokens,
                            kLengths,
                            {"canvas_mask", DType::kBool, 2, false},
                            {"step", DType::kInt64, 1, false},
                            {"threshold", DType::kFloat32, 1, false}},
                           {kTextIds, {"output_mask", DType::kBool, 2, true}}};
      break;
    case LoopKind::kEdit:
      rules["encoder"] = {{kTokens, kSourceMask}, {kHiddenStates}};
      for (const char* operation : {"deleter", "inserter", "filler"}) {
        rules[operation] = {{kTokens, kLengths, kHiddenStates, kSourceMask},
                            {kTextIds, kTextLengths}};
      }
      break;
    case LoopKind::kOneShot:
      rules["encoder"] = {{kTokens, kSourceMask}, {kHiddenStates}};
      rules["decoder"] = {{kHiddenStates, kSourceMask}, {kTextIds, kTextLengths}};
      break;
  }
  return rules;
}

// What a role has, beside what its loop binds.
class RoleCheck {
 public:
  RoleCheck(const Fields& build, const std::string& name, const Bundle& bundle)
      : build_(build), name_(name), bundle_(bundle), role_(bundle.roles.at(name)) {}

  void Ports(const RoleRule& rule) const {
    Compare(role_.inputs, rule.inputs, "input");
    Compare(role_.outputs, rule.outputs, "output");
    for (const Port& port : role_.inputs) {
      const bool known = std::any_of(rule.inputs.begin(), rule.inputs.end(),
                                     [&](const PortRule& r) { return r.name == port.name; });
      if (!known) Add(" has the input '" + port.name + "', which this loop does not fill.");
    }
  }

  void States(const RoleRule& rule) const {
    if (!rule.has_states && !role_.states.empty()) Add(" has states, which it must not have.");
    if (name_ != "target" && name_ != "encoder" && !role_.cross_states.empty()) {
      Add(" has cross_states, which it must not have.");
    }
    CheckKinds(role_.states, /*is_cross=*/false);
    CheckKinds(role_.cross_states, /*is_cross=*/true);
  }

  // Every buffer that the loop makes for it.
  void Buffers() const {
    const ShapePlan& shapes = bundle_.shapes;
    const std::int64_t batch = shapes.batch;
    const auto longest = [](const std::vector<int>& sizes) -> std::int64_t {
      return sizes.empty() ? 1 : sizes.back();
    };
    const std::int64_t width = longest(shapes.widths);
    Fits({batch, width, role_.states.empty() ? 1 : width, sizeof(std::int64_t)}, "ports");
    Fits({batch, longest(shapes.canvas_lengths), sizeof(std::int64_t)}, "canvas");
    for (const Port& port : role_.outputs) {
      const std::int64_t rows =
          port.name == "logits" ? std::max(shapes.verify_width, 1) : longest(shapes.source_lengths);
      if (port.rank == 3) Fits({batch, rows, port.last_size, sizeof(float)}, port.name.c_str());
    }
    FitAll(role_.states, longest(shapes.kv_capacities));
    FitAll(role_.cross_states, longest(shapes.source_lengths));
  }

  void Add(const std::string& what) const { build_.Add("roles." + name_, what); }

 private:
  void Compare(const std::vector<Port>& ports, const std::vector<PortRule>& rules,
               const std::string& kind) const {
    for (const PortRule& rule : rules) {
      const auto port = std::find_if(ports.begin(), ports.end(),
                                     [&](const Port& p) { return p.name == rule.name; });
      const std::string what = " " + kind + " '" + std::string(rule.name) + "'";
      if (port == ports.end()) {
        if (rule.is_needed) Add(" lacks the" + what + ".");
        continue;
      }
      const bool right = rule.dtype.has_value() ? port->dtype == *rule.dtype : IsFloat(port->dtype);
      if (!right) {
        Add(" has the" + what + " of the type " + std::string(Name(port->dtype)) + "; it must be " +
            (rule.dtype.has_value() ? std::string(Name(*rule.dtype)) : "floating-point") + ".");
      }
      if (port->rank != rule.rank) {
        Add(" has the" + what + " with " + std::to_string(port->rank) + " sizes; it must have " +
            std::to_string(rule.rank) + ".");
      }
      if (!rule.dtype.has_value() && port->last_size == 0) {
        Add(" has the" + what + " whose last size is no number.");
      }
    }
  }

  void CheckKinds(const std::vector<LayerState>& states, bool is_cross) const {
    const bool right = std::all_of(states.begin(), states.end(), [&](const LayerState& state) {
      return (state.kind == StateKind::kCross) == is_cross && IsFloat(state.dtype);
    });
    if (!right)
      Add(is_cross ? " has cross_states of another kind or type."
                   : " has states of another kind or type.");
  }

  // Bytes of a buffer; the most that there are where that is too large to count.
  std::int64_t Bytes(std::initializer_list<std::int64_t> sizes) const {
    std::int64_t bytes = 1;
    for (const std::int64_t size : sizes) {
      if (size > 0 && bytes > limits::kBufferBytes / size) return limits::kBufferBytes + 1;
      bytes *= size;
    }
    return bytes;
  }
  void Fits(std::initializer_list<std::int64_t> sizes, const char* what) const {
    if (Bytes(sizes) <= limits::kBufferBytes) return;
    Add(std::string(": its ") + what + " would take more memory than any machine has.");
  }
  void FitAll(const std::vector<LayerState>& states, std::int64_t capacity) const {
    std::int64_t bytes = 0;
    for (const LayerState& state : states) {
      bytes += Bytes({bundle_.shapes.batch, state.kv_heads, capacity, state.head_dim, 2,
                      static_cast<std::int64_t>(ItemSize(state.dtype))});
      if (bytes > limits::kBufferBytes) {
        return Add(": its cache would take more memory than any machine has.");
      }
    }
  }

  const Fields& build_;      // Says where problems are.
  const std::string& name_;  // The role's.
  const Bundle& bundle_;     // Of which it is one.
  const Role& role_;         // What is checked.
};

// Logits are read as they were written: as many as the vocabulary has.
void CheckVocabulary(const Fields& build, const Bundle& bundle) {
  const auto target = bundle.roles.find("target");
  if (target != bundle.roles.end() && target->second.vocab_size > 0 &&
      target->second.vocab_size != bundle.model.vocab_size) {
    build.Add("roles.target", " has logits of " + std::to_string(target->second.vocab_size) +
                                  " tokens; the model's vocabulary has " +
                                  std::to_string(bundle.model.vocab_size) + ".");
  }
  const auto drafter = bundle.roles.find("drafter");
  if (drafter != bundle.roles.end() && !limits::kVocabSize.Holds(drafter->second.vocab_size)) {
    build.Add("roles.drafter", " has no logits over a vocabulary of at most " +
                                   std::to_string(limits::kVocabSize.most) + " tokens.");
  }
}

bool AreAlike(const LayerState& left, const LayerState& right) {
  return left.kv_heads == right.kv_heads && left.head_dim == right.head_dim &&
         left.dtype == right.dtype;
}

// An encoder writes what the others read.
void CheckEncoder(const Fields& build, const Bundle& bundle) {
  const auto encoder = bundle.roles.find("encoder");
  if (encoder == bundle.roles.end()) {
    if (!bundle.shapes.source_lengths.empty()) {
      build.Add("shapes.source_lengths", " are there, and no role 'encoder' that reads a source.");
    }
    return;
  }
  if (bundle.shapes.source_lengths.empty()) {
    build.Add("shapes.source_lengths", " is empty; the encoder needs one.");
  }
  const auto target = bundle.roles.find("target");
  if (target == bundle.roles.end()) return;
  if (!std::ranges::equal(encoder->second.cross_states, target->second.cross_states, AreAlike)) {
    build.Add("roles.encoder", " has other cross_states than the target.");
  }
  if (!bundle.model.start_token_id.has_value()) {
    build.Add("roles.encoder",
              " needs model.decoder_start_token_id, which manifest.json does not have.");
  }
}

void CheckHiddenStates(const Fields& build, const Bundle& bundle) {
  const auto find = [](const std::vector<Port>& ports) {
    return std::find_if(ports.begin(), ports.end(),
                        [](const Port& port) { return port.name == kHiddenStates.name; });
  };
  const auto encoder = bundle.roles.find("encoder");
  if (encoder == bundle.roles.end()) return;
  const auto written = find(encoder->second.outputs);
  if (written == encoder->second.outputs.end()) return;
  for (const auto& [name, role] : bundle.roles) {
    const auto read = find(role.inputs);
    if (read == role.inputs.end()) continue;
    if (read->dtype == written->dtype && read->last_size == written->last_size) continue;
    build.Add("roles." + name, " reads other encoder_hidden_states than the encoder writes.");
  }
}

}  // namespace

void CheckRoles(const Fields& build, const Bundle& bundle) {
  const std::map<std::string, RoleRule> rules = RulesOf(bundle);
  for (const auto& [name, rule] : rules) {
    if (!bundle.roles.contains(name)) build.Add("roles", " lacks the role '" + name + "'.");
  }
  for (const auto& [name, role] : bundle.roles) {
    const auto rule = rules.find(name);
    if (rule == rules.end()) {
      build.Add("roles", " has the role '" + name + "', which this loop does not run.");
      continue;
    }
    const RoleCheck check(build, name, bundle);
    check.Ports(rule->second);
    check.States(rule->second);
    check.Buffers();
  }
  CheckVocabulary(build, bundle);
  CheckEncoder(build, bundle);
  CheckHiddenStates(build, bundle);
}

}  // namespace ptgc
