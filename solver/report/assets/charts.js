// Charts are drawn anew whenever their room changes, so that their text keeps its size.

function figure(title, note, height, draw, numbers) {
  const room = el("div", { class: "plot" });
  const redraw = () => {
    const width = Math.round(room.clientWidth);
    if (width > 60) room.replaceChildren(draw(width, height));
  };
  new ResizeObserver(redraw).observe(room);
  return el("figure", {},
    el("figcaption", {}, el("h3", {}, title), el("p", {}, note)),
    room,
    numbers && el("details", {}, el("summary", {}, "Numbers"), table(numbers)));
}

function table([head, ...rows]) {
  const cells = (tag, row) => el("tr", {}, row.map((cell) =>
    el(tag, tag === "th" ? { scope: "col" } : {}, cell)));
  return el("div", { class: "scroll" }, el("table", { class: "numbers" },
    el("thead", {}, cells("th", head)), el("tbody", {}, rows.map((row) => cells("td", row)))));
}

function ticks(low, high, count) {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => span / s <= count) || span;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * span; k += 1) {
    found.push(k * step || 0);
  }
  return found;
}

// A frame with axes; x and y turn values into places.
function frame(label, width, height, xs, ys, options = {}) {
  const left = 48, right = 12, top = 10, bottom = 34;
  const [x0, x1] = xs, [y0, y1] = ys;
  const x = (v) => left + ((v - x0) / (x1 - x0 || 1)) * (width - left - right);
  const y = (v) => height - bottom - ((v - y0) / (y1 - y0 || 1)) * (height - top - bottom);
  const showX = options.showX || ((v) => number(v)), showY = options.showY || ((v) => number(v));
  const node = svg("svg", { width, height, role: "img", "aria-label": label });
  for (const v of ticks(y0, y1, 4)) {
    node.append(
      svg("line", { class: "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }),
      svg("text", { class: "tick", x: left - 6, y: y(v) + 4, "text-anchor": "end" }, showY(v)));
  }
  for (const v of ticks(x0, x1, Math.max(2, Math.floor(width / 90)))) {
    node.append(svg("text",
      { class: "tick", x: x(v), y: height - bottom + 16, "text-anchor": "middle" }, showX(v)));
  }
  node.append(
    svg("line", { class: "axis", x1: left, x2: width - right, y1: y(y0), y2: y(y0) }),
    svg("text", { class: "tick", x: width - right, y: height - 4, "text-anchor": "end" },
      options.xLabel || ""));
  return { node, x, y, left, right: width - right };
}

const path = (points) => points.map(([x, y], k) => `${k ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
const extent = (values) => [Math.min(...values), Math.max(...values)];

function curveChart(runs) {
  const drawn = runs.map((run, k) => [run, k]).filter(([run]) => run.curve.length > 1);
  if (!drawn.length) return null;
  const [least, most] = extent(drawn.flatMap(([run]) => run.curve.map((p) => p[0])));
  const pad = (most - least) * 0.04;
  const draw = (width, height) => {
    const { node, x, y } = frame("Accuracy against sampled tokens a problem", width, height,
      [least - pad, most + pad], [0, 1], { showY: (v) => percent(v, 0), xLabel: "sampled tokens a problem" });
    for (const [run, k] of drawn) {
      const band = [...run.curve.map((p) => [x(p[0]), y(p[3])]),
        ...run.curve.map((p) => [x(p[0]), y(p[2])]).reverse()];
      const last = run.curve[run.curve.length - 1];
      node.append(
        svg("path", { class: `band run${k}`, d: `${path(band)}Z` }),
        svg("path", { class: `line run${k}`, d: path(run.curve.map((p) => [x(p[0]), y(p[1])])) }),
        svg("circle", { class: `dot run${k}`, cx: x(last[0]), cy: y(last[1]), r: 4 }));
    }
    return node;
  };
  const rows = drawn.flatMap(([run]) => run.curve.map((p) =>
    [run.name, number(p[0]), percent(p[1]), `${percent(p[2])} to ${percent(p[3])}`]));
  return figure("Accuracy against tokens",
    "The vote of what had been said, had every trajectory been cut off after fewer tokens. Band: 95 % interval.",
    260, draw, [["run", "tokens a problem", "right", "interval"], ...rows]);
}

// Scores of different scorers are different things: each has a picture of its own.
function scoreCharts(runs) {
  const drawn = runs.flatMap((run, k) => run.judges.filter((judge) => judge.bins.length > 1)
    .map((judge) => [judge, k, run.name]));
  const several = runs.some((run) => run.marks.length > 1);
  const name = (judge) => (several && !judge.end ? `${judge.scorer} at ${number(judge.mark)} tokens` : judge.scorer);
  return [...new Set(drawn.map(([judge]) => name(judge)))].map((said) =>
    scoreChart(drawn.filter(([judge]) => name(judge) === said), said));
}

function scoreChart(drawn, scorer) {
  let [low, high] = extent(drawn.flatMap(([judge]) => judge.bins.map((b) => b[1])));
  const { link } = drawn[0][0];
  if (link === "share") [low, high] = [0, 1];
  const pad = (high - low) * 0.05 || 0.5;
  const expected = { logit: (v) => 1 / (1 + Math.exp(-v)), share: (v) => v }[link];
  const draw = (width, height) => {
    const { node, x, y } = frame("Share of trajectories that ended right, by score", width, height,
      [low - pad, high + pad], [0, 1],
      { showX: (v) => String(+v.toPrecision(3)), showY: (v) => percent(v, 0), xLabel: `score at the ${drawn[0][0].end ? "end" : "mark"}` });
    if (expected) {
      const steps = Array.from({ length: 61 }, (_, k) => low + ((high - low) * k) / 60);
      node.append(svg("path", { class: "ideal", d: path(steps.map((v) => [x(v), y(expected(v))])) }));
    }
    for (const [judge, k] of drawn) {
      const largest = Math.max(...judge.bins.map((b) => b[6]));
      for (const [, mean, , share, from, to, count] of judge.bins) {
        node.append(
          svg("line", { class: `whisker run${k}`, x1: x(mean), x2: x(mean), y1: y(from), y2: y(to) }),
          svg("circle", { class: `dot run${k}`, cx: x(mean), cy: y(share), r: 2.5 + 3 * Math.sqrt(count / largest) }));
      }
    }
    return node;
  };
  const known = drawn.reduce((sum, [judge]) => sum + judge.scored[0], 0);
  const scored = drawn.reduce((sum, [judge]) => sum + judge.scored[1], 0);
  const note = `${scorer}: ${number(known)} of ${number(scored)} scored trajectories ended by themselves` +
    `${known < scored ? "; the others were pruned or cut short, and nobody knows" : ""}.` +
    `${expected ? " Dashed: what the scores claim." : ""}`;
  const rows = drawn.flatMap(([judge, , name]) => judge.bins.map((b) => [name, b[0].toFixed(3), b[2].toFixed(3),
    percent(b[3]), `${percent(b[4])} to ${percent(b[5])}`, number(b[6])]));
  return figure("Did the scores know?", note, 260, draw,
    [["run", "score from", "to", "ended right", "interval", "trajectories"], ...rows]);
}

function timeChart(runs) {
  const drawn = runs.map((run, k) => [run, k]).filter(([run]) => run.columns.length > 1);
  if (!drawn.length) return null;
  const end = Math.max(...drawn.map(([run]) => Math.max(run.numbers.elapsed, run.limit || 0)));
  const total = Math.max(...drawn.map(([run]) => run.total));
  const walked = (run) => {
    let done = 0;
    return [[run.columns[0][0], 0], ...run.columns.map((c) => [c[1], (done += c[4])])];
  };
  const draw = (width, height) => {
    const { node, x, y } = frame("Problems solved over time", width, height, [0, end], [0, total],
      { showX: duration, xLabel: "since the start" });
    for (const [run, k] of drawn) {
      if (run.limit) {
        node.append(svg("path", { class: `ideal run${k}`, d: path([[x(0), y(0)], [x(run.limit), y(run.total)]]) }));
      }
      node.append(svg("path", { class: `line run${k}`, d: path(walked(run).map(([t, n]) => [x(t), y(n)])) }));
    }
    return node;
  };
  const notes = drawn.map(([run]) => {
    const head = runs.length > 1 ? `${run.name}: ` : "";
    if (!run.limit) return `${head}no time limit, ${duration(run.numbers.elapsed)} used.`;
    const banked = run.limit * (run.numbers.solved / run.total) - run.numbers.elapsed;
    return `${head}${duration(run.numbers.elapsed)} of ${duration(run.limit)} used, ` +
      `${duration(Math.abs(banked))} ${banked >= 0 ? "banked" : "behind"} against the even pace (dashed).`;
  });
  return figure("Time used and banked", notes.join(" "), 220, draw);
}

function columnChart(run, place) {
  if (run.columns.length < 2) return null;
  const most = Math.max(...run.columns.map((c) => c[2])) * 1.15 || 1;
  const grouped = run.columns.some((c) => c[4] > 1);
  const allotted = run.columns.some((c) => c[3] !== null);
  const draw = (width, height) => {
    const count = run.columns.length;
    const { node, x, y } = frame("Seconds used for each problem", width, height, [0, count], [0, most],
      { showX: () => "", showY: (v) => `${+v.toPrecision(3)} s`, xLabel: "problems, in the order of their answers" });
    const wide = Math.max(1, (x(1) - x(0)) * 0.7);
    run.columns.forEach(([, , used, given], k) => {
      const middle = x(k + 0.5);
      node.append(svg("rect", { class: `column run${place}`, x: middle - wide / 2, width: wide,
        y: y(used), height: Math.max(0, y(0) - y(used)) }));
      if (given !== null && given <= most) {
        node.append(svg("line", { class: "given", x1: middle - wide / 2, x2: middle + wide / 2,
          y1: y(given), y2: y(given) }));
      }
    });
    return node;
  };
  const beyond = run.columns.filter((c) => c[3] !== null && c[3] > most).length;
  const note = `Seconds a problem${grouped ? ", means of neighbours" : ""}.` +
    `${allotted ? ` Line: what it was allotted${beyond ? `, above the picture for ${beyond === run.columns.length ? "all" : number(beyond)} of them` : ""}.` : ""}`;
  const rows = run.columns.map((c, k) => [number(k + 1), number(c[4]), duration(c[0]), c[2].toFixed(2),
    c[3] === null ? "no limit" : c[3].toFixed(2)]);
  return figure("Time of each problem", note, 220, draw,
    [["place", "problems", "began", "seconds used", "allotted"], ...rows]);
}
