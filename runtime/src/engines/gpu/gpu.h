// Thin interfaces to a vendor's GPU, so that everything above them can be tested with substitutes.
// Results tell whether a function failed; error() says why.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/memory.h"
#include "base/names.h"
#include "engines/engine.h"

namespace ptgc {

// Work that was captured on the stream, to be launched at once.
class GpuGraph {
 public:
  virtual ~GpuGraph() = default;
  virtual bool Launch() = 0;
};

// One device and one stream on it. Functions queue their work on the stream unless they say
// otherwise.
class GpuDevice {
 public:
  virtual ~GpuDevice() = default;

  // The vendor's number of the device.
  virtual int number() const = 0;
  // "NVIDIA H200".
  virtual std::string name() const = 0;
  // "9.0".
  virtual std::string compute_capability() const = 0;
  // Bytes that could be allocated now.
  virtual std::size_t free_memory() const = 0;
  // The vendor's message about the last failure.
  virtual std::string error() const = 0;
  // The stream handle for the vendor's libraries.
  virtual void* stream() const = 0;

  // At once. Null if there is no memory left; the contents are undefined.
  virtual void* Allocate(std::size_t bytes) = 0;
  // Frees when the stream is idle.
  virtual void Free(void* data) noexcept = 0;
  // At once: pins whole pages of host memory, so that copies need no help from the host.
  virtual bool Register(void* host, std::size_t bytes) = 0;
  virtual void Unregister(void* host) noexcept = 0;

  virtual bool Zero(void* data, std::size_t bytes) = 0;
  virtual bool CopyIn(void* data, const void* host, std::size_t bytes) = 0;
  virtual bool CopyOut(void* host, const void* data, std::size_t bytes) = 0;
  // Within the device; pieces must not overlap their new places.
  virtual bool CopyWithin(const Move& move) = 0;

  // From BeginCapture on, the stream records what is queued on it and runs none of it. EndCapture
  // always ends that; it returns null if something cannot be recorded.
  virtual bool BeginCapture() = 0;
  virtual std::unique_ptr<GpuGraph> EndCapture() = 0;
  // Waits until everything has run.
  virtual bool Synchronise() = 0;
};

// One input or output of a program.
struct GpuPort {
  std::string name;                 // The name in the graph.
  DType dtype = DType::kFloat32;    // Element type.
  bool is_input = false;            // Whether it is an input.
  std::vector<std::int64_t> shape;  // Sizes; -1 if they vary.
  std::vector<std::int64_t> least;  // For an input: the smallest shape ...
  std::vector<std::int64_t> most;   // ... and the largest.
};

// A program at one shape point, in working memory that it shares with others.
class GpuContext {
 public:
  virtual ~GpuContext() = default;
  virtual bool SetShape(const std::string& port, std::span<const std::int64_t> shape) = 0;
  // The shape of an output once all inputs have shapes; -1 for sizes that are not known beforehand.
  virtual std::vector<std::int64_t> Shape(const std::string& port) const = 0;
  virtual bool SetAddress(const std::string& port, std::span<const std::int64_t> shape,
                          void* data) = 0;
  // Queues one run.
  virtual bool Enqueue() = 0;
};

// A deserialised engine.
class GpuProgram {
 public:
  virtual ~GpuProgram() = default;
  virtual const std::vector<GpuPort>& ports() const = 0;
  // Bytes of working memory, enough for any shape point.
  virtual std::size_t context_bytes() const = 0;
  // Whether unused outputs need an address too.
  virtual bool needs_every_output() const { return true; }
  // Null if it cannot be made. `memory` and the program outlive the context.
  virtual std::unique_ptr<GpuContext> MakeContext(void* memory, std::size_t bytes) = 0;
  // The message about the last failure in it and its contexts.
  virtual std::string error() const = 0;
};

// The library that makes programs from engine files.
class GpuLibrary {
 public:
  virtual ~GpuLibrary() = default;
  // "TensorRT 10.15".
  virtual std::string Version() const = 0;
  // Null if the file was made for another library or device; throws for options that the library
  // does not know.
  virtual std::unique_ptr<GpuProgram> Load(const EngineSource& source,
                                           const EngineOptions& options) = 0;
  virtual std::string error() const = 0;
};

}  // namespace ptgc
