#include "table_models.h"

#include <array>
#include <cstddef>

#include "reference_distribution.h"

namespace ptgc {
namespace {

constexpr std::size_t kContexts = kVocab * kVocab;
using Table = std::array<std::vector<float>, kContexts>;

Table MakeTable(std::uint64_t seed) {
  Table table;
  for (std::size_t context = 0; context < kContexts; ++context) {
    table[context] = MadeUpLogits(kVocab, Spread::kNormal, 1000 * seed + context);
    for (float& logit : table[context]) logit *= 0.6F;
  }
  return table;
}

Table MakeNear(const Table& target) {
  Table table = target;
  const Table noise = MakeTable(3);
  for (std::size_t context = 0; context < kContexts; ++context) {
    for (std::size_t i = 0; i < kVocab; ++i) table[context][i] += 0.2F * noise[context][i];
  }
  return table;
}

const Table kTarget = MakeTable(1);
const Table kStrange = MakeTable(2);
const Table kNear = MakeNear(kTarget);

std::span<const float> After(const Table& table, std::span<const TokenId> text) {
  return table[static_cast<std::size_t>(text[text.size() - 1] * kVocab + text[text.size() - 2])];
}

}  // namespace

std::span<const float> TargetLogits(std::span<const TokenId> text) { return After(kTarget, text); }
std::span<const float> StrangeLogits(std::span<const TokenId> text) {
  return After(kStrange, text);
}
std::span<const float> NearLogits(std::span<const TokenId> text) { return After(kNear, text); }

LogitsRow TableReader::Row(int node) {
  Tokens text = *text_;
  const std::ptrdiff_t root = static_cast<std::ptrdiff_t>(text.size());
  for (int at = node; at > 0; at = proposal_->tree().parent(at)) {
    text.insert(text.begin() + root, proposal_->tokens()[static_cast<std::size_t>(at) - 1]);
  }
  ++rows_read_;
  return {TargetLogits(text).data(), DType::kFloat32, kVocab};
}

void DraftedText::Draft(Model model, const SamplingOptions& options, AcceptanceRule rule,
                        Sampler& sampler) {
  proposal.Clear();
  const std::size_t root = text.size();
  std::span<float> q = probabilities;
  for (int i = 0; i < proposal.capacity(); ++i, q = q.subspan(kVocab)) {
    const TokenId token = ChooseDraft(sampler, {model(text).data(), DType::kFloat32, kVocab},
                                      options, &counts, static_cast<std::int64_t>(text.size()),
                                      rule, q.first(static_cast<std::size_t>(kVocab)));
    proposal.Append(token);
    counts.Push(token);
    text.push_back(token);
  }
  for (; text.size() > root; text.pop_back()) counts.Pop(text.back());
}

ProposedText DraftedText::Question(TableReader& reader, const SamplingOptions& options,
                                   AcceptanceRule rule) {
  return {.proposal = &proposal,
          .logits = &reader,
          .options = &options,
          .counts = &counts,
          .position = static_cast<std::int64_t>(text.size()),
          .rule = rule,
          .draft_probabilities = {probabilities, kVocab}};
}

void DraftedText::Accept(std::span<const TokenId> next_ids) {
  acceptance.Keep(proposal, next_ids);
  const auto emit = [this](TokenId token) {
    text.push_back(token);
    counts.Push(token);
  };
  for (int node : acceptance.path()) {
    emit(proposal.tokens()[static_cast<std::size_t>(node) - 1]);
  }
  emit(acceptance.bonus());
}

}  // namespace ptgc
