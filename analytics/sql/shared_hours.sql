-- How vehicles share the AC of meters in full hours, as far as it is stored and current. One row for each
-- slice: the sum of each vehicle's AC, in the order of the ids, null if there is none, and the spans
-- that nothing is stored of.
--
-- Parameters: meter_ids text[], starts_at timestamptz[], ends_at timestamptz[], vehicle_ids text[] (one
-- slice each: its vehicles, in order, separated by line feeds); default_max_power_kw float8, for counters
-- without one of their own.
--
-- Leans on the primary keys of what is stored and of the marks.
SELECT
    slice.number,
    stored.energies_kwh,
    stored.starts_at,
    stored.ends_at
FROM
    unnest(
        %(meter_ids)b::text[],
        %(starts_at)s::timestamptz[],
        %(ends_at)s::timestamptz[],
        %(vehicle_ids)b::text[]
    ) WITH ORDINALITY AS slice (meter_id, starts_at, ends_at, vehicle_ids, number)
CROSS JOIN LATERAL (
    WITH changed AS MATERIALIZED (
        SELECT hour
        FROM ingestion_changedmeterhour
        WHERE
            meter_id = slice.meter_id
            AND hour >= slice.starts_at - interval '2 days'
            AND hour < slice.ends_at + interval '2 days'
        UNION ALL
        SELECT hour
        FROM ingestion_changedvehiclehour
        WHERE
            vehicle_id = ANY(string_to_array(slice.vehicle_ids, E'\n'))
            AND hour >= slice.starts_at - interval '2 days'
            AND hour < slice.ends_at + interval '2 days'
    ),
    current AS MATERIALIZED (
        SELECT analytics_rules_of_shares(
            slice.meter_id, slice.vehicle_ids, %(default_max_power_kw)s::float8
        ) AS rules
    ),
    valid AS MATERIALIZED (
        SELECT
            shared.hour,
            shared.energies_ac_kwh
        FROM analytics_sharedhour AS shared
        WHERE
            shared.meter_id = slice.meter_id
            AND shared.hour >= slice.starts_at
            AND shared.hour <= slice.ends_at - interval '1 hour'
            AND shared.vehicle_ids = slice.vehicle_ids
            AND shared.rules = (SELECT rules FROM current)
            AND NOT EXISTS (
                SELECT 1
                FROM changed
                WHERE
                    changed.hour <= shared.reads_until
                    AND changed.hour > shared.reads_from - interval '1 hour'
            )
    ),
    rest AS (
        SELECT
            coalesce(lag(hour) OVER (ORDER BY hour) + interval '1 hour', slice.starts_at)
                AS starts_at,
            hour AS ends_at
        FROM valid
        UNION ALL
        SELECT
            coalesce(max(hour) + interval '1 hour', slice.starts_at) AS starts_at,
            slice.ends_at
        FROM valid
    )
    SELECT
        (
            SELECT array_agg(summed.kwh ORDER BY summed.position)
            FROM (
                SELECT
                    energy.position,
                    sum(energy.kwh) AS kwh
                FROM valid
                CROSS JOIN LATERAL unnest(valid.energies_ac_kwh)
                    WITH ORDINALITY AS energy (kwh, position)
                GROUP BY energy.position
            ) AS summed
        ) AS energies_kwh,
        array_agg(rest.starts_at ORDER BY rest.starts_at) AS starts_at,
        array_agg(rest.ends_at ORDER BY rest.starts_at) AS ends_at
    FROM rest
    WHERE rest.starts_at < rest.ends_at
) AS stored
ORDER BY slice.number
