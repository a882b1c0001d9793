// SPDX-License-Identifier: Apache-2.0
// Arcs between words, for a range short enough to be read: from the query's word to the key's, heavier ones darker.
import {CanvasPen, pageColours} from './pen.js';
import {grouped, label, percent} from './words.js';

const MOST_WORDS = 160, MOST_ARCS = 1500, STEP = 11;

export class ArcsView {
  constructor({page, state, colours, pin}) {
    Object.assign(this, {page, state, colours, pin});
    this.box = document.getElementById('arcs');
    this.canvas = document.getElementById('arc-picture');
    this.begin = document.getElementById('begin');
    this.end = document.getElementById('end');
    this.said = document.getElementById('arcs-said');
    this.head = null;
    this.edges = [];
    for (const input of [this.begin, this.end]) {
      input.addEventListener('change', () => {
        const begin = Math.max(0, parseInt(this.begin.value, 10) || 0);
        const end = Math.max(begin, parseInt(this.end.value, 10) || begin);
        this.state.set({range: [begin, Math.min(end + 1, begin + MOST_WORDS)]});
      });
    }
    this.canvas.addEventListener('click', (event) => {
      const place = Math.floor((event.clientX - this.canvas.getBoundingClientRect().left - this.left) / this.step);
      const [begin, end] = this.range;
      if (place < 0 || begin + place >= end) return;
      if (!this.twoTexts) return this.pin('k', begin + place);
      const below = event.clientY - this.canvas.getBoundingClientRect().top > this.height / 2;
      this.pin(below ? 'k' : 'q', begin + place);
    });
    new ResizeObserver(() => this.paint()).observe(this.box);
  }

  get twoTexts() {
    return this.page.words.twoTexts;
  }
  get offset() {
    return this.twoTexts ? 0 : this.page.offset;
  }
  // Positions; without a choice of the reader those of the map's window, as far as they can be read.
  get range() {
    const positions = Math.max(this.head.keys, this.head.queryBegin + this.head.queries + this.offset);
    const asked = this.state.get('range');
    if (asked) return [Math.min(asked[0], Math.max(0, positions - 1)), Math.min(asked[1], positions)];
    const view = this.state.get('view');
    const first = this.head.queryBegin + this.offset;  // of the queries; words before them are their keys
    const begin = Math.max(0, view ? Math.floor(Math.min(view[0] + this.offset, view[2])) : first > 60 ? first - 20 : 0);
    const fit = Math.max(12, Math.min(60, Math.floor((this.box.clientWidth - 44) / STEP)));
    const count = view ? Math.ceil(Math.max(view[1] + this.offset, view[3])) - begin : fit;
    return [begin, Math.min(positions, begin + Math.min(MOST_WORDS, count))];
  }

  async shows(facts) {
    this.head = facts;
    if (this.box.hidden) return;
    const [begin, end] = this.range;
    const window = {q0: begin - this.offset, q1: end - this.offset, k0: begin, k1: end};
    const head = this.head;
    const edges = await this.page.client.ask('heaviest', {n: MOST_ARCS + 1, window,
      skipFirst: this.state.get('first'), skipSelf: this.state.get('diagonal'), queryOffset: this.page.offset});
    if (this.head !== head) return;
    this.cut = edges.length > MOST_ARCS;
    this.edges = edges.slice(0, MOST_ARCS);
    this.paint();
  }

