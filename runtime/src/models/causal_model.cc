#include "models/causal_model.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "bundle/port_names.h"

namespace ptgc {
namespace {

std::size_t Size(int value) { return static_cast<std::size_t>(value); }

// Of all rows; and of the chosen ones, for the next run to read.

DType LogitsType(const Role& role) {
  const Port* port = FindPort(role.outputs, "logits");
  return port == nullptr ? DType::kFloat32 : port->dtype;
}

std::size_t RowBytes(const Port& port) {
  return static_cast<std::size_t>(port.last_size) * ItemSize(port.dtype);
}

}  // namespace

CausalModel::CausalModel(std::unique_ptr<Engine> engine, const Bundle& bundle,
                         const std::string& name, std::int64_t vocab_size,
                         CausalNeighbours neighbours, std::shared_ptr<KVCache> cache)
    : engine_(std::move(engine)),
      name_(name),
      batch_(bundle.shapes.batch),
      max_length_(bundle.shapes.max_length),
      shapes_(bundle.shapes.roles.at(name)),
      vocab_size_(vocab_size),
      logits_dtype_(LogitsType(bundle.roles.at(name))),
      kv_cache_(std::move(cache)),
      neighbours_(std::move(neighbours)) {
  if (kv_cache_ == nullptr) {
    const std::map<std::string, std::vector<LayerState>> own = {
        {name, bundle.roles.at(name).states}};
    kv_cache_ = std::make_shared<KVCache>(own, bundle.shapes, engine_->memory());
  }
  const bool has_tree_mask = engine_->HasInput("tree_mask");
  const int widest = shapes_.widths.back(), most = shapes_.LogitsFor(widest);
  for (int link = 0; link < neighbours_.chain_length; ++link) {
    const int width = link == 0 ? widest : shapes_.widths.front();
    ports_.emplace_back(batch_, width, link == 0 ? most : 1, has_tree_mask,
                        bundle.roles.at(name).mask_extra);
  }
  logits_ = Buffer(Size(batch_) * Size(most) * static_cast<std::size_t>(vocab_size_) *
                   ItemSize(logits_dtype_));
  const Role& role = bundle.roles.at(name);
  if (FindPort(role.outputs, ports::kTopIds) != nullptr) {
    num_top_ids_ = bundle.plan.drafter.parameters->num_top_ids;
    top_ids_ = Buffer(Size(batch_) * Size(widest) * Size(num_top_ids_) * sizeof(TokenId));
  }
  if (const Port* port = FindPort(role.inputs, ports::kHiddenStates); port != nullptr) {
    states_read_ = *port;
    states_in_ = Block(engine_->memory(), Size(batch_) * Size(widest) * RowBytes(*port));
  }
  const Port* port = FindPort(role.outputs, ports::kHiddenStates);
  const bool of_all = port != nullptr;
  if (!of_all) port = FindPort(role.outputs, ports::kCarriedStates);
  if (port != nullptr) {
    states_ = States{*port, of_all, {}};
    for (int link = 0; link < neighbours_.chain_length; ++link) {
      const int rows = link > 0 ? 1 : of_all ? widest : most;
      states_->blocks.emplace_back(engine_->memory(), Size(batch_) * Size(rows) * RowBytes(*port));
    }
  }
  started_.reserve(ports_.size());
}

void CausalModel::Start(std::span<const RowInput> rows, int width, Wanted wanted) {
  if (wanted.link == 0) {
    if (!started_.empty()) Wait();  // For runs of a round that failed before its Wait.
    for (std::size_t row = 0; states_read_.has_value() && row < rows.size(); ++row) {
      FillStates(static_cast<int>(row), rows[row], width);
    }
    num_logits_ = wanted.num_logits;
    width_ = width;
    engine_seconds_ = 0;
  }
  int length = 0;
  for (const RowInput& row : rows) length = std::max(length, row.first_slot());
  kv_cache_->Grow(length + width);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const int row = static_cast<int>(i);
    kv_cache_->Slide(row, rows[i].write_index);
    ports_[Size(wanted.link)].Fill(row, rows[i], width, wanted.num_logits,
                                   kv_cache_->window_offset(row));
  }
  Call& call = BoundCall(width, wanted);
  const Clock::time_point start = Clock::now();
  call.Start();
  engine_seconds_ += SecondsSince(start);
  started_.push_back(&call);
}

void CausalModel::Wait() {
  const Clock::time_point start = Clock::now();
  while (!started_.empty()) {
    Call* call = started_.back();
    started_.pop_back();
    call->Wait();
  }
  engine_seconds_ += SecondsSince(start);
}

std::span<const TokenId> CausalModel::NextIds(int row, int link) const {
  return PortsOf(link).NextIdsOf(row, link == 0 ? num_logits_ : 1);
}

std::span<const TokenId> CausalModel::TopIds(int row) const {
  const std::size_t count = Size(width_) * Size(num_top_ids_);
  return {top_ids_.As<const TokenId>() + Size(row) * count, count};
}

