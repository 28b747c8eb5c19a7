// DatastoreWriter: makes a datastore from tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "base/token.h"
#include "drafters/datastore.h"

namespace ptgc {

// Keeps the tokens until they are written; sorting takes as much memory again.
class DatastoreWriter {
 public:
  // Throws a usage error for a vocabulary that is too large, or a digest that is none.
  DatastoreWriter(std::int64_t vocab_size, std::string_view vocabulary_sha256);

  // Continues the document. Throws a usage error for ids outside the vocabulary.
  void Append(std::span<const TokenId> tokens);
  // What follows is another document; an empty one is none.
  void EndDocument();
  // Ends the last document, sorts, and writes the file. Throws storage errors.
  void Write(const std::filesystem::path& path);

  const DatastoreHeader& header() const { return header_; }

 private:
  void Push(std::uint32_t token);

  DatastoreHeader header_;             // Counts what is kept.
  std::vector<unsigned char> tokens_;  // [num_tokens, token_bytes]
  bool is_open_ = false;               // Whether the last document has tokens and no end.
};

}  // namespace ptgc
