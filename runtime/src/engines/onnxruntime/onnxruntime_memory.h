// OnnxRuntimeMemory: the host memory of ONNX Runtime's engines.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

namespace ptgc {

// Puts large blocks on huge pages, and keeps freed blocks for the next round.
//
// Decoding reads every weight once per round, in order: with pages of 4 KB the processor looks up
// over a hundred thousand pages per round. ONNX Runtime requests the same sizes every round, so in
// steady state nothing is allocated from the system.
class OnnxRuntimeMemory : public OrtAllocator {
 public:
  OnnxRuntimeMemory();

  // Returns kept blocks to the system; called after an engine was loaded.
  void Trim();

 private:
  // Precedes every block.
  struct Header {
    std::size_t size;  // Bytes after the header.
  };
  static constexpr std::size_t kAlignment = 64;  // Of blocks; also the space for the header.

  void* Take(std::size_t size);
  void GiveBack(void* block);

  Ort::MemoryInfo info_;                              // Tells ONNX Runtime "CPU".
  std::mutex mutex_;                                  // Guards the members below.
  std::map<std::size_t, std::vector<Header*>> kept_;  // Freed blocks by size.
  std::size_t kept_bytes_ = 0;                        // Total bytes of kept blocks.
};

}  // namespace ptgc
