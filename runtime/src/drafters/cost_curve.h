// CostCurve: what a round of each width costs on this device.
#pragma once

#include <algorithm>
#include <map>
#include <vector>

namespace ptgc {

// Seconds per round at each width of a plan; if nothing was measured, in units of a round of width
// 1.
class CostCurve {
 public:
  // `measured` maps widths to seconds and may be empty; absent widths are interpolated.
  CostCurve(std::vector<int> widths, const std::map<int, double>& measured);

  const std::vector<int>& widths() const { return widths_; }
  // Cost of a round at widths()[index].
  double At(std::size_t index) const { return costs_[index]; }
  // Cost of the smallest round that holds `rows` rows, or of the largest width.
  double AtLeast(int rows) const {
    const auto width = std::lower_bound(widths_.begin(), widths_.end(), rows);
    const auto index = static_cast<std::size_t>(width - widths_.begin());
    return costs_[std::min(index, costs_.size() - 1)];
  }
  // The largest width at which a round costs at most `rounds` rounds of width 1.
  int WidestFor(double rounds) const;

 private:
  std::vector<int> widths_;    // The plan's widths, ascending.
  std::vector<double> costs_;  // Cost of each width.
};

}  // namespace ptgc
