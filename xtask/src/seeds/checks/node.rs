//! Lines about one node: its service, its ports, its disk, its certificates.

use super::{Check, on_chainfire};

const RUNS: &str = "three";
const IS_STOPPED: &str = "systemctl stop chainfire";
const OLD_PROCESS: &str = "three; old=$(systemctl show -P MainPID chainfire)";
const OTHER_PROCESS_RUNS: &str = "test $status = 0; systemctl is-active chainfire; test \"$(systemctl show -P MainPID chainfire)\" != \"$old\"; three";
const NOW_RUNS: &str = "test $status = 0; systemctl is-active chainfire; three";
const NOW_STOPPED: &str = "test $status = 0; test \"$(systemctl is-active chainfire)\" = inactive; three";
const SUCCEEDED: &str = "test $status = 0; test -s $out";
const CONNECTED: &str = "test $status = 0; grep -q succeeded $out";
const CERTIFICATES: &str = "cd /usr/share/mainstay; ./scripts/generate-dev-certs.sh /etc/centra-cloud/certs";

pub(super) const CHECKS: &[Check] = &[
    on_chainfire(
        "chainfire-client --endpoint http://NODE_IP:2379 status",
        RUNS,
        "test $status = 0; grep -Eqx 'leader: [123]' $out; grep -Eq '^raft_index: [0-9]+$' $out; grep -Eq '^raft_term: [0-9]+$' $out",
    ),
    on_chainfire(
        "chainfire-client --endpoint http://NODE_IP:2379 member-list",
        RUNS,
        "test $status = 0; test $(grep -cE '^[123] +chainfire-node-[123] +started +(leader|voter) ' $out) = 3; test $(grep -c leader $out) = 1",
    ),
    on_chainfire(
        "chainfire-client --endpoint http://NODE1_IP:2379 member-list",
        RUNS,
        "test $status = 0; test $(grep -cE '^[123] +chainfire-node-[123] +started +(leader|voter) ' $out) = 3; test $(grep -c leader $out) = 1",
    ),
    on_chainfire(
        "chainfire-client --endpoint http://LEADER_IP:2379 status",
        RUNS,
        "test $status = 0; grep -qx 'role: leader' $out; grep -Eq '^raft_index: [0-9]+$' $out",
    ),
    on_chainfire("chainfire-client --endpoint http://node1:2379 status | grep leader", RUNS, "test $status = 0; grep -Eqx 'leader: [123]' $out"),
    on_chainfire("systemctl status chainfire", RUNS, "test $status = 0; grep -Fq 'Active: active (running)' $out"),
    on_chainfire("nc -zv NODE_IP 2379 # API port", RUNS, CONNECTED),
    on_chainfire("nc -zv NODE_IP 2380 # Raft port", RUNS, CONNECTED),
    on_chainfire("nc -zv NODE_IP 2381 # Gossip port", RUNS, CONNECTED),
    on_chainfire("nc -zv NEW_NODE_IP 2380", RUNS, CONNECTED),
    on_chainfire("ssh NEW_NODE_IP \"ss -tlnp | grep 2380\"", RUNS, "test $status = 0; grep -q ':2380 .*chainfire' $out"),
    on_chainfire("top -bn1 | head -20", "", "test $status = 0; grep -q 'load average' $out"),
    on_chainfire("top -bn1 | grep chainfire", RUNS, SUCCEEDED),
    on_chainfire("df -h", "", "test $status = 0; grep -q '% /$' $out"),
    on_chainfire("df -h /var/lib/chainfire", "", "test $status = 0; test $(wc -l < $out) = 2"),
    on_chainfire("iostat -x 1 5", "", "test $status = 0; test $(grep -c '%util' $out) = 5"),
    on_chainfire("iostat -x 1 10", "", "test $status = 0; test $(grep -c '%util' $out) = 10"),
    on_chainfire("ip link show | grep mtu", "", "test $status = 0; grep -Eq 'mtu [0-9]+' $out"),
    on_chainfire("sleep 10", "start=$SECONDS", "test $status = 0; test $((SECONDS - start)) -ge 10"),
    on_chainfire("journalctl -u chainfire -n 100 --no-pager", RUNS, "test $status = 0; grep -q 'chainfire' $out; test $(wc -l < $out) -le 101"),
    on_chainfire(
        "journalctl -u chainfire | grep \"Leader elected\" | tail -20",
        RUNS,
        "test $status = 0; grep -Eq 'INFO chainfire_raft: Leader elected, term=[0-9]+' $out",
    ),
    on_chainfire("sudo systemctl stop chainfire", RUNS, NOW_STOPPED),
    on_chainfire("sudo systemctl start chainfire", IS_STOPPED, NOW_RUNS),
    on_chainfire("sudo systemctl restart chainfire", OLD_PROCESS, OTHER_PROCESS_RUNS),
    on_chainfire(
        "rocksdb_ldb --db=/var/lib/chainfire repair",
        "three; client put kept yes; systemctl stop chainfire",
        "test $status = 0; chown -R chainfire:chainfire /var/lib/chainfire; systemctl start chainfire; mended",
    ),
    on_chainfire("rocksdb_ldb --db=/var/lib/chainfire checkconsistency", IS_STOPPED, "test $status = 0; grep -q OK $out; three"),
    on_chainfire(
        "sudo mv /var/lib/chainfire /var/lib/chainfire.corrupted",
        IS_STOPPED,
        "test $status = 0; test -d /var/lib/chainfire.corrupted; test ! -e /var/lib/chainfire
         mv /var/lib/chainfire.corrupted /var/lib/chainfire; three",
    ),
    on_chainfire(
        "sudo mkdir -p /var/lib/chainfire",
        "systemctl stop chainfire; mv /var/lib/chainfire /var/lib/chainfire.aside",
        "test $status = 0; rmdir /var/lib/chainfire; mv /var/lib/chainfire.aside /var/lib/chainfire; three",
    ),
    on_chainfire(
        "sudo chown -R chainfire:chainfire /var/lib/chainfire",
        "systemctl stop chainfire; chown -R root:root /var/lib/chainfire",
        "test $status = 0; test -z \"$(find /var/lib/chainfire ! -user chainfire)\"; systemctl start chainfire; systemctl is-active chainfire; three",
    ),
    on_chainfire(
        "sudo rm -rf /var/lib/chainfire/*",
        "three; client put kept yes; systemctl stop chainfire",
        "test $status = 0; test -z \"$(ls /var/lib/chainfire)\"; mended",
    ),
    on_chainfire("sudo ls -l /etc/centra-cloud/certs/", CERTIFICATES, "test $status = 0; grep -q chainfire-node-1.key $out"),
    on_chainfire("ls -l /etc/centra-cloud/certs/", CERTIFICATES, "test $status = 0; grep -q chainfire-node-1.key $out"),
    on_chainfire(
        "sudo chown chainfire:chainfire /etc/centra-cloud/certs/*",
        CERTIFICATES,
        "test $status = 0; test $(stat -c %U:%G /etc/centra-cloud/certs/ca.crt) = chainfire:chainfire",
    ),
    on_chainfire(
        "sudo chmod 644 /etc/centra-cloud/certs/*.crt",
        "mkdir -p /etc/centra-cloud/certs; cd /etc/centra-cloud/certs; touch ca.crt; chmod 600 ca.crt",
        "test $status = 0; test $(stat -c %a /etc/centra-cloud/certs/ca.crt) = 644",
    ),
    on_chainfire(
        "sudo chmod 600 /etc/centra-cloud/certs/*.key",
        "mkdir -p /etc/centra-cloud/certs; cd /etc/centra-cloud/certs; touch chainfire-node-1.key; chmod 644 chainfire-node-1.key",
        "test $status = 0; test $(stat -c %a /etc/centra-cloud/certs/chainfire-node-1.key) = 600",
    ),
    on_chainfire("cd /path/to/centra-cloud", "", "test $status = 0; test -x /usr/share/mainstay/scripts/generate-dev-certs.sh"),
    on_chainfire(
        "./scripts/generate-dev-certs.sh /etc/centra-cloud/certs",
        "cd /usr/share/mainstay; rm -rf /etc/centra-cloud/certs",
        "test $status = 0; cd /etc/centra-cloud/certs; openssl verify -CAfile ca.crt chainfire-node-[123].crt flaredb-node-[123].crt
         test $(stat -c %a chainfire-node-1.key) = 600",
    ),
    on_chainfire(
        "./scripts/generate-dev-certs.sh /tmp/new-certs",
        "cd /usr/share/mainstay; rm -rf /tmp/new-certs",
        "test $status = 0; cd /tmp/new-certs; openssl verify -CAfile ca.crt chainfire-node-[123].crt flaredb-node-[123].crt",
    ),
    on_chainfire(
        "openssl x509 -in /etc/centra-cloud/certs/chainfire-node-N.crt -noout -text",
        CERTIFICATES,
        "test $status = 0; grep -q 'DNS:chainfire-node-1' $out",
    ),
    on_chainfire(
        "openssl x509 -in /etc/centra-cloud/certs/chainfire-node-1.crt -noout -dates",
        CERTIFICATES,
        "test $status = 0; grep -q '^notAfter=' $out",
    ),
    on_chainfire(
        "openssl x509 -in /etc/centra-cloud/certs/ca.crt -noout -subject",
        CERTIFICATES,
        "test $status = 0; grep -q 'CN = Mainstay development CA' $out",
    ),
    on_chainfire(
        "openssl x509 -in /etc/centra-cloud/certs/chainfire-node-1.crt -noout -issuer",
        CERTIFICATES,
        "test $status = 0; grep -q 'CN = Mainstay development CA' $out",
    ),
];
