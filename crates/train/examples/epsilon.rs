//! For `runs/accountant.py`: reads lines of a noise multiplier, a number of times and a delta, and says the epsilon of each.
#![allow(clippy::print_stdout)]

use std::io::{self, BufRead};

fn main() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        let fields: Vec<f64> = line
            .split_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        let [multiplier, times, delta] = fields[..] else {
            return Err(io::Error::other(format!(
                "{line}: three numbers are expected"
            )));
        };
        println!(
            "{}",
            qtl_train::accountant::epsilon(multiplier, times as u64, delta)
        );
    }
    Ok(())
}
