//! Keys and values of what a decoder has seen, for rows of different lengths.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::nn::Mask;

/// How many slots are added when a buffer is full.
const GROWTH: usize = 64;

/// The keys and values of all blocks. Every row has the same number of slots; slots that held padding stay hidden.
#[derive(Clone, Debug)]
pub struct Cache {
    layers: Vec<LayerCache>,
    /// Per row: whether the slot holds a real token.
    real: Vec<Vec<bool>>,
    /// Per row: position of the newest token.
    newest: Vec<usize>,
}

/// `[B, kv_heads, capacity, head_dim]` twice, of which the first `used` slots hold something.
#[derive(Clone, Debug, Default)]
pub(super) struct LayerCache {
    buffers: Option<[Tensor<4>; 2]>,
    used: usize,
}

impl Cache {
    pub(super) fn new(layers: usize, slots: usize, lengths: &[usize]) -> Self {
        let row = |length: &usize| (0..slots).map(|slot| slot < *length).collect();
        Self {
            layers: vec![LayerCache::default(); layers],
            real: lengths.iter().map(row).collect(),
            newest: lengths.iter().map(|length| length - 1).collect(),
        }
    }

    pub(super) fn layers(&mut self) -> impl Iterator<Item = &mut LayerCache> {
        self.layers.iter_mut()
    }

    /// Makes room for `new` more tokens per row, of which the first `lengths[row]` are real, and tells what those see:
    /// everything real up to themselves.
    pub(super) fn advance(&mut self, new: usize, lengths: &[usize], device: &Device) -> Mask {
        let before = self.slots();
        let rows = self.real.iter_mut().zip(&mut self.newest);
        for ((row, newest), length) in rows.zip(lengths) {
            row.resize(before + length, true);
            row.resize(before + new, false);
            *newest += length;
        }
        let shape = [self.rows(), new, before + new];
        Mask::new(shape, device, |row, token, slot| {
            self.real[row][slot] && slot <= before + token
        })
    }

    /// Forgets what came after the first `slots` slots. Only for a row without padding, whose slots are its positions.
    pub(crate) fn truncate(&mut self, slots: usize) {
        debug_assert!(slots > 0 && self.real.iter().flatten().all(|real| *real));
        let slots = slots.min(self.slots());
        for (row, newest) in self.real.iter_mut().zip(&mut self.newest) {
            row.truncate(slots);
            *newest = slots - 1;
        }
        for layer in &mut self.layers {
            layer.used = layer.used.min(slots);
        }
    }

    /// Slots of every row, those that held padding included.
    pub fn slots(&self) -> usize {
        self.real.first().map_or(0, Vec::len)
    }

    /// Position of the newest token of every row.
    pub fn positions(&self) -> &[usize] {
        &self.newest
    }

    /// Bytes of the keys and values, room for further ones included.
    pub fn bytes(&self) -> u64 {
        let buffers = self.layers.iter().flat_map(|layer| layer.buffers.iter());
        let bytes =
            |buffer: &Tensor<4>| (buffer.shape().num_elements() * buffer.dtype().size()) as u64;
        buffers.flatten().map(bytes).sum()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.newest.len()
    }

    /// Keeps only the rows `keep`, in that order: the sequences that are still running. A row may stand there several times.
    ///
    /// # Panics
    ///
    /// If a row does not exist.
    pub fn retain(&mut self, keep: &[usize]) {
        if keep.iter().copied().eq(0..self.rows()) {
            return;
        }
        self.real = keep.iter().map(|row| self.real[*row].clone()).collect();
        self.newest = keep.iter().map(|row| self.newest[*row]).collect();
        let ids: Vec<i64> = keep.iter().map(|row| *row as i64).collect();
        for layer in &mut self.layers {
            layer.buffers = layer.buffers.take().map(|buffers| {
                buffers.map(|buffer| {
                    let data = TensorData::new(ids.clone(), [ids.len()]);
                    let ids = Tensor::<1, Int>::from_data(data, &buffer.device());
                    buffer.select(0, ids)
                })
            });
        }
    }
}

impl LayerCache {
    /// Stores new keys and values, `[B, kv_heads, n, head_dim]`, and returns views of all so far.
    pub(super) fn append(&mut self, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let [_, _, new, _] = k.dims();
        let used = self.used + new;
        let buffers = match self.buffers.take() {
            None => [k, v],
            Some([keys, values]) => [
                write(keys, k, self.used, used),
                write(values, v, self.used, used),
            ],
        };
        let views = buffers.clone().map(|buffer| buffer.narrow(2, 0, used));
        self.buffers = Some(buffers);
        self.used = used;
        let [k, v] = views;
        (k, v)
    }
}

/// Writes `new` into the slots `from..to`, growing the buffer in steps so that most writes happen in place.
fn write(buffer: Tensor<4>, new: Tensor<4>, from: usize, to: usize) -> Tensor<4> {
    let [batch, heads, capacity, width] = buffer.dims();
    let buffer = if to <= capacity {
        buffer
    } else {
        let room = [batch, heads, to - capacity + GROWTH, width];
        let room = Tensor::zeros(room, (&buffer.device(), buffer.dtype()));
        Tensor::cat(vec![buffer, room], 2)
    };
    buffer.slice_assign([0..batch, 0..heads, from..to, 0..width], new)
}
