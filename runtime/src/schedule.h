// Schedule: which request runs in which row.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "generation.h"
#include "session.h"
#include "speculative_loop.h"
#include "token.h"

namespace ptgc {

// Runs any number of generations, in order, through a few rows; a row that becomes free takes the
// next one.
class Schedule {
 public:
  // Hears of new tokens of generation `index`; false ends that text.
  using OnTokens = std::function<bool(std::size_t index, std::span<const TokenId>)>;

  // `fresh`: a row is emptied before each generation.
  Schedule(std::span<Generation> generations, std::span<Session* const> rows, bool fresh);

  // Ends what is over, fills the rows and gives the turns of the next round; none: all is done.
  std::span<Turn> NextTurns();
  // Accounts for a round of the turns given last.
  void Record(const RoundReport& report, const OnTokens& on_tokens);

 private:
  // One row and what it is busy with.
  struct Lane {
    Session* session;                  // The row.
    Generation* generation = nullptr;  // What it works on; null before the first.
    std::size_t index = 0;             // Which generation that is.

    bool idle() const { return generation == nullptr || generation->finished(); }
  };
  void StartNext(Lane& lane);

  std::span<Generation> generations_;  // All of them, in the order of the requests.
  bool fresh_;                         // Whether rows are emptied in between.
  std::size_t next_ = 0;               // The first that has no row yet.
  std::vector<Lane> lanes_;            // The rows at hand.
  std::vector<Lane*> stepping_;        // The lanes of `turns_`.
  std::vector<Turn> turns_;            // The round under way.
};

}  // namespace ptgc
