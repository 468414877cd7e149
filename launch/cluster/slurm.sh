#!/bin/bash
# One search on the nodes of a SLURM job: sbatch launch/cluster/slurm.sh launch/quickstart.yaml [--set KEY=VALUE ...]
# Python with autoprune must be on the PATH of every node (activate it before sbatch), the folder on a disk that they share.
# The store is AUTOPRUNE_STORE, and for PostgreSQL its password PGPASSWORD or ~/.pgpass; both travel with the environment.
#SBATCH --job-name=autoprune
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=autoprune-%j.log
set -euo pipefail

config=${1:?usage: sbatch slurm.sh CONFIG [options of autoprune search]}
: "${AUTOPRUNE_STORE:?set it to the store, such as sqlite:////shared/autoprune.db or postgresql://autoprune@HOST/autoprune}"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))') # of this job alone; srun hands it to its steps
export RAY_AUTH_TOKEN

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 10000)) # other jobs on the same nodes have other ports, and Ray picks the rest
export AUTOPRUNE_RAY_ADDRESS=$head_ip:$port
started=(--block --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --temp-dir="${AUTOPRUNE_RAY_TMP:-/tmp}/ray-$SLURM_JOB_ID")

steps=()
end_steps() {
  kill "${steps[@]}" 2>/dev/null || true
  wait "${steps[@]}" 2>/dev/null || true
}
trap end_steps EXIT

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  ray start --head --node-ip-address="$head_ip" --port="$port" --include-dashboard=false "${started[@]}" &
steps+=($!)
wait_for_head='
import sys, time
import ray
from ray.exceptions import RaySystemError
deadline = time.monotonic() + 300
while True:
    try:
        ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
        break
    except (ConnectionError, RuntimeError, RaySystemError):
        pass
    if time.monotonic() > deadline:
        sys.exit("the Ray head did not start within 300 s")
    time.sleep(1)
'
python -c "$wait_for_head" "$AUTOPRUNE_RAY_ADDRESS"
if ((${#nodes[@]} > 1)); then # they join while the search begins, and it uses them as they come
  others=$((${#nodes[@]} - 1))
  srun --nodes="$others" --ntasks="$others" --exclude="$head" ray start --address="$AUTOPRUNE_RAY_ADDRESS" "${started[@]}" &
  steps+=($!)
fi

# SLURM sends USR1 two minutes before the time is up, and TERM when the job is preempted: the search ends in good order.
autoprune search "$@" &
search=$!
cut_off=
trap 'cut_off=yes; kill -INT "$search" 2>/dev/null || true' USR1 TERM
code=0
wait "$search" || code=$?
while kill -0 "$search" 2>/dev/null; do # a signal ends 'wait' before the search has ended
  code=0
  wait "$search" || code=$?
done
if [[ -n $cut_off ]] && ((code == 130)); then
  echo "cut off by SLURM: the job is queued again, and the search goes on where it stopped."
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
