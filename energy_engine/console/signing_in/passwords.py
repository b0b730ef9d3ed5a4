"""Passwords are reckoned with beside the requests of devices, which would all wait for one else."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher
from gevent import get_hub
from gevent.monkey import is_module_patched


class Hasher(PBKDF2PasswordHasher):
    """Django's own, in a thread: a million rounds of C code, during which others have their turn.

    A worker of gunicorn has one thread for all requests. While somebody signed in, none of them was
    answered for 0.4 s, and as often as somebody guessed.
    """

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        reckon = super().encode
        if not is_module_patched("threading"):  # a command, or a test
            return reckon(password, salt, iterations)
        return str(get_hub().threadpool.apply(reckon, (password, salt, iterations)))
