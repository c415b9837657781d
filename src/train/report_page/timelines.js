// Draws one step of each run that has a trace: a row a rank, what it did above and what was on its way below.
"use strict";
(() => {
  // In the order of the legend; the first that the name begins with counts.
  const kinds = [
    ["forward", "forward", "--run-0"], ["backward_input", "input gradients", "--run-1"],
    ["backward_weight", "weight gradients", "--run-4"], ["backward", "backward", "--run-1"],
    ["optimizer", "optimizer", "--run-2"], ["validation", "validation", "--run-3"], ["wait", "waiting", "--wait"],
    ["send", "send", "--run-5"], ["receive", "receive", "--run-7"], ["reduce", "reduce", "--run-2"], ["gather", "gather", "--run-3"],
    ["", "other", "--run-6"],
  ];
  const kind_of = name => kinds.findIndex(([begin]) => name.startsWith(begin));
  const time = micros => micros === 0 ? "0" : micros < 1e3 ? Math.round(micros) + " µs" : micros < 1e6 ? +(micros / 1e3).toPrecision(4) + " ms" : +(micros / 1e6).toPrecision(4) + " s";
  const row_height = 22, lane_height = 6, gap = 10;

  function draw(figure) {
    const { trace, svg, spots } = figure, width = svg.clientWidth;
    svg.replaceChildren();
    spots.clear();
    if (width < 160) return;
    const left = 74, right = width - 14, [from, to] = figure.zoom || [0, trace.length];
    const x = figure.x = scale(from, to, left, right);
    let y = 4;
    const boxes = make("g", {}, svg);
    for (const rank of trace.ranks) {
      make("text", { x: left - 10, y: y + row_height / 2 + 4, "text-anchor": "end" }, svg, "rank " + rank.rank);
      draw_spans(figure, boxes, rank, y, left, right);
      const lanes = Math.max(0, ...rank.transfers.map(t => t[3]));
      y += row_height + lanes * lane_height + gap;
    }
    const bottom = y - gap / 2;
    for (const v of ticks(from, to, Math.max(2, (right - left) / 80))) {
      const at = x.to(v);
      svg.prepend(make("line", { class: "grid", x1: at, x2: at, y1: 0, y2: bottom }));
      make("text", { x: at, y: bottom + 16, "text-anchor": at > right - 20 ? "end" : "middle" }, svg, time(v));
    }
    make("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }, svg);
    figure.selection = make("rect", { class: "selection", y: 0, height: bottom, width: 0 }, svg);
    figure.area = { left, right };
    svg.setAttribute("height", bottom + 22);
  }
  function draw_spans(figure, boxes, rank, y, left, right) {
    const { trace, x, spots } = figure;
    const box = (span, top, height, opacity) => {
      const a = Math.max(left, x.to(span[1])), b = Math.min(right, x.to(span[1] + span[2]));
      if (b <= left || a >= right || b - a < 0.2) return null;
      const kind = kinds[kind_of(trace.names[span[0]])];
      const node = make("rect", { class: "span", style: `fill: var(${kind[2]})`, x: a.toFixed(1), y: top, height, width: Math.max(0.5, b - a).toFixed(1), opacity }, boxes);
      spots.set(node, { rank, span });
      return { middle: (a + b) / 2, width: b - a };
    };
    for (const span of rank.spans) {
      const [, , , microbatch, piece] = span;
      // A rank's pieces of the model are shades of one colour.
      const placed = box(span, y, row_height, piece ? Math.max(0.4, 1 - 0.3 * piece) : 1);
      if (placed && microbatch !== undefined && placed.width > 8 + 6 * String(microbatch).length)
        make("text", { class: "inside", x: placed.middle, y: y + row_height / 2 + 4, "text-anchor": "middle" }, boxes, microbatch);
    }
    for (const span of rank.transfers) box(span, y + row_height + 1 + (span[3] - 1) * lane_height, lane_height - 1, 1);
  }

  function say(figure, { rank, span }, event) {
    const { trace, tip, svg } = figure, [name, begin, length, number, second] = span, transfer = rank.transfers.includes(span);
    tip.replaceChildren();
    make("b", {}, tip, trace.names[name].replaceAll("_", " "));
    const table = make("table", {}, tip);
    const line = (key, value) => { const row = make("tr", {}, table); make("td", {}, row, key), make("td", {}, row, value); };
    line("rank", `${rank.rank} (stage ${rank.stage})`);
    const microbatch = transfer ? second : number;
    if (microbatch >= 0) line("microbatch", microbatch);
    if (!transfer && second > 0) line("piece", second);
    line("began at", time(begin)), line("took", time(length));
    tip.hidden = false;
    place_tip(tip, svg, event.clientX - svg.getBoundingClientRect().left, event);
  }
  function follow_pointer(figure) {
    const { svg, tip, spots } = figure;
    drag_to_zoom(svg, figure, range => { figure.zoom = range; draw(figure); });
    svg.addEventListener("pointermove", event => {
      const found = spots.get(event.target);
      if (found) say(figure, found, event); else tip.hidden = true;
    });
    svg.addEventListener("pointerleave", () => tip.hidden = true);
  }

  for (const place of document.querySelectorAll(".trace")) {
    const { trace } = runs[place.dataset.run];
    if (!trace) continue;
    const node = make("figure", { class: "wide" });
    place.insertBefore(node, place.querySelector(".table"));
    const caption = make("figcaption", {}, node, "Step " + trace.step);
    const drawn = trace.ranks.length < trace.all_ranks ? `; ${trace.ranks.length} of ${trace.all_ranks} ranks` : "";
    make("small", {}, caption, "numbers: microbatches; narrow bars below: communication" + drawn);
    const legend = make("div", { class: "legend" }, node), there = new Set(trace.names.map(kind_of));
    kinds.forEach(([, title, colour], index) => {
      if (!there.has(index)) return;
      const item = make("span", {}, legend);
      make("i", { class: "swatch", style: `--color: var(${colour})` }, item);
      item.append(title);
    });
    const svg = make("svg", { role: "img", "aria-label": "What each rank did in step " + trace.step }, node);
    const tip = make("div", { class: "tip" }, node);
    tip.hidden = true;
    const figure = { trace, svg, tip, zoom: null, spots: new Map() };
    follow_pointer(figure);
    new ResizeObserver(() => draw(figure)).observe(node);
  }
})();
