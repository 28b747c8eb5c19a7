#include "one_shot_loop.h"

#include <algorithm>
#include <string>
#include <utility>

#include "clock.h"
#include "error.h"

namespace ptgc {
namespace {

std::size_t Size(std::int64_t value) { return static_cast<std::size_t>(value); }

}  // namespace

OneShotLoop::OneShotLoop(std::unique_ptr<Encoder> encoder, std::unique_ptr<Engine> decoder,
                         const OneShotPlan& plan, const ShapePlan& shapes)
    : encoder_(std::move(encoder)),
      decoder_(std::move(decoder)),
      source_length_(shapes.source_lengths.back()),
      canvas_length_(source_length_ * plan.upsampling),
      output_ids_(Size(shapes.batch) * Size(canvas_length_) * sizeof(TokenId)),
      output_lengths_(Size(shapes.batch) * sizeof(std::int64_t)) {
  sources_.reserve(Size(shapes.batch));
  const std::int64_t batch = shapes.batch;
  const std::vector<Tensor> outputs = {
      {"output_ids", DType::kInt64, output_ids_.data(), {batch, canvas_length_}},
      {"output_lengths", DType::kInt64, output_lengths_.data(), {batch}},
  };
  call_ = decoder_->Bind(encoder_->Ports(), outputs);
}

RoundReport OneShotLoop::Round(std::span<Turn> turns) {
  const Clock::time_point start = Clock::now();
  sources_.clear();
  for (const Turn& turn : turns) sources_.push_back({turn.session->row(), turn.session->source()});
  encoder_->Encode(sources_);
  const Clock::time_point decoder_start = Clock::now();
  call_->Run();
  const double engine_seconds = encoder_->engine_seconds() + SecondsSince(decoder_start);
  for (Turn& turn : turns) {
    Session& session = *turn.session;
    const std::size_t row = Size(session.row());
    const std::int64_t length = output_lengths_.As<std::int64_t>()[row];
    const std::int64_t count = std::min<std::int64_t>(length, turn.max_new_tokens);
    const TokenId* ids = output_ids_.As<TokenId>() + row * Size(canvas_length_);
    const int begin = session.length();
    for (std::int64_t i = 0; i < count; ++i) session.Extend(ids[i]);
    turn.emitted = session.tokens().subspan(Size(begin));
    turn.ended = count == length;
  }
  return {canvas_length_, engine_seconds, 0, SecondsSince(start)};
}

std::vector<double> OneShotLoop::Measure(const EngineRuns& runs) {
  if (runs.role != "decoder" || runs.num_tokens != source_length_) {
    throw Error(ErrorCode::kUsage,
                "This build has no run over " + std::to_string(runs.num_tokens) +
                    " tokens for the role '" + runs.role + "'.",
                "Measure the role 'decoder' at " + std::to_string(source_length_) + " tokens.");
  }
  return TimeRuns(*call_, runs.repeats);
}

}  // namespace ptgc
