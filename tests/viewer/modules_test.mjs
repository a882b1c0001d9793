// SPDX-License-Identifier: Apache-2.0
// The viewer's modules without a browser: node --test tests/viewer/modules_test.mjs
import assert from 'node:assert/strict';
import {test} from 'node:test';

import {codeOf, inkOn, luminance, packed, ramp} from '../../viewer/js/colours.js';
import {decodeSlice} from '../../viewer/js/codec.js';
import {columnOf, combine, heaviest, joinRanges, massOf, reversed, rowOf, totalsOf} from '../../viewer/js/head.js';
import {gridOf, overviewOf, rasterEdges, rasterOverview} from '../../viewer/js/raster.js';
import {DEFAULTS, State, fromHash, toHash} from '../../viewer/js/state.js';
import {leastOf, ordered} from '../../viewer/js/heads.js';
import {Words, label, weightText} from '../../viewer/js/words.js';

// A random head, and the same as [query, key, weight].
function randomHead(seed, queries, keyCount, perRow, queryBegin = 0) {
  let state = seed;
  const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
  const offsets = new Uint32Array(queries + 1), keys = [], weights = [], edges = [];
  for (let r = 0; r < queries; ++r) {
    const row = [...new Set(Array.from({length: Math.floor(random() * perRow)}, () => Math.floor(random() * keyCount)))].sort((a, b) => a - b);
    for (const key of row) {
      const weight = Math.fround(0.05 + 0.95 * random());
      keys.push(key);
      weights.push(weight);
      edges.push([r + queryBegin, key, weight]);
    }
    offsets[r + 1] = keys.length;
  }
  return [{queryBegin, queries, keyCount, offsets, keys: Uint32Array.from(keys), weights: Float32Array.from(weights), entropies: null}, edges];
}

test('a raster by maximum shows the heaviest edge of every cell, and loses none', () => {
  const [head, edges] = randomHead(1, 300, 400, 9, 7);
  for (const view of [{q0: 7, q1: 307, k0: 0, k1: 400}, {q0: 50.5, q1: 180.25, k0: 10.75, k1: 399}, {q0: 20.3, q1: 29, k0: 3, k1: 11.5}]) {
    const grid = gridOf(head, view, 64, 48);
    const cells = rasterEdges(head, grid, {t: 0.3, how: 'max', dimFirst: false, dimDiagonal: false, queryOffset: 0});
    const want = new Float32Array(cells.length);
    for (const [query, key, weight] of edges) {
      if (weight < 0.3 || query < grid.q0 || query >= grid.q1 || key < grid.k0 || key >= grid.k1) continue;
      const y = Math.floor((query - grid.q0) * grid.rows / (grid.q1 - grid.q0)), x = Math.floor((key - grid.k0) * grid.columns / (grid.k1 - grid.k0));
      want[y * grid.columns + x] = Math.max(want[y * grid.columns + x], weight);
    }
    assert.deepEqual(cells, want);
  }
});

test('a raster by share sums to the mass of the window', () => {
  const [head, edges] = randomHead(2, 200, 200, 6);
  const grid = {q0: 0, q1: 200, k0: 0, k1: 200, rows: 40, columns: 50};
  const cells = rasterEdges(head, grid, {t: 0, how: 'share', dimFirst: false, dimDiagonal: false, queryOffset: 0});
  const sum = cells.reduce((a, b) => a + b, 0) * 200 / 40, want = edges.reduce((a, e) => a + e[2], 0);
  assert.ok(Math.abs(sum - want) < 1e-3 * want, `${sum} ${want}`);
});

test('a dimmed first key and diagonal stay visible and weak', () => {
  const [head] = randomHead(3, 30, 30, 20);
  const grid = {q0: 0, q1: 30, k0: 0, k1: 30, rows: 30, columns: 30};
  const look = {t: 0, how: 'max', queryOffset: 0};
  const plain = rasterEdges(head, grid, {...look, dimFirst: false, dimDiagonal: false});
  const dim = rasterEdges(head, grid, {...look, dimFirst: true, dimDiagonal: true});
  let dimmed = 0;
  plain.forEach((value, cell) => {
    const key = cell % 30, query = Math.floor(cell / 30);
    if (value > 0 && (key === 0 || key === query)) {
      ++dimmed;
      assert.ok(dim[cell] > 0 && dim[cell] < 0.05);
    } else assert.equal(dim[cell], value);
  });
  assert.ok(dimmed > 5);
});

