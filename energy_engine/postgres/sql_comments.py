"""A comment in each of Django's statements says which request or job sent it.

PostgreSQL shows the comment in pg_stat_activity and in its log. Statements of `.sql` files have the
name of their file instead: they are prepared by their text, and a text that differs for each
request would be planned each time.
"""

from typing import Any

from django.db.backends.postgresql.base import Cursor

from energy_engine.origin import origin


class CommentingCursor(Cursor):
    """The cursor of Django's connections."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        if isinstance(query, str) and (source := origin.get()):
            # An id of a request is letters, digits, and `._-`: it can't end the comment.
            comment = ",".join(f"{name}={value}" for name, value in source.items())
            query = f"/* {comment} */ {query}"
        return super().execute(query, params, **options)  # type: ignore[misc] # of psycopg's
