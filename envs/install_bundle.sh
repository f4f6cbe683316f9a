#!/bin/sh
# On the target of a bundle, as bundle/install: .venv from the wheels of the bundle alone, no network. Then `make run`.
# PYTHON=... names the interpreter, by default that of the version that the bundle was made for.
set -eu
cd "$(dirname "$0")/.."
. bundle/target.sh
PYTHON=${PYTHON:-python$VERSION}
IS_IT="import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$VERSION')"
if ! "$PYTHON" -c "$IS_IT"; then
  echo "error: $PYTHON is not Python $VERSION, for which these wheels are: PYTHON=/path/to/python$VERSION sh bundle/install" >&2
  exit 1
fi
wheels() { .uv/bin/uv pip install --quiet --offline --no-index --find-links bundle/wheels --no-deps --python .venv/bin/python "$@"; }

rm -rf .uv
"$PYTHON" -m zipfile -e bundle/wheels/uv-*.whl .uv/wheel
mkdir .uv/bin
mv .uv/wheel/uv-*.data/scripts/uv .uv/bin/uv
chmod +x .uv/bin/uv
.uv/bin/uv venv --quiet --clear --offline --python "$PYTHON" .venv
wheels --compile-bytecode --requirement bundle/requirements.txt
wheels --editable .
# What was left out of the bundle is taken from the interpreter's own packages, behind those of the bundle.
if [ -n "$WITHOUT" ]; then
  site() { "$1" -c "import sysconfig; print(sysconfig.get_path('$2'))"; }
  { site "$PYTHON" purelib; site "$PYTHON" platlib; } | sort -u > "$(site .venv/bin/python purelib)/target.pth"
fi
.venv/bin/python - "$PYTHON" $LEFT_OUT <<'END'
import sys
from importlib.metadata import PackageNotFoundError, version
for name in sys.argv[2:]:
    try:
        version(name)
    except PackageNotFoundError:
        sys.exit(f"error: {name} was left out of the bundle, and {sys.argv[1]} has none: install it there, or make the bundle with it")
END
touch .venv/installed
