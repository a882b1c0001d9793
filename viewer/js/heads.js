// SPDX-License-Identifier: Apache-2.0
// All heads as small pictures: layers down and heads across, or in the order of a figure.
import {grouped, percent} from './words.js';

export function figureText(column, value) {
  if (!Number.isFinite(value)) return '–';
  return column.share ? percent(value) : column.digits === 0 ? grouped(value) : value.toFixed(column.digits);
}

// What "at least 40 %", "0,4" or "12" mean for a column; NaN: nothing.
export function leastOf(column, text) {
  const number = parseFloat(text.replace(',', '.'));
  if (!Number.isFinite(number)) return NaN;
  return column.share && (text.includes('%') || number > 1) ? number / 100 : number;
}

export function ordered(heads, columns, sort, least) {
  const column = columns.find((c) => c.name === sort);
  if (!column) return heads;
  const floor = leastOf(column, least);
  const value = (head) => Number.isFinite(head.figures[sort]) ? head.figures[sort] : -Infinity;
  return heads.filter((head) => !(value(head) < floor)).sort((a, b) => value(b) - value(a));
}

export class HeadsView {
  constructor({page, state, colours}) {
    Object.assign(this, {page, state, colours});
    this.box = document.getElementById('heads');
    this.sort = document.getElementById('sort');
    this.least = document.getElementById('least');
    this.option('layer', 'layer');
    for (const {name, title, meaning} of page.columns) this.option(name, title, meaning);
    this.sort.addEventListener('change', () => state.set({sort: this.sort.value, least: ''}));
    this.least.addEventListener('input', () => state.set({least: this.least.value}));
    this.box.addEventListener('click', (event) => {
      const thumb = event.target.closest('.thumb'), layer = event.target.closest('.layer');
      if (thumb) this.choose(thumb.dataset.name, event.ctrlKey || event.metaKey || event.shiftKey);
      else if (layer) state.set({heads: this.here.filter((h) => String(h.layer) === layer.dataset.layer).map((h) => h.name)});
    });
    this.box.addEventListener('keydown', (event) => this.key(event));
    new ResizeObserver(() => {
      const size = `${this.box.clientWidth} ${this.box.clientHeight}`;
      if (this.laidFor !== undefined && this.laidFor !== size) this.lay();
    }).observe(this.box);
  }
  option(value, title, meaning = '') {
    const option = document.createElement('option');
    Object.assign(option, {value, textContent: title, title: meaning});
    this.sort.append(option);
  }
  get here() {
    return this.page.heads.filter((head) => head.batch === this.state.get('batch'));
  }
  choose(name, more) {
    const now = this.state.get('heads');
    const heads = !more ? [name] : now.includes(name) ? now.filter((n) => n !== name) : [...now, name];
    this.state.set({heads: heads.length ? heads : [name]});
  }
  step(by) {
    const names = this.order.map((h) => h.name), at = names.indexOf(this.state.get('heads')[0]);
    if (names.length) this.choose(names[(at + by + names.length) % names.length], false);
  }

