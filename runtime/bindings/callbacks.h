// Python functions that the core calls.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include <atomic>
#include <optional>

#include "loops/loop_factory.h"
#include "serving/row_queue.h"

namespace ptgc {

using Callback =
    std::optional<nanobind::typed<nanobind::callable,
                                  std::optional<bool>(int, nanobind::typed<nanobind::list, int>)>>;

using FillCallback = std::optional<
    nanobind::typed<nanobind::callable, void(int, nanobind::typed<nanobind::list, int>,
                                             nanobind::typed<nanobind::list, int>)>>;

// Ends calls, from any thread.
struct Cancellation {
  std::atomic<bool> is_set{false};  // Never cleared.
};

// The hooks refer to the arguments that they were made from.
Hooks MakeHooks(const Callback& on_tokens = std::nullopt,
                const Cancellation* cancellation = nullptr,
                const FillCallback& on_fills = std::nullopt);

// A Python function that may be called and destroyed without the GIL; empty for None.
Reencode MakeReencode(const nanobind::object& function);

}  // namespace ptgc
