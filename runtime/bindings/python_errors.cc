#include "python_errors.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

namespace nb = nanobind;

namespace ptgc {
namespace {

// The class of ptgc.errors that carries this code.
nb::object ErrorClass(ErrorCode code) {
  const nb::module_ errors = nb::module_::import_("ptgc.errors");
  if (code == ErrorCode::kInternal) return errors.attr("InternalError");
  for (nb::handle candidate : errors.attr("PtgcError").attr("__subclasses__")()) {
    if (nb::cast<std::string>(candidate.attr("code")) == Name(code)) return nb::borrow(candidate);
  }
  return errors.attr("InternalError");
}

// Messages name files, whose names may not be UTF-8.
nb::object TextOf(const std::string& words) {
  return nb::steal(PyUnicode_DecodeUTF8(words.data(), static_cast<Py_ssize_t>(words.size()),
                                        "backslashreplace"));
}

}  // namespace

void RaiseInPython(const Error& error) {
  try {
    const nb::object type = ErrorClass(error.code());
    nb::object raised;
    if (error.code() == ErrorCode::kInternal) {
      raised = type(TextOf(error.message()));
    } else {
      raised = type(TextOf(error.message()), TextOf(error.action()));
    }
    PyErr_SetObject(type.ptr(), raised.ptr());
  } catch (nb::python_error& failure) {
    failure.restore();
  }
}

void TranslateError(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const Error& error) {
    RaiseInPython(error);
  }
}

}  // namespace ptgc
