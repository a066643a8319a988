#!/usr/bin/env bash
# Train our own weights in the background: start, or go on where the last call stopped.
#
#   benchmarks/train_own_weights.sh DATA TEACHER [STATE]   # DATA, TEACHER: as of benchmarks/complete_labels.py
#   benchmarks/train_own_weights.sh save [STATE]           # moving averages, float16, into weights/training/
#
# Runs each recipe of RECIPES on one thread, at nice 19, until it is interrupted, from a clone and an environment of its
# own in STATE (by default ~/leanpose-training), where states and logs lie too. Beside other work more threads are far
# slower: each waits for the others at every layer (docs/log.md). A new state begins with the moving average in
# weights/training/, if there is one, else with the recipe's `start`. Weights out of a run's last state:
#
#   STATE/leanpose/.venv/bin/leanpose train RECIPE data_root=STATE/data out=STATE/RECIPE resume=true decay_epochs=6
set -euo pipefail
RECIPES="${RECIPES:-sfm_256x192_endless sfm_persons_256_endless}"
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ "${1:-}" = save ]; then
    state=${2:-$HOME/leanpose-training}
    mkdir -p "$repository/weights/training"
    for recipe in $RECIPES; do
        [ ! -f "$state/$recipe/stage0/last.ckpt" ] || PYTHONPATH=$repository "$state/leanpose/.venv/bin/python" -c '
import sys
from pathlib import Path
from leanpose.training.run_state import save_average
save_average(*map(Path, sys.argv[1:]))
' "$state/$recipe" "$repository/weights/training/$recipe.safetensors"
    done
    exit
fi

data=$(cd "$1" && pwd) teacher=$(cd "$2" && pwd) state=${3:-$HOME/leanpose-training}
mkdir -p "$state"
state=$(cd "$state" && pwd) clone=$state/leanpose
[ -d "$clone" ] || git clone --quiet "$repository" "$clone"
git -C "$clone" pull --quiet --ff-only
make --silent -C "$clone" .venv/.made
[ -d "$state/data" ] || "$clone/.venv/bin/python" "$clone/benchmarks/complete_labels.py" "$data" "$teacher" "$state/data"
for recipe in $RECIPES; do
    out=$state/$recipe begin=()
    average=$clone/weights/training/$recipe.safetensors
    if [ -f "$out/stage0/last.ckpt" ]; then
        begin=(resume=true)
    elif [ -f "$average" ]; then
        begin=("start=$average")
    fi
    OMP_NUM_THREADS=1 nice -n 19 "$clone/.venv/bin/leanpose" train "$recipe" "data_root=$state/data" "out=$out" \
        "${begin[@]}" >>"$state/$recipe.log" 2>&1 &
done
wait
