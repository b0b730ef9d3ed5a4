"""Notify webhooks of every change of a fault, and of failing jobs, by Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

Messages and their jobs are written in the transaction of the change: all or nothing. A message that
does not arrive is retried after ever longer pauses; `WebhookDelivery` has the result.
"""

import base64
import hmac
import logging
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final, Literal

import msgspec
from django.db import transaction
from django.utils import timezone
from procrastinate import tasks
from procrastinate.contrib.django import app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.manager import JobManager
from procrastinate.types import JSONDict

from analytics.alerting import fault_list, webhook_requests
from analytics.alerting.fault_list import FaultRow
from analytics.alerting.webhook_requests import NotSent
from analytics.models import FaultChange, FaultState, Webhook, WebhookDelivery

# Between attempts; with the first, eight in 24 hours.
PAUSES: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=8),
    timedelta(hours=8),
)
KEPT_FOR: Final = timedelta(days=30)
# A slow receiver must not delay the engine's own jobs in the queue.
_PRIORITY: Final = -1
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 # fixed by the specification
_SECRET_BYTES: Final = 32

log = logging.getLogger(__name__)

# The queue on Django's connection, in the worker too: jobs join the open transaction.
_queue: Final = JobManager(DjangoConnector())


class WebhookMessage(msgspec.Struct):
    """The message of a webhook about a fault: what happened, and the fault after it."""

    type: Literal["fault.opened", "fault.acknowledged", "fault.closed"]
    timestamp: datetime
    data: FaultRow


class JobRow(msgspec.Struct):
    """A background job that fails: since when, how often in a row, and why the last time."""

    job: str
    since: datetime
    failures: int
    reason: str


class JobMessage(msgspec.Struct):
    """The message of a webhook when a background job starts to fail, and when it works again."""

    type: Literal["job.failed", "job.recovered"]
    timestamp: datetime
    data: JobRow


_TYPES: Final[dict[str, Literal["fault.opened", "fault.acknowledged", "fault.closed"]]] = {
    FaultState.OPEN: "fault.opened",
    FaultState.ACKNOWLEDGED: "fault.acknowledged",
    FaultState.CLOSED: "fault.closed",
}


def new_secret() -> str:
    """Return a new secret for a webhook, which signs its messages."""
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def announce(*changes: FaultChange) -> None:
    """Queue a message for each of `changes` to each active webhook, in the open transaction.

    A fixed number of statements; only one if there is no webhook.
    """
    webhooks = list(Webhook.objects.filter(is_active=True))
    if not webhooks:
        return
    rows = fault_list.faults().in_bulk({change.fault_id for change in changes})
    bodies = [
        msgspec.json.encode(
            WebhookMessage(
                _TYPES[change.state], change.changed_at, fault_list.row(rows[change.fault_id])
            )
        ).decode()
        for change in changes
    ]
    _queue_messages(
        (WebhookDelivery(webhook=webhook, change=change, message_id=_new_message_id()), body)
        for change, body in zip(changes, bodies, strict=True)
        for webhook in webhooks
    )


def announce_job(
    event: Literal["job.failed", "job.recovered"], happened_at: datetime, row: JobRow
) -> None:
    """Queue a message about a job to each webhook that wants it, in the open transaction."""
    body = msgspec.json.encode(JobMessage(event, happened_at, row)).decode()
    job = f"{row.job}: {event.partition('.')[2]}"
    _queue_messages(
        (WebhookDelivery(webhook=webhook, job=job, message_id=_new_message_id()), body)
        for webhook in Webhook.objects.filter(is_active=True, tells_of_jobs=True)
    )


def signature(secret: str, message_id: str, sent_at: int, body: str) -> str:
    """Return the `webhook-signature` header of a message; `sent_at` in Unix seconds."""
    key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX))
    digest = hmac.digest(key, f"{message_id}.{sent_at}.{body}".encode(), "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


@app.task(name="analytics.webhooks.deliver")
def deliver(delivery_id: int, body: str) -> None:
    """Send a message to its webhook; if it does not arrive, queue it again."""
    deliveries = WebhookDelivery.objects.select_related("webhook")
    delivery = deliveries.filter(pk=delivery_id, delivered_at=None).first()
    if delivery is None or not delivery.webhook.is_active:
        return
    delivery.attempts += 1
    delivery.attempted_at = timezone.now()
    delivery.status_code, delivery.error = _send(delivery, body, delivery.attempted_at)
    if not delivery.error:
        delivery.delivered_at = timezone.now()
    with transaction.atomic():
        delivery.save()
        if delivery.error and delivery.attempts <= len(PAUSES):
            _defer(
                [{"delivery_id": delivery_id, "body": body}],
                delivery.attempted_at + PAUSES[delivery.attempts - 1],
            )
    if delivery.error:
        log.warning(
            "message %s to webhook %s, attempt %s: %s",
            delivery.message_id,
            delivery.webhook_id,
            delivery.attempts,
            delivery.error,
        )


def forget_old() -> int:
    """Delete the log of messages older than `KEPT_FOR`; return how many."""
    old = WebhookDelivery.objects.filter(created_at__lt=timezone.now() - KEPT_FOR)
    return old.delete()[0]


def _send(delivery: WebhookDelivery, body: str, now: datetime) -> tuple[int | None, str]:
    """Return the status of the response, and why the message did not arrive; empty if it did."""
    webhook, sent_at = delivery.webhook, int(now.timestamp())
    headers = {
        "Content-Type": "application/json",
        "webhook-id": delivery.message_id,
        "webhook-timestamp": str(sent_at),
        "webhook-signature": signature(webhook.secret, delivery.message_id, sent_at, body),
    }
    try:
        status = webhook_requests.post(webhook.url, headers, body.encode())
    except NotSent as error:
        return None, str(error)[:200]
    return status, "" if status < HTTPStatus.MULTIPLE_CHOICES else f"answered {status}"


def _queue_messages(messages: Iterable[tuple[WebhookDelivery, str]]) -> None:
    made = list(messages)
    WebhookDelivery.objects.bulk_create([delivery for delivery, _ in made])
    if made:
        _defer([{"delivery_id": delivery.pk, "body": body} for delivery, body in made])


def _new_message_id() -> str:
    return f"msg_{secrets.token_hex(16)}"


def _defer(arguments: Sequence[JSONDict], at: datetime | None = None) -> None:
    tasks.configure_task(
        name=deliver.name, job_manager=_queue, priority=_PRIORITY, schedule_at=at
    ).batch_defer(*arguments)
