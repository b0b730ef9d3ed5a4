"""`manage.py api_key create|list|rotate|revoke`: manage API keys."""

from argparse import ArgumentTypeError
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from fleet.access.issuing import NewKey, NotUsable, make_key, revoke, rotate
from fleet.device_ids import DEVICE_ID_RULE, are_device_ids
from fleet.models import ApiKey, Scope, Site

_SHOWN_ONCE = "Copy this key now. It is not stored and is not shown again:"


class Command(BaseCommand):
    """Create, list, rotate and revoke keys."""

    help = "Create, list, rotate and revoke API keys."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="create a key")
        create.add_argument("name", help="who or what uses it")
        scopes = [*Scope]
        create.add_argument(
            "--scope", action="append", required=True, choices=scopes, dest="scopes"
        )
        create.add_argument("--site", help="for the devices of this site; default: all")
        for kind in ("meter", "vehicle"):
            create.add_argument(
                f"--{kind}",
                action="append",
                default=[],
                type=_device_id,
                dest=f"{kind}_ids",
                metavar="ID",
                help=f"for this {kind}; may be repeated",
            )
        create.add_argument("--days", type=int, help="days until it expires; default: never")
        actions.add_parser("list", help="show the scopes, devices and expiry of each key")
        for name, words in (
            ("rotate", "create a replacement; the old key expires in 7 days"),
            ("revoke", "revoke a key at once"),
        ):
            actions.add_parser(name, help=words).add_argument("prefix", help="as shown by `list`")

    def handle(self, *_: Any, action: str, **options: Any) -> None:
        {
            "create": self._create,
            "list": self._list,
            "rotate": self._rotate,
            "revoke": self._revoke,
        }[action](options)

    def _create(self, options: dict[str, Any]) -> None:
        site = None
        if options["site"] is not None:
            site = Site.objects.filter(name=options["site"]).first()
            if site is None:
                raise CommandError("No site has this name")
            if options["meter_ids"] or options["vehicle_ids"]:
                raise CommandError("Use either --site or --meter and --vehicle, not both")
        days = options["days"]
        self._show(
            make_key(
                options["name"],
                options["scopes"],
                site=site,
                meter_ids=options["meter_ids"],
                vehicle_ids=options["vehicle_ids"],
                expires_at=timezone.now() + timedelta(days=days) if days is not None else None,
            )
        )

    def _list(self, _: dict[str, Any]) -> None:
        for key in ApiKey.objects.select_related("site"):
            used = f"last used {_day(key.last_used_at)}" if key.last_used_at else "never used"
            self.stdout.write(
                f"{key.prefix}  {_line(key.name)}  {','.join(key.scopes)}  {_reach(key)}  "
                f"{_state(key)}  {used}"
            )

    def _rotate(self, options: dict[str, Any]) -> None:
        try:
            self._show(rotate(_key(options)))
        except NotUsable:
            raise CommandError("This key has expired or been revoked") from None

    def _revoke(self, options: dict[str, Any]) -> None:
        key = _key(options)
        revoke(key)
        self.stdout.write(f"{_line(str(key))} is revoked")

    def _show(self, made: NewKey) -> None:
        self.stderr.write(_SHOWN_ONCE)
        self.stdout.write(made.token)


def _key(options: dict[str, Any]) -> ApiKey:
    key: ApiKey | None = ApiKey.objects.filter(prefix=options["prefix"]).first()
    if key is None:
        raise CommandError("No key has this prefix; `list` shows the prefixes")
    return key


def _device_id(text: str) -> str:
    if not are_device_ids([text]):
        raise ArgumentTypeError(f"must be {DEVICE_ID_RULE}")
    return text


def _line(text: str) -> str:
    """Return `text` without characters that could move the terminal's cursor or forge a line."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _reach(key: ApiKey) -> str:
    if key.site:
        return f"site {_line(key.site.name)}"
    return ", ".join([*key.meter_ids, *key.vehicle_ids]) or "all devices"


def _state(key: ApiKey) -> str:
    if key.revoked_at:
        return f"revoked {_day(key.revoked_at)}"
    return f"expires {_day(key.expires_at)}" if key.expires_at else "never expires"


def _day(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M}" if instant else ""
