"""Hash passwords in a thread, so that device requests do not wait meanwhile."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher
from gevent import get_hub
from gevent.monkey import is_module_patched


class Hasher(PBKDF2PasswordHasher):
    """Django's own hasher, run in a thread: a million rounds of C code, while other requests run.

    A gunicorn worker has one thread for all requests. Without this, each sign-in, successful or
    not, stopped all of them for 0.4 s.
    """

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        encode = super().encode
        if not is_module_patched("threading"):  # a command, or a test
            return encode(password, salt, iterations)
        return str(get_hub().threadpool.apply(encode, (password, salt, iterations)))
