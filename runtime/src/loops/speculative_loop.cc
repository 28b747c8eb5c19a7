#include "loops/speculative_loop.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace ptgc {
namespace {

// The most that a round that reads a prompt may cost while another call's text waits for it, in
// units of a round of one token.
constexpr double kMostBesideText = 2;

// The target's logits after the nodes of one row's proposal.
class TargetRows : public LogitsReader {
 public:
  TargetRows(const CausalModel& target, int row) : target_(target), row_(row) {}
  LogitsRow Row(int node) override { return target_.Logits(row_, node); }

 private:
  const CausalModel& target_;  // The target.
  int row_;                    // The row of the batch.
};

// The target's hidden states of one row's tokens in the last run.
class TargetTaps : public Taps {
 public:
  TargetTaps(const CausalModel& target, int row) : target_(target), row_(row) {}
  void Copy(int first, int count, void* to) const override {
    target_.CopyStates(row_, first, count, to);
  }

 private:
  const CausalModel& target_;  // The target.
  int row_;                    // The row of the batch.
};

}  // namespace

SpeculativeLoop::SpeculativeLoop(SpeculativeParts parts, std::span<Session* const> sessions)
    : parts_(std::move(parts)),
      num_draft_tokens_(std::min({parts_.num_draft_tokens, parts_.shapes.verify_width - 1,
                                  parts_.plan.tree.num_nodes() - 1})),
      overlap_(parts_.drafter.get(), parts_.draft_length, num_draft_tokens_,
               static_cast<int>(sessions.size())),
      choice_(parts_.target->vocab_size(), parts_.plan.tree.num_nodes() - 1),
      inputs_(sessions.size()) {
  const int most = parts_.plan.tree.num_nodes() - 1;
  for (Session* session : sessions) {
    rows_.push_back({session, Proposal(most), Acceptance(most),
                     RowDrafts(parts_.plan.drafter.Parts(), most, parts_.rates)});
  }
  offers_.reserve(sessions.size());
  draft_rows_.reserve(sessions.size());
  drafted_.reserve(sessions.size());
  sources_.reserve(sessions.size());
}

void SpeculativeLoop::Start(const Session& session, const Request& request) {
  RowOf(session).sampling.Begin(request.sampling, session.tokens(), parts_.target->vocab_size(),
                                parts_.max_length);
}

RoundReport SpeculativeLoop::Round(std::span<Turn> turns) {
  const Clock::time_point start = Clock::now();
  RoundReport report;
  report.draft_seconds = Draft(turns);
  Verify(turns, report);
  const Clock::time_point verified = Clock::now();
  Accept(turns);
  report.accept_seconds = SecondsSince(verified);
  const Clock::time_point accepted = Clock::now();
  Commit(turns);
  Settle(turns, report.width);
  report.commit_seconds = SecondsSince(accepted);
  report.engine_seconds = parts_.target->engine_seconds();
  if (report.draft_seconds > 0) report.engine_seconds += parts_.drafter->engine_seconds();
  report.round_seconds = SecondsSince(start);
  return report;
}

// Decides what each row feeds: a chunk of its prompt, or the rest of its text followed by drafts.
double SpeculativeLoop::Draft(std::span<Turn> turns) {
  offers_.clear();
  draft_rows_.clear();
  bool offered = false;
  for (Turn& turn : turns) {
    turn.chunk = ChunkLength(turn);
    turn.drafted = {};
    turn.path = {};
    OfferDrafts(turn);
    offered = offered || turn.offered > 0;
  }
  if (!offered) return 0;
  const Clock::time_point start = Clock::now();
  const int most = parts_.draft_length.Choose(offers_, ToDraft().Cost());
  for (std::size_t i = 0; i < turns.size(); ++i) {
    draft_rows_[i].limit = std::min(offers_[i].tokens(), most);
  }
  parts_.drafter->Draft(draft_rows_);
  if (parts_.draft_length.weighs_costs()) CutDrafts();
  for (Turn& turn : turns) {
    turn.proposal = &RowOf(*turn.session).proposal;
    turn.drafted = turn.proposal->tokens();
  }
  return SecondsSince(start);
}

