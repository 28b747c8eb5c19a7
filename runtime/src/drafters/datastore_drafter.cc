#include "drafters/datastore_drafter.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "bundle/json_document.h"

namespace ptgc {
namespace {

// Occurrences whose continuations are counted: enough to tell frequent ones from others.
constexpr std::size_t kMostOccurrences = 128;
constexpr Range kMatchLength{1, Datastore::kSortedTokens};

// Throws a usage error for a datastore of other tokens than the bundle's.
void CheckVocabulary(const Datastore& store, const DrafterSeat& seat) {
  const ModelFacts& model = seat.bundle.model;
  const bool is_same =
      !model.vocabulary_sha256 || *model.vocabulary_sha256 == store.vocabulary_sha256();
  if (is_same && store.header().vocab_size <= static_cast<std::uint64_t>(model.vocab_size)) return;
  throw Error(ErrorCode::kUsage,
              "The datastore '" + seat.options.datastore +
                  "' has the tokens of another tokenizer than this bundle's.",
              "Make it again with this one: ptgc datastore TEXT... --tokenizer BUNDLE -o FILE");
}

}  // namespace

void ReadDatastore(const Fields& data, DrafterPlan& plan) {
  auto parameters = std::make_shared<DrafterParameters>();
  parameters->longest_match = static_cast<int>(data.Integer("max_match_length", kMatchLength));
  parameters->shortest_match = static_cast<int>(data.Integer("min_match_length", kMatchLength));
  if (parameters->longest_match < parameters->shortest_match) {
    data.Add("max_match_length", " is below min_match_length: match lengths are out of order.");
  }
  plan.parameters = std::move(parameters);
}

std::unique_ptr<Drafter> MakeDatastore(DrafterSeat& seat) {
  std::unique_ptr<const Datastore> store;
  if (!seat.options.datastore.empty()) {
    store = std::make_unique<Datastore>(seat.options.datastore);
    CheckVocabulary(*store, seat);
  }
  return std::make_unique<DatastoreDrafter>(std::move(store), *seat.plan.drafter.parameters,
                                            seat.plan.tree.is_chain());
}

DatastoreDrafter::DatastoreDrafter(std::unique_ptr<const Datastore> store,
                                   const DrafterParameters& parameters, bool drafts_chains)
    : store_(std::move(store)), parameters_(parameters), drafts_chains_(drafts_chains) {
  places_.reserve(kMostOccurrences);
  continuations_.reserve(kMostOccurrences);
  branches_.reserve(kMostOccurrences + 1);
}

const char* DatastoreDrafter::idle_reason() const {
  return store_ == nullptr ? "no datastore was given" : nullptr;
}

// What fewer continuations pass, and of equal ones what is deeper, comes later.
bool DatastoreDrafter::IsLater(const Branch& one, const Branch& other) const {
  if (one.count() != other.count()) return one.count() < other.count();
  if (one.depth != other.depth) return one.depth > other.depth;
  return continuations_[one.first].token > continuations_[other.first].token;
}

// Adds the children of a node: continuations with the same token at a depth are one.
void DatastoreDrafter::Expand(int node, std::size_t first, std::size_t last, int depth) {
  const std::span<Continuation> own = std::span(continuations_).subspan(first, last - first);
  for (Continuation& one : own)
    one.token = store_->At(one.place + static_cast<std::uint64_t>(depth));
  std::ranges::sort(own, {}, &Continuation::token);
  while (first < last) {
    const TokenId token = continuations_[first].token;
    std::size_t next = first;
    while (next < last && continuations_[next].token == token) ++next;
    if (token != kNoToken) {
      branches_.push_back({node, first, next, depth});
      std::ranges::push_heap(branches_, Order());
    }
    first = next;
  }
}

int DatastoreDrafter::Propose(const DraftRow& row) {
  if (store_ == nullptr) return 0;
  const int length = store_->Find(row.text, parameters_.shortest_match, parameters_.longest_match,
                                  kMostOccurrences, places_);
  continuations_.clear();
  branches_.clear();
  for (const std::uint64_t place : places_) continuations_.push_back({place});
  Expand(0, 0, continuations_.size(), 0);
  Proposal& proposal = *row.proposal;
  while (proposal.size() < row.limit && !branches_.empty()) {
    std::ranges::pop_heap(branches_, Order());
    const Branch best = branches_.back();
    branches_.pop_back();
    if (drafts_chains_) branches_.clear();
    const int node = proposal.Add(best.parent, continuations_[best.first].token);
    Expand(node, best.first, best.last, best.depth + 1);
  }
  proposal.set_match_length(length);
  return proposal.size();
}

}  // namespace ptgc
