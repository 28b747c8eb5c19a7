#include "loops/one_shot_loop.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace ptgc {

OneShotLoop::OneShotLoop(std::unique_ptr<Encoder> encoder, std::unique_ptr<Engine> decoder,
                         const OneShotPlan& plan, const ShapePlan& shapes)
    : encoder_(std::move(encoder)),
      decoder_(std::move(decoder)),
      source_length_(shapes.roles.at("encoder").source_lengths.back()),
      canvas_length_(source_length_ * plan.upsampling),
      texts_(shapes.batch, canvas_length_) {
  sources_.reserve(static_cast<std::size_t>(shapes.batch));
  const std::vector<Tensor> outputs = {texts_.Ids("output_ids", canvas_length_),
                                       texts_.Lengths("output_lengths")};
  call_ = decoder_->Bind(encoder_->Ports(), outputs);
}

RoundReport OneShotLoop::Round(std::span<Turn> turns) {
  const Clock::time_point start = Clock::now();
  sources_.clear();
  for (const Turn& turn : turns) sources_.push_back({turn.session->row(), turn.session->source()});
  encoder_->Encode(sources_);
  const Clock::time_point decoder_start = Clock::now();
  call_->Run();
  const double decoder_seconds = SecondsSince(decoder_start);
  encoder_->Wait();
  const double engine_seconds = encoder_->engine_seconds() + decoder_seconds;
  for (Turn& turn : turns) {
    Session& session = *turn.session;
    const std::span<const TokenId> text = texts_.Read(session.row(), canvas_length_, 0);
    const std::size_t begin = session.tokens().size();
    const std::size_t count = std::min(text.size(), static_cast<std::size_t>(turn.max_new_tokens));
    for (TokenId token : text.first(count)) session.Extend(token);
    turn.emitted = session.tokens().subspan(begin);
    turn.ended = count == text.size();
  }
  return RoundReport::Of(canvas_length_, engine_seconds, SecondsSince(start));
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
