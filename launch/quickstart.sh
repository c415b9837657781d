#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From nothing to a trained model: installs what is missing, builds, makes a corpus, trains a small GoldFinch on the
# CPU, draws the report, evaluates and writes a sample.
#   launch/quickstart.sh [FOLDER] [-- OPTION...]
# FOLDER: text to train on, a folder or a file; without it the C and C++ headers of this machine.
# OPTIONs go to gf-dist-train, over configs/quickstart.yaml: launch/quickstart.sh -- --train.max_steps 100
# Without OPTIONs training ends after five minutes, on a slow machine before its last step. Run again it goes on where it
# was. Exit status: that of the first program that failed, 75 where training was stopped (Ctrl-C, SIGTERM) after saving.
set -euo pipefail

usage() { sed -n '3,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
input=
case "${1:-}" in
  -h | --help) usage; exit 0 ;;
  --) ;;
  -*) echo "quickstart: options of gf-dist-train stand behind --: launch/quickstart.sh -- $*" >&2; exit 2 ;;
  ?*) input=$1; shift ;;
esac
if [[ $# -gt 0 && $1 != -- ]]; then
  echo "quickstart: one folder, and options behind --; got $*" >&2
  exit 2
fi
options=("${@:2}")
case " ${options[*]}" in *" --train.proj_"* | *data_file*)
  echo "quickstart: this script names the data and the run folder itself; call gf-dist-train to name them" >&2
  exit 2
esac
if [[ -n $input ]]; then
  if [[ ! -r $input ]]; then
    echo "quickstart: $input cannot be read" >&2
    exit 2
  fi
  input=$(realpath "$input")
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin=build/cpu/bin
seconds=300 unfinished=0

title() { printf '\n== %s\n' "$*"; }

build() {
  local quiet=()
  [[ -t 1 ]] || quiet=(-- --quiet)
  ./launch/setup.sh
  [[ -x $bin/gf ]] || echo "compiling: some minutes, the first time"
  cmake --preset cpu -DGF_TESTS=OFF --log-level=WARNING >/dev/null
  cmake --build --preset cpu --target gf gf-dist-train "${quiet[@]}"
}

# Text that every machine has once it can build this: the headers of the standard library, of the kernel, of the C
# library and of some libraries used here. About 30 MB.
headers() {
  local folder
  for folder in c++ linux asm-generic "$(c++ -print-multiarch)" eigen3 fmt hdf5 nlohmann oneapi yaml-cpp; do
    if [[ -d /usr/include/$folder ]]; then echo "/usr/include/$folder"; fi
  done
}

# Each input has tokens and a run of its own, named after it.
if [[ -z $input ]]; then
  mapfile -t paths < <(headers)
  name=quickstart suffix=0
else
  paths=("$input")
  suffix=$(basename "$input" | tr -c '[:alnum:]\n' _)-$(printf %s "$input" | cksum | cut -d' ' -f1)
  name=quickstart-$suffix
fi
data=data/$name validation=data/${name}_validation run=out/quickstart-$suffix

texts() { find "$input" -type f -not -path "$input/.*" -not -path "$input/*/.*" "$@"; }

# A document is held out as a whole. A single text, or a few, are cut up first, so that there is something to hold out.
few_texts() { [[ -n $input && $(texts | head -100 | wc -l) -lt 100 && -z $(texts -name '*.jsonl') ]]; }

cut_up() {  # FOLDER: for the pieces
  local number=0 bytes piece file
  bytes=$(texts -printf '%s\n' | awk '{ sum += $1 } END { printf "%d", sum }')
  if [[ $bytes -lt 20000 ]]; then
    echo "quickstart: $input has $bytes bytes of text; 20000 are the least to train on and hold something out" >&2
    exit 2
  fi
  piece=$((bytes / 200 < 2000 ? 2000 : bytes / 200 > 64000 ? 64000 : bytes / 200))
  while IFS= read -r -d '' file; do
    number=$((number + 1))
    split --line-bytes="$piece" --numeric-suffixes --suffix-length=6 "$file" "$1/$(printf %03d "$number")-"
  done < <(texts -print0 | LC_ALL=C sort -z)
}

tokenize() {
  local made=("$data".{bin,idx} "$validation".{bin,idx}) file
  for file in "${made[@]}"; do
    if [[ ! -f $file ]]; then
      mkdir -p data
      if few_texts; then
        pieces=$(mktemp -d data/pieces.XXXXXX)
        trap 'rm -rf "$pieces"' EXIT
        cut_up "$pieces"
        paths=("$pieces")
      fi
      "$bin/gf" data tokenize --vocab byte --out "$data" --validation 0.02 --validation-out "$validation" "${paths[@]}"
      return
    fi
  done
  echo "already there: $data.bin and $validation.bin (remove them to make them again)"
}

# As gf-dist-train has it: signals let it save and end, however many; only a second Ctrl-C ends it at once.
interrupt() {
  if [[ $interrupted -eq 1 ]]; then
    kill -KILL -- "-$training"
    exit 130
  fi
  interrupted=1
  kill -TERM "$training"
}

train() {
  local status interrupted=0
  if [[ ${#options[@]} -gt 0 ]]; then seconds=0; fi  # no limit
  # In the background, so that this shell hears of signals; in a process group of its own, which timeout makes.
  timeout "$seconds" "$bin/gf-dist-train" -c configs/quickstart.yaml \
    --train.data_file "$data" --train.validation_data_file "$validation" \
    --train.proj_dir out --train.proj_name quickstart --train.proj_suffix "$suffix" "${options[@]}" &
  training=$!
  trap interrupt INT
  trap 'kill -TERM "$training"' TERM HUP
  while true; do  # a signal ends a wait before its time
    status=0
    wait "$training" || status=$?
    kill -0 "$training" 2>/dev/null && continue
    if [[ $status -gt 128 ]]; then  # a signal's; that of the program, where it ended in between
      wait "$training" 2>/dev/null || { [[ $? -eq 127 ]] || status=75; }
    fi
    break
  done
  trap - INT TERM HUP
  if [[ $status -eq 124 ]]; then
    echo "that was this script's limit, $seconds seconds; what follows is of the model as it is now"
    unfinished=1
    return
  fi
  if [[ $status -eq 75 ]]; then
    echo "to go on from the checkpoint: $again" || true  # the terminal may be gone
  fi
  [[ $status -eq 0 ]] || exit "$status"
}

again=$(printf '%q ' launch/quickstart.sh ${input:+"$input"} ${options[@]:+-- "${options[@]}"})
again=${again% }

title "build"
build
title "data: bytes of ${input:-the headers of this machine}"
tokenize
title "train: $run"
train
title "report"
"$bin/gf" report "$run"
title "evaluate: 1024 windows of held-out text, loss in nats per byte (validations above took the first 256)"
"$bin/gf" eval --checkpoint "$run" --data "$validation" --max-samples 1024
title "sample: the model goes on from a prompt"
prompt='template<typename '
[[ -z $input ]] || prompt='The '
printf %s "$prompt"
"$bin/gf" generate --checkpoint "$run" --vocab byte --prompt "$prompt" --tokens 400 --temperature 0.8 --top-p 0.95 --seed 2
echo
title "done"
if [[ $unfinished -eq 1 ]]; then
  echo "go on         $again   (training has steps left)"
fi
cat <<END
run folder    $run: config.yaml, metrics.jsonl
checkpoints   $run/checkpoints
report        $run/report.html, for any browser
data          $data and $validation

train longer  $bin/gf-dist-train -c $run/config.yaml --train.max_steps 5000 --train.my_exit_tokens 10240000
more text     $bin/gf generate --checkpoint $run --vocab byte --prompt '$prompt' --tokens 400
what else     docs/running.md
END
