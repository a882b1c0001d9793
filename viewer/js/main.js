// SPDX-License-Identifier: Apache-2.0
// Puts the parts together: the state changes, the engine is asked, the views are told.
import {ArcsView} from './arcs.js';
import {newestOnly} from './client.js';
import {codeOf, css, inkOn, packed, ramp} from './colours.js';
import {Controls} from './controls.js';
import {HeadsView} from './heads.js';
import {LinksView} from './links.js';
import {MapView} from './map.js';
import {openPage} from './page.js';
import {CanvasPen, SvgPen, download, pageColours} from './pen.js';
import {State, fromHash, toHash} from './state.js';
import {TextView} from './text.js';
import {grouped, percent, weightText} from './words.js';

const by = (id) => document.getElementById(id);

function problem(text) {
  by('problem').textContent = text;
  by('problem').hidden = !text;
}

// Colours of the theme in use; the parts keep this object.
class Colours {
  use(theme) {
    this.list = ramp(theme);
    this.packed = packed(this.list);
  }
  css(value, high) {
    return css(this.list[codeOf(value, high)]);
  }
  ink(value, high) {
    return inkOn(this.list[codeOf(value, high)]);
  }
}

class Viewer {
  constructor(page) {
    this.page = page;
    this.state = new State(fromHash(location.hash));
    this.colours = new Colours();
    this.dark = matchMedia('(prefers-color-scheme: dark)');
    this.theme();
    this.settle();
    const parts = {page, state: this.state, colours: this.colours, pin: (side, p) => this.pin(side, p),
                   show: (query, key) => this.map.show(query, key)};
    this.controls = new Controls(parts);
    this.heads = new HeadsView(parts);
    this.map = new MapView(parts);
    this.arcs = new ArcsView(parts);
    this.text = new TextView(parts);
    this.links = new LinksView(parts);
    this.choose = newestOnly(() => this.chooseNow());
    this.listen();
    this.describe();
    this.heads.lay();
    this.panel();
    this.choose();
    by('copy').hidden = location.protocol === 'about:';  // a frame in a notebook has no address
  }

  // A state that fits this graph, whatever the link said.
  settle() {
    const {page, state} = this;
    const batches = page.heads.map((h) => h.batch);
    const batch = batches.includes(state.get('batch')) ? state.get('batch') : batches[0] ?? 0;
    const here = page.heads.filter((h) => h.batch === batch);
    let heads = state.get('heads').filter((name) => here.some((h) => h.name === name));
    // The first picture is of a head that copies, where that is known, or one that looks neither at the first token, nor
    // at itself, nor at the word before.
    if (!heads.length && here.length) {
      const rest = ({first = 0, self = 0, previous = 0, kept = 0}) => (1 - first) * (1 - self) * (1 - previous) * kept;
      const telling = (h) => h.edges === 0 ? -1 : Number.isFinite(h.figures.induction) ? h.figures.induction : rest(h.figures);
      heads = [here.reduce((best, h) => telling(h) > telling(best) ? h : best).name];
    }
    state.set({batch, heads});
  }
  get chosen() {
    const names = new Set(this.state.get('heads'));
    return this.page.heads.filter((h) => h.batch === this.state.get('batch') && names.has(h.name));
  }
  get title() {
    const {chosen} = this;
    if (chosen.length === 1) return `layer ${chosen[0].layer}, head ${chosen[0].head}`;
    if (chosen.length <= 4) return chosen.map((h) => h.name).join(' + ');
    const layers = new Set(chosen.map((h) => h.layer));
    return layers.size === 1 ? `layer ${chosen[0].layer}, ${chosen.length} heads` : `${chosen.length} heads of ${layers.size} layers`;
  }

  describe() {
    const {graph, heads} = this.page;
    const keys = Math.max(0, ...graph.slices.map((s) => s.keys)), queries = Math.max(0, ...heads.map((h) => h.queries));
    const edges = graph.slices.reduce((sum, s) => sum + s.edges, 0);
    by('facts').textContent = [
      `${grouped(heads.length)} ${heads.length === 1 ? 'head' : 'heads'}`,
      `${grouped(queries)} queries × ${grouped(keys)} keys`,
      `${grouped(edges)} edges`,
      graph.threshold > 0 && `weights from ${weightText(graph.threshold)}`,
      graph.facts.budget && `the ${grouped(Number(graph.facts.budget))} heaviest alone`,
      graph.facts.head_budget && `the ${grouped(Number(graph.facts.head_budget))} heaviest of a head alone`,
      `${percent(graph.keptMass)} of the attention kept`,
    ].filter(Boolean).join(' · ');
    if (heads.length === 0) problem('This graph has no head: there is nothing to draw.');
    else if (edges === 0) problem('This graph has no edge: no weight reaches its threshold. Its heads and words are shown without.');
    else problem('');
  }

