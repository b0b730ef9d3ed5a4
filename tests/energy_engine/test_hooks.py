"""What the engine replaces, overrides or reads in libraries although they don't document it.

An update may change any of it without an entry in its changelog. These tests fail then, and say
which file to adapt.
"""

import ast
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from gevent.core import READ, WRITE
from psycopg.waiting import Ready

from energy_engine.environment import ROOT

FLOORS = ("analytics", "energy_engine", "fleet", "ingestion")


class Hook(NamedTuple):
    """A place in a library, the file that uses it, and what that file relies on.

    `parameters`: the names of a function's parameters, in order. `mentions`: names that the source
    of the function, class or module must contain, such as an attribute that it sets, or the method
    that it calls and the engine overrides.
    """

    place: str
    used_by: str
    relied_on: str
    parameters: str | None = None
    mentions: str = ""


WORKER = "energy_engine/server/worker.py"
ADMISSION = "energy_engine/server/admission.py"
WAITING = "energy_engine/server/waiting.py"
DEADLINES = "energy_engine/server/deadlines.py"
DATABASES = "energy_engine/postgres/databases.py"
SAMPLING = "energy_engine/telemetry/sampling.py"
LOGS = "energy_engine/telemetry/logs.py"
RENDERING = "energy_engine/api/rendering.py"
REDIS = "fleet/stores/redis.py"
STATEMENTS = "fleet/stores/statements.py"
PARAMETERS = "fleet/http/parameters.py"
PERMISSION = "fleet/access/authorization.py"
PAGINATION = "analytics/figures/views.py"
PARTITIONS = "ingestion/history/partitions.py"
MODELS = "ingestion/models.py"
WEBHOOKS = "analytics/alerting/webhooks.py"
JOB_RUNS = "energy_engine/telemetry/job_runs.py"
LOCK_OUTS = "energy_engine/console/signing_in/lock_outs.py"
SIGN_IN = "energy_engine/console/signing_in/sign_in.py"
SECOND_FACTOR = "energy_engine/console/signing_in/one_time_codes.py"
TWO_FACTOR = "energy_engine/console/signing_in/two_factor_page.py"
PASSWORDS = "energy_engine/console/signing_in/passwords.py"
LISTS = "energy_engine/console/lists/base.py"
PEOPLE = "energy_engine/console/people.py"
SEARCH = "energy_engine/console/search.py"

