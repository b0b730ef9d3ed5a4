"""A known vulnerability fails the audit; an audit that could not be made never looks like one."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests import audit

KNOWN = {
    "id": "PYSEC-2026-1",
    "summary": "Lets strangers in.",
    "affected": [
        {
            "package": {"name": "django", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}],
        }
    ],
}


class _Database(BaseHTTPRequestHandler):
    """Knows one vulnerability, in Django; fails when asked for `broken`."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = asked["package"]["name"]
        body = json.dumps({"vulns": [KNOWN]} if name == "django" else {}).encode()
        self.send_response(500 if name == "broken" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of an advisory database on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Database) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def audited(tmp_path, monkeypatch, capsys):
    """Return a function that audits lines of requirements; returns exit status and output."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def audited(lines: str, url: str) -> tuple[int, str]:
        requirements = tmp_path / "requirements.txt"
        requirements.write_text(lines)
        status = audit.main(requirements, f"--osv-url={url}", f"--cache-dir={tmp_path}")
        return status, capsys.readouterr().out

    return audited


def test_known_vulnerability_fails_and_names_the_version_that_fixes_it(audited, database):
    status, output = audited("django==5.2.19\nattrs==26.1.0\n", database)

    assert status == 1
    assert "django 5.2.19: PYSEC-2026-1, fixed in 9.9: Lets strangers in." in output
    assert "audited: 2 packages, 1 known vulnerabilities" in output


def test_packages_without_one_pass(audited, database):
    assert audited("attrs==26.1.0\nsix==1.17.0\n", database) == (
        0,
        "audited: 2 packages, 0 known vulnerabilities\n",
    )


def test_vulnerability_that_is_ignored_passes(audited, database, monkeypatch):
    monkeypatch.setattr(audit, "IGNORED", {"PYSEC-2026-1": "only for this test"})

    assert audited("django==5.2.19\n", database)[0] == 0


@pytest.mark.parametrize(
    ("package", "url"), [("attrs", "http://127.0.0.1:1/"), ("broken", "database")]
)
def test_database_that_does_not_answer_is_no_audit(audited, database, package, url):
    status, output = audited(f"{package}==26.1.0\n", database if url == "database" else url)

    assert status == 0
    assert output.startswith("not audited: cannot reach the advisory database (")
    assert "\naudited" not in output


def test_audit_that_fails_by_itself_fails(audited, database):
    status, output = audited("django>=5.2\n", database)

    assert status == 1
    assert "not audited" not in output
