#include "bundle_files.h"

#include <initializer_list>

namespace ptgc {
namespace {

using nlohmann::json;

constexpr const char* kGraph = "graph";  // Of every role.

const char* const kManifest = R"({
  "schema_version": 1, "min_runtime": "0.1.0", "features": ["speculative-loop", "kv-cache-full"],
  "strategy": "ngram", "guarantee": "lossless", "lossless": true,
  "plan": {"loop": "speculative", "acceptance": "match", "tree": [-1, 0, 1, 2],
           "drafter": {"kind": "ngram", "num_draft_tokens": 3,
                       "max_ngram_size": 4, "min_ngram_size": 2}},
  "model": {"family": "toy", "vocab_size": 32, "context_length": 128, "eos_token_ids": [2],
            "bos_token_id": null},
  "roles": {}, "tokenizer": null, "reference": null, "provenance": {},
  "files": [{"path": "graphs/target.onnx", "size": 9, "sha256": ""}]})";

const char* const kBuild = R"({
  "schema_version": 1, "min_runtime": "0.1.0", "features": [], "id": "toy", "sequence": 0,
  "backend": "onnxruntime", "device": "cpu", "precision": {"target": "float32"},
  "shapes": {"batch": 2, "max_length": 64, "roles": {}},
  "roles": {}, "weight_bytes": 0, "engine_options": {}, "bundle_sha256": "",
  "provenance": {}, "files": []})";

json MakePort(const char* name, const char* dtype, const json& shape) {
  return {{"name", name}, {"dtype", dtype}, {"shape", shape}};
}

json State(const char* kind) {
  return {
      {"kind", kind}, {"kv_heads", 2}, {"head_dim", 8}, {"dtype", "float16"}, {"window", nullptr}};
}

json MakeRole(const std::string& name, json inputs, json outputs, json states = json::array(),
              json cross_states = json::array()) {
  return {{"graph", name + ".onnx"},
          {"device", "default"},
          {"attention", states.empty() ? json() : json("causal")},
          {"ports", {{"inputs", std::move(inputs)}, {"outputs", std::move(outputs)}}},
          {"states", std::move(states)},
          {"cross_states", std::move(cross_states)}};
}

// The shapes of a role without rounds.
json Lengths(const json& sources, const json& canvases) {
  return {{"widths", json::array()},
          {"verify_width", 0},
          {"kv_capacities", json::array()},
          {"source_lengths", sources},
          {"canvas_lengths", canvases}};
}

json Rounds(const json& widths, int verify_width, const json& capacities) {
  return {{"widths", widths}, {"verify_width", verify_width}, {"kv_capacities", capacities}};
}

void AddRole(BundleDocuments& documents, const std::string& name, const json& role,
             const json& shapes) {
  documents.build["roles"][name] = role;
  documents.build["shapes"]["roles"][name] = shapes;
  documents.build["files"].push_back(
      {{"path", name + ".onnx"}, {"size", 5}, {"sha256", Sha256Of(kGraph)}});
}

json Ids(const char* name, const char* length) {
  return MakePort(name, "int64", {"batch", length});
}
json Numbers(const char* name) { return MakePort(name, "int64", json::array({"batch"})); }

json Causal(const std::string& name) {
  return MakeRole(
      name, {Ids("input_ids", "num_tokens"), Numbers("write_index")},
      {Ids("next_ids", "num_logits"), MakePort("logits", "float32", {"batch", "num_logits", 32})},
      json::array({State("full")}));
}

BundleDocuments DraftModel() {
  BundleDocuments documents = NgramDocuments();
  documents.manifest["strategy"] = "draft-model";
  documents.manifest["plan"]["drafter"] = {{"kind", "model"}, {"num_draft_tokens", 3}};
  AddRole(documents, "drafter", Causal("drafter"), Rounds({1, 2, 8}, 1, {72}));
  return documents;
}

// One that reads the target's hidden states, and its own.
BundleDocuments StateReader() {
  BundleDocuments documents = DraftModel();
  documents.manifest["strategy"] = "eagle3";
  documents.manifest["plan"]["drafter"]["kind"] = "eagle";
  const json states = MakePort("hidden_states", "float32", {"batch", "num_tokens", 16});
  json& roles = documents.build["roles"];
  roles["target"]["ports"]["outputs"].push_back(states);
  roles["drafter"]["ports"]["inputs"].push_back(states);
  roles["drafter"]["ports"]["outputs"].push_back(
      MakePort("carried_states", "float32", {"batch", "num_logits", 16}));
  return documents;
}

