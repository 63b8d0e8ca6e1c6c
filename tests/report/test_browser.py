"""The report in a real browser: it works, it lies well in its room, and no text of others runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from solver.journal.events import EngineIncident
from solver.report.page import write_report
from solver.report.serve import ReportServer
from solver.report.source import RunSource
from solver.types import StopReason
from tests.report.browser import Browser, chromium
from tests.report.builders import MARK, RunBuilder, three_problems
from tests.report.test_page import HOSTILE

# Elements that stick out of the window, unless they lie in a box that scrolls or is cut.
_STICKS_OUT = """
const wide = document.documentElement.clientWidth;
const boxed = (n) => { for (let p = n.parentElement; p; p = p.parentElement) {
  if (getComputedStyle(p).overflowX !== "visible") return true; } return false; };
return [...document.querySelectorAll("body *")].filter((n) => {
  const r = n.getBoundingClientRect();
  return r.width > 0 && !n.classList.contains("skip") && (r.right > wide + 1 || r.left < -1) && !boxed(n);
}).map((n) => n.outerHTML.slice(0, 120)).concat(
  document.documentElement.scrollWidth > wide ? ["the page itself"] : []);
"""
# Pairs of boxes with text that lie on one another: siblings in rows, grids and cells.
_OVERLAPS = """
const boxes = [...document.querySelectorAll(
  "td, th, .lane > *, .facts > *, .standing > *, .chip, .ballots li > *, .split > *, figure, h2, .bar > *")]
  .filter((n) => n.getBoundingClientRect().width > 0 && n.textContent.trim() !== "");
const out = [];
for (const one of boxes) for (const other of boxes) {
  if (one.parentElement !== other.parentElement || !(one.compareDocumentPosition(other) & 4)) continue;
  const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
  const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  if (x > 1 && y > 1) out.push(`${one.textContent.slice(0, 40)} | ${other.textContent.slice(0, 40)}`);
}
return out;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def report(browser: Browser, finished: Path) -> Iterator[str]:
    """The address of a report of three problems; at the end the console must be silent."""
    browser.resize(1280)
    yield write_report([RunSource(finished)], finished / "report.html").as_uri()
    assert browser.log() == []


def shown(browser: Browser) -> list[str]:
    return browser.texts(".problems tbody .id")


def test_the_first_page(browser: Browser, report: str) -> None:
    browser.open(report)
    assert browser.texts(".big") == ["2 of 3"]
    assert "66.7% right" in browser.texts(".score p")[1]
    assert "product" in browser.texts(".notices li")[0]
    assert browser.texts("figcaption h3") == [
        "Accuracy against tokens", "Time used and banked", "Time of each problem",
    ]  # fmt: skip
    browser.until("return document.querySelectorAll('.plot svg').length === 3")
    assert shown(browser) == ["sum", "product", "square"]


def test_filters_search_and_sorting(browser: Browser, report: str) -> None:
    browser.open(report)
    browser.click("[data-filter=wrong]")
    assert shown(browser) == ["product"]
    browser.click("[data-filter=right]")
    assert shown(browser) == ["sum", "product", "square"]
    browser.click("[data-filter=wrong]")
    assert shown(browser) == ["sum", "square"]
    browser.click("[data-filter=early]")
    assert shown(browser) == ["square"]
    assert browser.js("return document.querySelector('[data-filter=early]').ariaPressed") == "true"
    browser.click("[data-filter=early]")
    browser.click("[data-filter=right]")
    browser.click("[data-filter=degraded]")
    assert shown(browser) == ["product"]
    browser.click("[data-filter=degraded]")
    search = browser.driver.find_element("css selector", "input[type=search]")
    search.send_keys("WHAT times")
    assert shown(browser) == ["product"]
    assert browser.texts("[role=status].note") == ["1 of 3 problems"]
    search.clear()
    search.send_keys(" ")
    browser.click("[data-sort=answer0]")
    assert shown(browser) == ["square", "product", "sum"]
    browser.click("[data-sort=answer0]")
    assert shown(browser) == ["sum", "product", "square"]


