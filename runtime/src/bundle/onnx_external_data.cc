#include "bundle/onnx_external_data.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/error.h"

namespace ptgc {
namespace {

// The messages of onnx.proto on the path from a model to its tensors.
enum class Message { kModel, kTraining, kGraph, kFunction, kNode, kAttribute, kSparse, kTensor };

// A field that holds a message.
struct Field {
  Message of;
  std::uint64_t number;
  Message holds;
};

constexpr Field kFields[] = {
    {Message::kModel, 7, Message::kGraph},       {Message::kModel, 20, Message::kTraining},
    {Message::kModel, 25, Message::kFunction},   {Message::kTraining, 1, Message::kGraph},
    {Message::kTraining, 2, Message::kGraph},    {Message::kGraph, 1, Message::kNode},
    {Message::kGraph, 5, Message::kTensor},      {Message::kGraph, 15, Message::kSparse},
    {Message::kFunction, 7, Message::kNode},     {Message::kFunction, 11, Message::kAttribute},
    {Message::kNode, 5, Message::kAttribute},    {Message::kAttribute, 5, Message::kTensor},
    {Message::kAttribute, 6, Message::kGraph},   {Message::kAttribute, 10, Message::kTensor},
    {Message::kAttribute, 11, Message::kGraph},  {Message::kAttribute, 22, Message::kSparse},
    {Message::kAttribute, 23, Message::kSparse}, {Message::kSparse, 1, Message::kTensor},
    {Message::kSparse, 2, Message::kTensor},
};
constexpr std::uint64_t kExternalData = 13;  // Field of a tensor: key-value entries.
constexpr int kMostLevels = 100;             // The limit of protobuf.

// Reads the fields of one message of protobuf's wire format.
class Wire {
 public:
  explicit Wire(std::string_view bytes) : rest_(bytes) {}

  // Advances to the next field; false at the end, or if the bytes are not a message.
  bool Next() {
    if (rest_.empty()) return false;
    const std::uint64_t tag = Varint();
    number_ = tag >> 3U;
    content_ = {};
    has_content_ = (tag & 7U) == 2;
    // Readers that keep only 32 bits of a tag would see a different field here.
    if (number_ == 0 || tag > std::numeric_limits<std::uint32_t>::max()) return is_whole_ = false;
    switch (tag & 7U) {
      case 0:
        Varint();
        break;
      case 1:
        Take(8);
        break;
      case 2:
        content_ = Take(Varint());
        break;
      case 5:
        Take(4);
        break;
      default:
        is_whole_ = false;
    }
    return is_whole_;
  }
  std::uint64_t number() const { return number_; }
  // Whether the field holds bytes, and the bytes.
  bool has_content() const { return has_content_; }
  std::string_view content() const { return content_; }
  // Whether everything so far was well formed.
  bool is_whole() const { return is_whole_; }

 private:
  std::uint64_t Varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
      if (byte < 0x80U) return value;
    }
    is_whole_ = false;
    return 0;
  }
  std::string_view Take(std::uint64_t size) {
    is_whole_ = is_whole_ && size <= rest_.size();
    if (!is_whole_) return {};
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

  std::string_view rest_;     // Bytes not read yet.
  std::uint64_t number_ = 0;  // Number of the field.
  std::string_view content_;  // Bytes of the field.
  bool has_content_ = false;  // Whether the field holds bytes.
  bool is_whole_ = true;      // Whether all was well formed so far.
};

// Collects locations; false if the bytes are not a message.
class Search {
 public:
  bool Visit(std::string_view bytes, Message message, int level) {
    if (level > kMostLevels) return false;
    Wire wire(bytes);
    while (wire.Next()) {
      if (!wire.has_content()) continue;
      if (message == Message::kTensor) {
        if (wire.number() == kExternalData && !TakeEntry(wire.content())) return false;
        continue;
      }
      for (const Field& field : kFields) {
        if (field.of != message || field.number != wire.number()) continue;
        if (!Visit(wire.content(), field.holds, level + 1)) return false;
      }
    }
    return wire.is_whole();
  }
  std::vector<std::string> Take() {
    std::sort(files_.begin(), files_.end());
    files_.erase(std::unique(files_.begin(), files_.end()), files_.end());
    return std::move(files_);
  }

 private:
  bool TakeEntry(std::string_view bytes) {
    std::string_view key;
    std::string_view value;
    Wire wire(bytes);
    while (wire.Next()) {
      if (wire.number() == 1) key = wire.content();
      if (wire.number() == 2) value = wire.content();
    }
    if (key == "location" && (files_.empty() || files_.back() != value)) files_.emplace_back(value);
    return wire.is_whole();
  }

  std::vector<std::string> files_;  // Locations.
};

}  // namespace

std::vector<std::string> ExternalFilesOf(std::string_view model,
                                         const std::filesystem::path& path) {
  Search search;
  if (search.Visit(model, Message::kModel, 0)) return search.Take();
  throw Error(ErrorCode::kBundle, path.string() + " is no ONNX model.",
              "Build again with `ptgc build`.");
}

}  // namespace ptgc
