#!/usr/bin/env bash
# Whether everything that Umbel needs exists for aarch64 (Raspberry Pi OS of 64 bits, Jetson, Graviton) as a wheel, so
# that nothing is compiled there. Asks pip's resolver and installs nothing: deploy/arm.sh [EXTRA …]
set -euo pipefail
cd "$(dirname "$0")/.."
extras=$(IFS=,; echo "${*:-server}")
python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m pip wheel -q --no-deps --wheel-dir "$folder" .
wheel=$(ls "$folder"/umbel-*.whl)
for version in 3.11 3.12; do
  "$python" -m pip install -q --dry-run --ignore-installed --target "$folder/target" --only-binary=:all: \
    --implementation cp --python-version "$version" \
    --platform manylinux2014_aarch64 --platform manylinux_2_28_aarch64 "${wheel}[${extras}]"
  echo "aarch64, Python $version: umbel[$extras] needs no compiler"
done
