// SPDX-License-Identifier: Apache-2.0
#include "shared.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

#include "machine.hpp"

namespace ag::emu {
namespace {
constexpr std::size_t kDynamicAlignment = 128;  // as ATTNGRAPH_DYNAMIC_SHARED promises
}

SharedMemory::Piece& SharedMemory::make(const void* key, std::size_t bytes, std::size_t alignment) {
  // An array has the alignment of its type and no more: 16-byte accesses into a float[] that happen to work on one
  // compiler's layout are refused here.
  const std::size_t shift = alignment < kDynamicAlignment ? alignment : 0;
  Piece piece;
  piece.key = key;
  if (posix_memalign(&piece.storage, kDynamicAlignment, shift + bytes) != 0) throw std::bad_alloc();
  piece.region = {static_cast<std::byte*>(piece.storage) + shift, bytes};
  piece.window = next_window_ + static_cast<std::uint32_t>(shift);
  next_window_ +=
      static_cast<std::uint32_t>((shift + bytes + kDynamicAlignment - 1) / kDynamicAlignment * kDynamicAlignment);
  pieces_.push_back(piece);
  return pieces_.back();
}

void SharedMemory::appear(Piece& piece) {
  piece.live = true;
  std::memset(piece.region.begin, 0xff, piece.region.bytes);
  if (Hooks* const hooks = machine().hooks()) hooks->shared_begin(owner_, piece.region);
}

void SharedMemory::begin(const ThreadIdentity& owner, std::size_t dynamic_bytes) {
  owner_ = owner;
  static_bytes_ = 0;
  dynamic_bytes_ = dynamic_bytes;
  if (dynamic_bytes == 0) return;
  for (Piece& piece : pieces_) {
    if (piece.key == nullptr) return appear(piece);
  }
  appear(make(nullptr, dynamic_bytes, kDynamicAlignment));
}

void SharedMemory::end() {
  for (Piece& piece : pieces_) {
    if (!piece.live) continue;
    piece.live = false;
    if (Hooks* const hooks = machine().hooks()) hooks->shared_end(owner_, piece.region);
  }
}

void SharedMemory::release() {
  for (const Piece& piece : pieces_) std::free(piece.storage);
  pieces_.clear();
  next_window_ = kFirstWindow;
}

void* SharedMemory::array(const void* key, std::size_t bytes, std::size_t alignment, Site site) {
  Piece* found = nullptr;
  for (Piece& piece : pieces_) {
    if (piece.key == key) {
      found = &piece;
      break;
    }
  }
  if (found == nullptr) found = &make(key, bytes, alignment);
  if (!found->live) {
    static_bytes_ += bytes;
    const LaunchConfig& config = machine().config();
    if (static_bytes_ > 48 * 1024 || static_bytes_ + dynamic_bytes_ > config.shared_total_bytes) {
      fail_kernel(site, "the block's shared memory is " + std::to_string(static_bytes_) + " bytes static and " +
                            std::to_string(dynamic_bytes_) + " dynamic; the limits are 49152 static and " +
                            std::to_string(config.shared_total_bytes) + " together");
    }
    appear(*found);
  }
  return found->region.begin;
}

void* SharedMemory::dynamic(Site site) {
  for (const Piece& piece : pieces_) {
    if (piece.key == nullptr && piece.live) return piece.region.begin;
  }
  fail_kernel(site, "the kernel uses dynamic shared memory, and the launch gives it none (dynamicSmemBytes is 0)");
}

Region SharedMemory::find(const void* p) const {
  for (const Piece& piece : pieces_) {
    if (piece.live && piece.region.contains(p)) return piece.region;
  }
  return {};
}

std::uint32_t SharedMemory::window_address(const void* p) const {
  for (const Piece& piece : pieces_) {
    // One past the end is an address, too.
    if (!piece.live || (!piece.region.contains(p) && p != piece.region.begin + piece.region.bytes)) continue;
    return piece.window + static_cast<std::uint32_t>(static_cast<const std::byte*>(p) - piece.region.begin);
  }
  return 0;
}

void* SharedMemory::at_window(std::uint32_t address) const {
  for (const Piece& piece : pieces_) {
    if (piece.live && address >= piece.window && address - piece.window < piece.region.bytes) {
      return piece.region.begin + (address - piece.window);
    }
  }
  return nullptr;
}

std::uint32_t to_shared_window(const void* p, Site site) {
  const std::uint32_t address = machine().current().block->shared.window_address(p);
  if (address == 0) fail_kernel(site, "__cvta_generic_to_shared: the address is not in the block's shared memory");
  return address;
}

void* from_shared_window(std::uint32_t address, Site site) {
  void* const p = machine().current().block->shared.at_window(address);
  if (p == nullptr) {
    fail_kernel(site, "the shared address " + std::to_string(address) + " is in none of the block's arrays");
  }
  return p;
}

void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, Site site) {
  return machine().current().block->shared.array(key, bytes, alignment, site);
}

unsigned char* dynamic_shared(Site site) {
  return static_cast<unsigned char*>(machine().current().block->shared.dynamic(site));
}

Region shared_region(const void* p) { return machine().current().block->shared.find(p); }

}  // namespace ag::emu
