#include "speculative_loop.h"

#include <algorithm>
#include <utility>

#include "clock.h"

namespace ptgc {
namespace {

std::size_t Row(const Turn& turn) { return static_cast<std::size_t>(turn.session->row()); }

}  // namespace

SpeculativeLoop::SpeculativeLoop(Target& target, const DecodePlan& plan, const ShapePlan& shapes,
                                 DraftLength draft_length, int num_draft_tokens,
                                 std::span<Session*> sessions)
    : target_(target),
      shapes_(shapes),
      draft_length_(std::move(draft_length)),
      num_draft_tokens_(std::min(num_draft_tokens, shapes.verify_width - 1)),
      sessions_(sessions.begin(), sessions.end()),
      proposals_(sessions.size(), Proposal(plan.tree)),
      acceptances_(sessions.size(), Acceptance(plan.tree.num_nodes() - 1)),
      inputs_(sessions.size()) {
  offers_.reserve(sessions.size());
}

RoundReport SpeculativeLoop::Round(std::span<Turn> turns) {
  const Clock::time_point start = Clock::now();
  Draft(turns);
  const int width = Verify(turns);
  Accept(turns);
  Commit(turns);
  return {width, target_.engine_seconds(), SecondsSince(start)};
}

// Decides what each row feeds: a chunk of its prompt, or its last token with drafts after it.
void SpeculativeLoop::Draft(std::span<Turn> turns) {
  offers_.clear();
  int min_width = 1;
  for (Turn& turn : turns) {
    turn.chunk = ChunkLength(static_cast<int>(turn.session->pending().size()));
    min_width = std::max(min_width, turn.chunk);
    OfferDrafts(turn);
  }
  const int most = draft_length_.Choose(offers_, min_width);
  for (Turn& turn : turns) {
    Proposal& proposal = proposals_[Row(turn)];
    proposal.Truncate(most);
    turn.drafted = proposal.tokens();
  }
}

// Runs the target over all rows; idle ones are padding at the end of what they hold.
int SpeculativeLoop::Verify(std::span<Turn> turns) {
  int width = 1;
  int length = 0;
  bool drafted = false;
  for (std::size_t row = 0; row < sessions_.size(); ++row) {
    inputs_[row] = RowInput();
    inputs_[row].write_index = sessions_[row]->committed();
    length = std::max(length, sessions_[row]->committed());
  }
  for (const Turn& turn : turns) {
    RowInput& input = inputs_[Row(turn)];
    input.tokens = turn.session->pending().first(static_cast<std::size_t>(turn.chunk));
    input.drafts = turn.drafted;
    input.tree = &proposals_[Row(turn)].tree();
    width = std::max(width, input.count());
    drafted = drafted || !input.drafts.empty();
  }
  width = shapes_.WidthFor(width);
  target_.kv_cache().Grow(length + width, length);
  target_.Forward(inputs_, width, drafted ? shapes_.LogitsFor(width) : 1);
  return width;
}

void SpeculativeLoop::Accept(std::span<Turn> turns) {
  for (Turn& turn : turns) {
    const Proposal& proposal = proposals_[Row(turn)];
    Acceptance& acceptance = acceptances_[Row(turn)];
    acceptance.Greedy(proposal, target_.NextIds(turn.session->row()));
    turn.accepted = static_cast<int>(acceptance.path().size());
    if (proposal.size() > 0) {
      turn.session->estimate().Observe(proposal.match_length(), proposal.size(), turn.accepted);
      turn.session->drafter()->Accept(acceptance.path());
    } else if (turn.offered > 0) {
      turn.session->estimate().Skip(proposal.match_length());
    }
  }
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

// The whole chunk where it fits; of a short rest only as much as fills the next smaller width,
// because a round costs what its width costs.
int SpeculativeLoop::ChunkLength(int pending) const {
  const int largest = shapes_.widths.back();
  if (pending >= largest) return largest;
  const auto above = std::lower_bound(shapes_.widths.begin(), shapes_.widths.end(), pending);
  if (pending * 2 > *above || above == shapes_.widths.begin()) return pending;
  return *std::prev(above);
}

void SpeculativeLoop::OfferDrafts(Turn& turn) {
  Session& session = *turn.session;
  Proposal& proposal = proposals_[Row(turn)];
  proposal.Clear();
  const int limit = std::min(num_draft_tokens_, turn.max_new_tokens - 1);
  if (turn.may_draft && session.drafter() != nullptr && session.pending().size() == 1 &&
      limit > 0) {
    session.drafter()->Draft(session.tokens(), limit, proposal);
  }
  turn.offered = proposal.size();
  offers_.push_back({proposal.size(), session.estimate().Rate(proposal.match_length())});
}

// Adds the accepted path and the bonus token, up to the first that ends the text.
void SpeculativeLoop::Emit(Turn& turn) {
  Session& session = *turn.session;
  const Proposal& proposal = proposals_[Row(turn)];
  const Acceptance& acceptance = acceptances_[Row(turn)];
  const int root = session.length() - 1;
  if (!proposal.tree().is_chain()) {
    target_.kv_cache().Gather(session.row(), root, acceptance.path());
  }
  const auto add = [&](TokenId token) {
    session.Extend(token);
    turn.ended = std::find(turn.eos_token_ids.begin(), turn.eos_token_ids.end(), token) !=
                 turn.eos_token_ids.end();
  };
  for (int node : acceptance.path()) {
    if (turn.ended) break;
    add(proposal.tokens()[static_cast<std::size_t>(node) - 1]);
  }
  if (!turn.ended) add(acceptance.bonus());
  turn.emitted = session.tokens().subspan(static_cast<std::size_t>(root) + 1);
  turn.accepted = std::min(turn.accepted, static_cast<int>(turn.emitted.size()));
}

}  // namespace ptgc
