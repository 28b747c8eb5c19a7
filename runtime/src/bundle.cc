#include "bundle.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "bundle_engines.h"
#include "error.h"
#include "sampling_options.h"

namespace ptgc {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kSchemaVersion = 1;
// Features that this version reads; a bundle that names another is refused by that name.
constexpr std::array<std::string_view, 8> kFeatures = {
    "speculative-loop", "canvas-loop",          "one-shot-loop", "edit-loop",
    "kv-cache-full",    "sliding-window-cache", "drafter-model", "encoder"};
constexpr const char* kExportAgain = "Export the bundle again.";
constexpr const char* kBuildAgain = "Build again with `ptgc build`.";

[[noreturn]] void Refuse(const std::string& message, const std::string& action) {
  throw Error(ErrorCode::kBundle, message, action);
}

json ReadJson(const fs::path& path, const char* action) {
  std::ifstream file(path);
  if (!file) Refuse("Cannot read '" + path.string() + "'.", action);
  json document = json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded() || !document.is_object()) {
    Refuse("'" + path.string() + "' is no JSON object; it may be truncated.", action);
  }
  return document;
}

void CheckReadable(const json& document, const std::string& name) {
  const auto version = document.find("schema_version");
  if (version == document.end() || !version->is_number_integer()) {
    Refuse(name + " is not a ptgc manifest: it has no schema_version.", kExportAgain);
  }
  const std::string newer =
      "Install ptgc " + document.value("min_runtime", "of a newer version") + " or newer.";
  if (version->get<int>() > kSchemaVersion) {
    Refuse(name + " has schema version " + version->dump() + "; this ptgc reads up to " +
               std::to_string(kSchemaVersion) + ".",
           newer);
  }
  std::string unknown;
  for (const std::string& feature : document.value("features", std::vector<std::string>())) {
    if (std::find(kFeatures.begin(), kFeatures.end(), feature) != kFeatures.end()) continue;
    unknown += (unknown.empty() ? "" : ", ") + feature;
  }
  if (!unknown.empty()) {
    Refuse(name + " needs features that this ptgc does not have: " + unknown + ".", newer);
  }
}

template <typename Enum>
Enum ReadName(const json& value, const char* what) {
  const std::string name = value.get<std::string>();
  const std::optional<Enum> found = FromName<Enum>(name);
  if (!found) {
    Refuse("The bundle names the " + std::string(what) + " '" + name +
               "', which this ptgc does not have.",
           "Install a newer ptgc.");
  }
  return *found;
}

// A field that may be absent or null.
template <typename T>
std::optional<T> ReadOptional(const json& data, const char* name) {
  const auto found = data.find(name);
  if (found == data.end() || found->is_null()) return std::nullopt;
  return found->get<T>();
}

