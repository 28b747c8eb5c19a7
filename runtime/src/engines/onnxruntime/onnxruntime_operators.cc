#define ORT_API_MANUAL_INIT
#include "engines/onnxruntime/onnxruntime_operators.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "engines/onnxruntime/attention_operator.h"
#include "engines/onnxruntime/operator_inputs.h"
#include "kernels/block_product.h"

namespace ptgc {
namespace {

// Bytes of weights that are worth a turn of a thread.
constexpr std::size_t kShare = 32768;
constexpr std::int64_t kMostFeatures = std::int64_t{1} << 24;

[[noreturn]] void Refuse(const std::string& what) {
  ORT_CXX_API_THROW("ptgc: " + what, ORT_INVALID_GRAPH);
}

std::int64_t Attribute(const Ort::ConstKernelInfo& info, const char* name) {
  const auto value = info.GetAttribute<std::int64_t>(name);
  if (value < 1 || value > kMostFeatures) Refuse(std::string(name) + " is out of range");
  return value;
}

// A constant input of exactly so many entries.
Ort::ConstValue Constant(const Ort::ConstKernelInfo& info, std::size_t index, std::size_t count) {
  int is_constant = 0;
  const Ort::ConstValue value = info.GetTensorConstantInput(index, &is_constant);
  if (is_constant == 0) Refuse("weights must be constants");
  const std::size_t found = value.GetTensorTypeAndShapeInfo().GetElementCount();
  if (found != count) {
    Refuse("weights have " + std::to_string(found) + " entries instead of " +
           std::to_string(count));
  }
  return value;
}

BlockWeights WeightsOf(const Ort::ConstKernelInfo& info) {
  BlockWeights weights;
  weights.outputs = static_cast<int>(Attribute(info, "N"));
  weights.inputs = static_cast<int>(Attribute(info, "K"));
  weights.bits = static_cast<int>(Attribute(info, "bits"));
  weights.block_size = static_cast<int>(Attribute(info, "block_size"));
  if (weights.bits != 4 && weights.bits != 8) Refuse("bits must be 4 or 8");
  if (weights.block_size % 16 != 0 || weights.inputs % weights.block_size != 0) {
    Refuse("block_size must be a multiple of 16 that divides inputs");
  }
  const auto tiles = static_cast<std::size_t>(weights.tiles());
  const std::size_t num_scales =
      tiles * static_cast<std::size_t>(weights.blocks()) * BlockWeights::kTile;
  weights.values = Constant(info, 1, tiles * weights.tile_bytes()).GetTensorData<std::uint8_t>();
  const Ort::ConstValue scales = Constant(info, 2, num_scales);
  const auto type = scales.GetTensorTypeAndShapeInfo().GetElementType();
  weights.has_half_scales = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
  if (!weights.has_half_scales && type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    Refuse("scales must be float or float16");
  }
  weights.scales = scales.GetTensorRawData();
  for (std::size_t i = 0; i < num_scales; ++i) {
    if (!std::isfinite(weights.Scale(i))) Refuse("weights have a scale that is no finite number");
  }
  return weights;
}

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

// The values of an input, which are as many as the weights say; null if it is absent.
const float* Vector(const Ort::KernelContext& context, std::size_t index, int size) {
  const Ort::ConstValue value = OptionalInput(context, index);
  if (!value) return nullptr;
  if (value.GetTensorTypeAndShapeInfo().GetElementCount() != Size(size)) {
    Refuse("a bias or norm has another size than the weights");
  }
  return value.GetTensorData<float>();
}

// Memory of a thread that grows to what was needed most.
float* Scratch(std::size_t bytes) {
  thread_local std::vector<float> memory;
  const std::size_t floats = (bytes + sizeof(float) - 1) / sizeof(float);
  if (memory.size() < floats) memory.resize(floats);
  return memory.data();
}

// Rows before a product, as the threads see them.
struct RowsBefore {
  static constexpr int kAtOnce = 8;  // Fewer are not worth a turn of a thread.

  const BlockKernels& kernels;
  const BlockWeights& weights;
  const float* rows;
  RowsToNormalize norm;  // Without weights if rows are not normalised.
  QuantizedRows rounded;

  static void Run(void* data, std::size_t share) {
    const RowsBefore& own = *static_cast<const RowsBefore*>(data);
    const int first = static_cast<int>(share) * kAtOnce;
    own.Take(first, std::min(kAtOnce, own.rounded.count - first));
  }

  // Normalises and rounds `count` rows.
  void Take(int first, int count) const {
    const std::size_t at = Size(first) * Size(weights.inputs);
    const std::size_t block = Size(first) * Size(weights.blocks());
    const float* from = rows + at;
    if (norm.weights != nullptr) {
      RowsToNormalize task = norm;
      task.count = count;
      task.rows = from;
      task.out += at;
      if (task.added != nullptr) {
        task.added += at;
        task.sums += at;
      }
      kernels.normalize(task);
      from = task.out;
    }
    kernels.quantize(from, weights,
                     {count, rounded.values + at, rounded.scales + block, rounded.starts + block});
  }
};

// One product, as the threads see it.
struct Product {
  const BlockKernels& kernels;
  BlockWeights weights;
  QuantizedRows rows;
  float* products;  // [rows, outputs]
  float* gated;     // [rows, outputs / 2]; null if products are the result.
  int tiles_per_share;

