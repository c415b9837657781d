#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real Slurm of three nodes on this machine (launch/slurm_cluster.sh), and jobs on it that are disturbed: by their time
# limit, a signal, a requeue, and the loss of a node. Each must go on and end with the metrics of the undisturbed run.
#   tests/slurm/jobs.sh BIN_FOLDER         as root; some minutes, most of which Slurm waits before it starts a
#                                          requeued job again
set -euo pipefail
source_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export GF_BIN=$1
work=$(mktemp -d)
export GF_SLURM=$work/slurm
cluster=$source_folder/launch/slurm_cluster.sh
cleanup() {
  scancel --user root >/dev/null 2>&1 || true
  "$cluster" down || true
  rm -rf "$work"
}
trap cleanup EXIT

failures=0
fail() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}
# wait_for SECONDS CONDITION...: until the command holds.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [[ $SECONDS -lt $end ]] || return 1
    sleep 0.5
  done
}
steps() { if [[ -f $work/out/s-$1/metrics.jsonl ]]; then wc -l <"$work/out/s-$1/metrics.jsonl"; else echo 0; fi; }
took() { [[ $(steps "$1") -ge $2 ]]; }
gone() { [[ -z $(squeue -h -n "$1" -o %i) ]]; }
runs() { [[ $(squeue -h -n "$1" -o %T) == RUNNING ]]; }
job() { squeue -h -n "$1" -o %i; }
without_times() { sed 's/, "step_s".*//' "$work/out/s-$1/metrics.jsonl"; }

"$cluster" up 3 4
eval "$("$cluster" env)"
"$GF_BIN/gf" data tokenize --vocab byte --out "$work/data" "$source_folder/src" >/dev/null
options=(-c "$source_folder/configs/goldfinch.yaml" --model.n_layer 6 --model.n_embd 64 --model.head_size 16
  --model.ctx_len 64 --model.vocab_size 257 --train.data_file "$work/data" --train.micro_bsz 2
  --train.accumulate_grad_batches 4 --train.max_steps 500 --train.my_exit_tokens 10000000 --train.save_every_steps 20
  --train.proj_dir "$work/out" --train.proj_name s --parallel.pipeline 2)

echo "== wrong starts say how to start"
said=$(srun -N2 -n4 --mpi=none "$GF_BIN/gf-dist-train" "${options[@]}" 2>&1) && fail "srun without PMIx did not fail"
grep -q "srun --mpi=pmix" <<<"$said" || fail "srun without PMIx said: $said"

echo "== undisturbed, by srun"
OMP_NUM_THREADS=1 srun -N2 -n4 --mpi=pmix "$GF_BIN/gf-dist-train" "${options[@]}" --train.proj_suffix whole \
  >"$work/whole.log" 2>&1 || fail "srun: $(tail -5 "$work/whole.log")"

submit() { # NAME MINUTES
  sbatch --quiet -N2 -n4 -t "$2" -J "$1" -o "$work/$1.log" "$source_folder/launch/train.sbatch" "${options[@]}" \
    --train.proj_suffix "$1"
}
echo "== a time limit, a signal, a requeue, a lost node"
submit limit 1
wait_for 60 took limit 20 || fail "the job with a limit did not begin"
wait_for 90 eval '! runs limit' || fail "the job with a limit was not stopped"
scontrol update "jobid=$(job limit)" timelimit=30  # once is enough
submit signal 30
wait_for 60 took signal 20 || fail "the job for the signal did not begin"
scancel --signal=TERM "$(job signal)"
wait_for 60 eval '! runs signal' || fail "the signal did not stop the job"
submit requeue 30
wait_for 60 took requeue 20 || fail "the job to requeue did not begin"
scontrol requeue "$(job requeue)"
wait_for 60 eval '! runs requeue' || fail "the job was not requeued"
submit node 30
wait_for 60 took node 20 || fail "the job that loses a node did not begin"
lost=$(scontrol show hostnames "$(squeue -h -n node -o %N)" | tail -1)
"$cluster" kill "$lost"
wait_for 120 eval '! runs node' || fail "the loss of node $lost was not seen"
"$cluster" up 3 4 >/dev/null

echo "== wrong input is not tried again"
sbatch --quiet -N2 -n4 -t 5 -J wrong -o "$work/wrong.log" "$source_folder/launch/train.sbatch" "${options[@]}" \
  --train.proj_suffix wrong --train.data_file "$work/nowhere"
wait_for 120 gone wrong || fail "the job with wrong input did not end"
grep -q "wrong input; going on would not help" "$work/wrong.log" || fail "wrong: $(tail -5 "$work/wrong.log")"
[[ $(grep -c ", start [0-9]*, on " "$work/wrong.log") -eq 1 ]] || fail "the job with wrong input was tried again"

for name in limit signal requeue node; do
  wait_for 900 gone "$name" || fail "$name did not end: $(tail -3 "$work/$name.log")"
  grep -q "^job [0-9]* is done" "$work/$name.log" || fail "$name: $(tail -5 "$work/$name.log")"
  [[ $(grep -c "^start " "$work/$name.log") -ge 2 ]] || fail "$name was not disturbed"
  cmp <(without_times whole) <(without_times "$name") || fail "$name has other metrics than the undisturbed run"
  echo "$name: $(grep -c "^start " "$work/$name.log") starts, $(steps "$name") steps"
done
[[ $failures -eq 0 ]] && echo "all jobs ended as the undisturbed one"
exit "$((failures > 0))"
