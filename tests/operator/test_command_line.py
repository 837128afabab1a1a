"""What all commands have in common: examples, completion, the name under kubectl, no colours in pipes."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click
import pytest

from inferscale_operator.cli import commands, complete_for_kubectl, main
from inferscale_operator.commands.examples import EXAMPLES

NAMES = sorted(commands.commands)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_every_command_shows_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    told = capsys.readouterr().out
    assert all(f"  {example}\n" in told for example in EXAMPLES[name])
    assert f"Usage: inferscale {name}" in told


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_command_are_ones_that_it_takes(name: str) -> None:
    command = commands.commands[name]
    calls = [
        words[1 + words.index("inferscale") :]
        for example in EXAMPLES[name]
        for words in [
            shlex.split(example.split(" && ")[0].split(" > ")[0].removeprefix("source <(").rstrip(")"))
        ]
    ]
    assert calls
    for called, *arguments in calls:
        assert called == name
        parser = command.make_parser(click.Context(command))
        values, rest, _ = parser.parse_args(list(arguments))
        assert rest == []
        needed = [p.name for p in command.params if p.required and isinstance(p, click.Argument)]
        assert all(values.get(each) for each in needed)


def test_kubectl_is_named_where_it_calls(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kubectl-inferscale", "status", "--help"])
    assert run("status", "--help") == 0
    assert "Usage: kubectl inferscale status" in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_asks_us_what_may_come_next(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("completion", shell) == 0
    script = capsys.readouterr().out
    assert f"_INFERSCALE_COMPLETE={shell}_complete" in script
    monkeypatch.setenv("_INFERSCALE_COMPLETE", f"{shell}_complete")
    # Fish tells the word under the cursor, the others its number.
    monkeypatch.setenv("COMP_WORDS", "inferscale sta")
    monkeypatch.setenv("COMP_CWORD", "sta" if shell == "fish" else "1")
    assert run() == 0
    assert "status" in capsys.readouterr().out


def test_an_unknown_shell_is_told_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", "tcsh") == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["to"], ["top\t"]), ([""], ["plan\t", "run\t"]), (["top", "--on"], ["--once"]), (["nowhere", "x"], [])],
)
def test_kubectl_is_told_what_may_come_next(
    words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    complete_for_kubectl(words)
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == ":4"
    assert all(any(line.startswith(each) for line in told) for each in expected)
    assert expected or len(told) == 1


def test_colours_are_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parents[2] / "docs" / "examples" / "plan"
    assert run("plan", str(example)) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_every_command_that_shows_something_has_a_form_for_machines() -> None:
    doing = {"run", "approve", "snapshot", "settle", "completion"}
    for name, command in commands.commands.items():
        forms = [
            p.type.choices for p in command.params if p.name == "output" and isinstance(p.type, click.Choice)
        ]
        assert name in doing or any("json" in choices for choices in forms), name
