//! Random bytes as the body of a request to the JSON gateway: `cargo xtask fuzz 60 gateway_json`.
//!
//! The first line names the path below `/v3`; paths that are not served are refused, all others read what follows.
#![no_main]

use chainfire::server::gateway;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (path, body) = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (&b"/kv/txn"[..], input),
    };
    let Ok(path) = std::str::from_utf8(path) else {
        return;
    };
    for prefix in ["/v3", "/v3beta"] {
        gateway::parse_body(&format!("{prefix}{path}"), body);
    }
});
