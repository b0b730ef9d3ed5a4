-- AC energy of meters over pieces of time, as blocks of readings in time order, from history as
-- it is now. Full hours come from their sums if these are current, the rest from history. A row for each
-- block; one with readings = 0 for a piece without any; none for a meter that is not in the registry.
--
-- Hours that follow each other are one block, as long as nothing between them has to be judged: of an
-- interval register without a maximum power, all of them. Before and after the pieces of a device there
-- are more, of role -1 and 1, or -2 if they go back to its first reading: of an interval register, they
-- are one reading, the nearest; of a counter, all blocks of that time, and the reading beyond it
-- (is_beyond).
--
-- Parameters: device_ids text[], starts_at timestamptz[], ends_at timestamptz[], roles smallint[] (one
-- piece each, half-open); first timestamptz and last timestamptz, a window around all pieces;
-- window_starts_at timestamptz and window_ends_at timestamptz, around those of role 0;
-- default_max_power_kw float8, for counters without one of their own.
--
-- Leans on the primary keys of sums, marks and history, on the partitions between first and last.
SELECT
    piece.number,
    device.energy_register,
    device.scale,
    device.rolls_over_at_kwh,
    register.max_power_kw,
    register.cadence_seconds,
    register.reach_seconds,
    block.is_beyond,
    block.readings,
    block.suspect_steps,
    block.energy_kwh,
    block.rises,
    block.last_rose_at,
    block.is_plain,
    block.is_gapless,
    block.may_have_gaps,
    block.first_measured_at,
    block.first_kwh,
    block.last_measured_at,
    block.last_kwh,
    block.hours_rolled_up,
    -- From the same snapshot as the readings: until when history is only in the archive.
    (
        SELECT max(archived.ends_at)
        FROM ingestion_archivedpartition AS archived
        WHERE
            archived.is_out
            AND archived.starts_at < %(window_ends_at)s::timestamptz
            AND archived.ends_at > %(window_starts_at)s::timestamptz
    ) AS gone_until
FROM
    unnest(
        %(device_ids)b::text[],
        %(starts_at)s::timestamptz[],
        %(ends_at)s::timestamptz[],
        %(roles)s::smallint[]
    ) WITH ORDINALITY AS piece (meter_id, starts_at, ends_at, role, number)
INNER JOIN fleet_meter AS device ON device.meter_id = piece.meter_id
LEFT JOIN analytics_metercadence AS cadence ON cadence.meter_id = piece.meter_id
CROSS JOIN LATERAL analytics_register(
    device.energy_register,
    device.scale,
    device.max_power_kw,
    device.interval_seconds,
    cadence.cadence_seconds,
    %(default_max_power_kw)s::float8
) AS register
LEFT JOIN LATERAL analytics_meter_blocks(
    piece.meter_id,
    piece.starts_at,
    piece.ends_at,
    piece.role,
    device.energy_register,
    device.scale,
    register.max_power_kw,
    register.cadence_seconds,
    register.reach_seconds,
    register.rules,
    %(first)s::timestamptz,
    %(last)s::timestamptz
) AS block ON true
ORDER BY piece.number, block.first_measured_at
