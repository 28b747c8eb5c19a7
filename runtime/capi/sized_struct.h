// Reads and writes structs that start with their size, for callers of other versions.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "status.h"

namespace ptgc::capi {

// Far above any version of a struct; a larger size means that the struct is uninitialised.
constexpr std::size_t kLargestStruct = 4096;

// The caller's struct_size. Throws a usage error if it is less than the first version's or
// implausible.
inline std::size_t SizeOf(const void* given, std::size_t first_size, const std::string& name) {
  RequirePointer(given, name.c_str());
  std::size_t size = 0;
  std::memcpy(&size, given, sizeof(size));
  if (size < first_size || size > kLargestStruct) {
    RefuseUsage(name + ".struct_size is " + std::to_string(size) + "; it must be sizeof(" + name +
                    "), " + std::to_string(first_size) + " or more.",
                "Initialise the struct with its ..._INIT macro.");
  }
  return size;
}

// The caller's struct; `defaults` apply to fields that the caller does not know. Fields that this
// library does not know must be zero. `first_size`: sizeof in version 1 of the API.
template <typename Struct>
Struct ReadSized(const Struct* given, Struct defaults, std::size_t first_size, const char* name) {
  const std::size_t size = SizeOf(given, first_size, name);
  const char* bytes = reinterpret_cast<const char*>(given);
  const std::size_t known = std::min(size, sizeof(Struct));
  if (std::any_of(bytes + known, bytes + size, [](char byte) { return byte != 0; })) {
    RefuseUsage(std::string(name) + " sets fields that ptgc " PTGC_VERSION " does not have.",
                "Load a newer ptgc library, or leave them at their defaults.");
  }
  std::memcpy(&defaults, bytes, known);
  return defaults;
}

// Fills the caller's struct; fields that this library does not know become zero.
template <typename Struct>
void WriteSized(Struct* given, const Struct& values, std::size_t first_size, const char* name) {
  const std::size_t size = SizeOf(given, first_size, name);
  const std::size_t known = std::min(size, sizeof(Struct));
  char* bytes = reinterpret_cast<char*>(given);
  std::memcpy(bytes, &values, known);
  std::memset(bytes + known, 0, size - known);
  std::memcpy(bytes, &size, sizeof(size));
}

}  // namespace ptgc::capi
