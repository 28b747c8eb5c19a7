// Checks that the roles of a build are what its drafter needs.
#pragma once

#include "bundle/bundle.h"
#include "bundle/json_document.h"

namespace ptgc {

// What the target gives must be what the drafter's roles read. Problems are added to `build`.
void CheckDrafterRoles(const Fields& build, const Bundle& bundle);

}  // namespace ptgc
