#include <gtest/gtest.h>

#include "base/error.h"
#include "language.h"
#include "loops/session.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

Session MakeSession(int max_length, int context_length) {
  return Session(0, {max_length, context_length, kVocabSize});
}

template <typename Action>
ErrorCode CodeOf(Action action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_FALSE(error.action().empty());
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::kInternal;
}

TEST(Session, RefusesIdsOutsideTheVocabulary) {
  Session session = MakeSession(10, 10);
  EXPECT_EQ(CodeOf([&] { session.Append(Tokens{1, kVocabSize}); }), ErrorCode::kUsage);
  EXPECT_EQ(CodeOf([&] { session.Append(Tokens{-1}); }), ErrorCode::kUsage);
  EXPECT_EQ(CodeOf([&] { session.Append(Tokens{}); }), ErrorCode::kUsage);
  EXPECT_EQ(session.length(), 0);
}

TEST(Session, RefusesPromptsThatDoNotFit) {
  Session build = MakeSession(4, 10);
  EXPECT_EQ(CodeOf([&] { build.Append(Tokens(5, 1)); }), ErrorCode::kCapacity);
  Session model = MakeSession(10, 4);
  EXPECT_EQ(CodeOf([&] { model.Append(Tokens(5, 1)); }), ErrorCode::kCapacity);
  model.Append(Tokens(4, 1));
  EXPECT_EQ(CodeOf([&] { model.Append(Tokens{1}); }), ErrorCode::kCapacity);
  EXPECT_EQ(model.length(), 4);
}

TEST(Session, RefusesMoreNewTokensThanFit) {
  Session session = MakeSession(8, 100);
  EXPECT_EQ(CodeOf([&] { session.CheckRequest({}, 1); }), ErrorCode::kUsage);
  session.Append(Tokens(5, 1));
  EXPECT_NO_THROW(session.CheckRequest({}, 3));
  EXPECT_EQ(CodeOf([&] { session.CheckRequest({}, 4); }), ErrorCode::kCapacity);
  EXPECT_EQ(CodeOf([&] { session.CheckRequest({}, 0); }), ErrorCode::kUsage);
}

TEST(Session, RewindLeavesTheLastTokenPending) {
  Session session = MakeSession(10, 10);
  session.Append(Tokens{1, 2, 3, 4});
  session.Commit(4);
  session.Rewind(1);
  EXPECT_EQ(session.length(), 3);
  EXPECT_EQ(session.committed(), 2);
  session.Rewind(3);
  EXPECT_EQ(session.committed(), 0);
  EXPECT_EQ(CodeOf([&] { session.Rewind(1); }), ErrorCode::kUsage);
  EXPECT_EQ(CodeOf([&] { session.Rewind(-1); }), ErrorCode::kUsage);
}

TEST(Session, GeneratedTokenIsPending) {
  Session session = MakeSession(10, 10);
  session.Append(Tokens{1, 2});
  session.Extend(3);
  EXPECT_EQ(session.committed(), 2);
  EXPECT_EQ(session.pending().size(), 1U);
  EXPECT_EQ(session.pending()[0], 3);
}

TEST(Session, PromptOfAnEncoderIsItsSource) {
  SessionLimits limits{8, 100, kVocabSize};
  limits.max_source_length = 4;
  limits.start_token_id = 0;
  Session session(0, limits);
  session.Append(Tokens{5, 6});
  session.Append(Tokens{7});
  EXPECT_EQ(session.source().size(), 3U);
  EXPECT_EQ(session.prompt_length(), 3);
  EXPECT_EQ(session.length(), 1);
  EXPECT_EQ(CodeOf([&] { session.Append(Tokens{1, 1}); }), ErrorCode::kCapacity);
  EXPECT_NO_THROW(session.CheckRequest({}, 7));
  EXPECT_EQ(CodeOf([&] { session.CheckRequest({}, 8); }), ErrorCode::kCapacity);
  session.Extend(9);
  EXPECT_EQ(CodeOf([&] { session.Append(Tokens{1}); }), ErrorCode::kUsage);
  EXPECT_EQ(CodeOf([&] { session.Rewind(2); }), ErrorCode::kUsage);
  session.Rewind(1);
  EXPECT_EQ(session.length(), 1);
}

}  // namespace
}  // namespace ptgc
