//! TLS from a browser's side, and the changes by a SIGHUP.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
};

use rustix::process::Signal;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::{Value, json};

use crate::support::{
    eventually,
    gateway::{Gateway, Home},
};

type Connection = StreamOwned<ClientConnection, TcpStream>;

/// Returns a connection that trusts this certificate and nothing else.
fn connect(addr: SocketAddr, trusted: &Path) -> Connection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let client = ClientConnection::new(Arc::new(config.with_no_client_auth()), "localhost".try_into().unwrap());
    StreamOwned::new(client.unwrap(), TcpStream::connect(addr).unwrap())
}

/// Returns the status of `/healthz` over it.
fn asks(connection: &mut Connection) -> std::io::Result<String> {
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = [0; 4096];
    let length = connection.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned())
}

fn secure() -> Home {
    Home::new().set("server.tls.self_signed", "true")
}

#[test]
fn a_sighup_takes_another_certificate_and_cuts_nobody() {
    let gateway = Gateway::start(secure());
    let (cert, key) = (gateway.home.data_dir().join("tls.cert"), gateway.home.data_dir().join("tls.key"));
    let old = gateway.home.data_dir().join("old.cert");
    fs::copy(&cert, &old).unwrap();
    let mut open = connect(gateway.addr, &old);
    assert_eq!(asks(&mut open).unwrap(), "HTTP/1.1 200 OK");
    fs::remove_file(&cert).unwrap();
    fs::remove_file(&key).unwrap();
    gateway.signal(Signal::HUP);
    eventually(crate::support::terminal::PATIENCE, || {
        (cert.exists() && asks(&mut connect(gateway.addr, &cert)).ok()? == "HTTP/1.1 200 OK").then_some(())
    });
    assert_eq!(asks(&mut open).unwrap(), "HTTP/1.1 200 OK", "what was open goes on");
    assert!(asks(&mut connect(gateway.addr, &old)).is_err(), "the old certificate is shown to nobody new");
    assert!(gateway.home.logs().contains("The certificate is the one with SHA-256"), "{}", gateway.home.logs());
}

#[test]
fn a_sighup_names_what_only_a_restart_changes_and_a_mistake_changes_nothing() {
    let gateway = Gateway::start(Home::new());
    let config = gateway.home.config();
    let says = |yaml: &str, words: &str| {
        fs::write(&config, yaml).unwrap();
        gateway.signal(Signal::HUP);
        let logs = || gateway.home.logs().contains(words).then_some(());
        eventually(crate::support::terminal::PATIENCE, logs);
    };
    says(&json!({"session": {"max_per_user": 7}}).to_string(), "Only a restart changes session.max_per_user.");
    says("sesion: {}\n", "Nothing was changed: ");
    // The log is written first.
    eventually(crate::support::terminal::PATIENCE, || {
        let told = gateway.shows("/api/v1/audit?action=gateway.reload");
        let newest = told["items"][0]["detail"].as_str().unwrap_or_default();
        let outcomes: Vec<&Value> = told["items"].as_array().unwrap().iter().map(|entry| &entry["outcome"]).collect();
        (outcomes == ["refused", "ok"] && newest.contains("session")).then_some(())
    });
}
