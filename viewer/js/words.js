// SPDX-License-Identifier: Apache-2.0
// Tokens as people read them. Nothing here makes markup: what comes out goes into textContent, canvas or SVG text.

// Characters that reorder or hide what stands around them, and controls other than line ends and tabs.
const UNSAFE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

// Tokenizers of the byte-pair kind write Ġ for a space and Ċ for a line end, those of the sentence-piece kind ▁.
function plain(words) {
  const marked = words.some((w) => /^[ĠĊ]/.test(w)), lower = words.some((w) => w.startsWith('▁'));
  return words.map((word) => {
    let text = word;
    if (marked) text = text.replaceAll('Ġ', ' ').replaceAll('Ċ', '\n');
    if (lower) text = text.replaceAll('▁', ' ');
    return text.replace(UNSAFE, '\ufffd');
  });
}

export class Words {
  // `twoTexts`: queries are another text than keys, whether or not their words are known.
  constructor({keys = [], queries = []}, twoTexts = false) {
    this.keyLists = keys.length && !Array.isArray(keys[0]) ? [plain(keys)] : keys.map(plain);
    this.queryLists = queries.length && !Array.isArray(queries[0]) ? [plain(queries)] : queries.map(plain);
    this.twoTexts = twoTexts || this.queryLists.length > 0;
  }
  static of(lists, batch) {
    return lists.length > 1 ? lists[batch] ?? [] : lists[0] ?? [];
  }
  key(batch, key) {
    return Words.of(this.keyLists, batch)[key];
  }
  query(batch, query, offset) {
    return this.twoTexts ? Words.of(this.queryLists, batch)[query] : this.key(batch, query + offset);
  }
}

// For one line: " creeping" is creeping, a line end is ⏎, and long words are cut.
export function label(word, limit = 14) {
  if (word === undefined) return '';
  let text = word.replaceAll('\n', '⏎').replaceAll('\r', '').replaceAll('\t', '⇥').trim();
  if (text === '') text = '␣';
  const letters = [...text];
  return letters.length > limit ? letters.slice(0, limit - 1).join('') + '…' : text;
}

// As quoted in a sentence.
export const quoted = (word, limit = 32) => word === undefined ? '' : `“${label(word, limit)}”`;

export const grouped = (n) => (Math.round(n) || 0).toLocaleString('en-GB');  // never -0
export const percent = (share) => Number.isFinite(share) ? `${(100 * share).toFixed(1)} %` : '–';
export const weightText = (weight) =>
  weight >= 0.0995 ? weight.toFixed(2) : weight >= 0.00095 ? weight.toFixed(3) : weight.toExponential(1);
