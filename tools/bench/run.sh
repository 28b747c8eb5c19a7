#!/usr/bin/env bash
# Exports, builds and measures: tools/bench/run.sh PART FOLDER
#   copies   SmolLM2-135M, n-gram, every precision, beside the installed peers
#   pair     TinyLlama-1.1B with stories15M as its drafter, on stories
#   drafters SmolLM2-135M, every drafter that needs no other model and those in tools/train/drafters, every precision
#   small    what ptgc costs around its engines, including small ones
set -euo pipefail
part=$1 folder=$2
cd "$(dirname "$0")/../.."
mkdir -p "$folder"
threads=2 precisions="float32 int8 int4"
fetch() { python tools/fetch_models.py "$1" | tail -n 1; }
builds() { echo "onnxruntime-cpu-float32,onnxruntime-cpu-int8,onnxruntime-cpu-int4"; }
export_bundle() { [ -d "$1" ] || ptgc export "$2" -o "$1" "${@:3}"; }
build_all() { for precision in $precisions; do ptgc build "$1" --precision $precision --num-threads $threads --replace; done; }

case $part in
copies)
  model=$(fetch smollm2-135m-instruct)
  export_bundle "$folder/ngram" "$model" --strategy ngram
  export_bundle "$folder/plain" "$model" --strategy autoregressive
  build_all "$folder/ngram"
  build_all "$folder/plain"
  ptgc bench "$folder/ngram" --build "$(builds)" --plain-bundle "$folder/plain" --model "$model" \
    --num-threads $threads --repeats 1 --report "$folder/copies.json"
  ;;
pair)
  model=$(fetch tinyllama-1.1b-chat) drafter=$(fetch stories15m)
  export_bundle "$folder/pair" "$model" --strategy draft-model --drafter "$drafter"
  build_all "$folder/pair"
  bench_pair() { # NAME BUILDS PROMPTS PEER MORE...
    ptgc bench "$folder/pair" --build "$2" --prompts "$3" --against "$4" --model "$model" --drafter "$drafter" \
      --max-new-tokens 64 --num-threads $threads --repeats 1 --report "$folder/pair-$1.json" "${@:5}"
  }
  integers=onnxruntime-cpu-int8,onnxruntime-cpu-int4
  bench_pair integers $integers story onnxruntime-genai
  bench_pair kinds $integers chat,code onnxruntime-genai --num-prompts 3 # its drafter ends at 256 tokens
  bench_pair float32 onnxruntime-cpu-float32 story onnxruntime-genai --num-prompts 5 # 4.4 GB a copy
  bench_pair float32-alone onnxruntime-cpu-float32 story autoregressive
  bench_pair transformers onnxruntime-cpu-int8 story transformers --num-prompts 3
  ;;
drafters)
  model=$(fetch smollm2-135m-instruct)
  names="suffix recycling lookahead jacobi layer-skip"
  export_bundle "$folder/ngram" "$model" --strategy ngram
  for name in suffix recycling lookahead jacobi; do export_bundle "$folder/$name" "$model" --strategy $name; done
  export_bundle "$folder/layer-skip" "$model" --strategy layer-skip --num-layers 8
  for drafter in tools/train/drafters/*/; do
    name=$(basename "$drafter") && name=${name##*-} # MODEL-STRATEGY
    case $name in medusa) given=--heads ;; *) given=--drafter ;; esac
    export_bundle "$folder/$name" "$model" --strategy "$name" "$given" "$drafter"
    names="$names $name"
  done
  export_bundle "$folder/plain" "$model" --strategy autoregressive
  for name in ngram plain $names; do build_all "$folder/$name"; done
  beside=$(printf "$folder/%s," $names)
  ptgc bench "$folder/ngram" --build "$(builds)" --beside "${beside%,}" --plain-bundle "$folder/plain" --model "$model" \
    --against transformers,onnxruntime-genai --num-threads $threads --num-prompts 8 --repeats 1 \
    --report "$folder/drafters.json"
  ;;
small)
  model=$(fetch smollm2-135m-instruct)
  export_bundle "$folder/ngram" "$model" --strategy ngram
  for length in 4096 544; do
    ptgc build "$folder/ngram" --precision int8 --max-length $length --num-threads $threads --replace
  done
  build_all "$folder/ngram"
  python tools/bench/bench_host.py --bundle "$folder/ngram" --threads $threads --report "$folder/host.json"
  export_bundle "$folder/stories15m" "$(fetch stories15m)" --strategy ngram
  ptgc build "$folder/stories15m" --precision int8 --num-threads $threads --replace
  python tools/bench/bench_host.py --bundle "$folder/stories15m" --precision int8 --prompts story --num-prompts 6 \
    --repeats 6 --max-new-tokens 160 --threads $threads --report "$folder/host-small.json"
  ;;
*)
  sed -n '2,6s/^# //p' "$0" >&2
  exit 2
  ;;
esac
