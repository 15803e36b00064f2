//! Lines of the seed about qu. Some are printed several times, at each place with another meaning; a check then names the place.

use super::Check;

/// Another build of the program, in the folder where the line is typed.
const NEW_PROGRAM: &str = "three; cd /tmp; cp /usr/bin/mainstay qu-new; printf x >>qu-new";

/// Every node in turn, while the page goes and comes back: each change is told once.
const ROLLED: &str = "test $status = 0; within 30 three_live; flips 2 & flipping=$!
    for n in 2 3; do
        scp -q qu-new node$n:/tmp/
        on node$n 'systemctl stop quptime && install -m 0755 /tmp/qu-new /usr/local/bin/qu && setcap cap_net_raw=+ep /usr/local/bin/qu &&
            systemctl start quptime'
        within 30 three_live
        test \"$(on node$n readlink '/proc/$(systemctl show -P MainPID quptime)/exe')\" = /usr/local/bin/qu
    done
    wait $flipping; sleep 3; test \"$(messages | cut -d ' ' -f 1 | paste -sd ' ')\" = 'DOWN RECOVERED DOWN RECOVERED'
    test \"$(messages | sort -u | wc -l)\" = 4; not grep -q '\"repeat\":true' $told
    for n in 1 2 3; do on node$n \"$(declare -f as_packaged); as_packaged\"; done; three";

const STATUS: &str = "test $status = 0; id='[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}'
    sed -n 1p $out | grep -Eqx \"node       $id\"; sed -n 2p $out | grep -Eqx 'term       [0-9]+'
    sed -n 3p $out | grep -Eqx \"master     $id\"; sed -n 4p $out | grep -qx 'quorum     true (need 2)'
    sed -n 5p $out | grep -Eqx 'config ver [0-9]+'
    test \"$(grep -cE \"^[* ]  $id  node[123]:9901 +true  20[0-9-]+T[0-9:]+Z$\" $out)\" = 3
    grep -Eq '^[^ ]+ +page +up +3/3 +sink\\*' $out
    # no error prefix in the journal of a healthy cluster, as the checklist wants it
    since=$(now); sleep 5; for n in 1 2 3; do not logged node$n \"$since\" 'propose to master:|replicate: pull from:'; done
    # curl on the port of nodes, without a certificate
    for n in 1 2 3; do test \"$(curl -sk --max-time 5 https://node$n:9901/healthz)\" = ok; done
    # the alert reaches the inbox, from every node
    rm -f $told; for n in 1 2 3; do quptime $n alert test sink; done; told_of 3; test \"$(messages | grep -c ' true ')\" = 3
    # a bogus target that is flipped back and forth
    rm -f $told; quptime 2 check add tcp bogus node1:9 --interval 1s --timeout 1s; within 20 check_is bogus down; within 5 told_of 1
    quptime 2 check edit bogus --target node1:22; within 20 check_is bogus up; within 5 told_of 2
    quptime 2 check remove bogus; test \"$(messages | cut -d ' ' -f 1 | paste -sd ' ')\" = 'DOWN RECOVERED'
    # the journal has the prefix when a follower cannot propose
    since=$(now); lost_quorum; not quptime 1 check add tcp late node1:22; within 10 logged node1 \"$since\" 'quptime: .*propose to master: '; three";

const RESTORED_WITH_ZERO: &str = "test $status = 0; within 10 same_files; test $(version 1) = $live; test $(version 2) = $live; three
    not logged node1 \"$since\" 'manual-edit: [1-9]'
    # the same without the group's memory, as on a new disk
    systemctl stop quptime; rm -rf /etc/quptime/raft; cp /tmp/backup-cluster.yaml /etc/quptime/cluster.yaml
    sed -i 's/^version:.*/version: 0/' /etc/quptime/cluster.yaml; systemctl start quptime; within 30 same_files; test $(version 1) = $live; three
    # and every node lost
    whole_cluster_restored";

const BACKUP_DROPPED_IN: &str =
    "three; cd /tmp; cp /etc/quptime/cluster.yaml backup-cluster.yaml; live=$(raise); since=$(now)
    systemctl stop quptime";

