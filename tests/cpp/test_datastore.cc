#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "counted_new.h"
#include "drafters/datastore.h"
#include "drafters/datastore_writer.h"
#include "temporary_folder.h"

namespace ptgc {
namespace {

using Tokens = std::vector<TokenId>;

const std::string kDigest(64, 'a');

std::filesystem::path Write(const TemporaryFolder& folder, std::int64_t vocab_size,
                            const std::vector<Tokens>& documents) {
  DatastoreWriter writer(vocab_size, kDigest);
  for (const Tokens& document : documents) {
    writer.Append(document);
    writer.EndDocument();
  }
  std::filesystem::path path = folder.path() / "store";
  writer.Write(path);
  return path;
}

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteAll(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

// What follows each occurrence, up to two tokens, in order.
std::vector<Tokens> Following(const Datastore& store, const Tokens& text, int shortest, int longest,
                              int* length = nullptr, std::size_t capacity = 1000) {
  std::vector<std::uint64_t> places;
  const int found = store.Find(text, shortest, longest, capacity, places);
  if (length != nullptr) *length = found;
  std::vector<Tokens> following;
  for (const std::uint64_t place : places) {
    following.push_back({store.At(place), store.At(place + 1)});
  }
  std::sort(following.begin(), following.end());
  return following;
}

TEST(Datastore, LongestEndIsFoundAtEvenAndOddPlaces) {
  const TemporaryFolder folder;
  const Datastore store(Write(folder, 100, {{1, 2, 3, 40, 5, 1, 2, 3, 50, 5, 9, 3, 60}}));
  int length = 0;
  const std::vector<Tokens> expected = {{40, 5}, {50, 5}};
  EXPECT_EQ(Following(store, {7, 1, 2, 3}, 2, 16, &length), expected);
  EXPECT_EQ(length, 3);
}

TEST(Datastore, MatchesAndContinuationsEndWithTheirDocument) {
  const TemporaryFolder folder;
  const Datastore store(Write(folder, 100, {{1, 2, 9}, {}, {3, 4, 5, 6}, {1, 2, 3}}));
  EXPECT_EQ(store.header().num_documents, 3);
  EXPECT_EQ(Following(store, {2, 3, 4}, 2, 16), (std::vector<Tokens>{{5, 6}}));
  EXPECT_EQ(store.At(3), kNoToken);
  EXPECT_EQ(Following(store, {6, 1}, 2, 16), std::vector<Tokens>{});
}

// Of sequences of the shortest length only those at even places can be found.
void ExpectAllOccurrences(std::int64_t vocab_size, TokenId first) {
  std::mt19937 random(5);
  std::vector<Tokens> documents(40);
  Tokens all;
  for (Tokens& document : documents) {
    document.resize(random() % 60);
    for (TokenId& token : document) token = first + random() % 4;
    if (document.empty()) continue;
    all.insert(all.end(), document.begin(), document.end());
    all.push_back(kNoToken);
  }
  const TemporaryFolder folder;
  const Datastore store(Write(folder, vocab_size, documents));
  for (int round = 0; round < 300; ++round) {
    Tokens text(40);
    for (TokenId& token : text) token = first + random() % 4;
    int length = 0;
    std::vector<Tokens> found = Following(store, text, 2, 12, &length);
    for (int longer = length; longer <= length + 1; ++longer) {
      std::vector<Tokens> expected;
      const auto size = std::min<std::size_t>(static_cast<std::size_t>(longer), 12);
      for (auto at = all.begin();; ++at) {
        at = std::search(at, all.end(), text.end() - static_cast<std::ptrdiff_t>(size), text.end());
        if (at == all.end()) break;
        const auto next = at + static_cast<std::ptrdiff_t>(size);
        expected.push_back({*next, next + 1 == all.end() ? kNoToken : next[1]});
      }
      std::sort(expected.begin(), expected.end());
      if (length > 2) {
        EXPECT_TRUE(std::includes(found.begin(), found.end(), expected.begin(), expected.end()));
      }
      if (longer > length && length < 12) {
        EXPECT_LE(expected.size(), found.size());
      }
    }
  }
}

TEST(Datastore, EveryOccurrenceIsFound) { ExpectAllOccurrences(1000, 10); }

TEST(Datastore, LargeVocabulariesTakeWiderTokens) {
  EXPECT_EQ(Datastore::TokenBytes(0xffff), 2);
  EXPECT_EQ(Datastore::TokenBytes(0x10000), 3);
  ExpectAllOccurrences(151936, 151900);
}

TEST(Datastore, OccurrencesAreSampledEvenly) {
  Tokens text;
  for (TokenId token = 10; token < 90; ++token) text.insert(text.end(), {1, 2, token, 3});
  const TemporaryFolder folder;
  const Datastore store(Write(folder, 100, {text}));
  const std::vector<Tokens> found = Following(store, {1, 2}, 2, 2, nullptr, 8);
  ASSERT_EQ(found.size(), 8);
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i][0], static_cast<TokenId>(10 + 10 * i));
  }
}

