// SPDX-License-Identifier: Apache-2.0
// One scale for all views: a colour goes with the root of a weight, lightness changes evenly along it, and it can be
// told apart without telling red from green. Python's static pictures use the same stops (python/attngraph/_picture.py).

const STOPS = {
  light: ['#cfe3f5', '#93c3e1', '#559dcd', '#2b73b3', '#254a91', '#30235f', '#1e0d33'],
  dark: ['#264a70', '#246289', '#24809a', '#3aa19b', '#7cc68f', '#cfe38a', '#fdfbd4'],
};

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

// 256 colours; 0 stands for nothing, and 1 is the palest that is something.
export function ramp(theme) {
  const stops = STOPS[theme].map(channels);
  return Array.from({length: 256}, (_, i) => {
    const at = Math.max(0, (i - 1) / 254) * (stops.length - 1);
    const below = Math.min(stops.length - 2, Math.floor(at)), share = at - below;
    return [0, 1, 2].map((c) => Math.round(stops[below][c] + share * (stops[below + 1][c] - stops[below][c])));
  });
}

export const packed = (colours) =>
  Uint32Array.from(colours, ([r, g, b], i) => i === 0 ? 0 : (255 << 24 | b << 16 | g << 8 | r) >>> 0);

export const codeOf = (value, high) =>
  value > 0 ? Math.min(255, Math.max(1, Math.ceil(255 * Math.sqrt(value / high)))) : 0;

export const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

// Relative luminance, 0 to 1 (WCAG 2).
export function luminance(colour) {
  const [r, g, b] = colour.map((c) => {
    const share = c / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// Black or white, whichever can be read on it.
export const inkOn = (colour) => luminance(colour) > 0.179 ? '#000000' : '#ffffff';
