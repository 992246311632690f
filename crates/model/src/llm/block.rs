//! One block of the decoder: attention and a gated feed-forward part, each after a norm and around a residual.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::cache::LayerCache;
use super::{Context, DecoderSpec};
use crate::nn::{GatedMlp, Linear, Norm, attend};

#[derive(Module, Debug)]
pub(super) struct Block {
    input_layernorm: Norm,
    self_attn: SelfAttention,
    post_attention_layernorm: Norm,
    mlp: GatedMlp,
}

#[derive(Module, Debug)]
struct SelfAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    #[module(skip)]
    head_dim: usize,
}

impl Block {
    pub(super) fn new(spec: &DecoderSpec, device: &Device) -> Self {
        let (width, head_dim) = (spec.hidden_size, spec.rope.head_dim);
        let (query, key) = (spec.heads * head_dim, spec.kv_heads * head_dim);
        Self {
            input_layernorm: spec.norm.build(width, device),
            self_attn: SelfAttention {
                q_proj: Linear::new(width, query, spec.qkv_bias, device),
                k_proj: Linear::new(width, key, spec.qkv_bias, device),
                v_proj: Linear::new(width, key, spec.qkv_bias, device),
                o_proj: Linear::new(query, width, spec.output_bias, device),
                head_dim,
            },
            post_attention_layernorm: spec.norm.build(width, device),
            mlp: GatedMlp::new(
                width,
                spec.intermediate_size,
                spec.mlp_bias,
                spec.activation,
                device,
            ),
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
        let x = x + self.self_attn.forward(normed, context, cache);
        let normed = self.post_attention_layernorm.forward(x.clone());
        x + self.mlp.forward(normed)
    }
}

impl SelfAttention {
    fn forward(
        &self,
        x: Tensor<3>,
        context: &Context,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let split = |x: Tensor<3>| {
            let heads = x.dims()[2] / self.head_dim;
            x.reshape([batch, length, heads, self.head_dim])
        };
        let q = context.rope.rotate(split(self.q_proj.forward(x.clone())));
        let k = context.rope.rotate(split(self.k_proj.forward(x.clone())));
        let v = split(self.v_proj.forward(x));
        let (q, k, v) = (q.swap_dims(1, 2), k.swap_dims(1, 2), v.swap_dims(1, 2));
        let (k, v) = match cache {
            Some(cache) => cache.append(k, v),
            None => (k, v),
        };
        self.o_proj.forward(attend(q, k, v, Some(&context.mask)))
    }
}
