// Errors of the core as exceptions of Python.
#pragma once

#include <exception>

#include "base/error.h"

namespace ptgc {

// Makes it the exception that Python is to see; the class is that of ptgc.errors.
void RaiseInPython(const Error& error);

// Of nanobind: what a bound function throws becomes an exception of Python.
void TranslateError(const std::exception_ptr& pointer, void* unused);

}  // namespace ptgc
