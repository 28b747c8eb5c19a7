#include "device.h"

#include <sys/resource.h>
#include <sys/utsname.h>

#include <cctype>
#include <fstream>
#include <thread>

namespace ptgc {
namespace {

// The processor's name as the kernel gives it, or its architecture.
std::string ProcessorModel() {
  std::ifstream board(
      "/proc/device-tree/model");  // Present on boards, where cpuinfo names no model.
  std::string line;
  if (board && std::getline(board, line, '\0') && !line.empty()) return line;
  std::ifstream file("/proc/cpuinfo");
  while (std::getline(file, line)) {
    if (line.rfind("model name", 0) != 0) continue;
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos) return line.substr(colon + 1);
  }
  utsname system{};
  return uname(&system) == 0 ? system.machine : "processor";
}

}  // namespace

std::string DeviceFingerprint() {
  const std::string text =
      ProcessorModel() + " x" + std::to_string(std::thread::hardware_concurrency());
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
