#include "bundle/role_rules.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bundle/drafter_rules.h"
#include "bundle/port_names.h"
#include "drafters/registry.h"

namespace ptgc {
namespace {

// What a port that a loop binds must be.
struct PortRule {
  std::string_view name;       // Its name in the graph.
  std::optional<DType> dtype;  // None: any floating-point type.
  std::string_view sizes;      // Names of its dimensions; "#" for a number.
  bool is_needed;              // Whether every such role must have it.
};

// The ports and states that a loop expects of a role.
struct RoleRule {
  std::vector<PortRule> inputs;   // Inputs that the loop fills.
  std::vector<PortRule> outputs;  // Outputs that it reads; others are ignored.
  bool has_states = false;        // Whether it keeps a cache.
};

constexpr std::optional<DType> kAnyFloat = std::nullopt;
constexpr const char* kRow = "batch";
constexpr const char* kRound = "batch num_tokens";
constexpr const char* kChoice = "batch num_logits";
constexpr const char* kSource = "batch source_length";
constexpr const char* kText = "batch canvas_length";

bool IsFloat(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

// The names of a port's dimensions, in the notation of the rules.
std::string SizesOf(const Port& port) {
  std::string sizes;
  for (const std::string& name : port.dimensions) {
    if (!sizes.empty()) sizes += ' ';
    sizes += name.empty() ? "#" : Printable(name);
  }
  return sizes;
}

// A build may lack inputs that its lowering made unnecessary.
RoleRule CausalRule() {
  return {{{"input_ids", DType::kInt64, kRound, true},
           {"position_ids", DType::kInt64, kRound, false},
           {"tree_mask", DType::kBool, "batch num_tokens mask_slots", false},
           {"mask_start", DType::kInt64, kRow, false},
           {"write_index", DType::kInt64, kRow, false},
           {"row_count", DType::kInt64, kRow, false},
           {"logits_rows", DType::kInt64, kChoice, false},
           {"window_offset", DType::kInt64, kRow, false}},
          {{"next_ids", DType::kInt64, kChoice, true},
           {"logits", kAnyFloat, "batch num_logits #", false},
           {ports::kTopIds, DType::kInt64, "batch num_tokens #", false},
           {ports::kHiddenStates, kAnyFloat, "batch num_tokens #", false}},
          true};
}

// A drafter that reads tokens together with hidden states: the target's, and its own for drafts.
RoleRule StateReaderRule() {
  RoleRule rule = CausalRule();
  rule.inputs.push_back({ports::kHiddenStates, kAnyFloat, "batch num_tokens #", true});
  rule.outputs.back() = {ports::kCarriedStates, kAnyFloat, "batch num_logits #", true};
  return rule;
}

// One that drafts whole blocks reads no states of its own, and gives none.
RoleRule BlockReaderRule() {
  RoleRule rule = StateReaderRule();
  rule.outputs.pop_back();
  return rule;
}

// Heads read one row of the target's output, at the end of each text, and some the token after it.
RoleRule HeadsRule() {
  return {{{ports::kHiddenStates, kAnyFloat, "batch # #", true},
           {"input_ids", DType::kInt64, "batch #", false}},
          {{ports::kDraftIds, DType::kInt64, "batch #", true}}};
}

// A role that reads the target's hidden states.
RoleRule ReaderRule(const DrafterKind& kind, std::string_view role) {
  if (role == "heads") return HeadsRule();
  return kind.drafts_blocks ? BlockReaderRule() : StateReaderRule();
}

constexpr PortRule kStep = {"step", DType::kInt64, kRow, false};
constexpr PortRule kThreshold = {"threshold", DType::kFloat32, kRow, false};
constexpr PortRule kTemperature = {"temperature", DType::kFloat32, kRow, false};

// The inputs of a policy that decides the tokens of positions with these sizes.
void AddPolicy(const PolicyPlan& policy, const char* sizes, const char* uniforms,
               std::vector<PortRule>& inputs) {
  inputs.insert(inputs.end(), {{"canvas_mask", DType::kBool, sizes, false}, kStep});
  if (ThresholdsOf(policy.kind).has_value()) inputs.push_back(kThreshold);
  if (policy.is_sampled) inputs.push_back(kTemperature);
  if (policy.draws()) inputs.push_back({"uniforms", DType::kFloat32, uniforms, false});
}

// The outputs of a denoiser that decides the tokens of positions with these sizes.
std::vector<PortRule> Filled(const CanvasPlan& plan, const char* sizes) {
  std::vector<PortRule> outputs = {{"output_ids", DType::kInt64, sizes, true},
                                   {"num_masked", DType::kInt64, kRow, true},
                                   {"confidence", DType::kFloat32, sizes, true}};
  if (plan.num_draft_steps > 0) {
    outputs.push_back({"candidate_ids", DType::kInt64, sizes, true});
    outputs.push_back({"candidate_ranks", DType::kInt64, sizes, true});
  }
  return outputs;
}

// A round's rows are those of a target; the rows of its columns get tokens.
RoleRule RoundDenoiserRule(const CanvasPlan& plan) {
  RoleRule rule = CausalRule();
  rule.inputs.push_back({"column_ids", DType::kInt64, kChoice, true});
  AddPolicy(plan.policy, kChoice, "batch num_logits #", rule.inputs);
  rule.outputs = Filled(plan, kChoice);
  return rule;
}

constexpr PortRule kSourceMask = {"encoder_attention_mask", DType::kBool, kSource, false};
constexpr PortRule kHiddenStates = {"encoder_hidden_states", kAnyFloat, "batch source_length #",
                                    true};
constexpr PortRule kSourceIds = {"input_ids", DType::kInt64, kSource, true};
constexpr PortRule kTokens = {"input_ids", DType::kInt64, kText, true};
constexpr PortRule kLengths = {"lengths", DType::kInt64, kRow, false};
constexpr PortRule kTime = {"time", DType::kFloat32, kRow, false};
constexpr PortRule kTextIds = {"output_ids", DType::kInt64, kText, true};
constexpr PortRule kTextLengths = {"output_lengths", DType::kInt64, kRow, true};

// Whether the denoiser is a language model, which reads rows over a cache.
bool ReadsRounds(const Bundle& bundle) {
  if (bundle.plan.loop != LoopKind::kCanvas) return false;
  const auto denoiser = bundle.roles.find("denoiser");
  const bool keeps_states = denoiser != bundle.roles.end() && !denoiser->second.states.empty();
  return keeps_states || bundle.plan.canvas.cache != CanvasCache::kNone;
}

// The rules of the loop's roles, by name.
std::map<std::string, RoleRule> RulesOf(const Bundle& bundle) {
  std::map<std::string, RoleRule> rules;
  switch (bundle.plan.loop) {
    case LoopKind::kSpeculative: {
      const auto target = bundle.roles.find("target");
      rules["target"] = CausalRule();
      if (target != bundle.roles.end() && !target->second.cross_states.empty()) {
        rules["target"].inputs.push_back(kSourceMask);
        rules["encoder"] = {{kSourceIds, kSourceMask}, {}};
      }
      const DrafterKind& kind = LearnedKind(bundle.plan.drafter);
      for (const std::string& role : RolesOf(bundle.plan.drafter)) {
        rules[role] = kind.reads_states ? ReaderRule(kind, role) : CausalRule();
      }
      break;
    }
    case LoopKind::kCanvas:
      if (ReadsRounds(bundle)) {
        rules["denoiser"] = RoundDenoiserRule(bundle.plan.canvas);
        break;
      }
      rules["denoiser"] = {{kTokens, kLengths, kTime}, Filled(bundle.plan.canvas, kText)};
      AddPolicy(bundle.plan.canvas.policy, kText, "batch canvas_length #",
                rules["denoiser"].inputs);
      break;
    case LoopKind::kEdit: {
      RoleRule operation = {{kTokens, kLengths}, {kTextIds, kTextLengths}};
      if (bundle.roles.contains("encoder") || bundle.plan.edit.start == EditStart::kEmpty) {
        rules["encoder"] = {{kSourceIds, kSourceMask}, {kHiddenStates}};
        operation.inputs.insert(operation.inputs.end(), {kHiddenStates, kSourceMask});
      }
      for (const std::string& name : bundle.plan.edit.operations) rules[name] = operation;
      break;
    }
    case LoopKind::kOneShot:
      rules["encoder"] = {{kSourceIds, kSourceMask}, {kHiddenStates}};
      rules["decoder"] = {{kHiddenStates, kSourceMask}, {kTextIds, kTextLengths}};
      break;
  }
  return rules;
}

bool AreAlike(const LayerState& left, const LayerState& right) {
  return left.kv_heads == right.kv_heads && left.head_dim == right.head_dim &&
         left.dtype == right.dtype;
}

// Checks one role against its rule and its plan.
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

  // A role has attention exactly if it has a cache.
  void Attention() const {
    if (name_ == "denoiser" && bundle_.plan.canvas.shift && !ReadsRounds(bundle_)) {
      Add(" has no states; plan.canvas.shift is true, which needs a language model.");
    }
    if (ReadsRounds(bundle_) && role_.attention != AttentionKind::kBlock) {
      Add(" must have block attention, with states; plan.canvas.cache is '" +
          std::string(Name(bundle_.plan.canvas.cache)) + "'.");
    }
    const auto has_window = [](const LayerState& state) {
      return state.kind == StateKind::kWindow;
    };
    if (name_ == "denoiser" && bundle_.plan.canvas.approximates() &&
        std::ranges::any_of(role_.states, has_window)) {
      Add(" has layers with sliding windows; plan.canvas.cache is '" +
          std::string(Name(bundle_.plan.canvas.cache)) + "', which has slots in another order.");
    }
    const bool is_tree = name_ == "target" && !bundle_.plan.tree.is_chain();
    if (role_.attention.has_value() == role_.states.empty()) {
      Add(role_.states.empty() ? " has attention, which must be null without states."
                               : " lacks attention: causal, tree or block.");
    } else if (is_tree && role_.attention == AttentionKind::kCausal) {
      Add(" has causal attention; plan.tree is no chain.");
    }
    if (role_.mask_extra > 0 &&
        role_.attention.value_or(AttentionKind::kCausal) == AttentionKind::kCausal) {
      Add(" has mask_extra " + std::to_string(role_.mask_extra) + "; text in order has 0.");
    }
  }

  // A shared layer must name a layer of the same form that another role owns.
  void Sharing() const {
    for (std::size_t layer = 0; layer < role_.states.size(); ++layer) {
      const LayerState& state = role_.states[layer];
      if (!state.shared_with.has_value()) continue;
      const auto& [owner, its_layer] = *state.shared_with;
      const std::string problem = ProblemOfSharing(state);
      if (problem.empty()) continue;
      build_.Add("roles." + name_ + ".states[" + std::to_string(layer) + "].shared_with",
                 " is layer " + std::to_string(its_layer) + " of '" + Printable(owner) + "', " +
                     problem + ".");
    }
    for (const LayerState& state : role_.cross_states) {
      if (state.shared_with.has_value()) Add(" has cross_states that are shared.");
    }
  }

  void Add(const std::string& what) const { build_.Add("roles." + name_, what); }

 private:
  void Compare(const std::vector<Port>& ports, const std::vector<PortRule>& rules,
               const std::string& kind) const {
    for (const PortRule& rule : rules) {
      const Port* port = FindPort(ports, rule.name);
      const std::string what = " " + kind + " '" + std::string(rule.name) + "'";
      if (port == nullptr) {
        if (rule.is_needed) Add(" lacks the" + what + ".");
        continue;
      }
      const bool right = rule.dtype.has_value() ? port->dtype == *rule.dtype : IsFloat(port->dtype);
      if (!right) {
        Add(" has the" + what + " of the type " + std::string(Name(port->dtype)) + "; it must be " +
            (rule.dtype.has_value() ? std::string(Name(*rule.dtype)) : "floating-point") + ".");
      }
      if (const std::string sizes = SizesOf(*port); sizes != rule.sizes) {
        Add(" has the" + what + " with the sizes '" + sizes + "'; it must have '" +
            std::string(rule.sizes) + "'.");
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

  // What follows the owner's name in the message; empty if nothing is wrong.
  std::string ProblemOfSharing(const LayerState& state) const {
    const auto owner = bundle_.roles.find(state.shared_with->role);
    if (owner == bundle_.roles.end() || owner->first == name_) return "which is no other role";
    const std::vector<LayerState>& states = owner->second.states;
    const auto layer = static_cast<std::size_t>(state.shared_with->layer);
    if (layer >= states.size()) return "which has " + std::to_string(states.size()) + " layers";
    if (states[layer].shared_with.has_value()) return "which shares another's cache itself";
    const bool same = AreAlike(state, states[layer]) && state.kind == states[layer].kind &&
                      state.window == states[layer].window;
    return same ? "" : "whose cache has another kind, shape or type";
  }

  const Fields& build_;      // Collects problems.
  const std::string& name_;  // The role's name.
  const Bundle& bundle_;     // The bundle of the role.
  const Role& role_;         // The role that is checked.
};

// Rows of logits must have as many entries as the vocabulary.
void CheckVocabulary(const Fields& build, const Bundle& bundle) {
  const auto target = bundle.roles.find("target");
  if (target != bundle.roles.end() && target->second.vocab_size > 0 &&
      target->second.vocab_size != bundle.model.vocab_size) {
    build.Add("roles.target", " has logits of " + std::to_string(target->second.vocab_size) +
                                  " tokens; the model's vocabulary has " +
                                  std::to_string(bundle.model.vocab_size) + ".");
  }
  for (const std::string& name : RolesOf(bundle.plan.drafter)) {
    const auto drafter = bundle.roles.find(name);
    if (drafter == bundle.roles.end() || name == "heads") continue;
    if (limits::kVocabSize.Holds(drafter->second.vocab_size)) continue;
    build.Add("roles." + name, " has no logits over a vocabulary of at most " +
                                   std::to_string(limits::kVocabSize.most) + " tokens.");
  }
}

// An encoder must write what the target reads.
void CheckEncoder(const Fields& build, const Bundle& bundle) {
  const auto encoder = bundle.roles.find("encoder");
  if (encoder == bundle.roles.end()) return;
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
  const auto encoder = bundle.roles.find("encoder");
  if (encoder == bundle.roles.end()) return;
  const Port* written = FindPort(encoder->second.outputs, kHiddenStates.name);
  if (written == nullptr) return;
  for (const auto& [name, role] : bundle.roles) {
    const Port* read = FindPort(role.inputs, kHiddenStates.name);
    if (read == nullptr) continue;
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
    check.Attention();
    check.Sharing();
  }
  CheckVocabulary(build, bundle);
  CheckEncoder(build, bundle);
  CheckHiddenStates(build, bundle);
  CheckDrafterRoles(build, bundle);
}

}  // namespace ptgc
