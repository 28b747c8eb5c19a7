#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "counted_new.h"
#include "drafters/suffix_automaton.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

// What a text says about its own end, found by looking everywhere.
struct Looked {
  int repeated = 0;          // Length of the longest suffix that occurs earlier.
  TokenId token = kNoToken;  // What followed it last, or if it is short much more often.
  double probability = 0;    // Its share.
};

int Agreeing(const Tokens& text, std::size_t end) {
  std::size_t length = 0;
  while (length <= end && text[end - length] == text[text.size() - 1 - length]) ++length;
  return static_cast<int>(length);
}

Looked LookEverywhere(const Tokens& text) {
  Looked found;
  for (std::size_t end = 0; end + 1 < text.size(); ++end) {
    found.repeated = std::max(found.repeated, Agreeing(text, end));
  }
  if (found.repeated == 0) return found;
  std::map<TokenId, int> counts;
  std::map<TokenId, std::size_t> last;
  int total = 0;
  for (std::size_t end = 0; end + 1 < text.size(); ++end) {
    if (Agreeing(text, end) < found.repeated) continue;
    ++counts[text[end + 1]];
    last[text[end + 1]] = end;
    ++total;
  }
  TokenId latest = last.begin()->first, most = latest;
  for (const auto& [token, end] : last) {
    if (end > last[latest]) latest = token;
    const int more = counts[token] - counts[most];
    if (more > 0 || (more == 0 && end > last[most])) most = token;
  }
  found.token = found.repeated < 3 && counts[most] >= 2 * counts[latest] ? most : latest;
  found.probability = static_cast<double>(counts[found.token]) / total;
  return found;
}

TEST(SuffixAutomaton, KnowsAfterEveryTokenWhatLookingEverywhereFinds) {
  std::mt19937 random(1);
  for (int alphabet : {2, 3, 7, 40}) {
    SuffixAutomaton automaton(300);
    Tokens text;
    for (int i = 0; i < 300; ++i) {
      text.push_back(static_cast<TokenId>(random() % static_cast<unsigned>(alphabet)) * 1000003);
      automaton.Append(text.back());
      const Looked expected = LookEverywhere(text);
      ASSERT_EQ(automaton.Length(automaton.Repeated()), expected.repeated) << i;
      if (expected.repeated == 0) continue;
      const auto next = automaton.Likeliest(automaton.Repeated(), expected.repeated);
      ASSERT_EQ(next.token, expected.token) << alphabet << " " << i;
      ASSERT_DOUBLE_EQ(next.probability, expected.probability);
    }
  }
}

TEST(SuffixAutomaton, ContinuationsLeadOn) {
  SuffixAutomaton automaton(32);
  for (TokenId token : {1, 2, 3, 9, 1, 2, 4, 8, 1, 2, 3, 7, 5, 1, 2}) automaton.Append(token);
  auto next = automaton.Likeliest(automaton.Repeated(), 2);
  EXPECT_EQ(next.token, 3);
  EXPECT_DOUBLE_EQ(next.probability, 2.0 / 3);
  next = automaton.Likeliest(next.state, 3);
  EXPECT_EQ(next.token, 7);
  EXPECT_DOUBLE_EQ(next.probability, 0.5);
}

TEST(SuffixAutomaton, NothingFollowsTheEnd) {
  SuffixAutomaton automaton(8);
  EXPECT_EQ(automaton.Repeated(), SuffixAutomaton::kRoot);
  EXPECT_EQ(automaton.Likeliest(automaton.Repeated(), 2).state, SuffixAutomaton::kNone);
  for (TokenId token : {5, 5}) automaton.Append(token);
  const auto next = automaton.Likeliest(automaton.Repeated(), 2);
  EXPECT_EQ(next.token, 5);
  EXPECT_EQ(automaton.Likeliest(next.state, 3).state, SuffixAutomaton::kNone);
}

TEST(SuffixAutomaton, CountsOfLongSuffixesStayExactInATextOfOneToken) {
  SuffixAutomaton automaton(2000);
  for (int i = 0; i < 2000; ++i) automaton.Append(3);
  EXPECT_EQ(automaton.Length(automaton.Repeated()), 1999);
  EXPECT_EQ(automaton.Likeliest(automaton.Repeated(), 2).token, 3);
}

// The texts with the most states and with the most transitions of their length.
TEST(SuffixAutomaton, AllocatesNothing) {
  constexpr int kLength = 1000;
  Tokens most_states(kLength, 2), most_edges(kLength, 2);
  most_states[0] = most_edges[0] = 1;
  most_edges.back() = 3;
  Tokens varied;
  for (int i = 0; i < kLength; ++i) varied.push_back(i * i % 17);
  SuffixAutomaton automaton(kLength), other(kLength);
  const long before = NumAllocations();
  for (const Tokens* text : {&most_states, &most_edges, &varied}) {
    automaton.Clear();
    for (TokenId token : *text) automaton.Append(token);
    other = automaton;
    EXPECT_EQ(other.size(), kLength);
  }
  EXPECT_EQ(NumAllocations(), before);
}

}  // namespace
}  // namespace ptgc
