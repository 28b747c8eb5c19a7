#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "backends/captured_backend.h"
#include "error.h"
#include "function_engine.h"
#include "generator_fixture.h"
#include "substitute_gpu.h"
#include "temporary_folder.h"

namespace ptgc {
namespace {

namespace fs = std::filesystem;

class CapturedBackends : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_ / "builds" / "on-gpu");
    auto library = std::make_unique<SubstituteLibrary>();
    library_ = library.get();
    backend_ = std::make_unique<CapturedBackend>("tensorrt", MakeSubstituteDevice(gpu_),
                                                 std::move(library));
  }

  fs::path Write(const std::string& content) const {
    const fs::path path = folder_ / "builds" / "on-gpu" / "target.engine";
    std::ofstream(path) << content;
    return path;
  }
  Error FailureOf(const fs::path& path, const EngineOptions& options = {}) {
    try {
      backend_->Load(path, options);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return {ErrorCode::kInternal, ""};
  }

  SubstituteGpu gpu_;
  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
  SubstituteLibrary* library_ = nullptr;
  std::unique_ptr<CapturedBackend> backend_;
};

TEST_F(CapturedBackends, LoadsWhatTheLibraryTakes) {
  library_->Add("a program",
                MakeSubstituteProgram(gpu_, MakeEngine([](const BoundPorts&) {}),
                                      {MakePort("write_index", DType::kInt64, true, {1}, {""})}));
  EXPECT_EQ(backend_->Version(), "Substitute 1.0");
  const std::unique_ptr<Engine> engine = backend_->Load(Write("a program"), {});
  backend_.reset();  // Engines outlive it.
  EXPECT_TRUE(engine->HasInput("write_index"));
  EXPECT_FALSE(engine->HasInput("tree_mask"));
  EXPECT_NE(engine->memory(), HostMemory());
}

TEST_F(CapturedBackends, EngineOfAnotherVersionOrDeviceIsStale) {
  const Error error =
      FailureOf(Write("generated on an incompatible device, expecting compute 1.2 got 8.6"));
  EXPECT_EQ(error.code(), ErrorCode::kEngineStale);
  EXPECT_EQ(Name(error.code()), "engine_stale");
  EXPECT_EQ(error.message(),
            "The engine 'target.engine' was not made for Substitute 1.0 on Substitute GPU (compute "
            "capability 1.2): generated on an incompatible device, expecting compute 1.2 got 8.6.");
  EXPECT_EQ(error.action(), "Compile it again on this machine: ptgc build " + folder_.string() +
                                " --backend tensorrt --stage compile --id on-gpu");
}

TEST_F(CapturedBackends, FullDeviceIsNoStaleEngine) {
  const Error error = FailureOf(Write("Cuda failure: out of memory"));
  EXPECT_EQ(error.code(), ErrorCode::kBackend);
  EXPECT_NE(error.message().find("does not fit on the GPU"), std::string::npos);
}

TEST_F(CapturedBackends, RefusesFilesAndOptionsThatItCannotRead) {
  EXPECT_EQ(FailureOf(folder_ / "builds" / "on-gpu" / "absent.engine").code(), ErrorCode::kStorage);
  EngineOptions options;
  options.entries["session.something"] = "1";
  const Error error = FailureOf(Write("a program"), options);
  EXPECT_EQ(error.code(), ErrorCode::kBackend);
  EXPECT_NE(error.message().find("'session.something'"), std::string::npos);
}

TEST(MakeBackend, NamesTheBackendsThatItHas) {
  try {
    MakeBackend({"fantasy", "cpu", ""});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBackend);
    EXPECT_NE(error.message().find("without the backend 'fantasy'; it has: onnxruntime"),
              std::string::npos);
  }
}

}  // namespace
}  // namespace ptgc
