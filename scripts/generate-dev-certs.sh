#!/bin/sh
# Makes certificates for trying things out: generate-dev-certs.sh DIR [NODES]
#
# Writes ca.crt and, for chainfire and flaredb and each node N from 1 to NODES (3), chainfire-node-N.crt and .key. Every run makes a new
# authority and throws its key away, so nothing that could sign more certificates is left lying about, and the whole set has to be
# distributed together. Not for production: there, `mainstay certs authority` keeps an authority that renews single certificates.
#
# Certificates name the node as chainfire-node-N, nodeN and localhost, and 127.0.0.1. More names: SANS="DNS:kv.example.org,IP:192.0.2.7".
#
# The work is done by `mainstay certs dev`: the one that MAINSTAY_BIN names, the one built beside this script, or the one installed.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ] || [ "$1" = --help ] || [ "$1" = -h ]; then
    echo "usage: generate-dev-certs.sh DIR [NODES]" >&2
    exit 64
fi
dir=$1
nodes=${2:-3}
case $nodes in
    '' | *[!0-9]* | 0) echo "generate-dev-certs.sh: NODES is \"$nodes\", want a number from 1" >&2; exit 64 ;;
esac

here=$(cd "$(dirname "$0")/.." && pwd)
for mainstay in "${MAINSTAY_BIN:-}" "$here/target/release/mainstay" "$here/target/debug/mainstay" "$(command -v mainstay || true)"; do
    # A build from before there was `certs` is as good as none.
    if [ -n "$mainstay" ] && [ -x "$mainstay" ] && "$mainstay" certs --help >/dev/null 2>&1; then
        exec "$mainstay" certs dev --nodes "$nodes" ${SANS:+--san "$SANS"} -- "$dir"
    fi
done
echo "generate-dev-certs.sh: mainstay is neither installed nor built; build it with: cargo build -p mainstay" >&2
exit 1
