#!/usr/bin/env bash
# A whole evaluation set in 16 parts, as an array job of Slurm. From the project's folder, on a disk that all nodes see:
#
#     sbatch ci/slurm/evaluate.sh MODEL=hrnet_w32 CHIP=float EVAL=coco BOXES=detections FLIP=1
#
# The words are those of `make eval`. What was stopped: the same again, or one part of it with sbatch --array=7.
#SBATCH --job-name=npumake-evaluate
#SBATCH --array=1-16
#SBATCH --cpus-per-task=2
#SBATCH --mem=3G
#SBATCH --time=24:00:00
set -euo pipefail
shards=16 # as many as --array above; not counted there, so that one part alone keeps its number
make eval "$@" SHARD="$SLURM_ARRAY_TASK_ID/$shards"
