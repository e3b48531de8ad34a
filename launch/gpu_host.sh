#!/usr/bin/env bash
# Runs a program on this host's GPUs in a virtual environment of its own, made if it is not there:
#   launch/gpu_host.sh experiments.run --flagfile=F --workdir=DIR [--dry_run]
# ENVIRONMENT is its folder (default .venv-gpu).
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/commands.sh

require_program "$@"

environment=${ENVIRONMENT:-.venv-gpu}
if [ ! -x "$environment/bin/python" ]; then
  run python3 -m venv "$environment"
  run "$environment/bin/pip" install --quiet -e '.[gpu]'
fi
run exec "$environment/bin/python" -m "$@"
