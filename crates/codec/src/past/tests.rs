use super::*;
use crate::code::{Plane, ScalarData, Scalars, Symbols};
use crate::fuzzing::same_bits;

/// A stream of numbers.
struct Draw(u32);

impl Draw {
    fn below(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        (self.0 >> 8) % most
    }
}

/// Messages of a vocabulary whose rows change now and then: places, and the code of the slots that they name.
struct Sender {
    draw: Draw,
    rows: Vec<Vec<u32>>,
    scales: Vec<f32>,
    alphabet: u32,
}

impl Sender {
    fn new(alphabet: u32) -> Self {
        Self {
            draw: Draw(3),
            rows: Vec::new(),
            scales: Vec::new(),
            alphabet,
        }
    }

    fn next(&mut self) -> (Code, Vec<u32>) {
        let mut places = Vec::new();
        for _ in 0..40 {
            let known = self.rows.len() as u32;
            let slot = match self.draw.below(8) {
                0 => known,
                _ => self.draw.below(known + 1),
            };
            if slot == known {
                let row = (0..12).map(|_| self.draw.below(self.alphabet));
                self.rows.push(row.collect());
                self.scales.push(1.0);
            }
            places.push(slot);
        }
        for _ in 0..3 {
            let at = self.draw.below(self.rows.len() as u32) as usize;
            self.rows[at][self.draw.below(12) as usize] = self.draw.below(self.alphabet);
            self.scales[at] += 0.25;
        }
        (self.code(&places), places)
    }

    fn code(&self, places: &[u32]) -> Code {
        let (slots, _) = named(places);
        let rows = || slots.iter().map(|slot| *slot as usize);
        let symbols = rows().flat_map(|slot| self.rows[slot].iter().copied());
        let symbols = Symbols::from_u32(self.alphabet, slots.len(), 12, symbols).unwrap();
        let scales = ScalarData::F32(rows().map(|slot| self.scales[slot]).collect());
        let scales = Scalars::new(slots.len(), 1, scales).unwrap();
        let book = Scalars::new(1, 4, ScalarData::U8(vec![1, 2, 3, 4])).unwrap();
        Code::new(vec![symbols.into(), scales.into(), book.into()])
    }
}

const MOST: u32 = 1000;

fn read(past: &Past, message: &Message, places: usize) -> Result<Read, PastError> {
    past.decode(
        [&message.rows, &message.numbers],
        places,
        MOST,
        &Limits::default(),
    )
}

#[test]
fn what_goes_on_comes_back() {
    for alphabet in [2, 16, 256, 500] {
        let mut sender = Sender::new(alphabet);
        let (mut here, mut there) = (Past::default(), Past::default());
        let (mut whole, mut told) = (0, 0);
        for message in 0..200 {
            let (code, places) = sender.next();
            let sent = here.encode(&code, &places);
            let read = read(&there, &sent, places.len()).unwrap();
            assert!(
                same_bits(&read.code, &code),
                "{alphabet}: message {message}"
            );
            let (slots, index) = named(&places);
            assert_eq!(read.index, index);
            assert_eq!(read.lesson.slots, slots);
            there.learn(read.lesson);
            assert_eq!(here.bytes(), there.bytes());
            assert_eq!(sent.accounts[0].total(), sent.rows.len() as u64);
            assert_eq!(sent.accounts[1].total(), sent.numbers.len() as u64);
            whole += crate::encode(&code, &Options::default()).len();
            told += sent.rows.len();
        }
        assert!(3 * told < whole, "{alphabet}: {told} bytes, whole {whole}");
    }
}

