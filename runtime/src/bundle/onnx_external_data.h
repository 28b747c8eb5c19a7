// Finds the files that an ONNX model takes weights from.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ptgc {

// The distinct locations that its tensors name, including those in attributes, subgraphs and
// functions. `path` is the file that the model was read from. Throws a bundle error if it is not an
// ONNX model.
std::vector<std::string> ExternalFilesOf(std::string_view model, const std::filesystem::path& path);

}  // namespace ptgc
