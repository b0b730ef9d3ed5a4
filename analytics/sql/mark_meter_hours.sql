-- Mark settled hours of meters as changed, so that they are rolled up again. Returns how many.
--
-- Parameters: starts_at, ends_at timestamptz, half-open; device_id text, null for every meter.
--
-- Leans on the primary keys of live state, marks and history.
WITH marked AS (
    INSERT INTO ingestion_changedmeterhour (meter_id, hour, changed_at)
    SELECT
        live.meter_id,
        hour.hour,
        hour.hour
    FROM fleet_meterlivestate AS live
    CROSS JOIN LATERAL (
        SELECT min(reading.measured_at) AS at
        FROM ingestion_meterreading AS reading
        WHERE reading.meter_id = live.meter_id
    ) AS first
    CROSS JOIN LATERAL generate_series(
        date_bin('1 hour', greatest(%(starts_at)s::timestamptz, first.at), '2000-01-01 00:00Z'),
        least(%(ends_at)s::timestamptz, live.settled_before) - interval '1 microsecond',
        interval '1 hour'
    ) AS hour (hour)
    -- All of the history of some is in the archive.
    WHERE first.at IS NOT NULL AND (%(device_id)s::text IS NULL OR live.meter_id = %(device_id)s)
    ORDER BY live.meter_id, hour.hour
    -- Due at once, even if a writer has just marked it.
    ON CONFLICT (meter_id, hour) DO UPDATE SET changed_at = EXCLUDED.changed_at
    RETURNING 1
)
SELECT count(*) AS marked FROM marked
