"""An installer of a benchmark's packages that fails: why is said, wherever the installer said it."""

import sys

import pytest
from private_venv import NotInstalled, install


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_why_an_installer_failed_is_said_wherever_it_said_it(stream: str) -> None:
    program = f"import sys; print('no ensurepip here', file=sys.{stream}); sys.exit(1)"
    with pytest.raises(NotInstalled, match=r"^no ensurepip here$"):
        install(sys.executable, "-c", program)


def test_of_much_that_it_said_the_errors_are_kept() -> None:
    program = "print('fetching'); print('npm error code ENOTCACHED'); print('bye'); raise SystemExit(1)"
    with pytest.raises(NotInstalled, match=r"^npm error code ENOTCACHED$"):
        install(sys.executable, "-c", program)


def test_an_installer_that_is_not_there_is_named() -> None:
    with pytest.raises(NotInstalled, match=r"^no-such-installer fetch: .*No such file"):
        install("no-such-installer", "fetch")
