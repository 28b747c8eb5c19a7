// ONNX Runtime behind the GPU's interface. Its own CPU provider runs the sessions here, over a
// device whose memory is the host's: what is tested is binding, not CUDA.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#define ORT_API_MANUAL_INIT
#include "base/buffer.h"
#include "base/error.h"
#include "engines/gpu/captured_backend.h"
#include "engines/gpu/onnxruntime_gpu.h"
#include "engines/onnxruntime/onnxruntime_library.h"

namespace ptgc {
namespace {

// numbers, past [rows, 2] -> present = numbers + past, sum = numbers + numbers, unread = -numbers,
// chosen [picked] = ArgMax(numbers, axis=1); opset 13. Written by onnx.helper.
constexpr unsigned char kModel[] = {
    8,   8,   58,  192, 2,   10,  29,  10,  7,   110, 117, 109, 98,  101, 114, 115, 10,  4,   112,
    97,  115, 116, 18,  7,   112, 114, 101, 115, 101, 110, 116, 34,  3,   65,  100, 100, 10,  28,
    10,  7,   110, 117, 109, 98,  101, 114, 115, 10,  7,   110, 117, 109, 98,  101, 114, 115, 18,
    3,   115, 117, 109, 34,  3,   65,  100, 100, 10,  22,  10,  7,   110, 117, 109, 98,  101, 114,
    115, 18,  6,   117, 110, 114, 101, 97,  100, 34,  3,   78,  101, 103, 10,  55,  10,  7,   110,
    117, 109, 98,  101, 114, 115, 18,  6,   99,  104, 111, 115, 101, 110, 34,  6,   65,  114, 103,
    77,  97,  120, 42,  11,  10,  4,   97,  120, 105, 115, 24,  1,   160, 1,   2,   42,  15,  10,
    8,   107, 101, 101, 112, 100, 105, 109, 115, 24,  0,   160, 1,   2,   18,  1,   103, 90,  29,
    10,  7,   110, 117, 109, 98,  101, 114, 115, 18,  18,  10,  16,  8,   1,   18,  12,  10,  6,
    18,  4,   114, 111, 119, 115, 10,  2,   8,   2,   90,  26,  10,  4,   112, 97,  115, 116, 18,
    18,  10,  16,  8,   1,   18,  12,  10,  6,   18,  4,   114, 111, 119, 115, 10,  2,   8,   2,
    98,  25,  10,  3,   115, 117, 109, 18,  18,  10,  16,  8,   1,   18,  12,  10,  6,   18,  4,
    114, 111, 119, 115, 10,  2,   8,   2,   98,  29,  10,  7,   112, 114, 101, 115, 101, 110, 116,
    18,  18,  10,  16,  8,   1,   18,  12,  10,  6,   18,  4,   114, 111, 119, 115, 10,  2,   8,
    2,   98,  28,  10,  6,   117, 110, 114, 101, 97,  100, 18,  18,  10,  16,  8,   1,   18,  12,
    10,  6,   18,  4,   114, 111, 119, 115, 10,  2,   8,   2,   98,  26,  10,  6,   99,  104, 111,
    115, 101, 110, 18,  16,  10,  14,  8,   7,   18,  10,  10,  8,   18,  6,   112, 105, 99,  107,
    101, 100, 66,  4,   10,  0,   16,  13,
};

// Does everything at once, and captures nothing.
class HostDevice : public GpuDevice {
 public:
  int number() const override { return 0; }
  std::string name() const override { return "the host"; }
  std::string compute_capability() const override { return "0.0"; }
  std::size_t free_memory() const override { return 0; }
  std::string error() const override { return ""; }
  void* stream() const override { return nullptr; }
  void* Allocate(std::size_t bytes) override { return std::malloc(bytes); }
  void Free(void* data) noexcept override { std::free(data); }
  bool Register(void*, std::size_t) override { return true; }
  void Unregister(void*) noexcept override {}
  bool Zero(void* data, std::size_t bytes) override {
    std::memset(data, 0, bytes);
    return true;
  }
  bool CopyIn(void* data, const void* host, std::size_t bytes) override {
    std::memcpy(data, host, bytes);
    return true;
  }
  bool CopyOut(void* host, const void* data, std::size_t bytes) override {
    std::memcpy(host, data, bytes);
    return true;
  }
  bool CopyWithin(const Move& move) override {
    HostMemory()->Copy(move);
    return true;
  }
  bool BeginCapture() override { return false; }
  std::unique_ptr<GpuGraph> EndCapture() override { return nullptr; }
  bool Synchronise() override { return true; }
};

class OnnxRuntimeGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string(PTGC_TEST_ONNXRUNTIME).empty()) GTEST_SKIP() << "onnxruntime is not installed";
    const OnnxRuntimeLibrary& library = OpenOnnxRuntime(PTGC_TEST_ONNXRUNTIME, nullptr, "");
    backend_ = std::make_unique<CapturedBackend>(
        "onnxruntime", std::make_unique<HostDevice>(),
        MakeOnnxRuntimeGpuLibrary(library, {"Cpu", 0, [](Ort::SessionOptions&) {}}));
    engine_ = backend_->Load(
        {"model.onnx", std::string(reinterpret_cast<const char*>(kModel), sizeof(kModel))}, {});
  }

  // One run of `rows` rows of ones to rows * 2, over a state that keeps its sum.
  void Run(std::int64_t rows) {
    for (std::int64_t i = 0; i < 2 * rows; ++i) numbers_.As<float>()[i] = static_cast<float>(i + 1);
    const std::vector<std::int64_t> shape = {rows, 2};
    const std::array<Tensor, 2> inputs = {PortOf(numbers_, "numbers", DType::kFloat32, shape),
                                          Tensor{"past", DType::kFloat32, state_.data(), shape}};
    const std::array<Tensor, 3> outputs = {PortOf(sum_, "sum", DType::kFloat32, shape),
                                           Tensor{"present", DType::kFloat32, state_.data(), shape},
                                           PortOf(chosen_, "chosen", DType::kInt64, {rows})};
    engine_->Bind(inputs, outputs)->Run();
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Engine> engine_;
  Buffer numbers_{256}, sum_{256}, chosen_{256};
  Block state_;
};

