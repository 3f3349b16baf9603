//! From a host as typed to a TCP connection: spelling, resolution, the rules for targets typed by hand. A name is
//! resolved once and exactly the addresses that were checked are dialled. Knows no SSH.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{AddressRule, ConnectError, Dial, person::clean_line};

impl AddressRule {
    /// Whether `ip` may be dialled. An IPv4 address dressed as IPv6 counts as what it is; the unspecified address never
    /// passes, since it means this host under another name.
    pub fn permits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let listed = |networks: &[ipnet::IpNet]| networks.iter().any(|network| network.contains(&ip));
        !ip.is_unspecified() && listed(&self.allow) && !listed(&self.deny)
    }
}

/// Whether `host` is an address or a plain DNS name in its one usual spelling. Refuses what resolvers read as an address
/// in disguise (`2130706433`, `0x7f.1`, `127.1`), what a program could take for an option, and any non-ASCII look-alike.
pub fn is_plain_host(host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // A last label that is a number makes the whole an address to inet_aton(3).
    let is_number = |label: &str| {
        let hex = label.strip_prefix("0x").or(label.strip_prefix("0X"));
        label.bytes().all(|b| b.is_ascii_digit())
            || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    name.len() <= 253 && name.split('.').all(is_label) && !name.rsplit('.').next().is_some_and(is_number)
}

/// Resolves the host of a dial to the addresses that may be dialled, in the resolver's order, each once.
pub(super) async fn resolve(dial: &Dial) -> Result<Vec<SocketAddr>, ConnectError> {
    let not_resolved = || ConnectError::NameNotResolved { host: clean_line(&dial.host) };
    if dial.allowed.is_some() && !is_plain_host(&dial.host) {
        return Err(not_resolved());
    }
    let found = lookup_host((dial.host.as_str(), dial.port)).await.map_err(|error| {
        tracing::info!(host = clean_line(&dial.host), %error, "name not resolved");
        not_resolved()
    })?;
    let mut permitted = Vec::new();
    let mut denied = None;
    for addr in found.map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port())) {
        match &dial.allowed {
            Some(rule) if !rule.permits(addr.ip()) => denied = denied.or(Some(addr)),
            _ if !permitted.contains(&addr) => permitted.push(addr),
            _ => {}
        }
    }
    match denied {
        Some(addr) if permitted.is_empty() => Err(ConnectError::AddressDenied { addr }),
        _ if permitted.is_empty() => Err(not_resolved()),
        _ => Ok(permitted),
    }
}

/// Connects to the first address that answers; each gets its share of `limit`, so that one that swallows packets does
/// not use up the time of the next. The error is that of the last address.
pub(super) async fn connect(addrs: &[SocketAddr], limit: Duration) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let share = limit / u32::try_from(addrs.len()).unwrap_or(u32::MAX).max(1);
    let mut last = None;
    for addr in addrs.iter().copied() {
        match timeout(share, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => {
                // Without it a key waits for the answer to the one before (Nagle).
                stream.set_nodelay(true).map_err(|error| unreachable(addr, &error))?;
                return Ok((stream, addr));
            }
            Ok(Err(error)) => last = Some(unreachable(addr, &error)),
            Err(_) => last = Some(ConnectError::TimedOut { addr: addr.to_string(), seconds: limit.as_secs() }),
        }
    }
    Err(last.unwrap_or(ConnectError::NameNotResolved { host: String::new() }))
}

fn unreachable(addr: SocketAddr, error: &io::Error) -> ConnectError {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return ConnectError::Refused { addr };
    }
    if error.kind() == io::ErrorKind::TimedOut {
        return ConnectError::Unreachable { addr, cause: "no answer".to_owned() };
    }
    ConnectError::Unreachable { addr, cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_spellings_of_a_host_pass() {
        let long = format!("{}.example", "a".repeat(63));
        for host in
            ["web-1", "web_1.example.com.", "10.0.0.1", "::1", "fe80::1", "xn--bcher-kva.example", &long, "7up.io"]
        {
            assert!(is_plain_host(host), "{host}");
        }
        let label = format!("{}.example", "a".repeat(64));
        let total = ["abcdefgh"; 29].join(".");
        for host in [
            "",
            ".",
            "a..b",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "127.1",
            "0177.0.0.1",
            "010.0.0.1",
            "1.2.3.0x4",
            "-oProxyCommand=id",
            "a b",
            "a\nb",
            "a\r\nb",
            "a\0b",
            "host\u{430}.example",
            "a;b",
            "[::1]",
            &label,
            &total,
        ] {
            assert!(!is_plain_host(host), "{host:?}");
        }
    }

    #[test]
    fn deny_wins_and_a_mapped_address_counts_as_what_it_is() {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        let rule = AddressRule { allow: nets(&["0.0.0.0/0", "::/0"]), deny: nets(&["127.0.0.0/8", "::1/128"]) };
        let permits = |ip: &str| rule.permits(ip.parse().unwrap());
        assert!(permits("192.0.2.7"));
        assert!(permits("2001:db8::7"));
        for ip in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "::ffff:0.0.0.0"] {
            assert!(!permits(ip), "{ip}");
        }
        assert!(!AddressRule::default().permits("192.0.2.7".parse().unwrap()), "nothing allowed means nothing");
    }
}
