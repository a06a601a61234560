#!/usr/bin/env bash
# Copies this repository to every worker of a TPU slice, installs it there, and trains on all of them.
#
#   scripts/launch_tpu_pod.sh NAME --zone ZONE [--project PROJECT] [--log_folder DIR] [--dry_run]
#       -- --config=FILE --workdir=DIR [more flags of experiments.train]
#
#   --log_folder  gets worker-0.log, worker-1.log, ... (default: runs/launch/NAME); worker 0's is also shown
#   --dry_run     print the gcloud commands, run none
#   --workdir     must lie on storage that every worker sees, such as NFS or a bucket mounted by each
#
# The same command again, after a preemption for instance, continues from what lies in the workdir. Ctrl-C stops the run
# on every worker; so does closing the terminal, or the failure of a worker. It then has 60 seconds, or GRACE_SECONDS of
# the environment, to save. Copied is what git tracks, with your edits: `git add` new files first. A slice of several
# workers needs your key in ssh-agent: ssh-add ~/.ssh/google_compute_engine

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
name='' zone='' project='' log_folder='' dry_run=''
folder=ste-in-disguise # the copy, in the home of every worker

fail() { echo "error: $*" >&2 && exit 2; }

parse() {
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
      --help | -h) sed -n '2,/^$/s/^# \{0,1\}//p' scripts/launch_tpu_pod.sh && exit ;;
      --dry_run) dry_run=yes ;;
      --zone=?* | --project=?* | --log_folder=?*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
      --zone | --project | --log_folder)
        case ${2:---} in --*) fail "$1 needs a value; write $1 VALUE" ;; esac
        printf -v "${1#--}" %s "$2" && shift
        ;;
      -*) fail "unknown flag $1; --help lists the flags, and those of experiments.train come after --" ;;
      *) [ -z "$name" ] || fail "give one NAME, not both $name and $1" && name=$1 ;;
    esac
    shift
  done
  [ -n "$name" ] || fail 'no TPU; begin with its NAME, as in scripts/launch_tpu_pod.sh my-tpu --zone us-central2-b'
  [ -n "$zone" ] || fail 'no zone; add --zone ZONE'
  [ $# -gt 0 ] || fail 'no --; end with -- --config=FILE --workdir=DIR'
  [[ " $*" == *' --config='[^\ ]* ]] || fail 'no config; add --config=FILE after the --, such as configs/mnist.py'
  [[ " $*" == *' --workdir='[^\ ]* ]] || fail 'no workdir; add --workdir=DIR after the --, where every worker sees it'
  train=("${@:2}" --config.distributed=auto)
}

tpu_vm() { # one gcloud command; only printed under --dry_run
  local command=(gcloud compute tpus tpu-vm "$@" --zone "$zone") line
  if [ -n "$project" ]; then command+=(--project "$project"); fi
  printf -v line ' %q' "${command[@]}"
  if [ -n "$dry_run" ]; then echo "${line# }"; else "${command[@]}"; fi
}

describe() { # prints how many endpoints and how many networks: an endpoint is one worker's end of one network
  tpu_vm describe "$name" --format='value(networkEndpoints.len(),networkConfigs.len())'
}

remote() { # FUNCTION ARGUMENTS...: the command by which a worker calls one of the two functions below
  declare -f "$1" && printf '%q ' "$@"
}

install_here() { # FOLDER JAX_VERSION
  set -e
  mkdir -p "$1"
  tar -xzf "$1.tar.gz" -C "$1"
  cd "$1"
  # The image may have only an old Python, or one without venv; uv brings its own.
  if ! bash -c 'source scripts/setup.sh'; then
    rm -rf .venv
    curl -LsSf https://astral.sh/uv/install.sh | sh
    ~/.local/bin/uv python install 3.12
    PYTHON=$(~/.local/bin/uv python find 3.12) # which setup.sh then takes
  fi
  source scripts/setup.sh
  python -m pip install --quiet "jax[tpu]==$2"
}

