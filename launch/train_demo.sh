#!/usr/bin/env bash
# Trains the parts of the shipped model from nothing and puts the exports side by side in $RUNS/model.
#   launch/train_demo.sh [RUNS]     default runs; extra settings per part in FACE, AUDIO, MOTION, INSTRUMENT,
#                                   e.g. FACE="--config.train.steps=100"; DRY_RUN=1 prints the commands
#   PARTS="face motion"             only these; the audio encoder and the instrument are then the shipped ones
# A part that is finished is not trained again, and one that was stopped goes on from its newest checkpoint. Where there
# are two GPUs, audio encoder and instrument train on the second while the codec trains on the first.
set -euo pipefail
RUNS=${1:-runs}
PYTHON=${PYTHON:-python3}
PARTS=${PARTS:-audio instrument face motion}
GPUS=${GPUS:-$(nvidia-smi -L 2>/dev/null | wc -l || true)}
run() {
  if [ -n "${DRY_RUN:-}" ]; then echo "$*"; else "$@"; fi
}
wanted() { [[ " $PARTS " == *" $1 "* ]]; }
train() { # train GPU PART [SETTING...]
  wanted "$2" || return 0
  local device=()
  [ "$GPUS" -lt 2 ] || device=(env "CUDA_VISIBLE_DEVICES=$1")
  run ${device[@]+"${device[@]}"} "$PYTHON" -m vasa_jax.main --config "configs/train_$2.py" --workdir "$RUNS/$2" "${@:3}"
}
read -ra audio <<<"${AUDIO:-}"
read -ra instrument <<<"${INSTRUMENT:-}"
read -ra face <<<"${FACE:-}"
read -ra motion <<<"${MOTION:-}"
clips="--config.corpus.cache=$RUNS/clips"
hearing() {
  train 1 audio "$clips" "${audio[@]}"
  train 1 instrument "${instrument[@]}"
}
if [ "$GPUS" -lt 2 ]; then
  hearing
  train 0 face "${face[@]}"
else
  hearing &
  train 0 face "${face[@]}"
  wait $!
fi
if wanted audio; then motion+=("--config.motion.audio=$RUNS/audio/export"); fi
train 0 motion "$clips" "--config.motion.latents=$RUNS/latents" "--config.motion.face=$RUNS/face/export" "${motion[@]}"
run mkdir -p "$RUNS/model"
for part in audio instrument; do
  wanted "$part" || run cp "vasa_jax/pretrained/$part.safetensors" "$RUNS/model/"
done
for part in $PARTS; do
  run cp "$RUNS/$part/export/$part.safetensors" "$RUNS/model/"
done
