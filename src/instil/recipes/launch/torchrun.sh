#!/bin/bash
# torchrun: train on machines that you can log in to.
#
#     instil recipe show launch/torchrun > torchrun.sh
#     bash torchrun.sh FIRST_HOST 2 8 recipe.yaml [options of instil train]     on each of the machines
#
# FIRST_HOST is a name of one of them; then the number of machines, and the processes of each: one for each GPU. If a
# process dies, all of them start again, up to three times; they continue from the latest checkpoint.
#
# Recipe, model, data, run folder (output) and prepared data (data.store) must be on a disk that all machines see.
set -eu
first=$1 machines=$2 processes=$3
shift 3

# torchrun kills processes that need longer to save than this; its own default is 30 seconds.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-240}

exec torchrun --nnodes "$machines" --nproc-per-node "$processes" --max-restarts 3 \
  --rdzv-backend c10d --rdzv-endpoint "$first:29500" --rdzv-id instil \
  -m instil train "$@" --resume
