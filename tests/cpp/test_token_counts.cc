#include <gtest/gtest.h>

#include <vector>

#include "counted_new.h"
#include "sampling/token_counts.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

Tokens Ids(const TokenCounts& counts) {
  return {counts.token_ids().begin(), counts.token_ids().end()};
}

TEST(TokenCounts, TellsPromptFromGenerated) {
  TokenCounts counts(10, 20);
  counts.AppendPrompt(Tokens{1, 2, 1});
  counts.Push(2);
  counts.Push(3);
  counts.Push(3);
  EXPECT_EQ(Ids(counts), (Tokens{1, 2, 3}));
  EXPECT_EQ(counts.generated(1), 0);
  EXPECT_EQ(counts.generated(2), 1);
  EXPECT_EQ(counts.generated(3), 2);
  EXPECT_TRUE(counts.contains(1));
  EXPECT_FALSE(counts.contains(4));
  EXPECT_EQ(counts.length(), 6);
}

TEST(TokenCounts, NextPromptMakesAllBeforeItPrompt) {
  TokenCounts counts(10, 20);
  counts.AppendPrompt(Tokens{1});
  counts.Push(2);
  counts.AppendPrompt(Tokens{3});
  EXPECT_EQ(counts.generated(2), 0);
  counts.Push(2);
  EXPECT_EQ(counts.generated(2), 1);
  counts.AppendPrompt({});
  EXPECT_EQ(counts.generated(2), 0);
  EXPECT_TRUE(counts.contains(2));
}

TEST(TokenCounts, RewindingUndoesTokenByToken) {
  const Tokens prompt = {1, 2, 1, 5};
  const Tokens text = {2, 3, 3, 1, 6};
  TokenCounts counts(10, 20);
  counts.AppendPrompt(prompt);
  for (TokenId id : text) counts.Push(id);
  for (std::size_t left = text.size(); left-- > 0;) counts.Pop(text[left]);
  EXPECT_EQ(Ids(counts), (Tokens{1, 2, 5}));
  for (TokenId id = 0; id < 10; ++id) EXPECT_EQ(counts.generated(id), 0);
  counts.Pop(5);
  counts.Pop(1);
  EXPECT_EQ(Ids(counts), (Tokens{1, 2}));
  counts.Push(5);
  EXPECT_EQ(counts.generated(5), 1);
  counts.Pop(5);
  counts.Pop(2);
  counts.Pop(1);
  EXPECT_EQ(counts.length(), 0);
  EXPECT_TRUE(Ids(counts).empty());
}

TEST(TokenCounts, ForgetsTheText) {
  TokenCounts counts(10, 20);
  counts.AppendPrompt(Tokens{1, 2});
  counts.Push(3);
  counts.Clear();
  EXPECT_TRUE(Ids(counts).empty());
  for (TokenId id = 0; id < 10; ++id) EXPECT_FALSE(counts.contains(id));
  counts.Push(3);
  EXPECT_EQ(counts.generated(3), 1);
}

TEST(TokenCounts, AllocatesNothingOnceMade) {
  TokenCounts counts(1000, 500);
  const Tokens prompt = {1, 2, 3};
  const long before = NumAllocations();
  counts.AppendPrompt(prompt);
  for (TokenId id = 100; id < 597; ++id) counts.Push(id);
  for (TokenId id = 597; id-- > 100;) counts.Pop(id);
  counts.Clear();
  EXPECT_EQ(NumAllocations(), before);
}

}  // namespace
}  // namespace ptgc
