#!/usr/bin/env bash
# Runs the README's two commands as on a machine that has never seen this project:
#
#   tools/fresh.sh [--demo] [--keep] [PYTHON]
#
# clones the committed state into a new folder and runs `make demo` and `make test` there, with an empty home and no
# cache (of pip, ptgc, ccache or XDG). Prints each command's exit status and time, and the size of .venv; exits with
# status 1 if one failed. PYTHON is the Python to use, for example python3.11; by default the Makefile chooses. --demo
# skips `make test`; --keep keeps the folder.
set -euo pipefail

commands=(demo test)
keep=
python=
for argument in "$@"; do
  case $argument in
    --demo) commands=(demo) ;;
    --keep) keep=1 ;;
    -*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    *) python=$("$argument" -c 'import sys; print(sys.executable)') ;;  # a shim may need the real home
  esac
done

source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/ptgc-fresh.XXXXXX")
[ -n "$keep" ] || trap 'rm -rf "$work"' EXIT
mkdir "$work/home"
git clone -q --no-hardlinks "$source" "$work/tree"
cd "$work/tree"
echo "revision $(git rev-parse --short HEAD) in $work/tree"
[ -z "$(git -C "$source" status --porcelain)" ] || echo "note: uncommitted changes are not included"

fresh=(env -u XDG_CACHE_HOME -u XDG_CONFIG_HOME -u XDG_DATA_HOME -u PIP_CACHE_DIR -u PTGC_CACHE -u HF_HOME -u CCACHE_DIR
  -u CMAKE_C_COMPILER_LAUNCHER -u CMAKE_CXX_COMPILER_LAUNCHER -u VIRTUAL_ENV -u PYTHONPATH
  HOME="$work/home" PIP_NO_CACHE_DIR=1 CCACHE_DISABLE=1)
failed=0
for command in "${commands[@]}"; do
  start=$SECONDS
  status=0
  "${fresh[@]}" make "$command" ${python:+PYTHON="$python"} || status=$?
  [ $status = 0 ] || failed=1
  echo "make $command: exit status $status, $((SECONDS - start)) s, .venv $(du -sm .venv | cut -f1) MB" \
    "($(.venv/bin/python -V), torch $(.venv/bin/python -c 'import torch; print(torch.__version__)'))"
done
exit $failed
