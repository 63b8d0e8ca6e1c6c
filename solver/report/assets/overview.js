// The first page, down to the table of problems.

const SWATCH = ["A", "B"];

function runName(run, place, many) {
  return many ? [el("span", { class: `swatch run${place}`, "aria-hidden": "true" }, SWATCH[place]), " ", run.name] : run.name;
}

function headline(run, place, many) {
  const { score, numbers } = run;
  const facts = [
    ["Sampled", `${number(numbers.tokens)} tokens`,
      numbers.elapsed > 0 ? `${number(numbers.tokens / numbers.elapsed)} a second` : ""],
    ["Time", duration(numbers.elapsed), run.limit ? `of ${duration(run.limit)}` : "no limit"],
    ["Trajectories", number(numbers.trajectories),
      numbers.pruned ? `${number(numbers.pruned)} ${run.full ? "finished without a vote" : `pruned at ${listed(run.marks)} tokens`}` : "none pruned"],
    ["Tool calls", number(numbers.calls), numbers.failed_calls ? `${number(numbers.failed_calls)} without success` : "all ran"],
    ["Early votes", number(numbers.early), `of ${plural(numbers.solved, "problem")}`],
    ...(numbers.asked ? [["Asked again", number(numbers.asked),
      `${number(numbers.asked_answered)} answered${score ? `, ${number(numbers.asked_right)} right` : ""}`]] : []),
    ["Degraded", number(numbers.degraded), numbers.degraded ? "see below" : "no answer", numbers.degraded ? "bad" : ""],
  ];
  return el("section", { class: "headline", "aria-label": "Result" },
    el("p", { class: "over" }, run.created ? `${run.created.slice(0, 16).replace("T", " ")} UTC` : "nothing recorded yet",
      " · ", el("span", { class: run.state === "finished" ? "" : "bad" }, run.state),
      numbers.resumed ? ` · resumed ${plural(numbers.resumed, "time")}` : ""),
    el(many ? "h2" : "h1", {}, runName(run, place, many)),
    el("div", { class: "score" },
      el("p", { class: "big" }, score ? [number(score.right), el("span", {}, ` of ${number(score.graded)}`)]
        : [number(numbers.solved), el("span", {}, ` of ${number(run.total)}`)]),
      el("p", {}, score
        ? [el("b", {}, percent(score.right / score.graded)), ` right, 95 % interval ${percent(score.low)} to ${percent(score.high)}`]
        : "solved; the file gives no answers to compare with"),
      score && interval(score)),
    el("dl", { class: "facts" }, facts.map(([name, value, note, kind]) =>
      el("div", { class: kind || null }, el("dt", {}, name), el("dd", {}, value, el("small", {}, note))))));
}

function interval({ right, graded, low, high }) {
  const at = (share) => `${(100 * share).toFixed(2)}%`;
  return svg("svg", { class: "interval", width: "100%", height: 14, "aria-hidden": "true" },
    svg("line", { class: "grid", x1: "0%", x2: "100%", y1: 7, y2: 7 }),
    svg("line", { class: "range", x1: at(low), x2: at(high), y1: 7, y2: 7 }),
    svg("line", { class: "here", x1: at(right / graded), x2: at(right / graded), y1: 1, y2: 13 }));
}

const KINDS = { engine: "Engine", journal: "Journal", texts: "Texts", degraded: "Degraded" };

function notices(run, place, many) {
  if (!run.notices.length) return null;
  const item = (notice) => el("li", { class: notice.kind },
    el("b", {}, KINDS[notice.kind]), " ",
    notice.id !== undefined ? problemLink(notice.id) : null,
    notice.t !== undefined ? el("span", { class: "soft" }, `${duration(notice.t)}, journal line ${number(notice.line)}`) : null,
    " ", el("span", {}, notice.text));
  const first = run.notices.slice(0, 5), rest = run.notices.slice(5);
  return el("section", { class: "notices", "aria-label": "What went wrong" },
    el("h2", {}, "What went wrong", many ? [" in ", runName(run, place, many)] : null),
    el("ul", {}, first.map(item)),
    rest.length ? el("details", {}, el("summary", {}, `${number(rest.length)} more`), el("ul", {}, rest.map(item))) : null);
}

function problemLink(id) {
  const place = state.data.problems.findIndex((problem) => problem.id === id);
  return place < 0 ? el("span", { class: "id" }, id) : el("a", { class: "id", href: `#/problem/${place}` }, id);
}

function comparison(compare, runs) {
  if (!compare) return null;
  const shown = (name, value) => (name === "accuracy" || name === "degraded answers"
    ? percent(value) : number(value, Math.abs(value) < 100 ? 2 : 0));
  const sign = (name, value) => (value > 0 ? "+" : value < 0 ? "−" : "") + shown(name, Math.abs(value));
  const rows = compare.rows.map((row) => el("tr", { class: row.clear ? "clear" : null },
    el("th", { scope: "row" }, row.name),
    row.means.map((mean) => el("td", {}, shown(row.name, mean))),
    el("td", {}, sign(row.name, row.difference[0]), el("small", {}, ` ${sign(row.name, row.difference[1])} to ${sign(row.name, row.difference[2])}`))));
  return el("section", {}, el("h2", {}, "Side by side"),
    el("p", { class: "note" }, `${plural(compare.shared, "problem")} that both have solved, ${number(compare.known)} with a known answer. ` +
      "B minus A with paired 95 % bootstrap intervals over problems; bold where 0 is outside."),
    el("div", { class: "scroll" }, el("table", { class: "compared" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ""), runs.map((run, k) =>
        el("th", { scope: "col" }, runName(run, k, true))), el("th", { scope: "col" }, "B minus A"))),
      el("tbody", {}, rows))));
}

function settings(runs) {
  const keys = [...new Set(runs.flatMap((run) => run.settings.map(([key]) => key)))];
  const values = runs.map((run) => Object.fromEntries(run.settings));
  const shown = (value) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
  return el("section", {}, el("h2", {}, "Settings that mattered"),
    el("div", { class: "scroll" }, el("table", { class: "settings" }, el("tbody", {}, keys.map((key) => {
      const all = values.map((one) => shown(one[key]));
      return el("tr", { class: new Set(all).size > 1 ? "differs" : null },
        el("th", { scope: "row" }, el("code", {}, key)), all.map((value) => el("td", {}, value)));
    })))));
}

function overviewPage(data) {
  const many = data.runs.length > 1;
  const drawn = [curveChart(data.runs), ...scoreCharts(data.runs), timeChart(data.runs),
    ...(many ? [] : [columnChart(data.runs[0], 0)])].filter(Boolean);
  return [
    many ? el("h1", {}, "Two runs") : null,
    el("div", { class: many ? "pair" : null }, data.runs.map((run, k) => headline(run, k, many))),
    data.runs.map((run, k) => notices(run, k, many)),
    comparison(data.compare, data.runs),
    drawn.length ? el("section", { class: "charts", "aria-label": "Charts" }, drawn) : null,
    problemsSection(data),
    settings(data.runs),
  ];
}
