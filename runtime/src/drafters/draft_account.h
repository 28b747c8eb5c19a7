// DraftAccount: limits what a session's drafts may cost compared with plain decoding.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ptgc {

// Sums up, by the cost curve, what rounds with drafts cost more than plain ones, minus what
// accepted drafts saved. A session may fall behind by a few plain rounds and a small share of its
// tokens, so that over a long text drafts cost at most that share, however bad they are. Gains and
// unused allowance are capped at a few rounds, so that drafts that become bad are noticed soon. A
// session that has used up its allowance decodes plainly until its text has grown.
class DraftAccount {
 public:
  // Records a round of the session: what its drafts cost and what accepted ones saved, in seconds,
  // and the tokens that it added.
  void Add(double cost, double saved, int tokens) {
    lost_ += cost - saved;
    tokens_ += tokens;
  }
  // Seconds that drafts of the next round may cost if none is accepted; `plain` is the cost of a
  // plain round.
  double Budget(double plain) {
    const double allowed = kShare * static_cast<double>(tokens_) * plain;
    lost_ = std::max(lost_, allowed - kKept * plain);
    return kAtFirst * plain + allowed - lost_;
  }

 private:
  static constexpr double kAtFirst = 3;    // Plain rounds that a session may be behind ...
  static constexpr double kShare = 0.015;  // ... and, in addition, per token.
  static constexpr double kKept = 4;       // Cap of gains and unused allowance, in plain rounds.

  double lost_ = 0;          // Seconds behind plain decoding; negative if drafts paid.
  std::int64_t tokens_ = 0;  // New tokens.
};

}  // namespace ptgc
