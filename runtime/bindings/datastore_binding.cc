#include "datastore_binding.h"

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

#include "drafters/datastore.h"
#include "drafters/datastore_writer.h"
#include "running_call.h"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace ptgc {

void BindDatastore(nb::module_& module) {
  nb::class_<Datastore>(module, "Datastore", "Texts as tokens, and where they occur, in a file.")
      .def(nb::init<const std::filesystem::path&>(), "path"_a)
      .def("token", &Datastore::At, "place"_a, "The token at a place; -1 at a document's end.")
      .def_prop_ro("vocab_size", [](const Datastore& self) { return self.header().vocab_size; })
      .def_prop_ro("num_tokens", [](const Datastore& self) { return self.header().num_tokens; })
      .def_prop_ro("num_documents",
                   [](const Datastore& self) { return self.header().num_documents; })
      .def_prop_ro("vocabulary_sha256", &Datastore::vocabulary_sha256);
  nb::class_<DatastoreWriter>(module, "DatastoreWriter", "Makes a datastore.")
      .def(nb::init<std::int64_t, std::string_view>(), "vocab_size"_a, "vocabulary_sha256"_a)
      .def(
          "append",
          [](DatastoreWriter& self, const std::vector<TokenId>& ids) { self.Append(ids); },
          "token_ids"_a, "Continues the document.")
      .def("end_document", &DatastoreWriter::EndDocument, "What follows is another document.")
      .def(
          "write",
          [](DatastoreWriter& self, const std::filesystem::path& path) {
            RunUnlocked(nullptr, [&] { self.Write(path); });
          },
          "path"_a, "Sorts, and writes the file.");
}

}  // namespace ptgc
