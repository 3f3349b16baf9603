//! Turns a typed host into a TCP connection: spelling, resolution, the rules for targets typed by hand. A name is
//! resolved once, and only the addresses that were checked are dialled. Knows no SSH.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{AddressRule, ConnectError, own_addresses::is_own, person::clean_line};

/// Networks of cloud metadata services, which hand out a machine's secrets (link-local; Amazon's over IPv6; Alibaba's).
/// They are reached only if a rule allows one of these networks, or a part of it, or a target of the catalogue is such
/// an address; never by a name in the catalogue, or by a larger network that contains it.
const METADATA: &[&str] = &["169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32"];

/// Networks of this host, and of addresses that are no host at all. They are reached only if a rule allows a network
/// within one of these, so that `0.0.0.0/0` means all other hosts. Any other address that this host has itself is reached
/// only if a rule allows exactly this one, or one of these networks too.
const HERE: &[&str] = &["0.0.0.0/8", "127.0.0.0/8", "::/127", "224.0.0.0/4", "255.255.255.255/32", "ff00::/8"];

impl AddressRule {
    /// Whether `ip` may be dialled. An IPv4-mapped IPv6 address counts as the IPv4 address; of an IPv6 address that
    /// embeds an IPv4 address (NAT64, 6to4) both must pass. The unspecified address never passes, since it means this
    /// host under another name; this host, multicast and metadata pass only by a network of their own.
    pub fn permits(&self, ip: IpAddr) -> bool {
        self.permits_where(ip, is_own)
    }

    /// As [`Self::permits`], on a host whose own addresses are those that `is_own` takes.
    fn permits_where(&self, ip: IpAddr, is_own: impl Fn(IpAddr) -> bool) -> bool {
        let ip = ip.to_canonical();
        let carried = carried(ip).map(IpAddr::V4);
        let within_here = |network: &IpNet| special(HERE, network.addr()).is_some_and(|here| here.contains(network));
        let is_closed = |ip| is_own(ip) && !self.allow.iter().any(within_here);
        self.permits_as_it_stands(ip, is_closed)
            && carried.is_none_or(|carried| self.permits_as_it_stands(carried, is_closed))
    }

    fn permits_as_it_stands(&self, ip: IpAddr, is_closed: impl Fn(IpAddr) -> bool) -> bool {
        let special = || special(METADATA, ip).or(special(HERE, ip)).or_else(|| is_closed(ip).then(|| IpNet::from(ip)));
        let allows =
            |network: &IpNet| network.contains(&ip) && special().is_none_or(|special| special.contains(network));
        !ip.is_unspecified() && self.allow.iter().any(allows) && !self.deny.iter().any(|network| network.contains(&ip))
    }
}

fn special(networks: &[&str], ip: IpAddr) -> Option<IpNet> {
    networks.iter().filter_map(|network| network.parse::<IpNet>().ok()).find(|network| network.contains(&ip))
}

/// Whether `ip` is the address of a cloud metadata service, in any notation.
fn is_metadata(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    [Some(ip), carried(ip).map(IpAddr::V4)].into_iter().flatten().any(|ip| special(METADATA, ip).is_some())
}

/// Returns the IPv4 address that an IPv6 address embeds, if a router on the way would unpack it: NAT64 (RFC 6052 §2.2,
/// both the well-known prefix and the one for local use, RFC 8215), 6to4 (RFC 3056 §2), and the old compatible form
/// (RFC 4291 §2.5.5.1).
fn carried(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = ip else { return None };
    let bits = v6.to_bits();
    let low = Ipv4Addr::from_bits(bits as u32);
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => Some(low),
        [0x2002, ..] => Some(Ipv4Addr::from_bits((bits >> 80) as u32)),
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => Some(low),
        _ => None,
    }
}

/// Whether `host` is an address or a plain DNS name in its one usual spelling. Refuses other notations that resolvers
/// read as an address (`2130706433`, `0x7f.1`, `127.1`), names that a program could take for an option, and any
/// non-ASCII look-alike.
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

/// Resolves a host to the addresses that may be dialled, in the resolver's order, each once.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    allowed: Option<&AddressRule>,
) -> Result<Vec<SocketAddr>, ConnectError> {
    let not_resolved = || ConnectError::NameNotResolved { host: clean_line(host) };
    if allowed.is_some() && !is_plain_host(host) {
        return Err(not_resolved());
    }
    let found = lookup_host((host, port)).await.map_err(|error| {
        tracing::info!(host = clean_line(host), %error, "name not resolved");
        not_resolved()
    })?;
    let by_name = host.parse::<IpAddr>().is_err();
    sift(found, by_name, allowed).map_err(|denied| match denied {
        Some(addr) => ConnectError::AddressDenied { addr },
        None => not_resolved(),
    })
}

