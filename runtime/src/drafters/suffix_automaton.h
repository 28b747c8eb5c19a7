// SuffixAutomaton: the substrings of a growing text, how often each occurred, and where last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/token.h"

namespace ptgc {

// Blumer et al., "The smallest automaton recognizing the subwords of a text" (1985). A state stands
// for all substrings that end at the same places of the text; its link leads to the longest of
// their suffixes that also ends elsewhere. For the text a b a b a:
//
//            a         b         a         b         a        ends at
//   (root) ---> [a] ------> [ab] ---> [aba] ---> [abab] ---> [ababa]
//     |  \________________^
//     |         b                     link of [ababa]: [aba], ends at 2 and 4
//     |                               link of [aba]:   [a],   ends at 0, 2 and 4
//
// A token adds at most two states and three transitions, in amortised constant time.
class SuffixAutomaton {
 public:
  static constexpr int kRoot = 0;
  static constexpr int kNone = -1;

  // What may follow a state's substrings.
  struct Continuation {
    int state = kNone;  // The state with the token added; kNone at the end of the text, if the
                        // substrings do not occur anywhere else.
    TokenId token = kNoToken;
    double probability = 0;  // Its share of everything that followed.
  };

  // For texts of at most `max_length` tokens below 2^31. All memory is taken here.
  explicit SuffixAutomaton(int max_length);

  void Clear();
  void Append(TokenId token);
  // Tokens of the text.
  int size() const { return size_; }

  // The state of the longest suffix of the text that also occurs earlier; the root if there is
  // none.
  int Repeated() const { return last_ == kRoot ? kRoot : At(last_).link; }
  // Tokens of a state's longest substring.
  int Length(int state) const { return At(state).length; }
  // What will follow a substring of this state that has `length` tokens: what followed it last, or
  // if it is short and something else was much more frequent, that.
  Continuation Likeliest(int state, int length) const;

 private:
  struct State {
    int length = 0;      // Tokens of its longest substring.
    int link = kNone;    // See above; kNone for the root.
    int edges = kNone;   // Its first transition ...
    int latest = kNone;  // ... the one by which its substrings were last continued ...
    int most = kNone;    // ... and the one by which they most often were.
    int count = 0;       // Places where its substrings end.
    int last_end = 0;    // The last of them.
  };
  struct Edge {
    int from = 0;            // The state that it leaves.
    std::int32_t token = 0;  // By which token.
    int to = 0;              // The state that it leads to.
    int next = kNone;        // The next transition of the same state.
  };

  State& At(int state) { return states_[static_cast<std::size_t>(state)]; }
  const State& At(int state) const { return states_[static_cast<std::size_t>(state)]; }
  int NewState(const State& state);
  // The place in the table of a transition, or where it would be.
  std::size_t Slot(int from, std::int32_t token) const;
  // The transition; kNone if there is none.
  int Find(int from, std::int32_t token) const { return slots_[Slot(from, token)]; }
  Edge& EdgeAt(int edge) { return edges_[static_cast<std::size_t>(edge)]; }
  const Edge& EdgeAt(int edge) const { return edges_[static_cast<std::size_t>(edge)]; }
  // How often it was taken.
  int CountOf(int edge) const { return At(EdgeAt(edge).to).count; }
  int AddEdge(int from, std::int32_t token, int to);
  int Split(int state, int from, std::int32_t token);
  void CountSuffixes(int before, std::int32_t token);

  std::vector<State> states_;  // Of 2 * max_length, those in use.
  std::vector<Edge> edges_;    // Of 3 * max_length, those in use.
  std::vector<int> slots_;     // Hash table of transitions with open addressing; kNone if free.
  int size_ = 0;               // Tokens of the text.
  int last_ = kRoot;           // The state of the whole text.
};

}  // namespace ptgc
