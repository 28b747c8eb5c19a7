// Damaged and hostile bundles: whatever their documents say, they are loaded or refused.
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "bundle/bundle.h"
#include "bundle_files.h"
#include "function_engine.h"
#include "serving/generator.h"

namespace ptgc {
namespace {

using nlohmann::json;
using Pointer = json::json_pointer;

// What stands where something else should: of every type, and at the ends of ranges.
const std::vector<json>& Values() {
  static const std::vector<json> values = {
      nullptr,
      true,
      -1,
      0,
      1,
      2,
      64,
      65,
      1 << 24,
      std::numeric_limits<std::int32_t>::max(),
      std::int64_t{1} << 31U,
      std::int64_t{1} << 53U,
      std::numeric_limits<std::int64_t>::max(),
      std::numeric_limits<std::int64_t>::min(),
      std::numeric_limits<std::uint64_t>::max(),
      0.5,
      -1e300,
      "",
      "..",
      "../../manifest.json",
      "/etc/passwd",
      std::string("a\0b", 3),
      "full",
      "canvas",
      std::string(5000, 'x'),
      json::array(),
      json::object(),
      json::array({1, 2, 3}),
      json::array({-1, 0, 1}),
      json::array({nullptr}),
      json::object({{"1", 1}}),
  };
  return values;
}

void AddPlaces(const json& value, const Pointer& here, std::vector<Pointer>& places) {
  if (value.is_object()) {
    for (const auto& [key, child] : value.items()) {
      places.push_back(here / key);
      AddPlaces(child, here / key, places);
    }
  } else if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      places.push_back(here / i);
      AddPlaces(value[i], here / i, places);
    }
  }
}

std::vector<Pointer> PlacesOf(const json& document) {
  std::vector<Pointer> places;
  AddPlaces(document, Pointer(), places);
  return places;
}

void Erase(json& document, const Pointer& place) {
  json& parent = document[place.parent_pointer()];
  if (parent.is_object()) {
    parent.erase(place.back());
  } else {
    parent.erase(std::stoul(place.back()));
  }
}

// Whether a generator of these shapes takes little memory and time.
bool IsSmall(const Bundle& bundle) {
  const auto largest = [](const std::vector<int>& sizes) {
    return sizes.empty() ? 1 : sizes.back();
  };
  const ShapePlan& shapes = bundle.shapes;
  double elements = 1e3;
  for (const auto& [name, role] : bundle.roles) {
    for (const LayerState& state : role.states) elements += 1.0 * state.kv_heads * state.head_dim;
    for (const LayerState& state : role.cross_states) {
      elements += 1.0 * state.kv_heads * state.head_dim;
    }
    for (const Port& port : role.outputs) elements += static_cast<double>(port.last_size);
  }
  return elements < 1e4 && shapes.batch <= 4 && shapes.max_length <= 1024 &&
         std::all_of(
             shapes.roles.begin(), shapes.roles.end(),
             [&](const auto& role) {
               const RoleShapes& own = role.second;
               return largest(own.widths) <= 256 && largest(own.kv_capacities) <= 1024 &&
                      largest(own.source_lengths) <= 256 && largest(own.canvas_lengths) <= 1024;
             });
}

class Mutations : public testing::Test {
 protected:
  // Reads the bundle, and writes a text where it was read; only errors of ours may come of it.
  void Try(const BundleDocuments& documents) {
    folder_.Write(documents);
    try {
      Bundle bundle = ReadBundle(folder_.build());
      ++loaded_;
      if (IsSmall(bundle)) WriteText(std::move(bundle));
    } catch (const Error& error) {
      ++refused_;
      EXPECT_NE(error.code(), ErrorCode::kInternal) << error.message();
      EXPECT_FALSE(error.message().empty());
    }
  }

  int loaded_ = 0;   // Bundles that were read.
  int refused_ = 0;  // Those that were not, or whose text was not written.

 private:
  static void WriteText(Bundle bundle) {
    Engines engines;
    for (const auto& [name, role] : bundle.roles)
      engines[name] = MakeEngine([](const BoundPorts&) {});
    Generator generator(std::move(bundle), std::move(engines), GeneratorOptions());
    Request request;
    request.prompt_ids = {1, 0, 1, 0};
    request.max_new_tokens = 5;
    generator.Generate(std::span(&request, 1), Hooks());
  }

  const BundleFolder folder_;
};

// Every field is absent once, and has values of other types and beyond its range.
TEST_F(Mutations, OfEveryFieldAreLoadedOrRefused) {
  std::size_t next = 0;
  for (const BundleDocuments& documents : DocumentsOfEveryLoop()) {
    for (json BundleDocuments::* document : {&BundleDocuments::manifest, &BundleDocuments::build}) {
      for (const Pointer& place : PlacesOf(documents.*document)) {
        BundleDocuments changed = documents;
        Erase(changed.*document, place);
        Try(changed);
        for (int i = 0; i < 4; ++i) {
          changed = documents;
          (changed.*document)[place] = Values()[next++ % Values().size()];
          Try(changed);
        }
      }
    }
  }
  EXPECT_GT(refused_, 1000);
  EXPECT_GT(loaded_, 100);  // Fields that nobody reads, and values in range.
}

// Several at once, so that what contradicts one field may suit another.
TEST_F(Mutations, OfSeveralFieldsAreLoadedOrRefused) {
  std::mt19937 random(20240607);  // NOLINT: the same cases in every run
  const std::vector<BundleDocuments> all = DocumentsOfEveryLoop();
  const auto below = [&](std::size_t count) { return random() % count; };
  for (int i = 0; i < 2000; ++i) {
    BundleDocuments changed = all[below(all.size())];
    for (std::size_t changes = 1 + below(3); changes > 0; --changes) {
      json& document = below(3) == 0 ? changed.manifest : changed.build;
      const std::vector<Pointer> places = PlacesOf(document);
      if (places.empty()) continue;
      const Pointer& place = places[below(places.size())];
      const std::size_t kind = below(8);
      if (kind == 0) {
        Erase(document, place);
      } else if (kind < 3) {  // Something of the same document.
        const json other = document[places[below(places.size())]];
        document[place] = other;
      } else if (kind < 5 && document[place].is_number_integer()) {
        document[place] = document[place].get<std::int64_t>() / 2 * static_cast<int>(below(4));
      } else {
        document[place] = Values()[below(Values().size())];
      }
    }
    Try(changed);
  }
  EXPECT_GT(refused_, 500);
  EXPECT_GT(loaded_, 100);
}

}  // namespace
}  // namespace ptgc
