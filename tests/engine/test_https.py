"""Who may say that a request came over HTTPS: a trusted proxy, and nobody else."""

from http.client import HTTPConnection, HTTPResponse

from tests.engine.conftest import Engine

PROXY, STRANGER = "127.0.0.2", "127.0.0.1"


def get(engine: Engine, path: str, address: str, method: str = "GET") -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", engine.port, 15, source_address=(address, 0))
    try:
        connection.request(method, path, headers={"X-Forwarded-Proto": "https"})
        answer = connection.getresponse()
        answer.read()
        return answer
    finally:
        connection.close()


def test_word_of_a_trusted_proxy_alone_makes_a_request_one_over_https(tmp_path):
    engine = Engine(tmp_path, SECURE_COOKIES="true", TRUSTED_PROXIES=PROXY).start()
    try:
        signing_in = get(engine, "/admin/login/", PROXY)
        assert signing_in.status == 200
        assert signing_in.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        cookie = signing_in.headers["Set-Cookie"]
        assert cookie.startswith("__Host-csrf=")
        assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))

        forged = get(engine, "/admin/login/", STRANGER)
        assert forged.status == 301
        assert forged.headers["Location"] == f"https://127.0.0.1:{engine.port}/admin/login/"
        assert get(engine, "/health/ready", STRANGER).status == 200
        assert get(engine, "/v1/ingest", STRANGER, "POST").status in (400, 415)
    finally:
        engine.stop()
