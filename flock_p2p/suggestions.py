"""A parser that says what somebody who mistyped a command, an action or an option probably meant. Knows no command."""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import takewhile
from typing import Any, NoReturn

from flock_peers.plural import plural

_CHOICE = re.compile(r"invalid choice: '?(?P<typed>[^' ]*)'? \(choose from (?P<choices>.*)\)$")
_OPTION = re.compile(r"-(?!-$|\d*\.?\d+$)[^ =]+(?=$|=)")  # its name; with a space, or a number, it is a value
_ONE_DASH = "an option of one dash and several letters"  # there is none: it may be a secret
_MISSING = "the following arguments are required"
_ELSEWHERE = {"run": "join", "start": "join"}  # what other programs call it, where the nearest name is another thing


class SuggestingParser(argparse.ArgumentParser):
    """Reports what it does not know itself, under its own usage, where argparse leaves that to the parser above. Takes
    no option shortened, and repeats no value of one that it does not know: it may be a secret."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        given = sys.argv[1:] if args is None else list(args)
        if mistyped := self._find_unknown(given):  # before it passes for a longer one, or its value for a command
            told = " ".join(name if name.startswith("--") or len(name) == 2 else _ONE_DASH for name in mistyped)
            self.error(f"unrecognized arguments: {told}{suggest(mistyped, self._options)}")
        found, unknown = super().parse_known_args(given, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {self._tell(unknown)}")
        return found, []

    @property
    def _options(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings]

    def _find_unknown(self, given: Sequence[str]) -> list[str]:
        """Names of options that are none of this parser's; what comes after a command is for that one's parser."""
        own = takewhile(_OPTION.match, given) if self._subparsers else takewhile(lambda text: text != "--", given)
        unknown: list[str] = []
        after_unknown = False  # where a value stands, which may begin with a dash: no name to be repeated
        for text in own:
            found = _OPTION.match(text)
            is_unknown = found is not None and found[0] not in self._options
            if found and is_unknown and not after_unknown:
                unknown.append(found[0])
            after_unknown = is_unknown and not after_unknown
        return unknown

    def _tell(self, unknown: Sequence[str]) -> str:
        """A word too many is repeated, but where a passphrase can be meant: `keys lock WORD` is easily typed."""
        if "--passphrase-fd" not in self._options:
            return " ".join(unknown)
        words = plural(len(unknown), "word")
        return f"{words} too many, not repeated here; a passphrase is asked for, and never typed there"

    def error(self, message: str) -> NoReturn:
        found = _CHOICE.search(message)
        meant = suggest([found["typed"]], re.findall(r"[\w-]+", found["choices"])) if found else ""
        if message.startswith(_MISSING):
            meant = f"; `{self.prog} --help` says what there is"
        super().error(message + meant)


def suggest(typed: Iterable[str], known: Sequence[str]) -> str:
    """A clause for the end of a message; empty where nothing is near."""
    plain = {name.lstrip("-"): name for name in known}  # the dashes, which all have, make nothing alike
    near = [
        _ELSEWHERE[word] if _ELSEWHERE.get(word) in known else next(iter(get_close_matches(word, list(plain), n=1)), "")
        for word in (word.lstrip("-") for word in typed)
    ]
    meant = list(dict.fromkeys(plain[name] for name in near if name))
    return f"; did you mean {' and '.join(meant)}?" if meant else ""
