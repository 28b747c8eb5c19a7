#include "loops/canvas_loop.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

}  // namespace

CanvasLoop::CanvasLoop(std::unique_ptr<Engine> denoiser, const CanvasPlan& plan,
                       const ShapePlan& shapes, std::span<Session* const> sessions)
    : engine_(std::move(denoiser)),
      plan_(plan),
      batch_(shapes.batch),
      lengths_(shapes.roles.at("denoiser").canvas_lengths),
      canvases_(sessions.size()),
      in_(batch_, lengths_.back()),
      out_(batch_, lengths_.back()),
      step_(sessions.size() * sizeof(std::int64_t)),
      threshold_(sessions.size() * sizeof(float)),
      calls_(lengths_.size()) {
  std::fill_n(threshold_.As<float>(), sessions.size(), static_cast<float>(plan_.policy.threshold));
  for (Canvas& canvas : canvases_) canvas.ids.reserve(Size(lengths_.back()));
}

void CanvasLoop::Start(const Session& session, const Request& request) {
  Canvas& canvas = canvases_[Size(session.row())];
  canvas = {std::move(canvas.ids)};
  const std::span<const TokenId> text = session.tokens();
  canvas.ids.assign(text.begin(), text.end());
  canvas.fills_in = std::find(text.begin(), text.end(), plan_.mask_token_id) != text.end();
  if (!canvas.fills_in) {
    canvas.ids.insert(canvas.ids.end(), Size(request.max_new_tokens), plan_.mask_token_id);
  }
  const auto masked = std::find(canvas.ids.begin(), canvas.ids.end(), plan_.mask_token_id);
  const auto last = std::find(canvas.ids.rbegin(), canvas.ids.rend(), plan_.mask_token_id);
  canvas.first = static_cast<int>(masked - canvas.ids.begin());
  canvas.end = static_cast<int>(canvas.ids.rend() - last);
  canvas.block = canvas.written = canvas.first;
  canvas.rounds_left = RoundsOfBlock(canvas);
}

RoundReport CanvasLoop::Round(std::span<Turn> turns) {
  const Clock::time_point start = Clock::now();
  std::size_t longest = 1;
  for (const Turn& turn : turns) {
    longest = std::max(longest, canvases_[Size(turn.session->row())].ids.size());
  }
  const auto at = std::lower_bound(lengths_.begin(), lengths_.end(), static_cast<int>(longest));
  const int length = *at;
  const TokenId filler = plan_.mask_token_id;
  for (int row = 0; row < batch_; ++row) {
    in_.Write(row, length, std::span(&filler, 1), filler);
    std::fill_n(in_.mask(row, length), length, false);
    step_.As<std::int64_t>()[row] = 0;
  }
  for (const Turn& turn : turns) {
    Write(canvases_[Size(turn.session->row())], turn.session->row(), length);
  }
  const Clock::time_point engine_start = Clock::now();
  BoundCall(static_cast<std::size_t>(at - lengths_.begin())).Run();
  const double engine_seconds = SecondsSince(engine_start);
  for (Turn& turn : turns) {
    Canvas& canvas = canvases_[Size(turn.session->row())];
    std::copy_n(out_.ids(turn.session->row(), length), canvas.ids.size(), canvas.ids.begin());
    --canvas.rounds_left;
    NextBlock(canvas);
    CheckProgress(canvas);
    Emit(canvas, turn);
  }
  return {length, engine_seconds, 0, SecondsSince(start), {}};
}

int CanvasLoop::BlockLength(const Canvas& canvas) const {
  return plan_.block_length > 0 ? plan_.block_length : std::max(canvas.end - canvas.first, 1);
}

int CanvasLoop::RoundsOfBlock(const Canvas& canvas) const {
  const int blocks = (canvas.end - canvas.first + BlockLength(canvas) - 1) / BlockLength(canvas);
  return std::max(1, plan_.num_steps / std::max(blocks, 1));
}

bool CanvasLoop::IsMasked(const Canvas& canvas, int position) const {
  return canvas.ids[Size(position)] == plan_.mask_token_id;
}

