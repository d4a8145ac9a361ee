#!/usr/bin/env bash
# Trains every part of the shipped model from nothing on one GPU, then puts the exports side by side in $RUNS/model.
#   launch/train_demo.sh [RUNS=runs]      extra settings: FACE, AUDIO, MOTION, INSTRUMENT, e.g. FACE="--config.train.steps=100"
set -euo pipefail
RUNS=${1:-runs}
PYTHON=${PYTHON:-python3}
mkdir -p "$RUNS"
job() { # job NAME EXTRA: one training run, its lines in $RUNS/NAME.log
  # shellcheck disable=SC2086  # the extra settings are words
  $PYTHON -m vasa_jax.main --config "configs/train_$1.py" --workdir "$RUNS/$1" $2 >"$RUNS/$1.log" 2>&1
}
# The small networks fit beside the codec on one device: each process takes memory as it needs it.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
(job audio "--config.corpus.cache=$RUNS/clips ${AUDIO:-}"; job instrument "${INSTRUMENT:-}") &
side=$!
job face "${FACE:-}"
wait "$side"
job motion "--config.corpus.cache=$RUNS/clips --config.motion.face=$RUNS/face/export --config.motion.audio=$RUNS/audio/export ${MOTION:-}"
mkdir -p "$RUNS/model"
cp "$RUNS"/{face,audio,motion,instrument}/export/*.safetensors "$RUNS/model/"
