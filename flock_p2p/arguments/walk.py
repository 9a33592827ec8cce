"""The parser as a list: which commands there are and what each is told. For whoever writes about it or completes it."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Argument:
    """One argument that its user may know of."""

    options: tuple[str, ...]  # empty for a positional one
    value: str  # its name in the usage; empty for a flag
    choices: tuple[str, ...]
    is_path: bool
    is_required: bool
    default: str  # empty where nothing is assumed
    help: str


@dataclass(frozen=True)
class Listed:
    name: str
    description: str
    arguments: tuple[Argument, ...]

    @property
    def options(self) -> list[str]:
        return [option for argument in self.arguments for option in argument.options]


def walk(parser: argparse.ArgumentParser) -> Iterator[Listed]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield Listed(name, str(sub.description or ""), tuple(_list(sub)))


def _list(parser: argparse.ArgumentParser) -> Iterator[Argument]:
    formatter = parser._get_formatter()
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        takes_value = action.nargs != 0 and not isinstance(action, argparse.BooleanOptionalAction)
        choices = tuple(str(choice) for choice in action.choices or ())
        name = action.metavar if isinstance(action.metavar, str) else "" if choices else action.dest.upper()
        yield Argument(
            options=tuple(action.option_strings),
            value=(name or "{" + ",".join(choices) + "}") if takes_value else "",
            choices=choices,
            is_path=action.type is Path,
            is_required=action.required,
            default=str(action.default) if action.default and action.default != argparse.SUPPRESS else "",
            help=formatter._expand_help(action) if action.help else "",
        )
