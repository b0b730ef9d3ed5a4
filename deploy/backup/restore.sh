#!/usr/bin/env bash
# restore.sh --to TIME --into FOLDER     restore PostgreSQL as of TIME, in a new folder
# restore.sh --to latest --into FOLDER   restore everything that was received of its log
#
# TIME has an offset, such as 2026-03-01T12:00:00+00:00, and refers to PostgreSQL's clock. FOLDER must
# be empty or not exist. Needs PostgreSQL's own programs, of the version that was backed up, on the
# PATH. Run it as the user that PostgreSQL will run as. Reads $BACKUP_DIR and changes nothing there.
# When it ends, the restored PostgreSQL is stopped, and can be started like any other.
set -euo pipefail
umask 077
: "${BACKUP_DIR:?set it to the folder of the backups}"
export WAL=$BACKUP_DIR/wal # for restore_command
readonly LONGEST_SECONDS=1000000

fail() {
    echo "restore: $*" >&2
    exit 1
}

main() {
    read_arguments "$@"
    ((EUID != 0)) || fail "PostgreSQL does not run as root; run this script as the user that PostgreSQL runs as"
    [[ ! -e $into || (-d $into && -z $(ls -A "$into")) ]] || fail "$into is not empty"
    scratch=$(mktemp --directory)
    trap 'rm -rf "$scratch"' EXIT
    choose_base
    write_settings
    echo "Copying $base …"
    mkdir -p "$into"
    cp --archive --reflink=auto "$base/." "$into"
    chmod 700 "$into"
    touch "$into/recovery.signal"
    echo "Replaying the log up to $to …"
    recover
    echo "Restored to $to: $into"
    echo "PostgreSQL is stopped. Next, start it on this folder, run \`manage.py prepare\`, and take a base"
    echo "backup into a new BACKUP_DIR: the restored PostgreSQL has a new timeline."
}

read_arguments() {
    to="" into=""
    while (($#)); do
        case $1 in
            --to) to=${2:?} ;;
            --into) into=${2:?} ;;
            *) fail "unknown argument: $1" ;;
        esac
        shift 2
    done
    [[ $to && $into ]] || fail "both --to TIME and --into FOLDER are needed"
    [[ $to == latest ]] && return
    if [[ ! $to =~ ^[0-9]{4}-.*(Z|[+-][0-9]{2}:[0-9]{2})$ ]] || ! moment=$(name_of "$to"); then
        fail "--to must be a time with an offset, such as 2026-03-01T12:00:00+00:00, or latest"
    fi
}

# Print a time in the format of base_backup.sh's names, which sort by time.
name_of() { date --utc --date="$1" +%Y%m%dT%H%M%S.%6NZ; }

# Set `base` to the newest valid backup from before the target.
choose_base() {
    local candidates
    mapfile -t candidates < <(find "$BACKUP_DIR/base" -maxdepth 1 -name '2*Z' | sort --reverse)
    ((${#candidates[@]})) || fail "there is no base backup in $BACKUP_DIR/base"
    for base in "${candidates[@]}"; do
        [[ $to == latest || ! $(basename "$base") > $moment ]] || continue
        pg_verifybackup --quiet "$base" && return
        echo "restore: $base is damaged; trying an earlier one" >&2
    done
    fail "there is no valid base backup from before $to; the earliest is ${candidates[-1]}"
}

# Settings for the recovery only, outside the restored folder; connections are rejected meanwhile.
write_settings() {
    local target
    if [[ $to == latest ]]; then
        target=$(last_record)
        target="recovery_target_lsn = '$target'"
    else
        target="recovery_target_time = '$(date --utc --date="$to" '+%F %T.%6N+00')'"
    fi
    echo "local all all reject" >"$scratch/pg_hba.conf"
    cat >"$scratch/postgresql.conf" <<SETTINGS
listen_addresses = ''
unix_socket_directories = '$scratch'
hba_file = '$scratch/pg_hba.conf'
hot_standby = off
archive_mode = off
lc_messages = 'C'
log_timezone = 'UTC'
max_wal_size = '4GB'
restore_command = 'cp "\$WAL/%f" "%p" 2>/dev/null || cp "\$WAL/%f.partial" "%p" 2>/dev/null'
recovery_target_action = promote
$target
SETTINGS
}

# Print where the last record of the log begins. With an explicit target, PostgreSQL fails if a part of
# the log is missing; without one, it would stop early silently.
last_record() {
    local file segment record
    while read -r file; do
        segment=$scratch/$(basename "$file" .partial)
        cp "$file" "$segment"
        # pg_waldump fails at the end of the log.
        record=$({ pg_waldump "$segment" 2>/dev/null || true; } |
            sed -n 's/.* lsn: \([0-9A-F/]*\),.*/\1/p' | tail -n 1)
        rm "$segment"
        [[ -z $record ]] || break
    done < <(find "$WAL" -type f -name '0*' ! -name '*.history' | sort --reverse | head -n 2)
    [[ $record ]] || fail "the log in $WAL can't be read"
    echo "$record"
}

# Run PostgreSQL on the copy until it has promoted itself, then stop it.
recover() {
    local log=$scratch/log
    trap 'pg_ctl stop --silent --pgdata="$into" 2>/dev/null || true; rm -rf "$scratch"' EXIT
    pg_ctl start --silent --pgdata="$into" --log="$log" \
        --options="-c config_file=$scratch/postgresql.conf" || explain "$log"
    # The eighth line says `standby` until the recovery has ended.
    until [[ $(sed -n 8p "$into/postmaster.pid" 2>/dev/null) == ready* ]]; do
        pg_ctl status --pgdata="$into" >/dev/null || explain "$log"
        sleep 0.2
    done
    pg_ctl stop --silent --pgdata="$into" --timeout="$LONGEST_SECONDS" || explain "$log"
}

# Print PostgreSQL's messages and explain them, then exit.
explain() {
    tail -n 20 "$1" >&2
    echo "restore: the restore into $into failed; remove the folder" >&2
    if grep -q "recovery ended before configured recovery target" "$1"; then
        fail "the log in $WAL ends or has a gap before $to; see above how far it reached." \
            "Use an earlier time, or \`--to latest\` if nothing was written after that"
    fi
    fail "PostgreSQL could not restore; see its messages above"
}

main "$@"
