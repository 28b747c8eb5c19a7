// Turns errors of the core into Python exceptions.
#pragma once

#include <exception>

#include "base/error.h"

namespace ptgc {

// Sets the Python exception for an error, of the matching class in ptgc.errors.
void RaiseInPython(const Error& error);

// A translator for nanobind: turns what a bound function throws into a Python exception.
void TranslateError(const std::exception_ptr& pointer, void* unused);

}  // namespace ptgc
