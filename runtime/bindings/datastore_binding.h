// Python's Datastore and DatastoreWriter.
#pragma once

#include <nanobind/nanobind.h>

namespace ptgc {

void BindDatastore(nanobind::module_& module);

}  // namespace ptgc
