"""Generated text of two domains: arithmetic problems and structured records. Pure: chance comes from the caller.

Every function yields single lines; which line belongs to whom is decided by domains.py from the line's own hash.
"""

import json
from collections.abc import Callable
from random import Random

_NAMES = ("Ann", "Bob", "Mia", "Tom", "Lea", "Sam", "Eve", "Max")
_THINGS = ("apples", "coins", "books", "pens", "cards", "eggs", "stones", "shells")
_CITIES = ("Oslo", "Lima", "Cairo", "Quito", "Osaka", "Turin", "Dakar", "Perth")
_GOODS = ("lamp", "chair", "cable", "mug", "shelf", "clock", "paper", "knife")
_STATES = ("open", "paid", "sent", "lost")


def arithmetic_line(chance: Random) -> str:
    a, b, c = chance.randint(2, 99), chance.randint(2, 99), chance.randint(2, 12)
    name, other = chance.sample(_NAMES, 2)
    thing = chance.choice(_THINGS)
    kind = chance.randrange(6)
    if kind == 0:
        question = f"{name} has {a} {thing} and {other} gives {name} {b} more. How many {thing} does {name} have now?"
        return f"Question: {question} Answer: {a} + {b} = {a + b}."
    if kind == 1:
        question = f"{name} had {a + b} {thing} and lost {b}. How many {thing} are left?"
        return f"Question: {question} Answer: {a + b} - {b} = {a}."
    if kind == 2:
        return f"Question: {c} boxes hold {a} {thing} each. How many {thing} in total? Answer: {c} * {a} = {c * a}."
    if kind == 3:
        return f"Solve {c}x + {b} = {c * a + b}. Subtract {b}: {c}x = {c * a}. Divide by {c}: x = {a}."
    if kind == 4:
        return f"Compute ({a} + {b}) * {c}. First {a} + {b} = {a + b}. Then {a + b} * {c} = {(a + b) * c}."
    return f"Compute {c * a} / {c}. Since {c} * {a} = {c * a}, {c * a} / {c} = {a}."


def record_line(chance: Random) -> str:
    price, count = chance.randint(100, 9_999), chance.randint(1, 40)
    row = {
        "id": f"{chance.choice('ABCD')}{chance.randint(1_000, 9_999)}",
        "name": chance.choice(_NAMES).lower(),
        "city": chance.choice(_CITIES),
        "good": chance.choice(_GOODS),
        "count": count,
        "price": price / 100,
        "total": round(price * count / 100, 2),
        "date": f"20{chance.randint(10, 29)}-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}",
        "state": chance.choice(_STATES),
    }
    kind = chance.randrange(3)
    if kind == 0:
        return json.dumps(row)
    if kind == 1:
        return ";".join(str(value) for value in row.values())
    return " ".join(f"{key}={value}" for key, value in row.items())


GENERATORS: dict[str, Callable[[Random], str]] = {"arithmetic": arithmetic_line, "records": record_line}