TEST(Datastore, SearchAllocatesNothing) {
  const TemporaryFolder folder;
  const Datastore store(Write(folder, 100, {{1, 2, 3, 1, 2, 4, 1, 2, 5}}));
  std::vector<std::uint64_t> places;
  places.reserve(4);
  const Tokens text = {1, 2};
  const long before = NumAllocations();
  EXPECT_EQ(store.Find(text, 1, 16, 4, places), 2);
  EXPECT_EQ(NumAllocations(), before);
}

void ExpectRefusal(const std::filesystem::path& path, const std::string& reason) {
  try {
    const Datastore store(path);
    ADD_FAILURE() << "not refused: " << reason;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBundle);
    EXPECT_NE(error.message().find(path.string() + "': "), std::string::npos) << error.message();
    EXPECT_NE(error.message().find(reason), std::string::npos) << error.message();
    EXPECT_NE(error.action(), "");
  }
}

TEST(Datastore, OtherFilesAreRefusedByName) {
  const TemporaryFolder folder;
  const std::filesystem::path path = Write(folder, 100, {{1, 2, 3, 4, 5}});
  const std::string right = ReadAll(path);
  const auto expect_refusal = [&](const std::string& bytes, const std::string& reason) {
    WriteAll(path, bytes);
    ExpectRefusal(path, reason);
  };
  const auto changed = [&](std::size_t place, char byte) {
    std::string bytes = right;
    bytes[place] = byte;
    return bytes;
  };
  expect_refusal("", "it is no datastore");
  expect_refusal("some text", "it is no datastore");
  expect_refusal(changed(0, 'x'), "it is no datastore");
  expect_refusal(right.substr(0, right.size() - 1), "it is truncated");
  expect_refusal(right.substr(0, sizeof(DatastoreHeader)), "it is truncated");
  expect_refusal(right + "x", "bytes in place of");
  expect_refusal(changed(8, 2), "it has version 2, and this ptgc reads version 1");
  std::string swapped = right;
  std::reverse(swapped.begin() + 8, swapped.begin() + 12);
  expect_refusal(swapped, "another byte order");
  expect_refusal(changed(12, 4), "its header is damaged");       // token_bytes
  expect_refusal(changed(16, 0), "its header is damaged");       // vocab_size
  expect_refusal(changed(31, '\xff'), "its header is damaged");  // num_tokens
  expect_refusal(changed(32, 99), "its header is damaged");      // num_documents
  ExpectRefusal(folder.path(), "it is no regular file");
  ExpectRefusal(folder.path() / "nothing", "No such file");
}

// Damage behind the header is not looked for, and must not lead out of the file.
TEST(Datastore, DamageIsNeverReadBeyondTheFile) {
  const TemporaryFolder folder;
  Tokens text;
  for (int i = 0; i < 200; ++i) text.push_back(i % 7);
  const std::filesystem::path path = Write(folder, 7, {text});
  const std::string right = ReadAll(path);
  std::mt19937 random(3);
  for (int round = 0; round < 100; ++round) {
    std::string bytes = right;
    const std::size_t first =
        round == 0 ? sizeof(DatastoreHeader)
                   : sizeof(DatastoreHeader) + random() % (bytes.size() - sizeof(DatastoreHeader));
    for (std::size_t i = first; i < bytes.size(); i += 1 + random() % 3) {
      bytes[i] = round == 0 ? '\xff' : static_cast<char>(random());
    }
    WriteAll(path, bytes);
    const Datastore store(path);
    for (int start = 0; start < 7; ++start) {
      const Tokens asked(text.begin() + start, text.begin() + start + 20);
      for (const Tokens& one : Following(store, asked, 1, 16)) {
        for (const TokenId token : one) EXPECT_TRUE(token == kNoToken || (token >= 0 && token < 7));
      }
    }
  }
}

TEST(DatastoreWriter, TokensOutsideTheVocabularyAreRefused) {
  DatastoreWriter writer(100, kDigest);
  for (const TokenId token : {TokenId{100}, TokenId{-1}, TokenId{1} << 40}) {
    EXPECT_THROW(writer.Append(Tokens{token}), Error);
  }
  EXPECT_THROW(DatastoreWriter(0, kDigest), Error);
  EXPECT_THROW(DatastoreWriter(1 << 24, kDigest), Error);
  EXPECT_THROW(DatastoreWriter(100, "short"), Error);
}

TEST(DatastoreWriter, PlaceThatCannotBeWrittenIsAStorageError) {
  DatastoreWriter writer(100, kDigest);
  writer.Append(Tokens{1});
  for (const char* place : {"/nowhere/store", "/dev/full"}) {
    try {
      writer.Write(place);
      ADD_FAILURE() << place;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kStorage);
      EXPECT_NE(error.message().find(place), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace ptgc