HOOKS = [
    # --- gunicorn -----------------------------------------------------------------------------
    Hook(
        "gunicorn.http.wsgi.create",
        WORKER,
        "a response is an instance of the module's `Response`, which is replaced",
        mentions="Response",
    ),
    Hook("gunicorn.http.wsgi.Response.__init__", WORKER, "the constructor", "self req sock cfg"),
    Hook(
        "gunicorn.http.wsgi.Response",
        WORKER,
        "attributes of a response",
        mentions="headers headers_sent chunked sock req _omits_body_warned",
    ),
    Hook("gunicorn.http.wsgi.Response.should_close", WORKER, "overridden", "self"),
    Hook("gunicorn.http.wsgi.Response.default_headers", WORKER, "the first header lines", "self"),
    Hook("gunicorn.http.wsgi.Response.send_headers", WORKER, "overridden", "self"),
    Hook("gunicorn.http.wsgi.Response.sendfile", WORKER, "overridden", "self respiter"),
    Hook("gunicorn.http.wsgi.Response.close", WORKER, "overridden", "self"),
    Hook(
        "gunicorn.http.wsgi.Response._emit_body",
        WORKER,
        "overridden: every part of a body goes out through it",
        "self data",
    ),
    Hook("gunicorn.http.wsgi.Response.write", WORKER, "writes by `_emit_body`", None, "_emit_body"),
    Hook("gunicorn.http.body.Body", WORKER, "attributes of a body", mentions="reader failed"),
    Hook("gunicorn.http.body.LengthReader", WORKER, "what is still to be read", mentions="length"),
    Hook("gunicorn.http.body.ChunkedReader", WORKER, "None once it is read", mentions="parser"),
    Hook("gunicorn.http.errors.InvalidHeader", WORKER, "raised", "hdr req"),
    Hook("gunicorn.http.errors.ParseException", WORKER, "what is not HTTP"),
    Hook("gunicorn.http.errors.LimitRequestLine", WORKER, "answered with 414"),
    Hook("gunicorn.http.errors.LimitRequestHeaders", WORKER, "answered with 431"),
    Hook("gunicorn.http.errors.UnsupportedTransferCoding", WORKER, "answered with 501"),
    Hook("gunicorn.http.errors.ExpectationFailed", WORKER, "answered with 417"),
    Hook(
        "gunicorn.workers.ggevent.GeventWorker.run",
        WORKER,
        "the server is the module's `StreamServer`, which is replaced, with the worker's pool",
        mentions="StreamServer worker_connections",
    ),
    Hook("gunicorn.workers.ggevent.GeventWorker.init_process", WORKER, "overridden", "self"),
    Hook("gunicorn.workers.ggevent.GeventWorker.patch", WORKER, "overridden", "self"),
    Hook("gunicorn.workers.ggevent.GeventWorker.timeout_ctx", WORKER, "overridden", "self"),
    Hook(
        "gunicorn.workers.ggevent.GeventWorker.handle",
        WORKER,
        "overridden",
        "self listener client addr",
    ),
    Hook(
        "gunicorn.workers.ggevent.GeventWorker.handle_request",
        WORKER,
        "overridden; a `StopIteration` out of it ends the connection",
        "self listener_name req sock addr",
    ),
    Hook(
        "gunicorn.workers.base_async.AsyncWorker.handle",
        WORKER,
        "what it calls for each request, and what it catches",
        mentions="timeout_ctx handle_request handle_error StopIteration",
    ),
    Hook(
        "gunicorn.workers.base.Worker.handle_error",
        WORKER,
        "overridden",
        "self req client addr exc",
    ),
    Hook("gunicorn.workers.base.Worker.handle_exit", WORKER, "overridden", "self sig frame"),
    Hook("gunicorn.workers.base.Worker", WORKER, "false ends the worker", mentions="alive log"),
    Hook(
        "gunicorn.http.wsgi.default_environ",
        DEADLINES,
        "a key of the environ: the socket of the client",
        mentions="gunicorn.socket",
    ),
    Hook(
        "gunicorn.http.wsgi.base_environ",
        DEADLINES,
        "a key of the environ: a body without a length comes in chunks",
        mentions="wsgi.input_terminated",
    ),
    Hook(
        "gunicorn.glogging.Logger.setup",
        "energy_engine/gunicorn.py",
        "overridden",
        "self cfg",
        "error_log",
    ),
    Hook(
        "gunicorn.arbiter.Arbiter",
        "energy_engine/gunicorn.py",
        "the sockets that it listens on",
        mentions="LISTENERS",
    ),
    Hook("gunicorn.sock.BaseSocket", "energy_engine/gunicorn.py", "its socket", mentions="sock"),
    # --- gevent, and the socket below it --------------------------------------------------------
    Hook("gevent.baseserver.BaseServer.max_accept", WORKER, "overridden with a property"),
    Hook("gevent.baseserver.BaseServer.set_spawn", WORKER, "overridden", "self spawn", "full"),
    Hook(
        "gevent.baseserver.BaseServer._do_read",
        WORKER,
        "overridden: a turn of accepting, which calls `do_read` up to `max_accept` times",
        "self",
        "do_read max_accept full",
    ),
    Hook(
        "gevent.baseserver.BaseServer",
        WORKER,
        "attributes of a server",
        mentions="pool loop _timer",
    ),
    Hook("gevent.baseserver.BaseServer.stop_accepting", WORKER, "called", "self"),
    Hook(
        "gevent.baseserver.BaseServer._start_accepting_if_started",
        WORKER,
        "called by a timer",
        "self _event",
    ),
    Hook(
        "gevent.server.StreamServer.do_read",
        WORKER,
        "overridden: accepts one connection by the socket's `_accept`",
        "self",
        "_accept",
    ),
    Hook("gevent.pool.Pool.free_count", WORKER, "called", "self"),
    Hook(
        "gevent.hub.Hub.print_exception",
        WORKER,
        "replaced: what a greenlet has not caught is logged",
        "self context t v tb",
    ),
    Hook("gevent.hub.Hub.handle_error", WORKER, "calls it", None, "print_exception"),
    Hook(
        "gevent.socket.socket.__init__",
        ADMISSION,
        "makes a client of an accepted connection",
        "self family type proto fileno",
    ),
    Hook(
        "gevent.socket.socket._wait",
        ADMISSION,
        "overridden: gives a place back while the client is waited for",
        "socket watcher timeout_exc",
    ),
    Hook("gevent.socket.socket.recv", ADMISSION, "overridden; waits by `_wait`", None, "_wait"),
    Hook("gevent.socket.socket.sendall", ADMISSION, "sends by `send`", None, "_sendall"),
    Hook("gevent.socket.socket.send", ADMISSION, "waits by `_wait`", None, "_wait"),
    Hook("gevent.hub.Hub.wait", WAITING, "waits for a watcher"),
    Hook("gevent.monkey.is_module_patched", PASSWORDS, "called", "mod_name"),
    Hook("gevent.monkey.get_original", DEADLINES, "called", "mod_name item_name"),
    # --- psycopg ------------------------------------------------------------------------------
    Hook(
        "psycopg.Connection.wait",
        WAITING,
        "replaced: every wait for an answer",
        "self gen interval timeout",
    ),
    Hook("psycopg.Cursor.execute", WAITING, "waits by `Connection.wait`", None, "_conn.wait"),
    Hook("psycopg.Connection.commit", WAITING, "waits by `wait`", None, "self.wait"),
    Hook("psycopg.Connection.__init__", WAITING, "the connection of libpq", None, "pgconn"),
    Hook("psycopg.pq.PGconn.finish", WAITING, "closes a connection whose answer is not awaited"),
    Hook("psycopg.pq.PGconn.socket", WAITING, "what is waited for"),
    Hook("psycopg_pool.ConnectionPool.getconn", WAITING, "replaced: every wait", "self timeout"),
    Hook(
        "django.db.backends.postgresql.base.DatabaseWrapper.get_new_connection",
        WAITING,
        "takes connections by `getconn`",
        mentions="getconn",
    ),
    Hook(
        "psycopg_pool.ConnectionPool",
        DATABASES,
        "connects by the `connect` of its `connection_class`",
        mentions="connection_class.connect",
    ),
    Hook(
        "psycopg_pool.base.BasePool",
        SAMPLING,
        "figures of a pool, by name",
        mentions="pool_size pool_available requests_waiting",
    ),
    Hook(
        "psycopg._queries",
        STATEMENTS,
        "how long a statement may be whose parts are remembered",
        mentions="MAX_CACHED_STATEMENT_LENGTH",
    ),
    # --- Django -------------------------------------------------------------------------------
    Hook(
        "django.db.backends.postgresql.base.Cursor",
        "energy_engine/postgres/sql_comments.py",
        "Django's own cursor, which ours extends",
    ),
    Hook(
        "django.db.backends.postgresql.base.DatabaseWrapper.get_connection_params",
        DATABASES,
        "an option: the class of cursors",
        mentions="cursor_factory",
    ),
    Hook("django.db.backends.postgresql.base.DatabaseWrapper.pool", SAMPLING, "the pool"),
    Hook(
        "django.db.backends.postgresql.schema.DatabaseSchemaEditor._create_like_index_sql",
        "fleet/models.py",
        "no second index for a column whose type is spelled otherwise",
        mentions="varchar",
    ),
    Hook("django.db.models.fields.AutoFieldMixin._check_primary_key", MODELS, "overridden", "self"),
    Hook(
        "django.core.cache.close_caches",
        "energy_engine/apps.py",
        "disconnected from the end of requests",
    ),
    Hook(
        "django.core.handlers.base.reset_urlconf",
        "energy_engine/apps.py",
        "disconnected from the end of requests",
    ),
    Hook("django.contrib.admin.sites.AdminSite", PEOPLE, "the pages", mentions="_registry"),
    Hook(
        "django.contrib.admin.options.ModelAdmin.construct_change_message",
        LISTS,
        "overridden",
        "self request form formsets add",
    ),
    Hook(
        "django.contrib.admin.options.ModelAdmin.log_change",
        LISTS,
        "overridden",
        "self request obj message",
    ),
    Hook(
        "django.contrib.admin.options.ModelAdmin.log_deletions",
        LISTS,
        "overridden",
        "self request queryset",
    ),
    Hook(
        "django.contrib.admin.options.ModelAdmin.history_view",
        LISTS,
        "overridden",
        "self request object_id extra_context",
    ),
    Hook(
        "django.contrib.admin.models.LogEntryManager.log_actions",
        LISTS,
        "called",
        "self user_id queryset action_flag change_message single_object",
    ),
    Hook(
        "django.contrib.admin.views.main.ChangeList",
        LISTS,
        "attributes of a list",
        mentions="full_result_count result_count has_active_filters query",
    ),
    Hook(
        "django.contrib.auth.hashers.PBKDF2PasswordHasher.encode",
        PASSWORDS,
        "overridden",
        "self password salt iterations",
    ),
    # --- Django REST framework and drf-spectacular ----------------------------------------------
    Hook("rest_framework.request.Request", PERMISSION, "Django's", mentions="_request"),
    Hook("rest_framework.request.Request", PARAMETERS, "Django's", mentions="_request"),
    Hook("rest_framework.views.APIView.dispatch", PERMISSION, "sent later", None, "headers"),
    Hook("rest_framework.request.Request", RENDERING, "emptied", mentions="parser_context"),
    Hook(
        "rest_framework.views.APIView.get_renderer_context",
        RENDERING,
        "emptied, with the request and the view in it",
        mentions="view request",
    ),
    Hook(
        "rest_framework.pagination.CursorPagination._get_position_from_instance",
        PAGINATION,
        "overridden",
        "self instance ordering",
    ),
    Hook(
        "rest_framework.pagination.CursorPagination.decode_cursor",
        PAGINATION,
        "overridden",
        "self request",
    ),
    Hook(
        "rest_framework.pagination.CursorPagination.get_ordering",
        PAGINATION,
        "overridden",
        "self request queryset view",
    ),
    Hook(
        "rest_framework.pagination.CursorPagination.paginate_queryset",
        PAGINATION,
        "overridden",
        "self queryset request view",
        "_get_position_from_instance has_next has_previous next_position previous_position",
    ),
    Hook("rest_framework.pagination.Cursor", PAGINATION, "made", "offset reverse position"),
    Hook(
        "rest_framework.pagination.CursorPagination.get_page_size",
        "fleet/http/pagination.py",
        "overridden",
        "self request",
    ),
    Hook(
        "drf_spectacular.utils.extend_schema",
        PARAMETERS,
        "leaves its schema in `kwargs` of the function",
        mentions="kwargs schema",
    ),
    Hook(
        "drf_spectacular.openapi.AutoSchema.get_override_parameters",
        PARAMETERS,
        "the parameters that `extend_schema` was given",
        "self",
    ),
    Hook(
        "drf_spectacular.openapi.AutoSchema._is_list_view",
        "fleet/http/openapi.py",
        "overridden: else a list would be an array, not a page",
        "self serializer",
    ),
    Hook(
        "drf_spectacular.generators.SchemaGenerator.get_schema",
        "energy_engine/api/root.py",
        "called",
        "self request public",
    ),
    # --- The console: unfold, axes, otp ---------------------------------------------------------
    Hook("unfold.sites.UnfoldAdminSite.get_sidebar_list", SEARCH, "called", "self request"),
    Hook("unfold.dataclasses.SearchResult", SEARCH, "made", "title description link icon"),
    Hook(
        "axes.handlers.database.AxesDatabaseHandler.get_failures",
        LOCK_OUTS,
        "overridden",
        "self request credentials",
    ),
    Hook(
        "axes.handlers.proxy.AxesProxyHandler.is_allowed",
        LOCK_OUTS,
        "called",
        "request credentials",
    ),
    Hook("axes.attempts.get_cool_off_threshold", LOCK_OUTS, "called", "request"),
    Hook("axes.helpers.get_client_username", LOCK_OUTS, "called", "request credentials"),
    Hook(
        "axes.backends.AxesStandaloneBackend",
        SIGN_IN,
        "marks a request that is refused",
        mentions="axes_locked_out",
    ),
    Hook("django_otp.verify_token", SECOND_FACTOR, "called", "user device_id token"),
    Hook("django_otp.models.Device.persistent_id", SECOND_FACTOR, "what it asks for"),
    Hook(
        "django_otp.models.ThrottlingMixin",
        SECOND_FACTOR,
        "columns that are set back, and until when a code has to wait",
        mentions="throttling_failure_count throttling_failure_timestamp locked_until",
    ),
    Hook("django_otp.plugins.otp_totp.models.TOTPDevice.config_url", TWO_FACTOR, "the secret"),
    # --- django-postgres-extra ------------------------------------------------------------------
    Hook(
        "psqlextra.partitioning.PostgresTimePartitionSize.start",
        PARTITIONS,
        "overridden",
        "self dt",
    ),
    Hook(
        "psqlextra.partitioning.PostgresTimePartition.create",
        PARTITIONS,
        "called",
        "self model schema_editor comment",
    ),
    Hook("psqlextra.partitioning.PostgresTimePartition.name", PARTITIONS, "called", "self"),
    Hook("psqlextra.partitioning.constants.AUTO_PARTITIONED_COMMENT", PARTITIONS, "the mark"),
    # --- Redis --------------------------------------------------------------------------------
    Hook(
        "redis.retry.Retry.call_with_retry",
        REDIS,
        "overridden: each connect and each command goes through it",
        "self do fail is_retryable with_failure_count",
        "_supported_errors",
    ),
    Hook("redis.Redis._execute_command", REDIS, "calls it", None, "call_with_retry"),
    Hook(
        "redis.connection.AbstractConnection",
        REDIS,
        "copies its policy, and connects through it",
        mentions="deepcopy call_with_retry",
    ),
    Hook("django_redis.cache.RedisCache", REDIS, "its client", mentions="client"),
    Hook(
        "django_redis.client.default.DefaultClient.get_client",
        REDIS,
        "called",
        "self write tried",
    ),
    # --- procrastinate --------------------------------------------------------------------------
    Hook("procrastinate.manager.JobManager", WEBHOOKS, "a queue of its own", "connector"),
    Hook(
        "procrastinate.contrib.django.django_connector.DjangoConnector",
        WEBHOOKS,
        "the queue over Django's connection",
    ),
    Hook("procrastinate.tasks.configure_task", WEBHOOKS, "called", "name job_manager options"),
    Hook(
        "procrastinate.periodic.PeriodicRegistry", JOB_RUNS, "the jobs", mentions="periodic_tasks"
    ),
    Hook("procrastinate.periodic.PeriodicTask.croniter", JOB_RUNS, "the turns of a job"),
    Hook(
        "procrastinate.jobs.Job.log_context",
        LOGS,
        "a line's `job`: its call with the arguments, which is taken out",
        mentions="call_string",
    ),
    Hook("procrastinate.worker.Worker", LOGS, "a line's `job`", mentions="job"),
    Hook(
        "structlog.stdlib.ProcessorFormatter.format",
        LOGS,
        "the record that a line is made of",
        mentions="_record",
    ),
]


