//! What faces outside, and the files that hold its secrets.

use super::*;

#[test]
fn tls_allows_to_listen_everywhere() {
    let dir = TempDir::new().unwrap();
    let pem = dir.path().join("pem");
    fs::write(&pem, "x").unwrap();
    fs::set_permissions(&pem, fs::Permissions::from_mode(0o600)).unwrap();
    let shown = pem.display();
    let yaml = format!("server:\n  listen: 0.0.0.0:443\n  tls:\n    cert: {shown}\n    key: {shown}\n");
    assert_eq!(mistakes_in(&dir, &yaml, &[]), [""; 0]);
    assert_eq!(mistakes_in(&dir, "server:\n  listen: 0.0.0.0:443\n  tls: { self_signed: true }\n", &[]), [""; 0]);
    let both = format!("{yaml}    self_signed: true\n");
    let told = "config.yaml:6:18: server.tls.self_signed: must be false where server.tls.cert is given: there is one certificate";
    assert_eq!(mistakes_in(&dir, &both, &[]), [told]);
    fs::set_permissions(&pem, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(mistakes_in(&dir, &yaml, &[])[0].starts_with("config.yaml:5:10: server.tls.key: pem holds a secret"));
}

#[test]
fn a_webhook_goes_over_tls_or_stays_on_this_host() {
    let dir = TempDir::new().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let told = |url: &str, rest: &str| {
        let yaml = format!("webhooks:\n- {{ name: a, url: \"{url}\", secret_file: {}{rest} }}\n", secret.display());
        mistakes_in(&dir, &yaml, &[])
    };
    for url in ["https://siem.example.com/hook?key=1", "http://127.0.0.1:9/", "http://localhost", "http://[::1]:9/a"] {
        assert_eq!(told(url, ", actions: [sign_in, session.open]"), [""; 0], "{url}");
    }
    for url in [
        "http://siem/",
        "http://127.0.0.1.evil.example/",
        "http://localhost@siem/",
        "ftp://h/",
        "https://",
        "https://a b/",
    ] {
        assert!(told(url, "")[0].contains("webhooks[0].url: must be https://HOST/PATH"), "{url}: {:?}", told(url, ""));
    }
    assert!(told("https://h/", ", actions: [login]")[0].contains("an action of the audit log"));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(told("https://h/", "")[0].contains("others may read it"), "{:?}", told("https://h/", ""));
}
