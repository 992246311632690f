//! What the reference sends, computed from the layout of its tensors, against what it sent.

use qtl_train::communication::reference;

use crate::set;

#[test]
fn golden_payloads_of_the_reference() {
    let Some(file) = set::file("quant/wire/wire.json") else {
        return;
    };
    let table: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut ran = 0;
    for row in table["rows"].as_array().unwrap() {
        let number = |field: &str| row[field].as_f64().unwrap();
        let name = row["quantizer"].as_str().unwrap();
        let rows = number("values") / number("D");
        let ways = reference(rows, number("D"));
        let method = match name {
            "none" => "none".to_owned(),
            _ => {
                let digits: String = name.chars().filter(char::is_ascii_digit).collect();
                let bits: u32 = digits.parse().unwrap();
                match name.split('_').next().unwrap() {
                    "fsq" => format!("FSQ L={}", 1 << bits),
                    "nf" => format!("NF {bits} bits"),
                    "topk" => format!("TopK L={bits}"),
                    other => panic!("{other}: a quantizer without a formula"),
                }
            }
        };
        let method = format!("reference {method}");
        let way = ways.iter().find(|way| way.method == method);
        let way = way.unwrap_or_else(|| panic!("no {method} for {name}"));
        let sent = number("uplink_quantizer_tensor_bytes") + number("uplink_side_tensor_bytes");
        // What was drawn differs a little from what is expected.
        let tolerance = if name.starts_with("topk") { 0.005 } else { 0.0 };
        assert!(
            (way.up - sent).abs() <= tolerance * sent,
            "{name} {}: {} for {sent}",
            number("D"),
            way.up
        );
        assert_eq!(way.down, number("downlink_tensor_bytes"));
        ran += 1;
    }
    set::ran(ran, "payloads of the reference");
}
