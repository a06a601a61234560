#!/usr/bin/env bash
# Submits one training run on one or more Slurm nodes, one process a node.
#
#   scripts/launch_slurm.sh [--nodes N] [--gpus_per_node G] [--cpus_per_node C] [--time T] [--partition P] [--dry_run]
#       -- --config=FILE --workdir=DIR [more flags of experiments.train]
#
#   --nodes          how many (default: 1)
#   --gpus_per_node  GPUs that every process uses; needs the jax[cuda13] of the README in .venv
#   --cpus_per_node  CPU cores that feed them (default: what the cluster gives)
#   --time, --partition  as for sbatch; the cluster's defaults where not given
#   --dry_run        print the sbatch command with the job script, submit nothing
#   --workdir        must lie on storage that every node sees, as must this repository with its .venv
#
# A job that is preempted, or reaches its time limit, saves and is queued again, and continues in the same workdir. The
# same command again does that too. sbatch reads further options from the environment, such as SBATCH_ACCOUNT.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
nodes=1 gpus_per_node='' cpus_per_node='' time='' partition='' dry_run=''
logs=$PWD/runs/launch

fail() { echo "error: $*" >&2 && exit 2; }

parse() {
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
      --help | -h) sed -n '2,/^$/s/^# \{0,1\}//p' scripts/launch_slurm.sh && exit ;;
      --dry_run) dry_run=yes ;;
      --nodes=?* | --gpus_per_node=?* | --cpus_per_node=?* | --time=?* | --partition=?*)
        set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue
        ;;
      --nodes | --gpus_per_node | --cpus_per_node | --time | --partition)
        case ${2:---} in --*) fail "$1 needs a value; write $1 VALUE" ;; esac
        printf -v "${1#--}" %s "$2" && shift
        ;;
      *) fail "unknown argument $1; --help lists the flags, and those of experiments.train come after --" ;;
    esac
    shift
  done
  whole nodes "$nodes" && whole gpus_per_node "${gpus_per_node:-1}" && whole cpus_per_node "${cpus_per_node:-1}"
  [ $# -gt 0 ] || fail 'no --; end with -- --config=FILE --workdir=DIR'
  [[ " $*" == *' --config='[^\ ]* ]] || fail 'no config; add --config=FILE after the --, such as configs/mnist.py'
  [[ " $*" == *' --workdir='[^\ ]* ]] || fail 'no workdir; add --workdir=DIR after the --, where every node sees it'
  train=("${@:2}" --config.distributed=auto)
}

whole() { # NAME VALUE
  case $2 in *[!0-9]* | 0*) fail "--$1 $2 is not a whole number above 0" ;; esac
}

job_script() {
  cat <<END
#!/usr/bin/env bash
cd $(printf %q "$PWD") || exit
export PATH=\$PWD/.venv/bin:\$PATH PYTHONUNBUFFERED=1
END
  if [ -n "$gpus_per_node" ]; then
    echo '# JAX takes one GPU for each process of a Slurm job unless it is told which.'
    echo "export JAX_LOCAL_DEVICE_IDS=$(seq -s , 0 $((gpus_per_node - 1)))"
  fi
  cat <<END
# When one process ends, the others have two minutes to end too: no more, and no less, for they may be saving.
srun --ntasks-per-node=1 ${cpus_per_node:+--cpus-per-task=$cpus_per_node }--label --kill-on-bad-exit=0 --wait=120 \\
  python -m experiments.train $(printf '%q ' "${train[@]}")
code=\$?
# 143: stopped by SIGTERM, and saved. Slurm queues a job again only where it ended the job itself.
if [ "\$code" = 143 ]; then scontrol requeue "\$SLURM_JOB_ID"; fi
exit "\$code"
END
}

main() {
  local job
  parse "$@"
  # SIGTERM goes to the processes of srun, not to the job script, two minutes before the time limit.
  local command=(sbatch --parsable --job-name=ste-in-disguise --nodes="$nodes" --ntasks-per-node=1
    --requeue --signal=TERM@120 --open-mode=append --output="$logs/slurm-%j.log")
  if [ -n "$gpus_per_node" ]; then command+=(--gpus-per-node="$gpus_per_node"); fi
  if [ -n "$cpus_per_node" ]; then command+=(--cpus-per-task="$cpus_per_node"); fi
  if [ -n "$time" ]; then command+=(--time="$time"); fi
  if [ -n "$partition" ]; then command+=(--partition="$partition"); fi
  if [ -n "$dry_run" ]; then
    printf '%q ' "${command[@]}"
    printf "<<'END'\n%s\nEND\n" "$(job_script)"
    exit
  fi
  command -v sbatch >/dev/null || fail 'no sbatch on PATH; run this on a login node of a Slurm cluster'
  [ -x .venv/bin/python ] || fail 'no .venv; make it with bash scripts/quickstart.sh, and for GPUs see README.md'
  mkdir -p "$logs"
  job=$("${command[@]}" <<<"$(job_script)")
  job=${job%%;*} # on federated clusters: JOB;CLUSTER
  echo "Submitted job $job. Log, once it runs: $logs/slurm-$job.log"
}

main "$@"
