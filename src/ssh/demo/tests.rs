//! Tests of the demo server with a real russh client over loopback.

use std::sync::Mutex;

use russh::{
    ChannelMsg, Disconnect,
    client::{self, AuthResult, KeyboardInteractiveAuthResponse},
    keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate},
};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::*;

/// Accepts any host key and remembers it.
#[derive(Clone, Default)]
struct Trusting(Arc<Mutex<Option<PublicKey>>>);

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        *self.0.lock().unwrap() = Some(key.clone());
        Ok(true)
    }
}

async fn started(admits: Admits) -> DemoServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    DemoServer::start(listener, DemoOptions { admits, ..DemoOptions::default() }).unwrap()
}

async fn dialled(server: &DemoServer) -> client::Handle<Trusting> {
    client::connect(Arc::default(), server.addr(), Trusting::default()).await.unwrap()
}

async fn signed_in(server: &DemoServer) -> client::Handle<Trusting> {
    let mut client = dialled(server).await;
    assert!(client.authenticate_none("anyone").await.unwrap().success());
    client
}

/// A client's end of one channel.
struct Terminal {
    channel: russh::Channel<client::Msg>,
    unread: Vec<u8>,
    status: Option<u32>,
    signal: Option<String>,
    closed: bool,
}

impl Terminal {
    async fn open(client: &client::Handle<Trusting>) -> Self {
        let channel = client.channel_open_session().await.unwrap();
        Self { channel, unread: vec![], status: None, signal: None, closed: false }
    }

    async fn shell(client: &client::Handle<Trusting>) -> Self {
        let mut terminal = Self::open(client).await;
        terminal.channel.request_pty(true, "xterm-256color", 80, 24, 0, 0, &[]).await.unwrap();
        assert!(terminal.granted().await);
        terminal.channel.request_shell(true).await.unwrap();
        assert!(terminal.granted().await);
        terminal.until("$ ").await;
        terminal
    }

    async fn granted(&mut self) -> bool {
        loop {
            match self.channel.wait().await.unwrap() {
                ChannelMsg::Success => return true,
                ChannelMsg::Failure => return false,
                _ => {}
            }
        }
    }

    async fn types(&self, text: &str) {
        self.channel.data_bytes(text.as_bytes().to_vec()).await.unwrap();
    }

    /// Takes one message; false once the channel is over.
    async fn step(&mut self) -> bool {
        match self.channel.wait().await {
            Some(ChannelMsg::Data { data }) => self.unread.extend_from_slice(&data),
            Some(ChannelMsg::ExitStatus { exit_status }) => self.status = Some(exit_status),
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => self.signal = Some(format!("{signal_name:?}")),
            Some(ChannelMsg::Close) => self.closed = true,
            Some(_) => {}
            None => return false,
        }
        true
    }

    /// Reads until `mark` and takes all up to there, the prompt's colours removed.
    async fn until(&mut self, mark: &str) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.unread).replace("\x1b[0m", "").replace("\x1b[1;", "\x1b[");
            if let Some(at) = text.find(mark) {
                // Tests type only after a mark, so no output follows it.
                assert!(text.len() == at + mark.len(), "more than {mark:?}: {text:?}");
                self.unread.clear();
                return text.replace("\x1b[32m", "").replace("\x1b[34m", "");
            }
            assert!(self.step().await, "over before {mark:?}: {text:?}");
        }
    }

    async fn ended(&mut self) {
        while self.step().await {}
    }
}

