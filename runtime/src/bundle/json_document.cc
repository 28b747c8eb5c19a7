#include "bundle/json_document.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/error.h"
#include "base/sha256.h"
#include "base/whole_file.h"

namespace ptgc {
namespace {

using nlohmann::json;

constexpr std::size_t kMostSentences = 64;
constexpr std::size_t kMostShown = 80;  // Bytes of a value in a message.

// How deep arrays and objects are nested. For text that is not JSON, the result is arbitrary.
int DepthOf(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char byte = text[i];
    if (in_string) {
      if (byte == '\\') ++i;
      in_string = byte != '"';
    } else if (byte == '"') {
      in_string = true;
    } else if (byte == '[' || byte == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (byte == ']' || byte == '}') {
      --depth;
    }
  }
  return deepest;
}

std::size_t Characters(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return (byte & '\xC0') != '\x80'; }));
}

std::string Shown(const json& value) {
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  if (value.is_string() && value.get_ref<const std::string&>().size() > kMostShown) {
    return "a long text";
  }
  return value.dump();
}

// A name from the document, as messages show it.
std::string ShownName(const std::string& name) {
  return name.size() <= kMostShown ? name : "(a long name)";
}

std::string InRange(Range range) {
  return "it must be an integer from " + std::to_string(range.least) + " to " +
         std::to_string(range.most) + ".";
}

namespace fs = std::filesystem;

void CheckInside(const fs::path& folder, const fs::path& path, const std::string& action) {
  std::error_code failure;
  const fs::path root = fs::weakly_canonical(folder, failure);
  const fs::path resolved = failure ? fs::path() : fs::weakly_canonical(path, failure);
  if (!failure && IsInside(resolved.lexically_relative(root))) return;
  const std::string what = failure ? "cannot be read: " + failure.message() + "."
                                   : "is a link that leads out of its folder.";
  throw Error(ErrorCode::kBundle, "'" + path.string() + "' " + what, action);
}

}  // namespace

JsonDocument ReadJsonDocument(const fs::path& folder, const fs::path& name,
                              const std::string& action) {
  const fs::path path = folder / name;
  CheckInside(folder, path, action);
  const std::string text = ReadWholeFile(path, limits::kDocumentBytes, action);
  if (DepthOf(text) > limits::kDocumentDepth) {
    throw Error(ErrorCode::kBundle,
                "'" + path.string() + "' is nested more than " +
                    std::to_string(limits::kDocumentDepth) + " levels deep.",
                action);
  }
  json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded() || !document.is_object()) {
    throw Error(ErrorCode::kBundle,
                "'" + path.string() + "' is no JSON object; it may be truncated.", action);
  }
  return {std::move(document), Sha256Of(text)};
}

// The parser does not treat numbers beyond 64 bits as integers.
std::optional<std::int64_t> IntegerIn(const json& value, Range range) {
  if (!value.is_number_integer()) return std::nullopt;
  const bool is_huge = value.is_number_unsigned() &&
                       value.get<std::uint64_t>() > static_cast<std::uint64_t>(range.most);
  if (is_huge || !range.Holds(value.get<std::int64_t>())) return std::nullopt;
  return value.get<std::int64_t>();
}

std::string Printable(std::string text) {
  for (char& byte : text) {
    if (byte >= 0 && byte < ' ') byte = '?';
  }
  return text;
}

void Problems::Add(const std::string& sentence) {
  if (++count_ > kMostSentences) return;
  if (!text_.empty()) text_ += ' ';
  text_ += Printable(sentence);
}

std::string Problems::Text() const {
  if (count_ <= kMostSentences) return text_;
  return text_ + " There are " + std::to_string(count_ - kMostSentences) + " more.";
}

Fields::Fields(const json& value, std::string place, Problems& problems)
    : object_(value.is_object() ? &value : nullptr),
      place_(std::move(place)),
      problems_(&problems) {}

