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
      max_length_(max_length),
      sessions_(sessions.begin(), sessions.end()),
      canvases_(sessions.size() * Size(1 + plan.num_draft_steps)),
      rows_(canvases_.size()) {
  for (Canvas& canvas : canvases_) {
    canvas.ids.reserve(Size(max_length));
    canvas.filled_positions.reserve(Size(max_length));
    canvas.filled_ids.reserve(Size(max_length));
    canvas.confidences.reserve(Size(max_length));
    canvas.row_ids.reserve(Size(max_length));
    canvas.slots.Reserve(max_length);
  }
  order_.reserve(Size(max_length));
}

void CanvasLoop::Start(const Session& session, const Request& request) {
  Canvas& canvas = canvases_[Size(IndexOf(session))];
  canvas = {std::move(canvas.ids),        std::move(canvas.filled_positions),
            std::move(canvas.filled_ids), std::move(canvas.confidences),
            std::move(canvas.row_ids),    std::move(canvas.slots)};
  const std::span<const TokenId> text = session.tokens();
  canvas.ids.assign(text.begin(), text.end());
  canvas.fills_in = std::find(text.begin(), text.end(), plan_.mask_token_id) != text.end();
  if (!canvas.fills_in) {
    canvas.ids.insert(canvas.ids.end(), Size(request.max_new_tokens), plan_.mask_token_id);
  }
  canvas.length = static_cast<int>(canvas.ids.size());
  canvas.slots.Begin(canvas.length);
  if (!canvas.fills_in) canvas.ids.resize(Size(WholeBlocks(canvas.length)), plan_.mask_token_id);
  const auto masked = std::find(canvas.ids.begin(), canvas.ids.end(), plan_.mask_token_id);
  const auto last = std::find(canvas.ids.rbegin(), canvas.ids.rend(), plan_.mask_token_id);
  canvas.written = static_cast<int>(masked - canvas.ids.begin());
  canvas.end = static_cast<int>(canvas.ids.rend() - last);
  canvas.to_fill = Masked(canvas.ids);
  canvas.first =
      plan_.keeps_blocks() ? canvas.written - canvas.written % plan_.block_length : canvas.written;
  const CanvasOptions& options = request.canvas;
  canvas.num_steps = options.num_steps > 0 ? options.num_steps : plan_.num_steps;
  canvas.threshold = options.threshold.value_or(plan_.policy.bound());
  canvas.temperature = request.sampling.temperature;
  canvas.seed = request.sampling.seed;
  BeginBlock(canvas, canvas.first);
  canvas.held = Held(session.row(), std::min(session.committed(), canvas.first));
}

RoundReport CanvasLoop::Round(std::span<Turn> turns) {
  const Clock::time_point start = Clock::now();
  // The padding of an idle row is written after what its cache holds.
  std::ranges::fill(rows_, CanvasRow());
  for (const Session* session : sessions_) {
    const Canvas& canvas = canvases_[Size(IndexOf(*session))];
    const bool keeps = canvas.slots.kept() > 0 && canvas.block < canvas.end;
    rows_[Size(IndexOf(*session))].first = keeps ? canvas.length : session->committed();
  }
  for (const Turn& turn : turns) {
    const int first = IndexOf(*turn.session);
    const int last = first + canvases_[Size(first)].drafts;
    for (int i = first; i <= last; ++i) rows_[Size(i)] = RowOf(canvases_[Size(i)]);
  }
  denoiser_->Run(rows_);
  for (Turn& turn : turns) {
    const int first = IndexOf(*turn.session);
    Canvas& canvas = canvases_[Size(first)];
    canvas.filled_positions.clear();
    canvas.filled_ids.clear();
    canvas.confidences.clear();
    const int last = TakeDrafted(first, turn);
    if (turn.may_draft) Draft(first, last);
    turn.filled_positions = canvas.filled_positions;
    turn.filled_ids = canvas.filled_ids;
    turn.confidences = canvas.confidences;
    Emit(canvas, turn);
    turn.session->Uncommit(canvas.held);
  }
  return RoundReport::Of(denoiser_->size(), denoiser_->engine_seconds(), SecondsSince(start));
}

