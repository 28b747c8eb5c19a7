#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "engines/gpu/captured_backend.h"
#include "function_engine.h"
#include "generator_fixture.h"
#include "substitute_gpu.h"

namespace ptgc {
namespace {

namespace fs = std::filesystem;

class CapturedBackends : public testing::Test {
 protected:
  void SetUp() override {
    auto library = std::make_unique<SubstituteLibrary>();
    library_ = library.get();
    backend_ = std::make_unique<CapturedBackend>("tensorrt", MakeSubstituteDevice(gpu_),
                                                 std::move(library));
  }

  EngineSource Source(const std::string& content) const {
    return {folder_ / "builds" / "on-gpu" / "target.engine", content};
  }
  Error FailureOf(const EngineSource& source, const EngineOptions& options = {}) {
    try {
      backend_->Load(source, options);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return {ErrorCode::kInternal, ""};
  }

  SubstituteGpu gpu_;
  const fs::path folder_ = "bundle";
  SubstituteLibrary* library_ = nullptr;
  std::unique_ptr<CapturedBackend> backend_;
};

TEST_F(CapturedBackends, LoadsWhatTheLibraryTakes) {
  library_->Add("a program",
                MakeSubstituteProgram(gpu_, MakeEngine([](const BoundPorts&) {}),
                                      {MakePort("write_index", DType::kInt64, true, {1}, {""})}));
  EXPECT_EQ(backend_->Version(), "Substitute 1.0");
  const std::unique_ptr<Engine> engine = backend_->Load(Source("a program"), {});
  backend_.reset();  // Engines outlive it.
  EXPECT_TRUE(engine->HasInput("write_index"));
  EXPECT_FALSE(engine->HasInput("tree_mask"));
  EXPECT_NE(engine->memory(), HostMemory());
}

TEST_F(CapturedBackends, EngineOfAnotherVersionOrDeviceIsStale) {
  const Error error =
      FailureOf(Source("generated on an incompatible device, expecting compute 1.2 got 8.6"));
  EXPECT_EQ(error.code(), ErrorCode::kEngineStale);
  EXPECT_EQ(Name(error.code()), "engine_stale");
  EXPECT_EQ(error.message(),
            "The engine 'target.engine' was not made for Substitute 1.0 on Substitute GPU (compute "
            "capability 1.2): generated on an incompatible device, expecting compute 1.2 got 8.6.");
  EXPECT_EQ(error.action(), "Compile it again on this machine: ptgc build " + folder_.string() +
                                " --backend tensorrt --stage compile --id on-gpu");
}

TEST_F(CapturedBackends, FullDeviceIsNoStaleEngine) {
  const Error error = FailureOf(Source("Cuda failure: out of memory"));
  EXPECT_EQ(error.code(), ErrorCode::kBackend);
  EXPECT_NE(error.message().find("does not fit on the GPU"), std::string::npos);
}

TEST_F(CapturedBackends, RefusesOptionsThatItDoesNotHave) {
  EngineOptions options;
  options.entries["session.something"] = "1";
  const Error error = FailureOf(Source("a program"), options);
  EXPECT_EQ(error.code(), ErrorCode::kBackend);
  EXPECT_NE(error.message().find("'session.something'"), std::string::npos);
}

TEST(MakeBackend, NamesTheBackendsThatItHas) {
  try {
    MakeBackend({"fantasy", "cpu", "", nullptr, ""});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBackend);
    EXPECT_NE(error.message().find("without the backend 'fantasy'; it has: onnxruntime"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace ptgc
