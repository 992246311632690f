"""A model that `qtinyllava merge` wrote, in transformers:

    model = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    ids = model.prompt_ids(tokenizer, "USER: <image>\\nWhat is there? ASSISTANT:")
    pixels = AutoImageProcessor.from_pretrained(directory, trust_remote_code=True)(picture, return_tensors="pt").pixel_values
    print(tokenizer.decode(model.generate(ids, pixel_values=pixels, max_new_tokens=40, do_sample=False)[0]))

It computes what the two halves compute in one process: rows of pictures and of text go through their quantizers, also those of
the tokens that are generated, at the language model's input or behind the block where it was cut, and so do the hidden states where
the labels stayed at the client. Towers CLIP, SigLIP, DINOv2 and their mixture; connectors identity, linear, mlpNx_gelu, resampler,
qformer and mof_mlp; quantizers none, exact, fsq, adsq, ecsq and fsq_tanh with recorded statistics, pca, vq, rvq and pq; language models that are part of transformers.
"""

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CLIPVisionModel,
    Dinov2Model,
    PretrainedConfig,
    PreTrainedModel,
    SiglipVisionModel,
)
from transformers.activations import ACT2FN
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

# Stands for the picture among token ids.
IMAGE_TOKEN = -200
TOWERS = {"clip_vision_model": CLIPVisionModel, "siglip_vision_model": SiglipVisionModel, "dinov2": Dinov2Model}


def part(fields):
    """The configuration of a part as transformers has it."""
    fields = {**fields, "dtype": None, "torch_dtype": None}
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


class QTinyLlavaConfig(PretrainedConfig):
    model_type = "tinyllava"

    def __init__(self, text_config=None, vision_config=None, **kwargs):
        self.text_config = text_config or {"model_type": "llama"}
        self.vision_config = vision_config or {"model_type": "siglip_vision_model"}
        super().__init__(**kwargs)

    def get_text_config(self, *args, **kwargs):
        text = part(self.text_config)
        text.tie_word_embeddings = self.text_config.get("tie_word_embeddings", text.tie_word_embeddings)
        return text


