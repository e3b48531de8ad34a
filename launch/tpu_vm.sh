#!/usr/bin/env bash
# Runs a program on every host of a TPU VM, which has this repository under REPOSITORY (default: its name in the
# home folder) and whatever the flags name, on paths that all hosts see where they share it (gs://, NFS):
#   TPU=NAME ZONE=ZONE launch/tpu_vm.sh experiments.run --flagfile=F --workdir=DIR [--dry_run]
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/commands.sh

[ -n "${TPU:-}" ] && [ -n "${ZONE:-}" ] || usage "TPU and ZONE name the TPU VM: TPU=my-tpu ZONE=us-east5-a $0 ..."
require_program "$@"

on_all_hosts() {
  run gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

program=$1
shift
repository=${REPOSITORY:-$(basename "$PWD")}
on_all_hosts "cd ${repository@Q} && { [ -x .venv-tpu/bin/python ] || { python3 -m venv .venv-tpu && \
.venv-tpu/bin/pip install --quiet -e '.[tpu]'; }; }"
on_all_hosts "cd ${repository@Q} && exec .venv-tpu/bin/python -m $program --distributed.coordinator=auto ${*@Q}"
