// What the drawings of the page share. Everything that came from a run is a number, or goes in as text, never as HTML.
"use strict";
const runs = JSON.parse(document.getElementById("data").textContent);

// Numbers for people.
function count(value) {
  const units = ["", "k", "M", "B", "T"];
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit + 1 < units.length) value /= 1000, ++unit;
  return +value.toPrecision(3) + units[unit];
}
function duration(seconds) {
  if (seconds < 60) return +seconds.toPrecision(2) + "s";
  const [big, small, per, unit] = seconds < 3600 ? ["m", "s", 60, 1] : seconds < 86400 ? ["h", "m", 60, 60] : ["d", "h", 24, 3600];
  const whole = Math.round(seconds / unit), rest = whole % per;
  return Math.floor(whole / per) + big + (rest ? String(rest).padStart(2, "0") + small : "");
}

// DOM
function make(tag, attributes, parent, text) {
  const svg = ["svg", "g", "path", "line", "rect", "circle", "text", "clipPath"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

// Scales: value to pixel and back, and round values to mark.
function scale(low, high, from, to, log) {
  const f = log ? Math.log : v => v, inverse = log ? Math.exp : v => v;
  const a = f(low), b = f(high) > f(low) ? f(high) : f(low) + 1;
  return { low, high, to: v => from + (f(v) - a) / (b - a) * (to - from),
           from: pixel => inverse(a + (pixel - from) / (to - from) * (b - a)) };
}
function ticks(low, high, about, log, time) {
  const out = [], within = v => v >= low * 0.999 && v <= high * 1.001;
  if (log && time && high / low > 30) return [0.1, 1, 10, 60, 600, 3600, 36000, 86400, 864000, 8640000].filter(within);
  if (log && high / low > 8) {
    const digits = high / low > 1e3 ? [1] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); ++power)
      for (const digit of digits) out.push(digit * 10 ** power);
    return out.filter(within);
  }
  const least = (high - low) / about;
  const clock = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
  let step = time && least > 30 && least <= 86400 ? clock.find(s => s >= least) : 0;
  if (!step) {
    const power = 10 ** Math.floor(Math.log10(least));
    step = power * [1, 2, 5, 10].find(d => d * power >= least * 0.999);
  }
  // Bounded, for where the ends are so close that i + 1 is i.
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9 && out.length < 1000; ++i) out.push(i * step);
  return out;
}
function tick_text(value, all) {
  const largest = Math.max(...all.map(Math.abs)), step = all.length > 1 ? Math.abs(all[1] - all[0]) : largest;
  if (value === 0) return "0";
  if (largest >= 1e4) return count(value);
  if (largest < 1e-2) return value.toExponential(all.every(v => v.toExponential(1).includes(".0e")) ? 0 : 1);
  return value.toFixed(Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9))));
}

// A tip beside the pointer, within its figure.
function place_tip(tip, svg, pixel, event) {
  const box = svg.getBoundingClientRect(), figure = tip.parentNode.getBoundingClientRect();
  const beyond = pixel + 16 + tip.offsetWidth > box.width;
  const x = pixel + (beyond ? -16 - tip.offsetWidth : 16), y = Math.min(event.clientY - box.top, box.height - tip.offsetHeight - 30);
  tip.style.left = Math.max(4, box.left - figure.left + x) + "px";
  tip.style.top = box.top - figure.top + Math.max(0, y) + "px";
}

// Dragging across a drawing gives the range of values to show, a double click null: everything. `drawing` has x, the
// scale, selection, a rectangle, and area, its left and right; x may be null where nothing is drawn.
function drag_to_zoom(svg, drawing, zoom) {
  let start = null;
  const place = event => Math.max(drawing.area.left, Math.min(drawing.area.right, event.clientX - svg.getBoundingClientRect().left));
  const select = (a, b) => {
    drawing.selection.setAttribute("x", Math.min(a, b));
    drawing.selection.setAttribute("width", Math.abs(a - b));
  };
  svg.addEventListener("pointermove", event => { if (start !== null && drawing.x) select(start, place(event)); });
  svg.addEventListener("pointerdown", event => {
    if (!drawing.x || event.button !== 0 || event.pointerType === "touch") return;
    start = place(event);
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointerup", event => {
    if (start === null) return;
    const [a, b] = [start, place(event)].sort((p, q) => p - q);
    start = null;
    select(0, 0);
    if (b - a > 6) zoom([drawing.x.from(a), drawing.x.from(b)]);
  });
  svg.addEventListener("dblclick", () => zoom(null));
}