  paint() {
    if (!this.head || this.box.hidden || this.box.clientWidth === 0) return;
    const [begin, end] = this.range, count = Math.max(1, end - begin);
    if (document.activeElement !== this.begin) this.begin.value = begin;
    if (document.activeElement !== this.end) this.end.value = Math.max(begin, end - 1);
    this.said.textContent = `${grouped(this.edges.length)} edges inside` + (this.cut ? ', the heaviest; lighter ones are left out' : '') +
      (this.state.get('first') ? '; none to the first key' : '') + (this.state.get('diagonal') ? '; none to itself' : '');
    this.canvas.setAttribute('aria-label', `Arcs between the words at ${begin} to ${Math.max(begin, end - 1)}: ${this.said.textContent}`);
    this.width = Math.max(this.box.clientWidth - 4, count * STEP + 40);
    this.height = Math.max(220, this.box.clientHeight - 40);
    this.left = 20;
    this.step = Math.min(60, (this.width - 40) / count);
    this.canvas.style.width = `${this.width}px`;
    this.canvas.style.height = `${this.height}px`;
    this.drawWith(new CanvasPen(this.canvas, this.width, this.height, Math.min(2, devicePixelRatio || 1)));
  }

  drawWith(pen) {
    const ink = pageColours(), [begin, end] = this.range, pin = this.state.get('pin');
    const x = (p) => this.left + (p - begin + 0.5) * this.step;
    const labels = 88, base = this.twoTexts ? labels + 4 : this.height - labels, floor = this.height - labels - 4;
    // As high as there is room for, the longest of them; short ones in proportion, but flat enough to be told apart.
    const longest = this.edges.reduce((most, e) => Math.max(most, Math.abs(x(e.query + this.offset) - x(e.key))), 1);
    const steep = Math.min(1.1, Math.max(0.2, (base - 30) / 0.75 / longest));
    const at = pin && +pin.slice(1) + (pin[0] === 'q' ? this.offset : 0);  // a pin out of sight pales nothing
    const touches = ({query, key}) => !pin || at < begin || at >= end || (pin[0] === 'q' ? query === +pin.slice(1) : key === +pin.slice(1)) ||
      (!this.twoTexts && query + this.offset === (pin[0] === 'q' ? +pin.slice(1) + this.offset : +pin.slice(1)));
    for (const edge of [...this.edges].reverse()) {
      const from = x(edge.query + this.offset), to = x(edge.key), colour = this.colours.css(edge.weight, this.page.high);
      const width = 0.8 + 3 * Math.sqrt(edge.weight / this.page.high), opacity = touches(edge) ? 0.85 : 0.08;
      if (this.twoTexts) {
        pen.path(`M${from} ${base}C${from} ${(base + floor) / 2} ${to} ${(base + floor) / 2} ${to} ${floor}`, colour, width, opacity);
      } else if (from === to) {
        pen.path(`M${from - 4} ${base - 4}a4.5 5 0 1 1 8 0`, colour, width * 0.7, opacity);
      } else {
        const high = 14 + Math.abs(from - to) * steep;
        pen.path(`M${from} ${base - 4}C${from} ${base - 4 - high} ${to} ${base - 4 - high} ${to} ${base - 4}`, colour, width, opacity);
      }
    }
    const batch = this.state.get('batch'), {words} = this.page;
    const side = (queries, y, anchor) => {
      const {queryBegin, queries: count, keys} = this.head;
      const [first, last] = !this.twoTexts ? [begin, end] : queries ? [queryBegin, queryBegin + count] : [0, keys];
      for (let p = Math.max(begin, first); p < Math.min(end, last); ++p) {
        const word = queries ? words.query(batch, p, 0) : words.key(batch, p);
        const pinned = pin !== null && +pin.slice(1) + (pin[0] === 'q' ? this.offset : 0) === p;
        const chosen = pinned && (!this.twoTexts || queries === (pin[0] === 'q'));
        const style = {size: Math.min(12, this.step - 0.5), anchor, turn: -90, fill: chosen ? ink.warm : ink.ink, bold: chosen};
        pen.text(x(p), y, word === undefined ? grouped(p) : label(word, 13), style);
      }
    };
    if (this.twoTexts) {
      side(true, base - 6, 'start');
      side(false, floor + 8, 'end');
      pen.text(4, 10, 'queries', {size: 10, fill: ink.quiet});
      pen.text(4, this.height - 8, 'keys', {size: 10, fill: ink.quiet});
    } else {
      side(false, base + 6, 'end');
    }
  }
}
