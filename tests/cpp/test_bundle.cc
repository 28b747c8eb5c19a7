#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "bundle/bundle.h"
#include "bundle_files.h"
#include "drafters/ngram_drafter.h"
#include "drafters/suffix_drafter.h"
#include "temporary_folder.h"

namespace ptgc {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class BundleOnDisk : public testing::Test {
 protected:
  void SetUp() override { Write(); }

  void Write() { folder_.Write({manifest_, document_}); }
  // Reads it again and expects a bundle error whose message holds `text`.
  void ExpectRefusal(const std::string& text) {
    try {
      ReadBundle(build_);
      ADD_FAILURE() << "not refused: " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBundle);
      EXPECT_NE(error.message().find(text), std::string::npos) << error.message();
      EXPECT_FALSE(error.action().empty());
    }
  }
  void ExpectRefusalOfManifest(const std::function<void(json&)>& change, const std::string& text) {
    change(manifest_);
    Write();
    ExpectRefusal(text);
    manifest_ = NgramDocuments().manifest;
  }
  void ExpectRefusalOfBuild(const std::function<void(json&)>& change, const std::string& text) {
    change(document_);
    Write();
    ExpectRefusal(text);
    document_ = NgramDocuments().build;
  }

  const BundleFolder folder_;
  const fs::path root_ = folder_.bundle();
  fs::path build_ = folder_.build();
  json manifest_ = NgramDocuments().manifest;
  json document_ = NgramDocuments().build;
};

TEST_F(BundleOnDisk, IsReadWhole) {
  const Bundle bundle = ReadBundle(build_);
  EXPECT_EQ(bundle.plan.strategy, "ngram");
  EXPECT_EQ(bundle.plan.drafter.num_draft_tokens, 3);
  EXPECT_EQ(bundle.plan.tree.num_nodes(), 4);
  EXPECT_EQ(bundle.model.eos_token_ids, (std::vector<TokenId>{2}));
  EXPECT_EQ(bundle.shapes.batch, 2);
  EXPECT_EQ(bundle.shapes.roles.at("target").kv_capacities, (std::vector<int>{48, 80}));
  const Role& target = bundle.roles.at("target");
  EXPECT_EQ(target.graph, fs::canonical(build_ / "target.onnx"));
  EXPECT_EQ(target.states.at(0).dtype, DType::kFloat16);
  EXPECT_EQ(target.outputs.at(1).dimensions, (std::vector<std::string>{"batch", "num_logits", ""}));
  EXPECT_EQ(target.vocab_size, 32);
  EXPECT_EQ(bundle.bundle_sha256, bundle.manifest_sha256);
}

TEST_F(BundleOnDisk, UnknownFieldsAreIgnored) {
  manifest_["later"] = 1;
  document_["roles"]["target"]["later"] = json::array();
  Write();
  EXPECT_NO_THROW(ReadBundle(build_));
}

TEST_F(BundleOnDisk, RefusesOtherSchemasAndFeaturesByName) {
  ExpectRefusalOfManifest([](json& m) { m["schema_version"] = 2; }, "schema version 2");
  ExpectRefusalOfManifest([](json& m) { m["schema_version"] = 2.5; }, "no schema_version");
  ExpectRefusalOfManifest([](json& m) { m.erase("schema_version"); }, "no schema_version");
  ExpectRefusalOfManifest([](json& m) { m["features"] = {"telepathy"}; }, "telepathy");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["loop"] = "canvas"; }, "plan.canvas is missing");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["loop"] = "spiral"; }, "spiral");
  ExpectRefusalOfManifest([](json& m) { m["guarantee"] = "mostly"; }, "mostly");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["acceptance"] = "lenient"; }, "lenient");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["drafter"]["kind"] = "clairvoyant"; },
                          "features that this ptgc does not have: drafter-clairvoyant");
  ExpectRefusalOfManifest([](json& m) { m["features"] = {"drafter-clairvoyant"}; },
                          "drafter-clairvoyant");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["tree"] = {-1, 0, 1, 0}; },
                          "order of their depths");
  ExpectRefusalOfBuild([](json& b) { b["features"] = {"kv-cache-paged"}; }, "kv-cache-paged");
  ExpectRefusalOfBuild([](json& b) { b["roles"]["target"]["states"][0]["kind"] = "recurrent"; },
                       "recurrent");
}

TEST_F(BundleOnDisk, OfAStrategyThatNobodyKnowsHereIsRead) {
  manifest_["strategy"] = "telepathy-2";
  manifest_["guarantee"] = "lossy";
  Write();
  const Bundle bundle = ReadBundle(build_);
  EXPECT_EQ(bundle.plan.strategy, "telepathy-2");
  EXPECT_EQ(bundle.plan.guarantee, Guarantee::kLossy);
  EXPECT_EQ(bundle.plan.loop, LoopKind::kSpeculative);
  for (const char* name : {"", "-x", "Ngram", "a b", "a\nb"}) {
    ExpectRefusalOfManifest([&](json& m) { m["strategy"] = name; }, "strategy");
  }
}

