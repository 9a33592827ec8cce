"""Ethereum's trie of 32-byte keys, changed in memory and hashed once per block.

A node that came from the store is never changed; a changed copy has no reference until `commit` hashes it. Links to
nodes of 32 bytes and more are hashes, resolved through a bounded cache, so that what is held is what is cached.
Knows nothing of accounts or storage slots.
"""

from collections.abc import Callable
from typing import Protocol

from flock_chain.crypto import keccak256
from flock_chain.execution import strict_rlp as rlp
from flock_chain.execution.ordered_trie import EMPTY_ROOT, pack_path

KEY_DIGITS = 64
_DIGITS = "0123456789abcdef"
_VALUE_OF = {digit: value for value, digit in enumerate(_DIGITS)}
_NO_CHILD, _NO_VALUE = b"\x80", b"\x80"
_HASH_PREFIX = b"\xa0"
_HASH_BYTES = 32


class Leaf:
    __slots__ = ("path", "reference", "value")

    def __init__(self, path: str, value: bytes) -> None:
        self.path, self.value = path, value
        self.reference: bytes | None = None


class Extension:
    __slots__ = ("child", "path", "reference")

    def __init__(self, path: str, child: "Link") -> None:
        self.path, self.child = path, child
        self.reference: bytes | None = None


class Branch:
    """Keys have one length, so that none ends in a branch: there is no value here."""

    __slots__ = ("children", "reference")

    def __init__(self, children: "list[Link | None]") -> None:
        self.children = children
        self.reference: bytes | None = None


Node = Leaf | Extension | Branch
Link = bytes | Node  # the hash of a stored node; or a node that is changed, or too short to have a hash


class NodeCache(Protocol):
    def get(self, key: bytes) -> Node | None: ...
    def put(self, key: bytes, row: Node) -> None: ...


class DamagedNode(Exception):
    """A stored node that is not one of a trie of 32-byte keys."""


Load = Callable[[bytes], bytes]  # the encoding of the node with that hash; raises where the store has lost it


