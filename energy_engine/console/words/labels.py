"""Coloured labels, styled like unfold's."""

from django.template.loader import render_to_string
from django.utils.safestring import SafeString


def label(words: str, colour: str = "") -> SafeString:
    """Return `words` as a label; `colour` is success, info, warning or danger."""
    html = render_to_string(
        "unfold/helpers/label.html", {"text": words, "type": colour, "size": "md"}
    )
    # `strip` loses the safe mark of the rendered HTML.
    return SafeString(html.strip())
