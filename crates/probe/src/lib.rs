//! One look at a target: http, tcp, icmp, tls, dns.
