// SPDX-License-Identifier: Apache-2.0
// Edges into cells. A cell says its heaviest edge ("max"), or the share of its queries' attention that its keys get
// ("share"); where a cell is one pair, both are the weight.

const DIMMED = 0.03;
const OVERVIEW = 2048;            // cells along each side of the coarse copy of a huge head
const MANY_EDGES = 2_500_000;     // in a window: more do not fit into a frame

const lowerBound = (keys, from, to, key) => {
  while (from < to) {
    const middle = (from + to) >> 1;
    if (keys[middle] < key) from = middle + 1;
    else to = middle;
  }
  return from;
};

// The grid that a window wants: a cell a token where there is room, else a cell a pixel.
export function gridOf(head, view, width, height) {
  const grid = {q0: view.q0, q1: view.q1, k0: view.k0, k1: view.k1, rows: height, columns: width};
  if (view.q1 - view.q0 <= height) {
    grid.q0 = Math.floor(view.q0);
    grid.q1 = Math.ceil(view.q1);
    grid.rows = grid.q1 - grid.q0;
  }
  if (view.k1 - view.k0 <= width) {
    grid.k0 = Math.floor(view.k0);
    grid.k1 = Math.ceil(view.k1);
    grid.columns = grid.k1 - grid.k0;
  }
  return grid;
}

// Cells [rows * columns] of a grid. `look`: t, how, dimFirst, dimDiagonal, queryOffset.
export function rasterEdges(head, grid, look) {
  const {rows, columns} = grid;
  const cells = new Float32Array(rows * columns);
  const down = rows / (grid.q1 - grid.q0), across = columns / (grid.k1 - grid.k0);
  const {offsets, keys, weights} = head;
  const begin = Math.max(0, Math.ceil(grid.q0) - head.queryBegin);
  const end = Math.min(head.queries, Math.ceil(grid.q1) - head.queryBegin);
  const keyBegin = Math.max(0, Math.ceil(grid.k0)), keyEnd = Math.min(head.keyCount, Math.ceil(grid.k1));
  const max = look.how === 'max', {t, dimFirst, dimDiagonal} = look;
  const whole = keyBegin === 0 && keyEnd === head.keyCount;
  const shift = -grid.k0 * across;
  for (let r = begin; r < end; ++r) {
    const query = r + head.queryBegin;
    const y = Math.min(rows - 1, Math.floor((query - grid.q0) * down)) * columns;
    let e = offsets[r], last = offsets[r + 1];
    if (!whole) {
      e = lowerBound(keys, e, last, keyBegin);
      last = lowerBound(keys, e, last, keyEnd);
    }
    const own = dimDiagonal ? query + look.queryOffset : -1;
    if (max && !dimFirst && !dimDiagonal) {
      for (; e < last; ++e) {
        const weight = weights[e];
        if (weight < t) continue;
        const cell = y + (keys[e] * across + shift | 0);
        if (weight > cells[cell]) cells[cell] = weight;
      }
      continue;
    }
    for (; e < last; ++e) {
      let weight = weights[e];
      if (weight < t) continue;
      const key = keys[e];
      if ((dimFirst && key === 0) || key === own) weight *= DIMMED;
      const cell = y + (key * across + shift | 0);
      if (!max) cells[cell] += weight;
      else if (weight > cells[cell]) cells[cell] = weight;
    }
  }
  if (!max) {
    // Of the queries that a cell covers, at least one.
    const queries = Math.max(1, 1 / down);
    if (queries > 1) for (let cell = 0; cell < cells.length; ++cell) cells[cell] /= queries;
  }
  return cells;
}

// A whole head in OVERVIEW x OVERVIEW cells, and in half as many along each side.
export function overviewOf(head, look) {
  const whole = {q0: head.queryBegin, q1: head.queryBegin + head.queries, k0: 0, k1: head.keyCount};
  const grid = {...whole, rows: Math.min(OVERVIEW, head.queries), columns: Math.min(OVERVIEW, head.keyCount)};
  const fine = {grid, cells: rasterEdges(head, grid, look)};
  const half = {...whole, rows: Math.ceil(grid.rows / 2), columns: Math.ceil(grid.columns / 2)};
  return {fine, half: {grid: half, cells: shrink(fine, half, look.how)}};
}

export function wantsOverview(head, view) {
  const row = (query) => Math.min(head.queries, Math.max(0, Math.floor(query) - head.queryBegin));
  return head.offsets[row(view.q1)] - head.offsets[row(view.q0)] > MANY_EDGES;
}

// A window out of the overview, from the half of it where that is fine enough.
export function rasterOverview({fine, half}, grid, how) {
  const cells = (grid.k1 - grid.k0) / (half.grid.k1 - half.grid.k0) * half.grid.columns;
  return shrink(cells >= 0.95 * grid.columns ? half : fine, grid, how);
}

// Cells of a grid out of finer ones: those that a cell touches.
function shrink(overview, grid, how) {
  const {rows, columns} = grid, from = overview.grid, out = new Float32Array(rows * columns);
  const span = (begin, end, cells, first, last, limit) => {
    const scale = limit / (last - first), size = (end - begin) / cells;
    const ranges = new Int32Array(2 * cells);
    for (let c = 0; c < cells; ++c) {
      const a = Math.floor((begin + c * size - first) * scale);
      const b = Math.max(a + 1, Math.ceil((begin + (c + 1) * size - first) * scale - 1e-9));
      ranges[2 * c] = Math.max(0, Math.min(limit, a));
      ranges[2 * c + 1] = Math.max(0, Math.min(limit, b));
    }
    return ranges;
  };
  const down = span(grid.q0, grid.q1, rows, from.q0, from.q1, from.rows);
  const across = span(grid.k0, grid.k1, columns, from.k0, from.k1, from.columns);
  const wide = (grid.k1 - grid.k0) / columns * from.columns / (from.k1 - from.k0), max = how === 'max';
  const first = across[0], last = across[2 * columns - 1], line = new Float32Array(from.columns);
  for (let r = 0; r < rows; ++r) {
    const y0 = down[2 * r], y1 = down[2 * r + 1];
    line.fill(0, first, last);
    for (let y = y0; y < y1; ++y) {
      const row = overview.cells.subarray(y * from.columns, (y + 1) * from.columns);
      if (max) {
        for (let x = first; x < last; ++x) line[x] = Math.max(line[x], row[x]);  // a branch would be guessed wrong
      } else {
        for (let x = first; x < last; ++x) line[x] += row[x];
      }
    }
    for (let c = 0, at = r * columns; c < columns; ++c, ++at) {
      const x0 = across[2 * c], x1 = across[2 * c + 1];
      let value = 0;
      if (max) for (let x = x0; x < x1; ++x) value = Math.max(value, line[x]);
      else {
        for (let x = x0; x < x1; ++x) value += line[x];
        value *= wide / ((y1 - y0) * (x1 - x0));
      }
      out[at] = value;
    }
  }
  return out;
}

// Cells as pixels: `ramp` has 256 colours of 32 bits, 0 for nothing. The colour goes with the root of the value.
export function colourise(cells, ramp, high) {
  const pixels = new Uint32Array(cells.length), scale = 255 * 255 / high;
  for (let i = 0; i < cells.length; ++i) {
    const value = cells[i];
    if (value > 0) pixels[i] = ramp[Math.min(255, Math.max(1, Math.ceil(Math.sqrt(value * scale))))];
  }
  return pixels;
}