int CanvasLoop::IndexOf(const Session& session) const {
  return session.row() * (1 + plan_.num_draft_steps);
}

// The length of a text with its last block whole, as far as there is room: models with a cache of
// blocks were trained on whole ones. What lies behind the text is never delivered.
int CanvasLoop::WholeBlocks(int length) const {
  if (!plan_.keeps_blocks()) return length;
  const int rest = length % plan_.block_length;
  return rest == 0 ? length : std::min(length - rest + plan_.block_length, max_length_);
}

int CanvasLoop::BlockLength(const Canvas& canvas) const {
  return plan_.block_length > 0 ? plan_.block_length : std::max(canvas.end - canvas.first, 1);
}

// One after the last position of the block being filled.
int CanvasLoop::BlockEnd(const Canvas& canvas) const {
  return std::min(canvas.block + BlockLength(canvas), canvas.end);
}

bool CanvasLoop::IsMasked(const Canvas& canvas, int position) const {
  return canvas.ids[Size(position)] == plan_.mask_token_id;
}

int CanvasLoop::Masked(std::span<const TokenId> ids) const {
  return static_cast<int>(std::ranges::count(ids, plan_.mask_token_id));
}

int CanvasLoop::MaskedInBlock(const Canvas& canvas) const {
  const int length = BlockEnd(canvas) - canvas.block;
  return length > 0 ? Masked(std::span(canvas.ids).subspan(Size(canvas.block), Size(length))) : 0;
}

void CanvasLoop::BeginBlock(Canvas& canvas, int block) const {
  const int length = BlockLength(canvas);
  const int num_blocks = (canvas.end - canvas.first + length - 1) / length;
  canvas.block = block;
  canvas.masked = MaskedInBlock(canvas);
  canvas.rounds = {length, canvas.masked,
                   RoundsOfBlock(plan_.schedule, canvas.num_steps, num_blocks)};
}

// The last round of a block must fill every masked position, and the graph must count them rightly;
// otherwise it does not fit the plan.
void CanvasLoop::CheckProgress(const Canvas& canvas) const {
  const bool is_counted = canvas.masked == MaskedInBlock(canvas);
  if (is_counted && (canvas.masked == 0 || canvas.rounds.done < canvas.rounds.rounds)) return;
  throw Error(ErrorCode::kBackend,
              "The denoiser left positions masked in the last round of their block.",
              "Find out with `ptgc check` which stage is damaged.");
}

// How many of the first `length` positions of a row the cache holds in whole blocks.
int CanvasLoop::Held(int row, int length) const {
  if (!plan_.keeps_blocks()) return 0;
  KVCache* cache = denoiser_->cache();
  const int held = cache->Held(row, length - length % plan_.block_length);
  if (held == 0) cache->Begin(row);
  return held;
}

// What a round reads of a canvas. The graph must fill so many of the block's positions that none is
// left after the block's last round.
CanvasRow CanvasLoop::RowOf(Canvas& canvas) const {
  CanvasRow row = plan_.approximates() ? ChangingOf(canvas) : BlocksOf(canvas);
  if (row.begin == row.end) return row;
  row.fills = FillsOf(plan_.schedule, canvas.rounds, canvas.masked);
  row.time = static_cast<double>(Masked(canvas.ids)) / canvas.to_fill;
  row.threshold = canvas.threshold;
  row.temperature = canvas.temperature;
  row.seed = canvas.seed;
  row.round = canvas.round;
  return row;
}

