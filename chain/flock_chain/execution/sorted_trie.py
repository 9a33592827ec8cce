"""Ethereum's trie of 32-byte keys, built from sorted leaves in one pass and never held whole; and its leaves in order.

Memory: one branch a level. Knows nothing of accounts or slots.
"""

from collections.abc import Callable, Iterator

from flock_chain.crypto import keccak256
from flock_chain.errors import InvalidEncoding
from flock_chain.execution import strict_rlp as rlp
from flock_chain.execution.ordered_trie import EMPTY_ROOT, pack_path
from flock_chain.execution.state_trie import Branch, Leaf, Link, Load, decode_node

Emit = Callable[[bytes, bytes], None]  # a node's hash and its encoding
_DIGITS = "0123456789abcdef"
_VALUE_OF = {digit: value for value, digit in enumerate(_DIGITS)}
_NOTHING = b"\x80"
_HASH_PREFIX, _HASH_BYTES = b"\xa0", 32
_Open = tuple[int, list[bytes]]  # a branch that may get more children: its depth, and their encoded links


class SortedTrie:
    """Add every leaf in the order of its key, then `finish`."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._path = ""  # of the last leaf, which is not placed yet
        self._value = b""
        self._open: list[_Open] = []  # deepest last, all on the last leaf's path

    def add(self, key: bytes, value: bytes) -> None:
        """Raises InvalidEncoding for a key that does not follow the last one, and for an empty value."""
        path = key.hex()
        if len(key) != _HASH_BYTES or path <= self._path or not value:
            raise InvalidEncoding("trie: leaves are not sorted, or one is empty")
        if self._path:
            shared = 0
            while path[shared] == self._path[shared]:
                shared += 1
            self._fold(shared)
        self._path, self._value = path, value

    def finish(self) -> bytes:
        """The root."""
        if not self._path:
            return EMPTY_ROOT
        encoded = self._collapse(-1)
        root = keccak256(encoded)
        self._emit(root, encoded)
        return root

    def _fold(self, depth: int) -> None:
        """Place the last leaf, and everything below `depth`, in the branch at `depth`."""
        encoded = self._collapse(depth)
        if not self._open or self._open[-1][0] < depth:
            self._open.append((depth, [_NOTHING] * 17))
        self._open[-1][1][_VALUE_OF[self._path[depth]]] = self._refer(encoded)

    def _collapse(self, limit: int) -> bytes:
        """What hangs on the last path below `limit`, or below the branch above it: encoded, and closed."""
        parent = self._find_parent(limit)
        encoded = rlp.encode([pack_path(self._path[parent + 1 :], is_leaf=True), self._value])
        while self._open and self._open[-1][0] > limit:
            depth, children = self._open.pop()
            children[_VALUE_OF[self._path[depth]]] = self._refer(encoded)
            encoded, parent = rlp.encode_joined(children), self._find_parent(limit)
            if depth > parent + 1:
                encoded = self._extend(self._path[parent + 1 : depth], encoded)
        return encoded

    def _find_parent(self, limit: int) -> int:
        return max(limit, self._open[-1][0] if self._open else -1)

    def _extend(self, path: str, encoded: bytes) -> bytes:
        return rlp.encode_joined([rlp.encode(pack_path(path, is_leaf=False)), self._refer(encoded)])

    def _refer(self, encoded: bytes) -> bytes:
        """As it stands in its parent: the node itself below 32 bytes, else its hash, and the node is done."""
        if len(encoded) < _HASH_BYTES:
            return encoded
        reference = keccak256(encoded)
        self._emit(reference, encoded)
        return _HASH_PREFIX + reference


def iterate_leaves(root: bytes, load: Load) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of every leaf, sorted by key; `load` raises where the store has lost a node."""
    waiting: list[tuple[str, Link]] = [] if root == EMPTY_ROOT else [("", root)]
    while waiting:
        path, link = waiting.pop()
        node = decode_node(load(link)) if isinstance(link, bytes) else link
        if isinstance(node, Leaf):
            yield bytes.fromhex(path + node.path), node.value
        elif isinstance(node, Branch):
            children = [(path + _DIGITS[index], child) for index, child in enumerate(node.children)]
            waiting += [(longer, child) for longer, child in reversed(children) if child is not None]
        else:
            waiting.append((path + node.path, node.child))
