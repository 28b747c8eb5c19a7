// DraftAccount: what a session's drafts have cost over plain decoding, so that they do no harm.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ptgc {

// Sums up by the cost curve what rounds with drafts cost over plain ones, less what accepted drafts
// saved. A session may fall behind by a few plain rounds and a small share of its tokens, so that
// over a long text drafts cost at most that share, however bad they are. Of gains and of unused
// allowance only a few rounds are kept, so that drafts that turn bad are noticed soon. A session
// that has used up its allowance decodes plainly until its text has grown.
class DraftAccount {
 public:
  // A round of the session: what its drafts cost, what those that were accepted saved, in seconds,
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
  static constexpr double kAtFirst = 3;    // Plain rounds that a session may be behind at first ...
  static constexpr double kShare = 0.015;  // ... and, in addition, per token.
  static constexpr double kKept = 4;  // Plain rounds of gains and unused allowance that are kept.

  double lost_ = 0;          // Seconds behind plain decoding; negative where drafts have paid.
  std::int64_t tokens_ = 0;  // New tokens.
};

}  // namespace ptgc
