#define ORT_API_MANUAL_INIT
#include "engines/onnxruntime/attention_operator.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <string>

#include "engines/onnxruntime/operator_inputs.h"

namespace ptgc {
namespace {

constexpr std::int64_t kFewShares = 6;  // Of work, for as many threads as small machines have.

std::size_t Size(std::int64_t value) { return static_cast<std::size_t>(value); }

[[noreturn]] void Refuse(const std::string& what) {
  ORT_CXX_API_THROW("ptgc: " + what, ORT_INVALID_ARGUMENT);
}

// One round of all texts.
struct Round {
  std::int64_t batch, rows, slots, mask_slots;
  std::int64_t num_heads, kv_num_heads, head_dim, rotary_dim, positions;
  const float *query, *key, *value;
  std::int64_t query_stride, key_stride;  // From row to row.
  const std::int64_t *position_ids, *write_index, *mask_start, *row_count, *window_offset;
  const bool* tree_mask;
  const float *cos, *sin;
  void *keys, *values;
  bool is_half;  // Whether keys and values are float16.
  float* out;
  int window;
  bool is_causal;

  std::int64_t Position(std::int64_t b, std::int64_t row) const {
    return position_ids[b * rows + row];
  }
  std::int64_t Offset(std::int64_t b) const {
    return window_offset == nullptr ? 0 : window_offset[b];
  }
  std::int64_t group() const { return num_heads / kv_num_heads; }
};

// Copies a head of a row, and turns it to its position.
void Rotate(const Round& round, const float* from, std::int64_t position, float* to) {
  std::copy(from, from + round.head_dim, to);
  if (round.cos == nullptr) return;
  const std::int64_t half = round.rotary_dim / 2;
  const std::int64_t at = std::clamp<std::int64_t>(position, 0, round.positions - 1) * half;
  for (std::int64_t d = 0; d < half; ++d) {
    const float cos = round.cos[at + d], sin = round.sin[at + d];
    to[d] = from[d] * cos - from[half + d] * sin;
    to[half + d] = from[half + d] * cos + from[d] * sin;
  }
}

// An entry of a cache.
void* At(const Round& round, void* cache, std::int64_t index) {
  return static_cast<char*>(cache) + index * (round.is_half ? 2 : 4);
}

// Writes the keys and values of a text's rows to its caches.
void WriteRows(const Round& round, std::int64_t b, const AttentionKernel& kernel) {
  thread_local std::vector<float> rotated;
  rotated.resize(Size(round.head_dim));
  const auto write = [&](const float* from, void* to) {
    if (round.is_half) {
      kernel.narrow(from, static_cast<int>(round.head_dim), static_cast<std::uint16_t*>(to));
    } else {
      std::copy(from, from + round.head_dim, static_cast<float*>(to));
    }
  };
  const std::int64_t first = round.write_index[b] - round.Offset(b);
  const std::int64_t count = std::min(round.rows, round.slots - first);
  if (first < 0) Refuse("a round is written before its cache");
  for (std::int64_t head = 0; head < round.kv_num_heads; ++head) {
    const std::int64_t cache =
        ((b * round.kv_num_heads + head) * round.slots + first) * round.head_dim;
    for (std::int64_t row = 0; row < count; ++row) {
      const std::int64_t from = (b * round.rows + row) * round.key_stride + head * round.head_dim;
      const std::int64_t to = cache + row * round.head_dim;
      Rotate(round, round.key + from, round.Position(b, row), rotated.data());
      write(rotated.data(), At(round, round.keys, to));
      write(round.value + from, At(round, round.values, to));
    }
  }
}

// What a valid row sees of its caches; slots after the range are added to `others`.
SeenSlots Seen(const Round& round, std::int64_t b, std::int64_t row,
               std::vector<std::int32_t>& others) {
  const std::int64_t offset = round.Offset(b), start = round.mask_start[b];
  const std::int64_t position = round.Position(b, row);
  SeenSlots seen;
  seen.end = static_cast<int>(std::max<std::int64_t>(start - offset, 0));
  if (round.window > 0) {
    seen.begin = static_cast<int>(
        std::clamp<std::int64_t>(position - round.window + 1 - offset, 0, seen.end));
  }
  const std::size_t first = others.size();
  const std::int64_t before = round.write_index[b] - start;  // Slots of the mask before the round.
  const bool* mask = round.tree_mask;
  if (mask != nullptr) mask += (b * round.rows + row) * round.mask_slots;
  const std::int64_t own = before + row + 1;
  const std::int64_t shown = round.is_causal ? own : std::max(round.mask_slots, own);
  const std::int64_t last =
      std::min(shown, round.slots - start + offset);  // Behind it is no cache.
  for (std::int64_t u = std::max<std::int64_t>(0, offset - start); u < last; ++u) {
    const std::int64_t other = u - before;  // The row of the slot.
    const bool is_row = other >= 0 && other < round.rows;
    const bool is_shown = mask == nullptr || (u < round.mask_slots && mask[u]);
    if (other != row && (!is_shown || (is_row && other >= round.row_count[b]))) continue;
    if (round.window > 0 && is_row && position - round.Position(b, other) >= round.window) continue;
    const int slot = static_cast<int>(start - offset + u);
    if (slot == seen.end && others.size() == first) {
      ++seen.end;  // Rows of a chain follow the text.
    } else {
      others.push_back(slot);
    }
  }
  seen.others = std::span(others).subspan(first);
  return seen;
}

// Queries of one text that read the same head of its caches.
struct Share {
  const Round* round;
  const AttentionKernel* kernel;
  float scale, softcap;
  std::int64_t queries_at_once;  // Of a text and a head of its caches.
  std::int64_t shares_per_head;
  std::size_t most_seen;
  const std::vector<SeenSlots>* seen;  // [batch, rows]

