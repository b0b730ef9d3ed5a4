-- Open faults; returns the changes that record it.
--
-- Parameters: kinds text[], vehicle_ids text[], meter_ids text[], site_ids bigint[], values float8[],
-- thresholds float8[], one each for a fault; now timestamptz.
--
-- Leans on the unique indexes that allow one open fault of a kind.
WITH opened AS (
    INSERT INTO analytics_fault (
        kind, vehicle_id, meter_id, site_id, value, threshold, state, opened_at
    )
    SELECT
        asked.*,
        'open',
        %(now)s::timestamptz
    FROM
        unnest(
            %(kinds)s::text[],
            %(vehicle_ids)s::text[],
            %(meter_ids)s::text[],
            %(site_ids)s::bigint[],
            %(values)s::float8[],
            %(thresholds)s::float8[]
        ) AS asked
    RETURNING id
)
INSERT INTO analytics_faultchange (fault_id, changed_at, state, note)
SELECT
    id,
    %(now)s::timestamptz,
    'open',
    ''
FROM opened
ORDER BY id
RETURNING id AS change_id
