#include "substitute_gpu.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "engines/gpu/captured_backend.h"

namespace ptgc {

class SubstituteContext;

namespace {

constexpr std::size_t kArenaBytes = std::size_t{1} << 28;
constexpr std::size_t kPage = 4096;

// One thing on the stream.
struct Queued {
  enum class Kind { kZero, kIn, kOut, kWithin, kRun } kind;  // What it does.
  Move move;                                                 // Copies; `to` alone is cleared.
  SubstituteContext* context = nullptr;                      // Runs.
};

}  // namespace

class SubstituteDevice : public GpuDevice {
 public:
  explicit SubstituteDevice(SubstituteGpu& gpu) : gpu_(gpu) {
    arena_ = static_cast<char*>(
        mmap(nullptr, kArenaBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    queue_.reserve(1 << 16);
  }
  ~SubstituteDevice() override { munmap(arena_, kArenaBytes); }

  int number() const override { return 0; }
  std::string name() const override { return "Substitute GPU"; }
  std::string compute_capability() const override { return "1.2"; }
  std::size_t free_memory() const override { return kArenaBytes - used_; }
  std::string error() const override { return "the substitute failed"; }
  void* stream() const override { return nullptr; }

  void* Allocate(std::size_t bytes) override {
    if (gpu_.faults.allocations_left == 0) return nullptr;
    if (gpu_.faults.allocations_left > 0) --gpu_.faults.allocations_left;
    char* data = arena_ + used_;
    used_ += (bytes + kPage - 1) / kPage * kPage;
    if (used_ > kArenaBytes) throw std::runtime_error("the substitute's arena is too small");
    blocks_[data] = bytes;
    ++gpu_.live_blocks;
    mprotect(data, bytes, PROT_READ | PROT_WRITE);
    std::memset(data, 0xFF, bytes);  // No numbers.
    mprotect(data, bytes, PROT_NONE);
    return data;
  }
  void Free(void* data) noexcept override {
    RunQueue();
    gpu_.violations += blocks_.erase(static_cast<char*>(data)) == 1 ? 0 : 1;
    --gpu_.live_blocks;
  }
  bool Register(void* host, std::size_t bytes) override {
    if (gpu_.faults.registering || pins_.contains(host)) return false;
    if (bytes % kPage != 0 || Holds(host, 1)) ++gpu_.violations;
    pins_[host] = bytes;
    ++gpu_.live_pins;
    return true;
  }
  void Unregister(void* host) noexcept override {
    // The memory must still be there.
    if (!pins_.contains(host) || msync(host, pins_[host], MS_ASYNC) != 0) ++gpu_.violations;
    pins_.erase(host);
    --gpu_.live_pins;
  }

  bool Zero(void* data, std::size_t bytes) override {
    Expect(Holds(data, bytes));
    return Queue({Queued::Kind::kZero, {data, 0, nullptr, 0, bytes, 1}});
  }
  bool CopyIn(void* data, const void* host, std::size_t bytes) override {
    ++gpu_.copies_in;
    Expect(Holds(data, bytes) && !Holds(host, 1));
    if (capturing_ && !IsPinned(host, bytes)) return false;
    return Queue({Queued::Kind::kIn, {data, 0, host, 0, bytes, 1}});
  }
  bool CopyOut(void* host, const void* data, std::size_t bytes) override {
    Expect(Holds(data, bytes) && !Holds(host, 1));
    if (capturing_ && !IsPinned(host, bytes)) return false;
    return Queue({Queued::Kind::kOut, {host, 0, data, 0, bytes, 1}});
  }
  bool CopyWithin(const Move& move) override {
    ++gpu_.copies_within;
    const char* to = static_cast<const char*>(move.to);
    const char* from = static_cast<const char*>(move.from);
    for (std::size_t i = 0; i < move.count; ++i) {
      const char* piece_to = to + i * move.to_stride;
      const char* piece_from = from + i * move.from_stride;
      Expect(Holds(piece_to, move.bytes) && Holds(piece_from, move.bytes));
      Expect(piece_to >= piece_from + move.bytes || piece_from >= piece_to + move.bytes);
    }
    return Queue({Queued::Kind::kWithin, move});
  }

  bool BeginCapture() override {
    if (gpu_.faults.capturing || capturing_) return false;
    capturing_ = true;
    recorded_.clear();
    return true;
  }
  std::unique_ptr<GpuGraph> EndCapture() override;
  bool Synchronise() override {
    ++gpu_.synchronisations;
    if (capturing_) ++gpu_.violations;
    RunQueue();
    return !gpu_.faults.synchronising;
  }

  bool QueueRun(SubstituteContext* context) {
    if (gpu_.faults.running || (capturing_ && gpu_.faults.capturing_runs)) return false;
    return Queue({Queued::Kind::kRun, {}, context});
  }
  bool Launch(const std::vector<Queued>& recorded) {
    if (gpu_.faults.launching) return false;
    ++gpu_.launches;
    queue_.insert(queue_.end(), recorded.begin(), recorded.end());
    return true;
  }
  bool Holds(const void* data, std::size_t bytes) const {
    const char* begin = static_cast<const char*>(data);
    const auto after = blocks_.upper_bound(begin);
    if (after == blocks_.begin()) return false;
    const auto& [block, size] = *std::prev(after);
    return begin + bytes <= block + size;
  }
  void Expect(bool right) { gpu_.violations += right ? 0 : 1; }

 private:
  bool Queue(const Queued& queued) {
    (capturing_ ? recorded_ : queue_).push_back(queued);
    return true;
  }
  bool IsPinned(const void* host, std::size_t bytes) const {
    return std::any_of(pins_.begin(), pins_.end(), [&](const auto& pin) {
      const char* begin = static_cast<const char*>(pin.first);
      const char* at = static_cast<const char*>(host);
      return at >= begin && at + bytes <= begin + pin.second;
    });
  }
  void RunQueue();

  SubstituteGpu& gpu_;                         // What it saw.
  char* arena_;                                // Its memory.
  std::size_t used_ = 0;                       // Of that; nothing is used twice.
  std::map<const char*, std::size_t> blocks_;  // Allocated.
  std::map<const void*, std::size_t> pins_;    // Registered.
  bool capturing_ = false;                     // Whether it records.
  std::vector<Queued> queue_;                  // The stream.
  std::vector<Queued> recorded_;               // The graph that is being captured.
};

class SubstituteContext : public GpuContext {
 public:
  SubstituteContext(SubstituteGpu& gpu, Engine& engine, const std::vector<NamedPort>& ports,
                    std::span<char> working)
      : gpu_(gpu), engine_(engine), ports_(ports), working_(working) {
    ++gpu_.live_contexts;
  }
  ~SubstituteContext() override { --gpu_.live_contexts; }

  bool SetShape(const std::string& port, std::span<const std::int64_t> shape) override {
    const NamedPort& known = Find(port);
    for (std::size_t i = 0; i < shape.size(); ++i) {
      const std::string& name = known.dimensions[i];
      if (name.empty()) continue;
      if (sizes_.contains(name) && sizes_[name] != shape[i]) return false;
      sizes_[name] = shape[i];
    }
    return true;
  }
  std::vector<std::int64_t> Shape(const std::string& port) const override {
    const NamedPort& known = Find(port);
    std::vector<std::int64_t> shape = known.port.shape;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] < 0) shape[i] = sizes_.at(known.dimensions[i]);
    }
    return shape;
  }
  bool SetAddress(const std::string& port, std::span<const std::int64_t>, void* data) override {
    addresses_[port] = data;
    return true;
  }
  bool Enqueue() override {
    if (call_ == nullptr) BindAll();
    return gpu_.device->QueueRun(this);
  }

