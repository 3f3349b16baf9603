//! A local OpenID Connect provider over real HTTP, with its own key. Signs in the same user for every request, without
//! questions; knows no gateway. A test may change its answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, mpsc},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, KeyInit, Mac};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    http::{self, Answer},
    terminal::PATIENCE,
};

pub const CLIENT: &str = "pulsegate";
pub const SECRET: &str = "canary-client-secret-7d21&f0:b9+";

/// The signature of a token.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Mark {
    /// Signed with the published key.
    #[default]
    Key,
    /// Signed with another key, under the id of the published one.
    OtherKey,
    /// Unsigned.
    None,
    /// Signed with the public key as a shared secret.
    PublicKey,
}

/// Deviations from correct answers; `null` leaves something out.
#[derive(Clone, Default)]
pub struct Twist {
    pub header: Value,
    pub body: Value,
    pub mark: Mark,
    /// In its discovery document.
    pub document: Value,
    /// In the parameters with which the browser is sent back.
    pub answer: Value,
}

struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: String) -> Self {
        let (algorithm, chance) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &chance).unwrap();
        Self { id, pair: EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &chance).unwrap() }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| BASE64URL_NOPAD.encode(part));
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "alg": "ES256", "x": x, "y": y})
    }
}

struct Inner {
    issuer: String,
    key: Key,
    /// The claims about the user.
    person: Value,
    /// The claims that are returned only by the userinfo endpoint.
    more: Value,
    twist: Twist,
    /// The request of each code.
    codes: BTreeMap<String, BTreeMap<String, String>>,
    spent: BTreeSet<String>,
    /// Requests by path.
    asked: BTreeMap<String, usize>,
}

type Shared = Arc<Mutex<Inner>>;

/// A running provider; dropping it stops it.
pub struct Provider {
    pub issuer: String,
    inner: Shared,
    server: ServerHandle,
}

impl Provider {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let inner = Inner {
            issuer: issuer.clone(),
            key: Key::new("k1".to_owned()),
            person: json!({}),
            more: json!({}),
            twist: Twist::default(),
            codes: BTreeMap::new(),
            spent: BTreeSet::new(),
            asked: BTreeMap::new(),
        };
        let inner: Shared = Arc::new(Mutex::new(inner));
        let (sender, receiver) = mpsc::channel();
        let shared = inner.clone();
        thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    App::new()
                        .app_data(web::Data::from(shared.clone()))
                        .route("/.well-known/openid-configuration", web::get().to(document))
                        .route("/authorize", web::get().to(authorize))
                        .route("/token", web::post().to(token))
                        .route("/keys", web::get().to(keys))
                        .route("/userinfo", web::get().to(userinfo))
                        .route("/end", web::get().to(end))
                };
                let server = HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run();
                sender.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self { issuer, inner, server: receiver.recv().unwrap() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Sets the user who signs in from now on.
    pub fn knows(&self, subject: &str, name: &str, groups: &[&str]) {
        self.tells(json!({"sub": subject, "preferred_username": name, "groups": groups}), json!({}));
    }

    /// Sets the claims of the token and of the userinfo endpoint.
    pub fn tells(&self, person: Value, more: Value) {
        let mut inner = self.inner();
        (inner.person, inner.more) = (person, more);
    }

    pub fn twists(&self, twist: Twist) {
        self.inner().twist = twist;
    }

    /// Signs with another key from now on.
    pub fn rotates(&self, id: &str) {
        self.inner().key = Key::new(id.to_owned());
    }

    /// Sends a gateway a back-channel logout; the body of the twist changes it.
    pub fn signs_out(&self, gateway: SocketAddr, body: &Value) -> Answer {
        self.signs_out_from(gateway, "192.0.2.250", body)
    }

    pub fn signs_out_from(&self, gateway: SocketAddr, address: &str, body: &Value) -> Answer {
        let mut told = json!({"jti": "1", "events": {"http://schemas.openid.net/event/backchannel-logout": {}}});
        put(&mut told, body);
        let token = self.inner().signs("logout+jwt", &told);
        let headers = format!("X-Forwarded-For: {address}\r\n");
        http::submit(gateway, "/api/v1/logout/oidc", &headers, &format!("logout_token={}&more=1", encoded(&token)))
    }

    /// Returns how often this path was requested.
    pub fn was_asked(&self, path: &str) -> usize {
        self.inner().asked.get(path).copied().unwrap_or_default()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // Its thread ends by itself.
        drop(self.server.stop(false));
    }
}

