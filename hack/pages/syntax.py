"""Whether a command has the form that its program takes, without running it."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import click

from inferscale_operator.cli import commands
from localcluster import cli as cluster_cli
from pages.fences import Command

ROOT = Path(__file__).resolve().parents[2]
OTHERS = frozenset(
    {
        "cd",
        "curl",
        "grep",
        "docker",
        "eval",
        "export",
        "git",
        "go",
        "kind",
        "oc",
        "pip",
        "python",
        "python3",
        "source",
    }
)
"""Programs of which nothing but the shell's syntax is checked."""
_ENDS = re.compile(r"\|\||&&|[|;]")
_OPTION = re.compile(r"^--?[A-Za-z][\w-]*")
_NESTED = {"helm": (), "kubectl": ("config", "create", "rollout", "top", "auth", "inferscale")}
"""Subcommands of a program that have subcommands."""


def faults(command: Command, programs: Mapping[str, Path]) -> Iterator[str]:
    """What is wrong with a command.

    Args:
        command: It.
        programs: kubectl and helm, as far as they are there; of others no options are checked.
    """
    parsed = subprocess.run(
        ["bash", "-n"], check=False, input=command.text, capture_output=True, text=True, timeout=10
    )
    if parsed.returncode != 0:
        yield parsed.stderr.strip()
        return
    for words in _simple(command.text):
        program, arguments = Path(words[0]).name, words[1:]
        if program == "kubectl" and arguments[:1] == ["inferscale"]:
            program, arguments = "inferscale", arguments[1:]
        if program == "inferscale":
            yield from _ours(arguments)
        elif program in _NESTED:
            if program in programs:
                yield from _theirs(programs[program], program, arguments)
        elif program == "make":
            yield from _make(arguments)
        elif program == "cluster":
            yield from _cluster(arguments)
        elif program not in OTHERS:
            yield f"{program} is no program that is known here"


def _simple(text: str) -> Iterator[list[str]]:
    """The simple commands of a line, without variables that are set for them and without redirections."""
    text = re.sub(r"<<.*", "", text.replace("\\\n", " "), flags=re.DOTALL)
    text = re.sub(r"^[A-Z_]+=\$\((.*)\)$", r"\1", text)
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|;&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if _ENDS.fullmatch(word):
            while words and re.match(r"^[A-Z_]+=", words[0]):
                words.pop(0)
            if words:
                yield words
            words = []
        else:
            words.append(word)


def _ours(arguments: list[str]) -> Iterator[str]:
    if not arguments or arguments[0].startswith("-"):
        return
    name, *rest = arguments
    command = commands.commands.get(name)
    if command is None:
        yield f"inferscale has no command {name}"
        return
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {
        "-h",
        "--help",
    }
    yield from (f"inferscale {name} has no option {word}" for word in _options(rest) if word not in known)
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and parameter.required and not rest:
            yield f"inferscale {name} needs {parameter.human_readable_name}"


def _theirs(path: Path, program: str, arguments: list[str]) -> Iterator[str]:
    named = [word for word in arguments if not word.startswith("-")]
    depth = 2 if named and named[0] in _NESTED[program] else 1
    subcommand = tuple(named[:depth])
    text = _help(path, subcommand) + (_help(path, ("options",)) if program == "kubectl" else "")
    if f"{program} {subcommand[0]}" not in text:
        yield f"{program} has no command {' '.join(subcommand)}"
        return
    for word in _options(arguments):
        if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text):
            yield f"{program} {' '.join(subcommand)} has no option {word}"


@cache
def _help(path: Path, subcommand: tuple[str, ...]) -> str:
    command = [path, *subcommand] if subcommand == ("options",) else [path, *subcommand, "--help"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    return done.stdout


def _make(arguments: list[str]) -> Iterator[str]:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    for word in arguments:
        if "=" not in word and word not in targets:
            yield f"make has no target {word}"


def _cluster(arguments: list[str]) -> Iterator[str]:
    try:
        cluster_cli._parser().parse_args(arguments)  # noqa: SLF001
    except SystemExit:
        yield f"hack/cluster does not take {' '.join(arguments)}"


def _options(words: list[str]) -> Iterator[str]:
    """Names of options; what follows `--` is another program's."""
    for word in words:
        if word == "--":
            return
        if found := _OPTION.match(word):
            # `-nchat`, `-ojson`: the letter alone is the option.
            yield found[0] if word.startswith("--") else word[:2]