TEST_F(OnnxRuntimeGpu, RunsShapesOneAfterTheOtherAndUpdatesStatesInPlace) {
  state_ = Block(engine_->memory(), 256);
  EXPECT_TRUE(engine_->HasInput("past"));
  EXPECT_FALSE(engine_->HasInput("sum"));
  Run(3);
  EXPECT_EQ(sum_.As<float>()[5], 12.0F);
  EXPECT_EQ(chosen_.As<std::int64_t>()[2], 1);
  EXPECT_EQ(static_cast<float*>(state_.data())[5], 6.0F);
  Run(2);
  EXPECT_EQ(sum_.As<float>()[3], 8.0F);
  EXPECT_EQ(static_cast<float*>(state_.data())[3], 8.0F);
  EXPECT_EQ(static_cast<float*>(state_.data())[5], 6.0F);  // Not of this shape.
  EXPECT_EQ(engine_->counters()->uncaptured_runs, 2);
  EXPECT_EQ(engine_->counters()->synchronisations, 2);
}

TEST_F(OnnxRuntimeGpu, ShapesThatDisagreeAreRefused) {
  state_ = Block(engine_->memory(), 256);
  const std::array<Tensor, 2> inputs = {PortOf(numbers_, "numbers", DType::kFloat32, {3, 2}),
                                        Tensor{"past", DType::kFloat32, state_.data(), {2, 2}}};
  try {
    engine_->Bind(inputs, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBackend);
    EXPECT_NE(error.message().find("its size 'rows' is 3 already"), std::string::npos);
  }
}

TEST_F(OnnxRuntimeGpu, WhatTheLibraryRefusesIsAnErrorOfOurs) {
  try {
    backend_->Load({"model.onnx", "no model"}, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBackend);
    EXPECT_NE(error.message().find("refused 'model.onnx'"), std::string::npos);
  }
}

}  // namespace
}  // namespace ptgc
