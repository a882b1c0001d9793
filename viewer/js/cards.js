// SPDX-License-Identifier: Apache-2.0
// The pinned token in words: where it looks, and who looks at it.
import {grouped, label, percent, quoted, weightText} from './words.js';

const CARDS = 12, SPOKEN = 3;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function far(distance) {
  if (distance === null) return '';
  if (distance === 0) return ', itself';
  return distance > 0 ? `, ${grouped(distance)} back` : `, ${grouped(-distance)} ahead`;
}

export class Cards {
  constructor({page, state, pin, show}) {
    Object.assign(this, {page, state, pin, jump: show});
    this.box = document.getElementById('pinned');
    this.live = document.getElementById('live');
  }
  clear() {
    this.box.replaceChildren();
  }
  word(side, p) {
    const batch = this.state.get('batch');
    return side === 'q' ? this.page.words.query(batch, p, this.page.offset) : this.page.words.key(batch, p);
  }

  // `query` and `key` are what the token is as one and as the other; null where it is not.
  show({side, p, query, key, row, column}) {
    const two = this.page.words.twoTexts, {offset} = this.page;
    const distance = (q, k) => two ? null : q + offset - k;
    const byWeight = (a, b) => b.weight - a.weight || a.at - b.at;
    const looks = row.keys.map((at, i) => ({side: 'k', at, weight: row.weights[i], distance: distance(query, at)})).sort(byWeight);
    const lookers = column.queries
      .map((at, i) => ({side: 'q', at, weight: column.weights[i], distance: two ? null : key - at - offset}))
      .sort(byWeight);
    const cards = element('div', 'cards');
    if (query !== null) {
      const entropy = Number.isFinite(row.entropy) ? `, entropy ${row.entropy.toFixed(2)}` : '';
      const title = `looks at (${grouped(looks.length)}, together ${percent(row.kept)}${entropy})`;
      cards.append(this.card(title, 'looks', looks, (at) => this.go(query, at, 'k', at)));
    }
    if (key !== null) {
      const title = `looked at by (${grouped(lookers.length)}, together ${column.sum.toFixed(2)})`;
      cards.append(this.card(title, 'lookers', lookers, (at) => this.go(at, key, 'q', at)));
    }
    const name = quoted(this.word(side, p), 40) || 'position';
    this.box.replaceChildren(element('h2', '', `${name} ${grouped(p)}`), cards);
    this.live.textContent = `${label(this.word(side, p) ?? String(p))} at ${p} ` + [
      query !== null && `looks at ${this.spoken(looks)}`,
      key !== null && `is looked at by ${this.spoken(lookers)}`,
    ].filter(Boolean).join('; ');
  }
  // The same in a line, for the token under the pointer.
  line({side, p, query, key, row, column}) {
    const heaviest = (at, weights, s) => {
      const best = weights.reduce((most, weight, i) => weight > weights[most] ? i : most, 0);
      return weights.length ? `${quoted(this.word(s, at[best]), 20)} ${grouped(at[best])} (${weightText(weights[best])})` : 'nothing';
    };
    const said = [query !== null && `looks most at ${heaviest(row.keys, row.weights, 'k')}`,
                  key !== null && `is looked at most by ${heaviest(column.queries, column.weights, 'q')}`];
    return [element('b', '', `${quoted(this.word(side, p), 20)} ${grouped(p)}`.trim()), ` ${said.filter(Boolean).join('; ')}`];
  }
  go(query, key, side, p) {
    this.jump(query, key);
    this.pin(side, p);
  }
  card(title, className, entries, target) {
    const card = element('div', className), items = element('ol');
    const most = Math.max(...entries.map((e) => e.weight), 1e-12);
    for (const {side, at, weight, distance} of entries.slice(0, CARDS)) {
      const word = this.word(side, at), button = element('button'), bar = element('span', 'bar');
      button.type = 'button';
      bar.style.width = `${100 * weight / most}%`;
      button.append(bar, element('span', 'weight', weightText(weight)),
                    element('span', 'word', word === undefined ? grouped(at) : label(word, 40)),
                    element('span', 'far', grouped(at) + far(distance)));
      button.addEventListener('click', () => target(at));
      const item = element('li');
      item.append(button);
      items.append(item);
    }
    card.append(element('h3', '', title), items);
    if (entries.length > CARDS) card.append(element('div', 'quiet', `and ${grouped(entries.length - CARDS)} more`));
    if (entries.length === 0) card.append(element('div', 'quiet', 'nothing at or above the threshold'));
    return card;
  }
  spoken(entries) {
    const one = ({side, at, weight}) => `${label(this.word(side, at) ?? '')} at ${at} ${weightText(weight)}`;
    return entries.length ? entries.slice(0, SPOKEN).map(one).join(', ') : 'nothing';
  }
}
