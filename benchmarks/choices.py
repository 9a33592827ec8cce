"""Options that take several words with commas between them: one that is not known is refused before anything starts."""

import argparse
from collections.abc import Callable, Collection


def several(known: Collection[str]) -> Callable[[str], list[str]]:
    """For `type` of an option; "" is none of them."""

    def parse(text: str) -> list[str]:
        words = [word for word in text.split(",") if word]
        if unknown := [word for word in words if word not in known]:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {', '.join(known)}")
        return words

    return parse


def numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",") if word]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers, with commas between them") from error