train_here() { # FOLDER LAUNCH GRACE ARGUMENTS...
  # gcloud repeats a command whose connection broke; but one worker cannot rejoin the others, so start only once.
  mkdir "${TMPDIR:-/tmp}/$1-$2" || { echo 'error: the connection to this worker broke' && exit 1; }
  cd "$1" || exit
  exec 3<&0
  PYTHONUNBUFFERED=1 .venv/bin/python -m experiments.train "${@:4}" 3<&- &
  run=$!
  # The end of an ssh does not end what it started. It does end standard input, and that is the sign to stop.
  { read -r <&3; exec 3<&-; kill "$run"; sleep "$3"; kill -KILL "$run"; } >/dev/null 2>&1 &
  watch=$! code=0
  wait "$run" || code=$?
  kill "$watch"
  exit "$code"
}

copy_and_install() { # ARCHIVE
  local version
  version=$(sed -n 's/^jax==\([^ ;#]*\).*/\1/p' requirements.txt)
  tpu_vm scp "$1" "$name:$folder.tar.gz" --worker=all
  tpu_vm ssh "$name" --worker=all --command="$(remote install_here "$folder" "$version")"
}

train_on() { # WORKER; a connection that falls silent, as after a preemption, breaks after a minute and a half
  tpu_vm ssh "$name" --worker="$1" --ssh-flag='-o ServerAliveInterval=30 -o ConnectTimeout=30' \
    --command="$(remote train_here "$folder" "$launch-$1" "${GRACE_SECONDS:-60}" "${train[@]}")"
}

attend() { # WORKER: keeps its log, shows that of worker 0, notes a failure
  local log=$log_folder/worker-$1.log failed=$scratch/failed
  if [ "$1" = 0 ]; then train_on 0 2>&1 | tee "$log"; else train_on "$1" >"$log" 2>&1; fi || echo "$1 $?" >>"$failed"
}

start() { # WORKERS: one ssh each; their standard input is a pipe that ends when this script closes it, or ends itself
  local worker
  mkfifo "$scratch/pipe"
  exec 8<>"$scratch/pipe" # else the next line waits: each end of a pipe opens only with the other
  exec 7<"$scratch/pipe" 9>"$scratch/pipe" 8>&-
  set -m # a process group each, out of reach of Ctrl-C: what a run says while it saves is still shown
  for ((worker = 0; worker < $1; worker++)); do attend "$worker" <&7 7<&- 9>&- & done
  set +m
}

supervise() { # until every worker has finished, or one has failed
  local worker code log
  while [ ! -e "$scratch/failed" ] && [ -n "$(jobs -rp)" ]; do sleep 1; done
  [ -e "$scratch/failed" ] || return 0
  read -r worker code <"$scratch/failed"
  log=$log_folder/worker-$worker.log
  echo "error: worker $worker failed with exit code $code; $log ends with:" >&2
  tail -n 20 "$log" >&2
  finish "$code"
}

finish() { # EXIT_CODE: ends the workers that still run, and waits for them
  trap - INT TERM
  echo 'Ending what still runs. The same command continues from the last checkpoint.' >&2
  exec 9>&-
  wait
  exit "$1"
}

main() {
  local tree endpoints networks
  parse "$@"
  launch=$(date +%Y%m%d-%H%M%S)-$$
  if [ -n "$dry_run" ]; then
    describe && copy_and_install "$folder.tar.gz" && train_on 0
    echo '# and so for every further worker; the first command says how many there are'
    exit
  fi
  command -v gcloud >/dev/null || fail 'no gcloud on PATH; see https://cloud.google.com/sdk/docs/install'
  # A commit of the files as they are, which no branch knows; nothing where all is as committed.
  tree=$(git stash create 2>/dev/null) || fail 'git cannot say what to copy; run this in a checkout without a merge'
  read -r endpoints networks <<<"$(describe)"
  [ "${endpoints:-0}" != 0 ] || fail "gcloud knows no workers of $name in $zone; is it READY?"
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  git archive --format=tar.gz --output="$scratch/$folder.tar.gz" "${tree:-HEAD}"
  copy_and_install "$scratch/$folder.tar.gz"
  log_folder=${log_folder:-runs/launch/$name}
  mkdir -p "$log_folder"
  trap 'finish 130' INT
  trap 'finish 143' TERM
  start $((endpoints / (networks > 1 ? networks : 1)))
  supervise
  echo "Every worker has finished. Logs: $log_folder"
}

main "$@"
