"""A number and what it counts, as people read it. Knows English, and nothing of what is counted."""


def plural(number: int, one: str, many: str = "") -> str:
    """`many`: where it is more than an s behind `one`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