  static void Run(void* data, std::size_t share) {
    const Product& own = *static_cast<const Product*>(data);
    const int first = static_cast<int>(share) * own.tiles_per_share;
    const int last = std::min(first + own.tiles_per_share, own.weights.tiles());
    own.kernels.multiply(own.weights, own.rows, first, last, own.products);
    if (own.gated != nullptr) {
      own.kernels.gate(own.products, own.rows.count, own.weights.outputs, first, last, own.gated);
    }
  }
};

class BlockProductKernel {
 public:
  explicit BlockProductKernel(const OrtKernelInfo* raw) : kernels_(ChosenBlockKernels()) {
    const Ort::ConstKernelInfo info(raw);
    weights_ = WeightsOf(info);
    is_gated_ = info.GetAttribute<std::int64_t>("gated") != 0;
    epsilon_ = info.GetAttribute<float>("epsilon");
    if (is_gated_ && weights_.outputs % (2 * BlockWeights::kTile) != 0) {
      Refuse("gates and what they gate must be whole tiles");
    }
  }

  void Compute(OrtKernelContext* raw) {
    const Ort::KernelContext context(raw);
    const Ort::ConstValue input = context.GetInput(0);
    const auto about = input.GetTensorTypeAndShapeInfo();
    std::vector<std::int64_t> shape = about.GetShape();
    if (shape.empty() || shape.back() != weights_.inputs) {
      Refuse("rows have another size than the weights");
    }
    const std::size_t count = about.GetElementCount() / Size(weights_.inputs);
    const int total = static_cast<int>(count);
    Product product{kernels_, weights_, {}, nullptr, nullptr, 1};
    product.weights.bias = Vector(context, 3, weights_.outputs);

    // Scratch: what is rounded, the normalised rows, the products that are gated.
    const float* norm = Vector(context, 5, weights_.inputs);
    const std::size_t normalized = norm != nullptr ? count * Size(weights_.inputs) : 0;
    const std::size_t ungated = is_gated_ ? count * Size(weights_.outputs) : 0;
    const std::size_t rounded = QuantizedBytes(weights_, total);
    float* scratch = Scratch((normalized + ungated) * sizeof(float) + rounded);
    product.rows = QuantizedAt(scratch + normalized + ungated, weights_, total);
    const RowsToNormalize norm_task =
        norm != nullptr ? Normalization(context, shape, norm, scratch) : RowsToNormalize{};
    RowsBefore before{kernels_, weights_, input.GetTensorData<float>(), norm_task, product.rows};
    shape.back() = is_gated_ ? weights_.outputs / 2 : weights_.outputs;
    float* out = context.GetOutput(0, shape).GetTensorMutableData<float>();
    if (count == 0) return;
    product.products = is_gated_ ? scratch + normalized : out;
    product.gated = is_gated_ ? out : nullptr;
    if (count <= RowsBefore::kAtOnce) {
      before.Take(0, total);
    } else {
      const std::size_t shares = (count + RowsBefore::kAtOnce - 1) / RowsBefore::kAtOnce;
      context.ParallelFor(&RowsBefore::Run, shares, 0, &before);
    }
    const std::size_t tiles = kShare / (weights_.tile_bytes() * ((count + 7) / 8));
    product.tiles_per_share =
        static_cast<int>(std::max<std::size_t>(tiles / 2 * 2, is_gated_ ? 2 : 1));
    const int shares = (weights_.tiles() + product.tiles_per_share - 1) / product.tiles_per_share;
    context.ParallelFor(&Product::Run, static_cast<std::size_t>(shares), 0, &product);
  }

 private:
  // What is done to rows of that shape before they are rounded.
  RowsToNormalize Normalization(const Ort::KernelContext& context,
                                const std::vector<std::int64_t>& shape, const float* weights,
                                float* out) const {
    RowsToNormalize task;
    task.size = weights_.inputs;
    task.weights = weights;
    task.epsilon = epsilon_;
    task.out = out;
    if (const Ort::ConstValue added = OptionalInput(context, 4)) {
      if (added.GetTensorTypeAndShapeInfo().GetShape() != shape) {
        Refuse("rows have another shape than what is added to them");
      }
      task.added = added.GetTensorData<float>();
      task.sums = context.GetOutput(1, shape).GetTensorMutableData<float>();
    }
    return task;
  }

  BlockWeights weights_;         // In the graph's own memory.
  const BlockKernels& kernels_;  // Of this machine.
  bool is_gated_ = false;
  float epsilon_ = 0;
};

class BlockGatherKernel {
 public:
  explicit BlockGatherKernel(const OrtKernelInfo* info)
      : weights_(WeightsOf(Ort::ConstKernelInfo(info))) {}

