#!/usr/bin/env bash
# What a real GPU does with Gridloom, in under 8 minutes: doctor, conformance, and rates beside the device's own copy
# bandwidth. Writes gpu.json, gpu.md and conformance.txt into the folder given (target/gpu by default).
# Without a real GPU it says so, and measures nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out="${1:-target/gpu}"
mkdir -p "$out"
# Vulkan's loader asks where sockets are, and complains.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}" CARGO_TERM_COLOR=never

cargo build --release --quiet
target/release/gridloom doctor --json >"$out/doctor.json"
{
  echo '```'
  target/release/gridloom doctor
  echo '```'
  echo
  cargo bench --quiet -p gridloom-worker --bench gpu -- --json "$PWD/$out/gpu.json"
} | tee "$out/gpu.md"

if [ -e "$out/gpu.json" ]; then
  GRIDLOOM_REQUIRE_GPU=1 cargo test --release --quiet -p gridloom-worker --test it conformance 2>&1 | tee "$out/conformance.txt"
else
  echo "no real GPU: nothing was measured" | tee "$out/conformance.txt"
fi
printf '%ds, all in %s\n' "$SECONDS" "$out"
