-- Store how vehicles share the AC of meters in hours, replacing what was stored of them.
--
-- Parameters: an array for each column of analytics_sharedhour, all of the same length; energies_ac_kwh
-- text[], each an array as PostgreSQL writes it.
--
-- Leans on the primary key of analytics_sharedhour.
INSERT INTO analytics_sharedhour (
    meter_id,
    hour,
    vehicle_ids,
    energies_ac_kwh,
    rules,
    reads_from,
    reads_until
)
SELECT
    kept.meter_id,
    kept.hour,
    kept.vehicle_ids,
    kept.energies_ac_kwh::float8[],
    kept.rules,
    kept.reads_from,
    kept.reads_until
FROM
    unnest(
        %(meter_id)b::text[],
        %(hour)s::timestamptz[],
        %(vehicle_ids)b::text[],
        %(energies_ac_kwh)b::text[],
        %(rules)b::text[],
        %(reads_from)s::timestamptz[],
        %(reads_until)s::timestamptz[]
    ) AS kept (meter_id, hour, vehicle_ids, energies_ac_kwh, rules, reads_from, reads_until)
ON CONFLICT (meter_id, hour) DO UPDATE SET
    vehicle_ids = EXCLUDED.vehicle_ids,
    energies_ac_kwh = EXCLUDED.energies_ac_kwh,
    rules = EXCLUDED.rules,
    reads_from = EXCLUDED.reads_from,
    reads_until = EXCLUDED.reads_until
RETURNING 1
