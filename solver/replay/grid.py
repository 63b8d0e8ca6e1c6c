"""Parses `--sweep launch=8,16 keep=4` into policies, and refuses wrong items with one clear line."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import get_args

from solver.config import VoteConfig
from solver.errors import ConfigError
from solver.replay.policy import Policy
from solver.runs.settings import parse_duration, parse_stages
from solver.scorers import Selection, find_scorer, gives_chances, scorer_names
from solver.scorers.registry import names_with_chances
from solver.types import Check

KEYS = ("launch", "keep", "mark", "stages", "scorer", "vote", "stop", "limit")
_RULES, _STOPS = (get_args(VoteConfig.model_fields[name].annotation) for name in ("rule", "stop"))
_NO_LIMIT = ("none", "off")

Values = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Grid:
    """The policies to replay, and the number of those left out, by reason."""

    policies: tuple[Policy, ...]
    left_out: Mapping[str, int]


def parse_sweep(items: Sequence[str]) -> Values:
    """The values of each key, as texts. Raises `ConfigError`."""
    values: dict[str, list[str]] = {}
    for item in items:
        key, equals, texts = item.partition("=")
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KEYS)}"
            raise ConfigError(f"--sweep {item!r}: unknown key {key!r}; {hint}")
        if not equals or not texts or not all(texts.split(",")):
            raise ConfigError(f"--sweep {item!r}: write key=value,value, for example launch=8,16")
        if key in values:
            raise ConfigError(f"--sweep names {key} twice: write {key}=value,value")
        values[key] = list(dict.fromkeys(texts.split(",")))
    return values


def grid(values: Values, own: Policy) -> Grid:
    """Every combination; what is not swept is as in `own`. Raises `ConfigError`."""
    launches = _numbers(values, "launch", own.launch)
    plans = _plans(values, own)
    names = _names(values, "scorer", own.scorer, scorer_names())
    rules = _names(values, "vote", own.vote.rule, _RULES)
    stops = _names(values, "stop", own.vote.stop, _STOPS)
    limits = [_limit(text) for text in values["limit"]] if "limit" in values else [own.limit_s]
    policies: dict[Policy, str | None] = {}
    for launch, checks, name, rule, stop, limit in product(
        launches, plans, names, rules, stops, limits
    ):
        # Without pruning keep and mark have no effect: one policy represents all their values.
        prunes = find_scorer(name).selection is not Selection.ALL
        vote = own.vote.model_copy(update={"rule": rule, "stop": stop})
        kept = checks if prunes else (Check(plans[0][0].mark, launch),)
        policy = Policy(launch, kept, name, vote, limit)
        policies[policy] = _why_not(policy)
    played = tuple(policy for policy, why in policies.items() if why is None)
    left_out = Counter(why for why in policies.values() if why is not None)
    if not played:
        raise ConfigError(f"--sweep leaves no policy to replay: {'; '.join(left_out)}")
    return Grid(played, left_out)


def _why_not(policy: Policy) -> str | None:
    """Why a policy is invalid; None if it is valid."""
    if policy.checks[0].keep > policy.launch:
        return "keep must not be larger than launch"
    if policy.vote.rule == "weighted" and not gives_chances(policy.scorer):
        names = ", ".join(names_with_chances())
        return f"vote=weighted needs a scorer that gives chances ({names})"
    return None


def _plans(values: Values, own: Policy) -> list[tuple[Check, ...]]:
    """The checks to try: one at each mark with each keep, and the stages."""
    stages = [parse_stages(text) for text in values.get("stages", ())]
    if "keep" not in values and "mark" not in values:
        return stages or [own.checks]
    keeps = _numbers(values, "keep", own.checks[-1].keep)
    marks = _numbers(values, "mark", own.checks[0].mark)
    return [*((Check(mark, keep),) for mark, keep in product(marks, keeps)), *stages]


def _numbers(values: Values, key: str, own: int) -> list[int]:
    texts = values.get(key)
    if texts is None:
        return [own]
    wrong = [text for text in texts if not (text.isascii() and text.isdigit() and int(text) > 0)]
    if wrong:
        raise ConfigError(f"--sweep {key}={wrong[0]}: expected a whole number from 1 on")
    return [int(text) for text in texts]


def _names(values: Values, key: str, own: str, known: Sequence[str]) -> list[str]:
    texts = list(values.get(key, [own]))
    if wrong := [text for text in texts if text not in known]:
        raise ConfigError(f"--sweep {key}={wrong[0]}: there are {', '.join(known)}")
    return texts


def _limit(text: str) -> float | None:
    if text in _NO_LIMIT:
        return None
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ConfigError(f"--sweep limit={text}: a limit is longer than 0 seconds")
    return seconds
