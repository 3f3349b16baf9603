//! The keys that face outside, and the files that hold their secrets.

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

#[test]
fn a_webhook_without_address_and_secret_is_told_to_have_them() {
    let told = mistakes("webhooks: [{ name: a }]\n", &[]);
    assert_eq!(told.len(), 2, "{told:?}");
    for key in ["webhooks[0].url", "webhooks[0].secret_file"] {
        assert!(told.iter().any(|line| line.ends_with(&format!("{key}: must be given"))), "{told:?}");
    }
}

#[test]
fn a_provider_is_described_whole_or_not_at_all() {
    let dir = TempDir::new().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let file = format!("client_secret_file: {}", secret.display());
    let told = |before: &str, lines: &[&str]| {
        let yaml = format!("{before}sign_in:\n  oidc: {{ {} }}\n", lines.join(", "));
        mistakes_in(&dir, &yaml, &[]).join("\n")
    };
    let (issuer, id, roles) =
        ("issuer: https://id.example.com", "client_id: gw", "roles: [{ group: ops, role: operator }]");
    assert_eq!(told("", &[issuer, id, &file, roles]), "");
    assert_eq!(told("", &[issuer, id, "client_secret: s", "default_role: user", "scopes: [openid, groups]"]), "");
    for (lines, wrong) in [
        (&[id, &file, roles][..], "must be given with the other keys of sign_in.oidc"),
        (&[issuer, &file, roles], "sign_in.oidc.client_id: must be the name"),
        (&[issuer, id, roles], "one of sign_in.oidc.client_secret_file and sign_in.oidc.client_secret"),
        (&[issuer, id, roles, &file, "client_secret: s"], "one of sign_in.oidc.client_secret_file"),
        (&[issuer, id, &file], "without either nobody could"),
        (&[issuer, id, &file, roles, "scopes: [profile]"], "openid one of them"),
        (&[issuer, id, &file, roles, "scopes: [openid, \"a b\"]"], "openid one of them"),
        (&[issuer, id, &file, "roles: [{ group: ops }]"], "must have a group"),
        (&[issuer, id, &file, "roles: [{ role: user }]"], "must have a group"),
        (&["issuer: http://id.example.com", id, &file, roles], "https://HOST/PATH without ? and #"),
        (&["issuer: https://id.example.com/?a", id, &file, roles], "https://HOST/PATH without ? and #"),
        (&[issuer, id, &file, roles, "groups_claim: \"\""], "must be a claim's name"),
    ] {
        assert!(told("", lines).contains(wrong), "{wrong}: {}", told("", lines));
    }
    let everywhere = "server: { listen: \"0.0.0.0:443\", insecure: true }\n";
    assert!(told(everywhere, &[issuer, id, &file, roles]).contains("server.public_url must be given"));
    let known = "server: { listen: \"0.0.0.0:443\", insecure: true, public_url: https://gw.example.com }\n";
    assert_eq!(told(known, &[issuer, id, &file, roles]), "");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(told("", &[issuer, id, &file, roles]).contains("others may read it"));
}
