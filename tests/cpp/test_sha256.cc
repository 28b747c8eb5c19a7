#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/error.h"
#include "base/sha256.h"
#include "base/whole_file.h"
#include "temporary_folder.h"

namespace ptgc {
namespace {

std::string DigestOf(const std::string& text, std::size_t piece, Sha256Compress compress) {
  Sha256 digest(compress);
  for (std::size_t at = 0; at < text.size(); at += piece) {
    const std::string part = text.substr(at, piece);
    digest.Update({reinterpret_cast<const unsigned char*>(part.data()), part.size()});
  }
  return digest.Finish();
}

class Sha256Digests : public testing::TestWithParam<Sha256Compress> {};

// The examples of FIPS 180-4, in pieces of any size.
TEST_P(Sha256Digests, AreThoseOfTheStandard) {
  const std::string two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  for (std::size_t piece : {1, 3, 55, 64, 100}) {
    EXPECT_EQ(DigestOf("", piece, GetParam()),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(DigestOf("abc", piece, GetParam()),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(DigestOf(two_blocks, piece, GetParam()),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  }
  EXPECT_EQ(DigestOf(std::string(1000000, 'a'), 4097, GetParam()),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

INSTANTIATE_TEST_SUITE_P(Ways, Sha256Digests,
                         testing::Values(&CompressPortably, FastestCompress()));

TEST(Sha256, ReadsFilesAndNamesThoseThatItCannot) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "sha256.txt";
  std::ofstream(path) << "abc";
  EXPECT_EQ(Sha256OfFile(path, "Look at it."),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  std::filesystem::remove(path);
  try {
    Sha256OfFile(path, "Look at it.");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBundle);
    EXPECT_NE(error.message().find("sha256.txt"), std::string::npos);
  }
}

}  // namespace
}  // namespace ptgc
