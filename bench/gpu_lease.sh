#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All that is worth seeing on a GPU that is lent for minutes, what matters most first: results, then speeds. Each part has a
# limit of its own, none begins that could not end in time, and one that fails keeps no other from running.
#   bench/gpu_lease.sh PROGRAMS [PEER.py]
# PROGRAMS: the folder of gf, gf-dist-train, test_tensor, test_ops, test_parallel, test_optim, gpu_bench and step_bench,
# built by:  cmake --preset cuda -DGF_BENCH=ON && cmake --build --preset cuda
# LEASE_SECONDS (450) is what all may take, OUT (.) where its output goes: lease.log, choices.txt.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
programs=${1:?the folder of the programs} peer=${2:-} out=${OUT:-.}
last=$((SECONDS + ${LEASE_SECONDS:-450}))
export GF_TEST_GPU=1 OMP_WAIT_POLICY=passive
exec > >(tee "$out/lease.log") 2>&1

# part LIMIT NAME COMMAND...: its output, exit status and time.
part() {
  local limit=$1 name=$2 begin=$SECONDS status=0
  shift 2
  printf '\n== %s\n' "$name"
  if ((SECONDS + limit > last)); then
    printf -- '-- %s: left out, %d s are left\n' "$name" $((last - SECONDS))
    return
  fi
  timeout "$limit" "$@" || status=$?
  printf -- '-- %s: exit status %d after %d s\n' "$name" "$status" $((SECONDS - begin))
}

tests() { "$programs/test_$1" --gtest_brief=1 --gtest_filter="${2:-*}"; }

golden() {
  local bad=0 precision
  for precision in 32 bf16; do "$programs/gf" verify golden --gpu --precision "$precision" tests/golden/*.json || bad=1; done
  return "$bad"
}

steps() {
  local size=$1 batch=$2 model
  for model in goldfinch llama finch gptalpha; do
    "$programs/step_bench" -c "configs/$model.yaml" --model.n_layer "${size%x*}" --model.n_embd "${size#*x}" \
      --model.ctx_len 2048 --model.vocab_size 65536 --train.micro_bsz "$batch" --train.accelerator gpu \
      --train.precision bf16 --train.product_choices "$out/choices.txt" --steps 5
  done
}

export -f tests golden steps
export programs out
part 10 "the machine" nvidia-smi
part 60 "golden cases" bash -c golden
part 90 "ops against the CPU" bash -c "tests ops"
part 40 "ranks, graphs, optimizer" bash -c "tests optim '*OnGpu.*'"
part 20 "communicators" bash -c "tests parallel '*OnGpu.*'"
part 60 "kernels" "$programs/gpu_bench"
part 60 "kernels, the fastest products" "$programs/gpu_bench" --choices "$out/choices.txt"
part 60 "steps, L12 D768" bash -c "steps 12x768 16"
part 90 "steps, L24 D2048" bash -c "steps 24x2048 8"
if [[ -n $peer ]]; then
  part 120 "against PyTorch" bench/compare_peer.py --gpu --peer "$peer" --step-bench "$programs/step_bench" --rounds 1 \
    --models goldfinch --sizes L24D2048 --ctx-len 2048 --batch 8
fi
part 60 "memory checked" compute-sanitizer --tool memcheck "$programs/test_ops" --gtest_brief=1 --gtest_filter='Wkv6Kernels.OnTheGpu*'
printf '\nall parts: %d s\n' "$SECONDS"
