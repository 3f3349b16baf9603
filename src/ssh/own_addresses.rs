//! Whether an address is one of this host's. Knows no rule, and sends nothing.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

use rustix::io::Errno;

/// Answers of the system that this host does not have an address, or that nothing leads there.
const NOT_OURS: [Errno; 5] =
    [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT, Errno::INVAL, Errno::NETUNREACH, Errno::HOSTUNREACH];

/// Whether this host has the address `ip`: a socket can be bound to no other. Where the system lets sockets be bound to
/// any address (`ip_nonlocal_bind`), which one of an address that nobody has shows, it is the one that a connection to
/// `ip` would come from; further addresses of one network are not noticed there. Where the system does not say, since a
/// rule forbids sockets or descriptors are lacking, every address counts as one of this host.
pub(super) fn is_own(ip: IpAddr) -> bool {
    is_own_by(ip, |ip| UdpSocket::bind((ip, 0)).map(drop), source)
}

/// As [`is_own`], on a system that binds sockets as `bind` says, and chooses the address that a connection comes from
/// as `source` does.
fn is_own_by(
    ip: IpAddr,
    bind: impl Fn(IpAddr) -> io::Result<()>,
    source: impl FnOnce(IpAddr) -> io::Result<IpAddr>,
) -> bool {
    // RFC 5737, RFC 3849.
    let nobodys: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let answer = bind(ip).and_then(|()| if bind(nobodys).is_ok() { Ok(source(ip)? == ip) } else { Ok(true) });
    answer.unwrap_or_else(|error| {
        let is_unknown = !NOT_OURS.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
        if is_unknown {
            tracing::warn!(%ip, %error, "the system does not say whether an address is this host's: it counts as one");
        }
        is_unknown
    })
}

/// Returns the address that a connection to `ip` would come from.
fn source(ip: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((ip, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_knows_its_own_addresses() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        // RFC 5737: no host has it.
        assert!(!is_own(Ipv4Addr::new(198, 51, 100, 7).into()));
    }

    #[test]
    fn an_address_counts_as_this_hosts_where_the_system_does_not_say() {
        let [ip, other]: [IpAddr; 2] = ["10.0.0.5", "10.0.0.6"].map(|ip| ip.parse().unwrap());
        let fails = |errno: Errno| Err::<(), _>(io::Error::from(errno));
        for errno in [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT, Errno::INVAL] {
            assert!(!is_own_by(ip, |_| fails(errno), Ok), "{errno}");
        }
        for errno in [Errno::PERM, Errno::ACCESS, Errno::MFILE, Errno::NFILE, Errno::NOBUFS] {
            assert!(is_own_by(ip, |_| fails(errno), |_| Ok(other)), "{errno}");
            let once = |bound| if bound == ip { Ok(()) } else { fails(errno) };
            assert!(is_own_by(ip, once, |_| Ok(other)), "{errno} at the second socket");
            assert!(is_own_by(ip, |_| Ok(()), |_| Err(errno.into())), "{errno} at the third socket");
        }
        // Sockets can be bound to any address.
        assert!(is_own_by(ip, |_| Ok(()), Ok));
        assert!(!is_own_by(ip, |_| Ok(()), |_| Ok(other)));
        assert!(!is_own_by(ip, |_| Ok(()), |_| Err(Errno::NETUNREACH.into())));
    }
}
