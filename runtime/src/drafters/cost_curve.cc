#include "drafters/cost_curve.h"

#include <iterator>
#include <utility>

namespace ptgc {
namespace {

// A round mostly reads weights; each further row adds a little arithmetic.
constexpr double kAssumedCostPerRow = 0.06;

double Assumed(int width) { return 1 + kAssumedCostPerRow * (width - 1); }

// Linear interpolation between measured neighbours; beyond the ends, extrapolation from the last
// two.
double Interpolate(const std::map<int, double>& measured, int width) {
  if (measured.size() == 1) {
    return measured.begin()->second * Assumed(width) / Assumed(measured.begin()->first);
  }
  auto right = measured.lower_bound(width);
  if (right == measured.end()) --right;
  if (right == measured.begin()) ++right;
  const auto left = std::prev(right);
  const double slope = (right->second - left->second) / (right->first - left->first);
  return left->second + slope * (width - left->first);
}

}  // namespace

CostCurve::CostCurve(std::vector<int> widths, const std::map<int, double>& measured)
    : widths_(std::move(widths)) {
  for (int width : widths_) {
    costs_.push_back(measured.empty() ? Assumed(width) : Interpolate(measured, width));
  }
}

int CostCurve::WidestFor(double rounds) const {
  int widest = widths_.front();
  for (std::size_t i = 0; i < widths_.size(); ++i) {
    if (costs_[i] <= rounds * costs_.front()) widest = widths_[i];
  }
  return widest;
}

}  // namespace ptgc
