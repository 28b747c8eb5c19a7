// Worker: a thread that works beside the thread of its owner.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace ptgc {

// Does one piece of work at a time. Its thread begins with the first one and sleeps in between.
class Worker {
 public:
  Worker() = default;
  // Waits for the work and ends the thread.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Starts a piece of work; the one before must have been waited for.
  void Start(std::function<void()> work);
  // Waits for it, and throws what it threw. Returns at once if nothing was started.
  void Wait();
  // The same, but what it threw is dropped.
  void Drop() noexcept;

 private:
  void Run();
  std::exception_ptr Finish() noexcept;

  std::mutex mutex_;                 // Guards the next four.
  std::condition_variable changed_;  // For both threads.
  std::function<void()> work_;       // What is being done; empty in between.
  std::exception_ptr error_;         // What it threw.
  bool ends_ = false;                // Whether the thread is to end.
  std::thread thread_;               // Not joinable before the first piece of work.
};

}  // namespace ptgc
