# Shell functions for the lines of every seed. Bash runs them as root on one of the hosts node1, node2, node3, which log in to each other
# without questions.

# on HOST COMMAND...
on() { ssh "$@" </dev/null; }

# on_all COMMAND...: on every host, one after the other
on_all() { local n; for n in 1 2 3; do on node$n "$@"; done; }

# within SECONDS COMMAND...: until it succeeds
within() {
    local end=$((SECONDS + $1)); shift
    until "$@"; do
        if test $SECONDS -ge $end; then echo "did not come about: $*" >&2; return 1; fi
        sleep 0.2
    done
}

# not COMMAND...: it fails, which `set -e` does not see of `! COMMAND`
not() { ! "$@"; }
