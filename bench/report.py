# SPDX-License-Identifier: Apache-2.0
"""What compare.py found, for people: Markdown tables and a roofline plot."""

import math

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def markdown_table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def seconds(value):
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def spread(value, form):
    return f"{form(value['median'])} ({form(value['least'])} – {form(value['most'])})"


def times(value):
    return f"{value:.2f}x" if value < 10 else f"{value:.1f}x"


def comparison_table(problems):
    """One row a side; the ratio says how many times longer than attngraph it took."""
    rows = []
    for problem in problems:
        for side in problem["sides"]:
            ratio = side.get("ratio")
            rows.append(
                [
                    problem["title"],
                    side["name"],
                    spread(side["time"], seconds),
                    f"{problem['scores'] / side['time']['median'] / 1e9:.3f}",
                    spread(ratio, times) if ratio else "1",
                    side["answer"],
                    side["facts"],
                ]
            )
        rows += [[problem["title"], name, "skipped", "–", "–", "–", why] for name, why in problem["skipped"].items()]
    header = ["problem", "side", "time: median (least – most)", "10⁹ scores/s"]
    header += ["times longer: median (least – most)", "answer", "set-up"]
    return markdown_table(header, rows)


def roofline_svg(fma, exp2, points):
    """Scores per second over D: the limits that products and exponentials set, and where each side stands.

    fma, exp2: rates per second. points: (side, D, scores per second)."""
    width, height, left, bottom = 720, 440, 70, 60
    d_low, d_high = 16, 512
    highest = max([exp2, *(rate for _, _, rate in points)]) * 2
    lowest = min([fma / 2 / d_high / 8, *(rate for _, _, rate in points)]) / 2

    def x(d):
        return left + (width - left - 190) * math.log(d / d_low) / math.log(d_high / d_low)

    def y(rate):
        return height - bottom - (height - bottom - 30) * math.log(rate / lowest) / math.log(highest / lowest)

    def line(rate_of, dash):
        dims = [d_low * (d_high / d_low) ** (n / 48) for n in range(49)]
        path = " ".join(f"{x(d):.1f},{y(rate_of(d)):.1f}" for d in dims)
        return f'<polyline points="{path}" fill="none" stroke="#555" stroke-width="1.5" stroke-dasharray="{dash}"/>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="18" font-size="14">Scores per second against the limits of one core</text>',
    ]
    for d in (16, 32, 64, 128, 256, 512):
        parts.append(f'<line x1="{x(d):.1f}" x2="{x(d):.1f}" y1="30" y2="{height - bottom}" stroke="#e5e5e5"/>')
        parts.append(f'<text x="{x(d):.1f}" y="{height - bottom + 18}" text-anchor="middle">{d}</text>')
    for power in range(math.ceil(math.log10(lowest)), math.floor(math.log10(highest)) + 1):
        parts.append(
            f'<line x1="{left}" x2="{x(d_high):.1f}" y1="{y(10**power):.1f}" y2="{y(10**power):.1f}" stroke="#e5e5e5"/>'
        )
        parts.append(f'<text x="{left - 8}" y="{y(10**power) + 4:.1f}" text-anchor="end">1e{power}</text>')
    middle = (left + x(d_high)) / 2
    parts.append(f'<text x="{middle:.1f}" y="{height - bottom + 38}" text-anchor="middle">head size D</text>')
    legend, limits = x(d_high) + 16, {
        "products alone": (lambda d: fma / (2 * d), ""),
        "2^x alone": (lambda d: exp2, "6 4"),
        "one after the other": (lambda d: 1 / (2 * d / fma + 1 / exp2), "2 3"),
    }  # fmt: skip
    row = 40
    for label, (rate_of, dash) in limits.items():
        parts.append(line(rate_of, dash))
        parts.append(f'<path d="M{legend} {row}h24" stroke="#555" stroke-width="1.5" stroke-dasharray="{dash}"/>')
        parts.append(f'<text x="{legend + 32}" y="{row + 4}">{label}</text>')
        row += 18
    sides = list(dict.fromkeys(side for side, _, _ in points))
    for n, side in enumerate(sides):
        colour = COLOURS[n % len(COLOURS)]
        aside = 7 * (n - (len(sides) - 1) / 2)  # sides stand beside each other, not on each other
        for _, d, rate in (point for point in points if point[0] == side):
            parts.append(f'<circle cx="{x(d) + aside:.1f}" cy="{y(rate):.1f}" r="3.5" fill="{colour}"/>')
        parts.append(f'<circle cx="{legend + 12}" cy="{row}" r="3.5" fill="{colour}"/>')
        parts.append(f'<text x="{legend + 32}" y="{row + 4}">{side}</text>')
        row += 18
    return "\n".join([*parts, "</svg>", ""])
