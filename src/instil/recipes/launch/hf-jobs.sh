#!/bin/bash
# Hugging Face Jobs: train on rented machines, with the run folder in a bucket of the Hub.
#
#     instil recipe show launch/hf-jobs > hf-jobs.sh
#     bash hf-jobs.sh USER/BUCKET --data openai/gsm8k --model Qwen/Qwen2.5-0.5B --adapter lora
#
# One machine; `hf jobs hardware` lists them. After a failure the job starts anew, up to three times, and continues from
# the bucket. `hf jobs logs JOB` follows it.
#
# The options are checked against huggingface_hub (hf jobs run --dry-run). No job was run: it costs money.
set -eu
bucket=$1
shift

exec hf jobs run --flavor "${FLAVOR:-a100-large}" --timeout "${TIMEOUT:-12h}" --attempts 3 --secrets HF_TOKEN \
  --volume "hf://buckets/$bucket:/outputs" ${DRY_RUN:+--dry-run} \
  "${IMAGE:-python:3.12}" \
  bash -c 'pip install instil && exec instil train "$@" --output /outputs/run --resume' instil "$@"
