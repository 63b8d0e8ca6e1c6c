// The table of problems: filters, search, sorting, and only so many rows at a time.

const ROWS = 50;

const done = (row) => row && !row.open;
const anyRun = (test) => (problem) => problem.r.some((row) => done(row) && test(row));
const FILTERS = {
  right: ["right", (problem) => problem.r.every((row) => done(row) && row.ok === true)],
  wrong: ["wrong", anyRun((row) => row.ok === false)],
  degraded: ["degraded", anyRun((row) => row.deg.length > 0)],
  early: ["decided early", anyRun((row) => row.early)],
  open: ["not solved", (problem) => problem.r.some((row) => !done(row))],
  onlyA: ["only A right", (problem) => done(problem.r[0]) && problem.r[0].ok === true && done(problem.r[1]) && problem.r[1].ok === false],
  onlyB: ["only B right", (problem) => done(problem.r[1]) && problem.r[1].ok === true && done(problem.r[0]) && problem.r[0].ok === false],
};
const EITHER = new Set(["right", "wrong", "open", "onlyA", "onlyB"]); // of these, any will do

function columns(data) {
  const many = data.runs.length > 1;
  const first = (get) => (problem) => (done(problem.r[0]) ? get(problem.r[0]) : -1);
  const answers = data.runs.map((run, k) => ({
    key: `answer${k}`, label: many ? [runName(run, k, true)] : "Answer", name: many ? `Answer of ${SWATCH[k]}` : "Answer",
    sort: (problem) => (done(problem.r[k]) ? Number(problem.r[k].a) : -1),
    show: (problem) => answerCell(problem.r[k]),
  }));
  const tokens = data.runs.map((run, k) => ({
    key: `tokens${k}`, label: many ? `Tokens ${SWATCH[k]}` : "Tokens", wide: true, digits: true,
    sort: (problem) => (done(problem.r[k]) ? problem.r[k].tok : -1),
    show: (problem) => (done(problem.r[k]) ? number(problem.r[k].tok) : "–"),
  }));
  return [
    { key: "place", label: "Problem", sort: (problem) => problem.place, show: problemCell, head: true },
    ...answers,
    { key: "known", label: "Known", wide: true, sort: (problem) => Number(problem.known), show: (problem) => problem.known ?? "–" },
    ...(many ? [] : [{ key: "votes", label: "Votes", sort: first((row) => row.margin), show: (problem) => voteCell(problem.r[0]) }]),
    ...tokens,
    ...(many ? [] : [{ key: "time", label: "Time", wide: true, digits: true, sort: first((row) => row.s), show: (problem) => (done(problem.r[0]) ? duration(problem.r[0].s) : "–") }]),
  ];
}

function problemCell(problem) {
  return [el("a", { href: `#/problem/${problem.place}`, class: "id" }, problem.id), el("span", { class: "snippet" }, problem.s)];
}

function answerCell(row) {
  if (!row) return el("span", { class: "soft" }, "not begun");
  if (row.open) return el("span", { class: "soft" }, "under way");
  return [el("span", { class: row.a.length < 14 ? "answer short" : "answer" }, row.a, " ", verdict(row.ok)),
    row.deg.length ? el("span", { class: "flag bad", title: row.deg.join("; ") }, "degraded") : null];
}

function voteCell(row) {
  if (!done(row)) return "–";
  if (!row.n) return el("span", { class: "soft" }, "none");
  let left = 0;
  const parts = row.v.map(([answer, count]) => {
    const part = svg("rect", { class: answer === row.a ? "won" : "lost", x: `${(100 * left) / row.n}%`, width: `${(100 * count) / row.n}%`, y: 0, height: 8 });
    left += count;
    return part;
  });
  const won = (row.v.find(([answer]) => answer === row.a) || ["", 0])[1];
  return [svg("svg", { class: "votebar", width: 56, height: 8, "aria-hidden": "true" }, parts),
    el("span", { class: "count" }, `${won} of ${row.n}`), row.early ? el("span", { class: "flag" }, "early") : null];
}

