// One trajectory, read from top to bottom: what it wrote, what it ran, what came back.

function step(one, context) {
  const text = (list) => pieces(list || [], context);
  if (one.k === "said") return el("div", { class: "said" }, text(one.x));
  if (one.k === "ids") {
    return el("p", { class: "note" }, one.n ? `${plural(one.n, "token")} without text: journal line ${number(one.line)}. ` : null, text(one.x));
  }
  if (one.k === "code") {
    return el("div", { class: "code" }, el("p", { class: "tag" }, "python"), el("pre", { tabindex: "0" }, el("code", {}, text(one.x))));
  }
  if (one.k === "forced") {
    return el("div", { class: "said put" }, el("p", { class: "tag" }, "begun for it: time or tokens were short"), text(one.x));
  }
  const empty = !one.x.length && !one.err.length;
  return el("div", { class: one.st === "ok" ? "output" : "output failed" },
    el("p", { class: "tag" }, `output · ${one.st} · ${duration(one.s)} · journal line ${number(one.line)}`),
    empty ? el("p", { class: "note" }, "nothing was printed")
      : el("pre", { tabindex: "0" }, text(one.x), one.err.length ? el("span", { class: "stderr" }, text(one.err)) : null));
}

function tracePanel(page, run, selected) {
  const lane = page.lanes.find((one) => one.i === selected);
  if (!lane) return el("section", { class: "trace" }, el("p", { class: "note" }, "Choose a trajectory to read it."));
  const said = (score) => (score === null || score === undefined ? "" : `, score ${signed(score, 3)}`);
  const last = lane.last === null ? "" : `, last check ${signed(lane.last, 3)}`;
  const fate = (k) => {
    if (lane.dropped < 0 && k + 1 === lane.pauses.length) return ", dropped as the cache was full";
    return k >= page.checks.length ? "" : lane.dropped === k + 1 ? ", dropped" : ", kept";
  };
  const context = { marks: run.marks.map((mark, k) => `the mark: ${number(mark)} tokens${said(lane.scores[k])}${fate(k)}`) };
  const end = lane.end === null ? "It is under way."
    : lane.a !== null ? ["It answered ", el("b", {}, lane.a), " ", verdict(lane.ok), "."]
      : `It ended: ${lane.end === "answered" ? "no answer could be read" : ENDS[lane.end] || lane.end}.`;
  return el("section", { class: "trace", "aria-label": `Trace of trajectory ${lane.i}` },
    el("h3", {}, `Trajectory ${lane.i}`),
    el("p", { class: "note" }, `${plural(lane.n, "token")}, ${plural(lane.calls.length, "tool call")}${said(lastScore(lane))}${last}; from journal line ${number(lane.line)} on.`),
    lane.error ? el("p", { class: "bad" }, lane.error) : null,
    lane.steps ? lane.steps.map((one) => step(one, context))
      : el("p", { class: "note left-out" }, `Its text is left out to keep this file small: it begins on line ${number(lane.line)} of the journal.`),
    el("p", { class: "conclusion" }, end));
}
