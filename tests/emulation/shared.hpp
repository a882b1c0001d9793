// SPDX-License-Identifier: Apache-2.0
// Shared memory of one block: a heap block of exact size for each static array and for the dynamic part, so that
// AddressSanitizer sees what runs over an end; filled with 0xFF (NaN, -1) before the block begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "emu.hpp"

namespace ag::emu {

class SharedMemory {
 public:
  SharedMemory() = default;
  ~SharedMemory() { release(); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // The array of a declaration, known by its key; made when the block's first thread comes to it.
  void* array(const void* key, std::size_t bytes, std::size_t alignment, Site site);
  void* dynamic(Site site);
  // Empty when p is in none.
  Region find(const void* p) const;
  // The shared window: 32-bit addresses, as __cvta_generic_to_shared gives them. 0 and null for what is in no array.
  std::uint32_t window_address(const void* p) const;
  void* at_window(std::uint32_t address) const;
  // A block begins in it, and has ended; release() frees the storage.
  void begin(const ThreadIdentity& owner, std::size_t dynamic_bytes);
  void end();
  void release();

 private:
  struct Piece {
    const void* key = nullptr;  // null: dynamic
    std::uint32_t window = 0;   // its first address there
    Region region;
    void* storage = nullptr;
    bool live = false;  // of the block that runs
  };
  // As on a device, where what the system keeps comes first: no array begins at a multiple of 1,024 by luck.
  static constexpr std::uint32_t kFirstWindow = 1024 + 128;

  Piece& make(const void* key, std::size_t bytes, std::size_t alignment);
  void appear(Piece& piece);

  ThreadIdentity owner_;
  std::vector<Piece> pieces_;
  std::uint32_t next_window_ = kFirstWindow;
  std::size_t static_bytes_ = 0;
  std::size_t dynamic_bytes_ = 0;
};

void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, Site site);
unsigned char* dynamic_shared(Site site);
// Of the running thread's block; they fail the kernel for what is in no shared array.
std::uint32_t to_shared_window(const void* p, Site site);
void* from_shared_window(std::uint32_t address, Site site);

}  // namespace ag::emu
