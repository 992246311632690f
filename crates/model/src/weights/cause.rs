//! One reason behind many names that do not fit: weights that are no weights yet.

use super::load::Mismatch;
use super::{Checkpoint, Entry};

/// A way to store matrices in fewer bits than a float has, told by the names that it leaves.
struct Packing {
    /// Ends of names that it alone leaves, one of which is enough.
    ends: &'static [&'static str],
    /// An end that tells it from the one below in the list.
    with: Option<&'static str>,
    what: &'static str,
    cure: &'static str,
}

const DEQUANTIZE: &str = "in Python load it with transformers, then model.dequantize() and \
                          model.save_pretrained(DIR); or use the model that it was made from";
const ORIGINAL: &str = "use the model that it was made from, in float16 or bfloat16";

const PACKINGS: &[Packing] = &[
    Packing {
        ends: &[".absmax", ".quant_map"],
        with: None,
        what: "bitsandbytes (4 bits)",
        cure: DEQUANTIZE,
    },
    Packing {
        ends: &[".SCB"],
        with: None,
        what: "bitsandbytes (8 bits)",
        cure: DEQUANTIZE,
    },
    Packing {
        ends: &[".qweight"],
        with: Some(".g_idx"),
        what: "GPTQ",
        cure: ORIGINAL,
    },
    Packing {
        ends: &[".qweight"],
        with: None,
        what: "AWQ",
        cure: ORIGINAL,
    },
    Packing {
        ends: &[".weight_packed"],
        with: None,
        what: "compressed-tensors",
        cure: ORIGINAL,
    },
    Packing {
        ends: &[".W_q"],
        with: None,
        what: "HQQ",
        cure: ORIGINAL,
    },
    Packing {
        ends: &["_blocks"],
        with: Some("_scales"),
        what: "MXFP4",
        cure: ORIGINAL,
    },
];

/// What `wrong` comes from, and the cure, if it is one of the usual things. What is said is of the whole file, so that all its
/// parts say the same.
pub(super) fn of(file: &Checkpoint, wrong: &Mismatch) -> Option<String> {
    let ending = |end: &str| wrong.surplus.iter().any(|name| name.ends_with(end));
    let first = |mine: &dyn Fn(&str) -> bool| file.names().find(|name| mine(name));
    if wrong.surplus.iter().any(|name| is_branch(name)) {
        let branch = first(&is_branch).unwrap_or_default();
        return Some(format!(
            "holds low-rank branches of PEFT beside the weights ({branch}), whose scale only an adapter_config.json tells; \
             in Python: model.merge_and_unload() and model.save_pretrained(DIR), or save the adapter and give it as \
             --from-adapter"
        ));
    }
    for packing in PACKINGS {
        let Some(end) = packing.ends.iter().find(|end| ending(end)) else {
            continue;
        };
        if packing.with.is_some_and(|with| !ending(with)) {
            continue;
        }
        let Packing { what, cure, .. } = packing;
        let name = first(&|name| name.ends_with(end)).unwrap_or_default();
        return Some(format!(
            "is quantized with {what}: it holds {name}, and no matrix as floats; {cure}"
        ));
    }
    let held = |wanted: &dyn Fn(&Entry) -> bool| -> Vec<&str> {
        let held = |name: &&str| file.entry(name).is_ok_and(wanted);
        file.names().filter(held).collect()
    };
    if wrong
        .mistyped
        .iter()
        .any(|(_, dtype)| dtype.starts_with("F8"))
    {
        let eight = held(&|entry| format!("{:?}", entry.dtype).starts_with("F8"));
        let name = eight.first().copied().unwrap_or_default();
        return Some(format!(
            "is quantized to 8-bit floats: {} tensors like {name}, whose scales are kept apart; {ORIGINAL}",
            eight.len()
        ));
    }
    if !wrong.empty.is_empty() {
        let empty = held(&|entry| entry.count() == 0);
        let name = empty.first().copied().unwrap_or_default();
        return Some(format!(
            "holds {} tensors without a value, such as {name}: DeepSpeed's ZeRO-3 keeps weights in pieces, and this was saved \
             without joining them. Join them with the zero_to_fp32.py that DeepSpeed wrote beside its checkpoint, or save \
             again with stage3_gather_16bit_weights_on_model_save = true",
            empty.len()
        ));
    }
    let absent = wrong.missing.iter().find(|name| file.is_absent(name))?;
    Some(format!(
        "has an index that names {absent}, which no file of the folder holds; download it again together with its shards"
    ))
}

fn is_branch(name: &str) -> bool {
    name.contains(".lora_A.")
}
