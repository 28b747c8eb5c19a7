#include "models/denoiser.h"

#include <algorithm>

#include "base/clock.h"
#include "sampling/random.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

}  // namespace

Denoiser::Denoiser(std::unique_ptr<Engine> engine, const Bundle& bundle,
                   std::shared_ptr<KVCache> cache)
    : engine_(std::move(engine)),
      plan_(bundle.plan.canvas),
      batch_(bundle.shapes.batch),
      max_length_(bundle.shapes.max_length),
      shapes_(bundle.shapes.roles.at("denoiser")),
      cache_(std::move(cache)),
      sizes_(cache_ == nullptr ? shapes_.canvas_lengths : shapes_.widths),
      size_(sizes_.front()),
      columns_(size_),
      in_(bundle.shapes.batch, sizes_.back()),
      out_(bundle.shapes.batch, sizes_.back()),
      time_(Size(bundle.shapes.batch) * sizeof(float)),
      step_(Size(bundle.shapes.batch) * sizeof(std::int64_t)),
      threshold_(Size(bundle.shapes.batch) * sizeof(float)),
      temperature_(Size(bundle.shapes.batch) * sizeof(float)),
      uniforms_(Size(bundle.shapes.batch) * Size(sizes_.back()) * 2 * sizeof(float)),
      num_masked_(Size(bundle.shapes.batch) * sizeof(std::int64_t)),
      confidence_(Size(bundle.shapes.batch) * Size(sizes_.back()) * sizeof(float)),
      candidates_(Size(bundle.shapes.batch) * Size(sizes_.back()) * sizeof(TokenId)),
      ranks_(Size(bundle.shapes.batch) * Size(sizes_.back()) * sizeof(std::int64_t)) {
  if (cache_ == nullptr) return;
  ports_.emplace(bundle.shapes.batch, sizes_.back(), shapes_.LogitsFor(sizes_.back()),
                 engine_->HasInput("tree_mask"), bundle.roles.at("denoiser").mask_extra);
}

void Denoiser::Run(std::span<const CanvasRow> rows) {
  std::size_t longest = 1;
  bool fills = false;
  for (const CanvasRow& row : rows) {
    longest = std::max(longest, row.ids.size());
    fills = fills || row.begin < row.end;
  }
  const int size = *std::lower_bound(sizes_.begin(), sizes_.end(), static_cast<int>(longest));
  Call& call = Prepare(rows, size, fills);
  const Clock::time_point start = Clock::now();
  call.Run();
  engine_seconds_ = SecondsSince(start);
}

std::span<const TokenId> Denoiser::filled(int row, const CanvasRow& given) const {
  return {out_.ids(0, columns_) + FirstColumn(row, given), Size(given.end - given.begin)};
}

std::span<const float> Denoiser::confidences(int row, const CanvasRow& given) const {
  return {confidence_.As<float>() + FirstColumn(row, given), Size(given.end - given.begin)};
}

std::span<const TokenId> Denoiser::candidates(int row, const CanvasRow& given) const {
  return {candidates_.As<TokenId>() + FirstColumn(row, given), Size(given.end - given.begin)};
}

std::span<const std::int64_t> Denoiser::ranks(int row, const CanvasRow& given) const {
  return {ranks_.As<std::int64_t>() + FirstColumn(row, given), Size(given.end - given.begin)};
}

// Where the column of `given.begin` is in the outputs of the last run.
std::size_t Denoiser::FirstColumn(int row, const CanvasRow& given) const {
  return Size(row) * Size(columns_) + Size(cache_ == nullptr ? given.begin : 0);
}

// A run over a cache that only reads has one column, which nothing is filled into.
Call& Denoiser::Prepare(std::span<const CanvasRow> rows, int size, bool fills) {
  size_ = size;
  columns_ = cache_ == nullptr ? size : fills ? shapes_.LogitsFor(size) : 1;
  if (cache_ != nullptr) {
    int first = 0;
    for (const CanvasRow& row : rows) first = std::max(first, row.first);
    cache_->Grow(first + size);
  }
  for (std::size_t row = 0; row < rows.size(); ++row) Fill(static_cast<int>(row), rows[row]);
  return BoundCall();
}

