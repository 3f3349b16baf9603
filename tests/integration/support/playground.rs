//! The demo server as a target, in the test's own process, so that it outlives the gateway. Knows nothing of the
//! gateway.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc,
    thread::JoinHandle,
};

use pulsegate::ssh::demo::{Admits, DemoOptions, DemoServer};
use tokio::sync::oneshot;

/// A running playground; dropping it stops it.
pub struct Playground {
    pub addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    server: std::sync::Arc<DemoServer>,
}

impl Playground {
    /// Starts a playground that accepts every login.
    pub fn start() -> Self {
        Self::admitting(Admits::Anyone)
    }

    /// Starts a playground that checks logins.
    pub fn admitting(admits: Admits) -> Self {
        let (started, server) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                let options = DemoOptions { admits, ..DemoOptions::default() };
                started.send(std::sync::Arc::new(DemoServer::start(listener, options).unwrap())).unwrap();
                // The sender's drop is the signal.
                stopped.await.ok();
            });
        });
        let server = server.recv().unwrap();
        Self { addr: server.addr(), stop: Some(stop), serving: Some(serving), server }
    }

    /// Returns the number of its open connections.
    pub fn connections(&self) -> usize {
        self.server.connections()
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(serving) = self.serving.take() {
            serving.join().ok();
        }
    }
}
