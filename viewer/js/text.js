// SPDX-License-Identifier: Apache-2.0
// The text in reading order. Tokens are shaded by the attention that they receive or give; a pinned token (or the one
// under the pointer) shows where it looks, and who looks at it. Pieces of the text are made when they come near.
import {Cards} from './cards.js';

const PIECE = 400;

// A word in running text; of very long ones the beginning.
const inText = (word) => [...word].slice(0, 120).join('').replaceAll('\n', '⏎\n').replaceAll('\r', '') || '·';

export class TextView {
  constructor({page, state, colours, pin, show}) {
    Object.assign(this, {page, state, colours, pin});
    this.box = document.getElementById('text');
    this.cards = new Cards({page, state, pin, show});
    this.hint = document.getElementById('hint');
    this.said = [...this.hint.childNodes];
    this.sides = [];
    this.shades = {q: null, k: null};
    this.lookers = new Set();
    this.watch = new IntersectionObserver((entries) => {
      for (const {target, isIntersecting} of entries) if (isIntersecting) this.fill(target);
    }, {root: this.box, rootMargin: '600px'});
    this.box.addEventListener('click', (event) => {
      const token = event.target.closest('.token');
      if (token) this.pin(token.dataset.side, +token.dataset.p);
    });
    this.box.addEventListener('pointerover', (event) => {
      const token = event.target.closest('.token');
      if (token && !this.state.get('pin')) this.look(token.dataset.side, +token.dataset.p);
    });
    this.box.addEventListener('pointerleave', () => {
      if (!this.state.get('pin')) this.unlook();
    });
    this.box.addEventListener('keydown', (event) => {
      const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey || !this.head) return;
      event.preventDefault();
      this.step(step);
    });
    document.getElementById('unpin').addEventListener('click', () => this.state.set({pin: null}));
  }

  // One text when queries stand among the keys, two when they are another one.
  lay(facts) {
    this.head = facts;
    const name = JSON.stringify([facts.queryBegin, facts.queries, facts.keys, this.state.get('batch')]);
    if (this.name === name) return;
    this.name = name;
    const two = this.page.words.twoTexts;
    this.sides = two ? [{side: 'q', title: 'Queries', begin: facts.queryBegin, end: facts.queryBegin + facts.queries},
                        {side: 'k', title: 'Keys', begin: 0, end: facts.keys}]
                     : [{side: 'k', title: '', begin: 0, end: Math.max(facts.keys, facts.queryBegin + facts.queries + this.page.offset)}];
    this.box.replaceChildren();
    this.watch.disconnect();
    for (const {side, title, begin, end} of this.sides) {
      if (title) {
        const heading = document.createElement('h2');
        heading.textContent = title;
        this.box.append(heading);
      }
      for (let p = begin; p < end; p += PIECE) {
        const piece = document.createElement('div');
        piece.className = 'piece';
        Object.assign(piece.dataset, {side, begin: p, end: Math.min(end, p + PIECE)});
        piece.style.minHeight = `${Math.ceil((Math.min(end, p + PIECE) - p) / 9) * 24}px`;  // until it is filled
        this.box.append(piece);
        if (p === begin) this.fill(piece);  // in the first picture
        this.watch.observe(piece);
      }
    }
    if (!this.box.firstChild) this.box.textContent = 'There is no token here.';
  }
  word(side, p) {
    const batch = this.state.get('batch');
    return side === 'q' ? this.page.words.query(batch, p, this.page.offset) : this.page.words.key(batch, p);
  }
  fill(piece) {
    if (piece.firstChild) return;
    const {side} = piece.dataset, tokens = [];
    for (let p = +piece.dataset.begin; p < +piece.dataset.end; ++p) {
      const token = document.createElement('span');
      const word = this.word(side, p);
      token.className = word === undefined ? 'token number' : 'token';
      token.textContent = word === undefined ? String(p) : inText(word);
      token.title = `position ${p}`;
      Object.assign(token.dataset, {side, p});
      tokens.push(token);
    }
    piece.style.minHeight = '';
    piece.append(...tokens);
    this.paint(tokens);
  }
  token(side, p) {
    return this.box.querySelector(`.token[data-side="${side}"][data-p="${p}"]`);
  }

  // Pin the token before or after the pinned one; without a pin the first that is in sight.
  step(by) {
    const pin = this.state.get('pin');
    if (!pin) {
      const {top} = this.box.getBoundingClientRect();
      const seen = [...this.box.querySelectorAll('.token')].find((token) => token.getBoundingClientRect().top >= top);
      if (seen) this.pin(seen.dataset.side, +seen.dataset.p);
      return;
    }
    const [side, p] = this.placeOf(pin[0], +pin.slice(1)), {begin, end} = this.sides.find((s) => s.side === side) ?? {};
    if (p + by >= begin && p + by < end) this.pin(side, p + by);
  }
  // Where a token stands in the text: a query of a single text is the key at its position.
  placeOf(side, p) {
    return this.page.words.twoTexts || side === 'k' ? [side, p] : ['k', p + this.page.offset];
  }

  // ---- shades

  async shows(facts) {
    this.lay(facts);
    const totals = await this.page.client.ask('totals');
    if (this.head !== facts) return;
    this.totals = totals;
    await this.refresh();
  }
  async refresh() {
    const pin = this.state.get('pin');
    document.getElementById('unpin').hidden = !pin;
    document.getElementById('hint').hidden = Boolean(pin);
    if (pin) await this.look(pin[0], +pin.slice(1));
    else this.unlook();
  }
  // Without a pin: how much every token receives or gives.
  unlook() {
    this.looking = null;
    this.cards.clear();
    this.hint.replaceChildren(...this.said);
    if (!this.totals) return;
    const received = this.state.get('shade') === 'received';
    const values = received ? this.totals.received : this.totals.given;
    const skip = received && this.state.get('first') ? 1 : 0;
    let most = 0;
    for (let i = skip; i < values.length; ++i) if (values[i] > most) most = values[i];
    const {queryBegin} = this.head, {offset} = this.page, two = this.page.words.twoTexts;
    // Next to nothing is not shaded: otherwise every word would be.
    const share = (value) => value > 0.02 * most ? Math.min(1, value / most) ** 1.5 * this.page.high : 0;
    this.shade = (side, p) => {
      if (received) return side === 'k' && p >= skip ? share(values[p] ?? 0) : 0;
      const query = (two ? p : p - offset) - queryBegin;
      return side === 'q' || !two ? share(values[query] ?? 0) * (two && side === 'k' ? 0 : 1) : 0;
    };
    this.lookers = new Set();
    this.repaint();
  }
  // Where a token looks and who looks at it.
  async look(side, p) {
    const asked = this.looking = `${side}${p}`;
    const {offset} = this.page, two = this.page.words.twoTexts;
    const query = side === 'q' ? p : two ? null : p - offset, key = side === 'k' ? p : two ? null : p + offset;
    const row = query === null ? {keys: [], weights: [], kept: 0, entropy: NaN} : await this.page.client.ask('row', {query});
    const column = key === null ? {queries: [], weights: [], sum: 0} : await this.page.client.ask('column', {key});
    if (this.looking !== asked) return;
    const looks = new Map(row.keys.map((k, i) => [k, row.weights[i]]));
    const lookers = new Map(column.queries.map((q, i) => [two ? q : q + offset, column.weights[i]]));
    this.shade = (s, at) => (s === 'k' ? looks.get(at) ?? 0 : 0);
    this.lookers = new Set([...lookers.keys()].map((at) => `${two ? 'q' : 'k'}${at}`));
    this.repaint();
    if (this.state.get('pin')) this.cards.show({side, p, query, key, row, column});
    else this.hint.replaceChildren(...this.cards.line({side, p, query, key, row, column}));
  }
  repaint() {
    this.paint(this.box.querySelectorAll('.token'));
  }
  paint(tokens) {
    if (!this.shade) return;
    const pin = this.looking ?? '', query = this.state.get('pin');
    for (const token of tokens) {
      const {side, p} = token.dataset, value = this.shade(side, +p);
      token.style.background = value > 0 ? this.colours.css(value, this.page.high) : '';
      token.style.color = value > 0 ? this.colours.ink(value, this.page.high) : '';
      token.classList.toggle('looker', this.lookers.has(`${side}${p}`));
      token.classList.toggle('pin', Boolean(query) && pin === `${side}${p}`);
    }
  }

  scrollTo(side, p) {
    const [name, at] = this.placeOf(side, p);
    const holds = ({dataset}) => dataset.side === name && at >= +dataset.begin && at < +dataset.end;
    const piece = [...this.box.querySelectorAll('.piece')].find(holds);
    if (!piece) return;
    this.fill(piece);
    const token = this.token(name, at);
    if (!token) return;
    const box = this.box.getBoundingClientRect(), place = token.getBoundingClientRect();
    if (place.top < box.top || place.bottom > box.bottom) this.box.scrollTop += place.top - box.top - this.box.clientHeight / 2;
  }

  // ---- search: places where a text stands, also across tokens

  find(text) {
    const wanted = text.toLowerCase();
    const found = [];
    if (!wanted) return found;
    for (const {side, begin, end} of this.sides) {
      const starts = [];
      let whole = '';
      for (let p = begin; p < end; ++p) {
        starts.push(whole.length);
        whole += (this.word(side, p) ?? '').toLowerCase();
      }
      let low = 0;
      for (let at = whole.indexOf(wanted); at >= 0 && found.length < 5000; at = whole.indexOf(wanted, at + wanted.length)) {
        while (low + 1 < starts.length && starts[low + 1] <= at) ++low;
        // A space before the word belongs to its token, not to the one before.
        found.push({side, p: begin + low});
      }
    }
    return found;
  }
  mark(found) {
    for (const token of this.box.querySelectorAll('.match')) token.classList.remove('match');
    for (const {side, p} of found.slice(0, 500)) this.token(side, p)?.classList.add('match');
  }
}