class Scaling(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.running_mean = nn.Parameter(torch.zeros(width), requires_grad=False)
        self.running_std = nn.Parameter(torch.ones(width), requires_grad=False)


class Quantizer(nn.Module):
    """Rows as the other side gets them; both halves of the quantizer."""

    def __init__(self, spec, width):
        super().__init__()
        self.kind = spec["kind"]
        if self.kind in ("none", "exact"):
            return
        if self.kind in ("pca", "vq", "rvq", "pq"):
            self.few(spec, width)
            return
        if self.kind not in ("fsq", "adsq", "ecsq", "fsq_tanh"):
            here = "none, exact, fsq, adsq, ecsq, fsq_tanh, pca, vq, rvq and pq"
            raise NotImplementedError(f"quantizer {self.kind}: here are {here}")
        if spec.get("statistics", "channel") == "batch":
            raise NotImplementedError("statistics = batch: what a row becomes depends on the rows beside it")
        code = spec.get("code_dim") or width
        self.levels = spec["levels"]
        self.width = spec.get("width")
        self.in_proj = nn.Linear(width, code)
        self.out_proj = nn.Linear(code, width)
        if self.kind != "fsq_tanh":
            self.scaling = Scaling(code)
        if self.kind == "adsq":
            self.learned_width = nn.Parameter(torch.ones(1))
        self.values = spec.get("values")

    def few(self, spec, width):
        """A code of few components, rounded or looked up in codebooks."""
        self.groups, self.stages = spec.get("groups", 1), spec.get("stages", 1)
        self.each = max(min(spec["dims"], width) // self.groups, 1)
        code = self.each * self.groups
        self.in_proj = nn.Linear(width, code)
        self.out_proj = nn.Linear(code, width)
        if self.kind == "pca":
            shapes = {"running_sides": code, "running_levels": code}
        else:
            numbers = self.groups * self.stages * spec["codes"] * self.each
            shapes = {"running_codes": numbers, "running_table": numbers}
        if spec.get("learned"):
            self.out_codes = nn.Parameter(torch.zeros(spec["codes"], width))
        for name, length in shapes.items():
            setattr(self, name, nn.Parameter(torch.zeros(length), requires_grad=False))

    def looked_up(self, u):
        """The vectors nearest to rows: group by group, in each stage of what the stages before it leave."""
        books = self.running_codes.float().reshape(self.groups, self.stages, -1, self.each)
        parts = []
        for group, left in zip(books, u.reshape(-1, self.groups, self.each).unbind(1)):
            found = torch.zeros_like(left)
            for book in group:
                number = (book.square().sum(1) / 2 - left @ book.T).argmin(1)
                vector = book[number]
                found, left = found + vector, left - vector
            parts.append(found)
        beyond = self.out_codes.float()[number] if hasattr(self, "out_codes") else None
        return torch.cat(parts, 1).reshape(u.shape), beyond

    def forward(self, rows):
        if self.kind == "exact":
            return rows
        if self.kind == "none":
            return rows.half().to(rows.dtype)
        dtype = rows.dtype
        u = nn.functional.linear(rows.float(), self.in_proj.weight.float(), self.in_proj.bias.float())
        if hasattr(self, "each"):
            beyond = None
            if self.kind == "pca":
                sides = self.running_sides.float()
                q = torch.round(torch.minimum(torch.maximum(u, -sides), sides))
            else:
                q, beyond = self.looked_up(u)
            out = nn.functional.linear(q, self.out_proj.weight.float(), self.out_proj.bias.float())
            return (out if beyond is None else out + beyond.reshape(out.shape)).to(dtype)
        if self.kind == "fsq_tanh":
            z = u.tanh()
        else:
            width = self.learned_width.float() if self.kind == "adsq" else self.width
            reach = self.scaling.running_std.float() * width + 1e-4
            z = ((u - self.scaling.running_mean.float()) / reach).clamp(-1, 1)
        half = (self.levels - 1) / 2
        offset = 0.0 if self.levels % 2 else 0.5
        symbol = torch.round(z * half - offset) + offset + half
        symbol = symbol.clamp(0, self.levels - 1)
        if self.values is None:
            q = (symbol - half) / half
        else:
            q = torch.tensor(self.values, device=u.device)[symbol.long()]
        out = nn.functional.linear(q, self.out_proj.weight.float(), self.out_proj.bias.float())
        return out.to(dtype)


def behind(block, quantizer):
    """Has what leaves a block go through a quantizer."""

    def hook(_module, _inputs, out):
        return (quantizer(out[0]), *out[1:]) if isinstance(out, tuple) else quantizer(out)

    block.register_forward_hook(hook)


class Holder(nn.Module):
    """A level of names."""

    def __init__(self, /, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class Words(nn.Embedding):
    """The token embedding of the language model behind the quantizer of text rows."""

    def forward(self, ids):
        rows = super().forward(ids)
        return self.__dict__["quantizer"](rows) if "quantizer" in self.__dict__ else rows


def levelled(fields):
    """A tower under the names of the files, which newer versions of transformers have shortened."""
    config = part(fields)
    if fields["model_type"] not in TOWERS:
        raise NotImplementedError(f"vision tower {fields['model_type']}: here are {', '.join(TOWERS)} and mof")
    tower = TOWERS[fields["model_type"]](config)
    if fields["model_type"] == "dinov2" or hasattr(tower, "vision_model"):
        return tower
    return Holder(vision_model=tower)


def unlevelled(tower):
    inner = getattr(tower, "vision_model", None)
    return inner if isinstance(tower, Holder) else tower


class VisionTower(nn.Module):
    def __init__(self, config):
        super().__init__()
        fields = config.vision_config
        second = fields.get("dinov2") if fields["model_type"] in ("mof", "clip_vision_model") else None
        if second:
            first = fields["clip"] if fields["model_type"] == "mof" else {k: v for k, v in fields.items() if k != "dinov2"}
            self._vision_tower = Holder(clip=levelled(first), dinov2=levelled(second))
            self.names = ["clip", "dinov2"]
        else:
            self._vision_tower = levelled(fields)
            self.names = None
        self.layer = config.vision_feature_layer
        self.skip = 1 if config.vision_feature_select_strategy == "patch" else 0

    def forward(self, pixels):
        towers = [self._vision_tower] if self.names is None else [getattr(self._vision_tower, name) for name in self.names]
        features = []
        for tower in map(unlevelled, towers):
            other = tower.config.image_size != pixels.shape[-1]
            more = {"interpolate_pos_encoding": True} if other and not isinstance(tower, Dinov2Model) else {}
            states = tower(pixels, output_hidden_states=True, **more).hidden_states
            features.append(states[self.layer][:, self.skip:])
        return torch.cat(features, -1)


def mlp(depth, width, hidden):
    layers = [nn.Linear(width, hidden)]
    for _ in range(1, depth):
        layers += [nn.GELU(), nn.Linear(hidden, hidden)]
    return nn.Sequential(*layers)


def attend(q, k, v, heads):
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Perceiver(nn.Module):
    """Learned latents that attend to the features and to themselves."""

    HEADS, HEAD_WIDTH, FACTOR = 8, 64, 4

    def __init__(self, width, hidden, queries, layers):
        super().__init__()
        inner = self.HEADS * self.HEAD_WIDTH
        self.latents = nn.Parameter(torch.zeros(queries, hidden))
        self.linear = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(
            nn.ModuleList([
                Holder(
                    norm_media=nn.LayerNorm(hidden),
                    norm_latents=nn.LayerNorm(hidden),
                    to_q=nn.Linear(hidden, inner, bias=False),
                    to_kv=nn.Linear(hidden, 2 * inner, bias=False),
                    to_out=nn.Linear(inner, hidden, bias=False),
                ),
                nn.Sequential(
                    nn.LayerNorm(hidden),
                    nn.Linear(hidden, self.FACTOR * hidden, bias=False),
                    nn.GELU(),
                    nn.Linear(self.FACTOR * hidden, hidden, bias=False),
                ),
            ])
            for _ in range(layers)
        )

    def forward(self, features):
        media = self.linear(features)
        latents = self.latents.expand(len(media), -1, -1)
        for part, feed_forward in self.layers:
            normed = part.norm_latents(latents)
            both = torch.cat([part.norm_media(media), normed], 1)
            k, v = part.to_kv(both).chunk(2, -1)
            latents = latents + part.to_out(attend(part.to_q(normed), k, v, self.HEADS))
            latents = latents + feed_forward(latents)
        return self.norm(latents)


class QFormer(nn.Module):
    """Learned queries in a BERT encoder of which every other layer attends to the features."""

    def __init__(self, width, hidden, queries, sizes):
        super().__init__()
        inner, own = sizes.get("intermediate_size", 3072), sizes.get("hidden_size", 768)
        self.eps, self.heads = sizes.get("layer_norm_eps", 1e-12), sizes.get("num_attention_heads", 12)
        self.act = ACT2FN[sizes.get("hidden_act", "gelu")]

        def output(source):
            return Holder(dense=nn.Linear(source, own), LayerNorm=nn.LayerNorm(own, eps=self.eps))

        def attention(source):
            maps = {"query": nn.Linear(own, own), "key": nn.Linear(source, own), "value": nn.Linear(source, own)}
            return Holder(**{"self": Holder(**maps), "output": output(own)})

        layers = nn.ModuleList()
        for number in range(sizes.get("num_hidden_layers", 12)):
            parts = {"attention": attention(own)}
            if number % sizes.get("cross_attention_freq", 2) == 0:
                parts["crossattention"] = attention(width)
            parts["intermediate_query"] = Holder(dense=nn.Linear(own, inner))
            parts["output_query"] = output(inner)
            layers.append(Holder(**parts))
        self.bert = Holder(encoder=Holder(layer=layers))
        self.query_tokens = nn.Parameter(torch.zeros(1, queries, own))
        self.projector = nn.Linear(own, hidden)

    def attention(self, part, x, source):
        maps = getattr(part, "self")
        out = attend(maps.query(x), maps.key(source), maps.value(source), self.heads)
        return part.output.LayerNorm(part.output.dense(out) + x)

    def forward(self, features):
        x = nn.functional.layer_norm(self.query_tokens, self.query_tokens.shape[-1:], eps=self.eps)
        x = x.expand(len(features), -1, -1)
        for layer in self.bert.encoder.layer:
            x = self.attention(layer.attention, x, x)
            if hasattr(layer, "crossattention"):
                x = self.attention(layer.crossattention, x, features)
            inner = self.act(layer.intermediate_query.dense(x))
            x = layer.output_query.LayerNorm(layer.output_query.dense(inner) + x)
        return self.projector(x)


class Connector(nn.Module):
    def __init__(self, config, width, hidden):
        super().__init__()
        kind = config.connector_type
        self.kind = kind
        self.norm = getattr(config, "connector_norm", False)
        queries = getattr(config, "num_queries", None) or 128
        if kind == "identity":
            self._connector = nn.Identity()
        elif kind == "linear":
            self._connector = nn.Linear(width, hidden)
        elif kind.startswith("mlp") and kind.endswith("x_gelu"):
            self._connector = mlp(int(kind[3:-6]), width, hidden)
        elif kind == "mof_mlp":
            self._connector = Holder(clip=mlp(2, width // 2, hidden), dinov2=mlp(2, width // 2, hidden))
        elif kind == "resampler":
            self._connector = Perceiver(width, hidden, queries, getattr(config, "num_resampler_layers", None) or 3)
        elif kind == "qformer":
            self._connector = QFormer(width, hidden, queries, getattr(config, "qformer", None) or {})
        else:
            raise NotImplementedError(f"connector {kind}: here are identity, linear, mlpNx_gelu, resampler, qformer and mof_mlp")

    def forward(self, features):
        rows = self.joined(features)
        return rows * torch.rsqrt(rows.pow(2).mean(-1, keepdim=True) + 1e-6) if self.norm else rows

    def joined(self, features):
        if self.kind != "mof_mlp":
            return self._connector(features)
        first, second = features.chunk(2, -1)
        both = torch.stack([self._connector.clip(first), self._connector.dinov2(second)], 2)
        return both.flatten(1, 2)


class QTinyLlavaForConditionalGeneration(PreTrainedModel, GenerationMixin):
    config_class = QTinyLlavaConfig
    _supports_sdpa = True
    _no_split_modules = []
    _keys_to_ignore_on_load_unexpected = [r"position_ids$"]
    # What comes after a tower's last block and nobody reads.
    _keys_to_ignore_on_load_missing = [
        r"\.post_layernorm\.",
        r"\.vision_model\.head\.",
        r"_vision_tower\.(dinov2\.)?layernorm\.",
        r"\.mask_token$",
    ]

    def __init__(self, config):
        super().__init__(config)
        text = config.get_text_config()
        self.language_model = AutoModelForCausalLM.from_config(text)
        hidden = text.hidden_size
        self.vision_tower = VisionTower(config)
        fields = config.vision_config
        width = fields["clip"]["hidden_size"] if fields["model_type"] == "mof" else fields["hidden_size"]
        width *= 2 if self.vision_tower.names else 1
        self.connector = Connector(config, width, hidden)
        own = getattr(config, "qtinyllava", None) or {}
        specs = {"image": {"kind": "none"}, "text": {"kind": "none"}, **own.get("quantizers", {})}
        cut = own.get("split", {})
        self.before_connector = cut.get("connector") == "server"
        widths = {"image": width if self.before_connector else hidden}
        made = {name: Quantizer(spec, widths.get(name, hidden)) for name, spec in specs.items()}
        self.VQ = Holder(**{f"quantizer_{name}": Holder(quantizer=made[name]) for name in made})
        table = self.language_model.get_input_embeddings()
        words = Words(table.num_embeddings, table.embedding_dim, table.padding_idx)
        blocks = self.language_model.model.layers
        self.at_input = not cut.get("bottom_blocks")
        self.pictured = None
        if self.at_input:
            # Not as a submodule: it has its place in `VQ`.
            words.__dict__["quantizer"] = made["text"]
        else:
            behind(blocks[cut["bottom_blocks"] - 1], self.crossing)
        if "hidden" in made:
            behind(blocks[len(blocks) - 1 - cut.get("top_blocks", 0)], made["hidden"])
        self.language_model.set_input_embeddings(words)
        if text.tie_word_embeddings:
            self._tied_weights_keys = {"language_model.lm_head.weight": "language_model.model.embed_tokens.weight"}
        self.post_init()
        self.tie_weights()

    def tie_weights(self, *args, **kwargs):
        if self.config.text_config.get("tie_word_embeddings"):
            self.language_model.get_output_embeddings().weight = self.language_model.get_input_embeddings().weight

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def get_output_embeddings(self):
        return self.language_model.get_output_embeddings()

    def _init_weights(self, module):
        pass

    @staticmethod
    def prompt_ids(tokenizer, text):
        """Ids of a text in which `<image>` stands for the picture; what is between is encoded piece by piece."""
        chunks = [tokenizer(chunk).input_ids for chunk in text.split("<image>")]
        bos = tokenizer.bos_token_id
        starts = bool(chunks[0]) and chunks[0][0] == bos
        ids = list(chunks[0])
        for chunk in chunks[1:]:
            ids.append(IMAGE_TOKEN)
            ids += chunk[1:] if starts and chunk[:1] == [bos] else chunk
        return torch.tensor([ids])

    def crossing(self, rows):
        """Rows behind a block, those of pictures and those of text each through their quantizer."""
        text = self.VQ.quantizer_text.quantizer(rows)
        if self.pictured is None or self.pictured.shape != rows.shape[:2]:
            return text
        return torch.where(self.pictured[..., None], self.VQ.quantizer_image.quantizer(rows), text)

    def embed(self, input_ids, pixel_values=None):
        """Rows of a batch of equally long prompts, pictures in their places."""
        table = self.get_input_embeddings()
        self.pictured = None
        if pixel_values is None:
            return table(input_ids)
        pixel_values = pixel_values.to(table.weight.dtype)
        pictures = self.vision_tower(pixel_values)
        quantizer = self.VQ.quantizer_image.quantizer
        if self.before_connector:
            pictures = self.connector(quantizer(pictures))
        else:
            pictures = self.connector(pictures)
            pictures = quantizer(pictures) if self.at_input else pictures
        pictures, rows, pictured = iter(pictures), [], []
        for ids in input_ids:
            pieces, first = [], 0
            for at in (ids == IMAGE_TOKEN).nonzero()[:, 0].tolist():
                pieces += [table(ids[first:at]), next(pictures)]
                first = at + 1
            pieces.append(table(ids[first:]))
            rows.append(torch.cat(pieces))
            # Text and pictures take turns.
            whose = [torch.full((len(piece),), number % 2 == 1) for number, piece in enumerate(pieces)]
            pictured.append(torch.cat(whose).to(rows[0].device))
        self.pictured = torch.stack(pictured)
        return torch.stack(rows)

    def forward(self, input_ids=None, pixel_values=None, inputs_embeds=None, **kwargs):
        if inputs_embeds is None:
            inputs_embeds = self.embed(input_ids, pixel_values)
        else:
            self.pictured = None
        out = self.language_model(inputs_embeds=inputs_embeds, **kwargs)
        return CausalLMOutputWithPast(loss=out.loss, logits=out.logits, past_key_values=out.past_key_values)

    @torch.no_grad()
    def generate(self, input_ids=None, pixel_values=None, **kwargs):
        """The new tokens only."""
        rows = self.embed(input_ids.to(self.device), pixel_values)
        mask = kwargs.pop("attention_mask", torch.ones(rows.shape[:2], dtype=torch.long, device=rows.device))
        return self.language_model.generate(inputs_embeds=rows, attention_mask=mask, **kwargs)
