// Reads whole files at once; only regular files, because a pipe would wait for its writer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace ptgc {

// Whether a relative path, as written, stays inside the folder that it is relative to.
bool IsInside(const std::filesystem::path& path);

// The content of a file of at most `most` bytes. Throws a bundle error with this action.
std::string ReadWholeFile(const std::filesystem::path& path, std::uint64_t most,
                          const std::string& action);

// The SHA-256 of a file, in lower-case hexadecimal digits. Throws a bundle error with this action.
std::string Sha256OfFile(const std::filesystem::path& path, const std::string& action);

}  // namespace ptgc
