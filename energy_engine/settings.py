"""Django settings, grouped by topic. Environment variables are read through `environment.py`."""

from datetime import timedelta
from ipaddress import ip_network
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy

from energy_engine import __version__, environment
from energy_engine.background import stops
from energy_engine.local import embedded, private_files
from energy_engine.postgres import databases
from energy_engine.telemetry import logs
from fleet.stores.replica import REPLICA

_THE_ENGINE_THAT_RUNS = (
    "start the engine with `make run`, or set ENGINE_DATA_DIR to that of the running engine"
)
_CONSOLE = environment.ROOT / "energy_engine" / "console"
DATA_DIR = environment.data_dir()
DEBUG = environment.read("DEBUG")
# Hints of the lower floors begin with this command.
MANAGE_PY = environment.command()


def _names(variable: str) -> list[str]:
    return [name.strip() for name in environment.read(variable).split(",") if name.strip()]


def _secret_key() -> str:
    """Return SECRET_KEY, or the key that `make run` generated."""
    kept = DATA_DIR / "secret_key"
    if key := environment.read("SECRET_KEY"):
        return str(key)
    if not kept.exists():
        raise ImproperlyConfigured(f"Set SECRET_KEY, or {_THE_ENGINE_THAT_RUNS}")
    try:
        return private_files.read_secret(kept, private_files.MAKE_A_NEW_KEY)
    except private_files.Unusable as error:
        raise ImproperlyConfigured(str(error)) from None


def _primary_url() -> str:
    """Return DATABASE_URL, or the URL of the embedded PostgreSQL."""
    try:
        url = environment.read("DATABASE_URL") or embedded.database_url(DATA_DIR)
    except private_files.Unusable as error:
        raise ImproperlyConfigured(str(error)) from None
    if not url:
        raise ImproperlyConfigured(f"Set DATABASE_URL, or {_THE_ENGINE_THAT_RUNS}")
    return str(url)


# --- Security ---------------------------------------------------------------------------------

SECRET_KEY = _secret_key()
ALLOWED_HOSTS = _names("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = _names("CSRF_TRUSTED_ORIGINS")
# Whether the console is served over HTTPS only; gunicorn.py says which proxies may vouch for HTTPS.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = environment.read("SECURE_COOKIES")
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE
# Only the console: a redirect would drop the body of a device's POST, and Prometheus and health
# checks use HTTP within a stack.
SECURE_REDIRECT_EXEMPT = [r"^(?!admin/)"]
SECURE_HSTS_SECONDS = environment.read("HSTS_SECONDS") if SESSION_COOKIE_SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
if SESSION_COOKIE_SECURE:
    # Browsers accept these names only over HTTPS and from this very host, not from its siblings.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-session", "__Host-csrf"
SESSION_COOKIE_AGE = environment.read("SESSION_HOURS") * 3600
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SILENCED_SYSTEM_CHECKS = [
    # HSTS preloading is the domain owner's decision, and hard to undo.
    "security.W021",
    # Its middleware would show the lockout page; the console's own sign-in does that.
    "axes.W002",
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # refuses locked-out users before checking passwords
    "django.contrib.auth.backends.ModelBackend",
]
PASSWORD_HASHERS = ["energy_engine.console.signing_in.passwords.Hasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": name}
    for name in (
        "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "django.contrib.auth.password_validation.MinimumLengthValidator",
        "django.contrib.auth.password_validation.CommonPasswordValidator",
        "django.contrib.auth.password_validation.NumericPasswordValidator",
        "energy_engine.console.signing_in.first_login.FirstPasswordIsChanged",
    )
]

# --- Signing in -------------------------------------------------------------------------------

AXES_HANDLER = "energy_engine.console.signing_in.lock_outs.Failures"
AXES_CLIENT_IP_CALLABLE = "energy_engine.console.signing_in.lock_outs.address_of"
AXES_FAILURE_LIMIT = environment.read("LOGIN_FAILURES")
AXES_COOLOFF_TIME = timedelta(minutes=environment.read("LOGIN_LOCKOUT_MINUTES"))
# A successful sign-in resets the failures of a name and address; the handler decides what counts.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
# Further attempts do not prolong a lockout.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "csrfmiddlewaretoken", "code"]
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False  # the console has its own page
AXES_VERBOSE = False
CONSOLE_TOTP = environment.read("CONSOLE_TOTP")
OTP_TOTP_ISSUER = "Energy Ingestion Engine"
OTP_TOTP_SYNC = (
    False  # codes of the previous, current and next step are valid, whatever was used before
)

# --- Applications -----------------------------------------------------------------------------

INSTALLED_APPS = [
    "energy_engine.apps.EnergyEngineConfig",
    "analytics.apps.AnalyticsConfig",
    "ingestion.apps.IngestionConfig",
    "fleet.apps.FleetConfig",
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "psqlextra",
    "procrastinate.contrib.django",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]