def test_weights_have_a_line_where_there_are_any(browser: Browser, tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", [("a", "?", 4), ("b", "?", 4)])
    run.solves("a", 4, {4: 1, 5: 2}, weights={4: 0.9526, 5: 0.2})
    run.solves("b", 4, {4: 2})
    source = RunSource(run.write())
    browser.open(write_report([source], source.folder / "report.html").as_uri())
    for place, told in [(1, ["4: 0.953, 5: 0.200"]), (2, [])]:
        browser.click(f".problems tbody tr:nth-child({place}) a")
        browser.until("return document.querySelector('.standing') !== null")
        facts = dict(zip(browser.texts(".standing dt"), browser.texts(".standing dd"), strict=True))
        assert [facts[name] for name in facts if name == "Weights"] == told
        browser.driver.back()
        browser.until("return document.querySelector('.problems') !== null")


def test_two_checks_are_told_apart(browser: Browser, tmp_path: Path) -> None:
    stages = {"prune": {"mark": MARK, "keep": 1, "stages": [[MARK, 2], [2 * MARK, 1]]}}
    run = RunBuilder(tmp_path / "run", [("a", "?", 4)], stages)
    run.halves("a")
    source = RunSource(run.write())
    browser.open(write_report([source], source.folder / "report.html").as_uri())
    facts = dict(zip(browser.texts(".facts dt"), browser.texts(".facts dd"), strict=True))
    assert facts["Trajectories"].endswith("2 pruned at 10 and 20 tokens")
    browser.click(".problems tbody tr:nth-child(1) a")
    browser.until("return document.querySelector('.marked') !== null")
    assert [name for name in browser.texts(".standing dt") if "Check" in name] == [
        "Check at 10", "Check at 20",
    ]  # fmt: skip
    assert browser.texts(".marked") == [
        "the mark: 10 tokens, score 1.500, kept",
        "the mark: 20 tokens, score 2.500, kept",
    ]
    assert browser.texts(".lane.out .index") == ["#1", "#2"], "the last ones first"
    assert browser.texts(".lane.out .lane-score") == ["−1.00", "−2.00"]
    browser.click(".lane.out")
    browser.until("return document.querySelector('.trace h3').textContent === 'Trajectory 1'")
    assert browser.texts(".marked")[-1] == "the mark: 20 tokens, score −1.000, dropped"
    browser.click("[data-axis=time]")
    browser.until("return document.querySelector('[data-axis=time]').ariaPressed === 'true'")
    marks = browser.js("return [...document.querySelectorAll('.track')].map("
                       "(one) => one.querySelectorAll('.at-mark').length)")  # fmt: skip
    assert marks == [2, 2, 1]


def test_who_was_dropped_for_room(browser: Browser, tmp_path: Path) -> None:
    run = RunBuilder(tmp_path / "run", [("a", "?", 4)])
    run.start("a", 30.0)
    for index in (3, 4):
        run.says("a", index, "x" * MARK)
        run.ends("a", index, StopReason.MARK, MARK)
    run.crowds("a", 3, {3: -0.5, 4: -0.1})
    run.ends("a", 3, StopReason.PRUNED, MARK)
    run.solves("a", 4, {4: 1}, "the cache was full: 1 of 5 trajectories dropped before mark 10")
    source = RunSource(run.write())
    assert source.history.problems["a"].dropped == {3}
    browser.open(write_report([source], source.folder / "report.html").as_uri() + "#/problem/0/0/3")
    browser.until("return document.querySelector('.marked') !== null")
    assert browser.texts(".marked") == ["the mark: 10 tokens, dropped as the cache was full"]
    assert browser.texts(".lane.out .index") == ["#3"]
    label = browser.js("return document.querySelector('.lane.out').ariaLabel")
    assert "dropped as the cache was full" in label


def test_a_problem_and_its_traces(browser: Browser, report: str) -> None:
    browser.open(report)
    browser.click(".problems tbody tr:nth-child(2) a")
    browser.until("return document.querySelector('.trace .code') !== null")
    assert browser.texts("h1") == ["product"]
    assert browser.texts(".ballots .count") == ["2 votes"]
    assert browser.texts("ul.degraded li") == ["Degraded time was short: 1 trajectories cut short"]
    assert len(browser.texts(".lane")) == 3
    assert browser.texts(".lane.out .outcome") == ["pruned "]
    assert browser.texts(".code pre") == ["print(2 + 2)"]
    assert browser.texts(".output pre") == ["4\n"]
    assert browser.js("return document.querySelector('.said math msup').textContent") == "x2"
    browser.click(".lane.out")
    browser.until("return document.querySelector('.trace h3').textContent === 'Trajectory 2'")
    assert browser.texts(".marked") == ["the mark: 10 tokens, score −2.000, dropped"]
    browser.click("[data-axis=time]")
    browser.until("return document.querySelector('[data-axis=time]').ariaPressed === 'true'")
    browser.driver.back()
    browser.driver.back()
    browser.until("return document.querySelector('.problems') !== null")


def test_by_keyboard_alone(browser: Browser, report: str) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(report)
    browser.js("document.querySelector('.problems tbody a').focus()")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.until("return document.querySelectorAll('.lane').length === 3")
    browser.js("document.querySelectorAll('.lane')[1].focus()")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.until("return document.querySelectorAll('.lane')[1].ariaCurrent === 'true'")
    assert browser.js("return document.activeElement.ariaCurrent") == "true"
    unnamed = "return [...document.querySelectorAll('a, button, input')].filter((n) =>"
    unnamed += " !n.textContent.trim() && !n.ariaLabel).length"
    assert browser.js(unnamed) == 0


def test_light_and_dark(browser: Browser, report: str) -> None:
    browser.open(report)
    paper = "return getComputedStyle(document.body).backgroundColor"
    seen = {browser.js(paper)}
    for _ in range(2):
        browser.click("#theme")
        seen.add(browser.js(paper))
    assert len(seen) == 2
    browser.click("#theme")
    assert browser.texts("#theme") == ["Auto"]


def hostile_run(folder: Path) -> RunBuilder:
    name = f"id{HOSTILE}"
    run = RunBuilder(folder, [(name, f"{HOSTILE} $\\href{{javascript:alert(1)}}{{x}}$", 4)])
    run.plays(name, (4, 5), 4, HOSTILE, said=HOSTILE, output=HOSTILE + "o" * 5_000_000)
    run.add(EngineIncident(what=HOSTILE))
    return run


def test_hostile_text_is_text(browser: Browser, tmp_path: Path) -> None:
    folder = hostile_run(tmp_path / "run").write()
    browser.resize(1280)
    browser.open(write_report([RunSource(folder)], folder / "report.html").as_uri())
    plain = HOSTILE.replace("\u2028\u2029\u202e", "U+2028U+2029U+202E").replace("\u2066", "U+2066")
    assert browser.texts(".problems .id") == [f"id{plain}"]
    assert plain in browser.texts(".notices li")[0]
    browser.go("#/problem/0")
    assert browser.texts("h1") == [f"id{plain}"]
    assert browser.texts(".said")[0].startswith("xxxxxxxxxxthe mark")
    assert plain in browser.texts(".said")[0]
    (output,) = browser.texts(".output pre")
    assert output.startswith(plain) and "characters are not shown: see line" in output
    assert len(output) < 50_000
    assert browser.texts(".statement .formula") == ["x"]
    assert browser.js("return window.hacked") is None
    assert (
        browser.js("return document.querySelectorAll('img, main script, main style').length") == 0
    )
    assert browser.js("return document.querySelectorAll('.formula [href]').length") == 0
    assert browser.log() == []


def test_a_script_that_got_in_would_not_run(browser: Browser, report: str) -> None:
    """The policy holds by itself, not only because nothing gets in."""
    browser.open(report)
    browser.js("""
        const script = document.createElement("script");
        try { script.textContent = "window.hacked = 1"; document.body.append(script); } catch {}
        try { document.body.setAttribute("onclick", "window.hacked = 1"); } catch {}
        try { document.body.innerHTML = "<img src=x onerror=window.hacked=1>"; } catch {}
        document.body.click();
    """)
    assert browser.js("return window.hacked") is None
    refused = browser.log()
    assert len(refused) >= 3
    assert all("Trusted" in line or "Content Security Policy" in line for line in refused)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("place", ["#/", "#/problem/0", "#/problem/1/0/2"])
@pytest.mark.parametrize("kind", ["plain", "hostile", "two"])
def test_nothing_overlaps_and_nothing_sticks_out(
    browser: Browser, tmp_path: Path, width: int, place: str, kind: str
) -> None:
    make = hostile_run if kind == "hostile" else three_problems
    sources = [RunSource(make(tmp_path / "one").write())]
    if kind == "two":
        sources.append(RunSource(three_problems(tmp_path / "two").write()))
    browser.resize(width)
    browser.open(write_report(sources, tmp_path / "report.html").as_uri())
    if place != "#/":
        browser.go("#/problem/0" if kind == "hostile" else place)
    assert browser.js(_STICKS_OUT) == []
    assert browser.js(_OVERLAPS) == []
    assert browser.log() == []


def test_live_it_grows_under_the_readers_eyes(browser: Browser, tmp_path: Path) -> None:
    run = three_problems(tmp_path / "run")
    whole = run.events
    run.events = [event for event in whole if getattr(event, "problem_id", "") != "square"]
    run.write(ended=False)
    browser.resize(1280)
    with ReportServer([run.folder]) as server:
        browser.open(server.url)
        browser.click("[data-filter=right]")
        assert shown(browser) == ["sum"]
        browser.until("return document.querySelector('#live').textContent === 'live'")
        run.events = whole
        run.write()
        browser.until("return document.querySelectorAll('.problems tbody tr').length === 2")
        assert shown(browser) == ["sum", "square"], "the filter stays pressed"
        browser.until("return document.querySelector('#live').textContent === 'finished'")
        assert browser.log() == []
