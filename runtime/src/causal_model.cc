#include "causal_model.h"

#include <algorithm>
#include <utility>

#include "clock.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

DType LogitsType(const Role& role) {
  const auto port = std::find_if(role.outputs.begin(), role.outputs.end(),
                                 [](const Port& output) { return output.name == "logits"; });
  return port == role.outputs.end() ? DType::kFloat32 : port->dtype;
}

}  // namespace

CausalModel::CausalModel(std::unique_ptr<Engine> engine, const Role& role, const ShapePlan& shapes,
                         std::int64_t vocab_size, std::vector<Tensor> fixed_inputs)
    : engine_(std::move(engine)),
      shapes_(shapes),
      vocab_size_(vocab_size),
      logits_dtype_(LogitsType(role)),
      kv_cache_(role.states, shapes, engine_->memory()),
      fixed_inputs_(std::move(fixed_inputs)),
      has_tree_mask_(engine_->HasInput("tree_mask")) {
  const std::size_t batch = Size(shapes.batch);
  const std::size_t tokens = batch * Size(shapes.widths.back());
  const std::size_t logits = batch * Size(shapes.LogitsFor(shapes.widths.back()));
  input_ids_ = Buffer(tokens * sizeof(TokenId));
  position_ids_ = Buffer(tokens * sizeof(std::int64_t));
  tree_mask_ = Buffer(tokens * Size(shapes.widths.back()));
  write_index_ = Buffer(batch * sizeof(std::int64_t));
  row_count_ = Buffer(batch * sizeof(std::int64_t));
  logits_rows_ = Buffer(logits * sizeof(std::int64_t));
  next_ids_ = Buffer(logits * sizeof(TokenId));
  logits_ = Buffer(logits * static_cast<std::size_t>(vocab_size) * ItemSize(logits_dtype_));
  calls_.resize(shapes.kv_capacities.size() * shapes.widths.size() * 4);
}

void CausalModel::Forward(std::span<const RowInput> rows, int width, Wanted wanted) {
  width_ = width;
  num_logits_ = wanted.num_logits;
  int length = 0;
  for (const RowInput& row : rows) length = std::max(length, row.write_index);
  kv_cache_.Grow(length + width, length);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    kv_cache_.Slide(static_cast<int>(row), rows[row].write_index, width);
    FillRow(row, rows[row]);
    if (has_tree_mask_) FillTreeMask(row, rows[row]);
  }
  Call& call = BoundCall(width, wanted);
  const Clock::time_point start = Clock::now();
  call.Run();
  engine_seconds_ = SecondsSince(start);
}

std::span<const TokenId> CausalModel::NextIds(int row) const {
  return {next_ids_.As<const TokenId>() + Size(row) * Size(num_logits_), Size(num_logits_)};
}

LogitsRow CausalModel::Logits(int row, int index) const {
  const std::size_t row_bytes = static_cast<std::size_t>(vocab_size_) * ItemSize(logits_dtype_);
  const std::size_t at = Size(row) * Size(num_logits_) + Size(index);
  return {logits_.As<char>() + at * row_bytes, logits_dtype_, vocab_size_};
}

std::vector<double> CausalModel::Measure(int num_tokens, int num_logits, int past_length,
                                         int repeats) {
  // Positions end with the longest text; what is wider is padding, and costs the same.
  const int count = std::min(num_tokens, shapes_.max_length);
  const std::vector<TokenId> tokens(Size(count), 0);
  RowInput input;
  input.tokens = tokens;
  input.write_index = std::min(past_length, shapes_.max_length - count);
  const std::vector<RowInput> inputs(Size(shapes_.batch), input);
  for (int row = 0; row < shapes_.batch; ++row) kv_cache_.Begin(row);
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    Forward(inputs, num_tokens, {num_logits, false});
    seconds.push_back(engine_seconds_);
  }
  return seconds;
}

