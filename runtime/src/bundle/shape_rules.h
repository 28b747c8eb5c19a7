// Checks that the shapes of a build suit its roles and its plan.
#pragma once

#include "bundle/bundle.h"
#include "bundle/json_document.h"

namespace ptgc {

// Every role must have exactly the sizes that its ports and states name, with buffers of possible
// size. Roles that pass each other data must have the same sizes of it, and rounds must hold what
// the plan needs. Problems are added to `build`.
void CheckShapes(const Fields& build, const Bundle& bundle);

}  // namespace ptgc
