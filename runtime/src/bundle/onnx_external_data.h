// Which files an ONNX model takes weights from.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ptgc {

// The locations that its tensors name, those of attributes, subgraphs and functions as well, each
// once. `path` is where the model was read. Throws a bundle error for what is no ONNX model.
std::vector<std::string> ExternalFilesOf(std::string_view model, const std::filesystem::path& path);

}  // namespace ptgc