  async chooseNow() {
    const {chosen, page, state} = this;
    if (!chosen.length) return;
    try {
      const t = state.get('t') || -1e300;  // everything that is stored
      const facts = await page.client.ask('choose', {heads: chosen.map((h) => h.slices), how: state.get('combine'), t});
      by('chosen').textContent = this.title;
      by('combine-label').hidden = chosen.length < 2;
      this.controls.tell(facts, chosen.reduce((sum, h) => sum + (h.figures.kept ?? NaN), 0) / chosen.length);
      const shown = {...facts};
      this.map.shows(shown);
      this.arcs.shows(shown);
      await this.text.shows(shown);
      await this.links.shows(shown, this.title);
      if (!this.seen) {
        this.seen = true;
        const pin = state.get('pin');
        if (pin) this.text.scrollTo(pin[0], +pin.slice(1));
        if (state.get('find')) this.find(false);
      }
      document.documentElement.dataset.ready = toHash(state.values) || 'whole';
    } catch (error) {
      problem(error.message);
    }
  }

  pin(side, p) {
    const {page, state} = this;
    const position = p + page.offset;
    const name = side === 'q' && !page.words.twoTexts && position >= 0 ? `k${position}` : `${side}${p}`;
    state.set({pin: state.get('pin') === name ? null : name});
    if (state.get('pin')) this.text.scrollTo(name[0], +name.slice(1));
  }

  changed(names) {
    const has = (...some) => some.some((name) => names.has(name));
    if (has('batch')) this.settle();
    if (has('theme')) this.theme();
    this.controls.reflect();
    if (has('theme', 'batch', 'sort', 'least')) this.heads.lay();
    if (has('heads')) this.heads.mark();
    if (has('heads', 'batch', 'combine', 't')) this.choose();
    else {
      if (has('view', 'how', 'first', 'diagonal', 'theme')) this.map.draw();
      if (has('view', 'range', 'first', 'diagonal', 'theme') && this.arcs.head) this.arcs.shows(this.arcs.head);
      if (has('pin', 'shade', 'first', 'theme') && this.text.head) this.text.refresh();
      if (has('pin') && this.map.head) {
        this.map.drawOverlay();
        this.arcs.paint();
      }
      document.documentElement.dataset.ready = toHash(this.state.values) || 'whole';
    }
    if (has('panel')) this.panel();
    clearTimeout(this.later);
    this.later = setTimeout(() => this.remember(), 150);
  }
  remember() {
    this.later = null;
    try {
      history.replaceState(null, '', `#${toHash(this.state.values)}`);
    } catch {
      // A frame of a notebook has no address of its own.
    }
  }

  theme() {
    const wish = this.state.get('theme');
    const theme = wish === 'auto' ? (this.dark.matches ? 'dark' : 'light') : wish;
    document.documentElement.dataset.theme = theme;
    this.colours.use(theme);
    by('theme').textContent = `Theme: ${wish}`;
    const scale = by('scale').getContext('2d');
    for (let x = 0; x < 120; ++x) {
      scale.fillStyle = css(this.colours.list[1 + Math.round(254 * x / 119)]);
      scale.fillRect(x, 0, 1, 10);
    }
    by('scale-low').textContent = '0';
    by('scale-high').textContent = this.page.high === 1 ? '1' : weightText(this.page.high);
    by('legend').title = 'weight of an edge; the colour goes with its square root';
  }
  panel() {
    const arcs = this.state.get('panel') === 'arcs';
    by('map').hidden = arcs;
    by('arcs').hidden = !arcs;
    by('tab-map').setAttribute('aria-selected', !arcs);
    by('tab-arcs').setAttribute('aria-selected', arcs);
    if (this.map.head) {
      if (arcs) this.arcs.shows(this.arcs.head);
      else this.map.draw();
    }
  }

  // Nothing is asked of the engine, and what was asked has been drawn. For tests.
  idle() {
    return this.page.client.waiting.size === 0 && !this.later;
  }

