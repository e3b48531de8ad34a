# Sourced by the wrappers beside it: says what is run and, unless this is a dry run, runs it.
# --dry_run anywhere among a wrapper's arguments prints the commands alone.

dry_run=false
arguments=()
for argument in "$@"; do
  if [ "$argument" = --dry_run ]; then dry_run=true; else arguments+=("$argument"); fi
done
set -- "${arguments[@]}"

run() {
  { printf '+'; printf ' %q' "$@"; echo; }
  $dry_run || "$@"
}

# Refuses arguments that do not begin with a program of this repository.
require_program() {
  [ $# -gt 0 ] || usage "name a program: $0 experiments.run --flagfile=F --workdir=DIR"
  case $1 in experiments.*) ;; *) usage "$1 is not one of experiments.*" ;; esac
}

usage() {
  echo "error: $1" >&2
  exit 2
}