MIDDLEWARE = [
    "energy_engine.api.request_ids.RequestIdMiddleware",
    "energy_engine.telemetry.metrics_page.MetricsMiddleware",
    "energy_engine.server.deadlines.DeadlineMiddleware",
    "energy_engine.console.content_policy.ContentPolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "energy_engine.console.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "energy_engine.console.middleware.AuthenticationMiddleware",
    "energy_engine.console.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [_CONSOLE / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "libraries": {"device_page": "energy_engine.console.templatetags.device_page"},
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
ROOT_URLCONF = "energy_engine.urls"
WSGI_APPLICATION = "energy_engine.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Time and language ------------------------------------------------------------------------

# Partition bounds follow TIME_ZONE, so it must stay UTC.
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
LANGUAGE_CODE = "en"

# --- PostgreSQL -------------------------------------------------------------------------------

DATABASES = databases.databases(_primary_url())
DATABASE_SERVERS = databases.servers(_primary_url())
STATEMENT_TIMEOUT_SECONDS = environment.read("STATEMENT_TIMEOUT_SECONDS")
LONG_STATEMENT_TIMEOUT_SECONDS = environment.read("LONG_STATEMENT_TIMEOUT_SECONDS")
DATABASE_ROUTERS = ["fleet.stores.replica.Router"] if REPLICA in DATABASES else []
REPLICA_MAX_LAG_SECONDS = environment.read("REPLICA_MAX_LAG_SECONDS")
# django-postgres-extra makes the partitions and small upserts. The upsert of readings is set-based
# SQL, which takes 10 ms for 1,000 readings instead of 54: see `ingestion.writer`.
POSTGRES_EXTRA_AUTO_EXTENSION_SET_UP = False  # hstore, which the engine does not use
PSQLEXTRA_PARTITIONING_MANAGER = "ingestion.history.partitions.manager"
# Their partitions are created together, so that derived rows always have a partition.
PARTITIONED_MODELS = [
    "ingestion.MeterReading",
    "ingestion.VehicleReading",
    "analytics.MeterHour",
    "analytics.VehicleHour",
]

# --- Redis ------------------------------------------------------------------------------------

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": environment.read("REDIS_URL") or embedded.redis_url(DATA_DIR),
        "OPTIONS": {
            # Not pickle: write access to Redis must not allow running code here.
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            # After one failure, fails fast for all requests until Redis answers again.
            "CONNECTION_POOL_CLASS": "fleet.stores.redis.Pool",
            # A request that finds Redis frozen waits for both at most: 0.3 seconds.
            "SOCKET_CONNECT_TIMEOUT": 0.1,
            "SOCKET_TIMEOUT": 0.2,
        },
    }
}

# --- API --------------------------------------------------------------------------------------

API_AUTH = environment.read("API_AUTH")
LIMIT_REQUESTS_PER_KEY = environment.read("LIMIT_REQUESTS_PER_KEY")
LIMIT_READINGS_PER_KEY = environment.read("LIMIT_READINGS_PER_KEY")
LIMIT_REQUESTS_PER_ADDRESS = environment.read("LIMIT_REQUESTS_PER_ADDRESS")
LIMIT_WRONG_KEYS_PER_ADDRESS = environment.read("LIMIT_WRONG_KEYS_PER_ADDRESS")
TRUSTED_PROXIES = [ip_network(proxy) for proxy in _names("TRUSTED_PROXIES")]

# No parsers, and serializers for devices and sites only: other bodies are msgspec structs, because
# decoding and validating 1,000 readings takes 0.5 ms instead of 22 ms. See "Django REST framework"
# in docs/architecture.md.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [
        "fleet.access.authorization.HasScope",
        "fleet.http.parameters.KnownParameters",
    ],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_RENDERER_CLASSES": ["energy_engine.api.rendering.JsonRenderer"],
    "DEFAULT_PARSER_CLASSES": [],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "energy_engine.api.rendering.AlwaysFirstRenderer",
    "DEFAULT_SCHEMA_CLASS": "fleet.http.openapi.Schema",
    "EXCEPTION_HANDLER": "energy_engine.api.errors.exception_handler",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Energy Ingestion Engine",
    "DESCRIPTION": "Stores readings of meters and vehicles; returns energy, efficiency and health.",
    "VERSION": __version__,
    "LICENSE": {"name": "MIT", "identifier": "MIT"},
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/v1",  # operations are grouped by the next part of the path
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "PREPROCESSING_HOOKS": ["energy_engine.api.openapi.canonical_paths_only"],
    "POSTPROCESSING_HOOKS": ["energy_engine.api.openapi.complete"],
}

# --- Admin ------------------------------------------------------------------------------------

LOGIN_REDIRECT_URL = "admin:index"


def _page(title: str, icon: str, model: str) -> dict[str, Any]:
    """Return the sidebar's link to the list of a model, for users who may view it."""
    app, name = model.split(".")
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{name}_changelist"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{name}"),
    }