def library_of(hook: Hook) -> str:
    """Return the library of a hook, with its version."""
    package = hook.place.partition(".")[0]
    (name, *_) = metadata.packages_distributions()[package]
    return f"{name} {metadata.version(name)}"


def found(place: str) -> Any:
    """Return what a library has at `place`, also where the engine has put its own there."""
    parts = place.split(".")
    for split in range(len(parts), 0, -1):
        try:
            at: Any = import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for name in parts[split:]:
            at = getattr(at, name)
            while isinstance(at, type) and at.__module__.startswith(FLOORS):
                at = at.__base__
        return at
    raise AttributeError(place)


def broken(hook: Hook) -> str:
    """Return what of a hook is no longer there; empty if all is."""
    try:
        at = found(hook.place)
    except AttributeError:
        return "it is gone"
    if hook.parameters is not None:
        parameters = " ".join(inspect.signature(at).parameters)
        if parameters != hook.parameters:
            return f"its parameters are ({parameters}), not ({hook.parameters})"
    if hook.mentions:
        source = inspect.getsource(at)
        names = hook.mentions.split()
        missing = [name for name in names if not re.search(rf"\b{re.escape(name)}\b", source)]
        if missing:
            return f"it no longer uses {', '.join(missing)}"
    return ""


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: f"{hook.place}-{Path(hook.used_by).stem}")
def test_library_still_has_what_the_engine_hooks_into(hook):
    if what := broken(hook):
        pytest.fail(
            f"{hook.place} of {library_of(hook)}: {what}. {hook.used_by} relies on it: "
            f"{hook.relied_on}. Read the source of the new version, adapt "
            f"{hook.used_by} and then this list; or pin the version before."
        )