function matching(data) {
  const pressed = [...state.filters];
  const either = pressed.filter((key) => EITHER.has(key)), all = pressed.filter((key) => !EITHER.has(key));
  const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  const column = columns(data).find((one) => one.key === state.sort.key);
  const found = data.problems.filter((problem) =>
    (!either.length || either.some((key) => FILTERS[key][1](problem))) &&
    all.every((key) => FILTERS[key][1](problem)) &&
    words.every((word) => problem.haystack.includes(word)));
  const sign = state.sort.down ? -1 : 1;
  return found.map((problem) => [column.sort(problem), problem])
    .sort(([a, p], [b, q]) => (a < b ? -sign : a > b ? sign : p.place - q.place)).map(([, problem]) => problem);
}

function problemsSection(data) {
  const counts = Object.fromEntries(Object.entries(FILTERS).map(([key, [, test]]) =>
    [key, key.startsWith("only") && data.runs.length < 2 ? 0 : data.problems.filter(test).length]));
  const found = el("p", { class: "note", role: "status" });
  const body = el("tbody"), head = el("tr"), more = el("button", { type: "button", class: "more", hidden: true });
  const chips = Object.entries(FILTERS).filter(([key]) => counts[key] > 0 || state.filters.has(key) || ["right", "wrong", "degraded", "early"].includes(key))
    .map(([key, [label]]) => el("button", { type: "button", class: "chip", "data-filter": key,
      "aria-pressed": String(state.filters.has(key)), onclick: (event) => {
        if (!state.filters.delete(key)) state.filters.add(key);
        event.currentTarget.setAttribute("aria-pressed", String(state.filters.has(key)));
        state.rows = ROWS;
        refresh();
      } }, label, " ", el("span", { class: "count" }, number(counts[key]))));
  const search = el("input", { type: "search", placeholder: "Search id or statement", "aria-label": "Search id or statement",
    oninput: (event) => { state.search = event.target.value; state.rows = ROWS; refresh(); } });
  search.value = state.search;

  function refresh() {
    const rows = matching(data);
    head.replaceChildren(...columns(data).map((column) => header(column, refresh)));
    body.replaceChildren(...rows.slice(0, state.rows).map((problem) => el("tr", {},
      columns(data).map((column) => el(column.head ? "th" : "td", {
        scope: column.head ? "row" : null, class: [column.wide && "wide", column.digits && "digits"].filter(Boolean).join(" ") || null,
      }, column.show(problem))))));
    found.textContent = `${number(rows.length)} of ${plural(data.problems.length, "problem")}`;
    more.hidden = rows.length <= state.rows;
    more.textContent = `Show ${number(Math.min(10 * ROWS, rows.length - state.rows))} more`;
    more.onclick = () => { state.rows += 10 * ROWS; refresh(); };
  }
  refresh();
  return el("section", {}, el("h2", {}, "Problems"),
    el("div", { class: "controls" }, el("div", { class: "chips", role: "group", "aria-label": "Filters" }, chips), search),
    found, el("div", { class: "scroll" }, el("table", { class: "problems" }, el("thead", {}, head), body)), more);
}

function header(column, refresh) {
  const here = state.sort.key === column.key;
  return el("th", { scope: "col", class: [column.wide && "wide", column.digits && "digits"].filter(Boolean).join(" ") || null,
    "aria-sort": here ? (state.sort.down ? "descending" : "ascending") : null },
  el("button", { type: "button", class: "sort", "data-sort": column.key, "aria-label": `Sort by ${column.name || column.label}`, onclick: () => {
    state.sort = { key: column.key, down: here ? !state.sort.down : column.key !== "place" };
    refresh();
  } }, column.label, el("span", { "aria-hidden": "true" }, here ? (state.sort.down ? " ↓" : " ↑") : "")));
}
