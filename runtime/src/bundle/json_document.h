// JSON documents of a bundle, and readers of their fields that collect all problems.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/names.h"
#include "bundle/bundle_limits.h"

namespace ptgc {

// A file that holds one JSON object.
struct JsonDocument {
  nlohmann::json object;  // The parsed content.
  std::string sha256;     // Digest of its bytes.
};

// Throws a bundle error with this action if the file does not exist, is not a JSON object, is too
// large or too deeply nested, or is a link that leads out of the folder. `name` is relative to the
// folder.
JsonDocument ReadJsonDocument(const std::filesystem::path& folder,
                              const std::filesystem::path& name, const std::string& action);

// The value as an integer; none if it is not an integer in range.
std::optional<std::int64_t> IntegerIn(const nlohmann::json& value, Range range);

// A text for messages, with control characters replaced; a zero byte would end the message.
std::string Printable(std::string text);

// Collects the problems of a document, one sentence each.
class Problems {
 public:
  void Add(const std::string& sentence);
  bool empty() const { return count_ == 0; }
  // All problems; only the first if there are very many.
  std::string Text() const;

 private:
  std::string text_;       // The first sentences.
  std::size_t count_ = 0;  // All sentences.
};

// Reads the fields of one object. A field that is missing, of another type or out of range is
// recorded as a problem, and read as some value in range.
class Fields {
 public:
  // Problems prefix the field's name with `place`. `value` and `problems` must outlive this.
  Fields(const nlohmann::json& value, std::string place, Problems& problems);

  std::int64_t Integer(const char* name, Range range) const;
  // A field that may be absent or null.
  std::optional<std::int64_t> OptionalInteger(const char* name, Range range) const;
  double Number(const char* name, double least, double most) const;
  bool Flag(const char* name, bool otherwise) const;
  std::string Text(const char* name) const;
  // A list of at most `most` integers; empty if absent and `may_be_absent`.
  std::vector<std::int64_t> Integers(const char* name, Range range, std::int64_t most,
                                     bool may_be_absent = false) const;
  // A list of at most `most` numbers; empty if absent and `may_be_absent`.
  std::vector<double> Numbers(const char* name, double least, double most,
                              std::int64_t most_entries, bool may_be_absent = false) const;
  // A list of at most `most_lists` lists of at most `most` integers.
  std::vector<std::vector<std::int64_t>> IntegerLists(const char* name, Range range,
                                                      std::int64_t most_lists,
                                                      std::int64_t most) const;
  // A list of at most `most` texts.
  std::vector<std::string> Texts(const char* name, std::int64_t most) const;
  // The name of an enum value; with `otherwise`, the field may be absent.
  template <typename Enum>
  Enum Choice(const char* name, std::optional<Enum> otherwise = std::nullopt) const {
    if (otherwise.has_value() && Find(name) == nullptr) return *otherwise;
    const std::optional<std::string> text = OptionalText(Required(name), place_ + name);
    if (!text.has_value()) return otherwise.value_or(Enum{});
    const std::optional<Enum> found = FromName<Enum>(*text);
    if (!found) Add(name, " is '" + *text + "', which this ptgc does not have.");
    return found.value_or(Enum{});
  }
  Fields Object(const char* name) const;
  // The objects in a list, or in an object with their names, at most `most`; empty if absent and
  // allowed to be.
  std::vector<Fields> List(const char* name, bool may_be_absent = false,
                           std::int64_t most = limits::kStates) const;
  std::vector<std::pair<std::string, Fields>> Map(const char* name, std::int64_t most) const;
  // The integers of an object, by name.
  std::vector<std::pair<std::string, std::int64_t>> Sizes(const char* name, Range range) const;
  // The smallest and the largest of the three sizes in each entry of an object, by name.
  std::vector<std::pair<std::string, Range>> Ranges(const char* name, Range range) const;
  // The texts of an object, by name.
  std::vector<std::pair<std::string, std::string>> Texts(const char* name) const;

  // Adds a problem with a field; `what` follows the field's name.
  void Add(const std::string& name, const std::string& what) const {
    problems_->Add(place_ + name + what);
  }
  Problems& problems() const { return *problems_; }
  // The field; null if it is absent or null.
  const nlohmann::json* Find(const char* name) const;

 private:
  // The field; adds a problem if it is absent.
  const nlohmann::json* Required(const char* name) const;
  std::optional<std::string> OptionalText(const nlohmann::json* value,
                                          const std::string& place) const;
  double NumberOf(const nlohmann::json& value, const std::string& place, double least,
                  double most) const;
  std::int64_t IntegerOf(const nlohmann::json& value, const std::string& place, Range range) const;
  bool HasAtMost(const char* name, std::size_t size, std::int64_t most) const;
  // The field; null, with a problem added, if it is not of that type.
  const nlohmann::json* OfType(const char* name, nlohmann::json::value_t type,
                               bool may_be_absent) const;

  const nlohmann::json* object_;  // Null if not an object, a problem added before.
  std::string place_;             // "build.json: shapes."
  Problems* problems_;            // Where problems are added.
};

}  // namespace ptgc
