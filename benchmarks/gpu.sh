#!/usr/bin/env bash
# The first run on a GPU, one command: what matters most first, each step with its own time limit.
#
#     OUT=DIR bash benchmarks/gpu.sh [STEP ...]        all steps, or those named
#     SMOKE=1 OUT=DIR bash benchmarks/gpu.sh           the same on a CPU, small, to see that it runs
#
# Needs this project's requirements, with Ray; for `rows` FashionMNIST and MNIST in GRIDRUN_DATA. It downloads
# nothing. OUT gets log.txt and, of `rows`, the store's two Parquet files: the records of real trials.
# A step that fails or runs out of time ends alone. LIMIT multiplies all limits (default 1: at most 49 minutes in all).
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
OUT=$(mkdir -p "${OUT:-/tmp/gridrun-gpu}" && cd "${OUT:-/tmp/gridrun-gpu}" && pwd)
LOG=$OUT/log.txt
PYTHON=${PYTHON:-python3}
chosen=" $* "

step() { # NAME SECONDS COMMAND...
  local name=$1 limit=$(($2 * ${LIMIT:-1})) start=$SECONDS code
  shift 2
  [[ $chosen == "  " || $chosen == *" $name "* ]] || return 0
  echo "== $name" | tee -a "$LOG"
  timeout -k 10 "$limit" "$@" >"$OUT/step.txt" 2>&1
  code=$?
  cat "$OUT/step.txt" >>"$LOG"
  tail -n 25 "$OUT/step.txt"
  echo "-- $name: exit $code, $((SECONDS - start)) s" | tee -a "$LOG"
  rm -f "$OUT/step.txt"
}
gridrun() { "$PYTHON" cli.py "$@"; }
rows() { # GRID ARGUMENTS...: the plain row of a grid, three seeds, trained and shown
  local grid=$1
  shift
  gridrun launch "$grid" --where name=ResNet-preact-20 --results "$OUT/rows" "${share[@]}" "$@"
  gridrun status "$grid" --where name=ResNet-preact-20 --results "$OUT/rows" "$@"
}
killed() { # SECONDS GRID: kill a launch once after so long, then let it end
  timeout -s KILL "$1" "$PYTHON" cli.py launch "$2" --results "$OUT/killed" --checkpoint-seconds 2 "${small[@]}"
  gridrun launch "$2" --results "$OUT/killed" --checkpoint-seconds 2 "${small[@]}"
}
out_of_memory() { # a batch that no card holds: the trial fails with gpu_memory, and the launch exits with 1
  gridrun launch grids/quickstart.yaml --results "$OUT/memory" --seeds 1 --retries 1 \
    --set batch_size=1024 --set model.initial_channels=8192 --set schedule=cosine --set epochs=1 &&
    echo "no trial failed" && return 1
  gridrun status grids/quickstart.yaml --results "$OUT/memory" --seeds 1 \
    --set batch_size=1024 --set model.initial_channels=8192 --set schedule=cosine --set epochs=1
  return 0
}

device=cuda sizes=(128 512 4096) precisions=(fp32 tf32 mixed_bf16 mixed_fp16) rounds=5 images=16384
share=(--gpus-per-trial auto --cpus-per-trial 2) small=() scale=() pack=(--images 50000) numbers=(1 2 4 8 16)
if [ "${SMOKE:-}" ]; then
  device=cpu sizes=(128) precisions=(fp32) rounds=1 images=128
  share=(--gpus 0) small=(--gpus 0 --seeds 1 --scale epochs=0.2 --where schedule=multistep --where batch_size=32) scale=(--scale epochs=0.01,train=256)
  pack=(--cpu --images 128 --precision fp32 --limit 300) numbers=(1 2)
fi
run() { # a function of this file under `timeout`, which takes programs only
  declare -f gridrun rows killed out_of_memory
  declare -p OUT PYTHON share small
  printf '%q ' "$@"
}

: >>"$LOG"
step machine 20 bash -c 'date -u; git rev-parse HEAD; nvidia-smi; nproc; free -g | head -2'
step versions 60 "$PYTHON" -c 'import torch, ray; print(torch.__version__, ray.__version__)'
step tests 300 "$PYTHON" -m pytest -m gpu -q -o filterwarnings=default -p no:cacheprovider
step train_step 180 "$PYTHON" benchmarks/train_step.py --device $device --threads 1 --batch-sizes "${sizes[@]}" \
  --precisions "${precisions[@]}" --rounds $rounds --images $images --profile
step packing 240 "$PYTHON" benchmarks/packing.py --at-once "${numbers[@]}" "${pack[@]}"
[ "${SMOKE:-}" ] || step packing_mps 240 "$PYTHON" benchmarks/packing.py --at-once "${numbers[@]}" "${pack[@]}" --mps
[ "${SMOKE:-}" ] || step compiled 240 "$PYTHON" benchmarks/train_step.py --device cuda --threads 1 --batch-sizes 128 \
  --precisions mixed_bf16 --rounds 5 --images 16384 --compile
step fashion_mnist 900 bash -c "$(run rows grids/fashion_mnist.yaml "${scale[@]}")"
step mnist 600 bash -c "$(run rows grids/mnist.yaml "${scale[@]}")"
step kill 180 bash -c "$(run killed 25 grids/quickstart.yaml)"
[ "${SMOKE:-}" ] || step memory 120 bash -c "$(run out_of_memory)"
for name in trials epochs; do
  [ -e "$OUT/rows/$name.parquet" ] && cp "$OUT/rows/$name.parquet" "$OUT/$name.parquet"
done
rm -rf "$OUT/rows" "$OUT/killed" "$OUT/memory"
echo "results are in $OUT"
