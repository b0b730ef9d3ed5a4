"""Words with a colour behind them, in the look of unfold's own."""

from django.template.loader import render_to_string
from django.utils.safestring import SafeString


def label(words: str, colour: str = "") -> SafeString:
    """Return `words` as a label; its colours are success, info, warning and danger."""
    html = render_to_string(
        "unfold/helpers/label.html", {"text": words, "type": colour, "size": "md"}
    )
    # Safe as it was: `strip` alone forgets that.
    return SafeString(html.strip())
