#include "loops/canvas_loop.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

}  // namespace

CanvasLoop::CanvasLoop(std::unique_ptr<Denoiser> denoiser, const CanvasPlan& plan, int max_length,
                       std::span<Session* const> sessions)
    : denoiser_(std::move(denoiser)),
      plan_(plan),
      sessions_(sessions.begin(), sessions.end()),
      canvases_(sessions.size()),
      rows_(sessions.size()) {
  for (Canvas& canvas : canvases_) canvas.ids.reserve(Size(max_length));
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
  canvas.written = static_cast<int>(masked - canvas.ids.begin());
  canvas.end = static_cast<int>(canvas.ids.rend() - last);
  canvas.first =
      has_cache() ? canvas.written - canvas.written % plan_.block_length : canvas.written;
  canvas.block = canvas.first;
  canvas.masked = MaskedInBlock(canvas);
  canvas.rounds_left = RoundsOfBlock(canvas);
  canvas.held = Held(session.row(), std::min(session.committed(), canvas.first));
}

RoundReport CanvasLoop::Round(std::span<Turn> turns) {
  const Clock::time_point start = Clock::now();
  // The padding of an idle row is written after what its cache holds.
  for (const Session* session : sessions_) rows_[Size(session->row())] = {{}, session->committed()};
  for (const Turn& turn : turns) {
    rows_[Size(turn.session->row())] = RowOf(canvases_[Size(turn.session->row())]);
  }
  denoiser_->Run(rows_);
  for (Turn& turn : turns) {
    const int row = turn.session->row();
    Canvas& canvas = canvases_[Size(row)];
    Take(canvas, row);
    Emit(canvas, turn);
    turn.session->Uncommit(canvas.held);
  }
  return RoundReport::Of(denoiser_->size(), denoiser_->engine_seconds(), SecondsSince(start));
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
  while (canvas.block < canvas.end && canvas.masked == 0) {
    canvas.block += BlockLength(canvas);
    canvas.masked = MaskedInBlock(canvas);
    canvas.rounds_left = RoundsOfBlock(canvas);
  }
}

// The last round of a block must fill every masked position, and the graph must count them rightly;
// otherwise it does not fit the plan.
void CanvasLoop::CheckProgress(const Canvas& canvas) const {
  const bool is_counted = canvas.masked == MaskedInBlock(canvas);
  if (is_counted && (canvas.masked == 0 || canvas.rounds_left > 0)) return;
  throw Error(ErrorCode::kBackend,
              "The denoiser left positions masked in the last round of their block.",
              "Find out with `ptgc check` which stage is damaged.");
}

// How many of the first `length` positions of a row the cache holds in whole blocks.
int CanvasLoop::Held(int row, int length) const {
  KVCache* cache = denoiser_->cache();
  if (!has_cache()) return 0;
  const int held = cache->Held(row, length - length % plan_.block_length);
  if (held == 0) cache->Begin(row);
  return held;
}

// The part of a canvas that a round reads: up to the end of the block being filled (without a
// cache, everything behind it too), or as many whole earlier blocks as a run can read. The graph
// must fill so many of the block's positions that none is left after the block's last round.
CanvasRow CanvasLoop::RowOf(const Canvas& canvas) const {
  const std::span<const TokenId> text = std::span(canvas.ids).subspan(Size(canvas.held));
  const int block_end = canvas.block + BlockLength(canvas);
  const int whole = static_cast<int>(text.size());
  const int wanted = has_cache() ? std::min(block_end - canvas.held, whole) : whole;
  CanvasRow row;
  row.first = canvas.held;
  row.seen = has_cache() ? 0 : whole;
  if (wanted > denoiser_->largest()) {
    const int count = denoiser_->largest() - denoiser_->largest() % plan_.block_length;
    row.ids = text.first(Size(count));
    return row;
  }
  row.ids = text.first(Size(wanted));
  row.begin = canvas.block - canvas.held;
  row.end = std::min(block_end, canvas.end) - canvas.held;
  const int rounds = std::max(canvas.rounds_left, 1);
  row.fills = (canvas.masked + rounds - 1) / rounds;
  return row;
}

// Writes what the last run filled into a canvas.
void CanvasLoop::Take(Canvas& canvas, int index) const {
  const CanvasRow& row = rows_[Size(index)];
  std::ranges::copy(denoiser_->filled(index, row), canvas.ids.begin() + row.first + row.begin);
  const int read = row.first + static_cast<int>(row.ids.size());
  if (has_cache()) canvas.held = std::min(read, canvas.block);
  if (read <= canvas.block) return;
  canvas.masked = denoiser_->num_masked(index);
  --canvas.rounds_left;
  CheckProgress(canvas);
  NextBlock(canvas);
}

// Emits the positions before the block being filled, which are final.
void CanvasLoop::Emit(Canvas& canvas, Turn& turn) const {
  turn.emitted = {};
  turn.ended = false;
  const bool is_whole = canvas.block >= canvas.end;
  if (canvas.fills_in && !is_whole) return;
  Session& session = *turn.session;
  const int first = std::min(canvas.written, session.length());
  const int filled = is_whole ? static_cast<int>(canvas.ids.size()) : canvas.block;
  canvas.written = std::max(canvas.written, filled);
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

void CanvasLoop::Begin(const Session& session) {
  if (has_cache()) denoiser_->cache()->Begin(session.row());
}

void CanvasLoop::Rewind(Session& session) {
  session.Uncommit(Held(session.row(), session.committed()));
}

void CanvasLoop::Fork(const Session& from, Session& to) {
  if (has_cache()) denoiser_->cache()->CopyRow(from.row(), to.row(), from.committed());
}

void CanvasLoop::Clear() {
  if (has_cache()) denoiser_->cache()->Clear();
}

std::vector<double> CanvasLoop::Measure(const EngineRuns& runs) {
  std::vector<double> seconds;
  if (runs.role == "denoiser") seconds = denoiser_->Measure(runs);
  if (!seconds.empty()) return seconds;
  throw Error(ErrorCode::kUsage,
              "This build has no canvas of " + std::to_string(runs.num_tokens) +
                  " tokens for the role '" + runs.role + "'.",
              "Measure the canvas lengths or widths of its shape plan.");
}

}  // namespace ptgc
