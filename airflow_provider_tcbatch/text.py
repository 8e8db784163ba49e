r"""Text that others wrote, as it is shown: in task logs, in errors, on a terminal.

What a program prints may hold escapes that move a terminal's cursor, change its title or its colours, or hide lines
(ESC, OSC, CSI, BEL), and characters that databases do not take (NUL). They are shown as Python writes them, such as
``\x1b[2J``.
"""

from __future__ import annotations

import re

__all__ = ["visible"]

#: C0 without tab and line feed, DEL, and C1, which terminals take for escapes as well.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """The same text with its control characters shown instead of sent; tabs and line feeds stay."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
