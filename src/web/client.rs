//! Determines the address a request comes from, behind proxies or not. Trusts a forwarding header only from a trusted
//! proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::{
    HttpRequest,
    http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR, X_FORWARDED_PROTO},
};
use ipnet::IpNet;

use super::state::Settings;

/// Returns the address of the browser or program that sent `request`: the peer, or the address that trusted proxies
/// report.
///
/// Reading from the right, the first address that is no trusted proxy is the client; everything left of it the client
/// could have made up (RFC 7239 §8.1).
pub fn client_ip(request: &HttpRequest, settings: &Settings) -> IpAddr {
    let peer = peer_ip(request);
    if !is_trusted(peer, &settings.trusted_proxies) {
        return peer;
    }
    let far = |hops: Vec<Option<IpAddr>>| farthest(hops, peer, &settings.trusted_proxies);
    let forwarded = far(hops(request.headers(), &FORWARDED, |element| parameter(element, "for").and_then(address)));
    let x_forwarded_for = far(hops(request.headers(), &X_FORWARDED_FOR, address));
    match (forwarded, x_forwarded_for) {
        // A proxy that sets one of them may forward the other as a client forged it: nothing tells which.
        (Some(one), Some(other)) if one != other => peer,
        (one, other) => one.or(other).unwrap_or(peer),
    }
}

/// Whether the browser speaks TLS: to the gateway, or to the trusted proxy in front of it.
pub fn is_https(request: &HttpRequest, settings: &Settings) -> bool {
    if settings.tls {
        return true;
    }
    if !is_trusted(peer_ip(request), &settings.trusted_proxies) {
        return false;
    }
    let forwarded = hops(request.headers(), &FORWARDED, |element| parameter(element, "proto"));
    let x_forwarded_proto = hops(request.headers(), &X_FORWARDED_PROTO, Some);
    let said: Vec<&str> =
        [forwarded.last(), x_forwarded_proto.last()].into_iter().flatten().copied().flatten().collect();
    // Some proxies report a WebSocket as `wss`.
    let over_tls = |scheme: &&str| ["https", "wss"].iter().any(|tls| scheme.eq_ignore_ascii_case(tls));
    !said.is_empty() && said.iter().all(over_tls)
}

/// Returns the address at the other end of the connection, regardless of headers; unknown only without a socket, as in
/// tests.
pub fn peer_ip(request: &HttpRequest) -> IpAddr {
    request.peer_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip().to_canonical())
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// Applies `read` to each element of a list header, over all its lines, in order.
fn hops<'a, T>(headers: &'a HeaderMap, name: &HeaderName, read: impl Fn(&'a str) -> Option<T>) -> Vec<Option<T>> {
    let lines = headers.get_all(name).map(|line| line.to_str().unwrap_or(""));
    lines.flat_map(|line| line.split(',')).map(|element| read(element.trim())).collect()
}

/// Walks from the nearest hop outwards; an element that cannot be read ends the walk at the hop that wrote it.
fn farthest(hops: Vec<Option<IpAddr>>, peer: IpAddr, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut found = None;
    for hop in hops.into_iter().rev() {
        let Some(address) = hop else { return Some(found.unwrap_or(peer)) };
        found = Some(address);
        if !is_trusted(address, trusted) {
            break;
        }
    }
    found
}

/// Returns the value of `key` in one element of `Forwarded`, as in `for="[2001:db8::1]:4711";proto=https`.
fn parameter<'a>(element: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.trim_matches('"'))
}

/// Reads an address with or without port, an IPv6 one with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    ip.ok().map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::web::fixture::settings;

    fn behind_proxy() -> Settings {
        Settings { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..settings() }
    }

    fn ip_of(peer: &str, headers: &[(&'static str, &'static str)]) -> String {
        let request = TestRequest::default().peer_addr(peer.parse().unwrap());
        let request = headers.iter().fold(request, |request, header| request.append_header(*header));
        client_ip(&request.to_http_request(), &behind_proxy()).to_string()
    }

    #[test]
    fn headers_of_an_untrusted_peer_are_ignored() {
        let lies =
            [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=198.51.100.1"), ("x-real-ip", "198.51.100.1")];
        assert_eq!(ip_of("192.0.2.7:1", &lies), "192.0.2.7");
    }

    #[test]
    fn the_rightmost_untrusted_address_is_the_client() {
        for (header, value, client) in [
            ("x-forwarded-for", "203.0.113.9", "203.0.113.9"),
            ("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
            ("x-forwarded-for", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("x-forwarded-for", "203.0.113.9:5123", "203.0.113.9"),
            ("x-forwarded-for", "203.0.113.9, nonsense", "10.0.0.1"),
            ("x-forwarded-for", "203.0.113.9, nonsense, 10.0.0.2", "10.0.0.2"),
            ("x-real-ip", "203.0.113.9", "10.0.0.1"),
            ("forwarded", "for=6.6.6.6, for=\"[2001:db8::1]:4711\";proto=https", "2001:db8::1"),
            ("forwarded", "for=_hidden", "10.0.0.1"),
        ] {
            assert_eq!(ip_of("10.0.0.1:1", &[(header, value)]), client, "{header}: {value}");
        }
    }

    #[test]
    fn header_lines_count_in_their_order() {
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(ip_of("10.0.0.1:1", &lines), "203.0.113.9");
    }

    #[test]
    fn two_headers_that_disagree_are_both_disbelieved() {
        let both = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=6.6.6.6")];
        assert_eq!(ip_of("10.0.0.1:1", &both), "10.0.0.1");
        let agreed = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")];
        assert_eq!(ip_of("10.0.0.1:1", &agreed), "203.0.113.9");
    }

    #[test]
    fn the_scheme_is_believed_only_from_a_trusted_proxy() {
        let https = |peer: &str, header: (&'static str, &'static str)| {
            let request = TestRequest::default().peer_addr(peer.parse().unwrap()).insert_header(header);
            is_https(&request.to_http_request(), &behind_proxy())
        };
        assert!(https("10.0.0.1:1", ("x-forwarded-proto", "https")));
        assert!(https("10.0.0.1:1", ("forwarded", "for=1.2.3.4;proto=https")));
        assert!(https("10.0.0.1:1", ("x-forwarded-proto", "wss")));
        assert!(!https("10.0.0.1:1", ("x-forwarded-proto", "ws")));
        assert!(!https("10.0.0.1:1", ("x-forwarded-proto", "https, http")));
        assert!(!https("192.0.2.7:1", ("x-forwarded-proto", "https")));
    }
}
