#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The real Slurm with several nodes on this machine, to try and to test jobs with. Needs root and Debian's slurm-wlm.
#   launch/slurm_cluster.sh up NODES [CPUS]     CPUS a node: 4
#   launch/slurm_cluster.sh down
#   eval "$(launch/slurm_cluster.sh env)"       for srun, sbatch, scontrol
#   launch/slurm_cluster.sh kill NODE           as if it had lost its power; `up NODES` starts it again
# All of it lies in $GF_SLURM (/tmp/gf-slurm) and listens on this machine only.
set -euo pipefail
folder=${GF_SLURM:-/tmp/gf-slurm}
conf=$folder/slurm.conf

die() {
  echo "launch/slurm_cluster.sh: $1" >&2
  exit "${2:-2}"
}

node_pid() { cat "$folder/run/$1.pid" 2>/dev/null || true; }

alive() { [[ -n $1 ]] && kill -0 "$1" 2>/dev/null; }

start_munge() {
  if munge -n >/dev/null 2>&1; then return; fi
  [[ -f /etc/munge/munge.key ]] || /usr/sbin/mungekey --create
  mkdir -p /run/munge
  chown munge: /run/munge
  # As its user, and not through su, which asks for a terminal in some containers.
  setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged
  mkdir -p "$folder/run"
  cp /run/munge/munged.pid "$folder/run/munge.pid"  # `down` ends what `up` began
}

write_conf() {
  local nodes=$1 cpus=$2 n
  local host
  host=$(hostname -s)
  mkdir -p "$folder"/{run,log,state}
  for ((n = 1; n <= nodes; ++n)); do
    mkdir -p "$folder/spool/n$n" "$folder/tmp/n$n"
    chmod 777 "$folder/tmp/n$n"
  done
  cat >"$conf" <<EOF
ClusterName=gf
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmctldPort=16817
SlurmdPidFile=$folder/run/%n.pid
SlurmdLogFile=$folder/log/%n.log
SlurmdSpoolDir=$folder/spool/%n
TmpFS=$folder/tmp/%n
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=pmix
ReturnToService=2
SlurmdTimeout=10
KillWait=5
InactiveLimit=0
MinJobAge=300
OverTimeLimit=0
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-$((17000 + nodes))] CPUs=$cpus RealMemory=1000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
}

up() {
  local nodes=${1:-} cpus=${2:-4} n
  [[ $nodes =~ ^[1-9][0-9]?$ && $cpus =~ ^[1-9][0-9]*$ ]] || die "usage: launch/slurm_cluster.sh up NODES [CPUS]"
  [[ $EUID -eq 0 ]] || die "needs root: Slurm's daemons are started"
  local tool
  for tool in slurmctld slurmd munged setpriv; do
    command -v "$tool" >/dev/null || [[ -x /usr/sbin/$tool ]] ||
      die "$tool is not installed; try: apt-get install slurm-wlm munge"
  done
  start_munge
  export SLURM_CONF=$conf
  if ! alive "$(node_pid slurmctld)"; then
    write_conf "$nodes" "$cpus"
    /usr/sbin/slurmctld -c -f "$conf"
  fi
  for ((n = 1; n <= nodes; ++n)); do
    if alive "$(node_pid "n$n")"; then continue; fi
    # PMIx trips over what a killed step left behind.
    rm -rf "${folder:?}/tmp/n$n"/* "${folder:?}/spool/n$n"/pmix.* "${folder:?}/spool/n$n"/stepd.*
    /usr/sbin/slurmd -N "n$n" -f "$conf"
  done
  local tries
  for ((tries = 0; tries < 60; ++tries)); do
    [[ $(sinfo -h -N -t idle,alloc,mix -o %N 2>/dev/null | sort -u | wc -l) -eq $nodes ]] && break
    for ((n = 1; n <= nodes; ++n)); do
      scontrol update "nodename=n$n" state=resume >/dev/null 2>&1 || true
    done
    sleep 1
  done
  sinfo -N
  [[ $tries -lt 60 ]] || die "not all nodes came up; look into $folder/log" 1
}

# The step daemons of a node, or of all, of this cluster and no other: they have a file of the node open, or come from a
# daemon that was started with our slurm.conf.
steps_of() {  # [NODE]
  local pid
  for pid in $(pgrep -f slurmstepd || true); do
    if [[ -n $(find "/proc/$pid/fd" \( -lname "$folder/spool/${1:-n*}/*" -o -lname "$folder/log/${1:-n*}.log" \) \
      2>/dev/null) ]] || { has_variable "$pid" "SLURM_CONF=$conf" &&
      { [[ -z ${1:-} ]] || has_variable "$pid" "SLURMD_NODENAME=$1"; }; }; then
      echo "$pid"
    fi
  done
}

has_variable() { grep -zqsFx "$2" "/proc/$1/environ"; }

down() {
  [[ -e $folder ]] || return 0
  # What follows removes the folder, which $GF_SLURM may name: only one that `up` has made.
  grep -qsFx "StateSaveLocation=$folder/state" "$conf" || die "$folder is not a cluster of this script's"
  local pid name daemons=() deadline=$((SECONDS + 20))
  for name in slurmctld $(ls "$folder/spool" 2>/dev/null || true); do
    pid=$(node_pid "$name")
    if alive "$pid"; then
      kill "$pid"
      daemons+=("$pid")
    fi
  done
  for pid in $(steps_of); do kill "$pid" 2>/dev/null || true; done
  # They write their state as they end, which is not to meet the removal of its folder.
  for pid in "${daemons[@]}"; do
    while alive "$pid" && ((SECONDS < deadline)); do sleep 0.1; done
    if alive "$pid"; then kill -9 "$pid"; fi
  done
  pid=$(node_pid munge)
  if alive "$pid"; then kill "$pid"; fi
  rm -rf "$folder"
}

# The daemon of the node and all that runs there, at once.
kill_node() {
  local node=$1 pid steps
  pid=$(node_pid "$node")
  alive "$pid" || die "there is no node $node that runs"
  steps=$(steps_of "$node")
  kill -9 "$pid"
  for pid in $steps; do
    pkill -9 -P "$pid" || true
    kill -9 "$pid" 2>/dev/null || true
  done
}

case ${1:-} in
  up) up "${@:2}" ;;
  down) down ;;
  env) echo "export SLURM_CONF=$conf" ;;
  kill) kill_node "${2:-}" ;;
  *) die "usage: launch/slurm_cluster.sh up NODES [CPUS] | down | env | kill NODE" ;;
esac
