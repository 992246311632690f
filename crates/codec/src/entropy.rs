//! Shannon entropy of what a plane holds: the floor under every order-0 coder.

use crate::code::{SymbolData, Symbols};

/// How often each symbol of the alphabet occurs.
pub fn histogram(plane: &Symbols) -> Vec<u64> {
    match &plane.data {
        SymbolData::U8(data) => {
            let mut counts = bytes(data);
            counts.truncate(plane.alphabet as usize);
            counts
        }
        SymbolData::U16(data) => {
            let mut counts = vec![0; plane.alphabet as usize];
            data.iter().for_each(|&s| counts[usize::from(s)] += 1);
            counts
        }
    }
}

/// How often each of the 256 bytes occurs.
pub(crate) fn bytes(data: &[u8]) -> Vec<u64> {
    // Four tables: equal neighbours, the usual case here, do not wait for each other's increments.
    let mut parts = [[0u64; 256]; 4];
    let groups = data.chunks_exact(4);
    let rest = groups.remainder();
    rest.iter().for_each(|&s| parts[0][usize::from(s)] += 1);
    for group in groups {
        for (part, &symbol) in parts.iter_mut().zip(group) {
            part[usize::from(symbol)] += 1;
        }
    }
    let sum = |symbol| parts.iter().map(|part| part[symbol]).sum();
    (0..256usize).map(sum).collect()
}

/// Entropy of a histogram in bits per symbol, `-sum p log2 p` over the symbols that occur; 0 if none does.
pub fn shannon(counts: &[u64]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    let terms = counts.iter().filter(|&&count| count > 0).map(|&count| {
        let p = count as f64 / total;
        -p * p.log2()
    });
    // The sum of no terms is -0.0.
    terms.sum::<f64>().abs()
}

/// Order-0 entropy of a plane in bits per symbol.
pub fn order0_bits(plane: &Symbols) -> f64 {
    shannon(&histogram(plane))
}
