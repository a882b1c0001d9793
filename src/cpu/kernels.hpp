// SPDX-License-Identifier: Apache-2.0
// The parts of the cpu backend that are compiled once per instruction set, behind tables of functions. Another way to
// make scores (pairs.hpp) fills the product's part of a table and keeps the rest.
//
// Scores inside the backend are in base 2: x = log2(e) * s, so that weights are powers of two and every change of the
// reference of a running sum multiplies by 2^n, exactly. T is the working precision: float, or double where float
// cannot hold the band (docs/numerics.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "../core/dtype.hpp"
#include "candidates.hpp"

namespace ag::cpu {

// Keys of one strip: 2 KiB of scores a row, so that a block of rows stays in L1 between the product and the sweep.
template <class T>
inline constexpr std::int64_t kStripKeys = 2048 / static_cast<std::int64_t>(sizeof(T));

// Rows of the largest register tile of any table.
inline constexpr int kMostRows = 32;

// Rows of a block for which a whole register tile is too much.
inline constexpr std::int64_t kFewRows = 4;

// What one pass over a row has learnt so far. Invariants, over the keys seen:
//   sum == sum_j 2^(x_j - reference),  weighted == sum_j 2^(x_j - reference) (x_j - reference),  reference ==
//   ceil(maximum) every key with x >= cut is among the candidates
template <class T>
struct RowState {
  T maximum = -std::numeric_limits<T>::infinity();
  T reference = -std::numeric_limits<T>::infinity();
  T cut = std::numeric_limits<T>::lowest();  // never -inf: a masked key must not pass
  std::int64_t max_key = -1;
  double sum = 0;
  double weighted = 0;
  Candidates<T> candidates;
  // Of selections that look at the row's candidates on the way (SweepRequest::top_k, mass):
  std::int64_t keys = 0;       // that the query may see
  std::int64_t seen = 0;       // keys swept so far
  std::int64_t review_at = 0;  // number of candidates at which the cut is looked at again
  bool settled = false;        // mass: the candidates hold it
  bool guessed = false;        // mass raised the cut by an estimate: the sum kept must be checked at the end
};

struct SweepRequest {
  bool sum = true;       // false: the logsumexp is given and nobody wants the entropy
  bool own_cut = true;   // the cut follows the row's own sum; false: a given logsumexp has set it
  bool entropy = false;  // keep `weighted` too
  double log2_cut =
      0;  // log2 of the smallest weight of interest, less the slack that rounding needs; -inf: all keys are
  std::int64_t top_k = 0;  // > 0: the cut follows the k-th largest score so far
  double mass = 0;         // > 0: the cut follows the weights that this share of the row leaves out, by an estimate
  double log2_sink = -std::numeric_limits<double>::infinity();  // what else is in the denominator that mass is of

  bool selects() const { return top_k > 0 || mass > 0; }
};

// Scores of one row against one strip of keys: whole panels, aligned, masked ones -inf. The candidates have room for
// `width` more.
template <class T>
struct StripRow {
  const T* scores = nullptr;
  std::int64_t width = 0;
  std::int64_t first_key = 0;
  std::int64_t row = 0;  // of the task
  RowState<T>* state = nullptr;
};

// Rows of a block on their way over one strip of keys, all of which they see, a piece of it at a time: so the scores of
// a piece are swept while the processor multiplies the next. A piece is a panel: scores[rows][kPieceKeys], as the
// product made them, without the factor. The references are those from before the strip: a sum may hold terms above 1,
// and moves at the end.
inline constexpr std::int64_t kPieceKeys = 32;

template <class T>
struct RunningSweep {
  static constexpr int kLanes = 16;  // of a row's sum

  // Scores that are swept and scores that are being made, [rows][kPieceKeys] each. A whole number of 4 KiB before the
  // sums: the load of a row's scores then has not the low bits of an address at which a sum has just been stored, which
  // the processor would take for the same.
  alignas(64) T pieces[2][kMostRows * kPieceKeys];
  alignas(64) T sums[kMostRows][kLanes];
  alignas(64) T reference[kMostRows];
  // What score less reference must reach to be looked at: a candidate, or the largest so far. Rounded down.
  alignas(64) T least[kMostRows];
  alignas(64) std::uint32_t hits[kMostRows];  // of the piece at hand, a bit for each key
  RowState<T>* states[kMostRows];             // null: this row takes no part
  T maximum_before[kMostRows];                // what a row that is done again goes back to
  std::int64_t max_key_before[kMostRows];
  std::int64_t candidates_before[kMostRows];
  std::int64_t rows;  // of the block
  T factor;           // of the scores
};

static_assert(offsetof(RunningSweep<float>, sums) % 4096 == 0);

template <class T>
using SweepRows = void (*)(RunningSweep<T>& sweep, const T* scores, std::int64_t first_key, std::int64_t first_row,
                           std::int64_t end_row);

template <class T>
struct Kernels {
  const char* target;
  int rows_per_block;       // rows of one register tile
  std::int64_t panel_keys;  // keys of one register tile; strips are whole panels
  double sum_roundings;     // additions on the longest path of a strip's sum, for the band