TEST_F(BundleOnDisk, LossyRulesHaveParametersAndSaySo) {
  json& plan = manifest_["plan"];
  plan["acceptance"] = "typical";
  Write();
  ExpectRefusal("plan.acceptance is 'typical', with which the guarantee must be 'lossy'");
  manifest_["guarantee"] = "lossy";
  Write();
  EXPECT_EQ(ReadBundle(build_).plan.typical.epsilon, 0.09);
  plan["typical"] = {{"epsilon", 0.25}, {"delta", 0.5}};
  plan["relaxed"] = {{"top_k", 3}, {"margin", 2}};
  Write();
  const DecodePlan read = ReadBundle(build_).plan;
  EXPECT_EQ(read.acceptance, AcceptanceRule::kTypical);
  EXPECT_EQ(read.typical.epsilon, 0.25);
  EXPECT_EQ(read.typical.delta, 0.5);
  EXPECT_EQ(read.relaxed.top_k, 3);
  EXPECT_EQ(read.relaxed.margin, 2);
  plan["typical"] = {{"epsilon", 0.25}};
  plan["relaxed"] = json::object();
  Write();
  EXPECT_EQ(ReadBundle(build_).plan.typical.delta, 0.3);
  EXPECT_EQ(ReadBundle(build_).plan.relaxed.top_k, 10);
  plan["typical"] = {{"epsilon", 1.5}, {"delta", "x"}};
  plan["relaxed"] = {{"top_k", 0}, {"margin", -1}};
  Write();
  for (const char* text : {"typical.epsilon is 1.5", "typical.delta is \"x\"", "relaxed.top_k is 0",
                           "relaxed.margin is -1"}) {
    ExpectRefusal(text);
  }
}

TEST_F(BundleOnDisk, BlockVerificationTakesChains) {
  ExpectRefusalOfManifest(
      [](json& m) {
        m["plan"]["acceptance"] = "block";
        m["plan"]["tree"] = {-1, 0, 0, 1};
      },
      "acceptance is 'block', which takes chains");
}

TEST_F(BundleOnDisk, SomeDraftersChooseTheirTree) {
  json& plan = manifest_["plan"];
  plan["dynamic_tree"] = true;
  Write();
  ExpectRefusal("plan.dynamic_tree is true, and plan.tree is a chain");
  ExpectRefusal("plan.dynamic_tree is true, which drafter 'ngram' does not draft");
  plan["dynamic_tree"] = "yes";
  Write();
  ExpectRefusal("plan.dynamic_tree is \"yes\"");
  plan["dynamic_tree"] = false;
  Write();
  EXPECT_FALSE(ReadBundle(build_).plan.has_dynamic_tree);
}

TEST_F(BundleOnDisk, OnlyTheSpeculativeLoopIsLossless) {
  ExpectRefusalOfManifest([](json& m) { m["plan"]["loop"] = "edit"; },
                          "guarantee is 'lossless', as only the speculative loop can be");
}

TEST_F(BundleOnDisk, DraftersReadTheirOwnParameters) {
  const Bundle bundle = ReadBundle(build_);
  const NgramParameters& ngram = bundle.plan.drafter.Own<NgramParameters>();
  EXPECT_EQ(ngram.longest_match, 4);
  EXPECT_EQ(ngram.shortest_match, 2);
  EXPECT_EQ(ngram.match, NgramMatch::kLatest);
  json& drafter = manifest_["plan"]["drafter"];
  drafter = {{"kind", "none"}, {"num_draft_tokens", 0}};
  Write();
  EXPECT_EQ(ReadBundle(build_).plan.drafter.kind, "none");
  // Those of another kind are unknown fields, and every problem of its own is named.
  drafter = {{"kind", "ngram"},         {"num_draft_tokens", -1},  {"max_ngram_size", 65},
             {"min_ngram_size", "two"}, {"ngram_match", "middle"}, {"vocabulary", 3}};
  Write();
  for (const char* text : {"num_draft_tokens is -1", "max_ngram_size is 65",
                           "min_ngram_size is \"two\"", "ngram_match is 'middle'"}) {
    ExpectRefusal(text);
  }
}

TEST_F(BundleOnDisk, OverlapNeedsAModelOfTheSameVocabularyAndAChain) {
  json& plan = manifest_["plan"];
  const json ngram = plan["drafter"];
  json model = {
      {"kind", "model"}, {"num_draft_tokens", 3}, {"overlap", 1}, {"vocabulary", "shared"}};
  plan["drafter"] = model;
  Write();
  ExpectRefusal("plan.drafter.overlap is 1");
  model["overlap"] = true;
  model["vocabulary"] = "re-encoded";
  plan["drafter"] = model;
  plan["tree"] = {-1, 0, 0, 1};
  Write();
  ExpectRefusal("plan.drafter.overlap needs drafts of the target's vocabulary");
  ExpectRefusal("plan.drafter.overlap takes chains");
  plan["drafter"] = {{"kind", "merged"}, {"num_draft_tokens", 3}, {"drafters", {ngram, model}}};
  Write();
  ExpectRefusal("plan.drafter.overlap takes chains");
}

