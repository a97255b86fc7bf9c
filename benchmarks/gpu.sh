#!/usr/bin/env bash
# The first run on a GPU, in calls of some minutes: what matters most first, each step with its own time limit.
#
#     OUT=DIR bash benchmarks/gpu.sh [STEP ...]        the steps that are not over yet, or those named
#     SMOKE=1 OUT=DIR bash benchmarks/gpu.sh           the same on a CPU, small, to see that it runs
#
# Needs this project's requirements, with Ray, bash 4.4, and MNIST and FashionMNIST in GRIDRUN_DATA: it downloads
# nothing. It ends after BUDGET seconds (570). Start it again on the same machine, and it goes on where it was;
# `rm -r "$WORK"` makes it start anew. If a step fails or runs out of time, the next one still runs.
# OUT gets log.txt, and the two Parquet files of the trials that have ended. WORK keeps stores, and what is over.
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
export RAY_memory_monitor_refresh_ms=0 # a rented machine's memory may not be what it says
OUT=$(mkdir -p "${OUT:-/tmp/gridrun-gpu}" && cd "${OUT:-/tmp/gridrun-gpu}" && pwd)
WORK=${WORK:-/tmp/gridrun-gpu-work${SMOKE:+-smoke}}
WORK=$(mkdir -p "$WORK" && cd "$WORK" && pwd)
LOG=$OUT/log.txt
PYTHON=${PYTHON:-python3}
BUDGET=${BUDGET:-570}
STEPS=" machine versions tests step_128 packing mnist kill memory compiled step packing_mps fashion_mnist "
chosen=" $* "
for name in "$@"; do
  [[ $STEPS == *" $name "* ]] || { echo "no step '$name'; there are$STEPS" >&2; exit 2; }
done

say() { echo "$*" | tee -a "$LOG"; }
wanted() { # NAME: whether a step is to run in this call
  [[ $chosen == "  " ]] || { [[ $chosen == *" $1 "* ]]; return; }
  ! [ -e "$WORK/$1.over" ] || { say "-- $1: over already"; return 1; }
}
is_over() { # NAME CODE CUT: launches resume, other steps would start again; CUT: BUDGET took time from the limit
  case $1:$2 in
    machine:* | versions:*) return 1 ;;
    mnist:[01] | fashion_mnist:[01]) return 0 ;;
    mnist:* | fashion_mnist:*) return 1 ;;
    *:124 | *:137) ! $3 ;;
  esac
}
step() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 start=$SECONDS left=$((BUDGET - SECONDS - 30)) cut=false code # 30 s to end a launch
  shift 2
  wanted "$name" || return 0
  [ "$limit" -le "$left" ] || { limit=$left cut=true; }
  [ "$limit" -ge 15 ] || { say "-- $name: no time left"; return 0; }
  say "== $name"
  timeout -k 25 "$limit" "$@" >"$WORK/$name.txt" 2>&1 &
  running=$!
  wait $running
  code=$?
  cat "$WORK/$name.txt" >>"$LOG"
  tail -n 25 "$WORK/$name.txt"
  say "-- $name: exit $code, $((SECONDS - start)) s of $limit"
  ! is_over "$name" $code $cut || touch "$WORK/$name.over"
  cp "$WORK"/rows/{trials,epochs}.parquet "$OUT" 2>/dev/null
}
running=
trap 'kill $running 2>/dev/null; wait; exit 143' INT TERM
gridrun() { "$PYTHON" cli.py "$@" & wait $!; } # bash hears SIGTERM in `wait`, not in a command
rows() { # GRID ARGUMENTS...: the plain row of a grid, three seeds, trained and shown
  local row=("$1" --where name=ResNet-preact-20 --results "$WORK/rows" "${@:2}") code
  gridrun launch "${row[@]}" --checkpoint-seconds 15 "${share[@]}"
  code=$?
  gridrun status "${row[@]}"
  return $code
}
killed() { # SECONDS GRID: kill a launch once after so long, then let it end
  local launch=(launch "$2" --results "$WORK/killed" --checkpoint-seconds 2 "${small[@]}")
  timeout -s KILL "$1" "$PYTHON" cli.py "${launch[@]}"
  gridrun "${launch[@]}"
}
out_of_memory() { # activations that no card holds (some 280 GB): the trial must fail with gpu_memory
  local row=(grids/fashion_mnist.yaml --where name=ResNet-preact-20 --results "$WORK/memory" --seeds 1
    --set batch_size=60000 --set epochs=1 --set model.initial_channels=64)
  gridrun launch "${row[@]}" --retries 0 && echo "no trial failed" && return 1
  gridrun status "${row[@]}" | tee "$WORK/status.txt"
  grep -q gpu_memory "$WORK/status.txt"
}

