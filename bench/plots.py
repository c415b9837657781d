# SPDX-License-Identifier: Apache-2.0
"""Line plots as SVG, for the figures in docs/: panels side by side, with one scale and one legend."""
import html

PANEL, GAP, HEIGHT, TOP, LEFT = 220, 30, 240, 40, 60


def _panel(title, places, lines, ticks, left):
    """`places`: the labels along x, evenly spread. `lines`: of each series [colour, {label: value}, name]."""
    highest = ticks[-1]
    x = lambda label: left + (PANEL / 2 if len(places) == 1 else
                              20 + places.index(label) * (PANEL - 40) / (len(places) - 1))
    y = lambda value: TOP + HEIGHT * (1 - value / highest)
    out = [f'<text x="{left + PANEL / 2}" y="{TOP - 16}" text-anchor="middle">{html.escape(title)}</text>']
    for tick in ticks:
        out.append(f'<path d="M{left},{y(tick):.1f}h{PANEL}" stroke="#ddd"/>')
        if left == LEFT:
            out.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    out += [f'<text x="{x(label):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{label}</text>' for label in places]
    for number, (colour, values, name) in enumerate(lines):
        shift = (number - (len(lines) - 1) / 2) * 3  # so that equal ones are all seen
        points = [(x(label) + shift, y(values[label]), label) for label in places if label in values]
        if not points:
            continue
        path = "L".join(f"{across:.1f},{up:.1f}" for across, up, _ in points)
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{across:.1f}" cy="{up:.1f}" r="4.5" fill="{colour}"><title>{html.escape(name)}, {label}: '
                f'{values[label]:g}</title></circle>' for across, up, label in points]
    return out


def line_plot(panels, colours, ticks, caption):
    """The SVG. `panels`: (title, x labels, {series: {x label: value}}) each; `colours`: of each series; `ticks`: from 0 up."""
    width = LEFT + len(panels) * (PANEL + GAP)
    bottom = TOP + HEIGHT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + 70}" font-family="sans-serif" '
           f'font-size="13">', f'<rect width="{width}" height="{bottom + 70}" fill="white"/>']
    for number, (title, places, series) in enumerate(panels):
        lines = [(colour, series.get(name, {}), name) for name, colour in colours.items()]
        out += _panel(title, places, lines, ticks, LEFT + (PANEL + GAP) * number)
    out.append(f'<text x="{width / 2}" y="{bottom + 38}" text-anchor="middle">{html.escape(caption)}</text>')
    for number, (name, colour) in enumerate(colours.items()):
        out.append(f'<circle cx="{20 + 110 * number}" cy="{bottom + 56}" r="5" fill="{colour}"/>'
                   f'<text x="{30 + 110 * number}" y="{bottom + 60}">{html.escape(name)}</text>')
    return "\n".join(out + ["</svg>", ""])
