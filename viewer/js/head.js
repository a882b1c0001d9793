// SPDX-License-Identifier: Apache-2.0
// One head in memory, and questions about it. A head is CSR: row r is query queryBegin + r and has the edges
// offsets[r] .. offsets[r + 1]; keys ascend within a row.

// The query ranges of one head as one; rows that no range has are empty.
export function joinRanges(parts) {
  if (parts.length === 1) return parts[0];
  const sorted = [...parts].sort((a, b) => a.queryBegin - b.queryBegin);
  const queryBegin = sorted[0].queryBegin;
  const queries = Math.max(...sorted.map((p) => p.queryBegin + p.queries)) - queryBegin;
  const keyCount = Math.max(...sorted.map((p) => p.keyCount));
  const edges = sorted.reduce((sum, p) => sum + p.keys.length, 0);
  const offsets = new Uint32Array(queries + 1), keys = new Uint32Array(edges), weights = new Float32Array(edges);
  const entropies = sorted.some((p) => p.entropies) ? new Float32Array(queries).fill(NaN) : null;
  let row = 0, edge = 0;
  for (const part of sorted) {
    const first = part.queryBegin - queryBegin;
    if (first < row) throw new Error(`two query ranges of a head overlap at query ${part.queryBegin}`);
    while (row < first) offsets[++row] = edge;
    keys.set(part.keys, edge);
    weights.set(part.weights, edge);
    if (part.entropies) entropies.set(part.entropies, first);
    for (let r = 0; r < part.queries; ++r) offsets[++row] = edge + part.offsets[r + 1];
    edge += part.keys.length;
  }
  return {queryBegin, queries, keyCount, offsets, keys, weights, entropies};
}

// Several heads as one, by "mean", "max" or "sum", of their edges at or above t; a pair that is no edge in a head counts
// as 0 there.
export function combine(heads, how, t) {
  const queryBegin = Math.min(...heads.map((h) => h.queryBegin));
  const queries = Math.max(...heads.map((h) => h.queryBegin + h.queries)) - queryBegin;
  const keyCount = Math.max(...heads.map((h) => h.keyCount));
  const cells = new Float32Array(keyCount), seen = new Uint8Array(keyCount);
  const offsets = new Uint32Array(queries + 1);
  let most = heads.reduce((sum, h) => Math.max(sum, h.keys.length), 1024);
  let keys = new Uint32Array(most), weights = new Float32Array(most), edge = 0;
  for (let r = 0; r < queries; ++r) {
    const touched = [];
    for (const head of heads) {
      const row = r + queryBegin - head.queryBegin;
      if (row < 0 || row >= head.queries) continue;
      for (let e = head.offsets[row]; e < head.offsets[row + 1]; ++e) {
        const key = head.keys[e], weight = head.weights[e];
        if (weight < t) continue;
        if (!seen[key]) {
          seen[key] = 1;
          touched.push(key);
          cells[key] = weight;
        } else {
          cells[key] = how === 'max' ? Math.max(cells[key], weight) : cells[key] + weight;
        }
      }
    }
    touched.sort((a, b) => a - b);
    if (edge + touched.length > most) {
      most = 2 * most + touched.length;
      const [k, w] = [new Uint32Array(most), new Float32Array(most)];
      k.set(keys);
      w.set(weights);
      [keys, weights] = [k, w];
    }
    for (const key of touched) {
      keys[edge] = key;
      weights[edge++] = how === 'mean' ? cells[key] / heads.length : cells[key];
      seen[key] = 0;
    }
    offsets[r + 1] = edge;
  }
  keys = keys.slice(0, edge);
  weights = weights.slice(0, edge);
  return {queryBegin, queries, keyCount, offsets, keys, weights, entropies: null};
}

// The edges of a row at or above t, as they stand.
export function rowOf(head, query, t) {
  const r = query - head.queryBegin;
  const out = {keys: [], weights: [], kept: 0, entropy: NaN};
  if (r < 0 || r >= head.queries) return out;
  for (let e = head.offsets[r]; e < head.offsets[r + 1]; ++e) {
    if (head.weights[e] < t) continue;
    out.keys.push(head.keys[e]);
    out.weights.push(head.weights[e]);
    out.kept += head.weights[e];
  }
  if (head.entropies) out.entropy = head.entropies[r];
  return out;
}

// The edges by key: rows and places of those that arrive at key k stand at starts[k] .. starts[k + 1].
export function reversed(head) {
  const starts = new Uint32Array(head.keyCount + 1);
  for (const key of head.keys) ++starts[key + 1];
  for (let k = 0; k < head.keyCount; ++k) starts[k + 1] += starts[k];
  const next = starts.slice(), rows = new Uint32Array(head.keys.length), places = new Uint32Array(head.keys.length);
  for (let r = 0; r < head.queries; ++r) {
    for (let e = head.offsets[r]; e < head.offsets[r + 1]; ++e) {
      const at = next[head.keys[e]]++;
      rows[at] = r;
      places[at] = e;
    }
  }
  return {starts, rows, places};
}

export function columnOf(head, index, key, t) {
  const out = {queries: [], weights: [], sum: 0};
  if (key < 0 || key >= head.keyCount) return out;
  for (let at = index.starts[key]; at < index.starts[key + 1]; ++at) {
    const weight = head.weights[index.places[at]];
    if (weight < t) continue;
    out.queries.push(index.rows[at] + head.queryBegin);
    out.weights.push(weight);
    out.sum += weight;
  }
  return out;
}

// How much every query gives and every key receives, over the edges at or above t.
export function totalsOf(head, t) {
  const given = new Float32Array(head.queries), received = new Float32Array(head.keyCount);
  for (let r = 0; r < head.queries; ++r) {
    let sum = 0;
    for (let e = head.offsets[r]; e < head.offsets[r + 1]; ++e) {
      const weight = head.weights[e];
      if (weight < t) continue;
      sum += weight;
      received[head.keys[e]] += weight;
    }
    given[r] = sum;
  }
  return {given, received};
}

export function massOf(head, t) {
  let mass = 0, edges = 0;
  for (const weight of head.weights) {
    if (weight < t) continue;
    mass += weight;
    ++edges;
  }
  return {mass, edges};
}

// The n heaviest edges in a window, heaviest first; `skip(query, key)` leaves some out.
export function heaviest(head, n, t, window, skip) {
  const found = [];
  let least = -Infinity;
  const trim = () => {
    found.sort((a, b) => b.weight - a.weight || a.query - b.query || a.key - b.key);
    found.length = Math.min(found.length, n);
    if (found.length === n) least = found[n - 1].weight;
  };
  const begin = Math.max(0, window.q0 - head.queryBegin), end = Math.min(head.queries, window.q1 - head.queryBegin);
  for (let r = begin; r < end; ++r) {
    const query = r + head.queryBegin;
    for (let e = head.offsets[r]; e < head.offsets[r + 1]; ++e) {
      const key = head.keys[e], weight = head.weights[e];
      if (weight < t || weight <= least || key < window.k0 || key >= window.k1 || skip(query, key)) continue;
      found.push({query, key, weight});
      if (found.length > 4 * n + 64) trim();
    }
  }
  trim();
  return found;
}
