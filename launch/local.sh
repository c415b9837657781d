#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains on several ranks of this machine: mpirun with the threads of each rank and where they run set right.
#   launch/local.sh RANKS [gf-dist-train's options]
#   launch/local.sh 4 -c configs/quickstart.yaml --train.data_file data/mine --parallel.pipeline 2
# or measures this machine with as many ranks at once:
#   launch/local.sh 4 plan --measure mine.yaml -c configs/quickstart.yaml
# Each rank gets an equal share of the cores, or OMP_NUM_THREADS of them where so many are there. GF_BIN says where the
# programs are (build/cpu/bin).
# Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 let training save and end with status 75; a second Ctrl-C ends it at once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

ranks=${1:-}
if [[ ! $ranks =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/local.sh RANKS [gf-dist-train's options], or RANKS plan [gf plan's options]" >&2
  exit 2
fi
shift
program="${GF_BIN:-$here/build/cpu/bin}/gf-dist-train"
if [[ ${1:-} == plan ]]; then program=${program%-dist-train}; fi
if [[ ! -x $program ]]; then
  echo "launch/local.sh: there is no $program; try: cmake --workflow --preset cpu, or GF_BIN" >&2
  exit 2
fi

cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)  # which else counts the threads that these allow
share=$((cores / ranks))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((share > 1 ? share : 1))}
threads=${OMP_NUM_THREADS%%,*}  # of the outer loops
# A core for each thread where there are enough; else ranks take turns, and those that wait must not spin.
place=(--oversubscribe --bind-to none)
if [[ $threads =~ ^[1-9][0-9]*$ && $threads -le $share ]]; then
  place=(--map-by "slot:PE=$threads" --bind-to core)
fi
# Else mpirun waits two seconds for munge where that is installed and not running.
export PMIX_MCA_psec=${PMIX_MCA_psec:-native}
# In a container without the right to bind, or told of fewer slots than cores, mpirun refuses; then it is done without.
if ! mpirun --allow-run-as-root -n "$ranks" "${place[@]}" true >/dev/null 2>&1; then
  place=(--oversubscribe --bind-to none)
fi
root=()
if [[ $EUID -eq 0 ]]; then root=(--allow-run-as-root); fi

# To SIGTERM and SIGINT mpirun's own answer is to kill the ranks a second later; SIGUSR1 it hands on to them. So it gets
# none but that one, and is out of the terminal's reach, in a session of its own.
interrupted=0 stopped=0
stop() {
  stopped=1
  kill -USR1 "${!-}" 2>/dev/null || true
}
interrupt() {
  if [[ $interrupted -eq 1 ]]; then
    kill -TERM "$!" 2>/dev/null || true
    wait "$!" || true
    exit 130
  fi
  interrupted=1
  stop
}
trap interrupt INT
trap stop TERM HUP USR1
if [[ $stopped -eq 1 ]]; then exit 130; fi  # before anything was begun
setsid mpirun "${root[@]}" -n "$ranks" "${place[@]}" "$program" "$@" &
while true; do  # a signal ends a wait before its time
  status=0
  wait "$!" || status=$?
  kill -0 "$!" 2>/dev/null || break
done
if [[ $status -gt 128 ]]; then  # of that signal, where mpirun ended in between; the shell still knows its own
  again=0
  wait "$!" 2>/dev/null || again=$?
  if [[ $again -ne 127 ]]; then status=$again; fi
fi
exit "$status"
