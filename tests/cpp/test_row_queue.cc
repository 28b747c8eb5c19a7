// Who is given free rows, counted in rows, without threads.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "generator_fixture.h"
#include "serving/row_queue.h"

namespace ptgc {
namespace {

class NoLoop : public WholeTextLoop {
 public:
  RoundReport Round(std::span<Turn>) override { return {}; }
  std::vector<double> Measure(const EngineRuns&) override { return {}; }
};

// A call for texts of one token each, or for a session.
struct Call {
  explicit Call(int texts) : requests(static_cast<std::size_t>(texts), Ask(1, {1})) {
    for (const Request& request : requests) generations.emplace_back(request, Clock::now());
    job = std::make_unique<Job>(generations, hooks, 8);
    job->opens = texts == 0;
  }
  Hooks hooks;
  std::vector<Request> requests;
  std::vector<Generation> generations;
  std::unique_ptr<Job> job;
};

class Rows : public testing::Test {
 protected:
  void MakeRows(int count) {
    const SessionLimits limits{128, 128, 100};
    for (int row = 0; row < count; ++row) {
      sessions.push_back(std::make_unique<Session>(row, limits));
    }
    std::vector<Session*> all;
    for (const auto& session : sessions) all.push_back(session.get());
    queue = std::make_unique<RowQueue>(loop, all, Waiting());
  }
  Call& Add(int texts) {
    calls.push_back(std::make_unique<Call>(texts));
    queue->Add(*calls.back()->job);
    return *calls.back();
  }
  // The text in a row ends, and what waits may have it; gives the call that does.
  const Job* Next(std::size_t row) {
    Lane& lane = queue->lanes()[row];
    if (lane.generation != nullptr) {
      lane.generation->Finish(FinishReason::kStop);
      queue->Release(lane);
    }
    queue->Tidy();
    queue->AssignRows();
    return lane.job;
  }

  NoLoop loop;
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<std::unique_ptr<Call>> calls;
  std::unique_ptr<RowQueue> queue;
};

TEST_F(Rows, ShortCallHasTheNextRowBesideALongList) {
  MakeRows(2);
  const Call& list = Add(300);
  queue->AssignRows();
  EXPECT_EQ(list.job->num_rows, 2);
  const Call& one = Add(1);
  EXPECT_EQ(Next(0), one.job.get());
  EXPECT_EQ(Next(1), list.job.get());
  EXPECT_EQ(Next(0), list.job.get());
}

TEST_F(Rows, ListsTakeTurns) {
  MakeRows(1);
  std::vector<const Call*> lists = {&Add(3), &Add(3), &Add(3)};
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(Next(0), lists[static_cast<std::size_t>(i % 3)]->job.get()) << i;
  }
  EXPECT_EQ(Next(0), nullptr);
}

TEST_F(Rows, ShortCallsThatKeepComingLeaveAListItsTurn) {
  MakeRows(1);
  const Call& list = Add(10);
  int rows_of_list = 0;
  for (int i = 0; i < 20; ++i) {
    if (Next(0) != list.job.get()) continue;
    ++rows_of_list;
    Add(1);
  }
  EXPECT_EQ(rows_of_list, 10);
}

TEST_F(Rows, SessionTakesNoRowThatABegunListStillNeeds) {
  MakeRows(2);
  const Call& list = Add(4);
  queue->AssignRows();
  const Call& first = Add(0);
  const Call& second = Add(0);
  Next(0);
  EXPECT_NE(first.job->opened, nullptr);
  EXPECT_EQ(Next(1), list.job.get());  // The last row that is not kept.
  EXPECT_EQ(second.job->opened, nullptr);
  Next(1);
  Next(1);
  EXPECT_NE(second.job->opened, nullptr);
}

}  // namespace
}  // namespace ptgc