// Where the drafter says how likely its drafts are accepted, only as many are verified as pay.
void SpeculativeLoop::CutDrafts() {
  bool knows = false;
  drafted_.clear();
  for (std::size_t i = 0; i < draft_rows_.size(); ++i) {
    DraftOffer offer = offers_[i];
    const int limit = draft_rows_[i].limit;
    offer.gains = offer.gains.first(static_cast<std::size_t>(limit));
    const std::span<const double> gains = parts_.drafter->Gains(draft_rows_[i].row);
    if (limit > 0 && !gains.empty()) {
      offer.gains = gains;
      offer.is_drafted = knows = true;
    }
    drafted_.push_back(offer);
  }
  if (!knows) return;
  const int most = parts_.draft_length.Choose(drafted_, [](int) { return 0.0; });
  for (std::size_t i = 0; i < draft_rows_.size(); ++i) {
    draft_rows_[i].proposal->Truncate(std::min(drafted_[i].tokens(), most));
  }
}

// Runs the target over all rows.
void SpeculativeLoop::Verify(std::span<Turn> turns, RoundReport& report) {
  if (parts_.encoder != nullptr) Encode(turns);
  const bool is_pending = parts_.drafter != nullptr && parts_.drafter->is_pending();
  const bool takes_pending = is_pending && TakesPending(turns);
  if (is_pending && !takes_pending) parts_.drafter->Collect(draft_rows_);
  const int width = WriteInputs(turns);
  const auto of_any = [&](auto holds) { return std::any_of(turns.begin(), turns.end(), holds); };
  Wanted wanted;
  wanted.logits = of_any([this](const Turn& turn) { return ReadsLogits(RowOf(*turn.session)); });
  const bool drafted = of_any([](const Turn& turn) { return !turn.drafted.empty(); });
  wanted.num_logits = drafted ? parts_.shapes.LogitsFor(width) : 1;
  wanted.pending_drafts = takes_pending;
  report.width = width;
  report.draft_seconds += overlap_.Beside(turns, draft_rows_, width,
                                          [&] { parts_.target->Forward(inputs_, width, wanted); });
  if (takes_pending) parts_.drafter->Collect(draft_rows_);
  if (parts_.encoder != nullptr) parts_.encoder->Wait();
}

// Writes what each row feeds, and gives the width of the round. An idle row is padding after the
// text that it holds.
int SpeculativeLoop::WriteInputs(std::span<const Turn> turns) {
  for (std::size_t row = 0; row < rows_.size(); ++row) {
    inputs_[row] = RowInput();
    inputs_[row].write_index = rows_[row].session->committed();
  }
  int widest = 1;
  for (const Turn& turn : turns) {
    RowInput& input = inputs_[static_cast<std::size_t>(turn.session->row())];
    input.tokens = turn.session->pending().first(static_cast<std::size_t>(turn.chunk));
    input.drafts = turn.drafted;
    input.tree = &RowOf(*turn.session).proposal.tree();
    widest = std::max(widest, input.count());
  }
  return parts_.shapes.WidthFor(widest);
}

// Pending drafts are written after the first token of every row, so no row may feed more text.
bool SpeculativeLoop::TakesPending(std::span<const Turn> turns) const {
  return std::all_of(turns.begin(), turns.end(), [](const Turn& turn) { return turn.chunk == 1; });
}

// Chooses for all rows before anything changes: if logits are NaN, every row is unchanged and its
// session can continue.
void SpeculativeLoop::Accept(std::span<Turn> turns) {
  const auto is_reading = [](const Turn& turn) {
    return turn.chunk < static_cast<int>(turn.session->pending().size());
  };
  for (Turn& turn : turns) {
    turn.accepted = 0;
    if (!is_reading(turn)) Choose(turn);
  }
  for (Turn& turn : turns) {
    Row& row = RowOf(*turn.session);
    if (!is_reading(turn)) {
      turn.path = row.acceptance.path();
      turn.accepted = static_cast<int>(turn.path.size());
      row.drafts.Learn(turn.part, row.proposal, turn.path);
    }
    if (parts_.drafter != nullptr) ShowDrafter(turn, is_reading(turn));
  }
}

