//! The loops with a table per context for processors with AVX-512: 32 lanes in two registers. [`narrow`] decodes alphabets
//! up to 4, [`wide`] the others, [`mod@push`] encodes all, [`mod@renew`] makes tables.
//!
//! They give what [`super::decode::pop_row`], [`super::encode::push_row`] and [`super::tables::renew`] give.

mod narrow;
mod push;
mod renew;
mod wide;

pub(super) use renew::renew;

use super::kernels::Kernels;
pub(super) use crate::rans::avx512::available;

/// The loops over a row.
pub(super) static KERNELS: Kernels = Kernels {
    name: "AVX-512",
    available,
    pop: [
        narrow::pop::<2>,
        narrow::pop::<4>,
        wide::pop::<8>,
        wide::pop::<16>,
    ],
    push: [
        push::push::<2>,
        push::push::<4>,
        push::push::<8>,
        push::push::<16>,
    ],
};