// Heads that read the last token as well.
BundleDocuments Heads() {
  BundleDocuments documents = NgramDocuments();
  documents.manifest["strategy"] = "hydra";
  documents.manifest["plan"]["drafter"] = {{"kind", "heads"}, {"num_draft_tokens", 3}};
  documents.build["roles"]["target"]["ports"]["outputs"].push_back(
      MakePort("hidden_states", "float32", {"batch", "num_tokens", 16}));
  AddRole(documents, "heads",
          MakeRole("heads",
                   {MakePort("hidden_states", "float32", {"batch", 1, 16}),
                    MakePort("input_ids", "int64", {"batch", 1})},
                   json::array({MakePort("draft_ids", "int64", {"batch", 3})})),
          Lengths(json::array(), json::array()));
  return documents;
}

// One that drafts whole blocks from the target's hidden states.
BundleDocuments BlockReader() {
  BundleDocuments documents = StateReader();
  documents.manifest["strategy"] = "dflash";
  documents.manifest["plan"]["drafter"] = {
      {"kind", "block"}, {"num_draft_tokens", 3}, {"block_size", 4}, {"mask_token_id", 5}};
  json& drafter = documents.build["roles"]["drafter"];
  drafter["attention"] = "block";
  drafter["ports"]["outputs"].erase(drafter["ports"]["outputs"].size() - 1);
  documents.build["shapes"]["roles"]["drafter"] = Rounds({1, 5, 8}, 4, {72});
  return documents;
}

// What looks up earlier text before a model.
BundleDocuments Merged() {
  BundleDocuments documents = DraftModel();
  json& drafter = documents.manifest["plan"]["drafter"];
  const json suffix = {{"kind", "suffix"},
                       {"num_draft_tokens", 3},
                       {"min_match_length", 2},
                       {"drafts_per_match", 4},
                       {"min_probability", 0.1}};
  json model = drafter;
  model["num_draft_tokens"] = 2;
  drafter = {{"kind", "merged"}, {"num_draft_tokens", 3}, {"drafters", {suffix, model}}};
  return documents;
}

const json kSourceMask = MakePort("encoder_attention_mask", "bool", {"batch", "source_length"});
const json kHiddenStates =
    MakePort("encoder_hidden_states", "float32", {"batch", "source_length", 16});

// With a window as well, and options of its engine.
BundleDocuments EncoderDecoder() {
  BundleDocuments documents = NgramDocuments();
  documents.manifest["model"]["decoder_start_token_id"] = 1;
  documents.manifest["model"]["source_vocab_size"] = 40;
  json& target = documents.build["roles"]["target"];
  target["cross_states"] = {State("cross"), State("cross")};
  target["ports"]["inputs"].push_back(kSourceMask);
  target["states"] = {State("full"), State("window")};
  target["states"][1]["window"] = 8;
  json& shapes = documents.build["shapes"]["roles"]["target"];
  shapes["window_capacities"] = {{"8", 40}};
  shapes["source_lengths"] = {32, 64};
  documents.build["engine_options"] = {
      {"target", {{"optimization.disable_specified_optimizers", "GatherToSliceFusion"}}}};
  AddRole(documents, "encoder",
          MakeRole("encoder", {Ids("input_ids", "source_length"), kSourceMask}, json::array(),
                   json::array(), target["cross_states"]),
          Lengths({32, 64}, json::array()));
  return documents;
}

// Without roles.
BundleDocuments Other(const char* strategy, const char* loop, const char* name, const json& plan) {
  BundleDocuments documents{json::parse(kManifest), json::parse(kBuild)};
  documents.manifest["strategy"] = strategy;
  documents.manifest["guarantee"] = "lossy";
  documents.manifest["plan"] = {{"loop", loop}, {name, plan}};
  return documents;
}

BundleDocuments Canvas() {
  BundleDocuments documents = Other("masked-diffusion", "canvas", "canvas",
                                    {{"mask_token_id", 3},
                                     {"num_steps", 4},
                                     {"block_length", 8},
                                     {"policy", {{"threshold", 0.5}}}});
  const json mask = MakePort("canvas_mask", "bool", {"batch", "canvas_length"});
  AddRole(documents, "denoiser",
          MakeRole("denoiser",
                   {Ids("input_ids", "canvas_length"), Numbers("lengths"), mask, Numbers("step"),
                    MakePort("threshold", "float32", json::array({"batch"}))},
                   {Ids("output_ids", "canvas_length"), Numbers("num_masked"),
                    MakePort("confidence", "float32", {"batch", "canvas_length"})}),
          Lengths(json::array(), {32, 64}));
  return documents;
}