LogitsRow CausalModel::Logits(int row, int index) const {
  const std::size_t row_bytes = static_cast<std::size_t>(vocab_size_) * ItemSize(logits_dtype_);
  const std::size_t at = Size(row) * Size(num_logits_) + Size(index);
  return {logits_.As<char>() + at * row_bytes, logits_dtype_, vocab_size_};
}

std::vector<Tensor> CausalModel::ChainIds() const {
  std::vector<Tensor> ids;
  for (const CausalPorts& ports : ports_) ids.push_back(ports.NextIds(1));
  return ids;
}

void CausalModel::CopyStates(int row, int first, int count, void* to) const {
  if (!states_.has_value()) {
    throw Error(ErrorCode::kInternal, "A drafter reads hidden states, which the role lacks.");
  }
  const std::size_t bytes = RowBytes(states_->port);
  const std::size_t at = Size(row) * Size(states_->of_all ? width_ : num_logits_) + Size(first);
  engine_->memory()->Copy({to, 0, states_->blocks[0].At(at * bytes), 0, Size(count) * bytes});
}

// Called before the next run replaces the carried states.
void CausalModel::FillStates(int row, const RowInput& input, int width) {
  const std::size_t bytes = RowBytes(*states_read_);
  char* to = states_in_.At(Size(row) * Size(width) * bytes);
  if (input.states != nullptr) {
    engine_->memory()->Copy({to, 0, input.states, 0, input.tokens.size() * bytes});
    return;
  }
  for (std::size_t i = 0; i < input.carried.size(); ++i) {
    CopyStates(row, input.carried[i], 1, to + i * bytes);
  }
}

std::vector<double> CausalModel::Measure(const EngineRuns& runs) {
  const std::vector<int>& widths = shapes_.widths;
  const bool known =
      std::binary_search(widths.begin(), widths.end(), runs.num_tokens) &&
      (runs.num_logits == 1 || runs.num_logits == shapes_.LogitsFor(runs.num_tokens));
  if (!known || runs.past_length < 0 || runs.past_length > max_length_) return {};
  // There are no positions beyond the longest text; further rows are padding, which costs the same.
  const int count = std::min(runs.num_tokens, max_length_);
  const std::vector<TokenId> tokens(Size(count), 0);
  RowInput input;
  input.tokens = tokens;
  input.write_index = std::min(runs.past_length, max_length_ - count);
  const std::vector<RowInput> inputs(Size(batch_), input);
  for (int row = 0; row < batch_; ++row) kv_cache_->Begin(row);
  std::vector<double> seconds;
  for (int i = 0; i < runs.repeats; ++i) {
    Forward(inputs, runs.num_tokens, {runs.num_logits, false});
    seconds.push_back(engine_seconds_);
  }
  return seconds;
}

Call& CausalModel::BoundCall(int width, Wanted wanted) {
  std::unique_ptr<Call>& call = calls_[{kv_cache_->active(), width, wanted}];
  if (call != nullptr) return *call;
  std::vector<Tensor> inputs = Inputs(width, wanted);
  if (states_read_.has_value()) inputs.push_back(StatesIn(width, wanted.link));
  inputs.insert(inputs.end(), neighbours_.fixed_inputs.begin(), neighbours_.fixed_inputs.end());
  kv_cache_->AppendPast(name_, inputs);
  std::vector<Tensor> outputs = {PortsOf(wanted.link).NextIds(wanted.num_logits)};
  if (wanted.logits) {
    outputs.push_back(
        PortOf(logits_, "logits", logits_dtype_, {batch_, wanted.num_logits, vocab_size_}));
  }
  if (num_top_ids_ > 0 && wanted.link == 0) {
    outputs.push_back(
        PortOf(top_ids_, ports::kTopIds, DType::kInt64, {batch_, width, num_top_ids_}));
  }
  if (states_.has_value()) outputs.push_back(StatesOut(width, wanted));
  kv_cache_->AppendPresent(name_, outputs);
  call = engine_->Bind(inputs, outputs);
  return *call;
}

std::vector<Tensor> CausalModel::Inputs(int width, Wanted wanted) const {
  const CausalPorts& ports = PortsOf(wanted.link);
  if (wanted.link > 0) {
    const Tensor before = PortsOf(wanted.link - 1).NextIds(1);
    return ports.Inputs(width, wanted.num_logits, std::span(&before, 1));
  }
  if (!wanted.pending_drafts) return ports.Inputs(width, wanted.num_logits);
  return ports.Inputs(width, wanted.num_logits, neighbours_.draft_ids, 1);
}

// Later runs of a chain read the states from which the run before chose its draft.
Tensor CausalModel::StatesIn(int width, int link) const {
  const Block& block = link == 0 ? states_in_ : states_->blocks[Size(link) - 1];
  const int rows = link == 0 ? width : 1;
  return {ports::kHiddenStates,
          states_read_->dtype,
          block.data(),
          {batch_, rows, states_read_->last_size}};
}

Tensor CausalModel::StatesOut(int width, Wanted wanted) const {
  const Port& port = states_->port;
  const int rows = states_->of_all ? width : wanted.num_logits;
  return {port.name,
          port.dtype,
          states_->blocks[Size(wanted.link)].data(),
          {batch_, rows, port.last_size}};
}

}  // namespace ptgc