  void Run() {
    ++gpu_.runs;
    std::fill(working_.begin(), working_.end(), '\xAB');
    for (const Move& past : pasts_) HostMemory()->Copy(past);
    call_->Run();
  }

 private:
  const NamedPort& Find(const std::string& name) const {
    return *std::find_if(ports_.begin(), ports_.end(),
                         [&](const NamedPort& known) { return known.port.name == name; });
  }
  void BindAll() {
    std::vector<Tensor> inputs, outputs;
    for (const NamedPort& known : ports_) {
      const Tensor tensor{known.port.name, known.port.dtype, addresses_.at(known.port.name),
                          Shape(known.port.name)};
      gpu_.device->Expect(gpu_.device->Holds(tensor.data, tensor.bytes()));
      (known.port.is_input ? inputs : outputs).push_back(tensor);
    }
    if (!gpu_.in_place) Separate(inputs, outputs);
    call_ = engine_.Bind(inputs, outputs);
  }

  // What the engine does in place it does in `present`, into which `past` is copied before.
  void Separate(std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs) {
    constexpr std::string_view kPast = "past_key_values", kPresent = "present";
    for (Tensor& input : inputs) {
      for (const Tensor& output : outputs) {
        gpu_.device->Expect(input.data != output.data);
        if (!input.name.starts_with(kPast) || !output.name.starts_with(kPresent)) continue;
        if (input.name.substr(kPast.size()) != output.name.substr(kPresent.size())) continue;
        void* past = std::exchange(input.data, output.data);
        pasts_.push_back({output.data, 0, past, 0, output.bytes(), 1});
      }
    }
  }

