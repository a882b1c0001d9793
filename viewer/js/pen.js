// SPDX-License-Identifier: Apache-2.0
// One way to draw for the screen and for files: a pen on a canvas, and a pen that writes SVG.

// Colours of the style sheet by name. Asked for in every frame, so each theme is read once.
const inks = {};
export function pageColours() {
  const style = getComputedStyle(document.documentElement), {theme} = document.documentElement.dataset;
  return inks[theme] ??= Object.fromEntries(['page', 'panel', 'ink', 'quiet', 'line', 'hair', 'accent', 'warm']
    .map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

export const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';

export class CanvasPen {
  // The canvas gets `width` x `height` units of the page, at `ratio` pixels each.
  constructor(canvas, width, height, ratio) {
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    this.context = canvas.getContext('2d');
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, width, height);
  }
  rect(x, y, w, h, fill) {
    this.context.fillStyle = fill;
    this.context.fillRect(x, y, w, h);
  }
  frame(x, y, w, h, stroke) {
    this.context.strokeStyle = stroke;
    this.context.lineWidth = 1;
    this.context.strokeRect(x, y, w, h);
  }
  path(d, stroke, width, opacity = 1) {
    this.context.globalAlpha = opacity;
    this.context.strokeStyle = stroke;
    this.context.lineWidth = width;
    this.context.stroke(new Path2D(d));
    this.context.globalAlpha = 1;
  }
  text(x, y, text, {size = 11, anchor = 'start', turn = 0, fill, bold = false}) {
    const {context} = this;
    context.save();
    context.translate(x, y);
    if (turn) context.rotate(turn * Math.PI / 180);
    context.font = `${bold ? '600 ' : ''}${size}px ${FONT}`;
    context.textAlign = anchor === 'middle' ? 'center' : anchor;
    context.textBaseline = 'middle';
    context.fillStyle = fill;
    context.fillText(text, 0, 0);
    context.restore();
  }
  // A part of a picture, given in its own pixels, into a place of the page; what lies outside `clip` is cut.
  image(canvas, place, clip, smooth) {
    const {context} = this;
    context.save();
    context.beginPath();
    context.rect(clip.x, clip.y, clip.w, clip.h);
    context.clip();
    context.imageSmoothingEnabled = smooth;
    context.drawImage(canvas, place.x, place.y, place.w, place.h);
    context.restore();
  }
}

const xml = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)
  .replace(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '\ufffd');
const short = (n) => +n.toFixed(2);

export class SvgPen {
  constructor(width, height, title, background) {
    this.parts = [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" ` +
                  `height="${height}" role="img" font-family="${xml(FONT)}">`, `<title>${xml(title)}</title>`];
    this.rect(0, 0, width, height, background);
    this.clips = 0;
  }
  rect(x, y, w, h, fill) {
    this.parts.push(`<rect x="${short(x)}" y="${short(y)}" width="${short(w)}" height="${short(h)}" fill="${xml(fill)}"/>`);
  }
  frame(x, y, w, h, stroke) {
    this.parts.push(`<rect x="${short(x)}" y="${short(y)}" width="${short(w)}" height="${short(h)}" fill="none" stroke="${xml(stroke)}"/>`);
  }
  path(d, stroke, width, opacity = 1) {
    this.parts.push(`<path d="${d}" fill="none" stroke="${xml(stroke)}" stroke-width="${short(width)}" opacity="${short(opacity)}"/>`);
  }
  text(x, y, text, {size = 11, anchor = 'start', turn = 0, fill, bold = false}) {
    const at = turn ? `transform="translate(${short(x)} ${short(y)}) rotate(${turn})"` : `x="${short(x)}" y="${short(y)}"`;
    this.parts.push(`<text ${at} font-size="${size}" text-anchor="${anchor}" dominant-baseline="central" ` +
                    `fill="${xml(fill)}"${bold ? ' font-weight="600"' : ''}>${xml(text)}</text>`);
  }
  image(canvas, place, clip, smooth) {
    const id = `clip${this.clips++}`;
    const at = ({x, y, w, h}) => `x="${short(x)}" y="${short(y)}" width="${short(w)}" height="${short(h)}"`;
    this.parts.push(`<clipPath id="${id}"><rect ${at(clip)}/></clipPath>`,
      `<image clip-path="url(#${id})" ${at(place)} ` +
      `preserveAspectRatio="none" image-rendering="${smooth ? 'auto' : 'pixelated'}" href="${canvas.toDataURL('image/png')}"/>`);
  }
  end() {
    return `${this.parts.join('\n')}\n</svg>\n`;
  }
}

export function download(name, blob) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
