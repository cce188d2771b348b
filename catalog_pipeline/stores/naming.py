"""Whether a text speaks of a SKU: found as a word, in every way that files here write one."""

from __future__ import annotations

import html
import json
import re
from urllib.parse import quote


class Naming:
    """Looks for one SKU in bytes. ``mug`` stands in ``<mug:0>``, and not in ``mug-2`` or ``mugs``.

    A SKU that is a plain word is found where the plain word is meant, too.
    """

    def __init__(self, sku: str) -> None:
        escaped = json.dumps(sku)[1:-1]
        forms = {sku, escaped, html.escape(sku), quote(sku), quote(sku, safe="")}
        choices = b"|".join(re.escape(form.encode()) for form in sorted(forms))
        self._pattern = re.compile(rb"(?<![\w-])(?:%s)(?![\w-])" % choices)

    def stands_in(self, data: bytes) -> bool:
        """Whether ``data`` names the SKU."""
        return self._pattern.search(data) is not None

    def struck_from(self, text: str) -> str:
        """``text`` with ``(removed)`` wherever the SKU stood."""
        return self._pattern.sub(b"(removed)", text.encode()).decode()
