#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "bundle/bundle_engines.h"

namespace ptgc {
namespace {

using nlohmann::json;

ShapePlan Shapes() {
  ShapePlan shapes;
  shapes.batch = 2;
  shapes.max_length = 1024;
  shapes.roles["target"] = {{1, 8, 128}, 16, {1152}, {{512, 700}}, {}, {}};
  return shapes;
}

json Build() {
  return {{"id", "gpu"},
          {"backend", "tensorrt-rtx"},
          {"roles", {{"target", json::object()}}},
          {"engines",
           {{{"role", "target"},
             {"path", "target.engine"},
             {"sizes", {{"batch", 2}, {"kv_capacity", 1152}, {"window_capacity_512", 700}}},
             {"ranges", {{"num_tokens", {1, 16, 128}}, {"num_logits", {1, 16, 16}}}}}}}};
}

Error FailureOf(const json& build, const ShapePlan& shapes = Shapes()) {
  try {
    ReadEngines(build, shapes);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBundle);
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorCode::kInternal, ""};
}

TEST(BundleEngines, GivesTheFileOfEachRole) {
  EXPECT_EQ(ReadEngines(Build(), Shapes()),
            (std::map<std::string, EngineFile>{{"target", {"target.engine", true}}}));
}

TEST(BundleEngines, SaysWhichEngineDoesNotUpdateInPlace) {
  json build = Build();
  build["engines"][0]["updates_in_place"] = false;
  EXPECT_FALSE(ReadEngines(build, Shapes()).at("target").updates_in_place);
}

TEST(BundleEngines, LibraryThatCompilesWhileItLoadsHasNone) {
  json build = Build();
  build["backend"] = "onnxruntime";
  build.erase("engines");
  EXPECT_TRUE(ReadEngines(build, Shapes()).empty());
}

TEST(BundleEngines, PreparedBuildSaysHowToCompileIt) {
  json build = Build();
  build["engines"] = json::array();
  const Error error = FailureOf(build);
  EXPECT_NE(error.message().find("the role 'target' has no engine"), std::string::npos);
  EXPECT_EQ(error.action(),
            "Compile it again: ptgc build BUNDLE --backend tensorrt-rtx --stage compile --id gpu");
}

TEST(BundleEngines, EverySizeThatAnEngineDoesNotTakeIsNamed) {
  ShapePlan shapes = Shapes();
  shapes.batch = 3;
  shapes.roles["target"] = {{1, 8, 256}, 32, {1280}, {{512, 800}}, {}, {}};
  const std::string message = FailureOf(Build(), shapes).message();
  for (const char* part :
       {"'target.engine' takes batch from 2 to 2, not 3.", "num_tokens from 1 to 128, not 256.",
        "num_logits from 1 to 16, not 32.", "kv_capacity from 1152 to 1152, not 1280.",
        "window_capacity_512 from 700 to 700, not 800."}) {
    EXPECT_NE(message.find(part), std::string::npos) << part;
  }
}

TEST(BundleEngines, SeveralEnginesOfARoleAreRefused) {
  json build = Build();
  json second = build["engines"][0];
  second["path"] = "target.2048.engine";
  build["engines"].push_back(second);
  EXPECT_NE(FailureOf(build).message().find("'target.engine' and 'target.2048.engine'"),
            std::string::npos);
}

}  // namespace
}  // namespace ptgc
