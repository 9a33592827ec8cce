"""Finds where one small change of the Vyper sources makes a wrong contract. Knows text; compiles and runs nothing.

Sites are found by pattern in the lines of code, so sources may change freely. Each mutant changes one line.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

_MODULES = "book|stakes|epochs|evidence|absence|admission|exits|rewards|audits|changes|self"
_STATE = rf"(?:{_MODULES})\.[\w.]+(?:\[[^=]*?\])*(?:\.\w+)*"
_DURATION = r"[\w.\[\]]*(?:_seconds|_delay|_window|_lock|_blocks|_rounds)\b"


@dataclass(frozen=True)
class Operator:
    name: str
    pattern: re.Pattern[str]
    replacement: str  # of each match by itself
    whole_line: bool = False


def _operator(name: str, pattern: str, replacement: str, whole_line: bool = False) -> Operator:
    return Operator(name, re.compile(pattern), replacement, whole_line)


OPERATORS: tuple[Operator, ...] = (
    _operator("drop the check", r"^(\s+)assert .*$", r"\1pass", whole_line=True),
    _operator("drop the deduction", rf"^(\s+){_STATE} -= .*$", r"\1pass", whole_line=True),
    _operator("drop the addition", rf"^(\s+){_STATE} (?:\+|\|)= .*$", r"\1pass", whole_line=True),
    _operator("drop the write", rf"^(\s+){_STATE} = .*$", r"\1pass", whole_line=True),
    _operator("drop the call", r"^(\s+)\w+\._\w+\(.*\)$", r"\1pass", whole_line=True),
    _operator("flip the addition", r" \+= ", " -= "),
    _operator("flip the deduction", r" -= ", " += "),
    _operator("flip plus", r" \+ ", " - "),
    _operator("flip minus", r" - ", " + "),
    _operator("late by one", rf"\+ ({_DURATION})", r"+ 1 + \1"),
    _operator("open boundary", r" <= ", " < "),
    _operator("open boundary", r" >= ", " > "),
    _operator("closed boundary", r" < ", " <= "),
    _operator("closed boundary", r" > ", " >= "),
    _operator("negate equality", r" == ", " != "),
    _operator("negate inequality", r" != ", " == "),
    _operator("or for and", r" and ", " or "),
    _operator("and for or", r" or ", " and "),
    _operator("drop the not", r"\bnot (?!in\b)", ""),
    _operator("max for min", r"\bmin\(", "max("),
    _operator("min for max", r"\bmax\(", "min("),
    _operator("wrong factor", r"(?<![\w.\[])([2-9]) \*", r"1 *"),
    _operator("off by one", r"(?<=[ (])1(?=[ ),]|$)", "2"),
    _operator("off by one", r"(?<=[ (])0(?=[ ),]|$)", "1"),
)
_CONSTANT = re.compile(r"^(\w+: constant\(u?int256\) = )(\d[\d_]*)(?=$|\s)")


@dataclass(frozen=True)
class Mutant:
    module: str
    operator: str
    line: int  # from 1
    before: str
    after: str
    occurrence: int  # of this very change in its function
    function: str  # the whole text of the function that it is in; outside of functions the line alone

    @cached_property
    def key(self) -> str:
        """Stays the same while other functions change."""
        text = f"{self.module}|{self.function}|{self.before.strip()}|{self.after.strip()}|{self.occurrence}"
        return sha256(text.encode()).hexdigest()[:8]

    def apply(self, sources: Path) -> None:
        path = sources / f"{self.module}.vy"
        lines = path.read_text("utf-8").split("\n")
        assert lines[self.line - 1] == self.before
        lines[self.line - 1] = self.after
        path.write_text("\n".join(lines), "utf-8")


def find_mutants(sources: Path) -> list[Mutant]:
    """Every mutant of every module, in the order of the text."""
    return [mutant for path in sorted(sources.glob("*.vy")) for mutant in _find_in(path)]


def _find_in(path: Path) -> Iterator[Mutant]:
    text = path.read_text("utf-8")
    functions = _functions(text)
    seen: Counter[tuple[str, str, str]] = Counter()
    for number, line, is_code in _lines(text):
        function = functions[number] if is_code else line
        for operator, after in _changes(line, is_code):
            change = (function, line.strip(), after.strip())
            yield Mutant(path.stem, operator, number, line, after, seen[change], function)
            seen[change] += 1


def _functions(text: str) -> dict[int, str]:
    """The text of the function that each line is in, by the line's number."""
    rows: dict[int, list[str]] = {}
    current: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("def "):
            current = []
        current.append(line.strip())
        rows[number] = current
    return {number: "\n".join(lines).strip() for number, lines in rows.items()}


def _lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Number, line, and whether it is a statement of a function; without documentation and logs."""
    in_text, in_function, open_brackets = False, False, 0
    for number, line in enumerate(text.split("\n"), start=1):
        if '"""' in line:
            in_text = not in_text if line.count('"""') == 1 else in_text
            continue
        if in_text or not line.strip():
            continue
        is_start = line.startswith("def ")
        if not line.startswith((" ", ")")):
            in_function = is_start
            open_brackets = 0
        is_signature = is_start or open_brackets > 0
        if is_signature:
            open_brackets += line.count("(") - line.count(")")
        is_code = in_function and not is_signature and line.startswith("    ")
        if is_code and line.strip().startswith(("log ", "#")):
            continue
        if is_code or not line.startswith(" "):
            yield number, line, is_code


def _changes(line: str, is_code: bool) -> Iterator[tuple[str, str]]:
    code, mark, comment = line.partition("  #")
    if not is_code:
        if found := _CONSTANT.match(code):
            yield "wrong constant", f"{found[1]}{int(found[2]) + 1}{code[found.end() :]}{mark}{comment}"
        if code == "@nonreentrant":
            yield "drop the lock", "# " + code
        return
    message = code.rfind(', "')  # of an assertion: no change belongs into its words
    head, tail = (code[:message], code[message:]) if message >= 0 else (code, "")
    for operator in OPERATORS:
        if operator.whole_line:
            if operator.pattern.match(code) and code.count("(") == code.count(")"):
                yield operator.name, operator.pattern.sub(operator.replacement, code)
            continue
        if head.strip().startswith(("for ", "import")):
            continue
        for found in operator.pattern.finditer(head):
            changed = found.expand(operator.replacement)
            yield operator.name, head[: found.start()] + changed + head[found.end() :] + tail + mark + comment


def pick(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """All mutants in an order of which any beginning is spread over the modules by size, and over the operators.

    By chance, but that of each function alone: a change of one function changes little of the order.
    """
    left: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        left.setdefault(mutant.module, []).append(mutant)
    for rows in left.values():
        rows.sort(key=lambda mutant: sha256(f"{seed}|{mutant.key}".encode()).digest())
    sizes = {module: len(rows) for module, rows in left.items()}
    taken: Counter[str] = Counter()
    operators: Counter[str] = Counter()
    order: list[Mutant] = []
    while len(order) < min(count, len(mutants)):
        module = min((m for m in left if left[m]), key=lambda m: ((taken[m] + 0.5) / sizes[m] ** 0.5, m))
        rows = left[module]
        best = min(range(len(rows)), key=lambda at: (operators[rows[at].operator], at))
        order.append(rows.pop(best))
        taken[module] += 1
        operators[order[-1].operator] += 1
    return order
