//! Padding as the reference does it.

use qtl_data::collate::collate;
use qtl_data::template;

use crate::golden::{self, integers};
use crate::set;

#[test]
fn golden_collate() {
    let Some(cases) = golden::part("collate/cases.json") else {
        return;
    };
    let (mut ran, mut skipped) = (0, Vec::new());
    for batch in cases["batches"].as_array().unwrap() {
        let (name, tokenizer) = (
            batch["template"].as_str().unwrap(),
            batch["tokenizer"].as_str().unwrap(),
        );
        let Ok(template) = template::named(name) else {
            skipped.push(format!("{name}__{tokenizer}"));
            continue;
        };
        let tokenizer_name = tokenizer;
        let tokenizer = golden::tokenizer(tokenizer).unwrap();
        let train = golden::folder("templates")
            .join(format!("{name}__{tokenizer_name}"))
            .join("train.jsonl");
        let train = golden::json_lines(&train);
        let max = usize::try_from(batch["model_max_length"].as_u64().unwrap()).unwrap();
        let members = batch["members"].as_array().unwrap().iter().map(|member| {
            let case = train.iter().find(|case| case["name"] == *member).unwrap();
            template
                .conversation(
                    &golden::turns(&case["conversations"]).unwrap(),
                    &tokenizer,
                    2048,
                )
                .unwrap()
        });
        let members: Vec<_> = members.collect();
        let ours = collate(&members, tokenizer.pad().unwrap(), tokenizer.eos(), max);
        let rows = |key: &str| {
            batch[key]
                .as_array()
                .unwrap()
                .iter()
                .map(integers)
                .collect::<Vec<_>>()
        };
        assert_eq!(ours.ids, rows("input_ids"), "{batch}");
        assert_eq!(ours.labels, rows("labels"));
        let mask = batch["attention_mask"].as_array().unwrap();
        let attended = |v: &serde_json::Value| v.as_bool().unwrap_or_else(|| v.as_i64() == Some(1));
        let mask: Vec<Vec<bool>> = mask
            .iter()
            .map(|row| row.as_array().unwrap().iter().map(attended).collect())
            .collect();
        assert_eq!(ours.mask, mask);
        ran += 1;
    }
    println!("skipped (no such template) {skipped:?}");
    set::ran(ran, "collated batches");
}