TEST_F(BundleOnDisk, MergedDraftersReadTheirPartsAndNameAllThatIsWrong) {
  json& drafter = manifest_["plan"]["drafter"];
  const json ngram = drafter;
  json suffix = {{"kind", "suffix"},
                 {"num_draft_tokens", 2},
                 {"min_match_length", 2},
                 {"drafts_per_match", 1.5},
                 {"min_probability", 0.25}};
  drafter = {{"kind", "merged"}, {"num_draft_tokens", 3}, {"drafters", {ngram, suffix}}};
  Write();
  const std::vector<DrafterPlan> parts = ReadBundle(build_).plan.drafter.parts;
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_EQ(parts[0].Own<NgramParameters>().longest_match, 4);
  EXPECT_EQ(parts[1].num_draft_tokens, 2);
  EXPECT_EQ(parts[1].Own<SuffixParameters>().shortest_match, 2);
  EXPECT_EQ(parts[1].Own<SuffixParameters>().drafts_per_match, 1.5);
  EXPECT_EQ(parts[1].Own<SuffixParameters>().min_probability, 0.25);

  suffix = {{"kind", "suffix"},
            {"num_draft_tokens", 2},
            {"min_match_length", 0},
            {"drafts_per_match", 65},
            {"min_probability", -1}};
  const json model = {{"kind", "model"}, {"num_draft_tokens", 3}};
  const json none = {{"kind", "none"}, {"num_draft_tokens", 9}};
  drafter["drafters"] = {suffix, model, none};
  Write();
  for (const char* text :
       {"min_match_length is 0", "drafts_per_match is 65", "min_probability is -1",
        "drafters has 'model', which runs a model, before the last", "kind is 'none'",
        "num_draft_tokens must be the largest of the merged drafters, 9"}) {
    ExpectRefusal(text);
  }
  drafter["drafters"] = {ngram};
  Write();
  ExpectRefusal("drafters must be two or more");
  drafter["drafters"] = {ngram, {{"kind", "clairvoyant"}, {"num_draft_tokens", 1}}};
  Write();
  ExpectRefusal("needs features that this ptgc does not have: drafter-clairvoyant");
}

TEST_F(BundleOnDisk, ReadsGenerationDefaultsAndRefusesThoseOutOfRange) {
  EXPECT_EQ(ReadBundle(build_).generation.repetition_penalty, 1);
  manifest_["generation"] = {{"repetition_penalty", 1.25}, {"suppressed_token_ids", {3, 5}}};
  Write();
  const GenerationDefaults read = ReadBundle(build_).generation;
  EXPECT_EQ(read.repetition_penalty, 1.25);
  EXPECT_EQ(read.suppressed_token_ids, (std::vector<TokenId>{3, 5}));
  const auto refuse = [&](const json& generation, const std::string& text) {
    ExpectRefusalOfManifest([&](json& m) { m["generation"] = generation; }, text);
  };
  refuse({{"repetition_penalty", 0}}, "repetition_penalty is 0");
  refuse({{"repetition_penalty", "much"}}, "repetition_penalty is \"much\"; it must be a number");
  refuse({{"suppressed_token_ids", {32}}}, "suppressed_token_ids[0] is 32");
  refuse({{"suppressed_token_ids", {3, 3}}}, "more than once");
  refuse({{"suppressed_token_ids", 3}}, "must be a list");
  refuse(json::array(), "must be an object");
}

TEST_F(BundleOnDisk, RefusesPathsOutOfTheFolder) {
  ExpectRefusalOfBuild([](json& b) { b["roles"]["target"]["graph"] = "../../graphs/target.onnx"; },
                       "outside the bundle");
  ExpectRefusalOfBuild([](json& b) { b["roles"]["target"]["graph"] = "/etc/passwd"; },
                       "outside the bundle");
  ExpectRefusalOfBuild([](json& b) { b["files"][0]["path"] = "a/../../../x"; },
                       "outside the bundle");
  ExpectRefusalOfManifest([](json& m) { m["files"][0]["path"] = "..\\x"; }, "outside the bundle");
  fs::remove(build_ / "target.onnx");
  std::ofstream(root_ / "stolen") << "graph";
  fs::create_symlink(root_ / "stolen", build_ / "target.onnx");
  ExpectRefusalOfBuild([](json&) {}, "leads out");
}

TEST_F(BundleOnDisk, NamesEveryDamagedFile) {
  document_["files"].push_back({{"path", "weights.bin"}, {"size", 7}, {"sha256", ""}});
  document_["files"][0]["size"] = 6;
  Write();
  ExpectRefusal("'target.onnx' has 5 bytes instead of 6. 'weights.bin' is missing.");
}

TEST_F(BundleOnDisk, RefusesWhatIsNoManifest) {
  std::ofstream(build_ / "build.json") << "{\"schema_version\": 1, ";
  ExpectRefusal("truncated");
  std::ofstream(build_ / "build.json") << "[]";
  ExpectRefusal("no JSON object");
  fs::remove(build_ / "build.json");
  ExpectRefusal("Cannot read");
  build_ = root_ / "builds" / "none";
  ExpectRefusal("There is no build");
}

TEST_F(BundleOnDisk, RefusesIncompleteManifests) {
  for (const char* field : {"strategy", "guarantee", "plan", "model", "files"}) {
    ExpectRefusalOfManifest([&](json& m) { m.erase(field); },
                            "manifest.json: " + std::string(field) + " is missing");
  }
  for (const char* field : {"id", "backend", "shapes", "roles", "files"}) {
    ExpectRefusalOfBuild([&](json& b) { b.erase(field); },
                         "build.json: " + std::string(field) + " is missing");
  }
  ExpectRefusalOfBuild([](json& b) { b["shapes"]["batch"] = "two"; },
                       "shapes.batch is \"two\"; it must be an integer from 1 to 1024");
  ExpectRefusalOfBuild([](json& b) { b["roles"] = json::object(); }, "lacks the role 'target'");
}

