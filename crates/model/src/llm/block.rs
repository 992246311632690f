//! One block of the decoder: attention and a feed-forward part around a residual, one after the other or side by side.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::cache::LayerCache;
use super::{Context, DecoderSpec, LayerSpec};
use crate::nn::{FeedForward, Linear, Named, Norm, attend};

/// The fields have Llama's names; [`super::Names`] tells what files call them.
#[derive(Module, Debug)]
pub(super) struct Block {
    input_layernorm: Named<Norm>,
    self_attn: Named<SelfAttention>,
    /// None where both parts read the same norm.
    post_attention_layernorm: Option<Named<Norm>>,
    mlp: Named<FeedForward>,
}

#[derive(Module, Debug)]
struct SelfAttention {
    qkv: Named<Projections>,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    o_proj: Named<Linear>,
    #[module(skip)]
    heads: [usize; 3],
    #[module(skip)]
    head_dim: usize,
}

/// Where queries, keys and values come from.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a block holds one of these")]
enum Projections {
    Separate(Separate),
    Fused(Fused),
}

#[derive(Module, Debug)]
struct Separate {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
}

/// Rows of all query heads, then of all key heads, then of all value heads.
#[derive(Module, Debug)]
struct Fused {
    qkv_proj: Linear,
}

impl Block {
    pub(super) fn new(spec: &DecoderSpec, layer: &LayerSpec, device: &Device) -> Self {
        let (width, names) = (spec.hidden_size, &spec.names);
        let norm = |name| Named::new(name, spec.norm.build(width, device));
        let mlp = FeedForward::new(
            spec.mlp,
            width,
            layer.intermediate_size,
            spec.activation,
            device,
        );
        Self {
            input_layernorm: norm(names.attention_norm),
            self_attn: Named::new(names.attention, SelfAttention::new(spec, layer, device)),
            post_attention_layernorm: (!spec.parallel).then(|| norm(names.mlp_norm)),
            mlp: Named::new(names.mlp, mlp),
        }
    }

    /// `[B, S, hidden]` to the same shape. With a cache, the keys and values of `x` are appended to it and the queries
    /// look at everything in it.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        context: &Context,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let normed = self.input_layernorm.forward(x.clone());
        let attended = self.self_attn.forward(normed.clone(), context, cache);
        match &self.post_attention_layernorm {
            Some(norm) => {
                let x = x + attended;
                let normed = norm.forward(x.clone());
                x + self.mlp.forward(normed)
            }
            None => x + attended + self.mlp.forward(normed),
        }
    }
}

impl SelfAttention {
    fn new(spec: &DecoderSpec, layer: &LayerSpec, device: &Device) -> Self {
        let (width, head_dim) = (spec.hidden_size, spec.rope.head_dim);
        let map = |heads| Linear::new(width, heads * head_dim, spec.qkv_bias, device);
        let qkv = if spec.fused_qkv {
            Projections::Fused(Fused {
                qkv_proj: map(layer.heads + 2 * layer.kv_heads),
            })
        } else {
            Projections::Separate(Separate {
                q_proj: map(layer.heads),
                k_proj: map(layer.kv_heads),
                v_proj: map(layer.kv_heads),
            })
        };
        let norm = || spec.qk_norm.then(|| spec.norm.build(head_dim, device));
        let output = Linear::new(layer.heads * head_dim, width, spec.output_bias, device);
        Self {
            qkv: Named::flat(qkv),
            q_norm: norm(),
            k_norm: norm(),
            o_proj: Named::new(spec.names.output, output),
            heads: [layer.heads, layer.kv_heads, layer.kv_heads],
            head_dim,
        }
    }

    fn forward(
        &self,
        x: Tensor<3>,
        context: &Context,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let [q, k, v] = self.qkv.forward(x, self.heads, self.head_dim);
        let q = context.rope.rotate(normed(&self.q_norm, q));
        let k = context.rope.rotate(normed(&self.k_norm, k));
        let (q, k, v) = (q.swap_dims(1, 2), k.swap_dims(1, 2), v.swap_dims(1, 2));
        let (k, v) = match cache {
            Some(cache) => cache.append(k, v),
            None => (k, v),
        };
        self.o_proj.forward(attend(q, k, v, Some(&context.mask)))
    }
}

impl Projections {
    /// `[B, S, hidden]` to queries, keys and values, each `[B, S, heads, head_dim]`.
    fn forward(&self, x: Tensor<3>, heads: [usize; 3], head_dim: usize) -> [Tensor<4>; 3] {
        let [batch, length, _] = x.dims();
        match self {
            Self::Separate(maps) => {
                let maps = [&maps.q_proj, &maps.k_proj, &maps.v_proj];
                [0, 1, 2].map(|i| {
                    let flat = maps[i].forward(x.clone());
                    flat.reshape([batch, length, heads[i], head_dim])
                })
            }
            Self::Fused(map) => {
                let total = heads.iter().sum();
                let all = map.qkv_proj.forward(x);
                let all = all.reshape([batch, length, total, head_dim]);
                let mut first = 0;
                heads.map(|count| {
                    first += count;
                    all.clone().narrow(2, first - count, count)
                })
            }
        }
    }
}

fn normed(norm: &Option<Norm>, x: Tensor<4>) -> Tensor<4> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}