void Denoiser::Fill(int row, const CanvasRow& given) {
  const TokenId filler = plan_.mask_token_id;
  const int begin = cache_ == nullptr ? 0 : given.begin;  // The id of the first column.
  std::span<const TokenId> ids = given.ids;
  if (cache_ != nullptr) ids = ids.subspan(Size(given.begin), Size(given.end - given.begin));
  // An idle row gets one token, because attention over nothing is undefined.
  in_.Write(row, columns_, ids.empty() ? std::span(&filler, 1) : ids, filler);
  bool* mask = in_.mask(row, columns_);
  std::fill_n(mask, columns_, false);
  for (int i = given.begin; i < given.end; ++i) mask[i - begin] = given.ids[Size(i)] == filler;
  time_.As<float>()[row] = static_cast<float>(given.time);
  step_.As<std::int64_t>()[row] = given.fills;
  threshold_.As<float>()[row] = static_cast<float>(given.threshold);
  temperature_.As<float>()[row] = static_cast<float>(given.temperature);
  if (plan_.policy.draws()) FillUniforms(row, given);
  if (cache_ == nullptr) return;
  cache_->Slide(row, given.first);
  RowInput input;
  input.tokens = given.ids;
  input.write_index = given.first;
  input.block_length = given.seen > 0 ? 0 : plan_.block_length;
  input.seen = given.seen;
  input.positions = given.positions;
  input.first_logits = plan_.shift ? given.begin - 1 : given.begin;
  // The first position of a text is predicted by its own row.
  if (given.begin < given.end && given.position(given.begin) == 0) input.least_logits = given.begin;
  ports_->Fill(row, input, size_, columns_, cache_->window_offset(row));
}

// The numbers of a position depend on nothing but the text's seed and its rounds.
void Denoiser::FillUniforms(int row, const CanvasRow& given) {
  const int begin = cache_ == nullptr ? 0 : given.begin;
  float* written = uniforms_.As<float>() + Size(row) * Size(columns_) * 2;
  std::fill_n(written, Size(columns_) * 2, 0.0F);
  for (int i = given.begin; i < given.end; ++i) {
    const auto words = PhiloxAt(given.seed, given.position(i), RandomStream::kCanvas, given.round);
    // 23 bits: a sum of float32 probabilities times the number stays below the sum.
    for (int k = 0; k < 2; ++k) {
      written[2 * (i - begin) + k] = static_cast<float>(words[Size(k)] >> 9) * 0x1p-23F;
    }
  }
}

Call& Denoiser::BoundCall() {
  const std::size_t capacity = cache_ == nullptr ? 0 : cache_->active();
  std::unique_ptr<Call>& call = calls_[{capacity, size_, columns_}];
  if (call != nullptr) return *call;
  std::vector<Tensor> inputs,
      outputs = {out_.Ids("output_ids", columns_),
                 PortOf(num_masked_, "num_masked", DType::kInt64, {batch_}),
                 PortOf(confidence_, "confidence", DType::kFloat32, {batch_, columns_})};
  if (plan_.num_draft_steps > 0) {
    outputs.push_back(PortOf(candidates_, "candidate_ids", DType::kInt64, {batch_, columns_}));
    outputs.push_back(PortOf(ranks_, "candidate_ranks", DType::kInt64, {batch_, columns_}));
  }
  if (cache_ == nullptr) {
    inputs = {in_.Ids("input_ids", size_), in_.Lengths("lengths"),
              PortOf(time_, "time", DType::kFloat32, {batch_})};
  } else {
    inputs = ports_->Inputs(size_, columns_);
    inputs.push_back(in_.Ids("column_ids", columns_));
    cache_->AppendPast("denoiser", inputs);
    cache_->AppendPresent("denoiser", outputs);
  }
  inputs.push_back(in_.Mask("canvas_mask", columns_));
  inputs.push_back(PortOf(step_, "step", DType::kInt64, {batch_}));
  inputs.push_back(PortOf(threshold_, "threshold", DType::kFloat32, {batch_}));
  inputs.push_back(PortOf(temperature_, "temperature", DType::kFloat32, {batch_}));
  if (plan_.policy.draws()) {
    inputs.push_back(PortOf(uniforms_, "uniforms", DType::kFloat32, {batch_, columns_, 2}));
  }
  call = engine_->Bind(inputs, outputs);
  return *call;
}

std::vector<double> Denoiser::Measure(const EngineRuns& runs) {
  const bool known = std::binary_search(sizes_.begin(), sizes_.end(), runs.num_tokens);
  if (!known || runs.past_length < 0 || runs.past_length > max_length_) return {};
  // There are no positions beyond the longest text; further rows are padding, which costs the same.
  const std::vector<TokenId> text(Size(std::min(runs.num_tokens, max_length_)),
                                  plan_.mask_token_id);
  CanvasRow row;
  row.ids = text;
  if (cache_ != nullptr) {
    row.first = std::min(runs.past_length, max_length_ - static_cast<int>(text.size()));
    for (int i = 0; i < batch_; ++i) cache_->Begin(i);
  }
  const std::vector<CanvasRow> rows(static_cast<std::size_t>(batch_), row);
  return TimeRuns(Prepare(rows, runs.num_tokens, /*fills=*/true), runs.repeats);
}

}  // namespace ptgc
