#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "bundle/build_files.h"
#include "bundle_files.h"
#include "onnx_bytes.h"

namespace ptgc {
namespace {

namespace fs = std::filesystem;

class BuildFiles : public testing::Test {
 protected:
  void SetUp() override {
    documents_.build["files"].clear();
    Add("target.onnx", ModelWithWeights("target.data"));
    Add("target.data", "weights");
  }
  void Add(const std::string& name, const std::string& content) {
    std::ofstream(folder_.build() / name) << content;
    documents_.build["files"].push_back(
        {{"path", name}, {"size", content.size()}, {"sha256", Sha256Of(content)}});
  }
  // Writes other bytes of the same number over a file.
  void Change(const std::string& name) const {
    std::fstream file(folder_.build() / name, std::ios::in | std::ios::out);
    file << '!';
  }
  Bundle Read() const {
    folder_.Write(documents_);
    return ReadBundle(folder_.build());
  }
  static void ExpectRefusal(const std::function<void()>& action, const std::string& part) {
    try {
      action();
      ADD_FAILURE() << "not refused: " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBundle);
      EXPECT_NE(error.message().find(part), std::string::npos) << error.message();
      EXPECT_FALSE(error.action().empty());
    }
  }

  const BundleFolder folder_;
  BundleDocuments documents_ = NgramDocuments();
};

TEST_F(BuildFiles, AreReadWholeAndVerified) {
  const Bundle bundle = Read();
  VerifyOtherFiles(bundle);
  const EngineSource source = ReadEngineSource(bundle, bundle.roles.at("target"), /*verify=*/true);
  EXPECT_EQ(source.content, ModelWithWeights("target.data"));
  EXPECT_EQ(source.path, bundle.roles.at("target").graph);
}

TEST_F(BuildFiles, ChangedOnesAreFoundByTheirHash) {
  const Bundle bundle = Read();
  Change("target.data");
  ExpectRefusal([&] { VerifyOtherFiles(bundle); }, "target.data has been changed");
  Change("target.onnx");
  ExpectRefusal([&] { ReadEngineSource(bundle, bundle.roles.at("target"), /*verify=*/true); },
                "target.onnx has been changed");
}

TEST_F(BuildFiles, ManifestMustBeTheOneOfTheBuild) {
  folder_.Write(documents_);
  documents_.manifest["provenance"]["source"] = "elsewhere";
  std::ofstream(folder_.bundle() / "manifest.json") << documents_.manifest;
  const Bundle bundle = ReadBundle(folder_.build());
  ExpectRefusal([&] { VerifyOtherFiles(bundle); }, "another export");
}

TEST_F(BuildFiles, WeightsLieInTheBuildAndAreListed) {
  std::ofstream(folder_.build() / "planted.data") << "weights";
  std::ofstream(folder_.bundle() / "outside.data") << "weights";
  for (const std::string& name :
       {std::string("/etc/passwd"), std::string("../../outside.data"), std::string("planted.data"),
        std::string("../toy/../../outside.data"), std::string("target.data\0x", 13),
        std::string("*/_ORT_MEM_ADDR_/*"), std::string(5000, 'x'), std::string("")}) {
    documents_.build["files"].clear();
    Add("target.data", "weights");
    Add("target.onnx", ModelWithWeights(name));
    const Bundle bundle = Read();
    ExpectRefusal([&] { ReadEngineSource(bundle, bundle.roles.at("target"), /*verify=*/false); },
                  "which is no file of its build");
  }
}

}  // namespace
}  // namespace ptgc
