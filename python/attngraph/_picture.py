# SPDX-License-Identifier: Apache-2.0
"""What static pictures are made of: the viewer's colours, PNG images, SVG elements, files."""

from __future__ import annotations

import base64
import os
import re
import struct
import zlib
from html import escape

import numpy as np

from ._optional import optional
from .errors import ArgumentError

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
INK, QUIET, LINE, HAIR = "#18202b", "#5c6878", "#d9e0e8", "#edf1f5"
# The viewer's, viewer/js/colours.js: lightness changes evenly, and no red has to be told from a green.
STOPS = ("#cfe3f5", "#93c3e1", "#559dcd", "#2b73b3", "#254a91", "#30235f", "#1e0d33")


def _ramp():
    stops = np.array([[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in STOPS], float)
    at = np.clip((np.arange(256) - 1) / 254, 0, 1) * (len(stops) - 1)
    below = np.minimum(at.astype(int), len(stops) - 2)
    colours = np.rint(stops[below] + (at - below)[:, None] * (stops[below + 1] - stops[below])).astype(np.uint8)
    colours[0] = 255  # nothing
    return colours


RAMP = _ramp()  # [256, 3]; 0 is white: no edge


def codes(values, high=1.0):
    """Places in the ramp: 0 for nothing, otherwise by the square root of the value."""
    values = np.asarray(values, float)
    scaled = np.clip(np.ceil(255 * np.sqrt(np.maximum(values, 0) / high)), 1, 255)
    return np.where(values > 0, scaled, 0).astype(np.uint8)


def colour(value, high=1.0):
    return "#%02x%02x%02x" % tuple(RAMP[int(codes(value, high))])


def ink_on(value, high=1.0):
    """Black or white, whichever can be read on the colour of a value."""
    share = RAMP[int(codes(value, high))] / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return "#000000" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "#ffffff"


def png(pixels):
    """The bytes of a PNG file of codes [rows, columns], with the ramp as its palette."""
    pixels = np.ascontiguousarray(pixels, np.uint8)
    rows, columns = pixels.shape

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = np.concatenate([np.zeros((rows, 1), np.uint8), pixels], axis=1).tobytes()  # filter 0 before every line
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", RAMP.tobytes()),
            chunk(b"IDAT", zlib.compress(lines, 9)),
            chunk(b"IEND", b""),
        ]
    )


def image(pixels, x, y, width, height):
    """An SVG element that shows codes as a picture."""
    data = base64.b64encode(png(pixels)).decode()
    return (
        f'<image x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" preserveAspectRatio="none" '
        f'image-rendering="pixelated" href="data:image/png;base64,{data}"/>'
    )


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNSAFE = re.compile("[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\x7f-\x9f]")


def text(x, y, words, size=11, anchor="start", turn=0, fill=INK, bold=False):
    """An SVG element with escaped text whose middle stands at y."""
    place = f'transform="translate({x:.2f} {y:.2f}) rotate({turn})"' if turn else f'x="{x:.2f}" y="{y:.2f}"'
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text {place} font-size="{size:g}" text-anchor="{anchor}" dominant-baseline="central" fill="{fill}"{weight}>'
        f"{escape(_NOT_XML.sub(chr(0xFFFD), words))}</text>"
    )


def label(word, limit=14):
    """A token on one line: without the space before it, line ends shown, long ones cut."""
    word = word.replace("\u0120", " ").replace("\u010a", "\n").replace("\u2581", " ")
    word = word.replace("\n", "⏎").replace("\r", "").replace("\t", "⇥").strip() or "␣"
    word = _UNSAFE.sub(chr(0xFFFD), word)
    return word if len(word) <= limit else word[: limit - 1] + "…"


def weight_text(weight):
    return f"{weight:.2f}" if weight >= 0.0995 else f"{weight:.3f}" if weight >= 0.00095 else f"{weight:.1e}"


class Picture:
    """A picture that is complete of itself: shown by notebooks, written by `save`.

    Examples
    --------
    >>> import attngraph as ag
    >>> ag.from_matrix([[1.0, 0.0], [0.25, 0.75]]).plot().svg()[:4]
    '<svg'
    """

    def __init__(self, width, height, title, parts):
        self.width, self.height, self.title = width, height, title
        self._parts = parts

    def __repr__(self) -> str:
        return f"<attngraph.Picture: {self.title}, {self.width:.0f} x {self.height:.0f}>"

    def svg(self) -> str:
        """The picture as SVG text."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'width="{self.width:g}" height="{self.height:g}" role="img" font-family="{escape(FONT)}">'
        )
        title = f"<title>{escape(_NOT_XML.sub(chr(0xFFFD), self.title))}</title>"
        return (
            "\n".join(
                [
                    head,
                    title,
                    f'<rect width="{self.width:g}" height="{self.height:g}" fill="#ffffff"/>',
                    *self._parts,
                    "</svg>",
                ]
            )
            + "\n"
        )

    def png(self, scale: float = 2.0) -> bytes:
        """The picture as the bytes of a PNG file; needs the package vl-convert-python."""
        return optional("vl_convert", "a picture as PNG", "vl-convert-python").svg_to_png(self.svg(), scale=scale)

    def save(self, path: str | os.PathLike[str], scale: float = 2.0) -> None:
        """Write it to a file, .svg or .png by its suffix; .png needs the package vl-convert-python."""
        kind = os.path.splitext(os.fspath(path))[1].lower()
        if kind not in (".svg", ".png"):
            raise ArgumentError(f"the name ends with {kind!r}; a picture is .svg or .png")
        data = self.svg().encode() if kind == ".svg" else self.png(scale)
        with open(path, "wb") as file:
            file.write(data)

    def _repr_svg_(self) -> str:
        return self.svg()
