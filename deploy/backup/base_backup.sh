#!/usr/bin/env bash
# Take a base backup of PostgreSQL in a new folder of $BACKUP_DIR/base, verify it, and remove all but
# the newest $BACKUP_KEEP (7) backups, with the WAL that only they needed.
#
# Needs the same environment as receive_wal.sh, which must be running. The name of a backup is the
# earliest time it can be restored to. If this script fails, earlier backups are unchanged.
set -euo pipefail
umask 077
: "${BACKUP_DIR:?set it to the folder of the backups}"
keep=${BACKUP_KEEP:-7}
[[ $keep =~ ^[1-9][0-9]*$ ]] || { echo "BACKUP_KEEP must be a whole number, at least 1" >&2; exit 1; }
base=$BACKUP_DIR/base
wal=$BACKUP_DIR/wal
readonly PATIENCE_SECONDS=10

# Print the first WAL segment that a backup needs.
first_segment() { sed -n 's/^START WAL LOCATION: .*(file \([0-9A-F]*\))$/\1/p' "$1/backup_label"; }

received() { [[ -e $wal/$1 || -e $wal/$1.partial ]]; }

mkdir -p "$base"
exec 9>"$base/lock"
flock --nonblock 9 || { echo "Another base backup is running." >&2; exit 1; }

unfinished=$base/unfinished
rm -rf "$unfinished"
pg_basebackup --pgdata="$unfinished" --checkpoint=fast --wal-method=stream
pg_verifybackup --quiet "$unfinished"

segment=$(first_segment "$unfinished")
for ((second = 0; second < PATIENCE_SECONDS; second++)); do
    received "$segment" && break
    sleep 1
done
if ! received "$segment"; then
    echo "$segment is missing in $wal; check that receive_wal.sh runs with the same BACKUP_DIR" >&2
    exit 1
fi

name=$(date --utc +%Y%m%dT%H%M%S.%6NZ)
mv "$unfinished" "$base/$name"
sync "$base"
echo "Verified $base/$name"

mapfile -t copies < <(find "$base" -maxdepth 1 -name '2*Z' | sort)
for copy in "${copies[@]::${#copies[@]} > keep ? ${#copies[@]} - keep : 0}"; do
    rm -rf "$copy"
    echo "Removed  $copy"
done
oldest=$(find "$base" -maxdepth 1 -name '2*Z' | sort | head -n 1)
pg_archivecleanup "$wal" "$(first_segment "$oldest")"
