// Draws the curves of the runs in #data.
"use strict";
(() => {
  const view = { x: "tokens", log: false, zoom: null, hidden: new Set() };
  const axes = { tokens: "tokens", steps: "steps", seconds: "time" };
  const kinds = [
    { key: "loss", title: "Loss", note: "nats per token; dotted: validation", wide: true, format: v => v.toFixed(4), steep: true },
    { key: "grad_norm", title: "Gradient norm", format: v => v.toPrecision(3), from_zero: true, steep: true },
    { key: "lr", title: "Learning rate", format: v => v.toExponential(2), from_zero: true },
    { key: "tokens_per_s", title: "Speed", note: "tokens per second", format: count, from_zero: true },
    { key: "accuracy", title: "Validation accuracy", format: v => (100 * v).toFixed(2) + " %", percent: true },
  ];

  const format_x = value => view.x === "seconds" ? duration(value) : count(value);
  const exact_x = value => view.x === "seconds" ? duration(value) : value.toLocaleString("en") + " " + axes[view.x];

  // Runs of one series have one colour and one button.
  const colour = index => `--color: var(--run-${runs[index].series % 8})`;
  const dashes = ["", "7 3", "2 3", "9 3 2 3"];  // beyond eight runs the colours come again, dashed
  const dash = index => dashes[Math.floor(runs[index].series / 8) % dashes.length];

  function nearest(sorted, value) {
    let low = 0, high = sorted.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] < value) low = middle + 1; else high = middle;
    }
    return low > 0 && value - sorted[low - 1] < sorted[low] - value ? low - 1 : low;
  }

  const shown = () => runs.map((run, index) => ({ ...run, index })).filter(run => !view.hidden.has(run.series) && run.curves.steps.length);
  const curve_of = (run, key) => run.curves[key];
  const points_of = (run, key) => run.validation[key] && run.validation[key].some(v => v !== null) ? run.validation[key] : null;

  function x_range() {
    if (view.zoom) return view.zoom;
    const all = shown().map(run => run.curves[view.x]);
    const high = Math.max(...all.map(x => x[x.length - 1]));
    const first = Math.min(...all.map(x => x[0]));
    return [view.log ? Math.max(first, high * 1e-6) : 0, high];
  }
  // What is drawn decides, but for the outermost raw values and, along a linear axis, the fall of the first steps:
  // neither must flatten the curve.
  function y_range(kind, [from, to]) {
    if (kind.steep && !view.log && !view.zoom) from = 0.02 * to;
    let low = Infinity, high = -Infinity;
    const raw = [];
    const take = v => { if (v !== null) low = Math.min(low, v), high = Math.max(high, v); };
    for (const run of shown()) {
      const x = run.curves[view.x], curve = curve_of(run, kind.key), points = points_of(run, kind.key);
      for (let i = 0; curve && i < x.length; ++i) {
        if (x[i] < from || x[i] > to) continue;
        take(curve.smooth[i]);
        if (curve.low) raw.push(curve.low[i], curve.high[i]);
      }
      for (let i = 0; points && i < points.length; ++i)
        if (run.validation[view.x][i] >= from && run.validation[view.x][i] <= to) take(points[i]);
    }
    if (raw.length) {
      raw.sort((a, b) => a - b);
      take(raw[Math.floor(0.005 * raw.length)]), take(raw[Math.ceil(0.995 * raw.length) - 1]);
    }
    if (low > high) return null;
    if (kind.from_zero) low = Math.min(low, 0);
    const room = 0.05 * (high - low) || 0.05 * Math.abs(high) || 1;
    return [low === 0 ? 0 : low - room, high + room];
  }

  // One plot.
  function draw(chart) {
    const { kind, svg } = chart, runs = shown();
    const width = svg.clientWidth, height = kind.wide ? 390 : 230;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`), svg.setAttribute("height", height);
    chart.x = chart.y = null;
    if (!runs.length || width < 80) return;
    const range = x_range(), values = y_range(kind, range);
    if (!values) return;
    const left = 54, right = width - 14, top = 8, bottom = height - 38;
    const x = chart.x = scale(range[0], range[1], left, right, view.log);
    const y = chart.y = scale(values[0], values[1], bottom, top, false);
    draw_axes(svg, kind, x, y, { left, right, top, bottom });

    const clip = make("clipPath", { id: "clip-" + kind.key }, svg);
    make("rect", { x: left, y: top - 4, width: right - left + 6, height: bottom - top + 4 }, clip);
    const layer = make("g", { "clip-path": `url(#clip-${kind.key})` }, svg);
    for (const run of runs) draw_raw(layer, run, kind, x, y);
    for (const run of runs) draw_smooth(layer, run, kind, x, y);
    chart.cursor = make("g", {}, svg);
    chart.selection = make("rect", { class: "selection", y: top, height: bottom - top, width: 0 }, svg);
    chart.area = { left, right, top, bottom };
  }
  function draw_axes(svg, kind, x, y, { left, right, top, bottom }) {
    const marks_y = ticks(y.low, y.high, (bottom - top) / 40, false);
    for (const v of marks_y) {
      make("line", { class: "grid", x1: left, x2: right, y1: y.to(v), y2: y.to(v) }, svg);
      make("text", { x: left - 8, y: y.to(v) + 4, "text-anchor": "end" }, svg,
           kind.percent ? +(100 * v).toPrecision(3) + " %" : tick_text(v, marks_y));
    }
    make("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }, svg);
    for (const v of ticks(x.low, x.high, Math.max(2, (right - left) / 68), view.log, view.x === "seconds")) {
      make("line", { class: "axis", x1: x.to(v), x2: x.to(v), y1: bottom, y2: bottom + 4 }, svg);
      make("text", { x: x.to(v), y: bottom + 17, "text-anchor": x.to(v) > right - 14 ? "end" : "middle" }, svg, format_x(v));
    }
    make("text", { x: (left + right) / 2, y: bottom + 33, "text-anchor": "middle" }, svg, axes[view.x]);
  }
  const path = points => points.length ? "M" + points.map(([a, b]) => a.toFixed(1) + "," + b.toFixed(1)).join("L") : "";
  function draw_raw(layer, run, kind, x, y) {
    const curve = curve_of(run, kind.key), at = run.curves[view.x];
    if (!curve || !curve.low) return;
    // A band from the least to the largest value; its outline is what is seen where both are the same step's.
    const edge = values => at.map((v, i) => [v, values[i]]).filter(([v]) => !view.log || v > 0).map(([v, value]) => [x.to(v), y.to(value)]);
    make("path", { class: "raw", style: colour(run.index), d: path(edge(curve.high).concat(edge(curve.low).reverse())) }, layer);
  }
  function draw_smooth(layer, run, kind, x, y) {
    const curve = curve_of(run, kind.key), points = points_of(run, kind.key), style = colour(run.index);
    const place = (at, values) => at.map((v, i) => [v, values[i]])
      .filter(([v, value]) => value !== null && (!view.log || v > 0)).map(([v, value]) => [x.to(v), y.to(value)]);
    if (curve)
      make("path", { class: "smooth", style, "stroke-dasharray": dash(run.index), d: path(place(run.curves[view.x], curve.smooth)) }, layer);
    if (!points) return;
    const spots = place(run.validation[view.x], points);
    make("path", { class: "validation", style, d: path(spots) }, layer);
    if (spots.length <= 60) for (const [a, b] of spots) make("circle", { class: "point", style, cx: a, cy: b, r: 3.6 }, layer);
  }

  // The cursor stands at the same place in all plots; the one under the pointer says the values.
  function show_cursor(at, source, event) {
    for (const chart of charts) {
      if (!chart.x) continue;
      chart.cursor.replaceChildren();
      chart.tip.hidden = true;
      if (at === null) continue;
      const { left, right, top, bottom } = chart.area, pixel = chart.x.to(at);
      if (pixel < left || pixel > right) continue;
      make("line", { class: "cursor", x1: pixel, x2: pixel, y1: top, y2: bottom }, chart.cursor);
      const rows = values_at(chart, at);
      for (const row of rows)
        if (row.y >= top && row.y <= bottom)
          make("circle", { class: "cursor-point", style: colour(row.run.index), cx: row.x, cy: row.y, r: 4 }, chart.cursor);
      if (chart === source && rows.length) show_tip(chart, at, rows, pixel, event);
    }
  }
  function values_at(chart, at) {
    const rows = [];
    for (const run of shown()) {
      const curve = curve_of(run, chart.kind.key), points = points_of(run, chart.kind.key);
      const x = curve ? run.curves[view.x] : run.validation[view.x], values = curve ? curve.smooth : points;
      if (!values || !x.length || at > x[x.length - 1] * 1.01) continue;
      const i = nearest(x, at);
      if (values[i] === null) continue;
      const row = { run, x: chart.x.to(x[i]), y: chart.y.to(values[i]), value: values[i], validation: null };
      if (curve && points) {
        const near = nearest(run.validation[view.x], at);
        if (Math.abs(chart.x.to(run.validation[view.x][near]) - chart.x.to(at)) < 7) row.validation = points[near];
      }
      rows.push(row);
    }
    return rows.sort((a, b) => a.y - b.y);
  }
  function show_tip(chart, at, rows, pixel, event) {
    const tip = chart.tip;
    tip.replaceChildren();
    make("b", {}, tip, exact_x(view.x === "seconds" ? at : Math.round(at)));
    const table = make("table", {}, tip);
    for (const row of rows.slice(0, 16)) {
      const line = make("tr", {}, table), name = make("td", {}, line);
      make("i", { class: "swatch", style: colour(row.run.index) }, name);
      name.append(row.run.name);
      make("td", {}, line, chart.kind.format(row.value));
      if (row.validation !== null) make("td", {}, line, "validation " + chart.kind.format(row.validation));
    }
    tip.hidden = false;
    place_tip(tip, chart.svg, pixel, event);
  }
  function follow_pointer(chart) {
    drag_to_zoom(chart.svg, chart, range => { view.zoom = range; redraw(); });
    chart.svg.addEventListener("pointermove", event => {
      if (!chart.x) return;
      const { left, right } = chart.area, pixel = event.clientX - chart.svg.getBoundingClientRect().left;
      show_cursor(chart.x.from(Math.max(left, Math.min(right, pixel))), chart, event);
    });
    chart.svg.addEventListener("pointerleave", () => show_cursor(null));
  }

  // The bar above.
  function button(parent, text, on_click) {
    const node = make("button", { type: "button", "aria-pressed": "false" }, parent, text);
    node.addEventListener("click", on_click);
    return node;
  }
  const buttons = {};
  for (const [name, text] of Object.entries(axes))
    buttons[name] = button(document.getElementById("x-axis"), text, () => { view.x = name; view.zoom = null; redraw(); });
  const log_x = document.getElementById("log-x"), reset = document.getElementById("reset");
  log_x.addEventListener("click", () => { view.log = !view.log; view.zoom = null; redraw(); });
  reset.addEventListener("click", () => { view.zoom = null; redraw(); });
  const heads = runs.map((run, index) => index).filter(i => runs.findIndex(run => run.series === runs[i].series) === i);
  const legend = heads.map(index => {
    const { series, series_name } = runs[index];
    const node = button(document.getElementById("legend"), "", () => {
      if (!view.hidden.delete(series)) view.hidden.add(series);
      redraw();
    });
    const sample = make("svg", { width: 20, height: 10 }, node);
    make("path", { class: "smooth", style: colour(index) + "; stroke-width: 3", d: "M0,5L20,5", "stroke-dasharray": dash(index) }, sample);
    make("span", {}, node, series_name);
    node.title = series_name;
    return { node, series };
  });

  function redraw() {
    for (const [name, node] of Object.entries(buttons)) node.setAttribute("aria-pressed", name === view.x);
    log_x.setAttribute("aria-pressed", view.log);
    legend.forEach(({ node, series }) => node.setAttribute("aria-pressed", !view.hidden.has(series)));
    reset.hidden = !view.zoom;
    charts.forEach(draw);
  }

  if (!runs.some(run => run.curves.steps.length)) return;
  document.getElementById("curves").hidden = false;
  const charts = kinds.filter(kind => runs.some(run => curve_of(run, kind.key) || points_of(run, kind.key))).map(kind => {
    const figure = make("figure", kind.wide ? { class: "wide" } : {}, document.getElementById("charts"));
    const caption = make("figcaption", {}, figure, kind.title);
    if (kind.note) make("small", {}, caption, kind.note);
    const svg = make("svg", { role: "img", "aria-label": kind.title }, figure);
    const tip = make("div", { class: "tip" }, figure);
    tip.hidden = true;
    return { kind, svg, tip, x: null };
  });
  charts.forEach(follow_pointer);
  if (charts.length === 5) document.getElementById("charts").classList.add("pairs");
  new ResizeObserver(redraw).observe(document.getElementById("charts"));
})();
