//! icmp: loopback addresses, where echoes are permitted.

use probe::IcmpMode;
use quptime::document::{Check, CheckKind};
use serde_json::json;

use crate::row::{Row, check, question};

pub(crate) fn rows() -> Vec<Row> {
    let settings = probe::Settings::new("0");
    let prober = probe::Prober::new(settings, service::SystemClock::shared()).unwrap();
    if matches!(prober.icmp_mode(), IcmpMode::None(_)) {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for host in 1..=9u8 {
        let target = format!("127.0.0.{host}");
        for count in [1, 3] {
            let check = Check {
                icmp_count: count,
                ..check(CheckKind::Icmp, &target)
            };
            let question = question("icmp", &target, &json!({ "preferred_ip_protocol": "ip4" }));
            rows.push(Row::same(
                format!("icmp {target}, {count} echoes"),
                check,
                question,
                true,
            ));
        }
    }
    rows
}