_BOLT = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'>"
    "<path d='M13 2 4 14h6l-1 8 9-12h-6z' fill='%239810fa'/></svg>"
)
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Energy Ingestion Engine",
    "SITE_HEADER": "Energy Ingestion Engine",
    "SITE_SYMBOL": "bolt",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _BOLT}],
    "SITE_URL": None,
    "DASHBOARD_CALLBACK": "energy_engine.console.overview.dashboard.dashboard",
    "STYLES": [
        lambda request: static("console/colours.css"),
        lambda request: static("console/console.css"),
    ],
    # From `colours.css`: unfold would inline them in each page, which the content policy forbids.
    "COLORS": lambda request: {},
    "SCRIPTS": [
        lambda request: static("console/htmx.js"),
        lambda request: static("console/charts.js"),
    ],
    "ACCOUNT": {
        "navigation": [
            {"title": "Change password", "link": reverse_lazy("admin:password_change")},
            {"title": "Two-factor authentication", "link": reverse_lazy("two_steps")},
        ]
    },
    "SIDEBAR": {
        "show_search": True,
        "navigation": [
            {
                "title": "Fleet",
                "items": [
                    {
                        "title": "Overview",
                        "icon": "monitoring",
                        "link": reverse_lazy("admin:index"),
                    },
                    _page("Vehicles", "electric_car", "fleet.vehicle"),
                    _page("Meters", "electric_meter", "fleet.meter"),
                    _page("Sites", "location_on", "fleet.site"),
                    _page("Tariffs", "payments", "fleet.tariff"),
                    _page("Device defaults", "edit_attributes", "fleet.devicedefaults"),
                    _page("Links", "link", "fleet.vehiclemeterlink"),
                    _page("Faults", "warning", "analytics.fault"),
                    _page("To check", "rule", "analytics.hint"),
                ],
            },
            {
                "title": "Alerting",
                "items": [
                    _page("Thresholds", "tune", "analytics.faultthresholds"),
                    _page("Webhooks", "webhook", "analytics.webhook"),
                ],
            },
            {
                "title": "People and access",
                "items": [
                    _page("Users", "person", "auth.user"),
                    _page("Groups", "group", "auth.group"),
                    _page("API keys", "key", "fleet.apikey"),
                    _page("Failed sign-ins", "lock_clock", "energy_engine.failedsignin"),
                    _page("Audit log", "history", "admin.logentry"),
                    _page("Jobs", "schedule", "procrastinate.procrastinatejob"),
                ],
            },
        ],
    },
}

# --- Ingestion --------------------------------------------------------------------------------

INGEST_UNKNOWN_DEVICES = environment.read("INGEST_UNKNOWN_DEVICES")
EXTERNAL_IDS_IGNORE_CASE = environment.read("EXTERNAL_IDS_IGNORE_CASE")
INGEST_BAD_OPTIONAL = environment.read("INGEST_BAD_OPTIONAL")
INGEST_STREAM_CHUNK_READINGS = environment.read("INGEST_STREAM_CHUNK_READINGS")
HISTORY_HORIZON_DAYS = environment.read("HISTORY_HORIZON_DAYS")
HISTORY_PARTITION_SIZE = environment.read("HISTORY_PARTITION_SIZE")
RETENTION_DAYS = environment.read("RETENTION_DAYS")
ARCHIVE_URL = environment.read("ARCHIVE_URL")

# --- Analytics --------------------------------------------------------------------------------

HEALTHY_EFFICIENCY_PERCENT = environment.read("HEALTHY_EFFICIENCY_PERCENT")
DEGRADED_EFFICIENCY_PERCENT = environment.read("DEGRADED_EFFICIENCY_PERCENT")
MIN_ENERGY_KWH = environment.read("MIN_ENERGY_KWH")
DEFAULT_MAX_POWER_KW = environment.read("DEFAULT_MAX_POWER_KW")
MIN_COVERAGE = environment.read("MIN_COVERAGE")
ONLINE_WINDOW = timedelta(minutes=environment.read("ONLINE_WINDOW"))
FLEET_SNAPSHOT_MINUTES = environment.read("FLEET_SNAPSHOT_MINUTES")
PERFORMANCE_CACHE_SECONDS = environment.read("PERFORMANCE_CACHE_SECONDS")
WEBHOOK_ALLOW_PRIVATE = environment.read("WEBHOOK_ALLOW_PRIVATE")

# --- Background jobs --------------------------------------------------------------------------

PROCRASTINATE_AUTODISCOVER_MODULE_NAME = "jobs"
PROCRASTINATE_WORKER_DEFAULTS = {
    "worker_middleware": [logs.name_job, stops.stop_with_worker],
    "shutdown_graceful_timeout": stops.GRACE_SECONDS,
}

# --- Static files -----------------------------------------------------------------------------

STATIC_URL = "/static/"
STATICFILES_DIRS = [_CONSOLE / "static"]
# Served from the packages' own folders, without `collectstatic`: no copy can go stale.
WHITENOISE_USE_FINDERS = True

# --- Metrics ----------------------------------------------------------------------------------

METRICS_TOKEN = environment.read("METRICS_TOKEN")

# --- Logs -------------------------------------------------------------------------------------

LOGGING = logs.configuration()
ACCESS_LOG = environment.read("ACCESS_LOG")
SLOW_REQUEST_SECONDS = environment.read("SLOW_REQUEST_SECONDS")
