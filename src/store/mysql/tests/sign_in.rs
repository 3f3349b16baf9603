//! Signing in to a server: by MySQL's own plugin, which no server here has, and with the documented rights.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::store::mysql::fixture::RIGHTS;

const CONTRACT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/contract.md"));

/// The greeting of MySQL 8.0.18; the name of a plugin follows.
const GREETING: &[u8] = b"\n8.0.18\0\x19\0\0\0\x114aB0c\x06g\0\xff\xff\xff\x02\0\xff\xc7\x15\
    \0\0\0\0\0\0\0\0\0\0tL\x03s\x0f[4\rl4. \0";

/// Its answer to an unknown user.
const DENIED: &[u8] = b"\xff\x15\x04#28000Access denied";

/// A public key whose private half is discarded.
const KEY: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwCu/uFZN0Pwf8WptXwO9\n\
96jaMaX7e/0/j801JVLjzCkHaBjARgh2xNh6GNX77cmkwT5RuN3BKb2f/qOJnO2T\n\
oLM9VuZSsVVMI2v5o+N21D4qPLS9MvanH9qQszWI2usb8Cuu0PC5/HU6UY5girEO\n\
dlGL9wCat4OuvXTHq//bTEBJ0WA/muQJZg6moZs6uMhbYx/HuFLisC3Apyxvrt3n\n\
SGgHZaJI3vgVIbIryRzNtKt22N9kuQCdanurrQ2gRaBH3GvvMLWqve1MVpOcgPy2\n\
Vy3L/d6lZqFHMdJYtMkevoAl1Q0bJ+kFyDoFK7LQEqNaa3gssTmMaBNwmwcz6FSk\n\
xQIDAQAB\n\
-----END PUBLIC KEY-----\n\
";

/// Returns a listener in a server's place, and a store that dials it.
async fn stage() -> (TcpListener, MySqlStore) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mysql://ann:s3cret@{}/records", listener.local_addr().unwrap());
    (listener, MySqlStore::new(&url.parse().unwrap()))
}

async fn says(client: &mut TcpStream, number: u8, packet: &[u8]) {
    let header = [packet.len() as u8, (packet.len() >> 8) as u8, 0, number];
    client.write_all(&[&header[..], packet].concat()).await.unwrap();
}

async fn hears(client: &mut TcpStream) -> Vec<u8> {
    let length = client.read_u32_le().await.unwrap() & 0x00ff_ffff;
    let mut packet = vec![0; length as usize];
    client.read_exact(&mut packet).await.unwrap();
    packet
}

#[tokio::test]
async fn mysqls_default_accounts_send_their_password_under_the_servers_key() {
    let (listener, store) = stage().await;
    let server = async {
        let (mut client, _) = listener.accept().await.unwrap();
        says(&mut client, 0, &[GREETING, b"caching_sha2_password\0"].concat()).await;
        assert!(hears(&mut client).await.ends_with(b"records\0caching_sha2_password\0"));
        // The server has no hash of this password cached, and asks for the password itself.
        says(&mut client, 2, &[1, 4]).await;
        assert_eq!(hears(&mut client).await, [2], "the key is asked for");
        says(&mut client, 4, &[&[1][..], KEY.as_bytes()].concat()).await;
        let sealed = hears(&mut client).await;
        says(&mut client, 6, DENIED).await;
        sealed
    };
    let (found, sealed) = tokio::join!(store.schema(), server);
    assert_eq!(sealed.len(), 2_048 / 8);
    let said = found.unwrap_err().to_string();
    assert!(said.contains("denies access"), "{said}");
}

#[tokio::test]
async fn whose_plugin_is_not_spoken_is_told_which_are() {
    let (listener, store) = stage().await;
    let server = async {
        let (mut client, _) = listener.accept().await.unwrap();
        says(&mut client, 0, &[GREETING, b"client_ed25519\0"].concat()).await;
    };
    let (found, ()) = tokio::join!(store.schema(), server);
    let error = found.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(why) if why.contains("caching_sha2_password")), "{error}");
}

#[tokio::test]
async fn the_rights_that_the_contract_names_are_enough_for_everything() {
    if !is_here() {
        return;
    }
    assert!(CONTRACT.contains(&format!("`{RIGHTS}`")));
    let server = Mariadb::with_account(&[]).unwrap();
    let store = fixture::store(&server, "records");
    store.migrate(true, |_| {}).await.unwrap();
    for _ in STEPS {
        store.migrate_down(true).await.unwrap();
    }
    store.migrate(true, |_| {}).await.unwrap();
    let closed = write(record(1, 2, Authority::Observed, Status::Closed));
    store.apply(vec![closed.clone(), active(2, 1)]).await.unwrap();
    store.begin_epoch(NodeId("a".into()), Incarnation::new([1; 16]), Epoch(0), UtcMicros(1)).await.unwrap();
    let id = closed.record.id;
    assert_eq!(store.get(id).await.unwrap(), Some(closed.record));
    assert!(!store.is_empty().await.unwrap());
    store.delete_closed(vec![id]).await.unwrap();
    assert_eq!(store.get(id).await.unwrap(), None);
    // And these rights are all that the user has.
    let elsewhere = fixture::store(&server, "mysql").schema().await.unwrap_err().to_string();
    assert!(elsewhere.contains("denies access"), "{elsewhere}");
}