  // The product. A packed query holds depth(d) values of the size of T, a packed key key_depth(d).
  std::int64_t (*depth)(std::int64_t d);
  std::int64_t (*key_depth)(std::int64_t d);
  // Roundings on the longest path of a score, that of the scale included; and, where what is subnormal counts as 0, the
  // products of each d.
  double (*score_roundings)(std::int64_t d);
  double products_per_value;
  bool scales_scores;  // true: queries are packed as they are, and score_strip multiplies; false: queries are scaled
  // The d values of one row, promoted exactly (an f64 row in a float kernel never happens). stride in elements.
  void (*unpack_row)(const void* row, DType dtype, std::int64_t stride, std::int64_t d, T* out);
  // Sum of squares in double.
  double (*squared_norm)(const T* x, std::int64_t d);
  // rows[panel_keys][d] -> packed[key_depth(d)][panel_keys]
  void (*pack_panel)(const T* rows, std::int64_t d, T* packed);
  // Row r < rows_per_block of a block, into packed[depth(d) * rows_per_block], which was 0.
  void (*pack_query)(const T* row, std::int64_t d, std::int64_t r, T* packed);
  // scores[r][j] = sum_d q[r][d] k[j][d], r < rows_per_block, j < panels * panel_keys, times factor when scales_scores;
  // a row of scores is kStripKeys long.
  void (*score_strip)(const T* q, const T* k, std::int64_t d, std::int64_t panels, T factor, T* scores);
  // The same bits for the first rows <= kFewRows of a block alone, sooner than a whole tile: decoding steps. Null where
  // the product has none.
  void (*score_few)(const T* q, const T* k, std::int64_t d, std::int64_t rows, std::int64_t panels, T* scores);
  // score_strip for the first half of a block's rows alone. Null where a block has no halves.
  void (*score_half)(const T* q, const T* k, std::int64_t d, std::int64_t panels, T factor, T* scores);
  // The product by pieces: the scores of `panels` panels, the first of which begins with `first_key`, each handed to
  // sweep_rows while the next is multiplied. Between open_product and
  // close_product, on one thread, which meanwhile runs nothing that it does not know. Null where the product has none.
  void (*score_under_sweep)(const T* q, const T* k, std::int64_t d, std::int64_t panels, std::int64_t first_key,
                            RunningSweep<T>& sweep, SweepRows<T> sweep_rows);
  void (*open_product)();
  void (*close_product)();
  // x = cap * tanh(x), in place; n is a multiple of panel_keys.
  void (*softcap)(T* x, std::int64_t n, T cap);
  // x -= slope |distance - j|, in place; distance is how far the query stands after the first key.
  void (*alibi)(T* x, std::int64_t n, T slope, std::int64_t distance);
  // Take the strips of `count` <= rows_per_block different rows into their states.
  void (*sweep)(const StripRow<T>* strips, std::int64_t count, const SweepRequest& request);
  // The same by pieces, for requests without selections and entropy whose cut follows the sum: states, rows and factor
  // of the sweep are set, every row has a largest score and room for kStripKeys candidates. Null where vectors are
  // short.
  void (*open_sweep)(RunningSweep<T>& sweep);
  // Rows [first_row, end_row) of a piece, first_row ascending; with the last of them the candidates are taken.
  SweepRows<T> sweep_rows;
  // Bits of the rows whose scores rose too far above their reference: nothing has changed for these.
  std::uint32_t (*close_sweep)(RunningSweep<T>& sweep, const SweepRequest& request);
  // Raise the row's cut as far as its candidates allow, and drop what is below. `complete`: every key has been swept.
  void (*tighten)(RowState<T>& row, const SweepRequest& request, bool complete);
  // Whether the candidates hold the mass, every key swept: if so, what the guesses left out is not needed.
  bool (*holds_mass)(RowState<T>& row, const SweepRequest& request);
  // received[j] += w and distances[-j] += w, in double, for w = 2^((x[j] - reference) - rest), 0 where x[j] is -inf.
  // Either may be null. Reads x up to a vector past count.
  void (*add_masses)(const T* x, std::int64_t count, T reference, T rest, double* received, double* distances);
  // out[n] = e^(ln(2) (x[n] - reference) - rest), in double; reads and writes up to one vector past n.
  void (*weights)(const T* x, std::int64_t n, T reference, double rest, double* out);
};

// Rows of a ready matrix, as contiguous values in float or double.
template <class T>
struct MatrixKernels {
  void (*unpack_row)(const void* row, DType dtype, std::int64_t stride, std::int64_t n, T* out);
  // Write the keys with x >= cut to keys/values (room for n) and return how many; add up sum; raise maximum. With
  // `masked`, -inf entries count for nothing (cut must be finite). A NaN or infinity that counts makes *sum NaN or
  // infinite.
  std::int64_t (*threshold_row)(const T* x, std::int64_t n, std::int64_t first_key, T cut, bool masked,
                                std::int32_t* keys, T* values, double* sum, T* maximum);
  // The first x[n] == value; n when there is none.
  std::int64_t (*index_of)(const T* x, std::int64_t n, T value);
  // -sum w ln w over w > 0
  double (*entropy_row)(const T* x, std::int64_t n);
};

// Tables of the instruction set in use (see targets.hpp).
template <class T>
const Kernels<T>& kernels();
template <class T>
const MatrixKernels<T>& matrix_kernels();
int vector_registers();
// Of keys of 16 bits, the product of the instruction set in use with packed keys of 16 bits, where it has one.
void use_halves(Kernels<float>& table, DType dtype);

}  // namespace ag::cpu
