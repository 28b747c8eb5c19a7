// AttentionKernel over one instruction set's vectors; see block_kernel.h for how this is compiled.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/cached_attention.h"
#include "sampling/exponential.h"

namespace ptgc {
namespace {

// Slots that are read for all queries before the next ones: their keys stay in the nearest cache.
constexpr int kSlotsAtOnce = 32;
constexpr int kLanes = 16;

// Calls visit(query, slot, index) for what every query sees, in order for each of them; `index`
// counts what the query sees.
template <class Visit>
inline void VisitSlots(const AttentionTask& task, Visit visit) {
  int first = std::numeric_limits<int>::max(), last = 0;
  for (int q = 0; q < task.count; ++q) {
    first = std::min(first, task.seen[q]->begin);
    last = std::max(last, task.seen[q]->end);
  }
  for (int block = first; block < last; block += kSlotsAtOnce) {
    for (int q = 0; q < task.count; ++q) {
      const SeenSlots& seen = *task.seen[q];
      const int begin = std::max(block, seen.begin), end = std::min(block + kSlotsAtOnce, seen.end);
      if (begin < end) visit(q, begin, end, begin - seen.begin);
    }
  }
  for (int q = 0; q < task.count; ++q) {
    const SeenSlots& seen = *task.seen[q];
    for (std::size_t i = 0; i < seen.others.size(); ++i) {
      const int slot = seen.others[i];
      visit(q, slot, slot + 1, seen.end - seen.begin + static_cast<int>(i));
    }
  }
}

// The first `count` of 16 floats; the others are 0.
template <class V>
typename V::Floats16 LoadFirst(const float* from, int count) {
  float values[kLanes] = {};
  std::copy(from, from + count, values);
  return V::Load(values);
}

// `kVectors` is head_dim / 16, or 0 if it is none of the common sizes.
template <class V, int kVectors>
void WriteScores(const AttentionTask& task) {
  const int vectors = kVectors > 0 ? kVectors : task.head_dim / kLanes;
  const auto size = static_cast<std::size_t>(task.head_dim);
  VisitSlots(task, [&](int q, int begin, int end, int index) {
    const float* query = task.queries[q];
    float* scores = task.scores + static_cast<std::size_t>(q) * task.most_seen + index;
    for (int slot = begin; slot < end; ++slot) {
      const float* key = task.keys + static_cast<std::size_t>(slot) * size;
      typename V::Floats16 sum = V::Zero();
      for (int v = 0; v < vectors; ++v) {
        sum = V::MultiplyAdd(V::Load(query + v * kLanes), V::Load(key + v * kLanes), sum);
      }
      if (kVectors == 0 && task.head_dim % kLanes != 0) {
        const int rest = task.head_dim % kLanes, at = task.head_dim - rest;
        sum = V::MultiplyAdd(LoadFirst<V>(query + at, rest), LoadFirst<V>(key + at, rest), sum);
      }
      scores[slot - begin] = V::Sum(sum) * task.scale;
    }
  });
}

// The standard library's function has other last bits from processor to processor.
inline float Tanh(float x) {
  const float e = Exp(-2 * std::abs(x));
  return std::copysign((1 - e) / (1 + e), x);
}

// Turns scores into weights, and returns one over their sum.
template <class V>
float Normalize(float* scores, int count, float softcap) {
  if (softcap > 0) {
    for (int i = 0; i < count; ++i) scores[i] = softcap * Tanh(scores[i] / softcap);
  }
  float largest = -std::numeric_limits<float>::infinity();
  for (int i = 0; i < count; ++i) largest = scores[i] > largest ? scores[i] : largest;
  for (int i = 0; i < count; ++i) scores[i] = Exp(scores[i] - largest);
  typename V::Floats16 sum = V::Zero();
  const int whole = count / kLanes * kLanes;
  for (int i = 0; i < whole; i += kLanes) sum = V::Add(sum, V::Load(scores + i));
  float rest[kLanes] = {};
  std::copy(scores + whole, scores + count, rest);
  return 1 / V::Sum(V::Add(sum, V::Load(rest)));
}

template <class V, int kVectors>
void AddValues(const AttentionTask& task) {
  const auto size = static_cast<std::size_t>(task.head_dim);
  VisitSlots(task, [&](int q, int begin, int end, int index) {
    const float* weights = task.scores + static_cast<std::size_t>(q) * task.most_seen + index;
    float* out = task.out[q];
    const float* values = task.values + static_cast<std::size_t>(begin) * size;
    if constexpr (kVectors > 0) {
      typename V::Floats16 sums[kVectors];
      for (int v = 0; v < kVectors; ++v) sums[v] = V::Load(out + v * kLanes);
      for (int i = 0; i < end - begin; ++i, values += size) {
        const typename V::Floats16 weight = V::Set(weights[i]);
        for (int v = 0; v < kVectors; ++v) {
          sums[v] = V::MultiplyAdd(weight, V::Load(values + v * kLanes), sums[v]);
        }
      }
      for (int v = 0; v < kVectors; ++v) V::Store(out + v * kLanes, sums[v]);
    } else {
      for (int i = 0; i < end - begin; ++i, values += size) {
        const typename V::Floats16 weight = V::Set(weights[i]);
        for (int d = 0; d < task.head_dim; d += kLanes) {
          const int rest = std::min(kLanes, task.head_dim - d);
          float sums[kLanes];
          V::Store(sums, V::MultiplyAdd(weight, LoadFirst<V>(values + d, rest),
                                        LoadFirst<V>(out + d, rest)));
          std::copy(sums, sums + rest, out + d);
        }
      }
    }
  });
}

template <class V, int kVectors>
void AttendWith(const AttentionTask& task) {
  WriteScores<V, kVectors>(task);
  float factors[64];
  for (int q = 0; q < task.count; ++q) {
    factors[q] = Normalize<V>(task.scores + static_cast<std::size_t>(q) * task.most_seen,
                              task.seen[q]->count(), task.softcap);
    std::fill_n(task.out[q], task.head_dim, 0.0F);
  }
  AddValues<V, kVectors>(task);
  for (int q = 0; q < task.count; ++q) {
    for (int d = 0; d < task.head_dim; ++d) task.out[q][d] *= factors[q];
  }
}

template <class V>
void Attend(const AttentionTask& task) {
  if (task.head_dim == 64) return AttendWith<V, 4>(task);
  if (task.head_dim == 128) return AttendWith<V, 8>(task);
  AttendWith<V, 0>(task);
}

}  // namespace
}  // namespace ptgc