// Whether a path from a manifest stays inside the folder, as it is written.
bool IsInside(const fs::path& path) {
  if (path.empty() || path.is_absolute()) return false;
  return std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

// The absolute path of a file that a manifest names; links must not lead out of the folder.
fs::path Resolve(const fs::path& root, const std::string& name) {
  if (name.find('\\') != std::string::npos || !IsInside(name)) {
    Refuse("The file '" + name + "' would lie outside the bundle.",
           "Do not use this bundle: it was made by hand, or to do harm.");
  }
  const fs::path resolved = fs::weakly_canonical(root / name);
  if (!IsInside(resolved.lexically_relative(fs::canonical(root)))) {
    Refuse("The file '" + name + "' is a link that leads out of the bundle.",
           "Copy the bundle with its links followed.");
  }
  return resolved;
}

// Checks the files of one manifest and reports every problem found.
void CheckFiles(const json& document, const fs::path& root, bool must_exist, const char* action) {
  std::string problems;
  for (const json& entry : document.at("files")) {
    const std::string name = entry.at("path").get<std::string>();
    const fs::path path = Resolve(root, name);
    if (!must_exist) continue;
    std::error_code failure;
    const std::uintmax_t size = fs::file_size(path, failure);
    const std::uintmax_t expected = entry.at("size").get<std::uintmax_t>();
    if (failure) {
      problems += " '" + name + "' is missing.";
    } else if (size != expected) {
      problems += " '" + name + "' has " + std::to_string(size) + " bytes instead of " +
                  std::to_string(expected) + ".";
    }
  }
  if (!problems.empty())
    Refuse("The build in '" + root.string() + "' is damaged:" + problems, action);
}

std::vector<Port> ReadPorts(const json& ports) {
  std::vector<Port> result;
  for (const json& port : ports) {
    const json& shape = port.at("shape");
    const bool fixed = !shape.empty() && shape.back().is_number_integer();
    result.push_back({port.at("name").get<std::string>(),
                      ReadName<DType>(port.at("dtype"), "element type"),
                      fixed ? shape.back().get<std::int64_t>() : 0});
  }
  return result;
}

LayerState ReadState(const json& state) {
  LayerState result;
  result.kind = ReadName<StateKind>(state.at("kind"), "state kind");
  result.kv_heads = state.at("kv_heads").get<int>();
  result.head_dim = state.at("head_dim").get<int>();
  result.dtype = ReadName<DType>(state.at("dtype"), "element type");
  result.rollback = ReadName<Rollback>(state.at("rollback"), "rollback");
  const bool known = result.kind == StateKind::kFull || result.kind == StateKind::kWindow ||
                     result.kind == StateKind::kCross;
  if (!known || result.rollback == Rollback::kSelectRow) {
    Refuse("The bundle keeps a state of kind '" + std::string(Name(result.kind)) +
               "' with rollback '" + std::string(Name(result.rollback)) +
               "', which this ptgc cannot run.",
           "Install a newer ptgc.");
  }
  result.window = ReadOptional<int>(state, "window").value_or(0);
  if (result.kv_heads < 1 || result.head_dim < 1) {
    Refuse("A state of the bundle has no size.", kExportAgain);
  }
  return result;
}

Role ReadRole(const json& data, const fs::path& root) {
  Role role;
  role.graph = Resolve(root, data.at("graph").get<std::string>());
  role.inputs = ReadPorts(data.at("ports").at("inputs"));
  role.outputs = ReadPorts(data.at("ports").at("outputs"));
  for (const json& state : data.at("states")) role.states.push_back(ReadState(state));
  for (const json& state : data.value("cross_states", json::array())) {
    role.cross_states.push_back(ReadState(state));
  }
  role.context_length = ReadOptional<std::int64_t>(data, "context_length");
  for (const Port& port : role.outputs) {
    if (port.name == "logits") role.vocab_size = port.last_size;
  }
  return role;
}

DrafterPlan ReadDrafter(const json& data) {
  DrafterPlan drafter;
  drafter.kind = ReadName<DrafterKind>(data.at("kind"), "drafter");
  drafter.num_draft_tokens = data.at("num_draft_tokens").get<int>();
  drafter.max_ngram_size = data.value("max_ngram_size", 0);
  drafter.min_ngram_size = data.value("min_ngram_size", 0);
  drafter.ngram_match =
      ReadName<NgramMatch>(data.value("ngram_match", json("latest")), "n-gram match");
  drafter.vocabulary =
      ReadName<DrafterVocabulary>(data.value("vocabulary", json("shared")), "drafter vocabulary");
  if (drafter.kind == DrafterKind::kNgram &&
      (drafter.min_ngram_size < 1 || drafter.max_ngram_size < drafter.min_ngram_size)) {
    Refuse("plan.drafter has n-gram sizes out of order.", kExportAgain);
  }
  return drafter;
}

CanvasPlan ReadCanvas(const json& data) {
  CanvasPlan canvas;
  canvas.mask_token_id = data.at("mask_token_id").get<TokenId>();
  canvas.num_steps = data.at("num_steps").get<int>();
  canvas.unmasking = ReadName<Unmasking>(data.at("unmasking"), "unmasking");
  canvas.threshold = data.at("threshold").get<double>();
  canvas.block_length = data.at("block_length").get<int>();
  if (canvas.num_steps < 1 || canvas.block_length < 0) {
    Refuse("plan.canvas has a number of steps or a block length out of range.", kExportAgain);
  }
  return canvas;
}

OneShotPlan ReadOneShot(const json& data) {
  OneShotPlan one_shot;
  one_shot.path = ReadName<OneShotPath>(data.at("path"), "path of a one-shot text");
  one_shot.blank_token_id = data.at("blank_token_id").get<TokenId>();
  one_shot.upsampling = data.at("upsampling").get<int>();
  if (one_shot.upsampling < 1) Refuse("plan.one_shot has no upsampling.", kExportAgain);
  return one_shot;
}

EditPlan ReadEdit(const json& data) {
  EditPlan edit;
  edit.max_rounds = data.at("max_rounds").get<int>();
  edit.placeholder_token_id = data.at("placeholder_token_id").get<TokenId>();
  edit.bos_token_id = data.at("bos_token_id").get<TokenId>();
  edit.eos_token_id = data.at("eos_token_id").get<TokenId>();
  edit.pad_token_id = data.at("pad_token_id").get<TokenId>();
  if (edit.max_rounds < 1) Refuse("plan.edit has no rounds.", kExportAgain);
  return edit;
}

void ReadSpeculative(const json& data, DecodePlan& plan) {
  plan.acceptance = ReadName<AcceptanceRule>(data.at("acceptance"), "acceptance rule");
  plan.tree = TreeSpec(data.at("tree").get<std::vector<int>>());
  plan.drafter = ReadDrafter(data.at("drafter"));
  if (plan.drafter.num_draft_tokens < 0 ||
      plan.drafter.num_draft_tokens > plan.tree.num_nodes() - 1) {
    Refuse("plan.drafter.num_draft_tokens does not fit plan.tree.", kExportAgain);
  }
  if (plan.acceptance == AcceptanceRule::kSpeculative && !plan.tree.is_chain()) {
    Refuse("plan.acceptance is 'speculative', which takes chains, and plan.tree is none.",
           kExportAgain);
  }
}

DecodePlan ReadPlan(const json& manifest) {
  const json& data = manifest.at("plan");
  DecodePlan plan;
  plan.loop = ReadName<LoopKind>(data.at("loop"), "loop");
  plan.strategy = ReadName<Strategy>(manifest.at("strategy"), "strategy");
  switch (plan.loop) {
    case LoopKind::kSpeculative:
      ReadSpeculative(data, plan);
      break;
    case LoopKind::kCanvas:
      plan.canvas = ReadCanvas(data.at("canvas"));
      break;
    case LoopKind::kEdit:
      plan.edit = ReadEdit(data.at("edit"));
      break;
    case LoopKind::kOneShot:
      plan.one_shot = ReadOneShot(data.at("one_shot"));
      break;
  }
  return plan;
}

ShapePlan ReadShapes(const json& data, LoopKind loop) {
  ShapePlan shapes;
  shapes.batch = data.at("batch").get<int>();
  shapes.max_length = data.at("max_length").get<int>();
  shapes.widths = data.at("widths").get<std::vector<int>>();
  shapes.verify_width = data.at("verify_width").get<int>();
  shapes.kv_capacities = data.at("kv_capacities").get<std::vector<int>>();
  shapes.source_lengths = data.value("source_lengths", std::vector<int>());
  shapes.canvas_lengths = data.value("canvas_lengths", std::vector<int>());
  const json windows = data.value("window_capacities", json::object());
  for (const auto& [window, capacity] : windows.items()) {
    shapes.window_capacities[std::stoi(window)] = capacity.get<int>();
  }
  const std::vector<int>& widths = shapes.widths;
  const std::vector<int>& capacities = shapes.kv_capacities;
  const auto ascending = [](const std::vector<int>& values) {
    return std::adjacent_find(values.begin(), values.end(), std::greater_equal<>()) == values.end();
  };
  std::string problems;
  if (shapes.batch < 1) problems += " batch is below 1.";
  if (shapes.max_length < 1) problems += " max_length is below 1.";
  if (!ascending(shapes.source_lengths) || !ascending(shapes.canvas_lengths)) {
    problems += " source_lengths and canvas_lengths must ascend.";
  }
  if (loop != LoopKind::kSpeculative) {
    if (shapes.source_lengths.empty() && shapes.canvas_lengths.empty()) {
      problems += " there is neither a source length nor a canvas length.";
    }
  } else if (widths.empty() || widths.front() != 1 || !ascending(widths)) {
    problems += " widths must ascend from 1.";
  } else if (shapes.verify_width < 1 || shapes.verify_width > widths.back()) {
    problems += " verify_width is outside the widths.";
  } else if (capacities.empty() || !ascending(capacities) ||
             capacities.back() < shapes.max_length + widths.back()) {
    problems += " kv_capacities must ascend to at least max_length plus the largest width.";
  } else if (capacities.front() < widths.back()) {
    problems += " every kv_capacity must hold the largest width.";
  } else if (!shapes.window_capacities.empty()) {
    const int seen = shapes.window_capacities.rbegin()->first - 1;  // By the widest window.
    const int least = std::min(seen + widths.back(), capacities.back());
    for (const auto& [window, capacity] : shapes.window_capacities) {
      if (capacity >= least) continue;
      problems += " window_capacities must hold what the widest window sees and the largest width.";
      break;
    }
  }
  if (!problems.empty())
    Refuse("The shapes of build.json contradict each other:" + problems, kBuildAgain);
  return shapes;
}

ModelFacts ReadModel(const json& data) {
  ModelFacts model;
  model.family = data.at("family").get<std::string>();
  model.vocab_size = data.at("vocab_size").get<std::int64_t>();
  model.context_length = data.at("context_length").get<std::int64_t>();
  model.eos_token_ids = data.at("eos_token_ids").get<std::vector<TokenId>>();
  model.start_token_id = ReadOptional<TokenId>(data, "decoder_start_token_id");
  model.source_vocab_size = ReadOptional<std::int64_t>(data, "source_vocab_size");
  if (model.vocab_size < 1 || model.context_length < 1) {
    Refuse("manifest.json gives the model no vocabulary or no context.", kExportAgain);
  }
  return model;
}

GenerationDefaults ReadGeneration(const json& manifest, std::int64_t vocab_size) {
  GenerationDefaults generation;
  const json data = manifest.value("generation", json::object());
  generation.repetition_penalty = data.value("repetition_penalty", 1.0);
  generation.suppressed_token_ids = data.value("suppressed_token_ids", std::vector<TokenId>());
  SamplingOptions options;
  options.repetition_penalty = generation.repetition_penalty;
  for (TokenId token : generation.suppressed_token_ids) options.logit_bias.push_back({token, 0});
  try {
    options.Check(vocab_size);
  } catch (const Error& error) {
    Refuse("manifest.json has generation defaults out of range: " + error.message(), kExportAgain);
  }
  return generation;
}

// Every role that the loop runs must be there.
void CheckRoles(const Bundle& bundle) {
  std::vector<std::string> needed;
  switch (bundle.plan.loop) {
    case LoopKind::kSpeculative:
      needed = {"target"};
      if (bundle.plan.drafter.kind == DrafterKind::kModel) needed.push_back("drafter");
      break;
    case LoopKind::kCanvas:
      needed = {"denoiser"};
      break;
    case LoopKind::kEdit:
      needed = {"encoder", "deleter", "inserter", "filler"};
      break;
    case LoopKind::kOneShot:
      needed = {"encoder", "decoder"};
      break;
  }
  std::string missing;
  for (const std::string& role : needed) {
    if (!bundle.roles.contains(role)) missing += (missing.empty() ? "'" : ", '") + role + "'";
  }
  if (!missing.empty()) Refuse("build.json lacks the role " + missing + ".", kBuildAgain);
}

Bundle Read(const fs::path& build_directory) {
  const fs::path root = build_directory.parent_path().parent_path();
  const json manifest = ReadJson(root / "manifest.json", kExportAgain);
  CheckReadable(manifest, "manifest.json");
  const json build = ReadJson(build_directory / "build.json", kBuildAgain);
  CheckReadable(build, "build.json");
  CheckFiles(manifest, root, /*must_exist=*/false, kExportAgain);
  CheckFiles(build, build_directory, /*must_exist=*/true, kBuildAgain);
  Bundle bundle;
  bundle.plan = ReadPlan(manifest);
  bundle.model = ReadModel(manifest.at("model"));
  bundle.generation = ReadGeneration(manifest, bundle.model.vocab_size);
  bundle.id = build.at("id").get<std::string>();
  bundle.backend = build.at("backend").get<std::string>();
  bundle.device = build.at("device").get<std::string>();
  bundle.min_onnxruntime = ReadOptional<std::string>(build, "min_onnxruntime").value_or("");
  bundle.shapes = ReadShapes(build.at("shapes"), bundle.plan.loop);
  const json options = build.value("engine_options", json::object());
  const std::map<std::string, EngineFile> engines = ReadEngines(build, bundle.shapes);
  for (const auto& [name, role] : build.at("roles").items()) {
    bundle.roles[name] = ReadRole(role, build_directory);
    bundle.roles[name].engine_options = options.value(name, std::map<std::string, std::string>());
    const auto engine = engines.find(name);
    if (engine == engines.end()) continue;
    bundle.roles[name].graph = Resolve(build_directory, engine->second.path);
    bundle.roles[name].updates_in_place = engine->second.updates_in_place;
  }
  CheckRoles(bundle);
  return bundle;
}

}  // namespace

Bundle ReadBundle(const fs::path& build_directory) {
  std::error_code failure;
  const fs::path directory = fs::canonical(build_directory, failure);
  if (failure || !fs::is_directory(directory)) {
    Refuse("There is no build in '" + build_directory.string() + "'.", kBuildAgain);
  }
  try {
    return Read(directory);
  } catch (const json::exception& error) {
    Refuse("The manifests of '" + directory.string() + "' are incomplete: " + error.what(),
           kExportAgain);
  } catch (const fs::filesystem_error& error) {
    Refuse("Cannot read '" + directory.string() + "': " + error.what(), kExportAgain);
  }
}

}  // namespace ptgc
