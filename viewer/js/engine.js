// SPDX-License-Identifier: Apache-2.0
// Everything that reads edges. It runs in a worker (worker.js), or in the page where a worker cannot be had; client.js
// knows which. All methods take and return plain objects and typed arrays.
import {decodeSlice, unpack} from './codec.js';
import {columnOf, combine, heaviest, joinRanges, massOf, reversed, rowOf, totalsOf} from './head.js';
import {colourise, gridOf, overviewOf, rasterEdges, rasterOverview, wantsOverview} from './raster.js';

export class Engine {
  constructor() {
    this.slices = [];          // {info, text}
    this.decoded = new Map();  // number of a slice -> promise of it
    this.current = null;
  }

  // Slices as they stand in the page.
  give({slices}) {
    this.slices = slices;
  }

  slice(number) {
    if (!this.decoded.has(number)) {
      const {info, text} = this.slices[number];
      this.slices[number].text = null;
      this.decoded.set(number, unpack(text).then((bytes) => decodeSlice(info, bytes), () => {
        throw new Error(`the edges of layer ${info.layer} head ${info.head} are damaged; make the page anew`);
      }));
    }
    return this.decoded.get(number);
  }

  // Choose what the other calls are about: heads, each a list of numbers of slices (its query ranges), how to combine
  // them, and the threshold that their edges are to reach before they are combined.
  async choose({heads, how, t}) {
    const name = `${how} ${heads.join(' ')}`;
    if (this.current?.name !== name) {
      const load = async (ranges) => joinRanges(await Promise.all(ranges.map((n) => this.slice(n))));
      const parts = [];
      for (const ranges of heads) parts.push(await load(ranges));
      this.current = {name, parts, cut: null};
    }
    const now = this.current;
    if (now.cut !== t) {
      const several = now.parts.length > 1;
      now.head = several ? combine(now.parts, how, t) : now.parts[0];
      now.t = several ? -Infinity : t;  // combined edges have passed it
      now.cut = t;
      now.index = several ? null : now.index ?? null;
      now.overview = null;
      let kept = 0, edges = 0;
      now.parts.forEach((part, i) => {
        const sum = massOf(part, t);
        const rows = heads[i].reduce((n, slice) => n + this.slices[slice].info.rowsWithKeys, 0);
        kept += (rows > 0 ? sum.mass / rows : 0) / now.parts.length;
        edges += sum.edges;
      });
      const {queryBegin, queries, keyCount, entropies} = now.head;
      now.facts = {queryBegin, queries, keys: keyCount, pairs: several ? now.head.keys.length : edges, edges, kept,
                   entropies: entropies !== null};
    }
    return now.facts;
  }

  // A window as pixels, with the grid that they stand for.
  raster({view, width, height, look, ramp, high}) {
    const {current} = this, {head} = current, asked = {...look, t: current.t};
    const grid = gridOf(head, view, width, height);
    let cells;
    if (wantsOverview(head, view)) {
      const name = JSON.stringify(asked);
      if (current.overview?.name !== name) current.overview = {name, ...overviewOf(head, asked)};
      cells = rasterOverview(current.overview, grid, look.how);
    } else {
      cells = rasterEdges(head, grid, asked);
    }
    return {grid, pixels: colourise(cells, ramp, high)};
  }

  row({query}) {
    return rowOf(this.current.head, query, this.current.t);
  }

  column({key}) {
    const {current} = this;
    current.index ??= reversed(current.head);
    return columnOf(current.head, current.index, key, current.t);
  }

  totals() {
    return totalsOf(this.current.head, this.current.t);
  }

  heaviest({n, window, skipFirst = false, skipSelf = false, queryOffset = 0}) {
    return heaviest(this.current.head, n, this.current.t, window,
                    (query, key) => (skipFirst && key === 0) || (skipSelf && key === query + queryOffset));
  }
}