class StateTrie:
    def __init__(self, root: bytes, load: Load, cache: NodeCache) -> None:
        self._load, self._cache = load, cache
        self._root: Link | None = None if root == EMPTY_ROOT else root

    def get(self, key: bytes) -> bytes:
        """Empty where the key is not there."""
        path, position, link = key.hex(), 0, self._root
        while link is not None:
            node = self._open(link)
            if isinstance(node, Branch):
                if position == len(path):
                    raise DamagedNode("state trie: a path that is longer than its key")
                link = node.children[_VALUE_OF[path[position]]]
                position += 1
            elif isinstance(node, Leaf):
                return node.value if node.path == path[position:] else b""
            elif path.startswith(node.path, position):
                position += len(node.path)
                link = node.child
            else:
                return b""
        return b""

    def set(self, key: bytes, value: bytes) -> None:
        """An empty value takes the key out."""
        path = key.hex()
        if len(path) != KEY_DIGITS:
            raise ValueError("state trie: keys have 32 bytes")
        self._root = self._insert(self._root, path, value) if value else self._remove(self._root, path)

    def commit(self, writes: dict[bytes, bytes]) -> bytes:
        """Hash what changed, add its encodings to `writes`, return the root."""
        if self._root is None:
            return EMPTY_ROOT
        if not isinstance(self._root, bytes):
            self._root = self._refer(self._root, writes)  # a hash: with keys this long no root is short
        return self._root

    # ---- changing
    def _insert(self, link: Link | None, path: str, value: bytes) -> Node:
        if link is None:
            return Leaf(path, value)
        node = self._open(link)
        if isinstance(node, Branch):
            digit = _VALUE_OF[path[0]]
            return _with_child(node, digit, self._insert(node.children[digit], path[1:], value))
        shared = _count_shared(node.path, path)
        if shared == len(node.path):
            if isinstance(node, Leaf):
                return Leaf(path, value)
            return Extension(node.path, self._insert(node.child, path[shared:], value))
        children: list[Link | None] = [None] * 16
        children[_VALUE_OF[node.path[shared]]] = _shorten(node, shared + 1)
        children[_VALUE_OF[path[shared]]] = Leaf(path[shared + 1 :], value)
        branch = Branch(children)
        return Extension(path[:shared], branch) if shared else branch

    def _remove(self, link: Link | None, path: str) -> Link | None:
        """The very link that came in where the path is not there."""
        if link is None:
            return None
        node = self._open(link)
        if isinstance(node, Leaf):
            return None if node.path == path else link
        if isinstance(node, Extension):
            if not path.startswith(node.path):
                return link
            left = self._remove(node.child, path[len(node.path) :])
            return link if left is node.child else self._prefix(node.path, left)
        digit = _VALUE_OF[path[0]]
        left = self._remove(node.children[digit], path[1:])
        if left is node.children[digit]:
            return link
        changed = _with_child(node, digit, left)
        others = [index for index, child in enumerate(changed.children) if child is not None]
        return changed if len(others) > 1 else self._prefix(_DIGITS[others[0]], changed.children[others[0]])

    def _prefix(self, path: str, link: Link | None) -> Node | None:
        """What follows `path` joins it: a branch that lost its second child becomes part of a path."""
        if link is None:
            return None
        node = self._open(link)
        if isinstance(node, Leaf):
            return Leaf(path + node.path, node.value)
        if isinstance(node, Extension):
            return Extension(path + node.path, node.child)
        return Extension(path, link)

    # ---- reading and writing nodes
    def _open(self, link: Link) -> Node:
        if not isinstance(link, bytes):
            return link
        node = self._cache.get(link)
        if node is None:
            node = decode_node(self._load(link))
            node.reference = link
            self._cache.put(link, node)
        return node

    def _refer(self, node: Node, writes: dict[bytes, bytes]) -> bytes:
        """The node's hash, or its encoding where that is shorter than a hash."""
        if node.reference is not None:
            return node.reference
        encoded = self._encode(node, writes)
        if len(encoded) < _HASH_BYTES:
            node.reference = encoded
            return encoded
        reference = keccak256(encoded)
        node.reference = reference
        writes[reference] = encoded
        self._cache.put(reference, node)
        return reference

    def _encode(self, node: Node, writes: dict[bytes, bytes]) -> bytes:
        """And turns links to changed nodes into hashes, for the cache alone to hold what they point to."""
        if isinstance(node, Leaf):
            return rlp.encode([pack_path(node.path, is_leaf=True), node.value])
        if isinstance(node, Extension):
            node.child, item = self._encode_link(node.child, writes)
            return rlp.encode_joined([rlp.encode(pack_path(node.path, is_leaf=False)), item])
        items = []
        children = node.children
        for index, child in enumerate(children):
            if child is None:
                items.append(_NO_CHILD)
            elif isinstance(child, bytes):
                items.append(_HASH_PREFIX + child)
            else:
                children[index], item = self._encode_link(child, writes)
                items.append(item)
        items.append(_NO_VALUE)
        return rlp.encode_joined(items)

    def _encode_link(self, link: Link, writes: dict[bytes, bytes]) -> tuple[Link, bytes]:
        reference = link if isinstance(link, bytes) else self._refer(link, writes)
        if len(reference) == _HASH_BYTES:
            return reference, _HASH_PREFIX + reference
        return link, reference


def decode_node(encoded: bytes) -> Node:
    return _build_node(rlp.decode(encoded))


def _build_node(item: rlp.Item) -> Node:
    if isinstance(item, list) and len(item) == 17 and item[16] == b"":
        return Branch([_build_link(child) if child else None for child in item[:16]])
    if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], bytes):
        raise DamagedNode("state trie: a stored node is neither leaf nor extension nor branch")
    digits, rest = item[0].hex(), item[1]
    flag = digits[:1]
    path = digits[1:] if flag in ("1", "3") else digits[2:]
    if flag in ("2", "3") and isinstance(rest, bytes):
        return Leaf(path, rest)
    return Extension(path, _build_link(rest))


def _build_link(item: rlp.Item) -> Link:
    if isinstance(item, bytes):
        return item
    node = _build_node(item)
    node.reference = rlp.encode(item)
    return node


def _with_child(branch: Branch, digit: int, child: Link | None) -> Branch:
    """In place where the branch is a changed copy already: nobody else holds it."""
    if branch.reference is not None:
        branch = Branch(branch.children[:])
    branch.children[digit] = child
    return branch


def _shorten(node: Leaf | Extension, start: int) -> Link:
    if isinstance(node, Leaf):
        return Leaf(node.path[start:], node.value)
    return node.child if start == len(node.path) else Extension(node.path[start:], node.child)


def _count_shared(one: str, other: str) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
