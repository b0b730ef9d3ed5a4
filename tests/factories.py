"""Sites, devices and links for tests."""

import factory
from factory.django import DjangoModelFactory

from fleet.links import link_vehicle
from fleet.models import Meter, Site, Vehicle, VehicleMeterLink
from fleet.tariffs.models import Tariff
from tests.conftest import at


class SiteFactory(DjangoModelFactory):
    """Sites; with `price_per_kwh`, with a fixed tariff at all times."""

    name = factory.Sequence(lambda number: f"Depot {number}")

    class Meta:
        model = Site
        skip_postgeneration_save = True

    @factory.post_generation
    def price_per_kwh(site: Site, create: bool, extracted: str | None, **_: object) -> None:
        if extracted is not None:
            Tariff.objects.create(site=site, price_per_kwh=extracted)


class MeterFactory(DjangoModelFactory):
    meter_id = factory.Sequence(lambda number: f"M{number}")

    class Meta:
        model = Meter


class VehicleFactory(DjangoModelFactory):
    vehicle_id = factory.Sequence(lambda number: f"V{number}")

    class Meta:
        model = Vehicle


class LinkFactory(factory.Factory):
    """Links from `valid_from` on, made by the writer of links like all others."""

    vehicle = factory.SubFactory(VehicleFactory)
    meter = factory.SubFactory(MeterFactory)
    valid_from = at("08:00")

    class Meta:
        model = VehicleMeterLink

    @classmethod
    def _create(cls, model_class, *args, **kwargs):
        link = link_vehicle(kwargs["vehicle"].pk, kwargs["meter"].pk, kwargs["valid_from"]).link
        return link