const json* Fields::Find(const char* name) const {
  if (object_ == nullptr) return nullptr;
  const auto found = object_->find(name);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

const json* Fields::Required(const char* name) const {
  const json* found = Find(name);
  if (found == nullptr && object_ != nullptr) Add(name, " is missing.");
  return found;
}

const json* Fields::OfType(const char* name, json::value_t type, bool may_be_absent) const {
  const json* found = may_be_absent ? Find(name) : Required(name);
  if (found == nullptr || found->type() == type) return found;
  Add(name, " is " + Shown(*found) + "; it must be " +
                (type == json::value_t::array ? "a list." : "an object."));
  return nullptr;
}

double Fields::NumberOf(const json& value, const std::string& place, double least,
                        double most) const {
  const double number = value.is_number() ? value.get<double>() : NAN;
  if (number >= least && number <= most) return number;
  problems_->Add(place + " is " + Shown(value) + "; it must be a number from " +
                 json(least).dump() + " to " + json(most).dump() + ".");
  return least;
}

std::int64_t Fields::IntegerOf(const json& value, const std::string& place, Range range) const {
  const std::optional<std::int64_t> integer = IntegerIn(value, range);
  if (!integer) problems_->Add(place + " is " + Shown(value) + "; " + InRange(range));
  return integer.value_or(range.least);
}

std::optional<std::string> Fields::OptionalText(const json* value, const std::string& place) const {
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    problems_->Add(place + " is " + Shown(*value) + "; it must be a text.");
    return std::nullopt;
  }
  const std::string& text = value->get_ref<const std::string&>();
  if (Characters(text) <= limits::kTextLength) return text;
  problems_->Add(place + " is a text of more than " + std::to_string(limits::kTextLength) +
                 " characters.");
  return std::nullopt;
}

std::int64_t Fields::Integer(const char* name, Range range) const {
  const json* found = Required(name);
  return found == nullptr ? range.least : IntegerOf(*found, place_ + name, range);
}

std::optional<std::int64_t> Fields::OptionalInteger(const char* name, Range range) const {
  const json* found = Find(name);
  if (found == nullptr) return std::nullopt;
  return IntegerOf(*found, place_ + name, range);
}

double Fields::Number(const char* name, double least, double most) const {
  const json* found = Required(name);
  return found == nullptr ? least : NumberOf(*found, place_ + name, least, most);
}

std::vector<double> Fields::Numbers(const char* name, double least, double most,
                                    std::int64_t most_entries, bool may_be_absent) const {
  std::vector<double> values;
  const json* found = OfType(name, json::value_t::array, may_be_absent);
  if (found == nullptr || !HasAtMost(name, found->size(), most_entries)) return values;
  for (std::size_t i = 0; i < found->size(); ++i) {
    values.push_back(
        NumberOf((*found)[i], place_ + name + "[" + std::to_string(i) + "]", least, most));
  }
  return values;
}

bool Fields::Flag(const char* name, bool otherwise) const {
  const json* found = Find(name);
  if (found == nullptr) return otherwise;
  if (found->is_boolean()) return found->get<bool>();
  Add(name, " is " + Shown(*found) + "; it must be true or false.");
  return otherwise;
}

std::string Fields::Text(const char* name) const {
  return OptionalText(Required(name), place_ + name).value_or("");
}

bool Fields::HasAtMost(const char* name, std::size_t size, std::int64_t most) const {
  if (size <= static_cast<std::size_t>(most)) return true;
  Add(name, " has " + std::to_string(size) + " entries; it may have " + std::to_string(most) + ".");
  return false;
}

std::vector<std::int64_t> Fields::Integers(const char* name, Range range, std::int64_t most,
                                           bool may_be_absent) const {
  std::vector<std::int64_t> values;
  const json* found = OfType(name, json::value_t::array, may_be_absent);
  if (found == nullptr || !HasAtMost(name, found->size(), most)) return values;
  for (std::size_t i = 0; i < found->size(); ++i) {
    values.push_back(IntegerOf((*found)[i], place_ + name + "[" + std::to_string(i) + "]", range));
  }
  return values;
}

std::vector<std::vector<std::int64_t>> Fields::IntegerLists(const char* name, Range range,
                                                            std::int64_t most_lists,
                                                            std::int64_t most) const {
  std::vector<std::vector<std::int64_t>> lists;
  const json* found = OfType(name, json::value_t::array, /*may_be_absent=*/false);
  if (found == nullptr || !HasAtMost(name, found->size(), most_lists)) return lists;
  for (std::size_t i = 0; i < found->size(); ++i) {
    // As the only field of an object, whose name is the place of the list.
    const std::string place = std::string(name) + "[" + std::to_string(i) + "]";
    const json list = {{place, (*found)[i]}};
    lists.push_back(Fields(list, place_, *problems_).Integers(place.c_str(), range, most));
  }
  return lists;
}

