#!/usr/bin/env bash
# A training job on a Cloud TPU slice, from nothing to results.
#   launch/tpu.sh [-n] create | setup | run ARGS... | watch ARGS... | fetch DIR | delete
# -n prints the commands only. ARGS are those of vasa_jax.main, e.g.
#   BUCKET=mine launch/tpu.sh watch --config configs/train_face.py --workdir bucket/runs/face
# create  makes the slice                          setup  copies this repository to every worker and installs it
# run     runs the job on all workers at once      watch  the same; starts it again only after a preemption (code 75)
# fetch   copies WORKDIR's export and log here     delete gives the slice back
# Settings: NAME ZONE PROJECT ACCELERATOR VERSION SPOT=1 RETRY_SECONDS RESTARTS WORKDIR (for fetch), and BUCKET: setup
# mounts gs://BUCKET as `bucket` on all workers. With several workers --workdir must lie on it, or on another shared disk.
set -euo pipefail
NAME=${NAME:-vasa}
ZONE=${ZONE:-us-central1-a}
ACCELERATOR=${ACCELERATOR:-v5litepod-16}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}
RETRY_SECONDS=${RETRY_SECONDS:-60}
RESTARTS=${RESTARTS:-100}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PLACE=(--zone "$ZONE")
[[ -z ${PROJECT:-} ]] || PLACE+=(--project "$PROJECT")

DRY=
[[ ${1:-} == -n ]] && { DRY=1; shift; }

execute() { # the command, or with -n its text
  if [[ -n $DRY ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

everywhere() { # COMMAND: on all workers
  execute gcloud compute tpus tpu-vm ssh "$NAME" "${PLACE[@]}" --worker=all --command "$1"
}

create() {
  local extra=()
  [[ -z ${SPOT:-} ]] || extra+=(--spot)
  execute gcloud compute tpus tpu-vm create "$NAME" "${PLACE[@]}" \
    --accelerator-type "$ACCELERATOR" --version "$VERSION" "${extra[@]}"
}

setup() {
  local archive
  archive=$(mktemp -d)/vasa_jax.tar.gz
  execute git -C "$HERE" archive --format=tar.gz -o "$archive" HEAD
  execute gcloud compute tpus tpu-vm scp "$archive" "$NAME:vasa_jax.tar.gz" "${PLACE[@]}" --worker=all
  everywhere 'mkdir -p vasa_jax && tar -xzf vasa_jax.tar.gz -C vasa_jax && python3 -m venv env &&
    env/bin/pip install -q -U "jax[tpu]>=0.10.2" && env/bin/pip install -q -e vasa_jax'
  # Renaming a folder of files is how a checkpoint becomes complete.
  [[ -z ${BUCKET:-} ]] || everywhere "mkdir -p vasa_jax/bucket && (mountpoint -q vasa_jax/bucket ||
    gcsfuse --implicit-dirs --rename-dir-limit=100000 $BUCKET vasa_jax/bucket)"
}

run() { # the exit code is the program's: the first that is neither 0 nor 75, else 75 if any worker says so
  local log status=0 codes
  log=$(mktemp)
  everywhere "cd vasa_jax; ../env/bin/python -m vasa_jax.main $(printf '%q ' "$@")--config.train.distributed=True
    code=\$?; echo exit code \$code; exit \$code" | tee "$log" || status=$?
  codes=$(sed -n 's/^.*exit code \([0-9][0-9]*\)$/\1/p' "$log" | sort -u)
  rm -f "$log"
  local code
  for code in $codes; do
    ((code == 0 || code == 75)) || return "$code"
  done
  [[ $'\n'$codes$'\n' != *$'\n75\n'* ]] || return 75
  return "$status"
}

watch() { # a spot slice that was taken has to be made and set up anew
  local status restart
  for ((restart = 0; restart <= RESTARTS; restart++)); do
    status=0
    run "$@" || status=$?
    [[ -z $DRY ]] || return 0
    ((status == 75)) || return "$status"
    echo "preempted and saved; starting again" >&2
    until gcloud compute tpus tpu-vm describe "$NAME" "${PLACE[@]}" --format='value(state)' | grep -qx READY; do
      gcloud compute tpus tpu-vm delete "$NAME" "${PLACE[@]}" --quiet || true
      create || true
      sleep "$RETRY_SECONDS"
    done
    setup
  done
  return 75
}

fetch() {
  local to=${1:?fetch: name a directory to copy to} part
  : "${WORKDIR:?fetch: set WORKDIR to the --workdir of the run}"
  execute mkdir -p "$to"
  for part in export metrics.jsonl config.json; do
    execute gcloud compute tpus tpu-vm scp --recurse "$NAME:vasa_jax/$WORKDIR/$part" "$to" "${PLACE[@]}" --worker=0
  done
}

delete() {
  execute gcloud compute tpus tpu-vm delete "$NAME" "${PLACE[@]}" --quiet
}

case ${1:-} in
  create | setup | run | watch | fetch | delete) "$@" ;;
  *)
    sed -n '2,10p' "$0" >&2
    exit 2
    ;;
esac