  static void Run(void* data, std::size_t index);
};

void Share::Run(void* data, std::size_t index) {
  const Share& own = *static_cast<const Share*>(data);
  const Round& round = *own.round;
  const auto at = static_cast<std::int64_t>(index);
  const std::int64_t b = at / (round.kv_num_heads * own.shares_per_head);
  const std::int64_t kv_head = at / own.shares_per_head % round.kv_num_heads;
  const std::int64_t valid = std::clamp<std::int64_t>(round.row_count[b], 0, round.rows);
  const std::int64_t first = at % own.shares_per_head * own.queries_at_once;
  const std::int64_t last = std::min(first + own.queries_at_once, valid * round.group());
  if (first >= last) return;
  thread_local std::vector<float> memory;
  const std::size_t count = Size(last - first), dim = Size(round.head_dim);
  const std::size_t needed = count * (own.most_seen + dim) + kSlotsAtOnce * dim;
  if (memory.size() < needed) memory.resize(needed);
  float* rotated = memory.data() + count * own.most_seen;
  const float* queries[kMostQueries];
  float* out[kMostQueries];
  const SeenSlots* seen[kMostQueries];
  for (std::int64_t query = first; query < last; ++query) {
    const std::size_t i = Size(query - first);
    const std::int64_t row = query / round.group(),
                       head = kv_head * round.group() + query % round.group();
    const std::int64_t flat = b * round.rows + row, from = head * round.head_dim;
    Rotate(round, round.query + flat * round.query_stride + from, round.Position(b, row),
           rotated + i * dim);
    queries[i] = rotated + i * dim;
    out[i] = round.out + flat * round.num_heads * round.head_dim + from;
    seen[i] = &(*own.seen)[Size(b * round.rows + row)];
  }
  AttentionTask task;
  task.head_dim = static_cast<int>(round.head_dim);
  task.scale = own.scale;
  task.softcap = own.softcap;
  task.count = static_cast<int>(count);
  task.queries = queries;
  task.out = out;
  task.seen = seen;
  const std::int64_t cache = (b * round.kv_num_heads + kv_head) * round.slots * round.head_dim;
  task.keys = At(round, round.keys, cache);
  task.values = At(round, round.values, cache);
  task.is_half = round.is_half;
  task.scores = memory.data();
  task.widened = rotated + count * dim;
  task.most_seen = own.most_seen;
  own.kernel->attend(task);
}

// The cache that goes out: the one that came in, unless it has another address.
void* Present(const Ort::KernelContext& context, std::size_t input, std::size_t output,
              bool is_half) {
  const Ort::ConstValue past = context.GetInput(input);
  const auto about = past.GetTensorTypeAndShapeInfo();
  const auto type =
      is_half ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16 : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  if (about.GetElementType() != type) Refuse("caches must be float or float16, keys as values");
  void* present = context.GetOutput(output, about.GetShape()).GetTensorMutableRawData();
  const void* from = past.GetTensorRawData();
  if (present != from) std::memcpy(present, from, about.GetElementCount() * (is_half ? 2 : 4));
  return present;
}

}  // namespace

CachedAttentionKernel::CachedAttentionKernel(const OrtKernelInfo* raw)
    : kernel_(ChosenAttentionKernel()) {
  const Ort::ConstKernelInfo info(raw);
  num_heads_ = static_cast<int>(info.GetAttribute<std::int64_t>("num_heads"));
  kv_num_heads_ = static_cast<int>(info.GetAttribute<std::int64_t>("kv_num_heads"));
  scale_ = info.GetAttribute<float>("scale");
  softcap_ = info.GetAttribute<float>("softcap");
  window_ = static_cast<int>(info.GetAttribute<std::int64_t>("window"));
  is_causal_ = info.GetAttribute<std::int64_t>("causal") != 0;
  if (kv_num_heads_ < 1 || num_heads_ < kv_num_heads_ || num_heads_ % kv_num_heads_ != 0) {
    Refuse("num_heads is no multiple of kv_num_heads");
  }
}

void CachedAttentionKernel::Compute(OrtKernelContext* raw) {
  const Ort::KernelContext context(raw);
  const auto past = context.GetInput(3).GetTensorTypeAndShapeInfo().GetShape();
  auto shape = context.GetInput(0).GetTensorTypeAndShapeInfo().GetShape();
  Round round{};
  round.batch = shape[0];
  round.rows = shape[1];
  round.num_heads = num_heads_;
  round.kv_num_heads = kv_num_heads_;
  round.slots = past[2];
  round.head_dim = past[3];
  round.window = window_;
  round.is_causal = is_causal_;
  const std::int64_t query_size = round.num_heads * round.head_dim;
  const std::int64_t key_size = round.kv_num_heads * round.head_dim;
  round.query = context.GetInput(0).GetTensorData<float>();
  round.key = OptionalValues<float>(context, 1);
  round.value = OptionalValues<float>(context, 2);
  round.query_stride = shape[2];
  round.key_stride = key_size;
  const bool is_packed = round.key == nullptr;
  if (shape[2] != query_size + (is_packed ? 2 * key_size : 0)) {
    Refuse("heads have another size than the cache");
  }
  if (is_packed) {
    round.key = round.query + query_size;
    round.value = round.key + key_size;
    round.key_stride = shape[2];
  }
  shape[2] = query_size;
  round.position_ids = OptionalValues<std::int64_t>(context, 5);
  round.write_index = OptionalValues<std::int64_t>(context, 6);
  round.mask_start = OptionalValues<std::int64_t>(context, 7);
  round.row_count = OptionalValues<std::int64_t>(context, 8);
  round.tree_mask = OptionalValues<bool>(context, 9);
  if (round.tree_mask != nullptr) {
    round.mask_slots = context.GetInput(9).GetTensorTypeAndShapeInfo().GetShape()[2];
  }
  round.window_offset = OptionalValues<std::int64_t>(context, 10);
  round.cos = OptionalValues<float>(context, 11);
  round.sin = OptionalValues<float>(context, 12);
  if (round.cos != nullptr) {
    const auto table = context.GetInput(11).GetTensorTypeAndShapeInfo().GetShape();
    round.positions = table[0];
    round.rotary_dim = 2 * table[1];
  }
  round.out = context.GetOutput(0, shape).GetTensorMutableData<float>();
  const auto type = context.GetInput(3).GetTensorTypeAndShapeInfo().GetElementType();
  round.is_half = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
  round.keys = Present(context, 3, 1, round.is_half);
  round.values = Present(context, 4, 2, round.is_half);

  // Rows of padding are zero: nobody reads them, and no cache gets anything that is no number from
  // them.
  thread_local std::vector<std::int32_t> others;  // Memory that every round and layer takes again.
  thread_local std::vector<SeenSlots> seen;
  others.clear();
  seen.assign(Size(round.batch * round.rows), {});
  std::size_t most_others = 0;
  for (std::int64_t b = 0; b < round.batch; ++b) {
    const std::int64_t window = round.write_index[b] - round.mask_start[b] + round.rows;
    most_others += Size(round.rows * std::max(window, round.mask_slots));
  }
  others.reserve(most_others);  // Spans into it stay valid.
  Share share{&round, &kernel_, scale_, softcap_, 1, 1, 1, &seen};
  std::int64_t most_queries = 0;
  for (std::int64_t b = 0; b < round.batch; ++b) {
    WriteRows(round, b, kernel_);
    const std::int64_t valid = std::clamp<std::int64_t>(round.row_count[b], 0, round.rows);
    most_queries = std::max(most_queries, valid * round.group());
    for (std::int64_t row = 0; row < round.rows; ++row) {
      const std::size_t at = Size(b * round.rows + row);
      if (row >= valid) {
        std::fill_n(round.out + (b * round.rows + row) * shape[2], shape[2], 0.0F);
        continue;
      }
      seen[at] = Seen(round, b, row, others);
      share.most_seen = std::max(share.most_seen, Size(seen[at].count()));
    }
  }
  share.most_seen = (share.most_seen + 15) / 16 * 16;
  // Enough shares for a few threads; each reads its keys and values once.
  const std::int64_t heads = round.batch * round.kv_num_heads;
  const std::int64_t wanted = (kFewShares + heads - 1) / heads;
  share.queries_at_once =
      std::clamp<std::int64_t>((most_queries + wanted - 1) / wanted, 1, kMostQueries);
  share.shares_per_head = (most_queries + share.queries_at_once - 1) / share.queries_at_once;
  const std::int64_t shares = round.batch * round.kv_num_heads * share.shares_per_head;
  if (shares > 0) context.ParallelFor(&Share::Run, Size(shares), 0, &share);
}

}  // namespace ptgc