void CausalModel::FillRow(std::size_t row, const RowInput& input) {
  const std::size_t width = Size(width_);
  const std::size_t chunk = input.tokens.size();
  const std::size_t count = Size(input.count());
  TokenId* ids = input_ids_.As<TokenId>() + row * width;
  std::copy(input.tokens.begin(), input.tokens.end(), ids);
  std::copy(input.drafts.begin(), input.drafts.end(), ids + chunk);
  std::fill(ids + count, ids + width, 0);

  // Padded rows repeat the last valid position, so that no table of positions is exceeded.
  std::int64_t* positions = position_ids_.As<std::int64_t>() + row * width;
  for (std::size_t t = 0; t < chunk; ++t) positions[t] = input.write_index + static_cast<int>(t);
  for (std::size_t t = chunk; t < count; ++t) {
    positions[t] = positions[chunk - 1] + input.tree->depth(static_cast<int>(t - chunk) + 1);
  }
  const std::int64_t last = count > 0 ? positions[count - 1] : std::max(input.write_index - 1, 0);
  std::fill(positions + count, positions + width, last);

  write_index_.As<std::int64_t>()[row] = input.write_index;
  row_count_.As<std::int64_t>()[row] = input.count();
  const int first = std::max(static_cast<int>(chunk) - 1, 0);
  const int end = std::max(input.count() - 1, 0);
  std::int64_t* logits_rows = logits_rows_.As<std::int64_t>() + row * Size(num_logits_);
  for (int r = 0; r < num_logits_; ++r) logits_rows[r] = std::min(first + r, end);
}

// Text sees the text before it, a draft its ancestors, padding itself only.
//
//            t0 t1 d1 d2  p        tokens t0 t1, drafts d1 and d2 both after t1, one padded row
//        t0   x
//        t1   x  x
//        d1   x  x  x
//        d2   x  x     x
//        p                x
void CausalModel::FillTreeMask(std::size_t row, const RowInput& input) {
  const std::size_t width = Size(width_);
  const std::size_t chunk = input.tokens.size();
  const std::size_t count = Size(input.count());
  bool* mask = tree_mask_.As<bool>() + row * width * width;
  std::fill(mask, mask + width * width, false);
  for (std::size_t t = 0; t < width; ++t, mask += width) {
    mask[t] = true;
    if (t < count) std::fill(mask, mask + std::min(t, chunk), true);
    if (t < chunk || t >= count) continue;
    const int node = static_cast<int>(t - chunk) + 1;
    for (int other = 1; other < node; ++other) {
      mask[chunk - 1 + Size(other)] = input.tree->Sees(node, other);
    }
  }
}

Call& CausalModel::BoundCall(int width, Wanted wanted) {
  const auto at = std::lower_bound(shapes_.widths.begin(), shapes_.widths.end(), width);
  const std::size_t index = Size(static_cast<int>(at - shapes_.widths.begin()));
  const std::size_t kind = (wanted.num_logits > 1 ? 2 : 0) + (wanted.logits ? 1 : 0);
  std::unique_ptr<Call>& call =
      calls_[(kv_cache_.active() * shapes_.widths.size() + index) * 4 + kind];
  if (call != nullptr) return *call;
  const std::int64_t batch = shapes_.batch;
  constexpr DType kInt64 = DType::kInt64;
  std::vector<Tensor> inputs = {
      PortOf(input_ids_, "input_ids", kInt64, {batch, width}),
      PortOf(position_ids_, "position_ids", kInt64, {batch, width}),
      PortOf(tree_mask_, "tree_mask", DType::kBool, {batch, width, width}),
      PortOf(write_index_, "write_index", kInt64, {batch}),
      PortOf(row_count_, "row_count", kInt64, {batch}),
      PortOf(logits_rows_, "logits_rows", kInt64, {batch, wanted.num_logits}),
      PortOf(kv_cache_.window_offset_port(), "window_offset", kInt64, {batch}),
  };
  inputs.insert(inputs.end(), fixed_inputs_.begin(), fixed_inputs_.end());
  kv_cache_.AppendPast(inputs);
  std::vector<Tensor> outputs = {PortOf(next_ids_, "next_ids", kInt64, {batch, wanted.num_logits})};
  if (wanted.logits) {
    outputs.push_back(
        PortOf(logits_, "logits", logits_dtype_, {batch, wanted.num_logits, vocab_size_}));
  }
  kv_cache_.AppendPresent(outputs);
  call = engine_->Bind(inputs, outputs);
  return *call;
}

}  // namespace ptgc
