"""Static checks of vyper/*.vy: `python -m flock_contracts.check_sources [FOLDER]`. Needs vyper (development).

Works on the syntax trees alone and follows calls between modules; compiles nothing. Findings, each with its place:
a state change after coins were sent or another contract was called; a function that sends and has no lock; a result of
a call that nobody looks at; a loop whose bound is unknown or large; a state variable that nobody reads or nobody
writes; a payable function that forgets the value; an assertion without a reason; a comparison that coins sent by force
would break; chance or identity from where the sender chooses it.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vyper.ast as ast
from vyper.ast import parse_to_ast

SOURCES = Path(__file__).parent / "vyper"
MAX_STEPS = 4_096  # passes of nested loops: at 5,000 gas each two thirds of a block
SENDING = ("raw_call", "send", "raw_create", "create_minimal_proxy_to", "create_copy_of", "create_from_blueprint")
FORBIDDEN = {
    "tx.origin": "whoever a user calls could act as the user",
    "block.prevrandao": "the leader of a block knows it first; seeds come from the beacon",
    "block.coinbase": "the leader of a block chooses it",
    "self.balance ==": "coins sent by force would break an equality",
    "unsafe_": "arithmetic that may wrap",
    "selfdestruct": "the contract would be gone with everybody's coins",
    "is_delegate_call": "another contract's code would change this one's state",
}
TRUSTED = "IDelegation(types.DELEGATION)."  # by this interface it sends nothing and calls nobody; a test sees to it
ALLOWED = {
    ("Faucet", "initialize takes coins and forgets them"): "the faucet's funds are its balance less what it owes",
}
Node = Any  # vyper's syntax tree carries no types
Found = tuple[str, Node]  # "write" or "send", and where


@dataclass(frozen=True, order=True)
class Finding:
    module: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.module}.vy:{self.line}: {self.what}"


@dataclass
class Module:
    name: str
    tree: Node
    functions: dict[str, Node] = field(default_factory=dict)
    state: dict[str, Node] = field(default_factory=dict)  # declarations
    constants: dict[str, Node] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)


class Sources:
    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.vy"))
        self.modules = {path.stem: _read(path) for path in paths}

    def check(self) -> list[Finding]:
        checks: tuple[Callable[[Module, Node], Iterator[Finding]], ...] = (
            self._sending, self._results, self._loops, self._values, self._assertions, self._words,
        )  # fmt: skip
        found = [
            finding
            for module in self.modules.values()
            for function in module.functions.values()
            for check in checks
            for finding in check(module, function)
        ]
        return sorted(one for one in {*found, *self._unused()} if (one.module, one.what) not in ALLOWED)

    # ---- what a function does, in order, with everything that it calls

    def _effects(self, module: Module, node: Node, calling: tuple[str, ...] = ()) -> Iterator[Found]:
        for statement in node.body:
            yield from self._statement(module, statement, calling)

    def _statement(self, module: Module, node: Node, calling: tuple[str, ...]) -> Iterator[Found]:
        if isinstance(node, ast.If):
            yield from self._expression(module, node.test, calling)
            yield from self._effects(module, node, calling)
            for other in node.orelse:
                yield from self._statement(module, other, calling)
        elif isinstance(node, ast.For):
            yield from self._expression(module, node.iter, calling)
            for _ in range(2):  # what ends a pass comes before what begins the next
                yield from self._effects(module, node, calling)
        else:
            yield from self._expression(module, node, calling)
            if isinstance(node, ast.Assign | ast.AugAssign) and self._is_state(module, node.target):
                yield "write", node

    def _expression(self, module: Module, node: Node, calling: tuple[str, ...]) -> Iterator[Found]:
        for call in node.get_descendants((ast.Call, ast.ExtCall), include_self=True):
            if isinstance(call, ast.ExtCall):
                if not _code(call.value).startswith(TRUSTED):
                    yield "send", call
                continue
            name = _name(call.func)
            if name in SENDING:
                yield "send", call
            elif name.rsplit(".", 1)[-1] in ("append", "pop") and self._is_state(module, call.func):
                yield "write", call
            elif (target := self._target(module, name)) is not None and name not in calling:
                yield from self._effects(*target, (*calling, name))

    def _target(self, module: Module, name: str) -> tuple[Module, Node] | None:
        owner, _, function = name.rpartition(".")
        other = module if owner == "self" else self.modules.get(owner) if owner in module.imports else None
        return (other, other.functions[function]) if other and function in other.functions else None

    def _is_state(self, module: Module, node: Node) -> bool:
        return self._state_of(module, node) is not None

    def _state_of(self, module: Module, node: Node) -> tuple[str, str] | None:
        """Module and name of the state variable at the root of an expression."""
        chain: list[str] = []
        while not isinstance(node, ast.Name):
            if isinstance(node, ast.Attribute):
                chain.append(node.attr)
            elif not isinstance(node, ast.Subscript):
                return None
            node = node.value
        owner = module.name if node.id == "self" else node.id
        if not chain or (owner != module.name and owner not in module.imports):
            return None
        known = self.modules.get(owner)
        return (owner, chain[-1]) if known and chain[-1] in known.state else None

    # ---- the checks of a function

    def _sending(self, module: Module, function: Node) -> Iterator[Finding]:
        if not _is(function, "external"):
            return
        effects = list(self._effects(module, function))
        sends = [index for index, (kind, _) in enumerate(effects) if kind == "send"]
        if not sends:
            return
        if not _is(function, "nonreentrant"):
            yield Finding(module.name, function.lineno, f"{function.name} sends and is not @nonreentrant")
        for kind, node in effects[sends[0] :]:
            if kind == "write":
                what = f"{function.name} changes state after it sent: {_code(node)}"
                yield Finding(module.name, function.lineno, what)

    def _results(self, module: Module, function: Node) -> Iterator[Finding]:
        for statement in function.get_descendants(ast.Expr):
            call = statement.value
            if not isinstance(call, ast.Call) or _name(call.func) not in SENDING:
                continue
            lenient = [word for word in call.keywords if word.arg == "revert_on_failure"]
            if lenient or _name(call.func) == "send":
                yield Finding(module.name, call.lineno, f"nobody looks whether it failed: {_code(call)}")

    def _loops(self, module: Module, function: Node) -> Iterator[Finding]:
        for loop in function.get_descendants(ast.For):
            steps, around = 1, loop
            while isinstance(around, ast.VyperNode) and not isinstance(around, ast.FunctionDef):
                if isinstance(around, ast.For):
                    bound = self._bound(module, function, around.iter)
                    if bound is None:
                        yield Finding(module.name, around.lineno, f"a loop without a known bound: {_code(around.iter)}")
                        break
                    steps *= bound
                around = around.get_ancestor()
            if steps > MAX_STEPS:
                yield Finding(module.name, loop.lineno, f"up to {steps} passes of nested loops")

    def _bound(self, module: Module, function: Node, node: Node) -> int | None:
        if isinstance(node, ast.Call) and _name(node.func) == "range":
            bounds = [word.value for word in node.keywords if word.arg == "bound"]
            if bounds:
                return self._number(module, bounds[0])
            ends = [self._number(module, end) for end in node.args]
            if None in ends:
                return None
            return ends[0] if len(ends) == 1 else (ends[1] or 0) - (ends[0] or 0)
        if isinstance(node, ast.List):
            return len(node.elements)
        owner, annotation = self._annotation(module, function, node)
        while annotation is not None and _name(annotation) in ("public", "HashMap"):
            inner = annotation.args[0] if isinstance(annotation, ast.Call) else annotation.slice.elements[-1]
            annotation = inner
        if not isinstance(annotation, ast.Subscript):
            return None
        length = annotation.slice
        return self._number(owner, length.elements[-1] if isinstance(length, ast.Tuple) else length)

    def _annotation(self, module: Module, function: Node, node: Node) -> tuple[Module, Node | None]:
        if (state := self._state_of(module, node)) is not None:
            annotation = self.modules[state[0]].state[state[1]].annotation
            return self._field(self.modules[state[0]], annotation, node)
        name = _name(node)
        for argument in function.args.args:
            if argument.arg == name:
                return module, argument.annotation
        for local in function.get_descendants(ast.AnnAssign):
            if local.target.id == name:
                return module, local.annotation
        return module, None

    def _field(self, owner: Module, annotation: Node, node: Node) -> tuple[Module, Node]:
        """Of a member of a struct in a mapping: the member's own type."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Subscript):
            for other in self.modules.values():
                for struct in other.tree.get_children(ast.StructDef):
                    for member in struct.get_children(ast.AnnAssign):
                        if member.target.id == node.attr and struct.name in _code(annotation):
                            return other, member.annotation
        return owner, annotation

    def _number(self, module: Module, node: Node) -> int | None:
        if isinstance(node, ast.Int):
            return int(node.value)
        owner, _, name = _name(node).rpartition(".")
        known = self.modules.get(owner) if owner else module
        if known and name in known.constants:
            return self._number(known, known.constants[name].value)
        return None

    def _values(self, module: Module, function: Node) -> Iterator[Finding]:
        if _is(function, "payable") and "msg.value" not in _code(function):
            yield Finding(module.name, function.lineno, f"{function.name} takes coins and forgets them")

    def _assertions(self, module: Module, function: Node) -> Iterator[Finding]:
        for check in function.get_descendants(ast.Assert):
            if check.msg is None:
                yield Finding(module.name, check.lineno, f"an assertion without a reason: {_code(check)}")

    def _words(self, module: Module, function: Node) -> Iterator[Finding]:
        for statement in function.body:
            for line in _lines(statement):
                for word, why in FORBIDDEN.items():
                    if word in line.split("  #")[0]:
                        yield Finding(module.name, statement.lineno, f"{word.strip()}: {why}")

    def _unused(self) -> Iterator[Finding]:
        """State that is only read, or only written."""
        read: set[tuple[str, str]] = set()
        written: set[tuple[str, str]] = set()
        for module in self.modules.values():
            for function in module.functions.values():
                self._uses(module, function, read, written)
            for name, declared in module.state.items():
                if declared.is_public:
                    read.add((module.name, name))
        for module in self.modules.values():
            for name, declared in module.state.items():
                place = (module.name, name)
                if place not in written:
                    yield Finding(module.name, declared.lineno, f"nobody ever writes {name}")
                elif place not in read:
                    yield Finding(module.name, declared.lineno, f"nobody ever reads {name}")

    def _uses(self, module: Module, function: Node, read: set[tuple[str, str]], written: set[tuple[str, str]]) -> None:
        targets = [node.target for node in function.get_descendants((ast.Assign, ast.AugAssign))]
        for call in function.get_descendants(ast.Call):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ("append", "pop"):
                targets.append(call.func.value)
        for target in targets:
            if state := self._state_of(module, target):
                written.add(state)
        plain = {id(node) for node in targets}
        for node in function.get_descendants((ast.Attribute, ast.Subscript)):
            inside_target = id(node) in plain or any(id(parent) in plain for parent in _parents_in_chain(node))
            if not inside_target and (state := self._state_of(module, node)):
                read.add(state)


