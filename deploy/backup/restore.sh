#!/usr/bin/env bash
# restore.sh --to TIME --into FOLDER   PostgreSQL as it was at TIME, in a new folder
# restore.sh --to latest --into FOLDER   as it was when the last of its log was received
#
# TIME is such as 2026-03-01T12:00:00+00:00: with an offset, and by PostgreSQL's clock. FOLDER must not
# exist or be empty. Needs PostgreSQL's own programs, of the version that was backed up, on the PATH,
# and runs as the user that PostgreSQL will run as. Reads $BACKUP_DIR and changes nothing there.
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
    ((EUID != 0)) || fail "PostgreSQL does not run as root: become the user that it runs as"
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
    echo "It is stopped. Next: start PostgreSQL on it, run \`manage.py prepare\`, and back it up to a"
    echo "new BACKUP_DIR: its log is another from now on."
}

read_arguments() {
    to="" into=""
    while (($#)); do
        case $1 in
            --to) to=${2:?} ;;
            --into) into=${2:?} ;;
            *) fail "unknown: $1" ;;
        esac
        shift 2
    done
    [[ $to && $into ]] || fail "both --to TIME and --into FOLDER are needed"
    [[ $to == latest ]] && return
    if [[ ! $to =~ ^[0-9]{4}-.*(Z|[+-][0-9]{2}:[0-9]{2})$ ]] || ! moment=$(name_of "$to"); then
        fail "--to must be a time with an offset, such as 2026-03-01T12:00:00+00:00, or latest"
    fi
}

# Prints a moment as base_backup.sh names its copies, so that names compare as times do.
name_of() { date --utc --date="$1" +%Y%m%dT%H%M%S.%6NZ; }

# Sets `base` to the newest copy from before the target that is whole.
choose_base() {
    local candidates
    mapfile -t candidates < <(find "$BACKUP_DIR/base" -maxdepth 1 -name '2*Z' | sort --reverse)
    ((${#candidates[@]})) || fail "there is no base backup in $BACKUP_DIR/base"
    for base in "${candidates[@]}"; do
        [[ $to == latest || ! $(basename "$base") > $moment ]] || continue
        pg_verifybackup --quiet "$base" && return
        echo "restore: $base is damaged; looking for an earlier one" >&2
    done
    fail "no sound base backup was complete by $to; the earliest is ${candidates[-1]}"
}

# Settings of the recovery alone, kept out of the restored folder: nobody can connect meanwhile.
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

# Prints where the last record of the log begins. A target, and not simply the end: should a part of
# the log be missing, PostgreSQL then refuses instead of stopping early without a word.
last_record() {
    local file segment record
    while read -r file; do
        segment=$scratch/$(basename "$file" .partial)
        cp "$file" "$segment"
        # It ends with an error where the log ends.
        record=$({ pg_waldump "$segment" 2>/dev/null || true; } |
            sed -n 's/.* lsn: \([0-9A-F/]*\),.*/\1/p' | tail -n 1)
        rm "$segment"
        [[ -z $record ]] || break
    done < <(find "$WAL" -type f -name '0*' ! -name '*.history' | sort --reverse | head -n 2)
    [[ $record ]] || fail "the log in $WAL can't be read"
    echo "$record"
}

# Runs PostgreSQL on the copy until it has promoted itself, and stops it.
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

# Ends with PostgreSQL's own words, and what they mean.
explain() {
    tail -n 20 "$1" >&2
    echo "restore: $into is of no use, remove it" >&2
    if grep -q "recovery ended before configured recovery target" "$1"; then
        fail "the log in $WAL ends, or lacks a part, before $to; above stands how far it went." \
            "Give an earlier time, or \`--to latest\` where nothing was written any more"
    fi
    fail "PostgreSQL could not restore; its reason stands above"
}

main "$@"
