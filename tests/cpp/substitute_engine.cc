#include "substitute_engine.h"

#include <algorithm>
#include <stdexcept>

namespace ptgc {
namespace {

constexpr int kContextLength = 128;

const Tensor& Find(std::span<const Tensor> tensors, const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const Tensor& tensor) { return tensor.name == name; });
  if (found == tensors.end()) throw std::runtime_error("not offered: " + name);
  return *found;
}

class SubstituteCall : public Call {
 public:
  SubstituteCall(std::span<const Tensor> inputs, std::span<const Tensor> outputs, bool has_mask,
                 int wrong_every, Observations& observations)
      : observations_(observations), wrong_every_(wrong_every) {
    const Tensor& ids = Find(inputs, "input_ids");
    pieces_ = ids.pieces;
    batch_ = ids.shape[0];
    width_ = ids.shape[1];
    ids_ = static_cast<const TokenId*>(ids.data);
    positions_ = static_cast<const std::int64_t*>(Find(inputs, "position_ids").data);
    write_index_ = static_cast<const std::int64_t*>(Find(inputs, "write_index").data);
    mask_start_ = static_cast<const std::int64_t*>(Find(inputs, "mask_start").data);
    row_count_ = static_cast<const std::int64_t*>(Find(inputs, "row_count").data);
    logits_rows_ = static_cast<const std::int64_t*>(Find(inputs, "logits_rows").data);
    if (has_mask) {
      const Tensor& mask = Find(inputs, "tree_mask");
      mask_ = static_cast<const bool*>(mask.data);
      mask_slots_ = mask.shape[2];
    }
    const Tensor& keys = Find(inputs, "past_key_values.0.key");
    capacity_ = keys.shape[2];
    keys_ = static_cast<float*>(keys.data);
    values_ = static_cast<float*>(Find(inputs, "past_key_values.0.value").data);
    if (Find(outputs, "present.0.key").data != keys.data) throw std::runtime_error("not in place");
    const Tensor& next = Find(outputs, "next_ids");
    num_logits_ = next.shape[1];
    next_ids_ = static_cast<TokenId*>(next.data);
    for (const Tensor& tensor : outputs) {
      if (tensor.name == "logits") logits_ = static_cast<float*>(tensor.data);
    }
    text_.resize(kContextLength);
    seen_.resize(kContextLength);
  }

  void Start() override {
    ++observations_.runs;
    TakePieces(pieces_);
    for (std::int64_t b = 0; b < batch_; ++b) {
      WriteCache(b);
      for (std::int64_t r = 0; r < num_logits_; ++r) {
        const std::int64_t row = logits_rows_[b * num_logits_ + r];
        const std::int64_t at = b * num_logits_ + r;
        next_ids_[at] = row < row_count_[b] ? Speak(b, row) : -1;
        if (logits_ != nullptr) WriteLogits(next_ids_[at], logits_ + at * kVocabSize);
      }
    }
  }

 private:
  // Padded rows leave rubbish behind, as a real engine does.
  void WriteCache(std::int64_t b) {
    for (std::int64_t t = 0; t < width_; ++t) {
      const std::int64_t slot = write_index_[b] + t;
      const std::int64_t position = positions_[b * width_ + t];
      if (slot >= capacity_ || position >= kContextLength || position < 0) {
        ++observations_.out_of_bounds;
        continue;
      }
      const bool valid = t < row_count_[b];
      keys_[b * capacity_ + slot] = valid ? static_cast<float>(ids_[b * width_ + t]) : -777.0F;
      values_[b * capacity_ + slot] = static_cast<float>(position);
    }
  }

  // The token after row `t`, from what it sees in the cache.
  TokenId Speak(std::int64_t b, std::int64_t t) {
    std::fill(seen_.begin(), seen_.end(), 0);
    const std::int64_t length = positions_[b * width_ + t] + 1;
    bool broken = false;
    const auto see = [&](std::int64_t slot) {
      const std::int64_t position = static_cast<std::int64_t>(values_[b * capacity_ + slot]);
      const float id = keys_[b * capacity_ + slot];
      broken = broken || position >= length || id < 0 || seen_[position] != 0;
      if (broken) return;
      seen_[position] = 1;
      text_[position] = static_cast<TokenId>(id);
    };
    if (mask_ == nullptr) {
      for (std::int64_t slot = 0; slot <= write_index_[b] + t; ++slot) see(slot);
    } else {
      for (std::int64_t slot = 0; slot < mask_start_[b]; ++slot) see(slot);
      for (std::int64_t u = 0; u < mask_slots_; ++u) {
        if (mask_[(b * width_ + t) * mask_slots_ + u]) see(mask_start_[b] + u);
      }
    }
    for (std::int64_t i = 0; i < length; ++i) broken = broken || seen_[i] == 0;
    if (broken) ++observations_.broken_texts;
    if (broken) return kVocabSize - 1;
    const TokenId next = NextToken(std::span(text_).first(static_cast<std::size_t>(length)));
    const bool wrong = wrong_every_ > 0 && length % wrong_every_ == 0;
    return wrong ? (next + 1) % kVocabSize : next;
  }

