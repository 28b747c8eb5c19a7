// The device that the runtime finds itself on.
#pragma once

#include <cstdint>
#include <string>

namespace ptgc {

// Names this kind of processor, and for "cuda" its GPU, safe as a file name: what was measured
// elsewhere does not count.
std::string DeviceFingerprint(const std::string& device = "cpu");

// Largest resident memory of the process so far.
std::int64_t PeakMemoryBytes();

}  // namespace ptgc
