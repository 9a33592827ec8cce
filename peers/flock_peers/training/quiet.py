"""Without what libraries tell people who did not call them: bars while weights are read, and what they will drop."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """For a process without a log of its own: a trainer keeps all that they say in trainer.log."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
