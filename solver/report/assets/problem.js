// The page of one problem: what was asked, how the vote went, the lanes, and one trace beside them.

async function unpack(block) {
  const kept = state.pages.get(block);
  if (kept) return kept;
  const bytes = Uint8Array.from(atob(block), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const page = JSON.parse(await new Response(stream).text());
  if (state.pages.size > 20) state.pages.clear();
  state.pages.set(block, page);
  return page;
}

function votes(row, problem) {
  if (!done(row)) return el("p", { class: "note" }, row ? "Not solved yet." : "Not begun.");
  const most = Math.max(1, ...row.v.map(([, count]) => count));
  const items = row.v.slice(0, 12).map(([answer, count]) => el("li", {},
    el("span", { class: "answer" }, answer, " ", problem.known === answer ? verdict(true) : null),
    svg("svg", { width: "100%", height: 10, "aria-hidden": "true" },
      svg("rect", { class: answer === row.a ? "won" : "lost", width: `${(100 * count) / most}%`, height: 10, rx: 1 })),
    el("span", { class: "count" }, plural(count, "vote"))));
  const more = row.v.length - items.length;
  return [el("ol", { class: "ballots" }, items),
    row.early ? el("p", { class: "note" }, `The ${plural(row.n, "shortest vote")} settled it; later ones are not counted.`) : null,
    more > 0 ? el("p", { class: "note" }, `and ${plural(more, "other answer")}`) : null];
}

function standing(problem, row, page) {
  const facts = [];
  if (done(row)) {
    facts.push(["Answer", [el("b", {}, row.a), " ", verdict(row.ok)]]);
    if (problem.known !== null) facts.push(["Known", problem.known]);
    if (row.w.length) facts.push(["Weights", row.w.map(([answer, weight]) => `${answer}: ${number(weight, 3)}`).join(", ")]);
    facts.push(["Margin", plural(row.margin, "vote")], ["Tokens", number(row.tok)],
      ["Time", `${duration(row.s)}${page.allotted === null ? "" : ` of ${duration(page.allotted)}`}`]);
  }
  for (const check of page.checks) {
    facts.push([page.checks.length > 1 ? `Check at ${number(check.mark)}` : "Check", `${check.method}, ${check.reason.replaceAll("_", " ")}`]);
  }
  for (const [name, value] of Object.entries(page.tags)) facts.push([name, value]);
  return el("dl", { class: "standing" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

async function runPart(data, problem, place, selected, redraw) {
  const row = problem.r[place], run = data.runs[place], many = data.runs.length > 1;
  const title = many ? el("h2", {}, runName(run, place, true)) : null;
  if (!row) return [null, el("section", {}, title, el("p", { class: "note" }, "This run did not begin the problem."))];
  let page;
  try {
    page = await unpack(data.blocks[row.b]);
  } catch (error) {
    const why = "DecompressionStream" in window ? String(error) : "this browser is too old: it has no DecompressionStream";
    return [null, el("section", {}, title, el("p", { class: "bad" }, `The details cannot be shown: ${why}.`))];
  }
  const shortest = page.lanes.filter((lane) => lane.steps && !lane.dropped).sort((a, b) => a.n - b.n)[0] || page.lanes[0];
  const chosen = selected ?? shortest?.i;
  const href = (index) => `#/problem/${problem.place}/${place}/${index}`;
  return [page, el("section", { class: "part" }, title,
    row.deg?.length ? el("ul", { class: "degraded" }, row.deg.map((why) => el("li", {}, el("b", {}, "Degraded"), " ", why))) : null,
    el("div", { class: "outcomes" }, standing(problem, row, page), el("div", {}, votes(row, problem))),
    page.lanes.length ? el("div", { class: "split" }, lanesPanel(page, run, chosen, href, redraw), tracePanel(page, run, chosen))
      : el("p", { class: "note" }, "No trajectory was begun."))];
}

async function problemPage(data, place, runPlace, selected, redraw) {
  const problem = data.problems[place];
  if (!problem) return [el("p", {}, "There is no such problem. ", el("a", { href: "#/" }, "All problems"))];
  const parts = await Promise.all(data.runs.map((_, k) => runPart(data, problem, k, k === runPlace ? selected : null, redraw)));
  const page = parts.map(([one]) => one).find(Boolean);
  const order = matching(data).map((one) => one.place), here = order.indexOf(place);
  const step = (by, label) => {
    const other = here < 0 ? undefined : order[here + by];
    return other === undefined ? el("span", { class: "soft" }, label) : el("a", { href: `#/problem/${other}` }, label);
  };
  return [
    el("nav", { class: "steps", "aria-label": "Problems" }, el("a", { href: "#/" }, "All problems"), step(-1, "Previous"), step(1, "Next")),
    el("h1", { class: "id" }, problem.id),
    el("div", { class: "statement" }, page ? pieces(page.statement) : problem.s),
    page?.prompt ? el("details", { class: "prompt" }, el("summary", {}, "The prompt as the model saw it"), el("pre", { tabindex: "0" }, visible(page.prompt))) : null,
    parts.map(([, node]) => node),
  ];
}
