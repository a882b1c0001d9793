// SPDX-License-Identifier: Apache-2.0
// Shared memory of one block: a heap block of exact size for each static array and for the dynamic part, so that
// AddressSanitizer sees what runs over an end; filled with 0xFF (NaN, -1) before the block begins.
#pragma once

#include <cstddef>
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
  // A block begins in it, and has ended; release() frees the storage.
  void begin(const ThreadIdentity& owner, std::size_t dynamic_bytes);
  void end();
  void release();

 private:
  struct Piece {
    const void* key = nullptr;  // null: dynamic
    Region region;
    void* storage = nullptr;
    bool live = false;  // of the block that runs
  };
  Piece& make(const void* key, std::size_t bytes, std::size_t alignment);
  void appear(Piece& piece);

  ThreadIdentity owner_;
  std::vector<Piece> pieces_;
  std::size_t static_bytes_ = 0;
  std::size_t dynamic_bytes_ = 0;
};

void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, Site site);
unsigned char* dynamic_shared(Site site);

}  // namespace ag::emu
