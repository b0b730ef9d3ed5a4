"""The engine's own records: failing jobs, failed sign-ins, passwords that it created."""

from axes.models import AccessAttempt
from django.conf import settings
from django.db import models
from psqlextra.models import PostgresModel


class JobFailure(PostgresModel):
    """The latest series of failures of a background job; `background.failures` writes it.

    It ends when the job succeeds.
    """

    job = models.CharField(max_length=100, primary_key=True)
    since = models.DateTimeField()
    failed_at = models.DateTimeField()
    failures = models.PositiveIntegerField()
    reason = models.CharField(max_length=300)
    recovered_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return str(self.job)


class StorageCheck(models.Model):
    """A row that `postgres.storage` writes and removes to check for free disk space.

    Pages of this table are filled to a tenth (fillfactor): each row needs a new page, so on a full
    disk it fails like a reading, however much room is left in existing pages.
    """

    padding = models.CharField(max_length=450, default="x" * 450)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.pk)


class FirstPassword(PostgresModel):
    """A user whose password the engine created, to be changed at the first sign-in."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="+"
    )

    class Meta(PostgresModel.Meta):
        default_permissions = ()

    def __str__(self) -> str:
        return f"first password of {self.user}"


class FailedSignIn(AccessAttempt):  # type: ignore[misc] # axes has no types
    """The failures of a user name from an address, as stored by django-axes; shown as a page."""

    class Meta:
        proxy = True
        verbose_name = "failed sign-in"
        default_permissions = ("view", "delete")

    def __str__(self) -> str:
        return f"{self.username} from {self.ip_address or 'an unknown address'}"
