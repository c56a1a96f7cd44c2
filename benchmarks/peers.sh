#!/usr/bin/env bash
# Makes the virtual environment of a peer that the benchmarks compare with. It stays outside the checkout.
#   benchmarks/peers.sh [DIRECTORY [PEER]]       PEER is flwr (the default), pfl or nvflare
# then: python benchmarks/run.py --PEER-python DIRECTORY/bin/python
set -euo pipefail
peer="${2:-flwr}"
venv="${1:-${TMPDIR:-/tmp}/venv-$peer}"
python="${PYTHON:-python3}"
export PIP_DISABLE_PIP_VERSION_CHECK=1

flwr() {
  "$venv/bin/pip" install -q --no-deps "flwr==${FLWR_VERSION:-1.42.0}"
  # flwr's own requirements, with the floor of certifi (a list of certificates, unused here) left to the index
  "$venv/bin/python" - > "$venv/flwr-requirements.txt" <<'PY'
from importlib.metadata import requires

for line in requires("flwr") or []:
    requirement, _, marker = line.partition(";")
    if "extra ==" in marker and "simulation" not in marker:
        continue
    if requirement.startswith("certifi"):
        requirement = "certifi"
    marker = marker.split(" and extra ==")[0].strip()
    print(requirement.strip() + (f"; {marker}" if marker and "extra ==" not in marker else ""))
print("protobuf<7")
PY
  "$venv/bin/pip" install -q -r "$venv/flwr-requirements.txt"
  "$venv/bin/python" -c 'import flwr, ray, torch; print("flwr", flwr.__version__, "ray", ray.__version__, "torch", torch.__version__)'
}

pfl() {
  "$venv/bin/pip" install -q "pfl==${PFL_VERSION:-0.6.0}"
  "$venv/bin/python" -c 'import torch; from pfl.version import __version__; print("pfl", __version__, "torch", torch.__version__)'
}

nvflare() {
  "$venv/bin/pip" install -q "nvflare==${NVFLARE_VERSION:-2.9.0}"
  "$venv/bin/python" -c 'import nvflare, torch; print("nvflare", nvflare.__version__, "torch", torch.__version__)'
}

case "$peer" in
  flwr | pfl | nvflare) ;;
  *) echo "peers.sh: there is no peer $peer; there are flwr, pfl and nvflare" >&2; exit 2 ;;
esac
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# torch first and pinned, so that what follows finds it installed and does not fetch another build
"$venv/bin/pip" install -q "torch==2.13.0" numpy
"$peer"
