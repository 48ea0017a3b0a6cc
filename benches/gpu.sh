#!/usr/bin/env bash
# What a real GPU does with Gridloom, in under 8 minutes without the build: doctor, rates beside the device's own copy
# bandwidth, the README's command, conformance. Writes doctor.json, gpu.json, readme.json, conformance.txt and, for
# people, gpu.md. A step that fails is told there, and the others are run all the same.
#
#   benches/gpu.sh [OUT]                    into target/gpu by default; without a real GPU it says so and measures nothing
#   benches/gpu.sh --rehearse [OUT]         all steps on whatever GPU there is, software too: small, and not built for speed
#   benches/gpu.sh --pack FOLDER            builds what is run into FOLDER, for a machine with a GPU and without Rust
#   benches/gpu.sh --packed FOLDER [OUT]    runs it there
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=measure
case "${1:-}" in --rehearse | --pack | --packed) mode="${1#--}" && shift ;; esac
profile=release rows=10000 software=()
if [ "$mode" = rehearse ]; then
  profile=dev rows=8 software=(--software)
fi
# Vulkan's loader asks where sockets are, and complains.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" CARGO_TERM_COLOR=never

# Builds an executable, as cargo is told, and says where it is.
built() {
  cargo "$@" --profile "$profile" --no-run 2>&1 | tee /dev/stderr | sed -n 's/^ *Executable .*(\(.*\))$/\1/p'
}

if [ "$mode" = packed ]; then
  folder="$(realpath "$1")" && shift
  gridloom="$folder/gridloom" bench="$folder/bench" conformance="$folder/conformance"
else
  cargo build --profile "$profile"
  gridloom="$PWD/target/${profile/dev/debug}/gridloom"
  bench="$PWD/$(built test -p gridloom-worker --bench gpu)"
  conformance="$PWD/$(built test -p gridloom-worker --test it)"
fi
if [ "$mode" = pack ]; then
  mkdir -p "$1"
  strip -o "$1/gridloom" "$gridloom"
  strip -o "$1/bench" "$bench"
  strip -o "$1/conformance" "$conformance"
  du -h "$1"/*
  exit
fi

out="$(realpath -m "${1:-target/gpu}")"
mkdir -p "$out"
rm -f "$out"/{doctor,gpu,readme}.json "$out"/{gpu.md,conformance.txt}
SECONDS=0 failed=()

say() { printf '%s\n' "$*" | tee -a "$out/gpu.md"; }
# Runs a command for at most so many seconds, and takes note if it fails. What it prints goes where the caller says.
try() { timeout "$@" || failed+=("$?: ${*:2}"); }
# The same, and what it prints is kept for people.
keep() {
  try "$@" >"$out/printed" 2>&1
  tee -a "$out/gpu.md" <"$out/printed"
  rm "$out/printed"
}
# The same, as a block of text.
quote() {
  say '```'
  keep "$@"
  say '```'
}

try 60 "$gridloom" doctor --json >"$out/doctor.json"
quote 60 "$gridloom" doctor
keep 180 "$bench" "${software[@]}" --json "$out/gpu.json"
if [ ! -e "$out/gpu.json" ] && [ "${#failed[@]}" = 0 ]; then
  printf '%ds: no real GPU, nothing was measured\n' "$SECONDS"
  exit
fi

# Each run is a process of its own, and compiles what it needs.
command=(reduce mean "random:${rows}x1000x1000" --axis -1 --device gpu)
say
say "\`gridloom ${command[*]}\`:"
quote 60 "$gridloom" "${command[@]}"
try 60 "$gridloom" "${command[@]}" --json >"$out/readme.json"

cd worker
GRIDLOOM_REQUIRE_GPU=1 try 240 "$conformance" conformance >"$out/conformance.txt" 2>&1
say
say "conformance: $(grep '^test result' "$out/conformance.txt" || echo 'no result')"
grep -E '(FAILED|panicked at)' "$out/conformance.txt" | head -40 | tee -a "$out/gpu.md" || true
for command in "${failed[@]}"; do say "FAILED, $command"; done
printf '%ds, all in %s\n' "$SECONDS" "$out"
[ "${#failed[@]}" = 0 ]
