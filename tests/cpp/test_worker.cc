#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "base/worker.h"

namespace ptgc {
namespace {

TEST(Worker, DoesOnePieceAfterTheOtherOnAThreadOfItsOwn) {
  Worker worker;
  std::thread::id first, second;
  int done = 0;
  worker.Start([&] {
    first = std::this_thread::get_id();
    ++done;
  });
  worker.Wait();
  worker.Wait();
  worker.Start([&] {
    second = std::this_thread::get_id();
    ++done;
  });
  worker.Drop();
  EXPECT_EQ(done, 2);
  EXPECT_EQ(first, second);
  EXPECT_NE(first, std::this_thread::get_id());
}

TEST(Worker, WaitThrowsWhatTheWorkThrewOnce) {
  Worker worker;
  worker.Start([] { throw std::runtime_error("broken"); });
  EXPECT_THROW(worker.Wait(), std::runtime_error);
  worker.Wait();
  worker.Start([] { throw std::runtime_error("dropped"); });
  worker.Drop();
  worker.Start([] {});
  worker.Wait();
}

TEST(Worker, DoesItsWorkBeforeItEnds) {
  std::atomic<bool> done = false;
  {
    Worker worker;
    worker.Start([&] { done = true; });
  }
  EXPECT_TRUE(done);
}

}  // namespace
}  // namespace ptgc
