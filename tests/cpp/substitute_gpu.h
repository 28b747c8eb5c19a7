// A GPU in host memory: its memory faults when the host touches it, its stream runs when somebody
// waits for it, and it fails on demand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engines/engine.h"
#include "engines/gpu/captured_engine.h"
#include "engines/gpu/gpu.h"
#include "engines/gpu/gpu_share.h"
#include "gpu_ports.h"
#include "loops/loop_factory.h"

namespace ptgc {

// What is to go wrong.
struct GpuFaults {
  int allocations_left = -1;     // Allocations until memory is out; -1: never.
  bool registering = false;      // Host memory cannot be pinned.
  bool capturing = false;        // No capture begins.
  bool capturing_runs = false;   // Engines cannot be captured.
  bool launching = false;        // Graphs are not launched.
  bool running = false;          // Engines are not queued.
  bool synchronising = false;    // What was queued fails.
  bool making_contexts = false;  // Engines cannot be made ready.
};

class SubstituteDevice;

// What a substitute saw, and how it is to behave; outlives it.
struct SubstituteGpu {
  GpuFaults faults;          // What goes wrong.
  bool in_place = true;      // Whether programs may have inputs and outputs at one address.
  int launches = 0;          // Graphs launched.
  int synchronisations = 0;  // Waits.
  int captures = 0;          // Graphs made.
  int runs = 0;              // Engine runs, in graphs and without.
  int copies_in = 0;         // Copies from the host, queued or recorded.
  int copies_within = 0;     // Copies of states and pieces, the same.
  int live_blocks = 0;       // Allocated and not freed.
  int live_pins = 0;         // Registered and not unregistered.
  int live_contexts = 0;     // Made and not destroyed.
  int violations = 0;        // Host addresses where the device's belong, overlaps, stale pins.
  SubstituteDevice* device = nullptr;  // The one that was made of it.
};

std::unique_ptr<GpuDevice> MakeSubstituteDevice(SubstituteGpu& gpu);
// A program that computes what an engine computes; it also scribbles over its working memory. Where
// it may not have inputs and outputs at one address, `present` is another tensor than
// `past_key_values`, which stays as it is.
std::unique_ptr<GpuProgram> MakeSubstituteProgram(SubstituteGpu& gpu,
                                                  std::unique_ptr<Engine> engine,
                                                  std::vector<NamedPort> ports,
                                                  std::size_t context_bytes = 1000);

// A library whose engine files hold the name of a program, or of what is wrong with them.
class SubstituteLibrary : public GpuLibrary {
 public:
  std::string Version() const override { return "Substitute 1.0"; }
  std::unique_ptr<GpuProgram> Load(const EngineSource& source,
                                   const EngineOptions& options) override;
  std::string error() const override { return error_; }
  // Files that say `name` are this program, once.
  void Add(const std::string& name, std::unique_ptr<GpuProgram> program) {
    programs_[name] = std::move(program);
  }

 private:
  std::map<std::string, std::unique_ptr<GpuProgram>> programs_;  // By name.
  std::string error_;                                            // Of the last file.
};

// What engines share on such a GPU.
std::shared_ptr<GpuShare> MakeSubstituteShare(SubstituteGpu& gpu);
// An engine put onto such a GPU, whatever it computes: a program for each of its calls.
std::unique_ptr<Engine> OnGpu(SubstituteGpu& gpu, std::shared_ptr<GpuShare> share,
                              std::unique_ptr<Engine> engine);
// All engines of a build.
Engines OnGpu(SubstituteGpu& gpu, Engines engines);

}  // namespace ptgc
