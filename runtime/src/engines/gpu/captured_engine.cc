#include "engines/gpu/captured_engine.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace ptgc {
namespace {

const Tensor* Find(std::span<const Tensor> tensors, const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const Tensor& tensor) { return tensor.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

CopiedPart PartOf(std::shared_ptr<HostMirror> mirror, const Tensor& tensor) {
  const std::size_t begin = mirror->OffsetOf(tensor.data);
  return {std::move(mirror), begin, begin + tensor.bytes()};
}

std::string Spelt(std::span<const std::int64_t> shape) {
  std::string text;
  for (std::int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

}  // namespace

CapturedEngine::CapturedEngine(std::shared_ptr<GpuShare> share, std::unique_ptr<GpuProgram> program,
                               std::string name, bool updates_in_place)
    : share_(std::move(share)),
      program_(std::move(program)),
      name_(std::move(name)),
      updates_in_place_(updates_in_place) {
  share_->NeedWorkingBytes(program_->context_bytes());
}

bool CapturedEngine::HasInput(std::string_view name) const {
  const std::vector<GpuPort>& ports = program_->ports();
  return std::any_of(ports.begin(), ports.end(),
                     [&](const GpuPort& port) { return port.is_input && port.name == name; });
}

std::unique_ptr<Call> CapturedEngine::Bind(std::span<const Tensor> inputs,
                                           std::span<const Tensor> outputs) {
  CapturedParts parts;
  parts.share = share_;
  parts.program = program_.get();
  const std::shared_ptr<Block> working = share_->WorkingBlock();
  parts.blocks.push_back(working);
  parts.context = program_->MakeContext(working->data(), working->size());
  if (parts.context == nullptr) {
    ThrowGpuError("The engine '" + name_ + "' cannot be made ready", program_->error());
  }
  for (const GpuPort& port : program_->ports()) {
    if (!port.is_input) continue;
    const Tensor* tensor = Find(inputs, port.name);
    if (tensor == nullptr) {
      Refuse("has the input '" + port.name + "', which this runtime does not provide");
    }
    BindInput(port, *tensor, parts);
  }
  for (const Tensor& tensor : outputs) {
    const GpuPort& port = PortOfOutput(tensor);
    IsUpdate(tensor, inputs) ? BindUpdate(port, tensor, parts) : BindOutput(port, tensor, parts);
  }
  for (const GpuPort& port : program_->ports()) {
    const bool is_unread = !port.is_input && Find(outputs, port.name) == nullptr;
    if (is_unread && program_->needs_every_output()) WriteAside(port, parts);
  }
  return std::make_unique<CapturedCall>(std::move(parts));
}

const GpuPort& CapturedEngine::PortOfOutput(const Tensor& tensor) const {
  for (const GpuPort& port : program_->ports()) {
    if (!port.is_input && port.name == tensor.name) return port;
  }
  Refuse("has no output '" + tensor.name + "'");
}

void CapturedEngine::BindInput(const GpuPort& port, const Tensor& tensor,
                               CapturedParts& parts) const {
  CheckType(port, tensor);
  CheckShape(port, tensor);
  if (!parts.context->SetShape(port.name, tensor.shape)) {
    ThrowGpuError("The engine '" + name_ + "' does not take " + Spelt(tensor.shape) + " for '" +
                      port.name + "'",
                  program_->error());
  }
  if (share_->memory()->Holds(tensor.data)) return SetAddress(tensor, tensor.data, parts);
  SetAddress(tensor, CopyIn(tensor, parts), parts);
  for (const Piece& piece : tensor.pieces) TakePiece(piece, tensor, parts);
}

// Ports that share a buffer are copied at once, including the bytes between them. Returns the
// port's address on the device.
void* CapturedEngine::CopyIn(const Tensor& tensor, CapturedParts& parts) const {
  const CopiedPart part = PartOf(share_->mirrors().Of(tensor), tensor);
  void* device = part.device();
  for (CopiedPart& known : parts.inputs) {
    if (known.mirror != part.mirror) continue;
    known.begin = std::min(known.begin, part.begin);
    known.end = std::max(known.end, part.end);
    return device;
  }
  parts.inputs.push_back(part);
  return device;
}

void CapturedEngine::TakePiece(const Piece& piece, const Tensor& tensor,
                               CapturedParts& parts) const {
  const std::shared_ptr<HostMirror> to = share_->mirrors().Of(tensor);
  const std::shared_ptr<HostMirror> from = share_->mirrors().Of(piece.buffer, piece.room);
  Move move = piece.move;
  move.to = to->device(to->OffsetOf(piece.move.to));
  move.from = from->device(from->OffsetOf(piece.move.from));
  parts.pieces.push_back(move);
  parts.sources.push_back(from);
}

void CapturedEngine::BindOutput(const GpuPort& port, const Tensor& tensor,
                                CapturedParts& parts) const {
  CheckOutput(port, tensor, parts);
  if (share_->memory()->Holds(tensor.data)) return SetAddress(tensor, tensor.data, parts);
  parts.outputs.push_back(PartOf(share_->mirrors().Of(tensor), tensor));
  SetAddress(tensor, parts.outputs.back().device(), parts);
}

// Whether an output is a state that is also an input, of an engine that may still read it while
// writing.
bool CapturedEngine::IsUpdate(const Tensor& tensor, std::span<const Tensor> inputs) const {
  return !updates_in_place_ && share_->memory()->Holds(tensor.data) &&
         std::any_of(inputs.begin(), inputs.end(),
                     [&](const Tensor& input) { return input.data == tensor.data; });
}

void CapturedEngine::BindUpdate(const GpuPort& port, const Tensor& tensor, CapturedParts& parts) {
  CheckOutput(port, tensor, parts);
  parts.updates.push_back({tensor.data, 0, WriteAside(port, parts), 0, tensor.bytes(), 1});
}

// Each such output gets its own block, because the engine may read one output while it writes
// another.
void* CapturedEngine::WriteAside(const GpuPort& port, CapturedParts& parts) {
  const Tensor output{port.name, port.dtype, nullptr, parts.context->Shape(port.name)};
  std::shared_ptr<Block>& block = aside_[port.name];
  if (block == nullptr || block->size() < output.bytes()) {
    block = std::make_shared<Block>(share_->memory(), std::max<std::size_t>(output.bytes(), 1));
  }
  parts.blocks.push_back(block);
  SetAddress(output, block->data(), parts);
  return block->data();
}

void CapturedEngine::SetAddress(const Tensor& tensor, void* data, CapturedParts& parts) const {
  if (parts.context->SetAddress(tensor.name, tensor.shape, data)) return;
  ThrowGpuError("The engine '" + name_ + "' does not take the buffer of '" + tensor.name + "'",
                program_->error());
}

void CapturedEngine::CheckType(const GpuPort& port, const Tensor& tensor) const {
  if (port.dtype == tensor.dtype) return;
  Refuse("has '" + port.name + "' as " + std::string(Name(port.dtype)) + ", not " +
         std::string(Name(tensor.dtype)));
}

void CapturedEngine::CheckShape(const GpuPort& port, const Tensor& tensor) const {
  bool fits = port.least.size() == tensor.shape.size() && port.most.size() == tensor.shape.size();
  for (std::size_t i = 0; fits && i < tensor.shape.size(); ++i) {
    fits = tensor.shape[i] >= port.least[i] && tensor.shape[i] <= port.most[i];
  }
  if (fits) return;
  Refuse("takes " + Spelt(port.least) + " to " + Spelt(port.most) + " for '" + port.name +
         "', not " + Spelt(tensor.shape));
}

void CapturedEngine::CheckOutput(const GpuPort& port, const Tensor& tensor,
                                 const CapturedParts& parts) const {
  CheckType(port, tensor);
  const std::vector<std::int64_t> shape = parts.context->Shape(port.name);
  const bool fits = std::equal(
      shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end(),
      [](std::int64_t given, std::int64_t wanted) { return given == wanted || given == -1; });
  if (fits) return;
  Refuse("gives " + Spelt(shape) + " for '" + port.name + "', not " + Spelt(tensor.shape));
}

void CapturedEngine::Refuse(const std::string& what) const {
  throw Error(ErrorCode::kBackend, "The engine '" + name_ + "' " + what + ".",
              "Build again with this version of ptgc.");
}

}  // namespace ptgc
