// SPDX-License-Identifier: Apache-2.0
#include "shadow.hpp"

#include <algorithm>

namespace ag::emu {
namespace {

std::uintptr_t number(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

// Calls f(cell) for the cells of [begin, end) of one page.
template <class F>
void each_cell(Shadow::Page& page, std::uintptr_t begin, std::uintptr_t end, F f) {
  const std::uintptr_t step = std::uintptr_t{1} << page.shift;
  for (std::uintptr_t at = begin; at < end; at += step) f(page.at(at));
}

}  // namespace

void Shadow::begin(const void* base, std::size_t bytes, bool written) {
  regions_[number(base)] = {bytes, std::vector<bool>(bytes, written)};
  const std::uintptr_t end = number(base) + bytes;
  for (std::uintptr_t n = number(base) / kPageBytes; n * kPageBytes < end; ++n) {
    cache_[n % kCached] = Cached();  // it may say that nothing is watched there
    const auto found = pages_.find(n);
    if (found != pages_.end()) fill(*found->second, n);
  }
}

void Shadow::end(const void* base) {
  const auto region = regions_.find(number(base));
  if (region == regions_.end()) return;
  const std::uintptr_t begin = region->first, end = begin + region->second.bytes;
  regions_.erase(region);
  for (std::uintptr_t n = begin / kPageBytes; n * kPageBytes < end; ++n) {
    const auto found = pages_.find(n);
    if (found == pages_.end()) continue;
    Page& page = *found->second;
    each_cell(page, std::max(begin, n * kPageBytes), std::min(end, (n + 1) * kPageBytes), [](Cell& c) { c = Cell(); });
    const auto next = regions_.lower_bound((n + 1) * kPageBytes);
    const bool used =
        next != regions_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > n * kPageBytes;
    if (used) continue;
    cache_[n % kCached] = Cached();
    pages_.erase(found);
  }
}

void Shadow::written(const void* base, std::size_t bytes) {
  const std::uintptr_t begin = number(base), end = begin + bytes;
  auto region = regions_.upper_bound(begin);
  if (region == regions_.begin()) return;
  --region;
  const std::uintptr_t stop = std::min(end, region->first + region->second.bytes);
  if (begin >= stop) return;
  std::vector<bool>& bits = region->second.written;
  std::fill(bits.begin() + static_cast<std::ptrdiff_t>(begin - region->first),
            bits.begin() + static_cast<std::ptrdiff_t>(stop - region->first), true);
  for (std::uintptr_t n = begin / kPageBytes; n * kPageBytes < stop; ++n) {
    const auto found = pages_.find(n);
    if (found == pages_.end()) continue;
    const std::uintptr_t from = std::max(begin, n * kPageBytes), to = std::min(stop, (n + 1) * kPageBytes);
    if ((from | to) % (std::uintptr_t{1} << found->second->shift) != 0) split(*found->second);
    each_cell(*found->second, from, to, [](Cell& c) {
      c = Cell();
      c.state = Cell::kTracked | Cell::kWritten;
    });
  }
}

bool Shadow::is_written(std::uintptr_t address) {
  const auto found = pages_.find(address / kPageBytes);
  if (found != pages_.end()) return (found->second->at(address).state & Cell::kWritten) != 0;
  auto region = regions_.upper_bound(address);
  if (region == regions_.begin()) return true;  // of the host
  --region;
  const std::uintptr_t offset = address - region->first;
  return offset >= region->second.bytes || region->second.written[offset];
}

void Shadow::copied(const void* to, const void* from, std::size_t bytes) {
  const auto* const target = static_cast<const std::byte*>(to);
  std::size_t begin = 0;
  while (begin < bytes) {  // run after run of written bytes
    std::size_t end = begin;
    while (end < bytes && is_written(number(from) + end)) ++end;
    if (end > begin) written(target + begin, end - begin);
    begin = end + 1;
  }
}

Shadow::Page* Shadow::find_page(std::uintptr_t n) {
  const auto found = pages_.find(n);
  if (found != pages_.end()) return found->second.get();
  const auto next = regions_.lower_bound((n + 1) * kPageBytes);
  if (next == regions_.begin()) return nullptr;
  const auto last = std::prev(next);
  if (last->first + last->second.bytes <= n * kPageBytes) return nullptr;
  auto page = std::make_unique<Page>();
  page->cells.resize(kPageBytes >> page->shift);
  fill(*page, n);
  return pages_.emplace(n, std::move(page)).first->second.get();
}

// From what the regions know: their pieces of the page as if nobody had touched them.
void Shadow::fill(Page& page, std::uintptr_t n) {
  const std::uintptr_t begin = n * kPageBytes, end = begin + kPageBytes;
  auto region = regions_.upper_bound(begin);
  if (region != regions_.begin()) --region;
  for (; region != regions_.end() && region->first < end; ++region) {
    const std::uintptr_t from = std::max(begin, region->first);
    const std::uintptr_t to = std::min(end, region->first + region->second.bytes);
    for (std::uintptr_t at = from; at < to;) {
      const std::uintptr_t step = std::uintptr_t{1} << page.shift;
      const bool written = region->second.written[at - region->first];
      bool whole = at % step == 0 && at + step <= to;
      for (std::uintptr_t i = 1; whole && i < step; ++i)
        whole = region->second.written[at + i - region->first] == written;
      if (!whole) {
        split(page);
        continue;
      }
      Cell& cell = page.at(at);
      if ((cell.state & Cell::kTracked) == 0) {
        cell = Cell();
        cell.state = static_cast<std::uint8_t>(Cell::kTracked | (written ? Cell::kWritten : 0));
      }
      at += step;
    }
  }
}

void Shadow::split(Page& page) {
  if (page.shift == 0) return;
  std::vector<Cell> bytes(kPageBytes);
  for (std::size_t i = 0; i < kPageBytes; ++i) bytes[i] = page.cells[i >> page.shift];
  page.cells = std::move(bytes);
  page.shift = 0;
}

}  // namespace ag::emu
