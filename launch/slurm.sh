#!/usr/bin/env bash
#SBATCH --job-name=vasa_jax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --output=slurm-%j.log
#SBATCH --open-mode=append
# One training job on SLURM, one process per GPU; JAX finds the processes by itself.
#   sbatch launch/slurm.sh --config configs/train_face.py --workdir /shared/runs/face [--config.train...]
#   launch/slurm.sh -n ...   prints the command only
# Change nodes and time with sbatch options (sbatch --nodes=4 launch/slurm.sh ...); the workdir must be on a disk that
# all nodes share. SLURM sends SIGTERM 120 s before the limit and on preemption: the run saves, exits with 75 and is
# put into the queue again; any other exit code ends it.
set -euo pipefail
DRY=
[[ ${1:-} == -n ]] && { DRY=1; shift; }
if [[ $# -lt 1 ]]; then
  echo "usage: sbatch launch/slurm.sh --config FILE --workdir DIR [--config.name=value ...]" >&2
  exit 2
fi
PYTHON=${PYTHON:-python3}
command=(srun --kill-on-bad-exit=0 "$PYTHON" -m vasa_jax.main "$@" --config.train.distributed=True)
if [[ -n $DRY ]]; then
  echo "${command[*]}"
  exit 0
fi
status=0
"${command[@]}" || status=$?
if ((status == 75)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