void AddReader(BundleDocuments& documents) {
  AddRole(documents, "encoder",
          MakeRole("encoder", {Ids("input_ids", "source_length"), kSourceMask},
                   json::array({kHiddenStates})),
          Lengths(json::array({32}), json::array()));
}

BundleDocuments OneShot() {
  BundleDocuments documents = Other("ctc", "one-shot", "one_shot",
                                    {{"path", "ctc"}, {"blank_token_id", 0}, {"upsampling", 2}});
  AddReader(documents);
  AddRole(documents, "decoder",
          MakeRole("decoder", {kHiddenStates, kSourceMask},
                   {Ids("output_ids", "canvas_length"), Numbers("output_lengths")}),
          Lengths(json::array({32}), json::array({64})));
  return documents;
}

BundleDocuments Edit() {
  BundleDocuments documents = Other("levenshtein", "edit", "edit",
                                    {{"operations", {"deleter", "inserter", "filler"}},
                                     {"start", "empty"},
                                     {"max_rounds", 4},
                                     {"placeholder_token_id", 3},
                                     {"bos_token_id", 1},
                                     {"eos_token_id", 2},
                                     {"pad_token_id", 0}});
  AddReader(documents);
  for (const char* name : {"deleter", "inserter", "filler"}) {
    AddRole(documents, name,
            MakeRole(
                name,
                {Ids("input_ids", "canvas_length"), Numbers("lengths"), kHiddenStates, kSourceMask},
                {Ids("output_ids", "canvas_length"), Numbers("output_lengths")}),
            Lengths(json::array({32}), {32, 64}));
  }
  return documents;
}

}  // namespace

BundleDocuments NgramDocuments() {
  BundleDocuments documents{json::parse(kManifest), json::parse(kBuild)};
  AddRole(documents, "target", Causal("target"), Rounds({1, 4, 16}, 4, {48, 80}));
  return documents;
}

BundleDocuments RecyclingDocuments() {
  BundleDocuments documents = NgramDocuments();
  documents.manifest["strategy"] = "recycling";
  documents.manifest["plan"]["drafter"] = {
      {"kind", "recycling"}, {"num_draft_tokens", 3}, {"num_candidates", 4}};
  documents.build["roles"]["target"]["ports"]["outputs"].push_back(
      MakePort("top_ids", "int64", {"batch", "num_tokens", 4}));
  return documents;
}

BundleDocuments LayerSkipDocuments() {
  BundleDocuments documents = NgramDocuments();
  documents.manifest["strategy"] = "layer-skip";
  documents.manifest["plan"]["drafter"] = {
      {"kind", "layer-skip"}, {"num_draft_tokens", 3}, {"layers", {{0}, {1}}}};
  documents.build["roles"]["target"]["states"] = {State("full"), State("full")};
  int layer = 0;
  for (const char* name : {"drafter", "drafter_2"}) {
    json role = Causal(name);
    role["states"][0]["shared_with"] = {{"role", "target"}, {"layer", layer++}};
    AddRole(documents, name, role, Rounds({1, 2, 8}, 1, {48, 80}));
  }
  return documents;
}

std::vector<BundleDocuments> DocumentsOfEveryLoop() {
  return {NgramDocuments(),
          DraftModel(),
          EncoderDecoder(),
          Canvas(),
          OneShot(),
          Edit(),
          StateReader(),
          Heads(),
          RecyclingDocuments(),
          Merged(),
          LayerSkipDocuments(),
          BlockReader()};
}

BundleFolder::BundleFolder() {
  std::filesystem::create_directories(build_);
  for (const char* role : {"target", "drafter", "drafter_2", "encoder", "denoiser", "decoder",
                           "deleter", "inserter", "filler", "heads"}) {
    std::ofstream(build_ / (std::string(role) + ".onnx")) << kGraph;
  }
}

void BundleFolder::Write(const BundleDocuments& documents) const {
  const std::string manifest = documents.manifest.dump();
  std::ofstream(bundle() / "manifest.json") << manifest;
  json build = documents.build;
  if (build.is_object() && build.contains("bundle_sha256") && build["bundle_sha256"].is_string()) {
    build["bundle_sha256"] = Sha256Of(manifest);
  }
  std::ofstream(build_ / "build.json") << build.dump();
}

}  // namespace ptgc