int CanvasLoop::MaskedInBlock(const Canvas& canvas) const {
  const int end = std::min(canvas.block + BlockLength(canvas), canvas.end);
  int count = 0;
  for (int position = canvas.block; position < end; ++position) {
    count += IsMasked(canvas, position) ? 1 : 0;
  }
  return count;
}

void CanvasLoop::NextBlock(Canvas& canvas) const {
  while (canvas.block < canvas.end && MaskedInBlock(canvas) == 0) {
    canvas.block += BlockLength(canvas);
    canvas.rounds_left = RoundsOfBlock(canvas);
  }
}

// The last round of a block fills every masked position, unless the graph does not fit the plan.
void CanvasLoop::CheckProgress(const Canvas& canvas) const {
  if (canvas.block >= canvas.end || canvas.rounds_left > 0) return;
  throw Error(ErrorCode::kBackend,
              "The denoiser left positions masked in the last round of their block.",
              "Find out with `ptgc check` which stage is damaged.");
}

// Asks the graph to fill enough positions that none of the block is left after its last round.
void CanvasLoop::Write(const Canvas& canvas, int row, int length) {
  in_.Write(row, length, canvas.ids, plan_.mask_token_id);
  bool* mask = in_.mask(row, length);
  const int end = std::min(canvas.block + BlockLength(canvas), canvas.end);
  for (int position = canvas.block; position < end; ++position) {
    mask[position] = IsMasked(canvas, position);
  }
  const int rounds = std::max(canvas.rounds_left, 1);
  step_.As<std::int64_t>()[row] = (MaskedInBlock(canvas) + rounds - 1) / rounds;
}

// Positions before the block that is being filled are final.
void CanvasLoop::Emit(Canvas& canvas, Turn& turn) const {
  turn.emitted = {};
  turn.ended = false;
  const bool is_whole = canvas.block >= canvas.end;
  if (canvas.fills_in && !is_whole) return;
  Session& session = *turn.session;
  const int first = std::min(canvas.written, session.length());
  canvas.written = is_whole ? static_cast<int>(canvas.ids.size()) : canvas.block;
  session.Truncate(first);
  turn.ended = canvas.fills_in;
  for (int i = first; i < canvas.written; ++i) {
    const TokenId token = canvas.ids[Size(i)];
    session.Extend(token);
    if (std::ranges::find(turn.eos_token_ids, token) != turn.eos_token_ids.end()) {
      turn.ended = true;
      break;
    }
  }
  turn.emitted = session.tokens().subspan(Size(first));
}

Call& CanvasLoop::BoundCall(std::size_t index) {
  std::unique_ptr<Call>& call = calls_[index];
  if (call != nullptr) return *call;
  const int length = lengths_[index];
  const std::int64_t batch = batch_;
  const std::vector<Tensor> inputs = {
      in_.Ids("input_ids", length),
      in_.Lengths("lengths"),
      in_.Mask("canvas_mask", length),
      PortOf(step_, "step", DType::kInt64, {batch}),
      PortOf(threshold_, "threshold", DType::kFloat32, {batch}),
  };
  const std::vector<Tensor> outputs = {out_.Ids("output_ids", length),
                                       out_.Mask("output_mask", length)};
  call = engine_->Bind(inputs, outputs);
  return *call;
}

std::vector<double> CanvasLoop::Measure(const EngineRuns& runs) {
  const auto at = std::find(lengths_.begin(), lengths_.end(), runs.num_tokens);
  if (runs.role != "denoiser" || at == lengths_.end()) {
    throw Error(ErrorCode::kUsage,
                "This build has no canvas of " + std::to_string(runs.num_tokens) +
                    " tokens for the role '" + runs.role + "'.",
                "Measure the canvas lengths of its shape plan.");
  }
  Call& call = BoundCall(static_cast<std::size_t>(at - lengths_.begin()));
  const std::vector<TokenId> text(Size(runs.num_tokens), plan_.mask_token_id);
  for (int row = 0; row < batch_; ++row) {
    in_.Write(row, runs.num_tokens, text, plan_.mask_token_id);
  }
  return TimeRuns(call, runs.repeats);
}

}  // namespace ptgc
