#include "models/causal_ports.h"

#include <algorithm>

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

// An alignment that every vendor's engines accept.
constexpr std::size_t kAlignment = 256;

}  // namespace

CausalPorts::CausalPorts(int batch, int width, int num_logits, bool has_tree_mask, int mask_extra)
    : batch_(batch),
      has_tree_mask_(has_tree_mask),
      mask_extra_(mask_extra),
      offsets_(Layout(batch, width, num_logits, has_tree_mask ? width + mask_extra : 0)),
      inputs_(offsets_.end),
      next_ids_(Size(batch) * Size(num_logits) * sizeof(TokenId)) {}

CausalPorts::Offsets CausalPorts::Layout(int batch, int width, int num_logits, int mask_slots) {
  Offsets offsets;
  std::size_t end = 0;
  const auto take = [&](std::size_t bytes) {
    const std::size_t begin = end;
    end += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return begin;
  };
  const std::size_t number = sizeof(std::int64_t), rows = Size(batch), tokens = rows * Size(width);
  offsets.write_index = take(rows * number);
  offsets.mask_start = take(rows * number);
  offsets.row_count = take(rows * number);
  offsets.window_offset = take(rows * number);
  offsets.logits_rows = take(rows * Size(num_logits) * number);
  offsets.position_ids = take(tokens * number);
  offsets.input_ids = take(tokens * number);
  offsets.tree_mask = take(tokens * Size(mask_slots));
  offsets.end = end;
  return offsets;
}

void CausalPorts::Fill(int row, const RowInput& input, int width, int num_logits,
                       int window_offset) {
  const std::size_t chunk = input.tokens.size();
  const std::size_t count = Size(input.count());
  TokenId* ids = Numbers(offsets_.input_ids) + row * width;
  std::copy(input.tokens.begin(), input.tokens.end(), ids);
  std::copy(input.drafts.begin(), input.drafts.end(), ids + chunk);
  std::fill(ids + count, ids + width, 0);

  // Padded rows repeat the last valid position, so that they stay within tables of positions.
  std::int64_t* positions = Numbers(offsets_.position_ids) + row * width;
  for (std::size_t t = 0; t < chunk; ++t) {
    positions[t] =
        input.positions.empty() ? input.write_index + static_cast<int>(t) : input.positions[t];
  }
  const std::int64_t root = input.write_index + static_cast<std::int64_t>(chunk) - 1;
  for (std::size_t t = chunk; t < count; ++t) {
    positions[t] = root + input.tree->depth(static_cast<int>(t - chunk) + input.first_node);
  }
  const std::int64_t last = count > 0 ? positions[count - 1] : std::max(input.write_index - 1, 0);
  std::fill(positions + count, positions + width, last);

  Numbers(offsets_.write_index)[row] = input.first_slot();
  Numbers(offsets_.mask_start)[row] = input.seen > 0 ? input.seen : input.write_index;
  Numbers(offsets_.row_count)[row] = input.count();
  Numbers(offsets_.window_offset)[row] = window_offset;
  const int first = input.first_logits.value_or(std::max(static_cast<int>(chunk) - 1, 0));
  const int end = std::max(input.count() - 1, 0);
  std::int64_t* logits_rows = Numbers(offsets_.logits_rows) + row * num_logits;
  for (int r = 0; r < num_logits; ++r) {
    logits_rows[r] = std::clamp(first + r, input.least_logits, end);
  }
  if (has_tree_mask_) FillTreeMask(row, input, width);
}

// Text sees the text before it, and with blocks also its own block. A draft sees its ancestors, or
// with blocks what text would see. Padding sees only itself.
//
//            t0 t1 d1 d2  p        tokens t0 t1, drafts d1 and d2 both after t1, one padded row
//        t0   x
//        t1   x  x
//        d1   x  x  x
//        d2   x  x     x
//        p                x
//
// If earlier runs wrote nodes, the first columns are theirs. Rows see nothing of the last columns,
// which this round does not write. Where all rows see the whole round, the mask covers nothing.
void CausalPorts::FillTreeMask(int row, const RowInput& input, int num_tokens) {
  const std::size_t width = Size(num_tokens), slots = width + Size(mask_extra_);
  const std::size_t before = Size(input.first_node - 1);  // Nodes that earlier runs wrote.
  const std::size_t chunk = input.tokens.size();
  const std::size_t count = Size(input.count());
  const std::size_t block = Size(input.block_length);
  bool* mask = inputs_.As<bool>() + offsets_.tree_mask + Size(row) * width * slots;
  std::fill(mask, mask + width * slots, false);
  for (std::size_t t = 0; t < width; ++t, mask += slots) {
    if (before + t < slots && input.seen == 0) mask[before + t] = true;
    if (t >= count || input.seen > 0) continue;
    if (block > 0) {
      std::fill(mask, mask + std::min((t / block + 1) * block, count), true);
      continue;
    }
    std::fill(mask, mask + std::min(t, chunk), true);
    if (t < chunk) continue;
    const int node = static_cast<int>(t - chunk) + input.first_node;
    for (int other = 1; other < node; ++other) {
      mask[chunk + Size(other) - 1] = input.tree->Sees(node, other);
    }
  }
}

std::vector<Tensor> CausalPorts::Inputs(int width, int num_logits,
                                        std::span<const Tensor> handed_on, int first) const {
  constexpr DType kInt64 = DType::kInt64;
  const std::int64_t batch = batch_;
  const auto port = [&](const char* name, std::vector<std::int64_t> shape, std::size_t offset) {
    return PortOf(inputs_, name, kInt64, std::move(shape), offset);
  };
  std::vector<Tensor> inputs = {
      port("input_ids", {batch, width}, offsets_.input_ids),
      port("position_ids", {batch, width}, offsets_.position_ids),
      port("write_index", {batch}, offsets_.write_index),
      port("mask_start", {batch}, offsets_.mask_start),
      port("row_count", {batch}, offsets_.row_count),
      port("logits_rows", {batch, num_logits}, offsets_.logits_rows),
      port("window_offset", {batch}, offsets_.window_offset),
  };
  if (has_tree_mask_) {
    inputs.push_back(PortOf(inputs_, "tree_mask", DType::kBool, {batch, width, width + mask_extra_},
                            offsets_.tree_mask));
  }
  TokenId* ids = static_cast<TokenId*>(inputs.front().data);
  for (std::size_t i = 0; i < handed_on.size() && Size(first) + i < Size(width); ++i) {
    const Tensor& from = handed_on[i];
    inputs.front().pieces.push_back({{ids + Size(first) + i, Size(width) * sizeof(TokenId),
                                      from.data, sizeof(TokenId), sizeof(TokenId), Size(batch_)},
                                     from.buffer,
                                     from.room});
  }
  return inputs;
}

Tensor CausalPorts::NextIds(int num_logits) const {
  return PortOf(next_ids_, "next_ids", DType::kInt64, {batch_, num_logits});
}

std::span<const TokenId> CausalPorts::NextIdsOf(int row, int num_logits) const {
  return {next_ids_.As<const TokenId>() + Size(row) * Size(num_logits), Size(num_logits)};
}

}  // namespace ptgc
