// SPDX-License-Identifier: Apache-2.0
// The strongest links of what is chosen, as a list: for reading aloud, for copying, and to jump to.
import {grouped, label, weightText} from './words.js';

const COUNT = 24;

export class LinksView {
  constructor({page, state, pin, show}) {
    Object.assign(this, {page, state, pin, show});
    this.box = document.getElementById('links');
  }
  async shows(facts, title) {
    this.facts = facts;
    const window = {q0: facts.queryBegin, q1: facts.queryBegin + facts.queries, k0: 0, k1: facts.keys};
    const two = this.page.words.twoTexts;
    const skip = {skipFirst: !two, skipSelf: !two, queryOffset: this.page.offset};
    const links = await this.page.client.ask('heaviest', {n: COUNT, window, ...skip});
    if (this.facts !== facts) return;
    const heading = document.createElement('h2');
    heading.textContent = `Strongest links of ${title}` + (two ? '' : ' (neither to itself nor to the first)');
    const list = document.createElement('div');
    list.className = 'lists';
    const table = document.createElement('table');
    const batch = this.state.get('batch');
    for (const {query, key, weight} of links) {
      const row = table.insertRow();
      const name = (word, p) => word === undefined ? grouped(p) : `${label(word, 24)} (${grouped(p)})`;
      row.insertCell().textContent = weightText(weight);
      const cell = row.insertCell(), button = document.createElement('button');
      button.type = 'button';
      const from = this.page.words.query(batch, query, this.page.offset), to = this.page.words.key(batch, key);
      button.textContent = `${name(from, query)} → ${name(to, key)}`;
      button.addEventListener('click', () => {
        this.show(query, key);
        this.pin('q', query);
      });
      cell.append(button);
    }
    list.append(table);
    if (links.length === 0) list.textContent = 'None at or above the threshold.';
    this.box.replaceChildren(heading, list);
  }
}
