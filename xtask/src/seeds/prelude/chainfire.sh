# Shell functions around each line of the seed about Chainfire; the hosts are the three members of a cluster.

all=http://node1:2379,http://node2:2379,http://node3:2379
# Who joins, who is cut off, and who failed, in the lines that name them so.
new=node3 isolated=node3 failed=3

client() { chainfire-client --endpoint "$all" "$@"; }

# The settings of three members, with what is given put below [network]; "@" stands for the number of the node there.
configure() {
    local scheme=http
    case "$1" in *tls*) scheme=https ;; esac
    for n in 1 2 3; do
        ssh node$n "cat > /etc/centra-cloud/chainfire.toml" <<TOML
[node]
id = $n
name = "chainfire-node-$n"

[cluster]
id = 1
bootstrap = true
initial_members = ["1=node1:2380", "2=node2:2380", "3=node3:2380"]

[network]
api_addr = "0.0.0.0:2379"
raft_addr = "0.0.0.0:2380"
gossip_addr = "0.0.0.0:2381"
advertise_api_url = "$scheme://node$n:2379"
advertise_raft_addr = "node$n:2380"

${1//@/$n}
TOML
    done
}

knows_leader() { leader=$(client --timeout 3s status 2>/dev/null | sed -n 's/^leader: \([123]\)$/node\1/p'); test -n "$leader"; }

serves() { curl -fsS -o /dev/null --max-time 3 http://$1:2379/readyz 2>/dev/null; }

three_voters() {
    serves node1 && serves node2 && serves node3 && knows_leader \
        && client member-list >/tmp/members 2>/dev/null && test "$(grep -cE ' started +(leader|voter) ' /tmp/members)" = 3
}

# All three run, vote and serve; $leader is who leads.
three() {
    on_all "systemctl reset-failed chainfire 2>/dev/null; systemctl start chainfire"
    within 60 three_voters
}

# lead N: the same, and node N leads
lead() {
    three
    test $leader = node$1 || client leader-transfer --to $1 >/dev/null
    within 30 leads $1
}

leads() { knows_leader && test $leader = node$1; }

stop_all() { on_all systemctl stop chainfire; }

# wipe N...: stops nodes and deletes what they have
wipe() { for n in "$@"; do on node$n 'systemctl stop chainfire; rm -rf /var/lib/chainfire/*'; done; }

# A new cluster, whatever was before.
found() {
    on_all 'systemctl stop chainfire firewalld 2>/dev/null; iptables -F; umount -q /var/lib/chainfire; rm -rf /var/lib/chainfire /var/lib/chainfire.*
        install -d -m 700 -o chainfire -g chainfire /var/lib/chainfire'
    configure ''
    three
}

# Three nodes of which only the first has kept its data; none runs.
split_brain() {
    three
    client put kept yes >/dev/null
    stop_all
    wipe 2 3
}

# What has to be true at the end of every recipe: all run and vote, and nothing is lost.
mended() {
    three
    for n in 1 2 3; do
        test "$(chainfire-client --endpoint http://node$n:2379 get kept --print-value-only)" = yes
    done
}

# Node 3 is gone from the cluster, its data too, and it runs again.
removed() {
    lead 1
    client put kept yes >/dev/null
    client member-remove --node-id 3 >/dev/null
    within 30 on node3 '! systemctl is-active --quiet chainfire'
    wipe 3
    on node3 systemctl start chainfire
}

caught_up() { client member-list | grep -Eq '^3 .* 0$'; }

# Node 3 is back as a learner that has everything.
learner() {
    removed
    client member-add --node-id 3 --peer-url node3:2380 --learner >/dev/null
    within 60 caught_up
}

# A line of the log of this host.
logged() { journalctl -u chainfire --since "$1" --no-pager | grep -Eq "$2"; }

# Node 2 is down, and this host has said that it cannot reach it.
one_down() {
    three
    start=$(date '+%F %T')
    on node2 systemctl stop chainfire
    within 60 logged "$start" 'ERROR chainfire_network: Failed to connect to peer.*addr=node2:2380'
}

# Certificates for all, and TLS on every port.
secured() {
    rm -rf /tmp/certs
    (cd /usr/share/mainstay && ./scripts/generate-dev-certs.sh /tmp/certs >/dev/null)
    for n in 1 2 3; do
        scp -q /tmp/certs/* node$n:/etc/centra-cloud/certs/
        on node$n 'chown chainfire:chainfire /etc/centra-cloud/certs/*; chmod 600 /etc/centra-cloud/certs/*.key'
    done
    configure '[network.tls]
cert_file = "/etc/centra-cloud/certs/chainfire-node-@.crt"
key_file = "/etc/centra-cloud/certs/chainfire-node-@.key"
ca_file = "/etc/centra-cloud/certs/ca.crt"'
    on_all systemctl restart chainfire
    within 60 secure_put 1
}

# secure_put N...: each of these nodes takes a write over TLS
secure_put() {
    for n in "$@"; do
        chainfire-client --cacert /etc/centra-cloud/certs/ca.crt --endpoint https://node$n:2379 put kept yes >/dev/null 2>&1 || return
    done
}

# Back to plain text.
plain() {
    configure ''
    on_all systemctl restart chainfire
    three
}
