// What each loop needs of the roles of a build.
#pragma once

#include "bundle/bundle.h"
#include "bundle/json_document.h"

namespace ptgc {

// Every role that the loop runs must be there and no other, each with the ports and states that the
// loop binds. `build` says where problems are.
void CheckRoles(const Fields& build, const Bundle& bundle);

}  // namespace ptgc
