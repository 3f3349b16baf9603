//! Looks into the files that the configuration names, as a start and the dials behind it would. Does not know where in
//! the configuration a file is named: only its key.

use super::{oidc, tls, webhooks};
use crate::{
    config::{Auth, Config, Unusable},
    ssh::{self, ConnectError, Credential},
};

/// Returns every file that cannot be used as it is. A private key with a passphrase can be, as far as that shows.
pub async fn unusable(config: &Config) -> Vec<Unusable> {
    let mut found = tls::unusable(config);
    found.extend(oidc::oidc(config).err());
    found.extend(config.webhooks.iter().enumerate().filter_map(|(index, hook)| webhooks::hook(index, hook).err()));
    for (index, target) in config.targets.iter().enumerate() {
        let (name, credential) = match &target.auth {
            Auth::KeyFile(path) => ("key_file", Credential::KeyFile(path.clone())),
            Auth::PasswordFile(path) => ("password_file", Credential::PasswordFile(path.clone())),
            Auth::Agent | Auth::Prompt | Auth::GatewayKey | Auth::Certificate => continue,
        };
        if let Err(error) = ssh::try_file(&credential).await {
            let why = match error {
                ConnectError::Credential { cause } => cause,
                other => other.to_string(),
            };
            found.push(Unusable { key: format!("targets[{index}].auth.{name}"), why });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::cli;

    #[actix_rt::test]
    async fn every_file_that_could_not_be_used_is_a_mistake() {
        let dir = tempfile::TempDir::new().unwrap();
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n";
        let texts = [("cert", ""), ("key", "x"), ("hook", "short"), ("oidc", "\n"), ("password", "\n"), ("login", "x")];
        for (name, text) in texts.into_iter().chain([("locked", locked)]) {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let here = dir.path().display();
        let provider = "issuer: https://id.example.com, client_id: gw, default_role: user";
        let host = "host: h, username: u";
        let yaml = format!(
            "server: {{ tls: {{ cert: {here}/cert, key: {here}/key }} }}
sign_in: {{ oidc: {{ {provider}, client_secret_file: {here}/oidc }} }}
webhooks:
- {{ name: siem, url: https://siem.example.com/, secret_file: {here}/hook }}
targets:
- {{ name: a, {host}, auth: {{ password_file: {here}/password }} }}
- {{ name: b, {host}, auth: {{ key_file: {here}/login }} }}
- {{ name: c, {host}, auth: {{ key_file: {here}/locked }} }}
"
        );
        let path = dir.path().join("config.yaml");
        fs::write(&path, yaml).unwrap();
        let config = Config::load(Some(path.as_path()), []).unwrap().config;
        let found = unusable(&config).await;
        let keys: Vec<&str> = found.iter().map(|file| file.key.as_str()).collect();
        let expected = [
            "server.tls.cert",
            "server.tls.key",
            "sign_in.oidc.client_secret_file",
            "webhooks[0].secret_file",
            "targets[0].auth.password_file",
            "targets[1].auth.key_file",
        ];
        assert_eq!(keys, expected);
        let told = cli::check(Some(path.clone()), [], false, |_| found);
        let lines: Vec<&str> = told.text.lines().collect();
        assert_eq!((told.code, lines.len()), (1, 6), "{}", told.text);
        let begins = format!("{}:4:", path.display());
        assert!(lines[3].starts_with(&begins) && lines[3].contains("at least 32 characters"), "{}", told.text);
    }
}
