"""A parser that says what somebody who mistyped a command, an action or an option probably meant. Knows no command."""

import argparse
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

_CHOICE = re.compile(r"invalid choice: '?(?P<typed>[^' ]*)'? \(choose from (?P<choices>.*)\)$")
_MISSING = "the following arguments are required"
_ELSEWHERE = {"run": "join", "start": "join"}  # what other programs call it, where the nearest name is another thing


class SuggestingParser(argparse.ArgumentParser):
    """Reports what it does not know itself, under its own usage, where argparse leaves that to the parser above."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            mistyped = [text.partition("=")[0] for text in unknown if text.startswith("-")]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_suggest(mistyped, options)}")
        return found, []

    def error(self, message: str) -> NoReturn:
        found = _CHOICE.search(message)
        meant = _suggest([found["typed"]], re.findall(r"[\w-]+", found["choices"])) if found else ""
        if message.startswith(_MISSING):
            meant = f"; `{self.prog} --help` says what there is"
        super().error(message + meant)


def _suggest(typed: Iterable[str], known: Sequence[str]) -> str:
    """A clause for the end of a message; empty where nothing is near."""
    plain = {name.lstrip("-"): name for name in known}  # the dashes, which all have, make nothing alike
    near = [
        _ELSEWHERE[word] if _ELSEWHERE.get(word) in known else next(iter(get_close_matches(word, list(plain), n=1)), "")
        for word in (word.lstrip("-") for word in typed)
    ]
    meant = list(dict.fromkeys(plain[name] for name in near if name))
    return f"; did you mean {' and '.join(meant)}?" if meant else ""
