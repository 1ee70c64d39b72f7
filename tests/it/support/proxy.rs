//! A TCP proxy in front of a service, which a test can make silent, cut or close.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Bytes pass.
    Open,
    /// It stays open and nothing passes.
    Silent,
    Cut,
}

/// A running proxy; its connections end when it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    /// Of the connections that are accepted now.
    current: Mutex<watch::Sender<Fate>>,
    /// Of earlier ones.
    earlier: Mutex<Vec<watch::Sender<Fate>>>,
}

impl Proxy {
    /// Forwards to an address, `host:port`.
    pub async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            current: Mutex::new(watch::channel(Fate::Open).0),
            earlier: Mutex::default(),
        });
        let accepting = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let fate = shared.current.lock().expect("no panic").subscribe();
                    tokio::spawn(relay(client, target.clone(), fate));
                }
            }
        });
        Self { address, shared, accepting }
    }

    /// Makes the open connections silent; new ones work.
    pub fn silence(&self) {
        self.replace(Fate::Silent, Fate::Open);
    }

    /// Makes the open connections silent, and the new ones.
    pub fn silence_all(&self) {
        self.replace(Fate::Silent, Fate::Silent);
    }

    /// Closes the open connections, and the new ones at once.
    pub fn refuse(&self) {
        self.replace(Fate::Cut, Fate::Cut);
    }

    /// Lets new connections pass; those that are silent remain so.
    pub fn open(&self) {
        let next = watch::channel(Fate::Open).0;
        let before = std::mem::replace(&mut *self.shared.current.lock().expect("no panic"), next);
        self.shared.earlier.lock().expect("no panic").push(before);
    }

    fn replace(&self, old: Fate, new: Fate) {
        let next = watch::channel(new).0;
        let before = std::mem::replace(&mut *self.shared.current.lock().expect("no panic"), next);
        before.send_replace(old);
        self.shared.earlier.lock().expect("no panic").push(before);
    }
}

async fn relay(mut client: TcpStream, target: String, mut fate: watch::Receiver<Fate>) {
    let is_open = *fate.borrow() == Fate::Open;
    let passing = async {
        if !is_open {
            return std::future::pending().await;
        }
        let mut service = TcpStream::connect(target).await?;
        copy_bidirectional(&mut client, &mut service).await
    };
    tokio::select! {
        _ = passing => return,
        _ = fate.wait_for(|fate| *fate != Fate::Open) => {}
    }
    // Silent: both ends stay open until the proxy is dropped.
    let _ = fate.wait_for(|fate| *fate == Fate::Cut).await;
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
