// OnnxRuntimeMemory: the memory that ONNX Runtime's engines live in.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

namespace ptgc {

// Gives large blocks on huge pages and keeps freed blocks for the next round.
//
// Decoding reads every weight once a round, in order: with pages of 4 KB the processor looks up
// over a hundred thousand of them a round. ONNX Runtime asks for the same sizes every round, so
// that in steady state nothing comes from the system.
class OnnxRuntimeMemory : public OrtAllocator {
 public:
  OnnxRuntimeMemory();

  // Gives kept blocks back to the system; called when an engine has been loaded.
  void Trim();

 private:
  // Stands in front of every block.
  struct Header {
    std::size_t size;  // Bytes behind the header.
  };
  static constexpr std::size_t kAlignment = 64;  // Of blocks, and the header's room.

  void* Take(std::size_t size);
  void GiveBack(void* block);

  Ort::MemoryInfo info_;                              // Says "CPU" to ONNX Runtime.
  std::mutex mutex_;                                  // Guards what follows.
  std::map<std::size_t, std::vector<Header*>> kept_;  // Freed blocks by size.
  std::size_t kept_bytes_ = 0;                        // Their sum.
};

}  // namespace ptgc
