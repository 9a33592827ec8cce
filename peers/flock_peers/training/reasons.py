"""What a library's error says, as one line for people: its first sentence, bounded. Needs no torch."""

REASON = "trainer: "  # begins the line in which a trainer's process writes down what ended it
MAX_REASON = 240  # characters
# What errors of no kind of their own say: of torch a device, of libraries in Rust the system's number, of Python that
# the system has no thread left.
_MACHINE = ("CUDA", "cuDNN", "cuBLAS", "NCCL", "gloo", "(os error ", "start new thread")


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {shorten(str(error))}"


def shorten(text: str) -> str:
    """The first sentence of the first paragraph, and no word in part. Nothing that a terminal obeys: it quotes what a
    stranger wrote."""
    first = " ".join(text.strip().split("\n\n")[0].split())
    first = "".join(letter if letter.isprintable() else "?" for letter in first)
    sentence = first.split(". ")[0].removesuffix(".")
    if len(sentence) <= MAX_REASON:
        return sentence
    return sentence[:MAX_REASON].rpartition(" ")[0] + " ..."


def is_of_the_machine(error: BaseException) -> bool:
    """Not of what was computed, so that it may go well at another time: memory, a disk, a device, a thread, a neighbour
    gone."""
    if isinstance(error, OSError):
        return error.errno is not None
    return is_about_memory(error) or any(words in str(error) for words in _MACHINE)


def is_about_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text