/// Checks a host that a jump host is to dial against the rule: an address, and the name that is loopback everywhere
/// (RFC 6761 §6.3). Only the jump host knows the address of any other name, so the rule must allow names.
pub(super) fn check_behind_hop(host: &str, port: u16, allowed: Option<&AddressRule>) -> Result<(), ConnectError> {
    let Some(rule) = allowed else { return Ok(()) };
    if !is_plain_host(host) {
        return Err(ConnectError::NameNotResolved { host: clean_line(host) });
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let is_here = name == "localhost" || name.ends_with(".localhost");
    match host.parse().ok().or(is_here.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST))) {
        Some(ip) if rule.permits(ip) => Ok(()),
        Some(ip) => Err(ConnectError::AddressDenied { addr: SocketAddr::new(ip, port) }),
        None if rule.names_behind_hops => Ok(()),
        None => Err(ConnectError::NameNotChecked { host: clean_line(host) }),
    }
}

/// Keeps the resolved addresses that may be dialled, in their order, each once; if there is none, the first forbidden
/// one is the error. A name of the catalogue may lead anywhere but to cloud metadata, since the owner of the DNS name
/// decides where it leads.
fn sift(
    found: impl Iterator<Item = SocketAddr>,
    by_name: bool,
    rule: Option<&AddressRule>,
) -> Result<Vec<SocketAddr>, Option<SocketAddr>> {
    let mut permitted = Vec::new();
    let mut denied = None;
    for addr in found.map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port())) {
        let may = match rule {
            Some(rule) => rule.permits(addr.ip()),
            None => !(by_name && is_metadata(addr.ip())),
        };
        if !may {
            denied = denied.or(Some(addr));
        } else if !permitted.contains(&addr) {
            permitted.push(addr);
        }
    }
    if permitted.is_empty() { Err(denied) } else { Ok(permitted) }
}

