//! The list of quantizers becomes three enums: sections of a recipe, client's halves, server's halves.

/// `Name(Spec, Client, Server)` per quantizer; `kind` in a recipe is the name in snake case.
macro_rules! quantizers {
    ($($(#[$doc:meta])* $name:ident($spec:ident, $client:ident, $server:ident),)*) => {
        /// Which quantizer a modality uses, as the recipe writes it.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        pub enum QuantizerSpec {
            $($(#[$doc])* $name($spec),)*
        }

        /// The client's half of a quantizer; its verbs are those of [`ClientHalf`].
        #[derive(Module, Debug)]
        #[allow(clippy::large_enum_variant, reason = "a model holds two of these")]
        pub enum Encoder {
            $($(#[$doc])* $name($client),)*
        }

        /// The server's half of a quantizer; its verbs are those of [`ServerHalf`].
        #[derive(Module, Debug)]
        #[allow(clippy::large_enum_variant, reason = "a model holds two of these")]
        pub enum Decoder {
            $($(#[$doc])* $name($server),)*
        }

        impl QuantizerSpec {
            /// The names of all variants.
            pub const ALL: &[&str] = &[$(stringify!($name)),*];

            /// What tables show of every quantizer, see [`Spec::settings`].
            pub fn settings() -> Vec<Self> {
                let mut all = Vec::new();
                $(all.extend(<$spec as Spec>::settings().into_iter().map(Self::$name));)*
                all
            }

            /// Checks the values that a recipe may get wrong.
            ///
            /// # Errors
            /// [`QuantError::Range`] naming the field.
            pub fn check(&self) -> Result<(), QuantError> {
                match self {
                    $(Self::$name(spec) => spec.check(),)*
                }
            }
        }

        impl QuantizerSpec {
            /// See [`Spec::starts_from_ranges`].
            pub fn starts_from_ranges(&self) -> bool {
                match self {
                    $(Self::$name(spec) => spec.starts_from_ranges(),)*
                }
            }
        }

        impl Encoder {
            /// See [`Spec::client`].
            pub fn init(spec: &QuantizerSpec, dim: usize, seed: u64, device: &Device) -> Self {
                match spec {
                    $(QuantizerSpec::$name(spec) => Self::$name(spec.client(dim, seed, device)),)*
                }
            }
        }

        impl Decoder {
            /// See [`Spec::server`].
            pub fn init(spec: &QuantizerSpec, dim: usize, seed: u64, device: &Device) -> Self {
                match spec {
                    $(QuantizerSpec::$name(spec) => Self::$name(spec.server(dim, seed, device)),)*
                }
            }
        }

        impl Deref for Encoder {
            type Target = dyn ClientHalf;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$name(half) => half,)*
                }
            }
        }

        impl DerefMut for Encoder {
            fn deref_mut(&mut self) -> &mut Self::Target {
                match self {
                    $(Self::$name(half) => half,)*
                }
            }
        }

        impl Deref for Decoder {
            type Target = dyn ServerHalf;

            fn deref(&self) -> &Self::Target {
                match self {
                    $(Self::$name(half) => half,)*
                }
            }
        }

        impl DerefMut for Decoder {
            fn deref_mut(&mut self) -> &mut Self::Target {
                match self {
                    $(Self::$name(half) => half,)*
                }
            }
        }
    };
}

pub(super) use quantizers;
