"""Generated text of three domains: arithmetic problems, structured records, service logs. Pure: chance is passed in.

Every function yields single lines; which line belongs to whom is decided by domains.py from the line's own hash.
"""

import json
from collections.abc import Callable
from random import Random

_NAMES = ("Ann", "Bob", "Mia", "Tom", "Lea", "Sam", "Eve", "Max")
_THINGS = ("apples", "coins", "books", "pens", "cards", "eggs", "stones", "shells")
_CITIES = ("Oslo", "Lima", "Cairo", "Quito", "Osaka", "Turin", "Dakar", "Perth")
_GOODS = ("lamp", "chair", "cable", "mug", "shelf", "clock", "paper", "knife")
_SERVICES = ("gateway", "billing", "search", "mailer", "worker", "cache")
_ROUTES = ("/login", "/cart", "/items", "/report", "/export", "/health")
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


def log_line(chance: Random) -> str:
    hour, minute, second = chance.randrange(24), chance.randrange(60), chance.randrange(60)
    service, process = chance.choice(_SERVICES), chance.randint(100, 999)
    head = f"[{hour:02d}:{minute:02d}:{second:02d}] {service}[{process}]"
    kind = chance.randrange(4)
    if kind == 0:
        status = chance.choice((200, 200, 200, 304, 404, 500))
        level = "ERROR" if status == 500 else "INFO"
        return f"{head} {level} GET {chance.choice(_ROUTES)} status {status} took {chance.randint(2, 900)} ms"
    if kind == 1:
        return f"{head} INFO connection from 10.0.{chance.randrange(8)}.{chance.randint(1, 254)} accepted"
    if kind == 2:
        left = chance.randint(1, 5)
        return f"{head} WARN retry {6 - left} of 5 for job {chance.randint(1_000, 9_999)}, {left} attempts left"
    return f"{head} INFO flushed {chance.randint(10, 990)} entries, {chance.randint(1, 99)} per cent of memory in use"


GENERATORS: dict[str, Callable[[Random], str]] = {
    "arithmetic": arithmetic_line,
    "records": record_line,
    "logs": log_line,
}
