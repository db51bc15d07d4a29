//! A port before the homeserver that may be shut: who comes then is sent away, or not answered.

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It is closed at once.
    Shut,
    /// It is accepted, and that is all.
    Silent,
    /// It leads to this address.
    Open(String),
}

/// The port.
pub(crate) struct Door {
    pub(crate) url: String,
    address: std::net::SocketAddr,
    sign: Arc<Mutex<Sign>>,
    gone: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Door {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sign = Arc::new(Mutex::new(Sign::Shut));
        let gone = Arc::new(AtomicBool::new(false));
        let (read, over) = (Arc::clone(&sign), Arc::clone(&gone));
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for coming in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(coming) = coming else { continue };
                let sign = read.lock().unwrap().clone();
                match sign {
                    Sign::Shut => drop(coming),
                    Sign::Silent => kept.push(coming),
                    Sign::Open(address) => lead(coming, &address),
                }
            }
        });
        Self { url: format!("http://{address}"), address, sign, gone, thread }
    }

    pub(crate) fn turn(&self, sign: Sign) {
        *self.sign.lock().unwrap() = sign;
    }

    pub(crate) fn end(self) {
        self.gone.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.thread.join().unwrap();
    }
}

fn lead(coming: TcpStream, address: &str) {
    let Ok(going) = TcpStream::connect(address) else { return };
    for (mut from, mut to) in
        [(coming.try_clone().unwrap(), going.try_clone().unwrap()), (going, coming)]
    {
        // Ends with either connection.
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