TEST_F(BundleOnDisk, RefusesShapesThatContradictEachOther) {
  const auto shapes = [](const char* field, json value) {
    return [field, value](json& b) { b["shapes"]["roles"]["target"][field] = value; };
  };
  ExpectRefusalOfBuild([](json& b) { b["shapes"]["batch"] = 0; }, "shapes.batch is 0");
  ExpectRefusalOfBuild(shapes("widths", {2, 4}), "widths must ascend from 1");
  ExpectRefusalOfBuild(shapes("widths", {1, 4, 4}), "widths must ascend");
  ExpectRefusalOfBuild(shapes("verify_width", 17), "verify_width");
  ExpectRefusalOfBuild(shapes("kv_capacities", {48, 79}), "kv_capacities");
  ExpectRefusalOfBuild(shapes("kv_capacities", {8, 80}), "largest width");
}

TEST_F(BundleOnDisk, RefusesPlansThatContradictThemselves) {
  ExpectRefusalOfManifest([](json& m) { m["plan"]["tree"] = {0, -1}; }, "token tree");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["drafter"]["num_draft_tokens"] = 9; },
                          "does not fit plan.tree");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["drafter"]["min_ngram_size"] = 0; },
                          "min_ngram_size is 0");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["drafter"]["min_ngram_size"] = 5; },
                          "n-gram sizes are out of order");
}

TEST_F(BundleOnDisk, EngineTakesThePlaceOfTheGraph) {
  document_["backend"] = "tensorrt";
  document_["engines"] = {{{"role", "target"},
                           {"path", "target.engine"},
                           {"sizes", {{"batch", 2}}},
                           {"ranges", {{"num_tokens", {1, 16, 16}}}}}};
  Write();
  ExpectRefusal("not listed in files");
  std::ofstream(build_ / "target.engine") << "engine";
  document_["files"].push_back({{"path", "target.engine"}, {"size", 6}, {"sha256", ""}});
  Write();
  EXPECT_EQ(ReadBundle(build_).roles.at("target").graph.filename(), "target.engine");
  ExpectRefusalOfBuild(
      [](json& build) {
        build["backend"] = "tensorrt";
        build.erase("engines");
      },
      "has no engine");
  document_["backend"] = "tensorrt";
  document_["engines"] = {{{"role", "target"},
                           {"path", "../target.engine"},
                           {"sizes", json::object()},
                           {"ranges", json::object()}}};
  Write();
  ExpectRefusal("would lie outside the bundle");
  document_["engines"][0]["path"] = "target.onnx";
  document_["backend"] = "onnxruntime";
  Write();
  ExpectRefusal("compiles its graphs while it loads");
}

TEST_F(BundleOnDisk, RefusesListsWithoutEnd) {
  ExpectRefusalOfBuild(
      [](json& build) {
        json& ports = build["roles"]["target"]["ports"]["inputs"];
        ports = json(5000, ports[0]);
      },
      "has 5000 entries; it may have 4096.");
}

TEST_F(BundleOnDisk, NamesEveryProblem) {
  manifest_["model"]["eos_token_ids"] = {32};
  manifest_["plan"]["tree"] = {-1, 5};
  document_["shapes"]["batch"] = 1025;
  document_["roles"]["target"]["states"][0]["head_dim"] = std::int64_t{1} << 40U;
  Write();
  for (const char* part :
       {"eos_token_ids[0] is 32; it must be an integer from 0 to 31.", "has parent 5",
        "shapes.batch is 1025; it must be an integer from 1 to 1024.",
        "states[0].head_dim is 1099511627776; it must be an integer from 1 to 65536."}) {
    ExpectRefusal(part);
  }
}

TEST_F(BundleOnDisk, TakesOnlyOptionsOfEnginesThatBuildsHave) {
  const auto set = [](const char* name, const char* value) {
    return [name, value](json& b) { b["engine_options"]["target"] = {{name, value}}; };
  };
  const char* const known = "optimization.disable_specified_optimizers";
  ExpectRefusalOfBuild(set("session.collect_node_memory_stats_to_file", "x"),
                       "sets 'session.collect_node_memory_stats_to_file' to 'x'");
  ExpectRefusalOfBuild(set(known, "x"), "to 'x'");
  set(known, "GatherToSliceFusion")(document_);
  Write();
  EXPECT_EQ(ReadBundle(build_).roles.at("target").engine_options.size(), 1U);
}

TEST_F(BundleOnDisk, ReadsEveryLoop) {
  for (const BundleDocuments& documents : DocumentsOfEveryLoop()) {
    folder_.Write(documents);
    EXPECT_NO_THROW(ReadBundle(build_)) << documents.manifest["strategy"];
  }
}