test('a single edge is in the picture of the coarse copy too', () => {
  const size = 20000, offsets = new Uint32Array(size + 1);
  const query = 12345, key = 678;
  offsets.fill(1, query + 1);
  const head = {queryBegin: 0, queries: size, keyCount: size, offsets, keys: Uint32Array.of(key), weights: Float32Array.of(0.07), entropies: null};
  const overview = overviewOf(head, {t: 0, how: 'max', dimFirst: false, dimDiagonal: false, queryOffset: 0});
  for (const [rows, columns] of [[700, 900], [3000, 2500]]) {
    const cells = rasterOverview(overview, {q0: 0, q1: size, k0: 0, k1: size, rows, columns}, 'max');
    const lit = [...cells.keys()].filter((cell) => cells[cell] > 0);
    assert.ok(lit.length >= 1);
    const near = lit.some((cell) => Math.abs(Math.floor(cell / columns) / rows - query / size) < 2e-3 && Math.abs(cell % columns / columns - key / size) < 2e-3);
    assert.ok(near);
  }
});

test('rows, columns and totals agree with the list of edges', () => {
  const [head, edges] = randomHead(4, 60, 50, 12, 5), index = reversed(head), t = 0.4;
  const kept = edges.filter((e) => e[2] >= t);
  for (const query of [5, 20, 64, 4, 65])
    assert.deepEqual(rowOf(head, query, t).keys, kept.filter((e) => e[0] === query).map((e) => e[1]));
  for (const key of [0, 7, 49, 50])
    assert.deepEqual(columnOf(head, index, key, t).queries, kept.filter((e) => e[1] === key).map((e) => e[0]));
  const sums = totalsOf(head, t), mass = massOf(head, t);
  assert.equal(mass.edges, kept.length);
  assert.ok(Math.abs(mass.mass - sums.given.reduce((a, b) => a + b, 0)) < 1e-3);
  assert.ok(Math.abs(mass.mass - sums.received.reduce((a, b) => a + b, 0)) < 1e-3);
  const best = heaviest(head, 5, 0, {q0: 0, q1: 99, k0: 0, k1: 99}, (q, k) => k === 0);
  const want = edges.filter((e) => e[1] !== 0).sort((a, b) => b[2] - a[2] || a[0] - b[0] || a[1] - b[1]).slice(0, 5);
  assert.deepEqual(best.map((e) => [e.query, e.key, e.weight]), want);
});

test('heads are combined of their edges above the threshold', () => {
  const [a, first] = randomHead(5, 40, 30, 8), [b, second] = randomHead(6, 40, 30, 8, 3);
  for (const how of ['mean', 'max', 'sum']) {
    const got = combine([a, b], how, 0.5), want = new Map();
    for (const [query, key, weight] of [...first, ...second]) {
      if (weight < 0.5) continue;
      const name = `${query},${key}`, before = want.get(name) ?? 0;
      want.set(name, how === 'max' ? Math.max(before, weight) : before + weight / (how === 'mean' ? 2 : 1));
    }
    assert.equal(got.keys.length, want.size);
    for (let r = 0; r < got.queries; ++r)
      for (let e = got.offsets[r]; e < got.offsets[r + 1]; ++e)
        assert.ok(Math.abs(got.weights[e] - want.get(`${r + got.queryBegin},${got.keys[e]}`)) < 1e-6);
  }
});

test('query ranges of a head become one, with rows that no range has', () => {
  const [a] = randomHead(7, 10, 30, 8, 20), [b] = randomHead(8, 5, 40, 8, 2);
  const whole = joinRanges([a, b]);
  assert.deepEqual([whole.queryBegin, whole.queries, whole.keyCount], [2, 28, 40]);
  assert.deepEqual(rowOf(whole, 4, 0).keys, rowOf(b, 4, 0).keys);
  assert.deepEqual(rowOf(whole, 25, 0).keys, rowOf(a, 25, 0).keys);
  assert.deepEqual(rowOf(whole, 10, 0).keys, []);
  assert.throws(() => joinRanges([a, {...a}]), /overlap/);
});

