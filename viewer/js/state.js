// SPDX-License-Identifier: Apache-2.0
// What is chosen: the one place that knows it. Everything else reads it and is told when it changes.

export const DEFAULTS = {
  batch: 0,
  heads: [],            // "layer:head"
  combine: 'mean',      // of several heads: mean, max, sum
  t: 0,                 // threshold; 0: the graph's own
  how: 'max',           // a cell of the map: max, share
  view: null,           // window of the map: [q0, q1, k0, k1]; null: everything
  pin: null,            // "q12" or "k5"
  first: false,         // dim the first key
  diagonal: false,      // dim the diagonal
  panel: 'map',         // map, arcs
  range: null,          // of the arcs: [begin, end]
  shade: 'received',    // text: received, given
  find: '',
  sort: 'layer',
  least: '',            // of the column that sorts
  theme: 'auto',        // auto, light, dark
};

const CHOICES = {combine: ['mean', 'max', 'sum'], how: ['max', 'share'], panel: ['map', 'arcs'],
                 shade: ['received', 'given'], theme: ['auto', 'light', 'dark']};

export function toHash(values) {
  const parts = [];
  for (const [name, value] of Object.entries(values)) {
    if (JSON.stringify(value) === JSON.stringify(DEFAULTS[name])) continue;
    const text = Array.isArray(value) ? value.map((v) => typeof v === 'number' ? +v.toFixed(3) : v).join(',')
               : value === true ? '1' : String(value);
    parts.push(`${name}=${encodeURIComponent(text).replaceAll('%2C', ',').replaceAll('%3A', ':')}`);
  }
  return parts.join('&');
}

// What a link says, as far as it makes sense; anything else keeps its default.
export function fromHash(hash) {
  const values = {};
  for (const part of hash.replace(/^#/, '').split('&')) {
    const equals = part.indexOf('=');
    const name = part.slice(0, equals);
    if (equals < 1 || !Object.hasOwn(DEFAULTS, name)) continue;
    let text;
    try {
      text = decodeURIComponent(part.slice(equals + 1));
    } catch {
      continue;
    }
    if (name === 'heads') values.heads = text.split(',').filter((head) => /^-?\d+:-?\d+$/.test(head));
    else if (name === 'view' || name === 'range') {
      const numbers = text.split(',').map(Number);
      if (numbers.length === (name === 'view' ? 4 : 2) && numbers.every(Number.isFinite)) values[name] = numbers;
    } else if (name === 'pin') {
      if (/^[qk]\d+$/.test(text)) values.pin = text;
    } else if (typeof DEFAULTS[name] === 'boolean') values[name] = text === '1';
    else if (typeof DEFAULTS[name] === 'number') {
      if (text !== '' && Number.isFinite(+text) && +text >= 0) values[name] = +text;
    } else if (!CHOICES[name] || CHOICES[name].includes(text)) values[name] = text;
  }
  return values;
}

export class State {
  constructor(values = {}) {
    this.values = {...DEFAULTS, ...values};
    this.listeners = [];
  }
  get(name) {
    return this.values[name];
  }
  // Listeners get the set of names that changed.
  set(changes) {
    const names = Object.keys(changes).filter((name) => JSON.stringify(changes[name]) !== JSON.stringify(this.values[name]));
    if (names.length === 0) return;
    Object.assign(this.values, changes);
    const changed = new Set(names);
    for (const listener of this.listeners) listener(changed);
  }
  on(listener) {
    this.listeners.push(listener);
  }
}
