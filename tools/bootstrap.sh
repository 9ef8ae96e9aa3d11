#!/bin/sh
# Make .cache/venv from a pinned list: bootstrap.sh requirements.txt
# uv installs in seconds what takes pip most of a minute; where uv cannot be had
# or does not reach the index that pip is set up for, pip does it.
set -eu
list=$1
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
mkdir -p .cache/collections/ansible_collections/crm
ln -sfn ../../../.. .cache/collections/ansible_collections/crm/platform

if [ ! -x .cache/venv/bin/pip ]; then
    rm -rf .cache/venv
    if ! "$python" -m venv .cache/venv 2>/dev/null; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
            echo "bootstrap: $python cannot make virtual environments; install its venv module (Debian: python3-venv)" >&2
            exit 1
        fi
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
        rm -rf .cache/venv
        "$python" -m venv .cache/venv
    fi
fi
echo "  installing $list"
pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 .cache/venv/bin/pip -q"
if $pip install uv==0.13.9 2>.cache/bootstrap.log &&
    VIRTUAL_ENV=.cache/venv .cache/venv/bin/uv pip install -q --require-hashes -r "$list" 2>>.cache/bootstrap.log; then
    :
else
    $pip install --require-hashes -r "$list"
fi
cp "$list" ".cache/${list%.txt}.installed"
