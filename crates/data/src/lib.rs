//! Files into examples: LLaVA JSON, pictures, tokenizers, templates, samplers, generated scenes.
