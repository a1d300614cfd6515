"""What a user can fix, and how it is said."""

import difflib
from collections.abc import Iterable


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
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known names: {', '.join(names)}"
