//! Tests of the addresses of stores: which are accepted, which are refused, and that no password is shown.

use super::*;

fn mysql(host: &str, port: u16) -> MySqlAddress {
    let (host, user, database) = (host.into(), "root".into(), "records".into());
    MySqlAddress { host, port, socket: None, user, password: None, database }
}

fn server(host: &str, port: u16) -> RedisAddress {
    RedisAddress { kind: RedisKind::Server, hosts: vec![(host.into(), port)], credentials: None, database: 0 }
}

#[test]
fn a_mysql_is_read() {
    let read = |text: &str| text.parse::<MySqlAddress>().unwrap();
    assert_eq!(read("mysql://db/records"), mysql("db", 3306));
    assert_eq!(read("mysql://[::1]:3307/records"), mysql("::1", 3307));
    assert_eq!(
        read("mysql://ann@db/my%20records"),
        MySqlAddress { user: "ann".into(), database: "my records".into(), ..mysql("db", 3306) }
    );
    let by_socket = MySqlAddress { socket: Some("/run/my sql.sock".into()), ..mysql("localhost", 3306) };
    assert_eq!(read("mysql:///records?charset=utf8mb4&socket=/run/my%20sql.sock"), by_socket);
    assert_eq!(read("mysql://db/records?ssl-mode=PREFERRED&sslmode=disabled"), mysql("db", 3306));
}

#[test]
fn a_password_of_mysql_is_decoded_and_never_shown() {
    let read = |text: &str| text.parse::<MySqlAddress>().unwrap();
    for (written, meant) in [("p%40ss%3A%2F%25", "p@ss:/%"), ("p@ss:100%", "p@ss:100%"), ("%+4%zz%", "%+4%zz%")] {
        let address = read(&format!("mysql://ann:{written}@db/records"));
        assert_eq!(address.user, "ann");
        assert_eq!(address.password.as_ref().unwrap().0.expose_secret(), meant);
        assert!(!format!("{address:?}").contains(meant));
        assert_ne!(address, read("mysql://ann:other@db/records"));
    }
}

#[test]
fn each_kind_is_read() {
    let read = |text: &str| text.parse::<RedisAddress>().unwrap();
    assert_eq!(read("redis://cache"), server("cache", 6379));
    assert_eq!(read("redis://cache/"), server("cache", 6379));
    assert_eq!(read("redis://[::1]:7000/3"), RedisAddress { database: 3, ..server("::1", 7000) });
    let cluster = read("redis+cluster://a:7000,b,[fe80::1]");
    assert_eq!(cluster.kind, RedisKind::Cluster);
    assert_eq!(cluster.hosts, [("a".into(), 7000), ("b".into(), 6379), ("fe80::1".into(), 6379)]);
    let sentinel = read("redis+sentinel://a,b:5/main/2");
    assert_eq!(sentinel.kind, RedisKind::Sentinel { master: "main".into() });
    assert_eq!(sentinel.hosts, [("a".into(), 26379), ("b".into(), 5)]);
    assert_eq!(sentinel.database, 2);
}

#[test]
fn a_password_is_decoded_and_never_shown() {
    let read: RedisAddress = "redis://gate:p%40ss%3A%2F%25@cache".parse().unwrap();
    let credentials = read.credentials.as_ref().unwrap();
    assert_eq!(credentials.user.as_deref(), Some("gate"));
    assert_eq!(credentials.password.0.expose_secret(), "p@ss:/%");
    assert!(!format!("{read:?}").contains("p@ss"));
    assert_ne!(read, "redis://gate:other@cache".parse().unwrap());
    let anybody: RedisAddress = "redis://:hunter2@cache".parse().unwrap();
    assert_eq!(anybody.credentials.unwrap().user, None);
}

#[test]
fn a_mysql_that_cannot_be_meant_is_refused_without_repeating_it() {
    for text in [
        "",
        "sqlite",
        "postgres://ann:hunter2@db/records",
        "mysql://ann:hunter2@db",
        "mysql://ann:hunter2@db/",
        "mysql://ann:3306/hunter2@db/records",
        "mysql://ann:hunter2@:x/records",
        "mysql://ann:hunter2@db:0/records",
        "mysql://ann:hunter2@a b/records",
        "mysql://ann:hunter2%ff@db/records",
    ] {
        let error = text.parse::<MySqlAddress>().unwrap_err();
        assert!(error.starts_with("must ") && !error.contains("hunter2"), "{text}: {error}");
    }
    for mode in ["REQUIRED", "verify_ca", "VERIFY_IDENTITY", "hunter2"] {
        let error = format!("mysql://ann@db/records?ssl-mode={mode}").parse::<MySqlAddress>().unwrap_err();
        assert!(error.contains("encryption") && !error.contains("hunter2"), "{mode}: {error}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_without_repeating_it() {
    for text in [
        "memory",
        "cache:6379",
        "http://cache",
        "rediss://cache",
        "redis://",
        "redis://a,b",
        "redis://cache:0",
        "redis://cache:hunter2",
        "redis://cache/main",
        "redis://[::1",
        "redis://::1",
        "redis://cache?db=1",
        "redis://hunter2@cache",
        "redis://user:@cache",
        "redis://user:hunter2%4@cache",
        "redis://user:hunter2%+4@cache",
        "redis://user:hunter2%ff@cache",
        "redis+cluster://a,b/0",
        "redis+cluster://a,,b",
        "redis+sentinel://a,b",
        "redis+sentinel://a,b/",
    ] {
        let error = text.parse::<RedisAddress>().unwrap_err();
        assert!(error.starts_with("must ") && !error.contains("hunter2"), "{text}: {error}");
    }
}
