// What there is to test of CUDA where there is no GPU.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <string>

#include "base/error.h"
#include "engines/gpu/cuda.h"

namespace ptgc {
namespace {

// What opening says with this file as the CUDA runtime.
Error FailureWith(const char* library) {
  setenv("PTGC_CUDA_RUNTIME", library, /*overwrite=*/1);
  try {
    OpenCuda();
  } catch (const Error& error) {
    unsetenv("PTGC_CUDA_RUNTIME");
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return {ErrorCode::kInternal, ""};
}

TEST(Cuda, AbsentRuntimeSaysWhatToInstall) {
  const Error error = FailureWith("/nowhere/libcudart.so.13");
  EXPECT_EQ(error.code(), ErrorCode::kBackend);
  EXPECT_NE(error.message().find("/nowhere/libcudart.so.13"), std::string::npos);
  EXPECT_NE(error.action().find("PTGC_CUDA_RUNTIME"), std::string::npos);
}

TEST(Cuda, OtherLibraryIsRefused) {
  const Error error = FailureWith("libc.so.6");
  EXPECT_EQ(error.code(), ErrorCode::kBackend);
  EXPECT_NE(error.message().find("has no cudaGetErrorString"), std::string::npos);
}

}  // namespace
}  // namespace ptgc