/// A node that has lost everything and gets the three files back is the node that it was.
const BACKED_UP: &str = "test $status = 0; test -z \"$(find $dst -perm /077)\"; test $(find $dst -type f | wc -l) = 5; node=$(id_of 1)
    systemctl stop quptime; rm -rf /etc/quptime/*; cp -a $dst/node.yaml $dst/keys $dst/cluster.yaml /etc/quptime/; systemctl start quptime
    three; test $(id_of 1) = $node; field 1 node | grep -qx $node; on_all systemctl stop quptime; three
    # quorum counts it again
    on node3 systemctl stop quptime; within 15 healthy 1 2; three";

pub(super) const CHECKS: &[Check] = &[
    // Rolling upgrade.
    at(50, "sudo systemctl stop quptime", "three", "test $status = 0; not systemctl is-active -q quptime
        test $(systemctl show -P Result quptime) = success; within 10 healthy 2 2; within 10 healthy 3 2; agree 2 3
        not sudo -u quptime qu status; raise 2; three"),
    anywhere("sudo install -m 0755 qu-new /usr/local/bin/qu", NEW_PROGRAM, "test $status = 0; test ! -L /usr/local/bin/qu
        cmp qu-new /usr/local/bin/qu; not cmp -s qu-new /usr/bin/mainstay; test $(stat -c %a /usr/local/bin/qu) = 755
        systemctl restart quptime; test $(executed) = /usr/local/bin/qu; three; as_packaged; three"),
    anywhere("sudo setcap cap_net_raw=+ep /usr/local/bin/qu # if you use raw ICMP",
        "three; cp /usr/bin/mainstay /tmp/qu-new; install -m 0755 /tmp/qu-new /usr/local/bin/qu
        # the unit gives the capability too; without that only the file's own counts
        mkdir -p /run/systemd/system/quptime.service.d; printf '[Service]\\nAmbientCapabilities=\\n' >/run/systemd/system/quptime.service.d/a.conf
        systemctl daemon-reload; systemctl restart quptime; not may_ping",
        "test $status = 0; getcap /usr/local/bin/qu | grep -q 'cap_net_raw=ep'; systemctl restart quptime; may_ping; three
        quptime 1 check add icmp ping node2 --interval 1s --timeout 1s; within 20 check_is ping up; quptime 1 check remove ping
        rm -r /run/systemd/system/quptime.service.d; systemctl daemon-reload; as_packaged; three"),
    at(59, "sudo systemctl start quptime",
        "three; rm -f $told; cd /tmp; cp /usr/bin/mainstay qu-new; printf x >>qu-new; systemctl stop quptime
        install -m 0755 qu-new /usr/local/bin/qu; setcap cap_net_raw=+ep /usr/local/bin/qu", ROLLED),
    anywhere("sudo -u quptime qu status # should show quorum true, all peers live", "three; within 20 check_is page up", STATUS),
    // Backups.
    anywhere("set -eu", "three; rm -rf /var/backups/quptime; backup_script",
        "test $status = 0; /etc/cron.daily/quptime-backup; rm -rf /var/backups/quptime; mv /etc/quptime/keys /tmp/keys-away
        if /etc/cron.daily/quptime-backup 2>/dev/null; then failed=no; else failed=yes; fi; mv /tmp/keys-away /etc/quptime/keys
        test $failed = yes; not ls /var/backups/quptime/*/cluster.yaml"),
    anywhere("dst=/var/backups/quptime/$(date +%Y%m%d)", "", "test $status = 0; eval \"$line\"; expr $dst : '/var/backups/quptime/20[0-9]\\{6\\}$'"),
    anywhere("mkdir -p \"$dst\"", "backup_begun; rm -rf /var/backups/quptime", "test $status = 0; test -d $dst"),
    anywhere("cp -a /etc/quptime/node.yaml \"$dst/\"", "backup_begun", "test $status = 0; cmp $dst/node.yaml /etc/quptime/node.yaml
        test \"$(stat -c '%U %a' $dst/node.yaml)\" = 'quptime 600'; grep -q '^cluster_secret: ' $dst/node.yaml"),
    anywhere("cp -a /etc/quptime/keys \"$dst/keys\"", "backup_begun", "test $status = 0; diff -r $dst/keys /etc/quptime/keys
        test \"$(stat -c '%U %a' $dst/keys/private.pem)\" = 'quptime 600'; openssl pkey -in $dst/keys/private.pem -noout"),
    anywhere("cp -a /etc/quptime/cluster.yaml \"$dst/cluster.yaml\"", "backup_begun", "test $status = 0
        cmp $dst/cluster.yaml /etc/quptime/cluster.yaml; test \"$(sed -n '1s/^version: [0-9]*$/version/p' $dst/cluster.yaml)\" = version
        on node2 cat /etc/quptime/cluster.yaml | cmp - $dst/cluster.yaml"),
    anywhere("chmod -R go-rwx \"$dst\"", "backup_begun; cp -a /etc/quptime/node.yaml \"$dst/\"; cp -a /etc/quptime/keys \"$dst/keys\"
        cp -a /etc/quptime/cluster.yaml \"$dst/cluster.yaml\"; chmod 755 $dst", BACKED_UP),
    at(249, "sudo systemctl stop quptime", "three; since=$(now)", "test $status = 0; not systemctl is-active -q quptime
        test -s /etc/quptime/cluster.yaml; on node2 cat /etc/quptime/cluster.yaml | cmp - /etc/quptime/cluster.yaml; three"),
    anywhere("sudo cp backup-cluster.yaml /etc/quptime/cluster.yaml", BACKUP_DROPPED_IN, "test $status = 0
        cmp backup-cluster.yaml /etc/quptime/cluster.yaml; sed -i 's/^version:.*/version: 0/' /etc/quptime/cluster.yaml; three; test $(version 1) = $live"),
    anywhere("sudo sed -i 's/^version:.*/version: 0/' /etc/quptime/cluster.yaml",
        "three; cd /tmp; cp /etc/quptime/cluster.yaml backup-cluster.yaml; live=$(raise); systemctl stop quptime; cp backup-cluster.yaml /etc/quptime/cluster.yaml",
        "test $status = 0; test \"$(sed -n 1p /etc/quptime/cluster.yaml)\" = 'version: 0'; test $(grep -c '^version:' /etc/quptime/cluster.yaml) = 1
        sed 1d /etc/quptime/cluster.yaml | cmp - <(sed 1d backup-cluster.yaml); three; test $(version 1) = $live; test $(version 3) = $live"),
    at(271, "sudo systemctl start quptime",
        "three; cd /tmp; cp /etc/quptime/cluster.yaml backup-cluster.yaml; live=$(raise); systemctl stop quptime; since=$(now)
        cp backup-cluster.yaml /etc/quptime/cluster.yaml; sed -i 's/^version:.*/version: 0/' /etc/quptime/cluster.yaml", RESTORED_WITH_ZERO),
    // Replacing a dead node.
    anywhere("sudo -u quptime qu node remove <dead-node-id>", "dead_node", "test $status = 0; grep -Eq '\\(cluster version now [0-9]+\\)$' $out
        not grep -q $dead /etc/quptime/cluster.yaml; within 5 on node2 \"! grep -q $dead /etc/quptime/cluster.yaml /etc/quptime/trust.yaml\"
        not grep -q $dead /etc/quptime/trust.yaml; healthy 1 2; grep -qx 'quorum     true (need 2)' /tmp/status.1
        # the dead one comes back later, and is told that it is out
        on node3 systemctl start quptime; status 3 || true
        within 15 eval 'status 3; grep -q \"^master     (none — removed from cluster)$\" /tmp/status.3'; replaced"),
    anywhere("sudo -u quptime qu init \\\n--advertise delta.example.com:9901 \\\n--secret '<existing cluster secret>'",
        "ssh node1 true; dead_node; quptime 1 node remove $dead; rm -rf /etc/quptime; install -d -m 0700 -o quptime -g quptime /etc/quptime",
        "test $status = 0; grep -q 'delta.example.com:9901' $out; test \"$(stat -c '%U %a' /etc/quptime/node.yaml /etc/quptime/keys/private.pem | sort -u)\" = 'quptime 600'
        systemctl start quptime; quptime 1 node add -y delta.example.com:9901; three").at("node3"),
    at(356, "sudo systemctl start quptime", "dead_node; quptime 1 node remove $dead
        rm -rf /etc/quptime; install -d -m 0700 -o quptime -g quptime /etc/quptime
        sudo -u quptime qu init --advertise delta.example.com:9901 --secret \"$secret\"",
        "test $status = 0; healthy 3 1; grep -qx 'quorum     true (need 1)' /tmp/status.3; test $(field 3 node) = $(field 3 master)
        quptime 1 node add -y delta.example.com:9901; three").at("node3"),
    anywhere("sudo -u quptime qu node add delta.example.com:9901",
        "dead_node; quptime 1 node remove $dead; fresh 3 'another secret'
        not quptime 1 node add -y delta.example.com:9901 2>/tmp/refused; grep -q 'cluster secret does not match' /tmp/refused
        fresh 3; checks=$(sed -n '/^checks:/,$p' /etc/quptime/cluster.yaml); typed=$'y\\n'",
        "test $status = 0; grep -Eq 'sha256:[0-9a-f]{64}' $out; grep -Eq '\\(cluster version now [0-9]+\\)$' $out; three
        test \"$(sed -n '/^checks:/,$p' /etc/quptime/cluster.yaml)\" = \"$checks\""),
    // Recovering from lost quorum.
    at(438, "sudo systemctl stop quptime",
        "lost_quorum; rm -f $told; quptime 1 check add tcp late node1:22 2>/tmp/refused && code=0 || code=$?; test $code = 4
        grep -q 'no quorum, change refused (live 1, need 2)' /tmp/refused; page off; sleep 8; told_of 0; page on; sleep 3",
        "test $status = 0; not systemctl is-active -q quptime; three; told_of 0"),
    anywhere("sudoedit /etc/quptime/cluster.yaml # delete the dead peers[] entries",
        "lost_quorum; before=$(version 1); systemctl stop quptime; surgeon; export SUDO_EDITOR=/tmp/surgeon",
        "test $status = 0; test \"$(stat -c '%U %a' /etc/quptime/cluster.yaml)\" = 'quptime 600'; test $(version 1) = $((before + 100))
        test $(grep -c '^  - node_id:' /etc/quptime/cluster.yaml) = 1; systemctl start quptime; within 40 healthy 1 1; found"),
    at(447, "sudo systemctl start quptime",
        "lost_quorum; before=$(version 1); systemctl stop quptime; surgeon; /tmp/surgeon /etc/quptime/cluster.yaml",
        "test $status = 0; within 40 healthy 1 1; grep -qx 'quorum     true (need 1)' /tmp/status.1; test $(field 1 master) = $(field 1 node)
        test $(field 1 'config ver') -ge $((before + 100)); within 20 check_is page up; raise 1
        # or start over
        on_all 'systemctl stop quptime; rm -rf /etc/quptime'; found"),
    // Monitoring qu itself.
    anywhere("*/5 * * * * /usr/local/bin/qu status >/dev/null 2>&1 \\\n|| curl -fsSL -X POST -d \"qu down on $(hostname)\" https://alert.example.com/oncall",
        "three; oncall", SENTINEL),
];

/// What the cron line does in each state: it is silent while all is well, also during an election, and calls otherwise.
const SENTINEL: &str = "test $status = 0; test ! -s $out; test ! -e /tmp/called
    sentinel() { rm -f /tmp/called; bash -c \"${line#\"*/5 * * * * \"}\"; }
    # an election
    master=$(field 1 master); for n in 2 3 1; do test \"$(id_of $n)\" = $master && leader=$n; done
    if test $leader = 1; then systemctl restart quptime; else on node$leader systemctl kill -s KILL quptime; fi; sentinel; test ! -e /tmp/called; three
    # no quorum
    lost_quorum; sentinel; grep -qx 'qu down on node1' /tmp/called; three
    # the daemon is stopped
    systemctl stop quptime; sentinel; grep -qx 'qu down on node1' /tmp/called; three
    # the daemon hangs
    systemctl kill -s STOP quptime; sentinel; grep -qx 'qu down on node1' /tmp/called; systemctl kill -s CONT quptime || true; three";

const fn at(number: usize, line: &'static str, before: &'static str, after: &'static str) -> Check {
    Check {
        number: Some(number),
        ..anywhere(line, before, after)
    }
}

const fn anywhere(line: &'static str, before: &'static str, after: &'static str) -> Check {
    Check {
        seed: "001",
        number: None,
        line,
        host: "node1",
        before,
        after,
    }
}
