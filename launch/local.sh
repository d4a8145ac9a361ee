#!/usr/bin/env bash
# Runs one training job as several processes on this machine: to try what a cluster does, or one process per GPU.
#   launch/local.sh [-n] PROCESSES --config configs/train_face.py --workdir runs/face [--config.train...]
# -n prints the commands only. GPUS_PER_PROCESS=k gives process i the GPUs i*k ... i*k+k-1. Exit code: the first that
# is not 0 (75 = preempted and saved: start again to continue).
set -euo pipefail
DRY=
[[ ${1:-} == -n ]] && { DRY=1; shift; }
if [[ $# -lt 1 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  sed -n '2,5p' "$0" >&2
  exit 2
fi
PROCESSES=$1
shift
PYTHON=${PYTHON:-python3}
PORT=${PORT:-$((20000 + RANDOM % 20000))}
children=()
for ((i = 0; i < PROCESSES; i++)); do
  variables=(JAX_COORDINATOR_ADDRESS="localhost:$PORT" JAX_NUM_PROCESSES="$PROCESSES" JAX_PROCESS_ID="$i")
  if [[ -n ${GPUS_PER_PROCESS:-} ]]; then
    variables+=(CUDA_VISIBLE_DEVICES="$(seq -s, $((i * GPUS_PER_PROCESS)) $(((i + 1) * GPUS_PER_PROCESS - 1)))")
  fi
  command=(env "${variables[@]}" "$PYTHON" -m vasa_jax.main "$@" --config.train.distributed=True)
  if [[ -n $DRY ]]; then
    echo "${command[*]}"
  else
    "${command[@]}" &
    children+=("$!")
  fi
done
[[ -z $DRY ]] || exit 0
# One process that is told to stop tells the others.
trap 'kill -TERM "${children[@]}" 2>/dev/null || true' TERM INT
code=0
for child in "${children[@]}"; do
  status=0
  wait "$child" || status=$?
  # A trapped signal ends `wait` early.
  while kill -0 "$child" 2>/dev/null; do
    status=0
    wait "$child" || status=$?
  done
  ((code)) || code=$status
done
exit "$code"
