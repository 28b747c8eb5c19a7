// Checks that the roles of a build are what its loop needs.
#pragma once

#include "bundle/bundle.h"
#include "bundle/json_document.h"

namespace ptgc {

// Every role that the loop runs must exist, and no other, with the ports and states that the loop
// binds. Problems are added to `build`.
void CheckRoles(const Fields& build, const Bundle& bundle);

}  // namespace ptgc