void SpeculativeLoop::ShowDrafter(const Turn& turn, bool is_reading) {
  Row& row = RowOf(*turn.session);
  const TargetTaps taps(*parts_.target, turn.session->row());
  Observation seen;
  seen.taps = &taps;
  seen.committed = static_cast<std::size_t>(turn.session->committed());
  seen.top_ids = parts_.target->TopIds(turn.session->row());
  seen.read = turn.session->pending().first(static_cast<std::size_t>(turn.chunk));
  if (!is_reading) {
    seen.proposal = &row.proposal;
    seen.answers = parts_.target->NextIds(turn.session->row());
    seen.path = row.acceptance.path();
    seen.bonus = row.acceptance.bonus();
  }
  parts_.drafter->Observe(turn.session->row(), seen);
}

void SpeculativeLoop::Commit(std::span<Turn> turns) {
  for (Turn& turn : turns) {
    Session& session = *turn.session;
    turn.emitted = {};
    turn.ended = false;
    if (turn.chunk < static_cast<int>(session.pending().size())) {
      session.Commit(turn.chunk);
    } else {
      Emit(turn);
    }
  }
}

// Charges each row for the round's drafts by the cost curve: for the wider round and for drafting,
// even if no draft resulted. Each accepted draft saves a plain round.
void SpeculativeLoop::Settle(std::span<const Turn> turns, int width) {
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const Turn& turn = turns[i];
    const int rows = turn.chunk + static_cast<int>(turn.drafted.size());
    double cost = parts_.draft_length.Extra(offers_, rows) + overlap_.Cost(turn, width);
    if (draft_rows_[i].limit > 0 && !offers_[i].is_drafted) cost += parts_.drafter->spent();
    const double saved = turn.accepted * parts_.draft_length.plain_cost();
    RowOf(*turn.session)
        .drafts.Settle(turn.part, cost, saved, static_cast<int>(turn.emitted.size()));
  }
}

void SpeculativeLoop::Encode(std::span<Turn> turns) {
  sources_.clear();
  for (const Turn& turn : turns) {
    if (turn.session->committed() > 0) continue;
    sources_.push_back({turn.session->row(), turn.session->source()});
  }
  parts_.encoder->Encode(sources_);
}

// The most rows of a round of this session, so that every token is computed at the same cache
// offset as in plain decoding.
int SpeculativeLoop::Room(const Session& session) const {
  return std::min(parts_.shapes.widths.back(), parts_.target->kv_cache().Room(session.committed()));
}

// As many pending tokens as fit, if they fill more than half of their width; otherwise only what
// fills the next smaller width, because a round costs what its width costs. While other calls write
// texts, rounds are kept short.
int SpeculativeLoop::ChunkLength(const Turn& turn) const {
  const std::vector<int>& widths = parts_.shapes.widths;
  const Session& session = *turn.session;
  const int widest =
      turn.beside_text ? parts_.draft_length.costs().WidestFor(kMostBesideText) : widths.back();
  const int rows = std::min({static_cast<int>(session.pending().size()), Room(session), widest});
  const auto above = std::lower_bound(widths.begin(), widths.end(), rows);
  if (rows * 2 > *above || above == widths.begin()) return rows;
  return *std::prev(above);
}

// Drafts are only offered after the whole text, and only if the round has room.
void SpeculativeLoop::OfferDrafts(Turn& turn) {
  Session& session = *turn.session;
  Row& row = RowOf(session);
  row.proposal.Clear();
  row.drafts.SkipRound();
  turn.offered = 0;
  const bool whole = turn.chunk == static_cast<int>(session.pending().size());
  const int limit =
      std::min({num_draft_tokens_, turn.max_new_tokens - 1, Room(session) - turn.chunk});
  DraftRow wanted = {session.row(), session.tokens(), session.committed(), limit,
                     &row.proposal, &row.sampling,    &turn.error};
  DraftOffer offer{{}, turn.chunk};
  if (turn.may_draft && parts_.drafter != nullptr && whole && limit > 0) {
    offer = row.drafts.Ask(ToDraft(), wanted, turn.chunk);
    turn.offered = offer.tokens();
  }
  turn.part = wanted.part;
  wanted.limit = turn.offered;
  draft_rows_.push_back(wanted);
  offers_.push_back(offer);
}

// Whether the engine's own choice after every node is not enough.
bool SpeculativeLoop::ReadsLogits(const Row& row) const {
  if (!row.sampling.options().is_argmax()) return true;
  return IsLossy(parts_.plan.acceptance) && row.proposal.size() > 0;
}

