#!/bin/sh
# Installs the pipeline into a virtual environment from the files beside this one, and asks no
# network for anything: ./install.sh [FOLDER]   (default: ./venv). PYTHON=... names the Python to use.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=${1:-$here/venv}
wanted=$(cat "$here/python")

(cd "$here" && sha256sum --check --quiet SHA256SUMS) || {
  echo "install.sh: the bundle is damaged, see above; copy it again" >&2
  exit 1
}

python=""
found=""
for candidate in ${PYTHON:-"python$wanted" python3 python}; do
  version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  if [ "$version" = "$wanted" ] && "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
    python=$candidate
    break
  fi
  found="$found, $candidate is $version"
done
if [ -z "$python" ]; then
  found=${found#, }
  echo "install.sh: needs Python $wanted with venv, for which the wheels were made; found:" \
    "${found:-none}. Name one with PYTHON=..." >&2
  exit 1
fi

# What a person or a machine has set for pip or Python must not lead elsewhere.
unset PYTHONPATH PYTHONHOME
install() {
  PIP_CONFIG_FILE=/dev/null "$target/bin/python" -m pip --isolated --disable-pip-version-check \
    install --quiet --no-index -f "$here/wheelhouse" "$@"
}

"$python" -m venv "$target"
install -c "$here/constraints.txt" -r "$here/requirements.txt"
install --no-deps --ignore-requires-python -r "$here/requirements-encoders.txt"
"$target/bin/catalog-pipeline" --version
echo "installed into $target"
