#!/bin/sh
# Run a streaming replica in PGDATA: copy the primary once, then follow it.
#
# PGHOST, PGUSER and PGPASSWORD are those of the primary, which must allow that user to replicate
# (pg_hba.conf beside this file). Arguments are passed to PostgreSQL. An interrupted copy starts over.
set -eu

if [ ! -e "$PGDATA" ]; then
    rm -rf "$PGDATA.unfinished"
    mkdir -p "$(dirname "$PGDATA")"
    # The slot keeps the log (WAL) that this replica still needs, up to max_slot_wal_keep_size.
    psql --dbname=postgres --quiet --no-psqlrc --output=/dev/null --command="
        SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE slot_name = 'replica' AND NOT active"
    pg_basebackup --pgdata="$PGDATA.unfinished" --checkpoint=fast --wal-method=stream \
        --write-recovery-conf --create-slot --slot=replica
    mv "$PGDATA.unfinished" "$PGDATA"
fi
unset PGHOST PGUSER PGPASSWORD
exec postgres "$@"
