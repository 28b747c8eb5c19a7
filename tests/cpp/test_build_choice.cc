#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/whole_file.h"
#include "build_choice.h"
#include "bundle_files.h"
#include "engines/device.h"
#include "substitute_engine.h"

namespace ptgc::capi {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// A bundle with builds.
class BuildChoices : public testing::Test {
 protected:
  void SetUp() override {
    folder_.Write(NgramDocuments());
    sha256_ = Sha256OfFile(bundle_ / "manifest.json", "");
    fs::rename(folder_.build(), bundle_ / "made");
  }

  json Manifest(const std::string& id, int sequence) const {
    json build = NgramDocuments().build;
    build["id"] = id;
    build["sequence"] = sequence;
    build["bundle_sha256"] = sha256_;
    return build;
  }
  void Write(const std::string& folder, const json& manifest) const {
    fs::copy(bundle_ / "made", bundle_ / "builds" / folder,
             fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    std::ofstream(bundle_ / "builds" / folder / "build.json") << manifest;
  }
  void Add(const std::string& id, int sequence) const { Write(id, Manifest(id, sequence)); }

  // What choosing is refused with; empty where it is not.
  std::string RefusalOf(const fs::path& path, const std::string& id, const std::string& device) {
    try {
      ChooseBuild(path, id, device);
    } catch (const Error& error) {
      code_ = error.code();
      return error.message() + " " + error.action();
    }
    return "";
  }
  void ExpectRefusal(const std::string& id, const std::string& device, const std::string& part) {
    EXPECT_NE(RefusalOf(bundle_, id, device).find(part), std::string::npos)
        << RefusalOf(bundle_, id, device);
  }

  const BundleFolder folder_;
  const fs::path bundle_ = folder_.bundle();
  std::string sha256_;                     // Of its manifest.
  ErrorCode code_ = ErrorCode::kInternal;  // Of the last refusal.
};

TEST_F(BuildChoices, NewestOfTheDeviceIsTaken) {
  Add("b", 1);
  Add("a", 2);
  Add("c", 0);
  json other = Manifest("cuda", 3);
  other["device"] = "cuda";
  Write("cuda", other);
  EXPECT_EQ(ChooseBuild(bundle_, "", "cpu").id, "a");
  EXPECT_EQ(ChooseBuild(bundle_, "", "cuda").id, "cuda");
  EXPECT_EQ(ChooseBuild(bundle_, "c", "cpu").id, "c");
  EXPECT_EQ(ChooseBuild(bundle_ / "builds" / "b", "", "cpu").id, "b");
}

TEST_F(BuildChoices, BuildsOfAnotherExportAreNotTaken) {
  Add("a", 0);
  json other = Manifest("old", 1);
  other["bundle_sha256"] = std::string(64, '0');
  Write("old", other);
  EXPECT_EQ(ChooseBuild(bundle_, "", "cpu").id, "a");
  ExpectRefusal("old", "cpu", "another export");
}

TEST_F(BuildChoices, ExperimentalBuildsAreTakenWhereTheyAreNamed) {
  json other = Manifest("rtx", 1);
  other["backend"] = "tensorrt-rtx";
  other["engines"] = {{{"role", "target"},
                       {"path", other["roles"]["target"]["graph"]},
                       {"sizes", json::object()},
                       {"ranges", json::object()}}};
  Write("rtx", other);
  ExpectRefusal("", "cpu", "made for tensorrt-rtx, whose engines are experimental");
  EXPECT_EQ(code_, ErrorCode::kBackend);
  EXPECT_EQ(ChooseBuild(bundle_, "rtx", "cpu").id, "rtx");
  Add("a", 0);
  EXPECT_EQ(ChooseBuild(bundle_, "", "cpu").id, "a");
}

TEST_F(BuildChoices, WhatIsBeingBuiltIsNotSeen) {
  Add("a", 0);
  Write(".b.x", Manifest("b", 1));
  fs::create_directories(bundle_ / "builds" / "empty");
  EXPECT_EQ(ChooseBuild(bundle_, "", "cpu").id, "a");
}

TEST_F(BuildChoices, RefusalsSayWhatThereIsAndWhatToDo) {
  EXPECT_NE(RefusalOf(bundle_ / "nowhere", "", "cpu").find("ptgc export"), std::string::npos);
  ExpectRefusal("", "cpu", "ptgc build");
  EXPECT_EQ(code_, ErrorCode::kBundle);
  Add("a", 0);
  Add("b", 1);
  ExpectRefusal("x", "cpu", "it has: a, b");
  ExpectRefusal("", "cuda", "--device cuda");
  ExpectRefusal("a", "cuda", "for device 'cpu'");
}

TEST_F(BuildChoices, DamagedOrNewerOneLeavesTheOthersLoadable) {
  Add("a", 0);
  json newer = Manifest("newer", 2);
  newer["schema_version"] = 2;
  Write("newer", newer);
  json damaged = Manifest("damaged", 1);
  damaged["shapes"]["batch"] = 0;
  Write("damaged", damaged);
  fs::create_directories(bundle_ / "builds" / "torn");
  std::ofstream(bundle_ / "builds" / "torn" / "build.json") << "{\"id\": ";
  EXPECT_EQ(ChooseBuild(bundle_, "", "cpu").id, "a");
  EXPECT_EQ(ChooseBuild(bundle_, "a", "cpu").id, "a");
  ExpectRefusal("damaged", "cpu", "shapes.batch is 0");
  ExpectRefusal("newer", "cpu", "schema version 2");
  ExpectRefusal("torn", "cpu", "builds/torn/build.json");
  ExpectRefusal("x", "cpu", "it has: a, damaged, newer, torn");
  fs::remove_all(bundle_ / "builds" / "a");
  for (const char* part : {"that can be read", "shapes.batch is 0", "schema version 2", "torn"}) {
    ExpectRefusal("", "cpu", part);
  }
}

TEST_F(BuildChoices, MeasuredCostsAreReadForThreadsAndSequence) {
  Add("a", 4);
  const Bundle build = ChooseBuild(bundle_, "", "cpu");
  EXPECT_TRUE(MeasuredCosts(build, 2).empty());
  const fs::path folder = bundle_ / "builds" / "a" / "measured";
  fs::create_directories(folder);
  const json rounds = {
      {"1", {{"median", 0.5}}}, {"2", {{"median", 0.75}}}, {"4", {{"median", 0.25}}}};
  const auto write = [&](int sequence) {
    std::ofstream(folder / (DeviceFingerprint() + "-t2.json"))
        << json{{"sequence", sequence},
                {"rounds", rounds},
                {"drafter_rounds", {{"1", {{"median", 0.125}}}}}};
  };
  write(4);
  // No width costs more than a wider one.
  EXPECT_EQ(MeasuredCosts(build, 2).at("target"),
            (std::map<int, double>{{1, 0.25}, {2, 0.25}, {4, 0.25}}));
  EXPECT_EQ(MeasuredCosts(build, 2).at("drafter"), (std::map<int, double>{{1, 0.125}}));
  EXPECT_TRUE(MeasuredCosts(build, 3).empty());
  write(5);
  EXPECT_TRUE(MeasuredCosts(build, 2).empty());
}

// A bundle with a second drafter, which has costs of its own and may have been tuned.
TEST_F(BuildChoices, MeasurementsAreThoseOfTheChosenDrafter) {
  Add("a", 4);
  Bundle build = ChooseBuild(bundle_, "", "cpu");
  auto parameters = std::make_shared<DrafterParameters>();
  parameters->num_alternatives = 2;
  build.plan.drafter.kind = "layer-skip";
  build.plan.drafter.parameters = parameters;
  const fs::path folder = bundle_ / "builds" / "a" / "measured";
  fs::create_directories(folder);
  const auto write = [&](const std::string& name, const json& document) {
    std::ofstream(folder / (DeviceFingerprint() + "-" + name + ".json")) << document;
  };
  for (const auto& [name, seconds] : {std::pair("t2", 0.5), std::pair("t2-drafter_2", 0.25)}) {
    write(name, {{"sequence", 4},
                 {"rounds", {{"1", {{"median", 1}}}}},
                 {"drafter_rounds", {{"1", {{"median", seconds}}}}}});
  }
  for (const auto& [drafter, seconds] :
       {std::pair("", 0.5), std::pair("drafter", 0.5), std::pair("drafter_2", 0.25)}) {
    EXPECT_EQ(MeasuredCosts(build, 2, drafter).at("drafter").at(1), seconds) << drafter;
  }
  json tuning = {{"sequence", 4}, {"num_threads", 2}, {"num_draft_tokens", 3}};
  for (const auto& [given, expected] :
       {std::pair(json(), ""), std::pair(json("drafter_2"), "drafter_2"),
        std::pair(json("drafter_3"), ""), std::pair(json("target"), "")}) {
    tuning["drafter"] = given;
    write("tuning", tuning);
    ASSERT_TRUE(MeasuredTuning(build).has_value()) << given;
    EXPECT_EQ(MeasuredTuning(build)->drafter, expected) << given;
  }
  tuning["drafter"] = 2;
  write("tuning", tuning);
  EXPECT_FALSE(MeasuredTuning(build).has_value());
}

TEST_F(BuildChoices, DamagedMeasurementsAreAsNone) {
  Add("a", 4);
  const Bundle build = ChooseBuild(bundle_, "", "cpu");
  const fs::path folder = bundle_ / "builds" / "a" / "measured";
  fs::create_directories(folder);
  for (const char* rounds :
       {R"({"1x": {"median": 1}})", R"({"0": {"median": 1}})", R"({"99999999999": {"median": 1}})",
        R"({"1": {"median": -1}})", R"({"1": {"median": 0}})", R"({"1": {"median": 1e300}})",
        R"({"1": {"median": "1"}})", R"({"1": {}})", R"({"1": 1})", "[]", "null"}) {
    std::ofstream(folder / (DeviceFingerprint() + "-t2.json"))
        << R"({"sequence": 4, "drafter_rounds": {}, "rounds": )" << rounds << "}";
    EXPECT_TRUE(MeasuredCosts(build, 2).empty()) << rounds;
  }
}

TEST_F(BuildChoices, TuningIsThatOfTheSameBuild) {
  Add("a", 4);
  const Bundle build = ChooseBuild(bundle_, "", "cpu");
  EXPECT_FALSE(MeasuredTuning(build).has_value());
  const fs::path folder = bundle_ / "builds" / "a" / "measured";
  fs::create_directories(folder);
  const auto write = [&](const std::string& text) {
    std::ofstream(folder / (DeviceFingerprint() + "-tuning.json")) << text;
  };
  write(R"({"sequence": 4, "num_threads": 3, "num_draft_tokens": 5})");
  ASSERT_TRUE(MeasuredTuning(build).has_value());
  EXPECT_EQ(MeasuredTuning(build)->num_threads, 3);
  EXPECT_EQ(MeasuredTuning(build)->num_draft_tokens, 3);  // As many as the plan has.
  EXPECT_FALSE(MeasuredTuning(build)->tree.has_value());
  for (const char* text :
       {R"({"sequence": 5, "num_threads": 3, "num_draft_tokens": 5})",
        R"({"sequence": 4, "num_threads": 3})",
        R"({"sequence": 4, "num_threads": 0, "num_draft_tokens": 5})",
        R"({"sequence": 4, "num_threads": 3, "num_draft_tokens": -1})",
        R"({"sequence": 4, "num_threads": 1e99, "num_draft_tokens": 5})", "{", ""}) {
    write(text);
    EXPECT_FALSE(MeasuredTuning(build).has_value()) << text;
  }
}

TEST_F(BuildChoices, TunedTreeIsAPartOfThePlans) {
  Add("a", 4);
  Bundle build = ChooseBuild(bundle_, "", "cpu");
  const fs::path folder = bundle_ / "builds" / "a" / "measured";
  fs::create_directories(folder);
  const auto tuned = [&](const std::string& tree, const std::string& more = "") {
    const auto drafts = std::ranges::count(tree, ',');
    json document = {{"sequence", 4},
                     {"num_threads", 3},
                     {"num_draft_tokens", 3},
                     {"tree", json::parse(tree)},
                     {"gains", std::vector<double>(static_cast<std::size_t>(drafts), 0.5)}};
    if (!more.empty()) document.update(json::parse(more));
    std::ofstream(folder / (DeviceFingerprint() + "-tuning.json")) << document;
    return MeasuredTuning(build);
  };
  EXPECT_FALSE(tuned("[-1, 0, 1]").has_value());  // The plan has a chain.
  EXPECT_TRUE(tuned("null").has_value());
  build.plan.tree = TreeSpec({-1, 0, 0, 1});
  build.plan.drafter.kind = "model";
  ASSERT_TRUE(tuned("[-1, 0, 1, 0]").has_value());
  EXPECT_EQ(tuned("[-1, 0, 1, 0]")->tree, (std::vector<int>{-1, 0, 1, 0}));
  for (const char* tree :
       {"[]", "[0]", "[-1, 2, 1]", "[-1, 1]", "[-1, 0, 0, 0]", "[-1, 0, 1, 2]", "[-1, 0, 0, 1, 1]",
        "[-1, -1]", "[-1, 4294967296]", R"("4,2")", "[[-1]]", "7", "{}"}) {
    EXPECT_FALSE(tuned(tree).has_value()) << tree;
  }
  const char* part = "[-1, 0, 1, 0]";
  EXPECT_EQ(tuned(part, R"({"gains": [0.6, 0.3, 0.2]})")->gains, (std::vector{0.6, 0.3, 0.2}));
  for (const char* gains : {"[0.6, 0.3]", "[]", "null", "[0.6, 0.3, 1.5]", "[0.6, 0.3, -1]", "7",
                            R"(["0.6", 0.3, 0.2])"}) {
    EXPECT_FALSE(tuned(part, R"({"gains": )" + std::string(gains) + "}").has_value()) << gains;
  }
  EXPECT_EQ(tuned("null", R"({"acceptance": [0.5, 0.25]})")->gains, (std::vector{0.5, 0.25}));
  EXPECT_FALSE(tuned("null", R"({"acceptance": [2.0]})").has_value());
  EXPECT_FALSE(tuned("null", R"({"gains": [0.5]})").has_value());
  build.plan.drafter = MergedPlan({NgramPlan(), ModelPlan(3)});
  EXPECT_TRUE(tuned("null", R"({"acceptance": [0.5]})")->gains.empty());
}

}  // namespace
}  // namespace ptgc::capi
