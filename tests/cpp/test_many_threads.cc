// Many threads do all that sessions can on one generator, and every token is checked.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <random>
#include <thread>

#include "generator_fixture.h"
#include "serving/session_handle.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

constexpr int kThreads = 16;
constexpr int kSessionsOfAThread = 4;
constexpr int kActionsOfASession = 12;
constexpr int kMaxLength = 128;

// One thread's sessions, one after the other, each with the text that it must hold.
class Caller {
 public:
  Caller(Generator& generator, int seed) : generator_(generator), seed_(seed), random_(seed) {}

  void Run() {
    for (int i = 0; i < kSessionsOfAThread; ++i) {
      Open();
      for (int action = 0; action < kActionsOfASession && session_ != nullptr; ++action) Act();
      session_.reset();
    }
  }

 private:
  int Below(int end) { return static_cast<int>(random_() % static_cast<unsigned>(end)); }
  int Room() const { return kMaxLength - static_cast<int>(text_.size()); }

  // There are fewer rows than callers: busy errors are part of it.
  void Open() {
    text_.clear();
    while (session_ == nullptr) {
      try {
        session_ = std::make_unique<SessionHandle>(generator_);
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), ErrorCode::kBusy);
      }
    }
    EXPECT_EQ(session_->Length(), 0);
    Append();
  }

  void Act() {
    switch (Below(9)) {
      case 0:
        return Append();
      case 1:
        return Write({});
      case 2:
        return WriteWithCallback();
      case 3:
        return Rewind();
      case 4:
        return Fork();
      case 5:
        return Reset();
      case 6:
        return Interrupt([this] { session_->Cancel(); });
      case 7:
        return Below(4) == 0 ? Close() : WriteWithDeadline();
      default:
        return WriteWithoutSession();
    }
  }

  void Append() {
    const Tokens more = MakePrompt(1 + Below(std::min(Room(), 30) + 1), seed_ + Below(99));
    if (static_cast<int>(more.size()) > Room()) return Reset();
    session_->Append(more);
    text_.insert(text_.end(), more.begin(), more.end());
  }

  // Writes; what comes, however little, is the beginning of what the language says.
  void Write(const Hooks& hooks, double deadline_seconds = 0) {
    const int count = std::min(Room(), 1 + Below(30));
    if (count < 1) return Reset();
    Request request = Ask(count);
    request.deadline_seconds = deadline_seconds;
    request.plain = Below(3) == 0;
    const Result result = session_->Generate(request, hooks);
    const Tokens expected = Continuation(text_, count);
    ASSERT_LE(result.token_ids.size(), expected.size());
    EXPECT_TRUE(std::equal(result.token_ids.begin(), result.token_ids.end(), expected.begin()));
    if (result.finish_reason == FinishReason::kLength) {
      EXPECT_EQ(result.token_ids, expected);
    }
    text_.insert(text_.end(), result.token_ids.begin(), result.token_ids.end());
  }

  void WriteWithCallback() {
    Tokens heard;
    const std::size_t enough = static_cast<std::size_t>(1 + Below(40));
    Hooks hooks;
    hooks.on_tokens = [&](std::size_t, std::span<const TokenId> tokens) {
      heard.insert(heard.end(), tokens.begin(), tokens.end());
      return heard.size() < enough;
    };
    const std::size_t before = text_.size();
    Write(hooks);
    if (text_.size() >= before + heard.size()) {
      EXPECT_TRUE(std::equal(heard.begin(), heard.end(), text_.end() - std::ssize(heard)));
    }
  }

  void WriteWithDeadline() { Write({}, 1e-4 * (1 + Below(10))); }

  // The texts of this thread beside its session.
  void WriteWithoutSession() {
    std::vector<Request> requests;
    for (int i = 0; i < 3; ++i) requests.push_back(Ask(10 + i, MakePrompt(3 + i, Below(50))));
    try {
      const std::vector<Result> results = generator_.Generate(requests, {});
      for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(results[i].token_ids,
                  Continuation(requests[i].prompt_ids, requests[i].max_new_tokens));
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBusy);
    }
  }

  void Rewind() {
    const int count = Below(static_cast<int>(text_.size()));
    session_->Rewind(count);
    text_.resize(text_.size() - static_cast<std::size_t>(count));
    EXPECT_EQ(session_->Tokens(), text_);
  }

  void Fork() {
    if (Room() < 12) return;
    try {
      const std::unique_ptr<SessionHandle> fork = session_->Fork();
      Tokens other = text_;
      other.push_back(7);
      EXPECT_EQ(fork->Generate(Ask(11, {7}), {}).token_ids, Continuation(other, 11));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kBusy);
    }
    EXPECT_EQ(session_->Tokens(), text_);
  }

  void Reset() {
    session_->Reset();
    text_.clear();
    Append();
  }

  // Writes while another thread does something to the session.
  template <typename Action>
  void Interrupt(Action action) {
    const std::jthread other([this, action, pause = std::chrono::microseconds(Below(500))] {
      std::this_thread::sleep_for(pause);
      action();
    });
    Write({});
  }

  void Close() {
    try {
      Interrupt([this] { session_->Close(); });
      session_->Length();
      ADD_FAILURE() << "a closed session gave its length";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
    }
    session_.reset();
  }

  Generator& generator_;                    // Of all callers.
  int seed_;                                // Makes this caller's texts its own.
  std::minstd_rand random_;                 // Chooses what it does.
  std::unique_ptr<SessionHandle> session_;  // The one that is open.
  Tokens text_;                             // What that holds.
};

enum class Drafts { kLookedUp, kOfAModel, kAhead };

class ManyThreads : public testing::TestWithParam<Drafts> {};

TEST_P(ManyThreads, WriteTheTextsOfTheLanguage) {
  const bool is_ahead = GetParam() == Drafts::kAhead;
  LoadOptions load;
  if (is_ahead) load.overlap = true;
  const DrafterPlan plan = is_ahead ? OverlapPlan(3) : ModelPlan(4);
  GeneratorFixture fixture({.batch = 8,
                            .waiting = {.seconds = 0.02},
                            .drafter = GetParam() == Drafts::kLookedUp ? NgramPlan() : plan,
                            .load = load,
                            .wrong_every = is_ahead ? 7 : 3});
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] { Caller(fixture.generator, i + 1).Run(); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(fixture.generator.free_rows(), 8);
  EXPECT_EQ(fixture.seen.broken_texts + fixture.drafter_seen.broken_texts, 0);
  EXPECT_EQ(fixture.seen.out_of_bounds + fixture.drafter_seen.out_of_bounds, 0);
}

INSTANTIATE_TEST_SUITE_P(Drafters, ManyThreads,
                         testing::Values(Drafts::kLookedUp, Drafts::kOfAModel, Drafts::kAhead));

}  // namespace
}  // namespace ptgc
