// Which page is shown, the theme, and the data; live, the data are fetched again when they changed.

const state = {
  data: null, pages: new Map(), filters: new Set(), search: "", sort: { key: "place", down: false },
  rows: ROWS, axis: "tokens", shown: 0,
};
const main = document.getElementById("main");

async function render({ keep = false } = {}) {
  const ticket = (state.shown += 1);
  const [, page, place, run, lane] = location.hash.split("/");
  const scroll = window.scrollY, field = document.activeElement?.type === "search" ? document.activeElement.selectionStart : null;
  const focus = document.activeElement?.getAttribute?.("href");
  const nodes = page === "problem"
    ? await problemPage(state.data, Number(place), run === undefined ? null : Number(run), lane === undefined ? null : Number(lane), () => render({ keep: true }))
    : overviewPage(state.data);
  if (ticket !== state.shown) return; // another page was asked for in the meantime
  main.replaceChildren(...nodes.flat(Infinity).filter(Boolean));
  main.dataset.page = page || "overview";
  window.scrollTo(0, keep ? scroll : 0);
  if (keep && field !== null) {
    const search = main.querySelector("input[type=search]");
    search?.focus();
    search?.setSelectionRange(field, field);
  } else if (keep && focus) {
    [...main.querySelectorAll("a[href]")].find((link) => link.getAttribute("href") === focus)?.focus({ preventScroll: true });
  }
}

const THEMES = { auto: ["Auto", "as the system"], light: ["Light", "light"], dark: ["Dark", "dark"] };

function theme(name) {
  const button = document.getElementById("theme");
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  button.textContent = THEMES[name][0];
  button.setAttribute("aria-label", `Theme: ${THEMES[name][1]}`);
  button.onclick = () => {
    const dark = media("(prefers-color-scheme: dark)");
    const order = dark ? ["auto", "light", "dark"] : ["auto", "dark", "light"];
    const next = order[(order.indexOf(name) + 1) % 3];
    try { localStorage.setItem("stop-solver-theme", next); } catch { /* a file may have no storage */ }
    theme(next);
  };
}

function savedTheme() {
  try { return localStorage.getItem("stop-solver-theme") in THEMES ? localStorage.getItem("stop-solver-theme") : "auto"; } catch { return "auto"; }
}

async function follow() {
  const sign = document.getElementById("live");
  sign.hidden = false;
  try {
    const answer = await fetch(`data.json?known=${encodeURIComponent(state.data.stamp)}`, { cache: "no-store" });
    if (answer.status === 200) {
      take(await answer.json());
      await render({ keep: true });
    }
    sign.textContent = state.data.runs[0].state === "under way" ? "live" : state.data.runs[0].state;
  } catch {
    sign.textContent = "the server is gone";
  }
  window.setTimeout(follow, 2000);
}

function take(data) {
  data.problems.forEach((problem, place) => {
    problem.place = place;
    problem.haystack = `${problem.id} ${problem.s}`.toLowerCase();
  });
  state.data = data;
}

take(JSON.parse(document.getElementById("data").textContent));
theme(savedTheme());
let last = "";
window.addEventListener("hashchange", () => {
  const where = location.hash.split("/").slice(0, 3).join("/");
  render({ keep: where === last }); // another lane of the same problem: stay where the reader is
  last = where;
});
last = location.hash.split("/").slice(0, 3).join("/");
render();
if (state.data.live) follow();
