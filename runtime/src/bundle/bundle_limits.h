// The allowed ranges of values in manifest.json and build.json. ptgc.spec has the same ranges, so
// that both readers accept the same documents.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ptgc {

// Integers from `least` to `most`, both included.
struct Range {
  std::int64_t least;
  std::int64_t most;

  bool Holds(std::int64_t value) const { return value >= least && value <= most; }
};

namespace limits {

// Documents.
inline constexpr std::uint64_t kDocumentBytes = std::uint64_t{64} << 20U;
inline constexpr int kDocumentDepth = 64;
inline constexpr std::size_t kTextLength = 4096;  // Characters of any string.
inline constexpr Range kFileSize{0, std::int64_t{1} << 53U};
inline constexpr Range kSequence{0, std::int64_t{1} << 53U};

// Shapes.
inline constexpr Range kBatch{1, 1024};
inline constexpr Range kWidth{1, 65536};
inline constexpr Range kLength{1, 1 << 24};  // Of a text, a source or a canvas.
inline constexpr Range kCapacity{1, 1 << 25};
inline constexpr Range kWindow{1, 1 << 24};
inline constexpr Range kMaskExtra{0, 1 << 24};
inline constexpr std::int64_t kEntries = 64;  // Of a list of sizes; also windows.
inline constexpr std::int64_t kBufferBytes = std::int64_t{1} << 46U;

// Models.
inline constexpr Range kVocabSize{1, 1 << 24};
inline constexpr Range kContextLength{1, std::int64_t{1} << 40U};
inline constexpr Range kHeads{1, 65536};       // Also the size of a head.
inline constexpr std::int64_t kStates = 4096;  // Also ports and engines.
inline constexpr std::int64_t kRoles = 64;
inline constexpr std::int64_t kFiles = 65536;
inline constexpr std::int64_t kEndTokens = 4096;
inline constexpr std::int64_t kRank = 8;  // Of a port.

// Plans.
inline constexpr std::int64_t kTreeNodes = 4096;
inline constexpr Range kDraftTokens{0, kTreeNodes - 1};
inline constexpr std::int64_t kDrafters = 8;       // Merged.
inline constexpr std::int64_t kAlternatives = 16;  // Drafters of which one is chosen.
inline constexpr Range kNgramSize{1, 64};
inline constexpr Range kCandidates{1, 1024};  // Of rule `relaxed`.
inline constexpr double kMargin = 100;        // Of log-probabilities.
inline constexpr Range kTopIds{2, 64};        // Of drafter `recycling`.
inline constexpr Range kWindowSize{2, 64};
inline constexpr Range kPooledNgram{2, 16};
inline constexpr Range kBranches{1, 64};
inline constexpr Range kSteps{1, 65536};
inline constexpr Range kDraftSteps{0, 63};
inline constexpr Range kInterval{2, 65536};  // Rounds until a cache is renewed.
inline constexpr Range kRounds{1, 65536};
inline constexpr std::int64_t kOperations = 64;
inline constexpr Range kUpsampling{1, 64};

}  // namespace limits
}  // namespace ptgc
