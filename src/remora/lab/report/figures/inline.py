"""A drawing as the page takes it: own ids, the reader's fonts, variables for colours."""

from __future__ import annotations

import html
import re

from remora.core.colours import LIGHT
from remora.lab.report.palette import in_palette, with_variables

_SYSTEM_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_PROLOGUE = re.compile(r"\A.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)
_OPENING = re.compile(r"<svg[^>]*>")
_VIEW_BOX = re.compile(r'viewBox="([^"]+)"')
_FONT = re.compile(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*")
_ID = re.compile(r'\bid="([^"]+)"')
_REFERENCE = re.compile(r'(url\(|xlink:href="|(?<!:)href=")#')
_NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'


def standalone(drawing: str, alternative: str) -> str:
    """A drawing as a file of its own: described, and in fonts that the reader has."""
    body = in_palette(_with_system_fonts(_METADATA.sub("", drawing)), LIGHT)
    opening = _OPENING.search(body)
    if opening is None:
        return body
    title = f"<title>{html.escape(alternative)}</title>"
    return f"{body[: opening.end()]}\n {title}{body[opening.end() :]}"


def embedded(drawing: str, identifier: str, alternative: str) -> str:
    """A drawing as one ``<svg>`` element; every id in it begins with ``identifier``."""
    body = _METADATA.sub("", _PROLOGUE.sub("", drawing))
    box = _VIEW_BOX.search(body)
    view = box[1] if box else "0 0 100 100"
    described = html.escape(alternative, quote=True)
    opening = (
        f'<svg viewBox="{view}" role="img" aria-labelledby="{identifier}-title" '
        f'class="drawing"><title id="{identifier}-title">{described}</title>'
    )
    body = _ID.sub(lambda match: f'id="{identifier}-{match[1]}"', body)
    body = _REFERENCE.sub(lambda match: f"{match[1].replace('xlink:', '')}#{identifier}-", body)
    body = _OPENING.sub(lambda _: opening, body, count=1)
    return with_variables(_with_system_fonts(body)).replace(_NAMESPACE, "").strip()


def _with_system_fonts(drawing: str) -> str:
    return _FONT.sub(lambda match: f"{match[1]}{_SYSTEM_FONTS}", drawing)