async fn until(mut met: impl FnMut() -> bool) {
    while !met() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn presents_its_host_key_greets_and_answers() {
    let server = started(Admits::Anyone).await;
    let seen = Trusting::default();
    let mut client = client::connect(Arc::default(), server.addr(), seen.clone()).await.unwrap();
    assert!(client.authenticate_none("anyone").await.unwrap().success());
    assert_eq!(seen.0.lock().unwrap().as_ref().unwrap().key_data(), server.host_key().key_data());
    assert!(server.fingerprint().starts_with("SHA256:"));

    let mut terminal = Terminal::shell(&client).await;
    terminal.types("echo grüß dich\r").await;
    assert_eq!(terminal.until("$ ").await, "echo grüß dich\r\ngrüß dich\r\nplayground:~$ ");
}

#[tokio::test]
async fn a_flood_is_exact_to_the_byte() {
    let server = started(Admits::Anyone).await;
    let client = signed_in(&server).await;
    let mut bare = Terminal::open(&client).await;
    bare.channel.exec(true, "flood 5MB").await.unwrap();
    bare.ended().await;
    assert_eq!((bare.unread.len(), bare.status, bare.closed), (5_000_000, Some(0), true));

    let mut terminal = Terminal::shell(&client).await;
    terminal.types("flood 3MB\r").await;
    let said = terminal.until("$ ").await;
    assert_eq!(said.len(), "flood 3MB\r\n".len() + 3_000_000 + "\r\nflood: 3000000 bytes\r\nplayground:~$ ".len());
}

#[tokio::test]
async fn ctrl_c_ends_endless_output() {
    let server = started(Admits::Anyone).await;
    let client = signed_in(&server).await;
    let mut terminal = Terminal::shell(&client).await;
    for command in ["yes\r", "flood 10GB\r"] {
        terminal.types(command).await;
        while terminal.unread.len() < 300_000 {
            assert!(terminal.step().await);
        }
        terminal.types("\x03").await;
        assert!(terminal.until("$ ").await.ends_with("^C\r\nplayground:~$ "));
    }
}

#[tokio::test]
async fn tells_status_and_signal() {
    let server = started(Admits::Anyone).await;
    let client = signed_in(&server).await;
    for (typed, status, signal) in [("exit 7\r", Some(7), None), ("signal TERM\r", None, Some("TERM"))] {
        let mut terminal = Terminal::shell(&client).await;
        terminal.types(typed).await;
        terminal.ended().await;
        assert_eq!((terminal.status, terminal.signal.as_deref(), terminal.closed), (status, signal, true));
    }
}

#[tokio::test]
async fn drop_ends_the_connection_without_a_goodbye() {
    let server = started(Admits::Anyone).await;
    let client = signed_in(&server).await;
    let mut terminal = Terminal::shell(&client).await;
    assert_eq!(server.connections(), 1);
    terminal.types("drop\r").await;
    terminal.ended().await;
    assert_eq!((terminal.status, terminal.closed), (None, false));
    until(|| server.connections() == 0 && client.is_closed()).await;
}

#[tokio::test]
async fn hears_of_resizes() {
    let server = started(Admits::Anyone).await;
    let client = signed_in(&server).await;
    let mut terminal = Terminal::shell(&client).await;
    terminal.types("resize\r").await;
    assert_eq!(terminal.until("80×24\r\n").await, "resize\r\n80×24\r\n");
    terminal.channel.window_change(100, 30, 0, 0).await.unwrap();
    terminal.until("100×30\r\n").await;
    terminal.channel.window_change(0, 100_000, 0, 0).await.unwrap();
    terminal.until("1×1000\r\n").await;
}

#[tokio::test]
async fn paste_reports_length_and_checksum() {
    let server = started(Admits::Anyone).await;
    let client = signed_in(&server).await;
    let mut terminal = Terminal::shell(&client).await;
    terminal.types("paste\r").await;
    terminal.until("paste\r\n").await;
    let pasted: Vec<u8> = (0..3_000_000_u32).map(|nth| 32 + (nth % 90) as u8).collect();
    terminal.channel.data_bytes(pasted.clone()).await.unwrap();
    terminal.types("\x04").await;
    let checksum: String = Sha256::digest(&pasted).iter().map(|byte| format!("{byte:02x}")).collect();
    let said = format!("paste: 3000000 bytes, SHA-256 {checksum}\r\nplayground:~$ ");
    assert_eq!(terminal.until("$ ").await, said);
}

#[tokio::test]
async fn raw_returns_every_single_byte_in_order() {
    let server = started(Admits::Anyone).await;
    let client = signed_in(&server).await;
    let mut terminal = Terminal::open(&client).await;
    terminal.channel.exec(true, "raw").await.unwrap();
    assert!(terminal.granted().await);
    let (mut reads, writes) = terminal.channel.split();
    let writer = async {
        for nth in 0..200_000_u32 {
            writes.data_bytes(vec![b'a' + (nth % 26) as u8]).await.unwrap();
        }
        writes.eof().await.unwrap();
    };
    let reader = async {
        let mut echoed = Vec::new();
        while let Some(message) = reads.wait().await {
            if let ChannelMsg::Data { data } = message {
                echoed.extend_from_slice(&data);
            }
        }
        echoed
    };
    let ((), echoed) = tokio::join!(writer, reader);
    assert_eq!(echoed.len(), 200_000);
    assert!((0_u32..).zip(&echoed).all(|(nth, byte)| *byte == b'a' + (nth % 26) as u8));
}

#[tokio::test]
async fn refuses_what_it_does_not_offer() {
    let server = started(Admits::Anyone).await;
    let client = signed_in(&server).await;
    let mut terminal = Terminal::open(&client).await;
    terminal.channel.set_env(true, "LANG", "C.UTF-8").await.unwrap();
    assert!(terminal.granted().await);
    terminal.channel.exec(true, "sh").await.unwrap();
    assert!(!terminal.granted().await);
    terminal.channel.request_subsystem(true, "sftp").await.unwrap();
    assert!(!terminal.granted().await);
    terminal.channel.request_x11(true, false, "p", "c", 0).await.unwrap();
    assert!(!terminal.granted().await);
    terminal.channel.request_shell(true).await.unwrap();
    assert!(terminal.granted().await);
    terminal.channel.request_shell(true).await.unwrap();
    assert!(!terminal.granted().await);
    assert!(client.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await.is_err());

    let mut open = vec![];
    for _ in 0..9 {
        open.push(client.channel_open_session().await.unwrap());
    }
    assert!(client.channel_open_session().await.is_err());
}

#[tokio::test]
async fn admits_by_password_only_whom_it_should() {
    let admits = Admits::Password { user: "ann".into(), password: "opensesame".into() };
    let server = started(admits).await;
    let mut client = dialled(&server).await;
    assert!(!client.authenticate_none("ann").await.unwrap().success());
    assert!(!client.authenticate_password("ann", "wrong").await.unwrap().success());
    assert!(!client.authenticate_password("bob", "opensesame").await.unwrap().success());
    assert!(client.authenticate_password("ann", "opensesame").await.unwrap().success());
}

#[tokio::test]
async fn admits_by_key_only_its_holder() {
    let key = Arc::new(DemoOptions::default().host_key);
    let other = Arc::new(DemoOptions::default().host_key);
    let server = started(Admits::PublicKey(key.public_key().clone())).await;
    let mut client = dialled(&server).await;
    let with = |key| PrivateKeyWithHashAlg::new(key, None);
    assert!(!client.authenticate_publickey("ann", with(other)).await.unwrap().success());
    assert!(client.authenticate_publickey("ann", with(key)).await.unwrap().success());
}

#[tokio::test]
async fn admits_by_every_round_of_questions() {
    let round = |question: &str, echo, answer: &str| Round {
        title: "Door".into(),
        instructions: "Answer".into(),
        questions: vec![(question.into(), echo, answer.into())],
    };
    let rounds = vec![round("Password: ", false, "one"), round("Code: ", true, "two")];
    let server = started(Admits::KeyboardInteractive(rounds)).await;
    let mut client = dialled(&server).await;
    for (answers, admitted) in [(["one", "no"], false), (["one", "two"], true)] {
        let mut asked = client.authenticate_keyboard_interactive_start("ann", None).await.unwrap();
        for answer in answers {
            let KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } = &asked else {
                panic!("no question: {asked:?}")
            };
            assert_eq!(prompts.len(), 1);
            asked = client.authenticate_keyboard_interactive_respond(vec![answer.into()]).await.unwrap();
        }
        assert_eq!(matches!(asked, KeyboardInteractiveAuthResponse::Success), admitted);
    }
}

#[tokio::test]
async fn stop_ends_every_connection_and_the_listening() {
    let server = started(Admits::Anyone).await;
    let client = signed_in(&server).await;
    let _terminal = Terminal::shell(&client).await;
    let mut silent = TcpStream::connect(server.addr()).await.unwrap();
    until(|| server.connections() == 2).await;
    let addr = server.addr();
    server.stop();
    until(|| server.connections() == 0 && client.is_closed()).await;
    let mut said = Vec::new();
    silent.read_to_end(&mut said).await.unwrap();
    assert!(said.starts_with(b"SSH-2.0-"));
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn a_goodbye_ends_the_connection() {
    let server = started(Admits::Anyone).await;
    let client = signed_in(&server).await;
    client.disconnect(Disconnect::ByApplication, "", "").await.unwrap();
    until(|| server.connections() == 0).await;
    assert!(matches!(dialled(&server).await.authenticate_none("anyone").await, Ok(AuthResult::Success)));
}
