"""Numbers as a sentence has them."""


def counted(number: int, noun: str, nouns: str = "") -> str:
    """A number with its noun: "1 cell", "2,000 cells"."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
