#include "bundle/plan_reader.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "drafters/registry.h"
#include "sampling/sampling_options.h"

namespace ptgc {
namespace {

constexpr std::size_t kStrategyLength = 64;

// The name of a strategy, which this ptgc need not know.
std::string ReadStrategy(const Fields& manifest) {
  std::string name = manifest.Text("strategy");
  const auto is_plain = [](char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-';
  };
  const bool is_name = !name.empty() && name.front() != '-' && name.size() <= kStrategyLength &&
                       std::all_of(name.begin(), name.end(), is_plain);
  if (!is_name && manifest.Find("strategy") != nullptr) {
    manifest.Add("strategy", " must be up to 64 lower-case letters, digits and '-'.");
  }
  return name;
}

Range TokensOf(const ModelFacts& model) { return {0, model.vocab_size - 1}; }

// A digest that may be absent or null.
std::optional<std::string> ReadOptionalSha256(const Fields& data, const char* name) {
  if (data.Find(name) == nullptr) return std::nullopt;
  std::string digest = data.Text(name);
  if (digest.size() != 64 || digest.find_first_not_of("0123456789abcdef") != std::string::npos) {
    data.Add(name, " must be a sha256 in lower-case hexadecimal.");
  }
  return digest;
}

// The tree; a chain, with a problem added, if the parents do not form a tree.
TreeSpec ReadTree(const Fields& data) {
  constexpr Range kParent{-1, limits::kTreeNodes - 1};
  const std::vector<std::int64_t> nodes = data.Integers("tree", kParent, limits::kTreeNodes);
  const std::vector<int> parents(nodes.begin(), nodes.end());
  try {
    return TreeSpec(parents);
  } catch (const Error& error) {
    if (data.Find("tree") != nullptr) data.Add("tree", ": " + error.message());
    return TreeSpec::Chain(0);
  }
}

// A number from 0 to `most` in place of the default.
void ReadIfThere(const Fields& data, const char* name, double most, double& value) {
  if (data.Find(name) != nullptr) value = data.Number(name, 0, most);
}

// The parameters of lossy rules, each of which may be absent.
void ReadThresholds(const Fields& data, DecodePlan& plan) {
  if (data.Find("typical") != nullptr) {
    const Fields typical = data.Object("typical");
    ReadIfThere(typical, "epsilon", 1, plan.typical.epsilon);
    ReadIfThere(typical, "delta", 1, plan.typical.delta);
  }
  if (data.Find("relaxed") != nullptr) {
    const Fields relaxed = data.Object("relaxed");
    const std::optional<std::int64_t> top_k = relaxed.OptionalInteger("top_k", limits::kCandidates);
    plan.relaxed.top_k = top_k.value_or(plan.relaxed.top_k);
    ReadIfThere(relaxed, "margin", limits::kMargin, plan.relaxed.margin);
  }
}

// Whether drafts choose their own tree.
void ReadDynamicTree(const Fields& data, DecodePlan& plan) {
  plan.has_dynamic_tree = data.Flag("dynamic_tree", false);
  if (!plan.has_dynamic_tree) return;
  if (plan.tree.is_chain()) {
    data.Add("dynamic_tree", " is true, and plan.tree is a chain.");
  }
  const DrafterPlan& drafter = plan.drafter.Parts().back();
  const DrafterKind* kind = FindDrafterKind(drafter.kind);
  if (kind != nullptr && !kind->draws_dynamic_trees) {
    data.Add("dynamic_tree", " is true, which drafter '" + drafter.kind + "' does not draft.");
  }
}

void ReadSpeculative(const Fields& data, DecodePlan& plan) {
  plan.acceptance = data.Choice<AcceptanceRule>("acceptance");
  plan.tree = ReadTree(data);
  plan.drafter = ReadDrafter(data.Object("drafter"));
  if (plan.drafter.num_draft_tokens > plan.tree.num_nodes() - 1) {
    data.Add("drafter.num_draft_tokens", " does not fit plan.tree.");
  }
  const DrafterPlan& last = plan.drafter.Parts().back();
  const std::string misfit = last.parameters->Misfit(last.num_draft_tokens, plan.tree);
  if (!misfit.empty()) data.Add("drafter", misfit);
  if (!plan.tree.is_by_depth()) {
    data.Add("tree",
             " must have its nodes in the order of their depths: it is drafted depth by depth.");
  }
  if (plan.acceptance == AcceptanceRule::kBlock && !plan.tree.is_chain()) {
    data.Add("acceptance", " is 'block', which takes chains, and plan.tree is none.");
  }
  if (IsLossy(plan.acceptance) && plan.guarantee != Guarantee::kLossy) {
    data.Add("acceptance", " is '" + std::string(Name(plan.acceptance)) +
                               "', with which the guarantee must be 'lossy'.");
  }
  ReadThresholds(data, plan);
  ReadDynamicTree(data, plan);
}

PolicyPlan ReadPolicy(const Fields& data) {
  PolicyPlan policy;
  policy.kind = data.Choice<PolicyKind>("kind", PolicyKind::kConfidence);
  policy.is_sampled = data.Flag("sampled", false);
  data.Choice<ConfidenceOf>("confidence_of", ConfidenceOf::kModel);  // Used in the graph only.
  if (data.Find("threshold") == nullptr) return policy;
  const std::optional<Thresholds> known = ThresholdsOf(policy.kind);
  if (known.has_value()) {
    policy.threshold = data.Number("threshold", 0, known->most);
  } else {
    data.Add("threshold",
             " is given; the policy '" + std::string(Name(policy.kind)) + "' has none.");
  }
  return policy;
}

CanvasPlan ReadCanvas(const Fields& data, const ModelFacts& model) {
  CanvasPlan canvas;
  canvas.mask_token_id = data.Integer("mask_token_id", TokensOf(model));
  canvas.num_steps = static_cast<int>(data.Integer("num_steps", limits::kSteps));
  if (data.Find("block_length") != nullptr) {
    canvas.block_length = static_cast<int>(data.Integer("block_length", {0, limits::kLength.most}));
  }
  canvas.cache = data.Choice<CanvasCache>("cache", CanvasCache::kNone);
  if (canvas.cache == CanvasCache::kBlock && canvas.block_length == 0) {
    data.Add("block_length", " is 0; cache is 'block', which needs a length.");
  }
  if (canvas.cache == CanvasCache::kDual && canvas.block_length == 0) {
    data.Add("block_length", " is 0; cache is 'dual', which needs a length.");
  }
  if (data.Find("cache_interval") != nullptr) {
    canvas.cache_interval = static_cast<int>(data.Integer("cache_interval", limits::kInterval));
  }
  canvas.shift = data.Flag("shift", false);
  if (canvas.shift && canvas.cache == CanvasCache::kBlock) {
    data.Add("shift", " is true; cache is 'block', whose rows predict their own positions.");
  }
  canvas.schedule = data.Choice<Schedule>("schedule", Schedule::kLinear);
  if (canvas.schedule == Schedule::kPerBlock && canvas.block_length == 0) {
    data.Add("block_length", " is 0; schedule is 'per-block', which needs a length.");
  }
  canvas.stop = data.Choice<CanvasStop>("stop", CanvasStop::kBlock);
  if (data.Find("num_draft_steps") != nullptr) {
    canvas.num_draft_steps = static_cast<int>(data.Integer("num_draft_steps", limits::kDraftSteps));
  }
  if (canvas.num_draft_steps > 0 && canvas.cache != CanvasCache::kNone) {
    data.Add("num_draft_steps", " is " + std::to_string(canvas.num_draft_steps) + "; cache is '" +
                                    std::string(Name(canvas.cache)) +
                                    "', with which no steps are drafted.");
  }
  if (data.Find("policy") != nullptr) canvas.policy = ReadPolicy(data.Object("policy"));
  return canvas;
}

OneShotPlan ReadOneShot(const Fields& data, const ModelFacts& model) {
  OneShotPlan one_shot;
  one_shot.path = data.Choice<OneShotPath>("path");
  one_shot.blank_token_id = data.Integer("blank_token_id", TokensOf(model));
  one_shot.upsampling = static_cast<int>(data.Integer("upsampling", limits::kUpsampling));
  return one_shot;
}

EditPlan ReadEdit(const Fields& data, const ModelFacts& model) {
  const Range tokens = TokensOf(model);
  EditPlan edit;
  edit.operations = data.Texts("operations", limits::kOperations);
  if (edit.operations.empty()) data.Add("operations", " is empty; a round has one at least.");
  if (std::ranges::find(edit.operations, "encoder") != edit.operations.end()) {
    data.Add("operations", " has 'encoder', which edits nothing.");
  }
  edit.start = data.Choice<EditStart>("start", EditStart::kEmpty);
  if (edit.start == EditStart::kSource &&
      model.source_vocab_size.value_or(model.vocab_size) != model.vocab_size) {
    data.Add("start", " is 'source', which has another vocabulary than the text.");
  }
  edit.max_rounds = static_cast<int>(data.Integer("max_rounds", limits::kRounds));
  // These are used in the graphs only.
  for (const char* token : {"placeholder_token_id", "stop_token_id"}) {
    data.OptionalInteger(token, tokens);
  }
  edit.bos_token_id = data.Integer("bos_token_id", tokens);
  edit.eos_token_id = data.Integer("eos_token_id", tokens);
  edit.pad_token_id = data.Integer("pad_token_id", tokens);
  return edit;
}

}  // namespace

ModelFacts ReadModel(const Fields& manifest) {
  const Fields data = manifest.Object("model");
  ModelFacts model;
  model.family = data.Text("family");
  model.vocab_size = data.Integer("vocab_size", limits::kVocabSize);
  model.context_length = data.Integer("context_length", limits::kContextLength);
  const Range tokens = TokensOf(model);
  model.eos_token_ids = data.Integers("eos_token_ids", tokens, limits::kEndTokens);
  model.source_vocab_size = data.OptionalInteger("source_vocab_size", limits::kVocabSize);
  model.vocabulary_sha256 = ReadOptionalSha256(data, "vocabulary_sha256");
  model.start_token_id = data.OptionalInteger("decoder_start_token_id", tokens);
  // Begins a prompt, which may be in the encoder's own vocabulary.
  data.OptionalInteger("bos_token_id", {0, model.source_vocab_size.value_or(model.vocab_size) - 1});
  return model;
}

GenerationDefaults ReadGeneration(const Fields& manifest, const ModelFacts& model) {
  GenerationDefaults generation;
  if (manifest.Find("generation") == nullptr) return generation;
  const Fields data = manifest.Object("generation");
  SamplingOptions options;
  if (data.Find("repetition_penalty") != nullptr) {
    constexpr double kAny = std::numeric_limits<double>::max();
    options.repetition_penalty = data.Number("repetition_penalty", -kAny, kAny);
  }
  generation.repetition_penalty = options.repetition_penalty;
  generation.suppressed_token_ids =
      data.Integers("suppressed_token_ids", TokensOf(model), model.vocab_size,
                    /*may_be_absent=*/true);
  for (TokenId token : generation.suppressed_token_ids) options.logit_bias.push_back({token, 0});
  try {
    options.Check(model.vocab_size);
  } catch (const Error& error) {
    manifest.Add("generation", " is out of range: " + error.message());
  }
  return generation;
}

DrafterPlan ReadDrafter(const Fields& data) {
  DrafterPlan drafter;
  drafter.num_draft_tokens =
      static_cast<int>(data.Integer("num_draft_tokens", limits::kDraftTokens));
  const std::string name = data.Text("kind");
  const DrafterKind* kind = FindDrafterKind(name);
  if (kind != nullptr) {
    drafter.kind = name;
    kind->read(data, drafter);
  } else if (!name.empty()) {
    data.Add("kind", " is '" + name + "', which this ptgc does not have.");
  }
  return drafter;
}

DecodePlan ReadPlan(const Fields& manifest, const ModelFacts& model) {
  const Fields data = manifest.Object("plan");
  DecodePlan plan;
  plan.strategy = ReadStrategy(manifest);
  plan.guarantee = manifest.Choice<Guarantee>("guarantee");
  plan.loop = data.Choice<LoopKind>("loop");
  if (plan.guarantee == Guarantee::kLossless && plan.loop != LoopKind::kSpeculative) {
    manifest.Add("guarantee", " is 'lossless', as only the speculative loop can be.");
  }
  switch (plan.loop) {
    case LoopKind::kSpeculative:
      ReadSpeculative(data, plan);
      break;
    case LoopKind::kCanvas:
      plan.canvas = ReadCanvas(data.Object("canvas"), model);
      break;
    case LoopKind::kEdit:
      plan.edit = ReadEdit(data.Object("edit"), model);
      break;
    case LoopKind::kOneShot:
      plan.one_shot = ReadOneShot(data.Object("one_shot"), model);
      break;
  }
  return plan;
}

}  // namespace ptgc
