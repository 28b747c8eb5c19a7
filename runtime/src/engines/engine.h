// Engine: the thin interface between the loops and the library that runs a graph.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/names.h"

namespace ptgc {

// Output of earlier runs on another port, copied into an input before each run. An engine on a
// device copies it there, so that the host need not wait in between.
struct Piece {
  Move move;               // The copy between the two ports, in host memory.
  void* buffer = nullptr;  // The source buffer ...
  std::size_t room = 0;    // ... and its bytes.
};

// A view of one port's buffer at one shape.
struct Tensor {
  std::string name;                 // The port.
  DType dtype = DType::kFloat32;    // Element type.
  void* data = nullptr;             // Not owned; outlives every Call that it is bound to.
  std::vector<std::int64_t> shape;  // Sizes.
  void* buffer = nullptr;           // The buffer that it may be a part of ...
  std::size_t room = 0;             // ... and its bytes.
  std::vector<Piece> pieces = {};   // For an input: parts copied from other ports.

  // Bytes of the shape.
  std::size_t bytes() const {
    std::size_t bytes = ItemSize(dtype);
    for (std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
    return bytes;
  }
};

// A view of a buffer, from `offset` bytes on, as a port at one shape.
inline Tensor PortOf(const Buffer& buffer, std::string name, DType dtype,
                     std::vector<std::int64_t> shape, std::size_t offset = 0) {
  return {std::move(name),  dtype,         buffer.As<char>() + offset,
          std::move(shape), buffer.data(), buffer.size()};
}

// Copies the pieces of inputs, if everything is in host memory.
inline void TakePieces(std::span<const Piece> pieces) {
  for (const Piece& piece : pieces) HostMemory()->Copy(piece.move);
}

// Counts of what the engines of a device did so far.
struct DeviceCounters {
  std::int64_t graph_launches = 0;    // Runs that were one captured graph.
  std::int64_t uncaptured_runs = 0;   // Runs queued piece by piece: the first of each shape point,
                                      // and all of those not capturable.
  std::int64_t synchronisations = 0;  // Waits of the host for the device.
  std::int64_t captures = 0;          // Graphs captured.
  std::int64_t fallbacks = 0;         // Shape points that cannot be captured.
};

// An engine with every buffer bound for one shape point.
class Call {
 public:
  virtual ~Call() = default;
  // Reads the bound inputs and writes the bound outputs, which must not be touched before Wait.
  // Runs of engines that share a device happen in the order of their starts.
  virtual void Start() = 0;
  // Returns when everything that was started is finished.
  virtual void Wait() {}
  void Run() {
    Start();
    Wait();
  }
};

// Bare engine runs to be timed.
struct EngineRuns {
  std::string role;     // Role of the engine.
  int num_tokens = 1;   // Rows of a run, or length of its canvas or source.
  int num_logits = 1;   // Rows of logits.
  int past_length = 0;  // Tokens in the cache.
  int repeats = 1;      // Number of runs.
};

// Seconds of each of `repeats` runs of a call.
std::vector<double> TimeRuns(Call& call, int repeats);

// One executable graph.
class Engine {
 public:
  virtual ~Engine() = default;
  // Whether the graph has an input of this name.
  virtual bool HasInput(std::string_view name) const = 0;
  // The memory that its states must be in; all other ports are in host memory.
  virtual std::shared_ptr<Memory> memory() const { return HostMemory(); }
  // Counters of all engines that share its device; null on the host.
  virtual std::shared_ptr<const DeviceCounters> counters() const { return nullptr; }
  // Binds those of `inputs` that the graph has, and all of `outputs`. Tensors with the same data
  // are one buffer, updated in place. Throws a backend error if an input is missing.
  virtual std::unique_ptr<Call> Bind(std::span<const Tensor> inputs,
                                     std::span<const Tensor> outputs) = 0;
};

// The source of an engine: a graph, or an engine file that a vendor's compiler made.
struct EngineSource {
  std::filesystem::path path;  // Its file; its weights are beside it.
  std::string content;         // The whole file.
};

// How an engine is loaded.
struct EngineOptions {
  int num_threads = 0;                         // Threads of one engine; 0 leaves it to the library.
  bool takes_turns = false;                    // Whether other engines run in turns with it.
  std::map<std::string, std::string> entries;  // Settings by the library's names.
  bool updates_in_place = true;                // Whether cache inputs and outputs share buffers.
};

// A library that runs engines.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string Version() const = 0;
  virtual std::unique_ptr<Engine> Load(const EngineSource& source,
                                       const EngineOptions& options) = 0;
};

// Loaded engines by role.
using Engines = std::map<std::string, std::unique_ptr<Engine>>;

// A backend, and where its library is.
struct BackendChoice {
  std::string name;           // Its name in builds.
  std::string device;         // "cpu", or "cuda".
  std::string library;        // Its library's file; empty for the usual places.
  const void* api = nullptr;  // OrtApiBase, if the process has opened ONNX Runtime.

  std::string min_onnxruntime;  // The oldest ONNX Runtime that runs the build; empty for any.
};

// Throws a backend error if the library or the device is absent.
std::unique_ptr<Backend> MakeBackend(const BackendChoice& choice);

}  // namespace ptgc
