//! Which addresses are on the public Internet. All others are rejected: an untrusted client that
//! supplies a URL must not reach what this server can reach and the client cannot (SSRF).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is on the public Internet (IANA special-purpose address registries, RFC
/// 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || a == 10
        || a == 127
        || (a == 100 && (64..128).contains(&b)) // shared address space (RFC 6598)
        || (a == 169 && b == 254) // link-local; cloud metadata services
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99) // 6to4 relays
        || (a == 192 && b == 168)
        || (a == 198 && (b == 18 || b == 19)) // benchmarking
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224; // multicast, reserved, broadcast
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(v4) = embedded_v4(address) {
        return is_public_v4(v4);
    }
    let [a, b, ..] = address.segments();
    // Global unicast, except 2001::/23 (Teredo and others) and documentation (2001:db8::/32,
    // 3fff::/20).
    (0x2000..0x4000).contains(&a)
        && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
        && !(a == 0x3fff && b < 0x1000)
}

/// The IPv4 address that a translator or tunnel would forward this to.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let at = |s: [u16; 8], at: usize| {
        let [a, b] = s[at].to_be_bytes();
        let [c, d] = s[at + 1].to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    let s = address.segments();
    match s {
        // ::ffff:0:0/96 mapped, ::/96 compatible (:: and ::1 are in 0/8, not public), 64:ff9b::/96
        // NAT64
        [0, 0, 0, 0, 0, 0xffff | 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(at(s, 6)),
        [0x2002, ..] => Some(at(s, 1)),
        _ => None,
    }
}

/// Whether a name belongs to this machine or a local network, whatever it resolves to.
pub fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let local = ["localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain"];
    !name.contains('.') || local.iter().any(|end| name.ends_with(&format!(".{end}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t80_every_notation_of_a_special_address_is_recognized() {
        for special in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "2001:db8::1",
            "fec0::1",
            "64:ff9b:1::1",
            "100::1",
        ] {
            assert!(!is_public(special.parse().expect("an address")), "{special}");
        }
        for public in
            ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "2a00:1450:4001::1"]
        {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
        for local in
            ["localhost", "a.localhost", "printer.local", "db.internal", "router", "LOCALHOST."]
        {
            assert!(is_local_name(local), "{local}");
        }
        assert!(!is_local_name("example.org"));
    }
}
