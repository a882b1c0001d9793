// SPDX-License-Identifier: Apache-2.0
// What the document carries, checked: facts, words, heads with their figures, thumbnails.
import {fromBase64, unpack} from './codec.js';
import {Client} from './client.js';
import {Words} from './words.js';

export class Damaged extends Error {}

const block = (id) => {
  const element = document.getElementById(id);
  if (!element) throw new Damaged(`This file was cut short: its part “${id}” is missing. Make the page anew.`);
  return element.textContent;
};

// Slices with the same batch, layer and head are query ranges of one head.
export function headsOf(graph) {
  const heads = new Map();
  graph.slices.forEach((slice, number) => {
    const id = `${slice.batch}/${slice.layer}:${slice.head}`;
    if (!heads.has(id))
      heads.set(id, {id, name: `${slice.layer}:${slice.head}`, batch: slice.batch, layer: slice.layer, head: slice.head,
                     slices: [], edges: 0, rowsWithKeys: 0, queries: 0, keys: 0, queryBegin: slice.queryBegin, figures: {}});
    const head = heads.get(id);
    head.slices.push(number);
    head.edges += slice.edges;
    head.rowsWithKeys += slice.rowsWithKeys;
    head.queryBegin = Math.min(head.queryBegin, slice.queryBegin);
    head.queries = Math.max(head.queries, slice.queryBegin + slice.queries);
    head.keys = Math.max(head.keys, slice.keys);
  });
  for (const head of heads.values()) {
    head.queries -= head.queryBegin;
    for (const {name, figures} of graph.columns) {
      const values = head.slices.map((n) => figures[n] ?? NaN);
      if (values.length === 1) head.figures[name] = values[0];
      else if (name === 'edges') head.figures[name] = head.edges;
      else if (name === 'heaviest') head.figures[name] = Math.max(...values);
      else {
        const rows = head.slices.map((n) => graph.slices[n].rowsWithKeys);
        head.figures[name] = values.reduce((sum, v, i) => sum + v * rows[i], 0) / head.rowsWithKeys;
      }
    }
  }
  return [...heads.values()];
}

// The thumbnails of every slice: two pictures, by the heaviest edge and by share.
export function thumbnailsOf(graph, bytes) {
  let at = 0;
  return graph.slices.map(({queries, keys}) => {
    const rows = Math.min(graph.thumbnails.side, queries), columns = Math.min(graph.thumbnails.side, keys);
    const size = rows * columns;
    const picture = {rows, columns, max: bytes.subarray(at, at + size), share: bytes.subarray(at + size, at + 2 * size)};
    at += 2 * size;
    return picture;
  });
}

export async function openPage() {
  block('whole');  // the last of them
  let graph;
  try {
    graph = JSON.parse(block('graph'));
  } catch (error) {
    throw error instanceof Damaged ? error : new Damaged('The facts of this file are damaged. Make the page anew.');
  }
  const client = new Client(block('engine'));
  const slices = graph.slices.map((info, n) => {
    const element = document.getElementById(`edges-${n}`);
    const text = block(`edges-${n}`);
    element.remove();  // the engine has it now
    return {info, text};
  });
  client.ask('give', {slices});
  let words, pictures;
  try {
    words = new Words(JSON.parse(new TextDecoder().decode(await unpack(block('words')))), graph.twoTexts);
    pictures = thumbnailsOf(graph, await unpack(block('thumbnails')));
  } catch (error) {
    throw error instanceof Damaged ? error : new Damaged('The words or the small pictures of this file are damaged. Make the page anew.');
  }
  return {graph, client, words, pictures, heads: headsOf(graph), columns: graph.columns, high: graph.thumbnails.high,
          offset: graph.queryOffset, title: graph.title};
}