  SubstituteGpu& gpu_;                         // What it saw.
  Engine& engine_;                             // Computes.
  const std::vector<NamedPort>& ports_;        // The program's.
  std::span<char> working_;                    // Shared with other contexts.
  std::vector<Move> pasts_;                    // Copied before a run, where it is not in place.
  std::map<std::string, std::int64_t> sizes_;  // By name.
  std::map<std::string, void*> addresses_;     // By port.
  std::unique_ptr<Call> call_;                 // The engine's, over device memory.
};

namespace {

class SubstituteGraph : public GpuGraph {
 public:
  SubstituteGraph(SubstituteDevice& device, std::vector<Queued> recorded)
      : device_(device), recorded_(std::move(recorded)) {}
  bool Launch() override { return device_.Launch(recorded_); }

 private:
  SubstituteDevice& device_;      // Runs it.
  std::vector<Queued> recorded_;  // What it does.
};

}  // namespace

std::unique_ptr<GpuGraph> SubstituteDevice::EndCapture() {
  capturing_ = false;
  ++gpu_.captures;
  return std::make_unique<SubstituteGraph>(*this, std::move(recorded_));
}

void SubstituteDevice::RunQueue() {
  if (queue_.empty()) return;
  mprotect(arena_, kArenaBytes, PROT_READ | PROT_WRITE);
  for (const Queued& queued : queue_) {
    const Move& move = queued.move;
    if (queued.kind == Queued::Kind::kRun) {
      queued.context->Run();
    } else if (queued.kind == Queued::Kind::kZero) {
      std::memset(move.to, 0, move.bytes);
    } else {
      HostMemory()->Copy(move);
    }
  }
  queue_.clear();
  mprotect(arena_, kArenaBytes, PROT_NONE);
}

namespace {

class SubstituteProgram : public GpuProgram {
 public:
  SubstituteProgram(SubstituteGpu& gpu, std::unique_ptr<Engine> engine,
                    std::vector<NamedPort> ports, std::size_t context_bytes)
      : gpu_(gpu),
        engine_(std::move(engine)),
        named_ports_(std::move(ports)),
        context_bytes_(context_bytes) {
    for (const NamedPort& named : named_ports_) ports_.push_back(named.port);
  }
  const std::vector<GpuPort>& ports() const override { return ports_; }
  std::size_t context_bytes() const override { return context_bytes_; }
  std::unique_ptr<GpuContext> MakeContext(void* memory, std::size_t bytes) override {
    if (gpu_.faults.making_contexts || bytes < context_bytes_) return nullptr;
    gpu_.device->Expect(gpu_.device->Holds(memory, bytes));
    return std::make_unique<SubstituteContext>(
        gpu_, *engine_, named_ports_, std::span(static_cast<char*>(memory), context_bytes_));
  }
  std::string error() const override { return "the program failed"; }

