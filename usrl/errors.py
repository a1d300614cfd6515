"""What a user can fix, and how it is said."""

import difflib
from collections.abc import Iterable

_MOST_LETTERS = 120


class UserError(ValueError):
    """A mistake that the user can fix: in a recipe, a file, an argument.

    The message says what was wanted, what came and what to do. The command line prints it without a
    traceback and exits with status 2.
    """


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that helps with a misspelt name.

    Args:
        name: What the user wrote.
        known: The names that exist.

    Returns:
        ``"did you mean 'x'?"`` when a known name is close, otherwise the list of known names.
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name[:_MOST_LETTERS], names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known names: {', '.join(names)}"


def brief(value: object) -> str:
    """Return what a message shows of a value: its `repr`, cut if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}..."
