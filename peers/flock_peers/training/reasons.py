"""What a library's error says, as one line for people: its first sentence, bounded. Needs no torch."""

REASON = "trainer: "  # begins the line in which a trainer's process writes down what ended it
MAX_REASON = 240  # characters


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {shorten(str(error))}"


def shorten(text: str) -> str:
    """The first sentence of the first paragraph, and no word in part."""
    first = " ".join(text.strip().split("\n\n")[0].split())
    sentence = first.split(". ")[0].removesuffix(".")
    if len(sentence) <= MAX_REASON:
        return sentence
    return sentence[:MAX_REASON].rpartition(" ")[0] + " ..."


def is_about_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text
