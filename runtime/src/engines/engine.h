// Engine: the thin seam between the loops and the library that runs a graph.
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

// What earlier runs wrote to another port, copied into an input before each run: an engine on a
// device has it there, so that nobody waits for it in between.
struct Piece {
  Move move;               // Between the two ports, in host memory.
  void* buffer = nullptr;  // The buffer that it comes from ...
  std::size_t room = 0;    // ... and its bytes.
};

// A view of one port's buffer at one shape.
struct Tensor {
  std::string name;                 // The port.
  DType dtype = DType::kFloat32;    // Element type.
  void* data = nullptr;             // Not owned; outlives every Call that it is bound to.
  std::vector<std::int64_t> shape;  // Sizes.
  void* buffer = nullptr;           // What it lies in, where it may be only a part of that ...
  std::size_t room = 0;             // ... and its bytes.
  std::vector<Piece> pieces = {};   // Of an input: what it takes from other ports.

  // Bytes of the shape.
  std::size_t bytes() const {
    std::size_t bytes = ItemSize(dtype);
    for (std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
    return bytes;
  }
};

// A buffer, from `offset` bytes on, as one port at one shape.
inline Tensor PortOf(const Buffer& buffer, std::string name, DType dtype,
                     std::vector<std::int64_t> shape, std::size_t offset = 0) {
  return {std::move(name),  dtype,         buffer.As<char>() + offset,
          std::move(shape), buffer.data(), buffer.size()};
}

// Copies the pieces of inputs, where all of them are in host memory.
inline void TakePieces(std::span<const Piece> pieces) {
  for (const Piece& piece : pieces) HostMemory()->Copy(piece.move);
}

// What the engines of a device did so far.
struct DeviceCounters {
  std::int64_t graph_launches = 0;    // Runs that were one captured graph.
  std::int64_t uncaptured_runs = 0;   // Runs queued piece by piece: the first of each shape point,
                                      // and all where it cannot be captured.
  std::int64_t synchronisations = 0;  // Waits of the host for the device.
  std::int64_t captures = 0;          // Graphs made.
  std::int64_t fallbacks = 0;         // Shape points that cannot be captured.
};

// An engine with every buffer bound for one shape point.
class Call {
 public:
  virtual ~Call() = default;
  // Reads the bound inputs, writes the bound outputs; nobody touches either before Wait. Runs of
  // engines that share a device happen in the order of their starts.
  virtual void Start() = 0;
  // Returns when everything that was started is done.
  virtual void Wait() {}
  void Run() {
    Start();
    Wait();
  }
};

// Bare engine runs to be timed.
struct EngineRuns {
  std::string role;     // Which engine.
  int num_tokens = 1;   // Rows of a run, or the length of its canvas or source.
  int num_logits = 1;   // Rows of logits.
  int past_length = 0;  // Tokens in the cache.
  int repeats = 1;      // Runs.
};

// Seconds of each of `repeats` runs of a call.
std::vector<double> TimeRuns(Call& call, int repeats);

// One executable graph.
class Engine {
 public:
  virtual ~Engine() = default;
  // Whether the graph has an input of this name.
  virtual bool HasInput(std::string_view name) const = 0;
  // Where the states that it reads and writes are to lie; all other ports lie in host memory.
  virtual std::shared_ptr<Memory> memory() const { return HostMemory(); }
  // Of all engines that share its device; null on the host.
  virtual std::shared_ptr<const DeviceCounters> counters() const { return nullptr; }
  // Binds those of `inputs` that the graph has, and all of `outputs`. Tensors that share their
  // data are one buffer, updated in place. Throws a backend error where an input is missing.
  virtual std::unique_ptr<Call> Bind(std::span<const Tensor> inputs,
                                     std::span<const Tensor> outputs) = 0;
};

// What an engine is made of: a graph, or what a vendor's compiler made of one.
struct EngineSource {
  std::filesystem::path path;  // Where it was read; its weights lie beside it.
  std::string content;         // The whole file.
};

// How an engine is loaded.
struct EngineOptions {
  int num_threads = 0;                         // Threads of one engine; 0 leaves it to the library.
  bool takes_turns = false;                    // Other engines run on the same processors by turns.
  std::map<std::string, std::string> entries;  // The library's own settings, by its own names.
  bool updates_in_place = true;                // Caches may come in and go out at one address.
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

// Which backend, and where its library is.
struct BackendChoice {
  std::string name;           // As builds spell it.
  std::string device;         // "cpu", or "cuda".
  std::string library;        // Its library; empty for the usual places.
  const void* api = nullptr;  // ONNX Runtime's OrtApiBase, where the process has it already.

  std::string min_onnxruntime;  // The oldest ONNX Runtime that runs the build; empty for any.
};

// Throws a backend error where the library or the device is absent.
std::unique_ptr<Backend> MakeBackend(const BackendChoice& choice);

}  // namespace ptgc
