// DatastoreDrafter: continues the end of the text as texts in a datastore go on after it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "bundle/plan.h"
#include "drafters/datastore.h"
#include "drafters/drafter_seat.h"
#include "drafters/lookup_drafter.h"

namespace ptgc {

class Fields;

void ReadDatastore(const Fields& data, DrafterPlan& plan);
std::unique_ptr<Drafter> MakeDatastore(DrafterSeat& seat);

// Source: REST, He et al., arXiv 2311.08252, section 3: the longest end of the text that occurs in
// the datastore is looked up, and of the trie of what follows its occurrences, the nodes that most
// of them pass are the drafts. With a plan for chains, these are the most frequent continuation.
class DatastoreDrafter : public LookupDrafter {
 public:
  // Without a datastore it drafts nothing.
  DatastoreDrafter(std::unique_ptr<const Datastore> store, const DrafterParameters& parameters,
                   bool drafts_chains);

  int Propose(const DraftRow& row) override;
  const char* idle_reason() const override;

 private:
  // An occurrence of the text's end: where it is continued, and its token at the depth at which it
  // was sorted last.
  struct Continuation {
    std::uint64_t place = 0;
    TokenId token = kNoToken;
  };
  // A node of the trie that may be drafted next: the continuations that pass it.
  struct Branch {
    int parent = 0;         // Node of the proposal.
    std::size_t first = 0;  // Among the continuations.
    std::size_t last = 0;   // Behind the last one.
    int depth = 0;          // Of its token in the continuations.

    std::size_t count() const { return last - first; }
  };

  void Expand(int node, std::size_t first, std::size_t last, int depth);
  // Whether a branch is drafted later than another one: the order of the heap.
  bool IsLater(const Branch& one, const Branch& other) const;
  auto Order() const {
    return [this](const Branch& one, const Branch& other) { return IsLater(one, other); };
  }

  std::unique_ptr<const Datastore> store_;   // Null if none was given.
  DrafterParameters parameters_;             // Lengths of the ends that are looked up.
  bool drafts_chains_;                       // Whether trees are not drafted.
  std::vector<std::uint64_t> places_;        // Of the continuations, as found.
  std::vector<Continuation> continuations_;  // The same, those of a branch side by side.
  std::vector<Branch> branches_;             // A heap, the most frequent one first.
};

}  // namespace ptgc