 private:
  SubstituteGpu& gpu_;                  // What it saw.
  std::unique_ptr<Engine> engine_;      // Computes.
  std::vector<NamedPort> named_ports_;  // What goes in and out ...
  std::vector<GpuPort> ports_;          // ... and the same without names.
  std::size_t context_bytes_;           // What a context needs.
};

// Lets a program have an engine that others have too.
class Borrowed : public Engine {
 public:
  explicit Borrowed(Engine& engine) : engine_(engine) {}
  bool HasInput(std::string_view name) const override { return engine_.HasInput(name); }
  std::unique_ptr<Call> Bind(std::span<const Tensor> inputs,
                             std::span<const Tensor> outputs) override {
    return engine_.Bind(inputs, outputs);
  }

 private:
  Engine& engine_;  // Outlives it.
};

class EngineOnGpu : public Engine {
 public:
  EngineOnGpu(SubstituteGpu& gpu, std::shared_ptr<GpuShare> share, std::unique_ptr<Engine> engine)
      : gpu_(gpu), share_(std::move(share)), engine_(std::move(engine)) {}
  bool HasInput(std::string_view name) const override { return engine_->HasInput(name); }
  std::shared_ptr<Memory> memory() const override { return share_->memory(); }
  std::unique_ptr<Call> Bind(std::span<const Tensor> inputs,
                             std::span<const Tensor> outputs) override {
    std::vector<NamedPort> ports;
    for (const Tensor& tensor : inputs) {
      if (HasInput(tensor.name)) ports.push_back(Exactly(tensor, true));
    }
    for (const Tensor& tensor : outputs) ports.push_back(Exactly(tensor, false));
    auto program =
        MakeSubstituteProgram(gpu_, std::make_unique<Borrowed>(*engine_), std::move(ports));
    engines_.push_back(
        std::make_unique<CapturedEngine>(share_, std::move(program), "substitute.engine"));
    return engines_.back()->Bind(inputs, outputs);
  }

 private:
  static NamedPort Exactly(const Tensor& tensor, bool is_input) {
    return MakePort(tensor.name, tensor.dtype, is_input, tensor.shape,
                    std::vector<std::string>(tensor.shape.size()));
  }

  SubstituteGpu& gpu_;                                    // What it saw.
  std::shared_ptr<GpuShare> share_;                       // With the other engines of the build.
  std::unique_ptr<Engine> engine_;                        // Computes.
  std::vector<std::unique_ptr<CapturedEngine>> engines_;  // One for each call.
};

}  // namespace

std::unique_ptr<GpuDevice> MakeSubstituteDevice(SubstituteGpu& gpu) {
  auto device = std::make_unique<SubstituteDevice>(gpu);
  gpu.device = device.get();
  return device;
}

std::unique_ptr<GpuProgram> MakeSubstituteProgram(SubstituteGpu& gpu,
                                                  std::unique_ptr<Engine> engine,
                                                  std::vector<NamedPort> ports,
                                                  std::size_t context_bytes) {
  return std::make_unique<SubstituteProgram>(gpu, std::move(engine), std::move(ports),
                                             context_bytes);
}

std::unique_ptr<GpuProgram> SubstituteLibrary::Load(const EngineSource& source,
                                                    const EngineOptions& options) {
  RefuseOptions(options);
  const std::string& name = source.content;
  const auto found = programs_.find(name);
  error_ = found == programs_.end() ? name : "";
  return found == programs_.end() ? nullptr : std::move(found->second);
}

std::shared_ptr<GpuShare> MakeSubstituteShare(SubstituteGpu& gpu) {
  return std::make_shared<GpuShare>(MakeSubstituteDevice(gpu),
                                    std::make_unique<SubstituteLibrary>());
}

std::unique_ptr<Engine> OnGpu(SubstituteGpu& gpu, std::shared_ptr<GpuShare> share,
                              std::unique_ptr<Engine> engine) {
  return std::make_unique<EngineOnGpu>(gpu, std::move(share), std::move(engine));
}

Engines OnGpu(SubstituteGpu& gpu, Engines engines) {
  const std::shared_ptr<GpuShare> share = MakeSubstituteShare(gpu);
  for (auto& [role, engine] : engines) engine = OnGpu(gpu, share, std::move(engine));
  return engines;
}

}  // namespace ptgc