TEST_F(BundleOnDisk, RefusesWhatTheLoopCannotRun) {
  const std::vector<BundleDocuments> all = DocumentsOfEveryLoop();
  const auto expect = [&](std::size_t index, const std::function<void(BundleDocuments&)>& change,
                          const std::string& text) {
    BundleDocuments documents = all[index];
    change(documents);
    folder_.Write(documents);
    ExpectRefusal(text);
  };
  const auto shapes = [](const char* role, const char* field, json value) {
    return [=](BundleDocuments& d) { d.build["shapes"]["roles"][role][field] = value; };
  };
  const auto plan = [](const char* loop, const char* field, json value) {
    return [=](BundleDocuments& d) { d.manifest["plan"][loop][field] = value; };
  };
  expect(
      0, [](BundleDocuments& d) { d.build["roles"]["spy"] = d.build["roles"]["target"]; },
      "has the role 'spy', which this loop does not run");
  expect(0, shapes("target", "verify_width", 3), "verify_width is 3; plan.tree has 4 nodes");
  expect(0, shapes("target", "source_lengths", {8}), "source_lengths is given");
  expect(0, shapes("target", "window_capacities", {{"8x", 40}}), "window that is no number");
  expect(1, [](BundleDocuments& d) { d.build["roles"].erase("drafter"); }, "the role 'drafter'");
  expect(2, shapes("encoder", "source_lengths", json::array()), "source_lengths is empty");
  expect(2, shapes("encoder", "source_lengths", {32}), "is not that of the other roles");
  expect(2, shapes("target", "window_capacities", json::object()), "lacks the window of 8");
  expect(
      2, [](BundleDocuments& d) { d.manifest["model"].erase("decoder_start_token_id"); },
      "decoder_start_token_id");
  expect(3, shapes("denoiser", "canvas_lengths", {32}), "must have one of at least 64");
  expect(3, shapes("denoiser", "canvas_lengths", json::array()), "canvas_lengths is empty");
  expect(3, shapes("denoiser", "canvas_lengths", {0, 64}), "canvas_lengths[0] is 0");
  expect(3, shapes("denoiser", "canvas_lengths", {64, 1 << 30}), "canvas_lengths[1] is 1073741824");
  expect(3, plan("canvas", "block_length", 65), "at least 65, plan.canvas.block_length");
  expect(3, plan("canvas", "block_length", 2147483647), "block_length is 2147483647");
  expect(3, plan("canvas", "mask_token_id", -1), "mask_token_id is -1");
  expect(3, plan("canvas", "policy", {{"threshold", 1.5}}), "policy.threshold is 1.5");
  expect(3, plan("canvas", "policy", 7), "policy is 7");
  expect(3, plan("canvas", "policy", {{"kind", "charm"}}), "policy.kind is 'charm'");
  expect(3, plan("canvas", "policy", {{"kind", "entropy"}, {"threshold", 1001}}),
         "policy.threshold is 1001");
  expect(3, plan("canvas", "policy", {{"kind", "random"}, {"threshold", 0.5}}),
         "policy.threshold is given; the policy 'random' has none");
  expect(3, plan("canvas", "policy", {{"sampled", 1}}), "policy.sampled is 1");
  expect(3, plan("canvas", "policy", {{"confidence_of", "nobody"}}), "confidence_of is 'nobody'");
  expect(3, plan("canvas", "schedule", "convex"), "schedule is 'convex'");
  expect(3, plan("canvas", "stop", "never"), "stop is 'never'");
  expect(
      3,
      [](BundleDocuments& d) {
        d.manifest["plan"]["canvas"]["schedule"] = "per-block";
        d.manifest["plan"]["canvas"]["block_length"] = 0;
      },
      "block_length is 0; schedule is 'per-block'");
  expect(3, plan("canvas", "policy", {{"kind", "sequential"}}),
         "has the input 'threshold', which this loop does not fill");
  expect(3, shapes("denoiser", "widths", {4}), "widths must have one of at least 8");
  expect(3, plan("canvas", "cache", "suffix"), "cache is 'suffix'");
  expect(3, plan("canvas", "cache", "prefix"), "with states; plan.canvas.cache is 'prefix'");
  expect(3, plan("canvas", "cache_interval", 1), "cache_interval is 1");
  expect(3, plan("canvas", "shift", true),
         "plan.canvas.shift is true, which needs a language model");
  expect(
      3,
      [](BundleDocuments& d) {
        d.manifest["plan"]["canvas"]["cache"] = "block";
        d.manifest["plan"]["canvas"]["shift"] = true;
      },
      "shift is true; cache is 'block'");
  expect(3, plan("canvas", "num_draft_steps", 64), "num_draft_steps is 64");
  expect(3, plan("canvas", "num_draft_steps", 2), "lacks the output 'candidate_ids'");
  expect(3, plan("canvas", "cache", "block"), "must have block attention, with states");
  expect(
      3,
      [](BundleDocuments& d) {
        d.manifest["plan"]["canvas"]["cache"] = "block";
        d.manifest["plan"]["canvas"]["block_length"] = 0;
      },
      "block_length is 0; cache is 'block'");
  expect(
      3,
      [](BundleDocuments& d) {
        d.manifest["plan"]["canvas"]["cache"] = "dual";
        d.manifest["plan"]["canvas"]["block_length"] = 0;
      },
      "block_length is 0; cache is 'dual'");
  expect(
      3,
      [](BundleDocuments& d) {
        d.manifest["plan"]["canvas"]["cache"] = "block";
        d.build["roles"]["denoiser"]["ports"]["inputs"].push_back(
            {{"name", "tree_mask"},
             {"dtype", "bool"},
             {"shape", {"batch", "num_tokens", "num_tokens"}}});
      },
      "input 'tree_mask' with the sizes 'batch num_tokens num_tokens'");
  expect(4, shapes("decoder", "canvas_lengths", {63}), "at least 64");
  expect(4, plan("one_shot", "upsampling", 65), "upsampling is 65");
  expect(5, shapes("encoder", "source_lengths", json::array()), "source_lengths is empty");
  expect(5, plan("edit", "placeholder_token_id", 32), "placeholder_token_id is 32");
  expect(5, plan("edit", "stop_token_id", 32), "stop_token_id is 32");
  expect(5, plan("edit", "operations", {"deleter"}), "has the role 'filler', which this loop");
  expect(5, plan("edit", "operations", {"deleter", "inserter", "filler", "x"}), "the role 'x'");
  expect(5, plan("edit", "operations", {"encoder"}), "has 'encoder', which edits nothing");
  expect(5, plan("edit", "operations", json::array()), "operations is empty");
  expect(5, plan("edit", "operations", {7}), "operations[0] is 7");
  expect(5, plan("edit", "start", "middle"), "start is 'middle'");
  expect(
      5, [](BundleDocuments& d) { d.build["roles"].erase("encoder"); }, "lacks the role 'encoder'");
  expect(
      5,
      [](BundleDocuments& d) {
        d.manifest["plan"]["edit"]["start"] = "source";
        d.manifest["model"]["source_vocab_size"] = 40;
      },
      "another vocabulary than the text");
  expect(
      5,
      [](BundleDocuments& d) { d.build["roles"]["filler"]["ports"]["inputs"][2]["shape"][2] = 17; },
      "reads other encoder_hidden_states");
  const auto ports = [](const char* role, const char* way, std::size_t number, const char* field,
                        json value) {
    return [=](BundleDocuments& d) { d.build["roles"][role]["ports"][way][number][field] = value; };
  };
  expect(6, ports("target", "outputs", 2, "name", "other"), "which the target does not give");
  expect(6, ports("drafter", "inputs", 2, "dtype", "float16"), "reads other hidden_states");
  expect(6, ports("drafter", "inputs", 2, "shape", {"batch", "num_logits", 16}), "the sizes");
  expect(6, ports("drafter", "outputs", 2, "shape", {"batch", "num_logits", 8}),
         "reads other hidden_states");
  expect(6, ports("drafter", "outputs", 2, "name", "other"), "lacks the output 'carried_states'");
  expect(7, ports("heads", "inputs", 1, "shape", {"batch", 2}),
         "reads 2 input_ids of a text, not 1");
  expect(7, ports("heads", "inputs", 1, "shape", {"batch", "num_tokens"}), "the sizes");
  expect(7, ports("heads", "inputs", 1, "name", "lengths"), "which this loop does not fill");
  expect(7, ports("heads", "outputs", 0, "shape", {"batch", 4}), "gives 4 drafts; plan.tree has 3");
}