def _parents_in_chain(node: Node) -> Iterator[Node]:
    """The expressions of which this one is the root: x, x.y and x.y[i] of x.y[i].z."""
    parent = node.get_ancestor()
    while isinstance(parent, ast.Attribute | ast.Subscript) and parent.value is node:
        yield parent
        node, parent = parent, parent.get_ancestor()


def _read(path: Path) -> Module:
    tree = parse_to_ast(path.read_text("utf-8"))
    module = Module(path.stem, tree)
    module.functions = {node.name: node for node in tree.get_children(ast.FunctionDef)}
    module.imports = {name for node in tree.get_children(ast.Import) for name in _imported(node)}
    for node in tree.get_children(ast.VariableDecl):
        (module.constants if node.is_constant else module.state)[node.target.id] = node
    return module


def _imported(node: Node) -> Sequence[str]:
    return [node.alias or node.name] if hasattr(node, "name") else [entry.name for entry in node.names]


def _name(node: Node) -> str:
    """Dotted name of a function or a type; empty for anything else."""
    if isinstance(node, ast.Name):
        return str(node.id)
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    return _name(node.func) if isinstance(node, ast.Call) else ""


def _is(function: Node, decorator: str) -> bool:
    return any(_name(entry) == decorator for entry in function.decorator_list)


def _code(node: Node) -> str:
    return " ".join(str(node.node_source_code).split())


def _lines(node: Node) -> list[str]:
    return str(node.node_source_code).split("\n")


def main(arguments: Sequence[str] = ()) -> int:
    folder = Path(arguments[0]) if arguments else SOURCES
    findings = Sources(folder).check()
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings in {len(list(folder.glob('*.vy')))} files", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
