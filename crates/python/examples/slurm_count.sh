#!/usr/bin/env bash
# Counts n-grams of a text on a Slurm cluster; the files are those of one `surprisal count`, to the byte:
#
#     slurm_count.sh corpus.txt lm.ngram 64 --order 5 -- --smoothing kneser_ney
#
# submits an array of 64 tasks, each of which counts a part, and a job after them that adds the parts up. The text, the output and
# the folder between them, lm.ngram.parts, are on a file system that all machines share. Options are those of `surprisal count`,
# and after -- those of `surprisal merge`. A task that was killed and is run again replaces nothing that is whole.
#SBATCH --job-name=surprisal
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --requeue
set -euo pipefail
if [ $# -lt 3 ]; then
  echo "usage: slurm_count.sh TEXT OUT PARTS [OPTION ...] [-- OPTION ...]" >&2
  exit 2
fi
text=$1 out=$2 parts=$3
folder=$out.parts threads=${SLURM_CPUS_PER_TASK:-1}
of_count=() of_merge=() is_merge=
for option in "${@:4}"; do
  if [ -n "$is_merge" ]; then of_merge+=("$option"); elif [ "$option" = -- ]; then is_merge=yes; else of_count+=("$option"); fi
done
case ${SURPRISAL_STEP:-submit} in
  submit)
    mkdir -p "$folder"
    export SURPRISAL_STEP
    SURPRISAL_STEP=part
    counting=$(sbatch --parsable --array="1-$parts" "$0" "$@")
    SURPRISAL_STEP=whole
    sbatch --parsable --dependency="afterok:${counting%%;*}" "$0" "$@"
    ;;
  part)
    part=$SLURM_ARRAY_TASK_ID
    counts=$folder/$part.counts
    # Files are written whole, so one that exists needs no second counting.
    if [ ! -e "$counts" ]; then
      surprisal count "$text" --quiet --threads "$threads" --shard "$part/$parts" --out "$counts" "${of_count[@]}"
    fi
    ;;
  whole)
    if [ ! -d "$folder" ]; then exit; fi # is run again after its end
    counts=()
    for ((part = 1; part <= parts; part++)); do counts+=("$folder/$part.counts"); done
    surprisal merge "${counts[@]}" --quiet --threads "$threads" --out "$out" "${of_merge[@]}"
    rm -r "$folder"
    ;;
esac