device=cuda sizes=(128 512 4096) precisions=(fp32 tf32 mixed_bf16 mixed_fp16) rounds=3 images=32768 kill_after=25
share=(--gpus 1 --gpus-per-trial 0.33 --cpus-per-trial 4) small=() scale=()
pack=(--images 50000) numbers=(1 4 8 16)
if [ "${SMOKE:-}" ]; then
  device=cpu sizes=(128) precisions=(fp32 tf32 mixed_bf16) rounds=1 images=128 kill_after=6 # fp16 takes minutes
  share=(--gpus 0) scale=(--scale epochs=0.01,train=256)
  small=(--gpus 0 --seeds 1 --scale epochs=0.2 --where schedule=multistep --where batch_size=32)
  pack=(--cpu --images 1280 --precision fp32 --limit 300) numbers=(1 2)
fi
run() { # a function of this file under `timeout`, which takes programs only
  echo 'trap "wait; exit 143" TERM' # `timeout` tells the launch, too; let it save its checkpoints
  declare -f gridrun rows killed out_of_memory
  declare -p WORK PYTHON share small
  printf '%q ' "$@"
}
train_step() { # NAME SECONDS ARGUMENTS...
  local each=(--device $device --threads 1 --rounds $rounds --images $images)
  step "$1" "$2" "$PYTHON" benchmarks/train_step.py "${each[@]}" "${@:3}"
}

: >>"$LOG"
step machine 20 bash -c 'date -u; echo "${GRIDRUN_COMMIT:-}"; git rev-parse HEAD; nvidia-smi; nproc; free -g | head -2'
step versions 60 "$PYTHON" -c 'import torch, ray; print(torch.__version__, ray.__version__)'
mapfile -t tests < <(grep -lE 'mark\.gpu' tests/test_*.py)
step tests 150 "$PYTHON" -m pytest -m gpu -q -o filterwarnings=default -p no:cacheprovider "${tests[@]}"
train_step step_128 100 --batch-sizes 128 --precisions fp32 mixed_bf16 --profile
step packing 150 "$PYTHON" benchmarks/packing.py --at-once "${numbers[@]}" "${pack[@]}"
step mnist 500 bash -c "$(run rows grids/mnist.yaml "${scale[@]}")"
step kill 120 bash -c "$(run killed $kill_after grids/quickstart.yaml)"
if ! [ "${SMOKE:-}" ]; then
  step memory 90 bash -c "$(run out_of_memory)"
  train_step compiled 200 --batch-sizes 128 --precisions mixed_bf16 --compile
fi
train_step step 200 --batch-sizes "${sizes[@]}" --precisions "${precisions[@]}"
if ! [ "${SMOKE:-}" ] && command -v nvidia-cuda-mps-control >/dev/null && wanted packing_mps; then
  mkdir -p "$WORK/mps"
  export CUDA_MPS_PIPE_DIRECTORY=$WORK/mps CUDA_MPS_LOG_DIRECTORY=$WORK/mps
  step packing_mps 200 "$PYTHON" benchmarks/packing.py --at-once "${numbers[@]}" "${pack[@]}" --mps
  echo quit | timeout 10 nvidia-cuda-mps-control >/dev/null 2>&1 # whatever became of it
  unset CUDA_MPS_PIPE_DIRECTORY CUDA_MPS_LOG_DIRECTORY
fi
step fashion_mnist 900 bash -c "$(run rows grids/fashion_mnist.yaml "${scale[@]}")"
say "results are in $OUT"
