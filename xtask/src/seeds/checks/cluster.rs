//! Lines about several members: who belongs, who leads, what is lost and mended, and the logs of all that.

use super::{Check, on_chainfire};

const THREE: &str = "three";
const LEFT: &str = "removed; systemctl is-active chainfire || systemctl start chainfire";
const KEPT_AND_WHOLE: &str = "test $status = 0; mended";
const ADDED_AGAIN: &str = "test $status = 0; grep -q 'no leader elected: start node' $out
    client member-add --node-id 2 --peer-url node2:2380; client member-add --node-id 3 --peer-url node3:2380
    on node2 systemctl start chainfire; on node3 systemctl start chainfire; mended";
const FIRST_OF_THREE: &str = "split_brain; systemctl start chainfire";
const CLOSED_BY_FIREWALL: &str = "systemctl start firewalld; firewall-cmd --permanent --remove-port=2379-2381/tcp >/dev/null || true; firewall-cmd --reload";
const OPENED_BY_FIREWALL: &str =
    "test $status = 0; grep -qx success $out; firewall-cmd --reload; ports=$(firewall-cmd --list-ports)
    systemctl stop firewalld; three; echo $ports | grep -qw $(echo \"$line\" | grep -oE '[0-9]+/tcp')";
const BACKED_UP: &str =
    "three; client put kept yes; sudo -u chainfire chainfire-client backup --dir /var/backups/chainfire";

pub(super) const CHECKS: &[Check] = &[
    // Node cannot join cluster.
    on_chainfire(
        "ssh NEW_NODE_IP \"sudo iptables -L -n | grep 2380\"",
        "on node3 iptables -A INPUT -p tcp --dport 2380 -j ACCEPT",
        "test $status = 0; grep -q 'ACCEPT .*dpt:2380' $out; on node3 iptables -F",
    ),
    on_chainfire(
        "ssh NEW_NODE_IP \"grep -A5 '\\[network.tls\\]' /etc/centra-cloud/chainfire.toml\"",
        "secured",
        "test $status = 0; grep -q '^cert_file = .*chainfire-node-3.crt' $out; grep -q '^ca_file' $out; plain",
    ),
    on_chainfire(
        "ssh LEADER_NODE \"journalctl -u chainfire -n 50 | grep -i 'add.*node'\"",
        "removed; client member-add --node-id 3 --peer-url node3:2380; leader=node1",
        "test $status = 0; grep -q 'INFO chainfire_raft: Adding node to cluster, node_id=3, addr=node3:2380' $out; mended",
    ),
    on_chainfire("sudo firewall-cmd --permanent --add-port=2379/tcp", CLOSED_BY_FIREWALL, OPENED_BY_FIREWALL).at("node3"),
    on_chainfire("sudo firewall-cmd --permanent --add-port=2380/tcp", CLOSED_BY_FIREWALL, OPENED_BY_FIREWALL).at("node3"),
    on_chainfire("sudo firewall-cmd --permanent --add-port=2381/tcp", CLOSED_BY_FIREWALL, OPENED_BY_FIREWALL).at("node3"),
    on_chainfire(
        "sudo firewall-cmd --reload",
        "systemctl start firewalld; for port in 2379 2380 2381; do firewall-cmd --permanent --add-port=$port/tcp; done
         ! ssh node1 nc -z -w 2 node3 2380",
        "test $status = 0; grep -qx success $out; ssh node1 nc -z -w 5 node3 2380; systemctl stop firewalld; three",
    )
    .at("node3"),
    on_chainfire(
        "sudo vi /etc/centra-cloud/chainfire.toml",
        "three; typed=$':%s/bootstrap = true/bootstrap = false/\\r:wq\\r'",
        "test $status = 0; grep -qx 'bootstrap = false' /etc/centra-cloud/chainfire.toml
         sudo -u chainfire chainfire --config /etc/centra-cloud/chainfire.toml --check-config; systemctl restart chainfire; configure ''; three",
    )
    .at("node3"),
    // No leader.
    on_chainfire(
        "for node in node1 node2 node3; do\necho \"=== $node ===\"\nssh $node \"journalctl -u chainfire -n 20 | grep -i \
         'raft\\|leader\\|election'\"\ndone",
        "stop_all; three",
        "test $status = 0; test $(grep -cE '^=== node[123] ===$' $out) = 3; test $(grep -c 'Leader elected' $out) -ge 3",
    ),
    on_chainfire(
        "for node in node1 node2 node3; do\nfor peer in node1 node2 node3; do\necho \"$node -> $peer:\"\nssh $node \"ping -c 3 \
         $peer\"\ndone\ndone",
        "",
        "test $status = 0; test $(grep -c '3 received, 0% packet loss' $out) = 9",
    ),
    on_chainfire(
        "RUNNING_NODES=$(for node in node1 node2 node3; do ssh $node \"systemctl is-active chainfire\" 2>/dev/null; done | grep -c \
         active)",
        THREE,
        "test $status = 0; test $RUNNING_NODES = 3",
    ),
    on_chainfire(
        "echo \"Running nodes: $RUNNING_NODES (need >= 2 for quorum)\"",
        "RUNNING_NODES=3",
        "test $status = 0; grep -qx 'Running nodes: 3 (need >= 2 for quorum)' $out",
    ),
    on_chainfire(
        "ssh node1 \"sudo systemctl start chainfire\"",
        "three; stop_all",
        "test $status = 0; systemctl is-active chainfire; ! chainfire-client --timeout 2s put seeds/probe x
         on node2 systemctl start chainfire; within 30 knows_leader; three",
    ),
    on_chainfire(
        "ssh node2 \"sudo systemctl start chainfire\"",
        "three; stop_all; systemctl start chainfire",
        "test $status = 0; within 30 knows_leader; client put seeds/probe x; three",
    ),
    on_chainfire(
        "ssh node3 \"sudo systemctl start chainfire\"",
        "three; on node3 systemctl stop chainfire; client put kept yes",
        "test $status = 0; mended",
    ),
    on_chainfire(
        "ssh ISOLATED_NODE \"sudo systemctl restart chainfire\"",
        "three; old=$(on node3 systemctl show -P MainPID chainfire)
         on node3 'iptables -A INPUT -p tcp --dport 2380 -j DROP; iptables -A INPUT -p tcp --sport 2380 -j DROP'
         alone() { on node3 chainfire-client status | grep -qx 'leader: none'; }
         within 60 alone; on node3 iptables -F; client put kept yes",
        "test $status = 0; test \"$(on node3 systemctl show -P MainPID chainfire)\" != \"$old\"; mended",
    ),
    on_chainfire(
        "for node in node1 node2 node3; do\nssh $node \"sudo systemctl stop chainfire\"\ndone",
        THREE,
        "test $status = 0; for n in 1 2 3; do on node$n '! systemctl is-active --quiet chainfire'; done; three",
    ),
    on_chainfire(
        "ssh node2 \"sudo rm -rf /var/lib/chainfire/*\"",
        "split_brain",
        "test $status = 0; test -z \"$(on node2 ls /var/lib/chainfire)\"; systemctl start chainfire
         on node2 systemctl start chainfire; client member-add --node-id 2 --peer-url node2:2380; client member-add --node-id 3 --peer-url \
         node3:2380; on node3 systemctl start chainfire; mended",
    ),
    on_chainfire(
        "ssh node3 \"sudo rm -rf /var/lib/chainfire/*\"",
        "three; client put kept yes; on node3 systemctl stop chainfire",
        "test $status = 0; test -z \"$(on node3 ls /var/lib/chainfire)\"; mended",
    ),
    on_chainfire(
        "chainfire-client --endpoint http://node1:2379 member-add --node-id 2 --peer-url node2:2380",
        FIRST_OF_THREE,
        ADDED_AGAIN,
    ),
    on_chainfire(
        "chainfire-client --endpoint http://node1:2379 member-add --node-id 3 --peer-url node3:2380",
        FIRST_OF_THREE,
        ADDED_AGAIN,
    ),
    // High write latency.
    on_chainfire(
        "for node in node1 node2 node3; do\necho \"=== $node ===\"\nping -c 10 $node\ndone",
        "",
        "test $status = 0; test $(grep -c '10 received, 0% packet loss' $out) = 3",
    ),
    on_chainfire(
        "journalctl -u chainfire -n 500 | grep -i stall",
        "three; printf '[storage]\\nwrite_buffer_size = 65536\\nlevel0_file_num_compaction_trigger = 1\\nmax_background_flushes = 1\\n' \
         >> /etc/centra-cloud/chainfire.toml
         start=$(date '+%F %T'); systemctl restart chainfire; within 60 three_voters; head -c 1000000 /dev/urandom | base64 -w0 > /tmp/value
         pushed() { for k in $(seq 20); do client put seeds/stall < /tmp/value >/dev/null; done; logged \"$start\" stall; }
         within 60 pushed",
        "test $status = 0; grep -Eq 'WARN chainfire_storage: RocksDB stall detected, duration=[0-9]+ms' $out
         client del seeds/stall; configure ''; systemctl restart chainfire; three",
    ),
    on_chainfire(
        "mount | grep /var/lib/chainfire",
        "systemctl stop chainfire; mount --bind /var/lib/chainfire /var/lib/chainfire",
        "test $status = 0; grep -q ' on /var/lib/chainfire type ' $out; umount /var/lib/chainfire; three",
    ),
    // Data inconsistency.
    on_chainfire(
        "LATEST_BACKUP=$(ls -t /var/backups/chainfire/*.tar.gz | head -1)",
        BACKED_UP,
        "test $status = 0; test -f \"$LATEST_BACKUP\"; test -z \"$(find /var/backups/chainfire -name '*.tar.gz' -newer \"$LATEST_BACKUP\")\"",
    ),
    on_chainfire(
        "sudo tar -xzf \"$LATEST_BACKUP\" -C /var/lib/chainfire --strip-components=1",
        "three; client put kept yes; sudo -u chainfire chainfire-client backup --dir /var/backups/chainfire; client put later yes
         systemctl stop chainfire; mv /var/lib/chainfire /var/lib/chainfire.corrupted; mkdir -p /var/lib/chainfire
         LATEST_BACKUP=$(ls -t /var/backups/chainfire/*.tar.gz | head -1)",
        "test $status = 0; test -f /var/lib/chainfire/CURRENT; chown -R chainfire:chainfire /var/lib/chainfire; systemctl start chainfire; mended
         test \"$(chainfire-client --endpoint http://node1:2379 get later --print-value-only)\" = yes; rm -rf /var/lib/chainfire.corrupted",
    ),
    on_chainfire(
        "chainfire-client --endpoint http://LEADER_IP:2379 member-remove --node-id FAILED_NODE_ID",
        "lead 1; client put kept yes",
        "test $status = 0; ! client member-list | grep -q '^3 '; within 30 on node3 '! systemctl is-active --quiet chainfire'
         wipe 3; on node3 systemctl start chainfire; client member-add --node-id 3 --peer-url node3:2380; mended",
    ),
    on_chainfire(
        "chainfire-client --endpoint http://LEADER_IP:2379 member-add \\\n--node-id FAILED_NODE_ID \\\n--peer-url \
         FAILED_NODE_IP:2380 \\\n--learner",
        LEFT,
        "test $status = 0; within 60 caught_up; client member-list | grep -Eq '^3 +.* started +learner '
         client member-promote --node-id 3; mended",
    ),
    on_chainfire(
        "chainfire-client --endpoint http://LEADER_IP:2379 member-promote --node-id FAILED_NODE_ID",
        "learner",
        KEPT_AND_WHOLE,
    ),
    // TLS.
    on_chainfire(
        "openssl s_client -connect NODE_IP:2379 \\\n-CAfile /etc/centra-cloud/certs/ca.crt \\\n-cert \
         /etc/centra-cloud/certs/chainfire-node-1.crt \\\n-key /etc/centra-cloud/certs/chainfire-node-1.key",
        "secured",
        "test $status = 0; grep -q 'Verify return code: 0 (ok)' $out; plain",
    ),
    on_chainfire(
        "for node in node1 node2 node3; do\nscp /etc/centra-cloud/certs/* $node:/etc/centra-cloud/certs/\ndone",
        "cd /usr/share/mainstay; ./scripts/generate-dev-certs.sh /etc/centra-cloud/certs; on node3 'rm -f /etc/centra-cloud/certs/*'",
        "test $status = 0; cmp <(on node3 cat /etc/centra-cloud/certs/ca.crt) /etc/centra-cloud/certs/ca.crt",
    ),
    on_chainfire(
        "for node in node1 node2 node3; do\nssh $node \"sudo systemctl restart chainfire\"\ndone",
        "three; old=$(on_all systemctl show -P MainPID chainfire)",
        "test $status = 0; for pid in $(on_all systemctl show -P MainPID chainfire); do ! echo \"$old\" | grep -qx $pid; done; three",
    ),
    on_chainfire(
        "for node in node1 node2 node3; do\nscp /tmp/new-certs/* $node:/etc/centra-cloud/certs/\nssh $node \"sudo chown -R \
         chainfire:chainfire /etc/centra-cloud/certs\"\nssh $node \"sudo chmod 600 /etc/centra-cloud/certs/*.key\"\ndone",
        "secured; cd /usr/share/mainstay; rm -rf /tmp/new-certs; ./scripts/generate-dev-certs.sh /tmp/new-certs",
        "test $status = 0; for n in 1 2 3; do cmp <(on node$n cat /etc/centra-cloud/certs/ca.crt) /tmp/new-certs/ca.crt; done
         test \"$(on node3 stat -c %U:%a /etc/centra-cloud/certs/chainfire-node-3.key)\" = chainfire:600
         on_all systemctl restart chainfire; within 60 secure_put 1 2 3; plain",
    ),
    // Logs.
    on_chainfire(
        "journalctl -u chainfire --since \"1 hour ago\" | grep ERROR",
        "one_down",
        "test $status = 0; grep -q 'ERROR chainfire_network: Failed to connect to peer, .*addr=node2:2380' $out; three",
    ),
    on_chainfire(
        "journalctl -u chainfire --since \"1 day ago\" | grep ERROR | awk '{print $NF}' | sort | uniq -c | sort -rn",
        "one_down",
        "test $status = 0; grep -Eq '^ +[0-9]+ addr=node2:2380$' $out; three",
    ),
    on_chainfire(
        "journalctl -u chainfire -n 10000 | grep -E 'latency=[0-9]{3,}ms'",
        "three; on node2 systemctl stop chainfire; on node3 systemctl stop chainfire
         ! chainfire-client --timeout 30s put seeds/probe x",
        "test $status = 0; grep -Eq 'chainfire_api: .* put request, latency=[0-9]{3,}ms' $out; three",
    ),
    on_chainfire(
        "journalctl -u chainfire -n 5000 | grep -i 'connection refused\\|timeout\\|unreachable'",
        "one_down",
        "test $status = 0; grep -qi 'Failed to connect to peer.*connection refused' $out; three",
    ),
    on_chainfire(
        "journalctl -u chainfire | grep -i 'lag\\|behind\\|catch.*up'",
        "lead 1; start=$(date '+%F %T'); on node3 systemctl stop chainfire
         for k in $(seq 3000); do test $k = 1 || echo next; echo 'url=http://node1:2379/v3/kv/put'; echo 'output=/dev/null'
         echo 'data={\"key\":\"YQ==\",\"value\":\"YQ==\"}'; done | curl -fsS -K -; on node3 systemctl start chainfire; within 60 logged \"$start\" 'Follower is behind'",
        "test $status = 0; grep -Eq 'chainfire_raft: Follower is behind, node_id=3, lag=[0-9]+' $out; client del a; three",
    ),
];