def test_psycopg_and_gevent_have_the_same_numbers_for_reading_and_writing():
    # `energy_engine.server.waiting` passes psycopg's numbers to gevent.
    assert (int(Ready.R), int(Ready.W)) == (READ, WRITE)


@pytest.mark.parametrize(
    "template",
    [
        "admin/base_site.html",
        "admin/change_form.html",
        "admin/change_list.html",
        "admin/index.html",
        "drf_spectacular/swagger_ui.html",
        "registration/password_change_form.html",
        "unfold/helpers/command_results.html",
        "unfold/helpers/empty_results.html",
        "unfold/helpers/field.html",
        "unfold/helpers/label.html",
        "unfold/helpers/search.html",
        "unfold/helpers/shortcut.html",
        "unfold/helpers/unauthenticated_title.html",
        "unfold/layouts/unauthenticated.html",
    ],
)
def test_library_still_has_the_template_that_a_page_extends_or_replaces(template):
    folders = [Path(found(name).__file__).parent for name in ("unfold", "drf_spectacular")]

    assert any((folder / "templates" / template).exists() for folder in folders), (
        f"{template} is gone: look for its successor, and adapt energy_engine/console/templates"
    )


# --- The list is complete -----------------------------------------------------------------------

# Private by their names alone: Python and Django document them.
DOCUMENTED = {"_asdict", "_fields", "_replace", "_meta", "_base_manager", "_default_manager"}