/// Connects to the first address that answers; each gets its share of `limit`, so that one that drops packets does not
/// use up the time of the next. The error is that of the last address.
pub(super) async fn connect(addrs: &[SocketAddr], limit: Duration) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let share = limit / u32::try_from(addrs.len()).unwrap_or(u32::MAX).max(1);
    let mut last = None;
    for addr in addrs.iter().copied() {
        match timeout(share, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => {
                // Without it a keystroke waits for the acknowledgement of the one before (Nagle).
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
            "[::]",
            "::1%lo",
            "fe80::1%1",
            "127.0.0.1.",
            "0.0.0.0.",
            "1",
            "017700000001",
            "\u{ff11}27.0.0.1",
            "127。0。0。1",
            &label,
            &total,
        ] {
            assert!(!is_plain_host(host), "{host:?}");
        }
    }

    fn rule(allow: &[&str], deny: &[&str]) -> AddressRule {
        let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        AddressRule { allow: nets(allow), deny: nets(deny), names_behind_hops: false }
    }

    fn permits(rule: &AddressRule, ip: &str) -> bool {
        rule.permits(ip.parse().unwrap())
    }

    #[test]
    fn deny_wins_and_a_mapped_address_counts_as_what_it_is() {
        let rule = rule(&["0.0.0.0/0", "::/0", "127.0.0.0/8"], &["127.0.0.0/8", "10.0.0.0/8"]);
        assert!(permits(&rule, "192.0.2.7"));
        assert!(permits(&rule, "2001:db8::7"));
        for ip in ["127.0.0.1", "::ffff:127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3", "0.0.0.0", "::", "::ffff:0.0.0.0"] {
            assert!(!permits(&rule, ip), "{ip}");
        }
        assert!(!permits(&AddressRule::default(), "192.0.2.7"), "nothing allowed means nothing");
    }

    #[test]
    fn everything_allowed_is_everybody_else_and_not_this_host_or_its_cloud() {
        let everything = rule(&["0.0.0.0/0", "::/0"], &[]);
        for ip in [
            "127.0.0.1",
            "127.255.0.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(!permits(&everything, ip), "{ip}");
        }
        assert!(permits(&everything, "10.0.0.1") && permits(&everything, "fd00::1"), "private hosts are hosts");
        assert!(!permits(&rule(&["0.0.0.0/0"], &[]), "fd00::1"), "each family has its own networks");
        let named = rule(&["127.0.0.1/32", "::1/128", "169.254.0.0/16", "0.0.0.0/0"], &[]);
        assert!(permits(&named, "127.0.0.1") && permits(&named, "::1") && permits(&named, "169.254.169.254"));
        assert!(!permits(&named, "127.0.0.2"));
    }

    #[test]
    fn an_address_of_this_host_is_reached_by_a_network_of_its_own_only() {
        let is_own = |ip: IpAddr| ["10.0.0.5", "2001:db8::5"].iter().any(|own| own.parse() == Ok(ip));
        let permits = |rule: &AddressRule, ip: &str| rule.permits_where(ip.parse().unwrap(), is_own);
        for networks in [["0.0.0.0/0", "::/0"], ["10.0.0.0/8", "2001:db8::/32"], ["10.0.0.4/31", "2001:db8::4/127"]] {
            let rule = rule(&networks, &[]);
            for ip in ["10.0.0.5", "2001:db8::5", "::ffff:10.0.0.5", "64:ff9b::10.0.0.5"] {
                assert!(!permits(&rule, ip), "{ip} by {networks:?}");
            }
            assert!(permits(&rule, "10.0.0.4") && permits(&rule, "2001:db8::4"), "a neighbour is another host");
        }
        let named = rule(&["10.0.0.5/32", "2001:db8::5/128"], &[]);
        assert!(permits(&named, "10.0.0.5") && permits(&named, "2001:db8::5"));
        assert!(
            permits(&rule(&["127.0.0.0/8", "10.0.0.0/8"], &[]), "10.0.0.5"),
            "who reaches loopback reaches this host"
        );
        assert!(!permits(&rule(&["10.0.0.5/32"], &["10.0.0.0/8"]), "10.0.0.5"), "what is denied stays so");
    }

    #[test]
    fn an_address_carried_in_another_counts_too() {
        let rule = rule(&["0.0.0.0/0", "::/0"], &["10.0.0.0/8"]);
        for ip in [
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "2002:a00:1::",
            "::127.0.0.1",
            "::169.254.169.254",
        ] {
            assert!(!permits(&rule, ip), "{ip}");
        }
        for ip in ["64:ff9b::192.0.2.7", "2002:c000:207::1"] {
            assert!(permits(&rule, ip), "{ip}");
        }
    }

    #[test]
    fn behind_a_jump_host_an_address_is_held_to_the_rule_and_a_name_passes_only_where_it_says_so() {
        let strict = rule(&["0.0.0.0/0"], &["10.0.0.0/8"]);
        let lenient = AddressRule { names_behind_hops: true, ..strict.clone() };
        for rule in [&strict, &lenient] {
            for host in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "localhost", "a.LOCALHOST."] {
                let told = check_behind_hop(host, 22, Some(rule));
                assert!(matches!(told, Err(ConnectError::AddressDenied { .. })), "{host}");
            }
            for host in ["2130706433", "127.1", "-oProxyCommand=id", "a b"] {
                let told = check_behind_hop(host, 22, Some(rule));
                assert!(matches!(told, Err(ConnectError::NameNotResolved { .. })), "{host}");
            }
            assert_eq!(check_behind_hop("192.0.2.7", 22, Some(rule)), Ok(()));
        }
        for host in ["db1", "db1.internal"] {
            let told = check_behind_hop(host, 22, Some(&strict));
            assert_eq!(told, Err(ConnectError::NameNotChecked { host: host.to_owned() }));
            assert_eq!(check_behind_hop(host, 22, Some(&lenient)), Ok(()));
            assert_eq!(check_behind_hop(host, 22, None), Ok(()), "an operator wrote it");
        }
        assert_eq!(check_behind_hop("127.0.0.1", 22, None), Ok(()));
    }

    #[test]
    fn a_name_that_turns_to_the_clouds_metadata_is_not_followed() {
        let addr = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 22);
        let sift = |ips: &[&str], by_name, rule| sift(ips.iter().map(|ip| addr(ip)), by_name, rule);
        for ip in ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254"] {
            assert!(sift(&[ip], true, None).is_err(), "{ip}");
            assert_eq!(
                sift(&["192.0.2.7", ip], true, None),
                Ok(vec![addr("192.0.2.7")]),
                "only what may be is dialled"
            );
            assert!(sift(&[ip], false, None).is_ok(), "an operator wrote {ip}");
        }
        assert!(sift(&["127.0.0.1"], true, None).is_ok(), "localhost is a name of the catalogue like any other");
        let typed = rule(&["192.0.2.0/24"], &[]);
        assert_eq!(sift(&["127.0.0.1", "192.0.2.7"], true, Some(&typed)), Ok(vec![addr("192.0.2.7")]));
        assert_eq!(sift(&["127.0.0.1"], false, Some(&typed)), Err(Some(addr("127.0.0.1"))));
    }
}