TEST_F(BundleOnDisk, TargetGivesAsManyLikelyTokensAsTheDrafterReads) {
  folder_.Write(RecyclingDocuments());
  EXPECT_EQ(ReadBundle(build_).plan.drafter.parameters->num_top_ids, 4);
  const auto expect = [&](const std::function<void(json&)>& change, const std::string& text) {
    BundleDocuments documents = RecyclingDocuments();
    change(documents.build["roles"]["target"]["ports"]["outputs"]);
    folder_.Write(documents);
    ExpectRefusal(text);
  };
  expect([](json& outputs) { outputs.erase(2); }, "gives none of the likeliest tokens (top_ids)");
  expect([](json& outputs) { outputs[2]["shape"][2] = 5; }, "gives 5 of the likeliest tokens");
  expect([](json& outputs) { outputs[2]["dtype"] = "int32"; }, "'top_ids' of the type int32");
  expect([](json& outputs) { outputs[2]["shape"][1] = "num_logits"; }, "with the sizes");
  for (const int count : {1, 65}) {
    BundleDocuments documents = RecyclingDocuments();
    documents.manifest["plan"]["drafter"]["num_candidates"] = count;
    folder_.Write(documents);
    ExpectRefusal("num_candidates is " + std::to_string(count));
  }
}

