# Shell functions around each line of the seed about qu; the hosts are the three nodes of a cluster. They watch a page of node1's, which
# is there while its unit `page` runs, and tell a sink on node1, which notes what it is told in a file.

secret='the secret of the lab'
told=/tmp/told
# Where the last outputs of `qu status` are kept; what runs in the background has a folder of its own.
seen=/tmp

# quptime N COMMAND...: qu on a node, as an operator types it
quptime() { local n=$1; shift; on node$n sudo -u quptime qu "$@"; }

# status N: the output of `qu status` there, in $seen/status.N
status() { quptime $1 status >$seen/status.$1 2>$seen/status.$1.err; }

# field N LABEL: the first word of that field of the last status
field() { sed -n "s/^$2 *\([^ ]*\).*/\1/p" $seen/status.$1 | head -n 1; }

# healthy N M: node N has quorum and hears M live nodes
healthy() {
    status $1 && grep -q "^quorum     true " $seen/status.$1 && test "$(grep -cE '^[* ]  [0-9a-f-]{36} .* true +[0-9]{4}-' $seen/status.$1)" = $2
}

# agree N...: these nodes name one master and one version of the configuration
agree() {
    test "$(for n in "$@"; do echo "$(field $n master) $(field $n 'config ver')"; done | sort -u | wc -l)" = 1
}

three_live() { healthy 1 3 && healthy 2 3 && healthy 3 3 && agree 1 2 3; }

same_files() {
    local sums; sums=$(on_all sha256sum /etc/quptime/cluster.yaml | sort -u | wc -l); test $sums = 1
}

# check_is NAME STATE: the check is in that state, by the first node that answers
check_is() {
    local n
    for n in 2 3 1; do
        if status $n; then
            awk -v name=$1 -v state=$2 '$2 == name { found = $3 == state } END { exit !found }' $seen/status.$n; return
        fi
    done
    return 1
}

# All three run, hear each other, and agree.
three() {
    on_all 'systemctl reset-failed quptime 2>/dev/null; systemctl start quptime'
    within 40 three_live
    within 10 same_files
}

# id N: the id of a node
id_of() { on node$1 "sed -n 's/^node_id: //p' /etc/quptime/node.yaml"; }

# raise: a change of the configuration that can be seen; prints the new version
raise() {
    local said; said=$(quptime ${1:-1} check add tcp "extra$RANDOM$RANDOM" node1:22 --interval 1m) || return
    echo "$said" | sed -n 's/.*cluster version now \([0-9]*\)).*/\1/p'
}

# version N: the first line of the file there
version() { on node$1 "sed -n '1s/^version: //p' /etc/quptime/cluster.yaml"; }

# logged HOST SINCE PATTERN
logged() { on $1 "journalctl -u quptime --since '$2' --no-pager" | grep -Eq "$3"; }

now() { sleep 1; date '+%F %T'; }

# What has been told, one message in a line: the verb, whether it was a test, and its delivery.
messages() { test ! -e $told || jq -r '"\(.verb) \(.test) \(.delivery_id)"' $told; }

# told_of N: that many messages
told_of() { test "$(messages | wc -l)" = $1; }

# The page and the sink, on node1.
serve_page_and_sink() {
    cat >/tmp/sink.py <<'PYTHON'
import http.server, ssl, sys
class Sink(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        with open(sys.argv[2], "ab") as file:
            file.write(body + b"\n")
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "3"); self.end_headers(); self.wfile.write(b"ok\n")
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Sink)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(sys.argv[3], sys.argv[4])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
PYTHON
    systemctl stop sink page 2>/dev/null || true
    rm -f $told
    systemd-run -q --unit sink --collect python3 /tmp/sink.py 8099 $told
    page on
}

# page on|off
page() {
    if test $1 = on; then systemd-run -q --unit page --collect python3 /tmp/sink.py 8088 /dev/null; else systemctl stop page; fi
}

# flips COUNT: the page goes and comes back that often; each time all that is awaited is that somebody has noticed
flips() {
    local i seen=/tmp/flips
    mkdir -p $seen
    for i in $(seq $1); do
        page off; within 30 check_is page down
        page on; within 30 check_is page up
    done
}

# fresh N [SECRET]: that node forgets everything and is initialised
fresh() {
    on node$1 "systemctl stop quptime; rm -rf /etc/quptime; install -d -m 0700 -o quptime -g quptime /etc/quptime
        sudo -u quptime qu init --advertise node$1:9901 --secret '${2-$secret}' >/dev/null && systemctl start quptime"
}

