// What the roles of a build and its plan need of its shapes.
#pragma once

#include "bundle/bundle.h"
#include "bundle/json_document.h"

namespace ptgc {

// Every role has the sizes that its ports and states name and no others, in buffers that can be;
// roles that hand each other something have the same sizes of it; and rounds hold what the plan
// brings. `build` says where problems are.
void CheckShapes(const Fields& build, const Bundle& bundle);

}  // namespace ptgc
