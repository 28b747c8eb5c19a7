// How many processors there are to run on.
#pragma once

namespace ptgc {

// Number of processors that this process may use, at least 1.
int AvailableProcessors();

}  // namespace ptgc
