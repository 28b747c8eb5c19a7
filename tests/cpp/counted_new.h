// Counts what `operator new` is asked for.
#pragma once

namespace ptgc {

// Allocations of this process so far.
long NumAllocations();
// Those of them that have not been freed.
long NumLiveAllocations();

}  // namespace ptgc