/// Follows a browser's redirect to this URL; returns where the answer redirects to.
pub fn follows(url: &str) -> String {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect_timeout(&host.parse::<SocketAddr>().unwrap(), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let line = answer.lines().find_map(|line| line.strip_prefix("location: "));
    line.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Returns the pairs of a query or a form.
pub fn pairs(text: &str) -> BTreeMap<String, String> {
    let text = text.split_once('?').map_or(text, |(_, query)| query);
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (decoded(key), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            bytes.extend(HEXLOWER_PERMISSIVE.decode(&after[..2]).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn encoded(text: &str) -> String {
    let letter =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02x}") };
    text.bytes().map(letter).collect()
}

/// Applies changes; `null` removes a field.
fn put(into: &mut Value, changes: &Value) {
    for (key, value) in changes.as_object().into_iter().flatten() {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            into[key] = value.clone();
        }
    }
}

fn asked<'a>(shared: &'a web::Data<Mutex<Inner>>, request: &HttpRequest) -> MutexGuard<'a, Inner> {
    let mut inner = shared.lock().unwrap();
    *inner.asked.entry(request.path().to_owned()).or_default() += 1;
    inner
}

async fn document(request: HttpRequest, shared: web::Data<Mutex<Inner>>) -> HttpResponse {
    let inner = asked(&shared, &request);
    let issuer = &inner.issuer;
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "end_session_endpoint": format!("{issuer}/end"),
        "authorization_response_iss_parameter_supported": true,
    });
    put(&mut document, &inner.twist.document);
    HttpResponse::Ok().json(document)
}

async fn authorize(request: HttpRequest, shared: web::Data<Mutex<Inner>>) -> HttpResponse {
    let mut inner = asked(&shared, &request);
    let wanted = pairs(request.query_string());
    assert_eq!((wanted["response_type"].as_str(), wanted["client_id"].as_str()), ("code", CLIENT));
    assert_eq!(wanted["code_challenge_method"], "S256");
    let code = BASE64URL_NOPAD.encode(&rand::random::<[u8; 16]>());
    let mut answer = json!({"code": code, "state": wanted["state"], "iss": inner.issuer});
    put(&mut answer, &inner.twist.answer);
    let told = answer.as_object().unwrap().iter();
    let query: Vec<_> = told.map(|(key, value)| format!("{key}={}", encoded(value.as_str().unwrap()))).collect();
    let place = format!("{}?{}", wanted["redirect_uri"], query.join("&"));
    inner.codes.insert(code, wanted);
    HttpResponse::Found().insert_header(("location", place)).finish()
}

async fn token(request: HttpRequest, shared: web::Data<Mutex<Inner>>, form: String) -> HttpResponse {
    let mut inner = asked(&shared, &request);
    let refused = |word: &str| HttpResponse::BadRequest().json(json!({"error": word}));
    let form = pairs(&form);
    let told = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let told = told.strip_prefix("Basic ").and_then(|text| BASE64.decode(text.as_bytes()).ok()).unwrap_or_default();
    let told = String::from_utf8(told).unwrap_or_default();
    let told = told.split_once(':').map(|(id, secret)| (decoded(id), decoded(secret)));
    if told != Some((CLIENT.to_owned(), SECRET.to_owned())) {
        return refused("invalid_client");
    }
    let code = form["code"].clone();
    let Some(wanted) = inner.codes.get(&code).cloned().filter(|_| !inner.spent.contains(&code)) else {
        return refused("invalid_grant");
    };
    inner.spent.insert(code);
    let challenge = BASE64URL_NOPAD.encode(&Sha256::digest(&form["code_verifier"]));
    if challenge != wanted["code_challenge"] || form["redirect_uri"] != wanted["redirect_uri"] {
        return refused("invalid_grant");
    }
    let mut told = inner.person.clone();
    told["nonce"] = json!(wanted["nonce"]);
    let id_token = inner.signs("JWT", &told);
    HttpResponse::Ok().json(json!({"id_token": id_token, "access_token": "of-the-person", "token_type": "Bearer"}))
}

async fn keys(request: HttpRequest, shared: web::Data<Mutex<Inner>>) -> HttpResponse {
    let inner = asked(&shared, &request);
    HttpResponse::Ok().json(json!({"keys": [inner.key.public()]}))
}

async fn userinfo(request: HttpRequest, shared: web::Data<Mutex<Inner>>) -> HttpResponse {
    let inner = asked(&shared, &request);
    assert_eq!(request.headers().get("authorization").unwrap(), "Bearer of-the-person");
    HttpResponse::Ok().json(&inner.more)
}

async fn end(request: HttpRequest, shared: web::Data<Mutex<Inner>>) -> HttpResponse {
    drop(asked(&shared, &request));
    let wanted = pairs(request.query_string());
    assert_eq!(wanted["client_id"], CLIENT);
    HttpResponse::Found().insert_header(("location", wanted["post_logout_redirect_uri"].as_str())).finish()
}

impl Inner {
    fn signs(&self, kind: &str, told: &Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut header = json!({"alg": "ES256", "kid": self.key.id, "typ": kind});
        let mut body = json!({"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300});
        put(&mut body, told);
        put(&mut header, &self.twist.header);
        put(&mut body, &self.twist.body);
        let signed = [header, body].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes())).join(".");
        let with = |key: &Key| key.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec();
        let mark = match self.twist.mark {
            Mark::Key => with(&self.key),
            Mark::OtherKey => with(&Key::new(String::new())),
            Mark::None => Vec::new(),
            Mark::PublicKey => {
                let mut mac = Hmac::<Sha256>::new_from_slice(self.key.public().to_string().as_bytes()).unwrap();
                mac.update(signed.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }
        };
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&mark))
    }
}
