"""Every statement of Django's own says which request or job it is sent for.

PostgreSQL shows the comment in pg_stat_activity and in its log. Statements of `.sql` files bear the
name of their file instead: they are prepared by their text, and one that differs with each request
would be planned anew each time.
"""

from typing import Any

from django.db.backends.postgresql.base import Cursor

from energy_engine.origin import origin


class CommentingCursor(Cursor):
    """The cursor of Django's connections; `psycopg` calls it for each that is opened."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        if isinstance(query, str) and (source := origin.get()):
            # An id of a request is letters, digits, and `._-`: it can't end the comment.
            comment = ",".join(f"{name}={value}" for name, value in source.items())
            query = f"/* {comment} */ {query}"
        return super().execute(query, params, **options)  # type: ignore[misc] # of psycopg's