// With a cache of blocks, what is not in it up to the end of the block being filled, or as many
// whole earlier blocks as a run can read; without a cache, everything.
CanvasRow CanvasLoop::BlocksOf(const Canvas& canvas) const {
  const std::span<const TokenId> text = std::span(canvas.ids).subspan(Size(canvas.held));
  const int block_end = canvas.block + BlockLength(canvas);
  const int whole = static_cast<int>(text.size());
  const bool keeps = plan_.keeps_blocks();
  const int wanted = keeps ? std::min(block_end - canvas.held, whole) : whole;
  CanvasRow row;
  row.first = canvas.held;
  row.seen = keeps ? 0 : whole;
  if (keeps && wanted > denoiser_->largest()) {
    const int count = denoiser_->largest() - denoiser_->largest() % plan_.block_length;
    row.ids = text.first(Size(count));
    return row;
  }
  row.ids = text.first(Size(wanted));
  row.begin = canvas.block - canvas.held;
  row.end = BlockEnd(canvas) - canvas.held;
  return row;
}

// With a cache that approximates, what is not kept: all of it if the cache is to be renewed.
CanvasRow CanvasLoop::ChangingOf(Canvas& canvas) const {
  const bool is_due = plan_.cache == CanvasCache::kDelayed
                          ? canvas.round % static_cast<std::uint32_t>(plan_.cache_interval) == 0
                          : canvas.rounds.done == 0;
  if (is_due) canvas.slots.Begin(canvas.length);
  canvas.slots.Order([&](int position) { return Keeps(canvas, position); });
  canvas.row_ids.clear();
  for (const int position : canvas.slots.rows()) {
    canvas.row_ids.push_back(canvas.ids[Size(position)]);
  }
  CanvasRow row;
  row.ids = canvas.row_ids;
  row.first = canvas.slots.kept();
  row.positions = canvas.slots.rows();
  row.seen = canvas.length;
  const std::span<const int> changing = row.positions.subspan(Size(canvas.slots.first_changing()));
  const auto row_of = [&](int position) {
    const auto found = std::lower_bound(changing.begin(), changing.end(), position);
    return canvas.slots.first_changing() + static_cast<int>(found - changing.begin());
  };
  row.begin = row_of(canvas.block);
  row.end = row_of(BlockEnd(canvas));
  return row;
}

// Whether the keys and values of a position are kept from the next round on. If a position is
// predicted by the row before it, that row must be read as long as the position is masked.
bool CanvasLoop::Keeps(const Canvas& canvas, int position) const {
  const int begin = canvas.block - (plan_.shift ? 1 : 0);
  if (plan_.cache == CanvasCache::kPrefix) return position < begin;
  if (plan_.cache == CanvasCache::kDual) return position < begin || position >= BlockEnd(canvas);
  const int next = position + 1;
  const bool predicts = plan_.shift && next < canvas.length && IsMasked(canvas, next);
  return !IsMasked(canvas, position) && !predicts;
}

// Writes what the last run filled into a canvas.
void CanvasLoop::Take(Canvas& canvas, int index) const {
  const CanvasRow& row = rows_[Size(index)];
  const std::span<const float> confidences = denoiser_->confidences(index, row);
  int next = row.begin;
  for (const TokenId token : denoiser_->filled(index, row)) {
    const float confidence = confidences[Size(next - row.begin)];
    const int position = row.position(next++);
    TokenId& before = canvas.ids[Size(position)];
    if (before != token && position < canvas.length) {
      canvas.filled_positions.push_back(position);
      canvas.filled_ids.push_back(token);
      canvas.confidences.push_back(confidence);
    }
    before = token;
  }
  if (plan_.approximates()) canvas.slots.Keep();
  const int read = row.first + static_cast<int>(row.ids.size());
  if (plan_.keeps_blocks()) canvas.held = std::min(read, canvas.block);
  if (read <= canvas.block) return;
  canvas.masked = denoiser_->num_masked(index);
  ++canvas.rounds.done;
  ++canvas.round;
  CheckProgress(canvas);
  while (canvas.block < canvas.end && canvas.masked == 0) {
    BeginBlock(canvas, canvas.block + BlockLength(canvas));
  }
}

