//! What was found, as tables.

use qtl_eval::Table;
use qtl_train::communication::{LINES, Measured, Sent};

use super::Findings;

/// Tables per workload: the way up, the way down, step times, and ranks where there are any.
pub fn tables(all: &[Findings]) -> Vec<Table> {
    all.iter()
        .flat_map(|found| {
            let ranks = (!found.ranks.is_empty()).then(|| ranks(found));
            let down = (!found.gradients.is_empty()).then(|| down(found));
            let all = [Some(up(found)), down, Some(times(found))];
            all.into_iter().flatten().chain(ranks)
        })
        .collect()
}

fn title(found: &Findings, what: &str) -> String {
    let [images, texts, channels] = found.rows;
    format!(
        "{}: {what}; a step has {images:.0} image rows, {texts:.0} text rows, {channels:.0} channels",
        found.data
    )
}

/// Per cent that the round trip is smaller than the reference's without a quantizer.
fn saved(found: &Findings, bytes: f64) -> String {
    let plain = found.reference.first().map_or(0.0, |r| r.up + r.down);
    format!("{:.1}", 100.0 * (1.0 - bytes / plain))
}

fn kilo(bytes: f64) -> String {
    format!("{:.2}", bytes / 1e3)
}

fn bits(found: &Findings, bytes: f64) -> String {
    let [images, texts, channels] = found.rows;
    format!("{:.3}", 8.0 * bytes / ((images + texts) * channels))
}

fn quality(sent: &Sent) -> [String; 4] {
    [
        format!("{:.1}", sent.side_percent),
        format!("{:.4}", sent.error),
        format!("{:.4}", sent.cosine),
        format!("{:.1}", 1e3 * sent.seconds),
    ]
}

fn up(found: &Findings) -> Table {
    let header = [
        "quantizer",
        "kB up",
        "bits",
        "socket kB up",
        "socket bits",
        "image bits",
        "side %",
        "mse",
        "cosine",
        "coding ms",
        "kB down",
        "bits down",
        "socket kB down",
        "socket bits down",
        "saved %",
    ];
    let mut table = Table::new(title(found, "up"), &header);
    for row in &found.quantizers {
        let Measured { up, down } = &row.measured;
        let [side, mse, cosine, coding] = quality(up);
        table.push([
            row.quantizer.clone(),
            kilo(up.bytes),
            format!("{:.3}", up.bits_per_element),
            kilo(up.socket_bytes),
            format!("{:.3}", up.socket_bits_per_element),
            format!("{:.3}", up.image_bits),
            side,
            mse,
            cosine,
            coding,
            kilo(down.bytes),
            format!("{:.3}", down.bits_per_element),
            kilo(down.socket_bytes),
            format!("{:.3}", down.socket_bits_per_element),
            saved(found, up.bytes + down.bytes),
        ]);
    }
    for way in &found.reference {
        let (bits_up, bits_down) = (bits(found, way.up), bits(found, way.down));
        let none = || "-".to_owned();
        table.push([
            way.method.to_owned(),
            kilo(way.up),
            bits_up,
            none(),
            none(),
            none(),
            none(),
            none(),
            none(),
            none(),
            kilo(way.down),
            bits_down,
            none(),
            none(),
            saved(found, way.up + way.down),
        ]);
    }
    table.note = format!(
        "Whole messages as the wire's meter counts them; bits per element of all rows, crossed or not. Socket: the same messages \
         over gRPC and mutual TLS on this machine, as they pass the client's socket, with TLS and HTTP/2 framing and flow control \
         and without the handshake; mean of 8 steps or more of a warm connection. Side: all of a message but \
         targets and the elements' own numbers. Mse: relative to the variance, after the best gain. Coding: processor time of \
         both sides, one thread. Down: {} (first row: f32). Saved: of the round trip's messages, against the \
         reference without a quantizer. The reference's bytes are computed from its format, without pickling and padding.",
        found.quantizers.last().map_or("", |row| &row.codec)
    );
    table
}

fn down(found: &Findings) -> Table {
    let header = [
        "gradient codec",
        "kB down",
        "bits",
        "socket kB down",
        "socket bits",
        "side %",
        "bits crossing",
        "w",
        "1/(4^b - 1)",
        "cosine",
        "coding ms",
        "saved %",
    ];
    let mut table = Table::new(title(found, "down"), &header);
    for row in &found.gradients {
        let Measured { up, down } = &row.measured;
        let [side, w, cosine, coding] = quality(down);
        let alike = 1.0 / (4f64.powf(down.crossing_bits) - 1.0);
        table.push([
            row.codec.clone(),
            kilo(down.bytes),
            format!("{:.3}", down.bits_per_element),
            kilo(down.socket_bytes),
            format!("{:.3}", down.socket_bits_per_element),
            side,
            format!("{:.3}", down.crossing_bits),
            w,
            format!("{alike:.4}"),
            cosine,
            coding,
            saved(found, up.bytes + down.bytes),
        ]);
    }
    table.note = format!(
        "Up: {}. Bits crossing: of the containers of gradients per element in them. w: the mean squared error relative to the square; \
         beside it what no unbiased code of so many bits goes below where all entries are alike. The reference sends 32 bits per \
         element of every row.",
        found.gradients.first().map_or("", |row| &row.quantizer)
    );
    table
}

fn times(found: &Findings) -> Table {
    let what = "milliseconds of a step's communication by Mbit/s / round trip in ms";
    let mut table = Table::new(title(found, what), &["up", "down"]);
    let lines = LINES.map(|line| format!("{}/{}", line.mbit, line.round_trip_ms));
    table.header.extend(lines);
    let mut push = |up: String, down: String, seconds: &[f64]| {
        let ms = seconds.iter().map(|s| format!("{:.1}", 1e3 * s));
        table.push([up, down].into_iter().chain(ms));
    };
    for row in &found.quantizers {
        push(row.quantizer.clone(), row.codec.clone(), &row.step_seconds);
    }
    for way in &found.reference {
        let seconds = LINES.map(|line| line.seconds(way.up + way.down, 0.0));
        push(way.method.to_owned(), "f32".to_owned(), &seconds);
    }
    table.note = "Computed: bytes at the socket over the line, one round trip, measured coding on both sides, nothing overlapping; \
                  without computing. The reference's bytes are those of its messages, without framing; its coding is taken for nothing."
        .to_owned();
    table
}

fn ranks(found: &Findings) -> Table {
    let header = [
        "rank",
        "image, own",
        "image, shared",
        "text, own",
        "text, shared",
    ];
    let mut table = Table::new(title(found, "mse of a low-rank gradient"), &header);
    for rank in &found.ranks {
        let lost = rank.lost.map(|lost| format!("{lost:.4}"));
        table.push([rank.rank.to_string()].into_iter().chain(lost));
    }
    table.note = "What is left of the gradient's square outside the best subspace of so many dimensions: the message's own, or the \
                  one that all earlier messages share, which need not be sent. Coefficients are taken as exact."
        .to_owned();
    table
}
