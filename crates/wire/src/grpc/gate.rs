//! Who may be in a handshake: strangers wait for nobody, and nobody waits for strangers.
//!
//! Nobody is turned away at a full gate: the one who has been standing there longest goes, and those who have not said a
//! word go first. A client says its first words at once and is through in a moment; whoever only holds a place loses it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Addresses that are remembered because somebody there has authenticated.
const REMEMBERED: usize = 1024;

/// How many handshakes may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshakes {
    /// In all. Addresses from which somebody has authenticated before are not pushed aside by others.
    pub total: usize,
    /// From one address, which may be a whole hospital's.
    pub per_address: usize,
}

impl Default for Handshakes {
    fn default() -> Handshakes {
        Handshakes {
            total: 256,
            per_address: 32,
        }
    }
}

/// Who is in a handshake.
pub(super) struct Gate {
    bounds: Handshakes,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// In the order of arrival.
    inside: Vec<Entry>,
    known: VecDeque<IpAddr>,
}

struct Entry {
    id: u64,
    network: IpAddr,
    known: bool,
    spoke: bool,
    /// Dropped to end the handshake.
    _stay: oneshot::Sender<()>,
}

/// A place at the gate, given back when dropped.
pub(super) struct Place {
    gate: Arc<Gate>,
    id: u64,
    network: IpAddr,
}

impl Gate {
    pub fn new(bounds: Handshakes) -> Arc<Gate> {
        Arc::new(Gate {
            bounds,
            state: Mutex::default(),
        })
    }

    /// A place for a newcomer, and what tells it that it has lost the place again. `None`: all places are taken by known
    /// addresses, and this is none.
    pub fn enter(self: &Arc<Gate>, address: IpAddr) -> Option<(Place, oneshot::Receiver<()>)> {
        let network = network(address);
        let mut state = self.state();
        let known = state.known.contains(&network);
        let near = |entry: &Entry| entry.network == network;
        if state.inside.iter().filter(|entry| near(entry)).count() >= self.bounds.per_address {
            state.push_aside(near);
        } else if state.inside.len() >= self.bounds.total
            && !state.push_aside(|entry| !entry.known)
            && !(known && state.push_aside(|_| true))
        {
            return None;
        }
        let (stay, left) = oneshot::channel();
        let id = state.next;
        state.next += 1;
        state.inside.push(Entry {
            id,
            network,
            known,
            spoke: false,
            _stay: stay,
        });
        let gate = Arc::clone(self);
        Some((Place { gate, id, network }, left))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends one handshake of those that `fits` names, if there is one: the oldest that has not said a word, or else the
    /// oldest.
    fn push_aside(&mut self, fits: impl Fn(&Entry) -> bool) -> bool {
        let silent = self
            .inside
            .iter()
            .position(|entry| fits(entry) && !entry.spoke);
        let oldest = silent.or_else(|| self.inside.iter().position(&fits));
        oldest.map(|at| self.inside.remove(at)).is_some()
    }
}

impl Place {
    /// The newcomer has said something.
    pub fn spoke(&self) {
        let mut state = self.gate.state();
        if let Some(entry) = state.inside.iter_mut().find(|entry| entry.id == self.id) {
            entry.spoke = true;
        }
    }

    /// The newcomer has authenticated.
    pub fn authenticated(&self) {
        let mut state = self.gate.state();
        state.known.retain(|known| *known != self.network);
        state.known.push_back(self.network);
        if state.known.len() > REMEMBERED {
            state.known.pop_front();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.state().inside.retain(|entry| entry.id != self.id);
    }
}

/// What counts as one address: in IPv6, what one household is given.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn gate(total: usize, per_address: usize) -> Arc<Gate> {
        Gate::new(Handshakes { total, per_address })
    }

    fn lost(left: &mut oneshot::Receiver<()>) -> bool {
        matches!(left.try_recv(), Err(oneshot::error::TryRecvError::Closed))
    }

    #[test]
    fn the_oldest_silent_one_of_an_address_makes_room() {
        let gate = gate(10, 2);
        let (speaking, mut first) = gate.enter(address(1)).unwrap();
        speaking.spoke();
        let (_silent, mut second) = gate.enter(address(1)).unwrap();
        let (_other, mut other) = gate.enter(address(2)).unwrap();
        let (_third, mut third) = gate.enter(address(1)).unwrap();
        assert!(lost(&mut second), "the silent one goes");
        for stays in [&mut first, &mut other, &mut third] {
            assert!(!lost(stays));
        }
    }

    #[test]
    fn known_addresses_are_not_pushed_aside_by_others() {
        let gate = gate(2, 2);
        let (place, _left) = gate.enter(address(1)).unwrap();
        place.authenticated();
        drop(place);
        let (_known, mut known) = gate.enter(address(1)).unwrap();
        let (_stranger, mut stranger) = gate.enter(address(2)).unwrap();
        let (_another, mut another) = gate.enter(address(3)).unwrap();
        assert!(lost(&mut stranger) && !lost(&mut known));
        // And they find room themselves.
        let (_again, _) = gate.enter(address(1)).unwrap();
        assert!(lost(&mut another) && !lost(&mut known));
        assert!(gate.enter(address(4)).is_none());
    }

    #[test]
    fn places_are_given_back() {
        let gate = gate(2, 1);
        for _ in 0..5 {
            let (_place, mut left) = gate.enter(address(1)).unwrap();
            assert!(!lost(&mut left));
        }
        assert!(gate.state().inside.is_empty());
    }

    #[test]
    fn one_household_is_one_address() {
        let parse = |text: &str| network(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:1"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:10.0.0.1"), address(1));
    }
}
