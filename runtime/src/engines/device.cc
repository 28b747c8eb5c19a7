#include "engines/device.h"

#include <sys/resource.h>
#include <sys/utsname.h>

#include <cctype>
#include <fstream>
#include <thread>

#include "engines/gpu/cuda.h"

namespace ptgc {
namespace {

// The text after the colon in the first line of /proc/cpuinfo that starts with `key`.
std::string CpuInfo(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || line.rfind(key, 0) != 0) continue;
    const std::size_t end = line.find_last_not_of(" \t", colon - 1) + 1;
    if (end == key.size()) return line.substr(colon + 1);
  }
  return "";
}

// The board's or the processor's name from the kernel, or the architecture. Virtual machines use
// one name for several processors, so family and model are added to tell them apart.
std::string ProcessorModel() {
  std::ifstream board("/proc/device-tree/model");
  std::string name;
  if (board && std::getline(board, name, '\0') && !name.empty()) return name;
  name = CpuInfo("model name");
  if (!name.empty()) return name + " " + CpuInfo("cpu family") + " " + CpuInfo("model");
  utsname system{};
  return uname(&system) == 0 ? system.machine : "processor";
}

}  // namespace

std::string DeviceFingerprint(const std::string& device) {
  std::string text = ProcessorModel() + " x" + std::to_string(std::thread::hardware_concurrency());
  if (device == "cuda") text = CudaDeviceName() + " " + text;
  std::string safe;
  for (const char character : text) {
    const unsigned char byte = static_cast<unsigned char>(character);
    if (byte < 0x80 && std::isalnum(byte) != 0) {
      safe += static_cast<char>(std::tolower(byte));
    } else if (!safe.empty() && safe.back() != '-') {
      safe += '-';
    }
  }
  return safe;
}

std::int64_t PeakMemoryBytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
#ifdef __APPLE__
  return usage.ru_maxrss;
#else
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
#endif
}

}  // namespace ptgc
