#!/bin/sh
# Makes certificates for trying things out: generate-dev-certs.sh DIR [NODES]
#
# Writes ca.crt and, for chainfire and flaredb and each node N from 1 to NODES (3), chainfire-node-N.crt and .key. Every run makes a new
# authority and throws its key away, so nothing that could sign more certificates is left lying about, and the whole set has to be
# distributed together. Not for production: there, certificates come from an authority that can also revoke them.
#
# Certificates name the node as chainfire-node-N, nodeN and localhost, and 127.0.0.1. More names: SANS="DNS:kv.example.org,IP:192.0.2.7".
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
command -v openssl >/dev/null || { echo "generate-dev-certs.sh: openssl is not installed" >&2; exit 1; }

mkdir -p "$dir"
umask 077
work=$(mktemp -d "$dir/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT

new_key() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$1"
}

new_key "$work/authority"
openssl req -x509 -new -key "$work/authority" -sha256 -days 3650 -subj "/O=Mainstay development/CN=Mainstay development CA" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$work/ca.crt"

for system in chainfire flaredb; do
    node=1
    while [ "$node" -le "$nodes" ]; do
        name=$system-node-$node
        new_key "$work/$name.key"
        openssl req -new -key "$work/$name.key" -subj "/O=Mainstay development/CN=$name" -out "$work/request"
        cat > "$work/extensions" <<EXTENSIONS
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:$name, DNS:node$node, DNS:localhost, IP:127.0.0.1${SANS:+, $SANS}
EXTENSIONS
        openssl x509 -req -in "$work/request" -CA "$work/ca.crt" -CAkey "$work/authority" -CAcreateserial -sha256 -days 825 \
            -extfile "$work/extensions" -out "$work/$name.crt" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
        node=$((node + 1))
    done
done

# Complete before anything is replaced: an interrupted run leaves the old set as it was.
chmod 644 "$work"/*.crt
chmod 600 "$work"/*.key
mv "$work"/*.crt "$work"/*.key "$dir/"
echo "wrote ca.crt and certificates of $nodes nodes to $dir" >&2
