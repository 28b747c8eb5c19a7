// Counts what `operator new` is asked for.
#pragma once

namespace ptgc {

// Allocations of this process so far.
long NumAllocations();

}  // namespace ptgc
