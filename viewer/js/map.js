// SPDX-License-Identifier: Apache-2.0
// One head (or several combined) as a map: queries down, keys across. Wheel zooms at the pointer, drag moves; what is
// drawn comes from the engine for every window, and until it has come the last picture is moved and stretched.
import {newestOnly} from './client.js';
import {CanvasPen, pageColours} from './pen.js';
import {grouped, label, percent, quoted, weightText} from './words.js';

const LEFT = 84, TOP = 74, RIGHT = 14, BOTTOM = 2;
const MOST_PIXELS = 1400;      // of the raster along each side
const SMALLEST_WINDOW = 4;     // tokens

export class MapView {
  constructor({page, state, colours, pin}) {
    Object.assign(this, {page, state, colours, pin});
    this.box = document.getElementById('map');
    this.picture = document.getElementById('picture');
    this.overlay = document.getElementById('overlay');
    this.tip = document.getElementById('tip');
    this.head = null;      // facts of what is chosen
    this.last = null;      // {canvas, grid}: the newest raster
    this.cells = [];       // edges whose weights are written into their cells
    this.hover = null;
    this.frames = [];      // milliseconds from wish to picture, for measurements
    this.render = newestOnly((view) => this.renderNow(view));
    this.ask = newestOnly((cell) => this.describe(cell));
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  // ---- where things are

  get whole() {
    const {queryBegin, queries, keys} = this.head;
    return {q0: queryBegin, q1: queryBegin + Math.max(1, queries), k0: 0, k1: Math.max(1, keys)};
  }
  get view() {
    const view = this.state.get('view');
    if (!view) return this.whole;
    return this.inside({q0: view[0], q1: view[1], k0: view[2], k1: view[3]});
  }
  // A window of a sensible size, within what there is.
  inside(view) {
    const {whole} = this;
    const fit = (begin, end, first, last) => {
      const size = Math.min(last - first, Math.max(Math.min(SMALLEST_WINDOW, last - first), end - begin));
      const at = Math.min(Math.max(begin, first), last - size);
      return [at, at + size];
    };
    const [q0, q1] = fit(view.q0, view.q1, whole.q0, whole.q1), [k0, k1] = fit(view.k0, view.k1, whole.k0, whole.k1);
    return {q0, q1, k0, k1};
  }
  get plot() {
    let w = Math.max(20, this.box.clientWidth - LEFT - RIGHT), h = Math.max(20, this.box.clientHeight - TOP - BOTTOM);
    if (this.head && this.head.queries === this.head.keys) w = h = Math.min(w, h);  // as many queries as keys: a square
    return {x: LEFT, y: TOP, w, h};
  }
  go(view) {
    const v = this.inside(view), {whole} = this;
    const all = ['q0', 'q1', 'k0', 'k1'].every((end) => Math.abs(v[end] - whole[end]) < 1e-6);
    this.state.set({view: all ? null : [v.q0, v.q1, v.k0, v.k1]});
  }
  zoom(factor, x, y) {
    const {view, plot} = this;
    const share = {q: Math.min(1, Math.max(0, (y - plot.y) / plot.h)), k: Math.min(1, Math.max(0, (x - plot.x) / plot.w))};
    const q = view.q0 + share.q * (view.q1 - view.q0), k = view.k0 + share.k * (view.k1 - view.k0);
    const rows = (view.q1 - view.q0) * factor, columns = (view.k1 - view.k0) * factor;
    this.go({q0: q - share.q * rows, q1: q + (1 - share.q) * rows, k0: k - share.k * columns, k1: k + (1 - share.k) * columns});
  }
  move(down, across) {
    const {view} = this;
    const q = down * (view.q1 - view.q0), k = across * (view.k1 - view.k0);
    const {whole} = this;
    const limited = (shift, begin, end, first, last) => Math.min(Math.max(shift, first - begin), last - end);
    const dq = limited(q, view.q0, view.q1, whole.q0, whole.q1), dk = limited(k, view.k0, view.k1, whole.k0, whole.k1);
    this.go({q0: view.q0 + dq, q1: view.q1 + dq, k0: view.k0 + dk, k1: view.k1 + dk});
  }
  // Bring a pair into the window without changing its size more than it must.
  show(query, key) {
    const {view} = this, rows = Math.min(view.q1 - view.q0, 40), columns = Math.min(view.k1 - view.k0, 40);
    if (query >= view.q0 && query < view.q1 && key >= view.k0 && key < view.k1 && rows === view.q1 - view.q0) return;
    this.go({q0: query - rows / 2, q1: query + rows / 2, k0: key - columns / 2, k1: key + columns / 2});
  }

  // ---- drawing

  shows(facts) {
    this.head = facts;
    this.last = null;
    this.draw();
  }
  draw() {
    if (!this.head || this.box.hidden || this.box.clientWidth === 0) return;
    document.getElementById('fit').hidden = this.state.get('view') === null;
    this.paint();
    this.render(this.view);
  }
  async renderNow(view) {
    const began = performance.now(), {plot} = this, ratio = Math.min(2, devicePixelRatio || 1);
    const width = Math.min(MOST_PIXELS, Math.round(plot.w * ratio)), height = Math.min(MOST_PIXELS, Math.round(plot.h * ratio));
    const look = {how: this.state.get('how'), dimFirst: this.state.get('first'), dimDiagonal: this.state.get('diagonal'),
                  queryOffset: this.page.offset};
    const head = this.head;
    const wish = {view, width, height, look, ramp: this.colours.packed, high: this.page.high};
    const {grid, pixels} = await this.page.client.ask('raster', wish);
    if (this.head !== head) return;
    const fits = this.spare?.width === grid.columns && this.spare?.height === grid.rows;
    const canvas = fits ? this.spare : document.createElement('canvas');
    if (canvas !== this.spare) {
      canvas.width = grid.columns;
      canvas.height = grid.rows;
    }
    const image = new ImageData(new Uint8ClampedArray(pixels.buffer), grid.columns, grid.rows);
    canvas.getContext('2d').putImageData(image, 0, 0);
    this.spare = this.last?.canvas;
    this.last = {canvas, grid};
    this.cells = [];
    this.paint();
    this.frames.push(performance.now() - began);
    if (this.roomForNumbers(view)) {
      const window = {q0: Math.floor(view.q0), q1: Math.ceil(view.q1), k0: Math.floor(view.k0), k1: Math.ceil(view.k1)};
      this.cells = await this.page.client.ask('heaviest', {n: 900, window});
      this.paint();
    }
  }
  roomForNumbers(view) {
    const {plot} = this;
    return plot.w / (view.k1 - view.k0) >= 30 && plot.h / (view.q1 - view.q0) >= 16;
  }
  paint() {
    const pen = new CanvasPen(this.picture, this.box.clientWidth, this.box.clientHeight, Math.min(2, devicePixelRatio || 1));
    this.drawWith(pen);
    this.drawOverlay();
  }
  drawWith(pen) {
    const {plot, view} = this, ink = pageColours();
    const down = plot.h / (view.q1 - view.q0), across = plot.w / (view.k1 - view.k0);
    pen.rect(plot.x, plot.y, plot.w, plot.h, ink.panel);
    if (this.last) {
      const {grid, canvas} = this.last;
      const place = {x: plot.x + (grid.k0 - view.k0) * across, y: plot.y + (grid.q0 - view.q0) * down,
                     w: (grid.k1 - grid.k0) * across, h: (grid.q1 - grid.q0) * down};
      pen.image(canvas, place, plot, false);
    }
    this.drawGrid(pen, ink, plot, view, down, across);
    this.drawNumbers(pen, plot, view, down, across);
    pen.frame(plot.x, plot.y, plot.w, plot.h, ink.line);
    this.drawAxis(pen, ink, plot, view.q0, view.q1, down, true);
    this.drawAxis(pen, ink, plot, view.k0, view.k1, across, false);
    pen.text(plot.x - 14, plot.y - 24, 'keys →', {size: 10, anchor: 'end', fill: ink.quiet});
    pen.text(plot.x - 14, plot.y - 10, 'queries ↓', {size: 10, anchor: 'end', fill: ink.quiet});
  }
  drawGrid(pen, ink, plot, view, down, across) {
    if (Math.min(down, across) < 9) return;
    let d = '';
    for (let q = Math.ceil(view.q0); q < view.q1; ++q) d += `M${plot.x} ${plot.y + (q - view.q0) * down}h${plot.w}`;
    for (let k = Math.ceil(view.k0); k < view.k1; ++k) d += `M${plot.x + (k - view.k0) * across} ${plot.y}v${plot.h}`;
    pen.path(d, ink.hair, 1);
  }
  drawNumbers(pen, plot, view, down, across) {
    if (!this.roomForNumbers(view)) return;
    for (const {query, key, weight} of this.cells) {
      const x = plot.x + (key + 0.5 - view.k0) * across, y = plot.y + (query + 0.5 - view.q0) * down;
      if (x < plot.x + 10 || x > plot.x + plot.w - 8 || y < plot.y + 5 || y > plot.y + plot.h - 4) continue;
      const dim = (this.state.get('first') && key === 0) || (this.state.get('diagonal') && key === query + this.page.offset);
      const fill = this.colours.ink(dim ? weight * 0.03 : weight, this.page.high);
      pen.text(x, y, weightText(weight).replace(/^0/, ''), {size: 10, anchor: 'middle', fill});
    }
  }
  // Words where every token has room for one, positions where not.
  drawAxis(pen, ink, plot, begin, end, size, queries) {
    const words = size >= 10.5;
    const step = words ? 1 : [1, 2, 5].flatMap((f) => [0, 1, 2, 3, 4, 5, 6, 7].map((p) => f * 10 ** p)).sort((a, b) => a - b)
      .find((s) => s * size >= (queries ? 26 : 44)) ?? 1e8;
    for (let p = Math.ceil((begin - (words ? 0.5 : 0)) / step) * step; p < end; p += step) {
      const at = (queries ? plot.y : plot.x) + (p + (words ? 0.5 : 0) - begin) * size;
      if (at < (queries ? plot.y : plot.x) || at > (queries ? plot.y + plot.h : plot.x + plot.w)) continue;
      const word = this.word(p, queries);
      const text = words && word !== undefined ? label(word, 12) : grouped(p);
      const chosen = this.hover && (queries ? p === this.hover.query : p === this.hover.key);
      const style = {size: words ? 11 : 10, fill: chosen ? ink.accent : words ? ink.ink : ink.quiet, bold: chosen};
      if (queries) pen.text(plot.x - 6, at, text, {...style, anchor: 'end'});
      else if (words) pen.text(at, plot.y - 6, text, {...style, turn: -90});
      else pen.text(at, plot.y - 10, text, {...style, anchor: 'middle'});
      if (!words) pen.path(queries ? `M${plot.x - 3} ${at}h3` : `M${at} ${plot.y - 3}v3`, ink.line, 1);
    }
  }
  word(p, queries) {
    const batch = this.state.get('batch');
    return queries ? this.page.words.query(batch, p, this.page.offset) : this.page.words.key(batch, p);
  }
  drawOverlay() {
    const pen = new CanvasPen(this.overlay, this.box.clientWidth, this.box.clientHeight, Math.min(2, devicePixelRatio || 1));
    const {plot, view} = this, ink = pageColours();
    const down = plot.h / (view.q1 - view.q0), across = plot.w / (view.k1 - view.k0);
    const clip = (at, size, low, high) => [Math.max(low, at), Math.min(high, at + size) - Math.max(low, at)];
    const band = (p, queries, stroke) => {
      const [at, size] = queries ? clip(plot.y + (p - view.q0) * down, Math.max(1, down), plot.y, plot.y + plot.h)
                                 : clip(plot.x + (p - view.k0) * across, Math.max(1, across), plot.x, plot.x + plot.w);
      if (size <= 0) return;
      const ends = size > 3 ? [at, at + size] : [at + size / 2];
      for (const end of ends) pen.path(queries ? `M${plot.x} ${end}h${plot.w}` : `M${end} ${plot.y}v${plot.h}`, stroke, 1, 0.7);
    };
    const pin = this.state.get('pin');
    if (pin) {
      const p = +pin.slice(1);
      band(p, pin[0] === 'q', ink.warm);
      if (pin[0] === 'k' && !this.page.words.twoTexts) band(p - this.page.offset, true, ink.warm);
    }
    if (this.hover) {
      band(this.hover.query, true, ink.accent);
      band(this.hover.key, false, ink.accent);
    }
  }

  // ---- what stands under the pointer

  cellAt(x, y) {
    const {plot, view, last} = this;
    if (!last || x < plot.x || y < plot.y || x >= plot.x + plot.w || y >= plot.y + plot.h) return null;
    const q = view.q0 + (y - plot.y) / plot.h * (view.q1 - view.q0), k = view.k0 + (x - plot.x) / plot.w * (view.k1 - view.k0);
    const {grid} = last;
    const cell = (p, begin, end, cells) => {
      const size = (end - begin) / cells, n = Math.floor((p - begin) / size);
      const first = Math.ceil(begin + n * size - 1e-9);
      return [first, Math.max(Math.ceil(begin + (n + 1) * size - 1e-9), first + 1)];
    };
    const [q0, q1] = cell(q, grid.q0, grid.q1, grid.rows), [k0, k1] = cell(k, grid.k0, grid.k1, grid.columns);
    return {q0, q1, k0, k1, x, y};
  }
  async describe(cell) {
    const [edge] = await this.page.client.ask('heaviest', {n: 1, window: cell});
    const query = edge?.query ?? cell.q0, key = edge?.key ?? cell.k0;
    const row = await this.page.client.ask('row', {query});
    if (!this.inCell) return;
    this.hover = {query, key};
    const one = cell.q1 - cell.q0 === 1 && cell.k1 - cell.k0 === 1;
    const name = (p, queries) => `${quoted(this.word(p, queries))} ${grouped(p)}`.trim();
    const line = (text, bold = false) => {
      const element = document.createElement(bold ? 'b' : 'div');
      element.textContent = text;
      return element;
    };
    const link = `${name(query, true)} → ${name(key, false)}`;
    const lines = [line(edge ? `${weightText(edge.weight)}   ${link}` : `${link}: ${this.absent()}`, true)];
    const span = (begin, end) => `${grouped(begin)}–${grouped(end - 1)}`;
    if (!one) lines.push(line(`heaviest of queries ${span(cell.q0, cell.q1)}, keys ${span(cell.k0, cell.k1)}`));
    lines.push(line(`query ${grouped(query)} keeps ${percent(row.kept)} on ${row.keys.length} keys` +
                    (Number.isFinite(row.entropy) ? `, entropy ${row.entropy.toFixed(2)}` : '')));
    this.tip.replaceChildren(...lines);
    this.tip.hidden = false;
    const wide = this.box.clientWidth, high = this.box.clientHeight;
    this.tip.style.left = `${Math.max(0, cell.x + 16 + this.tip.offsetWidth > wide ? cell.x - 16 - this.tip.offsetWidth : cell.x + 16)}px`;
    this.tip.style.top = `${Math.max(0, cell.y + 16 + this.tip.offsetHeight > high ? cell.y - 16 - this.tip.offsetHeight : cell.y + 16)}px`;
    this.paint();
  }
  absent() {
    const t = this.state.get('t') || this.page.graph.threshold;
    return t > 0 ? `below ${weightText(t)}` : 'no edge';
  }
  leave() {
    this.inCell = null;
    this.hover = null;
    this.tip.hidden = true;
    if (this.head) this.paint();
  }

  listen() {
    const {box} = this;
    const at = (event) => {
      const {left, top} = box.getBoundingClientRect();
      return [event.clientX - left, event.clientY - top];
    };
    box.addEventListener('wheel', (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1);
      if (this.head) this.zoom(Math.exp(Math.min(200, Math.max(-200, pixels)) * 0.0025), ...at(event));
    }, {passive: false});
    let drag = null;
    box.addEventListener('pointerdown', (event) => {
      if (event.button !== 0 || !this.head || event.target.closest('button')) return;
      const [x, y] = at(event);
      drag = {x, y, view: this.view, moved: false};
      box.setPointerCapture(event.pointerId);
    });
    box.addEventListener('pointermove', (event) => {
      if (!this.head) return;
      const [x, y] = at(event);
      if (drag && (drag.moved || Math.hypot(x - drag.x, y - drag.y) > 4)) {
        drag.moved = true;
        box.classList.add('moving');
        this.leave();
        const {plot} = this, {view} = drag;
        const q = (drag.y - y) / plot.h * (view.q1 - view.q0), k = (drag.x - x) / plot.w * (view.k1 - view.k0);
        const kept = (shift, begin, end, first, last) => Math.min(Math.max(shift, first - begin), last - end);
        const dq = kept(q, view.q0, view.q1, this.whole.q0, this.whole.q1), dk = kept(k, view.k0, view.k1, this.whole.k0, this.whole.k1);
        this.go({q0: view.q0 + dq, q1: view.q1 + dq, k0: view.k0 + dk, k1: view.k1 + dk});
        return;
      }
      const cell = this.cellAt(x, y);
      this.inCell = cell;
      if (cell) this.ask(cell);
      else this.leave();
    });
    const release = async (event) => {
      const was = drag;
      drag = null;
      box.classList.remove('moving');
      if (!was || was.moved || event.type === 'pointercancel') return;
      const cell = this.cellAt(...at(event));
      if (!cell) return;
      const [edge] = await this.page.client.ask('heaviest', {n: 1, window: cell});
      this.pin('q', edge?.query ?? cell.q0);
    };
    box.addEventListener('pointerup', release);
    box.addEventListener('pointercancel', release);
    box.addEventListener('pointerleave', () => this.leave());
    box.addEventListener('dblclick', (event) => {
      if (event.target === box || event.target.tagName === 'CANVAS') this.zoom(0.35, ...at(event));
    });
    box.addEventListener('keydown', (event) => {
      const {plot} = this, middle = [plot.x + plot.w / 2, plot.y + plot.h / 2];
      const moves = {ArrowUp: [-0.15, 0], ArrowDown: [0.15, 0], ArrowLeft: [0, -0.15], ArrowRight: [0, 0.15]};
      if (!this.head || event.ctrlKey || event.metaKey || event.altKey) return;
      if (moves[event.key]) this.move(...moves[event.key]);
      else if (event.key === '+' || event.key === '=') this.zoom(0.7, ...middle);
      else if (event.key === '-') this.zoom(1 / 0.7, ...middle);
      else if (event.key === '0') this.state.set({view: null});
      else return;
      event.preventDefault();
    });
    document.getElementById('fit').addEventListener('click', () => this.state.set({view: null}));
  }
}