// Writes what the last run filled into a text, and into its drafted canvases as long as they are
// what the steps before leave. Returns the index of the last one taken.
int CanvasLoop::TakeDrafted(int first, Turn& turn) {
  Canvas& canvas = canvases_[Size(first)];
  const int masked = canvas.masked, last = first + canvas.drafts;
  turn.drafted_fills = masked - canvases_[Size(last)].masked;
  Take(canvas, first);
  int taken = first;
  while (taken < last && canvas.ids == canvases_[Size(taken + 1)].ids &&
         FilledLength(canvas, turn.eos_token_ids) <= canvas.block) {
    Take(canvas, ++taken);
    turn.accepted = masked - canvases_[Size(taken)].masked;
  }
  canvas.drafts = 0;
  return taken;
}

// Drafts the next steps of a text from the predictions of the last run, of row `last`: its masked
// positions are filled in their order there. The step that would fill a block is not drafted,
// because nothing is left to be verified behind it, and a new block has no predictions yet.
void CanvasLoop::Draft(int first, int last) {
  const CanvasRow& row = rows_[Size(last)];
  Canvas& canvas = canvases_[Size(first)];
  if (plan_.num_draft_steps == 0 || canvas.block >= canvas.end || row.begin != canvas.block) return;
  const std::span<const TokenId> candidates = denoiser_->candidates(last, row);
  const std::span<const std::int64_t> ranks = denoiser_->ranks(last, row);
  order_.clear();
  for (int i = row.begin; i < row.end; ++i) {
    if (IsMasked(canvas, i)) order_.push_back(i - row.begin);
  }
  std::ranges::sort(order_, {}, [&](int i) { return ranks[Size(i)]; });
  auto next = order_.begin();
  for (int i = first; i < first + plan_.num_draft_steps; ++i) {
    const int fills = FillsOf(plan_.schedule, canvases_[Size(i)].rounds, canvases_[Size(i)].masked);
    if (fills >= canvases_[Size(i)].masked) return;
    Canvas& drafted = canvases_[Size(i + 1)];
    drafted = canvases_[Size(i)];
    for (int n = 0; n < fills; ++n, ++next) {
      drafted.ids[Size(canvas.block + *next)] = candidates[Size(*next)];
    }
    drafted.masked -= fills;
    ++drafted.rounds.done;
    ++drafted.round;
    ++canvas.drafts;
  }
}

// How many positions of a canvas can be emitted: all before the block being filled, and of it those
// up to an end token with no mask before it, if such a token ends a text at once.
int CanvasLoop::FilledLength(const Canvas& canvas, std::span<const TokenId> eos_token_ids) const {
  if (canvas.block >= canvas.end) return canvas.length;
  if (plan_.stop != CanvasStop::kEos) return canvas.block;
  for (int i = canvas.written; i < canvas.length && !IsMasked(canvas, i); ++i) {
    if (std::ranges::find(eos_token_ids, canvas.ids[Size(i)]) != eos_token_ids.end()) return i + 1;
  }
  return canvas.block;
}

// Emits the positions that are final, unless masks of a prompt are left.
void CanvasLoop::Emit(Canvas& canvas, Turn& turn) const {
  turn.emitted = {};
  turn.ended = false;
  if (canvas.fills_in && canvas.block < canvas.end) return;
  Session& session = *turn.session;
  const int first = std::min(canvas.written, session.length());
  canvas.written = std::max(canvas.written, FilledLength(canvas, turn.eos_token_ids));
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
  if (plan_.keeps_blocks()) denoiser_->cache()->Begin(session.row());
}

void CanvasLoop::Rewind(Session& session) {
  session.Uncommit(Held(session.row(), session.committed()));
}

void CanvasLoop::Fork(const Session& from, Session& to) {
  if (plan_.keeps_blocks()) denoiser_->cache()->CopyRow(from.row(), to.row(), from.committed());
}

void CanvasLoop::Clear() {
  for (Canvas& canvas : canvases_) canvas.slots.Begin(0);
  if (denoiser_->cache() != nullptr) denoiser_->cache()->Clear();
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
