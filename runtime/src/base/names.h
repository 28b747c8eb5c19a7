// The enums in manifests and results, with their spellings (the same as in ptgc.spec).
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace ptgc {

// Spellings of an enum, in the order of its values.
template <typename Enum>
struct Names;

enum class LoopKind { kSpeculative, kCanvas, kEdit, kOneShot };
template <>
struct Names<LoopKind> {
  static constexpr std::array<std::string_view, 4> kAll = {"speculative", "canvas", "edit",
                                                           "one-shot"};
};

enum class Guarantee { kLossless, kApproximate, kLossy };
template <>
struct Names<Guarantee> {
  static constexpr std::array<std::string_view, 3> kAll = {"lossless", "approximate", "lossy"};
};

enum class NgramMatch { kLatest, kFirst };
template <>
struct Names<NgramMatch> {
  static constexpr std::array<std::string_view, 2> kAll = {"latest", "first"};
};

enum class DrafterVocabulary { kShared, kReencoded };
template <>
struct Names<DrafterVocabulary> {
  static constexpr std::array<std::string_view, 2> kAll = {"shared", "re-encoded"};
};

enum class AcceptanceRule { kMatch, kSpeculative, kBlock, kTypical, kRelaxed };
template <>
struct Names<AcceptanceRule> {
  static constexpr std::array<std::string_view, 5> kAll = {"match", "speculative", "block",
                                                           "typical", "relaxed"};
};

enum class EditStart { kEmpty, kSource };
template <>
struct Names<EditStart> {
  static constexpr std::array<std::string_view, 2> kAll = {"empty", "source"};
};

enum class CanvasCache { kNone, kBlock, kPrefix, kDual, kDelayed };
template <>
struct Names<CanvasCache> {
  static constexpr std::array<std::string_view, 5> kAll = {"none", "block", "prefix", "dual",
                                                           "delayed"};
};

enum class PolicyKind { kConfidence, kFactor, kEntropy, kMargin, kRandom, kSequential, kOwn };
template <>
struct Names<PolicyKind> {
  static constexpr std::array<std::string_view, 7> kAll = {
      "confidence", "factor", "entropy", "margin", "random", "sequential", "own"};
};

enum class ConfidenceOf { kModel, kSampled };
template <>
struct Names<ConfidenceOf> {
  static constexpr std::array<std::string_view, 2> kAll = {"model", "sampled"};
};

enum class Schedule { kLinear, kCosine, kPerBlock };
template <>
struct Names<Schedule> {
  static constexpr std::array<std::string_view, 3> kAll = {"linear", "cosine", "per-block"};
};

enum class CanvasStop { kBlock, kEos };
template <>
struct Names<CanvasStop> {
  static constexpr std::array<std::string_view, 2> kAll = {"block", "eos"};
};

enum class OneShotPath { kCtc };
template <>
struct Names<OneShotPath> {
  static constexpr std::array<std::string_view, 1> kAll = {"ctc"};
};

enum class DType { kFloat32, kFloat16, kBFloat16, kInt64, kInt32, kBool };
template <>
struct Names<DType> {
  static constexpr std::array<std::string_view, 6> kAll = {"float32", "float16", "bfloat16",
                                                           "int64",   "int32",   "bool"};
};

enum class StateKind { kFull, kWindow, kCross };
template <>
struct Names<StateKind> {
  static constexpr std::array<std::string_view, 3> kAll = {"full", "window", "cross"};
};

enum class AttentionKind { kCausal, kTree, kBlock };
template <>
struct Names<AttentionKind> {
  static constexpr std::array<std::string_view, 3> kAll = {"causal", "tree", "block"};
};

enum class FinishReason { kEos, kLength, kStop, kCancelled, kDeadline };
template <>
struct Names<FinishReason> {
  static constexpr std::array<std::string_view, 5> kAll = {"eos", "length", "stop", "cancelled",
                                                           "deadline"};
};

enum class DraftLengthMode { kFixed, kMeasured };
template <>
struct Names<DraftLengthMode> {
  static constexpr std::array<std::string_view, 2> kAll = {"fixed", "measured"};
};

template <typename Enum>
constexpr std::string_view Name(Enum value) {
  return Names<Enum>::kAll[static_cast<std::size_t>(value)];
}

template <typename Enum>
constexpr std::optional<Enum> FromName(std::string_view name) {
  for (std::size_t i = 0; i < Names<Enum>::kAll.size(); ++i) {
    if (Names<Enum>::kAll[i] == name) return static_cast<Enum>(i);
  }
  return std::nullopt;
}

// Bytes of one element.
constexpr std::size_t ItemSize(DType dtype) {
  constexpr std::array<std::size_t, 6> kSizes = {4, 2, 2, 8, 4, 1};
  return kSizes[static_cast<std::size_t>(dtype)];
}

}  // namespace ptgc