std::vector<std::string> Fields::Texts(const char* name, std::int64_t most) const {
  std::vector<std::string> texts;
  const json* found = OfType(name, json::value_t::array, /*may_be_absent=*/false);
  if (found == nullptr || !HasAtMost(name, found->size(), most)) return texts;
  for (std::size_t i = 0; i < found->size(); ++i) {
    const std::string place = place_ + name + "[" + std::to_string(i) + "]";
    texts.push_back(OptionalText(&(*found)[i], place).value_or(""));
  }
  return texts;
}

Fields Fields::Object(const char* name) const {
  static const json kNone;
  const json* found = OfType(name, json::value_t::object, /*may_be_absent=*/false);
  return {found == nullptr ? kNone : *found, place_ + name + ".", *problems_};
}

std::vector<Fields> Fields::List(const char* name, bool may_be_absent, std::int64_t most) const {
  std::vector<Fields> entries;
  const json* found = OfType(name, json::value_t::array, may_be_absent);
  if (found == nullptr || !HasAtMost(name, found->size(), most)) return entries;
  for (std::size_t i = 0; i < found->size(); ++i) {
    const std::string place = place_ + name + "[" + std::to_string(i) + "]";
    if (!(*found)[i].is_object()) {
      problems_->Add(place + " is " + Shown((*found)[i]) + "; it must be an object.");
    }
    entries.emplace_back((*found)[i], place + ".", *problems_);
  }
  return entries;
}

std::vector<std::pair<std::string, Fields>> Fields::Map(const char* name, std::int64_t most) const {
  std::vector<std::pair<std::string, Fields>> entries;
  const json* found = OfType(name, json::value_t::object, /*may_be_absent=*/false);
  if (found == nullptr || !HasAtMost(name, found->size(), most)) return entries;
  for (const auto& [key, value] : found->items()) {
    if (Characters(key) > limits::kTextLength) {
      Add(name, " has a name of more than " + std::to_string(limits::kTextLength) + " characters.");
      continue;
    }
    const std::string place = place_ + name + "." + ShownName(key);
    if (!value.is_object()) {
      problems_->Add(place + " is " + Shown(value) + "; it must be an object.");
    }
    entries.emplace_back(key, Fields(value, place + ".", *problems_));
  }
  return entries;
}

std::vector<std::pair<std::string, std::int64_t>> Fields::Sizes(const char* name,
                                                                Range range) const {
  std::vector<std::pair<std::string, std::int64_t>> sizes;
  const json* found = OfType(name, json::value_t::object, /*may_be_absent=*/true);
  if (found == nullptr) return sizes;
  for (const auto& [key, value] : found->items()) {
    sizes.emplace_back(key, IntegerOf(value, place_ + name + "." + ShownName(key), range));
  }
  return sizes;
}

std::vector<std::pair<std::string, Range>> Fields::Ranges(const char* name, Range range) const {
  std::vector<std::pair<std::string, Range>> ranges;
  const json* found = OfType(name, json::value_t::object, /*may_be_absent=*/true);
  if (found == nullptr) return ranges;
  for (const auto& [key, value] : found->items()) {
    const std::string place = place_ + name + "." + ShownName(key);
    if (!value.is_array() || value.size() != 3) {
      problems_->Add(place + " is " + Shown(value) + "; it must be a list of three sizes.");
      continue;
    }
    ranges.emplace_back(
        key, Range{IntegerOf(value[0], place, range), IntegerOf(value[2], place, range)});
  }
  return ranges;
}

std::vector<std::pair<std::string, std::string>> Fields::Texts(const char* name) const {
  std::vector<std::pair<std::string, std::string>> texts;
  const json* found = OfType(name, json::value_t::object, /*may_be_absent=*/true);
  if (found == nullptr) return texts;
  for (const auto& [key, value] : found->items()) {
    const std::string place = place_ + name + "." + ShownName(key);
    texts.emplace_back(key, OptionalText(&value, place).value_or(""));
  }
  return texts;
}

}  // namespace ptgc
