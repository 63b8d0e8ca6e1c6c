"""Trajectories of the corpus do what they say, in the stated shares."""

import re
from math import sqrt

import pytest

from solver.embedded.corpus import (
    OTHER_SHARES,
    Draft,
    code_block,
    miscopy,
    output_block,
    trajectory,
)
from solver.embedded.families import FAMILIES, SHARES, Kind, Outcome, first_number, run_cells
from solver.embedded.problems import Split, split_of

FAMILY = {family.name: family for family in FAMILIES}


@pytest.fixture(scope="module")
def drafts() -> list[Draft]:
    return [trajectory(index, seed=11) for index in range(3600)]


def test_shares_of_outcomes_are_the_stated_ones(drafts: list[Draft]) -> None:
    for kind in Kind:
        own = [draft.outcome for draft in drafts if draft.problem.kind is kind]
        assert len(own) == 1200
        for outcome, share in SHARES[kind].items():
            spread = sqrt(share * (1 - share) / len(own))
            assert abs(own.count(outcome) / len(own) - share) < 4 * spread, (kind, outcome)


def test_shares_of_other_mistakes_are_the_stated_ones(drafts: list[Draft]) -> None:
    own = [draft.mistake for draft in drafts if draft.outcome is Outcome.OTHER]
    for mistake, share in OTHER_SHARES.items():
        spread = sqrt(share * (1 - share) / len(own))
        assert abs(own.count(mistake) / len(own) - share) < 4 * spread, mistake


def test_only_right_trajectories_reach_the_answer(drafts: list[Draft]) -> None:
    for draft in drafts:
        assert (draft.answer == draft.problem.answer) == (draft.outcome is Outcome.RIGHT)


def test_wrong_trajectories_take_the_reading_of_the_other_wording(drafts: list[Draft]) -> None:
    for draft in drafts:
        names = {reading.name for reading in FAMILY[draft.problem.family].readings}
        if draft.outcome is Outcome.RIGHT:
            assert draft.reading == draft.problem.reading
        elif draft.outcome is Outcome.WRONG:
            assert {draft.reading} == names - {draft.problem.reading}
        elif draft.mistake == "mistaken_reading":
            assert draft.reading not in names


def test_code_runs_and_prints_the_recorded_output(drafts: list[Draft]) -> None:
    for draft in drafts[:600]:
        assert tuple(run_cells(list(draft.cells))) == draft.outputs


def test_text_is_made_of_its_plan_cells_and_outputs(drafts: list[Draft]) -> None:
    for draft in drafts:
        sampled = [segment.text for segment in draft.segments if segment.sampled]
        tool = [segment.text for segment in draft.segments if not segment.sampled]
        assert sampled[0].startswith(draft.plan)
        assert "```" not in draft.plan
        assert draft.plan.endswith(".\n")
        assert tool == [output_block(output) for output in draft.outputs]
        for cell, text in zip(draft.cells, sampled, strict=False):
            assert text.endswith(code_block(cell))
        assert re.findall(r"\\boxed\{(\d+)\}", "".join(sampled)) == [str(draft.answer)]
        assert sampled[-1].endswith(f"The answer is \\boxed{{{draft.answer}}}.")


def test_the_answer_is_the_one_computed_unless_miscopied(drafts: list[Draft]) -> None:
    for draft in drafts:
        steps = FAMILY[draft.problem.family].steps
        results = [o for s, o in zip(steps, draft.outputs, strict=True) if not s.check]
        same = first_number(results[-1]) == draft.answer
        assert same == (draft.mistake != "output_miscopied")


def test_the_corpus_stays_in_its_split(drafts: list[Draft]) -> None:
    for draft in drafts:
        assert split_of(draft.problem.family, draft.problem.numbers) is Split.MODEL


def test_a_trajectory_depends_on_index_and_seed_only() -> None:
    assert trajectory(17, 0) == trajectory(17, 0)
    assert trajectory(17, 0) != trajectory(17, 1)


@pytest.mark.parametrize("number", [0, 1, 2, 9, 10, 11, 99, 100, 4096, 99999])
def test_a_miscopied_number_differs_in_one_digit(number: int) -> None:
    from random import Random

    rng = Random(number)
    for _ in range(50):
        changed = miscopy(number, rng)
        pairs = list(zip(str(number), str(changed), strict=True))
        assert sum(a != b for a, b in pairs) == 1
        assert changed >= 2