TEST_F(BundleOnDisk, DraftersFitTheirTree) {
  const auto expect = [&](const json& drafter, const json& tree, const std::string& text) {
    BundleDocuments documents = NgramDocuments();
    documents.manifest["plan"]["drafter"] = drafter;
    documents.manifest["plan"]["tree"] = tree;
    folder_.Write(documents);
    ExpectRefusal(text);
  };
  expect({{"kind", "recycling"}, {"num_draft_tokens", 3}, {"num_candidates", 2}}, {-1, 0, 0, 0},
         "num_candidates is 2; a node of plan.tree has 3 children");
  json lookahead = {{"kind", "lookahead"},
                    {"num_draft_tokens", 3},
                    {"window_size", 3},
                    {"ngram_size", 2},
                    {"num_branches", 2}};
  expect(lookahead, {-1, 0, 0, 0}, "must have room for the 4 tokens of a round");
  lookahead["ngram_size"] = 17;
  expect(lookahead, {-1, 0, 0, 0}, "ngram_size is 17");
  lookahead["ngram_size"] = 2;
  lookahead["num_branches"] = 1;
  expect(lookahead, {-1, 0, 1, 2}, "plan.drafter drafts trees; plan.tree is none");
  BundleDocuments good = NgramDocuments();
  good.manifest["plan"]["drafter"] = lookahead;
  good.manifest["plan"]["tree"] = {-1, 0, 0, 0};
  good.build["roles"]["target"]["attention"] = "tree";
  folder_.Write(good);
  EXPECT_NO_THROW(ReadBundle(build_));
}

TEST_F(BundleOnDisk, EverySubsetOfLayersIsARole) {
  BundleDocuments documents = LayerSkipDocuments();
  folder_.Write(documents);
  EXPECT_EQ(ReadBundle(build_).plan.drafter.parameters->num_alternatives, 2);
  json& layers = documents.manifest["plan"]["drafter"]["layers"];
  const auto expect = [&](const json& given, const std::vector<std::string>& texts) {
    layers = given;
    folder_.Write(documents);
    for (const std::string& text : texts) ExpectRefusal(text);
  };
  expect({{0}, {1}, {0, 1}}, {"roles lacks the role 'drafter_3'"});
  const json first = json::array({0});
  expect(json::array({first}), {"roles has the role 'drafter_2', which this loop does not run"});
  expect({{1, 0}, {1, 1}, {0}, {0}, json::array(), {-1}, {4096}, {"x"}, 3},
         {"layers[0] must ascend", "layers[1] must ascend", "layers[3] are those of an earlier",
          "layers[4] must have an entry", "layers[5][0] is -1", "layers[6][0] is 4096",
          "layers[7][0]", "layers[8]"});
  expect(json::array(), {"layers must have an entry"});
  expect(json(), {"layers"});
  expect(json::array_t(17, first), {"layers has 17 entries"});
}

TEST_F(BundleOnDisk, EveryRoleHasShapesOfItsOwn) {
  const BundleDocuments good = DocumentsOfEveryLoop()[1];
  folder_.Write(good);
  const Bundle bundle = ReadBundle(build_);
  EXPECT_EQ(bundle.shapes.roles.at("target").widths, (std::vector<int>{1, 4, 16}));
  EXPECT_EQ(bundle.shapes.roles.at("drafter").widths, (std::vector<int>{1, 2, 8}));
  const auto expect = [&](const std::function<void(json&)>& change, const std::string& text) {
    BundleDocuments documents = good;
    change(documents.build["shapes"]["roles"]);
    folder_.Write(documents);
    ExpectRefusal(text);
  };
  expect([](json& roles) { roles.erase("drafter"); }, "shapes.roles lacks the role 'drafter'");
  expect([](json& roles) { roles["spy"] = roles["target"]; }, "shapes.roles has the role 'spy'");
  expect([](json& roles) { roles["drafter"]["kv_capacities"] = {71}; },
         "shapes.roles.drafter.kv_capacities must ascend to at least max_length");
  expect([](json& roles) { roles["drafter"]["canvas_lengths"] = {64}; },
         "shapes.roles.drafter.canvas_lengths is given");
  expect([](json& roles) { roles = json::array(); }, "shapes.roles");
}

TEST_F(BundleOnDisk, SharedLayerIsAnothersOfTheSameForm) {
  BundleDocuments good = DocumentsOfEveryLoop()[1];
  const auto state = [](json& build, const char* role) -> json& {
    return build["roles"][role]["states"][0];
  };
  state(good.build, "drafter")["shared_with"] = {{"role", "target"}, {"layer", 0}};
  good.build["shapes"]["roles"]["drafter"]["kv_capacities"] = {48, 80};
  folder_.Write(good);
  EXPECT_EQ(ReadBundle(build_).roles.at("drafter").states.at(0).shared_with->role, "target");
  const auto expect = [&](const std::function<void(json&)>& change, const std::string& text) {
    BundleDocuments documents = good;
    change(documents.build);
    folder_.Write(documents);
    ExpectRefusal(text);
  };
  const auto shared = [&](const char* role, int layer) {
    return [=](json& build) {
      state(build, "drafter")["shared_with"] = {{"role", role}, {"layer", layer}};
    };
  };
  expect(shared("oracle", 0), "states[0].shared_with is layer 0 of 'oracle', which is no other");
  expect(shared("drafter", 0), "which is no other role");
  expect(shared("target", 1), "is layer 1 of 'target', which has 1 layers");
  expect(shared("target", -1), "shared_with.layer is -1");
  expect([&](json& build) { state(build, "drafter")["shared_with"] = "target"; }, "shared_with");
  expect([&](json& build) { state(build, "drafter")["head_dim"] = 4; }, "another kind, shape or");
  expect([&](json& build) { state(build, "target")["dtype"] = "float32"; }, "another kind, shape");
  expect(
      [&](json& build) {
        state(build, "target")["shared_with"] = {{"role", "drafter"}, {"layer", 0}};
      },
      "shares another's cache itself");
  expect([](json& build) { build["shapes"]["roles"]["drafter"]["kv_capacities"] = {80}; },
         "shapes.roles.drafter has other capacities than 'target'");
}

