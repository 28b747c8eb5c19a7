#!/usr/bin/env bash
# Exports, builds and measures a model: tools/bench/run.sh MODEL FOLDER
set -euo pipefail
model=$1 folder=$2
cd "$(dirname "$0")/../.."
mkdir -p "$folder"
[ -d "$folder/ngram" ] || ptgc export "$model" -o "$folder/ngram" --strategy ngram
[ -d "$folder/plain" ] || ptgc export "$model" -o "$folder/plain" --strategy autoregressive
for length in 4096 544; do
  ptgc build "$folder/ngram" --precision int8 --max-length $length --num-threads 2 --replace
done
for precision in float32 int8 int4; do
  ptgc build "$folder/ngram" --precision $precision --num-threads 2 --replace
  ptgc build "$folder/plain" --precision $precision --num-threads 2 --replace
done
python tools/bench/bench_genai.py --bundle "$folder/ngram" --plain-bundle "$folder/plain" --model "$model" \
  --repeats 2 --report "$folder/genai.json"
python tools/bench/bench_host.py --bundle "$folder/ngram" --report "$folder/host.json"