def named() -> set[str]:
    """Return every name that a hook is about."""
    return {
        name for hook in HOOKS for name in (hook.place.rpartition(".")[2], *hook.mentions.split())
    }


def sources() -> Iterator[Path]:
    for floor in FLOORS:
        yield from (path for path in (ROOT / floor).rglob("*.py") if "migrations" not in path.parts)


def test_each_private_name_of_a_library_that_the_code_reads_is_in_the_list():
    read, own = set(), set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
            elif isinstance(node, ast.Attribute):
                (own if isinstance(node.ctx, ast.Store) else read).add(node.attr)
    private = {name for name in read if name.startswith("_") and not name.startswith("__")}

    assert private - own - DOCUMENTED <= named()


def test_each_private_method_of_a_library_that_the_code_overrides_is_in_the_list():
    overridden = {
        name
        for kind in own_classes()
        for name, value in vars(kind).items()
        if name.startswith("_")
        and not name.endswith("_")
        and isinstance(value, Callable | property | classmethod | staticmethod)
        and any(name in vars(base) for base in kind.__mro__[1:] if not is_own(base))
    }

    assert overridden <= named()


def test_each_file_of_the_list_uses_what_it_is_listed_for():
    for hook in HOOKS:
        text = (ROOT / hook.used_by).read_text()
        names = (*hook.place.split("."), *re.split(r"[ .]", hook.mentions))
        assert any(name and re.search(rf"\b{name}\b", text) for name in names), hook


def own_classes() -> Iterator[type]:
    for floor in FLOORS:
        for module in pkgutil.walk_packages([str(ROOT / floor)], f"{floor}."):
            if "migrations" not in module.name:
                for value in vars(import_module(module.name)).values():
                    if isinstance(value, type) and is_own(value):
                        yield value


def is_own(kind: type) -> bool:
    return kind.__module__.startswith(FLOORS)
