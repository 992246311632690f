//! A network that does what networks do: a proxy whose connections each meet with what a script has for them.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// What one connection meets with.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// Nothing.
    Good,
    /// Closed as soon as it is accepted.
    Closed,
    /// A web proxy's page instead of the server.
    Page,
    /// The server on this port, instead of the right one.
    Elsewhere(u16),
    /// Bits are flipped, up or down, so many bytes from its beginning.
    FlippedUp(usize),
    FlippedDown(usize),
    /// Cut after so many bytes from the server, in the middle of whatever they are.
    Truncated(usize),
    /// The same for bytes from the client.
    TruncatedUp(usize),
}

/// A running proxy.
pub struct Proxy {
    pub port: u16,
    script: Arc<Mutex<VecDeque<Fate>>>,
    /// Raised, the next bytes from the server are lost, and their connection with them.
    lose_answer: Arc<AtomicBool>,
}

impl Proxy {
    /// In front of the server on port `to`. Connections beyond the script are good ones.
    pub fn start(to: u16, script: impl IntoIterator<Item = Fate>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            port: listener.local_addr().unwrap().port(),
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            lose_answer: Arc::default(),
        };
        let (script, lose) = (proxy.script.clone(), proxy.lose_answer.clone());
        thread::spawn(move || {
            for near in listener.incoming() {
                let fate = script.lock().unwrap().pop_front().unwrap_or(Fate::Good);
                serve(near.unwrap(), to, fate, &lose);
            }
        });
        proxy
    }

    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// How much of the script is left.
    pub fn left(&self) -> usize {
        self.script.lock().unwrap().len()
    }

    pub fn lose_next_answer(&self) {
        self.lose_answer.store(true, Ordering::Relaxed);
    }
}

fn serve(mut near: TcpStream, to: u16, fate: Fate, lose: &Arc<AtomicBool>) {
    let mut to = to;
    let (mut up, mut down) = (None, None);
    let (mut cut, mut cut_up) = (usize::MAX, usize::MAX);
    match fate {
        Fate::Good => {}
        Fate::Closed => return,
        Fate::Page => {
            let _ = near.read(&mut [0; 4096]);
            let page = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
            let _ = near.write_all(page);
            return;
        }
        Fate::Elsewhere(port) => to = port,
        Fate::FlippedUp(at) => up = Some(at),
        Fate::FlippedDown(at) => down = Some(at),
        Fate::Truncated(after) => cut = after,
        Fate::TruncatedUp(after) => cut_up = after,
    }
    let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else {
        return;
    };
    let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    thread::spawn(move || pump(near2, far2, up, cut_up, None));
    let lose = lose.clone();
    thread::spawn(move || pump(far, near, down, cut, Some(&lose)));
}

fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    flip: Option<usize>,
    cut: usize,
    lose: Option<&AtomicBool>,
) {
    let (mut buffer, mut passed) = ([0; 4096], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if lose.is_some_and(|lose| lose.swap(false, Ordering::Relaxed)) {
            break;
        }
        // In three bytes, since TLS reads over the two of a record that name an old version.
        for at in flip.into_iter().flat_map(|at| at..at + 3) {
            if (passed..passed + read).contains(&at) {
                buffer[at - passed] ^= 0x10;
            }
        }
        let wanted = read.min(cut - passed);
        passed += read;
        if to.write_all(&buffer[..wanted]).is_err() || wanted < read {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
