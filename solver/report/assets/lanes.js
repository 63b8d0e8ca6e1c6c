// Trajectories as lanes: how far each went, when it called a tool, where it stood at the mark, how it ended.

const ENDS = {
  answered: "answered", pruned: "pruned", mark: "at the mark", max_tokens: "out of tokens",
  max_turns: "out of calls", deadline: "out of time", consensus: "not needed", error: "failed",
};

function outcome(lane) {
  if (lane.end === null) return "under way";
  if (lane.a !== null) return lane.a;
  return lane.end === "answered" ? "no answer" : ENDS[lane.end] || lane.end;
}

// Its score at the last mark where it was scored; a trajectory has a score a mark, or null.
function lastScore(lane) {
  return [...lane.scores].reverse().find((score) => score !== null) ?? null;
}

function sentence(lane) {
  const parts = [`trajectory ${lane.i}`, plural(lane.n, "token"), plural(lane.calls.length, "tool call")];
  const score = lastScore(lane);
  if (score !== null) parts.push(`score ${signed(score, 2)}`);
  if (lane.last !== null) parts.push(`last check ${signed(lane.last, 2)}`);
  if (lane.dropped < 0) parts.push("dropped as the cache was full");
  else if (lane.dropped) parts.push(lane.end === "pruned" ? "pruned" : "dropped at a check, finished for the record");
  if (lane.forced !== null) parts.push("made to answer");
  parts.push(lane.a === null ? outcome(lane) : `answered ${lane.a}${lane.ok === null ? "" : lane.ok ? ", right" : ", wrong"}`);
  return parts.join(", ");
}

// Places on the axis, in percent; the last bit is left for the sign at the end.
function scale(lanes, axis) {
  const most = Math.max(1e-9, ...lanes.map((lane) => (axis === "time" ? lane.t[1] : lane.n)));
  const first = axis === "time" ? Math.min(...lanes.map((lane) => lane.t[0])) : 0;
  return { first, most, at: (value) => `${Math.max(0, (97 * (value - first)) / (most - first || 1)).toFixed(2)}%` };
}

function track(lane, axis, { at }, marks) {
  const time = axis === "time";
  const [began, ended] = lane.t;
  const stands = time ? lane.pauses.map(([from]) => from) : marks.filter((mark) => lane.n >= mark);
  const end = time ? ended : lane.n;
  const bar = (from, to, kind) => svg("line", { class: kind, x1: at(from), x2: at(to), y1: 9, y2: 9 });
  const node = svg("svg", { class: "track", width: "100%", height: 18, "aria-hidden": "true" });
  let from = time ? began : 0;
  for (const [paused, resumed] of time ? lane.pauses : []) {
    node.append(bar(from, paused, "bar"));
    if (resumed !== null) node.append(bar(paused, resumed, "pause"));
    from = resumed;
  }
  if (from !== null) node.append(bar(from, end, lane.end === "pruned" ? "bar out" : "bar"));
  for (const place of stands) node.append(svg("line", { class: "at-mark", x1: at(place), x2: at(place), y1: 0, y2: 18 }));
  for (const [tokens, from, to, status] of lane.calls) {
    const kind = status === "ok" ? "call" : "call failed";
    if (time) node.append(svg("line", { class: `${kind} lasting`, x1: at(from), x2: at(to), y1: 9, y2: 9 }));
    node.append(svg("line", { class: kind, x1: at(time ? from : tokens), x2: at(time ? from : tokens), y1: 4, y2: 14 }));
  }
  if (lane.forced !== null && !time) {
    node.append(svg("line", { class: "forced", x1: at(lane.forced), x2: at(lane.forced), y1: 2, y2: 16 }));
  }
  const kind = lane.a !== null ? (lane.ok === false ? "end wrong" : lane.ok ? "end right" : "end") : "end none";
  node.append(svg("circle", { class: lane.end === "error" ? "end wrong" : kind, cx: at(end), cy: 9, r: lane.end === "pruned" ? 2 : 4 }));
  return node;
}

function laneRow(lane, axis, places, marks, open, href) {
  const score = lastScore(lane);
  return el("li", {}, el("a", { class: `lane${lane.dropped ? " out" : ""}`, href, "aria-current": open ? "true" : null, "aria-label": sentence(lane) },
    el("span", { class: "index" }, `#${lane.i}`),
    el("span", { class: "lane-score" }, score === null ? "" : signed(score, 2)),
    track(lane, axis, places, marks),
    el("span", { class: "outcome" }, el("span", { class: lane.a === null ? "soft" : "" }, outcome(lane)), " ", lane.a === null ? null : verdict(lane.ok))));
}

function lanesPanel(page, run, selected, href, redraw) {
  const axis = state.axis;
  const byScore = (a, b) => b.dropped - a.dropped || (lastScore(b) ?? -Infinity) - (lastScore(a) ?? -Infinity) || a.i - b.i;
  const kept = page.lanes.filter((lane) => !lane.dropped).sort((a, b) => a.n - b.n || a.i - b.i);
  const dropped = page.lanes.filter((lane) => lane.dropped).sort(byScore);
  const places = scale(page.lanes, axis);
  const list = (lanes) => el("ol", { class: "lanes" }, lanes.map((lane) =>
    laneRow(lane, axis, places, run.marks, lane.i === selected, href(lane.i))));
  const choice = (value, label) => el("button", { type: "button", class: "chip", "data-axis": value, "aria-pressed": String(axis === value),
    onclick: () => { state.axis = value; redraw(); } }, label);
  const span = axis === "time"
    ? `from the first token to ${duration(places.most - places.first)} later`
    : `from 0 to ${number(places.most)} sampled tokens, ${run.marks.length > 1 ? "marks" : "the mark"} at ${listed(run.marks)}`;
  return el("section", { class: "lanes-panel", "aria-label": "Trajectories" },
    el("div", { class: "controls" }, el("h3", {}, plural(page.lanes.length, "trajectory", "trajectories")),
      el("div", { class: "chips", role: "group", "aria-label": "Axis" }, choice("tokens", "tokens"), choice("time", "time"))),
    el("p", { class: "note" }, `Lanes run ${span}. Ticks are tool calls`, page.lanes.some((lane) => lane.forced !== null) ? ", tall ones forced answers." : "."),
    kept.length ? el("h4", {}, `${plural(kept.length, "went on", "went on")}, the shortest first`) : null, kept.length ? list(kept) : null,
    dropped.length ? el("h4", {}, `${number(dropped.length)} dropped at ${page.checks.length > 1 ? "the checks, the last ones and" : "the check,"} the best score first${
      dropped.some((lane) => lane.dropped < 0) ? ", then those for which the cache was full" : ""}`) : null, dropped.length ? list(dropped) : null);
}
