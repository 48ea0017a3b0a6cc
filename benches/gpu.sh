#!/usr/bin/env bash
# What a real GPU does with Gridloom, in under 8 minutes: doctor, rates beside the device's own copy bandwidth, the
# README's command, conformance. Writes doctor.json, gpu.json, readme.json, conformance.txt and, for people, gpu.md.
#
#   benches/gpu.sh [FOLDER]             into target/gpu by default; without a real GPU it says so and measures nothing
#   benches/gpu.sh --rehearse [FOLDER]  all steps on whatever GPU there is, software too: small, and not built for speed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

profile=release build=release rows=10000 software=()
if [ "${1:-}" = --rehearse ]; then
  profile=dev build=debug rows=8 software=(--software)
  shift
fi
out="$(realpath -m "${1:-target/gpu}")"
mkdir -p "$out"
rm -f "$out"/{doctor,gpu,readme}.json "$out"/{gpu.md,conformance.txt}
# Vulkan's loader asks where sockets are, and complains.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" CARGO_TERM_COLOR=never

say() { printf '%s\n' "$*" | tee -a "$out/gpu.md"; }
# Runs a command, and keeps what it prints as a block of text.
quote() {
  say '```'
  "$@" 2>&1 | tee -a "$out/gpu.md"
  say '```'
}

cargo build --profile "$profile" --quiet
gridloom="target/$build/gridloom"
"$gridloom" doctor --json >"$out/doctor.json"
quote "$gridloom" doctor
cargo bench --quiet --profile "${profile/release/bench}" -p gridloom-worker --bench gpu -- \
  "${software[@]}" --json "$out/gpu.json" | tee -a "$out/gpu.md"
if [ ! -e "$out/gpu.json" ]; then
  printf '%ds: no real GPU, nothing was measured\n' "$SECONDS"
  exit
fi

# Each run is a process of its own, and compiles what it needs.
command=(reduce mean "random:${rows}x1000x1000" --axis -1 --device gpu)
say
say "\`gridloom ${command[*]}\`:"
quote "$gridloom" "${command[@]}"
"$gridloom" "${command[@]}" --json >"$out/readme.json"

GRIDLOOM_REQUIRE_GPU=1 cargo test --quiet --profile "$profile" -p gridloom-worker --test it conformance 2>&1 |
  tee "$out/conformance.txt"
say
say "conformance: $(grep '^test result' "$out/conformance.txt")"
printf '%ds, all in %s\n' "$SECONDS" "$out"
