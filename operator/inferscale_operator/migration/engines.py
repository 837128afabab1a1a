"""Model servers, recognised in the container that runs one: vLLM, SGLang, Text Generation Inference (TGI)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from inferscale_queueing.frozen import frozen

Raw = Mapping[str, Any]

SHELLS = frozenset({"sh", "bash", "ash", "dash"})


@frozen
class Engine:
    """A kind of model server."""

    preset: str
    """Metric preset of the same name."""
    image: str
    """Pattern of the last part of an image."""
    command: str
    """Pattern of a word of the command line that starts it."""
    model_flags: tuple[str, ...]
    model_variables: tuple[str, ...]
    batch_flags: tuple[str, ...]
    batch_variables: tuple[str, ...]
    port: int


VLLM = Engine(
    preset="vllm",
    image=r"vllm",
    command=r"^vllm$|/vllm$|^vllm\.entrypoints",
    model_flags=("--model",),
    model_variables=(),
    batch_flags=("--max-num-seqs",),
    batch_variables=(),
    port=8000,
)
SGLANG = Engine(
    preset="sglang",
    image=r"sglang",
    command=r"^sglang$|/sglang$|^sglang\.launch_server",
    model_flags=("--model-path", "--model"),
    model_variables=(),
    batch_flags=("--max-running-requests",),
    batch_variables=(),
    port=30000,
)
TGI = Engine(
    preset="tgi",
    image=r"text-generation-inference|(^|[/_-])tgi($|[:@_-])",
    command=r"text-generation-launcher",
    model_flags=("--model-id",),
    model_variables=("MODEL_ID",),
    batch_flags=("--max-batch-size",),
    batch_variables=("MAX_BATCH_SIZE",),
    port=80,
)
# SGLang's and TGI's images are never named after vLLM; some of vLLM's forks are named after both.
ENGINES = (SGLANG, TGI, VLLM)


@frozen
class ModelServer:
    """A container that runs a model server."""

    engine: Engine
    container: str
    model: str
    """Name or path of the model; empty: it does not say."""
    served_name: str
    """What its series call the model; empty: not known."""
    batch_flag: str | None
    batch_variable: str | None
    batch_hidden: bool
    """The batch limit is set inside a shell command, where nothing else can set it."""
    guessed: bool
    """Told by the port and a flag alone."""


def model_server(pod_spec: Raw) -> ModelServer | None:
    """The model server in a pod; None: no container is one."""
    containers: Sequence[Raw] = pod_spec.get("containers") or ()
    for container in containers:
        words, shell = _command_line(container)
        engine, guessed = _engine(container, words)
        if engine is not None:
            return _described(engine, container, words, shell=shell, guessed=guessed)
    return None


def _engine(container: Raw, words: Sequence[str]) -> tuple[Engine | None, bool]:
    image = str(container.get("image") or "").lower()
    # Without the registry, whose name says nothing.
    name = image.partition("/")[2] or image
    for engine in ENGINES:
        if any(re.search(engine.command, word) for word in words):
            return engine, False
    for engine in ENGINES:
        if re.search(engine.image, name):
            return engine, False
    ports = {port.get("containerPort") for port in container.get("ports") or ()}
    for engine in ENGINES:
        if engine.port in ports and _flag(words, engine.model_flags) and _flag(words, engine.batch_flags):
            return engine, True
    return None, False


def _described(
    engine: Engine, container: Raw, words: Sequence[str], *, shell: bool, guessed: bool
) -> ModelServer:
    variables = _variables(container)
    model = _value(words, engine.model_flags) or _first(variables, engine.model_variables)
    if not model and engine is VLLM:
        model = _positional(words, bare=not container.get("command"))
    served = _value(words, ("--served-model-name",)) or model
    flag = _flag(words, engine.batch_flags)
    variable = next((name for name in engine.batch_variables if name in variables), None)
    in_args = flag is not None and any(
        str(word).partition("=")[0] == flag for word in container.get("args") or ()
    )
    return ModelServer(
        engine=engine,
        container=str(container.get("name") or ""),
        model=model,
        served_name=served,
        batch_flag=flag if in_args and not shell else None,
        batch_variable=variable if flag is None else None,
        batch_hidden=flag is not None and (shell or not in_args),
        guessed=guessed,
    )


def _command_line(container: Raw) -> tuple[list[str], bool]:
    """The words that start a container, and whether a shell takes them apart."""
    parts = [str(part) for key in ("command", "args") for part in container.get(key) or ()]
    shell = bool(parts) and parts[0].rpartition("/")[2] in SHELLS
    words = [word for part in parts for word in (_words(part) if shell else [part])]
    variables = _variables(container)
    return [_filled(word, variables) for word in words], shell


def _words(text: str) -> list[str]:
    text = text.replace("\\\n", " ")
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()


def _filled(word: str, variables: Mapping[str, str]) -> str:
    return re.sub(
        r"\$(?:\((\w+)\)|\{(\w+)\}|(\w+))",
        lambda found: variables.get(found[1] or found[2] or found[3], found[0]),
        word,
    )


def _variables(container: Raw) -> dict[str, str]:
    return {
        str(variable["name"]): str(variable["value"])
        for variable in container.get("env") or ()
        if variable.get("name") and variable.get("value") is not None
    }


def _flag(words: Sequence[str], flags: Sequence[str]) -> str | None:
    """The first of the flags that is among the words."""
    given = {word.partition("=")[0] for word in words}
    return next((flag for flag in flags if flag in given), None)


def _value(words: Sequence[str], flags: Sequence[str]) -> str:
    """The value of the first of the flags that has one; empty: none."""
    for flag in flags:
        for word, following in zip(words, [*words[1:], ""], strict=False):
            name, separator, value = word.partition("=")
            if name == flag and (value if separator else not following.startswith("-") and following):
                return value if separator else following
    return ""


def _first(variables: Mapping[str, str], names: Sequence[str]) -> str:
    return next((variables[name] for name in names if name in variables), "")


def _positional(words: Sequence[str], *, bare: bool) -> str:
    """The model of `vllm serve MODEL`, or the first argument where the image itself has the command."""
    following = list(words)
    if "serve" in following:
        following = following[following.index("serve") + 1 :]
    elif not bare:
        return ""
    return following[0] if following and not following[0].startswith("-") else ""