  // The next token is the likeliest, those near it come next.
  static void WriteLogits(TokenId next, float* logits) {
    for (TokenId token = 0; token < kVocabSize; ++token) {
      const TokenId distance = (token - next + kVocabSize) % kVocabSize;
      logits[token] = 3.0F / (1.0F + static_cast<float>(distance));
    }
  }

  Observations& observations_;
  int wrong_every_;
  std::int64_t batch_;
  std::int64_t width_;
  std::int64_t capacity_;
  std::int64_t num_logits_;
  const TokenId* ids_;
  const std::int64_t* positions_;
  const std::int64_t* write_index_;
  const std::int64_t* mask_start_;
  const std::int64_t* row_count_;
  const std::int64_t* logits_rows_;
  const bool* mask_ = nullptr;
  std::int64_t mask_slots_ = 0;
  float* keys_;
  float* values_;
  TokenId* next_ids_;
  float* logits_ = nullptr;
  std::vector<Piece> pieces_;
  std::vector<TokenId> text_;
  std::vector<unsigned char> seen_;
};

}  // namespace

std::unique_ptr<Call> SubstituteEngine::Bind(std::span<const Tensor> inputs,
                                             std::span<const Tensor> outputs) {
  observations_.widths.push_back(static_cast<int>(Find(inputs, "input_ids").shape[1]));
  return std::make_unique<SubstituteCall>(inputs, outputs, HasInput("tree_mask"), wrong_every_,
                                          observations_);
}

Bundle SubstituteBundle(int batch, const DrafterPlan& drafter) {
  Bundle bundle;
  bundle.device = "cpu";
  if (drafter.kind != "none") bundle.plan.strategy = drafter.kind;
  bundle.plan.drafter = drafter;
  bundle.plan.tree = TreeSpec::Chain(drafter.num_draft_tokens);
  bundle.model.family = "substitute";
  bundle.model.vocab_size = kVocabSize;
  bundle.model.context_length = kContextLength;
  bundle.backend = "substitute";
  bundle.shapes.batch = batch;
  bundle.shapes.max_length = kContextLength;
  bundle.shapes.roles["target"] = {{1, 2, 4, 8, 16}, 8, {48, 144}, {}, {}, {}};
  LayerState state;
  state.kv_heads = 1;
  state.head_dim = 1;
  bundle.roles["target"].states = {state};
  bundle.roles["target"].vocab_size = kVocabSize;
  if (drafter.Parts().back().kind == "model") {
    bundle.roles["drafter"] = bundle.roles["target"];
    bundle.shapes.roles["drafter"] = {{1, 2, 8, 12}, 1, {40, 80, 144}, {}, {}, {}};
  }
  return bundle;
}

NgramParameters NgramSizes(int shortest, int longest, NgramMatch match) {
  NgramParameters parameters;
  parameters.shortest_match = shortest;
  parameters.longest_match = longest;
  parameters.match = match;
  return parameters;
}

DrafterPlan NgramPlan() {
  return {"ngram", 7, std::make_shared<NgramParameters>(NgramSizes(1, 4))};
}

DrafterPlan ModelPlan(int num_draft_tokens, DrafterVocabulary vocabulary) {
  auto parameters = std::make_shared<DraftModelParameters>();
  parameters->vocabulary = vocabulary;
  return {"model", num_draft_tokens, std::move(parameters)};
}

DrafterPlan OverlapPlan(int num_draft_tokens) {
  auto parameters = std::make_shared<DraftModelParameters>();
  parameters->overlap = true;
  return {"model", num_draft_tokens, std::move(parameters)};
}

DrafterPlan SuffixPlan() {
  auto parameters = std::make_shared<SuffixParameters>();
  parameters->shortest_match = 1;
  parameters->longest_match = 16;
  parameters->drafts_per_match = 4;
  return {"suffix", 7, std::move(parameters)};
}

DrafterPlan DatastorePlan() {
  auto parameters = std::make_shared<DrafterParameters>();
  parameters->shortest_match = 2;
  parameters->longest_match = 16;
  return {"datastore", 7, std::move(parameters)};
}

DrafterPlan MergedPlan(std::vector<DrafterPlan> parts) {
  DrafterPlan plan;
  plan.kind = "merged";
  for (const DrafterPlan& part : parts) {
    plan.num_draft_tokens = std::max(plan.num_draft_tokens, part.num_draft_tokens);
  }
  plan.parts = std::move(parts);
  return plan;
}

Engines SubstituteEngines(Observations& target, Observations* drafter) {
  Engines engines;
  engines["target"] = std::make_unique<SubstituteEngine>(target);
  if (drafter != nullptr) {
    engines["drafter"] =
        std::make_unique<SubstituteEngine>(*drafter, std::set<std::string>(), /*wrong_every=*/3);
  }
  return engines;
}

}  // namespace ptgc
