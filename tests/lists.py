"""Lists of the console: what their rows stand for, and what is in their cells."""

import re
from html import unescape
from http import HTTPStatus

from django.test import Client
from django.urls import reverse

_cell = re.compile(r'<t[hd] [^>]*data-label="([^"]*)"[^>]*>(.*?)</t[hd]>', re.DOTALL)
_tag = re.compile(r"<[^>]*>")


def page(name: str, query: str = "") -> str:
    return reverse(f"admin:fleet_{name}_changelist") + query


def found(console: Client, name: str, query: str = "") -> list[str]:
    """Return what the rows of a list stand for, in the order shown."""
    response = console.get(page(name, query))
    assert response.status_code == HTTPStatus.OK
    return [str(row) for row in response.context["cl"].result_list]


def cells(response) -> list[dict[str, str]]:
    """Return the text of each row of a list, by the heading of its column."""
    rows = response.content.decode().split('<tr class="data-row')[1:]
    return [
        {
            unescape(label): " ".join(unescape(_tag.sub(" ", text)).split())
            for label, text in _cell.findall(row)
        }
        for row in rows
    ]
