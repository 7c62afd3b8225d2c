"""'Did you mean': the nearest known name to a mistyped one."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `", did you mean 'x'?"` for the closest of `known`, or an empty string where nothing is close."""
    known = list(known)
    begun = [other for other in known if other.startswith(name)]
    if len(begun) == 1:  # cut short, which is nearer than any letter that is wrong
        return f", did you mean {begun[0]!r}?"
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""
