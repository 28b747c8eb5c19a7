// Facts about the device that the runtime runs on.
#pragma once

#include <cstdint>
#include <string>

namespace ptgc {

// Names this kind of processor, and for "cuda" its GPU, in a form that is safe as a file name; only
// measurements from such a device are used.
std::string DeviceFingerprint(const std::string& device = "cpu");

// Largest resident memory of the process so far.
std::int64_t PeakMemoryBytes();

}  // namespace ptgc