# A new cluster, whatever was before; called on node1, as everything that uses page or sink.
found() {
    on_all 'systemctl stop firewalld 2>/dev/null; rm -f /run/systemd/system/quptime.service.d/*; systemctl daemon-reload; systemctl reset-failed quptime 2>/dev/null
        rm -rf /var/backups/quptime /usr/local/bin/qu; ln -s /usr/bin/qu /usr/local/bin/qu
        sed -i "/example.com/d" /etc/hosts; echo "$(getent hosts node3 | cut -d " " -f 1) delta.example.com" >>/etc/hosts
        echo "$(getent hosts node1 | cut -d " " -f 1) alert.example.com" >>/etc/hosts'
    serve_page_and_sink
    for n in 1 2 3; do fresh $n; done
    for n in 1 2 3; do within 20 healthy $n 1; done
    quptime 1 node add -y node2:9901 >/dev/null
    quptime 1 node add -y node3:9901 >/dev/null
    three
    quptime 1 alert add webhook sink --url http://node1:8099/ --default >/dev/null
    quptime 1 check add http page http://node1:8088/ --interval 1s --timeout 1s >/dev/null
    three
    within 20 check_is page up
}

# Node 3 is dead and gone for ever; $dead is its id.
dead_node() {
    three
    dead=$(id_of 3)
    on node3 systemctl kill -s KILL quptime; on node3 systemctl stop quptime
    within 15 healthy 1 2
}

# Node 3 as a new node in the place of the dead one.
replaced() {
    fresh 3
    quptime 1 node add -y node3:9901
    three
}

# Nodes 2 and 3 are lost together; node 1 has noticed.
lost_quorum() {
    three
    for n in 2 3; do on node$n 'systemctl kill -s KILL quptime; systemctl stop quptime'; done
    within 15 no_quorum
}

no_quorum() { status 1; test $? = 3 && grep -q '^quorum     false (need 2)$' $seen/status.1 && grep -q '^master     (none — no quorum)$' $seen/status.1; }

# The editor of an operator who deletes all peers but node 1's and raises the version.
surgeon() {
    survivor=$(id_of 1)
    cat >/tmp/surgeon <<SURGEON
#!/bin/sh
awk -v kept=$survivor '
    /^version:/ { \$0 = "version: " \$2 + 100 }
    /^[a-z]/ { inside = /^peers:/; drop = 0 }
    inside && /^  - node_id:/ { drop = \$3 != kept }
    !drop' "\$1" >/tmp/operated && cat /tmp/operated >"\$1"
SURGEON
    chmod 755 /tmp/surgeon
}

# The script of the seed, as it is installed.
backup_script() {
    mkdir -p /etc/cron.daily
    cat >/etc/cron.daily/quptime-backup <<'SCRIPT'
#!/bin/sh
set -eu
dst=/var/backups/quptime/$(date +%Y%m%d)
mkdir -p "$dst"
cp -a /etc/quptime/node.yaml "$dst/"
cp -a /etc/quptime/keys "$dst/keys"
cp -a /etc/quptime/cluster.yaml "$dst/cluster.yaml"
chmod -R go-rwx "$dst"
SCRIPT
    chmod 755 /etc/cron.daily/quptime-backup
}

# Up to the line that is tried, by the seed's script.
backup_begun() {
    three
    rm -rf /var/backups/quptime
    dst=/var/backups/quptime/$(date +%Y%m%d)
    mkdir -p "$dst"
}

# Back to the package's program on this host.
as_packaged() {
    systemctl stop quptime
    rm -f /usr/local/bin/qu; ln -s /usr/bin/qu /usr/local/bin/qu
    systemctl start quptime
}

# What runs the daemon of this host.
executed() { readlink /proc/$(systemctl show -P MainPID quptime)/exe; }

# Whether that daemon may open raw sockets.
may_ping() { grep -qx 'CapEff:.0000000000002000' /proc/$(systemctl show -P MainPID quptime)/status; }

# All nodes lose everything. The files that each had backed up are put back, and of cluster.yaml the same one everywhere; then the nodes
# start one after the other.
whole_cluster_restored() {
    three
    local n before
    on_all "$(declare -f backup_script); backup_script; rm -rf /var/backups/quptime; /etc/cron.daily/quptime-backup"
    before=$(version 1)
    on_all systemctl stop quptime
    on_all 'rm -rf /etc/quptime/*; cp -a /var/backups/quptime/*/* /etc/quptime/'
    for n in 2 3; do scp -q /etc/quptime/cluster.yaml node$n:/etc/quptime/; done
    for n in 2 1 3; do on node$n systemctl start quptime; sleep 3; done
    within 60 three_live
    within 10 same_files
    test $(version 1) = $before
    within 20 check_is page up
}

# Who is called by the cron line: https://alert.example.com/oncall, on node1, whose certificate curl trusts here.
oncall() {
    rm -f /tmp/called
    test -e /tmp/alert.pem || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=alert.example.com \
        -addext subjectAltName=DNS:alert.example.com -keyout /tmp/alert.key -out /tmp/alert.pem 2>/dev/null
    systemctl stop oncall 2>/dev/null || true
    systemd-run -q --unit oncall --collect python3 /tmp/sink.py 443 /tmp/called /tmp/alert.pem /tmp/alert.key
    export CURL_CA_BUNDLE=/tmp/alert.pem
    within 10 curl -fs -o /dev/null https://alert.example.com/
}