  void Compute(OrtKernelContext* raw) {
    const Ort::KernelContext context(raw);
    const Ort::ConstValue ids = context.GetInput(0);
    std::vector<std::int64_t> shape = ids.GetTensorTypeAndShapeInfo().GetShape();
    const std::size_t count = ids.GetTensorTypeAndShapeInfo().GetElementCount();
    shape.push_back(weights_.inputs);
    float* out = context.GetOutput(0, shape).GetTensorMutableData<float>();
    for (std::size_t i = 0; i < count; ++i) {
      std::int64_t id = ids.GetTensorData<std::int64_t>()[i];
      if (id < 0) id += weights_.outputs;
      if (id < 0 || id >= weights_.outputs) Refuse("there is no row " + std::to_string(id));
      ReadOutput(weights_, static_cast<int>(id),
                 out + i * static_cast<std::size_t>(weights_.inputs));
    }
  }

 private:
  BlockWeights weights_;  // In the graph's own memory.
};

class RowArgMaxKernel {
 public:
  explicit RowArgMaxKernel(const OrtKernelInfo* /*info*/) : kernels_(ChosenBlockKernels()) {}

  void Compute(OrtKernelContext* raw) {
    const Ort::KernelContext context(raw);
    const Ort::ConstValue rows = context.GetInput(0);
    const auto about = rows.GetTensorTypeAndShapeInfo();
    std::vector<std::int64_t> shape = about.GetShape();
    if (shape.empty() || shape.back() < 1 || shape.back() > kMostFeatures) {
      Refuse("a row must have 1 to " + std::to_string(kMostFeatures) + " values");
    }
    const int size = static_cast<int>(shape.back());
    shape.pop_back();
    const std::size_t count = about.GetElementCount() / Size(size);
    Task task{kernels_, rows.GetTensorData<float>(), size,
              context.GetOutput(0, shape).GetTensorMutableData<std::int64_t>()};
    if (count == 1) {
      Task::Run(&task, 0);
    } else if (count > 1) {
      context.ParallelFor(&Task::Run, count, 0, &task);
    }
  }

 private:
  struct Task {
    const BlockKernels& kernels;
    const float* rows;
    int size;
    std::int64_t* out;

    static void Run(void* data, std::size_t row) {
      const Task& own = *static_cast<const Task*>(data);
      own.out[row] = own.kernels.largest(own.rows + row * Size(own.size), own.size);
    }
  };

  const BlockKernels& kernels_;  // Of this machine.
};

template <typename Operator, typename Kernel>
struct OperatorBase : Ort::CustomOpBase<Operator, Kernel> {
  void* CreateKernel(const OrtApi& /*api*/, const OrtKernelInfo* info) const {
    return new Kernel(info);
  }
  std::size_t GetOutputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetOutputType(std::size_t /*index*/) const {
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  }
};

struct BlockProduct : OperatorBase<BlockProduct, BlockProductKernel> {
  const char* GetName() const { return "BlockProduct"; }
  std::size_t GetInputTypeCount() const { return 6; }
  ONNXTensorElementDataType GetInputType(std::size_t index) const {
    if (index == 1) return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    return index == 2 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED
                      : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(std::size_t index) const {
    return index >= 3 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }
  std::size_t GetOutputTypeCount() const { return 2; }
  OrtCustomOpInputOutputCharacteristic GetOutputCharacteristic(std::size_t index) const {
    return index == 1 ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  }
};

struct BlockGather : OperatorBase<BlockGather, BlockGatherKernel> {
  const char* GetName() const { return "BlockGather"; }
  std::size_t GetInputTypeCount() const { return 3; }
  ONNXTensorElementDataType GetInputType(std::size_t index) const {
    constexpr ONNXTensorElementDataType kTypes[] = {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
                                                    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
                                                    ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED};
    return kTypes[index];
  }
};

struct RowArgMax : OperatorBase<RowArgMax, RowArgMaxKernel> {
  const char* GetName() const { return "RowArgMax"; }
  std::size_t GetInputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetInputType(std::size_t /*index*/) const {
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  }
  ONNXTensorElementDataType GetOutputType(std::size_t /*index*/) const {
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  }
};

// Never destroyed: sessions may outlive static objects.
OrtCustomOpDomain* Domain() {
  static OrtCustomOpDomain* const domain = [] {
    auto* made = new Ort::CustomOpDomain("ptgc");
    made->Add(new BlockProduct);
    made->Add(new BlockGather);
    made->Add(new RowArgMax);
    made->Add(new CachedAttention<ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT>);
    made->Add(new CachedAttention<ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16>);
    return static_cast<OrtCustomOpDomain*>(*made);
  }();
  return domain;
}

}  // namespace

void AddOperators(Ort::SessionOptions& options) { options.Add(Domain()); }

void AddOperators(OrtSessionOptions* options, const OrtApi& api) {
  if (Ort::Global<void>::api_ == nullptr) Ort::InitApi(&api);
  if (&Ort::GetApi() != &api) {
    throw std::runtime_error("ptgc already runs another ONNX Runtime here");
  }
  Ort::ThrowOnError(Ort::GetApi().AddCustomOpDomain(options, Domain()));
}

}  // namespace ptgc
