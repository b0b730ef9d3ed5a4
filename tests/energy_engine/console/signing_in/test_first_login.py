"""The first login: its password is shown once, or lies in a closed file, until it is changed."""

import io
from http import HTTPStatus

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from energy_engine.console.signing_in import first_login
from energy_engine.models import FirstPassword
from tests.people import signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

CHANGE = "/admin/password_change/"
OWN = "correct-horse-battery"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def data_dir(tmp_path, settings, monkeypatch):
    settings.DATA_DIR = tmp_path
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return tmp_path


def prepare(printed: io.StringIO, monkeypatch) -> str:
    monkeypatch.setattr("sys.stdout", printed)
    call_command("prepare", "--first-login", stdout=printed)
    return printed.getvalue()


@pytest.fixture
def password(data_dir, monkeypatch) -> str:
    """The password of the first login, of which no terminal has shown it."""
    prepare(io.StringIO(), monkeypatch)
    return (data_dir / "first_login").read_text().split()[-1]


@pytest.fixture
def visitor(password) -> Client:
    client = Client()
    signed = client.post("/admin/login/", {"username": "admin", "password": password})
    assert signed.status_code == HTTPStatus.FOUND
    return client


def change(client: Client, old: str, new: str):
    form = {"old_password": old, "new_password1": new, "new_password2": new}
    return client.post(CHANGE, form)


def test_terminal_shows_the_password_once_and_no_file_has_it(data_dir, monkeypatch):
    said = prepare(Terminal(), monkeypatch)

    password = said.split("password")[1].strip()
    assert User.objects.get().check_password(password)
    assert list(data_dir.iterdir()) == []
    assert prepare(Terminal(), monkeypatch) == ""


def test_log_names_a_file_that_its_owner_alone_reads(data_dir, monkeypatch):
    said = prepare(io.StringIO(), monkeypatch)

    file = data_dir / "first_login"
    password = file.read_text().split()[-1]
    assert str(file) in said
    assert password not in said
    assert file.stat().st_mode & 0o777 == 0o600
    assert User.objects.get().check_password(password)
    assert prepare(io.StringIO(), monkeypatch) == ""


def test_nobody_is_made_where_the_file_cannot_be_written(data_dir, monkeypatch, settings):
    settings.DATA_DIR = data_dir / "missing"

    with pytest.raises(CommandError, match=r"first_login can't be written .*: run this on a term"):
        prepare(io.StringIO(), monkeypatch)

    assert not User.objects.exists()


@pytest.mark.parametrize("path", ["/admin/", "/admin/fleet/vehicle/", "/admin/two-steps"])
def test_every_page_leads_to_the_change_of_the_password(visitor, path):
    answer = visitor.get(path)

    assert (answer.status_code, answer["Location"]) == (HTTPStatus.FOUND, CHANGE)
    page = visitor.get(CHANGE).content.decode()
    assert "Choose your own password to continue" in page


def test_what_a_form_sends_leads_there_too_and_changes_nothing(visitor):
    answer = visitor.post("/admin/auth/group/add/", {"name": "made"})

    assert answer["Location"] == CHANGE
    assert visitor.post("/admin/logout/").status_code == HTTPStatus.OK


def test_change_opens_the_console_and_removes_the_file(visitor, password, data_dir):
    changed = change(visitor, password, OWN)

    assert changed.status_code == HTTPStatus.FOUND
    assert visitor.get("/admin/").status_code == HTTPStatus.OK
    assert list(data_dir.iterdir()) == []
    assert not FirstPassword.objects.exists()
    assert "Choose your own password" not in visitor.get(CHANGE).content.decode()


def test_change_to_the_same_password_is_none(visitor, password, data_dir):
    refused = change(visitor, password, password)

    assert "The engine created this password. Choose a different one." in refused.content.decode()
    assert visitor.get("/admin/")["Location"] == CHANGE
    assert (data_dir / "first_login").exists()


def test_stronger_hash_of_the_same_password_is_no_change(password, data_dir, settings):
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.ScryptPasswordHasher",
        *settings.PASSWORD_HASHERS,
    ]
    client = Client()

    client.post("/admin/login/", {"username": "admin", "password": password})

    assert User.objects.get().password.startswith("scrypt$")
    assert client.get("/admin/")["Location"] == CHANGE


def test_command_that_changes_it_opens_the_console_too(visitor, data_dir):
    user = User.objects.get()
    user.set_password(OWN)
    user.save()

    assert not (data_dir / "first_login").exists()
    assert signed_in(user).get("/admin/").status_code == HTTPStatus.OK


def test_people_who_chose_their_password_are_not_asked(data_dir):
    client = signed_in(User.objects.create_superuser("boss", password=OWN))

    assert client.get("/admin/").status_code == HTTPStatus.OK
    assert first_login.MUST_CHANGE not in client.session
