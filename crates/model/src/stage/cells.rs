//! Rows of a batch in the cells of the padded grid that blocks compute on, and back.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::Rows;
use crate::llm::{Blocks, Context};
use crate::nn::Mask;
use crate::splice::{Grid, Kind, Layout};

/// Rows in their cells: [sequences, longest, channels]; the cells of padding are zero.
pub(super) fn place(rows: &Rows, grid: &Grid) -> Tensor<3> {
    let [_, channels] = rows.text.dims();
    let device = rows.text.device();
    let mut parts: Vec<Tensor<2>> = rows.image.iter().cloned().collect();
    parts.push(rows.text.clone());
    parts.push(Tensor::zeros([1, channels], &device));
    select(Tensor::cat(parts, 0), &grid.source).reshape([grid.height, grid.width, channels])
}

/// The rows that stand in the cells of a batch of this layout.
pub(super) fn pick(cells: Tensor<3>, grid: &Grid, layout: &Layout) -> Rows {
    let [height, width, channels] = cells.dims();
    let cells = cells.reshape([height * width, channels]);
    let images = layout.rows(Kind::Image);
    let mut places = vec![0; images];
    for (cell, row) in grid.source.iter().enumerate() {
        if let Some(place) = places.get_mut(*row) {
            *place = cell;
        }
    }
    Rows {
        image: (images > 0).then(|| select(cells.clone(), &places)),
        text: select(cells, &grid.text_cells),
    }
}

/// Rows in these cells of a grid, [sequences, longest, channels]; all other cells are zero.
pub(crate) fn put(rows: Tensor<2>, cells: &[usize], grid: &Grid) -> Tensor<3> {
    let [count, channels] = rows.dims();
    let mut source = vec![count; grid.height * grid.width];
    for (row, cell) in cells.iter().enumerate() {
        source[*cell] = row;
    }
    let nothing = Tensor::zeros([1, channels], (&rows.device(), rows.dtype()));
    let rows = Tensor::cat(vec![rows, nothing], 0);
    select(rows, &source).reshape([grid.height, grid.width, channels])
}

/// What blocks need to know of a batch beside its cells.
pub fn context(blocks: &Blocks, grid: &Grid, device: &Device) -> Context {
    let rows = grid.positions.chunks(grid.width);
    let positions: Vec<Vec<usize>> = rows.map(<[usize]>::to_vec).collect();
    let shape = [grid.height, grid.width, grid.width];
    let mask = Mask::new(shape, device, |row, to, from| grid.sees(row, to, from));
    blocks.context(&positions, mask, device)
}

/// These rows of a matrix.
pub(crate) fn select(x: Tensor<2>, rows: &[usize]) -> Tensor<2> {
    let rows: Vec<i64> = rows.iter().map(|row| *row as i64).collect();
    let rows = Tensor::<1, Int>::from_data(TensorData::from(rows.as_slice()), &x.device());
    x.select(0, rows)
}
