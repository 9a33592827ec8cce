"""py-evm's account database for a chain that never reorganises: an undo log over dictionaries, tries hashed per block.

What a call writes is undone in the time of its writes, whatever else the block has changed; stock py-evm visits every
changed contract at each CALL. Reads and writes state through a store of nodes and code by hash; knows no block.
"""

from typing import Any, NamedTuple, Protocol

from eth.abc import AccountDatabaseAPI, MetaWitnessAPI
from eth.constants import EMPTY_SHA3, UINT_64_MAX, UINT_256_MAX
from eth.db.witness import MetaWitness
from eth.vm.interrupt import EVMMissingData
from eth_utils import ValidationError

from flock_chain.crypto import keccak256
from flock_chain.execution import strict_rlp as rlp
from flock_chain.execution.journal import Journal
from flock_chain.execution.ordered_trie import EMPTY_ROOT
from flock_chain.execution.state_cache import StateCache
from flock_chain.execution.state_trie import StateTrie

EMPTY_CODE: bytes = EMPTY_SHA3
MAX_CLEAN_ROWS = 65_536  # accounts and slots that were only read, about 20 MB; a block of 30 M gas reads under 15,000


class Store(Protocol):
    """Nodes and code by their hash. A store may have a `cache` of its own, which then outlives this database."""

    def __contains__(self, key: object) -> bool: ...
    def __getitem__(self, key: bytes) -> bytes: ...
    def __setitem__(self, key: bytes, value: bytes) -> None: ...


class MissingState(EVMMissingData):
    """The store has lost, or damaged, a part of the state: this peer's fault, never a transaction's."""


class Account(NamedTuple):
    nonce: int
    balance: int
    storage_root: bytes  # as of the last root that was made
    code_hash: bytes


_NEW_ACCOUNT = Account(0, 0, EMPTY_ROOT, EMPTY_CODE)


class _Storage:
    """One account's slots. Replaced by an empty one where the account loses them all."""

    __slots__ = ("before", "trie", "values")

    def __init__(self, trie: StateTrie) -> None:
        self.trie = trie
        self.values: dict[int, int] = {}  # as they are now; journaled
        self.before: dict[int, int] = {}  # as the trie has those that were written since its last commit


