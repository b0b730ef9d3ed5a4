"""`manage.py api_key create|list|rotate|revoke`: keys that open the API."""

from argparse import ArgumentTypeError
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from fleet.access.keys import NewKey, NotUsable, make_key, revoke, rotate
from fleet.device_ids import are_device_ids
from fleet.models import ApiKey, Scope, Site

_SHOWN_ONCE = "Shown this once, and kept nowhere:"


class Command(BaseCommand):
    """Make, list, rotate and revoke keys."""

    help = "Make, list, rotate and revoke the keys that open the API."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a key")
        create.add_argument("name", help="who or what uses it")
        scopes = [*Scope]
        create.add_argument(
            "--scope", action="append", required=True, choices=scopes, dest="scopes"
        )
        create.add_argument("--site", help="for the devices of this site; default: for all")
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
        create.add_argument("--days", type=int, help="how long it is good for; default: for ever")
        actions.add_parser("list", help="show what each key opens")
        for name, words in (
            ("rotate", "make a successor, and let both be good for a week"),
            ("revoke", "let a key open nothing any more"),
        ):
            actions.add_parser(name, help=words).add_argument("prefix", help="as `list` shows it")

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
                raise CommandError("There is no site of this name")
            if options["meter_ids"] or options["vehicle_ids"]:
                raise CommandError("A key is for a site or for listed devices, not for both")
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
            used = _day(key.last_used_at) or "never"
            self.stdout.write(
                f"{key.prefix}  {_line(key.name)}  {','.join(key.scopes)}  {_reach(key)}  "
                f"{_state(key)}  last used {used}"
            )

    def _rotate(self, options: dict[str, Any]) -> None:
        try:
            self._show(rotate(_key(options)))
        except NotUsable:
            raise CommandError("This key is revoked, or has expired") from None

    def _revoke(self, options: dict[str, Any]) -> None:
        key = _key(options)
        revoke(key)
        self.stdout.write(f"{_line(str(key))} opens nothing any more")

    def _show(self, made: NewKey) -> None:
        self.stderr.write(_SHOWN_ONCE)
        self.stdout.write(made.token)


def _key(options: dict[str, Any]) -> ApiKey:
    key: ApiKey | None = ApiKey.objects.filter(prefix=options["prefix"]).first()
    if key is None:
        raise CommandError("There is no key with this prefix")
    return key


def _device_id(text: str) -> str:
    if not are_device_ids([text]):
        raise ArgumentTypeError("not a device id")
    return text


def _line(text: str) -> str:
    """Return `text` without what would move a terminal's cursor, or forge another line."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _reach(key: ApiKey) -> str:
    if key.site:
        return f"site {_line(key.site.name)}"
    return ", ".join([*key.meter_ids, *key.vehicle_ids]) or "all devices"


def _state(key: ApiKey) -> str:
    if key.revoked_at:
        return f"revoked {_day(key.revoked_at)}"
    return f"until {_day(key.expires_at)}" if key.expires_at else "for ever"


def _day(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M}" if instant else ""
