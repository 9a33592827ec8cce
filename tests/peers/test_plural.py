from flock_peers.plural import plural


def test_one_is_one_and_none_are_many() -> None:
    assert [plural(number, "block") for number in (0, 1, 2)] == ["0 blocks", "1 block", "2 blocks"]
    assert [plural(number, "crash", "crashes") for number in (1, 2)] == ["1 crash", "2 crashes"]
