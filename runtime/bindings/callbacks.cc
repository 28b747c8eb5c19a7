#include "callbacks.h"

#include <nanobind/stl/vector.h>

#include <exception>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "running_call.h"

namespace nb = nanobind;

namespace ptgc {
namespace {

// How often a running generation checks for Ctrl-C; taking the GIL may have to wait for other
// threads.
constexpr double kSecondsBetweenSignalChecks = 0.05;

template <typename Number>
nb::list ListOf(std::span<const Number> numbers) {
  nb::list list;
  for (const Number number : numbers) list.append(number);
  return list;
}

// Calls Python with the new tokens; None means continue.
bool CallBack(const nb::callable& on_tokens, std::size_t index, std::span<const TokenId> tokens) {
  return CallPython([&] {
    const nb::object answer = on_tokens(index, ListOf(tokens));
    if (answer.is_none()) return true;
    const int truth = PyObject_IsTrue(answer.ptr());
    if (truth < 0) nb::raise_python_error();
    return truth != 0;
  });
}

void CheckSignals() {
  CallPython([] {
    if (PyErr_CheckSignals() != 0) nb::raise_python_error();
  });
}

// An Exception that the caller's function raises belongs to the text that it was called for.
// Anything else, such as Ctrl-C, belongs to the thread that runs it, and the text continues.
std::vector<TokenId> Reencoded(const nb::object& function, std::span<const TokenId> ids,
                               std::size_t context) {
  try {
    return nb::cast<std::vector<TokenId>>(function(ListOf(ids), context));
  } catch (nb::python_error& error) {
    if (error.matches(PyExc_Exception)) throw;
    RunningCall::Innermost()->Interrupt(std::current_exception());
    return {};
  } catch (const nb::cast_error&) {
    throw Error(ErrorCode::kUsage, "A re-encoding function has given no list of token ids.",
                "Return a list of integers.");
  }
}

}  // namespace

Hooks MakeHooks(const Callback& on_tokens, const Cancellation* cancellation,
                const FillCallback& on_fills) {
  Hooks hooks;
  if (cancellation != nullptr) hooks.cancelled = &cancellation->is_set;
  if (on_tokens.has_value()) {
    hooks.on_tokens = [&callback = *on_tokens](std::size_t index, std::span<const TokenId> tokens) {
      return CallBack(callback, index, tokens);
    };
  }
  if (on_fills.has_value()) {
    hooks.on_fills = [&callback = *on_fills](std::size_t index, std::span<const int> positions,
                                             std::span<const TokenId> tokens) {
      CallPython([&] { callback(index, ListOf(positions), ListOf(tokens)); });
    };
  }
  hooks.poll = [last = Clock::now()]() mutable {
    RunningCall::Innermost()->RaiseInterruption();
    if (SecondsSince(last) < kSecondsBetweenSignalChecks) return;
    CheckSignals();
    last = Clock::now();
  };
  return hooks;
}

Reencode MakeReencode(const nb::object& function) {
  if (function.is_none()) return nullptr;
  const std::shared_ptr<nb::object> held(new nb::object(function), [](nb::object* object) {
    const WithPython python;
    delete object;
  });
  return [held](std::span<const TokenId> ids, std::size_t context) {
    return CallPython([&] { return Reencoded(*held, ids, context); });
  };
}

}  // namespace ptgc