  lay() {
    const {sort, least} = {sort: this.state.get('sort'), least: this.state.get('least')};
    const column = this.page.columns.find((c) => c.name === sort);
    this.sort.value = column ? sort : 'layer';
    if (document.activeElement !== this.least) this.least.value = least;
    document.getElementById('least-label').hidden = !column;
    this.order = ordered(this.here, this.page.columns, sort, least);
    this.laidFor = `${this.box.clientWidth} ${this.box.clientHeight}`;
    const {scrollTop} = this.box;
    this.box.replaceChildren();
    if (column) {
      const flow = this.row('flow');
      for (const head of this.order) flow.append(this.thumb(head, 0, figureText(column, head.figures[sort])));
    } else {
      const layers = [...new Set(this.here.map((h) => h.layer))].map((layer) => this.here.filter((h) => h.layer === layer));
      const size = this.sizeFor(layers.map((heads) => heads.length));
      for (const heads of layers) {
        const row = this.row('row');
        const name = document.createElement('button');
        const {layer} = heads[0];
        Object.assign(name, {type: 'button', className: 'layer', textContent: layer, title: `All heads of layer ${layer} together`});
        name.dataset.layer = layer;
        const pictures = document.createElement('div');
        pictures.append(...heads.map((head) => this.thumb(head, size)));
        row.append(name, pictures);
      }
    }
    document.getElementById('sort-label').hidden = this.here.length < 2;
    const hidden = this.here.length - this.order.length;
    document.getElementById('shown').textContent =
      `${grouped(this.order.length)} ${this.order.length === 1 ? 'head' : 'heads'}` +
      (hidden ? `, ${grouped(hidden)} below ${least} left out` : '') + (this.order.length > 1 ? '; Ctrl + click takes several' : '');
    this.box.scrollTop = scrollTop;
    this.mark();
  }
  // As large as they all fit, in lines that may wrap; but never too small to tell one from the other.
  sizeFor(counts) {
    const {clientWidth: wide, clientHeight: high} = this.box;
    for (let size = 112; size >= 18; size -= 2) {
      const gap = size > 28 ? 4 : 2, across = Math.floor((wide - 42) / (size + gap));
      if (across < 1) continue;
      this.box.style.setProperty('--gap', `${gap}px`);
      const lines = counts.reduce((sum, n) => sum + Math.ceil(n / across), 0);
      if (lines * (size + gap) <= high - 16) return size;
    }
    // They do not: a line a layer where that can be seen, and the box scrolls.
    const most = Math.max(...counts, 1);
    return Math.floor(Math.max(18, Math.min(40, (wide - 42) / most - 2)));
  }
  row(className) {
    const row = document.createElement('div');
    row.className = className;
    row.role = 'presentation';
    this.box.append(row);
    return row;
  }
  thumb(head, size, figure) {
    const button = document.createElement('button');
    Object.assign(button, {type: 'button', className: 'thumb', role: 'option'});
    button.dataset.name = head.name;
    const facts = this.page.columns.map((c) => `${c.title} ${figureText(c, head.figures[c.name])}`).join(', ');
    button.title = `layer ${head.layer} head ${head.head}: ${facts}`;
    button.setAttribute('aria-label', button.title);
    if (size) Object.assign(button.style, {width: `${size}px`, height: `${size}px`});
    button.append(this.picture(head, size || 64));
    if (figure) {
      for (const text of [head.name, figure]) {
        const line = document.createElement('span');
        line.textContent = text;
        button.append(line);
      }
    }
    return button;
  }
  picture(head, size) {
    const canvas = document.createElement('canvas');
    const [first] = head.slices, {rows, columns, share} = this.page.pictures[first];
    canvas.classList.toggle('coarse', size >= 1.5 * Math.max(rows, columns));
    canvas.width = Math.max(1, columns);
    canvas.height = Math.max(1, rows);
    if (rows * columns > 0) {
      const pixels = Uint32Array.from(share, (code) => this.colours.packed[code]);
      canvas.getContext('2d').putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), columns, rows), 0, 0);
    }
    return canvas;
  }
  mark() {
    const chosen = new Set(this.state.get('heads'));
    for (const thumb of this.box.querySelectorAll('.thumb')) {
      const on = chosen.has(thumb.dataset.name);
      thumb.setAttribute('aria-selected', on);
      thumb.tabIndex = on || (chosen.size === 0 && thumb === this.box.querySelector('.thumb')) ? 0 : -1;
    }
    if (!this.box.querySelector('.thumb[tabindex="0"]')) this.box.querySelector('.thumb')?.setAttribute('tabindex', 0);
    if (this.scrolled) return;
    this.scrolled = true;
    const first = this.box.querySelector('.thumb[aria-selected="true"]');
    if (first) this.box.scrollTop = Math.max(0, first.getBoundingClientRect().top - this.box.getBoundingClientRect().top - 60);
  }
  // Arrows go to the neighbour in that direction, as it stands on the screen.
  key(event) {
    const thumb = event.target.closest('.thumb');
    const direction = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
    if (!thumb || !direction) return;
    event.preventDefault();
    const middle = (t) => {
      const r = t.getBoundingClientRect();
      return [r.left + r.width / 2, r.top + r.height / 2];
    };
    const [x, y] = middle(thumb);
    let best = null, least = Infinity;
    for (const other of this.box.querySelectorAll('.thumb')) {
      const [u, v] = middle(other), along = (u - x) * direction[0] + (v - y) * direction[1];
      const aside = Math.abs((u - x) * direction[1]) + Math.abs((v - y) * direction[0]);
      if (along > 1 && along + 3 * aside < least) [best, least] = [other, along + 3 * aside];
    }
    if (best) {
      best.tabIndex = 0;
      best.focus();
    }
  }
}
