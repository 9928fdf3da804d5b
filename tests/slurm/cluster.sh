#!/usr/bin/env bash
# A real SLURM of one node for tests: munge, slurmctld, slurmd, a partition with one GPU that is only counted.
#     cluster.sh install        Debian's packages, where they are missing (root, apt)
#     cluster.sh start FOLDER
#     cluster.sh stop FOLDER
# Key, sockets, logs and records are in FOLDER. /etc/slurm/slurm.conf is a link to the configuration there as long as it
# runs: Snakemake's job steps drop the variable SLURM_CONF. A machine with a SLURM of its own is refused.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

install() {
    local program missing=()
    for program in munged slurmctld slurmd sbatch; do
        command -v $program >/dev/null || missing+=("$program")
    done
    ((${#missing[@]})) || return 0
    # A machine without network gives up soon. RUNLEVEL: the units are not started; the daemons are, below, with a
    # configuration of their own.
    local apt=(apt-get --quiet=2 --option Acquire::Retries=1 --option Acquire::http::Timeout=20)
    "${apt[@]}" update >/dev/null
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 "${apt[@]}" install --yes --no-install-recommends \
        munge slurmctld slurmd slurm-client >/dev/null
}

start() {
    if [[ -e $link ]] && { ! grep -q "^# $mark" "$link" || pgrep -x slurmctld >/dev/null; }; then
        echo "$link is there: a SLURM is installed or runs on this machine, which a test must not touch" >&2
        exit 1
    fi
    # Nodes and jobs of an earlier start are forgotten.
    rm -rf "$folder"/{state,spool,munge.key,jobs.txt} "$folder"/*.log
    mkdir -p "$folder"/{state,spool}
    head -c 1024 /dev/urandom >"$folder/munge.key"
    chmod 400 "$folder/munge.key"
    # --force: nobody but root uses the socket, so its folder needs no public path.
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munged.seed" 2>>"$folder/munged.log"
    configure
    mkdir -p "${link%/*}"
    ln -sf "$folder"/{slurm,gres}.conf "${link%/*}/"
    unset SLURM_CONF
    slurmctld
    slurmd
    sleep 1
    for _ in $(seq 60); do
        kill -0 "$(cat "$folder/slurmctld.pid")" && kill -0 "$(cat "$folder/slurmd.pid")" || break
        [[ $(sinfo --noheader --format=%t 2>/dev/null) == idle ]] && return
        sleep 0.5
    done
    grep --no-messages -E 'error|fatal' "$folder"/*.log >&2
    echo "SLURM did not come up: see the logs in $folder" >&2
    exit 1
}

configure() {
    local node
    node=$(hostname -s)
    # SLURM counts the device and hands it out, no more.
    echo "NodeName=$node Name=gpu Count=1 File=/dev/null" >"$folder/gres.conf"
    cat >"$folder/slurm.conf" <<CONF
# $mark
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Processes are followed and memory is limited by polling: a container has no control groups of its own to give.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=UsePss,OverMemoryKill
# A busy machine answers late.
MessageTimeout=60
# The records that tests read: a line for every run of a job, and squeue remembers every job.
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs.txt
MinJobAge=86400
# Steps that a killed start left behind report to this one, and must not name its jobs.
FirstJobId=$((RANDOM % 1000 * 1000 + 1))
AccountingStorageType=accounting_storage/none
# A small machine plays a node on which two jobs fit.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=$node NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 Gres=gpu:1 State=UNKNOWN
PartitionName=test Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
}

stop() {
    [[ $(realpath "$link") == "$folder/slurm.conf" ]] || return 0
    # Jobs first: slurmd waits for those that run.
    scancel --partition=test || true
    sleep 1
    for daemon in slurmd slurmctld munged; do
        # Its last act is to remove the file.
        kill "$(cat "$folder/$daemon.pid")" || continue
        timeout 20 bash -c 'while [[ -s $0 ]]; do sleep 0.2; done' "$folder/$daemon.pid" ||
            kill -KILL "$(cat "$folder/$daemon.pid")"
    done
    rm -f "${link%/*}"/{slurm,gres}.conf
}

link=/etc/slurm/slurm.conf
mark="Written by tests/slurm/cluster.sh"
folder=${2:+$(realpath -m "$2")}
case ${1:-} in
install) install ;;
start | stop) "$1" ;;
*) sed -n '2,7p' "$0" >&2 && exit 2 ;;
esac
