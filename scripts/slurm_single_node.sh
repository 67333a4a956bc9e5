#!/usr/bin/env bash
# SLURM with one node, for tests: daemons of this user in one folder, nothing in /etc, no systemd, no cgroups.
#
#   scripts/slurm_single_node.sh up FOLDER      start munged, mariadbd, slurmdbd, slurmctld, slurmd
#   export SLURM_CONF=FOLDER/slurm.conf         what sbatch, squeue and submitit need
#   scripts/slurm_single_node.sh down FOLDER    end what `up` started
#
# Debian's packages: slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core mariadb-client-core
# SLURM_TEST_PORT (16900) and the three ports after it must be free.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"
ACTION=${1:-}
DIR=${2:-}
[ -n "$DIR" ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
PORT=${SLURM_TEST_PORT:-16900}
ME=$(id -un)

run() { # run NAME COMMAND...: in the background, its id in DIR/pid/NAME
    local name=$1
    shift
    setsid "$@" >"$DIR/log/$name" 2>&1 </dev/null &
    echo $! >"$DIR/pid/$name"
}

until_works() { # until_works NAME COMMAND...: until COMMAND succeeds; fails when NAME died or a minute is over
    local name=$1 end=$((SECONDS + 60))
    shift
    until timeout 10 "$@" >/dev/null 2>&1; do
        if ! kill -0 "$(cat "$DIR/pid/$name")" 2>/dev/null || [ $SECONDS -gt $end ]; then
            echo "$name does not answer:" >&2
            tail -n 5 "$DIR/log/$name" >&2
            exit 1
        fi
        sleep 0.2
    done
}

write_settings() {
    local munge="$DIR/munge/socket"
    cat >"$DIR/slurm.conf" <<EOF
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
SlurmUser=$ME
SlurmdUser=$ME
# A requeued job waits until its credential has expired: 120 s unless set.
AuthType=auth/munge
AuthInfo=socket=$munge,cred_expire=5
CredType=cred/munge
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool
SlurmctldPidFile=$DIR/pid/own.slurmctld
SlurmdPidFile=$DIR/pid/own.slurmd
# No cgroups: a job's processes are found by their parents.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
# Without accounting a killed job looks unknown for ever, and submitit waits for it for ever.
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 2))
AccountingStoragePass=$munge
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=5
JobRequeue=1
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=localhost NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=${SLURM_TEST_CPUS:-2} State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
    (umask 077 && cat >"$DIR/slurmdbd.conf" <<EOF
AuthType=auth/munge
AuthInfo=socket=$munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((PORT + 2))
SlurmUser=$ME
PidFile=$DIR/pid/own.slurmdbd
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 3))
StorageUser=slurm
StoragePass=slurm
StorageLoc=accounts
EOF
    )
}

up() {
    mkdir -p "$DIR"/{pid,log,state,spool,munge}
    DIR=$(cd "$DIR" && pwd)
    chmod 700 "$DIR/munge"
    write_settings
    export SLURM_CONF=$DIR/slurm.conf
    [ -s "$DIR/munge/key" ] || (umask 077 && head -c 128 /dev/urandom >"$DIR/munge/key")
    run munged munged --foreground --force --key-file="$DIR/munge/key" --socket="$DIR/munge/socket" \
        --pid-file="$DIR/pid/own.munged" --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge/seed"
    until_works munged munge -n -S "$DIR/munge/socket"
    [ -d "$DIR/db/mysql" ] || mariadb-install-db --no-defaults --datadir="$DIR/db" --user="$ME" \
        --auth-root-authentication-method=normal --skip-test-db >"$DIR/log/database" 2>&1
    run mariadbd mariadbd --no-defaults --datadir="$DIR/db" --user="$ME" --socket="$DIR/db.socket" \
        --bind-address=127.0.0.1 --port=$((PORT + 3)) --pid-file="$DIR/pid/own.mariadbd" --skip-name-resolve
    local sql=(mariadb --no-defaults --socket="$DIR/db.socket" --user=root --execute)
    until_works mariadbd "${sql[@]}" "select 1"
    "${sql[@]}" "create database if not exists accounts;
        create user if not exists slurm@127.0.0.1 identified by 'slurm'; grant all on accounts.* to slurm@127.0.0.1"
    run slurmdbd slurmdbd -D
    until_works slurmdbd sacctmgr --noheader list cluster
    # The controller does not start before the accounts know its cluster.
    sacctmgr --noheader --parsable2 list cluster format=cluster | grep -qx test \
        || sacctmgr --immediate add cluster test >/dev/null
    run slurmctld slurmctld -D
    until_works slurmctld scontrol ping
    run slurmd slurmd -D -N localhost
    until_works slurmd sh -c 'sinfo --noheader --format=%T | grep -Eq "idle|mixed|allocated"'
}

down() {
    DIR=$(cd "$DIR" && pwd)
    export SLURM_CONF=$DIR/slurm.conf
    timeout 10 scancel --user="$ME" 2>/dev/null || true
    for name in slurmd slurmctld slurmdbd mariadbd munged; do
        local id
        id=$(cat "$DIR/pid/$name" 2>/dev/null) || continue
        kill "$id" 2>/dev/null || continue
        for _ in $(seq 100); do
            kill -0 "$id" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$id" 2>/dev/null || true
        rm -f "$DIR/pid/$name"
    done
}

case $ACTION in
    up) up ;;
    down) down ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
