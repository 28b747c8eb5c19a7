// Chooses one of the drafters of a bundle that can take each other's place.
#pragma once

#include <string>

#include "bundle/bundle.h"

namespace ptgc {

// Keeps the role of that name, as the role "drafter", and drops those that could be in its place.
// An empty name stands for the first. Throws a usage error if no such role drafts.
void ChooseDrafter(const std::string& name, Bundle& bundle);

}  // namespace ptgc
