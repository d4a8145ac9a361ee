#!/usr/bin/env bash
# Trains every part of the shipped model from nothing on one GPU and puts the exports side by side in $RUNS/model.
#   launch/train_demo.sh [RUNS]     default runs; extra settings per part in FACE, AUDIO, MOTION, INSTRUMENT,
#                                   e.g. FACE="--config.train.steps=100"; DRY_RUN=1 prints the commands
# A part that is finished is not trained again, and one that was stopped goes on from its newest checkpoint.
set -euo pipefail
RUNS=${1:-runs}
PYTHON=${PYTHON:-python3}
run() {
  if [ -n "${DRY_RUN:-}" ]; then echo "$*"; else "$@"; fi
}
train() { # train PART [SETTING...]
  run "$PYTHON" -m vasa_jax.main --config "configs/train_$1.py" --workdir "$RUNS/$1" "${@:2}"
}
read -ra audio <<<"${AUDIO:-}"
read -ra instrument <<<"${INSTRUMENT:-}"
read -ra face <<<"${FACE:-}"
read -ra motion <<<"${MOTION:-}"
clips="--config.corpus.cache=$RUNS/clips"
train audio "$clips" "${audio[@]}"
train instrument "${instrument[@]}"
train face "${face[@]}"
train motion "$clips" "--config.motion.latents=$RUNS/latents" "--config.motion.face=$RUNS/face/export" \
  "--config.motion.audio=$RUNS/audio/export" "${motion[@]}"
run mkdir -p "$RUNS/model"
run cp "$RUNS"/{face,audio,motion,instrument}/export/*.safetensors "$RUNS/model/"
