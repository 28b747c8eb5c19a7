// CapturedEngine: an engine on a GPU whose rounds are captured graphs. Experimental: only tested
// with substitutes, on no GPU yet.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "engines/engine.h"
#include "engines/gpu/captured_call.h"
#include "engines/gpu/gpu.h"
#include "engines/gpu/gpu_share.h"

namespace ptgc {

// States are in the device's memory and are bound where they are; every other port is copied in or
// out within the graph. Unused outputs are written to blocks of their own, because the library
// needs an address for each. States that an engine does not update in place are also written to
// blocks of their own, and copied back within the graph.
class CapturedEngine : public Engine {
 public:
  // `name` is the file's name, for messages. Without `updates_in_place` the program may read an
  // input after it wrote outputs, so they never share memory.
  CapturedEngine(std::shared_ptr<GpuShare> share, std::unique_ptr<GpuProgram> program,
                 std::string name, bool updates_in_place = true);

  bool HasInput(std::string_view name) const override;
  std::shared_ptr<Memory> memory() const override { return share_->memory(); }
  std::shared_ptr<const DeviceCounters> counters() const override { return share_->counters(); }
  std::unique_ptr<Call> Bind(std::span<const Tensor> inputs,
                             std::span<const Tensor> outputs) override;

 private:
  const GpuPort& PortOfOutput(const Tensor& tensor) const;
  void BindInput(const GpuPort& port, const Tensor& tensor, CapturedParts& parts) const;
  void* CopyIn(const Tensor& tensor, CapturedParts& parts) const;
  void TakePiece(const Piece& piece, const Tensor& tensor, CapturedParts& parts) const;
  void BindOutput(const GpuPort& port, const Tensor& tensor, CapturedParts& parts) const;
  void BindUpdate(const GpuPort& port, const Tensor& tensor, CapturedParts& parts);
  bool IsUpdate(const Tensor& tensor, std::span<const Tensor> inputs) const;
  void* WriteAside(const GpuPort& port, CapturedParts& parts);
  void SetAddress(const Tensor& tensor, void* data, CapturedParts& parts) const;
  void CheckType(const GpuPort& port, const Tensor& tensor) const;
  void CheckShape(const GpuPort& port, const Tensor& tensor) const;
  void CheckOutput(const GpuPort& port, const Tensor& tensor, const CapturedParts& parts) const;
  [[noreturn]] void Refuse(const std::string& what) const;

  std::shared_ptr<GpuShare> share_;                      // Shared by all engines of the generator.
  std::unique_ptr<GpuProgram> program_;                  // The deserialised engine.
  std::string name_;                                     // Name of its file.
  bool updates_in_place_;                                // Whether states may be updated in place.
  std::map<std::string, std::shared_ptr<Block>> aside_;  // Blocks of unused outputs, by port.
};

}  // namespace ptgc
