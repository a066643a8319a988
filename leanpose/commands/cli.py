"""The command line: `leanpose VERB ...`. A verb, of one word or two, is a typed function; its signature and docstring
are the options.

Only the module of the verb that was asked for is imported, so `leanpose predict` never imports torch.
"""

from __future__ import annotations

import importlib
import inspect
import io
import os
import re
import sys
import typing
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from types import ModuleType
from typing import Any, TextIO

import leanpose
from leanpose.errors import InputError, LeanposeError, missing, suggest

COMMANDS = {
    "predict": "leanpose.commands.predict:predict_files",
    "batch": "leanpose.commands.batch:batch",
    "serve": "leanpose.commands.serve:serve",
    "angles": "leanpose.commands.angles:angles",
    "evaluate": "leanpose.evaluation.evaluate:evaluate",
    "train": "leanpose.commands.train:train_recipe",
    "export": "leanpose.deploy.export:export",
    "latency": "leanpose.search.search:latency",
    "search": "leanpose.search.search:search",
    "quantize": "leanpose.deploy.quantize:quantize",
    "calibrate": "leanpose.deploy.calibrate:calibrate",
    "convert": "leanpose.models.checkpoints:convert",
    "data check": "leanpose.commands.check_data:check_data",
    "data convert": "leanpose.commands.convert_data:convert_data",
    "data split": "leanpose.commands.split_data:split_data",
    "data show": "leanpose.commands.show_data:show_data",
    "data stats": "leanpose.commands.show_data:data_stats",
    "benchmark": "leanpose.commands.benchmark:benchmark",
    "models": "leanpose.commands.models:models",
    "download": "leanpose.commands.download:download_files",
}
SHORT = {"--out": "-o"}  # options that have a letter too
SUMMARIES = {
    "predict": "find keypoints in images and write JSON, CSV, COCO or drawn images",
    "batch": "find keypoints in archives, on a cluster or this machine; goes on where it stopped",
    "serve": "open a page for photos, clips and the camera, and a REST service",
    "angles": "turn the poses of a video into joint angles over time: a table, and an image for each person",
    "evaluate": "measure a model on an annotated set with the official metric",
    "train": "train a network from a recipe, or make one for a set of your own (--new)",
    "export": "write trained weights for phones, boards and browsers, and prove that both agree",
    "latency": "time the parts of a supernet's networks on this machine",
    "search": "find the best network of a supernet under a limit of multiply-adds or milliseconds",
    "quantize": "turn trained weights into int8, as far as their accuracy allows",
    "calibrate": "make scores of keypoints the chances that these are right",
    "convert": "turn a published checkpoint into leanpose weights",
    "data check": "list all faults of an annotated set",
    "data convert": "convert annotations between COCO, YOLO-pose, labelme, makesense and DeepLabCut",
    "data split": "split an annotated set into parts, such as train and val",
    "data show": "draw annotations on contact sheets",
    "data stats": "count persons, sizes, visibility and places of keypoints, with plots",
    "benchmark": "time models on this machine, step by step",
    "models": "list the networks: size, cost, published figures, weights that come with leanpose; or public weights",
    "download": "fetch public weights: names of `models --public`, or best",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 1 after a check with errors, 2 for unusable input, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack the letters of a file's name
    with redirect_stdout(_Output(sys.stdout)), redirect_stderr(_Output(sys.stderr)):
        try:
            code = _run(arguments)
            sys.stdout.flush()
            return code
        except LeanposeError as error:
            print(f"leanpose: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt as error:
            print(f"leanpose: {str(error) or 'stopped'}", file=sys.stderr)
            return 130


class _Output:
    """Standard output or error; once its reader has left (`| head`), the command goes on, and prints to nowhere."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream or io.StringIO()  # None: closed from the beginning

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._until_unread(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._until_unread(self._stream.flush)

    def _until_unread(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if not isinstance(error, BrokenPipeError):
                raise InputError(f"The output cannot be written ({error.strerror}); free space.") from None


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"leanpose {leanpose.__version__}")
        return 0
    verb, rest = _verb(arguments)
    if verb is None:
        return 0
    module, _, name = COMMANDS[verb].partition(":")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what is wrong with an image, we say ourselves
    function = getattr(_import(module), name)
    parsed = parse(verb, function, rest)
    if parsed is None:  # help was shown
        return 0
    positional, named = parsed
    result = function(*positional, **named)
    if result is not None:
        print(result)
    return getattr(result, "exit_code", 0)


def _verb(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Split off the verb, which may have two words ("data check"); None where its group's verbs were listed."""
    first, *rest = arguments
    group = [verb for verb in COMMANDS if verb.startswith(f"{first} ")]
    if group and (not rest or rest[0] in ("-h", "--help")):
        print(_overview(group))
        return None, []
    verb, rest = (f"{first} {rest[0]}", rest[1:]) if group else (first, rest)
    if verb not in COMMANDS:
        raise InputError(f"There is no command '{verb}'.{suggest(verb, group or COMMANDS)}")
    return verb, rest


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "leanpose"):
            raise
        raise missing(package, "train") from None


def _overview(verbs: Iterable[str] = COMMANDS) -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = "\n".join(f"  {verb:<{width}}{SUMMARIES[verb]}" for verb in verbs)
    return f"usage: leanpose COMMAND ...\n\n{lines}\n\nleanpose COMMAND --help lists the options of a command."


def parse(verb: str, function: Callable[..., Any], words: list[str]) -> tuple[list[Any], dict[str, Any]] | None:
    """Turn words into the arguments of a function, by its signature and docstring.

    Parameters without a default are positional (a list takes one word or more) and `*names` takes all words that are
    left. Parameters with a default or behind a `*` are options, `--a-b VALUE` for `a_b`; a bool is a switch. Sizes are
    written 256x192.

    Returns:
        Positional and named arguments, or None after `--help`.

    Raises:
        InputError: an option is unknown (the nearest is suggested), or a value does not fit its type.
    """
    from docstring_parser import parse as parse_docstring
    from jsonargparse import ArgumentError

    docstring = parse_docstring(inspect.getdoc(function) or "")
    texts = {entry.arg_name.lstrip("*"): entry.description for entry in docstring.params}
    parser = _parser(verb, docstring.description or "")
    types = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    options = {}
    for parameter in parameters:
        kind, name = types[parameter.name], parameter.name
        settings: dict[str, Any] = {"help": texts.get(name, "")}
        if parameter.kind is parameter.VAR_POSITIONAL:
            settings |= {"type": kind, "nargs": "*", "default": []}
        elif _is_positional(parameter):
            settings |= {"type": typing.get_args(kind)[0], "nargs": "+"} if _is_list(kind) else {"type": kind}
        else:
            name = options[parameter.name] = "--" + name.replace("_", "-")
            is_size = kind == tuple[int, int]
            settings |= {"action": "store_true"} if kind is bool else {"type": str if is_size else kind}
            if parameter.default is parameter.empty:
                settings["required"] = True
            else:
                default = parameter.default
                settings["default"] = "x".join(map(str, default)) if is_size else default
        parser.add_argument(name, *([SHORT[name]] if name in SHORT else []), **settings)
    end = words.index("--") if "--" in words else len(words)  # behind it there are no options
    single = [parameter.name for parameter in parameters if parameter.name not in options]
    head = _checked_options(verb, words[:end], options.values(), single)
    try:
        with_value = [option for name, option in options.items() if types[name] is not bool]
        values = parser.parse_args(_options_first(head, words[end + 1 :], with_value))
    except ArgumentError as error:
        raise InputError(f"{_reason(str(error), verb, options, single)}; see leanpose {verb} --help.") from None
    except SystemExit:
        return None
    positional: list[Any] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += values[parameter.name] or []
        elif parameter.name not in options:
            positional.append(values[parameter.name])
    named = {name: values[name] for name in options}
    return positional, {
        name: _size(options[name], value) if types[name] == tuple[int, int] else value for name, value in named.items()
    }


def _checked_options(verb: str, words: list[str], options: Collection[str], single: Collection[str]) -> list[str]:
    """Return the words with whole names in place of letters; InputError for options unknown or given twice."""
    whole = {letter: option for option, letter in SHORT.items() if option in options}
    checked, seen = [], set()
    for word in words:
        if _is_option(word):
            given, equals, value = word.partition("=")
            option = whole.get(given, given)
            if option not in (*options, "-h", "--help"):
                name = given.lstrip("-").rstrip("s")
                if name in (one.rstrip("s") for one in single):
                    raise InputError(
                        f"leanpose {verb} takes the {name} without {given}: leanpose {verb} {name.upper()}."
                    )
                near = suggest(given.lstrip("-"), [known.removeprefix("--") for known in options], "--")
                raise InputError(f"leanpose {verb} has no option {given}.{near} See leanpose {verb} --help.")
            if option in seen:
                raise InputError(f"{option} is given twice; leave one of them out.")
            seen.add(option)
            word = option + equals + value
        checked.append(word)
    return checked


def _is_option(word: str) -> bool:
    """Whether a word is an option: it begins with a minus that is not that of a number."""
    return re.match(r"-(?![\d.]|$)", word) is not None


def _parser(verb: str, description: str) -> Any:
    """Return an empty parser that shows its description with the line breaks that it has."""
    from argparse import RawDescriptionHelpFormatter

    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    class Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
        pass

    return ArgumentParser(
        prog=f"leanpose {verb}", description=description, formatter_class=Formatter, exit_on_error=False
    )


def _options_first(words: list[str], last: list[str], with_value: Collection[str]) -> list[str]:
    """Put options before the other words and the last, "--" between, and join each with its value (--boxes=-5,0,9,9).

    The parser asks for it where other words stand in two places, or a value begins with a minus.
    """
    options: list[str] = []
    others: list[str] = []
    for word in words:
        if options and options[-1] in with_value and not _is_option(word):
            options[-1] += "=" + word
        else:
            (options if word.startswith("-") else others).append(word)
    others += last
    return [*options, "--", *others] if others else options


def _is_positional(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD


def _reason(message: str, verb: str, options: dict[str, str], single: Sequence[str]) -> str:
    """Put an error of the parser into one short sentence."""
    message = " ".join(message.split())
    wrong_value = re.search(r'Parser key "(\w+)".*(?:Given|Got) value: (.*)$', message)
    if wrong_value:
        name, value = wrong_value.groups()
        return f"{options.get(name, name)} cannot be '{value}'"
    message = message.rstrip(".")
    if absent := re.search(r"arguments are required: (.*)$", message):
        return f"leanpose {verb} lacks {', '.join(options.get(name, name) for name in absent[1].split(', '))}"
    if more := re.search(r"nrecognized arguments: (.*)$", message):
        return f"leanpose {verb} takes one {' and one '.join(single)}, so '{more[1]}' is too much; run it once for each"
    return message


def _is_list(kind: Any) -> bool:
    return typing.get_origin(kind) is list


def _size(option: str, text: str) -> tuple[int, int]:
    """Read "256x192" as (height, width)."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise InputError(f"{option} must be height x width in pixels, such as 256x192, not '{text}'.")
    height, width = map(int, text.split("x"))
    return height, width


if __name__ == "__main__":
    sys.exit(main())
