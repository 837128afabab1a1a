"""What is the machine's or the moment's is kept out of a transcript; the rest of its shape is compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages.fences import Block, Command
from transcript.play import Played, ended_well, normalised, skeleton

BLOCK = Block(Path("page.md"), 1, (), None, 0, 0)


def test_times_addresses_and_names_that_kubernetes_makes_up_are_replaced() -> None:
    seen = (
        "pod/chat-64b86765b7-pcm9k   \n"
        "at 2026-11-22T22:14:28.696803Z from http://127.0.0.1:25255\n"
        "LAST DEPLOYED: Sun Nov 22 22:14:28 2026\n"
        "host-3_0a1b2c3d holds Lease a/b\n\n"
    )
    assert normalised(seen) == (
        "pod/chat-7c6d8f9b5-x2k4q\n"
        "at 2026-01-01T12:00:00Z from http://127.0.0.1:9090\n"
        "LAST DEPLOYED: Thu Jan  1 12:00:00 2026\n"
        "operat_1a2b3c4d holds Lease a/b\n"
    )


def test_what_is_normal_stays() -> None:
    text = "NAME   READY   AGE\nchat   1/1     89s\ndeployment.apps/inferscale configured\n"
    assert normalised(text) == text
    assert normalised(normalised("x-64b86765b7-pcm9k\n")) == normalised("x-64b86765b7-pcm9k\n")


def test_two_runs_with_other_figures_have_the_same_skeleton() -> None:
    one = "Waiting for a rollout: 1 of 3...\nNAME   AGE\nchat   12s\n\nREVISION: 3\n"
    other = "NAME   AGE\nchat   2m8s\nREVISION: 12\n"
    assert skeleton(one) == skeleton(other) == {"NAME", "chat", "REVISION:"}
    assert skeleton(one) != skeleton(other.replace("chat", "code"))


@pytest.mark.parametrize(
    ("text", "status", "well"),
    [
        ("helm test a", 0, True),
        ("helm test a", 1, False),
        ("inferscale status", 1, True),
        ("inferscale status", 2, False),
    ],
)
def test_a_command_ends_well_with_0_and_a_look_with_1(text: str, status: int, well: bool) -> None:
    assert ended_well(Played(BLOCK, Command(text, None), status, "")) is well
