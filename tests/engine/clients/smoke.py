"""A client as `openapi-python-client` writes it, against a running engine: python smoke.py URL"""

import sys
from datetime import UTC, datetime

from energy_client import Client
from energy_client.api.analytics import vehicle_performance
from energy_client.api.ingest import ingest_vehicle
from energy_client.api.status import vehicle_status
from energy_client.models import VehicleReading

client = Client(sys.argv[1])
now = datetime.now(UTC)

readings = [
    VehicleReading("PY-1", 4.0),
    VehicleReading("PY-1", 1.5, soc=81.0, timestamp=now),
]
stored = ingest_vehicle.sync_detailed(client=client, body=readings)
assert (stored.status_code, stored.parsed.accepted) == (201, 2), stored

figure = vehicle_performance.sync(vehicle_id="PY-1", client=client, window="1h")
assert figure.energy_delivered_dc == 5.5, figure
assert figure.period.start < now <= figure.period.end

refused = ingest_vehicle.sync(client=client, body=VehicleReading("PY-1", -1.0))
assert (refused.code, refused.rejected, refused.errors[0].field) == (
    "rejected",
    1,
    "kwhDeliveredDc",
), refused

unknown = vehicle_status.sync(vehicle_id="PY-2", client=client)
assert (unknown.status_code, unknown.message) == (404, "Vehicle not found"), unknown