TEST_F(BundleOnDisk, DrafterOfBlocksKnowsItsMaskAndHasRoundsForABlock) {
  BundleDocuments good = DocumentsOfEveryLoop().back();
  folder_.Write(good);
  const Bundle bundle = ReadBundle(build_);
  EXPECT_EQ(bundle.plan.drafter.Own<BlockParameters>().block_size, 4);
  EXPECT_EQ(bundle.plan.drafter.Own<BlockParameters>().mask_token_id, 5);
  const auto expect = [&](const std::function<void(json&, json&)>& change,
                          const std::string& text) {
    BundleDocuments documents = good;
    change(documents.manifest["plan"], documents.build);
    folder_.Write(documents);
    ExpectRefusal(text);
  };
  const auto drafter = [&](const char* field, const json& value) {
    return [=](json& plan, json&) { plan["drafter"][field] = value; };
  };
  expect(drafter("mask_token_id", 32), "has 32 tokens; plan.drafter.mask_token_id is 32");
  expect(drafter("mask_token_id", nullptr), "mask_token_id");
  expect(drafter("block_size", 0), "block_size is 0");
  expect(drafter("block_size", 3), "drafts 2 tokens in a run; plan.tree is 3 tokens deep");
  expect(drafter("block_size", 9), "drafter.widths ends with 8; a run needs 9");
  expect([](json&, json& build) { build["shapes"]["roles"]["drafter"]["verify_width"] = 3; },
         "drafter.verify_width is 3; a proposal needs 4");
  expect([](json&, json& build) { build["roles"]["drafter"]["attention"] = "causal"; },
         "must have block attention, with states; plan.drafter.kind is 'block'");
  // One with a layer for each draft needs no masks, and reads its text in order.
  const json block = good.manifest["plan"]["drafter"];
  good.manifest["plan"]["drafter"] = {
      {"kind", "layers"}, {"num_draft_tokens", 3}, {"num_layers", 3}};
  good.build["roles"]["drafter"]["attention"] = "causal";
  good.build["shapes"]["roles"]["drafter"]["verify_width"] = 3;
  folder_.Write(good);
  EXPECT_EQ(ReadBundle(build_).plan.drafter.kind, "layers");
  expect(drafter("num_layers", 2), "drafts 2 tokens in a run; plan.tree is 3 tokens deep");
  expect(drafter("num_layers", 1), "num_layers is 1");
  expect(drafter("num_layers", 9), "drafter.widths ends with 8; a run needs 9");
  expect([](json&, json& build) { build["shapes"]["roles"]["drafter"]["verify_width"] = 2; },
         "drafter.verify_width is 2; a proposal needs 3");
  good.manifest["plan"]["drafter"] = block;
  // The same drafter without states drafts at its last text token, too.
  good.manifest["plan"]["drafter"]["kind"] = "pard";
  good.manifest["plan"]["drafter"]["block_size"] = 3;
  json& role = good.build["roles"]["drafter"];
  role["attention"] = "causal";
  role["ports"]["inputs"].erase(role["ports"]["inputs"].size() - 1);
  good.build["shapes"]["roles"]["drafter"]["verify_width"] = 3;
  folder_.Write(good);
  EXPECT_EQ(ReadBundle(build_).plan.drafter.kind, "pard");
  expect(drafter("block_size", 2), "drafts 2 tokens in a run; plan.tree is 3 tokens deep");
}

TEST_F(BundleOnDisk, RefusesSizesThatNoMachineHas) {
  document_["shapes"]["batch"] = 1024;
  json& state = document_["roles"]["target"]["states"][0];
  state["kv_heads"] = 65536;
  state["head_dim"] = 65536;
  Write();
  ExpectRefusal("its cache would take more memory than any machine has");
}

TEST_F(BundleOnDisk, RefusesFilesThatAreNone) {
  const fs::path path = build_ / "build.json";
  const auto expect = [&](const std::string& text) {
    ExpectRefusal(text);
    fs::remove_all(path);
  };
  fs::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  expect("no regular file");
  fs::create_directory(path);
  expect("no regular file");
  std::ofstream(path) << std::string(100000, '[');
  expect("64 levels deep");
  std::ofstream(path) << "\xFF\xFE{\0}\0";
  expect("no JSON object");
  std::ofstream(path) << R"({"schema_version": 1e999})";
  expect("no JSON object");
  std::ofstream(path) << R"({"schema_version": 18446744073709551616})";
  expect("no schema_version");
  build_ = root_ / "builds" / std::string(5000, 'x');
  ExpectRefusal("There is no build");
}

TEST_F(BundleOnDisk, DocumentsThatAreLinksOutOfItAreNotRead) {
  const TemporaryFolder outside;
  for (const fs::path& document : {root_ / "manifest.json", build_ / "build.json"}) {
    Write();
    fs::rename(document, outside.path() / document.filename());
    fs::create_symlink(outside.path() / document.filename(), document);
    ExpectRefusal("leads out of its folder");
    fs::remove(document);
  }
}

}  // namespace
}  // namespace ptgc