  // ---- search

  find(next) {
    const text = by('find').value || this.state.get('find');
    by('find').value = text;
    this.matches = this.text.find(text);
    this.text.mark(this.matches);
    by('found').textContent = !text ? '' : this.matches.length ? '' : 'not found';
    if (!this.matches.length) return;
    this.match = next ? ((this.match ?? -1) + 1) % this.matches.length : 0;
    const {side, p} = this.matches[this.match];
    by('found').textContent = `${this.match + 1} of ${grouped(this.matches.length)}`;
    if (next) this.state.set({pin: `${side}${p}`});
    this.text.scrollTo(side, p);
    this.text.mark(this.matches);
  }

  // ---- files

  get picture() {
    return this.state.get('panel') === 'arcs' ? {view: this.arcs, width: this.arcs.width, height: this.arcs.height}
                                              : {view: this.map, width: this.map.box.clientWidth, height: this.map.box.clientHeight};
  }
  get fileName() {
    return `attention-${this.title.replace(/[^0-9a-z]+/gi, '-')}`;
  }
  get caption() {
    return `${this.page.title} · ${this.title} · threshold ${by('threshold-said').textContent}, ${by('kept').textContent}`;
  }
  svg() {
    const {view, width, height} = this.picture, {panel, quiet} = pageColours();
    const pen = new SvgPen(width, height + 22, this.caption, panel);
    view.drawWith(pen);
    pen.text(4, height + 11, this.caption, {size: 10, fill: quiet});
    return pen.end();
  }
  png() {
    const {view, width, height} = this.picture, {panel, quiet} = pageColours();
    const canvas = document.createElement('canvas');
    const pen = new CanvasPen(canvas, width, height + 22, 2);
    pen.rect(0, 0, width, height + 22, panel);
    view.drawWith(pen);
    pen.text(4, height + 11, this.caption, {size: 10, fill: quiet});
    return new Promise((resolve) => canvas.toBlob(resolve, 'image/png'));
  }

  listen() {
    const {state} = this;
    state.on((names) => this.changed(names));
    this.dark.addEventListener('change', () => {
      if (state.get('theme') === 'auto') this.changed(new Set(['theme']));
    });
    addEventListener('hashchange', () => {
      state.set({...new State(fromHash(location.hash)).values});
      this.settle();
    });
    by('theme').addEventListener('click', () => state.set({theme: {auto: 'light', light: 'dark', dark: 'auto'}[state.get('theme')]}));
    by('tab-map').addEventListener('click', () => state.set({panel: 'map'}));
    by('tab-arcs').addEventListener('click', () => state.set({panel: 'arcs'}));
    by('svg').addEventListener('click', () => download(`${this.fileName}.svg`, new Blob([this.svg()], {type: 'image/svg+xml'})));
    by('png').addEventListener('click', async () => download(`${this.fileName}.png`, await this.png()));
    by('copy').addEventListener('click', async () => {
      this.remember();
      const link = `${location.href.split('#')[0]}#${toHash(state.values)}`;
      try {
        await navigator.clipboard.writeText(link);
        by('copy').textContent = 'Copied';
      } catch {
        prompt('A link to what is on the screen now', link);
      }
      setTimeout(() => by('copy').textContent = 'Link', 1500);
    });
    const help = () => {
      by('help').hidden = !by('help').hidden;
      by('keys').setAttribute('aria-expanded', !by('help').hidden);
    };
    by('keys').addEventListener('click', help);
    by('main').dataset.heads = this.page.heads.length;
    by('search').addEventListener('submit', (event) => {
      event.preventDefault();
      this.find(true);
    });
    by('find').addEventListener('input', () => {
      state.set({find: by('find').value});
      this.match = undefined;
      this.find(false);
    });
    addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === 'Escape') {
        if (by('help').hidden) state.set({pin: null});
        else help();
      }
      if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName ?? '')) return;
      const does = {'/': () => by('find').focus(), '?': help, '[': () => this.heads.step(-1), ']': () => this.heads.step(1),
                    m: () => state.set({panel: 'map'}), a: () => state.set({panel: 'arcs'})}[event.key];
      if (!does) return;
      event.preventDefault();
      does();
    });
  }
}

async function start() {
  try {
    globalThis.attngraphViewer = new Viewer(await openPage());
  } catch (error) {
    problem(error.message);
    document.documentElement.dataset.ready = 'failed';
  }
}
start();
