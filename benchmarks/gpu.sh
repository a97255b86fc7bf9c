#!/usr/bin/env bash
# The first run on a GPU, one command: what matters most first, each step with its own time limit.
#
#     OUT=DIR bash benchmarks/gpu.sh [STEP ...]        all steps that are not over yet, or those named
#     SMOKE=1 OUT=DIR bash benchmarks/gpu.sh           the same on a CPU, small, to see that it runs
#
# Needs this project's requirements, with Ray; for `mnist` and `fashion_mnist` these data sets in GRIDRUN_DATA. It
# downloads nothing. It ends after BUDGET seconds (570); started again on the same machine, it goes on where it was.
# OUT gets log.txt and the two Parquet files of the trials that are done. Stores and marks of what is over are in
# WORK. A step that fails or runs out of time ends alone.
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
export RAY_memory_monitor_refresh_ms=0 # a rented machine's memory may not be what it says
OUT=$(mkdir -p "${OUT:-/tmp/gridrun-gpu}" && cd "${OUT:-/tmp/gridrun-gpu}" && pwd)
WORK=$(mkdir -p "${WORK:-/tmp/gridrun-gpu-work}" && cd "${WORK:-/tmp/gridrun-gpu-work}" && pwd)
LOG=$OUT/log.txt
PYTHON=${PYTHON:-python3}
BUDGET=${BUDGET:-570}
chosen=" $* "

step() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 start=$SECONDS left=$((BUDGET - SECONDS - 30)) code # 30 s to end a launch
  shift 2
  [[ $chosen == *" $name "* ]] || { [[ $chosen == "  " ]] && ! [ -e "$WORK/$name.over" ]; } || return 0
  limit=$((limit < left ? limit : left))
  [ "$limit" -ge 20 ] || { echo "-- $name: no time left" | tee -a "$LOG"; return 0; }
  echo "== $name" | tee -a "$LOG"
  timeout -k 25 "$limit" "$@" >"$WORK/$name.txt" 2>&1
  code=$?
  cat "$WORK/$name.txt" >>"$LOG"
  tail -n 25 "$WORK/$name.txt"
  echo "-- $name: exit $code, $((SECONDS - start)) s of $limit" | tee -a "$LOG"
  [ $code = 124 ] || [ $code = 137 ] || touch "$WORK/$name.over"
  cp "$WORK"/rows/{trials,epochs}.parquet "$OUT" 2>/dev/null
}
gridrun() { "$PYTHON" cli.py "$@" & wait $!; } # bash hears SIGTERM in `wait`, not in a command
rows() { # GRID ARGUMENTS...: the plain row of a grid, three seeds, trained and shown
  local grid=$1 code
  shift
  gridrun launch "$grid" --where name=ResNet-preact-20 --results "$WORK/rows" --checkpoint-seconds 15 "${share[@]}" "$@"
  code=$?
  gridrun status "$grid" --where name=ResNet-preact-20 --results "$WORK/rows" "$@"
  return $code
}
killed() { # SECONDS GRID: kill a launch once after so long, then let it end
  timeout -s KILL "$1" "$PYTHON" cli.py launch "$2" --results "$WORK/killed" --checkpoint-seconds 2 "${small[@]}"
  gridrun launch "$2" --results "$WORK/killed" --checkpoint-seconds 2 "${small[@]}"
}
out_of_memory() { # activations that no card holds (some 180 GB): the trial must fail with gpu_memory
  local row=(grids/fashion_mnist.yaml --where name=ResNet-preact-20 --results "$WORK/memory" --seeds 1
    --set batch_size=60000 --set epochs=1)
  gridrun launch "${row[@]}" --retries 0 && echo "no trial failed" && return 1
  gridrun status "${row[@]}" | tee "$WORK/status.txt"
  grep -q gpu_memory "$WORK/status.txt"
}

device=cuda sizes=(128 512 4096) rounds=3 images=32768
share=(--gpus 1 --gpus-per-trial 0.33 --cpus-per-trial 4) small=() scale=()
pack=(--images 50000) numbers=(1 4 8 16)
if [ "${SMOKE:-}" ]; then
  device=cpu sizes=(128) rounds=1 images=128
  share=(--gpus 0) small=(--gpus 0 --seeds 1 --scale epochs=0.2 --where schedule=multistep --where batch_size=32)
  scale=(--scale epochs=0.01,train=256)
  pack=(--cpu --images 1280 --precision fp32 --limit 300) numbers=(1 2)
fi
run() { # a function of this file under `timeout`, which takes programs only
  echo 'trap "wait; exit 143" TERM' # `timeout` tells the launch, too; let it save its checkpoints
  declare -f gridrun rows killed out_of_memory
  declare -p WORK PYTHON share small
  printf '%q ' "$@"
}
train_step() { # NAME SECONDS ARGUMENTS...
  local name=$1 limit=$2
  shift 2
  step "$name" "$limit" "$PYTHON" benchmarks/train_step.py --device $device --threads 1 --rounds $rounds --images $images "$@"
}

: >>"$LOG"
step machine 20 bash -c "date -u; git rev-parse HEAD || echo \"commit ${GRIDRUN_COMMIT:-}\"; nvidia-smi; nproc; free -g | head -2"
step versions 60 "$PYTHON" -c 'import torch, ray; print(torch.__version__, ray.__version__)'
# shellcheck disable=SC2046  # file names of this project
step tests 150 "$PYTHON" -m pytest -m gpu -q -o filterwarnings=default -p no:cacheprovider \
  $(grep -lE 'mark\.gpu' tests/test_*.py)
train_step step_128 100 --batch-sizes 128 --precisions fp32 mixed_bf16 --profile
step packing 150 "$PYTHON" benchmarks/packing.py --at-once "${numbers[@]}" "${pack[@]}"
step mnist 500 bash -c "$(run rows grids/mnist.yaml "${scale[@]}")"
step fashion_mnist 900 bash -c "$(run rows grids/fashion_mnist.yaml "${scale[@]}")"
train_step step 180 --batch-sizes "${sizes[@]}" --precisions fp32 tf32 mixed_bf16 mixed_fp16
[ "${SMOKE:-}" ] || train_step compiled 240 --batch-sizes 128 --precisions mixed_bf16 --compile
step kill 180 bash -c "$(run killed 25 grids/quickstart.yaml)"
[ "${SMOKE:-}" ] || step memory 120 bash -c "$(run out_of_memory)"
if ! [ "${SMOKE:-}" ] && command -v nvidia-cuda-mps-control >/dev/null; then
  mkdir -p "$WORK/mps"
  export CUDA_MPS_PIPE_DIRECTORY=$WORK/mps CUDA_MPS_LOG_DIRECTORY=$WORK/mps
  step packing_mps 200 "$PYTHON" benchmarks/packing.py --at-once "${numbers[@]}" "${pack[@]}" --mps
  echo quit | timeout 10 nvidia-cuda-mps-control >/dev/null 2>&1 # whatever became of it
fi
echo "results are in $OUT"