test('a damaged block is refused', () => {
  const info = {queries: 2, keys: 4, edges: 2, queryBegin: 0, sizes: [2, 2, 2, 0, 0], log: true, low: 0.1, high: 1};
  const good = Uint8Array.of(1, 1, 3, 0, 255, 0);
  assert.deepEqual([...decodeSlice(info, good).keys], [3, 0]);
  assert.throws(() => decodeSlice(info, good.subarray(0, 5)), /bytes/);
  assert.throws(() => decodeSlice(info, Uint8Array.of(1, 2, 3, 0, 255, 0)), /edges/);
  assert.throws(() => decodeSlice(info, Uint8Array.of(1, 1, 4, 0, 255, 0)), /key 4/);
});

test('colours darken (or brighten) evenly, and ink can be read on all of them', () => {
  for (const [theme, direction] of [['light', -1], ['dark', 1]]) {
    const colours = ramp(theme);
    for (let i = 2; i < 256; ++i) assert.ok(direction * (luminance(colours[i]) - luminance(colours[i - 1])) >= -1e-3, `${theme} ${i}`);
    for (const colour of colours.slice(1)) {
      const ink = inkOn(colour).match(/\w\w/g).map((h) => parseInt(h, 16));
      const [a, b] = [luminance(ink), luminance(colour)].sort((x, y) => y - x);
      assert.ok((a + 0.05) / (b + 0.05) >= 4.4, `${theme} ${colour}`);
    }
    assert.equal(packed(colours)[0], 0);
  }
  assert.deepEqual([codeOf(0, 1), codeOf(1e-9, 1), codeOf(1, 1), codeOf(0.25, 1)], [0, 1, 255, 128]);
});

test('a link restores the state, and a bad link changes nothing', () => {
  const values = {...DEFAULTS, heads: ['5:6', '12:0'], t: 0.125, view: [1.5, 20, 0, 33.25], pin: 'k12', first: true, how: 'share', find: 'a&b=,%', theme: 'dark', range: [3, 9]};
  const again = new State(fromHash(`#${toHash(values)}`)).values;
  assert.deepEqual(again, values);
  assert.equal(toHash(DEFAULTS), '');
  for (const hash of ['#t=NaN&view=1,2&pin=x1&theme=blue&heads=1;2', '#__proto__=1&constructor=2', '#%', '#find=%E0%A4%A'])
    assert.deepEqual({...new State(fromHash(hash)).values, heads: []}, DEFAULTS);
});

test('words are shown as people read them, and cannot reorder what stands around them', () => {
  const words = new Words({keys: ['ĠHello', 'Ċ', 'wor\u202eld', 'x'.repeat(99)]});
  assert.equal(words.key(0, 0), ' Hello');
  assert.equal(label(words.key(0, 0)), 'Hello');
  assert.equal(label(words.key(0, 1)), '⏎');
  assert.ok(!words.key(0, 2).includes('\u202e'));
  assert.equal([...label(words.key(0, 3))].length, 14);
  assert.equal(words.key(0, 7), undefined);
  assert.equal(label(' '), '␣');
  const two = new Words({keys: [['a'], ['b']], queries: ['q']});
  assert.deepEqual([two.key(1, 0), two.query(1, 0, 5), two.twoTexts], ['b', 'q', true]);
  assert.deepEqual([weightText(0.5), weightText(0.0123), weightText(0.00001)], ['0.50', '0.012', '1.0e-5']);
});

test('heads are sorted and filtered by a figure', () => {
  const columns = [{name: 'first', share: true}, {name: 'distance', share: false}];
  const heads = [{name: 'a', figures: {first: 0.2, distance: 9}}, {name: 'b', figures: {first: 0.7, distance: NaN}}, {name: 'c', figures: {first: 0.5, distance: 40}}];
  const names = (...how) => ordered(heads, columns, ...how).map((h) => h.name).join('');
  assert.equal(names('layer', ''), 'abc');
  assert.equal(names('first', ''), 'bca');
  assert.equal(names('first', '50 %'), 'bc');
  assert.equal(names('distance', '10'), 'c');
  assert.deepEqual([leastOf(columns[0], '0,4'), leastOf(columns[0], '40'), leastOf(columns[1], '40')], [0.4, 0.4, 40]);
});