// Finds the part of the proposal that the target accepts, and the token after it.
void SpeculativeLoop::Choose(const Turn& turn) {
  const int index = turn.session->row();
  Row& row = RowOf(*turn.session);
  if (!ReadsLogits(row)) {
    row.acceptance.Keep(row.proposal, parts_.target->NextIds(index));
    return;
  }
  TargetRows logits(*parts_.target, index);
  ProposedText text;
  text.proposal = &row.proposal;
  text.logits = &logits;
  text.options = &row.sampling.options();
  text.counts = row.sampling.counts();
  text.position = turn.session->length();
  text.rule = parts_.plan.acceptance;
  text.typical = parts_.plan.typical;
  text.relaxed = parts_.plan.relaxed;
  if (row.proposal.size() > 0) {
    text.draft_probabilities = parts_.drafter->Probabilities(index, row.proposal.size());
  }
  const Verdict verdict = choice_.Judge(text);
  row.acceptance.Take(row.proposal, verdict.last, verdict.bonus);
  if (verdict.bonus != kNoToken) return;
  throw Error(ErrorCode::kBackend, "The target's logits are not numbers.",
              "Find out with `ptgc check` which stage is damaged.");
}

// Adds the accepted path and the bonus token, up to the first token that ends the text.
void SpeculativeLoop::Emit(Turn& turn) {
  Session& session = *turn.session;
  Row& row = RowOf(session);
  const int root = session.length() - 1;
  parts_.target->kv_cache().Keep(session.row(), root, row.acceptance.path());
  for (int node : row.acceptance.path()) {
    if (turn.ended) break;
    AddToken(turn, row.proposal.token(node));
  }
  if (!turn.ended) {
    AddToken(turn, row.acceptance.bonus());
  } else if (parts_.drafter != nullptr) {
    parts_.drafter->Truncate(session.row(), session.length());
  }
  turn.emitted = session.tokens().subspan(static_cast<std::size_t>(root) + 1);
  turn.accepted = std::min(turn.accepted, static_cast<int>(turn.emitted.size()));
}

void SpeculativeLoop::AddToken(Turn& turn, TokenId token) {
  turn.session->Extend(token);
  RowOf(*turn.session).sampling.Push(token);
  turn.ended = std::find(turn.eos_token_ids.begin(), turn.eos_token_ids.end(), token) !=
               turn.eos_token_ids.end();
}

void SpeculativeLoop::Begin(const Session& session) {
  RowOf(session).drafts.Begin();
  parts_.target->kv_cache().Begin(session.row());
  if (parts_.drafter != nullptr) parts_.drafter->Begin(session.row());
}

void SpeculativeLoop::Rewind(Session& session) {
  KVCache& cache = parts_.target->kv_cache();
  session.Uncommit(cache.Held(session.row(), session.committed()));
  if (session.committed() == 0) cache.Begin(session.row());
  if (parts_.drafter != nullptr) parts_.drafter->Truncate(session.row(), session.length());
}

void SpeculativeLoop::Fork(const Session& from, Session& to) {
  RowOf(to).drafts = RowOf(from).drafts;
  parts_.target->kv_cache().CopyRow(from.row(), to.row(), from.committed());
  if (parts_.encoder != nullptr) parts_.encoder->CopyRow(from.row(), to.row());
  if (parts_.drafter != nullptr) parts_.drafter->CopyRow(from.row(), to.row());
}

void SpeculativeLoop::Clear() {
  parts_.target->kv_cache().Clear();
  if (parts_.drafter != nullptr) parts_.drafter->Clear();
}

std::vector<double> SpeculativeLoop::Measure(const EngineRuns& runs) {
  std::vector<double> seconds;
  if (runs.role == "target") {
    seconds = parts_.target->Measure(runs);
  } else if (parts_.drafter != nullptr) {
    seconds = parts_.drafter->Measure(runs);
  }
  if (!seconds.empty()) return seconds;
  throw Error(ErrorCode::kUsage,
              "This build has no round of " + std::to_string(runs.num_tokens) + " tokens and " +
                  std::to_string(runs.num_logits) + " logits after " +
                  std::to_string(runs.past_length) + " tokens for the role '" + runs.role + "'.",
              "Measure the widths of its shape plan.");
}

}  // namespace ptgc
