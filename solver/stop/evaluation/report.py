"""The comparison as Markdown for people and as CSV for programs. Shares are printed in percent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from solver.files.tables import (
    bracketed,
    csv_table,
    exact,
    markdown_table,
    percent,
    plain,
    points,
)
from solver.policy.statistics import Interval
from solver.stop.evaluation.compare import ALL, Difference, Row
from solver.stop.evaluation.majority import MajorityRow
from solver.stop.evaluation.stages import StagesRow
from solver.stop.evaluation.voting import VoteRow

_FIELDS = (
    "launch", "mark", "keep", "method", "kind", "problems",
    "average", "average_low", "average_high", "vote", "vote_low", "vote_high",
    "tokens", "saving", "saving_low", "saving_high",
    "within_auroc", "within_low", "within_high", "auroc", "brier", "check_seconds",
)  # fmt: skip

_VOTE_FIELDS = (
    "pruned_by", "voters", "way", "right", "right_low", "right_high", "gain", "gain_low", "gain_high",
    "within_auroc", "within_low", "within_high", "brier",
)  # fmt: skip


def csv_of(rows: Iterable[Row]) -> str:
    """Every row with all of its numbers; shares of 1, empty where there is none."""
    return csv_table(
        _FIELDS,
        [
            [
                row.launch, row.mark, row.keep, row.method, row.kind, row.num_problems,
                *exact(row.average), *exact(row.vote), round(row.tokens, 1), *exact(row.saving),
                *exact(row.within), *(_rounded(x) for x in (row.overall, row.brier, row.seconds)),
            ]
            for row in rows
        ],
    )  # fmt: skip


def csv_of_votes(rows: Iterable[VoteRow]) -> str:
    """Every way of voting with all of its numbers; shares of 1, empty where there is none."""
    return csv_table(
        _VOTE_FIELDS,
        [
            [
                row.pruned_by or "", round(row.num_voters, 2), row.way, *exact(row.right),
                *exact(row.gain), *exact(row.within), _rounded(row.brier),
            ]
            for row in rows
        ],
    )  # fmt: skip


def markdown(
    title: str,
    command: str,
    facts: Sequence[str],
    rows: Sequence[Row],
    differences: Sequence[Difference],
    votes: Sequence[VoteRow],
    majority: Sequence[MajorityRow],
    stages: Sequence[StagesRow],
    main: tuple[int, int, int],
    pictures: Sequence[str],
) -> str:
    """The report: `command` that makes it, the table at the `main` (launch, mark, keep), then the rest."""
    at_main = [row for row in rows if (row.launch, row.mark, row.keep) == main]
    kinds = [kind for kind in dict.fromkeys(row.kind for row in rows) if kind != ALL]
    parts = [f"# {title}", "", f"    {command}", "", *facts, ""]
    parts += _main_table([row for row in at_main if row.kind == ALL], main)
    parts += _difference_table([d for d in differences if d.kind == ALL])
    for kind in kinds:
        parts += [f"## Kind: {kind}", ""]
        parts += _small_table([row for row in at_main if row.kind == kind])
        parts += _difference_table([d for d in differences if d.kind == kind])
    if votes:
        parts += ["## Votes of finished rollouts", "", *vote_table(votes), ""]
    parts += _majority_table(majority)
    parts += _stages_table(stages)
    parts += _sweep([row for row in rows if row.kind == ALL])
    parts += [f"![{name}]({name})" for name in pictures]
    return "\n".join(parts).rstrip() + "\n"


def _main_table(rows: Sequence[Row], main: tuple[int, int, int]) -> list[str]:
    head = [
        "method", "average", "vote", "tokens", "fewer tokens", "AUROC within", "AUROC", "Brier",
        "Check, ms",
    ]  # fmt: skip
    cells = [
        [
            row.method, percent(row.average), percent(row.vote), f"{row.tokens:.0f}",
            percent(row.saving), bracketed(row.within), plain(row.overall), plain(row.brier),
            "-" if row.seconds is None else f"{1000 * row.seconds:.1f}",
        ]
        for row in rows
    ]  # fmt: skip
    return [f"## {main[0]} to {main[2]} at mark {main[1]}", "", *markdown_table(head, cells), ""]


def _small_table(rows: Sequence[Row]) -> list[str]:
    head = ["method", "average", "vote", "tokens", "AUROC within"]
    cells = [
        [
            row.method, percent(row.average), percent(row.vote), f"{row.tokens:.0f}",
            bracketed(row.within),
        ]
        for row in rows
    ]  # fmt: skip
    return [*markdown_table(head, cells), ""]


def _difference_table(differences: Sequence[Difference]) -> list[str]:
    """One row a pair of methods: the difference in average and in vote, in points."""
    pairs: dict[tuple[str, str], dict[str, Interval]] = {}
    for each in differences:
        pairs.setdefault((each.ours, each.theirs), {})[each.what] = each.interval
    if not pairs:
        return []
    cells = [
        [f"{ours} - {theirs}", points(found["average"]), points(found["vote"])]
        for (ours, theirs), found in pairs.items()
    ]
    return [*markdown_table(["difference, points", "average", "vote"], cells), ""]


def vote_table(votes: Sequence[VoteRow]) -> list[str]:
    """Ways of voting among the same finished rollouts, all of them and those that a method keeps."""
    head = ["voters", "vote", "right", "- majority, points", "AUROC within", "Brier"]
    cells = [
        [
            f"{row.num_voters:.0f}, {f'kept by {row.pruned_by}' if row.pruned_by else 'all'}",
            row.way, percent(row.right), points(row.gain), bracketed(row.within), plain(row.brier),
        ]
        for row in votes
    ]  # fmt: skip
    said = (
        "The same trajectories vote by other rules. Best by: the answer of the one that the rule trusts most;"
        " oracle: right if any of them is. AUROC and Brier score are those of the weights, among answers."
    )
    return [*markdown_table(head, cells), "", said]


def _majority_table(rows: Sequence[MajorityRow]) -> list[str]:
    if not rows:
        return []
    head = [
        "AUROC within",
        "where the majority is right",
        "problems",
        "where it is wrong",
        "problems",
    ]
    cells = [
        [
            row.method, bracketed(row.where_right), str(row.num_right), bracketed(row.where_wrong),
            str(row.num_wrong),
        ]
        for row in rows
    ]  # fmt: skip
    said = (
        "The majority is that of all rollouts, the problems are those with right and wrong ones. A vote gains"
        " where it is wrong, an average in both. Verified orders answers, the others prefixes at the mark."
    )
    title = "## Where the majority is right, and where it is wrong"
    return [title, "", *markdown_table(head, cells), "", said, ""]


def _stages_table(rows: Sequence[StagesRow]) -> list[str]:
    if not rows:
        return []
    head = [
        "checks", "average", "vote", "tokens", "one check", "- one check, average", "vote",
    ]  # fmt: skip
    cells = [
        [
            " + ".join(f"{check.mark}:{check.keep}" for check in row.checks),
            percent(row.average), percent(row.vote), f"{row.tokens:.0f}",
            f"{row.mark}:{'-' if row.keep is None else f'{row.keep:.1f}'}",
            points(row.average_gain), points(row.vote_gain),
        ]
        for row in rows
    ]  # fmt: skip
    said = (
        f"Mark:keep, by {rows[0].method}. The one check keeps as many as make it sample as many tokens: 7.4"
        " is 7 in six and 8 in four problems of ten, by lot; - where no keep does. Differences in points."
    )
    return ["## Several checks against one", "", *markdown_table(head, cells), "", said, ""]


def _sweep(rows: Sequence[Row]) -> list[str]:
    settings = sorted({(-row.launch, row.mark, row.keep) for row in rows})
    if len(settings) < 2:
        return []
    methods = list(dict.fromkeys(row.method for row in rows))
    found = {(-row.launch, row.mark, row.keep, row.method): row for row in rows}
    cells = [
        [
            str(-launch),
            str(mark),
            str(keep),
            *(
                f"{100 * cell.average.value:.1f} / {100 * cell.vote.value:.1f}"
                for cell in (found[launch, mark, keep, method] for method in methods)
            ),
        ]
        for launch, mark, keep in settings
    ]
    table = markdown_table(["launch", "mark", "keep", *methods], cells)
    return ["## Sweep of launch, mark and keep", "", "Average / vote, percent.", "", *table, ""]


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 6)