class AccountDatabase(AccountDatabaseAPI):
    def __init__(self, db: Store, state_root: bytes = EMPTY_ROOT) -> None:
        self._store = db
        self._cache: StateCache = getattr(db, "cache", None) or StateCache()
        self._root = state_root
        self._trie = self._open_trie(state_root)
        self.journal = Journal()
        self._accounts: dict[bytes, Account | None] = {}  # as they are now; journaled
        self._before: dict[bytes, Account | None] = {}  # as the trie has those that may have changed since its commit
        self._storages: dict[bytes, _Storage] = {}  # journaled
        self._originals: dict[tuple[bytes, int], int] = {}  # slots written by this transaction, as it found them
        self._warm: dict[bytes | tuple[bytes, int], bool] = {}  # journaled
        self._new_codes: dict[bytes, bytes] = {}
        self._writes: dict[bytes, bytes] = {}  # made by roots, not persisted yet
        self._rows, self._row_limit = 0, MAX_CLEAN_ROWS  # read since rows were last dropped

    # ---- roots
    @property
    def state_root(self) -> bytes:
        """Of the last root that was made, or the first; what was written since is not in it."""
        return self._root

    @state_root.setter
    def state_root(self, value: bytes) -> None:
        if value != self._root:
            raise ValidationError("account database: a root that was made cannot be undone; open another database")

    def has_root(self, state_root: bytes) -> bool:
        return state_root == EMPTY_ROOT or state_root in self._writes or state_root in self._store

    def make_state_root(self) -> bytes:
        """Nothing written before can be undone after."""
        self.journal.forget()
        self._originals.clear()
        for address in self._before:
            self._update_account(address)
        self._before.clear()
        self._root = self._trie.commit(self._writes)
        return self._root

    def persist(self) -> MetaWitnessAPI:
        """The witness is empty: nobody here asks for one."""
        self.lock_changes()
        self.make_state_root()
        for key, value in self._writes.items():
            self._store[key] = value
        self._writes.clear()
        self._new_codes.clear()
        return MetaWitness(frozenset(), {})

    def _update_account(self, address: bytes) -> None:
        storage = self._storages.get(address)
        account = self._accounts[address]
        root = None if storage is None else self._update_storage(storage)
        if root is not None and root != (account.storage_root if account else EMPTY_ROOT):
            account = self._accounts[address] = (account or _NEW_ACCOUNT)._replace(storage_root=root)
        if account == self._before[address]:
            return
        if account is None:
            self._trie.set(keccak256(address), b"")
            return
        self._trie.set(keccak256(address), rlp.encode(account))
        code = self._new_codes.get(account.code_hash)
        if code is not None:
            self._writes[account.code_hash] = code
            self._cache.codes.put(account.code_hash, code)

    def _update_storage(self, storage: _Storage) -> bytes:
        for slot, before in storage.before.items():
            value = storage.values[slot]
            if value != before:
                storage.trie.set(keccak256(slot.to_bytes(32, "big")), rlp.encode(value) if value else b"")
        storage.before.clear()
        return storage.trie.commit(self._writes)

    # ---- accounts
    def _get(self, address: bytes) -> Account | None:
        try:
            return self._accounts[address]
        except KeyError:
            account = self._accounts[address] = self._load_account(address)
            self._rows += 1
            return account

    def _load_account(self, address: bytes) -> Account | None:
        encoded = self._trie.get(keccak256(address))
        if not encoded:
            return None
        nonce, balance, root, code_hash = rlp.decode_list(encoded, "account", 4)
        return Account(
            rlp.to_int(nonce, "account: nonce", 64),
            rlp.to_int(balance, "account: balance", 256),
            rlp.to_bytes(root, "account: storage root", 32),
            rlp.to_bytes(code_hash, "account: code hash", 32),
        )

    def _put(self, address: bytes, account: Account | None) -> None:
        """After `_get` of the same address."""
        if address not in self._before:
            self._before[address] = self._accounts[address]
        self.journal.write(self._accounts, address, account)

    def get_balance(self, address: bytes) -> int:
        account = self._get(address)
        return account.balance if account else 0

    def set_balance(self, address: bytes, balance: int) -> None:
        _check_range(balance, UINT_256_MAX, "balance")
        nonce, _, root, code_hash = self._get(address) or _NEW_ACCOUNT
        self._put(address, Account(nonce, balance, root, code_hash))

    def get_nonce(self, address: bytes) -> int:
        account = self._get(address)
        return account.nonce if account else 0

    def set_nonce(self, address: bytes, nonce: int) -> None:
        _check_range(nonce, UINT_64_MAX, "nonce")
        _, balance, root, code_hash = self._get(address) or _NEW_ACCOUNT
        self._put(address, Account(nonce, balance, root, code_hash))

    def increment_nonce(self, address: bytes) -> None:
        self.set_nonce(address, self.get_nonce(address) + 1)

    def account_exists(self, address: bytes) -> bool:
        return self._get(address) is not None

    def account_has_code_or_nonce(self, address: bytes) -> bool:
        account = self._get(address)
        return account is not None and (account.nonce != 0 or account.code_hash != EMPTY_CODE)

    def account_is_empty(self, address: bytes) -> bool:
        """By EIP-161: an account that does not exist is empty too."""
        account = self._get(address)
        return account is None or (account.balance == 0 and account.nonce == 0 and account.code_hash == EMPTY_CODE)

    def touch_account(self, address: bytes) -> None:
        if self._get(address) is None:
            self._put(address, _NEW_ACCOUNT)

    def delete_account(self, address: bytes) -> None:
        self._get(address)
        self._wipe_storage(address)
        self._put(address, None)

    # ---- code
    def get_code_hash(self, address: bytes) -> bytes:
        account = self._get(address)
        return account.code_hash if account else EMPTY_CODE

    def get_code(self, address: bytes) -> bytes:
        code_hash = self.get_code_hash(address)
        if code_hash == EMPTY_CODE:
            return b""
        code = self._new_codes.get(code_hash) or self._cache.codes.get(code_hash)
        if code is None:
            code = self._load(code_hash)
            self._cache.codes.put(code_hash, code)
        return code

    def set_code(self, address: bytes, code: bytes) -> None:
        code_hash = keccak256(code)
        if code:
            self._new_codes[code_hash] = code  # needs no undoing: nothing refers to it where the account is undone
        self._set_code_hash(address, code_hash)

    def delete_code(self, address: bytes) -> None:
        self._set_code_hash(address, EMPTY_CODE)

    def _set_code_hash(self, address: bytes, code_hash: bytes) -> None:
        nonce, balance, root, _ = self._get(address) or _NEW_ACCOUNT
        self._put(address, Account(nonce, balance, root, code_hash))

    # ---- storage
    def _get_storage_of(self, address: bytes) -> _Storage:
        storage = self._storages.get(address)
        if storage is None:
            account = self._get(address)
            storage = _Storage(self._open_trie(account.storage_root if account else EMPTY_ROOT))
            self._storages[address] = storage
        return storage

    def _read_slot(self, storage: _Storage, slot: int) -> int:
        value = storage.values.get(slot)
        if value is None:
            encoded = storage.trie.get(keccak256(slot.to_bytes(32, "big")))
            value = rlp.to_int(rlp.decode(encoded), "storage: value", 256) if encoded else 0
            storage.values[slot] = value
            self._rows += 1
        return value

    def get_storage(self, address: bytes, slot: int, from_journal: bool = True) -> int:
        """`from_journal`: as it is now; else as this transaction found it."""
        if not from_journal:
            original = self._originals.get((address, slot))
            if original is not None:
                return original
        return self._read_slot(self._get_storage_of(address), slot)

    def set_storage(self, address: bytes, slot: int, value: int) -> None:
        _check_range(value, UINT_256_MAX, "storage value")
        storage = self._get_storage_of(address)
        current = self._read_slot(storage, slot)
        if value == current:
            return
        self._originals.setdefault((address, slot), current)
        storage.before.setdefault(slot, current)
        if address not in self._before:
            self._before[address] = self._get(address)
        self.journal.write(storage.values, slot, value)

    def delete_storage(self, address: bytes) -> None:
        nonce, balance, _, code_hash = self._get(address) or _NEW_ACCOUNT
        self._wipe_storage(address)
        self._put(address, Account(nonce, balance, EMPTY_ROOT, code_hash))

    def _wipe_storage(self, address: bytes) -> None:
        self.journal.write(self._storages, address, _Storage(self._open_trie(EMPTY_ROOT)))

    # ---- what this transaction has touched (EIP-2929)
    def is_address_warm(self, address: bytes) -> bool:
        return address in self._warm

    def mark_address_warm(self, address: bytes) -> None:
        if address not in self._warm:
            self.journal.write(self._warm, address, True)

    def is_storage_warm(self, address: bytes, slot: int) -> bool:
        return (address, slot) in self._warm

    def mark_storage_warm(self, address: bytes, slot: int) -> None:
        if (address, slot) not in self._warm:
            self.journal.write(self._warm, (address, slot), True)

    # ---- undoing
    def record(self) -> Any:
        return self.journal.record()

    def discard(self, checkpoint: Any) -> None:
        self.journal.discard(checkpoint)

    def commit(self, checkpoint: Any) -> None:
        self.journal.commit(checkpoint)

    def lock_changes(self) -> None:
        """A transaction ends here: what it wrote stays, and the next one finds everything cold."""
        self.journal.forget()
        self._warm.clear()
        self._originals.clear()
        if self._rows > self._row_limit:
            self._drop_clean_rows()

    # ---- what is held in memory
    def _drop_clean_rows(self) -> None:
        """Forget whatever can be read again. Twice what is left may gather before the next time, so it costs little."""
        for storage in self._storages.values():
            storage.before = {slot: row for slot, row in storage.before.items() if storage.values[slot] != row}
            storage.values = {slot: storage.values[slot] for slot in storage.before}
        self._before = {
            address: account
            for address, account in self._before.items()
            if account != self._accounts[address] or self._has_new_slots(address)
        }
        self._accounts = {address: self._accounts[address] for address in self._before}
        self._storages = {address: row for address, row in self._storages.items() if address in self._before}
        self._rows = len(self._accounts) + sum(len(storage.values) for storage in self._storages.values())
        self._row_limit = max(MAX_CLEAN_ROWS, 2 * self._rows)

    def _has_new_slots(self, address: bytes) -> bool:
        storage = self._storages.get(address)
        return storage is not None and bool(storage.before)

    def _open_trie(self, root: bytes) -> StateTrie:
        return StateTrie(root, self._load, self._cache.nodes)

    def _load(self, key: bytes) -> bytes:
        """A node or code by its hash; raises MissingState."""
        value = self._writes.get(key)
        if value is None:
            try:
                value = self._store[key]
            except KeyError as error:
                raise MissingState(f"state: 0x{key.hex()} is not in the store") from error
            if keccak256(value) != key:
                raise MissingState(f"state: what the store has as 0x{key.hex()} is damaged")
        return value


def _check_range(value: int, highest: int, what: str) -> None:
    if not 0 <= value <= highest:
        raise ValidationError(f"account database: {what} {value} is not within 0 and {highest}")
