// AttentionKernel over one instruction set's vectors; see block_kernel.h for how this is compiled.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "base/exponential.h"
#include "base/half.h"
#include "kernels/cached_attention.h"

namespace ptgc {
namespace {

constexpr int kLanes = 16;

// Vectors `V` of attention: Floats16 holds 16 floats.
//
//   Load, Store              floats; Load also halves, which become floats
//   StoreHalves              rounded to halves, clamped to the largest
//   Zero, Set, Add, Multiply, MultiplyAdd
//   Sum     of a vector's floats: halves are added until one is left
//   Sums    of 16 vectors, each added as Sum does

template <class V>
void Widen(const std::uint16_t* from, std::size_t count, float* to) {
  const std::size_t whole = count / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) V::Store(to + i, V::Load(from + i));
  for (std::size_t i = whole; i < count; ++i) to[i] = Float32FromFloat16(from[i]);
}

template <class V>
void Narrow(const float* from, int count, std::uint16_t* to) {
  const int whole = count / kLanes * kLanes;
  for (int i = 0; i < whole; i += kLanes) V::StoreHalves(to + i, V::Load(from + i));
  for (int i = whole; i < count; ++i) to[i] = Float16FromFloat32(from[i]);
}

// Slots begin .. end - 1 of keys or values, as float32.
template <class V>
const float* ReadSlots(const AttentionTask& task, const void* cache, int begin, int end) {
  const auto size = static_cast<std::size_t>(task.head_dim);
  const std::size_t first = static_cast<std::size_t>(begin) * size;
  if (!task.is_half) return static_cast<const float*>(cache) + first;
  Widen<V>(static_cast<const std::uint16_t*>(cache) + first,
           static_cast<std::size_t>(end - begin) * size, task.widened);
  return task.widened;
}

// Some slots that one query sees, or two neighbours.
struct Visit {
  int query;
  int queries;  // 1 or 2.
  const float* slots;
  int count;
  int index[2];  // Of the first slot among those that each query sees.
};

// Calls visit(Visit) for what every query sees of `cache`, in order for each of them.
template <class V, class Function>
void VisitSlots(const AttentionTask& task, const void* cache, Function visit) {
  int first = std::numeric_limits<int>::max(), last = 0;
  for (int q = 0; q < task.count; ++q) {
    first = std::min(first, task.seen[q]->begin);
    last = std::max(last, task.seen[q]->end);
  }
  for (int block = first; block < last; block += kSlotsAtOnce) {
    const int block_end = std::min(block + kSlotsAtOnce, last);
    const float* slots = ReadSlots<V>(task, cache, block, block_end);
    const auto begin = [&](int q) { return std::max(block, task.seen[q]->begin); };
    const auto end = [&](int q) { return std::min(block_end, task.seen[q]->end); };
    for (int q = 0, queries = 1; q < task.count; q += queries) {
      const int from = begin(q), count = end(q) - from;
      const int next = std::min(q + 1, task.count - 1);
      queries = next > q && begin(next) == from && end(next) == end(q) ? 2 : 1;
      if (count <= 0) continue;
      visit(Visit{q,
                  queries,
                  slots + (from - block) * task.head_dim,
                  count,
                  {from - task.seen[q]->begin, from - task.seen[next]->begin}});
    }
  }
  for (int q = 0; q < task.count; ++q) {
    const SeenSlots& seen = *task.seen[q];
    for (std::size_t i = 0; i < seen.others.size(); ++i) {
      const float* slot = ReadSlots<V>(task, cache, seen.others[i], seen.others[i] + 1);
      visit(Visit{q, 1, slot, 1, {seen.end - seen.begin + static_cast<int>(i), 0}});
    }
  }
}

inline float* ScoresOf(const AttentionTask& task, int query) {
  return task.scores + static_cast<std::size_t>(query) * task.most_seen;
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
  const auto write = [&](const float* query, const float* key, int count, float* scores) {
    int slot = 0;
    for (; slot + kLanes <= count; slot += kLanes, key += kLanes * size) {
      typename V::Floats16 sums[kLanes];
      for (int i = 0; i < kLanes; ++i) sums[i] = V::Zero();
      for (int v = 0; v < vectors; ++v) {
        const typename V::Floats16 part = V::Load(query + v * kLanes);
        for (int i = 0; i < kLanes; ++i) {
          const float* from = key + static_cast<std::size_t>(i) * size + v * kLanes;
          sums[i] = V::MultiplyAdd(part, V::Load(from), sums[i]);
        }
      }
      if (kVectors == 0 && task.head_dim % kLanes != 0) {
        const int rest = task.head_dim % kLanes, at = task.head_dim - rest;
        const typename V::Floats16 part = LoadFirst<V>(query + at, rest);
        for (int i = 0; i < kLanes; ++i) {
          const float* from = key + static_cast<std::size_t>(i) * size + at;
          sums[i] = V::MultiplyAdd(part, LoadFirst<V>(from, rest), sums[i]);
        }
      }
      V::Store(scores + slot, V::Multiply(V::Sums(sums), V::Set(task.scale)));
    }
    for (; slot < count; ++slot, key += size) {
      typename V::Floats16 sum = V::Zero();
      for (int v = 0; v < vectors; ++v) {
        sum = V::MultiplyAdd(V::Load(query + v * kLanes), V::Load(key + v * kLanes), sum);
      }
      if (kVectors == 0 && task.head_dim % kLanes != 0) {
        const int rest = task.head_dim % kLanes, at = task.head_dim - rest;
        sum = V::MultiplyAdd(LoadFirst<V>(query + at, rest), LoadFirst<V>(key + at, rest), sum);
      }
      scores[slot] = V::Sum(sum) * task.scale;
    }
  };
  VisitSlots<V>(task, task.keys, [&](const Visit& visit) {
    for (int i = 0; i < visit.queries; ++i) {
      const int q = visit.query + i;
      write(task.queries[q], visit.slots, visit.count, ScoresOf(task, q) + visit.index[i]);
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
float TurnIntoWeights(float* scores, int count, float softcap) {
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

// Adds values to the outputs of kQueries queries: one alone would wait for its own sums.
template <class V, int kVectors, int kQueries>
void AddTo(float* const* out, const float* const* weights, const float* values, int count) {
  typename V::Floats16 sums[kQueries][kVectors];
  for (int q = 0; q < kQueries; ++q) {
    for (int v = 0; v < kVectors; ++v) sums[q][v] = V::Load(out[q] + v * kLanes);
  }
  for (int i = 0; i < count; ++i, values += kVectors * kLanes) {
    for (int v = 0; v < kVectors; ++v) {
      const typename V::Floats16 value = V::Load(values + v * kLanes);
      for (int q = 0; q < kQueries; ++q) {
        sums[q][v] = V::MultiplyAdd(V::Set(weights[q][i]), value, sums[q][v]);
      }
    }
  }
  for (int q = 0; q < kQueries; ++q) {
    for (int v = 0; v < kVectors; ++v) V::Store(out[q] + v * kLanes, sums[q][v]);
  }
}

// The same of one query for any head_dim.
template <class V>
void AddToAny(float* out, const float* weights, const float* values, int count, int head_dim) {
  for (int i = 0; i < count; ++i, values += head_dim) {
    const typename V::Floats16 weight = V::Set(weights[i]);
    for (int d = 0; d < head_dim; d += kLanes) {
      const int rest = std::min(kLanes, head_dim - d);
      float sums[kLanes];
      V::Store(sums,
               V::MultiplyAdd(weight, LoadFirst<V>(values + d, rest), LoadFirst<V>(out + d, rest)));
      std::copy(sums, sums + rest, out + d);
    }
  }
}

template <class V, int kVectors>
void AddValues(const AttentionTask& task) {
  VisitSlots<V>(task, task.values, [&](const Visit& visit) {
    const float* weights[2];
    for (int i = 0; i < visit.queries; ++i) {
      weights[i] = ScoresOf(task, visit.query + i) + visit.index[i];
    }
    float* const* out = task.out + visit.query;
    if constexpr (kVectors == 0) {
      for (int i = 0; i < visit.queries; ++i) {
        AddToAny<V>(out[i], weights[i], visit.slots, visit.count, task.head_dim);
      }
    } else if (visit.queries == 2) {
      AddTo<V, kVectors, 2>(out, weights, visit.slots, visit.count);
    } else {
      AddTo<V, kVectors, 1>(out, weights, visit.slots, visit.count);
    }
  });
}

template <class V, int kVectors>
void AttendWith(const AttentionTask& task) {
  WriteScores<V, kVectors>(task);
  float factors[kMostQueries];
  for (int q = 0; q < task.count; ++q) {
    factors[q] = TurnIntoWeights<V>(ScoresOf(task, q), task.seen[q]->count(), task.softcap);
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
