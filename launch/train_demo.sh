#!/usr/bin/env bash
# Trains the parts of the shipped model from nothing and puts the exports side by side in $RUNS/model.
#   launch/train_demo.sh [RUNS]     default runs; extra settings per part in FACE, FACE_256, ERASE, FACE_DECODER, AUDIO,
#                                   MOTION, INSTRUMENT, e.g. FACE="--config.train.steps=100"
#   DRY_RUN=1                       only prints the commands
#   PARTS="face face_256 face_decoder motion"   only these; audio encoder and instrument are then the shipped ones
# The codec is trained at 128 pixels (face), then at 256 (face_256); the head's rotation is projected out of its
# dynamics, and its last part (face_decoder), which keeps them as they are, is the one that speaks.
# A part that is finished is not trained again, and one that was stopped goes on from its newest checkpoint. Where there
# are two GPUs, audio encoder and instrument train on the second while the codec trains on the first.
set -euo pipefail
RUNS=${1:-runs}
PYTHON=${PYTHON:-python3}
PARTS=${PARTS:-audio instrument face face_256 face_decoder motion}
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
read -ra face_256 <<<"${FACE_256:-}"
read -ra erase <<<"${ERASE:-}"
read -ra face_decoder <<<"${FACE_DECODER:-}"
read -ra motion <<<"${MOTION:-}"
clips="--config.corpus.cache=$RUNS/clips"
hearing() {
  train 1 audio "$clips" "${audio[@]}"
  train 1 instrument "${instrument[@]}"
}
seeing() {
  train 0 face "${face[@]}"
  train 0 face_256 "--config.train.init_from=$RUNS/face/export" "${face_256[@]}"
  wanted face_decoder || return 0
  if [ ! -f "$RUNS/erased/export/face.safetensors" ]; then
    erase=("--config.checkpoint=$RUNS/face_256/export" "${erase[@]}")
    run "$PYTHON" -m vasa_jax.main --config configs/erase_pose.py --workdir "$RUNS/erased" "${erase[@]}"
  fi
  train 0 face_decoder "--config.train.init_from=$RUNS/erased/export" "${face_decoder[@]}"
}
if [ "$GPUS" -lt 2 ]; then
  hearing
  seeing
else
  hearing &
  seeing
  wait $!
fi
codec=face_256
if wanted face_decoder; then codec=face_decoder; fi
if wanted audio; then motion+=("--config.motion.audio=$RUNS/audio/export"); fi
train 0 motion "$clips" "--config.motion.latents=$RUNS/latents" "--config.motion.face=$RUNS/$codec/export" "${motion[@]}"
run mkdir -p "$RUNS/model"
for part in audio instrument; do
  wanted "$part" || run cp "vasa_jax/pretrained/$part.safetensors" "$RUNS/model/"
done
for part in $PARTS; do
  case $part in face | face_256 | face_decoder) ;; *) run cp "$RUNS/$part/export/$part.safetensors" "$RUNS/model/" ;; esac
done
if wanted "$codec"; then run cp "$RUNS/$codec/export/face.safetensors" "$RUNS/model/"; fi
