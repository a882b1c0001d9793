// SPDX-License-Identifier: Apache-2.0
// Threshold, kept mass, and the switches. The threshold can only be raised: what is below the graph's own is not here.
import {grouped, percent, weightText} from './words.js';

const STEPS = 1000;

export class Controls {
  constructor({page, state}) {
    Object.assign(this, {page, state});
    const by = (id) => document.getElementById(id);
    this.slider = by('threshold');
    this.said = by('threshold-said');
    this.kept = by('kept');
    const {slices} = page.graph;
    const with_ = slices.filter((s) => s.edges > 0 && s.low > 0);
    this.low = page.graph.threshold || (with_.length ? Math.min(...with_.map((s) => s.low)) : 0.001);
    this.high = Math.max(this.low * 1.0001, ...slices.filter((s) => s.edges > 0).map((s) => s.high));
    this.slider.addEventListener('input', () => state.set({t: this.slider.value === '0' ? 0 : this.at(+this.slider.value)}));
    this.slider.setAttribute('aria-valuetext', weightText(this.low));
    for (const [id, name] of [['how', 'how'], ['combine', 'combine'], ['shade', 'shade']])
      by(id).addEventListener('change', () => state.set({[name]: by(id).value}));
    for (const name of ['first', 'diagonal']) by(name).addEventListener('change', () => state.set({[name]: by(name).checked}));
    const batches = [...new Set(page.heads.map((h) => h.batch))];
    by('batch-label').hidden = batches.length < 2;
    for (const batch of batches) {
      const option = document.createElement('option');
      option.value = option.textContent = batch;
      by('batch').append(option);
    }
    by('batch').addEventListener('change', () => state.set({batch: +by('batch').value, pin: null}));
    this.reflect();
  }
  at(step) {
    const t = this.low * (this.high / this.low) ** (step / STEPS);
    return +t.toPrecision(3);
  }
  reflect() {
    const by = (id) => document.getElementById(id), {state} = this, t = state.get('t') || this.low;
    this.slider.value = Math.round(STEPS * Math.min(1, Math.max(0, Math.log(t / this.low) / Math.log(this.high / this.low))));
    const said = weightText(Math.max(t, this.low));
    if (this.said.textContent !== said) {  // text written anew is laid out anew, in every frame of a drag
      this.said.textContent = said;
      this.slider.setAttribute('aria-valuetext', said);
    }
    for (const name of ['how', 'combine', 'shade']) by(name).value = state.get(name);
    for (const name of ['first', 'diagonal']) by(name).checked = state.get(name);
    by('batch').value = state.get('batch');
  }
  // Beside the slider always: what the edges above it hold.
  tell(facts, exact) {
    const stored = !(this.state.get('t') > this.low);
    const share = stored ? percent(exact) : `${percent(facts.kept)} of the attention (${percent(exact)} stored)`;
    this.kept.textContent = `keeps ${share}, ${grouped(facts.edges)} edges`;
  }
}
