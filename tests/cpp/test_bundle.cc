#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "bundle.h"
#include "error.h"
#include "temporary_folder.h"

namespace ptgc {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const char* const kManifest = R"({
  "schema_version": 1, "min_runtime": "0.1.0", "features": ["speculative-loop", "kv-cache-full"],
  "strategy": "ngram", "lossless": true,
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
  "shapes": {"batch": 2, "max_length": 64, "widths": [1, 4, 16], "verify_width": 4,
             "kv_capacities": [48, 80]},
  "roles": {"target": {"graph": "target.onnx", "device": "default",
    "ports": {"inputs": [{"name": "input_ids", "dtype": "int64", "shape": ["batch", "num_tokens"]}],
              "outputs": [{"name": "next_ids", "dtype": "int64", "shape": ["batch", 1]}]},
    "states": [{"kind": "full", "kv_heads": 2, "head_dim": 8, "dtype": "float16",
                "rollback": "overwrite", "window": null}]}},
  "weight_bytes": 0, "engine_options": {"target": {"session.key": "4"}}, "bundle_sha256": "",
  "provenance": {}, "files": [{"path": "target.onnx", "size": 5, "sha256": ""}]})";

class BundleOnDisk : public testing::Test {
 protected:
  void SetUp() override {
    build_ = root_ / "builds" / "toy";
    fs::create_directories(build_);
    std::ofstream(build_ / "target.onnx") << "graph";
    Write();
  }

  void Write() {
    std::ofstream(root_ / "manifest.json") << manifest_.dump();
    std::ofstream(build_ / "build.json") << document_.dump();
  }
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
    manifest_ = json::parse(kManifest);
  }
  void ExpectRefusalOfBuild(const std::function<void(json&)>& change, const std::string& text) {
    change(document_);
    Write();
    ExpectRefusal(text);
    document_ = json::parse(kBuild);
  }

  const TemporaryFolder folder_;
  const fs::path root_ = folder_.path();
  fs::path build_;
  json manifest_ = json::parse(kManifest);
  json document_ = json::parse(kBuild);
};

TEST_F(BundleOnDisk, IsReadWhole) {
  const Bundle bundle = ReadBundle(build_);
  EXPECT_EQ(bundle.plan.strategy, Strategy::kNgram);
  EXPECT_EQ(bundle.plan.drafter.num_draft_tokens, 3);
  EXPECT_EQ(bundle.plan.tree.num_nodes(), 4);
  EXPECT_EQ(bundle.model.eos_token_ids, (std::vector<TokenId>{2}));
  EXPECT_EQ(bundle.shapes.batch, 2);
  EXPECT_EQ(bundle.shapes.kv_capacities, (std::vector<int>{48, 80}));
  const Role& target = bundle.roles.at("target");
  EXPECT_EQ(target.graph, fs::canonical(build_ / "target.onnx"));
  EXPECT_EQ(target.states.at(0).dtype, DType::kFloat16);
  EXPECT_EQ(target.engine_options.at("session.key"), "4");
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
  ExpectRefusalOfManifest([](json& m) { m["plan"]["loop"] = "canvas"; }, "canvas");
  ExpectRefusalOfManifest([](json& m) { m["strategy"] = "medusa"; }, "medusa");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["acceptance"] = "typical"; }, "typical");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["drafter"]["kind"] = "eagle"; }, "eagle");
  ExpectRefusalOfBuild([](json& b) { b["features"] = {"kv-cache-paged"}; }, "kv-cache-paged");
  ExpectRefusalOfBuild([](json& b) { b["roles"]["target"]["states"][0]["kind"] = "recurrent"; },
                       "recurrent");
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
  refuse({{"repetition_penalty", "much"}}, "incomplete");
  refuse({{"suppressed_token_ids", {32}}}, "token 32");
  refuse({{"suppressed_token_ids", {3, 3}}}, "more than once");
  refuse({{"suppressed_token_ids", 3}}, "incomplete");
  refuse(json::array(), "incomplete");
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
  for (const char* field : {"strategy", "plan", "model", "files"}) {
    ExpectRefusalOfManifest([&](json& m) { m.erase(field); }, "incomplete");
  }
  for (const char* field : {"id", "backend", "shapes", "roles", "files"}) {
    ExpectRefusalOfBuild([&](json& b) { b.erase(field); }, "incomplete");
  }
  ExpectRefusalOfBuild([](json& b) { b["shapes"]["batch"] = "two"; }, "incomplete");
  ExpectRefusalOfBuild([](json& b) { b["roles"] = json::object(); }, "lacks the role 'target'");
}

TEST_F(BundleOnDisk, RefusesShapesThatContradictEachOther) {
  const auto shapes = [](const char* field, json value) {
    return [field, value](json& b) { b["shapes"][field] = value; };
  };
  ExpectRefusalOfBuild(shapes("batch", 0), "batch is below 1");
  ExpectRefusalOfBuild(shapes("widths", {2, 4}), "widths must ascend from 1");
  ExpectRefusalOfBuild(shapes("widths", {1, 4, 4}), "widths must ascend from 1");
  ExpectRefusalOfBuild(shapes("verify_width", 17), "verify_width");
  ExpectRefusalOfBuild(shapes("kv_capacities", {48, 79}), "kv_capacities");
  ExpectRefusalOfBuild(shapes("kv_capacities", {8, 80}), "largest width");
}

TEST_F(BundleOnDisk, RefusesPlansThatContradictThemselves) {
  ExpectRefusalOfManifest([](json& m) { m["plan"]["tree"] = {0, -1}; }, "token tree");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["drafter"]["num_draft_tokens"] = 9; },
                          "does not fit plan.tree");
  ExpectRefusalOfManifest([](json& m) { m["plan"]["drafter"]["min_ngram_size"] = 0; }, "n-gram");
}

TEST_F(BundleOnDisk, EngineTakesThePlaceOfTheGraph) {
  document_["engines"] = {{{"role", "target"},
                           {"path", "target.engine"},
                           {"sizes", {{"batch", 2}}},
                           {"ranges", {{"num_tokens", {1, 16, 16}}}}}};
  Write();
  EXPECT_EQ(ReadBundle(build_).roles.at("target").graph.filename(), "target.engine");
  ExpectRefusalOfBuild(
      [](json& build) {
        build["backend"] = "tensorrt";
        build.erase("engines");
      },
      "has no engine");
  document_["engines"] = {{{"role", "target"},
                           {"path", "../target.engine"},
                           {"sizes", json::object()},
                           {"ranges", json::object()}}};
  Write();
  ExpectRefusal("would lie outside the bundle");
}

}  // namespace
}  // namespace ptgc
