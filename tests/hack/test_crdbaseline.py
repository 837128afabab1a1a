"""Custom resources are only ever added to: what a release took is taken for good."""

import copy
import json
from collections.abc import Callable

import pytest

import crdbaseline
from crdbaseline import Fields, broken, fields

SERVICE = "inferenceservices.inferscale.dev/v1alpha1: "
PRIORITY = "serviceclasses.inferscale.dev/v1alpha1: .spec.priority"


@pytest.fixture(scope="module")
def now() -> Fields:
    return fields()


def test_what_the_baseline_promised_still_holds(now: Fields) -> None:
    promised = json.loads(crdbaseline.BASELINE.read_text())
    assert broken(promised, now) == [], "fields are added, never removed, renamed or tightened"


def remove(now: Fields) -> None:
    del now[f"{SERVICE}.spec.weight"]


def retype(now: Fields) -> None:
    now[f"{SERVICE}.spec.weight"]["type"] = "string"


def require(now: Fields) -> None:
    now[f"{SERVICE}.spec.weight"]["required"] = True


def add_required(now: Fields) -> None:
    now[f"{SERVICE}.spec.novelty"] = {"type": "string", "required": True}


def narrow(now: Fields) -> None:
    now[f"{SERVICE}.spec.mode"]["enum"] = ["Apply"]


def lower(now: Fields) -> None:
    now[PRIORITY]["maximum"] = 99


def bound(now: Fields) -> None:
    now[f"{SERVICE}.spec.model"]["minLength"] = 9


def shape(now: Fields) -> None:
    now[f"{SERVICE}.spec.model"]["pattern"] = "^x$"


def rule(now: Fields) -> None:
    now[f"{SERVICE}.spec"].setdefault("rules", []).append("self.weight > 1")


@pytest.mark.parametrize(
    "change",
    [remove, retype, require, add_required, narrow, lower, bound, shape, rule],
    ids=lambda c: c.__name__,
)
def test_a_change_that_would_refuse_what_was_taken_is_found(
    now: Fields, change: Callable[[Fields], None]
) -> None:
    changed = copy.deepcopy(now)
    change(changed)
    assert len(broken(now, changed)) == 1


def test_a_new_optional_field_and_wider_bounds_are_well(now: Fields) -> None:
    changed = copy.deepcopy(now)
    changed[f"{SERVICE}.spec.novelty"] = {"type": "object"}
    changed[f"{SERVICE}.spec.novelty.name"] = {"type": "string", "required": True}
    changed[PRIORITY]["maximum"] = 1000
    changed[f"{SERVICE}.spec.mode"]["enum"] = [*changed[f"{SERVICE}.spec.mode"]["enum"], "Dream"]
    assert broken(now, changed) == []
