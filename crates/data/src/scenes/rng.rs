//! SplitMix64, the only source of randomness of the scenes.

/// SplitMix64 (Steele, Lea and Flood, 2014): 64 bits of state, a fixed output sequence per starting state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// A generator whose state is `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The generator of scene `index` under `seed`.
    ///
    /// Scenes have generators of their own, so any scene can be made without making those before it.
    pub fn for_scene(seed: u64, index: u64) -> Self {
        let start = Self::new(seed).next_u64();
        Self::new(start.wrapping_add(index.wrapping_mul(0xD134_2543_DE82_EF95)))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..n` (0 when `n` is 0): the high 32 bits of one output, scaled.
    pub fn below(&mut self, n: u32) -> u32 {
        let high = self.next_u64() >> 32;
        // A product of two 32-bit numbers, shifted right by 32, fits 32 bits.
        ((high * u64::from(n)) >> 32) as u32
    }

    /// An element of a slice that is not empty, by one draw.
    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u32) as usize]
    }
}
