#!/usr/bin/env bash
# Receive PostgreSQL's log (WAL) into $BACKUP_DIR/wal as it grows, until stopped or an error; a service
# manager should restart it (systemd: Restart=always, RestartSec=5).
#
# Needs PostgreSQL's own programs on the PATH, and PGHOST, PGUSER, PGPASSWORD or PGPASSFILE of a role
# that may replicate. The slot makes PostgreSQL keep the log that has not been received: a pause leaves
# no gap, but the log then grows on PostgreSQL's disk.
set -euo pipefail
umask 077
: "${BACKUP_DIR:?set it to the folder of the backups}"
slot=energy_backup

mkdir -p "$BACKUP_DIR/wal"
# A full disk leaves a truncated file of zeros, with which pg_receivewal fails.
for file in "$BACKUP_DIR"/wal/*.partial; do
    [[ ! -e $file ]] || ! cmp --silent --bytes="$(stat --format=%s "$file")" "$file" /dev/zero ||
        rm "$file"
done
pg_receivewal --slot="$slot" --create-slot --if-not-exists
exec pg_receivewal --slot="$slot" --directory="$BACKUP_DIR/wal" --verbose --no-loop