#[test]
fn rows_are_read_against_the_senders_alone() {
    let mut sender = Sender::new(16);
    let mut here = Past::default();
    let mut messages = Vec::new();
    for _ in 0..4 {
        let (code, places) = sender.next();
        messages.push(here.encode(&code, &places));
    }
    let mut there = Past::default();
    let first = read(&there, &messages[0], 40).unwrap();
    let other = |past: &Past, n: usize| match read(past, &messages[n], 40) {
        Err(PastError::Other { held, .. }) => held,
        other => panic!("{other:?}"),
    };
    // Before the first, one too early, and one twice.
    assert_eq!(other(&there, 1), None);
    there.learn(first.lesson);
    let held = there.last;
    assert_eq!(other(&there, 2), held);
    there.learn(read(&there, &messages[1], 40).unwrap().lesson);
    assert_ne!(there.last, held);
    assert_eq!(other(&there, 1), there.last);
    // Reading teaches nothing, and who begins anew is understood whatever was before.
    read(&there, &messages[2], 40).unwrap();
    there.learn(read(&there, &messages[0], 40).unwrap().lesson);
    assert_eq!(there.last, held);
    there.learn(read(&there, &messages[1], 40).unwrap().lesson);
}

#[test]
fn what_was_changed_is_refused() {
    let mut sender = Sender::new(300);
    let mut here = Past::default();
    let (code, places) = sender.next();
    here.encode(&code, &places);
    let (code, places) = sender.next();
    let sent = here.clone().encode(&code, &places);
    let many = |most| here.decode([&sent.rows, &sent.numbers], 40, most, &Limits::default());
    assert!(matches!(many(5), Err(PastError::Slots { most: 5, .. })));
    let mut draw = Draw(9);
    let mut accepted = 0;
    for turn in 0..4000 {
        let mut wrong = sent.clone();
        let piece = match draw.below(2) {
            0 => &mut wrong.rows,
            _ => &mut wrong.numbers,
        };
        match draw.below(3) {
            0 => piece.truncate(draw.below(piece.len() as u32) as usize),
            1 => piece.push(draw.below(256) as u8),
            _ => {
                let at = draw.below(piece.len() as u32) as usize;
                piece[at] ^= 1 << draw.below(8);
            }
        }
        if turn % 2 == 0 {
            assert!(read(&here, &wrong, 40).is_err(), "{turn}");
            continue;
        }
        // With a checksum that is right it may be a message, and then it is the message of what it says.
        if let Some((body, last)) = wrong.rows.split_last_chunk_mut::<4>() {
            *last = checksum(&wrong.numbers, body).to_le_bytes();
        }
        if let Ok(read) = read(&here, &wrong, 40) {
            let mut sender = match wrong.rows[0] {
                ANEW => Past::default(),
                _ => here.clone(),
            };
            let slot = |row: &u32| read.lesson.slots[*row as usize];
            let places: Vec<u32> = read.index.iter().map(slot).collect();
            let again = sender.encode(&read.code, &places);
            assert_eq!(again.numbers, wrong.numbers, "{turn}");
            accepted += 1;
        }
    }
    assert!(accepted > 0);
}

#[test]
fn other_planes_begin_anew() {
    let mut sender = Sender::new(16);
    let mut here = Past::default();
    let (code, places) = sender.next();
    assert!(here.fits(&code, 3));
    here.encode(&code, &places);
    let (mut code, places) = sender.next();
    let rows = named(&places).0.len();
    assert!(here.fits(&code, rows));
    let Plane::Scalars(book) = &mut code.planes[2] else {
        panic!("the book is the third plane");
    };
    book.data = ScalarData::U8(vec![1, 2, 3, 5]);
    assert!(!here.fits(&code, rows));
}

#[test]
fn places_and_slots_are_bounded() {
    let mut past = Past::default();
    let code = Code::new(vec![Symbols::from_u32(2, 1, 1, [1]).unwrap().into()]);
    let sent = past.encode(&code, &[0, 0]);
    let error = read(&past, &sent, MOST_PLACES + 1).unwrap_err();
    assert_eq!(
        error,
        PastError::Places {
            places: MOST_PLACES + 1
        }
    );
    let sent = past.clone().encode(&code, &[0]);
    let limits = Limits {
        max_bytes: 0,
        ..Limits::default()
    };
    let refused = past.decode([&sent.rows, &sent.numbers], 1, MOST, &limits);
    assert_eq!(refused.unwrap_err(), PastError::Memory { needed: 1 });
}
