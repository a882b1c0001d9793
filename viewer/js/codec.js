// SPDX-License-Identifier: Apache-2.0
// The blocks of the page as typed arrays. src/io/page_blocks.cpp writes them.

export function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; ++i) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

export async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export const unpack = async (text) => inflate(fromBase64(text));

// The weight of every code, as float32: of 16 bits, or of 8 when the page is coarse (the middle of what they cover).
function weightTable(info, bits) {
  const count = 1 << bits;
  const table = new Float32Array(count);
  for (let code = 0; code < count; ++code) {
    const share = bits === 16 ? code / 65535 : Math.min(1, (code * 256 + 128) / 65535);
    table[code] = info.log ? info.low * Math.exp(share * Math.log(info.high / info.low))
                           : info.low + share * (info.high - info.low);
  }
  return table;
}

// One slice: offsets [queries + 1], keys and weights [edges], entropies [queries] in nats or null.
export function decodeSlice(info, bytes) {
  const [countBytes, keyBytes, upperBytes, lowerBytes, entropyBytes] = info.sizes;
  const total = countBytes + keyBytes + upperBytes + lowerBytes + entropyBytes;
  if (bytes.length !== total) throw new Error(`a block has ${bytes.length} bytes, and its head says ${total}`);
  let at = 0;
  const varint = () => {
    let value = bytes[at++];
    if (value < 0x80) return value;
    value &= 0x7f;
    for (let shift = 7;; shift += 7) {
      const byte = bytes[at++];
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
      if (shift > 28) throw new Error('a number in a block is longer than its type');
    }
  };
  const offsets = new Uint32Array(info.queries + 1);
  for (let r = 0; r < info.queries; ++r) offsets[r + 1] = offsets[r] + varint();
  const edges = offsets[info.queries];
  if (edges !== info.edges || upperBytes !== edges || at !== countBytes)
    throw new Error(`a block has ${edges} edges, and its head says ${info.edges}`);
  const keys = new Uint32Array(edges);
  for (let r = 0, e = 0; r < info.queries; ++r) {
    let next = 0;
    for (const end = offsets[r + 1]; e < end; ++e) {
      const key = next + varint();
      if (key >= info.keys) throw new Error(`row ${r} has key ${key}, and there are ${info.keys}`);
      keys[e] = key;
      next = key + 1;
    }
  }
  const fine = lowerBytes > 0;
  const table = weightTable(info, fine ? 16 : 8);
  const weights = new Float32Array(edges);
  if (fine) for (let e = 0, u = at, l = at + edges; e < edges; ++e) weights[e] = table[bytes[u++] << 8 | bytes[l++]];
  else for (let e = 0, u = at; e < edges; ++e) weights[e] = table[bytes[u++]];
  at += upperBytes + lowerBytes;
  let entropies = null;
  if (entropyBytes > 0) {
    entropies = new Float32Array(info.queries);
    for (let r = 0; r < info.queries; ++r, at += 2) {
      const code = bytes[at] | bytes[at + 1] << 8;
      entropies[r] = code === 65535 ? NaN : code / 1000;
    }
  }
  return {queryBegin: info.queryBegin, queries: info.queries, keyCount: info.keys, offsets, keys, weights, entropies};
}
